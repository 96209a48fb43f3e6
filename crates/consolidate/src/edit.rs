//! What people say of customers: edits of attributes, which are rows of `customer360.edits` on the cross-reference that
//! supplied the value, and customers made by hand (`make.rs`). What a source takes of either is put on its way in the same
//! transaction: see `write_through.rs`.

mod make;
mod write_through;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use model::{Contributor, Edit, Survivorship};
use serde_json::{Value, json};
use sqlx::types::{Json, Uuid};
use sqlx::{Connection as _, PgConnection};

use crate::Error;
use crate::error::database;
use crate::merge::Move;

pub use make::{BY_HAND, Made, NewCustomer, make};
use write_through::Candidate;
pub use write_through::Takers;

/// What became of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edited {
    /// It is noted.
    Noted {
        /// The profile follows with this mark, see [`has_followed`].
        mark_id: i64,
        /// What is on its way to sources, see [`staging::outbox::of_edits`].
        outgoing: Vec<Uuid>,
    },
    /// Nobody living has this id.
    Unknown,
    /// The customer has another version than was meant, or will have by another edit that the profile has not followed yet.
    Changed,
}

/// Notes values for attributes of a customer, each on the cross-reference that supplied the value, or the group of which it
/// is one, and where none did on the best-ranked one. `None` takes an edit back. An edit stands until its source says
/// something else, of its own accord. Only of one of `versions`, if any are meant. What `takers` take is put on its way to
/// them.
pub async fn edit(
    connection: &mut PgConnection,
    (survivorship, takers): (&Survivorship, &Takers),
    customer_id: Uuid,
    attributes: &BTreeMap<String, Option<Value>>,
    versions: &[i64],
    by: &str,
    now: DateTime<Utc>,
) -> Result<Edited, Error> {
    let mut transaction = connection.begin().await.map_err(database("editing a customer"))?;
    staging::erased::hold(&mut transaction).await?;
    take_turns(&mut transaction, customer_id).await?;
    let wanted = attributes.iter().map(|(attribute, value)| {
        let group = survivorship.groups.iter().find(|group| group.contains(attribute));
        let ranked_by = group.and_then(|group| group.first()).unwrap_or(attribute);
        let own = survivorship.attributes.get(ranked_by).into_iter().flatten();
        let systems: Vec<&String> = own.chain(&survivorship.prefer).collect();
        json!({"attribute": attribute, "value": value, "removed": value.is_none(), "group": group, "systems": systems})
    });
    let (is_known, is_meant, mark_id, Json(candidates)): (bool, bool, Option<i64>, Json<Vec<Candidate>>) =
        sqlx::query_as(include_str!("edit/edit.sql"))
            .bind(customer_id)
            .bind(versions)
            .bind(wanted.collect::<Value>())
            .bind(now)
            .bind(by)
            .bind(Json(&takers.update))
            .fetch_one(&mut *transaction)
            .await
            .map_err(database("editing a customer"))?;
    let outgoing = write_through::update(&mut transaction, &candidates, takers, now).await?;
    staging::wake(&mut transaction, staging::LANDED_CHANNEL, None).await?;
    transaction.commit().await.map_err(database("editing a customer"))?;
    Ok(match (is_known, is_meant, mark_id) {
        (true, true, Some(mark_id)) => Edited::Noted { mark_id, outgoing },
        (true, ..) => Edited::Changed,
        _ => Edited::Unknown,
    })
}

/// Edits move with cross-references whose primary key was changed, in the order of the changes.
pub(crate) async fn follow(connection: &mut PgConnection, moves: &[Move<'_>]) -> Result<(), Error> {
    for Move { system, from, to } in moves {
        sqlx::query(
            "update customer360.edits e set external_id = $3
             where e.system = $1 and e.external_id = $2
               and not exists (select from customer360.edits n
                               where n.system = $1 and n.external_id = $3 and n.attribute = e.attribute)",
        )
        .bind(system)
        .bind(from)
        .bind(to)
        .execute(&mut *connection)
        .await
        .map_err(database("moving edits"))?;
    }
    Ok(())
}

/// Notes which edits these cross-references contradict by now: they do not stand again, whatever is said later.
pub(crate) async fn outdate<'c>(
    connection: &mut PgConnection,
    contributors: impl Iterator<Item = Contributor<'c>>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let outdated: Vec<Value> = contributors
        .flat_map(|xref| {
            let (system, external_id) = (xref.system, xref.external_id);
            let of_xref = move |(attribute, edit): (&str, &Edit)| {
                json!({"system": system, "external_id": external_id, "attribute": attribute, "replaced": edit.replaced,
                       "superseded": edit.superseded})
            };
            xref.newly_outdated().map(of_xref).collect::<Vec<_>>()
        })
        .collect();
    if outdated.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update customer360.edits e set outdated_at = $2
         from jsonb_to_recordset($1)
             as o (system text, external_id text, attribute text, replaced jsonb, superseded jsonb)
         where e.system = o.system and e.external_id = o.external_id and e.attribute = o.attribute
           -- It may have been edited meanwhile.
           and e.replaced = coalesce(o.replaced, 'null') and e.superseded = o.superseded and e.outdated_at is null",
    )
    .bind(Value::Array(outdated))
    .bind(now)
    .execute(connection)
    .await
    .map_err(database("noting outdated edits"))?;
    Ok(())
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

/// Of two who write on a customer the second waits here until the first has committed, and sees what that one has marked and
/// made.
async fn take_turns(transaction: &mut PgConnection, customer_id: Uuid) -> Result<(), Error> {
    sqlx::query("select pg_advisory_xact_lock(hashtext('c360.edits'), hashtext($1::text))")
        .bind(customer_id)
        .execute(transaction)
        .await
        .map_err(database("waiting for who writes on the customer"))?;
    Ok(())
}
