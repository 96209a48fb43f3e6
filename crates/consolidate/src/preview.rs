//! What records would change: they are merged and folded for real, and rolled back.
//!
//! Records that change nothing are found by reading alone, so looking at a replay of what is known locks nothing. The
//! others are applied together in one transaction at the end, which holds rows that a consolidator at work may wait for;
//! therefore they are limited.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use model::{Entity, ExternalId, MatchKey, Operation, Position, Record};
use sqlx::postgres::PgConnectOptions;
use sqlx::types::Uuid;
use sqlx::{Connection, PgConnection};
use staging::{ClaimedBatch, ClaimedImport, StagedRecord};

use crate::dirty::{self, Window};
use crate::error::database;
use crate::fold::{fold_part, parts};
use crate::matching::Matching;
use crate::merge::apply_customers;
use crate::{Error, Rules, migrate};

/// Records that are applied at most.
const LIMIT: usize = 100_000;
/// By this the changes of a preview are known, in the transaction that is rolled back.
const CAUSE: &str = "preview";
/// Folding can mark keys again, once for each decision on the way.
const ROUNDS: usize = 5;

/// What becomes of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// There would be a new one.
    Appears,
    /// It would be gone.
    Vanishes,
    /// Attributes of it would be other ones.
    Changes,
}

/// One profile that would change.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ProfileChange {
    /// The customer.
    pub customer_id: Uuid,
    /// What becomes of it.
    pub change: Change,
    /// The attributes that would be other ones; their values are nobody's business here.
    pub attributes: Vec<String>,
}

/// What would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// Customer records that are newer than what is known, or fill a gap in it.
    pub news: usize,
    /// Of these, so many were too many to be applied: of them it is not known which profiles they change.
    pub not_applied: usize,
    /// Of a full export: members that it lacks, who would leave. They count as news, too.
    pub leaving: usize,
    /// Profiles that would change, by id.
    pub profiles: Vec<ProfileChange>,
}

/// Of what a preview is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Messages that would be landed again.
    Replay,
    /// A file.
    File {
        /// Unchanged members are no news, and [`Preview::end_export`] says who has left.
        full_export: bool,
        /// Whether it would be imported again.
        again: bool,
    },
}

/// See the module.
pub struct Preview<'r> {
    connection: PgConnection,
    matching: Matching<'r>,
    /// Tells step 1 of what the records are.
    batch: ClaimedBatch,
    news: Vec<StagedRecord>,
    not_applied: usize,
    leaving: usize,
}

impl<'r> Preview<'r> {
    /// Begins a preview of records of one source.
    pub async fn begin(database: &PgConnectOptions, rules: &'r Rules, source: &str, of: Of) -> Result<Self, Error> {
        let mut connection = staging::connect(database).await?;
        migrate::ensure_change_partition(&mut connection, Utc::now()).await?;
        let matching = Matching::read(&mut connection, rules).await?;
        let now = Utc::now();
        let (is_again, full_export) = match of {
            Of::Replay => (true, None),
            Of::File { full_export, again } => (again, Some(full_export)),
        };
        let import =
            |full_export| ClaimedImport { import_id: 0, full_export, completes: false, as_of: now, mtime: now };
        let batch = ClaimedBatch {
            batch_id: 0,
            source: source.to_owned(),
            record_count: 0,
            landed_at: now,
            attempts: 0,
            is_again,
            import: full_export.map(import),
        };
        let mut preview = Self { connection, matching, batch, news: Vec::new(), not_applied: 0, leaving: 0 };
        if preview.is_full_export() {
            sqlx::query("create temporary table preview_members (external_id text not null)")
                .execute(&mut preview.connection)
                .await
                .map_err(database_error())?;
        }
        Ok(preview)
    }

    fn is_full_export(&self) -> bool {
        self.batch.import.as_ref().is_some_and(|import| import.full_export)
    }

    /// Notes members of a full export; [`Preview::add`] does so by itself with those whom it is given.
    pub async fn note_members(&mut self, external_ids: &[String]) -> Result<(), Error> {
        sqlx::query("insert into preview_members (external_id) select unnest($1::text[])")
            .bind(external_ids)
            .execute(&mut self.connection)
            .await
            .map_err(database_error())?;
        Ok(())
    }

    /// Ends a full export: whoever it lacks would leave, at the position of the file.
    pub async fn end_export(&mut self, position: Position, as_of: DateTime<Utc>) -> Result<(), Error> {
        sqlx::query("analyze preview_members").execute(&mut self.connection).await.map_err(database_error())?;
        let gone: Vec<String> = sqlx::query_scalar(
            "select x.external_id
             from customer360.xrefs x
             left join preview_members m on m.external_id = x.external_id
             where x.system = $1 and x.deleted_at is null and x.position < $2 and m.external_id is null",
        )
        .bind(&self.batch.source)
        .bind(position.as_bytes())
        .fetch_all(&mut self.connection)
        .await
        .map_err(database_error())?;
        self.leaving = gone.len();
        for external_id in gone {
            let leaves = StagedRecord {
                batch_id: 0,
                ordinal: i32::MAX,
                source: self.batch.source.clone(),
                entity: Entity::Customer,
                operation: Operation::Delete,
                external_id: ExternalId::from_parts(external_id, false),
                email: None,
                credential: None,
                position: position.clone(),
                observed_at: as_of,
                attributes: "{}".to_owned(),
                moved_to: None,
                payload: None,
            };
            self.keep(leaves);
        }
        Ok(())
    }

