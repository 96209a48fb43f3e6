//! Messages in Avro: their schemas as Debezium's are with Connect's Avro converter, written by Confluent's Python client.

use std::path::Path;
use std::process::Stdio;

use c360_tests::stack::Broker;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A schema and what is written by it.
pub(crate) struct Message {
    pub(crate) key: Option<(Value, Value)>,
    pub(crate) value: Option<(Value, Value)>,
}

/// Writes messages in order; the ids of their values' schemas.
pub(crate) async fn produce(broker: &Broker, registry: &str, topic: &str, messages: &[Message]) -> Vec<Option<u64>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = Command::new(root.join("../scripts/fetch-python.sh")).arg("avro").output().await.unwrap();
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    let mut client = Command::new(String::from_utf8(script.stdout).unwrap().trim_end())
        .arg(root.join("avro/produce.py"))
        .args([&broker.bootstrap(), registry, topic])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let part =
        |part: &Option<(Value, Value)>| part.as_ref().map(|(schema, data)| json!({"schema": schema, "data": data}));
    let line = |message: &Message| json!({"key": part(&message.key), "value": part(&message.value)}).to_string() + "\n";
    let lines: String = messages.iter().map(line).collect();
    let mut input = client.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).await.unwrap();
    drop(input);
    let output = client.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ids = String::from_utf8(output.stdout).unwrap();
    ids.lines().map(|ids| serde_json::from_str::<(Option<u64>, Option<u64>)>(ids).unwrap().1).collect()
}

fn optional(schema: &Value) -> Value {
    json!(["null", schema])
}

/// The columns of the table; `more` were added to it later.
pub(crate) fn row(more: &[&str]) -> Value {
    let connect = |kind: &str, name: &str| json!({"type": kind, "connect.version": 1, "connect.name": name});
    let price = json!({
        "type": "bytes", "scale": 2, "precision": 12, "connect.version": 1,
        "connect.parameters": {"scale": "2", "connect.decimal.precision": "12"},
        "connect.name": "org.apache.kafka.connect.data.Decimal", "logicalType": "decimal",
    });
    let balance = json!({
        "type": "record", "name": "VariableScaleDecimal", "namespace": "io.debezium.data", "connect.version": 1,
        "connect.name": "io.debezium.data.VariableScaleDecimal",
        "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
    });
    let mut fields = vec![
        ("id", json!("long")),
        ("name", optional(&json!("string"))),
        ("email", optional(&json!("string"))),
        ("password", optional(&json!("string"))),
        ("price", optional(&price)),
        ("balance", optional(&balance)),
        ("born", optional(&connect("int", "io.debezium.time.Date"))),
        ("seen", optional(&connect("long", "io.debezium.time.MicroTimestamp"))),
        ("changed", optional(&connect("string", "io.debezium.time.ZonedTimestamp"))),
        ("joined", optional(&json!({"type": "long", "logicalType": "timestamp-millis"}))),
        ("points", optional(&json!("long"))),
        ("photo", optional(&json!("bytes"))),
        ("tags", optional(&json!({"type": "array", "items": "string"}))),
    ];
    fields.extend(more.iter().map(|name| (*name, optional(&json!("string")))));
    let fields: Vec<Value> = fields.into_iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
    json!({
        "type": "record", "name": "Value", "namespace": "dbserver1.inventory.customers", "fields": fields,
        "connect.name": "dbserver1.inventory.customers.Value",
    })
}

fn envelope(row: &Value) -> Value {
    let snapshot = json!([{
        "type": "string", "connect.version": 1, "connect.default": "false", "connect.name": "io.debezium.data.Enum",
        "connect.parameters": {"allowed": "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},
    }, "null"]);
    json!({
        "type": "record", "name": "Envelope", "namespace": "dbserver1.inventory.customers", "connect.version": 2,
        "connect.name": "dbserver1.inventory.customers.Envelope",
        "fields": [
            {"name": "before", "type": ["null", row], "default": null},
            {"name": "after", "type": ["null", "Value"], "default": null},
            {"name": "source", "type": {
                "type": "record", "name": "Source", "namespace": "io.debezium.connector.mysql",
                "connect.name": "io.debezium.connector.mysql.Source",
                "fields": [
                    {"name": "ts_ms", "type": "long"},
                    {"name": "snapshot", "type": snapshot, "default": "false"},
                    {"name": "file", "type": "string"},
                    {"name": "pos", "type": "long"},
                    {"name": "row", "type": "int"},
                    {"name": "query", "type": ["null", "string"], "default": null},
                ],
            }},
            {"name": "op", "type": "string"},
            {"name": "ts_ms", "type": ["null", "long"], "default": null},
        ],
    })
}

fn key(id: i64) -> (Value, Value) {
    let schema = json!({
        "type": "record", "name": "Key", "namespace": "dbserver1.inventory.customers",
        "fields": [{"name": "id", "type": "long"}], "connect.name": "dbserver1.inventory.customers.Key",
    });
    (schema, json!({"id": id}))
}

/// A change event; `place` is its place in the log.
pub(crate) fn event(row: &Value, op: &str, place: i64, id: i64, before: &Value, after: &Value) -> Message {
    let source = json!({
        "ts_ms": 1_700_000_000_000_i64 + place, "snapshot": if op == "r" { "true" } else { "false" },
        "file": "mysql-bin.000001", "pos": place, "row": 0, "query": "update customers set password = 'in-clear'",
    });
    let value =
        json!({"before": before, "after": after, "source": source, "op": op, "ts_ms": 1_700_000_000_000_i64 + place});
    Message { key: Some(key(id)), value: Some((envelope(row), value)) }
}

pub(crate) fn tombstone(id: i64) -> Message {
    Message { key: Some(key(id)), value: None }
}

/// A row with nothing but an id, an email and a name.
pub(crate) fn customer(id: i64, name: &str) -> Value {
    json!({"id": id, "name": name, "email": format!("c{id}@example.org"), "password": format!("in-clear-{id}")})
}

/// A row without an envelope, as a plain record or with what `ExtractNewRecordState` adds to it.
pub(crate) fn plain(id: i64, name: &str, op: Option<&str>) -> Message {
    let mut schema = json!({"type": "record", "name": "Row", "fields": [
        {"name": "id", "type": "long"}, {"name": "name", "type": "string"}, {"name": "email", "type": "string"},
    ]});
    let mut data = json!({"id": id, "name": name, "email": format!("c{id}@example.org")});
    if let Some(op) = op {
        let fields = schema["fields"].as_array_mut().unwrap();
        fields.extend(["__op", "__deleted"].map(|name| json!({"name": name, "type": ["null", "string"]})));
        fields.push(json!({"name": "__source_ts_ms", "type": ["null", "long"]}));
        data["__op"] = op.into();
        data["__deleted"] = (op == "d").to_string().into();
        data["__source_ts_ms"] = 1_700_000_000_000_i64.into();
    }
    Message { key: Some((json!("long"), json!(id))), value: Some((schema, data)) }
}
