//! `GET /customers/{customer}`: everything about one customer in one answer.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::extract::{Request, State};
use axum::http::header::{HeaderValue, LOCATION};
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::Row as _;
use sqlx::types::{Json as FromJson, Uuid};
use utoipa::ToSchema;

use super::etag::Version;
use super::fields::Fields;
use super::page::Page;
use super::params::Params;
use super::path::Path;
use super::refresh::{self, Refreshed};
use super::timeline::{Happened, Wanted};
use super::{Api, Caller};
use crate::problem::Problem;

/// What happened last that comes with a customer.
const NEWEST: u32 = 20;
const FIELDS: [&str; 14] = [
    "customer_id",
    "email",
    "profile",
    "provenance",
    "xrefs",
    "timeline",
    "lists",
    "created_at",
    "updated_at",
    "version",
    "deleted_at",
    "sources",
    "has_followed",
    "edits",
];

/// A customer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Customer {
    pub(crate) customer_id: Uuid,
    pub(crate) email: Option<String>,
    /// Attribute to value.
    #[schema(value_type = BTreeMap<String, Value>)]
    pub(crate) profile: Value,
    /// Attribute to the system and id that it comes from.
    #[schema(value_type = BTreeMap<String, Origin>)]
    pub(crate) provenance: Value,
    /// What the systems say, by system and id.
    pub(crate) xrefs: Vec<Xref>,
    /// The newest of the timeline; its `next_cursor` is one for `/timeline`.
    pub(crate) timeline: Page<Happened>,
    /// The lists that the customer is on.
    pub(crate) lists: Vec<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) version: i64,
    /// Since when no system knows the customer any more.
    pub(crate) deleted_at: Option<DateTime<Utc>>,
}

/// Where a value comes from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Origin {
    system: String,
    external_id: String,
}

/// What one system says of a customer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Xref {
    pub(crate) system: String,
    /// With the type that it has there.
    #[schema(value_type = Value, example = 1029)]
    pub(crate) external_id: Value,
    pub(crate) email: Option<String>,
    /// Attribute to value; null for one that was cleared.
    #[schema(value_type = BTreeMap<String, Value>)]
    pub(crate) attributes: Value,
    /// Attribute to what somebody has written in place of what the system says.
    pub(crate) edits: BTreeMap<String, Edited>,
    /// The time of its newest record.
    pub(crate) observed_at: DateTime<Utc>,
    /// When anything of it last came.
    pub(crate) last_seen_at: DateTime<Utc>,
}

/// An attribute that somebody has edited. It stands until the system says something else, of its own accord.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Edited {
    #[schema(value_type = Value)]
    pub(crate) value: Value,
    /// What the system says; null for nothing.
    #[schema(value_type = Value)]
    pub(crate) replaced: Value,
    /// The name of a key.
    pub(crate) by: String,
    pub(crate) at: DateTime<Utc>,
}

/// Of the customer `$1`, with the newest of all types on the timeline.
static STATEMENT: LazyLock<String> = LazyLock::new(|| statement("'{}'::text[]"));

/// With the newest of the types `$2`.
static OF_TYPES: LazyLock<String> = LazyLock::new(|| statement("$2"));

fn statement(types: &str) -> String {
    let most = (NEWEST + 1).to_string();
    let timeline = Wanted { types, after: ["null::text"; 3], most: &most, words: "null::text" };
    format!(
        "with {},
         edited as materialized (
             select e.system, e.external_id,
                    jsonb_object_agg(e.attribute, jsonb_build_object('value', e.value, 'replaced', e.says,
                                                                     'by', e.by, 'at', e.at)) as edits
             from (
                 select e.system, e.external_id, e.attribute, e.value, e.replaced, e.superseded, e.by, e.at,
                        coalesce(x.attributes -> e.attribute, 'null') as says
                 from customer360.edits e
                 join customer360.xrefs x on x.system = e.system and x.external_id = e.external_id
                 where x.customer_id = (select customer_id from at) and x.deleted_at is null and e.outdated_at is null
             ) e
             where e.says in (select e.replaced union all select jsonb_array_elements(e.superseded))
             group by e.system, e.external_id
         ),
         known as materialized (
             select coalesce(jsonb_agg(
                        jsonb_build_object('system', x.system, 'external_id', x.external_id_json, 'email', x.email,
                                           'attributes', x.attributes, 'edits', coalesce(e.edits, '{{}}'),
                                           'observed_at', x.observed_at,
                                           'last_seen_at', x.last_seen_at)
                        order by x.system collate \"C\", x.external_id collate \"C\"), '[]') as xrefs
             from customer360.xrefs x
             left join edited e on e.system = x.system and e.external_id = x.external_id
             where x.customer_id = (select customer_id from at) and x.deleted_at is null
         ),
         listed as materialized (
             select coalesce(array_agg(distinct m.list), '{{}}') as lists
             from customer360.list_members m
             where m.customer_id in (select customer_id from once)
         )
         select c.customer_id, c.email, c.profile, c.provenance, c.created_at, c.updated_at, c.version, c.deleted_at,
                known.xrefs, listed.lists, timeline.items
         from timeline, known, listed, customer360.customers c
         where c.customer_id = (select customer_id from at)",
        timeline.tables()
    )
}

/// A customer with everything
///
/// The profile with the origin of each value, what each system says, the newest twenty of the timeline, and the lists the
/// customer is on. An id or email of before leads to the id of now. With `max_age` the REST sources are asked first whose last
/// answer is older, and the answer says in `sources` how old each is now.
#[utoipa::path(
    get, path = "/api/v1/customers/{customer}", tag = "customers", operation_id = "get_customer",
    params(
        ("customer" = String, Path, description = "The id, or an email"),
        ("fields" = Option<String>, Query, description = "Members to answer, with commas between"),
        ("max_age" = Option<String>, Query, description = "Ask REST sources first whose answer is older than this: 60s, 5m",
         example = "60s"),
    ),
    responses(
        (status = 200, description = "The customer; with `max_age`, as `refresh` answers it", body = Customer),
        (status = 308, description = "The customer is known under another id by now"),
    ),
)]
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(named): Path<String>,
    mut params: Params,
) -> Result<(Extension<Version>, Json<Box<RawValue>>), Refusal> {
    let fields = Fields::take(&mut params, &FIELDS)?;
    let max_age = params.span("max_age")?;
    params.finish(&["fields", "max_age"])?;
    let asked = match max_age {
        Some(max_age) => Some(refresh::ask(&api, &caller, &named, max_age).await?),
        None => None,
    };
    let customer = read(&api, &caller, &named, &[]).await?;
    let version = Extension(Version { of: customer.customer_id, version: customer.version });
    let answer = match asked {
        Some(asked) => fields.of(&Refreshed { customer, asked }),
        None => fields.of(&customer),
    };
    Ok((version, Json(answer?)))
}

