//! What a rebuild would change, found by reading alone: who has another match key now is noted in a temporary table.

use std::collections::HashSet;
use std::sync::Arc;

use model::MatchKey;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::types::Uuid;
use tokio_util::sync::CancellationToken;

use super::{CAUSE, WINDOW, strays};
use crate::dirty::Window;
use crate::error::database;
use crate::fold::{look, parts};
use crate::matching::Matching;
use crate::{Change, Error, ProfileChange, Rules};

/// What a rebuild would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// Profiles that would appear.
    pub appear: u64,
    /// Profiles that would vanish.
    pub vanish: u64,
    /// Profiles that would have other values.
    pub change: u64,
    /// Some of them.
    pub samples: Vec<ProfileChange>,
    /// Whether it was cancelled before the end.
    pub is_cut_off: bool,
}

/// Says what a rebuild would change, with up to `samples` examples of each kind. Beside a consolidator at work it is a view
/// of a moment that passes.
pub async fn foresee(
    options: &PgConnectOptions,
    rules: &Rules,
    samples: usize,
    cancel: &CancellationToken,
) -> Result<Foreseen, Error> {
    let mut connection = staging::connect(options).await?;
    let matching = Matching::read(&mut connection, rules).await?;
    let mut looking = Looking { foreseen: Foreseen::default(), seen: HashSet::new(), samples };
    note_strays(&mut connection, &matching, cancel).await?;
    let mut after = String::new();
    while !cancel.is_cancelled() {
        let keys = keys(&mut connection, &after).await?;
        let Some(last) = keys.last() else { break };
        after.clone_from(last);
        looking.add(&mut connection, &matching, keys).await?;
    }
    let mut after = Uuid::nil();
    while !cancel.is_cancelled() {
        let customers = customers(&mut connection, after).await?;
        let Some((last, ..)) = customers.last() else { break };
        after = *last;
        looking.add_without_anybody(&mut connection, &matching, customers).await?;
    }
    looking.foreseen.is_cut_off = cancel.is_cancelled();
    Ok(looking.foreseen)
}

struct Looking {
    foreseen: Foreseen,
    /// Who is counted, or is not to be: customers to whom several match keys lead come more than once.
    seen: HashSet<Uuid>,
    samples: usize,
}

impl Looking {
    async fn add(
        &mut self,
        connection: &mut PgConnection,
        matching: &Matching<'_>,
        keys: Vec<String>,
    ) -> Result<(), Error> {
        let cause: Arc<str> = CAUSE.into();
        let window: Window = keys.into_iter().map(|key| (MatchKey::from_stored(key), Arc::clone(&cause))).collect();
        for part in parts(&window, &matching.decisions) {
            let looked = look(connection, matching, &part).await?;
            looked.changes.into_iter().for_each(|change| self.count(change));
            self.seen.extend(looked.misnamed);
        }
        Ok(())
    }

    /// Those of these customers whose match key nobody has, and those whose row is not at the id of its match key.
    async fn add_without_anybody(
        &mut self,
        connection: &mut PgConnection,
        matching: &Matching<'_>,
        customers: Vec<(Uuid, String, bool)>,
    ) -> Result<(), Error> {
        let mut keys = Vec::new();
        for (customer_id, match_key, has_somebody) in customers {
            let key = MatchKey::from_stored(match_key);
            if key.customer_id(matching.namespace) != customer_id {
                self.count(ProfileChange { customer_id, change: Change::Vanishes, attributes: Vec::new() });
            } else if !has_somebody {
                keys.push(key.as_str().to_owned());
            }
        }
        self.add(connection, matching, keys).await
    }

    fn count(&mut self, change: ProfileChange) {
        if !self.seen.insert(change.customer_id) {
            return;
        }
        let foreseen = &mut self.foreseen;
        let count = match change.change {
            Change::Appears => &mut foreseen.appear,
            Change::Vanishes => &mut foreseen.vanish,
            Change::Changes => &mut foreseen.change,
        };
        *count += 1;
        if *count <= self.samples as u64 {
            foreseen.samples.push(change);
        }
    }
}

/// Notes cross-references whose match key is another one than what is stored.
async fn note_strays(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    sqlx::query("create temporary table rebuild_strays (system text, external_id text, match_key text)")
        .execute(&mut *connection)
        .await
        .map_err(foreseeing())?;
    let mut after = Vec::new();
    while !cancel.is_cancelled() {
        let Some(found) = strays::next(connection, matching, &after).await? else { break };
        let strays = found.strays;
        after = found.last;
        sqlx::query("insert into rebuild_strays select * from unnest($1::text[], $2::text[], $3::text[])")
            .bind(strays.iter().map(|stray| stray.system.as_str()).collect::<Vec<_>>())
            .bind(strays.iter().map(|stray| stray.external_id.as_str()).collect::<Vec<_>>())
            .bind(strays.iter().map(|stray| stray.key.as_ref().ok().map(MatchKey::as_str)).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await
            .map_err(foreseeing())?;
    }
    sqlx::raw_sql("create index on rebuild_strays (match_key); analyze rebuild_strays")
        .execute(connection)
        .await
        .map_err(foreseeing())?;
    Ok(())
}

/// The next match keys that anybody has or would have, or a message names, behind this one.
async fn keys(connection: &mut PgConnection, after: &str) -> Result<Vec<String>, Error> {
    sqlx::query_scalar(
        "select key
         from (
             (select distinct match_key as key from customer360.xrefs
              where match_key > $1 and deleted_at is null order by key limit $2)
             union
             (select distinct match_key as key from rebuild_strays where match_key > $1 order by key limit $2)
             union
             (select distinct match_key as key from customer360.interaction_participants
              where match_key > $1 order by key limit $2)
         ) k
         order by key limit $2",
    )
    .bind(after)
    .bind(WINDOW)
    .fetch_all(connection)
    .await
    .map_err(foreseeing())
}

/// The next living customers, behind this one: id, match key, and whether anybody has that.
async fn customers(connection: &mut PgConnection, after: Uuid) -> Result<Vec<(Uuid, String, bool)>, Error> {
    sqlx::query_as(
        "with looked_at as materialized (
             select customer_id, match_key from customer360.customers
             where deleted_at is null and customer_id > $1 order by customer_id limit $2
         ),
         had as materialized (
             select distinct x.match_key
             from customer360.xrefs x
             join looked_at l on l.match_key = x.match_key
             where x.deleted_at is null
         )
         select l.customer_id, l.match_key, h.match_key is not null
         from looked_at l
         left join had h on h.match_key = l.match_key
         order by l.customer_id",
    )
    .bind(after)
    .bind(WINDOW)
    .fetch_all(connection)
    .await
    .map_err(foreseeing())
}

fn foreseeing() -> impl FnOnce(sqlx::Error) -> Error {
    database("looking what a rebuild would change")
}
