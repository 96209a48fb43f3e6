//! `staging.outbox`: edits on their way to the sources that take them.
//!
//! Whoever notes an edit puts it here in the same transaction ([`enqueue`]); a poller [`lease`]s it, asks the source what it
//! says now, sends it and notes what became of it ([`settle`], [`postpone`]). Of one customer one edit is under way at a
//! time, the oldest first. Until an outcome is noted, `leased_until` is its compare-and-swap, together with what was sent;
//! whoever dies in between leaves the edit to others, who see in the source's answer whether it has arrived.

mod lease;
mod overview;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::{Json, Uuid};
use sqlx::{PgConnection, PgExecutor};

use crate::Error;
use crate::erase::Person;
use crate::erased::Erased;

pub use lease::{Leased, Outcome, lease, postpone, read_again, settle};
pub use overview::{OnTheWay, State, Waiting, forget_settled, of_edits, of_xrefs, waiting};

/// The channel on which whoever notes an edit says that there is something to send.
pub const OUTBOX_CHANNEL: &str = "c360_outbox";

/// What is to become of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its value.
    pub value: Value,
    /// What the source may say meanwhile without contradicting: what the edit replaced, and what was sent before.
    pub replaced: Vec<Value>,
}

/// Attributes with what is to become of them.
pub type Edits = BTreeMap<String, Wanted>;

/// What a source is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Change a customer.
    Update,
    /// Make one.
    Create,
}

/// An edit that is to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// To whom.
    pub source: &'a str,
    /// To change or to make a customer.
    pub kind: Kind,
    /// The system of the cross-reference that was edited. Where it is not the source, that finds the customer by email.
    pub system: &'a str,
    /// Its id there.
    pub external_id: &'a str,
    /// Its match key.
    pub match_key: &'a str,
    /// Its email, as it is written.
    pub email: &'a str,
    /// The attributes.
    pub edits: Edits,
}

impl Kind {
    /// The word in `outbox.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Create => "create",
        }
    }
}

impl From<String> for Kind {
    fn from(word: String) -> Self {
        if word == Self::Create.as_str() { Self::Create } else { Self::Update }
    }
}

/// Puts an edit on its way and wakes the senders. Returns how it is called.
pub async fn enqueue(connection: &mut PgConnection, edit: &Outgoing<'_>, now: DateTime<Utc>) -> Result<Uuid, Error> {
    sqlx::query_scalar(
        "with queued as (
             insert into staging.outbox
                 (source, kind, system, external_id, match_key, email, edits, edited_at, next_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
             returning edit_id
         )
         select edit_id from queued, pg_notify($9, '')",
    )
    .bind(edit.source)
    .bind(edit.kind.as_str())
    .bind(edit.system)
    .bind(edit.external_id)
    .bind(edit.match_key)
    .bind(edit.email)
    .bind(Json(&edit.edits))
    .bind(now)
    .bind(OUTBOX_CHANNEL)
    .fetch_one(connection)
    .await
    .map_err(Error::database("putting an edit on its way"))
}

/// Takes attributes of a cross-reference back that are on their way or refused: a newer edit takes their place, or none. What
/// is under way meanwhile has left: its row stays, without attributes, until its lease is over, so that the newer one waits for
/// it. Returns what the source may say of each without contradicting: what was to be replaced, and
/// what it may have been sent.
pub async fn withdraw(
    connection: &mut PgConnection,
    (system, external_id): (&str, &str),
    attributes: &[&str],
    now: DateTime<Utc>,
) -> Result<BTreeMap<String, Vec<Value>>, Error> {
    let withdrawn: Vec<(String, Json<Vec<Value>>)> = sqlx::query_as(
        "select e.name, (e.wanted -> 'replaced') || jsonb_build_array(e.wanted -> 'value')
         from staging.outbox o
         cross join jsonb_each(o.edits) as e (name, wanted)
         where o.system = $1 and o.external_id = $2 and o.state in ('waiting', 'refused') and o.kind = 'update'
           and e.name = any ($3)
         order by o.edited_at, o.edit_id",
    )
    .bind(system)
    .bind(external_id)
    .bind(attributes)
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::database("looking for edits to take back"))?;
    sqlx::query(
        "update staging.outbox set edits = edits - $3::text[]
         where system = $1 and external_id = $2 and state in ('waiting', 'refused') and kind = 'update'
           and edits ?| $3::text[]",
    )
    .bind(system)
    .bind(external_id)
    .bind(attributes)
    .execute(&mut *connection)
    .await
    .map_err(Error::database("taking an edit back"))?;
    sqlx::query(
        "delete from staging.outbox
         where system = $1 and external_id = $2 and state in ('waiting', 'refused') and kind = 'update'
           and edits = '{}' and (leased_until is null or leased_until <= $3)",
    )
    .bind(system)
    .bind(external_id)
    .bind(now)
    .execute(&mut *connection)
    .await
    .map_err(Error::database("taking an edit back"))?;
    let mut may_say: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (attribute, Json(values)) in withdrawn {
        may_say.entry(attribute).or_default().extend(values);
    }
    Ok(may_say)
}

