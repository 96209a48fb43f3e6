//! Operators' decisions: recorded together with the marks that make profiles follow, looked at beforehand, undone.
//!
//! A decision holds as soon as it is recorded, for what is known and for whatever comes later. It is never deleted: an
//! undone one stays as history. One that contradicts another which stands is refused, so that no order in which decisions
//! were made has to be remembered to know what they mean together.

mod effects;
mod plan;

use chrono::{DateTime, Utc};
use model::{MatchKey, Ruling};
use sqlx::postgres::PgConnectOptions;
use sqlx::types::Uuid;
use sqlx::{Connection, PgConnection, Row};
use tokio_util::sync::CancellationToken;

use crate::error::database;
use crate::matching::Matching;
use crate::{Error, Key, Rules, dirty, migrate, preview, worker};

pub use effects::Effect;
use plan::Plan;

/// By this the marks of decisions are known, and what follows from them in `customer360.changes`.
const CAUSE: &str = "decision";

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first one's match key leads to the second one's customer.
    Merge(Key, Key),
    /// A cross-reference has a customer of its own.
    Split(Key),
    /// An email matches nobody.
    Block(String),
    /// An email matches again.
    Unblock(String),
    /// A match key may be crowded.
    Allow(Key),
    /// A decision holds no more.
    Undo(i64),
    /// The last decision on a match key that stands holds no more; of a system and its id, the split.
    UndoLast(Key),
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Decision {
    /// Its number.
    pub decision_id: i64,
    /// What was decided; in JSON `kind` and `subject`.
    #[serde(flatten)]
    pub ruling: Ruling,
    /// When.
    pub made_at: DateTime<Utc>,
    /// By whom.
    pub made_by: String,
    /// Since when it holds no more.
    pub undone_at: Option<DateTime<Utc>>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// A decision was made.
    Decided,
    /// One was undone.
    Undone,
    /// It was so already.
    Nothing,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// What was done.
    pub done: Done,
    /// The decision that was made or undone, or that says so already.
    pub decision: Option<Decision>,
    /// The customers concerned, as they are afterwards.
    pub customers: Vec<Effect>,
    /// Whether profiles have followed. If not, whoever consolidates next sees to it.
    pub folded: bool,
}

/// Says what would come of a request: it is carried out in one transaction, which is rolled back, and the number of the
/// decision with it.
pub async fn foresee(
    options: &PgConnectOptions,
    rules: &Rules,
    request: &Request,
    by: &str,
    now: DateTime<Utc>,
) -> Result<Outcome, Error> {
    let mut connection = staging::connect(options).await?;
    migrate::ensure_change_partition(&mut connection, now).await?;
    let mut transaction = connection.begin().await.map_err(database("deciding"))?;
    let recorded = Draft::of(&mut transaction, rules, request, by, now).await?;
    let matching = Matching::read(&mut transaction, rules).await?;
    preview::fold_within(&mut transaction, &matching, &recorded.plan.keys, now).await?;
    let customers = recorded.before.effects(&mut transaction, &matching).await?;
    transaction.rollback().await.map_err(database("deciding"))?;
    Ok(Outcome { done: recorded.plan.done(), decision: recorded.decision, customers, folded: true })
}

/// Carries a request out and waits until profiles have followed, with or without a daemon beside. Cancelled while it waits,
/// the decision holds all the same.
pub async fn carry_out(
    options: &PgConnectOptions,
    rules: &Rules,
    request: &Request,
    by: &str,
    cancel: &CancellationToken,
) -> Result<Outcome, Error> {
    let mut connection = staging::connect(options).await?;
    let recorded = draft(&mut connection, rules, request, by, Utc::now()).await?;
    let folded = recorded.plan.keys.is_empty() || worker::settle(rules, options, cancel).await?;
    let matching = Matching::read(&mut connection, rules).await?;
    let customers = recorded.before.effects(&mut connection, &matching).await?;
    Ok(Outcome { done: recorded.plan.done(), decision: recorded.decision, customers, folded })
}

/// A request that was carried out, and that profiles are to follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// What was done.
    pub done: Done,
    /// The decision that was made or undone, or that says so already.
    pub decision: Option<Decision>,
    /// The customers concerned, before and after; also one who is still to appear.
    pub customers: Vec<Uuid>,
    keys: Vec<MatchKey>,
}

/// Carries a request out and leaves profiles to whoever consolidates, see [`has_followed`]. In a transaction of the
/// caller's it is a part of that.
pub async fn record(
    connection: &mut PgConnection,
    rules: &Rules,
    request: &Request,
    by: &str,
    now: DateTime<Utc>,
) -> Result<Recorded, Error> {
    let Draft { plan, decision, before } = draft(connection, rules, request, by, now).await?;
    Ok(Recorded { done: plan.done(), decision, customers: before.concerned(), keys: plan.keys })
}

