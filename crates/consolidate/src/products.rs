//! Products: the newest record wins.

use model::{Operation, ProductFields};
use sqlx::PgConnection;
use staging::StagedRecord;

use crate::Error;
use crate::error::database;
use crate::merge::{Unreadable, newest};

/// Merges product records; returns those that cannot be read.
pub(crate) async fn merge<'r>(
    connection: &mut PgConnection,
    records: impl Iterator<Item = &'r StagedRecord>,
) -> Result<Vec<(&'r StagedRecord, Unreadable)>, Error> {
    let (newest, unreadable) = newest::<ProductFields>(records, "attributes are no product");
    if !newest.is_empty() {
        write(connection, &newest).await?;
    }
    Ok(unreadable)
}

async fn write(connection: &mut PgConnection, products: &[(&StagedRecord, ProductFields)]) -> Result<(), Error> {
    let attributes = |fields: &ProductFields| serde_json::json!(fields.attributes);
    let deleted_at = |record: &StagedRecord| (record.operation == Operation::Delete).then_some(record.observed_at);
    sqlx::query(
        "insert into customer360.products as p (system, product_id, name, attributes, position, deleted_at)
         select * from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::bytea[], $6::timestamptz[])
         on conflict on constraint products_pkey do update set
             name = excluded.name, attributes = excluded.attributes, position = excluded.position,
             deleted_at = excluded.deleted_at
         where excluded.position > p.position",
    )
    .bind(products.iter().map(|(record, _)| record.source.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|(record, _)| record.external_id.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, fields)| fields.name.as_deref()).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, fields)| attributes(fields)).collect::<Vec<_>>())
    .bind(products.iter().map(|(record, _)| record.position.as_bytes()).collect::<Vec<_>>())
    .bind(products.iter().map(|(record, _)| deleted_at(record)).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(database("writing products"))?;
    Ok(())
}
