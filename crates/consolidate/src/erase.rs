//! Erasing one person out of both schemas, for good, and letting them in again.
//!
//! An erasure is one transaction, beside whoever lands and consolidates: it holds a lock alone that they hold shared (see
//! `staging::erased`). It removes everything that is kept of a person, and leaves keyed digests of the match keys that led
//! there and of every (system, id): nothing to work back from, and enough to skip whatever comes later under one of them.

mod found;
mod golden;

use chrono::{DateTime, Utc};
use model::Digest;
use serde::Serialize;
use sqlx::types::Uuid;
use sqlx::{Connection, PgConnection};
use staging::erase::{self as staged, Removed, Seen};
use staging::{Erased, Seal, erased};

use crate::error::database;
use crate::matching::Matching;
use crate::person::{Person, key_of, moved_on, named};
use crate::{Error, Key, Refusal, Rules};
use found::Found;

/// What becomes of a person's orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orders {
    /// They go with the person.
    #[default]
    Delete,
    /// They stay without the person: no customer, no document.
    Anonymise,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The person is erased.
    Erased(Receipt),
    /// Was before, and nothing has come since.
    Already,
    /// Nothing is known of such a person.
    Unknown,
}

/// What an erasure did, without saying to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Its number.
    pub erasure_id: Uuid,
    /// When.
    pub erased_at: DateTime<Utc>,
    /// Keyed digests of the match keys and ids, in hex.
    pub digests: Vec<String>,
    /// How many rows were removed, or had the person taken out, by table.
    pub removed: Removed,
}

/// Erases somebody. With `dry_run`, all is done and taken back, and nobody else has to wait for it: what is written meanwhile may
/// be missing in the receipt.
pub async fn erase(
    connection: &mut PgConnection,
    rules: &Rules,
    seal: &Seal,
    whom: &Key,
    orders: Orders,
    dry_run: bool,
) -> Result<Outcome, Error> {
    let now = Utc::now();
    let mut transaction = connection.begin().await.map_err(erasing())?;
    // Looking through everything may take a while.
    sqlx::query("select set_config('idle_in_transaction_session_timeout', '0', true)")
        .execute(&mut *transaction)
        .await
        .map_err(erasing())?;
    let matching = Matching::read(&mut transaction, rules).await?;
    if let Some(customer_id) = moved_on(&mut transaction, &matching, whom).await? {
        return Err(Refusal::MovedOn { customer_id }.into());
    }
    let sought = Person::find(&mut transaction, &matching, whom).await?;
    // Everything is looked through before anybody has to wait, and then, if it is still the same person, what is newer.
    let seen = Seen::by_now(&mut transaction, now).await?;
    let mut found = Found::default();
    let only = Erased::of(seal, digests(seal, &sought));
    found.look(&mut transaction, seal, &sought, &only, None).await?;
    if !dry_run {
        erased::hold_alone(&mut transaction).await?;
    }

    let matching = Matching::read(&mut transaction, rules).await?;
    let person = Person::find(&mut transaction, &matching, whom).await?;
    let digests = digests(seal, &person);
    let only = Erased::of(seal, digests.iter().copied());
    if person == sought && seen.nobody_was_erased(&mut transaction).await? {
        found.look(&mut transaction, seal, &person, &only, Some(&seen)).await?;
    } else {
        found = Found::default();
        found.look(&mut transaction, seal, &person, &only, None).await?;
    }
    let (mut removed, theirs) = golden::remove(&mut transaction, &person, &found, &only, orders, now).await?;
    removed.extend(staged::rest(&mut transaction, &person.staged(theirs), &only, &found.letters, now).await?);
    removed.insert("staging.records", found.records.apply(&mut transaction, &only).await?);
    removed.retain(|_, rows| *rows > 0);

    if removed.is_empty() {
        let is_known = is_erased(&mut transaction, &digests).await?;
        transaction.rollback().await.map_err(erasing())?;
        return Ok(if is_known { Outcome::Already } else { Outcome::Unknown });
    }
    let receipt = Receipt {
        erasure_id: Uuid::new_v4(),
        erased_at: now,
        digests: digests.iter().map(hex::encode).collect(),
        removed,
    };
    if dry_run {
        transaction.rollback().await.map_err(erasing())?;
        return Ok(Outcome::Erased(receipt));
    }
    note(&mut transaction, &receipt, &digests).await?;
    transaction.commit().await.map_err(erasing())?;
    Ok(Outcome::Erased(receipt))
}

