//! `c360 dead-letters`

mod discard;
mod list;
mod retry;
mod show;

use std::collections::BTreeSet;

use anyhow::anyhow;
use sqlx::PgConnection;
use staging::dead_letters::{self, Selection, State};

use crate::cli::{DeadLettersCommand, Which};
use crate::config::Config;
use crate::database;
use crate::exit::Exit;

pub(super) async fn run(command: DeadLettersCommand, config: Config) -> anyhow::Result<Exit> {
    match command {
        DeadLettersCommand::List(args) => list::run(args, config).await,
        DeadLettersCommand::Show(args) => show::run(args, config).await,
        DeadLettersCommand::Retry(args) => retry::run(args, config).await,
        DeadLettersCommand::Discard(args) => discard::run(args, config).await,
    }
}

impl Which {
    fn selection(&self, state: Option<State>) -> Selection {
        Selection {
            ids: Some(self.ids.clone()).filter(|ids| !ids.is_empty()),
            source: self.source.clone(),
            reason: self.reason.clone(),
            since: self.since,
            until: self.until,
            state,
            last: None,
        }
    }

    /// Whether what is named is there at all: a slip of the pen is no empty answer.
    async fn check(&self, connection: &mut PgConnection, config: &Config) -> anyhow::Result<()> {
        if let Some(source) = &self.source
            && let Err(unknown) = config.source(source)
        {
            let selection = Selection { source: Some(source.clone()), ..Selection::default() };
            if dead_letters::count(&mut *connection, &selection).await?.is_empty() {
                return Err(unknown);
            }
        }
        let missing = missing(connection, &self.ids).await?;
        if missing.is_empty() { Ok(()) } else { Err(not_found(&missing)) }
    }
}

/// Those of the numbers that no letter has.
async fn missing(connection: &mut PgConnection, ids: &[i64]) -> anyhow::Result<Vec<i64>> {
    let selection = Selection { ids: Some(ids.to_vec()), ..Selection::default() };
    let found = dead_letters::list(connection, &selection, None, i64::MAX).await?;
    let found: BTreeSet<i64> = found.iter().map(|letter| letter.dead_letter_id).collect();
    Ok(ids.iter().copied().filter(|id| !found.contains(id)).collect())
}

fn not_found(ids: &[i64]) -> anyhow::Error {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    Exit::NotFound.because(anyhow!("there is no dead letter {}", ids.join(", ")))
}

/// The database for what needs no key: it is found and looked at, and neither made nor migrated.
struct Database {
    connection: PgConnection,
    _opened: database::Opened,
}

impl Database {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let not_migrated = || {
            Exit::Configuration.because(anyhow!("the database is not migrated yet: run `c360 run` or `c360 migrate`"))
        };
        let opened = database::open(config).await?.ok_or_else(not_migrated)?;
        let mut connection = staging::connect(&opened.database).await?;
        if staging::missing_migrations(&mut connection).await? > 0 {
            return Err(not_migrated());
        }
        Ok(Self { connection, _opened: opened })
    }
}
