//! A large base, written by SQL.

use anyhow::Result;
use sqlx::PgConnection;

/// Rows as consolidation writes them. `$1` is the number of customers.
const BASE: [&str; 9] = [
    "create table public.people as
     select i, gen_random_uuid() as id,
            (array['Anna', 'Matthew', 'José', 'Zoë', 'Peter', 'Maria', 'Giovanni', 'Kateřina', 'Olaf', 'Ingrid'])[1 + i % 10]
            || ' ' || initcap(md5((i % 40000)::text)::varchar(7)) as name,
            'user' || i || '.' || left(md5(i::text), 5) || '@' || (array['example.com', 'mail.example'])[1 + i % 2] as email
     from generate_series(1, $1) as i",
    "insert into customer360.customers (customer_id, match_key, email, profile, provenance, created_at, updated_at)
     select id, email, email,
            jsonb_build_object('name', name, 'phone', '+1 603 ' || (100 + i % 900) || ' ' || (1000 + i * 7 % 9000),
                               'address1', (i % 300) || ' ' || initcap(md5((i % 5000)::text)::varchar(6)) || ' Street',
                               'city', initcap(md5((i % 2000)::text)::varchar(6)),
                               'state', (array['NH', 'VT', 'ME', 'MA', 'NY'])[1 + i / 10 % 5], 'loyaltyPoints', i % 5000),
            jsonb_build_object('name', jsonb_build_object('system', 'home_delivery', 'external_id', i::text)),
            now() - make_interval(mins => i % 500000), now() - make_interval(secs => i)
     from public.people",
    "insert into customer360.customer_search (customer_id, name, search, systems)
     select customer_id, customer360.search_name(profile), customer360.search_text(profile, email),
            '{home_delivery,loyalty,online_store}'
     from customer360.customers",
    "insert into customer360.xrefs (system, external_id, customer_id, match_key, email, external_id_json, attributes, position,
                                    observed_at, first_seen_at, last_seen_at)
     select s, i::text, id, email, email, to_jsonb(i), jsonb_build_object('name', name), '', now(), now(), now()
     from public.people cross join unnest(array['home_delivery', 'loyalty', 'online_store']) as s",
    "insert into customer360.orders (system, order_id, customer_id, customer_external_id, purchased_at, total, document, position)
     select 'online_store', i || '-' || n, id, i::text, now() - make_interval(hours => (i * 7 + n) % 9000), 12.50, '{}', ''
     from public.people cross join generate_series(1, 5) as n",
    "insert into customer360.order_lines (system, order_id, line_no, product_id, quantity, unit_price)
     select 'online_store', i || '-' || n, 1, 'p' || (i + n) % 500, 2, 6.25
     from public.people cross join generate_series(1, 5) as n",
    "insert into customer360.interactions (system, interaction_id, type, status, at, subject, attributes, position)
     select 'mail', i || '-' || n, 'email', 'sent', now() - make_interval(mins => i * 3 + n), 'Hello', '{}', ''
     from public.people cross join generate_series(1, 5) as n",
    "insert into customer360.interaction_participants (system, interaction_id, participant_no, email, match_key, role, customer_id,
                                                       at)
     select 'mail', i || '-' || n, 1, email, email, 'to', id, now() - make_interval(mins => i * 3 + n)
     from public.people cross join generate_series(1, 5) as n",
    "insert into customer360.list_members (customer_id, list, added_at)
     select id, 'team', now() from public.people where i % greatest($1 / 1000, 1) = 0",
];

/// Fills empty tables with this many customers, each with three cross-references, five orders and five interactions; who they
/// are is in the table `public.people`, too. About a thousand of them are on the list `team`.
pub async fn fill(connection: &mut PgConnection, customers: i32) -> Result<()> {
    sqlx::query("insert into customer360.lists values ('team', 'bench', now())").execute(&mut *connection).await?;
    for statement in BASE {
        let query = sqlx::query(statement);
        let query = if statement.contains("$1") { query.bind(customers) } else { query };
        query.execute(&mut *connection).await?;
    }
    for statement in ["alter table public.people add primary key (i)", "vacuum analyze", "checkpoint"] {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    Ok(())
}
