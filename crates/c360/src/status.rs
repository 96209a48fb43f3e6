//! `c360 status`: how far every source is and what needs a look.
//!
//! Everything comes from the database, where the crates below say how far they are and ingesters leave their word
//! (`staging::health`), so that it can be asked from anywhere and at any time. Only the lag of Kafka sources that nobody
//! reads at the moment is asked of the brokers. Nothing is written, nothing migrated, no installation key needed.
//!
//! The way of the facts: `facts` (what the database says), `lag` (what brokers say), [`Report`] (the frozen shape of
//! `--json`), `looks` (what needs somebody, and the command for it), `human` (the page).

mod facts;
mod human;
mod lag;
mod looks;
mod report;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::io::{IsTerminal, Write};

use chrono::Utc;

use crate::cli;
use crate::config::Config;
use crate::exit::Exit;
use facts::Asked;
use human::Paint;

pub(crate) use facts::{Opened, open, storage};
pub use looks::Look;
pub use report::{Backlog, Daemon, Edits, Expiry, LastFile, List, Report, SafeToStop, Source, Staging};

/// Prints the status. With `--check`, whatever needs a look makes it [`Exit::Unexpected`]; a database out of reach is
/// [`Exit::OutOfReach`] in any case, and the document says so too.
pub async fn run(args: cli::Status, config: Config) -> anyhow::Result<Exit> {
    let (report, out_of_reach) = match report(&config).await {
        Ok(report) => (report, None),
        Err(error) if Exit::of(&error) == Exit::OutOfReach => (Report::out_of_reach(&config), Some(error)),
        Err(error) => return Err(error),
    };
    let mut output = std::io::stdout().lock();
    let paint = Paint::of(output.is_terminal(), std::env::var_os("NO_COLOR").as_deref());
    let page = if args.json {
        format!("{}\n", serde_json::to_string(&report)?)
    } else {
        human::page(&report, Utc::now(), paint)
    };
    // The message of the error says it all to whoever reads; whoever parses gets the document.
    if args.json || out_of_reach.is_none() {
        output.write_all(page.as_bytes())?;
    }
    match out_of_reach {
        Some(error) => Err(error),
        None if args.check && !report.looks.is_empty() => Ok(Exit::Unexpected),
        None => Ok(Exit::Done),
    }
}

async fn report(config: &Config) -> anyhow::Result<Report> {
    let Some(opened) = facts::open(config).await? else { return Ok(Report::not_migrated(config)) };
    match facts::ask(&opened.database, &config.rules_fingerprint()?).await? {
        Asked::Facts(facts) => {
            let lags = lag::ask(config, &opened.database, &facts, Utc::now()).await;
            Ok(Report::new(config, &facts, &lags, Utc::now()))
        }
        Asked::NotMigrated => Ok(Report::not_migrated(config)),
    }
}
