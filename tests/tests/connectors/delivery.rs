//! Delivery as it really is: transactions that overlap, rows that are read again, rows that come twice, a table that is
//! emptied.

use c360_tests::source::customer;
use c360_tests::stack::shipped_postgres;
use embedded_postgres::test::eventually;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use crate::ledger::Ledger;
use crate::rows::{ATTRIBUTES, assert_people};
use crate::world::{CONNECTORS, in_the_world};

#[test]
fn transactions_that_overlap_end_as_the_table_does() {
    in_the_world(async |world| {
        world
            .execute_in_both(
                "insert into people (id, name, email) values
                 (201, 'Una', 'una@example.org'), (202, 'Val', 'val@example.org'), (203, 'Wim', 'wim@example.org');",
            )
            .await;
        // In Postgres' log the rows of the first stand before those of the second, and are published behind them.
        let (mut first, mut second) =
            (world.postgres.connect().await.unwrap(), world.postgres.connect().await.unwrap());
        for (number, sql) in [
            (1, "begin"),
            (2, "begin"),
            (1, "update people set email = 'between@example.org' where id = 201"),
            (2, "update people set name = 'Valentin' where id = 202"),
            (2, "update people set city = 'York' where id = 203"),
            (2, "commit"),
            (1, "update people set email = 'una@example.org' where id = 202"),
            (1, "update people set email = 'val@example.org' where id = 201"),
            (1, "update people set id = 204 where id = 203"),
            (1, "commit"),
        ] {
            let connection = if number == 1 { &mut first } else { &mut second };
            connection.execute(sql).await.unwrap();
        }
        world.execute_in_both("insert into people (id, name) values (299, 'End of transactions')").await;
        let ledger = Ledger::new(world, "people", customer("id", &ATTRIBUTES)).await;
        ledger.catch_up_to("299").await;
        assert_people(world, &ledger).await;
        assert_eq!(ledger.count("select count(*) from customer360.log_restarts").await, 0, "no false alarm");
    });
}

#[test]
fn a_transaction_that_was_open_when_the_table_was_read_is_newer_than_what_was_read() {
    const NAME: &str = "pg_busy";
    in_the_world(async |world| {
        let postgres = &world.postgres;
        let insert = "insert into people (id, name, email) values (910, 'Before', 'busy@example.org')";
        postgres.execute(insert).await.unwrap();
        // A slot begins with a moment at which everybody is done who was there before: the first two make it wait, and
        // meanwhile the third does its work.
        let (mut first, mut second, mut third) =
            tokio::try_join!(postgres.connect(), postgres.connect(), postgres.connect()).unwrap();
        let waits_for = async |transaction: &str| {
            let waiting = format!(
                "select 1 from pg_locks join pg_replication_slots on active_pid = pid
                 where slot_name = '{NAME}' and not granted and transactionid = '{transaction}'"
            );
            eventually("the slot waits", async || !postgres.execute(&waiting).await.unwrap().is_empty()).await;
        };
        let begin = "begin; select txid_current()::text::xid::text";
        let number = async |connection: &mut PgConnection| -> String {
            let row = sqlx::raw_sql(begin).fetch_one(connection).await.unwrap();
            row.try_get_raw(0).unwrap().as_str().unwrap().to_owned()
        };
        let first_number = number(&mut first).await;
        let config = shipped_postgres(NAME, postgres, &["people"]).unwrap();
        let changes = async {
            waits_for(&first_number).await;
            let second_number = number(&mut second).await;
            first.execute("commit").await.unwrap();
            waits_for(&second_number).await;
            third.execute("begin; update people set name = 'After' where id = 910").await.unwrap();
            second.execute("commit").await.unwrap();
        };
        let (registered, ()) = tokio::join!(world.stack.connect.register(NAME, &config), changes);
        registered.unwrap();

        let ledger = Ledger::new(world, "people", customer("id", &ATTRIBUTES)).await;
        let name = async || {
            ledger.land_of(NAME).await;
            ledger.consolidate().await;
            let known = ledger.customers(NAME).await.remove("910");
            known.map(|(_, attributes)| attributes["name"].clone())
        };
        eventually("the table is read", async || name().await == Some("Before".into())).await;
        third.execute("commit").await.unwrap();
        eventually("its change is known", async || name().await == Some("After".into())).await;
        assert_eq!(ledger.count("select count(*) from customer360.log_restarts").await, 0, "no false alarm");
        // The other tests want the same rows in both databases.
        postgres.execute("delete from people where id = 910").await.unwrap();
        world.stack.connect.remove(NAME).await.unwrap();
    });
}

