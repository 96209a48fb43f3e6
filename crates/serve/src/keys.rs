//! API keys: made once, shown once, kept as digests.
//!
//! A key is `c360_` with eight characters that name it and 43 that nobody can guess. The first thirteen are its prefix: what
//! people, lists and logs know it by.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use rand::RngCore as _;
use secrecy::SecretString;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::types::{Json, Uuid};
use sqlx::{PgConnection, PgPool};
use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::problem::Problem;
use crate::row_filter::RowFilter;

/// Revoking takes effect within this time, in every process.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// Between two looks for keys that are not known.
const PAUSE: Duration = Duration::from_millis(50);
const PREFIX_LENGTH: usize = 13;

/// What a key may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Writes on customers: notes, edits, lists.
    Agent,
    /// Everything: decides who is who, erases, and what is about sources and dead letters.
    Operator,
}

impl Role {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Agent => "agent",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let role = [Self::Viewer, Self::Agent, Self::Operator].into_iter().find(|role| role.as_str() == text);
        role.ok_or("a role is viewer, agent or operator")
    }
}

/// As it is stored: one of a newer version may at least do what everybody may.
impl From<String> for Role {
    fn from(word: String) -> Self {
        word.parse().unwrap_or(Self::Viewer)
    }
}

/// A key, without what is secret of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Key {
    /// The id under which the audit log knows it.
    pub key_id: Uuid,
    /// Who or what has it.
    pub name: String,
    /// Its beginning.
    pub prefix: String,
    /// What it may do.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// Whom it may see; `None`: everybody.
    #[serde(serialize_with = "shown")]
    #[sqlx(rename = "row_filter", json(nullable))]
    pub only: Option<RowFilter>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when it is not valid any more.
    pub expires_at: Option<DateTime<Utc>>,
    /// Since when it is not valid any more.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to a few seconds.
    pub last_used_at: Option<DateTime<Utc>>,
}

#[expect(clippy::ref_option, reason = "as serde calls it")]
fn shown<S: serde::Serializer>(only: &Option<RowFilter>, serializer: S) -> Result<S::Ok, S::Error> {
    only.as_ref().map(ToString::to_string).serialize(serializer)
}

/// A key that is to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Who or what is to have it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whom it may see; `None`: everybody.
    pub only: Option<RowFilter>,
    /// From when it is not valid any more.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An error of keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another valid key has this name.
    #[error("there is a key named `{0}`: revoke it first, or take another name")]
    Exists(String),
    /// No valid key has this name or prefix.
    #[error("there is no valid key `{0}`: `c360 keys list` shows them")]
    Unknown(String),
    /// A list of the row filter does not exist.
    #[error("there is no list `{0}`: make it first, or the key sees nobody")]
    NoSuchList(String),
    /// Postgres has no role under which requests with a row filter are answered.
    #[error(
        "the database has no role c360_limited that this user may take: run deploy/roles/owner.sql as a superuser, then `c360 migrate`"
    )]
    NoRole,
    /// The database refused or could not be reached.
    #[error(transparent)]
    Database(#[from] staging::Error),
}

fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| Error::Database(staging::Error::database(doing)(error))
}

const COLUMNS: &str = "key_id, name, prefix, role, row_filter, created_at, expires_at, revoked_at, last_used_at";

/// Makes a key. The secret is the only copy there will ever be.
pub async fn add(
    connection: &mut PgConnection,
    new: &NewKey,
    now: DateTime<Utc>,
) -> Result<(Key, SecretString), Error> {
    if let Some(only) = &new.only {
        check_filter(connection, only).await?;
    }
    if find(connection, &new.name).await?.is_some() {
        return Err(Error::Exists(new.name.clone()));
    }
    let mut random = [0; 38];
    rand::rng().fill_bytes(&mut random);
    let secret = format!("c360_{}{}", &hex::encode(&random[..4]), URL_SAFE_NO_PAD.encode(&random[6..]));
    let key = sqlx::query_as(staging::constant_sql(format!(
        "insert into customer360.api_keys (name, prefix, digest, role, row_filter, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7)
         returning {COLUMNS}"
    )))
    .bind(&new.name)
    .bind(&secret[..PREFIX_LENGTH])
    .bind(Sha256::digest(&secret).as_slice())
    .bind(new.role.as_str())
    .bind(new.only.as_ref().map(Json))
    .bind(now)
    .bind(new.expires_at)
    .fetch_one(connection)
    .await
    .map_err(database("making an API key"))?;
    Ok((key, secret.into()))
}

/// A filter has to have a role to be applied under, and its lists.
async fn check_filter(connection: &mut PgConnection, only: &RowFilter) -> Result<(), Error> {
    let can: bool = sqlx::query_scalar(
        "select coalesce(pg_has_role(to_regrole('c360_limited')::oid, 'member')
                         and has_schema_privilege(to_regrole('c360_limited')::oid, 'customer360', 'usage'), false)",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(database("looking for role c360_limited"))?;
    if !can {
        return Err(Error::NoRole);
    }
    for list in only.lists() {
        let exists: bool = sqlx::query_scalar("select exists (select from customer360.lists where name = $1)")
            .bind(list)
            .fetch_one(&mut *connection)
            .await
            .map_err(database("looking for a list"))?;
        if !exists {
            return Err(Error::NoSuchList(list.to_owned()));
        }
    }
    Ok(())
}

/// The valid key of this name or prefix.
async fn find(connection: &mut PgConnection, named: &str) -> Result<Option<Key>, Error> {
    sqlx::query_as(staging::constant_sql(format!(
        "select {COLUMNS} from customer360.api_keys where (name = $1 or prefix = $1) and revoked_at is null"
    )))
    .bind(named)
    .fetch_optional(connection)
    .await
    .map_err(database("looking for an API key"))
}

