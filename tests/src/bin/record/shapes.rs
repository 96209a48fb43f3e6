//! `shapes.jsonl`: the same few changes in each shape that a Debezium deployment may give them, one topic a shape.

use anyhow::Result;
use c360_tests::{
    people::{Person, System, person},
    stack::{Message, Schemas, Stack, debezium_mariadb_config_as},
};
use serde_json::{Value, json};

/// One change of each kind. Id 9 comes last and ends each topic.
const CHANGES: &str = "
    insert into customers (id, name, email) values (7, 'Zoë', 'zoe@example.org');
    update customers set email = 'z@example.org' where id = 7;
    update customers set id = 8 where id = 7;
    delete from customers where id = 8;
    truncate customers;
    alter table customers add column note varchar(20);
    insert into customers (id, name, note) values (9, 'Last', 'new column');";
const LAST_KEY: &str = r#""id":9}"#;

/// The topic prefix that names the shape, and what its connector has beside the defaults.
fn connectors() -> [(&'static str, Schemas, Value); 6] {
    // By default a connector leaves out truncations.
    let all_operations = json!({"skipped.operations": "none"});
    let heartbeat = json!({
        "skipped.operations": "none",
        "heartbeat.interval.ms": "500",
        // MariaDB tells a reader that it is alive at four fifths of this, and without that an idle connector is silent.
        "connect.keep.alive.interval.ms": "2500",
    });
    [
        ("schemas_on", Schemas::On, all_operations),
        ("schemas_off", Schemas::Off, heartbeat),
        ("flat_rewrite", Schemas::Off, flattened("rewrite", POSITION)),
        ("flat_rewrite_schemas_on", Schemas::On, flattened("rewrite", POSITION)),
        // What one gets who sets nothing.
        ("flat_tombstone", Schemas::Off, flattened("tombstone", "")),
        ("flat_delete_to_tombstone", Schemas::Off, flattened("delete-to-tombstone", POSITION)),
    ]
}

/// What a flattened message must carry beside the row, for its reader to know the newer of two.
const POSITION: &str = "op,source.ts_ms,source.file,source.pos,source.row";

fn flattened(deletes: &str, added_fields: &str) -> Value {
    json!({
        "skipped.operations": "none",
        "transforms": "unwrap",
        "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.unwrap.delete.tombstone.handling.mode": deletes,
        "transforms.unwrap.add.fields": added_fields,
    })
}

pub(super) async fn record() -> Result<Vec<Message>> {
    let stack = Stack::start().await?;
    stack.mariadb.execute(&reference_row(person(0))).await?;
    let mut readers = Vec::new();
    for (prefix, schemas, extra) in connectors() {
        let mut config = debezium_mariadb_config_as(prefix, &stack.mariadb, &stack.broker, schemas);
        if let (Some(config), Value::Object(extra)) = (config.as_object_mut(), extra) {
            config.extend(extra);
        }
        stack.connect.register(prefix, &config).await?;
        readers.push(stack.broker.reader(&[&format!("{prefix}.inventory.customers")]).await?);
    }

    let mut messages = Vec::new();
    let mut snapshots = Vec::new();
    for reader in &mut readers {
        snapshots.push(reader.next().await?);
    }
    stack.mariadb.execute(CHANGES).await?;
    for (reader, snapshot) in readers.iter_mut().zip(snapshots) {
        messages.push(snapshot);
        messages.extend(reader.until(|message| has_key(message, LAST_KEY)).await?);
    }

    let mut ddl = stack.broker.reader(&["schemas_off"]).await?;
    messages.extend(ddl.until(|message| mentions(message, "add column note")).await?);
    let mut heartbeats = stack.broker.reader(&["__debezium-heartbeat.schemas_off"]).await?;
    messages.push(heartbeats.next().await?);
    Ok(messages)
}

fn has_key(message: &Message, end: &str) -> bool {
    message.key.as_deref().is_some_and(|key| key.contains(end))
}

fn mentions(message: &Message, text: &str) -> bool {
    message.value.as_deref().is_some_and(|value| value.contains(text))
}

fn reference_row(person: &Person) -> String {
    let (id, name, email) = (person.id(System::HomeDelivery), person.name(), &person.email);
    format!("insert into customers (id, name, email) values ({id}, '{name}', '{email}')")
}
