//! What is remembered of the last answers, in `polls.validators`: enough to see that an answer is the same again.

use std::collections::BTreeMap;

use model::Credentials;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::Settings;

/// So many dead letters of one request are remembered.
const MAX_PARKED: usize = 100;
/// The request for the customer itself; all others are for what belongs to it.
const CUSTOMER: &str = "customer";

/// The content of `polls.validators`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Validators {
    /// Fingerprint of the mappings under which the answers were landed: under others they land again.
    #[serde(default)]
    rules: String,
    /// How often in a row the source has said that it does not know it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown: u32,
    /// The source's ids of the customers that were found and whose lists were had; one, mostly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    customers: Vec<String>,
    /// By request.
    #[serde(flatten)]
    requests: BTreeMap<String, Validator>,
}

/// What is remembered of the last answer to one request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Validator {
    /// As the source gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Fingerprint of what was landed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Fingerprints of what is parked as dead letters: the same is not parked again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Validators {
    /// What is stored, as far as it was made under the same rules.
    pub(crate) fn read(stored: &Value, rules: &str) -> Self {
        let mut validators: Self = serde_json::from_value(stored.clone()).unwrap_or_default();
        if validators.rules != rules {
            rules.clone_into(&mut validators.rules);
            for validator in validators.requests.values_mut() {
                (validator.etag, validator.hash) = (None, None);
            }
        }
        validators
    }

    pub(crate) fn get(&self, request: &str) -> Option<&Validator> {
        self.requests.get(request)
    }

    /// Remembers an answer.
    pub(crate) fn set(&mut self, request: &str, validator: Validator) {
        self.requests.insert(request.to_owned(), validator);
    }

    /// Remembers an answer of which nothing is parked yet.
    pub(crate) fn renew(&mut self, request: &str, etag: Option<String>, hash: Option<String>) {
        self.set(request, Validator { etag, hash, parked: Vec::new() });
    }

    /// Forgets the last answer: the next one lands whatever it is.
    pub(crate) fn forget(&mut self, request: &str) {
        self.requests.remove(request);
    }

    /// Says whose lists are asked for next: what is remembered of those of others is forgotten.
    pub(crate) fn lists_of(&mut self, customers: &[String]) {
        if self.customers != customers {
            self.customers = customers.to_vec();
            self.requests.retain(|request, _| request == CUSTOMER);
        }
    }

    /// The source's ids of the customers that the last answer found.
    pub(crate) fn customers(&self) -> &[String] {
        &self.customers
    }

    /// Under what the list of a customer is remembered.
    pub(crate) fn list_key(&self, request: &str, customer: &str) -> String {
        if self.customers.len() > 1 { format!("{request} of {customer}") } else { request.to_owned() }
    }

    /// Notes a dead letter; false when the same is parked already.
    pub(crate) fn park(&mut self, request: &str, fingerprint: String) -> bool {
        let parked = &mut self.requests.entry(request.to_owned()).or_default().parked;
        if parked.contains(&fingerprint) {
            return false;
        }
        if parked.len() < MAX_PARKED {
            parked.push(fingerprint);
        }
        true
    }

    pub(crate) fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_else(|error| unreachable!("strings and numbers are JSON: {error}"))
    }
}

/// Fingerprint of all that decides what an answer is read as.
pub(crate) fn rules(settings: &Settings) -> String {
    let credentials = match settings.context.credentials {
        Credentials::Digest(_) => "digest",
        Credentials::Drop => "drop",
        Credentials::Keep => "keep",
    };
    let mappings = (&settings.customer, &settings.order, &settings.product, &settings.interaction);
    let mappings = serde_json::to_string(&mappings).unwrap_or_default();
    let rules = format!("{mappings} {} {credentials}", settings.context.timezone);
    fingerprint(settings, rules.as_bytes())
}

/// A fingerprint that tells texts apart and cannot be worked back from by guessing: an answer may hold a password, and all
/// the rest of it is easily guessed.
pub(crate) fn fingerprint(settings: &Settings, bytes: &[u8]) -> String {
    let mut fingerprint = settings.fingerprint_key.digest(&hex::encode(Sha256::digest(bytes)));
    fingerprint.truncate(32);
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_of_other_rules_are_not_used_but_parked_dead_letters_are_remembered() {
        let mut validators = Validators::read(&serde_json::json!({}), "rules 1");
        let validator = Validator { etag: Some("\"1\"".to_owned()), hash: Some("h".to_owned()), parked: Vec::new() };
        validators.set("customer", validator.clone());
        assert!(validators.park("order", "p".to_owned()));
        validators.unknown = 3;
        let stored = validators.to_json();
        assert_eq!(Validators::read(&stored, "rules 1").get("customer"), Some(&validator));
        let mut other = Validators::read(&stored, "rules 2");
        assert_eq!(other.get("customer"), Some(&Validator::default()));
        assert!(!other.park("order", "p".to_owned()));
        assert_eq!(other.unknown, 3);
        assert_eq!(Validators::read(&serde_json::json!([1]), "rules 1").get("customer"), None);
    }
}
