//! Raw records.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use model::{Entity, ExternalId};
use sqlx::{PgConnection, Row};

use super::{Person, Seen, execute};
use crate::erased::{Erased, Rewritten, Said, Verdict};
use crate::{Error, constant_sql};

/// Staged records that are about a person, or name one.
#[derive(Debug, Default)]
pub struct Records {
    /// By batch and ordinal: those that go, and of those that stay without the person what they say.
    becomes: BTreeMap<(i64, i32), Option<Rewritten>>,
    /// Systems and ids of what may say by now what these records said: theirs, and those that a change of primary key gave to
    /// any.
    pub said: BTreeSet<(String, String)>,
}

impl Records {
    /// Finds them, or with `seen` what has landed since. `erased` knows this person alone. Reads only: whoever lands or merges
    /// meanwhile never waits for it.
    pub async fn find(
        &mut self,
        connection: &mut PgConnection,
        person: &Person,
        erased: &Erased,
        seen: Option<&Seen>,
    ) -> Result<(), Error> {
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
            .bind(seen.map(|seen| seen.batches.as_slice()))
            .fetch(connection);
        while let Some(row) = rows.try_next().await.map_err(Error::database("reading what is to be erased"))? {
            let Some(entity) = Entity::parse(row.get("entity")) else { continue };
            let source: &str = row.get("source");
            let moved_to = row.get::<Option<&str>, _>("moved_to").and_then(ExternalId::from_json);
            let verdict = erased.judge(&Said {
                source,
                entity,
                external_id: row.get("external_id"),
                moved_to: moved_to.as_ref(),
                email: row.get("email"),
                attributes: row.get("attributes"),
                payload: row.get("payload"),
            });
            self.said.extend(moved_to.map(|id| (source.to_owned(), id.as_str().to_owned())));
            let becomes = match verdict {
                Verdict::Keep => continue,
                Verdict::Skip => None,
                Verdict::Rewrite(rewritten) => Some(rewritten),
            };
            self.said.insert((source.to_owned(), row.get("external_id")));
            self.becomes.insert((row.get("batch_id"), row.get("ordinal")), becomes);
        }
        Ok(())
    }

    /// Removes them, or rewrites them; returns how many. `erased` knows this person alone.
    pub async fn apply(&self, connection: &mut PgConnection, erased: &Erased) -> Result<u64, Error> {
        let skipped: Vec<(i64, i32)> =
            self.becomes.iter().filter(|(_, becomes)| becomes.is_none()).map(|(place, _)| *place).collect();
        let rewritten: Vec<_> =
            self.becomes.iter().filter_map(|(place, becomes)| Some((*place, becomes.as_ref()?))).collect();
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
