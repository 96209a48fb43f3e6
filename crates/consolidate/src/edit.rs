//! What people say of customers: edits of attributes, which are rows of `customer360.edits` on the cross-reference that
//! supplied the value, and customers made by hand. What a source takes of either is put on its way in the same transaction:
//! see `write_through.rs`.

mod write_through;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use model::{Contributor, Edit, MatchKey, Survivorship, Unmatched};
use serde_json::{Map, Value, json};
use sqlx::types::{Json, Uuid};
use sqlx::{Connection as _, PgConnection};
use staging::{Erased, Seal, outbox};

use crate::error::database;
use crate::matching::Matching;
use crate::{Error, Rules};

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
/// something else, of its own accord. Only of one of `versions`, if any are meant. What `takers` take is put on its way to them.
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
    let (is_known, is_meant, mark_id, Json(candidates)): (bool, bool, Option<i64>, Json<Vec<Candidate>>) = sqlx::query_as(
        "with c as materialized (
             select customer_id, match_key, provenance, version from customer360.customers
             where customer_id = $1 and deleted_at is null
         ),
         meant as materialized (
             select * from c
             where $2::bigint[] = '{}'
                or version = any ($2)
                   and not exists (select from customer360.dirty_marks m
                                   where m.cause = 'edit' and c.match_key = any (m.match_keys))
         ),
         wanted as materialized (
             select w ->> 'attribute' as attribute, w -> 'value' as value, (w -> 'removed')::boolean as removed,
                    array(select jsonb_array_elements_text(w -> 'systems')) as systems,
                    coalesce(m.provenance -> (w ->> 'attribute'),
                             (select m.provenance -> g from jsonb_array_elements_text(nullif(w -> 'group', 'null')) as g
                              where m.provenance ? g limit 1)) as supplier
             from meant m cross join jsonb_array_elements($3) as w
         ),
         candidates as materialized (
             select w.attribute, w.value, w.removed, x.system, x.external_id, x.match_key, x.email,
                    coalesce(x.attributes -> w.attribute, 'null') as says,
                    coalesce((select jsonb_build_array(e.value)
                                     || case when e.outdated_at is null then e.superseded else '[]' end
                              from customer360.edits e
                              where e.system = x.system and e.external_id = x.external_id
                                and e.attribute = w.attribute), '[]') as earlier,
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
             insert into customer360.edits as e (system, external_id, attribute, value, replaced, superseded, at, by)
             select system, external_id, attribute, value, says,
                    -- Only a source that takes edits may say what an earlier one has told it; to clear is to say nothing.
                    case when coalesce($6 -> system ? attribute, false) then
                        (select coalesce(jsonb_agg(distinct told), '[]')
                         from jsonb_array_elements(case when earlier ? '' then earlier || '[null]' else earlier end)
                             as e (told)
                         where told not in (says, value))
                    else '[]' end,
                    $4, $5
             from candidates where place = 1 and not removed
             on conflict on constraint edits_pkey do update set
                 value = excluded.value, replaced = excluded.replaced, superseded = excluded.superseded, at = excluded.at,
                 by = excluded.by, outdated_at = null
         ),
         -- One that was edited may have another match key already, by which it is about to move to another customer.
         marked as (
             insert into customer360.dirty_marks (match_keys, cause, marked_at)
             select array(select match_key union select a.match_key from candidates a where a.match_key is not null),
                    'edit', $4
             from meant
             returning mark_id
         )
         select exists (select from c), exists (select from meant), (select mark_id from marked),
                (select coalesce(jsonb_agg(a), '[]') from candidates a)",
    )
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
    wake(&mut transaction).await?;
    transaction.commit().await.map_err(database("editing a customer"))?;
    Ok(match (is_known, is_meant, mark_id) {
        (true, true, Some(mark_id)) => Edited::Noted { mark_id, outgoing },
        (true, ..) => Edited::Changed,
        _ => Edited::Unknown,
    })
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

/// The system whose cross-references are customers made by hand.
pub const BY_HAND: &str = "crm";

/// What became of a customer who was to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// There is a cross-reference, and a customer once the profile has followed this mark.
    Noted {
        /// The customer, who may have been there before.
        customer_id: Uuid,
        /// Whether the cross-reference was not there yet.
        is_new: bool,
        /// See [`has_followed`].
        mark_id: i64,
        /// What is on its way to sources, see [`staging::outbox::of_edits`].
        outgoing: Vec<Uuid>,
    },
    /// There is a cross-reference of this id already, of which something else was said.
    Reused,
    /// The email is nobody's, or would be if one more was made with it.
    Unmatched(Unmatched),
    /// The person was erased.
    Erased,
}

