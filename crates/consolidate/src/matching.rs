//! Matching: which match key a cross-reference has under the rules and decisions in force, and what happens to one whose
//! key is no longer that.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use model::{Decisions, MatchKey, Unmatched};
use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::error::database;
use crate::fold::Marked;
use crate::xrefs::Moved;
use crate::{Error, Rules, decide, orders, redirects};

/// What is in force: rules, standing decisions, retirements, and the namespace of this installation's customer ids.
pub(crate) struct Matching<'r> {
    pub(crate) rules: &'r Rules,
    pub(crate) decisions: Arc<Decisions>,
    pub(crate) namespace: Uuid,
    /// What each of these systems said before this time is dead.
    retired: BTreeMap<String, DateTime<Utc>>,
}

type Read = (Uuid, i64, Option<i64>, Option<Vec<String>>, Option<Vec<DateTime<Utc>>>);

/// The decisions that stood when they were last read, and what tells whether others do now.
#[derive(Default)]
pub(crate) struct Standing {
    decisions: Arc<Decisions>,
    mark: (i64, Option<i64>),
}

impl<'r> Matching<'r> {
    /// Reads decisions, retirements and namespace.
    pub(crate) async fn read(connection: &mut PgConnection, rules: &'r Rules) -> Result<Self, Error> {
        Self::keep_up(connection, rules, &mut Standing::default()).await
    }

    /// Reads what has changed since these decisions were read: over the years there are many of them, and few new ones.
    pub(crate) async fn keep_up(
        connection: &mut PgConnection,
        rules: &'r Rules,
        standing: &mut Standing,
    ) -> Result<Self, Error> {
        let (namespace, count, which, systems, times): Read = sqlx::query_as(
            "with retired as materialized (
                 -- the latest time counts: it holds what the others would hold
                 select system, max(retired_before) as retired_before from customer360.retirements group by system
             ),
             lists as materialized (
                 select array_agg(system) as systems, array_agg(retired_before) as times from retired
             ),
             standing as materialized (
                 -- a decision never changes but by being undone or erased
                 select count(*) as decisions, bit_xor(hashint8extended(decision_id, 0)) as which
                 from customer360.decisions where undone_at is null
             )
             select i.namespace, s.decisions, s.which, l.systems, l.times
             from customer360.installation i
             cross join standing s
             cross join lists l",
        )
        .fetch_one(&mut *connection)
        .await
        .map_err(database("reading the installation's namespace"))?;
        let mark = (count, which);
        // What is decided from here on is read with this mark, and again.
        if mark != standing.mark {
            let rulings = decide::standing(connection).await?.into_iter().map(|decision| decision.ruling);
            *standing = Standing { decisions: Arc::new(rulings.collect()), mark };
        }
        let retired = systems.unwrap_or_default().into_iter().zip(times.unwrap_or_default()).collect();
        Ok(Self { rules, decisions: standing.decisions.clone(), namespace, retired })
    }

    /// The time up to which a system is retired.
    pub(crate) fn retired_before(&self, system: &str) -> Option<DateTime<Utc>> {
        self.retired.get(system).copied()
    }

    /// The match key of a living cross-reference, or why it has none: its own after a split, else that of its email.
    pub(crate) fn key(&self, system: &str, external_id: &str, email: Option<&str>) -> Result<MatchKey, Unmatched> {
        if self.decisions.is_split(system, external_id) {
            return Ok(MatchKey::of_split(system, external_id));
        }
        MatchKey::of_email(email.unwrap_or_default(), &self.rules.guards, &self.decisions)
    }

    /// Whether so many living cross-references of one system are too many for a match key. A split one stands alone.
    pub(crate) fn is_crowded(&self, key: &MatchKey, xrefs: usize) -> bool {
        !key.is_split() && xrefs > self.rules.guards.max_xrefs_per_system && !self.decisions.is_allowed(key)
    }

    /// The customer to whom a match key leads.
    pub(crate) fn customer_id(&self, key: &MatchKey) -> Uuid {
        self.decisions.resolve(key).customer_id(self.namespace)
    }
}

/// A living cross-reference whose stored match key is not the one that it has now.
pub(crate) struct Stray {
    pub(crate) system: String,
    pub(crate) external_id: String,
    pub(crate) key: Result<MatchKey, Unmatched>,
    /// The marked key by which it was found, and with it the cause of the mark.
    pub(crate) found_by: MatchKey,
}

/// Cross-references that match one of these keys now, by a decision, and nobody before: those split off, and those whose
/// block is undone. They have no match key to be found by; the blocked ones are looked at one by one, once per undone block.
pub(crate) async fn newly_matched(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    marked: &[Marked<'_>],
) -> Result<Vec<Stray>, Error> {
    let keys: Vec<&str> = marked.iter().map(|marked| marked.key.as_str()).collect();
    let unmatched: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "with undone as materialized (
             select count(*) as blocks from customer360.decisions
             where kind = 'block' and undone_at is not null and subject[1] = any ($1)
         ),
         split as materialized (
             select distinct subject[1] as system, subject[2] as external_id from customer360.decisions
             where kind = 'split' and undone_at is null and '#' || subject[1] || ':' || subject[2] = any ($1)
         )
         select x.system, x.external_id, x.email
         from customer360.xrefs x
         cross join undone
         where x.unmatched_reason = 'blocked' and x.deleted_at is null and undone.blocks > 0
         union
         select x.system, x.external_id, x.email
         from split s
         join customer360.xrefs x on x.system = s.system and x.external_id = s.external_id
         where x.match_key is null and x.deleted_at is null",
    )
    .bind(&keys)
    .fetch_all(connection)
    .await
    .map_err(database("reading unmatched cross-references"))?;
    let keys: HashSet<&str> = keys.into_iter().collect();
    let matched = unmatched.into_iter().filter_map(|(system, external_id, email)| {
        let key = matching.key(&system, &external_id, email.as_deref()).ok()?;
        keys.contains(key.as_str()).then(|| Stray { system, external_id, found_by: key.clone(), key: Ok(key) })
    });
    Ok(matched.collect())
}

/// Writes the match keys that strays have now. One that moves keeps its customer, by which the fold sees where it came
/// from; one that matches nobody any more loses it, and its orders and redirects with it.
pub(crate) async fn write(connection: &mut PgConnection, strays: &[Stray], now: DateTime<Utc>) -> Result<(), Error> {
    if strays.is_empty() {
        return Ok(());
    }
    let systems: Vec<&str> = strays.iter().map(|stray| stray.system.as_str()).collect();
    let external_ids: Vec<&str> = strays.iter().map(|stray| stray.external_id.as_str()).collect();
    sqlx::query(
        "update customer360.xrefs x
         set match_key = s.match_key, unmatched_reason = s.reason,
             customer_id = case when s.reason is null then x.customer_id end
         from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as s (system, external_id, match_key, reason)
         where x.system = s.system and x.external_id = s.external_id",
    )
    .bind(&systems)
    .bind(&external_ids)
    .bind(strays.iter().map(|stray| stray.key.as_ref().ok().map(MatchKey::as_str)).collect::<Vec<_>>())
    .bind(strays.iter().map(|stray| stray.key.as_ref().err().map(|reason| reason.as_str())).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await
    .map_err(database("matching cross-references anew"))?;
    let unmatched = strays.iter().filter(|stray| stray.key.is_err());
    let moved =
        unmatched.map(|stray| Moved { system: &stray.system, external_id: &stray.external_id, from: None, to: None });
    let moved: Vec<Moved<'_>> = moved.collect();
    orders::attach(connection, &moved).await?;
    redirects::follow(connection, &moved, now).await
}
