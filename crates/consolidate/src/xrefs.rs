//! Cross-references in memory and in `customer360.xrefs`: read as a set, written as a set.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use model::{ExternalId, Outcome, Position, Write, Written, Xref};
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{PgConnection, Row};
use staging::copy::Rows;

use crate::Error;
use crate::error::database;

/// A cross-reference being merged, with the columns that the model does not know.
pub(crate) struct Slot {
    pub(crate) xref: Xref,
    pub(crate) customer_id: Option<Uuid>,
    pub(crate) match_key: Option<String>,
    pub(crate) unmatched_reason: Option<String>,
    pub(crate) first_seen_at: DateTime<Utc>,
    pub(crate) last_seen_at: DateTime<Utc>,
    /// The match key that it had before.
    pub(crate) old_match_key: Option<String>,
    old_customer_id: Option<Uuid>,
    is_new: bool,
    was_living: bool,
    changed: bool,
}

/// A living cross-reference that belongs to another customer now, or to nobody.
#[derive(Clone, Copy)]
pub(crate) struct Moved<'x> {
    pub(crate) system: &'x str,
    pub(crate) external_id: &'x str,
    /// To whom it belonged, where that one may lead to it.
    pub(crate) from: Option<Uuid>,
    pub(crate) to: Option<Uuid>,
}

/// What is read of a row, before its attributes.
const COLUMNS: &str =
    "x.system, x.external_id, jsonb_typeof(x.external_id_json) = 'number', x.customer_id, x.match_key,
    x.email, x.credential, x.position, x.attribute_positions::text, x.attribute_observed_at::text, x.tombstone_position,
    x.observed_at, x.first_seen_at, x.last_seen_at, x.unmatched_reason";
const ATTRIBUTES: usize = 15;

/// Ids (system, external id) to be read, each with the position that is all there is to merge into it; `None` where there
/// is more.
pub(crate) type Named<'r> = BTreeMap<(&'r str, &'r str), Option<&'r Position>>;

/// Cross-references by system and external id.
#[derive(Default)]
pub(crate) struct Slots {
    slots: HashMap<String, HashMap<String, Slot>>,
    /// Those that are where the named position would bring them: nothing is read of them, and nothing can change them.
    settled: HashMap<String, HashSet<String>>,
}

impl Slot {
    /// Whether it came into being, or to life again, by this merge.
    pub(crate) fn begins(&self) -> bool {
        !self.was_living && self.xref.is_living()
    }
}

impl Slots {
    /// Reads those of these ids that are known.
    pub(crate) async fn read(connection: &mut PgConnection, ids: &Named<'_>) -> Result<Self, Error> {
        let sql = format!(
            "select {COLUMNS}, case when x.position is distinct from named.position then x.attributes::text end
             from unnest($1::text[], $2::text[], $3::bytea[]) as named (system, external_id, position)
             join customer360.xrefs x on x.system = named.system and x.external_id = named.external_id"
        );
        let mut rows = sqlx::query(staging::constant_sql(sql))
            .bind(ids.keys().map(|(system, _)| *system).collect::<Vec<_>>())
            .bind(ids.keys().map(|(_, external_id)| *external_id).collect::<Vec<_>>())
            .bind(ids.values().map(|position| position.map(Position::as_bytes)).collect::<Vec<_>>())
            .fetch(connection);
        let mut slots = Self::default();
        while let Some(row) = rows.try_next().await.map_err(database("reading cross-references"))? {
            let (system, external_id) = (row.get(0), row.get(1));
            match row.get::<Option<&str>, _>(ATTRIBUTES) {
                Some(attributes) => {
                    slots.slots.entry(system).or_default().insert(external_id, slot(&row, attributes));
                }
                None => {
                    slots.settled.entry(system).or_default().insert(external_id);
                }
            }
        }
        Ok(slots)
    }

    /// Reads the next living cross-references of a system, in the order of their ids, that may hold something from before a
    /// time, and says which was the last; `None` if there is none.
    pub(crate) async fn said_before(
        connection: &mut PgConnection,
        system: &str,
        before: DateTime<Utc>,
        after: &str,
        limit: i64,
    ) -> Result<Option<(Self, String)>, Error> {
        let sql = format!(
            "select {COLUMNS}, x.attributes::text
             from customer360.xrefs x
             where x.system = $1 and x.external_id > $2 and x.deleted_at is null
               and (x.observed_at < $3 or x.attribute_observed_at is not null)
             order by x.external_id
             limit $4"
        );
        let mut rows =
            sqlx::query(staging::constant_sql(sql)).bind(system).bind(after).bind(before).bind(limit).fetch(connection);
        let mut of_system = HashMap::new();
        let mut last = None;
        while let Some(row) = rows.try_next().await.map_err(database("reading what is to be retired"))? {
            let slot = slot(&row, row.get(ATTRIBUTES));
            last = Some(slot.xref.external_id.as_str().to_owned());
            of_system.insert(slot.xref.external_id.as_str().to_owned(), slot);
        }
        let slots = Self { slots: HashMap::from([(system.to_owned(), of_system)]), settled: HashMap::new() };
        Ok(last.map(|last| (slots, last)))
    }

