//! Years of it: tables whose rows are of a time stay bounded, whatever the clock does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use consolidate::{Consolidator, Forgotten, forget_changes};
use embedded_postgres::test::eventually;
use sqlx::{Connection as _, PgConnection};
use staging::dead_letters::forget_settled;
use staging::expire;
use tokio_util::sync::CancellationToken;

use crate::support::World;
use crate::support::events::customer;

const DAY: TimeDelta = TimeDelta::days(1);
const CHANGES: TimeDelta = TimeDelta::days(90);
const SETTLED: TimeDelta = TimeDelta::days(30);

/// What autovacuum does once a fifth of a table is dead, which is about once a day here.
const VACUUM: &str = "vacuum staging.batches, staging.dead_letters, staging.kafka_offsets, customer360.xrefs,
                             customer360.customers, customer360.dirty_marks, customer360.source_times";

fn begin() -> DateTime<Utc> {
    "2026-01-15T12:00:00Z".parse().unwrap()
}

/// What a daemon does every minute.
async fn upkeep(world: &World, now: DateTime<Utc>) {
    let mut connection = world.pool.acquire().await.unwrap();
    expire(&mut connection, now).await.unwrap();
    forget_settled(&mut *connection, now - SETTLED).await.unwrap();
    forget_changes(&mut connection, now - CHANGES).await.unwrap();
}

async fn sizes(world: &World) -> BTreeMap<String, i64> {
    let mut sizes = staging::overview::bytes_by_table(&world.pool, "staging").await.unwrap();
    sizes.extend(staging::overview::bytes_by_table(&world.pool, "customer360").await.unwrap());
    sizes
}

/// A daemon lands, consolidates and keeps up day after day; autovacuum does its part. A third of the year later nothing is
/// larger than a fifth more, though the same forty people change every day.
#[tokio::test]
async fn a_year_of_changes_ends_with_tables_no_larger_than_those_of_its_fourth_month() {
    static NOW: AtomicI64 = AtomicI64::new(0);
    let mut world = World::new().await;
    let mut early = BTreeMap::new();
    let clock = || DateTime::from_timestamp(NOW.load(Ordering::Relaxed), 0).unwrap();
    let mut consolidator = Consolidator::connect(&world.options).await.unwrap().with_clock(clock);
    assert!(consolidator.try_begin().await.unwrap());
    for day in 0..366 {
        let now = begin() + DAY * day;
        NOW.store(now.timestamp(), Ordering::Relaxed);
        let changed = |id: i64| {
            let visits = i64::from(day) * 40 + id;
            let position = visits.unsigned_abs() + 1;
            customer(id, position).email(&format!("p{id}@x.example")).attribute("visits", visits)
        };
        world.land_at("crm", &(0..40).map(changed).collect::<Vec<_>>(), now).await;
        let insert =
            "insert into staging.dead_letters (source, origin, reason, detail, payload, landed_at, state, handled_at)
                      select 'crm', '{}', 'nul', '', '', $1, state, $1
                      from unnest(array['retried', 'discarded', 'discarded']) as settled (state)";
        sqlx::query(insert).bind(now).execute(&world.pool).await.unwrap();
        consolidator.drain(&world.rules, &world.seal, &CancellationToken::new()).await.unwrap();
        upkeep(&world, now).await;
        sqlx::raw_sql(VACUUM).execute(&world.pool).await.unwrap();
        if day == 140 {
            early = sizes(&world).await;
        }
    }
    let end = begin() + DAY * 365;
    assert_eq!(world.value("select count(*) <= 4 from staging.batches").await, true);
    assert_eq!(world.value("select count(*) <= 93 from staging.dead_letters").await, true);
    assert_eq!(world.value("select count(*) >= 360 from staging.daily_counts").await, true);
    let months = "select count(*) from pg_inherits where inhparent = 'customer360.changes'::regclass";
    assert!(world.value(months).await.as_i64().unwrap() <= 6);
    let oldest = format!("select min(at) >= '{}' from customer360.changes", end - CHANGES - TimeDelta::days(31));
    assert_eq!(world.value(&oldest).await, true);
    let late = sizes(&world).await;
    for (table, size) in &late {
        // A row a day and source is what daily_counts are for; pages and the maps of a table come in lumps.
        let bound = early[table] + early[table] / 5 + 64 * 1024;
        assert!(*size <= bound || table == "daily_counts", "{table}: {size} bytes, {} on day 140", early[table]);
    }
    // Nothing that is of today was given up.
    assert_eq!(world.value("select count(*) from customer360.documents").await, 40);
}

async fn consolidate_at(world: &World, clock: fn() -> DateTime<Utc>) {
    let mut consolidator = world.consolidator().await.with_clock(clock);
    world.consolidate_by(&mut consolidator).await;
}

