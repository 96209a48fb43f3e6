//! `PATCH /customers/{customer}` and `POST /customers`: what people say of customers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{HeaderValue, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chrono::Utc;
use consolidate::edit::{self, Edited, Made, NewCustomer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::types::Uuid;
use staging::Seal;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::audit;
use super::customer::Refusal;
use super::entries::{MAX_NUMBER_DIGITS, idempotent, is_storable, rejected, reused};
use super::etag::IfMatch;
use super::path::Path;
use super::written_through::WrittenThrough;
use super::{Api, Caller};
use crate::keys::Role;
use crate::problem::Problem;

/// Whoever consolidates needs less for one profile; without anybody who does, it follows later.
pub(super) const FOLLOWS_WITHIN: Duration = Duration::from_secs(5);
const LOOKS_EVERY: Duration = Duration::from_millis(10);
const MAX_VALUE_CHARS: usize = 2_000;
/// Why who makes customers has to see everybody.
pub(crate) const AMONG_ALL: &str = "a customer is made among all others";
const AN_EMAIL: &str = "an email with one @, like name@example.com";

/// Which attributes are to have which values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// Attribute to text, number or truth value; null takes an edit back.
    #[schema(value_type = BTreeMap<String, Value>, example = json!({"phone": "+1 603 555 0100"}))]
    profile: Map<String, Value>,
}

/// A customer who is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct New {
    /// Whoever has it already is the customer.
    #[schema(example = "ann@x.example")]
    email: String,
    /// Attribute to text, number or truth value.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Value>)]
    profile: Map<String, Value>,
}

/// The customer who was written on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Written {
    pub(crate) customer_id: Uuid,
    /// Whether the profile has followed. If not, nobody consolidates at the moment, and it will.
    pub(crate) has_followed: bool,
    /// What has become of it at the sources that take it.
    sources: Vec<WrittenThrough>,
}

/// Attributes that are configured, with values that profiles may have.
fn check(api: &Api, profile: &Map<String, Value>) -> Result<(), Problem> {
    let attributes = &api.settings.attributes;
    for (attribute, value) in profile {
        if !attributes.contains(attribute) {
            let allowed: Vec<&str> = attributes.iter().map(String::as_str).collect();
            return Err(Problem::unprocessable(attribute, format!("there are {}", allowed.join(", "))));
        }
        let is_fine = match value {
            Value::String(text) => text.chars().count() <= MAX_VALUE_CHARS,
            Value::Array(_) | Value::Object(_) => false,
            _ => true,
        };
        if !is_fine || !is_storable(value) {
            let allowed = format!(
                "text of at most {MAX_VALUE_CHARS} characters without NUL, a number of at most {MAX_NUMBER_DIGITS} digits \
                 when written out, true, false or null"
            );
            return Err(Problem::unprocessable(attribute, allowed));
        }
    }
    Ok(())
}

impl Written {
    /// 202 where the profile has not followed, or an edit waits to be sent.
    fn answer(self, status: StatusCode) -> Response {
        let is_done = self.has_followed && !self.sources.iter().any(WrittenThrough::waits);
        let status = if is_done { status } else { StatusCode::ACCEPTED };
        (status, Json(self)).into_response()
    }
}

