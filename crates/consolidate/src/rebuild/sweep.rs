//! Carrying a rebuild out: one step after the other, window by window, each in a transaction that notes how far it is.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use model::{Decisions, MatchKey, Profile};
use sqlx::types::Uuid;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::{CAUSE, WINDOW, part_of, strays};
use crate::customers::{self, Target};
use crate::error::database;
use crate::matching::{self, Matching};
use crate::{Error, Rules, dirty};

/// Windows before merges and folds have their turn.
const WINDOWS_A_TURN: usize = 10;
/// The steps, in their order. Customers wait until the marks of the cross-references are folded.
const STEPS: [&str; 4] = ["participants", "xrefs", "customers", "orders"];

/// The one that is being carried out.
struct Rebuild {
    id: i64,
    rules: String,
    step: usize,
    done_until: Vec<String>,
}

/// Carries out, for a while, what is recorded under these rules and not finished; true if something is left. Only for the
/// one at work, while nothing is being merged.
pub(crate) async fn sweep(
    connection: &mut PgConnection,
    rules: &Rules,
    clock: fn() -> DateTime<Utc>,
    cancel: &CancellationToken,
) -> Result<bool, Error> {
    let open: Option<(i64, String, String, Vec<String>)> = sqlx::query_as(
        "select rebuild_id, rules, step, done_until from customer360.rebuilds
         where finished_at is null and rules = $1 order by rebuild_id limit 1",
    )
    .bind(rules.fingerprint())
    .fetch_optional(&mut *connection)
    .await
    .map_err(database("looking for a rebuild"))?;
    let Some((id, under, step, done_until)) = open else { return Ok(false) };
    let step = STEPS.iter().position(|known| *known == step).unwrap_or_default();
    let mut rebuild = Rebuild { id, rules: under, step, done_until };
    let matching = Matching::read(connection, rules).await?;
    for _ in 0..WINDOWS_A_TURN {
        if cancel.is_cancelled() || rebuild.waits(connection).await? {
            return Ok(true);
        }
        let mut transaction = connection.begin().await.map_err(rebuilding())?;
        staging::erased::hold(&mut transaction).await?;
        let is_left = rebuild.window(&mut transaction, &matching, clock()).await?;
        transaction.commit().await.map_err(rebuilding())?;
        if !is_left {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Rebuild {
    /// Whether what is marked has to be folded first: whom nobody points to is known only then.
    async fn waits(&self, connection: &mut PgConnection) -> Result<bool, Error> {
        if STEPS[self.step] != "customers" {
            return Ok(false);
        }
        sqlx::query_scalar("select exists (select from customer360.dirty_marks)")
            .fetch_one(connection)
            .await
            .map_err(rebuilding())
    }

    /// Goes through one window; false when that was the end.
    async fn window(
        &mut self,
        transaction: &mut PgConnection,
        matching: &Matching<'_>,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let (rows, last) = match STEPS[self.step] {
            "participants" => participants(transaction, matching, &self.done_until, now).await?,
            "xrefs" => xrefs(transaction, matching, &self.done_until, now).await?,
            "customers" => customers(transaction, &self.done_until, now).await?,
            _ => orders(transaction, &self.done_until).await?,
        };
        if last.is_none() {
            self.step += 1;
        }
        self.done_until = last.unwrap_or_default();
        let step = STEPS.get(self.step);
        // Rows come and go meanwhile, also by what is mended.
        sqlx::query(
            "update customer360.rebuilds
             set done = done + $2,
                 total = case when $3 is null then done + $2 else greatest(total, done + $2) end, step = coalesce($3, step), done_until = $4,
                 finished_at = case when $3 is null then $5 end
             where rebuild_id = $1",
        )
        .bind(self.id)
        .bind(rows)
        .bind(step)
        .bind(&self.done_until)
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(rebuilding())?;
        if step.is_none() {
            sqlx::query(
                "update customer360.rules set built_under = $1 where at_work = $1 and built_under is distinct from $1",
            )
            .bind(&self.rules)
            .execute(transaction)
            .await
            .map_err(rebuilding())?;
        }
        Ok(step.is_some())
    }
}

/// How many rows a window had, and the key of its last one.
type Window = (i64, Option<Vec<String>>);

fn window<R>(rows: &[R], key: impl Fn(&R) -> Vec<String>) -> Window {
    (i64::try_from(rows.len()).unwrap_or(i64::MAX), rows.last().map(key))
}

/// Participants get the match key that their email has now.
async fn participants(
    transaction: &mut PgConnection,
    matching: &Matching<'_>,
    after: &[String],
    now: DateTime<Utc>,
) -> Result<Window, Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        system: String,
        interaction_id: String,
        participant_no: i32,
        email: String,
        match_key: Option<String>,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "select system, interaction_id, participant_no, email, match_key
         from customer360.interaction_participants
         where (system, interaction_id, participant_no) > ($1, $2, $3)
         order by system, interaction_id, participant_no limit $4",
    )
    .bind(part_of(after, 0))
    .bind(part_of(after, 1))
    .bind(part_of(after, 2).parse::<i32>().unwrap_or_default())
    .bind(WINDOW)
    .fetch_all(&mut *transaction)
    .await
    .map_err(rebuilding())?;
    // As at merging: what operators block keeps its key.
    let undecided = Decisions::default();
    let mut other = Vec::new();
    for row in &rows {
        let key = MatchKey::of_email(&row.email, &matching.rules.guards, &undecided).ok();
        if key.as_ref().map(MatchKey::as_str) != row.match_key.as_deref() {
            other.push((row, key));
        }
    }
    sqlx::query(
        "update customer360.interaction_participants p
         set match_key = o.match_key, customer_id = case when o.match_key is not null then p.customer_id end
         from unnest($1::text[], $2::text[], $3::integer[], $4::text[]) as o (system, interaction_id, participant_no, match_key)
         where p.system = o.system and p.interaction_id = o.interaction_id and p.participant_no = o.participant_no",
    )
    .bind(other.iter().map(|(row, _)| row.system.as_str()).collect::<Vec<_>>())
    .bind(other.iter().map(|(row, _)| row.interaction_id.as_str()).collect::<Vec<_>>())
    .bind(other.iter().map(|(row, _)| row.participant_no).collect::<Vec<_>>())
    .bind(other.iter().map(|(_, key)| key.as_ref().map(MatchKey::as_str)).collect::<Vec<_>>())
    .execute(&mut *transaction)
    .await
    .map_err(rebuilding())?;
    let keys: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.match_key.as_deref())
        .chain(other.iter().filter_map(|(_, key)| Some(key.as_ref()?.as_str())))
        .collect();
    dirty::mark(transaction, &keys.into_iter().collect::<Vec<_>>(), CAUSE, now).await?;
    Ok(window(&rows, |row| vec![row.system.clone(), row.interaction_id.clone(), row.participant_no.to_string()]))
}

