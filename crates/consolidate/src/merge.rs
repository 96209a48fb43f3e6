//! Step 1: batches into cross-references, orders, products and interactions.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use model::{CustomerFields, Entity, Operation, Position, Unmatched, Write};
use serde::de::DeserializeOwned;
use sqlx::{Connection, PgConnection};
use staging::{ClaimedBatch, Erased, LockHolder, Seal, StagedRecord};

use crate::consolidator::Claim;
use crate::error::database;
use crate::matching::Matching;
use crate::restarts::{Clocks, Older};
use crate::xrefs::{Named, Slot, Slots};
use crate::{Error, Rules, dirty, edit, exclude, interactions, metrics, orders, products, redirects};

/// With fewer records for each lane, a second transaction costs more than it saves.
const FEW_RECORDS: usize = 500;

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Batches finished.
    pub(crate) batches: usize,
    /// Records read from them.
    pub(crate) records: usize,
    /// Records that could not be merged and are dead letters now.
    pub(crate) excluded: usize,
}

/// Why a record cannot be merged, in words without values.
pub(crate) type Unreadable = String;

/// A record with what it says.
pub(crate) type Said<'r, F> = (&'r StagedRecord, F);

/// Merges a claim: its customers by lanes, each in a transaction of its own, then all else and the end of the batches in
/// one. If that is not reached, the batches are merged again: merging is idempotent, so the lanes that were done find
/// nothing to write.
pub(crate) async fn merge(
    lanes: &[LockHolder],
    matching: &Matching<'_>,
    seal: &Seal,
    clocks: &mut Clocks,
    erased: &Erased,
    claim: &Claim,
    now: DateTime<Utc>,
) -> Result<Merged, Error> {
    let started = Instant::now();
    let parts = by_lane(claim, lanes.len());
    let merging = lanes.iter().zip(&parts).map(async |(lane, customers)| {
        let mut lane = lane.connection().await;
        let mut transaction = lane.begin().await.map_err(database("merging"))?;
        hold(&mut transaction, erased).await?;
        let met = merge_customers(&mut transaction, matching, &claim.batches, customers, now).await?;
        transaction.commit().await.map_err(database("merging"))?;
        Ok(met)
    });
    // All of them end before an error is returned: none is left in the middle of a statement.
    let met: Vec<Met<'_>> = join_all(merging).await.into_iter().collect::<Result<_, Error>>()?;

    let mut lane = lanes[0].connection().await;
    let mut transaction = lane.begin().await.map_err(database("merging"))?;
    hold(&mut transaction, erased).await?;
    let (mut unreadable, mut older) = (Vec::new(), Older::default());
    for met in met {
        unreadable.extend(met.unreadable);
        older.add(met.older);
    }
    clocks.judge(&mut older);
    unreadable.extend(merge_others(&mut transaction, matching.rules, &claim.records, now).await?);
    for (record, detail) in &unreadable {
        staging::exclude(&mut transaction, seal, record, detail, now).await?;
        exclude::count(&record.source);
    }
    clocks.write(&mut transaction, &older, &claim.records, now).await?;
    staging::erase::skip(&mut transaction, &claim.skipped, erased).await?;
    staging::finish(&mut *transaction, &claim.batch_ids(), now).await?;
    transaction.commit().await.map_err(database("merging"))?;
    clocks.advance(&claim.records);
    older.count();
    for batch in &claim.batches {
        let count = u64::from(batch.record_count.unsigned_abs());
        ::metrics::counter!(metrics::RECORDS_CONSOLIDATED, "source" => batch.source.clone()).increment(count);
    }
    ::metrics::histogram!(metrics::MERGE_SECONDS).record(started.elapsed());
    Ok(Merged { batches: claim.batches.len(), records: claim.records.len(), excluded: unreadable.len() })
}

/// Keeps erasures out of a transaction that has only begun, and makes sure that who was erased since the records were read
/// is not among them.
pub(crate) async fn hold(transaction: &mut PgConnection, erased: &Erased) -> Result<(), Error> {
    if erased.still_holds(transaction).await? { Ok(()) } else { Err(Error::Erasing) }
}

