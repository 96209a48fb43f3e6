//! Interactions: the newest record wins and replaces the participants as a set; customers are found by email.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use model::{Decisions, InteractionFields, MatchKey, Operation};
use sqlx::PgConnection;
use sqlx::types::Uuid;
use staging::StagedRecord;

use crate::error::database;
use crate::merge::Unreadable;
use crate::{Error, Rules, dirty};

/// Merges interaction records; returns those that cannot be read. The match keys of participants are marked dirty, so that
/// step 2 attaches them.
pub(crate) async fn merge<'r>(
    connection: &mut PgConnection,
    rules: &Rules,
    records: impl Iterator<Item = &'r StagedRecord>,
    now: DateTime<Utc>,
) -> Result<Vec<(&'r StagedRecord, Unreadable)>, Error> {
    let mut unreadable = Vec::new();
    let mut newest: BTreeMap<(&str, &str), (&StagedRecord, InteractionFields)> = BTreeMap::new();
    for record in records {
        let fields = match record.operation {
            Operation::Delete => Ok(InteractionFields::default()),
            Operation::Upsert => serde_json::from_str(&record.attributes),
        };
        let Ok(fields) = fields else {
            unreadable.push((record, "attributes are no interaction".to_owned()));
            continue;
        };
        let id = (record.source.as_str(), record.external_id.as_str());
        if newest.get(&id).is_none_or(|(known, _)| known.position < record.position) {
            newest.insert(id, (record, fields));
        }
    }
    if newest.is_empty() {
        return Ok(unreadable);
    }
    let newest: Vec<_> = newest.into_values().collect();
    let written: BTreeSet<(String, String)> = write(connection, &newest).await?.into_iter().collect();
    let written = newest
        .iter()
        .filter(|(record, _)| written.contains(&(record.source.clone(), record.external_id.as_str().to_owned())));
    write_participants(connection, rules, &written.collect::<Vec<_>>(), now).await?;
    Ok(unreadable)
}

/// Writes the interactions that are newer than those known and returns their ids.
async fn write(
    connection: &mut PgConnection,
    newest: &[(&StagedRecord, InteractionFields)],
) -> Result<Vec<(String, String)>, Error> {
    let deleted_at = |record: &StagedRecord| (record.operation == Operation::Delete).then_some(record.observed_at);
    sqlx::query_as(
        "insert into customer360.interactions as i
             (system, interaction_id, thread_id, type, status, at, subject, attributes, position, deleted_at)
         select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[],
                              $8::jsonb[], $9::bytea[], $10::timestamptz[])
         on conflict on constraint interactions_pkey do update set
             thread_id = excluded.thread_id, type = excluded.type, status = excluded.status, at = excluded.at,
             subject = excluded.subject, attributes = excluded.attributes, position = excluded.position,
             deleted_at = excluded.deleted_at
         where excluded.position > i.position
         returning i.system, i.interaction_id",
    )
    .bind(newest.iter().map(|(record, _)| record.source.as_str()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(record, _)| record.external_id.as_str()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.thread_id.as_deref()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.kind.as_deref()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.status.as_deref()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.at).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.subject.as_deref()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| serde_json::json!(fields.attributes)).collect::<Vec<_>>())
    .bind(newest.iter().map(|(record, _)| record.position.as_bytes()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(record, _)| deleted_at(record)).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
    .map_err(database("writing interactions"))
}

async fn write_participants(
    connection: &mut PgConnection,
    rules: &Rules,
    written: &[&(&StagedRecord, InteractionFields)],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query(
        "delete from customer360.interaction_participants p
         using unnest($1::text[], $2::text[]) as replaced (system, interaction_id)
         where p.system = replaced.system and p.interaction_id = replaced.interaction_id",
    )
    .bind(written.iter().map(|(record, _)| record.source.as_str()).collect::<Vec<_>>())
    .bind(written.iter().map(|(record, _)| record.external_id.as_str()).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await
    .map_err(database("replacing participants"))?;
    // Whatever operators block has no customer to attach to; once they undo it, the key has to be here.
    let undecided = Decisions::default();
    let participants: Vec<_> = written
        .iter()
        .flat_map(|(record, fields)| (1_i32..).zip(&fields.participants).map(move |(no, who)| (record, no, who)))
        .map(|(record, no, who)| (record, no, who, MatchKey::of_email(&who.email, &rules.guards, &undecided).ok()))
        .collect();
    sqlx::query(
        "insert into customer360.interaction_participants (system, interaction_id, participant_no, email, role, match_key)
         select * from unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[])",
    )
    .bind(participants.iter().map(|(record, ..)| record.source.as_str()).collect::<Vec<_>>())
    .bind(participants.iter().map(|(record, ..)| record.external_id.as_str()).collect::<Vec<_>>())
    .bind(participants.iter().map(|(_, no, ..)| *no).collect::<Vec<_>>())
    .bind(participants.iter().map(|(_, _, who, _)| who.email.as_str()).collect::<Vec<_>>())
    .bind(participants.iter().map(|(_, _, who, _)| who.role.as_deref()).collect::<Vec<_>>())
    .bind(participants.iter().map(|(.., key)| key.as_ref().map(MatchKey::as_str)).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await
    .map_err(database("writing participants"))?;
    let keys: BTreeSet<&str> = participants.iter().filter_map(|(.., key)| Some(key.as_ref()?.as_str())).collect();
    dirty::mark(connection, &keys.into_iter().collect::<Vec<_>>(), "record", now).await
}

/// Attaches participants by match key to customers, in pairs; `None` detaches.
pub(crate) async fn attach(
    connection: &mut PgConnection,
    match_keys: &[&str],
    customers: &[Option<Uuid>],
) -> Result<(), Error> {
    sqlx::query(
        "update customer360.interaction_participants p
         set customer_id = found.customer_id
         from unnest($1::text[], $2::uuid[]) as found (match_key, customer_id)
         where p.match_key = found.match_key and p.customer_id is distinct from found.customer_id",
    )
    .bind(match_keys)
    .bind(customers)
    .execute(connection)
    .await
    .map_err(database("attaching participants"))?;
    Ok(())
}
