//! Step 1: batches into cross-references, orders, products and interactions.

use std::collections::BTreeSet;
use std::time::Instant;

use chrono::{DateTime, Utc};
use model::{CustomerFields, Decisions, Entity, Operation, Position, Unmatched, Write};
use sqlx::types::Uuid;
use sqlx::{Connection, PgConnection};
use staging::{ClaimedBatch, Seal, StagedRecord};

use crate::error::database;
use crate::matching::match_key;
use crate::xrefs::{Slot, Slots};
use crate::{Error, Rules, decisions, dirty, exclude, interactions, metrics, orders, products};

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Batches finished.
    pub batches: usize,
    /// Records read from them.
    pub records: usize,
    /// Records that could not be merged and are dead letters now.
    pub excluded: usize,
}

/// Why a record cannot be merged, in words without values.
pub(crate) type Unreadable = String;

/// Merges claimed batches in one transaction: all of it is written and the batches are finished, or nothing is.
pub async fn merge(
    connection: &mut PgConnection,
    rules: &Rules,
    seal: &Seal,
    batches: &[ClaimedBatch],
    now: DateTime<Utc>,
) -> Result<Merged, Error> {
    let started = Instant::now();
    let batch_ids: Vec<i64> = batches.iter().map(|batch| batch.batch_id).collect();
    let mut transaction = connection.begin().await.map_err(database("merging"))?;
    let records = staging::read(&mut *transaction, &batch_ids).await?;
    let mut merged = Merged { batches: batches.len(), records: records.len(), excluded: 0 };
    let unreadable = apply(&mut transaction, rules, batches, &records, now).await?;
    for (record, detail) in unreadable {
        staging::exclude(&mut transaction, seal, record, &detail, now).await?;
        exclude::count(&record.source);
        merged.excluded += 1;
    }
    staging::finish(&mut *transaction, &batch_ids, now).await?;
    transaction.commit().await.map_err(database("merging"))?;
    for batch in batches {
        let count = u64::from(batch.record_count.unsigned_abs());
        ::metrics::counter!(metrics::RECORDS_CONSOLIDATED, "source" => batch.source.clone()).increment(count);
    }
    ::metrics::histogram!(metrics::MERGE_SECONDS).record(started.elapsed());
    Ok(merged)
}

/// Applies records in the caller's transaction and returns those that cannot be read.
pub(crate) async fn apply<'r>(
    connection: &mut PgConnection,
    rules: &Rules,
    batches: &[ClaimedBatch],
    records: &'r [StagedRecord],
    now: DateTime<Utc>,
) -> Result<Vec<(&'r StagedRecord, Unreadable)>, Error> {
    let decisions = decisions::standing(connection).await?;
    let mut unreadable = Vec::new();
    merge_customers(connection, rules, &decisions, batches, records, &mut unreadable, now).await?;
    let of = |entity: Entity| records.iter().filter(move |record| record.entity == entity);
    unreadable.extend(orders::merge(connection, of(Entity::Order)).await?);
    unreadable.extend(products::merge(connection, of(Entity::Product)).await?);
    unreadable.extend(interactions::merge(connection, rules, of(Entity::Interaction), now).await?);
    Ok(unreadable)
}