/// Merges records of batches in the caller's transaction, to see whether the database takes them.
pub(crate) async fn apply(
    connection: &mut PgConnection,
    rules: &Rules,
    batches: &[ClaimedBatch],
    records: &[StagedRecord],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let matching = Matching::read(connection, rules).await?;
    merge_customers(connection, &matching, batches, &customers(records).collect::<Vec<_>>(), now).await?;
    merge_others(connection, rules, records, now).await?;
    Ok(())
}

fn customers(records: &[StagedRecord]) -> impl Iterator<Item = &StagedRecord> {
    records.iter().filter(|record| record.entity == Entity::Customer)
}

/// Customer records by the lane that merges them: those of one cross-reference stay together. What can concern the
/// cross-references of several lanes goes through one: a change of primary key, the end of a full export.
fn by_lane(claim: &Claim, lanes: usize) -> Vec<Vec<&StagedRecord>> {
    let few = claim.records.len() < lanes * FEW_RECORDS;
    let moves = claim.records.iter().any(|record| record.moved_to.is_some());
    let completes = claim.batches.iter().any(|batch| batch.import.as_ref().is_some_and(|import| import.completes));
    if few || moves || completes {
        return vec![customers(&claim.records).collect()];
    }
    let hasher = RandomState::new();
    let mut parts = vec![Vec::new(); lanes];
    for record in customers(&claim.records) {
        let hash = hasher.hash_one((&record.source, record.external_id.as_str()));
        parts[usize::try_from(hash % lanes as u64).unwrap_or_default()].push(record);
    }
    parts
}

/// Orders, products and interactions.
async fn merge_others<'r>(
    connection: &mut PgConnection,
    rules: &Rules,
    records: &'r [StagedRecord],
    now: DateTime<Utc>,
) -> Result<Vec<(&'r StagedRecord, Unreadable)>, Error> {
    let of = |entity: Entity| records.iter().filter(move |record| record.entity == entity);
    let mut unreadable = orders::merge(connection, of(Entity::Order)).await?;
    unreadable.extend(products::merge(connection, of(Entity::Product)).await?);
    unreadable.extend(interactions::merge(connection, rules, of(Entity::Interaction), now).await?);
    Ok(unreadable)
}

/// The newest record of each id, with what it says, and records that cannot be read; `what` says what those are not.
pub(crate) fn newest<'r, F: DeserializeOwned + Default>(
    records: impl Iterator<Item = &'r StagedRecord>,
    what: &str,
) -> (Vec<Said<'r, F>>, Vec<Said<'r, Unreadable>>) {
    let (mut newest, mut unreadable) = (BTreeMap::<(&str, &str), (&StagedRecord, F)>::new(), Vec::new());
    for record in records {
        let fields = match record.operation {
            Operation::Delete => Ok(F::default()),
            Operation::Upsert => serde_json::from_str(&record.attributes),
        };
        let Ok(fields) = fields else {
            unreadable.push((record, what.to_owned()));
            continue;
        };
        let id = (record.source.as_str(), record.external_id.as_str());
        if newest.get(&id).is_none_or(|(known, _)| known.position < record.position) {
            newest.insert(id, (record, fields));
        }
    }
    (newest.into_values().collect(), unreadable)
}

async fn merge_customers<'r>(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    batches: &[ClaimedBatch],
    customers: &[&'r StagedRecord],
    now: DateTime<Utc>,
) -> Result<Met<'r>, Error> {
    let Applied { slots, touched, met } = apply_customers(connection, matching, batches, customers, now).await?;
    write(connection, &slots, &touched, "record", now).await?;
    edit::follow(connection, &met.moves).await?;
    Ok(met)
}

/// Writes the cross-references that changed, lets orders and redirects follow, and marks the match keys touched.
pub(crate) async fn write(
    connection: &mut PgConnection,
    slots: &Slots,
    touched: &BTreeSet<String>,
    cause: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    slots.write(connection).await?;
    let newcomers = orders::waiting(connection).await?;
    orders::attach(connection, &slots.moved(newcomers)).await?;
    // Nobody was left by a newcomer.
    redirects::follow(connection, &slots.moved(false), now).await?;
    let touched: Vec<&str> = touched.iter().map(String::as_str).collect();
    dirty::mark(connection, &touched, cause, now).await
}

/// What was met among customer records, beside what they say.
#[derive(Default)]
pub(crate) struct Met<'r> {
    unreadable: Vec<(&'r StagedRecord, Unreadable)>,
    older: Older<'r>,
    moves: Vec<Move<'r>>,
}

