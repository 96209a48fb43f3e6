//! Leasing what is due, and noting what became of it: one statement each, however many polls.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, Row};

use super::{Poll, Polled, Subject};
use crate::{Error, constant_sql};

/// An id longer than this is not asked about: it would not fit into an index.
const MAX_PRODUCT_ID_BYTES: usize = 512;

/// The table of a subject, for statements that only differ in it.
struct Table {
    name: &'static str,
    key: &'static str,
    /// What the columns of `Poll` that only customers have are read from.
    email: &'static str,
    external_id: &'static str,
    /// What is written of them.
    set_of_customers: &'static str,
}

impl Subject {
    fn table(self) -> Table {
        match self {
            Self::Customer => Table {
                name: "staging.polls",
                key: "match_key",
                email: "p.email",
                external_id: "p.external_id",
                set_of_customers: "external_id = o.external_id, asked_now_at = null,",
            },
            Self::Product => Table {
                name: "staging.polled_products",
                key: "product_id",
                email: "''",
                external_id: "null::text",
                set_of_customers: "",
            },
        }
    }
}

/// The times of a lease.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTimes {
    /// Polls that were never asked are leased if they are due by now.
    pub now: DateTime<Utc>,
    /// All others if they were due before this.
    pub due_before: DateTime<Utc>,
    /// Until when nobody else asks.
    pub leased_until: DateTime<Utc>,
}

/// Leases up to `limit` polls of a source: first those never asked, then the others, longest due first; in that order.
/// `only` is the one key that is wanted. Whoever dies leaves them to others once the lease is over.
pub async fn lease(
    executor: impl PgExecutor<'_>,
    subject: Subject,
    source: &str,
    limit: i64,
    times: LeaseTimes,
    only: Option<&str>,
) -> Result<Vec<Poll>, Error> {
    let Table { name, key, email, external_id, .. } = subject.table();
    let wanted = if only.is_some() { format!("and {key} = $6") } else { "and $6::text is null".to_owned() };
    let statement = format!(
        "with never_asked as materialized (
             select {key}, next_at from {name}
             where source = $1 and next_at <= $2 and checked_at is null and failures = 0 {wanted}
             order by next_at
             limit $4
             for update skip locked
         ),
         stale as materialized (
             select {key}, next_at from {name}
             where source = $1 and next_at <= $3 and (checked_at is not null or failures > 0) {wanted}
             order by next_at
             limit $4
             for update skip locked
         ),
         due as (
             -- the limit is a number, or the planner takes this for a tenth of all polls and reads them all
             select {key}, next_at from (
                 select 1 as rank, * from never_asked union all select 2, * from stale
             ) as found
             order by rank, next_at
             limit $4
         )
         update {name} as p
         set next_at = $5
         from due
         where p.source = $1 and p.{key} = due.{key}
         returning p.{key} as key, {email} as email, {external_id} as external_id, p.failures, p.checked_at,
                   p.validators, due.next_at as due_at, p.next_at as leased_until"
    );
    let rows = sqlx::query(constant_sql(statement))
        // Planned for this limit each time: a plan for any limit reads all polls to lease a few.
        .persistent(false)
        .bind(source)
        .bind(times.now)
        .bind(times.due_before)
        .bind(limit)
        .bind(times.leased_until)
        .bind(only)
        .fetch_all(executor)
        .await
        .map_err(Error::database("leasing polls"))?;
    let poll = |row: &PgRow| Poll {
        subject,
        key: row.get("key"),
        email: row.get("email"),
        external_id: row.get("external_id"),
        failures: row.get("failures"),
        checked_at: row.get("checked_at"),
        validators: row.get("validators"),
        due_at: row.get("due_at"),
        leased_until: row.get("leased_until"),
    };
    let mut polls: Vec<Poll> = rows.iter().map(poll).collect();
    polls.sort_by_key(|poll| (poll.checked_at.is_some() || poll.failures > 0, poll.due_at));
    Ok(polls)
}

/// Gives polls back that were not asked, each only while its lease is still ours: due as they were before.
pub async fn release(connection: &mut PgConnection, source: &str, polls: &[Poll]) -> Result<(), Error> {
    for subject in [Subject::Customer, Subject::Product] {
        let polls: Vec<&Poll> = polls.iter().filter(|poll| poll.subject == subject).collect();
        if polls.is_empty() {
            continue;
        }
        let Table { name, key, .. } = subject.table();
        let statement = format!(
            "update {name} as p
             set next_at = o.due_at
             from unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) as o (key, leased_until, due_at)
             where p.source = $1 and p.{key} = o.key and p.next_at = o.leased_until"
        );
        sqlx::query(constant_sql(statement))
            .bind(source)
            .bind(polls.iter().map(|poll| poll.key.as_str()).collect::<Vec<_>>())
            .bind(polls.iter().map(|poll| poll.leased_until).collect::<Vec<_>>())
            .bind(polls.iter().map(|poll| poll.due_at).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await
            .map_err(Error::database("releasing polls"))?;
    }
    Ok(())
}

