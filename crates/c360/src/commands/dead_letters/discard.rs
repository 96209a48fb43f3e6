//! `c360 dead-letters discard`

use std::io::IsTerminal;

use anyhow::anyhow;
use chrono::Utc;
use serde_json::json;
use staging::dead_letters::{self, Selection};

use super::Database;
use crate::cli;
use crate::commands::ask::says_yes;
use crate::config::Config;
use crate::exit::Exit;
use status::words::{count, thousands};

/// So many are given up in one transaction.
const PAGE: i64 = 5_000;

pub(super) async fn run(args: cli::Discard, config: Config) -> anyhow::Result<Exit> {
    let mut database = Database::open(&config).await?;
    let connection = &mut database.connection;
    args.which.check(connection, &config).await?;
    // Not those that come meanwhile: nobody has been asked about them.
    let last = dead_letters::newest(&mut *connection).await?;
    let selection = Selection { last, ..args.which.selection(None) };
    let (parked, left) = dead_letters::discardable(&mut *connection, &selection).await?;
    if args.dry_run || parked + left == 0 {
        return print(&args, parked, left);
    }
    if !args.yes && !confirmed(parked, left)? {
        eprintln!("c360: nothing is discarded");
        return Ok(Exit::Unexpected);
    }
    let (mut discarded, mut wiped) = (0, 0);
    loop {
        let done = dead_letters::discard(&mut *connection, &selection, PAGE, Utc::now()).await?;
        if done == (0, 0) {
            return print(&args, discarded, wiped);
        }
        (discarded, wiped) = (discarded + done.0, wiped + done.1);
    }
}

/// Asks whoever sits there.
fn confirmed(parked: i64, left: i64) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        let problem = anyhow!("{} would be discarded and wiped: say --yes", what(parked, left));
        return Err(Exit::Usage.because(problem));
    }
    let question = format!("Discard {}? What they hold is wiped and cannot be had back.", what(parked, left));
    says_yes(&question)
}

fn what(parked: i64, left: i64) -> String {
    let parked_letters = count(parked, "parked dead letter");
    match (parked, left) {
        (_, 0) => parked_letters,
        (0, _) => format!("{} of refused files", count(left, "dead letter")),
        _ => format!("{parked_letters} and {} of refused files", thousands(left)),
    }
}

fn print(args: &cli::Discard, parked: i64, left: i64) -> anyhow::Result<Exit> {
    let document = json!({"dry_run": args.dry_run, "discarded": parked, "of_refused_files": left});
    let page = || match (parked + left, args.dry_run) {
        (0, _) => "There is nothing to discard.\n".to_owned(),
        (_, true) => format!("{} would be discarded and wiped\n", what(parked, left)),
        (_, false) => format!("{} discarded and wiped\n", what(parked, left)),
    };
    crate::commands::print(args.json, &document, page)?;
    Ok(Exit::Done)
}
