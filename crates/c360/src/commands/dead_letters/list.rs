//! `c360 dead-letters list`

use std::io::Write;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use staging::dead_letters::{self, Count, Letter, Selection, State};

use super::Database;
use crate::cli;
use crate::commands::table::table;
use crate::config::Config;
use crate::exit::Exit;
use status::words::{age, thousands};

/// What fits on a screen or two.
const DEFAULT_LIMIT: u32 = 50;
/// How many are read together.
const PAGE: i64 = 1_000;

pub(super) async fn run(args: cli::List, config: Config) -> anyhow::Result<Exit> {
    let mut database = Database::open(&config).await?;
    let connection = &mut database.connection;
    args.which.check(connection, &config).await?;
    let state = args.state.unwrap_or(if args.which.ids.is_empty() { cli::InState::Parked } else { cli::InState::All });
    let state = match state {
        cli::InState::Parked => Some(State::Parked),
        cli::InState::Retried => Some(State::Retried),
        cli::InState::Discarded => Some(State::Discarded),
        cli::InState::All => None,
    };
    let selection = args.which.selection(state);
    let counts = dead_letters::count(&mut *connection, &selection).await?;
    let total: i64 = counts.iter().map(|count| count.letters).sum();
    let limit = args.limit.or((!args.json).then_some(DEFAULT_LIMIT));
    let limit = limit.map_or(i64::MAX, i64::from);
    if args.json {
        print_json(connection, &selection, limit).await?;
    } else {
        let letters = dead_letters::list(&mut *connection, &selection, None, limit).await?;
        std::io::stdout().lock().write_all(page(&counts, &letters, state, Utc::now()).as_bytes())?;
    }
    if total > limit {
        eprintln!(
            "{} of {} are shown, the newest first: --limit {total} shows all of them; --source, --reason, --since and \
             --until choose",
            thousands(limit),
            thousands(total)
        );
    }
    Ok(Exit::Done)
}

/// A line each, read page by page: there may be millions.
async fn print_json(connection: &mut PgConnection, selection: &Selection, mut limit: i64) -> anyhow::Result<()> {
    let mut before = None;
    while limit > 0 {
        let letters = dead_letters::list(&mut *connection, selection, before, limit.min(PAGE)).await?;
        let Some(last) = letters.last() else { break };
        (before, limit) = (Some(last.dead_letter_id), limit - i64::try_from(letters.len())?);
        let mut stdout = std::io::stdout().lock();
        for letter in &letters {
            writeln!(stdout, "{}", document(letter))?;
        }
    }
    Ok(())
}

/// What is said of a letter without opening it.
pub(super) fn document(letter: &Letter) -> Value {
    let mut document = json!({
        "dead_letter_id": letter.dead_letter_id,
        "source": letter.source,
        "reason": letter.reason,
        "detail": letter.detail,
        "origin": letter.origin,
        "landed_at": letter.landed_at,
        "state": letter.state.as_str(),
        "truncated": letter.truncated,
    });
    if let Some(handled_at) = letter.handled_at {
        document["handled_at"] = json!(handled_at);
    }
    if let Some(batch_id) = letter.landed_batch_id {
        document["landed_batch_id"] = json!(batch_id);
    }
    document
}

fn page(counts: &[Count], letters: &[Letter], state: Option<State>, now: DateTime<Utc>) -> String {
    let word = state.map_or(String::new(), |state| format!(" {}", state.as_str()));
    let total: i64 = counts.iter().map(|count| count.letters).sum();
    let mut page = match total {
        0 => return format!("There are no{word} dead letters to show.\n"),
        1 => format!("1{word} dead letter:\n"),
        total => format!("{}{word} dead letters:\n", thousands(total)),
    };
    let ago = |at: DateTime<Utc>| format!("{} ago", age((now - at).num_seconds()));
    let count = |count: &Count| {
        let mut cells = vec![format!("  {}", count.source), count.reason.clone()];
        cells.extend(state.is_none().then(|| count.state.as_str().to_owned()));
        cells.extend([thousands(count.letters), format!("newest {}", ago(count.newest))]);
        cells.push(if count.letters > 1 { format!("oldest {}", ago(count.oldest)) } else { String::new() });
        cells
    };
    page += &table(counts.iter().map(count).collect());
    let heading = ["ID", "PARKED", "SOURCE", "REASON", "PLACE", "DETAIL"].map(str::to_owned).to_vec();
    let line = |letter: &Letter| {
        let state = if letter.state == State::Parked { "" } else { letter.state.as_str() };
        let reason = format!("{} {state}", letter.reason).trim_end().to_owned();
        vec![
            letter.dead_letter_id.to_string(),
            letter.landed_at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
            letter.source.clone(),
            reason,
            letter.place(),
            letter.detail.clone(),
        ]
    };
    page.push('\n');
    page += &table(std::iter::once(heading).chain(letters.iter().map(line)).collect());
    page
}
