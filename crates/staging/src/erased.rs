//! Who is erased: digests that keep later records of an erased person out.
//!
//! One advisory lock makes it exact. Whoever writes what sources say (a landing, a merge, a fold) holds it shared from the
//! beginning of its transaction; who erases or readmits holds it alone. So a transaction either ends before the erasure,
//! which then removes what it wrote, or begins after it, and knows of it.

use std::collections::HashSet;

use model::{Digest, Entity, ErasureKey, ExternalId, InteractionFields, Record, find_emails, is_in_avro};
use serde::Deserialize;
use sqlx::{Executor, PgConnection, Row};

use crate::{Error, Seal, frozen};

/// What is known of the erased: a copy of `staging.erased`, and as of when.
pub struct Erased {
    key: ErasureKey,
    version: i64,
    digests: HashSet<Digest>,
}

/// What a record says of people.
#[derive(Clone, Copy, Debug)]
pub struct Said<'r> {
    /// Its source.
    pub source: &'r str,
    /// What it is about.
    pub entity: Entity,
    /// The source's id.
    pub external_id: &'r str,
    /// The id that the row of a primary-key change has from now on.
    pub moved_to: Option<&'r ExternalId>,
    /// The email of a customer.
    pub email: Option<&'r str>,
    /// See [`model::Mapped::attributes`].
    pub attributes: &'r str,
    /// The raw record.
    pub payload: Option<&'r str>,
}

/// What is to become of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It says nothing of the erased.
    Keep,
    /// It is about somebody erased: a counted skip.
    Skip,
    /// It is about others and names somebody erased: so it goes on, without them.
    Rewrite(Rewritten),
}

/// What a record says without the erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The email of a customer; empty where it named somebody beside others.
    pub email: Option<String>,
    /// The attributes.
    pub attributes: String,
    /// The raw record.
    pub payload: Option<String>,
}

impl Erased {
    /// Nobody, until it is read.
    pub fn new(seal: &Seal) -> Self {
        Self { key: seal.erasure_key().clone(), version: 0, digests: HashSet::new() }
    }

    /// These alone, whatever is stored.
    pub fn of(seal: &Seal, digests: impl IntoIterator<Item = Digest>) -> Self {
        Self { digests: digests.into_iter().collect(), ..Self::new(seal) }
    }

    /// Reads who is erased, if that has changed.
    pub async fn read(&mut self, connection: &mut PgConnection) -> Result<(), Error> {
        let version = version(connection, "select version from staging.erasure_version").await?;
        self.update(connection, version).await
    }

    /// Keeps erasures out until the end of this transaction, which has only begun, and reads who is erased, if that has
    /// changed.
    pub async fn hold(&mut self, transaction: &mut PgConnection) -> Result<(), Error> {
        let version = version(transaction, HOLD).await?;
        self.update(transaction, version).await
    }

    /// Keeps erasures out as [`Erased::hold`] does; false if somebody was erased since this was read.
    pub async fn still_holds(&self, transaction: &mut PgConnection) -> Result<bool, Error> {
        Ok(version(transaction, HOLD).await? == self.version)
    }

    async fn update(&mut self, connection: &mut PgConnection, version: i64) -> Result<(), Error> {
        if version != self.version {
            let digests: Vec<Vec<u8>> = sqlx::query_scalar("select digest from staging.erased")
                .fetch_all(connection)
                .await
                .map_err(Error::database("reading who is erased"))?;
            self.digests = digests.into_iter().filter_map(|digest| digest.try_into().ok()).collect();
            self.version = version;
        }
        Ok(())
    }

    /// Whether nobody is erased.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether this id of a source is erased.
    pub fn has_id(&self, source: &str, external_id: &str) -> bool {
        !self.is_empty() && self.digests.contains(&self.key.of_id(source, external_id))
    }

    /// Whether this email is erased, however it is written.
    pub fn has_email(&self, email: &str) -> bool {
        !self.is_empty() && self.key.of_email(email).is_some_and(|digest| self.digests.contains(&digest))
    }

    /// Whether these bytes, of whatever form, name an erased email.
    pub fn is_named_in(&self, bytes: &[u8]) -> bool {
        let is_sought = |email: &str| self.has_email(email);
        !self.is_empty() && (!find_emails(bytes, is_sought).is_empty() || is_in_avro(bytes, is_sought))
    }

    /// What is to become of a record.
    pub fn judge(&self, said: &Said<'_>) -> Verdict {
        if self.is_empty() {
            return Verdict::Keep;
        }
        let attributes = match said.entity {
            Entity::Customer => {
                let ids = [Some(said.external_id), said.moved_to.map(ExternalId::as_str)];
                let is_erased = ids.into_iter().flatten().any(|id| self.has_id(said.source, id));
                (!is_erased && !said.email.is_some_and(|email| self.has_email(email)))
                    .then(|| said.attributes.to_owned())
            }
            Entity::Order => {
                let whose: Whose = serde_json::from_str(said.attributes).unwrap_or_default();
                let is_erased = whose.customer_external_id.is_some_and(|id| self.has_id(said.source, &id));
                (!is_erased).then(|| said.attributes.to_owned())
            }
            Entity::Interaction => self.without_participants(said.attributes),
            Entity::Product => Some(said.attributes.to_owned()),
        };
        let Some(attributes) = attributes else { return Verdict::Skip };
        let email = said.email.and_then(|email| self.redact(email));
        let redacted = self.redact(&attributes);
        let payload = said.payload.and_then(|payload| self.redact(payload));
        if email.is_none() && redacted.is_none() && payload.is_none() && attributes == said.attributes {
            return Verdict::Keep;
        }
        Verdict::Rewrite(Rewritten {
            // What is left of several would be somebody else's.
            email: email.map(|_| String::new()).or_else(|| said.email.map(str::to_owned)),
            attributes: redacted.unwrap_or(attributes),
            payload: payload.or_else(|| said.payload.map(str::to_owned)),
        })
    }

