//! Redirects: where the last cross-reference of a customer went.
//!
//! A redirect hangs on that cross-reference and follows it, as orders do: to another customer, or to nobody while it matches
//! none, as when its email is cleared before it is another. It is gone when its customer has somebody again. Whom a guard or a
//! decision keeps from a customer leads nowhere: those who share an email may be strangers. Where a merge leads a match key, its
//! customer leads too, as long as the merge stands, wherever the cross-reference is.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::Error;
use crate::error::database;
use crate::xrefs::Moved;

/// Lets redirects follow cross-references, and notes those of customers who have no living one left. Called after the moves
/// are written.
pub(crate) async fn follow(
    connection: &mut PgConnection,
    moved: &[Moved<'_>],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if moved.is_empty() {
        return Ok(());
    }
    lock(&mut *connection).await?;
    let mut changed = remove(&mut *connection, &moved.iter().filter_map(|moved| moved.to).collect::<Vec<_>>()).await?;
    let followed: Vec<Uuid> = sqlx::query_scalar(
        "update customer360.redirects r
         set followed_to = m.customer_id, to_customer_id = coalesce(r.decided_to, m.customer_id), since = $4
         from unnest($1::text[], $2::text[], $3::uuid[]) as m (system, external_id, customer_id)
         where r.system = m.system and r.external_id = m.external_id
           and r.followed_to is distinct from m.customer_id
         returning r.customer_id",
    )
    .bind(moved.iter().map(|moved| moved.system).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| moved.external_id).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| moved.to).collect::<Vec<_>>())
    .bind(now)
    .fetch_all(&mut *connection)
    .await
    .map_err(database("following cross-references"))?;
    changed.extend(followed);
    changed.extend(note(&mut *connection, moved, now).await?);
    follow_lists(connection, &changed).await
}

/// Notes where merges lead those who have nobody, and where none does any more: of each customer where its match key leads, if that
/// is elsewhere. Called after profiles are written.
pub(crate) async fn decide(
    connection: &mut PgConnection,
    leads: &[(Uuid, Option<Uuid>)],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if leads.is_empty() {
        return Ok(());
    }
    let (customers, to): (Vec<Uuid>, Vec<Option<Uuid>>) = leads.iter().copied().unzip();
    let is_so: bool = sqlx::query_scalar(
        "select not exists (
             select from unnest($1::uuid[], $2::uuid[]) as w (customer_id, decided_to)
             join customer360.customers c on c.customer_id = w.customer_id and c.deleted_at is not null
             left join customer360.redirects r on r.customer_id = w.customer_id
             where r.decided_to is distinct from w.decided_to)",
    )
    .bind(&customers)
    .bind(&to)
    .fetch_one(&mut *connection)
    .await
    .map_err(database("looking where merges lead"))?;
    if is_so {
        return Ok(());
    }
    lock(&mut *connection).await?;
    let changed: Vec<Uuid> = sqlx::query_scalar(
        "with wanted as materialized (
             select w.customer_id, w.decided_to
             from unnest($1::uuid[], $2::uuid[]) as w (customer_id, decided_to)
             join customer360.customers c on c.customer_id = w.customer_id and c.deleted_at is not null
         ),
         led as (
             insert into customer360.redirects as r (customer_id, decided_to, to_customer_id, since)
             select customer_id, decided_to, decided_to, $3 from wanted where decided_to is not null
             on conflict on constraint redirects_pkey do update set
                 decided_to = excluded.decided_to,
                 to_customer_id = excluded.decided_to,
                 since = case when r.to_customer_id is distinct from excluded.decided_to
                              then excluded.since else r.since end
             where r.decided_to is distinct from excluded.decided_to
             returning r.customer_id
         ),
         undone as (
             update customer360.redirects r
             set decided_to = null, to_customer_id = r.followed_to, since = $3
             from wanted w
             where r.customer_id = w.customer_id and w.decided_to is null and r.decided_to is not null
             returning r.customer_id
         )
         select customer_id from led union all select customer_id from undone",
    )
    .bind(&customers)
    .bind(&to)
    .bind(now)
    .fetch_all(&mut *connection)
    .await
    .map_err(database("noting where merges lead"))?;
    follow_lists(connection, &changed).await
}

