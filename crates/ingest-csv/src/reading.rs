//! Reading one file on a thread of its own: opened once, hashed, parsed, and proven to have stayed the same.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use staging::imports::Refusal;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::file::{self, Identity};
use crate::parse::{self, Counts, Origin, Part, Stop};
use crate::text::Text;
use crate::{Error, Settings};

/// A file that is open and hashed.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) identity: Identity,
    pub(crate) sha256: String,
}

/// What the parser says on its way.
pub(crate) enum Event {
    Dialect {
        delimiter: char,
        encoding: &'static str,
    },
    /// Rows to land, and how much of the file is read.
    Part {
        part: Box<Part>,
        bytes: u64,
    },
}

/// How reading ended.
#[derive(Debug)]
pub(crate) enum End {
    Whole(Counts),
    Refused(Refusal),
    /// The file is not what it was when it was opened.
    Changed,
    Unreadable(String),
    Stopped,
}

/// Opens and hashes a file; an `Err` of the inner result says why it cannot be read.
pub(crate) async fn open(path: PathBuf, follow: bool, stop: CancellationToken) -> Result<Result<Opened, End>, Error> {
    let name = path.display().to_string();
    let opening = tokio::task::spawn_blocking(move || open_and_hash(&path, follow, &stop));
    opening.await.map_err(|_| Error::Parser(name))
}

fn open_and_hash(path: &Path, follow: bool, stop: &CancellationToken) -> Result<Opened, End> {
    let unreadable = |error: std::io::Error| End::Unreadable(error.to_string());
    let (file, identity) = file::open(path, follow).map_err(unreadable)?;
    let sha256 = file::sha256(&file, || stop.is_cancelled()).map_err(unreadable)?.ok_or(End::Stopped)?;
    if is_same(&file, &identity) { Ok(Opened { file, identity, sha256 }) } else { Err(End::Changed) }
}

/// Parses a file that is open; events come over the channel, one part ahead of whoever lands them.
pub(crate) fn parse(
    opened: Opened,
    settings: Arc<Settings>,
    origin: Origin,
) -> (mpsc::Receiver<Event>, tokio::task::JoinHandle<End>) {
    let (sender, receiver) = mpsc::channel(1);
    let parsing = tokio::task::spawn_blocking(move || {
        let Opened { file, identity, sha256 } = opened;
        match file.try_clone() {
            Ok(reader) => {
                let (parsed, hash) = parse_file(reader, &settings, &origin, &sender);
                let is_whole = parsed.is_ok();
                let end = match parsed {
                    Ok(counts) => End::Whole(counts),
                    Err(Stop::Refused(refusal)) => End::Refused(refusal),
                    Err(Stop::Io(error)) => End::Unreadable(error.to_string()),
                    Err(Stop::Unwanted) => End::Stopped,
                };
                // Times can be coarse or set back; that the same bytes were read twice cannot.
                let is_same = is_same(&file, &identity) && (!is_whole || hash == sha256);
                if is_same || matches!(end, End::Stopped) { end } else { End::Changed }
            }
            Err(error) => End::Unreadable(error.to_string()),
        }
    });
    (receiver, parsing)
}

fn parse_file(
    file: File,
    settings: &Settings,
    origin: &Origin,
    sender: &mpsc::Sender<Event>,
) -> (Result<Counts, Stop>, String) {
    let text = match Text::new(file, settings.encoding) {
        Ok(text) => text,
        Err(error) => return (Err(error.into()), String::new()),
    };
    let (bytes_read, sha256, encoding) = (text.bytes_read(), text.sha256(), text.encoding.name());
    let origin = Origin { is_assumed_utf8: text.is_assumed, mark: text.mark, ..origin.clone() };
    let on_header = |delimiter: u8| {
        let dialect = Event::Dialect { delimiter: char::from(delimiter), encoding };
        // Whoever does not listen is noticed with the first part.
        let _ = sender.blocking_send(dialect);
    };
    let emit = |part: Part| {
        let event = Event::Part { part: Box::new(part), bytes: bytes_read() };
        if sender.blocking_send(event).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let parsed = parse::parse(text, settings, &origin, on_header, emit);
    (parsed, sha256())
}

fn is_same(file: &File, identity: &Identity) -> bool {
    file.metadata().is_ok_and(|metadata| Identity::of(&metadata) == *identity)
}
