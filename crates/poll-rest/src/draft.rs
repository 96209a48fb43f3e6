//! A poll in the making, and the answer that it becomes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use model::mapping::Mapping;
use model::{Entity, Record, Reject};
use serde_json::json;
use staging::DeadLetter;
use staging::polls::{Poll, Polled, State};

use crate::answer::{Bad, Form, position_time};
use crate::ask::Request;
use crate::reread::Asked;
use crate::validators::{Validator, Validators, fingerprint};
use crate::{Settings, schedule};

/// What came of a poll, to be landed together.
#[derive(Debug)]
pub(crate) struct Answer {
    pub polled: Polled,
    pub records: Vec<Record>,
    pub dead_letters: Vec<DeadLetter>,
}

/// What has come of a poll so far.
pub(crate) struct Draft {
    pub validators: Validators,
    pub records: Vec<Record>,
    pub dead_letters: Vec<DeadLetter>,
    pub products: Vec<String>,
    /// The source's id of the customer whose orders and the like are read.
    pub customer: Option<String>,
    /// The email that is asked by; empty for a product.
    email: String,
    /// Whether the source has answered at all.
    answered: bool,
    /// The time of the last answer, of this poll or of the one before.
    last: Option<DateTime<Utc>>,
}

impl Draft {
    pub(crate) fn new(poll: &Poll, rules: &str) -> Self {
        Self {
            validators: Validators::read(&poll.validators, rules),
            records: Vec::new(),
            dead_letters: Vec::new(),
            products: Vec::new(),
            customer: None,
            email: poll.email.clone(),
            answered: false,
            last: poll.checked_at,
        }
    }

    /// The time, and so the position, of an answer that came at `at`.
    pub(crate) fn stamp(&mut self, at: DateTime<Utc>) -> DateTime<Utc> {
        let at = position_time(at, self.last);
        self.answered = true;
        self.last = Some(at);
        at
    }

    /// Makes something a dead letter, unless it is one already from an earlier answer.
    pub(crate) fn park(&mut self, request: &Request, settings: &Settings, bad: Bad) {
        let fingerprint = fingerprint(settings, &bad.bytes);
        if self.validators.park(request.name(), fingerprint) {
            self.dead_letters.push(self.letter(request, request.name(), bad));
        }
    }

    /// As [`Draft::park`], for a request whose validator is new: `last` is the one before.
    pub(crate) fn park_again(&mut self, request: &Request, settings: &Settings, bad: Bad, last: &Validator) {
        let fingerprint = fingerprint(settings, &bad.bytes);
        let is_known = last.parked.contains(&fingerprint);
        if self.validators.park(request.name(), fingerprint) && !is_known {
            self.dead_letters.push(self.letter(request, request.name(), bad));
        }
    }

    /// As [`Draft::park`], for something that lay in the answer to `request` beside what that asks for.
    pub(crate) fn park_nested(&mut self, request: &Request, mapping: &Mapping, settings: &Settings, bad: Bad) {
        let entity = mapping.entity().as_str();
        let fingerprint = fingerprint(settings, &bad.bytes);
        if self.validators.park(entity, fingerprint) {
            self.dead_letters.push(self.letter(request, entity, bad));
        }
    }

    /// Makes the beginning of an answer that is too large a dead letter.
    pub(crate) fn park_oversized(&mut self, request: &Request, settings: &Settings, reject: Reject, beginning: &[u8]) {
        let before = self.dead_letters.len();
        self.park(request, settings, Bad { reject, bytes: beginning.to_vec(), external_id: None, form: Form::One });
        for letter in &mut self.dead_letters[before..] {
            letter.truncated = true;
            letter.context = None;
        }
    }

    fn letter(&self, request: &Request, entity: &str, bad: Bad) -> DeadLetter {
        let origin = json!({ "request": request.template.label() });
        let letter = DeadLetter::new(origin, bad.reject, &bad.bytes).with_external_id(bad.external_id);
        letter.with_context(&Asked {
            entity: entity.into(),
            form: bad.form,
            at: self.last,
            email: Some(&*self.email).filter(|email| !email.is_empty()).map(Into::into),
            customer: self.customer.as_deref().map(Into::into),
        })
    }

    /// The answer that a poll comes to.
    pub(crate) fn finish(
        mut self,
        poll: &Poll,
        state: State,
        external_id: Option<String>,
        refresh_every: Duration,
        now: DateTime<Utc>,
    ) -> Answer {
        let failures = match state {
            State::Known | State::Unknown => 0,
            State::Due | State::Failing => poll.failures.saturating_add(1),
        };
        // An answer that cannot be used leaves the count of those that could.
        match state {
            State::Unknown => self.validators.unknown = self.validators.unknown.saturating_add(1),
            State::Known | State::Due => self.validators.unknown = 0,
            State::Failing => {}
        }
        let next_at = match state {
            State::Known => schedule::after_answer(now, refresh_every),
            State::Unknown => schedule::after_unknown(now, refresh_every, self.validators.unknown),
            State::Due | State::Failing => schedule::after_failure(now, failures),
        };
        let external_id = match state {
            State::Known | State::Due => external_id,
            State::Unknown => None,
            State::Failing => poll.external_id.clone(),
        };
        let customers = self.records.iter().filter(|record| record.mapped.entity == Entity::Customer);
        let customers = customers.map(|record| record.mapped.external_id.as_str().to_owned()).collect();
        let polled = Polled {
            subject: poll.subject,
            key: poll.key.clone(),
            leased_until: poll.leased_until,
            state,
            external_id,
            checked_at: self.last.filter(|_| self.answered && state != State::Failing),
            next_at,
            failures,
            validators: self.validators.to_json(),
            products: self.products,
            customers,
        };
        Answer { polled, records: self.records, dead_letters: self.dead_letters }
    }
}
