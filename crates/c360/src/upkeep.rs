//! What goes by itself when its time is over: staged records, settled dead letters and edits, the history of profiles, the
//! audit log. And what comes together is added up.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgConnectOptions;
use staging::{LockHolder, dead_letters, outbox};
use tokio_util::sync::CancellationToken;

use crate::config::Retention;

/// So long it can be seen that a source has taken an edit.
const SETTLED_EDITS: Duration = Duration::from_hours(24);

/// What an upkeep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Partitions of staged records.
    pub records: staging::Expired,
    /// Months of the history of profiles.
    pub changes: consolidate::Forgotten,
    /// Settled dead letters that are forgotten.
    pub dead_letters: u64,
    /// Entries of the audit log that are forgotten.
    pub audit: u64,
    /// Edits that sources have taken, and that are forgotten.
    pub edits: u64,
}

impl Kept {
    /// Whether there is anything to tell.
    pub fn is_news(&self) -> bool {
        let partitions = self.records.dropped + self.records.held_back + self.changes.dropped;
        partitions > 0 || self.dead_letters > 0 || self.audit > 0 || self.edits > 0
    }
}

/// Drops and forgets what is over at `now`, once. Each part does its work whatever becomes of the others; the first error is
/// returned.
pub async fn keep(
    database: &PgConnectOptions,
    retention: Retention,
    now: DateTime<Utc>,
) -> Result<Kept, consolidate::Error> {
    let before = |age| TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age)).unwrap_or_default();
    // It takes as long as there is to drop; a lost reply is not waited for all the same.
    let holder = LockHolder::connect(database, &CancellationToken::new()).await?;
    let keeping = async {
        let mut connection = holder.connection().await;
        let records = staging::expire(&mut connection, now).await;
        let dead_letters = dead_letters::forget_settled(&mut *connection, before(retention.settled_dead_letters)).await;
        let edits = outbox::forget_settled(&mut *connection, before(SETTLED_EDITS)).await;
        let audit = serve::forget_audit(&mut connection, before(retention.audit)).await;
        let changes = consolidate::forget_changes(&mut connection, before(retention.changes)).await;
        consolidate::add_up_counts(&mut connection).await?;
        Ok(Kept { records: records?, changes: changes?, dead_letters: dead_letters?, audit: audit?, edits: edits? })
    };
    holder.unless_lost(keeping).await
}
