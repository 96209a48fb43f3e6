//! Removing what raw records, dead letters, polls and edits on their way hold of somebody who is being erased. Part of the
//! transaction of `consolidate::erase`, which knows who that is.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use model::{Entity, ExternalId};
use serde_json::Value;
use sqlx::{PgConnection, Row};

use crate::dead_letters::{Context, is_of_erased};
use crate::erased::{Erased, Rewritten, Said, Verdict};
use crate::{Error, Seal, constant_sql};

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

/// How many rows were removed, by table.
pub type Removed = BTreeMap<&'static str, u64>;

/// What others say, in which a person may be named: table, key, column and its type.
pub type Says = (&'static str, &'static str, &'static str, &'static str);

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

/// Staged records by batch and ordinal: those that go, and of those that stay without the person what they say.
pub type Records = BTreeMap<(i64, i32), Option<Rewritten>>;

/// The batches that have landed by now.
pub async fn landed(connection: &mut PgConnection) -> Result<Vec<i64>, Error> {
    sqlx::query_scalar("select batch_id from staging.batches")
        .fetch_all(connection)
        .await
        .map_err(Error::database("looking for what has landed"))
}

/// Finds staged records that are about a person, or name one. `erased` knows this person alone. With `seen`, only in other
/// batches than these. Reads only: whoever lands or merges meanwhile never waits for it.
pub async fn find(
    connection: &mut PgConnection,
    person: &Person,
    erased: &Erased,
    seen: Option<&[i64]>,
) -> Result<Records, Error> {
    let landed = match seen {
        Some(_) => {
            "r.batch_id = any (array(
                 select batch_id from staging.batches where batch_id not in (select unnest($4::bigint[]))))"
        }
        None => "$4::bigint[] is null",
    };
    let sql = format!(
        "with ids as materialized (
             select * from unnest($1::text[], $2::text[]) as i (system, external_id)
         )
         select r.batch_id, r.ordinal, r.source, r.entity, r.external_id, r.moved_to::text as moved_to, r.email,
                r.attributes::text as attributes, r.payload
         from staging.records r
         where {landed}
           and ((r.source, r.external_id) in (select system, external_id from ids)
             or r.moved_to is not null
             or r.entity = 'order'
                and (r.source, r.attributes ->> 'customer_external_id') in (select system, external_id from ids)
             -- to be looked at closely: emails can be written in many ways
             or exists (
                 select from unnest($3::text[]) as p (piece)
                 where strpos(lower(concat(r.email, ' ', r.attributes, ' ', r.payload)), p.piece) > 0))"
    );
    let mut rows = sqlx::query(constant_sql(sql))
        .bind(person.systems())
        .bind(person.external_ids())
        .bind(person.pieces())
        .bind(seen)
        .fetch(connection);
    let mut found = Records::new();
    while let Some(row) = rows.try_next().await.map_err(Error::database("reading what is to be erased"))? {
        let Some(entity) = Entity::parse(row.get("entity")) else { continue };
        let moved_to = row.get::<Option<&str>, _>("moved_to").and_then(ExternalId::from_json);
        let verdict = erased.judge(&Said {
            source: row.get("source"),
            entity,
            external_id: row.get("external_id"),
            moved_to: moved_to.as_ref(),
            email: row.get("email"),
            attributes: row.get("attributes"),
            payload: row.get("payload"),
        });
        let becomes = match verdict {
            Verdict::Keep => continue,
            Verdict::Skip => None,
            Verdict::Rewrite(rewritten) => Some(rewritten),
        };
        found.insert((row.get("batch_id"), row.get("ordinal")), becomes);
    }
    Ok(found)
}

/// Removes staged records, or rewrites them; returns how many. `erased` knows this person alone.
pub async fn apply(connection: &mut PgConnection, records: &Records, erased: &Erased) -> Result<u64, Error> {
    let skipped: Vec<(i64, i32)> =
        records.iter().filter(|(_, becomes)| becomes.is_none()).map(|(place, _)| *place).collect();
    let rewritten: Vec<_> = records.iter().filter_map(|(place, becomes)| Some((*place, becomes.as_ref()?))).collect();
    let rewrite = sqlx::query(
        "update staging.records r set email = w.email, attributes = w.attributes::json, payload = w.payload
         from unnest($1::bigint[], $2::integer[], $3::text[], $4::text[], $5::text[])
             as w (batch_id, ordinal, email, attributes, payload)
         where r.batch_id = w.batch_id and r.ordinal = w.ordinal",
    )
    .bind(rewritten.iter().map(|((batch_id, _), _)| *batch_id).collect::<Vec<_>>())
    .bind(rewritten.iter().map(|((_, ordinal), _)| *ordinal).collect::<Vec<_>>())
    .bind(rewritten.iter().map(|(_, says)| says.email.as_deref()).collect::<Vec<_>>())
    .bind(rewritten.iter().map(|(_, says)| says.attributes.as_str()).collect::<Vec<_>>())
    .bind(rewritten.iter().map(|(_, says)| says.payload.as_deref()).collect::<Vec<_>>());
    Ok(execute(rewrite, connection).await? + skip(connection, &skipped, erased).await?)
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

/// Removes staged records, by batch and ordinal, and counts them as skips of their batches. Those that are gone already are
/// counted already.
pub async fn skip(connection: &mut PgConnection, records: &[(i64, i32)], erased: &Erased) -> Result<u64, Error> {
    if records.is_empty() {
        return Ok(0);
    }
    let (batch_ids, ordinals): (Vec<i64>, Vec<i32>) = records.iter().copied().unzip();
    let gone: Vec<(i64, i32, String, String, String)> = sqlx::query_as(
        "delete from staging.records r
         using unnest($1::bigint[], $2::integer[]) as g (batch_id, ordinal)
         where r.batch_id = g.batch_id and r.ordinal = g.ordinal
         returning r.batch_id, r.ordinal, r.source, r.entity, r.external_id",
    )
    .bind(batch_ids)
    .bind(ordinals)
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::database("erasing staged records"))?;
    let left_out = |(_, _, source, entity, id): &(i64, i32, String, String, String)| {
        (entity == Entity::Customer.as_str() && !erased.has_id(source, id)).then(|| id.clone())
    };
    let count = sqlx::query(
        "with gone as materialized (
             select batch_id, count(*)::integer as records, array_agg(ordinal) as ordinals,
                    array_remove(array_agg(left_out), null) as left_out
             from unnest($1::bigint[], $2::integer[], $3::text[]) as g (batch_id, ordinal, left_out)
             group by batch_id
         )
         update staging.batches b
         set record_count = b.record_count - g.records, skipped_count = b.skipped_count + g.records,
             excluded = b.excluded || g.ordinals,
             left_out = case when b.import_id is null then b.left_out else b.left_out || g.left_out end
         from gone g
         where b.batch_id = g.batch_id",
    )
    .bind(gone.iter().map(|row| row.0).collect::<Vec<_>>())
    .bind(gone.iter().map(|row| row.1).collect::<Vec<_>>())
    .bind(gone.iter().map(left_out).collect::<Vec<_>>());
    execute(count, connection).await?;
    Ok(gone.len() as u64)
}

