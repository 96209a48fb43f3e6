//! What can stop an ingester, as opposed to a message.

use rdkafka::error::KafkaError;

/// An error of this crate. None of them holds a value of any message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work; trying again does not help.
    #[error("source {from}: {problem}")]
    Configuration {
        /// The source.
        from: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No broker answered in time.
    #[error("source {from}: no answer from brokers {brokers}: {reason}")]
    Unreachable {
        /// The source.
        from: String,
        /// Where brokers were looked for.
        brokers: String,
        /// Why, and where something is to be mended, what.
        reason: String,
    },
    /// Another process has joined the group by this one's name.
    #[error("source {from}: another process takes part in the group as {instance}")]
    Fenced {
        /// The source.
        from: String,
        /// The name: `group.instance.id`.
        instance: String,
    },
    /// The schema registry has not answered for long.
    #[error("source {from}: {problem}")]
    Registry {
        /// The source.
        from: String,
        /// What is the matter with it.
        problem: &'static str,
    },
    /// A topic is not there.
    #[error("source {from}: topic {topic} does not exist")]
    UnknownTopic {
        /// The source.
        from: String,
        /// The topic.
        topic: String,
    },
    /// A topic that was asked for is none of the source's.
    #[error("source {from}: it has no topic {topic}; it has {known}")]
    NotItsTopic {
        /// The source.
        from: String,
        /// What was asked for.
        topic: String,
        /// Those that it has.
        known: String,
    },
    /// The client refused or broke.
    #[error("source {from}: {error}")]
    Client {
        /// The source.
        from: String,
        /// What it says.
        error: Box<KafkaError>,
    },
    /// What was asked for cannot be replayed.
    #[error("source {from}: {problem}")]
    Replay {
        /// The source.
        from: String,
        /// Why not, and what can be asked for.
        problem: String,
    },
    /// Stored progress has changed while a replay was thought through.
    #[error("source {from}: its progress has moved meanwhile: give the command once more")]
    Moved {
        /// The source.
        from: String,
    },
    /// A replay's partition is being landed again by another request.
    #[error("source {from}: another replay took its place; what is left of it is not landed again")]
    Taken {
        /// The source.
        from: String,
    },
    /// The database refused for good.
    #[error(transparent)]
    Staging(#[from] staging::Error),
    /// The consuming thread could not be started or ended without a word.
    #[error("source {from}: the consuming thread {problem}")]
    Thread {
        /// The source.
        from: String,
        /// What became of it.
        problem: String,
    },
}

impl Error {
    /// Whether only another configuration helps.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Configuration { .. })
    }
}
