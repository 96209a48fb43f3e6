//! From what an operator asked for to offsets: what there is, what is landed, and what that means for each partition.

use std::collections::BTreeSet;
use std::time::Instant;

use model::LastSeen;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use staging::offsets::{LastMessage, StoredOffset};
use staging::replays::Section;

use super::{Place, Request};
use crate::catch_up::{ask, targets};
use crate::client::{ALONE_PATIENCE, Bounds, Client};
use crate::consume::Target;
use crate::{Error, Settings, passage};

/// What is landed again of one partition.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Part {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset of the first message that was asked for.
    pub first_offset: i64,
    /// Offset of the first message that is not landed again yet: the same request may have been stopped before.
    pub next_offset: i64,
    /// Offset behind the last one.
    pub end_offset: i64,
    /// Whether the source itself goes on from here: it has no progress that could, or its log begins again. Otherwise
    /// this is landed beside whoever reads the source.
    pub rewinds: bool,
    /// The source's progress; `None` when there is none.
    pub stored: Option<i64>,
    /// Whether its topic was deleted and made again since then.
    #[serde(skip)]
    pub(super) is_made_again: bool,
    #[serde(skip)]
    pub(super) last_seen: Option<LastSeen>,
}

impl Part {
    /// Messages that are left to land, at most.
    pub fn messages(&self) -> u64 {
        u64::try_from(self.end_offset - self.next_offset).unwrap_or(0)
    }
}

/// Asks brokers; runs on a thread that may wait.
pub(super) fn plan(
    settings: &Settings,
    client: &Client,
    request: &Request,
    stored: &[StoredOffset],
    begun: &[Section],
) -> Result<Vec<Part>, Error> {
    let refused = |problem: String| Error::Replay { from: settings.name.clone(), problem };
    let mut targets = targets(settings, client)?;
    if let Some(topic) = &request.topic
        && !targets.iter().any(|target| target.topic == *topic)
    {
        let known: BTreeSet<&str> = targets.iter().map(|target| target.topic.as_str()).collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Error::NotItsTopic { from: settings.name.clone(), topic: topic.clone(), known });
    }
    let is_wanted = |target: &Target| {
        request.topic.as_ref().is_none_or(|topic| *topic == target.topic)
            && request.partition.is_none_or(|partition| partition == target.partition)
    };
    let known: Vec<String> = targets.iter().map(|target| format!("{}/{}", target.topic, target.partition)).collect();
    targets.retain(is_wanted);
    if targets.is_empty() {
        return Err(refused(format!("there is no such partition; it has {}", known.join(", "))));
    }
    let is_offset = |place: Option<Place>| matches!(place, Some(Place::Offset(_)));
    if targets.len() > 1 && (is_offset(request.from) || is_offset(request.to)) {
        let known: Vec<String> =
            targets.iter().map(|target| format!("{}/{}", target.topic, target.partition)).collect();
        return Err(refused(format!(
            "an offset means something in one partition only: add --topic and --partition; it has {}",
            known.join(", ")
        )));
    }
    let mut parts = Vec::new();
    for Target { topic, partition, bounds } in targets {
        // What retention has passed, or what was before a topic was made again, is not there to go on with.
        let is_there = |section: &&Section| bounds.low <= section.next_offset && section.end_offset <= bounds.high;
        let begun = begun.iter().find(|section| section.topic == topic && section.partition == partition);
        if let Some(section) = begun.filter(is_there) {
            parts.push(Part {
                first_offset: section.first_offset,
                next_offset: section.next_offset,
                end_offset: section.end_offset,
                last_seen: section.last_seen,
                rewinds: false,
                stored: None,
                is_made_again: false,
                topic,
                partition,
            });
            continue;
        }
        let find = |place| find(settings, client, &topic, partition, bounds, place);
        let first_offset = request.from.map_or(Ok(bounds.low), find)?;
        let end = request.to.map_or(Ok(bounds.high), find)?;
        let known = stored.iter().find(|stored| stored.topic == topic && stored.partition == partition);
        let stored = known.map(|stored| stored.next_offset);
        let is_made_again = stored.is_some_and(|stored| stored > bounds.high)
            || holds_another(settings, client, &topic, partition, bounds, known.and_then(|known| known.last_message))?;
        let can_go_on = stored.is_some_and(|stored| stored >= bounds.low) && !is_made_again;
        let rewinds = request.new_epoch || !can_go_on;
        if rewinds && request.to.is_some() {
            let why = if request.new_epoch { "a new epoch begins" } else { "it has no progress that could go on" };
            return Err(refused(format!(
                "{topic}/{partition}: {why}, so the source goes on from there without an end: leave --to out"
            )));
        }
        // What is not landed yet is whoever's who reads the source.
        let end_offset = if rewinds { end } else { end.min(stored.unwrap_or(end)) };
        if first_offset >= end_offset && !rewinds {
            continue;
        }
        // What is not landed before a new epoch is not passed over.
        let next_offset =
            stored.filter(|_| can_go_on && rewinds).map_or(first_offset, |stored| stored.min(first_offset));
        let last_seen = passage::last_seen_before(settings, client, &topic, partition, next_offset, bounds.low)?;
        parts.push(Part {
            topic,
            partition,
            first_offset,
            next_offset,
            end_offset,
            rewinds,
            stored,
            is_made_again,
            last_seen,
        });
    }
    Ok(parts)
}

/// Whether another message is where the last one was landed from.
fn holds_another(
    settings: &Settings,
    client: &Client,
    topic: &str,
    partition: i32,
    bounds: Bounds,
    last: Option<LastMessage>,
) -> Result<bool, Error> {
    let Some(last) = last.filter(|last| (bounds.low..bounds.high).contains(&last.offset)) else { return Ok(false) };
    let mut is_another = false;
    let read = passage::read(settings, client, topic, partition, last.offset..last.offset + 1, |message| {
        is_another = message.timestamp_ms != Some(last.timestamp_ms);
        false
    });
    match read {
        // Brokers have answered a moment ago: from there on nothing is left.
        Err(Error::Unreachable { .. }) => Ok(false),
        read => read.map(|()| is_another),
    }
}

/// The offset of a place in a partition.
fn find(
    settings: &Settings,
    client: &Client,
    topic: &str,
    partition: i32,
    bounds: Bounds,
    place: Place,
) -> Result<i64, Error> {
    let Bounds { low, high } = bounds;
    match place {
        Place::Offset(offset) if (low..=high).contains(&offset) => Ok(offset),
        Place::Offset(offset) => Err(Error::Replay {
            from: settings.name.clone(),
            problem: format!("{topic}/{partition} has no offset {offset}: it begins at {low} and ends at {high}"),
        }),
        Place::Time(time) => {
            let broke = |error| Error::Client { from: settings.name.clone(), error: Box::new(error) };
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition, Offset::Offset(time.timestamp_millis())).map_err(broke)?;
            let deadline = Instant::now() + ALONE_PATIENCE;
            let found = ask(settings, client, deadline, |timeout| client.offsets_for_times(list.clone(), timeout))?;
            Ok(match found.find_partition(topic, partition).map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => offset.clamp(low, high),
                // No message is that young.
                _ => high,
            })
        }
    }
}
