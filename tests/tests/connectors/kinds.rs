//! Kinds of values: each is exact text or an exact number, whoever reads the table and in whatever shape.

use std::collections::{BTreeMap, BTreeSet};

use c360_tests::source::customer;
use serde_json::value::RawValue;

use crate::ledger::Ledger;
use crate::world::{CONNECTORS, Connector, Database, in_the_world};

/// By the JSON of each attribute, those without a value left out.
type Values = BTreeMap<String, String>;

/// With schemas, as `deploy/connect` has it.
const MARIADB: [(&str, &str); 17] = [
    ("price", "12.50"),
    ("long_number", "-12345678901234567890123456789012345.012345678901234567890123456789"),
    ("whole", "9007199254740993"),
    ("counter", "18446744073709551615"),
    ("ratio", "0.1"),
    ("bits", "5"),
    ("clock", r#""23:59:59.500""#),
    ("span", r#""-838:59:59""#),
    ("local_3", r#""2024-02-29T23:59:59.120""#),
    ("local_6", r#""2024-02-29T23:59:59.123456""#),
    ("old", r#""0001-01-01T00:00:00""#),
    ("zoned", r#""2024-02-29T23:59:59.000001Z""#),
    ("day", r#""9999-12-31""#),
    ("bytes", r#""AP8Q""#),
    ("doc", r#""{\"a\": 1.10}""#),
    ("kind", r#""b""#),
    ("marks", r#""x,y""#),
];
const POSTGRES: [(&str, &str); 22] = [
    ("price", "12.50"),
    ("long_number", "-12345678901234567890123456789012345.0123456789"),
    ("whole", "9007199254740993"),
    ("ratio", "0.1"),
    ("bits", "5"),
    ("clock", r#""23:59:59.500""#),
    ("span", r#""24:00:00""#),
    ("local_3", r#""2024-02-29T23:59:59.120""#),
    ("local_6", r#""2024-02-29T23:59:59.123456""#),
    ("old", r#""0001-01-01T00:00:00""#),
    ("zoned", r#""2024-02-29T23:59:59.000001Z""#),
    ("day", r#""9999-12-31""#),
    ("forever", r#""infinity""#),
    ("never", r#""-infinity""#),
    ("always", r#""infinity""#),
    ("months", r#""P1Y2M3DT4H5M6.789S""#),
    ("bytes", r#""AP8Q""#),
    ("doc", r#""{\"a\": 1.10}""#),
    ("texts", r#"["a","b, c",null]"#),
    ("numbers", "[1,null,3]"),
    ("prices", "[1.10,2.00]"),
    ("days", r#"["2024-02-29"]"#),
];
/// What only the schema can tell: without it dates and times are counts, and bits base64.
const MARIADB_WITHOUT_SCHEMAS: [(&str, &str); 7] = [
    ("clock", "86399500000"),
    ("span", "-3020399000000"),
    ("local_3", "1709251199120"),
    ("local_6", "1709251199123456"),
    ("old", "-62135596800000"),
    ("day", "2932896"),
    ("bits", r#""BQA=""#),
];
const POSTGRES_WITHOUT_SCHEMAS: [(&str, &str); 10] = [
    ("clock", "86399500000"),
    ("span", "86400000000"),
    ("local_3", "1709251199120"),
    ("local_6", "1709251199123456"),
    ("old", "-62135596800000000"),
    ("day", "2932896"),
    ("days", "[19782]"),
    ("forever", "-2147472692"),
    ("never", "-9223372036832400000"),
    ("bits", r#""BQ==""#),
];
/// What Debezium makes of it where nobody says anything.
const MARIADB_BY_DEFAULT: [(&str, &str); 2] = [("counter", "-1"), ("old", r#""2001-01-01T00:00:00""#)];
const POSTGRES_BY_DEFAULT: [(&str, &str); 1] = [("months", "37091106789000")];

fn expected(connector: Connector) -> Values {
    let (all, others): (&[_], &[_]) = match (connector.database, connector.is_without_schemas(), connector.is_default())
    {
        (Database::MariaDb, true, _) => (&MARIADB, &MARIADB_WITHOUT_SCHEMAS),
        (Database::MariaDb, _, true) => (&MARIADB, &MARIADB_BY_DEFAULT),
        (Database::MariaDb, ..) => (&MARIADB, &[]),
        (Database::Postgres, true, _) => (&POSTGRES, &POSTGRES_WITHOUT_SCHEMAS),
        (Database::Postgres, _, true) => (&POSTGRES, &POSTGRES_BY_DEFAULT),
        (Database::Postgres, ..) => (&POSTGRES, &[]),
    };
    let mut expected: Values =
        all.iter().chain(others).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if connector.database == Database::Postgres {
        // Not one of these is in the message that came last.
        let list = |item: &str| format!("[{}]", vec![item; 3001].join(","));
        expected.insert("long_text".to_owned(), format!("\"{}\"", "x".repeat(10_001)));
        expected.insert("long_bytes".to_owned(), format!("\"{}\"", "eHh4".repeat(3_333) + "eHg="));
        expected.insert("long_texts".to_owned(), list("\"abc\""));
        expected.insert("long_numbers".to_owned(), list("7"));
    }
    expected
}

/// The ids that are alive.
async fn ids(ledger: &Ledger, connector: Connector) -> BTreeSet<String> {
    ledger.customers(connector.name).await.into_keys().collect()
}

/// What c360 knows of the row.
async fn found(ledger: &Ledger, connector: Connector) -> Values {
    let attributes: String = sqlx::query_scalar(
        "select attributes::text from customer360.xrefs
         where system = $1 and deleted_at is null and email = 'more.kinds@example.org'",
    )
    .bind(connector.name)
    .fetch_one(&ledger.pool)
    .await
    .unwrap();
    let attributes: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&attributes).unwrap();
    // jsonb writes a space behind the commas of a list.
    let text = |value: &str| {
        if value.starts_with('[') { value.replace(", ", ",").replace("b,c", "b, c") } else { value.to_owned() }
    };
    let values = attributes.into_iter().map(|(name, value)| (name, text(value.get())));
    values.filter(|(_, value)| value != "null").collect()
}

#[test]
fn every_kind_of_value_is_exact_and_what_is_not_sent_is_kept() {
    in_the_world(async |world| {
        let columns: Vec<&str> = MARIADB.iter().chain(&POSTGRES).map(|(name, _)| *name).collect();
        // What Debezium cannot tell apart from null, unless the whole row is in the log.
        let full = "update kinds set long_prices = array_fill(1.10, array[3000]) where id <> 99;
                    alter table kinds replica identity full";
        let more = ["long_prices", "no_day", "not_a_number", "long_text", "long_bytes", "long_texts", "long_numbers"];
        let ledger = Ledger::new(world, "kinds", customer("id", &[&columns[..], &more].concat())).await;
        world
            .execute_in_both("update kinds set email = 'more.kinds@example.org'; insert into kinds (id) values (99)")
            .await;
        ledger.catch_up_to("99").await;
        for connector in CONNECTORS {
            let (found, expected) = (found(&ledger, connector).await, expected(connector));
            for (name, value) in &expected {
                let short = |value: &str| format!("{value:.120} ({} bytes)", value.len());
                let known = found.get(name).map(|known| short(known));
                assert_eq!(known.as_deref(), Some(&*short(value)), "{}: {name}", connector.name);
            }
            let surplus: Vec<&String> = found.keys().filter(|name| !expected.contains_key(*name)).collect();
            assert!(surplus.is_empty(), "{}: {surplus:?}", connector.name);
        }

        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<String>>();
        // An id that only a decimal can hold is changed, and deleted.
        world
            .execute_in_both(
                "update kinds set id = 18446744073709551614 where id <> 99; insert into kinds (id) values (100)",
            )
            .await;
        ledger.catch_up_to("100").await;
        for connector in CONNECTORS {
            let id = if connector.name == "maria_default" { "-2" } else { "18446744073709551614" };
            assert_eq!(ids(&ledger, connector).await, set(&["99", "100", id]), "{}", connector.name);
            assert_eq!(found(&ledger, connector).await, expected(connector), "{}", connector.name);
        }
        world.execute(Database::Postgres, full).await.unwrap();
        world
            .execute_in_both(
                "update kinds set whole = whole - 1 where email is not null;
                 insert into kinds (id) values (102);",
            )
            .await;
        ledger.catch_up_to("102").await;
        for connector in CONNECTORS.into_iter().filter(|connector| connector.database == Database::Postgres) {
            let found = found(&ledger, connector).await;
            assert_eq!(found["long_prices"], format!("[{}]", vec!["1.10"; 3000].join(",")), "{}", connector.name);
        }
        world.execute_in_both("delete from kinds where id <> 99; insert into kinds (id) values (101)").await;
        ledger.catch_up_to("101").await;
        for connector in CONNECTORS {
            assert_eq!(ids(&ledger, connector).await, set(&["99", "101"]), "{}", connector.name);
        }
        assert_eq!(ledger.count("select count(*) from staging.dead_letters").await, 0);
    });
}
