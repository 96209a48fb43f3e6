//! Decisions of operators, from the page of a customer: what would come of one, now and then, before it is made.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use consolidate::Key;
use consolidate::decide::{Done, Effect, Outcome, Request};
use serde::Deserialize;
use sqlx::types::Uuid;

use super::Dashboard;
use super::foreseen::{Table, table};
use super::frame::{Frame, details, page};
use super::locale::Locale;
use super::operator::said;
use super::profile;
use super::systems::Systems;
use super::visitor::{Fields, Posted, Reader};
use crate::api::customer::{self, Customer, Refusal};
use crate::api::decide;
use crate::api::params::Params;
use crate::problem::Problem;

/// What can be decided, as it stands in paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    Merge,
    Split,
    Block,
    Allow,
    Undo,
}

/// What a decision is called on its page.
struct Words {
    /// Ends with a question mark.
    title: String,
    says: &'static str,
    button: &'static str,
    /// What the page of the customer says when it is done.
    done: &'static str,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Split => "split",
            Self::Block => "block",
            Self::Allow => "allow",
            Self::Undo => "undo",
        }
    }

    /// The field that says which; none where the customer says it all.
    fn field(self) -> Option<&'static str> {
        match self {
            Self::Merge => Some("with"),
            Self::Split => Some("xref"),
            Self::Undo => Some("decision"),
            Self::Allow => Some("key"),
            Self::Block => None,
        }
    }

    fn words(self, name: &str) -> Words {
        let words = |title, says, button, done| Words { title, says, button, done };
        match self {
            Self::Merge => words(
                format!("Merge somebody into {name}?"),
                "Records of the other one belong to this customer, now and later. The other one’s page leads here.",
                "Merge customers",
                "Merged into this customer.",
            ),
            Self::Split => words(
                format!("Split {name}?"),
                "The cross-reference has a customer of its own, whatever its email becomes.",
                "Split off",
                "Cross-reference split off.",
            ),
            Self::Block => words(
                format!("Block the email of {name}?"),
                "Whoever has this email belongs to no customer, now and later.",
                "Block email",
                "Email blocked.",
            ),
            Self::Allow => words(
                format!("Let all in to {name}?"),
                "The limit of cross-references of one system does not hold for this email any more.",
                "Let all in",
                "All are let in.",
            ),
            Self::Undo => words(
                "Undo this decision?".to_owned(),
                "It holds no more, for what is known and for whatever comes later.",
                "Undo decision",
                "Decision undone.",
            ),
        }
    }

    /// What is asked for; `None` where it has still to be said.
    fn request(self, customer: &Customer, fields: &Fields, systems: &Systems) -> Option<Request> {
        let this = Key::CustomerId(customer.customer_id);
        let said = self.field().and_then(|field| fields.get(field)).filter(|said| !said.trim().is_empty());
        match self {
            Self::Merge => said.map(|other| {
                // An id of a system may have blanks, and so may an email with a name before it.
                let words = other.trim().split_once(char::is_whitespace);
                let words = words.filter(|(system, _)| systems.filters().any(|known| known == *system));
                let key = match words {
                    Some((system, external_id)) => Key::Xref(system.to_owned(), external_id.trim().to_owned()),
                    None => Key::parse(&[other.trim().to_owned()]),
                };
                Request::Merge(key, this)
            }),
            Self::Split => said
                .filter(|xref| xrefs(customer).any(|known| known.key == **xref))
                .map(|xref| Request::Split(Key::Word(xref.clone()))),
            Self::Block => customer.email.clone().map(Request::Block),
            Self::Allow => Some(Request::Allow(said.map_or(this, |key| Key::Word(key.clone())))),
            Self::Undo => said.and_then(|number| number.parse().ok()).map(Request::Undo),
        }
    }
}

/// A cross-reference to choose.
struct Choice {
    /// The system and its id, as one word.
    key: String,
    /// Who the system says it is.
    who: String,
}

fn xrefs(customer: &Customer) -> impl Iterator<Item = Choice> {
    customer.xrefs.iter().map(|xref| {
        let name = xref.attributes.get("name").map(profile::text).filter(|name| !name.is_empty());
        Choice {
            key: format!("{}:{}", xref.system, profile::external_id(xref)),
            who: name.into_iter().chain(xref.email.clone()).collect::<Vec<_>>().join(", "),
        }
    })
}

#[derive(Template)]
#[template(path = "decide.html")]
struct Preview {
    frame: Frame,
    what: What,
    customer_id: Uuid,
    name: String,
    words: Words,
    /// What is asked for: the name of its field, and what it says.
    asked: Option<(&'static str, String)>,
    xrefs: Vec<Choice>,
    /// The decision that is undone.
    undone: Option<String>,
    /// Why it cannot be.
    error: Option<String>,
    /// What would come of it; `None` before it is said what is asked for.
    foreseen: Option<Vec<Table>>,
    /// Whether it is so already.
    is_so: bool,
}

impl Preview {
    fn new(frame: Frame, what: What, customer: &Customer, fields: &Fields) -> Self {
        let name = profile::name(&customer.profile, customer.email.as_deref(), customer.customer_id);
        Self {
            frame,
            what,
            customer_id: customer.customer_id,
            words: what.words(&name),
            name,
            asked: what.field().map(|field| (field, fields.get(field).cloned().unwrap_or_default())),
            xrefs: xrefs(customer).collect(),
            undone: None,
            error: None,
            foreseen: None,
            is_so: false,
        }
    }

