//! Judging a file: what it is before it is read, and whether it may be published after. Pure.

use staging::imports::{File, Import, Refusal, State};

use crate::Settings;
use crate::parse::Counts;

/// A full export may lose this many rows whatever that is in percent.
const FREE_DROP: u64 = 100;

/// What the ledger says of a file that nobody has read yet.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// The newest import that the file could be a copy of.
    pub(crate) rival: Option<Import>,
    /// The newest import of all.
    pub(crate) newest: Option<Import>,
    /// Finished files with the same content, the latest first.
    pub(crate) same_content: Vec<Import>,
}

/// What to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Import,
    Copy,
    Superseded,
}

impl Ledger {
    /// Whether this very file was finished with before, so that nobody needs to hear of it again. A refused one counts by
    /// its content and its night, whatever its name: the same useless content on another night is another night missed.
    pub(crate) fn knows(&self, file: &File) -> bool {
        self.same_content.iter().any(|known| is_same_file(known, file)) || self.was_refused(file)
    }

    /// Whether this very file was imported before.
    pub(crate) fn was_imported(&self, file: &File) -> bool {
        self.same_content.iter().any(|known| known.state == State::Imported && is_same_file(known, file))
    }

    /// Whether this content was refused for this night.
    pub(crate) fn was_refused(&self, file: &File) -> bool {
        self.same_content.iter().any(|known| known.state == State::Refused && known.as_of == file.as_of)
    }

    /// The note of a copy or a superseded file, if it is noted already.
    pub(crate) fn noted(&self, file: &File, state: State) -> Option<&Import> {
        let is_it =
            |known: &&Import| known.state == state && known.file_name == file.file_name && known.as_of == file.as_of;
        self.same_content.iter().find(is_it)
    }

    /// What the file is; `again` takes a copy for new.
    pub(crate) fn judge(&self, file: &File, again: bool) -> Verdict {
        let is_copy = self.rival.as_ref().is_some_and(|rival| rival.sha256 == file.sha256);
        if is_copy && !again {
            return Verdict::Copy;
        }
        // Of one night, and of files without one, the newest import may be this very file.
        let is_older = |newest: &Import| {
            let may_be_this = newest.sha256 == file.sha256 && (newest.as_of == file.as_of || !file.dated);
            (newest.as_of, newest.mtime) > (file.as_of, file.mtime) && !may_be_this
        };
        if file.full_export && self.newest.as_ref().is_some_and(is_older) {
            return Verdict::Superseded;
        }
        Verdict::Import
    }
}

fn is_same_file(known: &Import, file: &File) -> bool {
    known.file_name == file.file_name && known.mtime == file.mtime
}

/// Why a file that was read to its end must not be published; holds no value of it. `before` is how many rows a full export is
/// compared with.
pub(crate) fn refusal(settings: &Settings, counts: &Counts, before: u64, expected: Option<u64>) -> Option<Refusal> {
    let reason = reason(settings, counts, before, expected)?;
    Some(Refusal { reason, may_be_accepted: true })
}

fn reason(settings: &Settings, counts: &Counts, before: u64, expected: Option<u64>) -> Option<String> {
    let records = counts.rows - counts.skipped;
    if let Some(expected) = expected.filter(|expected| *expected != records) {
        return Some(format!("the marker says {expected} rows, the file has {records}"));
    }
    if counts.dead > settings.max_bad_rows && percent(counts.dead, records) > settings.max_bad_percent {
        let encoding = match counts.not_utf8 {
            0 => String::new(),
            n => format!("; {n} of them are not_utf8: set `encoding`"),
        };
        return Some(format!(
            "{} of {records} rows are bad, more than max_bad_rows = {} and max_bad_percent = {}{encoding}",
            counts.dead, settings.max_bad_rows, settings.max_bad_percent
        ));
    }
    if !settings.full_export {
        return None;
    }
    if records == counts.dead {
        return Some("a full export without rows: every member would have left".to_owned());
    }
    let dropped = before.saturating_sub(records);
    (dropped > FREE_DROP && percent(dropped, before) > settings.max_drop_percent).then(|| {
        format!(
            "a full export with {records} rows after a file of {before}: the drop is more than max_drop_percent = {}",
            settings.max_drop_percent
        )
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}
