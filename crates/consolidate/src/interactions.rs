//! Interactions: the newest record wins and replaces the participants as a set; customers are found by email, threads by what
//! messages say of each other.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use model::{Decisions, InteractionFields, MatchKey, Message, Operation, Position};
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{PgConnection, Row};
use staging::StagedRecord;

use crate::error::database;
use crate::merge::{Unreadable, newest};
use crate::threads::Threads;
use crate::{Error, Rules, dirty};

/// Merges interaction records; returns those that cannot be read. The match keys of participants are marked dirty, so that
/// step 2 attaches them.
pub(crate) async fn merge<'r>(
    connection: &mut PgConnection,
    rules: &Rules,
    records: impl Iterator<Item = &'r StagedRecord>,
    now: DateTime<Utc>,
) -> Result<Vec<(&'r StagedRecord, Unreadable)>, Error> {
    let (mut newest, unreadable) = newest::<InteractionFields>(records, "attributes are no interaction");
    if newest.is_empty() {
        return Ok(unreadable);
    }
    let known = read(connection, &newest).await?;
    newest.retain(|(record, _)| known.get(&id_of(record)).is_none_or(|known| known.position < record.position));
    if newest.is_empty() {
        return Ok(unreadable);
    }
    let said: Vec<Message> = newest.iter().map(|(record, fields)| message(record, fields)).collect();
    let unsaid = known.into_iter().filter_map(|((system, _), known)| Some((system, known.message_id?)));
    let threads = Threads::read(connection, said, unsaid).await?;
    write(connection, &newest, &threads).await?;
    threads.mend(connection).await?;
    write_participants(connection, rules, &newest, now).await?;
    Ok(unreadable)
}

/// What the table knows of an interaction.
struct Known {
    position: Position,
    message_id: Option<String>,
}

type Newest<'r> = (&'r StagedRecord, InteractionFields);

fn id_of(record: &StagedRecord) -> (String, String) {
    (record.source.clone(), record.external_id.as_str().to_owned())
}

fn message(record: &StagedRecord, fields: &InteractionFields) -> Message {
    let (system, interaction_id) = id_of(record);
    Message {
        system,
        interaction_id,
        message_id: fields.message_id.clone(),
        in_reply_to: fields.in_reply_to.clone(),
        given_thread_id: fields.thread_id.clone(),
        thread_id: None,
    }
}

async fn read(connection: &mut PgConnection, named: &[Newest<'_>]) -> Result<HashMap<(String, String), Known>, Error> {
    let rows = sqlx::query(
        "select i.system, i.interaction_id, i.position, i.message_id
         from unnest($1::text[], $2::text[]) as named (system, interaction_id)
         join customer360.interactions i on i.system = named.system and i.interaction_id = named.interaction_id",
    )
    .bind(named.iter().map(|(record, _)| record.source.as_str()).collect::<Vec<_>>())
    .bind(named.iter().map(|(record, _)| record.external_id.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
    .map_err(database("reading interactions"))?;
    let known = |row: &PgRow| {
        let position = Position::from(row.get::<Vec<u8>, _>(2));
        ((row.get(0), row.get(1)), Known { position, message_id: row.get(3) })
    };
    Ok(rows.iter().map(known).collect())
}

async fn write(connection: &mut PgConnection, newest: &[Newest<'_>], threads: &Threads) -> Result<(), Error> {
    let deleted_at = |record: &StagedRecord| (record.operation == Operation::Delete).then_some(record.observed_at);
    sqlx::query(
        "insert into customer360.interactions as i
             (system, interaction_id, thread_id, type, status, at, subject, attributes, position, deleted_at, message_id,
              in_reply_to, given_thread_id)
         select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[],
                              $8::jsonb[], $9::bytea[], $10::timestamptz[], $11::text[], $12::text[], $13::text[])
         on conflict on constraint interactions_pkey do update set
             thread_id = excluded.thread_id, type = excluded.type, status = excluded.status, at = excluded.at,
             subject = excluded.subject, attributes = excluded.attributes, position = excluded.position,
             deleted_at = excluded.deleted_at, message_id = excluded.message_id, in_reply_to = excluded.in_reply_to,
             given_thread_id = excluded.given_thread_id
         where excluded.position > i.position",
    )
    .bind(newest.iter().map(|(record, _)| record.source.as_str()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(record, _)| record.external_id.as_str()).collect::<Vec<_>>())
    .bind((0..newest.len()).map(|index| threads.of_said(index)).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.kind.as_deref()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.status.as_deref()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.at).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.subject.as_deref()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| serde_json::json!(fields.attributes)).collect::<Vec<_>>())
    .bind(newest.iter().map(|(record, _)| record.position.as_bytes()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(record, _)| deleted_at(record)).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.message_id.as_deref()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.in_reply_to.as_deref()).collect::<Vec<_>>())
    .bind(newest.iter().map(|(_, fields)| fields.thread_id.as_deref()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(database("writing interactions"))?;
    Ok(())
}

async fn write_participants(
    connection: &mut PgConnection,
    rules: &Rules,
    written: &[Newest<'_>],
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
        .flat_map(|(record, fields)| {
            (1_i32..).zip(&fields.participants).map(move |(no, who)| (record, fields, no, who))
        })
        .map(|(record, fields, no, who)| {
            (record, no, who, fields.at, MatchKey::of_email(&who.email, &rules.guards, &undecided).ok())
        })
        .collect();
    sqlx::query(
        "insert into customer360.interaction_participants (system, interaction_id, participant_no, email, role, match_key, at)
         select p.system, p.interaction_id, p.participant_no, p.email, p.role, p.match_key, coalesce(p.at, '-infinity')
         from unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
             as p (system, interaction_id, participant_no, email, role, match_key, at)",
    )
    .bind(participants.iter().map(|(record, ..)| record.source.as_str()).collect::<Vec<_>>())
    .bind(participants.iter().map(|(record, ..)| record.external_id.as_str()).collect::<Vec<_>>())
    .bind(participants.iter().map(|(_, no, ..)| *no).collect::<Vec<_>>())
    .bind(participants.iter().map(|(_, _, who, ..)| who.email.as_str()).collect::<Vec<_>>())
    .bind(participants.iter().map(|(_, _, who, ..)| who.role.as_deref()).collect::<Vec<_>>())
    .bind(participants.iter().map(|(.., key)| key.as_ref().map(MatchKey::as_str)).collect::<Vec<_>>())
    .bind(participants.iter().map(|(_, _, _, at, _)| *at).collect::<Vec<_>>())
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
