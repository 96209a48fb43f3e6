//! `c360 customer explain`

use std::fmt::Write as _;

use consolidate::Key;
use consolidate::explain::{self, Entry, Explained};
use model::{Explanation, Why};

use super::Opened;
use super::show::{page, text, time};
use crate::cli::customer::Explain;
use crate::commands::print;
use crate::commands::table::table;
use crate::config::Config;
use crate::exit::Exit;
use status::words::printable;

pub(super) async fn run(args: &Explain, config: Config) -> anyhow::Result<Exit> {
    let mut opened = Opened::open(config).await?;
    let rules = opened.installation.rules()?;
    let explained = explain::explain(&mut opened.connection, &rules, &Key::parse(&args.whom.key)).await?;
    print(args.json, &explained, || written(&explained))?;
    Ok(Exit::Done)
}

fn written(explained: &Explained) -> String {
    let mut written = page(&explained.customer);
    if explained.pending {
        written += "\nSomething that concerns it waits to be consolidated.\n";
    } else if !explained.follows_rules {
        written += "\nThe rules in force would make another profile, as explained below: a rebuild is due.\n";
    }
    written += "\nwhy\n";
    for (name, why) in &explained.attributes {
        let _ = writeln!(written, "  {}", printable(&attribute(name, why)));
        let losing = why.losing.iter().map(|lost| {
            let value = lost.value.as_ref().map(text).unwrap_or_default();
            let place = format!("      not {} {}", lost.origin.system, lost.origin.external_id);
            vec![place, value, because(lost.why).to_owned()]
        });
        written += &table(losing.collect());
    }
    written += "\nmatch keys that lead here\n";
    written += &table(explained.match_keys.iter().map(|key| vec![format!("  {key}")]).collect());
    for held in &explained.held_back {
        let _ = writeln!(
            written,
            "  held back: {} cross-references of {} under {} ({}; {} are allowed)",
            held.xrefs,
            printable(&held.system),
            printable(&held.match_key),
            held.reason,
            explained.max_xrefs_per_system
        );
    }
    written += "\ndecisions in force\n";
    let decisions = explained.decisions.iter().map(|decision| {
        let number = format!("  {}", decision.decision_id);
        let made = format!("{} by {}", time(decision.made_at), decision.made_by);
        vec![number, decision.ruling.kind().to_owned(), decision.ruling.subject().join(" "), made]
    });
    written += &table(decisions.collect());
    written += "\nchanges, the newest first\n";
    written += &table(explained.changes.iter().map(change).collect());
    written
}

fn attribute(name: &str, why: &Explanation) -> String {
    let (system, external_id) = (&why.origin.system, &why.origin.external_id);
    let from = match &why.value {
        Some(value) => format!("{name} = {} from {system} {external_id}", text(value)),
        None => format!("{name} has no value, because {system} {external_id} supplies its group and has none"),
    };
    let group = if why.group.is_empty() { String::new() } else { format!(", together with {}", why.group.join(", ")) };
    format!("{from}{group}{}", if why.edited { ", by an operator's edit" } else { "" })
}

fn because(why: Why) -> &'static str {
    match why {
        Why::NoValue => "says nothing",
        Why::ReplacedByEdit => "an operator's edit stands in its place",
        Why::EditOutdated => "an operator's edit; the system has said something else since",
        Why::EditElsewhere => "an operator's edit comes first",
        Why::AttributeList => "ranks behind by the attribute's own list",
        Why::Prefer => "ranks behind by survivorship.prefer",
        Why::Older => "equal in rank, but its newest record is older",
        Why::Tie => "equal in rank and time, but behind by system and id",
    }
}

fn change(entry: &Entry) -> Vec<String> {
    let value = |value: &Option<serde_json::Value>| value.as_ref().map(text).unwrap_or_default();
    let what = match (&entry.attribute, &entry.new) {
        (Some(name), _) => format!("{name}: {} -> {}", value(&entry.old), value(&entry.new)),
        (None, Some(_)) => "begins".to_owned(),
        (None, None) => "ends".to_owned(),
    };
    let whence = [entry.system.as_deref(), entry.external_id.as_deref()].map(Option::unwrap_or_default).join(" ");
    vec![format!("  {}", time(entry.at)), entry.cause.clone(), what, whence]
}
