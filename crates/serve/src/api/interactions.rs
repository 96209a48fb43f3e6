//! `GET /interactions`: emails, meetings and calls, with who took part.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::{Json as FromJson, Uuid};
use sqlx::{Postgres, QueryBuilder, Row as _};
use utoipa::ToSchema;

use super::page::{Page, Place};
use super::params::Params;
use super::{Api, Caller};
use crate::problem::Problem;
use crate::row_filter::RowFilter;

const PARAMS: [&str; 10] = ["type", "status", "from", "to", "customer", "thread", "sort", "limit", "cursor", "count"];

/// An email, meeting or call.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Interaction {
    system: String,
    interaction_id: String,
    thread_id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    status: Option<String>,
    at: Option<DateTime<Utc>>,
    subject: Option<String>,
    /// What else the system says of it.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    attributes: Value,
    /// Those whom the key may see.
    participants: Vec<Participant>,
}

/// Somebody who took part.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Participant {
    email: String,
    role: Option<String>,
    /// Null for somebody who is no customer.
    customer_id: Option<Uuid>,
}

/// What a request asks for.
struct Wanted {
    types: Vec<String>,
    statuses: Vec<String>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    customer: Option<Uuid>,
    thread: Option<String>,
    descending: bool,
    after: Option<Place>,
    limit: u32,
    count: bool,
    /// If the caller sees only some customers, those are where to begin.
    only: Option<RowFilter>,
}

/// Emails, meetings and calls
///
/// Newest first unless `sort=at`. Those without a time come last, or first. With who took part: a key with a row filter sees
/// interactions of its customers, and of who took part only these.
#[utoipa::path(
    get, path = "/api/v1/interactions", tag = "interactions", operation_id = "list_interactions",
    params(
        ("type" = Option<Vec<String>>, Query, description = "As the system says, for example email; repeated: any"),
        ("status" = Option<Vec<String>>, Query, description = "As the system says; repeated: any"),
        ("from" = Option<String>, Query, description = "From this time or day on"),
        ("to" = Option<String>, Query, description = "Before this time or day"),
        ("customer" = Option<String>, Query, description = "In which this customer took part: an id or an email"),
        ("thread" = Option<String>, Query, description = "Of this thread"),
        ("sort" = Option<String>, Query, description = "at or -at"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "Items on a page; 50 by default"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("count" = Option<bool>, Query, description = "Whether to count all of them, as total"),
    ),
    responses((status = 200, description = "A page of interactions", body = Page<Interaction>)),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    mut params: Params,
) -> Result<Json<Page<Interaction>>, Problem> {
    let scope = params.scope().to_owned();
    let customer = match params.one("customer")? {
        Some(named) => Some(api.customer_id(&named).await?),
        None => None,
    };
    let sort = params.any_of("sort", &["at", "-at"])?;
    let wanted = Wanted {
        after: api.cursors.take(&mut params)?,
        types: params.all("type"),
        statuses: params.all("status"),
        from: params.time("from")?,
        to: params.time("to")?,
        thread: params.one("thread")?,
        descending: sort.first().is_none_or(|sort| sort == "-at"),
        limit: params.limit()?,
        count: params.flag("count")?,
        only: caller.key.only.clone(),
        customer,
    };
    params.finish(&PARAMS)?;
    let rows = wanted.statement().build().fetch_all(&mut *api.ask(&caller).await?).await?;
    let total = if wanted.count { Some(rows.first().map_or(0, |row| row.get("total"))) } else { None };
    // Of an empty page with a total there is one row, all of it null.
    let listed = rows.iter().filter(|row| row.get::<Option<&str>, _>("system").is_some());
    let rows = listed.map(|row| (place(row), read(row))).collect();
    Ok(Json(api.cursors.page(&scope, rows, wanted.limit, total)))
}

fn place(row: &PgRow) -> Place {
    vec![row.get("place"), row.get("system"), row.get("interaction_id")]
}

