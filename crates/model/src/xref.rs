//! Cross-references: what one system currently says under one of its ids, as a set of last-writer-wins registers.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use serde_json::{Number, Value};

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

/// Where and when a register was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Position of the record that gave the value.
    pub position: Position,
    /// Its time.
    pub observed_at: DateTime<Utc>,
}

/// What one system currently says under one of its ids.
///
/// Each register (attribute, email, credential) keeps the value of its newest write, whatever order writes come in. A
/// register written by the newest record of all has the row's `position`; older ones have theirs in
/// `older`. A cleared attribute stays as null, so that an older value cannot come back.
///
/// What the system said before a time can be retired ([`Write::retired`], [`Xref::retire`]): every record from before that
/// time is a delete at its own position, whether it came before the retirement or comes after it.
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
    /// Of registers whose value is older than `position`; also of an email or credential that was cleared.
    pub older: BTreeMap<String, Written>,
    /// Position of the newest delete: nothing at or before it has a value.
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

impl Write {
    /// What is left of a write where the system is retired up to `before`: one from before that time is a delete.
    #[must_use]
    pub fn retired(mut self, before: Option<DateTime<Utc>>) -> Self {
        if before.is_some_and(|before| self.observed_at < before) {
            self.upsert = None;
        }
        self
    }
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
            older: BTreeMap::new(),
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
            Some(fields) => {
                return self.fill_in(&Written { position: write.position, observed_at: write.observed_at }, fields);
            }
            None if newer => {
                self.clear();
                self.tombstone_position = Some(write.position.clone());
                self.position = write.position;
                self.observed_at = write.observed_at;
            }
            None => self.forget_until(write.position),
        }
        Outcome::Changed
    }

    /// Applies once more a record that was landed again, as it is read by now: the mapping may be another one than it was. What
    /// the record gave and does not name any more goes; where it says everything (`is_whole`) and nothing newer is known, so does
    /// what others gave. A record that is read as it was changes nothing.
    pub fn apply_again(&mut self, external_id: &ExternalId, write: Write, is_whole: bool) -> Outcome {
        let Some(fields) = write.upsert.as_ref().filter(|_| self.is_living()) else {
            return self.apply(external_id, write);
        };
        let before = self.clone();
        let says_all = is_whole && write.position >= self.position;
        let is_its = |name: &str| *self.written_at(name) == write.position || says_all && !fields.names(name);
        let registers = self.attributes.keys().map(String::as_str).chain([EMAIL, CREDENTIAL]);
        let its: Vec<String> = registers.filter(|name| is_its(name)).map(str::to_owned).collect();
        for name in its {
            self.forget(&name);
        }
        if write.position == self.position {
            write.upsert.into_iter().for_each(|fields| self.overwrite(fields));
        } else {
            self.apply(external_id, write);
        }
        for (name, value) in &mut self.attributes {
            if let Some(known) = before.attributes.get(name).filter(|known| is_same(known, value)) {
                value.clone_from(known);
            }
        }
        if *self == before { Outcome::Unchanged } else { Outcome::Changed }
    }

    /// Retires what was said before a time, as if those records had been deletes. Every later record has to go through
    /// [`Write::retired`]; then any order of records and retirements gives the same values, as long as the system's times do
    /// not run against its own order around that time. (A record that is known no more, because newer ones overwrote it, left
    /// no time behind.)
    pub fn retire(&mut self, before: DateTime<Utc>) -> Outcome {
        if !self.is_living() {
            return Outcome::Unchanged;
        }
        if self.observed_at < before {
            self.clear();
            self.tombstone_position = Some(self.position.clone());
            return Outcome::Changed;
        }
        let dead = self.older.values().filter(|written| written.observed_at < before);
        match dead.map(|written| &written.position).max().cloned() {
            Some(newest) => {
                self.forget_until(newest);
                Outcome::Changed
            }
            None => Outcome::Unchanged,
        }
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
        let older = Written {
            position: std::mem::replace(&mut self.position, position),
            observed_at: std::mem::replace(&mut self.observed_at, observed_at),
        };
        let known = self.attributes.keys().map(String::as_str);
        let known =
            known.chain(self.email.is_some().then_some(EMAIL)).chain(self.credential.is_some().then_some(CREDENTIAL));
        for name in known {
            if !fields.names(name) && !self.older.contains_key(name) {
                self.older.insert(name.to_owned(), older.clone());
            }
        }
        self.external_id = external_id.clone();
        self.overwrite(fields);
    }

    /// Writes fields at the row's own position.
    fn overwrite(&mut self, fields: CustomerFields) {
        if let Some(email) = fields.email {
            self.note_text(EMAIL, &email);
            self.email = given(email);
        }
        if let Some(credential) = fields.credential {
            self.note_text(CREDENTIAL, &credential);
            self.credential = given(credential);
        }
        for (name, value) in fields.attributes {
            if !self.older.is_empty() {
                self.older.remove(&name);
            }
            self.attributes.insert(name, value);
        }
    }

    /// Notes where an email or credential was written by the newest record. A cleared one has nothing else to be remembered
    /// by, so it is noted even though it is not older than the row.
    fn note_text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            let written = Written { position: self.position.clone(), observed_at: self.observed_at };
            self.older.insert(name.to_owned(), written);
        } else {
            self.older.remove(name);
        }
    }

    /// An upsert older than the row: it gives only what nothing newer gave.
    fn fill_in(&mut self, written: &Written, fields: CustomerFields) -> Outcome {
        let mut outcome = Outcome::Unchanged;
        if let Some(email) = fields.email
            && self.is_older(EMAIL, self.email.is_some(), written)
        {
            self.older.insert(EMAIL.to_owned(), written.clone());
            self.email = given(email);
            outcome = Outcome::Changed;
        }
        if let Some(credential) = fields.credential
            && self.is_older(CREDENTIAL, self.credential.is_some(), written)
        {
            self.older.insert(CREDENTIAL.to_owned(), written.clone());
            self.credential = given(credential);
            outcome = Outcome::Changed;
        }
        for (name, value) in fields.attributes {
            if self.is_older(&name, self.attributes.contains_key(&name), written) {
                self.older.insert(name.clone(), written.clone());
                self.attributes.insert(name, value);
                outcome = Outcome::Changed;
            }
        }
        outcome
    }

    /// Whether a register's value is older than what was `written`, or it has none.
    fn is_older(&self, name: &str, known: bool, written: &Written) -> bool {
        match self.older.get(name) {
            Some(at) => at.position < written.position,
            None => !known,
        }
    }

    /// A delete older than the row: what was written up to it goes.
    fn forget_until(&mut self, tombstone: Position) {
        let is_forgotten = |_: &String, written: &mut Written| written.position <= tombstone;
        let forgotten: Vec<String> = self.older.extract_if(.., is_forgotten).map(|(name, _)| name).collect();
        for name in forgotten {
            self.forget(&name);
        }
        self.tombstone_position = self.tombstone_position.take().max(Some(tombstone));
    }

    /// Where a register that has a value, or was cleared, was written.
    fn written_at(&self, name: &str) -> &Position {
        self.older.get(name).map_or(&self.position, |written| &written.position)
    }

    /// As if nobody had ever given this register.
    fn forget(&mut self, name: &str) {
        self.older.remove(name);
        match name {
            EMAIL => self.email = None,
            CREDENTIAL => self.credential = None,
            _ => {
                self.attributes.remove(name);
            }
        }
    }

    fn clear(&mut self) {
        self.email = None;
        self.credential = None;
        self.attributes.clear();
        self.older.clear();
    }
}