/// A cross-reference whose primary key was changed.
pub(crate) struct Move<'r> {
    pub(crate) system: &'r str,
    pub(crate) from: &'r str,
    pub(crate) to: &'r str,
}

/// Customer records, applied in memory.
#[derive(Default)]
pub(crate) struct Applied<'r> {
    pub(crate) slots: Slots,
    /// Match keys whose profiles may change.
    pub(crate) touched: BTreeSet<String>,
    met: Met<'r>,
}

/// Applies customer records to the cross-references that are stored, and writes nothing.
pub(crate) async fn apply_customers<'r>(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    batches: &[ClaimedBatch],
    customers: &[&'r StagedRecord],
    now: DateTime<Utc>,
) -> Result<Applied<'r>, Error> {
    let mut met = Met::default();
    let again: BTreeMap<i64, bool> = batches
        .iter()
        .filter(|batch| batch.is_again)
        // A row of a file says everything; a change event may leave out what did not change.
        .map(|batch| (batch.batch_id, batch.import.is_some()))
        .collect();
    let mut ids = named(customers, &again);
    let departures = departures(connection, batches, &ids).await?;
    ids.extend(departures.iter().map(|departure| ((departure.system, departure.external_id.as_str()), None)));
    if ids.is_empty() {
        return Ok(Applied::default());
    }
    let mut slots = Slots::read(connection, &ids).await?;
    let full_exports: BTreeSet<i64> = batches
        .iter()
        .filter(|batch| batch.import.as_ref().is_some_and(|import| import.full_export))
        .map(|batch| batch.batch_id)
        .collect();
    for record in customers.iter().copied() {
        if slots.is_settled(&record.source, record.external_id.as_str()) {
            continue;
        }
        let full_export = full_exports.contains(&record.batch_id);
        let again = again.get(&record.batch_id).copied();
        if let Err(detail) = merge_customer(&mut slots, matching, record, (full_export, again), &mut met, now) {
            met.unreadable.push((record, detail));
        }
    }
    for departure in departures {
        let slot = slots.get(departure.system, &departure.external_id);
        if let Some(slot) = slot.filter(|slot| slot.xref.is_living() && slot.xref.position < departure.position) {
            let id = slot.xref.external_id.clone();
            let write = Write { position: departure.position, observed_at: departure.as_of, upsert: None };
            slots.apply(departure.system, &id, write, None, now);
        }
    }
    let touched = match_up_all(&mut slots, matching);
    Ok(Applied { slots, touched, met })
}

/// Gives all changed cross-references their match keys; returns those whose profiles may change, old and new.
pub(crate) fn match_up_all(slots: &mut Slots, matching: &Matching<'_>) -> BTreeSet<String> {
    let mut touched = BTreeSet::new();
    for (system, slot) in slots.changed_mut() {
        match_up(system, slot, matching);
        touched.extend(slot.old_match_key.clone());
        touched.extend(slot.match_key.clone());
    }
    touched
}

/// The cross-references that records are about. What was landed `again` is compared with what is known.
fn named<'r>(customers: &[&'r StagedRecord], again: &BTreeMap<i64, bool>) -> Named<'r> {
    let mut named = Named::new();
    for record in customers {
        let is_compared = record.moved_to.is_some() || again.contains_key(&record.batch_id);
        let alone = (!is_compared).then_some(&record.position);
        named
            .entry((&record.source, record.external_id.as_str()))
            .and_modify(|position| *position = position.filter(|position| Some(*position) == alone))
            .or_insert(alone);
        named.extend(record.moved_to.iter().map(|id| ((record.source.as_str(), id.as_str()), None)));
    }
    named
}

