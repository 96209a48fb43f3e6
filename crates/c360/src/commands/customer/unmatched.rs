//! `c360 customer unmatched`

use std::io::Write;

use clap::ValueEnum;
use consolidate::unmatched::{self, Selection, Unmatched};

use super::Opened;
use crate::cli::customer;
use crate::commands::table::table;
use crate::config::Config;
use crate::exit::Exit;
use status::words::{count, thousands};

/// What fits on a screen or two.
const DEFAULT_LIMIT: u32 = 50;
/// How many are read together.
const PAGE: i64 = 1_000;

pub(super) async fn run(args: &customer::Unmatched, config: Config) -> anyhow::Result<Exit> {
    let mut opened = Opened::open(config).await?;
    let reason = args.reason.and_then(|reason| Some(reason.to_possible_value()?.get_name().to_owned()));
    let selection = Selection { reason, system: args.system.clone() };
    let total = unmatched::count(&mut opened.connection, &selection).await?;
    let limit = args.limit.or((!args.json).then_some(DEFAULT_LIMIT)).map_or(i64::MAX, i64::from);
    if !args.json {
        writeln!(std::io::stdout(), "{} without a customer", count(total, "living cross-reference"))?;
    }
    let (mut after, mut left): (Option<Unmatched>, i64) = (None, limit);
    while left > 0 {
        let last = after.as_ref().map(|last| (last.system.as_str(), last.external_id.as_str()));
        let page = unmatched::list(&mut opened.connection, &selection, last, left.min(PAGE)).await?;
        left -= i64::try_from(page.len())?;
        print(&page, args.json)?;
        match page.into_iter().next_back() {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    if total > limit {
        eprintln!("{} of {} are shown: --limit {total} shows all of them", thousands(limit), thousands(total));
    }
    Ok(Exit::Done)
}

fn print(page: &[Unmatched], json: bool) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if !json {
        let line = |xref: &Unmatched| {
            let email = xref.match_key.as_ref().or(xref.email.as_ref()).cloned().unwrap_or_default();
            vec![format!("  {}", xref.system), xref.external_id.clone(), xref.reason.clone(), email]
        };
        stdout.write_all(table(page.iter().map(line).collect()).as_bytes())?;
        return Ok(());
    }
    for xref in page {
        writeln!(stdout, "{}", serde_json::to_string(xref)?)?;
    }
    Ok(())
}
