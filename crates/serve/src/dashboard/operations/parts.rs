//! The parts of the page that come from the snapshot, each drawn by itself and known by its id.

use std::collections::BTreeMap;

use askama::Template;
use axum::http::StatusCode;
use staging::imports;
use staging::overview::LedgerFile;
use status::words::{age, bytes};
use status::{Look, Severity};

use super::sources;
use crate::dashboard::Dashboard;
use crate::dashboard::locale::{Locale, Moment};
use crate::dashboard::systems::{Badge, counted};
use crate::problem::Problem;
use crate::watch::Snapshot;

/// What a state is drawn as; a class of the style.
pub(super) const OK: &str = "ok";
pub(super) const ATTENTION: &str = "attention";
pub(super) const FAILED: &str = "failed";
pub(super) const IDLE: &str = "idle";

#[derive(Template)]
#[template(path = "operations/needs.html")]
struct Needs {
    attention: usize,
}

#[derive(Template)]
#[template(path = "operations/as_of.html")]
struct AsOf {
    as_of: Moment,
}

#[derive(Template)]
#[template(path = "operations/attention.html")]
struct Attention {
    looks: Vec<Item>,
}

/// Something that needs a look.
struct Item {
    mark: &'static str,
    sentence: String,
    effect: String,
    /// What to type, if it cannot be done on the page.
    command: Option<String>,
    age: String,
    /// Where on the page there is more, and what that is called.
    link: Option<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "operations/files.html")]
struct Files {
    rows: Vec<FileRow>,
}

struct FileRow {
    badge: Badge,
    night: Moment,
    file: String,
    arrived: Moment,
    took: String,
    rows: String,
    skipped: String,
    dead_letters: String,
    mark: &'static str,
    state: &'static str,
    reason: String,
}

#[derive(Template)]
#[template(path = "operations/unmatched.html")]
struct Unmatched {
    total: String,
    rows: Vec<UnmatchedRow>,
}

struct UnmatchedRow {
    reason: String,
    label: &'static str,
    count: String,
    /// How long its bar is, in hundredths.
    share: i64,
}

#[derive(Template)]
#[template(path = "operations/expiry.html")]
struct Expiry {
    mark: &'static str,
    held_back: String,
    size: String,
    rows: Vec<ExpiryRow>,
}

struct ExpiryRow {
    badge: Badge,
    kept_for: String,
    waiting: String,
    over_in: String,
}

/// All of them, by their ids.
pub(super) fn drawn(
    dashboard: &Dashboard,
    locale: &Locale,
    snapshot: &Snapshot,
) -> Result<BTreeMap<&'static str, String>, Problem> {
    let mut parts = BTreeMap::from([
        ("needs", render(&Needs { attention: snapshot.report.looks.len() })?),
        ("as-of", render(&AsOf { as_of: locale.second(snapshot.as_of) })?),
        ("attention", render(&attention(locale, snapshot))?),
        ("sources", render(&sources::sources(dashboard, locale, snapshot))?),
        ("files", render(&files(dashboard, locale, snapshot))?),
        ("polls", render(&sources::polls(dashboard, locale, snapshot))?),
        ("unmatched", render(&unmatched(locale, snapshot))?),
    ]);
    parts.insert("expiry", render(&expiry(dashboard, locale, snapshot))?);
    Ok(parts)
}

pub(super) fn render(template: &impl Template) -> Result<String, Problem> {
    template.render().map_err(|error| {
        tracing::error!(%error, "a part of a page cannot be drawn");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR)
    })
}

fn attention(locale: &Locale, snapshot: &Snapshot) -> Attention {
    let item = |look: &Look| Item {
        mark: if look.severity == Severity::Failed { FAILED } else { ATTENTION },
        // What is to be typed stands apart.
        sentence: look.sentence().replace('`', ""),
        effect: look.effect.replace('`', ""),
        command: (!look.of_dead_letters).then(|| look.command.clone()),
        age: look.since.map(|since| age((locale.now - since).num_seconds())).unwrap_or_default(),
        link: look.source.as_deref().map(|source| more(snapshot, source, look.of_dead_letters)),
    };
    Attention { looks: snapshot.report.looks.iter().map(item).collect() }
}

