//! `GET /interactions`: emails, meetings and calls, with who took part.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{FromRow, Postgres, QueryBuilder, Row as _};
use utoipa::ToSchema;

use super::fields::Fields;
use super::page::{Page, Place};
use super::params::Params;
use super::{Api, Caller};
use crate::problem::Problem;
use crate::row_filter::RowFilter;

const PARAMS: [&str; 11] =
    ["type", "status", "from", "to", "customer", "thread", "sort", "limit", "cursor", "count", "fields"];
const FIELDS: [&str; 9] =
    ["system", "interaction_id", "thread_id", "type", "status", "at", "subject", "attributes", "participants"];

/// An email, meeting or call.
#[derive(Debug, Serialize, FromRow, ToSchema)]
pub(crate) struct Interaction {
    system: String,
    interaction_id: String,
    thread_id: Option<String>,
    #[serde(rename = "type")]
    #[sqlx(rename = "type")]
    kind: Option<String>,
    status: Option<String>,
    at: Option<DateTime<Utc>>,
    subject: Option<String>,
    /// What else the system says of it.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    attributes: Value,
    /// Those whom the key may see.
    #[sqlx(json)]
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
        ("fields" = Option<String>, Query, description = "Members to answer, with commas between"),
    ),
    responses((status = 200, description = "A page of interactions", body = Page<Interaction>)),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    mut params: Params,
) -> Result<Json<Page<Box<RawValue>>>, Problem> {
    let fields = Fields::take(&mut params, &FIELDS)?;
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
    let rows = wanted.statement().build().fetch_all(api.ask(&caller).await?).await?;
    if wanted.customer.is_some()
        && let Some(customer) = rows.first().and_then(|row| row.get::<Option<Uuid>, _>("shown"))
    {
        api.audit.read(&caller, "list_interactions", customer).await;
    }
    let page: Page<Interaction> = api.cursors.page_of(&scope, &rows, place, wanted.limit, wanted.count)?;
    Ok(Json(fields.of_each(page)?))
}

fn place(row: &PgRow) -> Place {
    vec![row.get("place"), row.get("system"), row.get("interaction_id")]
}