async fn merge_customers<'r>(
    connection: &mut PgConnection,
    rules: &Rules,
    decisions: &Decisions,
    batches: &[ClaimedBatch],
    records: &'r [StagedRecord],
    unreadable: &mut Vec<(&'r StagedRecord, Unreadable)>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let customers = || records.iter().filter(|record| record.entity == Entity::Customer);
    let mut ids: BTreeSet<(&str, &str)> = BTreeSet::new();
    for record in customers() {
        ids.insert((&record.source, record.external_id.as_str()));
        ids.extend(record.moved_to.iter().map(|id| (record.source.as_str(), id.as_str())));
    }
    let departures = departures(connection, batches, &ids).await?;
    ids.extend(departures.iter().map(|departure| (departure.system, departure.external_id.as_str())));
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = ids.into_iter().collect();
    let mut slots = Slots::read(connection, &ids).await?;
    let full_exports: BTreeSet<i64> = batches
        .iter()
        .filter(|batch| batch.import.as_ref().is_some_and(|import| import.full_export))
        .map(|batch| batch.batch_id)
        .collect();
    for record in customers() {
        if let Err(detail) = merge_customer(&mut slots, record, full_exports.contains(&record.batch_id), now) {
            unreadable.push((record, detail));
        }
    }
    for departure in departures {
        let slot = slots.get(departure.system, &departure.external_id);
        if let Some(slot) = slot.filter(|slot| slot.xref.is_living() && slot.xref.position < departure.position) {
            let id = slot.xref.external_id.clone();
            let write = Write { position: departure.position, observed_at: departure.as_of, upsert: None };
            slots.apply(departure.system, &id, write, now);
        }
    }
    let namespace = namespace(connection).await?;
    let mut touched = BTreeSet::new();
    for (system, slot) in slots.changed_mut() {
        match_up(system, slot, rules, decisions, namespace);
        touched.extend(slot.old_match_key.clone());
        touched.extend(slot.match_key.clone());
    }
    slots.write(connection).await?;
    orders::detach(connection, &slots.lost_customer()).await?;
    let touched: Vec<&str> = touched.iter().map(String::as_str).collect();
    dirty::mark(connection, &touched, "record", now).await
}

/// Applies one record; `Err` says why it cannot be read.
fn merge_customer(
    slots: &mut Slots,
    record: &StagedRecord,
    full_export: bool,
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
        return Ok(());
    }
    if let Some(new_id) = &record.moved_to {
        let carried =
            known.filter(|slot| slot.xref.position < record.position).and_then(|slot| slot.xref.living_fields());
        if carried.is_some() {
            let write = Write { position: record.position.carried(), observed_at: record.observed_at, upsert: carried };
            slots.apply(&record.source, new_id, write, now);
        }
    }
    let write = Write { position: record.position.clone(), observed_at: record.observed_at, upsert };
    slots.apply(&record.source, &record.external_id, write, now);
    Ok(())
}

/// Gives a changed cross-reference its match key. One that begins gets its customer's id at once, so that step 2 has
/// nothing to write to it; one that moves keeps the old one, by which step 2 sees where it came from.
fn match_up(system: &str, slot: &mut Slot, rules: &Rules, decisions: &Decisions, namespace: Uuid) {
    let begins = slot.begins();
    if !slot.xref.is_living() {
        slot.match_key = None;
        slot.unmatched_reason = None;
        return;
    }
    match match_key(system, slot.xref.external_id.as_str(), slot.xref.email.as_deref(), rules, decisions) {
        Ok(key) => {
            // Whether a crowded key is still crowded is for step 2 to see.
            let crowded = slot.unmatched_reason.as_deref() == Some(Unmatched::Crowded.as_str());
            if begins || slot.customer_id.is_none() && !crowded {
                slot.customer_id = Some(decisions.resolve(&key).customer_id(namespace));
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
    named: &BTreeSet<(&str, &str)>,
) -> Result<Vec<Departure<'b>>, Error> {
    let mut departures = Vec::new();
    for batch in batches {
        let Some(import) = batch.import.as_ref().filter(|import| import.full_export && import.completes) else {
            continue;
        };
        let position = Position::csv_end(import.as_of, import.mtime);
        staging::note_members(connection, import.import_id).await?;
        let named = named.iter().filter(|(system, _)| *system == batch.source).map(|(_, external_id)| *external_id);
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

/// The namespace of this installation's customer ids.
pub(crate) async fn namespace(connection: &mut PgConnection) -> Result<Uuid, Error> {
    sqlx::query_scalar("select namespace from customer360.installation")
        .fetch_one(connection)
        .await
        .map_err(database("reading the installation's namespace"))
}
