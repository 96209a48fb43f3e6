//! One poll: the requests that it takes, and what becomes of it.

use chrono::Utc;
use model::Record;
use model::mapping::Mapping;
use reqwest::Url;
use secrecy::ExposeSecret;
use staging::polls::{Poll, State, Subject};

use crate::BreakerState;
use crate::answer::{One, Reader, no_email, same_email};
use crate::client::{Content, Requester};
use crate::draft::{Answer, Draft};
use crate::error::{ConfigError, Failure};
use crate::template::Template;
use crate::validators::{self, fingerprint};
use crate::{Error, Settings};

/// A mapping with its request.
pub(crate) struct Request {
    pub mapping: Mapping,
    pub template: Template,
}

/// Asks one source.
pub(crate) struct Asker {
    pub settings: Settings,
    pub requester: Requester,
    requests: Requests,
    /// Fingerprint of what answers are read by; see [`validators::Validators`].
    rules: String,
}

struct Requests {
    customer: Request,
    /// Orders and interactions: asked for per customer.
    lists: Vec<Request>,
    product: Option<Request>,
}

/// What one request for one object found.
enum Found {
    /// A record, and whether it is another than the last one.
    Record { record: Box<Record>, is_new: bool },
    /// The last one, by its `ETag`.
    NotModified,
    /// The source does not have it.
    Nothing,
    /// Nobody can tell.
    Unusable,
}

impl Request {
    /// The key of this request in validators and the label of its metrics.
    pub(crate) fn name(&self) -> &'static str {
        self.mapping.entity().as_str()
    }
}

impl Asker {
    /// `waits`: whether requests wait while the breaker is open, or fail.
    pub(crate) fn new(settings: Settings, waits: bool) -> Result<Self, Error> {
        let config = |error| Error::Config { source_name: settings.source.clone(), error };
        let requests = Requests::new(&settings).map_err(config)?;
        let requester = Requester::new(&settings, waits).map_err(config)?;
        let rules = validators::rules(&settings);
        Ok(Self { settings, requester, requests, rules })
    }

    /// Whether products are asked about.
    pub(crate) fn asks_products(&self) -> bool {
        self.requests.product.is_some()
    }

    /// The request that most polls begin with, for the origin of batches.
    pub(crate) fn label(&self) -> &str {
        self.requests.customer.template.label()
    }

    /// Asks all that a poll wants to know. Gives it back when the source could not even be asked.
    pub(crate) async fn ask(&self, poll: Poll) -> Result<Answer, Poll> {
        let mut draft = Draft::new(&poll, &self.rules);
        let outcome = match poll.subject {
            Subject::Customer => self.ask_customer(&poll, &mut draft).await,
            Subject::Product => self.ask_product(&poll, &mut draft).await,
        };
        let (state, external_id) = match outcome {
            Ok(outcome) => outcome,
            Err(Failure::NotAsked | Failure::Refused(_)) => return Err(poll),
            Err(failure) => {
                tracing::debug!(source = self.settings.source, %failure, "a poll failed");
                (State::Failing, None)
            }
        };
        let now = Utc::now();
        Ok(draft.finish(&poll, state, external_id, self.settings.refresh_every, now))
    }

    /// What becomes of a poll that took too long: it is failing, unless it only waited for the breaker.
    pub(crate) fn give_up(&self, poll: &Poll) -> Option<Answer> {
        let has_asked = self.requester.gate().state() == BreakerState::Closed;
        let draft = Draft::new(poll, &self.rules);
        has_asked.then(|| draft.finish(poll, State::Failing, None, self.settings.refresh_every, Utc::now()))
    }

    async fn ask_customer(&self, poll: &Poll, draft: &mut Draft) -> Result<(State, Option<String>), Failure> {
        let request = &self.requests.customer;
        let lists = || self.requests.lists.iter().map(Request::name);
        let url = request.template.fill(&[("email", &poll.email)]);
        // Without the id that the last answer had, "not modified" would say too little.
        let (external_id, mut state) = match self.find(request, url, poll.external_id.is_some(), draft).await? {
            Found::Unusable => return Ok((State::Failing, None)),
            Found::Nothing => {
                draft.validators.lists_of(None, lists());
                return Ok((State::Unknown, None));
            }
            Found::NotModified => (poll.external_id.clone().unwrap_or_default(), State::Known),
            Found::Record { mut record, is_new } => {
                let external_id = record.mapped.external_id.as_str().to_owned();
                let asked = match record.mapped.email.as_deref() {
                    email if no_email(email) => {
                        record.mapped.email = Some(poll.email.clone());
                        true
                    }
                    email => email.is_some_and(|email| same_email(email, &poll.email)),
                };
                draft.records.extend(is_new.then_some(*record));
                (external_id, if asked { State::Known } else { State::Unknown })
            }
        };
        draft.validators.lists_of(Some(&external_id), lists());
        for list in &self.requests.lists {
            if !self.ask_list(list, &external_id, &poll.email, draft).await {
                // The customer is kept; the rest is asked for again soon.
                state = State::Due;
            }
        }
        Ok((state, Some(external_id)))
    }

