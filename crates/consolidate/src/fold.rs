//! Step 2: dirty match keys into profiles.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use chrono::{DateTime, Utc};
use model::{Contributor, Decisions, Edit, MatchKey, Profile, Unmatched};
use sqlx::types::Uuid;
use sqlx::{Connection, PgConnection, Row};
use tokio_util::sync::CancellationToken;

use crate::customers::{self, Target};
use crate::dirty;
use crate::error::database;
use crate::matching::{self, Stray};
use crate::merge::namespace;
use crate::{Error, Rules, decisions, interactions, metrics, orders, redirects};

/// What a fold did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Dirty keys taken.
    pub keys: usize,
    /// Profiles that were written.
    pub profiles: usize,
}

/// A living cross-reference, as it is stored.
struct Living {
    system: String,
    external_id: String,
    match_key: MatchKey,
    email: Option<String>,
    attributes: BTreeMap<String, serde_json::Value>,
    observed_at: DateTime<Utc>,
    customer_id: Option<Uuid>,
    unmatched_reason: Option<String>,
    edits: BTreeMap<String, Edit>,
    /// What `customer_id` and `unmatched_reason` ought to be.
    belongs_to: Result<Uuid, Unmatched>,
}

/// Keys that one transaction folds.
const FOLD_KEYS: usize = 10_000;

/// Folds the dirty keys that are marked now, in transactions of some thousand keys. Folding is a pure function of what is
/// stored, so a fold that is cut short by `cancel` or a crash is simply done again.
pub async fn fold(connection: &mut PgConnection, rules: &Rules, cancel: &CancellationToken) -> Result<Folded, Error> {
    let marks = dirty::read(connection).await?;
    let mut folded = Folded { keys: marks.keys.len(), profiles: 0 };
    let keys: Vec<(&String, &String)> = marks.keys.iter().collect();
    let parts: Vec<_> = keys.chunks(FOLD_KEYS).collect();
    for (index, part) in parts.iter().enumerate() {
        if cancel.is_cancelled() {
            break;
        }
        let started = Instant::now();
        let mut transaction = connection.begin().await.map_err(database("folding"))?;
        folded.profiles += fold_keys(&mut transaction, rules, part, Utc::now()).await?;
        if index + 1 == parts.len() {
            dirty::remove(&mut transaction, &marks).await?;
        }
        transaction.commit().await.map_err(database("folding"))?;
        ::metrics::histogram!(metrics::FOLD_SECONDS).record(started.elapsed());
    }
    ::metrics::counter!(metrics::PROFILES_WRITTEN).increment(folded.profiles as u64);
    Ok(folded)
}

/// Folds match keys, each with the cause of its mark, in the caller's transaction; returns how many profiles it wrote.
async fn fold_keys(
    connection: &mut PgConnection,
    rules: &Rules,
    keys: &[(&String, &String)],
    now: DateTime<Utc>,
) -> Result<usize, Error> {
    let decisions = decisions::standing(connection).await?;
    let namespace = namespace(connection).await?;
    let mut causes = BTreeMap::new();
    for (match_key, cause) in keys {
        with_all_that_lead_to_its_customer(MatchKey::from_stored((*match_key).clone()), cause, &decisions, &mut causes);
    }
    let mut strays = matching::newly_matched(connection, rules, &decisions, &causes).await?;
    let mut living = loop {
        matching::write(connection, &strays).await?;
        let living = read_living(connection, causes.keys()).await?;
        strays = find_strays(&living, rules, &decisions);
        if strays.is_empty() {
            break living;
        }
        for stray in &strays {
            if let (Ok(key), Some(cause)) = (&stray.key, causes.get(&stray.found_by).cloned()) {
                with_all_that_lead_to_its_customer(key.clone(), &cause, &decisions, &mut causes);
            }
        }
    };
    assign(&mut living, rules, &decisions, namespace);

    let targets = targets(&causes, &living, rules, namespace);
    let ids: Vec<Uuid> = targets.iter().map(|target| target.customer_id).collect();
    let known = customers::read(connection, &ids).await?;
    let profiles = customers::write(connection, &targets, &known, now).await?;
    move_xrefs(connection, &living, now).await?;
    let owners: Vec<(&str, &str, Option<Uuid>)> =
        living.iter().map(|x| (x.system.as_str(), x.external_id.as_str(), x.belongs_to.ok())).collect();
    orders::attach(
        connection,
        &owners.iter().map(|owner| owner.0).collect::<Vec<_>>(),
        &owners.iter().map(|owner| owner.1).collect::<Vec<_>>(),
        &owners.iter().map(|owner| owner.2).collect::<Vec<_>>(),
    )
    .await?;
    attach_participants(connection, &targets, &decisions, namespace).await?;
    offer_for_polling(connection, &causes, &living, rules, now).await?;
    Ok(profiles)
}