/// Removes what else this schema holds of a person, and says how many rows of which table. `erased` knows this person alone.
pub async fn rest(
    connection: &mut PgConnection,
    person: &Person,
    erased: &Erased,
    seal: &Seal,
    now: DateTime<Utc>,
) -> Result<Removed, Error> {
    let letters = discard(connection, erased, seal, now).await?;
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

/// Takes a person's emails, however they are written, out of what others say. Emails lie between quotes and spaces, so the
/// values around them stay what they are. Returns the keys of the rows, as JSON lists.
pub async fn redact(
    connection: &mut PgConnection,
    person: &Person,
    erased: &Erased,
    (table, key, column, kind): Says,
) -> Result<Vec<String>, Error> {
    let sql = format!(
        "select jsonb_build_array({key})::text, {column}::text
         from {table}
         where exists (
             select from unnest($1::text[]) as p (piece) where strpos(lower({column}::text), p.piece) > 0)"
    );
    let mut rows = sqlx::query_as(constant_sql(sql)).bind(person.pieces()).fetch(&mut *connection);
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    while let Some((key, says)) = rows.try_next().await.map_err(Error::database("reading who is named"))? {
        let (key, says): (String, String) = (key, says);
        if let Some(without) = erased.redact(&says) {
            keys.push(key);
            values.push(without);
        }
    }
    drop(rows);
    if !keys.is_empty() {
        let sql = format!(
            "update {table} t set {column} = w.value::{kind}
             from unnest($1::text[], $2::text[]) as w (key, value)
             where jsonb_build_array({key})::text = w.key"
        );
        execute(sqlx::query(constant_sql(sql)).bind(&keys).bind(values), connection).await?;
    }
    Ok(keys)
}

/// Discards the dead letters that hold a person, which have to be opened for that.
async fn discard(
    connection: &mut PgConnection,
    erased: &Erased,
    seal: &Seal,
    now: DateTime<Utc>,
) -> Result<u64, Error> {
    let (mut theirs, mut others, mut sealed): (Vec<i64>, Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = sqlx::query(
        "select dead_letter_id, source, external_id, payload, context from staging.dead_letters where payload <> ''",
    )
    .fetch(&mut *connection);
    while let Some(row) = rows.try_next().await.map_err(Error::database("reading dead letters"))? {
        let dead_letter_id: i64 = row.get("dead_letter_id");
        let source: &str = row.get("source");
        let id: Option<&str> = row.get("external_id");
        let is_theirs = id.is_some_and(|id| erased.has_id(source, id));
        // One that does not open, under another key, cannot be retried either.
        let Ok(payload) = seal.open(source, row.get("payload")) else {
            sealed.extend(is_theirs.then_some(dead_letter_id));
            continue;
        };
        let context = row.get::<Option<&[u8]>, _>("context").and_then(|context| seal.open(source, context).ok());
        let context: Option<Context> = context.and_then(|context| serde_json::from_slice(&context).ok());
        if is_of_erased(source, id, &payload, context.as_ref(), erased) {
            if is_theirs { theirs.push(dead_letter_id) } else { others.push(dead_letter_id) }
        }
    }
    drop(rows);
    let nameless = sqlx::query("update staging.dead_letters set external_id = null where dead_letter_id = any ($1)");
    execute(nameless.bind(sealed), connection).await?;
    // A member of a full export whose row names the person is a member all the same.
    let discard = sqlx::query(
        "update staging.dead_letters
         set state = 'discarded', payload = '', context = null, handled_at = $3,
             external_id = case when dead_letter_id = any ($2) then external_id end
         where dead_letter_id = any ($1 || $2)",
    );
    execute(discard.bind(&theirs).bind(&others).bind(now), connection).await
}

async fn execute(
    query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    connection: &mut PgConnection,
) -> Result<u64, Error> {
    Ok(query.execute(connection).await.map_err(Error::database("erasing staged data"))?.rows_affected())
}
