//! Removing a person from this schema.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use model::Ruling;
use sqlx::PgConnection;
use sqlx::types::Uuid;
use staging::Erased;
use staging::erase::{self as staged, Removed};

use super::found::{CHANGES, EMAIL, Found, TAKES_PART};
use super::{Orders, erasing};
use crate::person::{Names, Person, key_of};
use crate::{Error, dirty, search};

/// An order, or an interaction, by system.
type Id = (String, String);

/// Rows that go, by table; statements, which follow a common table, take what they need of [`Names`].
const GO: [(&str, &str); 9] = [
    (
        "customer360.xrefs",
        "delete from customer360.xrefs x using ids i where x.system = i.system and x.external_id = i.external_id",
    ),
    ("customer360.customers", "delete from customer360.customers where customer_id = any ($3)"),
    ("customer360.customer_search", "delete from customer360.customer_search where customer_id = any ($3)"),
    ("customer360.entries", "delete from customer360.entries where customer_id = any ($3)"),
    ("customer360.list_members", "delete from customer360.list_members where customer_id = any ($3)"),
    (
        "customer360.edits",
        "delete from customer360.edits e using ids i where e.system = i.system and e.external_id = i.external_id",
    ),
    (
        "customer360.redirects",
        // Of those whom a merge leads elsewhere only what their cross-reference says.
        ", left_behind as (
             update customer360.redirects set system = null, external_id = null, followed_to = null
             where customer_id <> all ($3) and decided_to <> all ($3)
               and (followed_to = any ($3) or (system, external_id) in (select system, external_id from ids))
         )
         delete from customer360.redirects
         where customer_id = any ($3) or to_customer_id = any ($3)
            or decided_to is null and (system, external_id) in (select system, external_id from ids)",
    ),
    (
        "customer360.dirty_marks",
        "update customer360.dirty_marks
         set match_keys = array(select key from unnest(match_keys) as k (key) where key <> all ($4))
         where match_keys && $4",
    ),
    ("customer360.changes", "delete from customer360.changes where customer_id = any ($3)"),
];

/// Removes a person, and says how many rows of which table, and which orders they had.
pub(super) async fn remove(
    transaction: &mut PgConnection,
    person: &Person,
    found: &Found,
    erased: &Erased,
    orders: Orders,
    now: DateTime<Utc>,
) -> Result<(Removed, Vec<Id>), Error> {
    let names = person.names();
    let mut removed = Removed::new();
    let theirs = remove_orders(transaction, &names, orders, &mut removed).await?;
    remove_participation(transaction, &names, found, erased, &mut removed).await?;
    remove_decisions(transaction, person, &mut removed).await?;
    for (table, statement) in GO {
        let done = names.about(statement).execute(&mut *transaction).await.map_err(erasing())?;
        removed.insert(table, done.rows_affected());
    }
    *removed.entry("customer360.changes").or_default() += remove_changes(transaction, found).await?;
    redact(transaction, found, erased, now, &mut removed).await?;
    *removed.entry("customer360.xrefs").or_default() += clear_emails(transaction, found, erased, now).await?;
    Ok((removed, theirs))
}

/// Their orders, by the cross-reference that they name or the customer whom they are attached to.
async fn remove_orders(
    transaction: &mut PgConnection,
    names: &Names,
    orders: Orders,
    removed: &mut Removed,
) -> Result<Vec<Id>, Error> {
    let theirs: Vec<Id> = sqlx::query_as(
        "with ids as materialized (
             select * from unnest($1::text[], $2::text[]) as i (system, external_id)
         )
         select system, order_id from customer360.orders where customer_id = any ($3)
         union
         select o.system, o.order_id
         from customer360.orders o
         join ids i on i.system = o.system and i.external_id = o.customer_external_id",
    )
    .bind(&names.systems)
    .bind(&names.external_ids)
    .bind(&names.customers)
    .fetch_all(&mut *transaction)
    .await
    .map_err(erasing())?;
    let statements: &[(&'static str, &'static str)] = match orders {
        Orders::Delete => &[
            (
                "customer360.order_lines",
                "delete from customer360.order_lines l using unnest($1::text[], $2::text[]) as t (system, order_id)
                 where l.system = t.system and l.order_id = t.order_id",
            ),
            (
                "customer360.orders",
                "delete from customer360.orders o using unnest($1::text[], $2::text[]) as t (system, order_id)
                 where o.system = t.system and o.order_id = t.order_id",
            ),
        ],
        Orders::Anonymise => &[(
            "customer360.orders",
            "update customer360.orders o set customer_external_id = null, customer_id = null, document = 'null'
             from unnest($1::text[], $2::text[]) as t (system, order_id)
             where o.system = t.system and o.order_id = t.order_id",
        )],
    };
    let (systems, order_ids): (Vec<&str>, Vec<&str>) =
        theirs.iter().map(|(system, order_id)| (system.as_str(), order_id.as_str())).unzip();
    for (table, sql) in statements {
        let done =
            sqlx::query(*sql).bind(&systems).bind(&order_ids).execute(&mut *transaction).await.map_err(erasing())?;
        removed.insert(table, done.rows_affected());
    }
    Ok(theirs)
}

