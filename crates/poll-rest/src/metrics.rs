//! Names and emission of this crate's metrics; every one has the label `source`.

use std::time::Duration;

use staging::Batch;

use crate::breaker::BreakerState;

/// Requests, by labels `request` (`customer`, `order`, ..., `list_customer`, ..., `update_customer`, `create_customer`, `token`) and `outcome` (`ok`, `not_modified`, `not_found`, `timeout`, ...).
const REQUESTS: &str = "c360_rest_requests_total";
/// How long requests took, from sending to the end of the answer.
const REQUEST_SECONDS: &str = "c360_rest_request_seconds";
/// For how long the oldest poll has been due; 0 when none is.
const OLDEST_UNLANDED_SECONDS: &str = "c360_rest_oldest_unlanded_seconds";
/// 0 closed, 1 half open, 2 open.
const BREAKER_STATE: &str = "c360_rest_breaker_state";
/// What landed, by label `outcome`: `landed`, `dead`.
const RECORDS: &str = "c360_rest_records_total";
/// Polls whose outcome landed, by label `state` (the words of `polls.state`).
const POLLS: &str = "c360_rest_polls_total";

/// Edits that senders tried, by label `outcome`: `settled`, `refused`, `again`.
const EDITS: &str = "c360_rest_edits_total";

pub(crate) fn tried(source: &str, outcome: &'static str) {
    metrics::counter!(EDITS, "source" => source.to_owned(), "outcome" => outcome).increment(1);
}

pub(crate) fn requested(source: &str, request: &'static str, outcome: &'static str, took: Duration) {
    let labels = [("source", source.to_owned()), ("request", request.to_owned()), ("outcome", outcome.to_owned())];
    metrics::counter!(REQUESTS, &labels).increment(1);
    metrics::histogram!(REQUEST_SECONDS, "source" => source.to_owned()).record(took.as_secs_f64());
}

pub(crate) fn breaker(source: &str, state: BreakerState) {
    let value = match state {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen => 1.0,
        BreakerState::Open => 2.0,
    };
    metrics::gauge!(BREAKER_STATE, "source" => source.to_owned()).set(value);
}

pub(crate) fn due(source: &str, oldest_seconds: f64) {
    metrics::gauge!(OLDEST_UNLANDED_SECONDS, "source" => source.to_owned()).set(oldest_seconds);
}

pub(crate) fn landed(batch: &Batch) {
    for (outcome, count) in [("landed", batch.record_count()), ("dead", batch.dead_letter_count())] {
        let count = u64::try_from(count).unwrap_or_default();
        metrics::counter!(RECORDS, "source" => batch.source().to_owned(), "outcome" => outcome).increment(count);
    }
}

pub(crate) fn polled(source: &str, state: &'static str, count: u64) {
    metrics::counter!(POLLS, "source" => source.to_owned(), "state" => state).increment(count);
}
