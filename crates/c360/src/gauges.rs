//! Gauges of what waits, measured in the database: every process of an installation shows the same ones, so alert on their
//! maximum and not on their sum.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use metrics::gauge;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use staging::health::Health;
use staging::overview;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Records that are landed and not consolidated.
pub const BACKLOG_RECORDS: &str = "c360_backlog_records";
/// Age of the oldest record that is landed and not consolidated, by `source`; 0 when there is none.
pub const BACKLOG_OLDEST_SECONDS: &str = "c360_backlog_oldest_seconds";
/// Profiles that have yet to follow what is consolidated.
pub const BACKLOG_PROFILES: &str = "c360_backlog_profiles";
/// For how long the oldest of them has waited; 0 when there is none.
pub const BACKLOG_PROFILES_OLDEST_SECONDS: &str = "c360_backlog_profiles_oldest_seconds";
/// Dead letters that wait for an operator, by `source` and `reason`.
pub const DEAD_LETTERS_PARKED: &str = "c360_dead_letters_parked";
/// Living cross-references that belong to no customer, by `reason`.
pub const UNMATCHED_XREFS: &str = "c360_unmatched_xrefs";
/// Records that look old by position and new by time, so that nothing of them is taken: the log of this `source` has begun
/// again. 0 from the next epoch on.
pub const LOG_RESTART_RECORDS: &str = "c360_log_restart_records";
/// What its ingester says is wrong with a `source`: partitions that are stopped, credentials that are refused, a directory or
/// server that is out of reach.
pub const SOURCE_TROUBLES: &str = "c360_source_troubles";
/// Files of a CSV `source` that were refused, while no file of their night or of a newer one is imported since.
pub const CSV_REFUSED_FILES: &str = "c360_csv_refused_files";
/// The newest time that a CSV `source` has given files of, in seconds since 1970.
pub const CSV_NEWEST_AS_OF_SECONDS: &str = "c360_csv_newest_as_of_seconds";
/// Customers that a REST source is to be asked about now, by `source`.
pub const POLLS_DUE: &str = "c360_polls_due";
/// Edits that wait to be sent to a `source`.
pub const EDITS_WAITING: &str = "c360_edits_waiting";
/// For how long the oldest edit has waited to be sent to a `source`; 0 when none does.
pub const EDITS_OLDEST_SECONDS: &str = "c360_edits_oldest_seconds";
/// Edits that a `source` does not take.
pub const EDITS_REFUSED: &str = "c360_edits_refused";
/// For how long a partition whose time is over has had to stay because of a batch that is not consolidated.
pub const EXPIRY_HELD_BACK_SECONDS: &str = "c360_expiry_held_back_seconds";
/// What schema staging takes on the database's disk.
pub const STAGING_BYTES: &str = "c360_staging_bytes";
/// What a `table` takes on the database's disk, with its partitions and indexes.
pub const STORAGE_BYTES: &str = "c360_storage_bytes";
/// Orders whose total is not that of their lines, by `system`.
pub const ORDERS_TOTAL_DIFFERS: &str = "c360_orders_total_differs";
/// When these gauges were measured, in seconds since 1970: they stay as they are while the database is away.
pub const GAUGES_MEASURED_AT_SECONDS: &str = "c360_gauges_measured_at_seconds";

/// How often the database is asked...
const EVERY: Duration = Duration::from_secs(5);
/// ... unless it takes long: asking is to be at most this part of the time.
const SHARE: u32 = 20;
/// For how long a word of trouble counts: an ingester that lives repeats it.
const TROUBLE_LASTS: TimeDelta = TimeDelta::minutes(2);
/// A database that takes longer has other worries.
const MEASURE_WITHIN: Duration = Duration::from_mins(1);