/// Takes a person out of interactions; those without anybody else go.
async fn remove_participation(
    transaction: &mut PgConnection,
    names: &Names,
    found: &Found,
    erased: &Erased,
    removed: &mut Removed,
) -> Result<(), Error> {
    let mut left: Vec<Id> = sqlx::query_as(
        "delete from customer360.interaction_participants
         where match_key = any ($1) or customer_id = any ($2)
         returning system, interaction_id",
    )
    .bind(&names.keys)
    .bind(&names.customers)
    .fetch_all(&mut *transaction)
    .await
    .map_err(erasing())?;
    left.extend(remove_unmatched(transaction, found, erased).await?);
    removed.insert("customer360.interaction_participants", left.len() as u64);
    let (systems, ids): (Vec<String>, Vec<String>) = left.into_iter().unzip();
    let gone = sqlx::query(
        "with left_by as materialized (
             select distinct system, interaction_id from unnest($1::text[], $2::text[]) as l (system, interaction_id)
         ),
         peopled as materialized (
             select distinct p.system, p.interaction_id
             from customer360.interaction_participants p
             join left_by l on l.system = p.system and l.interaction_id = p.interaction_id
         )
         delete from customer360.interactions i
         using left_by l
         where i.system = l.system and i.interaction_id = l.interaction_id
           and (i.system, i.interaction_id) not in (select system, interaction_id from peopled)",
    )
    .bind(&systems)
    .bind(&ids)
    .execute(&mut *transaction)
    .await
    .map_err(erasing())?;
    removed.insert("customer360.interactions", gone.rows_affected());
    Ok(())
}

/// Those who take part without a match key, because it is blocked, by what they are called. Returns in what.
async fn remove_unmatched(transaction: &mut PgConnection, found: &Found, erased: &Erased) -> Result<Vec<Id>, Error> {
    let is = TAKES_PART.table.is("k.key");
    let unmatched = format!(
        "select k.key, t.email
         from unnest($1::text[]) as k (key)
         join customer360.interaction_participants t on {is}
         where t.match_key is null"
    );
    let unmatched: Vec<(String, String)> = sqlx::query_as(staging::constant_sql(unmatched))
        .bind(found.naming(&TAKES_PART))
        .fetch_all(&mut *transaction)
        .await
        .map_err(erasing())?;
    let theirs: Vec<String> =
        unmatched.into_iter().filter(|(_, email)| erased.has_email(email)).map(|(key, _)| key).collect();
    let remove = format!(
        "delete from customer360.interaction_participants t
         using unnest($1::text[]) as k (key)
         where {is}
         returning t.system, t.interaction_id"
    );
    sqlx::query_as(staging::constant_sql(remove)).bind(theirs).fetch_all(transaction).await.map_err(erasing())
}

/// What others' profiles had of the person.
async fn remove_changes(transaction: &mut PgConnection, found: &Found) -> Result<u64, Error> {
    let remove = format!(
        "delete from customer360.changes t using unnest($1::text[]) as k (key) where {is}",
        is = CHANGES.is("k.key")
    );
    let keys: Vec<&String> = found.changes.iter().collect();
    let done = sqlx::query(staging::constant_sql(remove)).bind(keys).execute(transaction).await.map_err(erasing())?;
    Ok(done.rows_affected())
}

/// Takes a person's emails out of what others say. Their profiles are folded anew: one may have lost a whole value by it.
async fn redact(
    transaction: &mut PgConnection,
    found: &Found,
    erased: &Erased,
    now: DateTime<Utc>,
    removed: &mut Removed,
) -> Result<(), Error> {
    let mut redacted = BTreeSet::new();
    // What would be left of the email of a cross-reference is cleared.
    for (says, keys) in found.named.iter().filter(|(says, _)| **says != EMAIL) {
        let keys = staged::redact(transaction, erased, says, keys).await?;
        redacted.extend(keys.into_iter().map(|key| (says.table.name, key)));
    }
    let (mut customers, mut systems, mut external_ids) = (Vec::new(), Vec::new(), Vec::new());
    for (table, key) in redacted {
        *removed.entry(table).or_default() += 1;
        let key: Vec<String> = serde_json::from_str(&key).unwrap_or_default();
        match (table, key.as_slice()) {
            ("customer360.customers", [id]) => customers.extend(Uuid::parse_str(id)),
            ("customer360.xrefs" | "customer360.edits", [system, external_id, ..]) => {
                systems.push(system.clone());
                external_ids.push(external_id.clone());
            }
            _ => {}
        }
    }
    search::keep(transaction, &customers, &[]).await?;
    let keys: Vec<String> = sqlx::query_scalar(
        "select distinct x.match_key
         from customer360.xrefs x
         join unnest($1::text[], $2::text[]) as r (system, external_id)
             on r.system = x.system and r.external_id = x.external_id
         where x.match_key is not null",
    )
    .bind(systems)
    .bind(external_ids)
    .fetch_all(&mut *transaction)
    .await
    .map_err(erasing())?;
    dirty::mark(transaction, &keys.iter().map(String::as_str).collect::<Vec<_>>(), "erase", now).await
}

