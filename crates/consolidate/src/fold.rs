//! Step 2: dirty match keys into profiles.

mod look;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use model::{Contributor, Decisions, Edit, MatchKey, Profile, Unmatched};
use sqlx::types::Uuid;
use sqlx::{Connection, PgConnection, Row};
use staging::LockHolder;
use tokio_util::sync::CancellationToken;

use crate::customers::{self, Target};
use crate::dirty::{self, Marks, Window};
use crate::error::database;
use crate::matching::{self, Matching, Standing, Stray};
use crate::xrefs::Moved;
use crate::{Error, Rules, edit, interactions, metrics, migrate, orders, redirects};

pub(crate) use look::look;

/// What a fold did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Folded {
    /// Dirty keys taken.
    pub(crate) keys: usize,
    /// Profiles that were written.
    pub(crate) profiles: usize,
}

/// A living cross-reference, as it is stored.
pub(crate) struct Living {
    pub(crate) system: String,
    pub(crate) external_id: String,
    pub(crate) match_key: MatchKey,
    email: Option<String>,
    attributes: BTreeMap<String, serde_json::Value>,
    observed_at: DateTime<Utc>,
    customer_id: Option<Uuid>,
    unmatched_reason: Option<String>,
    edits: BTreeMap<String, Edit>,
    /// What `customer_id` and `unmatched_reason` ought to be.
    pub(crate) belongs_to: Result<Uuid, Unmatched>,
}

/// A marked match key, or one that leads to the same customer, with the cause of the mark.
pub(crate) struct Marked<'m> {
    pub(crate) key: MatchKey,
    pub(crate) cause: &'m str,
}

/// Keys that one transaction folds.
const FOLD_KEYS: usize = 2_000;

/// Folds the keys that are marked now, or the oldest of very many. Folding is a pure function of what is stored, so a fold that
/// is cut short by `cancel` or a crash is simply done again: the marks stand until all is folded.
pub(crate) async fn fold(
    reader: &LockHolder,
    lanes: &[LockHolder],
    rules: &Rules,
    standing: &mut Standing,
    clock: fn() -> DateTime<Utc>,
    cancel: &CancellationToken,
) -> Result<Folded, Error> {
    let mut folded = Folded::default();
    let marks = Marks::take(&mut *reader.connection().await).await?;
    if marks.is_empty() {
        return Ok(folded);
    }
    let matching = Matching::keep_up(&mut *reader.connection().await, rules, standing).await?;
    let mut window = marks.window(&mut *reader.connection().await, None).await?;
    while let Some((last, _)) = window.last_key_value() {
        let started = Instant::now();
        // One moment for the whole window, whose month is there: the clock may jump at any time.
        let now = clock();
        migrate::ensure_change_partition(&mut *reader.connection().await, now).await?;
        let profiles = fold_window(lanes, &matching, &window, now, cancel).await?;
        if cancel.is_cancelled() {
            return Ok(folded);
        }
        folded.keys += window.len();
        folded.profiles += profiles;
        ::metrics::histogram!(metrics::FOLD_SECONDS).record(started.elapsed());
        ::metrics::counter!(metrics::PROFILES_WRITTEN).increment(profiles as u64);
        if dirty::is_last(&window) {
            break;
        }
        window = marks.window(&mut *reader.connection().await, Some(last)).await?;
    }
    marks.remove(&mut *reader.connection().await).await?;
    Ok(folded)
}

/// Folds keys part by part, by as many lanes as there are; returns how many profiles were written.
async fn fold_window(
    lanes: &[LockHolder],
    matching: &Matching<'_>,
    window: &Window,
    now: DateTime<Utc>,
    cancel: &CancellationToken,
) -> Result<usize, Error> {
    let parts = parts(window, &matching.decisions);
    let next = AtomicUsize::new(0);
    let folding = lanes.iter().map(async |lane| {
        let mut profiles = 0;
        while let (Some(part), false) = (parts.get(next.fetch_add(1, Ordering::Relaxed)), cancel.is_cancelled()) {
            profiles += fold_or_refuse(&mut *lane.connection().await, matching, part, now).await?;
        }
        Ok(profiles)
    });
    // All of them end before an error is returned: none is left in the middle of a statement.
    join_all(folding).await.into_iter().sum()
}