/// A customer who is to be made by hand.
#[derive(Clone, Copy, Debug)]
pub struct NewCustomer<'a> {
    /// What the cross-reference is called; the same again changes nothing, and something else is refused.
    pub external_id: &'a str,
    /// As it was written.
    pub email: &'a str,
    /// Attributes with a value.
    pub attributes: &'a Map<String, Value>,
}

/// Makes a customer by hand: a cross-reference of the system [`BY_HAND`], which counts as those of any other. The sources that
/// make customers are told to.
pub async fn make(
    connection: &mut PgConnection,
    (rules, takers): (&Rules, &Takers),
    seal: &Seal,
    new: NewCustomer<'_>,
    now: DateTime<Utc>,
) -> Result<Made, Error> {
    let doing = "making a customer";
    let mut transaction = connection.begin().await.map_err(database(doing))?;
    let mut erased = Erased::new(seal);
    erased.hold(&mut transaction).await?;
    if erased.has_email(new.email) || erased.has_id(BY_HAND, new.external_id) {
        return Ok(Made::Erased);
    }
    let matching = Matching::read(&mut transaction, rules).await?;
    let match_key = match matching.key(BY_HAND, new.external_id, Some(new.email)) {
        Ok(match_key) => match_key,
        Err(reason) => return Ok(Made::Unmatched(reason)),
    };
    take_turns(&mut transaction, matching.customer_id(&match_key)).await?;
    let inserted = sqlx::query(
        "insert into customer360.xrefs
             (system, external_id, match_key, email, external_id_json, attributes, position, observed_at, first_seen_at,
              last_seen_at)
         values ($1, $2, $3, $4, to_jsonb($2::text), $5, '', $6, $6, $6)
         on conflict on constraint xrefs_pkey do nothing",
    )
    .bind(BY_HAND)
    .bind(new.external_id)
    .bind(match_key.as_str())
    .bind(new.email)
    .bind(Value::Object(new.attributes.clone()))
    .bind(now)
    .execute(&mut *transaction)
    .await
    .map_err(database(doing))?;
    // The same once more is made already, or on its way.
    let is_new = inserted.rows_affected() > 0;
    if !is_new && !is_made(&mut transaction, new).await? {
        return Ok(Made::Reused);
    }
    if is_new && is_crowded(&mut transaction, &matching, &match_key).await? {
        return Ok(Made::Unmatched(Unmatched::Crowded));
    }
    let outgoing = if is_new {
        write_through::create(&mut transaction, &takers.create, &match_key, new, now).await?
    } else {
        outbox::creates_of(&mut *transaction, (BY_HAND, new.external_id)).await?
    };
    let mark_id = sqlx::query_scalar(
        "insert into customer360.dirty_marks (match_keys, cause, marked_at) values (array[$1], 'edit', $2)
         returning mark_id",
    )
    .bind(match_key.as_str())
    .bind(now)
    .fetch_one(&mut *transaction)
    .await
    .map_err(database(doing))?;
    wake(&mut transaction).await?;
    transaction.commit().await.map_err(database(doing))?;
    Ok(Made::Noted { customer_id: matching.customer_id(&match_key), is_new, mark_id, outgoing })
}

/// Whether the fold would leave out all who were made by hand with this match key, for there are too many.
async fn is_crowded(
    transaction: &mut PgConnection,
    matching: &Matching<'_>,
    match_key: &MatchKey,
) -> Result<bool, Error> {
    let living: i64 = sqlx::query_scalar(
        "select count(*) from customer360.xrefs where match_key = $1 and system = $2 and deleted_at is null",
    )
    .bind(match_key.as_str())
    .bind(BY_HAND)
    .fetch_one(transaction)
    .await
    .map_err(database("counting customers made by hand"))?;
    Ok(matching.is_crowded(match_key, usize::try_from(living).unwrap_or(usize::MAX)))
}

/// Whether the cross-reference that is there says what this customer is to be made with.
async fn is_made(transaction: &mut PgConnection, new: NewCustomer<'_>) -> Result<bool, Error> {
    sqlx::query_scalar(
        "select email is not distinct from $3 and attributes = $4 from customer360.xrefs
         where system = $1 and external_id = $2",
    )
    .bind(BY_HAND)
    .bind(new.external_id)
    .bind(new.email)
    .bind(Value::Object(new.attributes.clone()))
    .fetch_one(transaction)
    .await
    .map_err(database("looking for a customer made by hand"))
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

async fn wake(transaction: &mut PgConnection) -> Result<(), Error> {
    sqlx::query("select pg_notify($1, '')")
        .bind(staging::LANDED_CHANNEL)
        .execute(transaction)
        .await
        .map_err(database("waking the consolidator"))?;
    Ok(())
}
