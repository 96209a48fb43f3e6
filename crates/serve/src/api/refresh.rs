//! `POST /customers/{customer}/refresh`, and `max_age` of `GET`: asks the REST sources about one customer out of turn. The
//! pollers do that; here it is asked for and waited for.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use consolidate::Goal;
use serde::Serialize;
use serde_json::Value;
use sqlx::types::{Json as FromJson, Uuid};
use staging::health::Health;
use staging::polls::{self, AskedNow};
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use super::customer::{self, Customer, Refusal};
use super::edit::FOLLOWS_WITHIN;
use super::path::Path;
use super::written_through::WrittenThrough;
use super::{Api, Caller};
use crate::problem::Problem;

/// A source that takes longer is not waited for; its answer lands all the same.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A poller that lives says so every few seconds.
const HEARD_WITHIN: TimeDelta = TimeDelta::minutes(1);

/// A customer, and what became of asking.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Refreshed {
    #[serde(flatten)]
    pub(crate) customer: Customer,
    #[serde(flatten)]
    pub(crate) asked: Asked,
}

/// What became of asking.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Asked {
    /// The REST sources that know, or may know, the customer.
    pub(crate) sources: Vec<SourceAge>,
    /// Whether the profile holds what was answered. If not, nobody consolidates at the moment, and it will.
    pub(crate) has_followed: bool,
    /// Edits that wait to be sent to a source, or that one does not take.
    edits: Vec<WrittenThrough>,
}

/// How old it is what a source has said of a customer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SourceAge {
    pub(crate) system: String,
    /// When it last answered, be it that it does not know the customer.
    answered_at: Option<DateTime<Utc>>,
    /// How long ago that was.
    age_seconds: Option<i64>,
    /// Whether it knows the customer: `known`, `unknown`; `due` if it has yet to say all, `failing` if it could not.
    #[schema(example = "known")]
    state: &'static str,
    pub(crate) outcome: Outcome,
}

/// What became of asking one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It has answered, or its last answer is young enough.
    Answered,
    /// It was asked and failed; it is asked again.
    Failed,
    /// It has not answered in time; what it answers lands later.
    Late,
    /// It rests after failures, refuses us, or nobody polls: it is asked once that is over.
    Down,
}

/// Ask the sources now
///
/// REST sources are asked about this customer at once, before all others; answers with the customer as it is then. A source
/// that does not answer within seconds leaves what is known; `sources` says how old that is.
#[utoipa::path(
    post, path = "/api/v1/customers/{customer}/refresh", tag = "customers", operation_id = "refresh_customer",
    params(("customer" = String, Path, description = "The id, or an email")),
    responses(
        (status = 200, description = "The customer", body = Refreshed),
        (status = 308, description = "The customer is known under another id by now"),
    ),
)]
pub(super) async fn refresh(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(named): Path<String>,
) -> Result<Json<Refreshed>, Refusal> {
    let asked = ask(&api, &caller, &named, TimeDelta::zero()).await?;
    let customer = customer::read(&api, &caller, &named, &[]).await?;
    Ok(Json(Refreshed { customer, asked }))
}

/// Asks the sources whose answer about a customer is older than `max_age`, and waits for what they say and for the profile
/// to follow, within limits.
pub(crate) async fn ask(api: &Api, caller: &Caller, named: &str, max_age: TimeDelta) -> Result<Asked, Refusal> {
    let (match_keys, xrefs) = known_as(api, caller, named).await?;
    let sources = &api.settings.rules.polled_sources;
    let since = Utc::now();
    polls::ask_now(api.whole().await?, sources, &match_keys, since - max_age, since).await?;
    let began = Instant::now();
    let mut has_waited = false;
    let asked = loop {
        let mut session = api.whole().await?;
        let asked = polls::asked_now(&mut *session, sources, &match_keys).await?;
        let health = staging::health::all(&mut *session).await?;
        drop(session);
        let asked = by_source(asked, &health, Utc::now());
        if began.elapsed() > ANSWERS_WITHIN || asked.iter().all(|source| source.outcome != Outcome::Late) {
            break asked;
        }
        has_waited = true;
        sleep(LOOK_EVERY).await;
    };
    // Where nothing new was said nobody waits for what others have landed.
    let patience = if has_waited { FOLLOWS_WITHIN } else { Duration::ZERO };
    let has_followed = has_followed(api, patience).await?;
    Ok(Asked { sources: asked, has_followed, edits: api.unsent(&xrefs).await? })
}

/// The match keys by which sources are asked about a customer whom the caller may see, and the cross-references.
async fn known_as(api: &Api, caller: &Caller, named: &str) -> Result<(Vec<String>, Vec<(String, String)>), Refusal> {
    let customer_id = api.customer_id(named).await?;
    let found: Option<(Uuid, Vec<String>, FromJson<_>)> = sqlx::query_as(
        "with x as materialized (
             select x.system, x.external_id, x.match_key from customer360.xrefs x
             where x.customer_id = customer360.resolved($1) and x.deleted_at is null
         )
         select c.customer_id, array(select distinct match_key from x where match_key is not null),
                (select coalesce(jsonb_agg(jsonb_build_array(system, external_id)), '[]') from x)
         from customer360.customers c
         where c.customer_id = customer360.resolved($1)",
    )
    .bind(customer_id)
    .fetch_optional(api.ask(caller).await?)
    .await?;
    let (found, match_keys, FromJson(xrefs)) = found.ok_or_else(Problem::not_found)?;
    Refusal::unless_at(found, customer_id)?;
    Ok((match_keys, xrefs))
}

/// One word for each source: where it is asked about several emails, the worst, and of these that of the oldest answer.
fn by_source(asked: Vec<AskedNow>, health: &[Health], now: DateTime<Utc>) -> Vec<SourceAge> {
    let mut sources: BTreeMap<String, Vec<SourceAge>> = BTreeMap::new();
    for asked in asked {
        let outcome = match (asked.is_waited_for, asked.has_failed) {
            (true, _) if !is_asked(health, &asked.source, now) => Outcome::Down,
            (true, _) => Outcome::Late,
            (false, true) => Outcome::Failed,
            (false, false) => Outcome::Answered,
        };
        sources.entry(asked.source.clone()).or_default().push(SourceAge {
            system: asked.source,
            answered_at: asked.answered_at,
            age_seconds: asked.answered_at.map(|answered| (now - answered).num_seconds().max(0)),
            state: asked.state.as_str(),
            outcome,
        });
    }
    let worst = |ages: Vec<SourceAge>| ages.into_iter().max_by_key(|age| (age.outcome, Reverse(age.answered_at)));
    sources.into_values().filter_map(worst).collect()
}

/// Whether somebody polls a source at the moment, and the source can be asked.
fn is_asked(health: &[Health], source: &str, now: DateTime<Utc>) -> bool {
    let Some(known) = health.iter().find(|known| known.source == source) else { return false };
    let polls = known.health.get("daemon").and_then(Value::as_bool).unwrap_or_default();
    let is_open = known.health.get("breaker").and_then(Value::as_str).is_some_and(|state| state != "closed");
    known.is_fresh(now, HEARD_WITHIN) && polls && !is_open
}

/// Waits until the profiles hold what has landed.
async fn has_followed(api: &Api, patience: Duration) -> Result<bool, Problem> {
    let began = Instant::now();
    let mut goal = Goal::of_now(&mut *api.whole().await?).await?;
    while !goal.look(&mut *api.whole().await?).await? {
        if began.elapsed() > patience {
            return Ok(false);
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(true)
}