/// Cross-references get the match key that they have now; it is marked, and the one before.
async fn xrefs(
    transaction: &mut PgConnection,
    matching: &Matching<'_>,
    after: &[String],
    now: DateTime<Utc>,
) -> Result<Window, Error> {
    let Some(found) = strays::next(transaction, matching, after).await? else { return Ok((0, None)) };
    matching::write(transaction, &found.strays, now).await?;
    let computed = found.strays.iter().filter_map(|stray| Some(stray.key.as_ref().ok()?.as_str()));
    let keys: BTreeSet<&str> = found.stored.iter().map(String::as_str).chain(computed).collect();
    dirty::mark(transaction, &keys.into_iter().collect::<Vec<_>>(), CAUSE, now).await?;
    Ok((found.rows, Some(found.last)))
}

/// Customers to whom no living cross-reference points are deleted.
async fn customers(transaction: &mut PgConnection, after: &[String], now: DateTime<Utc>) -> Result<Window, Error> {
    let rows: Vec<(Uuid, String, bool)> = sqlx::query_as(
        "with looked_at as materialized (
             select customer_id, match_key from customer360.customers
             where deleted_at is null and customer_id > $1 order by customer_id limit $2
         ),
         pointed_to as materialized (
             select distinct x.customer_id
             from customer360.xrefs x
             join looked_at l on l.customer_id = x.customer_id
             where x.deleted_at is null
         )
         select l.customer_id, l.match_key, p.customer_id is not null
         from looked_at l
         left join pointed_to p on p.customer_id = l.customer_id
         order by l.customer_id",
    )
    .bind(part_of(after, 0).parse::<Uuid>().unwrap_or_default())
    .bind(WINDOW)
    .fetch_all(&mut *transaction)
    .await
    .map_err(rebuilding())?;
    let orphan = |(customer_id, match_key, _): &(Uuid, String, bool)| {
        let key = MatchKey::from_stored(match_key.clone());
        Target {
            customer_id: *customer_id,
            email: (!key.is_split()).then(|| match_key.clone()),
            match_key: match_key.clone(),
            profile: Profile::default(),
            systems: BTreeSet::new(),
            disagreeing: BTreeSet::new(),
            cause: CAUSE.to_owned(),
        }
    };
    let orphans: Vec<Target> = rows.iter().filter(|(.., is_pointed_to)| !is_pointed_to).map(orphan).collect();
    let ids: Vec<Uuid> = orphans.iter().map(|target| target.customer_id).collect();
    let known: HashMap<Uuid, _> = customers::read(transaction, &ids).await?;
    customers::write(transaction, &orphans, &known, now).await?;
    Ok(window(&rows, |(customer_id, ..)| vec![customer_id.to_string()]))
}

/// Orders belong to whom their cross-reference belongs to.
async fn orders(transaction: &mut PgConnection, after: &[String]) -> Result<Window, Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "with looked_at as materialized (
             select system, order_id, customer_external_id, customer_id from customer360.orders
             where (system, order_id) > ($1, $2) order by system, order_id limit $3
         ),
         owners as materialized (
             select x.system, x.external_id, x.customer_id
             from customer360.xrefs x
             join (select distinct system, customer_external_id from looked_at) n
                 on n.system = x.system and n.customer_external_id = x.external_id
         ),
         misplaced as materialized (
             select l.system, l.order_id, w.customer_id
             from looked_at l
             join owners w on w.system = l.system and w.external_id = l.customer_external_id
             where l.customer_id is distinct from w.customer_id
         ),
         moved as (
             update customer360.orders o set customer_id = m.customer_id
             from misplaced m
             where o.system = m.system and o.order_id = m.order_id
         )
         select system, order_id from looked_at order by system, order_id",
    )
    .bind(part_of(after, 0))
    .bind(part_of(after, 1))
    .bind(WINDOW)
    .fetch_all(transaction)
    .await
    .map_err(rebuilding())?;
    Ok(window(&rows, |(system, order_id)| vec![system.clone(), order_id.clone()]))
}

fn rebuilding() -> impl FnOnce(sqlx::Error) -> Error {
    database("rebuilding")
}
