//! Saved views: what somebody asks the list of customers for, again and again.

use chrono::Utc;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Json;

use super::{Api, Caller, audit};
use crate::keys::Role;
use crate::problem::Problem;

const MAX_NAME_CHARS: usize = 60;
/// Of one owner: they stand beside each other on a page.
const MAX_VIEWS: i64 = 30;
const MAX_QUERY_BYTES: usize = 4_000;

/// A view.
#[derive(sqlx::FromRow)]
pub(crate) struct View {
    pub(crate) name: String,
    /// The parameters of the list.
    #[sqlx(json)]
    pub(crate) query: Vec<(String, String)>,
}

/// The views of a caller, by name.
pub(crate) async fn of(api: &Api, caller: &Caller) -> Result<Vec<View>, Problem> {
    let session = api.whole().await?;
    let views = sqlx::query_as("select name, query from customer360.views where owner = $1 order by name")
        .bind(&caller.key.name)
        .fetch_all(session)
        .await?;
    Ok(views)
}

/// Saves a view; one of this name becomes another one.
pub(crate) async fn save(api: &Api, caller: &Caller, name: &str, query: &[(String, String)]) -> Result<(), Problem> {
    // An erasure looks for emails in what a view asks for, and not in its name.
    let is_fine = |c: char| !c.is_control() && c != '@';
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(is_fine) {
        return Err(Problem::unprocessable("name", format!("text of 1 to {MAX_NAME_CHARS} characters without @")));
    }
    let bytes: usize = query.iter().map(|(name, value)| name.len() + value.len()).sum();
    let has_nul = query.iter().any(|(name, value)| name.contains('\0') || value.contains('\0'));
    if query.is_empty() || bytes > MAX_QUERY_BYTES || has_nul {
        return Err(Problem::unprocessable("query", format!("some filters, of at most {MAX_QUERY_BYTES} bytes")));
    }
    let statement = sqlx::query(
        "insert into customer360.views as v (owner, name, query, made_at)
         select $1, $2, $3, $4
         where (select count(*) from customer360.views where owner = $1 and name <> $2) < $5
         on conflict on constraint views_pkey do update set query = excluded.query, made_at = excluded.made_at",
    )
    .bind(&caller.key.name)
    .bind(name)
    .bind(Json(query))
    .bind(Utc::now())
    .bind(MAX_VIEWS);
    match write(api, caller, "save_view", statement).await? {
        0 => Err(Problem::unprocessable("name", format!("at most {MAX_VIEWS} views: remove one first"))),
        _ => Ok(()),
    }
}

/// Removes a view.
pub(crate) async fn remove(api: &Api, caller: &Caller, name: &str) -> Result<(), Problem> {
    let statement =
        sqlx::query("delete from customer360.views where owner = $1 and name = $2").bind(&caller.key.name).bind(name);
    match write(api, caller, "remove_view", statement).await? {
        0 => Err(Problem::not_found()),
        _ => Ok(()),
    }
}

/// Runs a statement, notes it in the audit log, and says how many rows it wrote.
async fn write(
    api: &Api,
    caller: &Caller,
    action: &str,
    statement: Query<'_, Postgres, PgArguments>,
) -> Result<u64, Problem> {
    caller.at_least(Role::Agent)?;
    let mut transaction = api.begin().await?;
    staging::erased::hold(&mut transaction).await?;
    let done = statement.execute(&mut *transaction).await?.rows_affected();
    if done > 0 {
        audit::written(&mut transaction, caller, action, None).await?;
    }
    transaction.commit().await?;
    Ok(done)
}
