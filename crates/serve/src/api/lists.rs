//! Named lists of customers: for work, and for keys that see only those on one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::types::Uuid;
use sqlx::{FromRow as _, PgExecutor, Row as _};
use utoipa::ToSchema;

use super::page::Page;
use super::params::Params;
use super::path::Path;
use super::{Api, Caller};
use crate::problem::Problem;

const MAX_NAME_CHARS: usize = 100;
/// Why who keeps lists has to see everybody.
pub(crate) const OF_ALL: &str = "lists decide what keys with a row filter see";

/// A list.
#[derive(Debug, Serialize, sqlx::FromRow, ToSchema)]
pub(crate) struct List {
    pub(crate) name: String,
    pub(crate) made_by: String,
    pub(crate) made_at: DateTime<Utc>,
    /// How many of them the key may see.
    pub(crate) customers: i64,
}

const PARAMS: [&str; 3] = ["limit", "cursor", "count"];

/// All lists
#[utoipa::path(
    get, path = "/api/v1/lists", tag = "lists", operation_id = "list_lists",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "Items on a page; 50 by default"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("count" = Option<bool>, Query, description = "Whether to count all of them, as total"),
    ),
    responses((status = 200, description = "A page of the lists, by name", body = Page<List>)),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    mut params: Params,
) -> Result<Json<Page<List>>, Problem> {
    let scope = params.scope().to_owned();
    let after = api.cursors.take(&mut params)?;
    let (limit, count) = (params.limit()?, params.flag("count")?);
    params.finish(&PARAMS)?;
    let after = after.as_ref().and_then(|place| place.first()).map(String::as_str);
    let (lists, total) = named(&api, &caller, (after, None), Some(i64::from(limit) + 1), count).await?;
    let rows = lists.into_iter().map(|list| (vec![list.name.clone()], list)).collect();
    Ok(Json(api.cursors.page(&scope, rows, limit, total)))
}

/// All lists, by name.
pub(crate) async fn all(api: &Api, caller: &Caller) -> Result<Vec<List>, Problem> {
    Ok(named(api, caller, (None, None), None, false).await?.0)
}

/// The list of this name.
pub(crate) async fn one(api: &Api, caller: &Caller, name: &str) -> Result<List, Problem> {
    named(api, caller, (None, Some(name)), None, false).await?.0.pop().ok_or_else(Problem::not_found)
}

/// The lists after a name, or of one, by name, at most so many; and how many there are, if they are to be counted.
async fn named(
    api: &Api,
    caller: &Caller,
    (after, only): (Option<&str>, Option<&str>),
    most: Option<i64>,
    count: bool,
) -> Result<(Vec<List>, Option<i64>), Problem> {
    let session = api.ask(caller).await?;
    let rows = sqlx::query(
        "with page as materialized (
             select l.name, l.made_by, l.made_at from customer360.lists l
             where ($1::text is null or l.name > $1) and ($4::text is null or l.name = $4)
             order by l.name limit $2
         ),
         members as materialized (
             select m.list, count(*) as customers
             from customer360.list_members m
             join customer360.customers c on c.customer_id = m.customer_id
             where c.deleted_at is null and m.list in (select name from page)
             group by m.list
         ),
         counted as materialized (select case when $3 then (select count(*) from customer360.lists) end as total)
         select counted.total, p.name, p.made_by, p.made_at, coalesce(m.customers, 0) as customers
         from counted
         left join page p on true
         left join members m on m.list = p.name
         order by p.name",
    )
    .bind(after)
    .bind(most)
    .bind(count)
    .bind(only)
    .fetch_all(session)
    .await?;
    let total = rows.first().and_then(|row| row.get("total"));
    // Of an empty page there is one row, the rest of it null.
    let listed = rows.iter().filter(|row| row.get::<Option<&str>, _>("name").is_some());
    Ok((listed.map(List::from_row).collect::<Result<_, _>>()?, total))
}

/// As a row filter can name it.
fn check_name(name: &str) -> Result<(), Problem> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.is_empty() && name.chars().count() <= MAX_NAME_CHARS && name.chars().all(is_part) {
        return Ok(());
    }
    Err(Problem::unprocessable("name", format!("letters, digits, `_`, `-` and `.`, at most {MAX_NAME_CHARS}")))
}

