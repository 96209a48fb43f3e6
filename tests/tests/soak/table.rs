//! The source database: tables of customers and orders that change at random, and what Debezium makes of each change.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use crate::ledger::{CUSTOMERS, Entry, Kind, ORDER_PARTITIONS, ORDERS, Row, UNAVAILABLE};

/// Times of the source run from here, far enough in the past to stay there.
const BEGINNING_MS: i64 = 1_700_000_000_000;
/// Messages that a connector that is started again may publish once more.
const REPEATABLE: usize = 60;

/// See the module.
pub(crate) struct Table {
    random: StdRng,
    customers: BTreeMap<i64, Row>,
    orders: BTreeMap<i64, i64>,
    next_id: i64,
    next_order: i64,
    file: u32,
    pos: u64,
    ts_ms: i64,
    recent: Vec<Entry>,
    /// How many partitions there are of customers.
    partitions: i32,
    /// How many there were when a customer's note was last written, where that lies in the partition of its key.
    noted: BTreeMap<i64, i32>,
}

impl Table {
    pub(crate) fn new(random: StdRng) -> Self {
        Self {
            random,
            customers: BTreeMap::new(),
            orders: BTreeMap::new(),
            next_id: 1,
            next_order: 1,
            file: 1,
            pos: 4,
            ts_ms: BEGINNING_MS,
            recent: Vec::new(),
            partitions: 0,
            noted: BTreeMap::new(),
        }
    }

    /// The next change: messages that come one behind the other. `partitions` are there of customers.
    pub(crate) fn change(&mut self, partitions: i32) -> Vec<Entry> {
        self.tick();
        self.partitions = partitions;
        let messages = match self.random.random_range(0..100) {
            _ if self.customers.len() < 50 => self.insert(),
            0..20 => self.insert(),
            20..52 => self.update(),
            52..58 => self.delete(),
            58..62 => self.change_id(),
            62..64 => self.insert_deep(),
            64..66 => return self.repeat(),
            66..71 => vec![self.poison()],
            71..75 => vec![self.skip()],
            75..97 => self.order(),
            _ => self.delete_order(),
        };
        let messages: Vec<Entry> = messages.into_iter().map(|message| placed(message, partitions)).collect();
        self.recent.extend(messages.iter().cloned());
        let surplus = self.recent.len().saturating_sub(REPEATABLE);
        self.recent.drain(..surplus);
        messages
    }

    /// Rows of a transaction that will be aborted: nobody is to see them, and nothing remembers them.
    pub(crate) fn aborted(&mut self, partitions: i32) -> Vec<Entry> {
        self.tick();
        let id = 900_000_000 + self.next_id;
        let row = self.row(id);
        vec![placed(self.customer("c", id, row, false), partitions)]
    }

    /// The log goes on, now and then in another file.
    fn tick(&mut self) {
        self.pos += self.random.random_range(30..900);
        self.ts_ms += self.random.random_range(1..20);
        if self.pos > 400_000 {
            (self.file, self.pos) = (self.file + 1, 4);
        }
    }

    fn insert(&mut self) -> Vec<Entry> {
        let id = self.next_id;
        self.next_id += 1;
        let row = self.row(id);
        self.customers.insert(id, row.clone());
        self.noted.insert(id, self.partitions);
        vec![self.customer("c", id, row, false)]
    }

    fn insert_deep(&mut self) -> Vec<Entry> {
        let id = self.next_id;
        self.next_id += 1;
        let row = self.row(id);
        self.customers.insert(id, row.clone());
        vec![self.customer("c", id, row, true)]
    }

    fn update(&mut self) -> Vec<Entry> {
        let id = self.any();
        let mut row = self.row(id);
        if self.random.random_bool(0.2) {
            row.insert("note", Some(UNAVAILABLE.to_owned()));
        } else {
            self.noted.insert(id, self.partitions);
        }
        self.customers.insert(id, row.clone());
        vec![self.customer("u", id, row, false)]
    }

    fn delete(&mut self) -> Vec<Entry> {
        let id = self.any();
        self.customers.remove(&id);
        vec![self.gone(id, None), self.tombstone(CUSTOMERS, "id", id, Kind::Gone { id, moved_to: None })]
    }

