//! `c360 dead-letters show`

use std::borrow::Cow;
use std::io::Write;

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use ingest_csv::{NamedCell, ReadRow};
use serde_json::{Value, json};
use staging::dead_letters::{self, Closed, Contents, Context, Opened, State};
use tokio_util::sync::CancellationToken;

use super::list::document;
use super::{missing, not_found};
use crate::cli;
use crate::config::{Config, Source};
use crate::exit::Exit;
use crate::installation::Installation;
use crate::mask::{CREDENTIAL, Mask, as_json, indented};
use crate::sources::{Ingester, ingester};
use status::words::{age, printable};

const UNREADABLE: &str = "these bytes cannot be read, so a password in them cannot be told from the rest";
const UNKNOWN_SOURCE: &str = "its source is not configured, so nobody knows which column holds a password";

pub(super) async fn run(args: cli::Show, config: Config) -> anyhow::Result<Exit> {
    if args.raw && args.ids.len() > 1 {
        return Err(Exit::Usage.because(anyhow!("--raw shows one dead letter at a time: there is nothing between two")));
    }
    let installation = Installation::open(config).await?;
    installation.prepare_soon(&CancellationToken::new()).await?;
    let mut connection = staging::connect(&installation.database).await?;
    let letters = dead_letters::open(&mut connection, &installation.seal(), &args.ids).await?;
    let mut exit = Exit::Done;
    for opened in &letters {
        let source = installation.config.sources.get(&opened.letter.source);
        let ingester = source.map(|source| ingester(&opened.letter.source, source, &installation.key)).transpose()?;
        let view = View { args: &args, opened, source: source.zip(ingester) };
        exit = exit.and(view.print()?);
    }
    let missing = missing(&mut connection, &args.ids).await?;
    if missing.is_empty() { Ok(exit) } else { Err(not_found(&missing)) }
}

/// A letter in front of somebody.
struct View<'a> {
    args: &'a cli::Show,
    opened: &'a Opened,
    source: Option<(&'a Source, Ingester)>,
}

