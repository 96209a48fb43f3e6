//! Redirects: where the last cross-reference of a customer went.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::Error;
use crate::error::database;

/// Notes moves of cross-references (old customer to new) of those old customers that have no living cross-reference left.
/// Called after the moves are written.
pub(crate) async fn note(
    connection: &mut PgConnection,
    moves: &BTreeMap<Uuid, Uuid>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if moves.is_empty() {
        return Ok(());
    }
    // Two lanes may each take a cross-reference from one customer: the second has to see that the first is gone.
    sqlx::query("select pg_advisory_xact_lock(hashtext('c360.redirects'))")
        .execute(&mut *connection)
        .await
        .map_err(database("waiting to note redirects"))?;
    let (old, new): (Vec<Uuid>, Vec<Uuid>) = moves.iter().unzip();
    sqlx::query(
        "with moves as materialized (
             select * from unnest($1::uuid[], $2::uuid[]) as m (customer_id, to_customer_id)
         ),
         -- old customers that still have somebody
         living as materialized (
             select distinct customer_id from customer360.xrefs
             where customer_id = any ($1) and deleted_at is null
         )
         insert into customer360.redirects as r (customer_id, to_customer_id, since)
         select m.customer_id, m.to_customer_id, $3
         from moves m
         left join living l on l.customer_id = m.customer_id
         where l.customer_id is null
         on conflict on constraint redirects_pkey do update set
             to_customer_id = excluded.to_customer_id, since = excluded.since
         where r.to_customer_id <> excluded.to_customer_id",
    )
    .bind(old)
    .bind(new)
    .bind(now)
    .execute(connection)
    .await
    .map_err(database("noting redirects"))?;
    Ok(())
}
