//! A page as it is landed: its records and what lies in them, without those that have not changed.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use model::{Entity, Record};
use serde_json::json;
use sha2::{Digest, Sha256};
use staging::lists::{LONGEST_KEY, Listed};
use staging::{Batch, DeadLetter};

use super::{Spec, Trouble};
use crate::answer::{Bad, Elements, Form, One, below, raw};
use crate::ask::Asker;
use crate::reread::Asked;
use crate::validators::fingerprint;

/// What a page holds.
#[derive(Default)]
pub(super) struct Page {
    /// In the order received; of one id the last one counts.
    pub items: Vec<Item>,
    /// How many records the list itself has.
    pub records: usize,
    /// Records that come again later on the same page.
    pub repeated: usize,
    /// Products that its orders name.
    pub products: Vec<String>,
}

/// A record or a dead letter of a page, with what tells it from what was there before.
pub(super) struct Item {
    pub listed: Listed,
    pub content: Content,
}

pub(super) enum Content {
    Record(Box<Record>),
    Letter(DeadLetter),
}

impl Page {
    /// Reads a page that was answered at `at`.
    pub(super) fn read(asker: &Asker, spec: &Spec, body: &[u8], at: DateTime<Utc>) -> Result<Self, Trouble> {
        let elements = match asker.reader(&spec.mapping).list_below(body, spec.list.records.as_deref(), at) {
            Elements::Each(elements) => elements,
            Elements::Bad(_) | Elements::Unusable => return Err(Trouble::NoRecords),
        };
        let mut page = Self { records: elements.len(), ..Self::default() };
        for element in elements {
            page.take(asker, spec, element, at);
        }
        page.keep_the_last();
        Ok(page)
    }

    fn take(&mut self, asker: &Asker, spec: &Spec, element: One, at: DateTime<Utc>) {
        let record = match element {
            One::Record(record) => record,
            One::Bad(bad) | One::Unusable(bad) => {
                let letter = Letter { entity: spec.list.entity, customer: None, at };
                return self.items.push(letter.item(asker, spec, bad));
            }
        };
        for mapping in &spec.nested {
            let customer = record.mapped.external_id.as_str();
            for element in asker.nested(mapping, &record) {
                match element {
                    One::Record(mut nested) => {
                        self.products.extend(asker.complete(&mut nested, customer));
                        self.items.push(Item::of(asker, nested));
                    }
                    One::Bad(bad) | One::Unusable(bad) => {
                        let letter = Letter { entity: mapping.entity(), customer: Some(customer), at };
                        self.items.push(letter.item(asker, spec, bad));
                    }
                }
            }
        }
        if spec.list.entity == Entity::Order {
            self.products.extend(asker.named_products(&record));
        }
        self.items.push(Item::of(asker, record));
    }

    /// Records of one page have one position: of two with one id only the later one may land.
    fn keep_the_last(&mut self) {
        let mut seen = HashSet::new();
        let before = self.items.len();
        let mut items: Vec<Item> = std::mem::take(&mut self.items).into_iter().rev().collect();
        items.retain(|item| seen.insert((item.listed.entity, item.listed.key.clone())));
        items.reverse();
        self.repeated = before - items.len();
        self.items = items;
    }

    /// Leaves out what looks as it did before.
    pub(super) fn forget_known(&mut self, known: &HashMap<(Entity, String), String>) {
        self.items
            .retain(|Item { listed, .. }| known.get(&(listed.entity, listed.key.clone())) != Some(&listed.fingerprint));
    }

    /// What to ask `staging::lists::known` about.
    pub(super) fn keys(&self) -> Vec<(Entity, String)> {
        self.items.iter().map(|item| (item.listed.entity, item.listed.key.clone())).collect()
    }
}

impl Item {
    fn of(asker: &Asker, record: Record) -> Self {
        let listed = Listed {
            entity: record.mapped.entity,
            key: key(record.mapped.external_id.as_str()),
            fingerprint: looks(asker, &record),
        };
        Self { listed, content: Content::Record(Box::new(record)) }
    }

    /// Puts it into a batch.
    pub(super) fn add_to(&self, batch: &mut Batch) {
        match &self.content {
            Content::Record(record) => batch.push(record),
            Content::Letter(letter) => batch.push_dead_letter(letter.clone()),
        }
    }

    /// Makes a record that the database refuses a dead letter.
    pub(super) fn give_up(&mut self, spec: &Spec) {
        if let Content::Record(record) = &self.content {
            let reject = model::Reject::new(model::Reason::BadValue, "the database refuses to store it");
            self.content = Content::Letter(DeadLetter::of_record(json!({ "request": spec.label() }), reject, record));
        }
    }
}

/// What a dead letter of a page needs beside the record.
struct Letter<'a> {
    entity: Entity,
    customer: Option<&'a str>,
    at: DateTime<Utc>,
}

impl Letter<'_> {
    fn item(&self, asker: &Asker, spec: &Spec, bad: Bad) -> Item {
        let fingerprint = fingerprint(&asker.settings, &bad.bytes);
        let key = bad.external_id.as_deref().map_or_else(|| format!("? {fingerprint}"), key);
        let origin = json!({ "request": spec.label() });
        let letter = DeadLetter::new(origin, bad.reject, &bad.bytes).with_external_id(bad.external_id);
        // A list within a record that cannot be read as one is a letter whole; all others are records.
        let letter = letter.with_context(&Asked {
            entity: self.entity.as_str().into(),
            form: if self.customer.is_some() { bad.form } else { Form::Record },
            at: Some(self.at),
            email: None,
            customer: self.customer.map(Into::into),
        });
        Item { listed: Listed { entity: self.entity, key, fingerprint }, content: Content::Letter(letter) }
    }
}

/// What of a record decides whether it has changed: of a customer what is mapped, of all others what is kept as it came.
fn looks(asker: &Asker, record: &Record) -> String {
    let mapped = &record.mapped;
    let payload = record.payload.as_deref().filter(|_| mapped.entity != Entity::Customer);
    let text = format!(
        "{} {} {:?} {:?} {} {payload:?}",
        asker.rules(),
        mapped.external_id.to_json(),
        mapped.email,
        mapped.credential,
        mapped.attributes
    );
    fingerprint(&asker.settings, text.as_bytes())
}

/// An id as a key; a long one by its digest.
fn key(id: &str) -> String {
    if id.len() <= LONGEST_KEY { id.to_owned() } else { format!("# {}", hex::encode(Sha256::digest(id))) }
}

/// The text of a page's records, by which a page that comes twice is known; `None` when there are none.
pub(super) fn records_text<'a>(spec: &Spec, body: &'a [u8]) -> Option<&'a str> {
    let found = below(raw(body).ok()?.get(), spec.list.records.as_deref())?;
    let is_empty = found.trim_start_matches('[').trim_end_matches(']').trim().is_empty();
    (!is_empty).then_some(found)
}