/// Measures until `cancel`, with what there is to ask of these sources. An outage is no trouble here: those who need the
/// database say so.
pub async fn publish(database: PgConnectOptions, sources: Vec<String>, cancel: CancellationToken) {
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let mut connection = None;
    let mut shown = Gauges::default();
    loop {
        let since = Instant::now();
        let measuring = measured(&database, &mut connection, &sources, Utc::now());
        let measured = tokio::select! {
            measured = timeout(MEASURE_WITHIN, measuring) => measured,
            () = cancel.cancelled() => return,
        };
        match measured {
            Ok(Ok(measured)) => {
                measured.show(&shown);
                shown = measured;
            }
            Ok(Err(error)) => tracing::debug!(%error, "measuring what waits"),
            Err(_) => tracing::debug!("measuring what waits takes too long"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY.max(since.elapsed() * SHARE)) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// Measures on a connection that is kept only if it worked to the end.
async fn measured(
    database: &PgConnectOptions,
    kept: &mut Option<PgConnection>,
    sources: &[&str],
    now: DateTime<Utc>,
) -> Result<Gauges, consolidate::Error> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => staging::connect(database).await?,
    };
    let gauges = staging::in_time("measuring", Gauges::measure(&mut connection, sources, now)).await?;
    *kept = Some(connection);
    Ok(gauges)
}

/// A gauge by its name and labels.
type Key = (&'static str, Vec<(&'static str, String)>);

/// What every gauge shows.
#[derive(Debug, Default, PartialEq)]
struct Gauges(BTreeMap<Key, f64>);

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
impl Gauges {
    async fn measure(
        connection: &mut PgConnection,
        sources: &[&str],
        now: DateTime<Utc>,
    ) -> Result<Self, consolidate::Error> {
        let seconds = |since: DateTime<Utc>| ((now - since).num_milliseconds().max(0) as f64) / 1000.0;
        let mut gauges = Self::default();
        let backlog = overview::backlog(&mut *connection).await?;
        gauges.set(BACKLOG_RECORDS, &[], backlog.iter().map(|backlog| backlog.records).sum::<i64>() as f64);
        let unfolded = consolidate::overview::unfolded(&mut *connection).await?;
        gauges.set(BACKLOG_PROFILES, &[], unfolded.profiles as f64);
        gauges.set(BACKLOG_PROFILES_OLDEST_SECONDS, &[], unfolded.oldest.map_or(0.0, seconds));
        // Sources without a backlog have one of age 0: no alert needs a rule for absence.
        for known in staging::health::all(&mut *connection).await? {
            gauges.set(LOG_RESTART_RECORDS, &[("source", known.source.clone())], 0.0);
            gauges.set(BACKLOG_OLDEST_SECONDS, &[("source", known.source.clone())], 0.0);
            gauges.set(SOURCE_TROUBLES, &[("source", known.source.clone())], troubles(&known, now) as f64);
        }
        for (source, as_of) in overview::newest_nights(&mut *connection).await? {
            gauges.set(CSV_REFUSED_FILES, &[("source", source.clone())], 0.0);
            gauges.set(CSV_NEWEST_AS_OF_SECONDS, &[("source", source)], as_of.timestamp() as f64);
        }
        let mut refused: BTreeMap<String, u32> = BTreeMap::new();
        for file in overview::refused_files(&mut *connection).await? {
            *refused.entry(file.source).or_default() += 1;
        }
        for (source, files) in refused {
            gauges.set(CSV_REFUSED_FILES, &[("source", source)], f64::from(files));
        }
        for (source, restarts) in consolidate::overview::log_restarts(&mut *connection).await? {
            let records: i64 = restarts.iter().map(|restart| restart.records).sum();
            gauges.set(LOG_RESTART_RECORDS, &[("source", source)], records as f64);
        }
        for backlog in backlog {
            gauges.set(BACKLOG_OLDEST_SECONDS, &[("source", backlog.source)], seconds(backlog.oldest));
        }
        for ((source, reason), parked) in overview::parked(&mut *connection).await? {
            gauges.set(DEAD_LETTERS_PARKED, &[("source", source), ("reason", reason)], parked as f64);
        }
        for polls in overview::polls_due(&mut *connection, sources, now).await? {
            gauges.set(POLLS_DUE, &[("source", polls.source)], polls.due as f64);
        }
        for edits in staging::outbox::waiting(&mut *connection).await? {
            let oldest = edits.oldest.map_or(0.0, seconds);
            gauges.set(EDITS_WAITING, &[("source", edits.source.clone())], edits.waiting as f64);
            gauges.set(EDITS_OLDEST_SECONDS, &[("source", edits.source.clone())], oldest);
            gauges.set(EDITS_REFUSED, &[("source", edits.source)], edits.refused as f64);
        }
        let expiry = overview::expiry(connection, now).await?;
        gauges.set(EXPIRY_HELD_BACK_SECONDS, &[], expiry.held_back_since.map_or(0.0, seconds));
        let storage = status::storage(connection).await?;
        gauges.set(STAGING_BYTES, &[], status::in_staging(&storage) as f64);
        for (table, bytes) in storage {
            gauges.set(STORAGE_BYTES, &[("table", table)], bytes as f64);
        }
        for (system, orders) in consolidate::overview::orders_total_differs(&mut *connection).await? {
            gauges.set(ORDERS_TOTAL_DIFFERS, &[("system", system)], orders as f64);
        }
        for (reason, xrefs) in consolidate::overview::unmatched(connection).await? {
            gauges.set(UNMATCHED_XREFS, &[("reason", reason)], xrefs as f64);
        }
        gauges.set(GAUGES_MEASURED_AT_SECONDS, &[], now.timestamp() as f64);
        Ok(gauges)
    }