/// Notes redirects of those whom their last cross-reference has left; returns whose.
async fn note(connection: &mut PgConnection, moved: &[Moved<'_>], now: DateTime<Utc>) -> Result<Vec<Uuid>, Error> {
    // Of several that left one customer, one: rather one that went to another than to nobody.
    let mut departures: BTreeMap<Uuid, &Moved<'_>> = BTreeMap::new();
    for moved in moved.iter().filter(|moved| moved.from != moved.to) {
        let Some(from) = moved.from else { continue };
        let departed = departures.entry(from).or_insert(moved);
        if moved.to.is_some() {
            *departed = moved;
        }
    }
    if departures.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(
        "with departures as materialized (
             select * from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
                 as d (customer_id, system, external_id, followed_to)
         ),
         -- customers that were ever there: a cross-reference may come to one and leave again before anything is folded
         there as materialized (
             select customer_id from customer360.customers where customer_id = any ($1)
         ),
         -- customers that still have somebody
         living as materialized (
             select distinct customer_id from customer360.xrefs
             where customer_id = any ($1) and deleted_at is null
         )
         insert into customer360.redirects as r (customer_id, system, external_id, followed_to, to_customer_id, since)
         select d.customer_id, d.system, d.external_id, d.followed_to, d.followed_to, $5
         from departures d
         join there t on t.customer_id = d.customer_id
         left join living l on l.customer_id = d.customer_id
         where l.customer_id is null
         on conflict on constraint redirects_pkey do update set
             system = excluded.system, external_id = excluded.external_id, followed_to = excluded.followed_to,
             to_customer_id = coalesce(r.decided_to, excluded.followed_to), since = excluded.since
         returning r.customer_id",
    )
    .bind(departures.keys().copied().collect::<Vec<_>>())
    .bind(departures.values().map(|moved| moved.system).collect::<Vec<_>>())
    .bind(departures.values().map(|moved| moved.external_id).collect::<Vec<_>>())
    .bind(departures.values().map(|moved| moved.to).collect::<Vec<_>>())
    .bind(now)
    .fetch_all(connection)
    .await
    .map_err(database("noting redirects"))
}

/// Forgets where customers led who have somebody. A merge that notes one meanwhile marks that customer, who is then folded again;
/// another fold sees who is there.
pub(crate) async fn forget(connection: &mut PgConnection, customers: &[Uuid]) -> Result<(), Error> {
    let led: Vec<Uuid> =
        sqlx::query_scalar("select customer_id from customer360.redirects where customer_id = any ($1)")
            .bind(customers)
            .fetch_all(&mut *connection)
            .await
            .map_err(database("looking for redirects of those who have somebody"))?;
    if led.is_empty() {
        return Ok(());
    }
    lock(&mut *connection).await?;
    remove(connection, &led).await?;
    Ok(())
}

/// Does what an older version has left undone: of where a redirect leads it wrote `to_customer_id` alone, and where a
/// cross-reference went over where a merge leads; and members of lists did not follow.
pub(crate) async fn catch_up(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(
        "update customer360.redirects
         set followed_to = case when to_customer_id = decided_to then followed_to else to_customer_id end,
             to_customer_id = coalesce(decided_to, to_customer_id)
         where to_customer_id is distinct from coalesce(decided_to, followed_to)",
    )
    .execute(&mut *connection)
    .await
    .map_err(database("finishing redirects of an older version"))?;
    sqlx::query(
        "select customer360.follow_lists(array(
             select m.customer_id
             from customer360.redirects r
             join customer360.list_members m on m.customer_id = r.customer_id
             where customer360.resolved(m.customer_id) <> m.customer_id
             union
             select m.customer_id
             from customer360.list_members m
             where exists (select from unnest(m.put_on) as p where customer360.resolved(p) <> m.customer_id)))",
    )
    .execute(connection)
    .await
    .map_err(database("following members of lists"))?;
    Ok(())
}

/// Lets members of lists follow those whose redirects have changed, or who have somebody again, or nobody any more.
pub(crate) async fn follow_lists(connection: &mut PgConnection, changed: &[Uuid]) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    sqlx::query("select customer360.follow_lists($1)")
        .bind(changed)
        .execute(connection)
        .await
        .map_err(database("following members of lists"))?;
    Ok(())
}

/// A redirect may hang on a cross-reference of another lane, and two lanes may each take one from the same customer: the
/// second has to see what the first did.
async fn lock(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::query("select customer360.hold_moves()")
        .execute(connection)
        .await
        .map_err(database("waiting to write redirects"))?;
    Ok(())
}

/// Forgets redirects; returns whose there were.
async fn remove(connection: &mut PgConnection, customers: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    sqlx::query_scalar("delete from customer360.redirects where customer_id = any ($1) returning customer_id")
        .bind(customers)
        .fetch_all(connection)
        .await
        .map_err(database("forgetting redirects"))
}
