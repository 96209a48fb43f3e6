//! Telling `staging.sources` and the metrics how a source is, about once a second and on change.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use staging::health::Speaker;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::metrics;
use crate::status::{Board, PartitionProgress, Progress};

const INTERVAL: Duration = Duration::from_secs(1);
/// What has not changed is said again after this long, so that readers can tell that somebody lives.
const AGAIN: Duration = Duration::from_secs(10);

/// Reports until dropped. A database that cannot be reached is no trouble here: landing says so.
pub(crate) async fn report(source: &str, speaker: Speaker, options: &PgConnectOptions, board: &Board) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection: Option<PgConnection> = None;
    let mut said: Option<(Progress, Instant)> = None;
    loop {
        ticks.tick().await;
        let progress = board.read();
        metrics::progress(source, &progress);
        if said.as_ref().is_some_and(|(before, at)| *before == progress && at.elapsed() < AGAIN) {
            continue;
        }
        match staging::in_time("reporting health", tell(&mut connection, options, (source, speaker), &progress)).await {
            Ok(()) => said = Some((progress, Instant::now())),
            Err(error) => tracing::debug!(source, %error, "reporting health"),
        }
    }
}

async fn tell(
    connection: &mut Option<PgConnection>,
    options: &PgConnectOptions,
    (source, speaker): (&str, Speaker),
    progress: &Progress,
) -> Result<(), staging::Error> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => staging::connect(options).await?,
    };
    let now = Utc::now();
    staging::health::report(&mut open, source, speaker, &health(progress, now), now).await?;
    *connection = Some(open);
    Ok(())
}

/// The keys that only the ingester knows. Processes that share a source speak each of its own partitions; what is said of
/// all of it (`trouble`, `absent_topics`) is the word of the last one.
fn health(progress: &Progress, now: DateTime<Utc>) -> Value {
    let partition = |((topic, number), partition): (&(String, i32), &PartitionProgress)| {
        let mut word = json!(partition);
        word["at"] = json!(now);
        (format!("{topic}/{number}"), word)
    };
    let partitions: Map<String, Value> = progress.partitions.iter().map(partition).collect();
    json!({
        "kind": "kafka", "trouble": progress.trouble, "absent_topics": progress.absent_topics, "partitions": partitions,
    })
}

/// The alarm of a table that was emptied.
pub(crate) fn emptied(source: &str, topic: &str, at: DateTime<Utc>) -> Value {
    let at = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let alarm =
        format!("the table behind {topic} was emptied: c360 source retire {source} --before {at} retires what it held");
    let noticed_at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({"topic": topic, "at": at, "noticed_at": noticed_at, "alarm": alarm})
}
