//! Taking records of the erased out of a batch before it lands. A batch holds bytes for Postgres, so they are read back;
//! that costs something only where somebody is erased.

use model::{Entity, ExternalId};

use super::{Batch, COLUMNS};
use crate::DeadLetter;
use crate::copy::Rows;
use crate::erased::{Erased, Said, Verdict};

/// Places of columns in [`super::COPY`].
const ENTITY: usize = 5;
const EXTERNAL_ID: usize = 7;
const EMAIL: usize = 9;
const ATTRIBUTES: usize = 13;
const MOVED_TO: usize = 14;
const PAYLOAD: usize = 15;

impl Batch {
    /// Turns records and dead letters of the erased into skips, and takes them out of records of others that name them.
    pub(crate) fn skip_erased(&mut self, erased: &Erased) {
        if erased.is_empty() {
            return;
        }
        let verdicts: Vec<Verdict> = self.row_starts.iter().map(|start| self.judge(*start, erased)).collect();
        if verdicts.iter().any(|verdict| *verdict != Verdict::Keep) {
            self.keep(&verdicts, erased);
        }
        let gone: Vec<DeadLetter> =
            self.dead_letters.extract_if(.., |letter| letter.is_of_erased(&self.source, erased)).collect();
        self.count_erased(gone.len());
        let others = gone.into_iter().filter_map(|letter| letter.external_id);
        self.left_out.extend(others.filter(|id| !erased.has_id(&self.source, id)));
    }

    fn judge(&self, start: usize, erased: &Erased) -> Verdict {
        let columns = self.rows.columns(start, COLUMNS);
        let text =
            |column: usize| columns.get(column).copied().flatten().and_then(|bytes| std::str::from_utf8(bytes).ok());
        let Some(entity) = text(ENTITY).and_then(Entity::parse) else { return Verdict::Keep };
        let moved_to = text(MOVED_TO).and_then(ExternalId::from_json);
        erased.judge(&Said {
            source: &self.source,
            entity,
            external_id: text(EXTERNAL_ID).unwrap_or_default(),
            moved_to: moved_to.as_ref(),
            email: text(EMAIL),
            attributes: text(ATTRIBUTES).unwrap_or("{}"),
            payload: text(PAYLOAD),
        })
    }

    fn keep(&mut self, verdicts: &[Verdict], erased: &Erased) {
        let (mut rows, mut row_starts, mut skipped) = (Rows::default(), Vec::new(), 0);
        for (start, verdict) in self.row_starts.iter().zip(verdicts) {
            let mut columns = self.rows.columns(*start, COLUMNS);
            match verdict {
                Verdict::Keep => {}
                Verdict::Skip => {
                    let text = |column: usize| columns[column].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                    if let Some((entity, id)) = text(ENTITY).zip(text(EXTERNAL_ID)) {
                        if entity == Entity::Customer.as_str() && !erased.has_id(&self.source, &id) {
                            self.left_out.push(id.clone());
                        }
                        self.erased.push((entity, id));
                    }
                    skipped += 1;
                    continue;
                }
                Verdict::Rewrite(rewritten) => {
                    columns[EMAIL] = rewritten.email.as_deref().map(str::as_bytes);
                    columns[ATTRIBUTES] = Some(rewritten.attributes.as_bytes());
                    columns[PAYLOAD] = rewritten.payload.as_deref().map(str::as_bytes);
                }
            }
            row_starts.push(rows.size());
            rows.row(COLUMNS);
            for column in columns {
                match column {
                    Some(bytes) => rows.bytes(bytes),
                    None => rows.null(),
                };
            }
        }
        (self.rows, self.row_starts) = (rows, row_starts);
        self.count_erased(skipped);
    }

    fn count_erased(&mut self, skipped: usize) {
        self.skipped += u32::try_from(skipped).unwrap_or(u32::MAX);
        self.erased_count += skipped as u64;
    }
}
