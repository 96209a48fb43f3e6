//! Change events of customers, as Debezium writes them, and other messages to send.

use serde_json::{Value, json};

/// A message to send, by [`Broker::send_all`](crate::stack::Broker::send_all).
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// The partition; of none, the key decides.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<String>,
    /// The value.
    pub value: String,
}

impl Event {
    /// A message without a key.
    pub fn without_key(value: &impl ToString) -> Self {
        Self { value: value.to_string(), ..Self::default() }
    }

    /// The same in this partition.
    #[must_use]
    pub fn to(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }
}

/// A customer comes, with a name and an email of their own; the later the id, the later in the log.
pub fn insert(id: i64) -> Event {
    change(id, &json!({}))
}

/// [`insert`], with some of its fields said otherwise: those of `after` and `source`, or `op`.
pub fn change(id: i64, otherwise: &Value) -> Event {
    let mut event = json!({
        "before": null,
        "after": {"id": id, "name": format!("Ann {id}"), "email": format!("ann{id}@example.org"), "password": "p"},
        "source": {
            "file": "mysql-bin.000001", "pos": 1_000 + id, "row": 0, "snapshot": "false", "ts_ms": 1_700_000_000_000_i64,
        },
        "op": "c",
    });
    for (part, said) in otherwise.as_object().into_iter().flatten() {
        match (event[part].as_object_mut(), said.as_object()) {
            (Some(fields), Some(said)) => fields.extend(said.clone()),
            _ => event[part] = said.clone(),
        }
    }
    Event { partition: None, key: Some(format!(r#"{{"id":{id}}}"#)), value: event.to_string() }
}
