//! Waiting for the database: an outage stops nothing for good and is said once.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::at_once::write_at_once;

/// Settings of our sessions: statements do not wait for locks for ever, a transaction that c360 left open (a frozen process)
/// is ended by Postgres, as is all of a host that is gone, and the planner takes the index for a set of ids: compiling
/// statements and scanning whole tables for a few thousand of their rows cost more than all of the rest.
const SESSION: [(&str, &str); 8] = [
    ("idle_in_transaction_session_timeout", "30s"),
    ("lock_timeout", "30s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "30s"),
    ("jit", "off"),
    ("random_page_cost", "1.1"),
];
/// What a query, a few of them, or a landing may take: milliseconds as a rule, 30 s where it waits for a lock. After this
/// long the network has swallowed something.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// The longest pause between two tries. Jitter can double what is under it.
const LONGEST_PAUSE: Duration = Duration::from_millis(2_400);

/// Opens a dedicated connection.
pub async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Error> {
    connect_with(options, &[]).await
}

/// [`connect`] with further settings of the session, which win.
pub(crate) async fn connect_with(options: &PgConnectOptions, settings: &[(&str, &str)]) -> Result<PgConnection, Error> {
    let options = session(options).options(settings.iter().copied());
    let connecting = PgConnection::connect_with(&options);
    let doing = "connecting to the database";
    let connected = tokio::time::timeout(Duration::from_secs(10), connecting).await;
    let connection = connected.map_err(|_| Error::timed_out(doing))?.map_err(Error::database(doing))?;
    write_at_once(options.get_port());
    Ok(connection)
}

/// How all sessions of c360 are opened. Statements are not logged: they hold personal data.
pub fn session(options: &PgConnectOptions) -> PgConnectOptions {
    options
        .clone()
        .application_name("c360")
        .options(SESSION)
        .log_statements(tracing::log::LevelFilter::Off)
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO)
}

/// Gives up waiting for work that ought to be done long ago: its reply is lost. The connection that was waited for is in
/// the middle of something, and must be dropped.
pub async fn in_time<T, E: From<Error>>(doing: &'static str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    tokio::time::timeout(ANSWER_WITHIN, work).await.unwrap_or_else(|_| Err(Error::timed_out(doing).into()))
}

/// Tries again, with growing pauses and jitter, until it works, fails for good, or `cancel` says stop. `doing` names the
/// work in the log: one line when it starts to fail and one when it works again.
pub async fn persist<T>(
    cancel: &CancellationToken,
    doing: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut patience = Patience::new(doing);
    loop {
        match attempt().await {
            Ok(done) => {
                patience.worked();
                return Ok(done);
            }
            Err(error) => patience.wait(cancel, error).await?,
        }
    }
}

/// [`persist`] taken apart, for loops whose future must be `Send`: that of a closure that borrows is not.
#[derive(Debug)]
pub struct Patience<'a> {
    doing: &'a str,
    pauses: ExponentialBackoff,
    failed: bool,
}

impl<'a> Patience<'a> {
    /// For one piece of work.
    pub fn new(doing: &'a str) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(LONGEST_PAUSE)
            .with_jitter()
            // Without one of its own everybody pauses alike.
            .with_jitter_seed(rand::random())
            .without_max_times()
            .build();
        Self { doing, pauses, failed: false }
    }

    /// Waits before the next attempt. Gives the error back if it does not pass by itself, or `cancel` says stop.
    pub async fn wait(&mut self, cancel: &CancellationToken, error: Error) -> Result<(), Error> {
        let doing = self.doing;
        if !error.is_transient() {
            return Err(error);
        }
        if std::mem::replace(&mut self.failed, true) {
            tracing::debug!(%error, "{doing} still fails");
        } else {
            tracing::warn!(%error, "{doing} failed, trying again until it works");
        }
        let pause = self.pauses.next().unwrap_or(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = cancel.cancelled() => Err(Error::Cancelled),
        }
    }

    /// Says that it works again, if it had failed.
    pub fn worked(&self) {
        if self.failed {
            tracing::info!("{} works again", self.doing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_pauses_for_five_seconds_when_the_database_may_be_back_and_not_all_pause_alike() {
        let mut last_pauses = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let pauses: Vec<Duration> = Patience::new("testing").pauses.take(100).collect();
            assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(5)), "{pauses:?}");
            assert!(
                pauses[20..].iter().all(|pause| *pause >= LONGEST_PAUSE),
                "it asks less and less often: {pauses:?}"
            );
            last_pauses.insert(pauses[99]);
        }
        assert!(last_pauses.len() > 1, "jitter");
    }
}
