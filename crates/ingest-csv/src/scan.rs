//! Looking at a directory, and telling which of its files nobody writes to any more.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::file::Identity;
use crate::name::Names;

/// A file that could be imported. The order is that of importing: the oldest night first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    as_of: DateTime<Utc>,
}

impl Candidate {
    pub(crate) fn new(path: PathBuf, metadata: &Metadata, names: &Names) -> Self {
        let identity = Identity::of(metadata);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let as_of = names.as_of(&name).unwrap_or(identity.mtime());
        Self { path, identity, as_of }
    }

    fn key(&self) -> (DateTime<Utc>, DateTime<Utc>, &Path) {
        (self.as_of, self.identity.mtime(), &self.path)
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What a look at the directory has found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) candidates: Vec<Candidate>,
    /// Names that are meant but no regular files: symlinks, FIFOs, devices, directories.
    pub(crate) odd: Vec<PathBuf>,
}

/// Looks at a directory. Files that vanish meanwhile are nothing to speak of.
pub(crate) fn scan(directory: &Path, names: &Names) -> io::Result<Found> {
    let mut found = Found::default();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !names.is_meant(&name) {
            continue;
        }
        // Of the entry itself: a symlink is not followed.
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() {
            found.odd.push(entry.path());
            continue;
        }
        let is_marked = names.marker_of(&name).is_none_or(|marker| directory.join(marker).is_file());
        if is_marked {
            found.candidates.push(Candidate::new(entry.path(), &metadata, names));
        }
    }
    found.candidates.sort();
    Ok(found)
}

/// Whether a file was written to so lately that one look does not tell whether it is finished.
pub(crate) fn any_fresh(found: &Found, settle: Duration) -> bool {
    let settled = Utc::now() - 10 * settle.max(Duration::from_secs(1));
    found.candidates.iter().any(|candidate| candidate.identity.mtime() > settled)
}

/// What was seen at earlier looks.
#[derive(Debug)]
pub(crate) struct Watchlist {
    settle: Duration,
    seen: BTreeMap<PathBuf, Seen>,
}

#[derive(Debug)]
struct Seen {
    candidate: Candidate,
    /// Since when it has been what it is.
    since: Instant,
    /// When it was last seen like that.
    last: Instant,
    /// Since when it waits, whatever it was then.
    waiting_since: Instant,
    /// When to try again what could not be read.
    not_before: Option<Instant>,
    is_done: bool,
}

impl Watchlist {
    pub(crate) fn new(settle: Duration) -> Self {
        Self { settle, seen: BTreeMap::new() }
    }

    /// Takes in a look at the directory.
    pub(crate) fn look(&mut self, found: Found, now: Instant) {
        let mut before = std::mem::take(&mut self.seen);
        for candidate in found.candidates {
            let seen = match before.remove(&candidate.path) {
                Some(seen) if seen.candidate.identity == candidate.identity => Seen { last: now, ..seen },
                Some(seen) => {
                    let waiting_since = if seen.is_done { now } else { seen.waiting_since };
                    Seen { candidate, since: now, last: now, waiting_since, not_before: None, is_done: false }
                }
                None => Seen { candidate, since: now, last: now, waiting_since: now, not_before: None, is_done: false },
            };
            self.seen.insert(seen.candidate.path.clone(), seen);
        }
    }

    /// Files to import now, the oldest night first. A settled file waits for an older one that is still being written, but
    /// not for long.
    pub(crate) fn ready(&self, now: Instant) -> Vec<Candidate> {
        let patience = 15 * self.settle;
        let oldest_unsettled = self.waiting().filter(|seen| !self.is_settled(seen)).map(|seen| &seen.candidate).min();
        let is_free = |seen: &&Seen| {
            oldest_unsettled.is_none_or(|oldest| seen.candidate < *oldest) || now - seen.since > patience
        };
        let is_due = |seen: &&Seen| seen.not_before.is_none_or(|not_before| now >= not_before);
        let ready = self.waiting().filter(|seen| self.is_settled(seen)).filter(is_due).filter(is_free);
        let mut ready: Vec<Candidate> = ready.map(|seen| seen.candidate.clone()).collect();
        ready.sort();
        ready
    }

    /// All files, settled or not, the oldest night first.
    pub(crate) fn all(&self) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = self.waiting().map(|seen| seen.candidate.clone()).collect();
        all.sort();
        all
    }

    /// Notes that a file is finished with, as long as it stays what it is.
    pub(crate) fn done(&mut self, candidate: &Candidate) {
        if let Some(seen) = self.seen.get_mut(&candidate.path)
            && seen.candidate.identity == candidate.identity
        {
            seen.is_done = true;
        }
    }

    /// Leaves a file alone until then, unless it changes.
    pub(crate) fn postpone(&mut self, candidate: &Candidate, not_before: Instant) {
        if let Some(seen) = self.seen.get_mut(&candidate.path) {
            seen.not_before = Some(not_before);
        }
    }

    /// How long the file has waited that has waited longest; `None` if none waits.
    pub(crate) fn longest_wait(&self, now: Instant) -> Option<Duration> {
        self.waiting().map(|seen| now - seen.waiting_since).max()
    }

    /// Whether a further look is wanted soon.
    pub(crate) fn has_unsettled(&self) -> bool {
        self.waiting().any(|seen| !self.is_settled(seen))
    }

    fn waiting(&self) -> impl Iterator<Item = &Seen> {
        self.seen.values().filter(|seen| !seen.is_done)
    }

    fn is_settled(&self, seen: &Seen) -> bool {
        seen.last - seen.since >= self.settle
    }
}
