//! The page for people: first what needs a look, then a table of sources, then the rest.

use std::ffi::OsStr;
use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::report::{Edits, List, Report, Source, State, seconds_since};
use super::words::{age, bytes, count, printable, records_and_profiles, thousands};

/// Whether what is good and bad has a colour, or only words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Colours.
    Colours,
    /// Only words.
    Plain,
}

impl Paint {
    /// Colours are for terminals whose user has not said otherwise; see <https://no-color.org>.
    pub fn of(is_terminal: bool, no_color: Option<&OsStr>) -> Self {
        let is_refused = no_color.is_some_and(|value| !value.is_empty());
        if is_terminal && !is_refused { Self::Colours } else { Self::Plain }
    }

    fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    fn heading(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Colours => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// The page.
pub fn page(report: &Report, now: DateTime<Utc>, paint: Paint) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut page, report, now, paint);
    page
}

fn write(page: &mut String, report: &Report, now: DateTime<Utc>, paint: Paint) -> std::fmt::Result {
    let headline = match report.looks.len() {
        0 => paint.good("Nothing needs attention."),
        1 => paint.bad("1 thing needs a look:"),
        n => paint.bad(&format!("{n} things need a look:")),
    };
    writeln!(page, "{headline}")?;
    for (index, look) in report.looks.iter().enumerate() {
        let problem = paint.doubtful(&printable(&look.sentence()));
        writeln!(page, "\n{:>2}. {problem}", index + 1)?;
        writeln!(page, "    {}", printable(&look.effect))?;
        writeln!(page, "      $ {}", printable(&look.command))?;
    }
    if !report.sources.is_empty() {
        page.push('\n');
        table(page, report, now, paint)?;
    }
    page.push('\n');
    totals(page, report)
}

/// The column of the table that has a colour.
const STATE: usize = 2;

/// A line per source, columns as wide as they have to be.
fn table(page: &mut String, report: &Report, now: DateTime<Utc>, paint: Paint) -> std::fmt::Result {
    let headings = ["SOURCE", "KIND", "STATE", "TO LAND", "TO CONSOLIDATE", "DEAD LETTERS", "LAST FILE"];
    let line = |(name, source): (&String, &Source)| {
        let cells = [
            name.clone(),
            source.kind.unwrap_or("-").to_owned(),
            state(source),
            to_land(source),
            waiting(source.backlog.records, source.backlog.oldest_seconds),
            match source.dead_letters.values().sum() {
                0 => "-".to_owned(),
                letters => thousands(letters),
            },
            last_file(source, now),
        ];
        cells.map(|cell| printable(&cell))
    };
    let lines: Vec<[String; 7]> =
        std::iter::once(headings.map(str::to_owned)).chain(report.sources.iter().map(line)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let sources = std::iter::once(None).chain(report.sources.values().map(Some));
    for (line, source) in lines.iter().zip(sources) {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let cell = format!("{cell:width$}");
            let cell = match (source, column) {
                (None, _) => paint.heading(&cell),
                (Some(source), STATE) => painted_state(source, &cell, paint),
                _ => cell,
            };
            write!(text, "{cell}  ")?;
        }
        writeln!(page, "{}", text.trim_end())?;
    }
    Ok(())
}

fn painted_state(source: &Source, cell: &str, paint: Paint) -> String {
    match source.state() {
        State::Stopped => paint.bad(cell),
        State::InTrouble | State::BreakerOpen | State::BreakerHalfOpen => paint.doubtful(cell),
        State::Running => paint.good(cell),
        State::NotConfigured | State::Silent => cell.to_owned(),
    }
}

fn state(source: &Source) -> String {
    match (source.state(), source.reported_seconds_ago) {
        (State::Silent, Some(seconds)) => format!("heard {} ago", age(seconds)),
        (state, _) => state.as_str().to_owned(),
    }
}

fn to_land(source: &Source) -> String {
    let oldest =
        source.oldest_unlanded_seconds.filter(|seconds| *seconds > 0).map(|seconds| format!(", {}", age(seconds)));
    let oldest = oldest.unwrap_or_default();
    let lists: Vec<String> = source.lists.iter().filter(|(_, list)| list.due_seconds > 0).map(list_to_land).collect();
    if !lists.is_empty() {
        let polls = source.polls_due.filter(|polls| *polls > 0).map(|polls| count(polls, "poll"));
        return format!("{}{oldest}", polls.into_iter().chain(lists).collect::<Vec<_>>().join(", "));
    }
    match (source.kind, source.lag, source.polls_due) {
        (_, Some(0), _) | (_, _, Some(0)) => "-".to_owned(),
        (_, Some(lag), _) => format!("{}{oldest}", count(lag, "message")),
        (_, _, Some(polls)) => format!("{}{oldest}", count(polls, "poll")),
        (Some("kafka"), ..) => "unknown".to_owned(),
        (Some("csv"), ..) if !oldest.is_empty() => format!("a file{oldest}"),
        _ => "-".to_owned(),
    }
}

/// `list of customers from page 13`
fn list_to_land((entity, list): (&String, &List)) -> String {
    let page = if list.pages > 0 { format!(" from page {}", list.pages + 1) } else { String::new() };
    format!("list of {entity}s{page}")
}