    fn keep(&mut self, news: StagedRecord) {
        if self.news.len() < LIMIT {
            self.news.push(news);
        } else {
            self.not_applied += 1;
        }
    }

    /// Takes records, in the order in which they would be landed.
    pub async fn add(&mut self, records: Vec<Record>) -> Result<(), Error> {
        let staged = (0..).zip(records).map(|(ordinal, record)| staged(&self.batch.source, ordinal, record));
        let staged: Vec<StagedRecord> = staged.filter(|record| record.entity == Entity::Customer).collect();
        let customers: Vec<&StagedRecord> = staged.iter().collect();
        if self.is_full_export() {
            let members: Vec<String> = staged.iter().map(|record| record.external_id.as_str().to_owned()).collect();
            self.note_members(&members).await?;
        }
        let mut applied = apply_customers(
            &mut self.connection,
            &self.matching,
            std::slice::from_ref(&self.batch),
            &customers,
            Utc::now(),
        )
        .await?;
        let changed: HashSet<String> =
            applied.slots.changed_mut().map(|(_, slot)| slot.xref.external_id.as_str().to_owned()).collect();
        let is_news = |record: &StagedRecord| {
            let ids = [Some(&record.external_id), record.moved_to.as_ref()];
            ids.into_iter().flatten().any(|id| changed.contains(id.as_str()))
        };
        for record in staged.into_iter().filter(is_news) {
            self.keep(record);
        }
        Ok(())
    }

    /// Says what would change.
    pub async fn finish(mut self) -> Result<Foreseen, Error> {
        let (news, not_applied, leaving) = (self.news.len() + self.not_applied, self.not_applied, self.leaving);
        if self.news.is_empty() {
            return Ok(Foreseen { news, not_applied, leaving, profiles: Vec::new() });
        }
        let now = Utc::now();
        let mut transaction = self.connection.begin().await.map_err(database_error())?;
        sqlx::query("select set_config('c360.foreseen', 'on', true)")
            .execute(&mut *transaction)
            .await
            .map_err(database_error())?;
        let customers: Vec<&StagedRecord> = self.news.iter().collect();
        let applied =
            apply_customers(&mut transaction, &self.matching, std::slice::from_ref(&self.batch), &customers, now)
                .await?;
        applied.slots.write(&mut transaction).await?;
        let touched: Vec<MatchKey> = applied.touched.into_iter().map(MatchKey::from_stored).collect();
        fold_within(&mut transaction, &self.matching, &touched, now).await?;
        let profiles = changes(&mut transaction, now).await?;
        transaction.rollback().await.map_err(database_error())?;
        Ok(Foreseen { news, not_applied, leaving, profiles })
    }
}

/// Folds keys in the caller's transaction, and what that marks again.
pub(crate) async fn fold_within(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    keys: &[MatchKey],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let before = dirty::newest(connection).await?;
    let cause: Arc<str> = CAUSE.into();
    let mut window: Window = keys.iter().map(|key| (key.clone(), Arc::clone(&cause))).collect();
    for _ in 0..ROUNDS {
        for part in parts(&window, &matching.decisions) {
            fold_part(connection, matching, &part, now).await?;
        }
        window = marked_since(connection, before, &cause).await?;
        if window.is_empty() {
            break;
        }
    }
    Ok(())
}

fn database_error() -> impl FnOnce(sqlx::Error) -> Error {
    database("looking at what would change")
}

fn staged(source: &str, ordinal: i32, record: Record) -> StagedRecord {
    let mapped = record.mapped;
    StagedRecord {
        batch_id: 0,
        ordinal,
        source: source.to_owned(),
        entity: mapped.entity,
        operation: record.operation,
        external_id: mapped.external_id,
        email: mapped.email,
        credential: mapped.credential,
        position: record.position,
        observed_at: record.observed_at,
        attributes: mapped.attributes,
        moved_to: record.moved_to,
        payload: None,
    }
}

/// Takes the marks that this transaction made while folding.
async fn marked_since(connection: &mut PgConnection, before: i64, cause: &Arc<str>) -> Result<Window, Error> {
    let keys: Vec<String> = sqlx::query_scalar(
        "with taken as (
             delete from customer360.dirty_marks where mark_id > $1 and cause = $2 returning match_keys
         )
         select unnest(match_keys) from taken",
    )
    .bind(before)
    .bind(CAUSE)
    .fetch_all(connection)
    .await
    .map_err(database("looking for marked match keys"))?;
    Ok(keys.into_iter().map(|key| (MatchKey::from_stored(key), Arc::clone(cause))).collect())
}

/// The history that this transaction wrote, by customer.
async fn changes(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<Vec<ProfileChange>, Error> {
    let changes: Vec<(Uuid, Option<String>, bool)> = sqlx::query_as(
        "select customer_id, attribute, new is null from customer360.changes where at = $1 and cause = $2
         order by customer_id, change_id",
    )
    .bind(now)
    .bind(CAUSE)
    .fetch_all(connection)
    .await
    .map_err(database("reading what would change"))?;
    let mut profiles: BTreeMap<Uuid, ProfileChange> = BTreeMap::new();
    for (customer_id, attribute, ends) in changes {
        let profile = profiles.entry(customer_id).or_insert_with(|| ProfileChange {
            customer_id,
            change: Change::Changes,
            attributes: Vec::new(),
        });
        match attribute {
            Some(attribute) if !profile.attributes.contains(&attribute) => profile.attributes.push(attribute),
            Some(_) => {}
            None => profile.change = if ends { Change::Vanishes } else { Change::Appears },
        }
    }
    Ok(profiles.into_values().collect())
}
