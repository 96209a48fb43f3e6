-- What the API counts of the whole base. Invariants held here:
--   * at every commit, what customer360.counts adds up to is what customer360.measured adds up to.

-- Customers with orders that count: not cancelled, not deleted.
create table customer360.buyers (
    customer_id uuid constraint buyers_pkey primary key,
    orders bigint not null,
    -- Of the first order whose time is known.
    first_month date,
    -- Bit n: there is an order n months after the first, up to eleven.
    months integer not null
);
alter table customer360.buyers enable row level security;

-- Differences, each written with what it is about, so that no two writers wait for each other; added up from time to time.
create table customer360.counts (
    -- What is counted, by the words of the functions below.
    measure text not null,
    -- Which of them: a state, a month, an attribute.
    key text,
    count bigint not null,
    value numeric not null
);

-- What one row adds to which counts. A profile that somebody damaged by hand counts as far as it goes.
create function customer360.measures_of_customer(profile jsonb, created_at timestamptz, deleted_at timestamptz)
returns table (measure text, key text, count bigint, value numeric)
language sql stable parallel safe rows 10 as $$
    select m.measure, m.key, 1::bigint, 0::numeric
    from (
        values ('customers', null),
               ('created', to_char(created_at at time zone 'UTC', 'YYYY-MM')),
               ('state', profile ->> 'state')
        union all
        -- By powers of ten: 0, 1, 10, 100.
        select 'points',
               case when points < 1 then '0' else (10 ^ floor(log(points)))::bigint::text end
        from (select case when profile ->> 'loyaltyPoints' ~ '^[0-9]{1,15}$'
                          then (profile ->> 'loyaltyPoints')::numeric end) as p (points)
        where points is not null
        union all
        select 'attribute', name
        from jsonb_object_keys(case when jsonb_typeof(profile) = 'object' then profile else '{}' end) as name
    ) as m (measure, key)
    where deleted_at is null
$$;

create function customer360.measures_of_systems(systems text[])
returns table (measure text, key text, count bigint, value numeric)
language sql immutable parallel safe rows 4 as $$
    select 'systems', cardinality(systems)::text, 1::bigint, 0::numeric where cardinality(systems) > 0
    union all
    select 'system', system, 1, 0 from unnest(systems) as system
$$;

create function customer360.measures_of_order(
    customer_id uuid, purchased_at timestamptz, total numeric, cancelled boolean, deleted_at timestamptz)
returns table (measure text, key text, count bigint, value numeric)
language sql stable parallel safe rows 1 as $$
    select 'orders', to_char(purchased_at at time zone 'UTC', 'YYYY-MM'), 1::bigint, coalesce(total, 0)
    where customer_id is not null and not cancelled and deleted_at is null
$$;

create function customer360.measures_of_buyer(orders bigint, first_month date, months integer)
returns table (measure text, key text, count bigint, value numeric)
language sql stable parallel safe rows 4 as $$
    select 'buyers', null, 1::bigint, 0::numeric
    union all
    select 'repeat_buyers', null, 1, 0 where orders > 1
    union all
    -- 2026-09+2: a first order in September, another in November.
    select 'cohort', to_char(first_month, 'YYYY-MM') || '+' || later, 1, 0
    from generate_series(0, 11) as later
    where months >> later & 1 = 1
$$;

-- All of it as it is now, row by row, as far as whoever asks may see it.
create view customer360.measured with (security_invoker) as
select c.customer_id, m.*
from customer360.customers c, customer360.measures_of_customer(c.profile, c.created_at, c.deleted_at) m
union all
select s.customer_id, m.*
from customer360.customer_search s, customer360.measures_of_systems(s.systems) m
union all
select o.customer_id, m.*
from customer360.orders o,
     customer360.measures_of_order(o.customer_id, o.purchased_at, o.total, o.cancelled, o.deleted_at) m
union all
select b.customer_id, m.*
from customer360.buyers b, customer360.measures_of_buyer(b.orders, b.first_month, b.months) m;