/// Folds one part; if the database refuses data, customer by customer, so that only those stay as they are of whom it does.
async fn fold_or_refuse(
    lane: &mut PgConnection,
    matching: &Matching<'_>,
    part: &[Marked<'_>],
    now: DateTime<Utc>,
) -> Result<usize, Error> {
    match fold_alone(lane, matching, part, now).await {
        Err(error) if error.is_data() => {}
        outcome => return outcome,
    }
    let mut profiles = 0;
    let leads_to = |marked: &Marked<'_>| matching.decisions.resolve(&marked.key).clone();
    for of_one in part.chunk_by(|one, next| leads_to(one) == leads_to(next)) {
        match fold_alone(lane, matching, of_one, now).await {
            Err(error) if error.is_data() => {
                let customer_id = of_one.first().map(|marked| matching.customer_id(&marked.key));
                tracing::error!(?customer_id, %error, "a profile cannot be written and stays as it is");
                ::metrics::counter!(metrics::PROFILES_REFUSED).increment(1);
            }
            outcome => profiles += outcome?,
        }
    }
    Ok(profiles)
}

async fn fold_alone(
    lane: &mut PgConnection,
    matching: &Matching<'_>,
    part: &[Marked<'_>],
    now: DateTime<Utc>,
) -> Result<usize, Error> {
    // Unlike the other commits of consolidation it waits for the disk: a version that somebody has read stays what it is.
    let mut transaction =
        lane.begin_with("begin; set local synchronous_commit = on").await.map_err(database("folding"))?;
    staging::erased::hold(&mut transaction).await?;
    let profiles = fold_part(&mut transaction, matching, part, now).await?;
    transaction.commit().await.map_err(database("folding"))?;
    Ok(profiles)
}

/// Marked keys and all others that lead to the same customers, in parts that share no customer.
pub(crate) fn parts<'m>(window: &'m Window, decisions: &Decisions) -> Vec<Vec<Marked<'m>>> {
    let mut done = HashSet::new();
    let mut parts = vec![Vec::new()];
    for (marked, cause) in window {
        let leads_to = decisions.resolve(marked);
        if !done.insert(leads_to) {
            continue;
        }
        if parts.last().is_some_and(|part| part.len() >= FOLD_KEYS) {
            parts.push(Vec::new());
        }
        let with_cause = |key: MatchKey| Marked { cause: window.get(&key).unwrap_or(cause), key };
        let keys = decisions.leading_to(leads_to).into_iter().map(with_cause);
        if let Some(part) = parts.last_mut() {
            part.extend(keys);
        }
    }
    parts
}

