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

    /// The connection. Whoever takes it gives it back by [`Session::keep`] once its statements have worked: one whose
    /// statement failed or was dropped half-way is never used again, and with it goes the lock, if it held one.
    pub(crate) async fn take(&mut self) -> Result<PgConnection, staging::Error> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => staging::connect(&self.options).await,
        }
    }

    pub(crate) fn keep(&mut self, connection: PgConnection) {
        self.connection = Some(connection);
    }

    /// Becomes the source's one importer; `Locked` if somebody else still is after `wait`, for ever without one.
    pub(crate) async fn lock(
        &mut self,
        source: &str,
        wait: Option<Duration>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let deadline = wait.map(|wait| Instant::now() + wait);
        loop {
            let mut connection = self.take().await?;
            let is_ours = imports::lock(&mut connection, source).await?;
            self.keep(connection);
            if is_ours {
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
        if let Some(mut connection) = self.connection.take() {
            imports::unlock(&mut connection, source).await?;
            self.keep(connection);
        }
        Ok(())
    }
}
