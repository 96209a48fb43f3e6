//! What people write down on a customer: notes, contacts, links, and objects of the types that are configured.
//!
//! All are entries, with one life: added, changed, removed, each of it with its author and undone by `undo`.

mod content;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{ETAG, HeaderValue, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{FromRow, Row as _};
use staging::erased::HOLDING;
use utoipa::ToSchema;

pub use self::content::TAKEN_TYPES;
pub(crate) use self::content::{Content, type_of};
pub(super) use self::content::{MAX_NUMBER_DIGITS, is_storable, rejected};
use super::customer::Refusal;
use super::etag::IfMatch;
use super::path::Path;
use super::{Api, Caller};
use crate::keys::Role;
use crate::problem::Problem;

/// Something that somebody wrote on a customer.
#[derive(Debug, Serialize, FromRow, ToSchema)]
pub(crate) struct Entry {
    pub(crate) customer_id: Uuid,
    pub(crate) entry_id: Uuid,
    /// note, contact, link, or a configured type.
    #[serde(rename = "type")]
    #[sqlx(rename = "type")]
    pub(crate) kind: String,
    /// A note has `text`; a contact `value`, and may have `label`; a link `url`, and may have `title`; an object what it was
    /// given.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    pub(crate) content: Value,
    /// Who wrote it last: the name of a key.
    pub(crate) author: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    /// The `ETag` of an entry is its version.
    pub(crate) version: i64,
    pub(crate) deleted_at: Option<DateTime<Utc>>,
    /// What it was before each change, oldest first: the first version, and those before the newest fifty changes.
    #[schema(value_type = Vec<std::collections::BTreeMap<String, Value>>)]
    pub(crate) history: Value,
}

impl Entry {
    fn tag(&self) -> HeaderValue {
        HeaderValue::from_str(&format!("\"{}\"", self.version))
            .unwrap_or_else(|_| unreachable!("a number is a header's value"))
    }

    fn answer(self, status: StatusCode) -> Response {
        (status, [(ETAG, self.tag())], Json(self)).into_response()
    }
}

/// The first part of every statement: the customer who is named, if the caller may see whom that leads to. `behind` are tables to
/// read first.
fn at(behind: &str) -> String {
    format!(
        "at as materialized (
             select c.customer_id from {behind}customer360.customers c where c.customer_id = customer360.resolved($1)
         )"
    )
}

/// The last part: what was done with `done`, noted in the audit log. What was there before is not.
const NOTED: &str = "noted as (
    insert into customer360.audit_log (at, key_id, key_name, action, customer_id, request_id)
    select $2, $3, $4, $5, d.customer_id, $6 from done d where d.updated_at = $2
)
select at.customer_id as found, d.* from at left join done d on true";

/// What a caller writes on a customer, by one statement.
struct Write<'a> {
    customer: &'a str,
    action: &'static str,
    /// Of something new what its id is made of.
    entry_id: Uuid,
    kind: &'a str,
    /// The versions that are meant.
    if_match: &'a [i64],
    content: Option<&'a Content>,
    /// By what the change is known when it is sent again.
    once: Option<Uuid>,
}

impl Write<'_> {
    /// Runs `done`, a common table that gives the entry that was written; `None` if it gave none. It may use `at`, `$1` the
    /// customer that was named, `$2` now, `$4` the name of the key, `$7` the entry, `$8` its type, `$9` the versions that are
    /// meant, `$10` the content, `$11` by what the change is known.
    async fn run(self, api: &Api, caller: &Caller, done: &str) -> Result<Option<PgRow>, Refusal> {
        caller.at_least(Role::Agent)?;
        let named = api.customer_id(self.customer).await?;
        let at = at("held, ");
        // Keeps erasures out.
        let statement = format!("with held as materialized ({HOLDING}), {at}, done as ({done}), {NOTED}");
        let session = api.ask(caller).await?;
        let row = sqlx::query(staging::constant_sql(statement))
            .bind(named)
            .bind(Utc::now())
            .bind(caller.key.key_id)
            .bind(&caller.key.name)
            .bind(self.action)
            .bind(&caller.request_id)
            .bind(self.entry_id)
            .bind(self.kind)
            .bind(self.if_match)
            .bind(self.content.map(|content| &content.value))
            .bind(self.once)
            .fetch_optional(session)
            .await?;
        let row = row.ok_or_else(Problem::not_found)?;
        Refusal::unless_at(row.get("found"), named)?;
        Ok(row.get::<Option<Uuid>, _>("entry_id").map(|_| row))
    }
}