    /// A primary key changes: a delete that says where to, its tombstone, and a create that need not hold everything. What it
    /// leaves out is carried over from what is known at the delete: so only where nothing of the old key can come later, by
    /// another partition or out of a dead letter.
    fn change_id(&mut self) -> Vec<Entry> {
        let (old, new) = (self.any(), self.next_id);
        self.next_id += 1;
        let Some(mut row) = self.customers.remove(&old) else { return Vec::new() };
        if self.noted.get(&old) == Some(&self.partitions) {
            row.insert("note", Some(UNAVAILABLE.to_owned()));
        } else if row.get("note") == Some(&Some(UNAVAILABLE.to_owned())) {
            row.insert("note", Some("a new note".to_owned()));
        }
        self.customers.insert(new, row.clone());
        vec![
            self.gone(old, Some(new)),
            self.tombstone(CUSTOMERS, "id", old, Kind::Gone { id: old, moved_to: None }),
            self.customer("c", new, row, false),
        ]
    }

    /// A connector that was killed publishes again what it had published, in the same order.
    fn repeat(&mut self) -> Vec<Entry> {
        let from = self.random.random_range(0..self.recent.len().max(1));
        let mut again = self.recent[from.min(self.recent.len())..].to_vec();
        // Never the second half of a pair alone: a tombstone is of the place of the delete before it.
        while again.first().is_some_and(|entry| entry.log.is_none()) {
            again.remove(0);
        }
        again
    }

