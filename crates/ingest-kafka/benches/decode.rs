//! How long decoding takes, in nanoseconds a message: the best of RUNS rounds (15) of ROWS messages (20,000), in processor
//! time where the system tells it, so that neighbours on the machine disturb little.

use std::hint::black_box;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ingest_kafka::{DEFAULT_FLATTENED_PREFIX, DEFAULT_PLACEHOLDER, Decoder, Format, Message, Outcome, Seen, Settings};
use model::mapping::{Context, Mapping};
use model::{Credentials, InstallationKey, Limits};

fn main() {
    let row = r#"{"id":1029,"name":"Matthew Groves","email":"matthew.groves@couchbase.com","password":"edzchzmatv5","address_line_1":"600 Sporer Curve","address_line_2":"Suite 528","city":"West Evertchester","state":"NH","zipcode":"04006","phonenumber":"811.128.4320 x4808"}"#;
    let source = r#"{"version":"3.5.0.Final","connector":"mariadb","name":"dbserver1","ts_ms":1795247517000,"snapshot":"false","db":"inventory","sequence":null,"ts_us":1795247517000000,"ts_ns":1795247517000000000,"table":"customers","server_id":223344,"gtid":"0-223344-22","file":"mysql-bin.000001","pos":7096,"row":0,"thread":null,"query":null}"#;
    let tail =
        r#""transaction":null,"op":"u","ts_ms":1795247517393,"ts_us":1795247517393763,"ts_ns":1795247517393763944"#;
    let insert = format!(r#"{{"before":null,"after":{row},"source":{source},{tail}}}"#);
    let update = format!(r#"{{"before":{row},"after":{row},"source":{source},{tail}}}"#);
    let flattened = format!(
        r#"{},"__deleted":"false","__op":"c","__table":"customers","__source_ts_ms":1795247527000,"__source_file":"mysql-bin.000001","__source_pos":7658,"__source_row":0}}"#,
        row.trim_end_matches('}')
    );
    let wrapped = format!(r#"{{"schema":{},"payload":{insert}}}"#, schema());
    measure("insert", Format::Debezium, &insert);
    measure("wrapped", Format::Debezium, &wrapped);
    measure("update", Format::Debezium, &update);
    measure("flattened", Format::Debezium, &flattened);
    measure("json", Format::Json, row);
}

fn measure(name: &str, format: Format, value: &str) {
    let (messages, runs) = (number("ROWS", 20_000), number("RUNS", 15));
    let decoder = Decoder::new(&settings(format), "customers");
    let now = DateTime::<Utc>::from_timestamp(1_795_247_600, 0).unwrap_or_default();
    let (mut seen, mut records) = (Seen::default(), Vec::new());
    let mut batch = staging::Batch::new("home_delivery", Duration::from_secs(1));
    let (mut decoding, mut with_batch) = (f64::MAX, f64::MAX);
    for round in 0..runs * 2 {
        let began = clock();
        for offset in 0..messages {
            let message = Message {
                offset: offset.into(),
                timestamp_ms: Some(1_795_247_518_000),
                key: Some(br#"{"id":1029}"#),
                value: Some(value.as_bytes()),
                new_key: None,
            };
            let outcome = decoder.decode(black_box(&message), &mut seen, 0, now, &mut records);
            assert_eq!(outcome, Outcome::Records);
            if round % 2 == 1 {
                for record in &records {
                    batch.push(record);
                }
                if batch.is_full() {
                    batch = staging::Batch::new("home_delivery", Duration::from_secs(1));
                }
            }
        }
        let nanoseconds = clock().saturating_sub(began).as_secs_f64() * 1e9 / f64::from(messages);
        let best = if round % 2 == 1 { &mut with_batch } else { &mut decoding };
        *best = best.min(nanoseconds);
    }
    println!(
        "{name:>10} {:>5} bytes: {decoding:>6.0} ns a message, {with_batch:>6.0} ns with its place in the batch",
        value.len()
    );
}

/// The schema that Connect's JSON converter writes into every such message unless told otherwise.
fn schema() -> String {
    let column = |name: &str| format!(r#"{{"type":"string","optional":true,"field":"{name}"}}"#);
    let number = |kind: &str, name: &str| format!(r#"{{"type":"{kind}","optional":true,"field":"{name}"}}"#);
    let row = "name,email,password,address_line_1,address_line_2,city,state,zipcode,phonenumber";
    let row: Vec<String> = std::iter::once(number("int32", "id")).chain(row.split(',').map(column)).collect();
    let row = |field: &str| {
        let fields = row.join(",");
        format!(
            r#"{{"type":"struct","fields":[{fields}],"optional":true,"name":"dbserver1.inventory.customers.Value","field":"{field}"}}"#
        )
    };
    let source =
        "version,connector,name,ts_ms,snapshot,db,sequence,ts_us,ts_ns,table,server_id,gtid,file,pos,row,thread,query";
    let source: Vec<String> = source.split(',').map(column).collect();
    let source = format!(
        r#"{{"type":"struct","fields":[{}],"optional":false,"name":"io.debezium.connector.mariadb.Source","version":1,"field":"source"}}"#,
        source.join(",")
    );
    let rest = ["op", "ts_ms", "ts_us", "ts_ns"].map(|name| number("int64", name)).join(",");
    format!(
        r#"{{"type":"struct","fields":[{},{},{source},{rest}],"optional":false,"name":"dbserver1.inventory.customers.Envelope","version":2}}"#,
        row("before"),
        row("after")
    )
}

/// Processor time of this thread.
fn clock() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let told = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
    told.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// The number in a variable, or this one where there is none.
fn number(name: &str, default: u32) -> u32 {
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() { default } else { text.parse().expect("a whole number") }
}

fn settings(format: Format) -> Settings {
    let customer = r#"{
        "external_id": "id", "email": "email", "credential": "password",
        "attributes": {"name": "name", "address1": "address_line_1", "address2": "address_line_2", "city": "city",
                       "state": "state", "zipcode": "zipcode", "phone": "phonenumber"}}"#;
    Settings {
        name: "home_delivery".to_owned(),
        brokers: "localhost:9092".to_owned(),
        topics: vec!["customers".to_owned()],
        group_id: "c360".to_owned(),
        format,
        mappings: vec![Mapping::Customer(serde_json::from_str(customer).expect("a mapping"))],
        context: Context {
            credentials: Credentials::digest(&InstallationKey::new([7; 32])),
            timezone: chrono_tz::Tz::UTC,
        },
        limits: Limits::default(),
        ttl: Duration::from_hours(168),
        placeholder: DEFAULT_PLACEHOLDER.to_owned(),
        flattened_prefix: DEFAULT_FLATTENED_PREFIX.to_owned(),
        properties: std::collections::BTreeMap::new(),
    }
}
