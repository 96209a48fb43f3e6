//! What matches nobody, which logs have begun again, and who consolidates, for `status` and the gauges. Reads only.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};

use crate::Error;
use crate::error::database;

/// Living cross-references that belong to no customer, by the words of `xrefs.unmatched_reason`.
pub async fn unmatched(executor: impl PgExecutor<'_>) -> Result<BTreeMap<String, i64>, Error> {
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "select unmatched_reason, count(*)
         from customer360.xrefs
         where unmatched_reason is not null and deleted_at is null
         group by unmatched_reason",
    )
    .fetch_all(executor)
    .await
    .map_err(database("counting unmatched cross-references"))?;
    Ok(counts.into_iter().collect())
}

/// Profiles that have yet to follow what is merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Unfolded {
    /// How many, at the most: one may be marked twice.
    pub profiles: i64,
    /// Since when.
    pub oldest: Option<DateTime<Utc>>,
}

/// Counts the profiles that have yet to follow.
pub async fn unfolded(executor: impl PgExecutor<'_>) -> Result<Unfolded, Error> {
    sqlx::query_as(
        "select coalesce(sum(cardinality(match_keys)), 0)::bigint as profiles, min(marked_at) as oldest
         from customer360.dirty_marks",
    )
    .fetch_one(executor)
    .await
    .map_err(database("counting profiles that have yet to follow"))
}

/// Orders whose own total is not that of their lines, by system. They count as they are given: a total may hold what no
/// line does, as taxes or shipping.
pub async fn orders_total_differs(executor: impl PgExecutor<'_>) -> Result<BTreeMap<String, i64>, Error> {
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "select system, count(*)
         from customer360.orders
         where given_total <> lines_total and deleted_at is null
         group by system",
    )
    .fetch_all(executor)
    .await
    .map_err(database("comparing totals of orders"))?;
    Ok(counts.into_iter().collect())
}

/// A partition on which records look old by position and new by time: the log behind it has begun again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct LogRestart {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// How many such records were met. There are others that cannot be told from late ones.
    pub records: i64,
    /// Offset of the first of them.
    pub first_offset: i64,
    /// Its time.
    pub first_observed_at: DateTime<Utc>,
    /// When it was met.
    pub noticed_at: DateTime<Utc>,
    /// When the last one was met.
    pub last_noticed_at: DateTime<Utc>,
}

/// Logs that have begun again, by source, the partition first that was noticed first. What an operator has answered with a
/// new epoch is not among them.
pub async fn log_restarts(connection: &mut PgConnection) -> Result<BTreeMap<String, Vec<LogRestart>>, Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        source: String,
        #[sqlx(try_from = "i32")]
        epoch: u32,
        #[sqlx(flatten)]
        restart: LogRestart,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "select source, epoch, topic, partition, records, first_offset, first_observed_at, noticed_at, last_noticed_at
         from customer360.log_restarts
         order by source, noticed_at, first_observed_at, topic, partition",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(database("reading which logs have begun again"))?;
    let mut restarts: BTreeMap<String, Vec<LogRestart>> = BTreeMap::new();
    if rows.is_empty() {
        return Ok(restarts);
    }
    let stored = staging::overview::stored(connection).await?;
    for Row { source, epoch, restart } in rows {
        if stored.get(&source).is_none_or(|stored| stored.epoch <= epoch) {
            restarts.entry(source).or_default().push(restart);
        }
    }
    Ok(restarts)
}

/// Sessions `a` that hold a lock `l` of the consolidator in this database.
pub(crate) const CONSOLIDATORS: &str = "pg_locks l
         join pg_stat_activity a on a.pid = l.pid
         join pg_database d on d.oid = l.database
         where l.locktype = 'advisory' and l.granted and d.datname = current_database() and l.objsubid = 2
           and l.classid::bigint = hashtext('c360.consolidator')::bigint & 4294967295";

/// Since when the process that consolidates has been connected; `None` while nobody does. A command that consolidates for
/// a moment counts, too.
pub async fn consolidator_since(executor: impl PgExecutor<'_>) -> Result<Option<DateTime<Utc>>, Error> {
    // The lock of the first lane. Of another role's session the start may be hidden.
    let sql = format!("select coalesce(a.backend_start, 'epoch') from {CONSOLIDATORS} and l.objid = 0");
    sqlx::query_scalar(staging::constant_sql(sql))
        .fetch_optional(executor)
        .await
        .map_err(database("looking for the consolidator"))
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgConnectOptions;

    use super::*;

    #[tokio::test]
    async fn unmatched_are_living_cross_references_without_a_customer_by_reason() {
        let database = embedded_postgres::test::database().await;
        let mut connection = staging::connect(&database.url.parse().unwrap()).await.unwrap();
        crate::migrate(&mut connection).await.unwrap();
        sqlx::raw_sql(
            "insert into customer360.xrefs
                 (system, external_id, unmatched_reason, external_id_json, attributes, position, observed_at, first_seen_at,
                  last_seen_at, deleted_at)
             select 'loyalty', id::text, reason, to_jsonb(id), '{}', '\\x00', now(), now(), now(), deleted_at
             from (values (1, 'no_email', null), (2, 'no_email', null), (3, 'crowded', null), (4, null, null),
                          (5, 'no_email', now()))
                 as rows (id, reason, deleted_at)",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        let counts = [("crowded".to_owned(), 1), ("no_email".to_owned(), 2)];
        assert_eq!(unmatched(&mut connection).await.unwrap(), counts.into());
    }

    #[tokio::test]
    async fn the_consolidator_is_seen_from_elsewhere_while_it_holds_its_lock() {
        let database = embedded_postgres::test::database().await;
        let options: PgConnectOptions = database.url.parse().unwrap();
        let mut looker = staging::connect(&options).await.unwrap();
        assert_eq!(consolidator_since(&mut looker).await.unwrap(), None);
        let mut consolidator = crate::Consolidator::connect(&options).await.unwrap();
        assert!(consolidator.try_begin().await.unwrap());
        assert!(consolidator_since(&mut looker).await.unwrap().is_some());
    }
}
