//! One poll: the requests that it takes, and what becomes of it.

use chrono::Utc;
use model::mapping::Mapping;
use model::{Entity, Record};
use reqwest::Url;
use secrecy::ExposeSecret;
use sqlx::PgPool;
use staging::polls::{Poll, State, Subject};

use crate::BreakerState;
use crate::answer::{Elements, One, Reader};
use crate::client::{self, Content, Requester};
use crate::draft::{Answer, Draft};
use crate::error::{ConfigError, Failure};
use crate::lists::{Lists, Spec};
use crate::template::Template;
use crate::validators::{self, fingerprint};
use crate::write::Writes;
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
    pub requests: Requests,
    pub writes: Writes,
    pub lists: Lists,
    /// Fingerprint of what answers are read by; see [`validators::Validators`].
    rules: String,
}

/// What is asked for one by one. A source that only has lists has none of it.
pub(crate) struct Requests {
    pub customer: Option<Request>,
    /// Orders and interactions: asked for per customer.
    pub lists: Vec<Request>,
    /// Orders and the like that lie in the customer's own record.
    pub nested: Vec<Mapping>,
    pub product: Option<Request>,
}

/// What a request for one thing found.
pub(crate) enum Found {
    /// Records, one mostly, and whether they are others than the last ones.
    Records { records: Vec<Record>, is_new: bool },
    /// The last ones, by their `ETag`.
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
    pub(crate) fn new(settings: Settings, database: PgPool, waits: bool) -> Result<Self, Error> {
        let config = |error| Error::Config { source_name: settings.source.clone(), error };
        let requests = Requests::new(&settings).map_err(config)?;
        let writes = Writes::new(&settings).map_err(config)?;
        let requester = Requester::new(&settings, database, waits).map_err(config)?;
        let lists = Lists::new(Spec::all(&settings).map_err(config)?);
        let rules = validators::rules(&settings);
        Ok(Self { settings, requester, requests, writes, lists, rules })
    }

    /// Whether products are asked about.
    pub(crate) fn asks_products(&self) -> bool {
        self.requests.product.is_some()
    }

    /// Fingerprint of what answers are read by.
    pub(crate) fn rules(&self) -> &str {
        &self.rules
    }

    /// Whether customers are asked about one by one.
    pub(crate) fn asks_customers(&self) -> bool {
        self.requests.customer.is_some()
    }

    /// The request that most polls begin with, for the origin of batches.
    pub(crate) fn label(&self) -> &str {
        let request = self.requests.customer.as_ref().or(self.requests.product.as_ref());
        request.map_or("", |request| request.template.label())
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
            Err(failure) if failure.leaves_the_poll() => return Err(poll),
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

    async fn ask_product(&self, poll: &Poll, draft: &mut Draft) -> Result<(State, Option<String>), Failure> {
        let Some(request) = &self.requests.product else { return Ok((State::Unknown, None)) };
        let url = request.template.fill(&[("product_id", &poll.key)]);
        let state = match self.find(request, url, true, draft).await? {
            Found::Unusable => State::Failing,
            Found::Nothing => State::Unknown,
            Found::NotModified => State::Known,
            Found::Records { records, is_new } => {
                draft.records.extend(records.into_iter().filter(|_| is_new));
                State::Known
            }
        };
        Ok((state, None))
    }

    /// Asks for one thing. `None` for a URL is a question that cannot be put, so that the source knows no answer.
    pub(crate) async fn find(
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
            Content::NotFound | Content::Nothing => {
                draft.validators.forget(name);
                return Ok(Found::Nothing);
            }
            Content::Body { bytes, etag } => (bytes, etag),
        };
        let elements = match self.reader(&request.mapping).one(&bytes, at) {
            Elements::Each(elements) => elements,
            Elements::Bad(bad) => {
                draft.park(request, &self.settings, bad);
                return Ok(Found::Unusable);
            }
            Elements::Unusable => return Ok(Found::Unusable),
        };
        if elements.is_empty() {
            draft.validators.forget(name);
            return Ok(Found::Nothing);
        }
        Ok(self.found(request, elements, etag, draft))
    }

    /// What the elements of an answer come to. Those that are bad are dead letters beside the others; where there is no
    /// other, nobody can tell what the answer says.
    fn found(&self, request: &Request, elements: Vec<One>, etag: Option<String>, draft: &mut Draft) -> Found {
        let name = request.name();
        let last = draft.validators.get(name).cloned().unwrap_or_default();
        let (mut records, mut others) = (Vec::new(), Vec::new());
        for element in elements {
            match element {
                One::Record(record) => records.push(record),
                One::Bad(bad) => others.push((bad, true)),
                One::Unusable(bad) => others.push((bad, false)),
            }
        }
        if records.is_empty() {
            for (bad, _) in others.into_iter().filter(|(_, is_bad)| *is_bad) {
                draft.park(request, &self.settings, bad);
            }
            return Found::Unusable;
        }
        // Of what is stored, not of what came: that has the credential.
        let stored: Vec<&str> = records.iter().filter_map(|record| record.payload.as_deref()).collect();
        let hash = Some(fingerprint(&self.settings, stored.join("\n").as_bytes()));
        let is_new = last.hash != hash;
        draft.validators.renew(name, etag, hash);
        for (bad, _) in others {
            draft.park_again(request, &self.settings, bad, &last);
        }
        Found::Records { records, is_new }
    }

    pub(crate) fn reader<'a>(&'a self, mapping: &'a Mapping) -> Reader<'a> {
        Reader { context: &self.settings.context, limits: self.settings.limits, mapping }
    }
}

/// Says what is wrong with settings, as far as that can be said before anything is asked: [`crate::run`] refuses the same.
pub fn check(settings: &Settings) -> Result<(), ConfigError> {
    client::check(settings)?;
    Requests::new(settings)?;
    Writes::new(settings)?;
    Spec::all(settings).map(drop)
}

impl Requests {
    fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let base = settings.base_url.expose_secret();
        let mut requests = Self { customer: None, lists: Vec::new(), nested: Vec::new(), product: None };
        for mapping in settings.mappings() {
            let Some(template) = mapping.request() else {
                let is_nested = !matches!(mapping, Mapping::Customer(_)) && mapping.records().is_some();
                requests.nested.extend(is_nested.then_some(mapping));
                continue;
            };
            let allowed: &[&str] = match &mapping {
                Mapping::Customer(_) => &["email"],
                Mapping::Product(_) => &["product_id"],
                Mapping::Order(_) | Mapping::Interaction(_) => &["external_id", "email"],
            };
            let template = Template::new(base, mapping.entity().as_str(), template, allowed)?;
            let request = Request { mapping, template };
            match request.mapping {
                Mapping::Customer(_) => requests.customer = Some(request),
                Mapping::Product(_) => requests.product = Some(request),
                Mapping::Order(_) | Mapping::Interaction(_) => requests.lists.push(request),
            }
        }
        if requests.customer.is_none() && settings.lists.is_empty() {
            return Err(ConfigError::NothingToAsk);
        }
        if let (None, Some(request)) = (&requests.customer, requests.lists.first()) {
            return Err(ConfigError::NoCustomerRequest(request.name()));
        }
        let has_customers = requests.customer.is_some() || settings.lists.iter().any(|l| l.entity == Entity::Customer);
        if let (false, Some(nested)) = (has_customers, requests.nested.first()) {
            return Err(ConfigError::NoCustomers(nested.entity().as_str()));
        }
        Ok(requests)
    }
}
