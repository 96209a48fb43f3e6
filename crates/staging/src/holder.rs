//! Connections that hold locks beyond a transaction. Nobody is to wait for a process that is frozen or out of reach, and
//! whoever was frozen must not go on as if the lock were still its own: the lock and what it protects are on one
//! connection, and that ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Row};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use crate::patience::connect_with;
use crate::{Error, connect};

/// Postgres ends the session, and with it the lock, when it hears nothing for this long.
const SILENCE: [(&str, &str); 2] = [("idle_session_timeout", "10s"), ("idle_in_transaction_session_timeout", "10s")];
/// How often something is heard of an idle one.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// How long the server may take to answer a beat.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// When the server is asked whether it still is at work on what a busy one waits for.
const DOUBT_AFTER: Duration = Duration::from_secs(10);

/// A connection for session-level locks. While it is idle it is heard of every 2 s; Postgres ends it after 10 s of silence,
/// also in the middle of a transaction. When it has ended, or the network swallows its replies, that is known here within
/// half a minute, whatever is waited for.
pub struct LockHolder {
    held: Arc<Held>,
    lost: CancellationToken,
}

struct Held {
    connection: Mutex<PgConnection>,
    /// Counted, to tell one long statement from many short ones.
    uses: AtomicU64,
}

impl LockHolder {
    /// Connects. `lost` is cancelled when the connection turns out to be lost; several connections that are of no use
    /// without each other share one.
    pub async fn connect(options: &PgConnectOptions, lost: &CancellationToken) -> Result<Self, Error> {
        let mut connection = connect_with(options, &SILENCE).await?;
        let asking = sqlx::query("select pg_backend_pid()").fetch_one(&mut connection);
        let backend = match tokio::time::timeout(ANSWER_WITHIN, asking).await {
            Ok(row) => row.map_err(Error::database("connecting to the database"))?.get(0),
            Err(_) => return Err(Error::timed_out("connecting to the database")),
        };
        let held = Arc::new(Held { connection: Mutex::new(connection), uses: AtomicU64::new(0) });
        tokio::spawn(beat(Arc::downgrade(&held), backend, options.clone(), lost.clone()));
        Ok(Self { held, lost: lost.clone() })
    }

    /// The connection, for a few statements that follow each other at once: whoever keeps it without using it is taken for
    /// frozen. One whose statement was dropped half-way must not be used again.
    pub async fn connection(&self) -> MutexGuard<'_, PgConnection> {
        let connection = self.held.connection.lock().await;
        self.held.uses.fetch_add(1, Ordering::Relaxed);
        connection
    }

    /// Whether it is known to be lost.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits for work on the connection, but not longer than there is a connection.
    ///
    /// # Errors
    /// What the work fails with, or a transient error when the connection is lost.
    pub async fn unless_lost<T, E: From<Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        tokio::select! {
            done = work => done,
            () = self.lost.cancelled() => Err(Error::timed_out("keeping the connection that holds a lock").into()),
        }
    }
}

/// Lets the server hear of the connection as long as somebody holds it and it is not lost.
async fn beat(held: Weak<Held>, backend: i32, options: PgConnectOptions, lost: CancellationToken) {
    let mut busy = (0, Instant::now());
    loop {
        tokio::select! {
            () = tokio::time::sleep(BEAT_EVERY) => {}
            () = lost.cancelled() => return,
        }
        let Some(held) = held.upgrade() else { return };
        if let Ok(mut connection) = held.connection.try_lock() {
            if !matches!(tokio::time::timeout(ANSWER_WITHIN, connection.ping()).await, Ok(Ok(()))) {
                break;
            }
            continue;
        }
        let uses = held.uses.load(Ordering::Relaxed);
        if busy.0 != uses {
            busy = (uses, Instant::now());
        } else if busy.1.elapsed() >= DOUBT_AFTER {
            drop(held);
            if !is_known(backend, &options).await {
                break;
            }
            busy.1 = Instant::now();
        }
    }
    lost.cancel();
}

/// Whether the server still has the session. It ends one that waits for us while we wait for it. A server that refuses
/// another connection is there, and one that does not answer is not.
async fn is_known(backend: i32, options: &PgConnectOptions) -> bool {
    let asking = async {
        let mut connection = connect(options).await?;
        sqlx::query_scalar("select exists (select from pg_stat_activity where pid = $1)")
            .bind(backend)
            .fetch_one(&mut connection)
            .await
            .map_err(Error::database("looking for a session"))
    };
    match tokio::time::timeout(2 * ANSWER_WITHIN, asking).await {
        Ok(Ok(is_known)) => is_known,
        Ok(Err(error)) => error.is_from_server(),
        Err(_) => false,
    }
}