    /// Retires what was said before a time; returns how many cross-references are dead now.
    pub(crate) fn retire(&mut self, before: DateTime<Utc>) -> usize {
        let mut tombstoned = 0;
        for slot in self.slots.values_mut().flat_map(HashMap::values_mut) {
            if slot.xref.retire(before) == Outcome::Changed {
                slot.changed = true;
                tombstoned += usize::from(!slot.xref.is_living());
            }
        }
        tombstoned
    }

    /// Whether this id is where the position that was named for it would bring it.
    pub(crate) fn is_settled(&self, system: &str, external_id: &str) -> bool {
        self.settled.get(system).is_some_and(|settled| settled.contains(external_id))
    }

    /// The cross-reference of an id.
    pub(crate) fn get(&self, system: &str, external_id: &str) -> Option<&Slot> {
        self.slots.get(system)?.get(external_id)
    }

    /// Applies a write to the cross-reference of an id, which begins with it if it is not known. `again` is for records that
    /// were landed again, and says whether they say everything, see [`Xref::apply_again`].
    pub(crate) fn apply(
        &mut self,
        system: &str,
        external_id: &ExternalId,
        write: Write,
        again: Option<bool>,
        now: DateTime<Utc>,
    ) {
        let of_system = match self.slots.get_mut(system) {
            Some(of_system) => of_system,
            None => self.slots.entry(system.to_owned()).or_default(),
        };
        if let Some(slot) = of_system.get_mut(external_id.as_str()) {
            let outcome = match again {
                Some(is_whole) => slot.xref.apply_again(external_id, write, is_whole),
                None => slot.xref.apply(external_id, write),
            };
            if outcome == Outcome::Changed {
                slot.changed = true;
                slot.last_seen_at = now;
            }
            return;
        }
        let slot = Slot {
            xref: Xref::first(external_id.clone(), write),
            customer_id: None,
            match_key: None,
            unmatched_reason: None,
            first_seen_at: now,
            last_seen_at: now,
            old_match_key: None,
            old_customer_id: None,
            is_new: true,
            was_living: false,
            changed: true,
        };
        of_system.insert(external_id.as_str().to_owned(), slot);
    }

    /// The cross-references that this merge changed, new ones included.
    pub(crate) fn changed_mut(&mut self) -> impl Iterator<Item = (&str, &mut Slot)> {
        self.slots.iter_mut().flat_map(|(system, slots)| {
            slots.values_mut().filter(|slot| slot.changed).map(|slot| (system.as_str(), slot))
        })
    }

    /// Living cross-references that have another customer now, or none; of the new ones only if `newcomers`.
    pub(crate) fn moved(&self, newcomers: bool) -> Vec<Moved<'_>> {
        let new = newcomers.then(|| self.changed(true)).into_iter().flatten();
        let other = |slot: &Slot| slot.xref.is_living() && slot.customer_id != slot.old_customer_id;
        let moved = self.changed(false).chain(new).filter(|(_, slot)| other(slot));
        let moved = moved.map(|(system, slot)| Moved {
            system,
            external_id: slot.xref.external_id.as_str(),
            from: slot.old_customer_id,
            to: slot.customer_id,
        });
        moved.collect()
    }

    fn changed(&self, new: bool) -> impl Iterator<Item = (&str, &Slot)> {
        self.slots.iter().flat_map(move |(system, slots)| {
            slots.values().filter(move |slot| slot.changed && slot.is_new == new).map(|slot| (system.as_str(), slot))
        })
    }

    /// Writes what changed: new ones by COPY, the others by one update.
    pub(crate) async fn write(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let mut rows = Rows::default();
        for (system, slot) in in_order(self.changed(true)) {
            push(&mut rows, system, slot);
        }
        rows.copy(
            connection,
            "copy customer360.xrefs (system, external_id, customer_id, unmatched_reason, match_key, email, external_id_json,
                 attributes, credential, position, attribute_positions, attribute_observed_at, tombstone_position, observed_at,
                 first_seen_at, last_seen_at, deleted_at) from stdin (format binary)",
        )
        .await?;
        self.update(connection).await
    }

    async fn update(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let slots = in_order(self.changed(false));
        if slots.is_empty() {
            return Ok(());
        }
        sqlx::query(include_str!("xrefs_update.sql"))
            .bind(slots.iter().map(|(system, _)| *system).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| slot.xref.external_id.as_str()).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| slot.customer_id).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| slot.unmatched_reason.as_deref()).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| slot.match_key.as_deref()).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| slot.xref.email.as_deref()).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| slot.xref.external_id.to_json().to_string()).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| json(&slot.xref.attributes)).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| slot.xref.credential.as_deref()).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| slot.xref.position.as_bytes()).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| positions_json(&slot.xref)).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| times_json(&slot.xref)).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| tombstone(&slot.xref)).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| slot.xref.observed_at).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| slot.last_seen_at).collect::<Vec<_>>())
            .bind(slots.iter().map(|(_, slot)| deleted_at(slot)).collect::<Vec<_>>())
            .execute(connection)
            .await
            .map_err(database("writing cross-references"))?;
        Ok(())
    }
}

