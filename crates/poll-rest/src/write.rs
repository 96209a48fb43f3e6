//! One edit that is written through: what the source says now, whether that contradicts, and what it is sent.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use model::mapping::{Context, CustomerMapping, Method, WriteMapping};
use model::{Fields, Record, parse_time};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use staging::outbox::{Edits, Kind, Leased, Outcome};
use uuid::Uuid;

use crate::Settings;
use crate::answer::{Elements, One};
use crate::ask::Asker;
use crate::client::Content;
use crate::error::{ConfigError, Failure};
use crate::template::Template;

/// So often the source may say that it changed in between before that counts as its refusal.
const CONFLICTS: i32 = 5;

/// How a source is written to.
pub(crate) struct Writes {
    update: Option<Write>,
    create: Option<Write>,
}

struct Write {
    /// The label of its metric.
    name: &'static str,
    mapping: WriteMapping,
    /// Those that the body names.
    attributes: BTreeSet<String>,
    template: Template,
}

/// What came of trying to send an edit.
pub(crate) enum Tried {
    /// It needs no further try.
    Done(Outcome),
    /// It is tried again later; why.
    Again(String),
    /// The source could not be asked: that says nothing of the edit.
    NotAsked,
    /// It was taken back meanwhile.
    Gone,
}

impl From<Failure> for Tried {
    fn from(failure: Failure) -> Self {
        if failure.leaves_the_poll() { Self::NotAsked } else { Self::Again(failure.to_string()) }
    }
}

impl Writes {
    pub(crate) fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let Some(customer) = &settings.customer else { return Ok(Self { update: None, create: None }) };
        let write = |key: &'static str, name, mapping: &Option<WriteMapping>, allowed: &[&str]| {
            mapping.as_ref().map(|mapping| Write::new(settings, customer, (key, name), mapping, allowed)).transpose()
        };
        let update = write("customer.update", "update_customer", &customer.update, &["external_id", "email"])?;
        let create = write("customer.create", "create_customer", &customer.create, &["email"])?;
        if create.as_ref().is_some_and(|create| create.mapping.modified.is_some()) {
            return Err(ConfigError::Modified("customer.create"));
        }
        Ok(Self { update, create })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.update.is_none() && self.create.is_none()
    }
}

impl Write {
    fn new(
        settings: &Settings,
        customer: &CustomerMapping,
        (key, name): (&'static str, &'static str),
        mapping: &WriteMapping,
        allowed: &[&str],
    ) -> Result<Self, ConfigError> {
        let body = |problem| ConfigError::Body { key, problem };
        if customer.request.is_none() {
            return Err(ConfigError::NoCustomerToWrite(key));
        }
        let template = Template::of_list(settings.base_url.expose_secret(), key, &mapping.request, allowed)?;
        let attributes =
            mapping.attributes().map_err(|text| body(format!("has a brace without its other half: {text:?}")))?;
        if let Some(unknown) = attributes.iter().find(|name| !customer.attributes.contains_key(*name)) {
            let known: Vec<&str> = customer.attributes.keys().map(String::as_str).collect();
            let problem = format!("contains {{{unknown}}}; it may contain external_id, email, {}", known.join(", "));
            return Err(body(problem));
        }
        if key == "customer.update" && attributes.is_empty() {
            return Err(body("names no attribute".to_owned()));
        }
        Ok(Self { name, mapping: mapping.clone(), attributes, template })
    }

    fn method(&self, default: Method) -> reqwest::Method {
        match self.mapping.method.unwrap_or(default) {
            Method::Patch => reqwest::Method::PATCH,
            Method::Put => reqwest::Method::PUT,
            Method::Post => reqwest::Method::POST,
        }
    }

    fn sends_all(&self) -> bool {
        !matches!(self.mapping.method, None | Some(Method::Patch))
    }
}

