//! What an operator asks to be landed again.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

/// Where a replay begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a message.
    Offset(i64),
    /// At the first message that Kafka has from this time on.
    Time(DateTime<Utc>),
}

/// Which messages to land again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Of one topic; default: of all.
    pub topic: Option<String>,
    /// Of one partition; default: of all.
    pub partition: Option<i32>,
    /// From there on, it included; default: from the first message there is.
    pub from: Option<Place>,
    /// Up to there, it excluded; default: as far as the source is landed.
    pub to: Option<Place>,
    /// Whether the source's log has begun again: what is landed from here on is newer than all before.
    pub new_epoch: bool,
}

/// The request in the words of the command, by which it is known when it is made again.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        let mut word =
            |option: &str, value: Option<String>| words.extend(value.map(|value| format!("{option} {value}")));
        word("--topic", self.topic.clone());
        word("--partition", self.partition.map(|partition| partition.to_string()));
        for (end, place) in [("from", self.from), ("to", self.to)] {
            match place {
                Some(Place::Offset(offset)) => word(&format!("--{end}-offset"), Some(offset.to_string())),
                Some(Place::Time(time)) => {
                    word(&format!("--{end}"), Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
                }
                None => {}
            }
        }
        if self.new_epoch {
            words.push("--new-epoch".to_owned());
        }
        f.write_str(&words.join(" "))
    }
}
