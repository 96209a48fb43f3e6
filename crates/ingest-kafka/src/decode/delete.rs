//! Deletes: by events, by tombstones, and as one half of a primary key that changes.

use chrono::{DateTime, Utc};
use model::mapping::Mapping;
use model::{ExternalId, LogPosition, Mapped, Operation, Reason, Record, Reject};

use super::key::Key;
use super::types::Types;
use super::{Coordinates, Decoder, Outcome, Seen, Skip};
use crate::settings::Format;

/// What a delete says of the row that was.
pub(super) struct Before<'a> {
    pub(super) row: &'a str,
    pub(super) types: Option<&'a Types>,
    /// Whether it is the row as it was, whatever the table is set to. Postgres may send the key alone, and Debezium invents
    /// the rest.
    pub(super) is_whole: bool,
}

impl Decoder {
    /// `says_so` tells the deletes of flattened streams, whose value is the text `null`, from Kafka's own tombstones.
    pub(super) fn tombstone(
        &self,
        at: &Coordinates<'_>,
        says_so: bool,
        seen: &mut Seen,
        records: &mut Vec<Record>,
    ) -> Result<Outcome, Reject> {
        let key = self.key(at.message.key, at)?;
        if matches!(key, Key::Absent) {
            return Ok(Outcome::Skipped(Skip::TombstoneWithoutKey));
        }
        let last = seen.note(None);
        let position = |mapping: &Mapping| match (&self.format, mapping.version_column()) {
            // It has no version: it comes behind all that its partition has said, of whatever id.
            (Format::Json, Some(_)) => LogPosition { row: u32::MAX, ..last },
            (Format::Json, None) => at.timestamp(),
            (Format::Debezium | Format::Avro(_), _) => last,
        };
        let says_it_again = at.after_delete && !says_so;
        match self.delete(at, None, position, at.observed_at(None), !says_it_again, records) {
            // The delete has named the row by a column that the key does not hold.
            Err(reject) if says_it_again && reject.reason == Reason::NoExternalId => {
                return Ok(Outcome::Skipped(Skip::TombstoneWithoutKey));
            }
            deleted => deleted?,
        }
        Ok(if records.is_empty() { Outcome::Skipped(Skip::Unmapped) } else { Outcome::Records })
    }

    /// Deletes by the key where it holds the id, else by `before`, from which nothing else is taken.
    pub(super) fn delete(
        &self,
        at: &Coordinates<'_>,
        before: Option<&Before<'_>>,
        position: impl Fn(&Mapping) -> LogPosition,
        observed_at: DateTime<Utc>,
        moves: bool,
        records: &mut Vec<Record>,
    ) -> Result<(), Reject> {
        let key = self.key(at.message.key, at);
        let by_key = |mapping: &Mapping| key.as_ref().map_err(Clone::clone)?.external_id(mapping);
        let by_before = |mapping: &Mapping, unknown: Reject| self.id_before(mapping, before.ok_or(unknown)?);
        let is_move = at.message.new_key.is_some();
        let mut unnamed = None;
        for mapping in self.mappings.iter() {
            let named = by_key(mapping).map(|id| (id, true));
            match named.or_else(|unknown| by_before(mapping, unknown).map(|id| (id, false))) {
                Ok((external_id, is_in_key)) => {
                    let mapped = Mapped::bare(mapping.entity(), external_id);
                    let mut record = at.record(Operation::Delete, mapped, position(mapping), observed_at);
                    record.moved_to = if moves { self.moved_to(at, mapping) } else { None };
                    if is_move && !is_in_key {
                        // The row lives on under another key and the same id. Its create has the same place in the log and
                        // may lie in another partition, where offsets do not compare: it is the newer one.
                        record.position = record.position.carried();
                    }
                    records.push(record);
                }
                Err(reject) => unnamed = Some(reject),
            }
        }
        unnamed.filter(|_| records.is_empty()).map_or(Ok(()), Err)
    }

    /// The id that the row had, where the key does not hold it.
    fn id_before(&self, mapping: &Mapping, before: &Before<'_>) -> Result<ExternalId, Reject> {
        let written = self.written_out(before.row, before.types)?;
        let external_id = mapping.external_id(&self.fields(&written)?)?;
        if !before.is_whole && external_id.as_str() == "0" {
            // Of a table without REPLICA IDENTITY FULL there is nothing but the key: 0 is what Debezium writes for the
            // value of a column that may not be null. Somebody else may have that id.
            let detail = format!("column {} is 0 before, which may be invented", mapping.id_columns().label());
            return Err(Reject::new(Reason::NoExternalId, detail));
        }
        Ok(external_id)
    }

    fn moved_to(&self, at: &Coordinates<'_>, mapping: &Mapping) -> Option<ExternalId> {
        self.key(Some(at.message.new_key?), at).ok()?.external_id(mapping).ok()
    }
}