impl Api {
    /// Waits until a profile has followed a mark, and sources have heard of what goes to them.
    async fn written(&self, customer_id: Uuid, mark_id: i64, outgoing: &[Uuid]) -> Result<Written, Problem> {
        let since = Instant::now();
        loop {
            let mut session = self.whole().await?;
            let has_followed = edit::has_followed(&mut session, mark_id).await?;
            let sources = WrittenThrough::read(&mut session, outgoing).await?;
            drop(session);
            let is_over = has_followed && !sources.iter().any(WrittenThrough::is_under_way);
            if is_over || since.elapsed() >= FOLLOWS_WITHIN {
                return Ok(Written { customer_id, has_followed, sources });
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
    }
}

/// Waits until it is said that profiles have followed, as long as whoever consolidates needs for that; whether they have.
pub(super) async fn followed<F: Future<Output = Result<bool, Problem>>>(look: impl Fn() -> F) -> Result<bool, Problem> {
    let since = Instant::now();
    while !look().await? {
        if since.elapsed() >= FOLLOWS_WITHIN {
            return Ok(false);
        }
        tokio::time::sleep(LOOKS_EVERY).await;
    }
    Ok(true)
}

/// Edit a customer
///
/// Each value lies on the cross-reference that supplied the value before, stands first in rank, and yields once that system
/// says something else. With `If-Match`, only that version, and only if no other edit waits to be in the profile. It is written
/// through to a source that takes it, unless the source has changed the same later. 202 if the profile has not followed within seconds, or the edit waits to be sent.
#[utoipa::path(
    patch, path = "/api/v1/customers/{customer}", tag = "customers", operation_id = "edit_customer",
    params(
        ("customer" = String, Path, description = "The id, or an email"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the customer that is to be edited, or the version in quotes"),
    ),
    request_body = Change,
    responses(
        (status = 200, description = "Edited", body = Written),
        (status = 202, description = "Noted; the profile follows, or a source hears of it later", body = Written),
        (status = 308, description = "The customer is known under another id by now"),
    ),
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(named): Path<String>,
    if_match: IfMatch,
    body: Result<Json<Change>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(change) = body.map_err(|rejection| rejected(&rejection, "`profile`"))?;
    Ok(write(&api, &caller, &named, change.profile, &if_match).await?.answer(StatusCode::OK))
}

/// Edits a customer: attribute to value, null to take an edit back.
pub(crate) async fn write(
    api: &Api,
    caller: &Caller,
    named: &str,
    profile: Map<String, Value>,
    if_match: &IfMatch,
) -> Result<Written, Refusal> {
    caller.at_least(Role::Agent)?;
    check(api, &profile)?;
    let named = api.customer_id(named).await?;
    let session = api.ask(caller).await?;
    let found: Option<Uuid> = sqlx::query_scalar(
        "select c.customer_id from customer360.customers c where c.customer_id = customer360.resolved($1)",
    )
    .bind(named)
    .fetch_optional(session)
    .await?;
    Refusal::unless_at(found.ok_or_else(Problem::not_found)?, named)?;
    let attributes: BTreeMap<String, Option<Value>> = profile
        .into_iter()
        .map(|(attribute, value)| (attribute, Some(value).filter(|value| !value.is_null())))
        .collect();
    let rules = (&api.settings.rules.survivorship, &api.settings.takers);
    let mut transaction = api.begin().await?;
    let by = &caller.key.name;
    match edit::edit(&mut transaction, rules, named, &attributes, &if_match.versions_of(named), by, Utc::now()).await? {
        Edited::Noted { mark_id, outgoing } => {
            audit::written(&mut transaction, caller, "edit_customer", named).await?;
            transaction.commit().await?;
            Ok(api.written(named, mark_id, &outgoing).await?)
        }
        Edited::Unknown => Err(Problem::not_found().into()),
        Edited::Changed => Err(Problem::new(StatusCode::PRECONDITION_FAILED)
            .with_detail("the customer has changed since, or is about to by another edit: read it again")
            .into()),
    }
}

/// Make a customer by hand
///
/// A cross-reference of the system `crm`, which counts as any other: whoever has the email already is the customer. Sources
/// that make customers make it too. The same `Idempotency-Key` again makes nothing, and is refused with something else in the
/// body. It needs a key without a row filter.
#[utoipa::path(
    post, path = "/api/v1/customers", tag = "customers", operation_id = "make_customer",
    params(("Idempotency-Key" = Option<String>, Header, description = "Any text, one for each customer", max_length = 200)),
    request_body = New,
    responses(
        (status = 201, description = "Made", body = Written),
        (status = 202, description = "Noted; the profile follows, or a source hears of it later", body = Written),
    ),
)]
pub(super) async fn make(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Json<New>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(new) = body.map_err(|rejection| rejected(&rejection, "`email`, and maybe `profile`"))?;
    let external_id = idempotent(&caller, &headers, &["customers"])?;
    let written = add(&api, &caller, external_id, &new.email, new.profile).await?;
    let location = HeaderValue::from_str(&format!("/api/v1/customers/{}", written.customer_id));
    let mut response = written.answer(StatusCode::CREATED);
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Makes a customer by hand, as a cross-reference with this id: the same once more makes nothing.
pub(crate) async fn add(
    api: &Api,
    caller: &Caller,
    external_id: Uuid,
    email: &str,
    mut profile: Map<String, Value>,
) -> Result<Written, Problem> {
    caller.sees_everybody(AMONG_ALL)?;
    check(api, &profile)?;
    if email.chars().count() > MAX_VALUE_CHARS || email.contains('\0') {
        return Err(Problem::unprocessable("email", AN_EMAIL));
    }
    let seal = Seal::new(&api.settings.key);
    profile.retain(|_, value| !value.is_null());
    let customer = NewCustomer { external_id: &external_id.to_string(), email, attributes: &profile };
    let mut transaction = api.begin().await?;
    let rules = (&api.settings.rules, &api.settings.takers);
    let allowed = match edit::make(&mut transaction, rules, &seal, customer, Utc::now()).await? {
        Made::Noted { customer_id, is_new, mark_id, outgoing } => {
            if is_new {
                audit::written(&mut transaction, caller, "make_customer", customer_id).await?;
            }
            transaction.commit().await?;
            return api.written(customer_id, mark_id, &outgoing).await;
        }
        Made::Reused => return Err(reused()),
        Made::Erased => "another email: this person was erased, and `c360 customer readmit` lifts it",
        Made::Unmatched(model::Unmatched::Blocked) => {
            "another email: this one is nobody's, as matching.blocked or an operator says"
        }
        Made::Unmatched(model::Unmatched::Crowded) => {
            "another email: as many customers as matching.max_xrefs_per_system allows were made with this one, and \
             `c360 customer allow` lifts that"
        }
        Made::Unmatched(_) => AN_EMAIL,
    };
    Err(Problem::unprocessable("email", allowed))
}
