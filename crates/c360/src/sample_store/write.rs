//! Changing and making customers.

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::Endpoint;
use super::catalog::{Answer, Catalog, id_text};

/// Why the store does not do it.
pub(super) type Refused = (StatusCode, &'static str);

/// What nobody but the store itself, or the customer, may say.
const FIXED: [&str; 4] = ["Id", "Email", "Password", "ModifiedAt"];

/// In characters.
const LONGEST_NAME: usize = 100;

impl Catalog {
    /// Changes members of a customer's record.
    pub(super) fn update(
        &mut self,
        id: &str,
        changes: Map<String, Value>,
        now: DateTime<Utc>,
    ) -> Result<Answer, Refused> {
        let (email, mut record) =
            self.customers().find(|(_, record)| id_of(record) == id).ok_or((StatusCode::NOT_FOUND, "not found"))?;
        if changes.keys().any(|name| FIXED.contains(&name.as_str())) {
            return Err((StatusCode::UNPROCESSABLE_ENTITY, "Id, Email, Password and ModifiedAt cannot be changed"));
        }
        record.extend(changes);
        self.keep(&email, record, now)
    }

    /// Makes a customer, with the next free number.
    pub(super) fn create(&mut self, new: Map<String, Value>, now: DateTime<Utc>) -> Result<Answer, Refused> {
        let email = new.get("Email").and_then(Value::as_str).unwrap_or_default().trim().to_owned();
        if !email.contains('@') {
            return Err((StatusCode::UNPROCESSABLE_ENTITY, "Email is missing"));
        }
        if self.answer(Endpoint::Customer, &Endpoint::Customer.key(&email)).is_some() {
            return Err((StatusCode::CONFLICT, "there is a customer with this Email"));
        }
        let highest = self.customers().filter_map(|(_, record)| id_of(&record).parse::<u64>().ok()).max();
        let id = highest.unwrap_or(0) + 1;
        let mut record = Map::from_iter([("Id".to_owned(), json!(id))]);
        record.extend(new);
        self.put(Endpoint::Orders, &id.to_string(), "[]");
        self.keep(&email, record, now)
    }

    fn keep(&mut self, email: &str, mut record: Map<String, Value>, now: DateTime<Utc>) -> Result<Answer, Refused> {
        let name = record.get("Name").and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() || name.chars().count() > LONGEST_NAME {
            return Err((StatusCode::UNPROCESSABLE_ENTITY, "Name is missing, or too long"));
        }
        record.insert("ModifiedAt".to_owned(), now.to_rfc3339_opts(SecondsFormat::Micros, true).into());
        Ok(self.put(Endpoint::Customer, email, &Value::Object(record).to_string()))
    }

    /// The records of all customers, by email.
    fn customers(&self) -> impl Iterator<Item = (String, Map<String, Value>)> {
        self.of(Endpoint::Customer)
            .filter_map(|(email, body)| Some((email.to_owned(), serde_json::from_slice(body).ok()?)))
    }
}

fn id_of(record: &Map<String, Value>) -> String {
    record.get("Id").and_then(|id| id_text(id).ok()).unwrap_or_default()
}