/// Neighbours in the table are neighbours in its indexes, too.
fn in_order<'s>(slots: impl Iterator<Item = (&'s str, &'s Slot)>) -> Vec<(&'s str, &'s Slot)> {
    let mut slots: Vec<_> = slots.collect();
    slots.sort_unstable_by_key(|(system, slot)| (*system, slot.xref.external_id.as_str()));
    slots
}

fn slot(row: &PgRow, attributes: &str) -> Slot {
    let observed_at = row.get(11);
    let older = |positions: &str| read_older(positions, row.get(9), observed_at);
    let xref = Xref {
        external_id: ExternalId::from_parts(row.get(1), row.get(2)),
        email: row.get(5),
        // Our own jsonb object: it parses.
        attributes: serde_json::from_str(attributes).unwrap_or_default(),
        credential: row.get(6),
        position: Position::from(row.get::<Vec<u8>, _>(7)),
        older: row.get::<Option<&str>, _>(8).map(older).unwrap_or_default(),
        tombstone_position: row.get::<Option<Vec<u8>>, _>(10).map(Position::from),
        observed_at,
    };
    Slot {
        customer_id: row.get(3),
        match_key: row.get(4),
        old_match_key: row.get(4),
        old_customer_id: row.get(3),
        unmatched_reason: row.get(14),
        first_seen_at: row.get(12),
        last_seen_at: row.get(13),
        is_new: false,
        was_living: xref.is_living(),
        changed: false,
        xref,
    }
}

fn push(rows: &mut Rows, system: &str, slot: &Slot) {
    let xref = &slot.xref;
    rows.row(17)
        .text(system)
        .text(xref.external_id.as_str())
        .uuid(slot.customer_id)
        .option(slot.unmatched_reason.as_deref())
        .option(slot.match_key.as_deref())
        .option(xref.email.as_deref())
        .jsonb(&xref.external_id.to_json().to_string())
        .jsonb(&json(&xref.attributes))
        .option(xref.credential.as_deref())
        .bytes(xref.position.as_bytes());
    for json in [positions_json(xref), times_json(xref)] {
        match json {
            Some(json) => rows.jsonb(&json),
            None => rows.null(),
        };
    }
    match tombstone(xref) {
        Some(position) => rows.bytes(position),
        None => rows.null(),
    };
    rows.time(xref.observed_at).time(slot.first_seen_at).time(slot.last_seen_at);
    match deleted_at(slot) {
        Some(time) => rows.time(time),
        None => rows.null(),
    };
}

fn tombstone(xref: &Xref) -> Option<&[u8]> {
    xref.tombstone_position.as_ref().map(Position::as_bytes)
}

/// A tombstone's time is that of the record that it is from.
fn deleted_at(slot: &Slot) -> Option<DateTime<Utc>> {
    (!slot.xref.is_living()).then_some(slot.xref.observed_at)
}

fn json(attributes: &BTreeMap<String, serde_json::Value>) -> String {
    serde_json::to_string(attributes).unwrap_or_else(|error| unreachable!("attributes are plain JSON: {error}"))
}

/// Positions of older values as they are stored: hex, null when there are none.
fn positions_json(xref: &Xref) -> Option<String> {
    if xref.older.is_empty() {
        return None;
    }
    let hex = xref.older.iter().map(|(name, written)| (name, hex::encode(written.position.as_bytes())));
    serde_json::to_string(&hex.collect::<BTreeMap<_, _>>()).ok()
}

/// Times of older values as they are stored; null when there are none.
fn times_json(xref: &Xref) -> Option<String> {
    if xref.older.is_empty() {
        return None;
    }
    let times = xref.older.iter().map(|(name, written)| (name, written.observed_at));
    serde_json::to_string(&times.collect::<BTreeMap<_, _>>()).ok()
}

/// Older values whose time was never noted have that of the row.
fn read_older(positions: &str, times: Option<&str>, time_of_row: DateTime<Utc>) -> BTreeMap<String, Written> {
    let positions: BTreeMap<String, String> = serde_json::from_str(positions).unwrap_or_default();
    let times: BTreeMap<String, DateTime<Utc>> =
        times.and_then(|times| serde_json::from_str(times).ok()).unwrap_or_default();
    let written = |(name, hex): (String, String)| {
        let observed_at = times.get(&name).copied().unwrap_or(time_of_row);
        Some((name, Written { position: Position::from(hex::decode(hex).ok()?), observed_at }))
    };
    positions.into_iter().filter_map(written).collect()
}