/// Clears the email of whoever was split off from the person and has the same one, and what others have in place of an email in
/// which the person is named beside others: what would be left of it could be somebody else's. Returns of how many.
async fn clear_emails(
    transaction: &mut PgConnection,
    found: &Found,
    erased: &Erased,
    now: DateTime<Utc>,
) -> Result<u64, Error> {
    let others = format!(
        "select t.system, t.external_id, t.email
         from unnest($1::text[]) as k (key)
         join customer360.xrefs t on {is}
         where (t.match_key is null or t.match_key like '#%:%') and t.email is not null",
        is = EMAIL.table.is("k.key")
    );
    let others: Vec<(String, String, String)> = sqlx::query_as(staging::constant_sql(others))
        .bind(found.naming(&EMAIL))
        .fetch_all(&mut *transaction)
        .await
        .map_err(erasing())?;
    let naming = others.into_iter().filter(|(_, _, email)| erased.redact(email).is_some());
    let (systems, external_ids): (Vec<String>, Vec<String>) =
        naming.map(|(system, external_id, _)| (system, external_id)).unzip();
    let cleared: Vec<(Option<String>, Option<Uuid>)> = sqlx::query_as(
        "update customer360.xrefs x
         set email = null,
             unmatched_reason = case when x.deleted_at is null and x.match_key is null then 'no_email' end
         from unnest($1::text[], $2::text[]) as n (system, external_id)
         where x.system = n.system and x.external_id = n.external_id
         returning x.match_key, x.customer_id",
    )
    .bind(systems)
    .bind(external_ids)
    .fetch_all(&mut *transaction)
    .await
    .map_err(erasing())?;
    let customers: Vec<Uuid> = cleared.iter().filter_map(|(_, customer_id)| *customer_id).collect();
    let emails: Vec<(Uuid, String)> = sqlx::query_as(
        "select customer_id, email from customer360.customers where customer_id = any ($1) and email is not null",
    )
    .bind(customers)
    .fetch_all(&mut *transaction)
    .await
    .map_err(erasing())?;
    let naming = emails.into_iter().filter(|(_, email)| erased.has_email(email));
    let customers: Vec<Uuid> = naming.map(|(customer_id, _)| customer_id).collect();
    sqlx::query(
        "update customer360.customers set email = null, version = version + 1, updated_at = $2
         where customer_id = any ($1)",
    )
    .bind(&customers)
    .bind(now)
    .execute(&mut *transaction)
    .await
    .map_err(erasing())?;
    search::keep(transaction, &customers, &[]).await?;
    let keys: Vec<&str> = cleared.iter().filter_map(|(key, _)| key.as_deref()).collect();
    dirty::mark(transaction, &keys, "erase", now).await?;
    Ok(cleared.len() as u64)
}

/// Decisions on one of the keys or cross-references, undone ones too.
async fn remove_decisions(transaction: &mut PgConnection, person: &Person, removed: &mut Removed) -> Result<(), Error> {
    let decisions: Vec<(i64, String, Vec<String>)> =
        sqlx::query_as("select decision_id, kind, subject from customer360.decisions")
            .fetch_all(&mut *transaction)
            .await
            .map_err(erasing())?;
    let is_theirs = |kind: &str, subject: &[String]| match Ruling::from_stored(kind, subject) {
        Some(Ruling::Split { system, external_id }) => person.ids.contains(&(system, external_id)),
        _ => subject.iter().any(|word| {
            person.keys.contains(word) || key_of(word).is_some_and(|key| person.keys.contains(key.as_str()))
        }),
    };
    let theirs = decisions.iter().filter(|(_, kind, subject)| is_theirs(kind, subject));
    let theirs: Vec<i64> = theirs.map(|(decision_id, ..)| *decision_id).collect();
    let done = sqlx::query("delete from customer360.decisions where decision_id = any ($1)")
        .bind(theirs)
        .execute(transaction)
        .await
        .map_err(erasing())?;
    removed.insert("customer360.decisions", done.rows_affected());
    Ok(())
}
