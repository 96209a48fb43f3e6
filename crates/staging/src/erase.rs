//! Removing what raw records, dead letters, polls and edits on their way hold of somebody who is being erased. Part of the
//! transaction of `consolidate::erase`, which knows who that is.

mod letters;
mod records;
mod texts;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::{Erased, Error};

pub use letters::Letters;
pub use records::{Records, skip};
pub use texts::{Keys, Says, Table, naming, redact};

/// Who is being erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// Emails, normalised.
    pub emails: Vec<String>,
    /// Ids by system.
    pub ids: Vec<(String, String)>,
    /// Orders by system.
    pub orders: Vec<(String, String)>,
}

impl Person {
    fn systems(&self) -> Vec<&str> {
        self.ids.iter().map(|(system, _)| system.as_str()).collect()
    }

    fn external_ids(&self) -> Vec<&str> {
        self.ids.iter().map(|(_, external_id)| external_id.as_str()).collect()
    }

    /// What a text in lower case holds that names one of the emails, however it is written: of the part before the `@` the
    /// longest piece that nobody writes with escapes. Empty where there is none.
    pub fn pieces(&self) -> Vec<&str> {
        let locals = self.emails.iter().filter_map(|email| email.split('@').next());
        let is_escaped = |letter: char| !letter.is_ascii_alphanumeric() && !"-._".contains(letter);
        locals.map(|local| local.split(is_escaped).max_by_key(|piece| piece.len()).unwrap_or_default()).collect()
    }
}

/// How many rows were removed, by table.
pub type Removed = BTreeMap<&'static str, u64>;

/// How far back of its beginning a search counts what it may not have seen, where only a time says so: transactions were under
/// way, and clocks differ.
const MARGIN: TimeDelta = TimeDelta::hours(1);

/// What a search has seen that looked through everything: the next one looks at what is newer. By numbers where there are some,
/// for whoever writes may have another clock.
#[derive(Debug)]
pub struct Seen {
    /// How often somebody was erased.
    erasures: i64,
    batches: Vec<i64>,
    letters: Vec<i64>,
    /// What has no numbers, as far as it was written before this time.
    pub before: DateTime<Utc>,
}

impl Seen {
    /// All that there is now, for a search that begins.
    pub async fn by_now(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<Self, Error> {
        let (erasures, batches, letters) = sqlx::query_as(
            "select (select version from staging.erasure_version),
                    array(select batch_id from staging.batches),
                    array(select dead_letter_id from staging.dead_letters where payload <> '')",
        )
        .fetch_one(connection)
        .await
        .map_err(Error::database("looking for what has landed"))?;
        Ok(Self { erasures, batches, letters, before: now - MARGIN })
    }

    /// Whether nobody was erased since: what was found in staged records is what they say without this person alone.
    pub async fn nobody_was_erased(&self, connection: &mut PgConnection) -> Result<bool, Error> {
        sqlx::query_scalar("select version = $1 from staging.erasure_version")
            .bind(self.erasures)
            .fetch_one(connection)
            .await
            .map_err(Error::database("looking whether somebody is erased"))
    }
}

/// What this schema holds of a person, as JSON: polls, edits on their way, and raw records that have not expired.
pub async fn kept(connection: &mut PgConnection, person: &Person) -> Result<[Vec<Value>; 3], Error> {
    let outbox = sqlx::query_scalar(
        "select to_jsonb(o) from staging.outbox o
         where o.match_key = any ($3)
            or (o.system, o.external_id) in (select * from unnest($1::text[], $2::text[]))
         order by o.edited_at, o.edit_id",
    )
    .bind(person.systems())
    .bind(person.external_ids())
    .bind(&person.emails)
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::database("reading what is on its way of a person"))?;
    let polls = sqlx::query_scalar(
        "select to_jsonb(p) - 'validators' from staging.polls p where p.match_key = any ($1) order by p.source",
    )
    .bind(&person.emails)
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::database("reading what is polled of a person"))?;
    let records = sqlx::query_scalar(
        "with ids as materialized (
             select * from unnest($1::text[], $2::text[]) as i (system, external_id)
         )
         select jsonb_build_object(
                    'source', r.source, 'entity', r.entity, 'operation', r.operation, 'external_id', r.external_id,
                    'observed_at', r.observed_at, 'landed_at', r.landed_at, 'expires_at', r.expires_at, 'payload', r.payload)
         from staging.records r
         where r.entity = 'customer' and (r.source, r.external_id) in (select system, external_id from ids)
            or r.entity = 'order'
               and (r.source, r.attributes ->> 'customer_external_id') in (select system, external_id from ids)
         order by r.landed_at, r.batch_id, r.ordinal",
    )
    .bind(person.systems())
    .bind(person.external_ids())
    .fetch_all(connection)
    .await
    .map_err(Error::database("reading what is staged of a person"))?;
    Ok([polls, outbox, records])
}

/// Removes what else this schema holds of a person, and these letters, and says how many rows of which table. `erased` knows
/// this person alone.
pub async fn rest(
    connection: &mut PgConnection,
    person: &Person,
    erased: &Erased,
    letters: &Letters,
    now: DateTime<Utc>,
) -> Result<Removed, Error> {
    let letters = letters.discard(connection, now).await?;
    for sql in [
        "update staging.batches b
         set left_out = array(
             select id from unnest(b.left_out) as id
             where (b.source, id) not in (select * from unnest($1::text[], $2::text[])))
         where b.left_out && $2 and b.source = any ($1)",
        // Of those that are settled; what their ids are of is not known any more.
        "update staging.dead_letters d set external_id = null
         from unnest($1::text[], $2::text[]) as i (system, external_id)
         where d.source = i.system and d.external_id = i.external_id and d.payload = ''",
        "update staging.polls p set external_id = null, validators = '{}'
         from unnest($1::text[], $2::text[]) as i (system, external_id)
         where p.source = i.system and p.external_id = i.external_id",
    ] {
        execute(sqlx::query(sql).bind(person.systems()).bind(person.external_ids()), connection).await?;
    }
    let polls = sqlx::query("delete from staging.polls where match_key = any ($1)").bind(&person.emails);
    let polls = execute(polls, connection).await?;
    let ids = (person.systems(), person.external_ids());
    let outbox = crate::outbox::erase(&mut *connection, (&ids.0, &ids.1), &person.emails).await?;
    let redacted = crate::outbox::redact(&mut *connection, person, erased).await?;
    let listed = "delete from staging.listed_records l
         using unnest($1::text[], $2::text[]) as i (system, record_key)
         where l.source = i.system and l.record_key = i.record_key and l.entity = $3";
    let customers =
        execute(sqlx::query(listed).bind(person.systems()).bind(person.external_ids()).bind("customer"), connection)
            .await?;
    let (systems, order_ids): (Vec<&str>, Vec<&str>) =
        person.orders.iter().map(|(system, order_id)| (system.as_str(), order_id.as_str())).unzip();
    let orders = execute(sqlx::query(listed).bind(systems).bind(order_ids).bind("order"), connection).await?;
    Ok(Removed::from([
        ("staging.dead_letters", letters),
        ("staging.polls", polls),
        ("staging.outbox", outbox + redacted),
        ("staging.listed_records", customers + orders),
    ]))
}

async fn execute(
    query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    connection: &mut PgConnection,
) -> Result<u64, Error> {
    Ok(query.execute(connection).await.map_err(Error::database("erasing staged data"))?.rows_affected())
}
