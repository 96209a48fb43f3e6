//! `c360 status`: how far every source is and what needs a look.
//!
//! Crate `status` reads it from the database and decides what needs a look. Only the lag of Kafka sources that nobody reads at
//! the moment is asked of the brokers, here. Nothing is written, nothing migrated, no installation key needed.

mod lag;

use std::io::IsTerminal;

use anyhow::Context;
use chrono::Utc;
use status::{Asked, Paint, Report};

use crate::config::Config;
use crate::exit::Exit;
use crate::{cli, database};

/// Prints the status. With `--check`, whatever needs a look makes it [`Exit::Unexpected`]; a database out of reach is
/// [`Exit::OutOfReach`] in any case, and the document says so too.
pub(super) async fn run(args: cli::Status, config: Config) -> anyhow::Result<Exit> {
    let (report, out_of_reach) = match report(&config).await {
        Ok(report) => (report, None),
        Err(error) if Exit::of(&error) == Exit::OutOfReach => (Report::out_of_reach(&config.setup()?), Some(error)),
        Err(error) => return Err(error),
    };
    let paint = Paint::of(std::io::stdout().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
    // The message of the error says it all to whoever reads; whoever parses gets the document.
    let is_printed = args.json || out_of_reach.is_none();
    let page = || status::page(&report, Utc::now(), paint);
    let printed = if is_printed { super::print(args.json, &report, page) } else { Ok(()) };
    match out_of_reach {
        Some(error) => Err(error),
        None if args.check && !report.looks.is_empty() => Exit::Unexpected.after(printed),
        None => Exit::Done.after(printed),
    }
}

async fn report(config: &Config) -> anyhow::Result<Report> {
    let setup = config.setup()?;
    let Some(opened) = database::open(config).await? else { return Ok(Report::not_migrated(&setup)) };
    let mut connection = staging::connect(&opened.database)
        .await
        .map_err(|error| Exit::OutOfReach.because(error))
        .context("the database cannot be reached")?;
    match status::ask(&mut connection, &setup).await? {
        Asked::Facts(facts) => {
            let lags = lag::ask(config, &setup, &opened.database, &facts, Utc::now()).await;
            Ok(Report::new(&setup, &facts, &lags, Utc::now()))
        }
        Asked::NotMigrated => Ok(Report::not_migrated(&setup)),
    }
}
