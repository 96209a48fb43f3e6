//! A backlog: a topic full of customers, as Debezium writes them.

use std::time::Duration;

use anyhow::{Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// Writes one inserted customer each for the ids from 0, in turn to each partition. Returns when all are acknowledged.
pub fn produce(brokers: &str, topic: &str, events: usize, partitions: usize) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "50").set("batch.size", "1000000");
    // Not one twice: the figures are by what was asked for.
    config.set("enable.idempotence", "true");
    let producer: BaseProducer = config.create()?;
    for id in 0..events {
        let (key, value) = (format!(r#"{{"id":{id}}}"#), event(id));
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

fn event(id: usize) -> String {
    format!(
        r#"{{"before":null,"after":{{"id":{id},"name":"Matthew Groves {id}","email":"matthew.groves{id}@couchbase.com","password":"edzchzmatv{id}","address_line_1":"600 Sporer Curve","address_line_2":"Suite 528","city":"West Evertchester","state":"NH","zipcode":"04006","phonenumber":"811.128.4320 x4808"}},"source":{{"version":"3.5.0.Final","connector":"mariadb","name":"dbserver1","ts_ms":1795247517000,"snapshot":"false","db":"inventory","sequence":null,"ts_us":1795247517000000,"ts_ns":1795247517000000000,"table":"customers","server_id":223344,"gtid":"0-223344-22","file":"mysql-bin.000001","pos":{},"row":0,"thread":null,"query":null}},"transaction":{{"id":"0-223344-22","total_order":1,"data_collection_order":1}},"op":"c","ts_ms":1795247517393,"ts_us":1795247517393763,"ts_ns":1795247517393763944}}"#,
        1000 + id
    )
}