/// Whether two values are one: Postgres writes numbers in its own way, so that `1e2` comes back as `100`.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let exact = |number: &Number| number.as_str().parse::<BigDecimal>();
            one == other || matches!((exact(one), exact(other)), (Ok(one), Ok(other)) if one == other)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_in = |(name, one): (&String, &Value)| other.get(name).is_some_and(|other| is_same(one, other));
            one.len() == other.len() && one.iter().all(is_in)
        }
        _ => one == other,
    }
}

/// The empty text clears.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
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
    use serde_json::json;

    fn id() -> ExternalId {
        ExternalId::from_text("7").unwrap()
    }

    fn at(position: u8) -> Position {
        Position::from(vec![position])
    }

    #[test]
    fn what_is_landed_again_counts_as_it_is_read_by_now_and_what_is_read_as_it_was_changes_nothing() {
        let known = || {
            let mut xref = Xref::first(id(), upsert(1, Some("a@x.org"), &[("old", json!("x")), ("name", json!("A"))]));
            // The newest record leaves the name out.
            xref.apply(&id(), upsert(2, Some("a@x.org"), &[("old", json!("y"))]));
            xref
        };
        let mut xref = known();
        for again in [
            upsert(1, Some("a@x.org"), &[("old", json!("x")), ("name", json!("A"))]),
            upsert(2, Some("a@x.org"), &[("old", json!("y"))]),
        ] {
            assert_eq!(xref.apply_again(&id(), again, false), Outcome::Unchanged);
        }
        assert_eq!(xref, known());
        // Another mapping: an older record fills the gap, and the newest one has the last word, whichever comes first.
        let (older, newest) =
            (upsert(1, Some("a@x.org"), &[("new", json!(1))]), upsert(2, Some("b@x.org"), &[("new", json!(2))]));
        for order in [[&older, &newest], [&newest, &older]] {
            let mut xref = known();
            for again in order {
                xref.apply_again(&id(), again.clone(), false);
            }
            assert_eq!(xref.attributes, [("new".to_owned(), json!(2))].into());
            assert_eq!((xref.email.as_deref(), &xref.position), (Some("b@x.org"), &at(2)));
        }
        // A record that says everything.
        let mut xref = known();
        assert_eq!(xref.apply_again(&id(), upsert(2, Some("a@x.org"), &[("new", json!(2))]), true), Outcome::Changed);
        assert_eq!(xref.attributes, [("new".to_owned(), json!(2))].into());
        assert_eq!(xref.apply_again(&id(), upsert(3, None, &[("new", json!(2))]), true), Outcome::Changed);
        assert_eq!((xref.email.clone(), &xref.position), (None, &at(3)));
        // As Postgres gives numbers back.
        let written: Value = serde_json::from_str(r#"{"points": [1e2, 1.50, "1e2"]}"#).unwrap();
        let known = json!({"points": [100, 1.5, "1e2"]});
        let mut numbers = Xref::first(id(), upsert(1, None, &[("a", known.clone())]));
        assert_eq!(numbers.apply_again(&id(), upsert(1, None, &[("a", written)]), false), Outcome::Unchanged);
        assert_eq!(numbers.attributes["a"], known);
        let close =
            [9_007_199_254_740_992_u64, 9_007_199_254_740_993].map(|number| upsert(1, None, &[("a", number.into())]));
        let mut exact = Xref::first(id(), close[0].clone());
        assert_eq!(exact.apply_again(&id(), close[1].clone(), false), Outcome::Changed);
        // The dead stay so.
        xref.apply(&id(), Write { position: at(4), observed_at: time(4), upsert: None });
        assert_eq!(xref.apply_again(&id(), upsert(4, None, &[("new", json!(2))]), true), Outcome::Unchanged);
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
        let written = Written { position: at(1), observed_at: time(1) };
        assert_eq!(forward.older, BTreeMap::from([("city".to_owned(), written)]));
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

    #[test]
    fn what_is_retired_is_dead_at_its_own_position_and_only_newer_lives() {
        let mut xref = apply_all(&[upsert(1, Some("a@x"), &[("city", "Bern".into())])]);
        assert_eq!(xref.retire(time(1)), Outcome::Unchanged, "not before that time");
        assert_eq!(xref.retire(time(2)), Outcome::Changed);
        assert!(!xref.is_living() && xref.attributes.is_empty() && xref.email.is_none());
        assert_eq!((&xref.tombstone_position, xref.observed_at), (&Some(at(1)), time(1)));
        assert_eq!(xref.retire(time(9)), Outcome::Unchanged, "dead is dead");

        let late = upsert(2, Some("b@x"), &[]).retired(Some(time(5)));
        assert_eq!(late.upsert, None);
        xref.apply(&id(), late);
        assert!(!xref.is_living());
        xref.apply(&id(), upsert(5, None, &[("name", "Ann".into())]).retired(Some(time(5))));
        assert!(xref.is_living() && xref.email.is_none() && xref.attributes.len() == 1);
    }

    #[test]
    fn a_newer_record_lives_without_the_values_that_are_older_than_the_retirement() {
        let mut xref = apply_all(&[
            upsert(1, Some("a@x"), &[("name", "Ann".into()), ("city", "Bern".into())]),
            upsert(4, None, &[("name", "Anna".into())]),
        ]);
        assert_eq!(xref.retire(time(2)), Outcome::Changed);
        assert!(xref.is_living());
        assert_eq!((xref.email, xref.attributes.into_keys().collect::<Vec<_>>()), (None, vec!["name".to_owned()]));
    }

    fn any_write() -> impl Strategy<Value = (bool, Option<u8>, Option<u8>, Option<u8>, Option<u8>)> {
        let register = || proptest::option::of(0..3_u8);
        (proptest::bool::weighted(0.2), register(), register(), register(), register())
    }

    fn any(
        position: u8,
        deletes: bool,
        email: Option<u8>,
        credential: Option<u8>,
        a: Option<u8>,
        b: Option<u8>,
    ) -> Write {
        let text = |value: Option<u8>| value.map(|value| if value == 0 { String::new() } else { format!("v{value}") });
        let value = |value: u8| if value == 0 { Value::Null } else { Value::from(value) };
        let attributes =
            [("a", a), ("b", b)].into_iter().filter_map(|(name, v)| Some((name.to_owned(), value(v?)))).collect();
        let fields = CustomerFields { email: text(email), credential: text(credential), attributes };
        Write { position: at(position), observed_at: time(position), upsert: (!deletes).then_some(fields) }
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_of_writes_give_one_cross_reference(
            writes in proptest::collection::vec(any_write(), 1..9),
            order in proptest::collection::vec(0..64_usize, 0..24),
        ) {
            let writes: Vec<Write> = (1_u8..).zip(writes).map(|(position, (deletes, email, credential, a, b))| {
                any(position, deletes, email, credential, a, b)
            }).collect();
            let mut shuffled: Vec<Write> = order.iter().map(|pick| writes[pick % writes.len()].clone()).collect();
            shuffled.extend(writes.iter().rev().cloned());
            prop_assert_eq!(apply_all(&writes), apply_all(&shuffled));

            let mut again = apply_all(&writes);
            for write in shuffled {
                prop_assert_eq!(again.apply_again(&id(), write, false), Outcome::Unchanged);
            }
            prop_assert_eq!(again, apply_all(&writes));
        }

        #[test]
        fn landed_again_under_another_mapping_records_give_what_they_would_have_given_at_first(
            deletes in proptest::collection::vec(proptest::bool::weighted(0.2), 1..9),
            values in proptest::collection::vec((0..3_u8, 0..3_u8, 0..3_u8), 9),
            order in proptest::collection::vec(0..64_usize, 0..24),
        ) {
            let mapped = |names_b: bool| -> Vec<Write> {
                (1_u8..).zip(&deletes).zip(&values).map(|((position, deletes), (email, a, b))| {
                    let b = if names_b { (None, Some(*b)) } else { (Some(*b), None) };
                    any(position, *deletes, Some((*email + u8::from(names_b)) % 3), b.0, Some(*a), b.1)
                }).collect()
            };
            let (before, after) = (mapped(false), mapped(true));
            let mut again: Vec<Write> = order.iter().map(|pick| after[pick % after.len()].clone()).collect();
            again.extend(after.iter().cloned());
            let mut xref = apply_all(&before);
            for write in again {
                xref.apply_again(&id(), write, false);
            }
            prop_assert_eq!(xref, apply_all(&after));
        }

        #[test]
        fn retired_before_or_after_its_records_a_cross_reference_is_the_same(
            writes in proptest::collection::vec(any_write(), 1..9),
            order in proptest::collection::vec(0..64_usize, 0..24),
            retirements in proptest::collection::vec((0..24_usize, 0..12_u8), 1..4),
        ) {
            let writes: Vec<Write> = (1_u8..).zip(writes).map(|(position, (deletes, email, credential, a, b))| {
                // Clocks are coarse, but do not run back.
                Write { observed_at: time(position / 2), ..any(position, deletes, email, credential, a, b) }
            }).collect();
            let last = retirements.iter().map(|(_, before)| time(*before)).max();
            let known_first: Vec<Write> = writes.iter().map(|write| write.clone().retired(last)).collect();
            let expected = apply_all(&known_first);

            let mut shuffled: Vec<Write> = order.iter().map(|pick| writes[pick % writes.len()].clone()).collect();
            shuffled.extend(writes.iter().rev().cloned());
            let mut found: Option<Xref> = None;
            let mut in_force = None;
            for (step, write) in shuffled.into_iter().enumerate() {
                let write = write.retired(in_force);
                match &mut found {
                    Some(xref) => { xref.apply(&id(), write); }
                    None => found = Some(Xref::first(id(), write)),
                }
                for (_, before) in retirements.iter().filter(|(at, _)| *at == step) {
                    in_force = in_force.max(Some(time(*before)));
                    found.as_mut().unwrap().retire(time(*before));
                }
            }
            let mut found = found.unwrap();
            found.retire(last.unwrap());
            prop_assert_eq!(found.is_living(), expected.is_living());
            // Where a living row's older records died is forgotten with them, until they come again.
            prop_assert_eq!(&Xref { tombstone_position: None, ..found.clone() }, &Xref { tombstone_position: None, ..expected.clone() });
            for write in known_first {
                found.apply(&id(), write);
            }
            prop_assert_eq!(found, expected);
        }
    }
}
