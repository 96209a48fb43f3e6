//! What a landing says of the letters whose records it lands; part of its transaction.

use chrono::{DateTime, Utc};
use model::Reject;
use sqlx::PgConnection;

use crate::{Error, imports, polls};

/// Letters that land again: the progress of a retry. All that are landed must still be parked, or nothing is.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Letters that are parked no more, each with the ordinal of its first record in the batch.
    pub landed: Vec<(i64, i32)>,
    /// Letters that stay parked, each with why now.
    pub still_bad: Vec<(i64, Reject)>,
    /// Products that the records name, for a REST source: those not known yet become due.
    pub products: Vec<String>,
    /// For a CSV source: the newest import by which it was judged that the rows are not superseded. It must still be the
    /// newest, and nobody may be importing.
    pub newest_import: Option<Option<i64>>,
}

/// Settles letters of a source; false means that somebody else has settled one of them, or published another file.
pub(crate) async fn settle(
    connection: &mut PgConnection,
    source: &str,
    settlement: &Settlement,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    if let Some(newest) = settlement.newest_import
        && !imports::is_still_newest(connection, source, newest).await?
    {
        return Ok(false);
    }
    let landed: Vec<i64> = settlement.landed.iter().map(|(id, _)| *id).collect();
    let done = sqlx::query(
        "update staging.dead_letters set state = 'retried', payload = '', context = null, handled_at = $3
         where dead_letter_id = any ($1) and source = $2 and state = 'parked'",
    )
    .bind(&landed)
    .bind(source)
    .bind(now)
    .execute(&mut *connection)
    .await
    .map_err(Error::database("settling dead letters"))?;
    if done.rows_affected() != landed.len() as u64 {
        return Ok(false);
    }
    note_reasons(connection, source, &settlement.still_bad, now).await?;
    polls::note_products(connection, source, settlement.products.iter().map(String::as_str), now)
        .await
        .map_err(Error::database("noting products to ask about"))?;
    Ok(true)
}

/// Says why letters are still bad. One that somebody else has settled meanwhile is left alone.
async fn note_reasons(
    connection: &mut PgConnection,
    source: &str,
    still_bad: &[(i64, Reject)],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if still_bad.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update staging.dead_letters d set reason = bad.reason, detail = bad.detail, handled_at = $5
         from unnest($2::bigint[], $3::text[], $4::text[]) as bad (dead_letter_id, reason, detail)
         where d.dead_letter_id = bad.dead_letter_id and d.source = $1 and d.state = 'parked'",
    )
    .bind(source)
    .bind(still_bad.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(still_bad.iter().map(|(_, reject)| reject.reason.as_str()).collect::<Vec<_>>())
    .bind(still_bad.iter().map(|(_, reject)| reject.detail.as_str()).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await
    .map_err(Error::database("noting why dead letters are still bad"))?;
    Ok(())
}

/// Settles and wipes the letters that earlier imports of the same content and night have left: this import has brought all
/// of its rows again, and letters of their own for those that are still bad.
pub(crate) async fn settle_file(
    connection: &mut PgConnection,
    import_id: i64,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with earlier as (
             select e.import_id, e.source, e.file_name, e.started_at, e.finished_at
             from staging.csv_imports i
             join staging.csv_imports e on e.source = i.source and e.sha256 = i.sha256 and e.as_of = i.as_of
             where i.import_id = $1 and e.import_id <> $1 and e.state = 'imported'
         )
         update staging.dead_letters d set state = 'retried', payload = '', context = null, handled_at = $2
         from earlier e
         where d.source = e.source and d.state = 'parked' and d.origin->>'file' = e.file_name
           -- while it was imported; or by consolidation, later
           and (d.landed_at between e.started_at and e.finished_at
                or d.batch_id in (select batch_id from staging.batches where import_id = e.import_id))",
    )
    .bind(import_id)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes which batch the records of letters are in.
pub(crate) async fn note_batch(
    connection: &mut PgConnection,
    settlement: &Settlement,
    batch_id: i64,
) -> Result<(), Error> {
    let (ids, ordinals): (Vec<i64>, Vec<i32>) = settlement.landed.iter().copied().unzip();
    sqlx::query(
        "update staging.dead_letters d set landed_batch_id = $1, landed_ordinal = landed.ordinal
         from unnest($2::bigint[], $3::integer[]) as landed (dead_letter_id, ordinal)
         where d.dead_letter_id = landed.dead_letter_id",
    )
    .bind(batch_id)
    .bind(ids)
    .bind(ordinals)
    .execute(connection)
    .await
    .map_err(Error::database("noting where dead letters have landed"))?;
    Ok(())
}