#[test]
fn rows_that_an_incremental_snapshot_reads_again_win_over_nothing_newer() {
    in_the_world(async |world| {
        let people: Vec<String> =
            (300..600).map(|id| format!("({id}, 'Person {id}', 'person.{id}@example.org', 'Bath')")).collect();
        world.execute_in_both(&format!("insert into people (id, name, email, city) values {}", people.join(","))).await;
        let ledger = Ledger::new(world, "people", customer("id", &ATTRIBUTES)).await;
        ledger.catch_up_to("599").await;

        // Everything is read again while it changes.
        world
            .execute_in_both(
                r#"insert into debezium_signal values
                ('again', 'execute-snapshot', '{"data-collections": ["inventory.people"], "type": "incremental"}')"#,
            )
            .await;
        for round in 0..30 {
            let first = 300 + round * 10;
            let changes = format!(
                "update people set city = 'Round {round}', email = 'new.{first}@example.org' where id = {first};
                 delete from people where id = {first} + 1;
                 update people set id = id + 1000 where id = {first} + 2;"
            );
            world.execute_in_both(&changes).await;
        }
        let read_again = "select count(distinct source) from staging.records where payload like '%\"incremental\"%'";
        ledger.until(read_again, CONNECTORS.len()).await;
        world.execute_in_both("insert into people (id, name) values (699, 'End of snapshot')").await;
        ledger.catch_up_to("699").await;
        ledger.until_quiet().await;
        assert_people(world, &ledger).await;
        assert_eq!(ledger.count("select count(*) from customer360.log_restarts").await, 0, "no false alarm");
        assert_eq!(ledger.count("select count(*) from staging.dead_letters").await, 0);
    });
}

#[test]
fn rows_that_a_killed_worker_publishes_twice_change_nothing() {
    in_the_world(async |world| {
        for id in 700..800 {
            let insert =
                format!("insert into people (id, name, email) values ({id}, 'Twice', 'twice.{id}@example.org');");
            let update = format!("update people set name = 'Twice {id}' where id = {id};");
            world.execute_in_both(&format!("{insert}{update}")).await;
        }
        world.stack.connect.kill();
        world.execute_in_both("update people set city = 'Down' where id between 700 and 749").await;
        world.execute_in_both("delete from people where id between 750 and 799").await;
        world.stack.connect.restart().await.unwrap();
        world.execute_in_both("insert into people (id, name) values (899, 'End of twice')").await;
        let ledger = Ledger::new(world, "people", customer("id", &ATTRIBUTES)).await;
        ledger.catch_up_to("899").await;
        // A position without the Kafka offset is the place in the log.
        let twice = "select count(*) - count(distinct (source, external_id, operation, substring(position for 21)))
                     from staging.records where external_id::bigint between 700 and 799 and payload is not null";
        assert!(ledger.count(twice).await > 0, "nothing came twice");
        assert_people(world, &ledger).await;
    });
}

#[test]
fn a_table_that_is_emptied_raises_an_alarm_and_deletes_nobody() {
    in_the_world(async |world| {
        let ledger = Ledger::new(world, "emptied", customer("id", &["note"])).await;
        world
            .execute_in_both("truncate table emptied; insert into emptied (id, email) values (3, 'three@example.org')")
            .await;
        ledger.catch_up_to("3").await;
        for connector in CONNECTORS {
            assert_eq!(ledger.customers(connector.name).await.len(), 3, "{}", connector.name);
            let alarm: Option<String> = sqlx::query_scalar(AssertSqlSafe(format!(
                "select health -> 'truncated' -> 0 ->> 'alarm' from staging.sources where source = '{}'",
                connector.name
            )))
            .fetch_one(&ledger.pool)
            .await
            .unwrap();
            // Debezium keeps it to itself unless it is told not to, and its transform drops it.
            let is_told = !connector.is_default() && !connector.is_flattened();
            assert_eq!(alarm.is_some_and(|alarm| alarm.contains("source retire")), is_told, "{}", connector.name);
        }
    });
}
