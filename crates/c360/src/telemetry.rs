//! Logs and metrics of this process.
//!
//! Logs go to standard error, so that standard output stays for results. Neither logs nor metrics ever hold personal data:
//! they name customers by id, and sources by name and position.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::exit::Exit;

/// What is logged when neither `C360_LOG` nor `RUST_LOG` says. A library below only speaks when something is wrong.
const DEFAULT_FILTER: &str = "warn,c360=info,staging=info,ingest_kafka=info,ingest_csv=info,poll_rest=info,\
                              consolidate=info,serve=info,embedded_postgres=info";
/// Seconds: from a cached answer to a slow import.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];
/// Records in a batch, up to the largest one.
const RECORDS: [f64; 8] = [1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0];
/// Bytes of a batch, up to the largest one.
const BYTES: [f64; 7] = [1_024.0, 16_384.0, 131_072.0, 524_288.0, 1_048_576.0, 4_194_304.0, 8_388_608.0];
/// Histograms grow until somebody drains them.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging. The filter is `C360_LOG`, else `RUST_LOG`, in the syntax of `tracing`'s `EnvFilter`
/// (`debug`, `c360=debug,sqlx=info`), else ours; where a command tells its story itself, only warnings.
pub fn log(format: LogFormat, tells_itself: bool) -> anyhow::Result<()> {
    let named = ["C360_LOG", "RUST_LOG"].into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)));
    let filter = match named.filter(|(_, filter)| !filter.is_empty()) {
        Some((name, filter)) => EnvFilter::try_new(&filter)
            .with_context(|| format!("{name} is not a log filter such as `info` or `warn,c360=debug`"))
            .map_err(|error| Exit::Configuration.because(error))?,
        None => EnvFilter::new(if tells_itself { "warn" } else { DEFAULT_FILTER }),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(BoxMakeWriter::new(std::io::stderr));
    let started = match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Starts counting. The handle renders what `/metrics` answers; give it to [`upkeep`] too.
///
/// Buckets follow the last word of a histogram's name: `_seconds`, `_records` or `_bytes`.
pub fn count() -> anyhow::Result<PrometheusHandle> {
    let suffix = |word: &str| Matcher::Suffix(word.to_owned());
    PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(suffix("_records"), &RECORDS)?
        .set_buckets_for_metric(suffix("_bytes"), &BYTES)?
        .install_recorder()
        .context("cannot start metrics")
}

/// Keeps the metrics small while the daemon runs. Never ends; drop it to end it.
pub async fn upkeep(handle: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_buckets_by_their_unit() {
        let handle = count().unwrap();
        metrics::histogram!("c360_test_seconds").record(0.003);
        metrics::histogram!("c360_test_records").record(7.0);
        let text = handle.render();
        assert!(text.contains(r#"c360_test_seconds_bucket{le="0.005"} 1"#), "{text}");
        assert!(text.contains(r#"c360_test_records_bucket{le="10"} 1"#), "{text}");
    }

    #[test]
    fn the_default_filter_parses() {
        assert!(EnvFilter::try_new(DEFAULT_FILTER).is_ok());
    }
}
