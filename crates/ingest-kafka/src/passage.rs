//! Reading a passage of one partition from its beginning to its end, by itself: to look, not to land.

use std::time::{Duration, Instant};

use model::LastSeen;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{self, ALONE_PATIENCE, Client};
use crate::decode::{Decoder, Message, Seen};
use crate::{Error, Format, Settings};

const POLL: Duration = Duration::from_millis(100);
/// How many messages are looked at first for a log position; then ten times as many, and so on.
const LOOK_BACK: i64 = 100;

/// Gives every message of `offsets` to `take`. Offsets without a message (compacted, aborted, ends of transactions) are
/// passed over. Stops early when `take` says false.
pub(crate) fn read(
    settings: &Settings,
    client: &Client,
    topic: &str,
    partition: i32,
    offsets: std::ops::Range<i64>,
    mut take: impl FnMut(&Message<'_>) -> bool,
) -> Result<(), Error> {
    let broke = |error| Error::Client { from: settings.name.clone(), error: Box::new(error) };
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offsets.start)).map_err(broke)?;
    client.assign(&list).map_err(broke)?;
    let mut heard = Instant::now();
    loop {
        match client.poll(POLL) {
            Some(Ok(message)) => {
                let message = client::view(&message);
                if message.offset >= offsets.end || !take(&message) {
                    break;
                }
                // Taking may wait for others longer than brokers may be silent.
                heard = Instant::now();
            }
            Some(Err(error)) if !passes(&error) => return Err(broke(error)),
            Some(Err(_)) | None if heard.elapsed() > ALONE_PATIENCE => {
                let error = KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown);
                return Err(client::unreachable(settings, client, &error));
            }
            Some(Err(_)) | None => {}
        }
        // Behind the last message there may be offsets that are never given out.
        let positions = client.position().map_err(broke)?;
        let position = positions.find_partition(topic, partition).map(|element| element.offset());
        if matches!(position, Some(Offset::Offset(position)) if position >= offsets.end) {
            break;
        }
    }
    client.unassign().map_err(broke)
}

/// What is remembered before an offset, from the last message that has a position of its own: messages without one take it.
pub(crate) fn last_seen_before(
    settings: &Settings,
    client: &Client,
    topic: &str,
    partition: i32,
    offset: i64,
    low: i64,
) -> Result<Option<LastSeen>, Error> {
    if matches!(settings.format, Format::Json) {
        return Ok(None);
    }
    let decoder = Decoder::new(settings, topic);
    let (mut records, now) = (Vec::new(), chrono::Utc::now());
    let (mut end, mut back) = (offset, LOOK_BACK);
    while end > low {
        let start = (end - back).max(low);
        let mut seen = Seen::default();
        let mut broken = Ok(());
        read(settings, client, topic, partition, start..end, |message| {
            broken = decoder.decode_at_last(message, &mut seen, 0, now, &mut records).map(drop);
            broken.is_ok()
        })?;
        broken?;
        if seen.last.is_some() {
            return Ok(seen.last);
        }
        (end, back) = (start, back * 10);
    }
    Ok(None)
}

/// Whether librdkafka tries again by itself.
fn passes(error: &KafkaError) -> bool {
    !matches!(
        error,
        KafkaError::MessageConsumptionFatal(_)
            | KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset
                    | RDKafkaErrorCode::OffsetOutOfRange
                    | RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::UnknownTopicOrPartition
            )
    )
}