/// A customer, with the newest of these types on the timeline; none: of all.
pub(crate) async fn read(api: &Api, caller: &Caller, named: &str, types: &[String]) -> Result<Customer, Refusal> {
    let customer_id = api.customer_id(named).await?;
    let session = api.ask(caller).await?;
    let query = match types {
        [] => sqlx::query(staging::constant_sql(STATEMENT.as_str())).bind(customer_id),
        types => sqlx::query(staging::constant_sql(OF_TYPES.as_str())).bind(customer_id).bind(types),
    };
    let row = query.fetch_optional(session).await?.ok_or_else(Problem::not_found)?;
    let found: Uuid = row.get("customer_id");
    Refusal::unless_at(found, customer_id)?;
    api.audit.read(caller, "get_customer", found).await;
    let FromJson(xrefs): FromJson<Vec<Xref>> = row.try_get("xrefs")?;
    let FromJson(items): FromJson<Vec<Happened>> = row.try_get("items")?;
    let of_types: Vec<(&str, &str)> = types.iter().map(|kind| ("type", kind.as_str())).collect();
    let scope = Params::scope_of(&path(found, "/timeline"), &of_types);
    let rows = items.into_iter().map(Happened::with_place).collect();
    Ok(Customer {
        customer_id: found,
        email: row.get("email"),
        profile: row.get("profile"),
        provenance: row.get("provenance"),
        xrefs,
        timeline: api.cursors.page(&scope, rows, NEWEST, None),
        lists: row.get("lists"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
        version: row.get("version"),
        deleted_at: row.get("deleted_at"),
    })
}

pub(crate) fn path(customer_id: Uuid, rest: &str) -> String {
    format!("/api/v1/customers/{customer_id}{rest}")
}

/// Why a customer is not answered.
pub(crate) enum Refusal {
    /// Known under another id by now.
    Elsewhere(Uuid),
    /// Anything else.
    Problem(Problem),
}

impl Refusal {
    /// Leads on whoever named a customer who is known under another id by now.
    pub(crate) fn unless_at(found: Uuid, named: Uuid) -> Result<(), Self> {
        if found == named { Ok(()) } else { Err(Self::Elsewhere(found)) }
    }
}

impl<E: Into<Problem>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Problem(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Elsewhere(customer_id) => {
                (StatusCode::PERMANENT_REDIRECT, Extension(Elsewhere(customer_id))).into_response()
            }
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

/// Whom an answer leads to.
#[derive(Clone, Copy)]
struct Elsewhere(Uuid);

/// Leads whoever asked for somebody who is known under another id by now to the same of that one.
pub(super) async fn led_elsewhere(request: Request, next: Next) -> Response {
    let asked = request.uri().clone();
    let mut response = next.run(request).await;
    if let Some(Elsewhere(customer_id)) = response.extensions().get().copied() {
        let location = HeaderValue::from_str(&elsewhere(&asked, customer_id));
        response.headers_mut().extend(location.ok().map(|location| (LOCATION, location)));
    }
    response
}

/// What was asked for, of another customer. A cursor belongs to the path that was asked, so it stays behind.
fn elsewhere(asked: &Uri, customer_id: Uuid) -> String {
    let rest = asked.path().splitn(6, '/').nth(5).map(|rest| format!("/{rest}")).unwrap_or_default();
    let query = asked.query().unwrap_or_default().split('&').filter(|pair| pair.split('=').next() != Some("cursor"));
    let query = query.collect::<Vec<_>>().join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{mark}{query}", path(customer_id, &rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_led_elsewhere_asks_for_the_same_there_but_for_the_cursor() {
        for (asked, there) in [
            ("/old%40x.example", ""),
            ("/1?fields=email", "?fields=email"),
            ("/1/notes/2/undo", "/notes/2/undo"),
            ("/1/timeline?cursor=a&type=order&q=a%20b&limit=5", "/timeline?type=order&q=a%20b&limit=5"),
            ("/1/timeline?type=order&cursor=a", "/timeline?type=order"),
            ("/1/timeline?cursor=a", "/timeline"),
        ] {
            let asked: Uri = format!("/api/v1/customers{asked}").parse().unwrap();
            assert_eq!(elsewhere(&asked, Uuid::nil()), format!("/api/v1/customers/{}{there}", Uuid::nil()), "{asked}");
        }
    }
}