    fn set(&mut self, name: &'static str, labels: &[(&'static str, String)], value: f64) {
        self.0.insert((name, labels.to_vec()), value);
    }

    /// Shows them; what was shown before and is not there any more is 0 now.
    fn show(&self, before: &Self) {
        let gone = before.0.keys().filter(|key| !self.0.contains_key(key)).map(|key| (key, 0.0));
        for ((name, labels), value) in self.0.iter().map(|(key, value)| (key, *value)).chain(gone) {
            gauge!(*name, labels).set(value);
        }
    }
}

/// What is stopped stays so until somebody looks; what is only out of reach, as long as somebody says so.
fn troubles(known: &Health, now: DateTime<Utc>) -> usize {
    let stopped = known.list("stopped").len();
    let has_trouble = known.health.get("trouble").is_some_and(Value::is_string);
    let for_now = known.list("absent_topics").len() + usize::from(has_trouble);
    if known.is_fresh(now, TROUBLE_LASTS) { stopped + for_now } else { stopped }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use staging::health::Speaker;
    use staging::imports::{self, File, State};

    use super::*;

    #[test]
    fn what_is_not_there_any_more_is_shown_as_0() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let mut before = Gauges::default();
        before.set(DEAD_LETTERS_PARKED, &[("source", "a".to_owned()), ("reason", "nul".to_owned())], 3.0);
        before.set(BACKLOG_RECORDS, &[], 7.0);
        let mut after = Gauges::default();
        after.set(BACKLOG_RECORDS, &[], 1.0);
        metrics::with_local_recorder(&recorder, || {
            before.show(&Gauges::default());
            after.show(&before);
        });
        let text = recorder.handle().render();
        assert!(text.contains(r#"c360_dead_letters_parked{source="a",reason="nul"} 0"#), "{text}");
        assert!(text.contains("c360_backlog_records 1"), "{text}");
    }

    #[tokio::test]
    async fn an_empty_installation_has_zeros_and_a_size() {
        let database = embedded_postgres::test::database().await;
        let mut connection = staging::connect(&database.url.parse().unwrap()).await.unwrap();
        staging::migrate(&mut connection).await.unwrap();
        consolidate::migrate(&mut connection).await.unwrap();
        staging::health::report(&mut connection, "loyalty", Speaker::Daemon, &serde_json::json!({}), Utc::now())
            .await
            .unwrap();
        let gauges = Gauges::measure(&mut connection, &[], Utc::now()).await.unwrap();
        let value = |name, labels: &[(&'static str, String)]| gauges.0.get(&(name, labels.to_vec())).copied();
        assert_eq!(value(SOURCE_TROUBLES, &[("source", "loyalty".to_owned())]), Some(0.0));
        assert_eq!(value(BACKLOG_RECORDS, &[]), Some(0.0));
        assert_eq!(value(BACKLOG_PROFILES, &[]), Some(0.0));
        assert_eq!(value(BACKLOG_OLDEST_SECONDS, &[("source", "loyalty".to_owned())]), Some(0.0));
        assert_eq!(value(EXPIRY_HELD_BACK_SECONDS, &[]), Some(0.0));
        assert!(value(STAGING_BYTES, &[]).unwrap() > 0.0);
        for table in
            ["staging.records", "staging.batches", "staging.dead_letters", "customer360.changes", "customer360.xrefs"]
        {
            assert!(value(STORAGE_BYTES, &[("table", table.to_owned())]).is_some(), "{table}");
        }
    }

    #[tokio::test]
    async fn a_log_that_has_begun_again_shows_until_the_next_epoch() {
        let database = embedded_postgres::test::database().await;
        let mut connection = staging::connect(&database.url.parse().unwrap()).await.unwrap();
        staging::migrate(&mut connection).await.unwrap();
        consolidate::migrate(&mut connection).await.unwrap();
        staging::health::report(&mut connection, "loyalty", Speaker::Daemon, &serde_json::json!({}), Utc::now())
            .await
            .unwrap();
        sqlx::raw_sql(
            "insert into customer360.log_restarts
                 (source, epoch, topic, partition, records, first_offset, first_observed_at, noticed_at, last_noticed_at)
             values ('shop', 0, 't', 0, 3, 17, now(), now(), now()), ('shop', 0, 't', 1, 4, 18, now(), now(), now())",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        let label = |source: &str| vec![("source", source.to_owned())];
        let gauges = Gauges::measure(&mut connection, &[], Utc::now()).await.unwrap();
        assert_eq!(gauges.0.get(&(LOG_RESTART_RECORDS, label("shop"))), Some(&7.0));
        assert_eq!(gauges.0.get(&(LOG_RESTART_RECORDS, label("loyalty"))), Some(&0.0));
        assert!(staging::replays::rewind(&mut connection, "shop", &[], true, Utc::now()).await.unwrap());
        let gauges = Gauges::measure(&mut connection, &[], Utc::now()).await.unwrap();
        assert_eq!(gauges.0.get(&(LOG_RESTART_RECORDS, label("shop"))), Some(&0.0));
    }

    #[tokio::test]
    async fn files_and_troubles_of_sources_are_shown_until_they_are_over() {
        let database = embedded_postgres::test::database().await;
        let mut connection = staging::connect(&database.url.parse().unwrap()).await.unwrap();
        staging::migrate(&mut connection).await.unwrap();
        consolidate::migrate(&mut connection).await.unwrap();
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let word = serde_json::json!({"stopped": ["a", "b"], "trouble": "no answer", "absent_topics": ["c"]});
        staging::health::report(&mut connection, "loyalty", Speaker::Daemon, &word, now).await.unwrap();
        let measure = async |connection: &mut PgConnection, now| {
            let gauges = Gauges::measure(connection, &[], now).await.unwrap();
            let of = |name| gauges.0.get(&(name, vec![("source", "loyalty".to_owned())])).copied();
            [SOURCE_TROUBLES, CSV_REFUSED_FILES, CSV_NEWEST_AS_OF_SECONDS].map(of)
        };
        assert_eq!(measure(&mut connection, now).await, [Some(4.0), None, None]);
        assert_eq!(measure(&mut connection, now + TROUBLE_LASTS).await[0], Some(2.0), "nobody repeats it");
        for (state, as_of, expected) in [
            (State::Refused, 1_000, (Some(1.0), None)),
            (State::Imported, 2_000, (Some(0.0), Some(2_000.0))),
            (State::Refused, 3_000, (Some(1.0), Some(2_000.0))),
            (State::Refused, 3_500, (Some(2.0), Some(2_000.0))),
            (State::Copy, 4_000, (Some(2.0), Some(4_000.0))),
            (State::Imported, 3_000, (Some(1.0), Some(4_000.0))),
            (State::Imported, 4_000, (Some(0.0), Some(4_000.0))),
        ] {
            let as_of = DateTime::from_timestamp(as_of, 0).unwrap();
            let (source, file_name, sha256) = ("loyalty".to_owned(), "f".to_owned(), "x".to_owned());
            let file = File {
                directory: String::new(),
                source,
                file_name,
                as_of,
                mtime: as_of,
                dated: true,
                full_export: false,
                sha256,
            };
            if state == State::Copy {
                imports::note(&mut connection, &file, state, 0, now).await.unwrap();
            } else {
                let import_id = imports::begin(&mut connection, &file, now).await.unwrap();
                let is_done = match state {
                    State::Refused => {
                        let refusal = imports::Refusal { reason: "why".to_owned(), may_be_accepted: true };
                        imports::refuse(&mut connection, import_id, &refusal, now).await
                    }
                    _ => imports::publish(&mut connection, import_id, 0, Duration::from_hours(1), now).await,
                };
                assert!(is_done.unwrap());
            }
            let [_, refused, newest] = measure(&mut connection, now).await;
            assert_eq!((refused, newest), expected, "{state:?}");
        }
    }
}
