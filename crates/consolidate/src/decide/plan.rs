//! What a request means beside the decisions that stand: what is written, and which match keys it concerns.

use model::{Decisions, MatchKey, Ruling, Unmatched};
use sqlx::PgConnection;

use super::{Decision, Done, Request, by_id};
use crate::error::database;
use crate::find::{find, find_xref};
use crate::matching::Matching;
use crate::{Error, Key, Refusal};

/// What has to be done.
pub(super) struct Plan {
    pub(super) step: Step,
    /// Match keys to fold anew; none where nothing is done.
    pub(super) keys: Vec<MatchKey>,
}

pub(super) enum Step {
    Make(Ruling),
    Undo(Decision),
    /// It is so already: by this decision, or without any.
    Nothing(Option<Decision>),
}

impl Plan {
    fn make(ruling: Ruling) -> Self {
        Self { keys: ruling.keys(), step: Step::Make(ruling) }
    }

    fn nothing(decision: Option<&Decision>) -> Self {
        Self { step: Step::Nothing(decision.cloned()), keys: Vec::new() }
    }

    pub(super) fn done(&self) -> Done {
        match self.step {
            Step::Make(_) => Done::Decided,
            Step::Undo(_) => Done::Undone,
            Step::Nothing(_) => Done::Nothing,
        }
    }
}

impl From<&Decision> for Refusal {
    fn from(decision: &Decision) -> Self {
        Self::Contradicts { decision_id: decision.decision_id, kind: decision.ruling.kind() }
    }
}

/// Looks at a request; refuses what contradicts a decision that stands.
pub(super) async fn plan(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    standing: &[Decision],
    request: &Request,
) -> Result<Plan, Error> {
    match request {
        Request::Merge(from, into) => merge(connection, matching, standing, from, into).await,
        Request::Split(key) => split(connection, standing, key).await,
        Request::Block(value) => block(matching, standing, value),
        Request::Unblock(value) => unblock(matching, standing, value),
        Request::Allow(key) => allow(connection, matching, standing, key).await,
        Request::Undo(decision_id) => match by_id(connection, *decision_id).await? {
            None => Err(Refusal::NoDecision(*decision_id).into()),
            Some(decision) if decision.undone_at.is_some() => Ok(Plan::nothing(Some(&decision))),
            Some(decision) => undo(connection, matching, standing, &decision).await,
        },
        Request::UndoLast(key) => match last_on(connection, matching, standing, key).await? {
            None => Ok(Plan::nothing(None)),
            Some(decision) => undo(connection, matching, standing, decision).await,
        },
    }
}

async fn merge(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    standing: &[Decision],
    from: &Key,
    into: &Key,
) -> Result<Plan, Error> {
    refuse_blocked(matching, standing, from)?;
    refuse_blocked(matching, standing, into)?;
    let from = find(connection, matching, from).await?.match_key;
    let into = find(connection, matching, into).await?.match_key;
    if from == into {
        return Err(Refusal::Oneself.into());
    }
    let is_one = matching.decisions.resolve(&from) == matching.decisions.resolve(&into);
    let leads_elsewhere = |d: &&Decision| matches!(&d.ruling, Ruling::Merge { from: merged, .. } if *merged == from);
    if let Some(merged) = standing.iter().find(leads_elsewhere) {
        return if is_one { Ok(Plan::nothing(Some(merged))) } else { Err(Refusal::from(merged).into()) };
    }
    // The first one leads nowhere, so where both lead to the same, the second leads to the first.
    if is_one {
        return Err(Refusal::Circle.into());
    }
    match block_of(standing, &from).or_else(|| block_of(standing, &into)) {
        Some(block) => Err(Refusal::from(block).into()),
        None => Ok(Plan::make(Ruling::Merge { from, into })),
    }
}

async fn split(connection: &mut PgConnection, standing: &[Decision], key: &Key) -> Result<Plan, Error> {
    let xref = find_xref(connection, key).await?.ok_or(Refusal::NoXref)?;
    let ruling = Ruling::Split { system: xref.system, external_id: xref.external_id };
    if let Some(split) = find_ruling(standing, &ruling) {
        return Ok(Plan::nothing(Some(split)));
    }
    if !xref.is_living {
        return Err(Refusal::Tombstone.into());
    }
    if let Some(customer_id) = xref.customer_id {
        let living: i64 =
            sqlx::query_scalar("select count(*) from customer360.xrefs where customer_id = $1 and deleted_at is null")
                .bind(customer_id)
                .fetch_one(connection)
                .await
                .map_err(database("counting cross-references"))?;
        if living <= 1 {
            return Err(Refusal::OnlyOne.into());
        }
    }
    let mut plan = Plan::make(ruling);
    if !plan.keys.iter().all(MatchKey::fits) {
        return Err(Refusal::TooLong.into());
    }
    plan.keys.extend(xref.match_key.map(MatchKey::from_stored));
    Ok(plan)
}

