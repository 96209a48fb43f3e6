//! The metrics of Kafka sources, all with the label `source`. Counted per batch, never per message.

use metrics::{counter, gauge, histogram};

use crate::status::Progress;

/// Records landed.
pub const RECORDS: &str = "c360_kafka_records_total";
/// Messages that became dead letters.
pub const DEAD_LETTERS: &str = "c360_kafka_dead_letters_total";
/// Messages that were nothing to land; label `kind`.
pub const SKIPPED: &str = "c360_kafka_skipped_messages_total";
/// Batches landed.
pub const BATCHES: &str = "c360_kafka_batches_total";
/// How long landing a batch took.
pub const LAND_SECONDS: &str = "c360_kafka_land_seconds";
/// Batches that found other progress stored than they continued from.
pub const FENCED: &str = "c360_kafka_fenced_batches_total";
/// Times that reading was paused because the database was slow, or the schema registry.
pub const PAUSES: &str = "c360_kafka_pauses_total";
/// Questions to the schema registry that it did not answer.
pub const REGISTRY_FAILURES: &str = "c360_kafka_schema_registry_failures_total";
/// Messages between what is landed and the ends of this process's partitions.
pub const LAG: &str = "c360_kafka_lag_messages";
/// How long the oldest message has waited to be landed, whether it is fetched or still with its broker.
pub const OLDEST_UNLANDED: &str = "c360_kafka_oldest_unlanded_seconds";
/// Partitions that wait for an operator.
pub const STOPPED: &str = "c360_kafka_stopped_partitions";

pub(crate) fn landed(source: &str, records: u64, dead_letters: u64, seconds: f64) {
    let source = source.to_owned();
    counter!(RECORDS, "source" => source.clone()).increment(records);
    counter!(DEAD_LETTERS, "source" => source.clone()).increment(dead_letters);
    counter!(BATCHES, "source" => source.clone()).increment(1);
    histogram!(LAND_SECONDS, "source" => source).record(seconds);
}

pub(crate) fn skipped(source: &str, kind: &'static str, messages: u64) {
    counter!(SKIPPED, "source" => source.to_owned(), "kind" => kind).increment(messages);
}

pub(crate) fn fenced(source: &str) {
    counter!(FENCED, "source" => source.to_owned()).increment(1);
}

pub(crate) fn paused(source: &str) {
    counter!(PAUSES, "source" => source.to_owned()).increment(1);
}

pub(crate) fn registry_failed(source: &str) {
    counter!(REGISTRY_FAILURES, "source" => source.to_owned()).increment(1);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floats, and nobody reads 2^53 messages of lag to the last digit"
)]
pub(crate) fn progress(source: &str, progress: &Progress) {
    let partitions = || progress.partitions.values();
    let lag: i64 = partitions().map(|partition| partition.lag).sum();
    let oldest_unlanded_seconds = partitions().map(|partition| partition.oldest_unlanded_seconds).max().unwrap_or(0);
    gauge!(LAG, "source" => source.to_owned()).set(lag as f64);
    gauge!(OLDEST_UNLANDED, "source" => source.to_owned()).set(oldest_unlanded_seconds as f64);
    gauge!(STOPPED, "source" => source.to_owned()).set(progress.stopped().len() as f64);
}
