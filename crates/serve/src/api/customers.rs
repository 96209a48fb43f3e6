//! `GET /customers`: search, filters, sorting, pages.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use consolidate::edit::BY_HAND;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{FromRow, Postgres, QueryBuilder, Row as _};
use utoipa::ToSchema;

use super::fields::Fields;
use super::page::{Page, Place};
use super::params::{Params, unknown};
use super::{Api, Caller};
use crate::problem::Problem;
use crate::row_filter::RowFilter;

/// Customers that a search looks at, best first.
pub(crate) const MAX_FOUND: i32 = 1000;
const SORTS: [&str; 8] = ["name", "-name", "email", "-email", "updated_at", "-updated_at", "created_at", "-created_at"];
/// Parameters of the list of customers: every other one is an attribute, so no attribute can be called so.
pub const PARAMS: [&str; 9] = ["q", "system", "list", "disagreeing", "sort", "limit", "cursor", "count", "fields"];
const FIELDS: [&str; 7] = ["customer_id", "email", "profile", "systems", "created_at", "updated_at", "version"];

/// A customer in a list.
#[derive(Debug, Serialize, FromRow, ToSchema)]
pub(crate) struct Listed {
    pub(crate) customer_id: Uuid,
    pub(crate) email: Option<String>,
    /// Attribute to value.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    pub(crate) profile: Value,
    /// The systems that know the customer.
    pub(crate) systems: Vec<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) version: i64,
}

/// What a list is sorted by.
#[derive(Clone, Copy)]
struct Sort {
    /// The expression, which an index is on.
    key: &'static str,
    /// Its type, for a place in the list.
    of_type: &'static str,
    descending: bool,
}

impl Sort {
    fn named(sort: Option<&str>, is_search: bool) -> Result<Self, Problem> {
        let Some(sort) = sort else {
            let (key, of_type) = if is_search { ("f.likeness", "real") } else { ("c.updated_at", "timestamptz") };
            return Ok(Self { key, of_type, descending: true });
        };
        let (key, of_type) = match sort.trim_start_matches('-') {
            _ if !SORTS.contains(&sort) => return Err(Problem::bad("sort", format!("one of {}", SORTS.join(", ")))),
            "name" => ("s.name", "text"),
            "email" => ("coalesce(c.email, '')", "text"),
            "created_at" => ("c.created_at", "timestamptz"),
            _ => ("c.updated_at", "timestamptz"),
        };
        Ok(Self { key, of_type, descending: sort.starts_with('-') })
    }
}

/// What a request asks for.
struct Wanted {
    q: Option<String>,
    profiles: Option<Vec<Value>>,
    systems: Vec<String>,
    lists: Vec<String>,
    /// Attributes about any of which systems disagree.
    disagreeing: Vec<String>,
    only: Option<RowFilter>,
    sort: Sort,
    after: Option<Place>,
    limit: u32,
    count: bool,
}

/// Search and list customers
///
/// `q` searches names, emails, telephones, addresses, every other text of a profile and every number of at least seven digits,
/// without accents, word by word, with typing errors forgiven where nothing matches exactly; best first, of the first thousand
/// that it meets and that pass the filters. It first meets those whose name begins with `q`. Where there are so many, sort and
/// `total` are about these, and `is_cut` says so. Any attribute of the configuration filters: `state=NH`, repeated for any of
/// several values. Newest change first unless `sort` says otherwise.
#[utoipa::path(
    get, path = "/api/v1/customers", tag = "customers", operation_id = "list_customers",
    params(
        ("q" = Option<String>, Query, description = "Words to search for", max_length = 200),
        ("system" = Option<Vec<String>>, Query, description = "Known to this system, `crm` for those made by hand; repeated: to any of them"),
        ("list" = Option<Vec<String>>, Query, description = "On this list; repeated: on any of them"),
        ("disagreeing" = Option<Vec<String>>, Query, description = "About whose attribute of this name systems disagree; repeated: any of them"),
        ("sort" = Option<String>, Query, description = "name, email, updated_at, created_at; descending with -"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "Items on a page; 50 by default"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("count" = Option<bool>, Query, description = "Whether to count all of them, as total"),
        ("fields" = Option<String>, Query, description = "Members to answer, with commas between"),
    ),
    responses((status = 200, description = "A page of customers", body = Page<Listed>)),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    mut params: Params,
) -> Result<Json<Page<Box<RawValue>>>, Problem> {
    let fields = Fields::take(&mut params, &FIELDS)?;
    Ok(Json(fields.of_each(page(&api, &caller, params).await?)?))
}

/// The page of customers that a request asks for.
pub(crate) async fn page(api: &Api, caller: &Caller, mut params: Params) -> Result<Page<Listed>, Problem> {
    let scope = params.scope().to_owned();
    let wanted = Wanted::take(api, caller, &mut params)?;
    let rows = wanted.statement().build().fetch_all(api.ask(caller).await?).await?;
    let is_cut = wanted.q.is_some() && rows.first().is_some_and(|row| row.get("is_cut"));
    Ok(Page { is_cut, ..api.cursors.page_of(&scope, &rows, place, wanted.limit, wanted.count)? })
}

fn place(row: &PgRow) -> Place {
    vec![row.get("place"), row.get::<Uuid, _>("customer_id").to_string()]
}

