//! `c360 migrate`

use anyhow::Context;
use serde::Serialize;
use staging::Pending;
use tokio_util::sync::CancellationToken;

use super::print;
use crate::cli;
use crate::config::Config;
use crate::database;
use crate::exit::Exit;
use crate::installation::Installation;

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    /// What was applied, or with `--dry-run` would be, in this order.
    migrations: Vec<Migration>,
}

#[derive(Debug, Serialize)]
struct Migration {
    schema: &'static str,
    #[serde(flatten)]
    pending: Pending,
}

/// Brings the schemas up to date, which `run` does by itself too, or says what that would apply.
pub(super) async fn run(args: cli::Migrate, config: Config) -> anyhow::Result<Exit> {
    let migrations = match pending(&config).await {
        // A database that is only slow to start is waited for below.
        Err(error) if !args.dry_run && Exit::of(&error) == Exit::OutOfReach => Vec::new(),
        pending => pending?,
    };
    if !args.dry_run {
        let installation = Installation::open(config).await?;
        installation.prepare_soon(&CancellationToken::new()).await?;
    }
    let report = Report { dry_run: args.dry_run, migrations };
    print(args.json, &report, || page(&report))?;
    Ok(Exit::Done)
}

fn page(Report { dry_run, migrations }: &Report) -> String {
    let done = if *dry_run { "would apply" } else { "applied" };
    let line = |Migration { schema, pending }: &Migration| {
        format!("{done} {schema} {:04} {}\n", pending.version, pending.description)
    };
    let mut page: String = migrations.iter().map(line).collect();
    if migrations.is_empty() || !dry_run {
        page.push_str("schemas staging and customer360 are up to date\n");
    }
    page
}

/// What the database lacks. One that is embedded and not made yet lacks everything.
async fn pending(config: &Config) -> anyhow::Result<Vec<Migration>> {
    let Some(opened) = database::open(config).await? else {
        return Ok(named(staging::all_migrations(), consolidate::all_migrations()));
    };
    let mut connection = staging::connect(&opened.database)
        .await
        .map_err(|error| Exit::OutOfReach.because(error))
        .context("the database cannot be reached")?;
    let staging = staging::pending_migrations(&mut connection).await?;
    Ok(named(staging, consolidate::pending_migrations(&mut connection).await?))
}

fn named(staging: Vec<Pending>, customer360: Vec<Pending>) -> Vec<Migration> {
    let of = |schema, pending: Vec<Pending>| pending.into_iter().map(move |pending| Migration { schema, pending });
    of("staging", staging).chain(of("customer360", customer360)).collect()
}
