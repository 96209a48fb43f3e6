//! The sources arrive one after the other, so that it can be seen what each of them adds.

use std::collections::BTreeMap;

use ingest_csv::FileReport;
use tokio_util::sync::CancellationToken;

use super::narrator::{doing, tell};
use super::results;
use crate::catch_up::{self, Step};
use crate::exit::Exit;
use crate::installation::Installation;

/// The story's order, with what is told of each source.
const ORDER: [(&str, &str); 3] = [
    ("home_delivery", "MySQL's change events, by Debezium and the mock Kafka"),
    ("loyalty", "the nightly full exports of a Postgres"),
    ("online_store", "a REST API, asked about everybody that the others know"),
];

/// What one source brought.
#[derive(Debug, Default)]
struct Arrival {
    landed: u64,
    dead_letters: u64,
    skipped: u64,
    /// What only this kind of source has to say.
    notes: Vec<String>,
}

/// Catches up with one source after the other, each as if it had just been added to the configuration, and leaves the
/// installation with all of them.
pub(super) async fn all(installation: &mut Installation, cancel: &CancellationToken) -> anyhow::Result<Exit> {
    let sources = installation.config.sources.clone();
    let mut exit = Exit::Done;
    for (number, (name, what)) in (1..).zip(ORDER) {
        let Some(source) = sources.get(name) else { continue };
        tell(&format!("{number}. {name}: {what}"));
        installation.config.sources = BTreeMap::from([(name.to_owned(), source.clone())]);
        let mut arrival = Arrival::default();
        let arriving = doing(&format!("{name} arrives"));
        let outcome = catch_up::everything(installation, cancel, &mut |step| arrival.note(&step)).await?;
        drop(arriving);
        exit = exit.and(outcome.exit());
        let mut database = staging::connect(&installation.database).await?;
        let customers = results::customers(&mut database).await?;
        for line in arrival.lines(customers) {
            tell(&format!("   {line}"));
        }
        if cancel.is_cancelled() {
            break;
        }
    }
    tell("");
    installation.config.sources = sources;
    Ok(exit)
}

impl Arrival {
    fn note(&mut self, step: &Step<'_>) {
        match step {
            Step::Kafka { caught_up, .. } => {
                self.landed += caught_up.records;
                self.dead_letters += caught_up.dead_letters;
                self.skipped += caught_up.skipped;
            }
            Step::Csv { files, .. } => {
                for file in *files {
                    self.note_file(file);
                }
            }
            Step::Rest { summary, .. } => {
                self.landed += summary.records;
                self.dead_letters += summary.dead_letters;
                if summary.asked > 0 {
                    self.notes.push(format!(
                        "asked about {} customers: {} known, {} unknown, {} failing; and about {} products",
                        summary.asked, summary.known, summary.unknown, summary.failing, summary.products
                    ));
                }
            }
            Step::Consolidated(drained) => self.dead_letters += u64::try_from(drained.excluded).unwrap_or(u64::MAX),
        }
    }

    fn note_file(&mut self, file: &FileReport) {
        self.landed += file.rows.saturating_sub(file.dead_letters + file.skipped);
        self.dead_letters += file.dead_letters;
        self.skipped += file.skipped;
        let name = file.file.file_name().unwrap_or_default().to_string_lossy();
        let reason = file.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        self.notes.push(format!("{name}: {} rows, {}{reason}", file.rows, word(file)));
    }

    fn lines(&self, customers: i64) -> Vec<String> {
        let counts = format!(
            "{} records landed, {} dead letters, {} skipped; {customers} customers so far",
            self.landed, self.dead_letters, self.skipped
        );
        self.notes.iter().cloned().chain([counts]).collect()
    }
}

/// The ledger's word for what became of a file.
fn word(file: &FileReport) -> String {
    let state = serde_json::to_value(file.state).unwrap_or_default();
    state.as_str().unwrap_or_default().to_owned()
}