/// Changes what a customer is to be made with who is not known to be made: these attributes, and no more those without a
/// value. What was refused is tried again. After a try the source may have been told what was said before: to say so is no
/// contradiction. Without one it knows the customer from elsewhere, and what it says stands.
pub async fn amend(
    connection: &mut PgConnection,
    (system, external_id): (&str, &str),
    attributes: &BTreeMap<&str, Option<&Value>>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let kept: BTreeMap<&str, &Value> = attributes.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect();
    sqlx::query(
        "with amended as (
             update staging.outbox
             set edits = (edits - $3::text[]) || (
                     select coalesce(jsonb_object_agg(k.name, jsonb_build_object(
                         'value', k.value,
                         -- Of a try that may have arrived the source says what was sent, or nothing of what was not.
                         'replaced', coalesce(edits -> k.name -> 'replaced', '[]')
                                     || case when attempts > 0 then jsonb_build_array(edits -> k.name -> 'value')
                                        else '[]' end)), '{}')
                     from jsonb_each($4) as k (name, value)
                 ),
                 state = 'waiting', reason = null, next_at = case when state = 'refused' then $5 else next_at end
             where system = $1 and external_id = $2 and kind = 'create' and state in ('waiting', 'refused')
             returning 1
         )
         select pg_notify($6, '') where exists (select from amended)",
    )
    .bind(system)
    .bind(external_id)
    .bind(attributes.keys().copied().collect::<Vec<_>>())
    .bind(Json(kept))
    .bind(now)
    .bind(OUTBOX_CHANNEL)
    .execute(connection)
    .await
    .map_err(Error::database("changing what a customer is made with"))?;
    Ok(())
}

/// The sources that have made a customer.
pub async fn made_in(executor: impl PgExecutor<'_>, (system, external_id): (&str, &str)) -> Result<Vec<String>, Error> {
    sqlx::query_scalar(
        "select distinct source from staging.outbox
         where system = $1 and external_id = $2 and kind = 'create' and state = 'settled'
         order by source",
    )
    .bind(system)
    .bind(external_id)
    .fetch_all(executor)
    .await
    .map_err(Error::database("looking where a customer was made"))
}

/// What tells sources to make a customer, whatever has become of it: see [`of_edits`].
pub async fn creates_of(
    executor: impl PgExecutor<'_>,
    (system, external_id): (&str, &str),
) -> Result<Vec<Uuid>, Error> {
    sqlx::query_scalar(
        "select edit_id from staging.outbox
         where system = $1 and external_id = $2 and kind = 'create'
         order by source, edit_id",
    )
    .bind(system)
    .bind(external_id)
    .fetch_all(executor)
    .await
    .map_err(Error::database("looking for who makes a customer"))
}

/// Forgets what is on its way for these cross-references, or by these match keys; returns how many edits.
pub(crate) async fn erase(
    executor: impl PgExecutor<'_>,
    (systems, external_ids): (&[&str], &[&str]),
    match_keys: &[String],
) -> Result<u64, Error> {
    let done = sqlx::query(
        "delete from staging.outbox
         where match_key = any ($3)
            or (system, external_id) in (select * from unnest($1::text[], $2::text[]))",
    )
    .bind(systems)
    .bind(external_ids)
    .bind(match_keys)
    .execute(executor)
    .await
    .map_err(Error::database("erasing edits on their way"))?;
    Ok(done.rows_affected())
}

/// Takes out of other edits on their way, or refused, what names somebody who is erased: the attribute whose value does, for a
/// source shall not be told half of it, and what an edit replaced. Returns of how many edits.
pub(crate) async fn redact(connection: &mut PgConnection, person: &Person, erased: &Erased) -> Result<u64, Error> {
    // One that is settled holds no values.
    let naming: Vec<(Uuid, Json<Edits>)> = sqlx::query_as(
        "select edit_id, edits
         from staging.outbox
         where state <> 'settled'
           and exists (select from unnest($1::text[]) as p (piece) where strpos(lower(edits::text), p.piece) > 0)",
    )
    .bind(person.pieces())
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::database("reading whom edits on their way name"))?;
    let (mut changed, mut emptied) = (0, Vec::new());
    for (edit_id, Json(mut edits)) in naming {
        let without = |value: &Value| erased.redact(&value.to_string());
        let before = edits.clone();
        edits.retain(|_, wanted| without(&wanted.value).is_none());
        for replaced in edits.values_mut().flat_map(|wanted| &mut wanted.replaced) {
            if let Some(text) = without(replaced) {
                *replaced = serde_json::from_str(&text).unwrap_or_default();
            }
        }
        if edits.is_empty() {
            emptied.push(edit_id);
        } else if edits != before {
            changed += 1;
            sqlx::query("update staging.outbox set edits = $2 where edit_id = $1")
                .bind(edit_id)
                .bind(Json(edits))
                .execute(&mut *connection)
                .await
                .map_err(Error::database("erasing whom edits on their way name"))?;
        }
    }
    let gone = sqlx::query("delete from staging.outbox where edit_id = any ($1)")
        .bind(emptied)
        .execute(connection)
        .await
        .map_err(Error::database("erasing whom edits on their way name"))?;
    Ok(changed + gone.rows_affected())
}