impl Asker {
    /// Tries to send an edit to a source that says this now of the customer's email; `None` when nobody can tell.
    pub(crate) async fn write(&self, edit: &Leased, found: Option<Vec<Record>>) -> Result<Tried, Failure> {
        let Some(found) = found else {
            return Ok(Tried::Again("what the source says of the customer cannot be read".to_owned()));
        };
        let written = match edit.kind {
            Kind::Update => self.update(edit, &found).await,
            Kind::Create => self.create(edit, &found).await,
        };
        match written {
            Ok(outcome) => Ok(Tried::Done(outcome)),
            // Somebody else was faster: what the source says now decides, next time.
            Err(Failure::Status { status: status @ (409 | 412), .. }) if edit.attempts < CONFLICTS => {
                Ok(Tried::Again(format!("status {status}: the source says that it has changed meanwhile")))
            }
            Err(failure @ Failure::Status { .. }) if !failure.is_the_sources() => {
                Ok(Tried::Done(refused(failure.to_string())))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn update(&self, edit: &Leased, found: &[Record]) -> Result<Outcome, Failure> {
        let Some(write) = &self.writes.update else { return Ok(refused("customer.update is not configured any more")) };
        if let Some(name) = edit.edits.keys().find(|name| !write.attributes.contains(*name)) {
            return Ok(refused(format!("customer.update does not name {name} any more")));
        }
        // Who was made by hand has another id there, and is known by the email.
        let is_meant = |record: &&Record| {
            edit.system != self.settings.source || record.mapped.external_id.as_str() == edit.external_id
        };
        let Some(record) = found.iter().find(is_meant) else {
            return Ok(refused("the source does not know the customer under this email"));
        };
        let now = Says::of(record, write.mapping.modified.as_deref(), &self.settings.context);
        let plan = now.plan(&edit.edits, edit.edited_at);
        self.change(write, edit, record, now.attributes, plan).await
    }

    /// Sends what is to be changed of a customer of whom the source says this now.
    async fn change(
        &self,
        write: &Write,
        edit: &Leased,
        record: &Record,
        mut values: Map<String, Value>,
        Plan { changed, overruled }: Plan<'_>,
    ) -> Result<Outcome, Failure> {
        if !changed.is_empty() {
            values.extend(changed.iter().map(|name| ((*name).to_owned(), edit.edits[*name].value.clone())));
            values.insert("external_id".to_owned(), record.mapped.external_id.to_json());
            values.insert("email".to_owned(), edit.email.clone().into());
            let body = write.mapping.fill(&values, Some(&changed).filter(|_| !write.sends_all()));
            let ids = [("external_id", record.mapped.external_id.as_str()), ("email", edit.email.as_str())];
            let Some(url) = write.template.fill(&ids) else {
                return Ok(refused("customer.update.request makes no URL"));
            };
            let key = key(edit, write, &body);
            self.requester.send(write.name, write.method(Method::Patch), &url, &body, &key).await?;
        }
        Ok(Outcome::Settled { overruled })
    }

    async fn create(&self, edit: &Leased, found: &[Record]) -> Result<Outcome, Failure> {
        let Some(write) = &self.writes.create else { return Ok(refused("customer.create is not configured any more")) };
        if let Some(record) = found.first() {
            return self.is_there(write, edit, record).await;
        }
        let mut values: Map<String, Value> =
            edit.edits.iter().map(|(name, wanted)| (name.clone(), wanted.value.clone())).collect();
        values.insert("email".to_owned(), edit.email.clone().into());
        let body = write.mapping.fill(&values, None);
        let Some(url) = write.template.fill(&[("email", edit.email.as_str())]) else {
            return Ok(refused("customer.create.request makes no URL"));
        };
        let key = key(edit, write, &body);
        self.requester.send(write.name, write.method(Method::Post), &url, &body, &key).await?;
        Ok(Outcome::Settled { overruled: Vec::new() })
    }

    /// The source has this email already, maybe because an earlier try has arrived: then it says what was sent, and gets what
    /// was edited since. Of whom it knew before, what it says stands, whenever it was said.
    async fn is_there(&self, create: &Write, edit: &Leased, record: &Record) -> Result<Outcome, Failure> {
        let now = Says::of(record, None, &self.settings.context);
        let Plan { changed, mut overruled } = now.plan(&edit.edits, edit.edited_at);
        let update = self.writes.update.as_ref();
        let is_taken = |name: &str| update.is_some_and(|update| update.attributes.contains(name));
        let (changed, untaken): (BTreeSet<_>, BTreeSet<_>) = changed.into_iter().partition(|name| is_taken(name));
        overruled.extend(untaken.into_iter().map(str::to_owned));
        overruled.retain(|name| is_taken(name) || create.attributes.contains(name));
        let Some(update) = update else { return Ok(Outcome::Settled { overruled }) };
        self.change(update, edit, record, now.attributes, Plan { changed, overruled }).await
    }

    /// Whom the source knows under an email; `None` when nobody can tell from its answer.
    pub(crate) async fn says_now(&self, email: &str) -> Result<Option<Vec<Record>>, Failure> {
        let Some(request) = &self.requests.customer else { return Ok(None) };
        let Some(url) = request.template.fill(&[("email", email)]) else { return Ok(Some(Vec::new())) };
        let reply = self.requester.get(request.name(), &url, None).await?;
        let bytes = match reply.content {
            Content::Body { bytes, .. } => bytes,
            Content::NotFound | Content::Nothing => return Ok(Some(Vec::new())),
            Content::NotModified => return Ok(None),
        };
        let Elements::Each(elements) = self.reader(&request.mapping).one(&bytes, reply.at) else { return Ok(None) };
        let count = elements.len();
        let records: Vec<Record> = elements
            .into_iter()
            .filter_map(|element| match element {
                One::Record(record) => Some(record),
                One::Bad(_) | One::Unusable(_) => None,
            })
            .collect();
        Ok((count == 0 || !records.is_empty()).then_some(records))
    }
}

/// The same for the same once more. Not for what the edit has become since, or for changing instead of making the customer: a
/// source that honours keys would answer that as it has answered before, and do nothing.
fn key(edit: &Leased, write: &Write, body: &Value) -> String {
    Uuid::new_v5(&edit.edit_id, format!("{} {body}", write.name).as_bytes()).to_string()
}

fn refused(reason: impl Into<String>) -> Outcome {
    Outcome::Refused { reason: reason.into() }
}

/// What a source says of a customer now.
struct Says {
    attributes: Map<String, Value>,
    /// When it last changed the customer, if it says so.
    modified: Option<DateTime<Utc>>,
}

/// What is to be sent of an edit.
struct Plan<'e> {
    changed: BTreeSet<&'e str>,
    /// What the source has changed itself, later than it was edited.
    overruled: Vec<String>,
}

impl Says {
    fn of(record: &Record, modified: Option<&str>, context: &Context) -> Self {
        let payload = Fields::from_json(record.payload.as_deref().unwrap_or_default(), None).unwrap_or_default();
        let text = modified.and_then(|path| payload.get(path).text());
        Self {
            // What the mapping has just written reads back.
            attributes: serde_json::from_str(&record.mapped.attributes).unwrap_or_default(),
            modified: text.and_then(|text| parse_time(&text, context.timezone)),
        }
    }

    /// Last write wins, attribute by attribute. A source that still says what the edit replaced has not changed it, whatever
    /// else of the customer it has; one that says something else has, and wins unless it did so before the edit.
    fn plan<'e>(&self, edits: &'e Edits, edited_at: DateTime<Utc>) -> Plan<'e> {
        let (mut changed, mut overruled) = (BTreeSet::new(), Vec::new());
        for (name, wanted) in edits {
            let says = self.attributes.get(name).unwrap_or(&Value::Null);
            if is_same(says, &wanted.value) {
                continue;
            }
            let is_unchanged = wanted.replaced.iter().any(|replaced| is_same(says, replaced));
            if is_unchanged || self.modified.is_some_and(|modified| modified <= edited_at) {
                changed.insert(name.as_str());
            } else {
                overruled.push(name.clone());
            }
        }
        Plan { changed, overruled }
    }
}

