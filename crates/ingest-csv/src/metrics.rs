//! Names and emission of this crate's metrics; every one has the label `source`.

use std::time::Duration;

use staging::Batch;
use staging::imports::State;

/// Rows that are in staging or counted, by label `outcome`: `landed`, `dead`, `skipped`. Rows of a file that is refused
/// later count too.
const ROWS: &str = "c360_csv_rows_total";
/// Files that are finished with, by label `state` (the words of `csv_imports.state`).
const FILES: &str = "c360_csv_files_total";
/// How long a file took from opening to publishing or refusing it.
const IMPORT_SECONDS: &str = "c360_csv_import_seconds";
/// Age of the oldest file that waits to be imported; 0 when there is none.
const OLDEST_UNLANDED_SECONDS: &str = "c360_csv_oldest_unlanded_seconds";

/// Shows the counters before anything has happened: of one that begins with 1 nobody can tell that it rose.
pub(crate) fn begin(source: &str) {
    for outcome in ["landed", "dead", "skipped"] {
        metrics::counter!(ROWS, "source" => source.to_owned(), "outcome" => outcome).increment(0);
    }
    for state in [State::Imported, State::Copy, State::Superseded, State::Refused] {
        metrics::counter!(FILES, "source" => source.to_owned(), "state" => state.as_str()).increment(0);
    }
}

pub(crate) fn landed(batch: &Batch) {
    let counts =
        [("landed", batch.record_count()), ("dead", batch.dead_letter_count()), ("skipped", batch.skipped_count())];
    for (outcome, count) in counts {
        let count = u64::try_from(count).unwrap_or_default();
        metrics::counter!(ROWS, "source" => batch.source().to_owned(), "outcome" => outcome).increment(count);
    }
}

pub(crate) fn finished(source: &str, state: State, took: Duration) {
    metrics::counter!(FILES, "source" => source.to_owned(), "state" => state.as_str()).increment(1);
    metrics::histogram!(IMPORT_SECONDS, "source" => source.to_owned()).record(took.as_secs_f64());
}

pub(crate) fn oldest_unlanded(source: &str, age: Duration) {
    metrics::gauge!(OLDEST_UNLANDED_SECONDS, "source" => source.to_owned()).set(age.as_secs_f64());
}
