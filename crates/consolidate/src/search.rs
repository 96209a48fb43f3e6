//! What customers are found by: kept in the transaction that writes them.

use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::Error;
use crate::error::database;

/// Writes what these customers, as they are now, are found by, where that has changed.
pub(crate) async fn keep(connection: &mut PgConnection, customers: &[Uuid]) -> Result<(), Error> {
    if customers.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into customer360.customer_search as s (customer_id, name, search)
         select customer_id, customer360.search_name(profile), customer360.search_text(profile, email)
         from customer360.customers
         where customer_id = any ($1)
         on conflict on constraint customer_search_pkey do update set name = excluded.name, search = excluded.search
         where (s.name, s.search) is distinct from (excluded.name, excluded.search)",
    )
    .bind(customers)
    .execute(connection)
    .await
    .map_err(database("writing what customers are found by"))?;
    Ok(())
}
