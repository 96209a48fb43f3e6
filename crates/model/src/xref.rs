//! Cross-references: what one system currently says under one of its ids, as a set of last-writer-wins registers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{ExternalId, Position};

/// The registers that are not attributes; no attribute may bear their names.
const EMAIL: &str = "email";
const CREDENTIAL: &str = "credential";

/// What one record says about a customer. `None` and missing attributes keep, `Some("")` and null clear.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CustomerFields {
    /// The email as the system writes it.
    pub email: Option<String>,
    /// The credential as replaced before staging.
    pub credential: Option<String>,
    /// The mapped attributes.
    pub attributes: BTreeMap<String, Value>,
}

/// One write to a cross-reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Where it stands in the system's own order.
    pub position: Position,
    /// When the system says that it happened.
    pub observed_at: DateTime<Utc>,
    /// The fields of an upsert, `None` for a delete.
    pub upsert: Option<CustomerFields>,
}

/// What one system currently says under one of its ids.
///
/// Each register (attribute, email, credential) keeps the value of its newest write, whatever order writes come in. A
/// register written by the newest record of all has the row's `position`; older ones have theirs in
/// `attribute_positions`. A cleared attribute stays as null, so that an older value cannot come back.
#[derive(Clone, Debug, PartialEq)]
pub struct Xref {
    /// The id, with the JSON type of its newest record.
    pub external_id: ExternalId,
    /// The email as the system writes it.
    pub email: Option<String>,
    /// The digest of the credential.
    pub credential: Option<String>,
    /// Attributes with a value, and null for those that were cleared.
    pub attributes: BTreeMap<String, Value>,
    /// Position of the newest record, deletes included.
    pub position: Position,
    /// Positions of registers whose value is older than `position`; also of an email or credential that was cleared.
    pub attribute_positions: BTreeMap<String, Position>,
    /// Position of the newest delete: nothing older than it has a value.
    pub tombstone_position: Option<Position>,
    /// The time of the newest record.
    pub observed_at: DateTime<Utc>,
}

/// What a write did to a cross-reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing at all: known already, or too old to matter.
    Unchanged,
    /// Something: the row has to be written.
    Changed,
}

impl Xref {
    /// The cross-reference after the first record of its id.
    pub fn first(external_id: ExternalId, write: Write) -> Self {
        let mut xref = Self {
            external_id,
            email: None,
            credential: None,
            attributes: BTreeMap::new(),
            position: write.position.clone(),
            attribute_positions: BTreeMap::new(),
            tombstone_position: None,
            observed_at: write.observed_at,
        };
        match write.upsert {
            Some(fields) => xref.overwrite(fields),
            None => xref.tombstone_position = Some(write.position),
        }
        xref
    }

    /// Whether the system still has this id.
    pub fn is_living(&self) -> bool {
        self.tombstone_position.as_ref().is_none_or(|tombstone| *tombstone < self.position)
    }

    /// Applies one more record of this id. Any order, any repetition and any batching of the same writes gives the same
    /// cross-reference.
    pub fn apply(&mut self, external_id: &ExternalId, write: Write) -> Outcome {
        if write.position == self.position
            || self.tombstone_position.as_ref().is_some_and(|dead| write.position <= *dead)
        {
            return Outcome::Unchanged;
        }
        let newer = write.position > self.position;
        match write.upsert {
            Some(fields) if newer => self.renew(external_id, write.position, write.observed_at, fields),
            Some(fields) => return self.fill_in(&write.position, fields),
            None if newer => {
                self.clear();
                self.tombstone_position = Some(write.position.clone());
                self.position = write.position;
                self.observed_at = write.observed_at;
            }
            None => self.forget_before(write.position),
        }
        Outcome::Changed
    }

    /// Whether a complete record says exactly what is known; a nightly export of it changes nothing.
    pub fn says_the_same(&self, fields: &CustomerFields) -> bool {
        fn same(field: Option<&String>, known: Option<&String>) -> bool {
            field.is_none_or(|field| known.map_or("", String::as_str) == field)
        }
        self.is_living()
            && same(fields.email.as_ref(), self.email.as_ref())
            && same(fields.credential.as_ref(), self.credential.as_ref())
            && fields.attributes.iter().all(|(name, value)| self.attributes.get(name).unwrap_or(&Value::Null) == value)
    }

    /// The values as they would be written anew, for the new key of a primary-key change.
    pub fn living_fields(&self) -> Option<CustomerFields> {
        self.is_living().then(|| CustomerFields {
            email: self.email.clone(),
            credential: self.credential.clone(),
            attributes: self.attributes.clone(),
        })
    }

