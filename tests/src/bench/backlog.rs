//! A backlog: a topic full of customers, as Debezium writes them.

use std::time::Duration;

use anyhow::{Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// What the messages of a backlog look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Whole envelopes, about 800 bytes.
    Envelopes,
    /// The rows alone with where they stand in the log, about 200 bytes.
    Rows,
    /// The same with the schema that Connect's JSON converter writes before each, about 740 bytes.
    RowsWithSchemas,
}

/// The schema of [`Shape::Rows`].
const SCHEMA: &str = r#"{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"},{"type":"string","optional":false,"field":"name"},{"type":"string","optional":true,"field":"email"},{"type":"string","optional":true,"field":"password"},{"type":"string","optional":true,"field":"__op"},{"type":"string","optional":true,"field":"__source_file"},{"type":"int64","optional":true,"field":"__source_pos"},{"type":"int32","optional":true,"field":"__source_row"}],"optional":false,"name":"dbserver1.inventory.customers.Value"}"#;
/// The schema of the keys.
const KEY_SCHEMA: &str = r#"{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"}],"optional":false,"name":"dbserver1.inventory.customers.Key"}"#;

/// Writes one inserted customer each for the ids from 0, in turn to each partition. Returns when all are acknowledged.
pub fn produce(brokers: &str, topic: &str, events: usize, partitions: usize, shape: Shape) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "50").set("batch.size", "1000000");
    // Not one twice: the figures are by what was asked for.
    config.set("enable.idempotence", "true");
    let producer: BaseProducer = config.create()?;
    for id in 0..events {
        let (key, value) = (shape.key(id), shape.event(id));
        let mut next = BaseRecord::to(topic).partition(i32::try_from(id % partitions)?).key(&key).payload(&value);
        while let Err((error, back)) = producer.send(next) {
            ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), error);
            producer.poll(Duration::from_millis(10));
            next = back;
        }
    }
    producer.flush(Duration::from_mins(1))?;
    Ok(())
}

impl Shape {
    fn key(self, id: usize) -> String {
        let key = format!(r#"{{"id":{id}}}"#);
        match self {
            Self::Envelopes | Self::Rows => key,
            Self::RowsWithSchemas => format!(r#"{{"schema":{KEY_SCHEMA},"payload":{key}}}"#),
        }
    }

    /// The message of one customer.
    pub fn event(self, id: usize) -> String {
        let who = format!(
            r#""id":{id},"name":"Matthew Groves {id}","email":"matthew.groves{id}@couchbase.com","password":"edzchzmatv{id}""#
        );
        let pos = 1000 + id;
        let row =
            format!(r#"{{{who},"__op":"c","__source_file":"mysql-bin.000001","__source_pos":{pos},"__source_row":0}}"#);
        match self {
            Self::Rows => row,
            Self::RowsWithSchemas => format!(r#"{{"schema":{SCHEMA},"payload":{row}}}"#),
            Self::Envelopes => format!(
                r#"{{"before":null,"after":{{{who},"address_line_1":"600 Sporer Curve","address_line_2":"Suite 528","city":"West Evertchester","state":"NH","zipcode":"04006","phonenumber":"811.128.4320 x4808"}},"source":{{"version":"3.5.0.Final","connector":"mariadb","name":"dbserver1","ts_ms":1795247517000,"snapshot":"false","db":"inventory","sequence":null,"ts_us":1795247517000000,"ts_ns":1795247517000000000,"table":"customers","server_id":223344,"gtid":"0-223344-22","file":"mysql-bin.000001","pos":{pos},"row":0,"thread":null,"query":null}},"transaction":{{"id":"0-223344-22","total_order":1,"data_collection_order":1}},"op":"c","ts_ms":1795247517393,"ts_us":1795247517393763,"ts_ns":1795247517393763944}}"#
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_long_as_is_said() {
        for (shape, about) in [(Shape::Rows, 200), (Shape::Envelopes, 800), (Shape::RowsWithSchemas, 740)] {
            let length = shape.event(100_000).len();
            assert!((about - 10..=about + 20).contains(&length), "{shape:?}: {length}");
        }
    }
}
