//! Waiting for the database: an outage stops nothing for good and is said once.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// Opens a dedicated connection. Statements on it do not wait for locks for ever, and a transaction that c360 left open (a
/// frozen process) is ended by Postgres.
pub async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Error> {
    let options = options
        .clone()
        .application_name("c360")
        .options([("idle_in_transaction_session_timeout", "120s"), ("lock_timeout", "30s")])
        .log_statements(tracing::log::LevelFilter::Off)
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO);
    let connecting = PgConnection::connect_with(&options);
    match tokio::time::timeout(Duration::from_secs(10), connecting).await {
        Ok(connected) => connected.map_err(Error::database("connecting to the database")),
        Err(_) => {
            Err(Error::database("connecting to the database")(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
        }
    }
}

/// Tries again, with growing pauses and jitter, until it works, fails for good, or `cancel` says stop. `doing` names the
/// work in the log: one line when it starts to fail and one when it works again.
pub async fn persist<T>(
    cancel: &CancellationToken,
    doing: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .build();
    let mut failed = false;
    loop {
        match attempt().await {
            Err(error) if error.is_transient() => {
                if failed {
                    tracing::debug!(%error, "{doing} still fails");
                } else {
                    tracing::warn!(%error, "{doing} failed, trying again until it works");
                }
                failed = true;
            }
            outcome => {
                if failed && outcome.is_ok() {
                    tracing::info!("{doing} works again");
                }
                return outcome;
            }
        }
        let pause = pauses.next().unwrap_or(Duration::from_secs(5));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => return Err(Error::Cancelled),
        }
    }
}