-- What customers bought, as buyers has it.
create function customer360.bought(who uuid[])
returns table (customer_id uuid, orders bigint, first_month date, months integer)
language sql stable parallel safe as $$
    with bought as (
        select o.customer_id, date_trunc('month', o.purchased_at at time zone 'UTC')::date as month, count(*) as orders
        from customer360.orders o
        where (who is null or o.customer_id = any (who)) and o.customer_id is not null
          and not o.cancelled and o.deleted_at is null
        group by 1, 2
    ),
    firsts as (
        select b.*, min(b.month) over (partition by b.customer_id) as first_month from bought b
    )
    select f.customer_id, sum(f.orders)::bigint, min(f.first_month), coalesce(sum(1 << later) filter (where later < 12), 0)::integer
    from firsts f,
         lateral (select (extract(year from age(f.month, f.first_month)) * 12
                          + extract(month from age(f.month, f.first_month)))::integer) as l (later)
    group by f.customer_id
$$;

insert into customer360.buyers select * from customer360.bought(null);
insert into customer360.counts
select measure, key, sum(count), sum(value) from customer360.measured group by measure, key;

-- Adds up the differences that have come together, so that reading them stays fast. What they add up to stays the same at every
-- moment, and nobody who writes waits.
create function customer360.add_up_counts() returns void
language sql as $$
    with gone as (delete from customer360.counts returning measure, key, count, value)
    insert into customer360.counts
    select measure, key, sum(count), sum(value) from gone
    group by measure, key
    having (sum(count), sum(value)) <> (0, 0)
$$;

-- Writes the differences that a statement has made. Its argument is the function that measures a row `r`.
create function customer360.keep_counts() returns trigger
language plpgsql as $$
declare
    more text := 'select m.measure, m.key, m.count, m.value from arrived r, ' || tg_argv[0] || ' m';
    less text := 'select m.measure, m.key, -m.count as count, -m.value as value from departed r, ' || tg_argv[0] || ' m';
begin
    execute format(
        'insert into customer360.counts
         select measure, key, sum(count), sum(value) from (%s) m group by measure, key having (sum(count), sum(value)) <> (0, 0)',
        case tg_op when 'INSERT' then more when 'DELETE' then less else more || ' union all ' || less end);
    return null;
end
$$;

-- Counts the orders of the customers of whom a statement has written orders. Whoever writes orders of the same customer at the
-- same time waits: it would not see these.
create function customer360.keep_buyers() returns trigger
language plpgsql as $$
declare
    who uuid[];
begin
    execute format(
        'select array_agg(distinct customer_id) from (%s) r where customer_id is not null',
        case tg_op when 'INSERT' then 'table arrived' when 'DELETE' then 'table departed'
                   else 'table arrived union all table departed' end)
    into who;
    if who is null then
        return null;
    end if;
    perform from customer360.customers c where c.customer_id = any (who) order by c.customer_id for no key update;
    insert into customer360.buyers as b
    select * from customer360.bought(who)
    on conflict on constraint buyers_pkey do update
        set orders = excluded.orders, first_month = excluded.first_month, months = excluded.months
        where (b.orders, b.first_month, b.months) is distinct from (excluded.orders, excluded.first_month, excluded.months);
    delete from customer360.buyers b
    where b.customer_id = any (who)
      and not exists (select from customer360.orders o
                      where o.customer_id = b.customer_id and not o.cancelled and o.deleted_at is null);
    return null;
end
$$;

do $$
declare
    operation text;
    name text;
    keeps text;
begin
    for name, keeps in values
        ('customers', 'keep_counts(''customer360.measures_of_customer(r.profile, r.created_at, r.deleted_at)'')'),
        ('customer_search', 'keep_counts(''customer360.measures_of_systems(r.systems)'')'),
        ('orders', 'keep_counts(''customer360.measures_of_order(r.customer_id, r.purchased_at, r.total, r.cancelled, r.deleted_at)'')'),
        ('orders', 'keep_buyers()'),
        ('buyers', 'keep_counts(''customer360.measures_of_buyer(r.orders, r.first_month, r.months)'')')
    loop
        foreach operation in array array['insert', 'update', 'delete'] loop
            execute format(
                'create trigger %s_%s after %2$s on customer360.%s referencing %s for each statement execute function customer360.%s',
                split_part(keeps, '(', 1), operation, name,
                concat_ws(' ', case when operation <> 'insert' then 'old table as departed' end,
                               case when operation <> 'delete' then 'new table as arrived' end),
                keeps);
        end loop;
    end loop;
end
$$;