/// Whether profiles have followed a request.
pub async fn has_followed(connection: &mut PgConnection, recorded: &Recorded) -> Result<bool, Error> {
    Ok(!dirty::is_marked(connection, &recorded.keys).await?)
}

async fn draft(
    connection: &mut PgConnection,
    rules: &Rules,
    request: &Request,
    by: &str,
    now: DateTime<Utc>,
) -> Result<Draft, Error> {
    let mut transaction = connection.begin().await.map_err(database("deciding"))?;
    // A decision names emails: none of somebody who is being erased.
    staging::erased::hold(&mut transaction).await?;
    let recorded = Draft::of(&mut transaction, rules, request, by, now).await?;
    let keys: Vec<&str> = recorded.plan.keys.iter().map(MatchKey::as_str).collect();
    dirty::mark(&mut transaction, &keys, CAUSE, now).await?;
    staging::wake(&mut transaction, staging::LANDED_CHANNEL, None).await?;
    transaction.commit().await.map_err(database("deciding"))?;
    Ok(recorded)
}

/// A request that is written down in the caller's transaction, and what there was before.
struct Draft {
    plan: Plan,
    decision: Option<Decision>,
    before: effects::Before,
}

impl Draft {
    async fn of(
        connection: &mut PgConnection,
        rules: &Rules,
        request: &Request,
        by: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        // Two that are made at once could contradict each other, and neither would see it.
        sqlx::query("select pg_advisory_xact_lock(hashtext('c360.decisions'))")
            .execute(&mut *connection)
            .await
            .map_err(database("waiting to decide"))?;
        let matching = Matching::read(connection, rules).await?;
        let standing = standing(connection).await?;
        let plan = plan::plan(connection, &matching, &standing, request).await?;
        let before = effects::Before::read(connection, &matching, &plan.keys).await?;
        let decision = match &plan.step {
            plan::Step::Make(ruling) => Some(insert(connection, ruling, by, now).await?),
            plan::Step::Undo(decision) => Some(undo(connection, decision, now).await?),
            plan::Step::Nothing(decision) => decision.clone(),
        };
        Ok(Self { plan, decision, before })
    }
}

/// The decisions that stand, in the order made.
pub(crate) async fn standing(connection: &mut PgConnection) -> Result<Vec<Decision>, Error> {
    let rows = sqlx::query(
        "select decision_id, kind, subject, made_at, made_by, undone_at
         from customer360.decisions where undone_at is null order by decision_id",
    )
    .fetch_all(connection)
    .await
    .map_err(database("reading decisions"))?;
    Ok(rows.iter().filter_map(decision).collect())
}

/// A decision by its number, also one that was undone.
async fn by_id(connection: &mut PgConnection, decision_id: i64) -> Result<Option<Decision>, Error> {
    let row = sqlx::query(
        "select decision_id, kind, subject, made_at, made_by, undone_at
         from customer360.decisions where decision_id = $1",
    )
    .bind(decision_id)
    .fetch_optional(connection)
    .await
    .map_err(database("looking for a decision"))?;
    Ok(row.as_ref().and_then(decision))
}

async fn insert(
    connection: &mut PgConnection,
    ruling: &Ruling,
    by: &str,
    now: DateTime<Utc>,
) -> Result<Decision, Error> {
    let (decision_id, made_at) = sqlx::query_as(
        "insert into customer360.decisions (kind, subject, made_at, made_by) values ($1, $2, $3, $4)
         returning decision_id, made_at",
    )
    .bind(ruling.kind())
    .bind(ruling.subject())
    .bind(now)
    .bind(by)
    .fetch_one(connection)
    .await
    .map_err(database("recording a decision"))?;
    Ok(Decision { decision_id, ruling: ruling.clone(), made_at, made_by: by.to_owned(), undone_at: None })
}

async fn undo(connection: &mut PgConnection, undone: &Decision, now: DateTime<Utc>) -> Result<Decision, Error> {
    sqlx::query("update customer360.decisions set undone_at = $2 where decision_id = $1")
        .bind(undone.decision_id)
        .bind(now)
        .execute(connection)
        .await
        .map_err(database("undoing a decision"))?;
    Ok(Decision { undone_at: Some(now), ..undone.clone() })
}

fn decision(row: &sqlx::postgres::PgRow) -> Option<Decision> {
    let (kind, subject): (&str, Vec<String>) = (row.get("kind"), row.get("subject"));
    let ruling = Ruling::from_stored(kind, &subject);
    if ruling.is_none() {
        tracing::error!(kind, "a decision of a kind that this version does not know is ignored");
    }
    Some(Decision {
        decision_id: row.get("decision_id"),
        ruling: ruling?,
        made_at: row.get("made_at"),
        made_by: row.get("made_by"),
        undone_at: row.get("undone_at"),
    })
}