fn read(row: &PgRow) -> Interaction {
    let FromJson(participants) = row.get("participants");
    Interaction {
        system: row.get("system"),
        interaction_id: row.get("interaction_id"),
        thread_id: row.get("thread_id"),
        kind: row.get("type"),
        status: row.get("status"),
        at: row.get("at"),
        subject: row.get("subject"),
        attributes: row.get("attributes"),
        participants,
    }
}

impl Wanted {
    /// One statement: the page, who took part, and how many there are on all pages.
    fn statement(&self) -> QueryBuilder<Postgres> {
        let (direction, beyond) = if self.descending { ("desc", "<") } else { ("asc", ">") };
        let mut sql = QueryBuilder::new("with ");
        if self.by_customer() {
            sql.push(
                "theirs as materialized (
                     select distinct p.system, p.interaction_id from customer360.customers c
                     join customer360.interaction_participants p on p.customer_id = c.customer_id
                     where c.deleted_at is null",
            );
            if let Some(only) = &self.only {
                only.push_lists(&mut sql);
            }
            if let Some(customer) = self.customer {
                sql.push(" and c.customer_id = customer360.resolved(").push_bind(customer).push(")");
            }
            sql.push("), ");
        }
        sql.push("page as materialized (select i.*, coalesce(i.at, '-infinity') as key ");
        self.push_from(&mut sql);
        if let Some([at, system, id]) = self.after.as_deref() {
            sql.push(format!(" and (coalesce(i.at, '-infinity'), i.system, i.interaction_id) {beyond} ("));
            sql.push_bind(at.clone()).push("::text::timestamptz, ").push_bind(system.clone()).push("::text, ");
            sql.push_bind(id.clone()).push("::text)");
        }
        sql.push(format!(
            " order by coalesce(i.at, '-infinity') {direction}, i.system {direction}, i.interaction_id {direction} limit "
        ));
        sql.push_bind(i64::from(self.limit) + 1);
        sql.push(
            "), present as materialized (
                 select p.system, p.interaction_id,
                        jsonb_agg(jsonb_build_object('email', p.email, 'role', p.role, 'customer_id', p.customer_id)
                                  order by p.participant_no) as participants
                 from customer360.interaction_participants p
                 join page on page.system = p.system and page.interaction_id = p.interaction_id
                 group by p.system, p.interaction_id
             )",
        );
        let columns = "page.*, page.key::text as place, coalesce(present.participants, '[]') as participants";
        if self.count {
            sql.push(", counted as materialized (select count(*) as total ");
            self.push_from(&mut sql);
            sql.push(format!(") select counted.total, {columns} from counted left join page on true"));
        } else {
            sql.push(format!(" select {columns} from page"));
        }
        sql.push(" left join present on present.system = page.system and present.interaction_id = page.interaction_id");
        sql.push(format!(" order by page.key {direction}, page.system {direction}, page.interaction_id {direction}"));
        sql
    }

    fn by_customer(&self) -> bool {
        self.only.is_some() || self.customer.is_some()
    }

    /// Those that are wanted, on all pages.
    fn push_from(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push("from customer360.interactions i ");
        if self.by_customer() {
            sql.push("join theirs t on t.system = i.system and t.interaction_id = i.interaction_id ");
        }
        sql.push("where i.deleted_at is null");
        for (column, values) in [("type", &self.types), ("status", &self.statuses)] {
            if !values.is_empty() {
                sql.push(format!(" and i.{column} = any (")).push_bind(values.clone()).push(")");
            }
        }
        for (beyond, time) in [(">=", self.from), ("<", self.to)] {
            if let Some(time) = time {
                sql.push(format!(" and i.at {beyond} ")).push_bind(time);
            }
        }
        if let Some(thread) = &self.thread {
            sql.push(" and i.thread_id = ").push_bind(thread.clone());
        }
    }
}
