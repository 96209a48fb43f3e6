//! The audit log of reads and the last use of keys, written behind: whoever asks does not wait for it. Writes note themselves
//! in their own transaction.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use super::Caller;
use crate::metrics;

/// Reads that wait to be written: with more under way, requests wait.
const WAITING: usize = 10_000;
const AT_ONCE: usize = 1_000;
/// Between two tries to write.
const PAUSE: Duration = Duration::from_millis(200);

/// A request; with an action, one that read something that is noted.
struct Read {
    at: DateTime<Utc>,
    key_id: Uuid,
    key_name: String,
    action: Option<&'static str>,
    customer_id: Option<Uuid>,
    request_id: String,
}

/// Takes notes of reads.
pub(crate) struct Audit(Sender<Read>);

impl Audit {
    /// The taker of notes, and what writes them down.
    pub(super) fn new(pool: PgPool) -> (Self, Writer) {
        let (sender, receiver) = channel(WAITING);
        (Self(sender), Writer { pool, receiver })
    }

    /// Notes that a caller read something about a customer, or about as many as no list shows at once.
    pub(crate) async fn read(&self, caller: &Caller, action: &'static str, customer_id: impl Into<Option<Uuid>>) {
        self.note(caller, Some(action), customer_id.into()).await;
    }

    /// Notes that a caller's key was used.
    pub(super) async fn used(&self, caller: &Caller) {
        self.note(caller, None, None).await;
    }

    async fn note(&self, caller: &Caller, action: Option<&'static str>, customer_id: Option<Uuid>) {
        let read = Read {
            at: Utc::now(),
            key_id: caller.key.key_id,
            key_name: caller.key.name.clone(),
            action,
            customer_id,
            request_id: caller.request_id.clone(),
        };
        // The writer ends after the last request.
        let _ = self.0.send(read).await;
    }
}

/// Writes notes down.
pub(crate) struct Writer {
    pool: PgPool,
    receiver: Receiver<Read>,
}

impl Writer {
    /// Writes until all who take notes are gone, or `cut_off` while the database is away.
    pub(crate) async fn run(mut self, cut_off: CancellationToken) {
        // So that the first one is a rise.
        ::metrics::counter!(metrics::AUDIT_LOST).increment(0);
        let mut reads = Vec::new();
        while self.receiver.recv_many(&mut reads, AT_ONCE).await > 0 {
            while let Err(error) = write(&self.pool, &reads).await {
                tracing::warn!(%error, reads = reads.len(), "the audit log cannot be written, trying again");
                if cut_off.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                    tracing::error!(reads = reads.len(), "reads are missing in the audit log");
                    ::metrics::counter!(metrics::AUDIT_LOST).increment(reads.len() as u64);
                    return;
                }
            }
            reads.clear();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Notes what a caller writes, and on which customer if on one, in the transaction that writes it.
pub(crate) async fn written(
    transaction: &mut PgConnection,
    caller: &Caller,
    action: &str,
    customer_id: impl Into<Option<Uuid>>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into customer360.audit_log (at, key_id, key_name, action, customer_id, request_id)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(Utc::now())
    .bind(caller.key.key_id)
    .bind(&caller.key.name)
    .bind(action)
    .bind(customer_id.into())
    .bind(&caller.request_id)
    .execute(transaction)
    .await?;
    Ok(())
}

/// Deletes what was noted before this time, and says how much it was.
pub async fn forget_audit(connection: &mut PgConnection, before: DateTime<Utc>) -> Result<u64, staging::Error> {
    let done = sqlx::query("delete from customer360.audit_log where at < $1")
        .bind(before)
        .execute(connection)
        .await
        .map_err(staging::Error::database("forgetting the audit log"))?;
    Ok(done.rows_affected())
}

/// Notes reads and when keys were last used.
async fn write(pool: &PgPool, reads: &[Read]) -> Result<(), staging::Error> {
    sqlx::query(
        "with noted as (
             select * from unnest($1::timestamptz[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[])
                 as r (at, key_id, key_name, action, customer_id, request_id)
         ),
         used as (
             update customer360.api_keys k set last_used_at = u.at
             from (select key_id, max(at) as at from noted group by key_id) u
             where k.key_id = u.key_id and (k.last_used_at is null or k.last_used_at < u.at)
         )
         insert into customer360.audit_log (at, key_id, key_name, action, customer_id, request_id)
         select at, key_id, key_name, action, customer_id, request_id from noted where action is not null",
    )
    .bind(reads.iter().map(|read| read.at).collect::<Vec<_>>())
    .bind(reads.iter().map(|read| read.key_id).collect::<Vec<_>>())
    .bind(reads.iter().map(|read| read.key_name.as_str()).collect::<Vec<_>>())
    .bind(reads.iter().map(|read| read.action).collect::<Vec<_>>())
    .bind(reads.iter().map(|read| read.customer_id).collect::<Vec<_>>())
    .bind(reads.iter().map(|read| read.request_id.as_str()).collect::<Vec<_>>())
    .execute(pool)
    .await
    .map_err(staging::Error::database("writing the audit log"))?;
    Ok(())
}
