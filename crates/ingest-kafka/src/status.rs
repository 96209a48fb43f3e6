//! What a source says of itself: counted by the halves, told by [`crate::report`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What was landed since the start.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    records: AtomicU64,
    dead_letters: AtomicU64,
    skipped: AtomicU64,
}

impl Totals {
    pub(crate) fn add(&self, records: u64, dead_letters: u64, skipped: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.dead_letters.fetch_add(dead_letters, Ordering::Relaxed);
        self.skipped.fetch_add(skipped, Ordering::Relaxed);
    }

    /// Records, dead letters, skips.
    pub(crate) fn read(&self) -> (u64, u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.records), read(&self.dead_letters), read(&self.skipped))
    }
}

/// A partition that waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StoppedPartition {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Why, and what to do.
    pub reason: String,
}

/// The last word of the consuming loop.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// What keeps it from reading at the moment.
    pub(crate) trouble: Option<String>,
    /// Topics that are named in the configuration and not there.
    pub(crate) absent_topics: Vec<String>,
    /// This process's partitions, by topic and number.
    pub(crate) partitions: BTreeMap<(String, i32), PartitionProgress>,
}

/// How one partition is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct PartitionProgress {
    /// Messages between what is landed and its end.
    pub(crate) lag: i64,
    /// The same where there is lag, else 0.
    pub(crate) lag_seconds: i64,
    /// How long something has waited to be landed, fetched or not: at most, where it is not fetched.
    pub(crate) oldest_unlanded_seconds: i64,
    pub(crate) stopped: Option<StoppedPartition>,
}

impl Progress {
    /// Partitions that wait for an operator.
    pub(crate) fn stopped(&self) -> Vec<StoppedPartition> {
        self.partitions.values().filter_map(|partition| partition.stopped.clone()).collect()
    }
}

/// Where the loop leaves its last word for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Board {
    progress: Mutex<Progress>,
    pub(crate) totals: Totals,
}

impl Board {
    pub(crate) fn write(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    pub(crate) fn read(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
