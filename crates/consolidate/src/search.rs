//! What customers are found by: kept in the transaction that writes them.

use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::Error;
use crate::error::database;

/// Writes what these customers, as they are now, are found by, where that has changed. And who knows them, as pairs of a
/// customer and a system, or none; whoever is not among these pairs is known to the same as before.
pub(crate) async fn keep(
    connection: &mut PgConnection,
    customers: &[Uuid],
    systems: &[(Uuid, Option<&str>)],
) -> Result<(), Error> {
    if customers.is_empty() {
        return Ok(());
    }
    let (known, systems): (Vec<Uuid>, Vec<Option<&str>>) = systems.iter().copied().unzip();
    sqlx::query(
        "with known as (
             select customer_id, coalesce(array_agg(system order by system) filter (where system is not null), '{}') as systems
             from unnest($2::uuid[], $3::text[]) as k (customer_id, system)
             group by customer_id
         )
         insert into customer360.customer_search as s (customer_id, name, search, systems)
         select c.customer_id, customer360.search_name(c.profile), customer360.search_text(c.profile, c.email),
                coalesce(k.systems, b.systems, '{}')
         from customer360.customers c
         left join known k on k.customer_id = c.customer_id
         left join customer360.customer_search b on b.customer_id = c.customer_id
         where c.customer_id = any ($1)
         on conflict on constraint customer_search_pkey do update
             set name = excluded.name, search = excluded.search, systems = excluded.systems
         where (s.name, s.search, s.systems) is distinct from (excluded.name, excluded.search, excluded.systems)",
    )
    .bind(customers)
    .bind(known)
    .bind(systems)
    .execute(connection)
    .await
    .map_err(database("writing what customers are found by"))?;
    Ok(())
}