/// Where on the page there is more about what is wrong with a source.
fn more(snapshot: &Snapshot, source: &str, is_of_dead_letters: bool) -> (&'static str, String) {
    if is_of_dead_letters {
        return ("Review", letters_of(source));
    }
    match snapshot.report.sources.get(source).and_then(|source| source.kind) {
        Some("csv") => ("Files", "#files".to_owned()),
        Some("rest") => ("Polling", "#polls".to_owned()),
        _ => ("Sources", "#sources".to_owned()),
    }
}

pub(super) fn letters_of(source: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("source", source).finish();
    format!("/operations?{query}#letters")
}

pub(super) fn nothing() -> String {
    "–".to_owned()
}

fn files(dashboard: &Dashboard, locale: &Locale, snapshot: &Snapshot) -> Files {
    let row = |file: &LedgerFile| {
        let took = file.finished_at.map(|at| (at - file.started_at).num_milliseconds());
        let (mark, state) = match file.state {
            imports::State::Importing => (IDLE, "importing"),
            imports::State::Imported => (OK, "imported"),
            imports::State::Copy => (OK, "a copy"),
            imports::State::Superseded => (OK, "superseded"),
            imports::State::Refused => (FAILED, "refused"),
        };
        FileRow {
            badge: dashboard.systems.badge(&file.source),
            night: locale.day(file.as_of),
            file: file.file_name.clone(),
            arrived: locale.ago(file.started_at),
            #[expect(clippy::cast_precision_loss, reason = "a tenth of a second is shown")]
            took: took
                .map_or_else(nothing, |took| locale.number(&format!("{:.1}", took.max(0) as f64 / 1000.0)) + " s"),
            rows: locale.count(file.rows),
            skipped: locale.count(file.skipped),
            dead_letters: locale.count(file.dead_letters),
            mark,
            state,
            reason: file.reason.clone().unwrap_or_default(),
        }
    };
    Files { rows: snapshot.files.iter().map(row).collect() }
}

/// Why a cross-reference has no customer.
pub(in crate::dashboard) fn unmatched_words(reason: &str) -> Option<&'static str> {
    match reason {
        "no_email" => Some("No email"),
        "invalid_email" => Some("Email cannot be used"),
        "blocked" => Some("Email is blocked"),
        "crowded" => Some("Too many share one email"),
        _ => None,
    }
}

fn unmatched(locale: &Locale, snapshot: &Snapshot) -> Unmatched {
    let mut counts: Vec<(&String, i64)> =
        snapshot.report.unmatched.iter().flatten().map(|(reason, count)| (reason, *count)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let most = counts.first().map_or(1, |(_, count)| (*count).max(1));
    let row = |(reason, count): &(&String, i64)| UnmatchedRow {
        reason: (*reason).clone(),
        label: unmatched_words(reason).unwrap_or_default(),
        count: locale.count(*count),
        share: count * 100 / most,
    };
    let total = counts.iter().map(|(_, count)| *count).sum();
    Unmatched { total: locale.count(total), rows: counts.iter().map(row).collect() }
}

fn expiry(dashboard: &Dashboard, locale: &Locale, snapshot: &Snapshot) -> Expiry {
    let expiry = &snapshot.facts.expiry;
    let held_for = expiry.held_back_since.map(|since| age((locale.now - since).num_seconds()));
    let row = |(name, expected): (&String, &status::Expected)| {
        let backlog = snapshot.facts.backlog.get(name);
        let left = backlog.map(|backlog| (backlog.first_expires_at - locale.now).num_seconds());
        ExpiryRow {
            badge: dashboard.systems.badge(name),
            kept_for: age(i64::try_from(expected.ttl.as_secs()).unwrap_or(i64::MAX)),
            waiting: locale.count(backlog.map_or(0, |backlog| backlog.records)),
            over_in: left.map_or_else(nothing, |left| if left > 0 { age(left) } else { "held back".to_owned() }),
        }
    };
    let partitions = i64::try_from(expiry.partitions).unwrap_or(i64::MAX);
    Expiry {
        mark: if held_for.is_some() { ATTENTION } else { OK },
        held_back: held_for.map_or_else(|| "Nothing held back".to_owned(), |age| format!("Held back for {age}")),
        size: format!(
            "{}, {}",
            counted(locale, partitions, "partition", "partitions"),
            bytes(snapshot.facts.staging_bytes)
        ),
        rows: dashboard.watch.setup.sources.iter().map(row).collect(),
    }
}