fn block(matching: &Matching<'_>, standing: &[Decision], value: &str) -> Result<Plan, Error> {
    if value.contains('*') {
        return Err(Refusal::Pattern.into());
    }
    let key = match unblocked_key(matching, value) {
        Ok(key) => key,
        Err(Unmatched::Blocked) => return Ok(Plan::nothing(None)),
        Err(_) => return Err(Refusal::NoKey.into()),
    };
    if let Some(block) = block_of(standing, &key) {
        return Ok(Plan::nothing(Some(block)));
    }
    match standing.iter().find(|d| d.ruling.keys().contains(&key)) {
        Some(other) => Err(Refusal::from(other).into()),
        None => Ok(Plan::make(Ruling::Block(key))),
    }
}

fn unblock(matching: &Matching<'_>, standing: &[Decision], value: &str) -> Result<Plan, Error> {
    let key = match unblocked_key(matching, value) {
        Ok(key) => key,
        Err(Unmatched::Blocked) => return Err(Refusal::BlockedByConfiguration.into()),
        Err(_) => return Err(Refusal::NoKey.into()),
    };
    match block_of(standing, &key) {
        Some(block) => Ok(Plan { step: Step::Undo(block.clone()), keys: vec![key] }),
        None => Ok(Plan::nothing(None)),
    }
}

async fn allow(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    standing: &[Decision],
    key: &Key,
) -> Result<Plan, Error> {
    refuse_blocked(matching, standing, key)?;
    let key = find(connection, matching, key).await?.named;
    let ruling = Ruling::Allow(key.clone());
    if let Some(allow) = find_ruling(standing, &ruling) {
        return Ok(Plan::nothing(Some(allow)));
    }
    if key.is_split() {
        // It is never crowded.
        return Ok(Plan::nothing(None));
    }
    match block_of(standing, &key) {
        Some(block) => Err(Refusal::from(block).into()),
        None => Ok(Plan::make(ruling)),
    }
}

async fn undo(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    standing: &[Decision],
    decision: &Decision,
) -> Result<Plan, Error> {
    let mut keys = decision.ruling.keys();
    if let Ruling::Split { system, external_id } = &decision.ruling {
        // What was decided on the customer that would be no more.
        let built_on_it = |d: &&Decision| d.decision_id != decision.decision_id && d.ruling.keys().contains(&keys[0]);
        if let Some(other) = standing.iter().find(built_on_it) {
            return Err(Refusal::from(other).into());
        }
        let key = Key::Xref(system.clone(), external_id.clone());
        let email = find_xref(connection, &key).await?.and_then(|xref| xref.email).unwrap_or_default();
        keys.extend(MatchKey::of_email(&email, &matching.rules.guards, &matching.decisions).ok());
    }
    Ok(Plan { step: Step::Undo(decision.clone()), keys })
}

/// The last standing decision on what was named.
async fn last_on<'d>(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    standing: &'d [Decision],
    key: &Key,
) -> Result<Option<&'d Decision>, Error> {
    if let Some(xref) = find_xref(connection, key).await? {
        let split = Ruling::Split { system: xref.system, external_id: xref.external_id };
        return Ok(find_ruling(standing, &split));
    }
    let named = match key {
        Key::Xref(..) => return Err(Refusal::NoXref.into()),
        Key::Word(word) => unblocked_key(matching, word).ok(),
        Key::CustomerId(_) => None,
    };
    let last = |key: &MatchKey| standing.iter().rfind(|d| d.ruling.keys().contains(key));
    match named.as_ref().and_then(last) {
        Some(decision) => Ok(Some(decision)),
        None => Ok(last(&find(connection, matching, key).await?.named)),
    }
}

fn find_ruling<'d>(standing: &'d [Decision], ruling: &Ruling) -> Option<&'d Decision> {
    standing.iter().find(|decision| decision.ruling == *ruling)
}

fn block_of<'d>(standing: &'d [Decision], key: &MatchKey) -> Option<&'d Decision> {
    find_ruling(standing, &Ruling::Block(key.clone()))
}

/// Somebody who is blocked is no customer: by a decision that contradicts the new one, or by the configuration.
fn refuse_blocked(matching: &Matching<'_>, standing: &[Decision], key: &Key) -> Result<(), Error> {
    let Key::Word(word) = key else { return Ok(()) };
    match unblocked_key(matching, word) {
        Err(Unmatched::Blocked) => Err(Refusal::BlockedByConfiguration.into()),
        Err(_) => Ok(()),
        Ok(key) => match block_of(standing, &key) {
            Some(block) => Err(Refusal::from(block).into()),
            None => Ok(()),
        },
    }
}

/// The match key of an email if operators had blocked none.
fn unblocked_key(matching: &Matching<'_>, email: &str) -> Result<MatchKey, Unmatched> {
    MatchKey::of_email(email, &matching.rules.guards, &Decisions::default())
}