/// Make a list
///
/// One that is there already stays as it is.
#[utoipa::path(
    put, path = "/api/v1/lists/{name}", tag = "lists", operation_id = "make_list",
    params(("name" = String, Path, description = "Letters, digits, _, - and .")),
    responses((status = 204, description = "The list is there")),
)]
pub(super) async fn make(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    add(&api, &caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a list, unless there is one of this name; says whether it did.
pub(crate) async fn add(api: &Api, caller: &Caller, name: &str) -> Result<bool, Problem> {
    check_name(name)?;
    let sql = "insert into customer360.lists (name, made_by, made_at) values ($6, $3, $1) on conflict do nothing
               returning 1";
    Ok(write(api, caller, "make_list", sql, name, None).await? > 0)
}

/// Remove a list
///
/// A key that may see only those on it sees nobody from then on.
#[utoipa::path(
    delete, path = "/api/v1/lists/{name}", tag = "lists", operation_id = "remove_list",
    params(("name" = String, Path, description = "The list")),
    responses((status = 204, description = "Removed")),
)]
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    // Nobody moves members meanwhile: their list would go from under them.
    let sql = "delete from customer360.lists where name = $6 and customer360.hold_moves() returning 1";
    match write(&api, &caller, "remove_list", sql, &name, None).await? {
        0 => Err(Problem::not_found()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

/// Put a customer on a list
#[utoipa::path(
    put, path = "/api/v1/lists/{name}/customers/{customer}", tag = "lists", operation_id = "put_on_list",
    params(
        ("name" = String, Path, description = "The list"),
        ("customer" = String, Path, description = "The id, or an email"),
    ),
    responses((status = 204, description = "The customer is on the list")),
)]
pub(crate) async fn put(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((name, customer)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let customer = api.customer_id(&customer).await?;
    let sql = "insert into customer360.list_members as m (customer_id, list, added_at)
               select c.customer_id, l.name, $1
               from customer360.lists l, customer360.customers c
               where l.name = $6 and c.customer_id = customer360.resolved($7) and customer360.lives(c.customer_id)
               on conflict on constraint list_members_pkey do update set
                   put_on = case when m.put_on is not null then
                                array(select distinct p from unnest(m.put_on || m.customer_id) as p order by p) end
               returning 1";
    match write(&api, &caller, "put_on_list", sql, &name, Some(customer)).await? {
        0 => Err(Problem::not_found()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

/// Take a customer off a list
#[utoipa::path(
    delete, path = "/api/v1/lists/{name}/customers/{customer}", tag = "lists", operation_id = "take_off_list",
    params(
        ("name" = String, Path, description = "The list"),
        ("customer" = String, Path, description = "The id, or an email"),
    ),
    responses((status = 204, description = "The customer is not on the list")),
)]
pub(crate) async fn take(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((name, customer)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    caller.sees_everybody(OF_ALL)?;
    let customer = api.customer_id(&customer).await?;
    let mut transaction = api.begin().await?;
    // Nobody moves members meanwhile. By itself, before: whoever was moved while it waited is seen where he is now.
    sqlx::query("select customer360.hold_moves()").execute(&mut *transaction).await?;
    let sql = "delete from customer360.list_members m
               where m.list = $6 and m.customer_id = any (customer360.once_known_as(customer360.resolved($7)))
               returning 1";
    let there = "customer360.lists l, customer360.customers c
                 where l.name = $6 and c.customer_id = customer360.resolved($7)";
    match run(&mut *transaction, &caller, "take_off_list", (sql, there), &name, Some(customer)).await? {
        0 => Err(Problem::not_found()),
        _ => Ok(transaction.commit().await.map(|()| StatusCode::NO_CONTENT)?),
    }
}

/// Runs a statement that gives a row for each one it wrote, and says how many there were.
async fn write(
    api: &Api,
    caller: &Caller,
    action: &'static str,
    sql: &str,
    list: &str,
    customer: Option<Uuid>,
) -> Result<i64, Problem> {
    caller.sees_everybody(OF_ALL)?;
    let session = api.ask(caller).await?;
    run(session, caller, action, (sql, "done"), list, customer).await
}

/// Runs a statement, notes in the audit log what it wrote, and says how much there is of `counted`. `$1` is now, `$3` the name of
/// the key, `$6` the list, `$7` the customer.
async fn run(
    session: impl PgExecutor<'_>,
    caller: &Caller,
    action: &'static str,
    (sql, counted): (&str, &str),
    list: &str,
    customer: Option<Uuid>,
) -> Result<i64, Problem> {
    let statement = format!(
        "with done as ({sql}),
         noted as (
             insert into customer360.audit_log (at, key_id, key_name, action, customer_id, request_id)
             select $1, $2, $3, $4, customer360.resolved($7::uuid), $5 from done
         )
         select count(*) from {counted}"
    );
    let count = sqlx::query_scalar(staging::constant_sql(statement))
        .bind(Utc::now())
        .bind(caller.key.key_id)
        .bind(&caller.key.name)
        .bind(action)
        .bind(&caller.request_id)
        .bind(list)
        .bind(customer)
        .fetch_one(session)
        .await?;
    Ok(count)
}
