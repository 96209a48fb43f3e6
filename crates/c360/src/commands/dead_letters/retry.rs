//! `c360 dead-letters retry`

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use staging::dead_letters::{self, Selection, State};

use crate::commands::{print, progress};
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::{cli, retry, stop};

/// Where nobody sees a bar, the log says this often how far it is.
const SAY_EVERY: Duration = Duration::from_secs(10);

pub(super) async fn run(args: cli::Retry, config: Config) -> anyhow::Result<Exit> {
    let cancel = stop::on_signal()?;
    let installation = Installation::open(config).await?;
    installation.prepare_soon(&cancel).await?;
    let mut connection = staging::connect(&installation.database).await?;
    args.which.check(&mut connection, &installation.config).await?;
    let last = dead_letters::newest(&mut connection).await?;
    let selection = Selection { last, ..args.which.selection(Some(State::Parked)) };
    let counts = dead_letters::count(&mut connection, &selection).await?;
    let mut progress = Progress::new(counts.iter().map(|count| count.letters).sum());
    let mut inc = |letters| progress.inc(letters);
    let outcome = retry::retry(&installation, &mut connection, selection, args.dry_run, &cancel, &mut inc).await?;
    progress.bar.finish_and_clear();
    let page = || outcome.lines(args.dry_run).into_iter().map(|line| line + "\n").collect();
    outcome.exit().after(print(args.json, &outcome.document(args.dry_run), page))
}

/// A bar on a terminal, a line in the log now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    said_at: Instant,
}

impl Progress {
    fn new(letters: i64) -> Self {
        let template = "[{bar:30}] {human_pos}/{human_len} dead letters, {eta} left";
        Self { bar: progress::bar(letters.unsigned_abs(), template), said_at: Instant::now() }
    }

    fn inc(&mut self, letters: u64) {
        self.bar.inc(letters);
        if !std::io::stderr().is_terminal() && self.said_at.elapsed() >= SAY_EVERY {
            self.said_at = Instant::now();
            tracing::info!(done = self.bar.position(), of = self.bar.length(), "retrying dead letters");
        }
    }
}