#[tokio::test]
async fn a_clock_that_jumps_stops_neither_landing_nor_the_history_of_profiles() {
    static NOW: AtomicI64 = AtomicI64::new(0);
    let mut world = World::new().await;
    let days = [0, 1, 800, 3, -500, 4];
    for (position, day) in (1..).zip(days) {
        let now = begin() + TimeDelta::days(day);
        NOW.store(now.timestamp(), Ordering::Relaxed);
        let changed = customer(1, position).email("ann@x.example").attribute("visits", day);
        world.land_at("crm", &[changed], now).await;
        consolidate_at(&world, || DateTime::from_timestamp(NOW.load(Ordering::Relaxed), 0).unwrap()).await;
        assert_eq!(world.profile("ann@x.example").await.unwrap()["visits"], day);
        let written = format!("select count(*) from customer360.changes where at = '{now}'");
        assert_eq!(world.value(&written).await, 1, "day {day}");
    }
}

#[tokio::test]
async fn months_of_changes_go_when_they_are_wholly_past_and_a_reader_holds_them_up_for_a_moment_only() {
    static NOW: AtomicI64 = AtomicI64::new(0);
    let mut world = World::new().await;
    for (position, day) in (1..).zip([0, 40, 80]) {
        NOW.store((begin() + TimeDelta::days(day)).timestamp(), Ordering::Relaxed);
        world.land("crm", &[customer(1, position).email("ann@x.example").attribute("visits", day)]).await;
        consolidate_at(&world, || DateTime::from_timestamp(NOW.load(Ordering::Relaxed), 0).unwrap()).await;
    }
    let mut connection = world.pool.acquire().await.unwrap();
    let first_of_february = "2026-02-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
    let mut forget = async |before| forget_changes(&mut connection, before).await.unwrap();
    assert_eq!(forget(first_of_february - TimeDelta::seconds(1)).await, Forgotten::default());

    let mut analyst = world.pool.begin().await.unwrap();
    sqlx::query("select count(*) from customer360.changes").execute(&mut *analyst).await.unwrap();
    assert_eq!(forget(first_of_february).await, Forgotten { dropped: 0, locked: 1 });
    analyst.rollback().await.unwrap();
    assert_eq!(forget(first_of_february).await, Forgotten { dropped: 1, locked: 0 });
    assert_eq!(world.value("select min(at)::date from customer360.changes").await, "2026-02-24");
}

/// How many rows of each table were read by sessions that have ended: all but those that stay.
async fn rows_read(asking: &mut PgConnection, that_stay: i64) -> BTreeMap<String, i64> {
    eventually("the others have ended", async || sessions(&mut *asking).await <= that_stay).await;
    let read = "select relname::text, (seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_user_tables";
    sqlx::query_as(read).fetch_all(asking).await.unwrap().into_iter().collect()
}

async fn sessions(asking: &mut PgConnection) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(asking).await.unwrap()
}

/// Thousands of people, and of everything that years add to them.
const YEARS: &str = "
    insert into customer360.decisions (kind, subject, made_at, made_by)
        select 'merge', array['gone' || n || '@x.example', 'p' || n || '@x.example'], now(), 'test' from generate_series(1, 3000) n;
    insert into customer360.edits (system, external_id, attribute, value, replaced, at, by)
        select system, external_id, 'name', '1', 'null', now(), 'test' from customer360.xrefs;
    insert into customer360.redirects (customer_id, to_customer_id, since, system, external_id, followed_to)
        select gen_random_uuid(), customer_id, now(), system, external_id, customer_id from customer360.xrefs;
    insert into customer360.entries (customer_id, entry_id, type, content, author, created_at, updated_at)
        select customer_id, gen_random_uuid(), 'note', '{}', 'test', now(), now() from customer360.xrefs;
    insert into customer360.lists (name, made_by, made_at) values ('all', 'test', now());
    insert into customer360.list_members (customer_id, list, added_at)
        select customer_id, 'all', now() from customer360.xrefs;
    insert into staging.dead_letters (source, origin, reason, detail, payload, landed_at)
        select 'crm', '{}', 'nul', '', '', now() from generate_series(1, 3000);
    vacuum analyze";

#[tokio::test]
async fn what_a_record_costs_does_not_grow_with_the_years() {
    let mut world = World::new().await;
    let person = |id: i64, position| customer(id, position).email(&format!("p{id}@x.example"));
    world.land("crm", &(1..=3_000).map(|id| person(id, 1).attribute("visits", 1)).collect::<Vec<_>>()).await;
    let mut asking = staging::connect(&world.options).await.unwrap();
    // What was dropped before is closed by then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let that_stay = sessions(&mut asking).await;
    world.consolidate().await;
    let mut years = staging::connect(&world.options).await.unwrap();
    for statement in YEARS.split(';') {
        sqlx::raw_sql(statement).execute(&mut years).await.unwrap();
    }
    years.close().await.unwrap();
    let before = rows_read(&mut asking, that_stay).await;
    world.land("crm", &[person(7, 2).attribute("visits", 2)]).await;
    world.consolidate().await;
    for (table, read) in rows_read(&mut asking, that_stay).await {
        let read = read - before.get(&table).copied().unwrap_or_default();
        // Of decisions it is counted up which stand, a few times.
        assert!(read <= 100 || table == "decisions", "of {table} {read} rows");
    }
    assert_eq!(world.profile("p7@x.example").await.unwrap()["visits"], 2);
}
