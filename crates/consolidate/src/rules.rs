//! The rules in force: what a profile depends on beside the data, and whether all profiles were made under them.

use model::{Guards, Survivorship};
use sqlx::{PgConnection, PgExecutor};

use crate::Error;
use crate::error::database;

/// Rules of the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which value wins.
    pub survivorship: Survivorship,
    /// What keeps a cross-reference away from profiles.
    pub guards: Guards,
    /// Sources that are asked about every known email.
    pub polled_sources: Vec<String>,
}

impl Rules {
    /// The same for rules that give the same profiles.
    pub fn fingerprint(&self) -> String {
        model::fingerprint(&self.survivorship, &self.guards)
    }
}

/// Whether profiles were made, at least partly, under other rules than those of this fingerprint, so that a rebuild would
/// change them. Not before anybody has consolidated.
pub async fn rebuild_is_due(executor: impl PgExecutor<'_>, fingerprint: &str) -> Result<bool, Error> {
    sqlx::query_scalar("select exists (select from customer360.rules where built_under is distinct from $1)")
        .bind(fingerprint)
        .fetch_one(executor)
        .await
        .map_err(database("looking whether the rules have changed"))
}

/// Whether whoever consolidates, or did so last, does so under other rules than those of this fingerprint.
pub async fn other_rules_are_at_work(executor: impl PgExecutor<'_>, fingerprint: &str) -> Result<bool, Error> {
    sqlx::query_scalar("select exists (select from customer360.rules where at_work <> $1)")
        .bind(fingerprint)
        .fetch_one(executor)
        .await
        .map_err(database("looking which rules are at work"))
}

/// Notes that whoever consolidates from now on does so under these rules. An installation without anybody in it has nothing
/// to rebuild.
pub(crate) async fn note(connection: &mut PgConnection, rules: &Rules) -> Result<(), Error> {
    sqlx::query(
        "insert into customer360.rules as r (at_work, built_under)
         select $1, case when not exists (select from customer360.xrefs) then $1 end
         on conflict on constraint rules_pkey do update set at_work = excluded.at_work, built_under = null
         where r.at_work <> excluded.at_work",
    )
    .bind(rules.fingerprint())
    .execute(connection)
    .await
    .map_err(database("noting the rules"))?;
    Ok(())
}

/// Says in the log if a rebuild is due.
pub(crate) async fn warn(connection: &mut PgConnection, rules: &Rules) -> Result<(), Error> {
    if rebuild_is_due(connection, &rules.fingerprint()).await? {
        tracing::warn!(
            "the rules (matching, survivorship) are not those by which all profiles were made: `c360 rebuild` is due, and \
             `c360 rebuild --dry-run` shows what it changes"
        );
    }
    Ok(())
}