    /// With what would come of it.
    fn foreseen(mut self, outcome: &Outcome, locale: &Locale) -> Self {
        let is_other = |effect: &&Effect| effect.customer.customer_id != self.customer_id;
        let other = outcome.customers.iter().find(is_other).and_then(|effect| effect.before.as_ref());
        let asked = self.asked.as_ref().map(|(_, said)| said.as_str()).unwrap_or_default();
        match (self.what, other) {
            (What::Merge, Some(other)) => {
                let named = || profile::name(&other.profile, None, other.customer_id);
                let other = other.email.clone().unwrap_or_else(named);
                self.words.title = format!("Merge {other} into {}?", self.name);
            }
            (What::Split, _) => self.words.title = format!("Split {asked} off {}?", self.name),
            (What::Undo, _) => self.undone = outcome.decision.as_ref().map(|decision| said(&decision.ruling)),
            _ => {}
        }
        self.is_so = outcome.done == Done::Nothing;
        self.foreseen = Some(outcome.customers.iter().filter_map(|effect| table(effect, locale)).collect());
        self
    }
}

/// The customer whom an operator decides on.
pub(super) async fn known(dashboard: &Dashboard, reader: &Reader, customer_id: Uuid) -> Result<Customer, Refusal> {
    reader.caller.decides()?;
    customer::read(&dashboard.api, &reader.caller, &customer_id.to_string(), &[]).await
}

/// `GET /customers/{customer}/decide/{what}`: what would come of it.
pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    reader: Reader,
    Path((customer_id, what)): Path<(Uuid, What)>,
    mut params: Params,
) -> Response {
    let frame = Frame::of(&dashboard, &reader);
    let customer = match known(&dashboard, &reader, customer_id).await {
        Ok(customer) => customer,
        Err(refusal) => return frame.refusal(&refusal, &format!("/decide/{}", what.word())),
    };
    let fields: Fields = params.rest().into_iter().collect();
    let preview = Preview::new(frame, what, &customer, &fields);
    let Some(request) = what.request(&customer, &fields, &dashboard.systems) else {
        return page(StatusCode::OK, &preview);
    };
    match decide::foresee(&dashboard.api, &reader.caller, &request).await {
        Ok(outcome) => page(StatusCode::OK, &preview.foreseen(&outcome, &reader.visitor.locale)),
        Err(problem) => refused(preview, &problem),
    }
}

/// The page again, with what stands in the way.
fn refused(mut preview: Preview, problem: &Problem) -> Response {
    if problem.status != StatusCode::UNPROCESSABLE_ENTITY {
        return preview.frame.failure(problem);
    }
    preview.error = Some(details(problem));
    page(StatusCode::UNPROCESSABLE_ENTITY, &preview)
}

/// `POST /customers/{customer}/decide/{what}`: decides, and goes back to the customer.
pub(super) async fn make(
    State(dashboard): State<Arc<Dashboard>>,
    Path((customer_id, what)): Path<(Uuid, What)>,
    posted: Posted,
) -> Response {
    let (reader, fields) = (&posted.reader, &posted.fields);
    let frame = Frame::of(&dashboard, reader);
    let customer = match known(&dashboard, reader, customer_id).await {
        Ok(customer) => customer,
        Err(refusal) => return frame.refusal(&refusal, &format!("/decide/{}", what.word())),
    };
    let preview = Preview::new(frame, what, &customer, fields);
    let Some(request) = what.request(&customer, fields, &dashboard.systems) else {
        return page(StatusCode::OK, &preview);
    };
    match decide::carry_out(&dashboard.api, &reader.caller, &request).await {
        Ok((recorded, has_followed)) => {
            let decision = recorded.decision.map(|decision| decision.decision_id.to_string()).unwrap_or_default();
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("did", what.word()), ("decision", &decision)])
                .extend_pairs((!has_followed).then_some(("waits", "1")))
                .finish();
            Redirect::to(&format!("/customers/{customer_id}?{query}")).into_response()
        }
        Err(problem) => refused(preview, &problem),
    }
}

/// What the page of the customer says of a decision that was just made, and where it is undone.
pub(super) fn flash(customer: &str, did: &str, decision: Option<&str>) -> Option<(&'static str, Option<String>)> {
    let what = [What::Merge, What::Split, What::Block, What::Allow, What::Undo];
    let what = what.into_iter().find(|what| what.word() == did)?;
    let decision: Option<i64> = decision.and_then(|decision| decision.parse().ok());
    let undo = decision.filter(|_| what != What::Undo).map(|decision| undo_link(customer, decision));
    Some((what.words("").done, undo))
}

/// The page that undoes a decision.
pub(super) fn undo_link(customer: &str, decision_id: i64) -> String {
    format!("/customers/{customer}/decide/undo?decision={decision_id}")
}