/// Parts of a path: the customer, what kind of entry, and its id.
type OfEntry = Path<Named>;
pub(crate) type Named = (String, String, Uuid);

/// Write something on a customer
///
/// `kind` is notes, contacts, links, or a type of `objects.types`. The same `Idempotency-Key` again gives the entry of this kind
/// that the customer has already, and is refused with something else in the body.
#[utoipa::path(
    post, path = "/api/v1/customers/{customer}/{kind}", tag = "entries", operation_id = "add_entry",
    params(
        ("customer" = String, Path, description = "The id, or an email"),
        ("kind" = String, Path, description = "notes, contacts, links, or a type of objects.types"),
        ("Idempotency-Key" = Option<String>, Header, description = "Any text, one for each entry", max_length = 200),
    ),
    request_body(content = std::collections::BTreeMap<String, Value>, example = json!({"text": "Called, wants **two** lamps"})),
    responses(
        (status = 201, description = "Written, now or with this Idempotency-Key before", body = Entry),
        (status = 308, description = "The customer is known under another id by now"),
    ),
)]
pub(super) async fn add(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((customer, kind)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Response, Refusal> {
    let content = Content::read(&api.settings.object_types, &kind, body)?;
    let entry_id = idempotent(&caller, &headers, &[&kind])?;
    let entry = write_new(&api, &caller, &customer, content, entry_id).await?;
    let location = format!("/api/v1/customers/{}/{kind}/{}", entry.customer_id, entry.entry_id);
    let mut response = entry.answer(StatusCode::CREATED);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Writes an entry; one that is there already under this id stays, if it says the same.
pub(crate) async fn write_new(
    api: &Api,
    caller: &Caller,
    customer: &str,
    content: Content,
    entry_id: Uuid,
) -> Result<Entry, Refusal> {
    let write = Write {
        customer,
        action: "add_entry",
        entry_id,
        kind: &content.kind,
        if_match: &[],
        content: Some(&content),
        once: None,
    };
    // The id is made of the customer's, so it is the same however the customer is named, and nobody else's. Where it is there
    // already, be it from before a merge, nothing is changed, but the row is given.
    let done = "insert into customer360.entries as e
                    (customer_id, entry_id, type, content, author, created_at, updated_at)
                select o.customer_id, o.entry_id, $8, $10, $4, $2, $2
                from (select once as customer_id, at.customer_id as now,
                             encode(substr(sha256(uuid_send($7) || uuid_send(once)), 1, 16), 'hex')::uuid as entry_id
                      from at, unnest(customer360.once_known_as(at.customer_id)) as once
                      where at.customer_id = $1) o
                left join customer360.entries e on e.customer_id = o.customer_id and e.entry_id = o.entry_id
                where customer360.stays(o.now)
                order by e.entry_id is null, o.customer_id <> o.now
                limit 1
                on conflict on constraint entries_pkey do update set version = e.version
                returning e.*, coalesce(e.history -> 0 -> 'content', e.content) = $10 as is_same";
    let row = write.run(api, caller, done).await?.ok_or_else(Problem::not_found)?;
    if row.get("is_same") { Ok(Entry::from_row(&row)?) } else { Err(reused().into()) }
}

/// An `Idempotency-Key` that stands for something else already.
pub(super) fn reused() -> Problem {
    Problem::unprocessable(IDEMPOTENCY_KEY, "one that was not used for something else")
}

/// The header that makes sending a request again safe.
pub(crate) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 200;

/// A new id: the same for the same key of the same caller under the same place, if there is an `Idempotency-Key`.
pub(super) fn idempotent(caller: &Caller, headers: &HeaderMap, place: &[&str]) -> Result<Uuid, Problem> {
    headers.get(IDEMPOTENCY_KEY).map_or_else(|| Ok(Uuid::new_v4()), |key| once(caller, key.as_bytes(), place))
}

/// The id that belongs to a key of this caller under a place.
pub(crate) fn once(caller: &Caller, key: &[u8], place: &[&str]) -> Result<Uuid, Problem> {
    if key.len() > MAX_IDEMPOTENCY_KEY_BYTES {
        return Err(Problem::bad(IDEMPOTENCY_KEY, format!("at most {MAX_IDEMPOTENCY_KEY_BYTES} bytes")));
    }
    let parts: Vec<&[u8]> = place.iter().map(|part| part.as_bytes()).chain([key]).collect();
    Ok(Uuid::new_v5(&caller.key.key_id, &parts.join(&0)))
}

/// An entry with its history
///
/// Removed ones, too: `undo` brings them back.
#[utoipa::path(
    get, path = "/api/v1/customers/{customer}/{kind}/{entry_id}", tag = "entries", operation_id = "get_entry",
    params(
        ("customer" = String, Path, description = "The id, or an email"),
        ("kind" = String, Path, description = "notes, contacts, links, or a type of objects.types"),
        ("entry_id" = Uuid, Path, description = "The entry's id"),
    ),
    responses(
        (status = 200, description = "The entry", body = Entry),
        (status = 308, description = "The customer is known under another id by now"),
    ),
)]
pub(super) async fn get(State(api): State<Arc<Api>>, caller: Caller, Path(of): OfEntry) -> Result<Response, Refusal> {
    Ok(one(&api, &caller, &of).await?.answer(StatusCode::OK))
}

/// An entry.
pub(crate) async fn one(api: &Api, caller: &Caller, (customer, kind, entry_id): &Named) -> Result<Entry, Refusal> {
    let kind = type_of(&api.settings.object_types, kind)?;
    let named = api.customer_id(customer).await?;
    let session = api.ask(caller).await?;
    let statement = format!(
        "with {}
         select at.customer_id as found, e.*
         from at
         left join customer360.entries e
             on e.customer_id = any (customer360.once_known_as(at.customer_id)) and e.entry_id = $2 and e.type = $3",
        at("")
    );
    let row = sqlx::query(staging::constant_sql(statement))
        .bind(named)
        .bind(entry_id)
        .bind(kind)
        .fetch_optional(session)
        .await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let found: Uuid = row.get("found");
    Refusal::unless_at(found, named)?;
    if row.get::<Option<Uuid>, _>("entry_id").is_none() {
        return Err(Problem::not_found().into());
    }
    let entry = Entry::from_row(&row)?;
    api.audit.read(caller, "get_entry", found).await;
    Ok(entry)
}

/// Of the history of an entry stay the first version, by which an `Idempotency-Key` is known again, and so many of the newest:
/// every answer holds all of it, however often somebody changes the entry.
const NEWEST_VERSIONS: usize = 50;

/// Changes an entry, if it is what the caller thinks: keeps what it was, and counts the version up. `$7` to `$9` name it.
fn change_of(set: &str, only: &str) -> String {
    format!(
        "update customer360.entries e
         set history = (
                 select coalesce(jsonb_agg(was order by number), '[]')
                 from jsonb_array_elements(e.history) with ordinality as h (was, number)
                 where number = 1 or number > jsonb_array_length(e.history) + 1 - {NEWEST_VERSIONS}
             ) || (
                 jsonb_build_object('version', e.version, 'content', e.content, 'author', e.author, 'until', $2::timestamptz,
                                    'deleted', e.deleted_at is not null)
                 || case when $11::uuid is null then '{{}}' else jsonb_build_object('once', $11) end),
             author = $4, updated_at = $2, version = e.version + 1, {set}
         from at
         where at.customer_id = $1 and e.customer_id = any (customer360.once_known_as(at.customer_id))
           and e.entry_id = $7 and e.type = $8 and ($9::bigint[] = '{{}}' or e.version = any ($9)) and {only}
         returning e.*"
    )
}

/// Why nothing was changed.
fn unchanged(if_match: &[i64]) -> Problem {
    match if_match {
        [] => Problem::not_found(),
        _ => Problem::new(StatusCode::PRECONDITION_FAILED)
            .with_detail("there is no such entry, or it has changed since: read it again"),
    }
}

/// Change an entry
///
/// With `If-Match`, only the version of that `ETag`. What it was stays in its history, which keeps the first version and those
/// before the newest fifty changes.
#[utoipa::path(
    put, path = "/api/v1/customers/{customer}/{kind}/{entry_id}", tag = "entries", operation_id = "change_entry",
    params(
        ("customer" = String, Path, description = "The id, or an email"),
        ("kind" = String, Path, description = "notes, contacts, links, or a type of objects.types"),
        ("entry_id" = Uuid, Path, description = "The entry's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the version that is to be changed"),
    ),
    request_body(content = std::collections::BTreeMap<String, Value>, example = json!({"text": "Called, wants three"})),
    responses(
        (status = 200, description = "Changed", body = Entry),
        (status = 308, description = "The customer is known under another id by now"),
    ),
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(of): OfEntry,
    if_match: IfMatch,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Response, Refusal> {
    let content = Content::read(&api.settings.object_types, &of.1, body)?;
    Ok(take(&api, &caller, &of, &Step::Change(content), &if_match).await?.answer(StatusCode::OK))
}

/// What becomes of an entry that is there.
pub(crate) enum Step {
    /// It says something else.
    Change(Content),
    /// It is removed.
    Remove,
    /// Its last change is taken back, if that was not done before under the same id.
    Undo(Option<Uuid>),
}

/// Takes a step with an entry, if it is what the caller thinks.
pub(crate) async fn take(
    api: &Api,
    caller: &Caller,
    (customer, kind, entry_id): &Named,
    step: &Step,
    if_match: &IfMatch,
) -> Result<Entry, Refusal> {
    let kind = type_of(&api.settings.object_types, kind)?;
    let (action, set, only) = match step {
        Step::Change(_) => ("change_entry", "content = $10", "e.deleted_at is null"),
        Step::Remove => ("remove_entry", "deleted_at = $2", "e.deleted_at is null"),
        Step::Undo(_) => (
            "undo_entry",
            "content = e.history -> -1 -> 'content',
             deleted_at = case when (e.history -> -1 ->> 'deleted')::boolean then $2 end",
            "e.history <> '[]' and not e.history @> jsonb_build_array(jsonb_build_object('once', $11::uuid))",
        ),
    };
    let content = if let Step::Change(content) = step { Some(content) } else { None };
    let once = if let Step::Undo(once) = step { *once } else { None };
    let if_match = &if_match.versions();
    let write = Write { customer, action, entry_id: *entry_id, kind: &kind, if_match, content, once };
    let done = change_of(set, only);
    let row = write.run(api, caller, &done).await?.ok_or_else(|| unchanged(if_match))?;
    Ok(Entry::from_row(&row)?)
}

/// Remove an entry
///
/// It stays in the history: `undo` brings it back.
#[utoipa::path(
    delete, path = "/api/v1/customers/{customer}/{kind}/{entry_id}", tag = "entries", operation_id = "remove_entry",
    params(
        ("customer" = String, Path, description = "The id, or an email"),
        ("kind" = String, Path, description = "notes, contacts, links, or a type of objects.types"),
        ("entry_id" = Uuid, Path, description = "The entry's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the version that is to be removed"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 308, description = "The customer is known under another id by now"),
    ),
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(of): OfEntry,
    if_match: IfMatch,
) -> Result<StatusCode, Refusal> {
    take(&api, &caller, &of, &Step::Remove, &if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Undo the last change of an entry
///
/// Also a removal, and an undoing: sent again it undoes the undoing, but for the same `Idempotency-Key`.
#[utoipa::path(
    post, path = "/api/v1/customers/{customer}/{kind}/{entry_id}/undo", tag = "entries", operation_id = "undo_entry",
    params(
        ("customer" = String, Path, description = "The id, or an email"),
        ("kind" = String, Path, description = "notes, contacts, links, or a type of objects.types"),
        ("entry_id" = Uuid, Path, description = "The entry's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the version that is to be undone"),
        ("Idempotency-Key" = Option<String>, Header, description = "Any text, one for each undoing", max_length = 200),
    ),
    responses(
        (status = 200, description = "As it was before", body = Entry),
        (status = 308, description = "The customer is known under another id by now"),
    ),
)]
pub(super) async fn undo(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(of): OfEntry,
    if_match: IfMatch,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let once = match headers.get(IDEMPOTENCY_KEY) {
        Some(_) => Some(idempotent(&caller, &headers, &[&of.2.to_string()])?),
        None => None,
    };
    let taken = take(&api, &caller, &of, &Step::Undo(once), &if_match).await;
    let entry = match (taken, once) {
        (Err(Refusal::Problem(problem)), Some(once)) => {
            let entry = one(&api, &caller, &of).await?;
            let is_known =
                entry.history.as_array().is_some_and(|was| was.iter().any(|was| was["once"] == once.to_string()));
            if is_known { entry } else { return Err(problem.into()) }
        }
        (taken, _) => taken?,
    };
    Ok(entry.answer(StatusCode::OK))
}
