//! I1 for files: of each that was imported every row is in staging once, and the newest one is among them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use sqlx::PgPool;

use crate::nights::Nights;

/// Compares; how many files were imported.
pub(crate) async fn compare(pool: &PgPool, nights: &Nights) -> Result<usize> {
    let imports: Vec<(i64, String)> =
        sqlx::query_as("select import_id, file_name from staging.csv_imports where state = 'imported'")
            .fetch_all(pool)
            .await?;
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "select import_id, count(*), count(distinct position)
         from staging.records join staging.batches using (batch_id)
         where import_id is not null and abandoned_at is null
         group by import_id",
    )
    .fetch_all(pool)
    .await?;
    let letters: Vec<(i64, i64, i64)> = sqlx::query_as(
        "select import_id, count(*), count(distinct d.origin ->> 'line')
         from staging.dead_letters d join staging.batches using (batch_id)
         where import_id is not null and abandoned_at is null
         group by import_id",
    )
    .fetch_all(pool)
    .await?;
    let by_import = |rows: Vec<(i64, i64, i64)>| -> BTreeMap<i64, (i64, i64)> {
        rows.into_iter().map(|(import, all, distinct)| (import, (all, distinct))).collect()
    };
    let (rows, letters) = (by_import(rows), by_import(letters));
    let newest = nights.dropped.last().context("a night")?;
    ensure!(imports.iter().any(|(_, file)| *file == newest.file), "{} is not imported", newest.file);
    for (import, file) in &imports {
        let Some(night) = nights.dropped.iter().find(|night| night.file == *file) else {
            // A copy whose original was not imported when it came.
            continue;
        };
        let (good, bad) = (i64::try_from(night.good)?, i64::try_from(night.bad)?);
        let found = (rows.get(import).copied().unwrap_or_default(), letters.get(import).copied().unwrap_or_default());
        ensure!(found == ((good, good), (bad, bad)), "{file}: {found:?} and not {good} rows and {bad} letters");
    }
    let twice: i64 = sqlx::query_scalar(
        "select count(*) from (select file_name from staging.csv_imports where state = 'imported'
                               group by file_name having count(*) > 1) as twice",
    )
    .fetch_one(pool)
    .await?;
    ensure!(twice == 0, "{twice} files are imported twice");
    Ok(imports.len())
}
