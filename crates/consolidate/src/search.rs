//! What customers are found and counted by: kept in the transaction that writes them.

use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::Error;
use crate::error::database;

/// Of a customer: a system that knows it, or an attribute of which a system says something else than the profile; or neither.
pub(crate) type Said<'s> = (Uuid, Option<&'s str>, Option<&'s str>);

/// Writes what these customers, as they are now, are found by, where that has changed. And what is said of them; of whoever is
/// not among that, it is the same as before. Whom no system knows any more nobody looks for.
pub(crate) async fn keep(connection: &mut PgConnection, customers: &[Uuid], said: &[Said<'_>]) -> Result<(), Error> {
    if customers.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "with said as (
             select customer_id,
                    coalesce(array_agg(system order by system) filter (where system is not null), '{}') as systems,
                    coalesce(array_agg(attribute order by attribute collate \"C\") filter (where attribute is not null), '{}')
                        as disagreeing
             from unnest($2::uuid[], $3::text[], $4::text[]) as k (customer_id, system, attribute)
             group by customer_id
         ),
         gone as (
             delete from customer360.customer_search s
             using customer360.customers c
             where s.customer_id = any ($1) and c.customer_id = s.customer_id and c.deleted_at is not null
         )
         insert into customer360.customer_search as s (customer_id, name, search, systems, disagreeing)
         select c.customer_id, customer360.search_name(c.profile), customer360.search_text(c.profile, c.email),
                coalesce(k.systems, b.systems, '{}'), coalesce(k.disagreeing, b.disagreeing, '{}')
         from customer360.customers c
         left join said k on k.customer_id = c.customer_id
         left join customer360.customer_search b on b.customer_id = c.customer_id
         where c.customer_id = any ($1) and c.deleted_at is null
         on conflict on constraint customer_search_pkey do update
             set name = excluded.name, search = excluded.search, systems = excluded.systems, disagreeing = excluded.disagreeing
         where (s.name, s.search, s.systems, s.disagreeing)
               is distinct from (excluded.name, excluded.search, excluded.systems, excluded.disagreeing)",
    )
    .bind(customers)
    .bind(said.iter().map(|(customer_id, ..)| *customer_id).collect::<Vec<_>>())
    .bind(said.iter().map(|(_, system, _)| *system).collect::<Vec<_>>())
    .bind(said.iter().map(|(.., attribute)| *attribute).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(database("writing what customers are found by"))?;
    Ok(())
}