    /// Whether a record will not land, because it is of somebody erased.
    pub(crate) fn keeps_out(&self, source: &str, record: &Record) -> bool {
        let said = Said {
            source,
            entity: record.mapped.entity,
            external_id: record.mapped.external_id.as_str(),
            moved_to: record.moved_to.as_ref(),
            email: record.mapped.email.as_deref(),
            attributes: &record.mapped.attributes,
            payload: None,
        };
        self.judge(&said) == Verdict::Skip
    }

    /// The attributes of an interaction without the participants who are erased; `None` if nobody else takes part.
    fn without_participants(&self, attributes: &str) -> Option<String> {
        let Ok(mut fields) = serde_json::from_str::<InteractionFields>(attributes) else {
            return Some(attributes.to_owned());
        };
        let before = fields.participants.len();
        fields.participants.retain(|participant| !self.has_email(&participant.email));
        match fields.participants.len() {
            after if after == before => Some(attributes.to_owned()),
            0 => None,
            _ => serde_json::to_string(&fields).ok(),
        }
    }

    /// A text without the erased emails; `None` if there are none in it.
    pub fn redact(&self, text: &str) -> Option<String> {
        let found = find_emails(text.as_bytes(), |email| self.has_email(email));
        if found.is_empty() {
            return None;
        }
        let mut redacted = text.to_owned();
        for range in found.into_iter().rev() {
            redacted.replace_range(range, "");
        }
        Some(redacted)
    }
}

/// All that is read of an order.
#[derive(Default, Deserialize)]
struct Whose {
    customer_external_id: Option<String>,
}

/// Two statements, so that the second one sees what was committed while the first one waited.
const HOLD: &str = "select pg_advisory_xact_lock_shared(hashtext('c360.erasures'));
     select version from staging.erasure_version";

async fn version(connection: &mut PgConnection, sql: &'static str) -> Result<i64, Error> {
    let rows = connection
        .fetch_all(sqlx::raw_sql(sql))
        .await
        .map_err(Error::database("looking whether somebody is erased"))?;
    rows.last().map_or(Ok(0), |row| row.try_get(0)).map_err(Error::database("looking whether somebody is erased"))
}

/// What [`hold`] says, for who writes by one statement.
pub const HOLDING: &str = "select pg_advisory_xact_lock_shared(hashtext('c360.erasures'))";

/// Keeps erasures out until the end of this transaction, for who writes nothing that a source says now.
pub async fn hold(transaction: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(HOLDING).execute(transaction).await.map_err(Error::database("keeping erasures out"))?;
    Ok(())
}

/// Whether a customer of this email and this (system, id) is erased, for who asks about one and holds erasures out: of all
/// others nothing is read.
pub async fn is_erased(
    transaction: &mut PgConnection,
    seal: &Seal,
    email: &str,
    (system, external_id): (&str, &str),
) -> Result<bool, Error> {
    let key = seal.erasure_key();
    let digests = key.of_email(email).into_iter().chain([key.of_id(system, external_id)]);
    sqlx::query_scalar("select exists (select from staging.erased where digest = any ($1))")
        .bind(digests.map(|digest| digest.to_vec()).collect::<Vec<_>>())
        .fetch_one(transaction)
        .await
        .map_err(Error::database("looking whether somebody is erased"))
}

/// Waits until nobody lands, merges or folds, and keeps everybody from it until the end of this transaction.
pub async fn hold_alone(transaction: &mut PgConnection) -> Result<(), Error> {
    frozen::end(transaction).await?;
    sqlx::query("select pg_advisory_xact_lock(hashtext('c360.erasures'))")
        .execute(transaction)
        .await
        .map_err(Error::database("waiting to erase"))?;
    Ok(())
}

/// Adds digests, or takes them back. Only under [`hold_alone`].
pub async fn change(transaction: &mut PgConnection, digests: &[Vec<u8>], erased: bool) -> Result<(), Error> {
    let sql = if erased {
        "insert into staging.erased (digest) select unnest($1::bytea[]) on conflict do nothing"
    } else {
        "delete from staging.erased where digest = any ($1)"
    };
    let database = || Error::database("noting who is erased");
    sqlx::query(sql).bind(digests).execute(&mut *transaction).await.map_err(database())?;
    sqlx::query("update staging.erasure_version set version = version + 1")
        .execute(transaction)
        .await
        .map_err(database())?;
    Ok(())
}
