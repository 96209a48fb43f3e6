//! The connection that keeps the ledger, and while it holds the source's lock makes us its one importer.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use staging::imports;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;

/// How often a lock that somebody else holds is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(250);

pub(crate) struct Session {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Session {
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        Self { options, connection: None }
    }

    /// A session without connection and lock.
    pub(crate) fn renewed(&self) -> Self {
        Self::new(self.options.clone())
    }

    /// Runs statements. A connection whose statement failed or was dropped half-way is never used again; with it goes the
    /// lock, if it held one.
    pub(crate) async fn run<T>(
        &mut self,
        statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, staging::Error>,
    ) -> Result<T, staging::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => staging::connect(&self.options).await?,
        };
        let value = statements(&mut connection).await?;
        self.connection = Some(connection);
        Ok(value)
    }

    /// Becomes the source's one importer; `Locked` if somebody else still is after `wait`, for ever without one.
    pub(crate) async fn lock(
        &mut self,
        source: &str,
        wait: Option<Duration>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        // A lock is counted: one that an import before this one has left behind must not stay.
        self.connection = None;
        let deadline = wait.map(|wait| Instant::now() + wait);
        loop {
            if self.run(async |connection| imports::lock(connection, source).await).await? {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Error::Locked(source.to_owned()));
            }
            tokio::select! {
                () = tokio::time::sleep(LOCK_PAUSE) => {}
                () = cancel.cancelled() => return Err(Error::Cancelled),
            }
        }
    }

    /// Gives the lock back.
    pub(crate) async fn unlock(&mut self, source: &str) -> Result<(), staging::Error> {
        match self.connection {
            Some(_) => self.run(async |connection| imports::unlock(connection, source).await).await,
            None => Ok(()),
        }
    }
}
