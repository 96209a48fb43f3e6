//! `c360 customer merge`, `split`, `block`, `unblock`, `allow` and `undo`

use std::fmt::Write as _;
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use anyhow::anyhow;
use chrono::Utc;
use consolidate::Change;
use consolidate::decide::{self, Done, Outcome, Request};
use serde_json::{Value, json};

use super::show::page;
use crate::cli::customer::Deciding;
use crate::commands::ask::says_yes;
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::stop;
use status::words::printable;

/// Decides what nobody has to be asked about.
pub(super) async fn run(request: Request, how: Deciding, config: Config) -> anyhow::Result<Exit> {
    confirmed(request, true, how, config).await
}

/// Decides, once whoever sits there has said yes.
pub(super) async fn confirmed(request: Request, yes: bool, how: Deciding, config: Config) -> anyhow::Result<Exit> {
    let cancel = stop::on_signal()?;
    let installation = Installation::open(config).await?;
    installation.prepare_soon(&cancel).await?;
    let rules = installation.rules()?;
    let by = how.by.clone().unwrap_or_else(user);
    if how.dry_run || !yes {
        let foreseen = decide::foresee(&installation.database, &rules, &request, &by, Utc::now()).await?;
        if how.dry_run || foreseen.done == Done::Nothing {
            return Exit::Done.after(print(&how, &foreseen));
        }
        if !ask(&foreseen)? {
            eprintln!("c360: nothing is decided");
            return Ok(Exit::Unexpected);
        }
    }
    let outcome = decide::carry_out(&installation.database, &rules, &request, &by, &cancel).await?;
    let printed = print(&how, &outcome);
    if !outcome.folded {
        eprintln!("c360: stopped; the decision holds, and profiles follow with whoever consolidates next");
        return Exit::Unexpected.after(printed);
    }
    Exit::Done.after(printed)
}

/// Shows what would come of it, and asks whoever sits there.
fn ask(foreseen: &Outcome) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        let problem = anyhow!("{}: say --yes, or look at it with --dry-run", summary(foreseen, true));
        return Err(Exit::Usage.because(problem));
    }
    says_yes(&format!("{}\n{}. Go on?", customers(foreseen), summary(foreseen, true)))
}

/// What is done, or with --dry-run would be.
fn print(how: &Deciding, outcome: &Outcome) -> anyhow::Result<()> {
    let summary = summary(outcome, how.dry_run);
    let page = || match outcome.done {
        Done::Nothing => format!("{summary}\n"),
        _ => format!("{summary}\n\n{}", customers(outcome)),
    };
    Ok(crate::commands::print(how.json, &document(how, outcome)?, page)?)
}

fn document(how: &Deciding, outcome: &Outcome) -> anyhow::Result<Value> {
    let mut document = serde_json::to_value(outcome)?;
    document["dry_run"] = json!(how.dry_run);
    if how.dry_run {
        // Nothing has that number, and nothing was made to wait for.
        if outcome.done == Done::Decided {
            document["decision"]["decision_id"] = Value::Null;
        }
        document["folded"] = json!(false);
    }
    Ok(document)
}

/// One sentence, without a personal value: by it a script's log says what it was about.
fn summary(outcome: &Outcome, would_be: bool) -> String {
    let kind = outcome.decision.as_ref().map_or("decision", |decision| decision.ruling.kind());
    let number = outcome.decision.as_ref().map_or(0, |decision| decision.decision_id);
    let first = match outcome.done {
        Done::Nothing if outcome.decision.is_none() => return "Nothing to do".to_owned(),
        Done::Nothing => return format!("Nothing to do: decision {number} ({kind}) says so already"),
        Done::Decided if would_be => format!("A {kind} would be recorded"),
        Done::Decided => format!("Decision {number} ({kind}) is made"),
        Done::Undone if would_be => format!("Decision {number} ({kind}) would be undone"),
        Done::Undone => format!("Decision {number} ({kind}) is undone"),
    };
    let count = |change| outcome.customers.iter().filter(|effect| effect.change == Some(change)).count();
    let (appear, vanish, change) = (count(Change::Appears), count(Change::Vanishes), count(Change::Changes));
    let would = if would_be { "would " } else { "" };
    format!("{first}; of profiles {appear} {would}appear, {vanish} {would}vanish, {change} {would}change")
}

/// The customers that are other ones than before.
fn customers(outcome: &Outcome) -> String {
    let mut text = String::new();
    for effect in &outcome.customers {
        let Some(change) = effect.change else { continue };
        let customer = &effect.customer;
        let attributes = printable(&effect.attributes.join(", "));
        let _ = match change {
            Change::Vanishes => {
                writeln!(text, "- vanishes: customer {} ({})\n", customer.customer_id, printable(&customer.match_key))
            }
            Change::Appears => writeln!(text, "- appears: {}", page(customer)),
            Change::Changes if attributes.is_empty() => writeln!(text, "- changes: {}", page(customer)),
            Change::Changes => writeln!(text, "- changes ({attributes}): {}", page(customer)),
        };
    }
    text
}

/// The user of the operating system: by the name that the machine gives this process's uid.
fn user() -> String {
    let uid = fs::metadata("/proc/self").map(|process| process.uid().to_string()).unwrap_or_default();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)? == uid).then(|| name.to_owned())
    });
    name.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| format!("uid {uid}"))
}