    fn poison(&mut self) -> Entry {
        let (id, log) = (self.next_id, self.source());
        let texts: [Vec<u8>; 7] = [
            br#"{"not": json"#.to_vec(),
            b"[1,2]".to_vec(),
            envelope("x", None, Some(&json!({"id": id})), &log).into_bytes(),
            envelope("c", None, Some(&json!({"name": "Canary Nobody"})), &log).into_bytes(),
            envelope("c", None, Some(&json!({"id": 1.5, "email": "canary@soak.example"})), &log).into_bytes(),
            format!(r#"{{"op":"c","after":{{"id":{id},"name":"a\u0000b"}},"source":{log}}}"#).into_bytes(),
            b"{\"op\":\"c\",\"after\":{\"id\":1,\"name\":\"\xff\xfe\"}}".to_vec(),
        ];
        let value = texts.choose(&mut self.random).cloned().unwrap_or_default();
        Entry { key: Some(br#"{"other":1}"#.to_vec()), value: Some(value), ..self.entry(CUSTOMERS, Kind::Poison, None) }
    }

    fn skip(&mut self) -> Entry {
        let value = match self.random.random_range(0..4) {
            0 => Some(json!({"ts_ms": self.ts_ms}).to_string()),
            1 => Some(envelope("m", None, None, &self.source())),
            2 => Some(json!({"status": "BEGIN", "id": "1", "event_count": null, "ts_ms": self.ts_ms}).to_string()),
            // A tombstone that names nobody.
            _ => None,
        };
        Entry { value: value.map(String::into_bytes), ..self.entry(CUSTOMERS, Kind::Skip, None) }
    }

    fn order(&mut self) -> Vec<Entry> {
        let known = self.orders.keys().copied().collect::<Vec<_>>();
        let changed = known.choose(&mut self.random).copied().filter(|_| self.random.random_bool(0.4));
        let id = changed.unwrap_or(self.next_order);
        self.next_order = self.next_order.max(id + 1);
        // Sometimes the order is there before its customer.
        let customer = if self.random.random_bool(0.1) { self.next_id } else { self.any() };
        let customer = *self.orders.entry(id).or_insert(customer);
        let count = self.random.random_range(1..4);
        let mut line =
            || (self.random.random_range(1..40), self.random.random_range(1..5), self.random.random_range(1..20_000));
        let lines: Vec<(i64, i64, i64)> = (0..count).map(|_| line()).collect();
        let items: Vec<Value> = lines
            .iter()
            .map(|(product, quantity, cents)| {
                let price = format!("{}.{:02}", cents / 100, cents % 100);
                json!({"product": product, "quantity": quantity, "price": price})
            })
            .collect();
        let after = json!({"order_id": id, "customer_id": customer, "at": "2026-11-01T10:00:00", "items": items});
        let value = envelope("c", None, Some(&after), &self.source());
        let entry = self.entry(ORDERS, Kind::Order { id, customer, lines }, Some(("order_id", id)));
        vec![Entry { value: Some(value.into_bytes()), log: Some((self.file, self.pos)), ..entry }]
    }

    fn delete_order(&mut self) -> Vec<Entry> {
        let Some(id) = self.orders.keys().copied().collect::<Vec<_>>().choose(&mut self.random).copied() else {
            return Vec::new();
        };
        self.orders.remove(&id);
        let value = envelope("d", Some(&json!({"order_id": id})), None, &self.source());
        let entry = self.entry(ORDERS, Kind::OrderGone { id }, Some(("order_id", id)));
        vec![
            Entry { value: Some(value.into_bytes()), log: Some((self.file, self.pos)), ..entry },
            self.tombstone(ORDERS, "order_id", id, Kind::OrderGone { id }),
        ]
    }

    fn any(&mut self) -> i64 {
        let ids = self.customers.keys().copied().collect::<Vec<_>>();
        ids.choose(&mut self.random).copied().unwrap_or(1)
    }

    fn row(&mut self, id: i64) -> Row {
        let random = &mut self.random;
        let email = match random.random_range(0..20) {
            0 => None,
            1 => Some("noreply@soak.example".to_owned()),
            2 => Some(format!("no.email.{id}")),
            // Of a member of the loyalty programme, or of some other customer.
            3..7 => Some(format!("Member{}@soak.example", random.random_range(0..200))),
            7 => Some(format!("canary{}@soak.example", random.random_range(1..=id))),
            _ => Some(format!(" Canary{id}@Soak.Example")),
        };
        let number = random.random_range(0..1_000);
        let city = if number % 7 == 0 { None } else { Some(format!("Canaryville {}", number % 13)) };
        [
            ("email", email),
            ("name", Some(format!("Canary Person {number}"))),
            ("address", Some(format!("{number} Canary Road"))),
            ("city", city),
            ("phone", Some(if number % 5 == 0 { String::new() } else { format!("603.{number}") })),
            ("note", Some(format!("note {number}"))),
        ]
        .into()
    }

    fn customer(&self, op: &str, id: i64, row: Row, is_too_deep: bool) -> Entry {
        let mut after = json!(row);
        after["id"] = id.into();
        after["password"] = format!("canary-password-{id}").into();
        if is_too_deep {
            after["nested"] = (0..80).fold(json!(1), |inner, _| json!([inner]));
        }
        let value = envelope(op, None, Some(&after), &self.source());
        let entry = self.entry(CUSTOMERS, Kind::Customer { id, row, is_too_deep }, Some(("id", id)));
        Entry { value: Some(value.into_bytes()), log: Some((self.file, self.pos)), ..entry }
    }

    fn gone(&self, id: i64, moved_to: Option<i64>) -> Entry {
        let value = envelope("d", Some(&json!({"id": id, "email": ""})), None, &self.source());
        Entry {
            value: Some(value.into_bytes()),
            log: Some((self.file, self.pos)),
            new_key: moved_to.map(|id| key("id", id)),
            ..self.entry(CUSTOMERS, Kind::Gone { id, moved_to }, Some(("id", id)))
        }
    }

    fn tombstone(&self, topic: &'static str, column: &'static str, id: i64, kind: Kind) -> Entry {
        self.entry(topic, kind, Some((column, id)))
    }

    fn entry(&self, topic: &'static str, kind: Kind, id: Option<(&'static str, i64)>) -> Entry {
        let key = id.map(|(column, id)| key(column, id));
        Entry {
            topic,
            partition: 0,
            log: None,
            ts_ms: self.ts_ms,
            kind,
            key,
            value: None,
            new_key: None,
            is_sure: false,
        }
    }

    fn source(&self) -> Value {
        json!({
            "file": format!("mysql-bin.{:06}", self.file), "pos": self.pos, "row": 0, "snapshot": "false",
            "ts_ms": self.ts_ms, "table": "customers",
        })
    }
}

fn key(column: &str, id: i64) -> Vec<u8> {
    json!({column: id}).to_string().into_bytes()
}

fn envelope(op: &str, before: Option<&Value>, after: Option<&Value>, source: &Value) -> String {
    json!({"op": op, "before": before, "after": after, "source": source}).to_string()
}

/// On the partition that its key belongs to; of customers there are this many.
fn placed(message: Entry, partitions: i32) -> Entry {
    let sum: i32 = message.key.iter().flatten().map(|byte| i32::from(*byte)).sum();
    let partitions = if message.topic == CUSTOMERS { partitions } else { ORDER_PARTITIONS };
    Entry { partition: sum % partitions, ..message }
}
