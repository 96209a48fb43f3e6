//! Edits of attributes by people: rows of `customer360.edits`, on the cross-reference that supplied the value.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use model::Survivorship;
use serde_json::{Value, json};
use sqlx::types::Uuid;
use sqlx::{Connection as _, PgConnection};

use crate::Error;
use crate::error::database;

/// What became of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// It is noted; the profile follows with this mark, see [`has_followed`].
    Noted(i64),
    /// Nobody living has this id.
    Unknown,
    /// The customer has another version than the one that was meant.
    Changed,
}

/// Notes values for attributes of a customer, each on the cross-reference that supplied the value, or the group of which it
/// is one, and where none did on the best-ranked one. `None` takes an edit back. An edit stands until its source says
/// something else. Only of `version`, if one is meant.
pub async fn edit(
    connection: &mut PgConnection,
    survivorship: &Survivorship,
    customer_id: Uuid,
    attributes: &BTreeMap<String, Option<Value>>,
    version: Option<i64>,
    by: &str,
    now: DateTime<Utc>,
) -> Result<Edited, Error> {
    let mut transaction = connection.begin().await.map_err(database("editing a customer"))?;
    staging::erased::hold(&mut transaction).await?;
    let wanted = attributes.iter().map(|(attribute, value)| {
        let group = survivorship.groups.iter().find(|group| group.contains(attribute));
        let ranked_by = group.and_then(|group| group.first()).unwrap_or(attribute);
        let own = survivorship.attributes.get(ranked_by).into_iter().flatten();
        let systems: Vec<&String> = own.chain(&survivorship.prefer).collect();
        json!({"attribute": attribute, "value": value, "removed": value.is_none(), "group": group, "systems": systems})
    });
    let (is_known, is_meant, mark_id): (bool, bool, Option<i64>) = sqlx::query_as(
        "with c as materialized (
             select customer_id, match_key, provenance, version from customer360.customers
             where customer_id = $1 and deleted_at is null
         ),
         meant as materialized (select * from c where $2::bigint is null or version = $2),
         wanted as materialized (
             select w ->> 'attribute' as attribute, w -> 'value' as value, (w -> 'removed')::boolean as removed,
                    array(select jsonb_array_elements_text(w -> 'systems')) as systems,
                    coalesce(m.provenance -> (w ->> 'attribute'),
                             (select m.provenance -> g from jsonb_array_elements_text(nullif(w -> 'group', 'null')) as g
                              where m.provenance ? g limit 1)) as supplier
             from meant m cross join jsonb_array_elements($3) as w
         ),
         candidates as materialized (
             select w.attribute, w.value, w.removed, x.system, x.external_id,
                    coalesce(x.attributes -> w.attribute, 'null') as says,
                    row_number() over (
                        partition by w.attribute
                        order by coalesce(w.supplier = jsonb_build_object('system', x.system,
                                                                          'external_id', x.external_id), false) desc,
                                 array_position(w.systems, x.system) nulls last, x.observed_at desc,
                                 x.system collate \"C\", x.external_id collate \"C\") as place
             from wanted w
             cross join (select x.* from customer360.xrefs x
                         where x.customer_id = (select customer_id from meant) and x.deleted_at is null) x
         ),
         -- Of two that stand, the older one must not win.
         taken_back as (
             delete from customer360.edits e using candidates a
             where e.system = a.system and e.external_id = a.external_id and e.attribute = a.attribute
               and (a.place > 1 or a.removed)
         ),
         noted as (
             insert into customer360.edits as e (system, external_id, attribute, value, replaced, at, by)
             select system, external_id, attribute, value, says, $4, $5 from candidates where place = 1 and not removed
             on conflict on constraint edits_pkey do update set
                 value = excluded.value, replaced = excluded.replaced, at = excluded.at, by = excluded.by
         ),
         marked as (
             insert into customer360.dirty_marks (match_keys, cause, marked_at)
             select array[match_key], 'edit', $4 from meant
             returning mark_id
         )
         select exists (select from c), exists (select from meant), (select mark_id from marked)",
    )
    .bind(customer_id)
    .bind(version)
    .bind(Value::from_iter(wanted))
    .bind(now)
    .bind(by)
    .fetch_one(&mut *transaction)
    .await
    .map_err(database("editing a customer"))?;
    sqlx::query("select pg_notify($1, '')")
        .bind(staging::LANDED_CHANNEL)
        .execute(&mut *transaction)
        .await
        .map_err(database("waking the consolidator"))?;
    transaction.commit().await.map_err(database("editing a customer"))?;
    Ok(match (is_known, is_meant, mark_id) {
        (true, true, Some(mark_id)) => Edited::Noted(mark_id),
        (true, ..) => Edited::Changed,
        _ => Edited::Unknown,
    })
}

/// Whether the profile has followed an edit.
pub async fn has_followed(connection: &mut PgConnection, mark_id: i64) -> Result<bool, Error> {
    let waits: bool = sqlx::query_scalar("select exists (select from customer360.dirty_marks where mark_id = $1)")
        .bind(mark_id)
        .fetch_one(connection)
        .await
        .map_err(database("waiting for a profile"))?;
    Ok(!waits)
}