/// Null and the empty text are no value.
fn is_same(one: &Value, other: &Value) -> bool {
    let has_value = |value: &Value| !value.is_null() && value.as_str() != Some("");
    one == other || !has_value(one) && !has_value(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use serde_json::json;
    use staging::outbox::Wanted;

    #[test]
    fn a_source_wins_only_for_what_it_has_changed_itself_and_later() {
        let edited_at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let later = edited_at + TimeDelta::seconds(1);
        let edits = Edits::from([("name".to_owned(), Wanted { value: json!("Annie"), replaced: vec![json!("Ann")] })]);
        for (says, modified, sent, overruled) in [
            (json!("Ann"), None, true, false),
            (json!("Ann"), Some(later), true, false),
            (json!("Annie"), Some(later), false, false),
            (json!("Anna"), Some(edited_at), true, false),
            (json!("Anna"), Some(later), false, true),
            (json!("Anna"), None, false, true),
            (json!(null), Some(later), false, true),
        ] {
            let attributes = Map::from_iter([("name".to_owned(), says.clone())]);
            let plan = Says { attributes, modified }.plan(&edits, edited_at);
            assert_eq!(
                (!plan.changed.is_empty(), !plan.overruled.is_empty()),
                (sent, overruled),
                "{says} {modified:?}"
            );
        }
        let cleared = Edits::from([("name".to_owned(), Wanted { value: json!(""), replaced: vec![json!("Ann")] })]);
        let plan = Says { attributes: Map::new(), modified: None }.plan(&cleared, edited_at);
        assert!(plan.changed.is_empty() && plan.overruled.is_empty(), "an empty text is no value");
    }
}