/// Adds a key, where it leads, and all other keys that lead there, each with its cause.
fn with_all_that_lead_to_its_customer(
    key: MatchKey,
    cause: &str,
    decisions: &Decisions,
    causes: &mut BTreeMap<MatchKey, String>,
) {
    for leading in decisions.leading_to(decisions.resolve(&key)) {
        causes.entry(leading).or_insert_with(|| cause.to_owned());
    }
    causes.insert(key, cause.to_owned());
}

/// Those whose match key is another one since a decision or a rule has changed.
fn find_strays(living: &[Living], rules: &Rules, decisions: &Decisions) -> Vec<Stray> {
    let stray = |xref: &Living| {
        let key = matching::match_key(&xref.system, &xref.external_id, xref.email.as_deref(), rules, decisions);
        (key.as_ref() != Ok(&xref.match_key)).then(|| Stray {
            system: xref.system.clone(),
            external_id: xref.external_id.clone(),
            key,
            found_by: xref.match_key.clone(),
        })
    };
    living.iter().filter_map(stray).collect()
}

async fn read_living(
    connection: &mut PgConnection,
    keys: impl Iterator<Item = &MatchKey>,
) -> Result<Vec<Living>, Error> {
    let keys: Vec<&str> = keys.map(MatchKey::as_str).collect();
    let rows = sqlx::query(
        "select x.system, x.external_id, x.match_key, x.email, x.attributes::text, x.observed_at, x.customer_id,
                x.unmatched_reason, e.edits::text
         from customer360.xrefs x
         left join (
             -- edits by cross-reference: attribute -> [value, replaced]
             select system, external_id, jsonb_object_agg(attribute, jsonb_build_array(value, replaced)) as edits
             from customer360.edits
             group by system, external_id
         ) e on e.system = x.system and e.external_id = x.external_id
         where x.match_key = any ($1) and x.deleted_at is null",
    )
    .bind(keys)
    .fetch_all(connection)
    .await
    .map_err(database("reading living cross-references"))?;
    let living = |row: &sqlx::postgres::PgRow| Living {
        system: row.get(0),
        external_id: row.get(1),
        match_key: MatchKey::from_stored(row.get(2)),
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
    let edits: BTreeMap<String, (serde_json::Value, serde_json::Value)> =
        serde_json::from_str(json).unwrap_or_default();
    edits.into_iter().map(|(name, (value, replaced))| (name, Edit { value, replaced })).collect()
}

/// Decides to whom each cross-reference belongs: nobody, if too many of its system share its match key.
fn assign(living: &mut [Living], rules: &Rules, decisions: &Decisions, namespace: Uuid) {
    let mut counts: HashMap<(MatchKey, String), usize> = HashMap::new();
    for xref in living.iter().filter(|xref| !xref.match_key.is_split()) {
        *counts.entry((xref.match_key.clone(), xref.system.clone())).or_default() += 1;
    }
    for xref in living {
        let count = counts.get(&(xref.match_key.clone(), xref.system.clone())).copied().unwrap_or_default();
        let crowded = count > rules.guards.max_xrefs_per_system && !decisions.is_allowed(&xref.match_key);
        xref.belongs_to = if crowded {
            Err(Unmatched::Crowded)
        } else {
            Ok(decisions.resolve(&xref.match_key).customer_id(namespace))
        };
    }
}

/// What the customers of all these keys are to be. A key that was merged away has a customer too, an empty one.
fn targets(causes: &BTreeMap<MatchKey, String>, living: &[Living], rules: &Rules, namespace: Uuid) -> Vec<Target> {
    let mut contributors: HashMap<Uuid, Vec<&Living>> = HashMap::new();
    for xref in living {
        if let Ok(customer_id) = xref.belongs_to {
            contributors.entry(customer_id).or_default().push(xref);
        }
    }
    let target = |(key, cause): (&MatchKey, &String)| {
        let customer_id = key.customer_id(namespace);
        let xrefs = contributors.get(&customer_id).map(Vec::as_slice).unwrap_or_default();
        let folded: Vec<Contributor<'_>> = xrefs.iter().map(|xref| xref.contributor()).collect();
        Target {
            customer_id,
            match_key: key.as_str().to_owned(),
            email: email_of(key, xrefs, rules),
            profile: if xrefs.is_empty() { Profile::default() } else { rules.survivorship.fold(&folded) },
            living: !xrefs.is_empty(),
            cause: cause.clone(),
        }
    };
    causes.iter().map(target).collect()
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
    fn contributor(&self) -> Contributor<'_> {
        Contributor {
            system: &self.system,
            external_id: &self.external_id,
            observed_at: self.observed_at,
            attributes: &self.attributes,
            edits: &self.edits,
        }
    }
}