/// Applies one record; `Err` says why it cannot be read.
fn merge_customer<'r>(
    slots: &mut Slots,
    matching: &Matching<'_>,
    record: &'r StagedRecord,
    (full_export, again): (bool, Option<bool>),
    met: &mut Met<'r>,
    now: DateTime<Utc>,
) -> Result<(), Unreadable> {
    let upsert = match record.operation {
        Operation::Delete => None,
        Operation::Upsert => Some(CustomerFields {
            email: record.email.clone(),
            credential: record.credential.clone(),
            attributes: serde_json::from_str(&record.attributes)
                .map_err(|_| "attributes are no JSON object".to_owned())?,
        }),
    };
    let known = slots.get(&record.source, record.external_id.as_str());
    if full_export
        && let (Some(slot), Some(fields)) = (known, &upsert)
        && slot.xref.says_the_same(fields)
    {
        if again.is_some() {
            // It stays where it is, without what the file does not name any more.
            let write = Write { position: slot.xref.position.clone(), observed_at: slot.xref.observed_at, upsert };
            slots.apply(&record.source, &record.external_id, write, again, now);
        }
        return Ok(());
    }
    if let Some(slot) = known.filter(|slot| record.position < slot.xref.position) {
        met.older.note(record, &slot.xref);
    }
    let retired_before = matching.retired_before(&record.source);
    if let Some(new_id) = &record.moved_to {
        let carried =
            known.filter(|slot| slot.xref.position < record.position).and_then(|slot| slot.xref.living_fields());
        if carried.is_some() {
            let write = Write { position: record.position.carried(), observed_at: record.observed_at, upsert: carried };
            slots.apply(&record.source, new_id, write.retired(retired_before), None, now);
            let (from, to) = (record.external_id.as_str(), new_id.as_str());
            met.moves.push(Move { system: &record.source, from, to });
        }
    }
    let write = Write { position: record.position.clone(), observed_at: record.observed_at, upsert };
    slots.apply(&record.source, &record.external_id, write.retired(retired_before), again, now);
    Ok(())
}

/// Gives a changed cross-reference its match key. One that begins gets its customer's id at once, so that step 2 has
/// nothing to write to it; one that moves keeps the old one, by which step 2 sees where it came from.
fn match_up(system: &str, slot: &mut Slot, matching: &Matching<'_>) {
    let begins = slot.begins();
    if !slot.xref.is_living() {
        slot.match_key = None;
        slot.unmatched_reason = None;
        return;
    }
    match matching.key(system, slot.xref.external_id.as_str(), slot.xref.email.as_deref()) {
        Ok(key) => {
            // Whether a crowded key is still crowded is for step 2 to see.
            let crowded = slot.unmatched_reason.as_deref() == Some(Unmatched::Crowded.as_str());
            if begins || slot.customer_id.is_none() && !crowded {
                slot.customer_id = Some(matching.customer_id(&key));
                slot.unmatched_reason = None;
            }
            slot.match_key = Some(key.as_str().to_owned());
        }
        Err(reason) => {
            slot.match_key = None;
            slot.customer_id = None;
            slot.unmatched_reason = Some(reason.as_str().to_owned());
        }
    }
}

/// A member whom a full export lacks.
struct Departure<'b> {
    system: &'b str,
    external_id: String,
    position: Position,
    as_of: DateTime<Utc>,
}

/// Whoever has left by the full exports that these batches complete. The claim never goes beyond a completing batch, so
/// everybody who came before it is in the table already or among `named`, the cross-references of these batches.
async fn departures<'b>(
    connection: &mut PgConnection,
    batches: &'b [ClaimedBatch],
    named: &Named<'_>,
) -> Result<Vec<Departure<'b>>, Error> {
    let mut departures = Vec::new();
    for batch in batches {
        let Some(import) = batch.import.as_ref().filter(|import| import.full_export && import.completes) else {
            continue;
        };
        let position = Position::csv_file(import.as_of, import.mtime);
        staging::note_members(connection, import.import_id).await?;
        let named = named.keys().filter(|(system, _)| *system == batch.source).map(|(_, external_id)| *external_id);
        let gone: Vec<String> = sqlx::query_scalar(
            "with candidates as materialized (
                 select external_id from customer360.xrefs
                 where system = $1 and deleted_at is null and position < $2
                 union
                 select external_id from unnest($3::text[]) as named (external_id)
             )
             select c.external_id
             from candidates c
             left join export_members m on m.external_id = c.external_id
             where m.external_id is null",
        )
        .bind(&batch.source)
        .bind(position.as_bytes())
        .bind(named.collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await
        .map_err(database("finding who has left"))?;
        departures.extend(gone.into_iter().map(|external_id| Departure {
            system: &batch.source,
            external_id,
            position: position.clone(),
            as_of: import.as_of,
        }));
    }
    Ok(departures)
}
