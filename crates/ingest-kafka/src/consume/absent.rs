//! Topics that are named and not there. They are waited for; the client complains of them once, and not by name, so that
//! somebody has to look which they are, and whether they have come.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;

use super::Reader;

const TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is looked again while some are not there.
const AGAIN: Duration = Duration::from_secs(5);

/// Which they are, and when to look next.
#[derive(Debug, Default)]
pub(super) struct Absent {
    look_at: Option<Instant>,
    pub(super) topics: Vec<String>,
}

impl Reader<'_> {
    /// The client has complained.
    pub(super) fn expect_absent_topics(&mut self) {
        self.absent.look_at = Some(Instant::now());
    }

    pub(super) fn look_for_absent_topics(&mut self) {
        let is_due = self.absent.look_at.is_some_and(|at| at <= Instant::now());
        if !is_due || self.unreachable_since.is_some() {
            return;
        }
        let topics = match self.absent_topics() {
            Ok(topics) => topics,
            Err(error) => {
                self.absent.look_at = Some(Instant::now() + AGAIN);
                return tracing::debug!(source = %self.settings.name, %error, "asking which topics there are");
            }
        };
        for topic in topics.iter().filter(|topic| !self.absent.topics.contains(topic)) {
            tracing::warn!(source = %self.settings.name, topic, "there is no such topic, or it is hidden: waiting for it");
        }
        for topic in self.absent.topics.iter().filter(|topic| !topics.contains(topic)) {
            tracing::info!(source = %self.settings.name, topic, "the topic is there");
        }
        self.absent.look_at = (!topics.is_empty()).then(|| Instant::now() + AGAIN);
        self.absent.topics = topics;
    }

    fn absent_topics(&self) -> KafkaResult<Vec<String>> {
        let metadata = self.client.fetch_metadata(None, TIMEOUT)?;
        let is_there =
            |topic: &str| metadata.topics().iter().any(|known| known.name() == topic && known.error().is_none());
        let named = self.settings.all_topics().into_iter().filter(|topic| !topic.starts_with('^'));
        Ok(named.filter(|topic| !is_there(topic)).map(str::to_owned).collect())
    }
}