/// Writes to whom cross-references belong, where that has changed, and where they came from.
async fn move_xrefs(connection: &mut PgConnection, living: &[Living], now: DateTime<Utc>) -> Result<(), Error> {
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
    let moves: BTreeMap<Uuid, Uuid> = misplaced
        .iter()
        .filter_map(|xref| Some((xref.customer_id?, xref.belongs_to.ok()?)))
        .filter(|(old, new)| old != new)
        .collect();
    redirects::note(connection, &moves, now).await
}

/// Participants belong to the customer to whom their key leads, while that one lives.
async fn attach_participants(
    connection: &mut PgConnection,
    targets: &[Target],
    decisions: &Decisions,
    namespace: Uuid,
) -> Result<(), Error> {
    let living: BTreeSet<Uuid> = targets.iter().filter(|target| target.living).map(|t| t.customer_id).collect();
    let customer = |target: &Target| {
        let customer_id = decisions.resolve(&MatchKey::from_stored(target.match_key.clone())).customer_id(namespace);
        living.contains(&customer_id).then_some(customer_id)
    };
    let keys: Vec<&str> = targets.iter().map(|target| target.match_key.as_str()).collect();
    let customers: Vec<Option<Uuid>> = targets.iter().map(customer).collect();
    interactions::attach(connection, &keys, &customers).await
}

/// Tells the pollers which emails there are to ask about: those of living cross-references, as the newest writes it.
async fn offer_for_polling(
    connection: &mut PgConnection,
    causes: &BTreeMap<MatchKey, String>,
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
    let gone: BTreeSet<&MatchKey> = causes.keys().filter(|key| !key.is_split() && !newest.contains_key(key)).collect();
    if !gone.is_empty() {
        let gone: Vec<String> = gone.iter().map(|key| key.as_str().to_owned()).collect();
        staging::polls::withdraw(&mut *connection, &gone).await?;
    }
    if offered > 0 {
        sqlx::query("select pg_notify($1, '')")
            .bind(staging::polls::OFFERED_CHANNEL)
            .execute(connection)
            .await
            .map_err(database("waking the pollers"))?;
    }
    Ok(())
}