/// All keys, oldest first.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Key>, Error> {
    sqlx::query_as(staging::constant_sql(format!(
        "select {COLUMNS} from customer360.api_keys order by created_at, prefix"
    )))
    .fetch_all(connection)
    .await
    .map_err(database("listing API keys"))
}

/// Makes the key of this name or prefix invalid.
pub async fn revoke(connection: &mut PgConnection, named: &str, now: DateTime<Utc>) -> Result<Key, Error> {
    let revoked = sqlx::query_as(staging::constant_sql(format!(
        "update customer360.api_keys set revoked_at = $2
         where (name = $1 or prefix = $1) and revoked_at is null
         returning {COLUMNS}"
    )))
    .bind(named)
    .bind(now)
    .fetch_optional(connection)
    .await
    .map_err(database("revoking an API key"))?;
    revoked.ok_or_else(|| Error::Unknown(named.to_owned()))
}

/// What somebody presented.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// A key that may be used.
    Valid(Arc<Key>),
    /// One that has expired; only who has all of it reads that.
    Expired,
    /// Nothing that opens anything.
    Unknown,
}

/// The keys, as of a moment ago: a valid one costs no question to the database, and however many guess, it is asked a few
/// times a second.
pub(crate) struct Keyring {
    pool: PgPool,
    keys: RwLock<Option<Arc<Keys>>>,
    /// Held by who reads them: when the last try failed, and how, if it did.
    reading: Mutex<Option<(Instant, Problem)>>,
}

struct Keys {
    /// Before they were read.
    as_of: Instant,
    /// By prefix, with their digests.
    known: HashMap<String, (Vec<u8>, Arc<Key>)>,
}

impl Keyring {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, keys: RwLock::default(), reading: Mutex::default() }
    }

    /// Whose key this is. Whatever is refused was looked up after it was presented, and takes the same time.
    pub(crate) async fn find(&self, secret: &str, now: DateTime<Utc>) -> Result<Presented, Problem> {
        let presented_at = Instant::now();
        let recent = presented_at.checked_sub(FRESH_FOR).unwrap_or(presented_at);
        match self.keys(recent).await?.find(secret, now) {
            valid @ Presented::Valid(_) => Ok(valid),
            _ => Ok(self.keys(presented_at).await?.find(secret, now)),
        }
    }

    /// The key of this id, if it is valid.
    pub(crate) async fn of_id(&self, key_id: Uuid, now: DateTime<Utc>) -> Result<Option<Arc<Key>>, Problem> {
        let asked_at = Instant::now();
        let recent = asked_at.checked_sub(FRESH_FOR).unwrap_or(asked_at);
        match self.keys(recent).await?.of_id(key_id, now) {
            Some(key) => Ok(Some(key)),
            None => Ok(self.keys(asked_at).await?.of_id(key_id, now)),
        }
    }

    /// The keys as they were at this moment or later. Whoever waits for somebody else's try gets what that one gets: with the
    /// database away a try takes seconds, and so many of them, one after the other, would hold every connection of the server.
    async fn keys(&self, at: Instant) -> Result<Arc<Keys>, Problem> {
        let known = || self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let fresh = || known().filter(|keys| keys.as_of >= at);
        if let Some(keys) = fresh() {
            return Ok(keys);
        }
        let waits_since = Instant::now();
        let mut failed = self.reading.lock().await;
        if let Some(keys) = fresh() {
            return Ok(keys);
        }
        if let Some((failed_at, problem)) = &*failed
            && *failed_at >= waits_since
        {
            return Err(problem.clone());
        }
        if let Some(keys) = known() {
            tokio::time::sleep_until(keys.as_of + PAUSE).await;
        }
        match self.read().await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys.clone());
                Ok(keys)
            }
            Err(problem) => {
                *failed = Some((Instant::now(), problem.clone()));
                Err(problem)
            }
        }
    }

    async fn read(&self) -> Result<Keys, Problem> {
        #[derive(sqlx::FromRow)]
        struct Row {
            #[sqlx(flatten)]
            key: Key,
            digest: Vec<u8>,
        }
        let as_of = Instant::now();
        let mut session = self.pool.acquire().await.map_err(Problem::no_connection)?;
        let sql = format!("select {COLUMNS}, digest from customer360.api_keys where revoked_at is null");
        let rows: Vec<Row> = sqlx::query_as(staging::constant_sql(sql)).fetch_all(&mut *session).await?;
        let known = |Row { key, digest }| (key.prefix.clone(), (digest, Arc::new(key)));
        Ok(Keys { as_of, known: rows.into_iter().map(known).collect() })
    }
}

impl Keys {
    fn of_id(&self, key_id: Uuid, now: DateTime<Utc>) -> Option<Arc<Key>> {
        let (_, key) = self.known.values().find(|(_, key)| key.key_id == key_id)?;
        key.expires_at.is_none_or(|at| at > now).then(|| key.clone())
    }

    fn find(&self, secret: &str, now: DateTime<Utc>) -> Presented {
        let known = secret.get(..PREFIX_LENGTH).and_then(|prefix| self.known.get(prefix));
        let (expected, key) = match known {
            Some((digest, key)) => (digest.as_slice(), Some(key)),
            None => ([0; 32].as_slice(), None),
        };
        let is_right: bool = Sha256::digest(secret).as_slice().ct_eq(expected).into();
        match key {
            Some(key) if is_right && key.expires_at.is_some_and(|at| at <= now) => Presented::Expired,
            Some(key) if is_right => Presented::Valid(key.clone()),
            _ => Presented::Unknown,
        }
    }
}
