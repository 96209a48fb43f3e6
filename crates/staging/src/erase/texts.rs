//! What others say, in which a person may be named.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use sqlx::PgConnection;

use super::{Person, Records, Seen, execute};
use crate::{Erased, Error, constant_sql};

/// A table in which others say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// What it is called.
    pub name: &'static str,
    /// The columns of its primary key, with their types.
    pub key: &'static [(&'static str, &'static str)],
    /// Which rows `t` a search may not have seen that saw what was written before `$2`. In `said (system, external_id)` are all
    /// that records may have been merged into which name the person.
    pub newer: &'static str,
}

/// A column of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Says {
    /// The table.
    pub table: Table,
    /// The column.
    pub column: &'static str,
    /// Its type.
    pub kind: &'static str,
}

/// Rows of one table by their keys, each as a JSON list.
pub type Keys = BTreeSet<String>;

impl Table {
    /// What is true of the row `t` that this JSON list, as text, is the key of; by types, so that the index is used.
    pub fn is(&self, key: &str) -> String {
        let columns = self.key.iter().enumerate();
        let same = columns.map(|(place, (column, kind))| format!("t.{column} = ({key}::jsonb ->> {place})::{kind}"));
        same.collect::<Vec<_>>().join(" and ")
    }

    fn key(&self) -> String {
        let columns: Vec<String> = self.key.iter().map(|(column, _)| format!("t.{column}")).collect();
        format!("jsonb_build_array({})::text", columns.join(", "))
    }
}

/// The rows in which a person is named, or of those only the ones that may be newer than what was seen, and than these records.
/// `erased` knows this person alone.
pub async fn naming(
    connection: &mut PgConnection,
    person: &Person,
    erased: &Erased,
    Says { table, column, .. }: &Says,
    newer_than: Option<(&Seen, &Records)>,
) -> Result<Keys, Error> {
    let newer = newer_than.map_or("true", |_| table.newer);
    let sql = format!(
        "with said as materialized (
             select system, external_id from unnest($3::text[], $4::text[]) as s (system, external_id)
             where $2::timestamptz is not null
         )
         select {key}, t.{column}::text
         from {name} t
         where {newer}
           and exists (select from unnest($1::text[]) as p (piece) where strpos(lower(t.{column}::text), p.piece) > 0)",
        key = table.key(),
        name = table.name,
    );
    let said = newer_than.into_iter().flat_map(|(_, records)| &records.said);
    let (systems, external_ids): (Vec<&str>, Vec<&str>) =
        said.map(|(system, external_id)| (system.as_str(), external_id.as_str())).unzip();
    let mut rows = sqlx::query_as(constant_sql(sql))
        .bind(person.pieces())
        .bind(newer_than.map(|(seen, _)| seen.before))
        .bind(systems)
        .bind(external_ids)
        .fetch(connection);
    let mut keys = Keys::new();
    while let Some((key, says)) = rows.try_next().await.map_err(Error::database("reading who is named"))? {
        let (key, says): (String, String) = (key, says);
        if erased.has_email(&says) || erased.redact(&says).is_some() {
            keys.insert(key);
        }
    }
    Ok(keys)
}

/// Takes a person's emails, however they are written, out of what these rows say by now. Emails lie between quotes and spaces,
/// so the values around them stay what they are. Returns of which rows.
pub async fn redact(
    connection: &mut PgConnection,
    erased: &Erased,
    Says { table, column, kind }: &Says,
    keys: &Keys,
) -> Result<Keys, Error> {
    let (name, is) = (table.name, table.is("k.key"));
    let sql = format!(
        "select k.key, t.{column}::text
         from unnest($1::text[]) as k (key)
         join {name} t on {is}
         where t.{column} is not null"
    );
    let said: Vec<(String, String)> = sqlx::query_as(constant_sql(sql))
        .bind(keys.iter().collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await
        .map_err(Error::database("reading who is named"))?;
    let redacted = said.into_iter().filter_map(|(key, says)| Some((key, erased.redact(&says)?)));
    let (keys, values): (Vec<String>, Vec<String>) = redacted.unzip();
    let sql = format!(
        "update {name} t set {column} = k.value::{kind}
         from unnest($1::text[], $2::text[]) as k (key, value)
         where {is}"
    );
    execute(sqlx::query(constant_sql(sql)).bind(&keys).bind(values), connection).await?;
    Ok(keys.into_iter().collect())
}