    /// A newer upsert: registers that it does not name grow older than the row.
    fn renew(
        &mut self,
        external_id: &ExternalId,
        position: Position,
        observed_at: DateTime<Utc>,
        fields: CustomerFields,
    ) {
        let older = std::mem::replace(&mut self.position, position);
        let known = self.attributes.keys().map(String::as_str);
        let known =
            known.chain(self.email.is_some().then_some(EMAIL)).chain(self.credential.is_some().then_some(CREDENTIAL));
        for name in known {
            if !fields.names(name) && !self.attribute_positions.contains_key(name) {
                self.attribute_positions.insert(name.to_owned(), older.clone());
            }
        }
        self.external_id = external_id.clone();
        self.observed_at = observed_at;
        self.overwrite(fields);
    }

    /// Writes fields at the row's own position.
    fn overwrite(&mut self, fields: CustomerFields) {
        let position = self.position.clone();
        if let Some(email) = fields.email {
            self.email = self.set_text(EMAIL, email, &position);
        }
        if let Some(credential) = fields.credential {
            self.credential = self.set_text(CREDENTIAL, credential, &position);
        }
        for (name, value) in fields.attributes {
            if !self.attribute_positions.is_empty() {
                self.attribute_positions.remove(&name);
            }
            self.attributes.insert(name, value);
        }
    }

    /// An upsert older than the row: it gives only what nothing newer gave.
    fn fill_in(&mut self, position: &Position, fields: CustomerFields) -> Outcome {
        let mut outcome = Outcome::Unchanged;
        if let Some(email) = fields.email
            && self.is_older(EMAIL, self.email.is_some(), position)
        {
            self.email = self.set_text(EMAIL, email, position);
            outcome = Outcome::Changed;
        }
        if let Some(credential) = fields.credential
            && self.is_older(CREDENTIAL, self.credential.is_some(), position)
        {
            self.credential = self.set_text(CREDENTIAL, credential, position);
            outcome = Outcome::Changed;
        }
        for (name, value) in fields.attributes {
            if self.is_older(&name, self.attributes.contains_key(&name), position) {
                self.attribute_positions.insert(name.clone(), position.clone());
                self.attributes.insert(name, value);
                outcome = Outcome::Changed;
            }
        }
        outcome
    }

    /// Whether a register's value is older than `position`, or it has none.
    fn is_older(&self, name: &str, known: bool, position: &Position) -> bool {
        match self.attribute_positions.get(name) {
            Some(at) => at < position,
            None => !known,
        }
    }

    /// Notes the position of an email or credential and returns its value. A cleared one has nothing else to be remembered
    /// by, so its position is noted even when it is the row's own.
    fn set_text(&mut self, name: &str, value: String, position: &Position) -> Option<String> {
        if value.is_empty() || *position < self.position {
            self.attribute_positions.insert(name.to_owned(), position.clone());
        } else {
            self.attribute_positions.remove(name);
        }
        (!value.is_empty()).then_some(value)
    }

    /// A delete older than the row: what was written before it goes.
    fn forget_before(&mut self, tombstone: Position) {
        let forgotten: Vec<String> =
            self.attribute_positions.iter().filter(|(_, at)| **at < tombstone).map(|(name, _)| name.clone()).collect();
        for name in forgotten {
            self.attribute_positions.remove(&name);
            match name.as_str() {
                EMAIL => self.email = None,
                CREDENTIAL => self.credential = None,
                _ => {
                    self.attributes.remove(&name);
                }
            }
        }
        self.tombstone_position = Some(tombstone);
    }

    fn clear(&mut self) {
        self.email = None;
        self.credential = None;
        self.attributes.clear();
        self.attribute_positions.clear();
    }
}