/// Of these outcomes, the polls whose lease is still ours: after a fenced landing, the ones to land again. None of them if
/// it was only the reply to COMMIT that got lost.
pub async fn held(
    connection: &mut PgConnection,
    source: &str,
    polled: &[Polled],
) -> Result<HashSet<(Subject, String)>, Error> {
    let mut held = HashSet::new();
    for subject in [Subject::Customer, Subject::Product] {
        let polled: Vec<&Polled> = polled.iter().filter(|outcome| outcome.subject == subject).collect();
        let Table { name, key, .. } = subject.table();
        let statement = format!(
            "select p.{key}
             from unnest($2::text[], $3::timestamptz[]) as o (key, leased_until)
             join {name} p on p.{key} = o.key and p.next_at = o.leased_until
             where p.source = $1"
        );
        let keys: Vec<String> = sqlx::query_scalar(constant_sql(statement))
            .bind(source)
            .bind(polled.iter().map(|outcome| outcome.key.as_str()).collect::<Vec<_>>())
            .bind(polled.iter().map(|outcome| outcome.leased_until).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::database("reading leases"))?;
        held.extend(keys.into_iter().map(|key| (subject, key)));
    }
    Ok(held)
}

/// Notes outcomes, each only under the lease that it was asked under; false means that one was no longer ours, be it leased
/// by another, made due again, or withdrawn: a customer who was erased while the source was asked must not land.
pub(crate) async fn note(
    connection: &mut PgConnection,
    source: &str,
    polled: &[Polled],
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    for subject in [Subject::Customer, Subject::Product] {
        let polled: Vec<&Polled> = polled.iter().filter(|outcome| outcome.subject == subject).collect();
        if !polled.is_empty() && !note_of(connection, subject, source, &polled).await? {
            return Ok(false);
        }
    }
    forget_elsewhere(connection, source, polled).await?;
    let named = polled.iter().flat_map(|outcome| &outcome.products).map(String::as_str);
    note_products(connection, source, named, now).await?;
    Ok(true)
}

/// A customer whose email changes and changes back is landed by the polls of both emails. The first of them takes what the
/// source says then for what it said before: so whoever lands a customer makes other polls forget what they know of it, unless
/// they know the same.
async fn forget_elsewhere(connection: &mut PgConnection, source: &str, polled: &[Polled]) -> Result<(), sqlx::Error> {
    let landed = polled.iter().flat_map(|outcome| outcome.customers.iter().map(move |id| (id.as_str(), outcome)));
    let (ids, outcomes): (Vec<&str>, Vec<&Polled>) = landed.unzip();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "with others as materialized (
             -- in one order, as whoever else lands
             select p.match_key
             from unnest($2::text[], $3::text[], $4::jsonb[]) as o (external_id, match_key, validators)
             join staging.polls p on p.external_id = o.external_id and p.match_key <> o.match_key
             where p.source = $1 and p.validators ? 'rules'
               and p.validators #> '{customer,hash}' is distinct from o.validators #> '{customer,hash}'
             order by p.match_key
             for update of p
         )
         update staging.polls p
         set validators = p.validators - 'rules'
         from others
         where p.source = $1 and p.match_key = others.match_key",
    )
    .bind(source)
    .bind(ids)
    .bind(outcomes.iter().map(|outcome| outcome.key.as_str()).collect::<Vec<_>>())
    .bind(outcomes.iter().map(|outcome| outcome.validators.clone()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn note_of(
    connection: &mut PgConnection,
    subject: Subject,
    source: &str,
    polled: &[&Polled],
) -> Result<bool, sqlx::Error> {
    let Table { name, key, set_of_customers, .. } = subject.table();
    let statement = format!(
        "update {name} as p
         set state = o.state, {set_of_customers} checked_at = coalesce(o.checked_at, p.checked_at), next_at = o.next_at,
             failures = o.failures, validators = o.validators
         from unnest($2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
                     $8::integer[], $9::jsonb[])
             as o (key, leased_until, state, external_id, checked_at, next_at, failures, validators)
         where p.source = $1 and p.{key} = o.key and p.next_at = o.leased_until"
    );
    let done = sqlx::query(constant_sql(statement))
        .bind(source)
        .bind(polled.iter().map(|outcome| outcome.key.as_str()).collect::<Vec<_>>())
        .bind(polled.iter().map(|outcome| outcome.leased_until).collect::<Vec<_>>())
        .bind(polled.iter().map(|outcome| outcome.state.as_str()).collect::<Vec<_>>())
        .bind(polled.iter().map(|outcome| outcome.external_id.as_deref()).collect::<Vec<_>>())
        .bind(polled.iter().map(|outcome| outcome.checked_at).collect::<Vec<_>>())
        .bind(polled.iter().map(|outcome| outcome.next_at).collect::<Vec<_>>())
        .bind(polled.iter().map(|outcome| outcome.failures).collect::<Vec<_>>())
        .bind(polled.iter().map(|outcome| outcome.validators.clone()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == polled.len() as u64)
}

/// Products that are not known yet become due.
pub(crate) async fn note_products(
    connection: &mut PgConnection,
    source: &str,
    named: impl Iterator<Item = &str>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let ids: BTreeSet<&str> = named.filter(|id| !id.is_empty() && id.len() <= MAX_PRODUCT_ID_BYTES).collect();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into staging.polled_products (source, product_id, next_at)
         select $1, product_id, $3 from unnest($2::text[]) as seen (product_id)
         order by product_id
         on conflict on constraint polled_products_pkey do nothing",
    )
    .bind(source)
    .bind(ids.into_iter().collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}