/// Folds one part in the caller's transaction; returns how many profiles it wrote.
pub(crate) async fn fold_part(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    part: &[Marked<'_>],
    now: DateTime<Utc>,
) -> Result<usize, Error> {
    let found = matching::newly_matched(connection, matching, part).await?;
    matching::write(connection, &found, now).await?;
    let mut living = read_living(connection, part).await?;
    let strays = take_strays(&mut living, matching);
    matching::write(connection, &strays, now).await?;
    mark_again(connection, &strays, part, now).await?;
    assign(&mut living, matching);
    edit::outdate(connection, living.iter().map(Living::contributor), now).await?;

    let targets = targets(part, &living, matching);
    let ids: Vec<Uuid> = targets.iter().map(|target| target.customer_id).collect();
    let known = customers::read(connection, &ids).await?;
    let profiles = customers::write(connection, &targets, &known, now).await?;
    move_xrefs(connection, &living, now).await?;
    let living_ids = targets.iter().filter(|target| target.living()).map(|target| target.customer_id);
    redirects::forget(connection, &living_ids.collect::<Vec<_>>()).await?;
    redirects::decide(connection, &leads(part, &targets, matching), now).await?;
    let come_or_gone = targets.iter().filter(|target| customers::has_come_or_gone(target, &known));
    redirects::follow_lists(connection, &come_or_gone.map(|target| target.customer_id).collect::<Vec<_>>()).await?;
    attach_participants(connection, &targets, matching).await?;
    offer_for_polling(connection, part, &living, matching.rules, now).await?;
    Ok(profiles)
}

/// Of those who have nobody: where a merge leads them.
fn leads(part: &[Marked<'_>], targets: &[Target], matching: &Matching<'_>) -> Vec<(Uuid, Option<Uuid>)> {
    let lead = |(marked, target): (&Marked<'_>, &Target)| {
        let to = matching.customer_id(&marked.key);
        (target.customer_id, (to != target.customer_id).then_some(to))
    };
    part.iter().zip(targets).filter(|(_, target)| !target.living()).map(lead).collect()
}

/// Takes out those whose match key is another one since a decision or a rule has changed.
fn take_strays(living: &mut Vec<Living>, matching: &Matching<'_>) -> Vec<Stray> {
    let key = |xref: &Living| matching.key(&xref.system, &xref.external_id, xref.email.as_deref());
    let strays = living.extract_if(.., |xref| key(xref).as_ref() != Ok(&xref.match_key));
    let stray = |xref: Living| Stray {
        key: key(&xref),
        system: xref.system,
        external_id: xref.external_id,
        found_by: xref.match_key,
    };
    strays.map(stray).collect()
}

/// Those that stay with their match key, each with whom it belongs to.
pub(crate) fn settled(mut living: Vec<Living>, matching: &Matching<'_>) -> Vec<Living> {
    take_strays(&mut living, matching);
    assign(&mut living, matching);
    living
}

/// Marks the keys that strays have now, with the cause that found them: another fold takes them from there.
async fn mark_again(
    connection: &mut PgConnection,
    strays: &[Stray],
    part: &[Marked<'_>],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for stray in strays {
        let found_by = part.iter().find(|marked| marked.key == stray.found_by);
        if let (Ok(key), Some(marked)) = (&stray.key, found_by) {
            keys.entry(marked.cause).or_default().insert(key.as_str());
        }
    }
    for (cause, keys) in keys {
        dirty::mark(connection, &keys.into_iter().collect::<Vec<_>>(), cause, now).await?;
    }
    Ok(())
}

/// Cross-references that have one of the keys `$1`.
const OF_KEYS: &str = "x.match_key = any ($1)";

pub(crate) async fn read_living(connection: &mut PgConnection, part: &[Marked<'_>]) -> Result<Vec<Living>, Error> {
    read_living_if(connection, part, OF_KEYS).await
}

/// Reads the living cross-references of a part of which this condition holds.
async fn read_living_if(connection: &mut PgConnection, part: &[Marked<'_>], which: &str) -> Result<Vec<Living>, Error> {
    let keys: Vec<&str> = part.iter().map(|marked| marked.key.as_str()).collect();
    let sql = format!(
        "select x.system, x.external_id, x.match_key, x.email, x.attributes::text, x.observed_at, x.customer_id,
                x.unmatched_reason,
                -- attribute -> [value, replaced, superseded, whether it is outdated]
                (select jsonb_object_agg(
                     attribute, jsonb_build_array(value, replaced, superseded, outdated_at is not null))::text
                 from customer360.edits e
                 where e.system = x.system and e.external_id = x.external_id)
         from customer360.xrefs x
         where {which} and x.deleted_at is null"
    );
    let rows = sqlx::query(staging::constant_sql(sql))
        .bind(keys)
        .fetch_all(connection)
        .await
        .map_err(database("reading living cross-references"))?;
    let living = |row: &sqlx::postgres::PgRow| Living {
        system: row.get(0),
        external_id: row.get(1),
        match_key: MatchKey::from_stored(row.get::<Option<String>, _>(2).unwrap_or_default()),
        email: row.get(3),
        // Our own jsonb object: it parses.
        attributes: serde_json::from_str(row.get(4)).unwrap_or_default(),
        observed_at: row.get(5),
        customer_id: row.get(6),
        unmatched_reason: row.get(7),
        edits: row.get::<Option<&str>, _>(8).map(read_edits).unwrap_or_default(),
        belongs_to: Err(Unmatched::NoEmail),
    };
    Ok(rows.iter().map(living).collect())
}

fn read_edits(json: &str) -> BTreeMap<String, Edit> {
    type Stored = (serde_json::Value, serde_json::Value, Vec<serde_json::Value>, bool);
    let edits: BTreeMap<String, Stored> = serde_json::from_str(json).unwrap_or_default();
    let edit = |(value, replaced, superseded, is_outdated)| Edit { value, replaced, superseded, is_outdated };
    edits.into_iter().map(|(name, stored)| (name, edit(stored))).collect()
}

/// Decides to whom each cross-reference belongs: nobody, if too many of its system share its match key.
fn assign(living: &mut [Living], matching: &Matching<'_>) {
    let mut counts: HashMap<(MatchKey, String), usize> = HashMap::new();
    for xref in living.iter() {
        *counts.entry((xref.match_key.clone(), xref.system.clone())).or_default() += 1;
    }
    for xref in living {
        let count = counts.get(&(xref.match_key.clone(), xref.system.clone())).copied().unwrap_or_default();
        let crowded = matching.is_crowded(&xref.match_key, count);
        xref.belongs_to = if crowded { Err(Unmatched::Crowded) } else { Ok(matching.customer_id(&xref.match_key)) };
    }
}

/// What the customers of all these keys are to be. A key that was merged away has a customer too, an empty one.
fn targets(part: &[Marked<'_>], living: &[Living], matching: &Matching<'_>) -> Vec<Target> {
    let mut contributors: HashMap<Uuid, Vec<&Living>> = HashMap::new();
    for xref in living {
        if let Ok(customer_id) = xref.belongs_to {
            contributors.entry(customer_id).or_default().push(xref);
        }
    }
    let target = |marked: &Marked<'_>| {
        let customer_id = marked.key.customer_id(matching.namespace);
        let xrefs = contributors.get(&customer_id).map(Vec::as_slice).unwrap_or_default();
        let folded: Vec<Contributor<'_>> = xrefs.iter().map(|xref| xref.contributor()).collect();
        let profile = if xrefs.is_empty() { Profile::default() } else { matching.rules.survivorship.fold(&folded) };
        Target {
            customer_id,
            match_key: marked.key.as_str().to_owned(),
            email: email_of(&marked.key, xrefs, matching.rules),
            disagreeing: profile.disagreeing(&folded),
            profile,
            systems: xrefs.iter().map(|xref| xref.system.clone()).collect(),
            cause: marked.cause.to_owned(),
        }
    };
    part.iter().map(target).collect()
}

/// The match key's email; of a split cross-reference its own, if that is usable. What operators block is usable here: it
/// keeps strangers apart, and this one stands alone.
fn email_of(key: &MatchKey, xrefs: &[&Living], rules: &Rules) -> Option<String> {
    if !key.is_split() {
        return Some(key.as_str().to_owned());
    }
    let own = xrefs.iter().find(|xref| xref.match_key == *key)?;
    let email = MatchKey::of_email(own.email.as_deref()?, &rules.guards, &Decisions::default()).ok()?;
    Some(email.as_str().to_owned())
}

impl Living {
    pub(crate) fn contributor(&self) -> Contributor<'_> {
        Contributor {
            system: &self.system,
            external_id: &self.external_id,
            observed_at: self.observed_at,
            attributes: &self.attributes,
            edits: &self.edits,
        }
    }
}

/// Writes to whom cross-references belong, where that has changed, with their orders, and where they came from.
async fn move_xrefs<'l>(connection: &mut PgConnection, living: &'l [Living], now: DateTime<Utc>) -> Result<(), Error> {
    let reason = |xref: &Living| xref.belongs_to.err().map(Unmatched::as_str);
    let misplaced: Vec<&Living> = living
        .iter()
        .filter(|xref| xref.customer_id != xref.belongs_to.ok() || xref.unmatched_reason.as_deref() != reason(xref))
        .collect();
    if misplaced.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update customer360.xrefs x
         set customer_id = m.customer_id, unmatched_reason = m.reason
         from unnest($1::text[], $2::text[], $3::uuid[], $4::text[]) as m (system, external_id, customer_id, reason)
         where x.system = m.system and x.external_id = m.external_id",
    )
    .bind(misplaced.iter().map(|xref| xref.system.as_str()).collect::<Vec<_>>())
    .bind(misplaced.iter().map(|xref| xref.external_id.as_str()).collect::<Vec<_>>())
    .bind(misplaced.iter().map(|xref| xref.belongs_to.ok()).collect::<Vec<_>>())
    .bind(misplaced.iter().map(|xref| reason(xref)).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await
    .map_err(database("moving cross-references"))?;
    let moved = |xref: &&'l Living| Moved {
        system: &xref.system,
        external_id: &xref.external_id,
        from: xref.customer_id.filter(|_| xref.belongs_to.is_ok()),
        to: xref.belongs_to.ok(),
    };
    let moved: Vec<Moved<'_>> = misplaced.iter().map(moved).collect();
    orders::attach(connection, &moved).await?;
    redirects::follow(connection, &moved, now).await
}

/// Participants belong to the customer to whom their key leads, while that one lives.
async fn attach_participants(
    connection: &mut PgConnection,
    targets: &[Target],
    matching: &Matching<'_>,
) -> Result<(), Error> {
    let living: BTreeSet<Uuid> = targets.iter().filter(|target| target.living()).map(|t| t.customer_id).collect();
    let customer = |target: &Target| {
        let customer_id = matching.customer_id(&MatchKey::from_stored(target.match_key.clone()));
        living.contains(&customer_id).then_some(customer_id)
    };
    let keys: Vec<&str> = targets.iter().map(|target| target.match_key.as_str()).collect();
    let customers: Vec<Option<Uuid>> = targets.iter().map(customer).collect();
    interactions::attach(connection, &keys, &customers).await
}

/// Tells the pollers which emails there are to ask about: those of living cross-references, as the newest writes it.
async fn offer_for_polling(
    connection: &mut PgConnection,
    part: &[Marked<'_>],
    living: &[Living],
    rules: &Rules,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if rules.polled_sources.is_empty() {
        return Ok(());
    }
    let mut newest: BTreeMap<&MatchKey, &Living> = BTreeMap::new();
    for xref in living.iter().filter(|xref| !xref.match_key.is_split()) {
        let rank = |x: &Living| (std::cmp::Reverse(x.observed_at), x.system.clone(), x.external_id.clone());
        newest
            .entry(&xref.match_key)
            .and_modify(|best| {
                if rank(xref) < rank(best) {
                    *best = xref;
                }
            })
            .or_insert(xref);
    }
    let keys: Vec<String> = newest.keys().map(|key| key.as_str().to_owned()).collect();
    let emails: Vec<String> =
        newest.values().map(|xref| xref.email.as_deref().unwrap_or_default().trim().to_owned()).collect();
    let offered = staging::polls::offer(&mut *connection, &rules.polled_sources, &keys, &emails, now).await?;
    let gone = part.iter().map(|marked| &marked.key).filter(|key| !key.is_split() && !newest.contains_key(key));
    let gone: Vec<String> = gone.map(|key| key.as_str().to_owned()).collect();
    if !gone.is_empty() {
        staging::polls::withdraw(&mut *connection, &gone).await?;
    }
    if offered > 0 {
        staging::wake(connection, staging::polls::OFFERED_CHANNEL, None).await?;
    }
    Ok(())
}