/// Lets somebody in again whom an email, or a system's id, names: records that come from now on count, under all emails
/// and ids that were erased together. Returns how many digests that lifts.
pub async fn readmit(connection: &mut PgConnection, seal: &Seal, whom: &Key) -> Result<usize, Error> {
    let key = seal.erasure_key();
    let digest = match &named(whom) {
        Key::Word(email) => key_of(email).map(|email| key.of_key(&email)),
        Key::Xref(system, external_id) => Some(key.of_id(system, external_id)),
        Key::CustomerId(_) => None,
    };
    let Some(digest) = digest else { return Ok(0) };
    let mut transaction = connection.begin().await.map_err(readmitting())?;
    erased::hold_alone(&mut transaction).await?;
    let lifted: Vec<Vec<u8>> = sqlx::query_scalar(
        "with named as materialized (
             select digest, erasure_id from customer360.erasures where digest = $1
         )
         delete from customer360.erasures e
         using named n
         where e.digest = n.digest or e.erasure_id = n.erasure_id
         returning e.digest",
    )
    .bind(digest.as_slice())
    .fetch_all(&mut *transaction)
    .await
    .map_err(readmitting())?;
    erased::change(&mut transaction, &lifted, false).await?;
    transaction.commit().await.map_err(readmitting())?;
    Ok(lifted.len())
}

fn digests(seal: &Seal, person: &Person) -> Vec<Digest> {
    let key = seal.erasure_key();
    let keys = person.keys.iter().map(|text| key.of_key(&model::MatchKey::from_stored(text.clone())));
    keys.chain(person.ids.iter().map(|(system, external_id)| key.of_id(system, external_id))).collect()
}

async fn is_erased(transaction: &mut PgConnection, digests: &[Digest]) -> Result<bool, Error> {
    sqlx::query_scalar("select exists (select from customer360.erasures where digest = any ($1))")
        .bind(digests.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
        .fetch_one(transaction)
        .await
        .map_err(erasing())
}

async fn note(transaction: &mut PgConnection, receipt: &Receipt, digests: &[Digest]) -> Result<(), Error> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.to_vec()).collect();
    // With what was erased together with one of them before: whoever is readmitted is so with all of it.
    sqlx::query(
        "update customer360.erasures set erasure_id = $2
         where erasure_id in (select erasure_id from customer360.erasures where digest = any ($1))",
    )
    .bind(&digests)
    .bind(receipt.erasure_id)
    .execute(&mut *transaction)
    .await
    .map_err(erasing())?;
    sqlx::query(
        "insert into customer360.erasures (digest, erased_at, erasure_id)
         select digest, $2, $3 from unnest($1::bytea[]) as d (digest)
         on conflict on constraint erasures_pkey do update set
             erased_at = excluded.erased_at, erasure_id = excluded.erasure_id",
    )
    .bind(&digests)
    .bind(receipt.erased_at)
    .bind(receipt.erasure_id)
    .execute(&mut *transaction)
    .await
    .map_err(erasing())?;
    erased::change(transaction, &digests, true).await?;
    Ok(())
}

fn erasing() -> impl FnOnce(sqlx::Error) -> Error {
    database("erasing")
}

fn readmitting() -> impl FnOnce(sqlx::Error) -> Error {
    database("readmitting")
}