impl View<'_> {
    fn print(&self) -> anyhow::Result<Exit> {
        let mut stdout = std::io::stdout().lock();
        match &self.opened.contents {
            Ok(contents) if self.args.raw => stdout.write_all(&self.raw(contents))?,
            Err(closed) if self.args.raw => self.complain(*closed),
            _ if self.args.json => writeln!(stdout, "{}", self.document())?,
            _ => stdout.write_all(self.page().as_bytes())?,
        }
        // Of what was settled nothing is expected to be left, unless bytes are asked for.
        Ok(match self.opened.contents {
            Err(Closed::Sealed) => Exit::Refused,
            Err(Closed::Wiped) if self.args.raw => Exit::Refused,
            _ => Exit::Done,
        })
    }

    fn complain(&self, closed: Closed) {
        eprintln!("c360: dead letter {}: {}", self.opened.letter.dead_letter_id, closed.why());
    }

    /// What is held as it may be shown, as JSON, or why it may not.
    fn payload(&self) -> Result<String, &'static str> {
        let contents = self.opened.contents.as_ref().map_err(|closed| closed.why())?;
        let mask = self.mask(!self.args.values).ok_or(UNKNOWN_SOURCE)?;
        let Some(row) = self.row() else {
            let text = self.text(&contents.payload).ok_or(UNREADABLE)?;
            return as_json(text.as_bytes()).and_then(|json| mask.apply(json)).ok_or(UNREADABLE);
        };
        let cell = |cell: &NamedCell| {
            let shown = match mask.value(&cell.text) {
                _ if cell.is_credential && !cell.text.is_empty() => CREDENTIAL.to_owned(),
                hidden => hidden.unwrap_or_else(|| cell.text.clone()),
            };
            format!("{}:{}", Value::from(cell.column.as_str()), Value::from(shown))
        };
        let cells: Vec<String> = row.cells.iter().map(cell).collect();
        Ok(format!("{{{}}}", cells.join(",")))
    }

    /// The text that bytes are, or become where the source writes Avro.
    fn text<'b>(&self, bytes: &'b [u8]) -> Option<Cow<'b, str>> {
        match &self.source {
            Some((_, Ingester::Kafka(settings))) => ingest_kafka::readable(settings, bytes),
            _ => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        }
    }

    /// The bytes as they came, but for a credential that can be told from the rest.
    fn raw(&self, contents: &Contents) -> Vec<u8> {
        if let Some(row) = self.row() {
            let mut text = row.text;
            for cell in row.cells.iter().rev().filter(|cell| cell.is_credential && !cell.text.is_empty()) {
                text.replace_range(cell.place.clone(), CREDENTIAL);
            }
            return text.into_bytes();
        }
        let masked = self.mask(false).zip(as_json(&contents.payload)).and_then(|(mask, json)| mask.apply(json));
        masked.map_or_else(|| contents.payload.clone(), String::into_bytes)
    }

    /// `None` if the source is not configured.
    fn mask(&self, values: bool) -> Option<Mask> {
        let (source, _) = self.source.as_ref()?;
        Some(Mask::of(source, values))
    }

    /// The row of a CSV source, where it can be told apart.
    fn row(&self) -> Option<ReadRow> {
        let is_record = matches!(&self.opened.contents, Ok(Contents { context: Some(Context::Record(_)), .. }));
        match &self.source {
            Some((_, Ingester::Csv(settings))) if !is_record => ingest_csv::read_row(settings, self.opened),
            _ => None,
        }
    }

    /// The key of a message as it may be shown, as JSON.
    fn key(&self) -> Option<String> {
        let Some(Context::Source(context)) = &self.opened.contents.as_ref().ok()?.context else { return None };
        let (key, mask) = (ingest_kafka::key_of(context)?, self.mask(!self.args.values)?);
        let text = self.text(&key).unwrap_or_else(|| String::from_utf8_lossy(&key));
        if let Some(json) = as_json(text.as_bytes()) {
            return mask.apply(json);
        }
        Some(Value::from(mask.value(&text).unwrap_or_else(|| text.into_owned())).to_string())
    }

    /// The id, which may be personal.
    fn external_id(&self) -> Option<&String> {
        self.opened.letter.external_id.as_ref().filter(|_| self.args.values)
    }

    /// One line of JSON.
    fn document(&self) -> String {
        let mut known = document(&self.opened.letter);
        let payload = self.payload();
        if let Some(id) = self.external_id() {
            known["external_id"] = json!(id);
        }
        if let Err(why) = &payload {
            known["hidden"] = json!(why);
        }
        let mut text = known.to_string();
        // As they came, so that repeated names and long numbers are all there; lines end between values only.
        for (name, json) in [("key", self.key()), ("payload", payload.ok())] {
            if let Some(json) = json {
                text.truncate(text.len() - 1);
                text.extend([",\"", name, "\":", &json.replace(['\n', '\r'], " "), "}"]);
            }
        }
        text
    }

    fn page(&self) -> String {
        let letter = &self.opened.letter;
        let ago = |at: DateTime<Utc>| format!("{} ago", age((Utc::now() - at).num_seconds()));
        let time = |at: DateTime<Utc>| format!("{} ({})", at.format("%Y-%m-%d %H:%M:%SZ"), ago(at));
        let what = if letter.state == State::Parked { "tried, still bad" } else { letter.state.as_str() };
        let kept = self.opened.contents.as_ref().ok().filter(|_| letter.truncated);
        let lines = [
            ("source", Some(letter.source.clone())),
            ("place", Some(letter.place())),
            ("parked", Some(time(letter.landed_at))),
            ("reason", Some(format!("{}: {}", letter.reason, letter.detail))),
            (what, letter.handled_at.map(time)),
            ("landed in", letter.landed_batch_id.map(|batch_id| format!("batch {batch_id}"))),
            ("kept", kept.map(|contents| format!("only the first {} bytes", contents.payload.len()))),
            ("id", self.external_id().cloned()),
            ("key", self.key()),
        ];
        let line = |(name, value): (&str, Option<String>)| Some(format!("  {name:<16}  {}\n", printable(&value?)));
        let mut page = format!("Dead letter {}, {}\n", letter.dead_letter_id, letter.state.as_str());
        page.extend(lines.into_iter().filter_map(line));
        match self.payload() {
            Ok(payload) => {
                let lines = indented(&payload);
                page.push('\n');
                page.extend(lines.lines().map(|line| printable(line) + "\n"));
                if !self.args.values {
                    page.push_str("\nValues are hidden: --values shows all of them but the credential.\n");
                }
            }
            Err(why) if self.opened.contents.is_ok() => {
                page.extend(["\nNot shown: ", why, ". --raw shows them all.\n"]);
            }
            Err(why) => page.extend(["\nNot shown: ", why, ".\n"]),
        }
        page.push('\n');
        page
    }
}
