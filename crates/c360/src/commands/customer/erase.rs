//! `c360 customer erase` and `readmit`

use std::io::IsTerminal;

use anyhow::anyhow;
use consolidate::Key;
use consolidate::erase::{self, Outcome, Receipt};
use serde_json::json;

use super::Opened;
use crate::cli::customer::{Erase, Readmit};
use crate::commands::ask::says_yes;
use crate::commands::print;
use crate::config::Config;
use crate::exit::Exit;
use status::words::count;

pub(super) async fn run(args: &Erase, config: Config) -> anyhow::Result<Exit> {
    if !args.yes && !args.dry_run && !std::io::stdin().is_terminal() {
        return Err(Exit::Usage.because(anyhow!("a person would be erased, and there is no way back: say --yes")));
    }
    let mut opened = Opened::open(config).await?;
    let key = Key::parse(&args.whom.key);
    if args.dry_run || !args.yes {
        let foreseen = attempt(&mut opened, &key, true).await?;
        let Outcome::Erased(receipt) = &foreseen else { return ended(args, &foreseen) };
        if args.dry_run {
            return ended(args, &foreseen);
        }
        if !confirmed(receipt)? {
            eprintln!("c360: nobody is erased");
            return Ok(Exit::Unexpected);
        }
    }
    let outcome = attempt(&mut opened, &key, false).await?;
    ended(args, &outcome)
}

async fn attempt(opened: &mut Opened, key: &Key, dry_run: bool) -> anyhow::Result<Outcome> {
    let (rules, seal) = (opened.installation.rules()?, opened.installation.seal());
    let orders = opened.installation.erased_orders();
    Ok(erase::erase(&mut opened.connection, &rules, &seal, key, orders, dry_run).await?)
}

/// Asks whoever sits there.
fn confirmed(receipt: &Receipt) -> anyhow::Result<bool> {
    let rows = i64::try_from(receipt.removed.values().sum::<u64>()).unwrap_or(i64::MAX);
    let tables = i64::try_from(receipt.removed.len()).unwrap_or(i64::MAX);
    let (rows, tables) = (count(rows, "row"), count(tables, "table"));
    says_yes(&format!("Erase this person, {rows} of {tables}? There is no way back."))
}

/// The receipt, or why there is none.
fn ended(args: &Erase, outcome: &Outcome) -> anyhow::Result<Exit> {
    match outcome {
        Outcome::Unknown => return Err(Exit::NotFound.because(anyhow!("nothing is known of such a person"))),
        Outcome::Already => {
            let document = json!({"dry_run": args.dry_run, "already": true, "digests": [], "removed": {}});
            print(args.json, &document, || "erased already, and nothing has come since: nothing to do\n".to_owned())?;
        }
        Outcome::Erased(receipt) => {
            let mut document = serde_json::to_value(receipt)?;
            document["dry_run"] = json!(args.dry_run);
            print(args.json, &document, || page(receipt, args.dry_run))?;
        }
    }
    Ok(Exit::Done)
}

fn page(receipt: &Receipt, dry_run: bool) -> String {
    let head = if dry_run {
        "would be erased:\n".to_owned()
    } else {
        format!("erasure {} of {}\n", receipt.erasure_id, receipt.erased_at.to_rfc3339())
    };
    let rows = |rows: u64| count(i64::try_from(rows).unwrap_or(i64::MAX), "row");
    let removed = receipt.removed.iter().map(|(table, removed)| format!("  {table:36} {}\n", rows(*removed)));
    let digests = receipt.digests.iter().map(|digest| format!("  digest {digest}\n"));
    [head].into_iter().chain(removed).chain(digests).collect()
}

pub(super) async fn readmit(args: &Readmit, config: Config) -> anyhow::Result<Exit> {
    let mut opened = Opened::open(config).await?;
    let seal = opened.installation.seal();
    let key = Key::parse(&args.whom.key);
    let lifted = erase::readmit(&mut opened.connection, &seal, &key).await?;
    if lifted == 0 {
        return Err(Exit::NotFound.because(anyhow!("nobody was erased under that")));
    }
    let digests = count(i64::try_from(lifted).unwrap_or(i64::MAX), "digest");
    print(args.json, &json!({"lifted": lifted}), || {
        format!("readmitted: {digests} lifted; what comes from now on counts\n")
    })?;
    Ok(Exit::Done)
}
