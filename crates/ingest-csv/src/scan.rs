//! Looking at a directory, and telling which of its files nobody writes to any more.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::file::Identity;
use crate::marker;
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
    /// Files whose marker does not say that they are whole, and why.
    pub(crate) unmarked: Vec<(Candidate, String)>,
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
        let candidate = Candidate::new(entry.path(), &metadata, names);
        match marker::missing(directory, &name, &candidate.identity, names) {
            None => found.candidates.push(candidate),
            Some(why) => found.unmarked.push((candidate, why)),
        }
    }
    found.candidates.sort();
    Ok(found)
}

/// A file as logs name it: nothing in its name begins a line of its own.
pub(crate) fn logged(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
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
    /// What is wrong with its marker.
    unmarked: Option<String>,
    /// Since when it has been what it is.
    since: Instant,
    /// When it was last seen like that.
    last: Instant,
    /// Since when it waits, whatever it was then.
    waiting_since: Instant,
    /// When to try again what could not be read.
    not_before: Option<Instant>,
    /// Whether the ledger was asked about it while it had no marker.
    is_asked: bool,
    is_done: bool,
}

impl Seen {
    fn new(candidate: Candidate, unmarked: Option<String>, now: Instant, waiting_since: Instant) -> Self {
        let (since, last) = (now, now);
        Self { candidate, unmarked, since, last, waiting_since, not_before: None, is_asked: false, is_done: false }
    }
}

impl Watchlist {
    pub(crate) fn new(settle: Duration) -> Self {
        Self { settle, seen: BTreeMap::new() }
    }

    /// Takes in a look at the directory.
    pub(crate) fn look(&mut self, found: Found, now: Instant) {
        let mut before = std::mem::take(&mut self.seen);
        let marked = found.candidates.into_iter().map(|candidate| (candidate, None));
        let unmarked = found.unmarked.into_iter().map(|(candidate, why)| (candidate, Some(why)));
        for (candidate, unmarked) in marked.chain(unmarked) {
            let seen = match before.remove(&candidate.path) {
                Some(seen) if seen.candidate.identity == candidate.identity => Seen { last: now, unmarked, ..seen },
                Some(seen) => {
                    let waiting_since = if seen.is_done { now } else { seen.waiting_since };
                    Seen::new(candidate, unmarked, now, waiting_since)
                }
                None => Seen::new(candidate, unmarked, now, now),
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
        let is_marked = |seen: &&Seen| seen.unmarked.is_none();
        let settled = self.waiting().filter(|seen| self.is_settled(seen));
        let ready = settled.filter(is_marked).filter(is_due).filter(is_free);
        let mut ready: Vec<Candidate> = ready.map(|seen| seen.candidate.clone()).collect();
        ready.sort();
        ready
    }

    /// Files that wait for their marker, the oldest night first, and why it does not count.
    pub(crate) fn unmarked(&self) -> Vec<(Candidate, String)> {
        let why = |seen: &Seen| seen.unmarked.clone().map(|why| (seen.candidate.clone(), why));
        let mut unmarked: Vec<_> = self.waiting().filter_map(why).collect();
        unmarked.sort();
        unmarked
    }

    /// [`Watchlist::unmarked`] that are still and that nobody has looked up in the ledger, each once: files that are finished
    /// with may have lost their marker.
    pub(crate) fn not_looked_up(&mut self) -> Vec<(Candidate, String)> {
        let settle = self.settle;
        let is_new = |seen: &&mut Seen| !seen.is_done && !seen.is_asked && seen.last - seen.since >= settle;
        let ask = |seen: &mut Seen| {
            let why = seen.unmarked.clone()?;
            seen.is_asked = true;
            Some((seen.candidate.clone(), why))
        };
        self.seen.values_mut().filter(is_new).filter_map(ask).collect()
    }

    /// Files that are not [`Watchlist::ready`] although they have their marker, the oldest night first.
    pub(crate) fn unready(&self, now: Instant) -> Vec<Candidate> {
        let ready = self.ready(now);
        let unready = self.waiting().filter(|seen| seen.unmarked.is_none() && !ready.contains(&seen.candidate));
        let mut unready: Vec<Candidate> = unready.map(|seen| seen.candidate.clone()).collect();
        unready.sort();
        unready
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