impl CustomerFields {
    fn names(&self, register: &str) -> bool {
        match register {
            EMAIL => self.email.is_some(),
            CREDENTIAL => self.credential.is_some(),
            name => self.attributes.contains_key(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> ExternalId {
        ExternalId::from_text("7").unwrap()
    }

    fn at(position: u8) -> Position {
        Position::from(vec![position])
    }

    fn upsert(position: u8, email: Option<&str>, attributes: &[(&str, Value)]) -> Write {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let fields = CustomerFields { email: email.map(str::to_owned), credential: None, attributes };
        Write { position: at(position), observed_at: time(position), upsert: Some(fields) }
    }

    fn delete(position: u8) -> Write {
        Write { position: at(position), observed_at: time(position), upsert: None }
    }

    fn time(position: u8) -> DateTime<Utc> {
        DateTime::from_timestamp(i64::from(position), 0).unwrap()
    }

    fn apply_all(writes: &[Write]) -> Xref {
        let mut writes = writes.iter().cloned();
        let mut xref = Xref::first(id(), writes.next().unwrap());
        writes.for_each(|write| {
            xref.apply(&id(), write);
        });
        xref
    }

    #[test]
    fn partial_records_converge_in_both_orders() {
        let v1 = upsert(1, None, &[("name", "Old".into()), ("city", "Bern".into())]);
        let v2 = upsert(2, None, &[("name", "New".into())]);
        let forward = apply_all(&[v1.clone(), v2.clone()]);
        assert_eq!(forward, apply_all(&[v2, v1]));
        assert_eq!(forward.attributes["name"], "New");
        assert_eq!(forward.attributes["city"], "Bern");
        assert_eq!(forward.attribute_positions, BTreeMap::from([("city".to_owned(), at(1))]));
    }

    #[test]
    fn what_was_cleared_does_not_come_back() {
        let xref = apply_all(&[
            upsert(3, Some(""), &[("city", Value::Null)]),
            upsert(1, Some("a@x"), &[("city", "Bern".into())]),
        ]);
        assert_eq!((xref.email, xref.attributes["city"].clone()), (None, Value::Null));
    }

    #[test]
    fn a_delete_kills_what_is_older_and_only_newer_revives_from_nothing() {
        let history = [upsert(1, Some("a@x"), &[("city", "Bern".into())]), delete(2)];
        assert!(!apply_all(&history).is_living());
        let mut xref = apply_all(&[history[1].clone(), history[0].clone()]);
        assert!(!xref.is_living() && xref.attributes.is_empty());
        assert_eq!(xref.apply(&id(), upsert(3, None, &[("name", "Ann".into())])), Outcome::Changed);
        assert!(xref.is_living() && xref.email.is_none() && xref.attributes.len() == 1);
    }

    #[test]
    fn an_equal_position_changes_nothing() {
        let mut xref = apply_all(&[upsert(1, Some("a@x"), &[])]);
        assert_eq!(xref.apply(&id(), upsert(1, Some("b@x"), &[])), Outcome::Unchanged);
        assert_eq!(xref.email.as_deref(), Some("a@x"));
    }

    #[test]
    fn an_unchanged_member_is_recognised_whole() {
        let xref = apply_all(&[upsert(1, Some("a@x"), &[("points", "47".into()), ("note", Value::Null)])]);
        let again = |email: &str, points: Value| CustomerFields {
            email: Some(email.to_owned()),
            credential: None,
            attributes: BTreeMap::from([("points".to_owned(), points), ("note".to_owned(), Value::Null)]),
        };
        assert!(xref.says_the_same(&again("a@x", "47".into())));
        assert!(!xref.says_the_same(&again("a@x", 47.into())));
        assert!(!xref.says_the_same(&again("b@x", "47".into())));
    }

    fn any_write() -> impl Strategy<Value = (bool, Option<u8>, Option<u8>, Option<u8>, Option<u8>)> {
        let register = || proptest::option::of(0..3_u8);
        (proptest::bool::weighted(0.2), register(), register(), register(), register())
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_of_writes_give_one_cross_reference(
            writes in proptest::collection::vec(any_write(), 1..9),
            order in proptest::collection::vec(0..64_usize, 0..24),
        ) {
            let text = |value: Option<u8>| value.map(|value| if value == 0 { String::new() } else { format!("v{value}") });
            let value = |value: u8| if value == 0 { Value::Null } else { Value::from(value) };
            let writes: Vec<Write> = (1_u8..).zip(writes).map(|(position, (deletes, email, credential, a, b))| {
                let attributes = [("a", a), ("b", b)].into_iter()
                    .filter_map(|(name, v)| Some((name.to_owned(), value(v?)))).collect();
                let fields = CustomerFields { email: text(email), credential: text(credential), attributes };
                Write { position: at(position), observed_at: time(position), upsert: (!deletes).then_some(fields) }
            }).collect();
            let mut shuffled: Vec<Write> = order.iter().map(|pick| writes[pick % writes.len()].clone()).collect();
            shuffled.extend(writes.iter().rev().cloned());
            prop_assert_eq!(apply_all(&writes), apply_all(&shuffled));
        }
    }
}