impl Wanted {
    fn take(api: &Api, caller: &Caller, params: &mut Params) -> Result<Self, Problem> {
        let after = api.cursors.take(params)?;
        let q = params.words("q")?;
        let systems: Vec<&str> = api.settings.systems.iter().map(String::as_str).chain([BY_HAND]).collect();
        let attributes: Vec<&str> = api.settings.attributes.iter().map(String::as_str).collect();
        Ok(Self {
            systems: params.any_of("system", &systems)?,
            lists: params.all("list"),
            disagreeing: params.any_of("disagreeing", &attributes)?,
            sort: Sort::named(params.one("sort")?.as_deref(), q.is_some())?,
            limit: params.limit()?,
            count: params.flag("count")?,
            profiles: profiles(api, params)?,
            only: caller.key.only.clone(),
            after,
            q,
        })
    }

    /// One statement: the page, how many there are on all pages, and whether a search has met more than it looks at.
    fn statement(&self) -> QueryBuilder<Postgres> {
        let Sort { key, of_type, descending } = self.sort;
        let (direction, beyond) = if descending { ("desc", "<") } else { ("asc", ">") };
        let mut sql = QueryBuilder::new("with ");
        if let Some(q) = &self.q {
            let some = |of: &[String]| (!of.is_empty()).then(|| of.to_vec());
            sql.push("f as materialized (select * from customer360.found(").push_bind(q.clone()).push(", ");
            sql.push(MAX_FOUND).push(", ").push_bind(self.profiles.clone()).push(", ").push_bind(some(&self.systems));
            sql.push(", ").push_bind(some(&self.disagreeing)).push(", ").push_bind(some(&self.lists)).push(")), ");
        }
        sql.push(format!(
            "page as materialized (
                 select c.customer_id, c.email, c.profile, s.systems, c.created_at, c.updated_at, c.version, {key} as key "
        ));
        self.push_from(&mut sql, true);
        if let Some(after) = &self.after {
            sql.push(format!(" and ({key}, c.customer_id) {beyond} (")).push_bind(after.first().cloned());
            sql.push(format!("::text::{of_type}, ")).push_bind(after.get(1).cloned()).push("::text::uuid)");
        }
        sql.push(format!(" order by {key} {direction}, c.customer_id {direction} limit "));
        // Not a parameter: the plan for a page of unknown size, which Postgres would like to keep, is that for a tenth of all.
        sql.push(u64::from(self.limit) + 1);
        sql.push(")");
        let mut about_all = Vec::new();
        if self.count {
            sql.push(", counted as materialized (select count(*) as total ");
            let by_search = !self.systems.is_empty() || !self.disagreeing.is_empty();
            self.push_from(&mut sql, by_search && self.q.is_none());
            sql.push(")");
            about_all.push("counted");
        }
        if self.q.is_some() {
            sql.push(format!(", cut as materialized (select count(*) >= {MAX_FOUND} as is_cut from f)"));
            about_all.push("cut");
        }
        let from = match about_all.as_slice() {
            [] => "page".to_owned(),
            tables => format!("{} left join page on true", tables.join(" cross join ")),
        };
        sql.push(format!(" select *, page.key::text as place from {from}"));
        sql.push(format!(" order by page.key {direction}, page.customer_id {direction}"));
        sql
    }

    /// Those who are wanted, on all pages; with `s`, or without it where nothing of it is wanted.
    fn push_from(&self, sql: &mut QueryBuilder<Postgres>, with_s: bool) {
        sql.push("from customer360.customers c ");
        if with_s {
            sql.push("join customer360.customer_search s on s.customer_id = c.customer_id ");
        }
        if self.q.is_some() {
            // It has seen to the filters.
            sql.push("join f on f.customer_id = c.customer_id where c.deleted_at is null");
            return;
        }
        sql.push("where c.deleted_at is null");
        if let Some(only) = &self.only {
            only.push_lists(sql);
        }
        if let Some(profiles) = &self.profiles {
            sql.push(" and c.profile @> any (").push_bind(profiles.clone()).push(")");
        }
        if !self.systems.is_empty() {
            sql.push(" and s.systems && ").push_bind(self.systems.clone());
        }
        if !self.disagreeing.is_empty() {
            // The first is what the index is of.
            sql.push(" and s.disagreeing <> '{}' and s.disagreeing && ").push_bind(self.disagreeing.clone());
        }
        if !self.lists.is_empty() {
            sql.push(
                " and c.customer_id in (select m.customer_id from customer360.list_members m where m.list = any (",
            );
            sql.push_bind(self.lists.clone()).push("))");
        }
    }
}

/// The profiles one of which a customer's has to contain: what is left of the parameters are attributes.
fn profiles(api: &Api, params: &mut Params) -> Result<Option<Vec<Value>>, Problem> {
    let mut filter = RowFilter::default();
    let mut rest = params.rest();
    let attributes = &api.settings.attributes;
    if let Some((name, _)) = rest.iter().find(|(name, _)| !attributes.contains(name)) {
        return Err(unknown(name, PARAMS.into_iter().chain(attributes.iter().map(String::as_str))));
    }
    // Nobody has an empty value: an empty one is none, as of other parameters.
    rest.retain(|(_, value)| !value.is_empty());
    for (name, value) in &rest {
        filter.allow(name, value);
    }
    let profiles = || filter.profiles().map_err(|error| Problem::bad("filter", error.to_string()));
    (!rest.is_empty()).then(profiles).transpose()
}