fn waiting(records: i64, oldest_seconds: i64) -> String {
    if records == 0 && oldest_seconds == 0 {
        "-".to_owned()
    } else {
        format!("{}, {}", count(records, "record"), age(oldest_seconds))
    }
}

fn last_file(source: &Source, now: DateTime<Utc>) -> String {
    let Some(file) = &source.last_file else { return "-".to_owned() };
    let ago = file.finished_at.map(|at| format!(" {} ago", age(seconds_since(at, now)))).unwrap_or_default();
    format!("{}: {}{ago}, {}", file.file, file.state.as_str(), count(file.rows, "row"))
}

/// What there is besides sources.
fn totals(page: &mut String, report: &Report) -> std::fmt::Result {
    let mut total = |name: &str, value: String| writeln!(page, "{name:<13} {}", printable(&value));
    if let Some(daemon) = &report.daemon {
        let heard =
            daemon.reported_seconds_ago.map(|seconds| format!(", heard {} ago", age(seconds))).unwrap_or_default();
        let consolidating = if daemon.consolidating { "" } else { "; nobody consolidates" };
        let running = if daemon.running { "running" } else { "none runs" };
        total("Daemon", format!("{running}{heard}{}", if daemon.running { consolidating } else { "" }))?;
    }
    if let Some(backlog) = &report.backlog {
        let what = match (backlog.records, backlog.profiles.unwrap_or_default()) {
            (0, 0) => "nothing waits to be consolidated".to_owned(),
            (records, profiles) => format!(
                "{} to be consolidated, the oldest for {}",
                records_and_profiles(records, profiles),
                age(backlog.oldest_seconds)
            ),
        };
        total("Backlog", what)?;
    }
    let letters = report.sources.iter().filter(|(_, source)| !source.dead_letters.is_empty());
    for (index, (name, source)) in letters.enumerate() {
        let heading = if index == 0 { "Dead letters" } else { "" };
        total(heading, format!("{name}: {}", counts(&source.dead_letters)))?;
    }
    let edits = report.sources.iter().filter_map(|(name, source)| Some((name, edits(source.edits.as_ref()?)?)));
    for (index, (name, edits)) in edits.enumerate() {
        total(if index == 0 { "Edits" } else { "" }, format!("{name}: {edits}"))?;
    }
    if let Some(unmatched) = &report.unmatched {
        let what = if unmatched.is_empty() { "no cross-reference".to_owned() } else { counts(unmatched) };
        total("Unmatched", what)?;
    }
    if let Some(expiry) = &report.expiry {
        let mut late = match (expiry.held_back_seconds, expiry.overdue_seconds) {
            (0, 0) => "nothing is overdue".to_owned(),
            (0, overdue) => format!("the oldest overdue for {}", age(overdue)),
            (held_back, _) => format!("held back for {}", age(held_back)),
        };
        if let Some(seconds) = expiry.unconsolidated_expires_in_seconds.filter(|seconds| *seconds > 0) {
            let _ = write!(late, "; what waits is over in {}, and stays until it is consolidated", age(seconds));
        }
        let partitions = count(i64::try_from(expiry.partitions).unwrap_or(i64::MAX), "partition");
        let size = report.staging.map(|staging| format!(", {} in staging", bytes(staging.bytes))).unwrap_or_default();
        total("Expiry", format!("{partitions}{size}; {late}"))?;
    }
    if let Some(differs) = report.orders_total_differs.as_ref().filter(|differs| !differs.is_empty()) {
        total("Orders", format!("total is not that of the lines: {}", counts(differs)))?;
    }
    if !report.storage.is_empty() {
        total("Storage", largest(&report.storage))?;
    }
    if let Some(stop) = &report.safe_to_stop {
        total("Stopping", format!("{}: {}", if stop.safe { "safe" } else { "not safe" }, stop.reason))?;
    }
    Ok(())
}

/// `2 edits wait to be sent, the oldest for 3m; 1 refused`, if there is anything to say.
fn edits(edits: &Edits) -> Option<String> {
    let waiting = (edits.waiting > 0).then(|| {
        let wait = if edits.waiting == 1 { "waits" } else { "wait" };
        format!("{} {wait} to be sent, the oldest for {}", count(edits.waiting, "edit"), age(edits.oldest_seconds))
    });
    let refused = (edits.refused > 0).then(|| format!("{} refused", thousands(edits.refused)));
    let said: Vec<String> = waiting.into_iter().chain(refused).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// The tables that take most, the largest first.
fn largest(storage: &std::collections::BTreeMap<String, i64>) -> String {
    let mut tables: Vec<(&String, &i64)> = storage.iter().collect();
    tables.sort_by_key(|(_, size)| std::cmp::Reverse(**size));
    let shown: Vec<String> = tables.iter().take(6).map(|(table, size)| format!("{table} {}", bytes(**size))).collect();
    shown.join(", ")
}

fn counts(by_reason: &std::collections::BTreeMap<String, i64>) -> String {
    let counts: Vec<String> =
        by_reason.iter().map(|(reason, number)| format!("{reason} {}", thousands(*number))).collect();
    counts.join(", ")
}