impl Wanted {
    /// One statement: the page, who took part, whom the caller is shown if it asks for somebody, and how many there are on all
    /// pages.
    fn statement(&self) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new("with ");
        let place = if self.by_customer() {
            self.push_theirs(&mut sql);
            sql.push(", ");
            ["t.at", "t.system", "t.interaction_id"]
        } else {
            ["coalesce(i.at, '-infinity')", "i.system", "i.interaction_id"]
        };
        sql.push(format!("page as materialized (select i.*, {} as key from customer360.interactions i ", place[0]));
        if self.by_customer() {
            sql.push("join theirs t on t.system = i.system and t.interaction_id = i.interaction_id ");
        }
        self.push_conditions(&mut sql);
        self.push_after(&mut sql, &place.join(", "));
        self.push_limit(&mut sql, &place);
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
        let mut about_all = Vec::new();
        if let Some(customer) = self.customer {
            sql.push(", named as materialized (select (select c.customer_id from customer360.customers c");
            sql.push(" where c.customer_id = customer360.resolved(").push_bind(customer).push(")) as shown)");
            about_all.push("named");
        }
        if self.count {
            sql.push(", counted as materialized (select count(*) as total from customer360.interactions i ");
            self.push_conditions(&mut sql);
            if self.by_customer() {
                sql.push(" and (i.system, i.interaction_id) in (");
                sql.push("select p.system, p.interaction_id from customer360.interaction_participants p where ");
                self.push_is_theirs(&mut sql);
                sql.push(")");
            }
            sql.push(")");
            about_all.push("counted");
        }
        let from = match about_all.as_slice() {
            [] => "page".to_owned(),
            tables => format!("{} left join page on true", tables.join(" cross join ")),
        };
        sql.push(" select page.*, page.key::text as place, coalesce(present.participants, '[]') as participants");
        for table in about_all {
            sql.push(format!(", {table}.*"));
        }
        sql.push(format!(" from {from}"));
        sql.push(" left join present on present.system = page.system and present.interaction_id = page.interaction_id");
        self.push_order(&mut sql, &["page.key", "page.system", "page.interaction_id"]);
        sql
    }

    /// Whether few customers are where to begin: an index leads from each of them to what is newest.
    fn by_customer(&self) -> bool {
        self.customer.is_some() || self.list().is_some()
    }

    fn list(&self) -> Option<&str> {
        self.only.as_ref()?.lists().next()
    }

    /// Common tables that end in `theirs`: interactions of the customers to begin with, as far as the page may need them.
    fn push_theirs(&self, sql: &mut QueryBuilder<Postgres>) {
        let place = ["p.at", "p.system", "p.interaction_id"];
        let columns = place.join(", ");
        let of_participants = format!("select distinct {columns} from customer360.interaction_participants p where");
        let is_told = self.is_told_by_participants();
        if self.customer.is_none() && is_told {
            // Of each customer on the list the first interaction in the order of the page, and the last of as many of these as
            // the page needs: nothing after it is on the page, so most customers are not asked for their others.
            sql.push(
                "first as materialized (select m.customer_id, p.* from customer360.list_members m cross join lateral (",
            );
            sql.push(format!("{of_participants} p.customer_id = m.customer_id"));
            self.push_times(sql, "p");
            self.push_after(sql, &columns);
            self.push_order(sql, &place);
            sql.push(" limit 1) p where m.list = ").push_bind(self.list().map(str::to_owned));
            sql.push(format!("), reached as materialized (select distinct {columns} from first p"));
            self.push_order(sql, &place);
            let (until, end) = if self.descending { (">=", "-infinity") } else { ("<=", "infinity") };
            let within = format!("at {until} coalesce((select at from reached), '{end}')");
            sql.push(format!(
                " offset {} limit 1), theirs as (select distinct {columns} from first f cross join",
                self.limit
            ));
            sql.push(format!(" lateral ({of_participants} p.customer_id = f.customer_id and p.{within}"));
            self.push_times(sql, "p");
            self.push_after(sql, &columns);
            self.push_limit(sql, &place);
            sql.push(format!(") p where f.{within}"));
        } else {
            sql.push(format!("theirs as ({of_participants} "));
            self.push_is_theirs(sql);
            self.push_times(sql, "p");
            self.push_after(sql, &columns);
        }
        if is_told {
            self.push_limit(sql, &place);
        }
        sql.push(")");
    }

    /// That a participant is one of the customers to begin with; the policies see to it that the caller may see what is theirs.
    fn push_is_theirs(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(customer) = self.customer {
            sql.push("p.customer_id = customer360.resolved(").push_bind(customer).push(")");
        } else {
            sql.push("p.customer_id in (select m.customer_id from customer360.list_members m where m.list = ");
            sql.push_bind(self.list().map(str::to_owned)).push(")");
        }
    }

    /// What is deleted has no participants.
    fn is_told_by_participants(&self) -> bool {
        self.types.is_empty() && self.statuses.is_empty() && self.thread.is_none() && self.to.is_none()
    }

    fn push_conditions(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push("where i.deleted_at is null");
        for (column, values) in [("type", &self.types), ("status", &self.statuses)] {
            if !values.is_empty() {
                sql.push(format!(" and i.{column} = any (")).push_bind(values.clone()).push(")");
            }
        }
        self.push_times(sql, "i");
        if let Some(thread) = &self.thread {
            sql.push(" and i.thread_id = ").push_bind(thread.clone());
        }
    }

    fn push_times(&self, sql: &mut QueryBuilder<Postgres>, table: &str) {
        for (beyond, time) in [(">=", self.from), ("<", self.to)] {
            if let Some(time) = time {
                sql.push(format!(" and {table}.at {beyond} ")).push_bind(time);
            }
        }
    }

    fn push_after(&self, sql: &mut QueryBuilder<Postgres>, place: &str) {
        if let Some([at, system, id]) = self.after.as_deref() {
            sql.push(format!(" and ({place}) {} (", if self.descending { "<" } else { ">" }));
            sql.push_bind(at.clone()).push("::text::timestamptz, ").push_bind(system.clone()).push("::text, ");
            sql.push_bind(id.clone()).push("::text)");
        }
    }

    fn push_order(&self, sql: &mut QueryBuilder<Postgres>, place: &[&str; 3]) {
        let direction = if self.descending { "desc" } else { "asc" };
        let [at, system, id] = place;
        sql.push(format!(" order by {at} {direction}, {system} {direction}, {id} {direction}"));
    }

    fn push_limit(&self, sql: &mut QueryBuilder<Postgres>, place: &[&str; 3]) {
        self.push_order(sql, place);
        // Not a parameter: the plan for a page of unknown size, which Postgres would like to keep, is that for a tenth of all.
        sql.push(format!(" limit {}", u64::from(self.limit) + 1));
    }
}