    async fn ask_product(&self, poll: &Poll, draft: &mut Draft) -> Result<(State, Option<String>), Failure> {
        let Some(request) = &self.requests.product else { return Ok((State::Unknown, None)) };
        let url = request.template.fill(&[("product_id", &poll.key)]);
        let state = match self.find(request, url, true, draft).await? {
            Found::Unusable => State::Failing,
            Found::Nothing => State::Unknown,
            Found::NotModified => State::Known,
            Found::Record { record, is_new } => {
                draft.records.extend(is_new.then_some(*record));
                State::Known
            }
        };
        Ok((state, None))
    }

    /// Asks for one object. `None` for a URL is a question that cannot be put, so that the source knows no answer.
    async fn find(
        &self,
        request: &Request,
        url: Option<Url>,
        may_be_unmodified: bool,
        draft: &mut Draft,
    ) -> Result<Found, Failure> {
        let Some(url) = url else { return Ok(Found::Nothing) };
        let name = request.name();
        let last = draft.validators.get(name).cloned().unwrap_or_default();
        let etag = last.etag.as_deref().filter(|_| may_be_unmodified);
        let reply = match self.requester.get(name, &url, etag).await {
            Err(Failure::TooLarge { reject, beginning }) => {
                draft.park_oversized(request, &self.settings, reject, &beginning);
                return Ok(Found::Unusable);
            }
            reply => reply?,
        };
        let at = draft.stamp(reply.at);
        let (bytes, etag) = match reply.content {
            Content::NotModified => return Ok(Found::NotModified),
            Content::NotFound => {
                draft.validators.forget(name);
                return Ok(Found::Nothing);
            }
            Content::Body { bytes, etag } => (bytes, etag),
        };
        match self.reader(request).one(&bytes, at) {
            One::Record(record) => {
                // Of what is stored, not of what came: that has the credential.
                let stored = record.payload.as_deref().unwrap_or_default();
                let hash = Some(fingerprint(&self.settings.context.credentials, stored.as_bytes()));
                let is_new = last.hash != hash;
                draft.validators.renew(name, etag, hash);
                Ok(Found::Record { record: Box::new(record), is_new })
            }
            One::Bad(bad) => {
                draft.park(request, &self.settings, bad);
                Ok(Found::Unusable)
            }
            One::Unusable(_) => Ok(Found::Unusable),
        }
    }

    pub(crate) fn reader<'a>(&'a self, request: &'a Request) -> Reader<'a> {
        Reader { context: &self.settings.context, limits: self.settings.limits, mapping: &request.mapping }
    }
}

impl Requests {
    fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let base = settings.base_url.expose_secret();
        let request = |mapping: Mapping, request: Option<&String>, allowed: &[&str]| {
            let Some(request) = request else { return Ok(None) };
            let template = Template::new(base, mapping.entity().as_str(), request, allowed)?;
            Ok(Some(Request { mapping, template }))
        };
        let customer = &settings.customer;
        let customer = request(Mapping::Customer(customer.clone()), customer.request.as_ref(), &["email"])?;
        let of_customer = &["external_id", "email"];
        let mut lists = Vec::new();
        if let Some(order) = &settings.order {
            lists.extend(request(Mapping::Order(order.clone()), order.request.as_ref(), of_customer)?);
        }
        if let Some(interaction) = &settings.interaction {
            let mapping = Mapping::Interaction(interaction.clone());
            lists.extend(request(mapping, interaction.request.as_ref(), of_customer)?);
        }
        let product = match &settings.product {
            Some(product) => request(Mapping::Product(product.clone()), product.request.as_ref(), &["product_id"])?,
            None => None,
        };
        Ok(Self { customer: customer.ok_or(ConfigError::NoCustomerRequest)?, lists, product })
    }
}
