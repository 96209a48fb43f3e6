//! Telling `staging.sources` and the metrics how a source is, about once a second and on change.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::metrics;
use crate::status::{Board, Progress};

const INTERVAL: Duration = Duration::from_secs(1);
/// What has not changed is said again after this long, so that readers can tell that somebody lives.
const AGAIN: Duration = Duration::from_secs(10);

/// Reports until dropped. A database that cannot be reached is no trouble here: landing says so.
pub(crate) async fn report(source: &str, options: &PgConnectOptions, board: &Board) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection: Option<PgConnection> = None;
    let mut said: Option<(Progress, Instant)> = None;
    loop {
        ticks.tick().await;
        let progress = board.read();
        metrics::progress(source, progress.lag, progress.oldest_unlanded_seconds, progress.stopped.len());
        if said.as_ref().is_some_and(|(before, at)| *before == progress && at.elapsed() < AGAIN) {
            continue;
        }
        let before = said.as_ref().map(|(before, _)| before);
        let health = health(source, &progress, before);
        match tell(&mut connection, options, source, &health).await {
            Ok(()) => said = Some((progress, Instant::now())),
            Err(error) => tracing::debug!(source, %error, "reporting health"),
        }
    }
}

async fn tell(
    connection: &mut Option<PgConnection>,
    options: &PgConnectOptions,
    source: &str,
    health: &Value,
) -> Result<(), staging::Error> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => staging::connect(options).await?,
    };
    staging::health::report(&mut open, source, health, Utc::now()).await?;
    *connection = Some(open);
    Ok(())
}

/// The keys that only the ingester knows. Several processes may share a source, each with partitions of its own: one that
/// has nothing stopped does not wipe out what another has said, except when it was its own word.
fn health(source: &str, progress: &Progress, before: Option<&Progress>) -> Value {
    let mut health = json!({
        "kind": "kafka",
        "lag": progress.lag,
        "lag_seconds": progress.lag_seconds,
        "oldest_unlanded_seconds": progress.oldest_unlanded_seconds,
    });
    if !progress.stopped.is_empty() || before.is_none_or(|before| !before.stopped.is_empty()) {
        health["stopped"] = json!(progress.stopped);
    }
    if !progress.truncated.is_empty() {
        let alarm = |(topic, at): (&String, &chrono::DateTime<Utc>)| {
            let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            json!({"topic": topic, "at": at, "alarm": format!(
                "the table behind {topic} was emptied: c360 source retire {source} --before {at} retires what it held"
            )})
        };
        health["truncated"] = progress.truncated.iter().map(alarm).collect();
    }
    health
}
