//! Files of which nothing is landed: copies, full exports that a newer one has superseded, and what was refused before.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use staging::imports::{self, File, State};

use super::{Importer, Request, Tried, now, origin_of};
use crate::reading::{self, End, Event, Opened};
use crate::scan::logged;
use crate::{Error, FileReport, ImportOptions, Outcome, marker, metrics, verdict};

/// What becomes of a file that was refused before.
pub(super) enum Judged {
    /// It is right now: the configuration is another one, or what it is compared with.
    Import(Opened),
    /// It still is refused; the report says why.
    Refused,
    /// It could not be read to its end.
    Not(End),
}

impl Importer {
    /// Reads a file that was refused before, and lands nothing of it: cron finds it again and again, and each time all of its
    /// rows would stay in staging until they expire.
    pub(super) async fn judge_again(
        &mut self,
        request: &Request<'_>,
        report: &mut FileReport,
        file: &File,
        opened: Opened,
        before: u64,
    ) -> Result<Judged, Error> {
        let expected = marker::rows(request.path, &self.names);
        let refusal = match self.read_through(report, file, opened).await? {
            End::Whole(counts) => verdict::refusal(&self.settings, &counts, before, expected),
            End::Refused(refusal) => Some(refusal),
            end => return Ok(Judged::Not(end)),
        };
        if let Some(refusal) = refusal {
            (report.state, report.reason) = (Outcome::Refused, Some(refusal.reason));
            super::log(report, file);
            return Ok(Judged::Refused);
        }
        match self.open(request.path, request.is_named).await? {
            Ok(opened) if opened.sha256 == file.sha256 => Ok(Judged::Import(opened)),
            Ok(_) => Ok(Judged::Not(End::Changed)),
            Err(end) => Ok(Judged::Not(end)),
        }
    }

    /// Reads a file to its end and lands nothing of it.
    pub(super) async fn read_through(
        &mut self,
        report: &mut FileReport,
        file: &File,
        opened: Opened,
    ) -> Result<End, Error> {
        let (mut events, parsing) =
            reading::parse(opened, Arc::clone(&self.settings), origin_of(file, &ImportOptions::default()));
        while let Some(event) = events.recv().await {
            if let Event::Dialect { delimiter, encoding } = event {
                (report.delimiter, report.encoding) = (Some(delimiter), Some(encoding));
            }
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        let end = parsing.await.map_err(|_| Error::Parser(file.file_name.clone()))?;
        if let End::Whole(counts) = &end {
            (report.rows, report.dead_letters, report.skipped) = (counts.rows, counts.dead, counts.skipped);
        }
        Ok(end)
    }

    /// A file of which nothing is landed.
    pub(super) async fn pass_over(
        &mut self,
        mut report: FileReport,
        file: &File,
        state: State,
        is_noted: bool,
    ) -> Result<Tried, Error> {
        (report.dead_letters, report.skipped) = (0, report.rows);
        report.state = if state == State::Copy { Outcome::Copy } else { Outcome::Superseded };
        report.reason = Some(match state {
            State::Copy => "the same content is imported already".to_owned(),
            _ => "a newer full export is imported already".to_owned(),
        });
        if !report.dry_run && !is_noted {
            let rows = i64::try_from(report.rows).unwrap_or(i64::MAX);
            let holder = self.session.take().await?;
            let noting = async { imports::note(&mut *holder.connection().await, file, state, rows, now()).await };
            holder.unless_lost(noting).await?;
            self.session.keep(holder);
            metrics::finished(&file.source, state, Duration::ZERO);
        }
        tracing::info!(
            source = file.source,
            file = logged(Path::new(&file.file_name)),
            state = state.as_str(),
            "file passed over"
        );
        Ok(Tried::Done(Box::new(report)))
    }
}
