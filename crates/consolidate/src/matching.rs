//! Matching: which match key a cross-reference has under the rules and decisions in force, and what happens to one whose
//! key is no longer that.

use std::collections::BTreeMap;

use model::{Decisions, MatchKey, Unmatched};
use sqlx::{PgConnection, Row};

use crate::error::database;
use crate::{Error, Rules, orders};

/// The match key of a living cross-reference, or why it has none: its own after a split, else that of its email.
pub(crate) fn match_key(
    system: &str,
    external_id: &str,
    email: Option<&str>,
    rules: &Rules,
    decisions: &Decisions,
) -> Result<MatchKey, Unmatched> {
    if decisions.is_split(system, external_id) {
        return Ok(MatchKey::of_split(system, external_id));
    }
    MatchKey::of_email(email.unwrap_or_default(), &rules.guards, decisions)
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
    rules: &Rules,
    decisions: &Decisions,
    marked: &BTreeMap<MatchKey, String>,
) -> Result<Vec<Stray>, Error> {
    let rows = sqlx::query(
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
    .bind(marked.keys().map(MatchKey::as_str).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
    .map_err(database("reading unmatched cross-references"))?;
    let matched = rows.iter().filter_map(|row| {
        let (system, external_id): (String, String) = (row.get(0), row.get(1));
        let key = match_key(&system, &external_id, row.get(2), rules, decisions).ok()?;
        marked.contains_key(&key).then(|| Stray { system, external_id, found_by: key.clone(), key: Ok(key) })
    });
    Ok(matched.collect())
}

/// Writes the match keys that strays have now. One that moves keeps its customer, by which the fold sees where it came
/// from; one that matches nobody any more loses it, and its orders with it.
pub(crate) async fn write(connection: &mut PgConnection, strays: &[Stray]) -> Result<(), Error> {
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
    let unmatched: Vec<(&str, &str)> = strays
        .iter()
        .filter(|stray| stray.key.is_err())
        .map(|stray| (stray.system.as_str(), stray.external_id.as_str()))
        .collect();
    orders::detach(connection, &unmatched).await
}
