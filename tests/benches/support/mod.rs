//! What the benchmarks share: a durable cluster, interleaved runs, and a line that sets our figure beside the limit.

use std::time::Instant;

use anyhow::Result;
use embedded_postgres::{Cluster, Options};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

/// A throw-away cluster that waits for the disk as a real one does.
pub(crate) fn cluster() -> Result<Cluster> {
    let options = Options::temporary().durable(true);
    let settings = [("shared_buffers", "512MB"), ("max_wal_size", "8GB"), ("checkpoint_timeout", "30min")];
    Ok(Cluster::start(&settings.into_iter().fold(options, |options, (name, value)| options.setting(name, value)))?)
}

/// A database with both schemas.
pub(crate) async fn database(cluster: &Cluster, name: &str) -> Result<(PgConnectOptions, PgConnection)> {
    cluster.create_database(name).await?;
    let options: PgConnectOptions = cluster.url_for(name).parse()?;
    let mut connection = staging::connect(&options).await?;
    staging::migrate(&mut connection).await?;
    consolidate::migrate(&mut connection).await?;
    Ok((options, connection))
}

/// Seconds that a piece of work takes.
pub(crate) async fn timed<T>(work: impl AsyncFnOnce() -> Result<T>) -> Result<(f64, T)> {
    let started = Instant::now();
    let done = work().await?;
    Ok((started.elapsed().as_secs_f64(), done))
}

/// The middle of some figures.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// One figure beside its limit, from the same run. The ratio is ours to the limit, in rows a second.
pub(crate) fn report(what: &str, rows: usize, ours: &[f64], limit_name: &str, limit: &[f64], goal: &str) {
    let (ours, limit) = (median(ours), median(limit));
    #[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
    let rows = rows as f64;
    println!(
        "{what}: {:.0} rows/s ({ours:.2} s); {limit_name}: {:.0} rows/s ({limit:.2} s); ratio {:.2} ({goal})",
        rows / ours,
        rows / limit,
        limit / ours
    );
}

/// `ROWS`, or this many.
pub(crate) fn rows(default: usize) -> usize {
    std::env::var("ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(default)
}

/// `RUNS`, or this many.
pub(crate) fn runs(default: usize) -> usize {
    std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(default)
}
