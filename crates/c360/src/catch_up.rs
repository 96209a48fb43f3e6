//! Catching up once: every source up to where it is now, consolidated; for `run --once` and the demo.

use consolidate::Rules;
use ingest_csv::{FileReport, ImportOptions, Outcome as FileOutcome};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::installation::Installation;
use crate::sources::{Ingester, ingester};

/// How long `run --once` waits for another process that imports files of the same source.
const IMPORT_WAIT: std::time::Duration = std::time::Duration::from_mins(10);

/// What happened on the way, for whoever shows progress.
#[derive(Debug)]
pub enum Step<'a> {
    /// A Kafka source is landed up to the ends seen at the start.
    Kafka {
        /// The source.
        source: &'a str,
        /// What was landed.
        caught_up: &'a ingest_kafka::CaughtUp,
    },
    /// The files of a CSV source are imported.
    Csv {
        /// The source.
        source: &'a str,
        /// What became of each.
        files: &'a [FileReport],
    },
    /// A REST source was asked about everybody who was due.
    Rest {
        /// The source.
        source: &'a str,
        /// What it answered.
        summary: &'a poll_rest::Summary,
    },
    /// What is landed is consolidated.
    Consolidated(&'a consolidate::Drained),
}

/// How it ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Sources that failed; all others were finished.
    pub failed: Vec<String>,
    /// Whether a file was refused.
    pub refused: bool,
}

impl Outcome {
    /// The exit code, after naming on standard error what failed.
    pub fn exit(&self) -> Exit {
        if !self.failed.is_empty() {
            eprintln!("c360: failed: {}; all other sources were finished", self.failed.join(", "));
        }
        let refused = if self.refused { Exit::Refused } else { Exit::Done };
        let failed = if self.failed.is_empty() { Exit::Done } else { Exit::OutOfReach };
        refused.and(failed)
    }
}

/// Kafka up to the ends seen at the start, directories as they are, consolidation; then whoever is due is polled and
/// consolidated, new emails included, until nothing is new. A source that fails does not keep the others from finishing.
pub async fn everything(
    installation: &Installation,
    cancel: &CancellationToken,
    on_step: &mut (dyn FnMut(Step<'_>) + Send),
) -> anyhow::Result<Outcome> {
    let rules = installation.rules()?;
    let mut outcome = Outcome::default();
    let mut polled = Vec::new();
    for (name, source) in &installation.config.sources {
        match ingester(name, source, &installation.key)? {
            Ingester::Kafka(settings) => {
                let lander = installation.lander();
                let database = installation.database.clone();
                match ingest_kafka::catch_up(settings, database, lander, cancel.clone()).await {
                    Ok(caught_up) => {
                        if !caught_up.stopped.is_empty() {
                            outcome.failed.push(name.clone());
                        }
                        on_step(Step::Kafka { source: name, caught_up: &caught_up });
                    }
                    Err(error) if error.is_configuration() => return Err(Exit::Configuration.because(error)),
                    Err(error) => failed(&mut outcome, name, &error),
                }
            }
            Ingester::Csv(settings) => import(installation, name, settings, &mut outcome, cancel, on_step).await,
            Ingester::Rest(settings) => polled.push((name, settings)),
        }
    }
    consolidate(installation, &rules, cancel, on_step).await?;
    while !cancel.is_cancelled() {
        let mut news = false;
        let mut trouble = Vec::new();
        for (name, settings) in &polled {
            let mut lander = installation.lander();
            match poll_rest::poll_due(settings.clone(), installation.database.clone(), &mut lander, cancel.clone())
                .await
            {
                Ok(summary) => {
                    news |= summary.records > 0;
                    if summary.has_failed() {
                        trouble.push((*name).clone());
                    }
                    on_step(Step::Rest { source: name, summary: &summary });
                }
                Err(error @ poll_rest::Error::Config { .. }) => return Err(Exit::Configuration.because(error)),
                Err(error) => {
                    tracing::error!(source = name.as_str(), %error, "the source failed");
                    trouble.push((*name).clone());
                }
            }
        }
        for name in trouble {
            polled.retain(|(polled, _)| **polled != name);
            outcome.failed.push(name);
        }
        if !news {
            break;
        }
        consolidate(installation, &rules, cancel, on_step).await?;
    }
    if let Some(counted) = cancel.run_until_cancelled(consolidate::count_pairs(&installation.database)).await {
        counted?;
    }
    Ok(outcome)
}

async fn import(
    installation: &Installation,
    name: &str,
    settings: ingest_csv::Settings,
    outcome: &mut Outcome,
    cancel: &CancellationToken,
    on_step: &mut (dyn FnMut(Step<'_>) + Send),
) {
    let options = ImportOptions { wait: IMPORT_WAIT, ..ImportOptions::default() };
    let (database, lander) = (installation.database.clone(), installation.lander());
    let files = ingest_csv::import(settings, database, lander, &[], &options, &mut |_| {}, cancel.clone()).await;
    match files {
        Ok(files) => {
            outcome.refused |=
                files.iter().any(|file| matches!(file.state, FileOutcome::Refused | FileOutcome::Unreadable));
            for file in files.iter().filter(|file| file.state == FileOutcome::Changing) {
                let reason = file.reason.as_deref().unwrap_or_default();
                tracing::warn!(source = name, file = ?file.file, reason, "the file is not finished; the next run takes it");
            }
            on_step(Step::Csv { source: name, files: &files });
        }
        // Whoever stopped it knows that not everything is imported.
        Err(error) if error.is_cancelled() => {}
        Err(error) => failed(outcome, name, &error),
    }
}

fn failed(outcome: &mut Outcome, name: &str, error: &dyn std::fmt::Display) {
    tracing::error!(source = name, %error, "the source failed");
    outcome.failed.push(name.to_owned());
}

async fn consolidate(
    installation: &Installation,
    rules: &Rules,
    cancel: &CancellationToken,
    on_step: &mut (dyn FnMut(Step<'_>) + Send),
) -> anyhow::Result<()> {
    let drained = consolidate::catch_up(rules, &installation.seal(), &installation.database, cancel).await?;
    on_step(Step::Consolidated(&drained));
    Ok(())
}
