//! Customers made by hand.

use chrono::{DateTime, Utc};
use model::{MatchKey, Unmatched};
use serde_json::{Map, Value};
use sqlx::types::Uuid;
use sqlx::{Connection as _, PgConnection};
use staging::{Seal, erased, outbox};

use super::{Takers, take_turns, write_through};
use crate::error::database;
use crate::matching::Matching;
use crate::{Error, Rules};

/// The system whose cross-references are customers made by hand.
pub const BY_HAND: &str = "crm";

/// What became of a customer who was to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// There is a cross-reference, and a customer once the profile has followed this mark.
    Noted {
        /// The customer, who may have been there before.
        customer_id: Uuid,
        /// Whether the cross-reference was not there yet.
        is_new: bool,
        /// See [`super::has_followed`].
        mark_id: i64,
        /// What is on its way to sources, see [`staging::outbox::of_edits`].
        outgoing: Vec<Uuid>,
    },
    /// There is a cross-reference of this id already, of which something else was said.
    Reused,
    /// The email is nobody's, or would be if one more was made with it.
    Unmatched(Unmatched),
    /// The person was erased.
    Erased,
}

/// A customer who is to be made by hand.
#[derive(Clone, Copy, Debug)]
pub struct NewCustomer<'a> {
    /// What the cross-reference is called; the same again changes nothing, and something else is refused.
    pub external_id: &'a str,
    /// As it was written.
    pub email: &'a str,
    /// Attributes with a value.
    pub attributes: &'a Map<String, Value>,
}

/// Makes a customer by hand: a cross-reference of the system [`BY_HAND`], which counts as those of any other. The sources that
/// make customers are told to.
pub async fn make(
    connection: &mut PgConnection,
    (rules, takers): (&Rules, &Takers),
    seal: &Seal,
    new: NewCustomer<'_>,
    now: DateTime<Utc>,
) -> Result<Made, Error> {
    let doing = "making a customer";
    let mut transaction = connection.begin().await.map_err(database(doing))?;
    erased::hold(&mut transaction).await?;
    if erased::is_erased(&mut transaction, seal, new.email, (BY_HAND, new.external_id)).await? {
        return Ok(Made::Erased);
    }
    let matching = Matching::read(&mut transaction, rules).await?;
    let match_key = match matching.key(BY_HAND, new.external_id, Some(new.email)) {
        Ok(match_key) => match_key,
        Err(reason) => return Ok(Made::Unmatched(reason)),
    };
    take_turns(&mut transaction, matching.customer_id(&match_key)).await?;
    let inserted = sqlx::query(
        "insert into customer360.xrefs
             (system, external_id, match_key, email, external_id_json, attributes, position, observed_at, first_seen_at,
              last_seen_at)
         values ($1, $2, $3, $4, to_jsonb($2::text), $5, '', $6, $6, $6)
         on conflict on constraint xrefs_pkey do nothing",
    )
    .bind(BY_HAND)
    .bind(new.external_id)
    .bind(match_key.as_str())
    .bind(new.email)
    .bind(Value::Object(new.attributes.clone()))
    .bind(now)
    .execute(&mut *transaction)
    .await
    .map_err(database(doing))?;
    // The same once more is made already, or on its way.
    let is_new = inserted.rows_affected() > 0;
    if !is_new && !is_made(&mut transaction, new).await? {
        return Ok(Made::Reused);
    }
    if is_new && is_crowded(&mut transaction, &matching, &match_key).await? {
        return Ok(Made::Unmatched(Unmatched::Crowded));
    }
    let outgoing = if is_new {
        write_through::create(&mut transaction, &takers.create, &match_key, new, now).await?
    } else {
        outbox::creates_of(&mut *transaction, (BY_HAND, new.external_id)).await?
    };
    let mark_id = sqlx::query_scalar(
        "insert into customer360.dirty_marks (match_keys, cause, marked_at) values (array[$1], 'edit', $2)
         returning mark_id",
    )
    .bind(match_key.as_str())
    .bind(now)
    .fetch_one(&mut *transaction)
    .await
    .map_err(database(doing))?;
    staging::wake(&mut transaction, staging::LANDED_CHANNEL, None).await?;
    transaction.commit().await.map_err(database(doing))?;
    Ok(Made::Noted { customer_id: matching.customer_id(&match_key), is_new, mark_id, outgoing })
}

/// Whether the fold would leave out all who were made by hand with this match key, for there are too many.
async fn is_crowded(
    transaction: &mut PgConnection,
    matching: &Matching<'_>,
    match_key: &MatchKey,
) -> Result<bool, Error> {
    let living: i64 = sqlx::query_scalar(
        "select count(*) from customer360.xrefs where match_key = $1 and system = $2 and deleted_at is null",
    )
    .bind(match_key.as_str())
    .bind(BY_HAND)
    .fetch_one(transaction)
    .await
    .map_err(database("counting customers made by hand"))?;
    Ok(matching.is_crowded(match_key, usize::try_from(living).unwrap_or(usize::MAX)))
}

/// Whether the cross-reference that is there says what this customer is to be made with.
async fn is_made(transaction: &mut PgConnection, new: NewCustomer<'_>) -> Result<bool, Error> {
    sqlx::query_scalar(
        "select email is not distinct from $3 and attributes = $4 from customer360.xrefs
         where system = $1 and external_id = $2",
    )
    .bind(BY_HAND)
    .bind(new.external_id)
    .bind(new.email)
    .bind(Value::Object(new.attributes.clone()))
    .fetch_one(transaction)
    .await
    .map_err(database("looking for a customer made by hand"))
}
