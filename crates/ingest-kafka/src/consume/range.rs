//! Progress that the broker does not have: the partition stops with an alarm, and is never jumped over.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;

use super::Reader;
use crate::client::Bounds;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Checks ask brokers and wait for them, so they are rare.
const INTERVAL: Duration = Duration::from_secs(2);

impl Reader<'_> {
    /// Asks brokers whether they have what is to be read next. librdkafka says only that some partition is out of range,
    /// not which.
    pub(super) fn check_ranges(&mut self) {
        if !self.check_ranges || self.checked_at.is_some_and(|checked| checked.elapsed() < INTERVAL) {
            return;
        }
        self.checked_at = Some(Instant::now());
        self.check_ranges = false;
        for index in 0..self.partitions.len() {
            let partition = &self.partitions[index];
            if partition.stopped.is_some() {
                continue;
            }
            let name = partition.name.clone();
            let bounds = match self.client.fetch_watermarks(&name.0, name.1, TIMEOUT) {
                Ok((low, high)) => Bounds { low, high },
                Err(error) => {
                    tracing::info!(source = %self.settings.name, topic = &*name.0, partition = name.1, %error, "asking for the range");
                    self.check_ranges = true;
                    break;
                }
            };
            self.bounds.insert((name.0.to_string(), name.1), bounds);
            match partition.next_offset().and_then(|next| out_of_range(next, bounds)) {
                Some(reason) => self.stop(index, reason),
                None if self.partitions[index].expects_landmark(bounds) => {}
                // librdkafka has stopped to read one of these.
                None => self.seek(index),
            }
        }
    }

    pub(super) fn stop(&mut self, index: usize, reason: String) {
        let partition = &mut self.partitions[index];
        tracing::error!(
            source = %self.settings.name, topic = &*partition.name.0, partition = partition.name.1, reason,
            "the partition is stopped until an operator decides: see `c360 replay`"
        );
        partition.stopped = Some(reason);
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.name.0, partition.name.1);
        if let Err(error) = self.client.pause(&list) {
            tracing::debug!(source = %self.settings.name, %error, "pausing a stopped partition");
        }
    }
}

/// What is wrong with going on from `next`.
fn out_of_range(next: i64, bounds: Bounds) -> Option<String> {
    let Bounds { low, high } = bounds;
    if next < low {
        return Some(format!(
            "the topic now begins at offset {low}, behind the stored progress {next}: retention has passed it"
        ));
    }
    (next > high).then(|| {
        format!("the topic ends at offset {high}, before the stored progress {next}: it was deleted and made again, or has lost messages")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_right_from_the_first_message_to_behind_the_last() {
        let bounds = Bounds { low: 10, high: 20 };
        for (next, is_wrong) in [(9, true), (10, false), (20, false), (21, true)] {
            assert_eq!(out_of_range(next, bounds).is_some(), is_wrong, "{next}");
        }
    }
}
