//! What the benchmarks share: how large they are, a durable cluster, a backlog to drain, memory over time, and a line that
//! sets a figure beside its limit.
//!
//! The size comes from the environment, and is read the same way by all: `ROWS`, `RUNS`, and what one has of its own.

mod backlog;
pub mod base;
pub mod people;
mod resident;

use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::Result;
use embedded_postgres::{Cluster, Options};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

pub use backlog::{Shape, produce};
pub use resident::{Resident, Watch};

/// `ROWS`, or this many.
pub fn rows(default: usize) -> usize {
    number("ROWS", default)
}

/// `RUNS`, or this many.
pub fn runs(default: usize) -> usize {
    number("RUNS", default)
}

/// The number in a variable, or this one where there is none.
///
/// # Panics
/// When the variable holds anything else than a whole number above 0: nobody wants to measure what was not asked for.
pub fn number(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse::<NonZeroUsize>().unwrap_or_else(|error| panic!("{name}={text}: {error}")).get()
        }
        _ => default,
    }
}

/// A throw-away cluster that waits for the disk as a real one does.
pub fn cluster() -> Result<Cluster> {
    cluster_with("512MB")
}

/// The same, with so much memory for pages.
pub fn cluster_with(shared_buffers: &str) -> Result<Cluster> {
    let options = Options::temporary().durable(true).tcp(true);
    let settings = [
        // A benchmark looks up what the server asked.
        ("track_activity_query_size", "32768"),
        ("wal_level", "replica"),
        ("shared_buffers", shared_buffers),
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "30min"),
        // As docker-compose.yml has it.
        ("wal_compression", "lz4"),
    ];
    Ok(Cluster::start(&settings.into_iter().fold(options, |options, (name, value)| options.setting(name, value)))?)
}

/// A database with both schemas.
pub async fn database(cluster: &Cluster, name: &str) -> Result<(PgConnectOptions, PgConnection)> {
    cluster.create_database(name).await?;
    let options: PgConnectOptions = cluster.url_for(name).parse()?;
    let mut connection = staging::connect(&options).await?;
    staging::migrate(&mut connection).await?;
    consolidate::migrate(&mut connection).await?;
    Ok((options, connection))
}

/// Seconds that a piece of work takes.
pub async fn timed<T>(work: impl AsyncFnOnce() -> Result<T>) -> Result<(f64, T)> {
    let started = Instant::now();
    let done = work().await?;
    Ok((started.elapsed().as_secs_f64(), done))
}

/// The middle of some figures.
///
/// # Panics
/// When there are none.
pub fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Rows a second.
#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
pub fn rate(rows: usize, seconds: f64) -> f64 {
    rows as f64 / seconds
}

/// Prints one figure beside its limit, from the same run: the medians, in rows a second, and ours to the limit.
pub fn report(what: &str, rows: usize, ours: &[f64], limit_name: &str, limit: &[f64], goal: &str) {
    let (ours, limit) = (median(ours), median(limit));
    println!(
        "{what}: {:.0} rows/s ({ours:.2} s); {limit_name}: {:.0} rows/s ({limit:.2} s); ratio {:.2} ({goal})",
        rate(rows, ours),
        rate(rows, limit),
        limit / ours
    );
}
