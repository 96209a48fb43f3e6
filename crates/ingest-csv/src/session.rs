//! The connection that keeps the ledger, and while it holds the source's lock makes us its one importer.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use staging::{LockHolder, imports};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;

/// How often a lock that somebody else holds is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(250);

pub(crate) struct Session {
    options: PgConnectOptions,
    holder: Option<LockHolder>,
}

impl Session {
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        Self { options, holder: None }
    }

    /// A session without connection and lock.
    pub(crate) fn renewed(&self) -> Self {
        Self::new(self.options.clone())
    }

    /// The connection. Whoever takes it gives it back by [`Session::keep`] once its statements have worked: one whose
    /// statement failed or was dropped half-way is never used again, and with it goes the lock, if it held one.
    /// One that Postgres has ended, because it was not heard of, is not used again either.
    pub(crate) async fn take(&mut self) -> Result<LockHolder, staging::Error> {
        match self.holder.take().filter(|holder| !holder.is_lost()) {
            Some(holder) => Ok(holder),
            None => LockHolder::connect(&self.options, &CancellationToken::new()).await,
        }
    }

    pub(crate) fn keep(&mut self, holder: LockHolder) {
        self.holder = Some(holder);
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
            let holder = self.take().await?;
            let locking = async { imports::lock(&mut *holder.connection().await, source).await };
            let is_ours = holder.unless_lost(locking).await?;
            self.keep(holder);
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
        if let Some(holder) = self.holder.take().filter(|holder| !holder.is_lost()) {
            let unlocking = async { imports::unlock(&mut *holder.connection().await, source).await };
            holder.unless_lost(unlocking).await?;
            self.keep(holder);
        }
        Ok(())
    }
}
