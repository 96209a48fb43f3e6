//! Rows: what tables hold after inserts, updates, deletes and changed keys is what c360 knows, whoever reads them.

use c360_tests::source::customer;
use serde_json::json;

use crate::ledger::{Customers, Ledger, printed};
use crate::world::{CONNECTORS, Connector, Database, World, in_the_world};

pub(crate) const ATTRIBUTES: [&str; 3] = ["name", "city", "bio"];

/// What the table `people` holds.
async fn people(world: &World, database: Database) -> Customers {
    let rows = world.execute(database, "select id, email, name, city, bio from people").await.unwrap();
    printed(&rows, &ATTRIBUTES)
}

/// Compares for every connector. One that is left as Debezium has it says the default of a column where there is null.
pub(crate) async fn assert_people(world: &World, ledger: &Ledger) {
    for connector in CONNECTORS {
        let mut expected = people(world, connector.database).await;
        if connector.is_default() {
            for (_, attributes) in expected.values_mut() {
                attributes.entry("city".to_owned()).or_insert(json!("Keene"));
            }
        }
        let found = ledger.customers(connector.name).await;
        for (id, expected) in &expected {
            assert_eq!(found.get(id), Some(expected), "{}: {id}", connector.name);
        }
        let surplus: Vec<&String> = found.keys().filter(|id| !expected.contains_key(*id)).collect();
        assert!(surplus.is_empty(), "{}: {surplus:?} are not in the table", connector.name);
    }
}

#[test]
fn in_every_shape_customers_are_what_the_tables_hold() {
    in_the_world(async |world| {
        let ledger = Ledger::new(world, "people", customer("id", &ATTRIBUTES)).await;
        ledger.catch_up_to("6").await;
        assert_people(world, &ledger).await;

        world
            .execute_in_both(
                "insert into people (id, name, email, bio) values (7, 'Gus', 'gus@example.org', repeat('Gus was born. ', 800));
                 update people set name = 'Anna' where id = 1;
                 update people set city = null, email = null where id = 4;
                 delete from people where id = 2;
                 insert into people (id, name, email) values (2, 'Bea', 'bea@example.org');
                 update people set id = 30 where id = 3;
                 update people set id = 70, email = 'gus70@example.org' where id = 7;
                 begin;
                 update people set email = 'between@example.org' where id = 5;
                 update people set email = 'eve@example.org' where id = 6;
                 update people set email = 'fay@example.org' where id = 5;
                 commit;
                 begin;
                 insert into people (id, name, email) values (8, 'Hal', 'hal@example.org');
                 update people set name = 'Hall' where id = 8;
                 delete from people where id = 8;
                 commit;
                 insert into people (id, name, email, password) values (9, 'Ida', 'IDA@example.org', 'secret-9');
                 delete from people where id = 9;
                 begin;
                 update people set id = 40 where id = 4;
                 insert into people (id, name, email, city) values (4, 'New', 'new@example.org', 'Newton');
                 commit;
                 insert into people (id, name, city) values (99, 'End', 'End');",
            )
            .await;
        ledger.catch_up_to("99").await;
        assert_people(world, &ledger).await;

        let profiles = "select count(*) from customer360.documents where jsonb_array_length(document -> 'xrefs') <> 9";
        assert_eq!(ledger.count(profiles).await, 0, "every customer is known to all nine");
        assert_eq!(ledger.count("select count(*) from staging.dead_letters").await, 0);
        assert_eq!(ledger.count("select count(*) from customer360.log_restarts").await, 0);
        assert_eq!(ledger.count("select count(*) from staging.records where payload like '%secret-%'").await, 0);
    });
}

/// Ids that are alive, and reasons of dead letters with how many there are.
async fn members(ledger: &Ledger, connector: Connector) -> (Vec<String>, Vec<(String, i64)>) {
    let letters = sqlx::query_as("select reason, count(*) from staging.dead_letters where source = $1 group by 1");
    let letters = letters.bind(connector.name).fetch_all(&ledger.pool).await.unwrap();
    (ledger.customers(connector.name).await.into_keys().collect(), letters)
}

#[test]
fn an_id_that_is_not_the_key_is_never_taken_from_what_debezium_invents() {
    in_the_world(async |world| {
        // By number, and by points: 0 is somebody.
        let by_number = Ledger::new(world, "members", customer("member_no", &["points"])).await;
        let by_points = Ledger::new(world, "members", customer("points", &["member_no"])).await;
        world
            .execute_in_both(
                "insert into members values (10, 'M-10', 0, 'zero@example.org');
                 delete from members where id = 1;
                 insert into members values (11, 'M-11', 110, 'key@example.org');",
            )
            .await;
        by_number.catch_up_to("M-11").await;
        by_points.catch_up_to("110").await;
        for connector in CONNECTORS {
            // Postgres logs the key of the row that is gone and no more: that cannot be told, and is said.
            let (gone, letters) = match connector.database {
                Database::MariaDb => (true, vec![]),
                Database::Postgres => (false, vec![("no_external_id".to_owned(), 1)]),
            };
            let expected = |ids: &[&str], id: &str| -> Vec<String> {
                ids.iter().filter(|known| !gone || **known != id).map(|id| (*id).to_owned()).collect()
            };
            let ids = expected(&["M-1", "M-10", "M-11", "M-2", "M-3"], "M-1");
            assert_eq!(members(&by_number, connector).await, (ids, letters.clone()), "{}", connector.name);
            let ids = expected(&["0", "10", "110", "20", "30"], "10");
            assert_eq!(members(&by_points, connector).await, (ids, letters), "{}", connector.name);
        }

        // With the whole row in the log it is the same everywhere; also where the key changes and the id does not.
        world.execute(Database::Postgres, "alter table members replica identity full").await.unwrap();
        world
            .execute_in_both(
                "delete from members where id = 2;
                 update members set id = 33 where id = 3;
                 insert into members values (12, 'M-12', 120, 'last@example.org');",
            )
            .await;
        by_number.catch_up_to("M-12").await;
        for connector in CONNECTORS {
            let (ids, letters) = members(&by_number, connector).await;
            let ids: Vec<&str> = ids.iter().map(String::as_str).filter(|id| *id != "M-1").collect();
            assert_eq!(ids, ["M-10", "M-11", "M-12", "M-3"], "{}", connector.name);
            assert!(letters.iter().map(|(_, count)| count).sum::<i64>() <= 1, "{}: {letters:?}", connector.name);
        }
    });
}
