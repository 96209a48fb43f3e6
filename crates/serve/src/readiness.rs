//! Whether the database answers and is what this program expects.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// A database that takes longer is no database to send anybody to.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Answers are given again for this long: however many ask, the database is asked by one, and rarely.
const FRESH_FOR: Duration = Duration::from_millis(200);

/// The reasons not to be ready, for people; none is ready.
pub(crate) type Reasons = Vec<&'static str>;

/// Asks the database on a connection of its own, so that busy pools elsewhere do not decide. No pool: one that is handed a
/// connection back in the middle of a question waits for the answer, and a network that eats packets never sends it.
pub(crate) struct Readiness {
    database: PgConnectOptions,
    probe: Mutex<Probe>,
}

#[derive(Default)]
struct Probe {
    /// Taken while a question is open: whatever ends it early ends the connection too.
    connection: Option<PgConnection>,
    last: Option<(Instant, Reasons)>,
}

impl Readiness {
    pub(crate) fn new(database: PgConnectOptions) -> Self {
        Self { database, probe: Mutex::default() }
    }

    /// Why this process is not ready; nothing if it is.
    pub(crate) async fn reasons(&self) -> Reasons {
        let mut probe = self.probe.lock().await;
        if let Some((asked_at, reasons)) = &probe.last
            && asked_at.elapsed() < FRESH_FOR
        {
            return reasons.clone();
        }
        let connection = probe.connection.take();
        let reasons = match timeout(ANSWER_WITHIN, self.ask(connection)).await {
            Ok(Ok((connection, reasons))) => {
                probe.connection = Some(connection);
                reasons
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the database is not ready");
                vec!["the database does not answer"]
            }
            Err(_) => vec!["the database does not answer within a second"],
        };
        probe.say_change(&reasons);
        probe.last = Some((Instant::now(), reasons.clone()));
        reasons
    }

    /// A connection that was closed since it was last used is replaced at once: that is no outage.
    async fn ask(&self, connection: Option<PgConnection>) -> Result<(PgConnection, Reasons), consolidate::Error> {
        if let Some(mut connection) = connection
            && let Ok(reasons) = missing(&mut connection).await
        {
            return Ok((connection, reasons));
        }
        let mut connection = staging::connect(&self.database).await?;
        let reasons = missing(&mut connection).await?;
        Ok((connection, reasons))
    }
}

async fn missing(connection: &mut PgConnection) -> Result<Reasons, consolidate::Error> {
    let mut reasons = Vec::new();
    if staging::missing_migrations(connection).await? > 0 {
        reasons.push("schema staging is not migrated");
    }
    if consolidate::missing_migrations(connection).await? > 0 {
        reasons.push("schema customer360 is not migrated");
    }
    Ok(reasons)
}

impl Probe {
    fn say_change(&self, reasons: &Reasons) {
        let before = self.last.as_ref().map(|(_, reasons)| reasons);
        if before == Some(reasons) || (before.is_none() && reasons.is_empty()) {
            return;
        }
        if reasons.is_empty() {
            tracing::info!("ready again");
        } else {
            tracing::warn!("not ready: {}", reasons.join(", "));
        }
    }
}
