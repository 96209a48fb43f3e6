//! The demo's data is what its generator makes of the cast.

use std::{collections::HashSet, fs, path::Path, process::Command};

use c360_tests::people::{self, System};
use serde_json::Value;

const FILES: [&str; 4] = [
    "fixtures/loyalty/loyalty_members_2026-11-18.csv",
    "fixtures/loyalty/loyalty_members_2026-11-19.csv",
    "fixtures/online_store.json",
    "deploy/mysql/20-customers.sql",
];

fn checked_in(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).expect("a file beside the code")
}

fn store() -> Value {
    serde_json::from_slice(&checked_in(FILES[2])).expect("JSON")
}

#[test]
fn generating_again_gives_the_checked_in_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_demo_fixtures")).arg(directory.path()).status().unwrap();
    assert!(status.success());
    for name in FILES {
        let same = fs::read(directory.path().join(name)).unwrap() == checked_in(name);
        assert!(same, "{name} is not what demo_fixtures writes: run it, or leave the file alone");
    }
}

#[test]
fn the_reference_customer_is_in_all_of_them() {
    let row: &[u8] = b"\n27,xrinn5xp.swd,Matthew,Groves,matthew.groves@couchbase.com,47\n";
    for night in &FILES[..2] {
        assert!(checked_in(night).windows(row.len()).any(|bytes| bytes == row));
    }
    let text = String::from_utf8(checked_in(FILES[2])).unwrap();
    for record in [
        r#"{"Id":1,"Name":"Matthew Groves","Email":"matthew.groves@couchbase.com","Password":"edzchzmatv5"}"#,
        r#"{"OrderId":1,"PurchaseDate":"2019-04-25T15:15:5800838522","CustomerId":1,"Items":["#,
        r#""Items":[{"OrderId":1,"ProductId":200,"Quantity":2,"Price":87.81},"#,
        r#"{"OrderId":2,"PurchaseDate":"#,
    ] {
        assert!(text.contains(record), "{record}");
    }
    let rows = String::from_utf8(checked_in(FILES[3])).unwrap();
    assert!(rows.contains("(1029, 'Matthew Groves', 'matthew.groves@couchbase.com', "));
}

/// The lines that have an id and the right number of fields, by id. Not a CSV reader: no field here holds a newline.
fn members(night: &str) -> Vec<(String, String)> {
    let text = checked_in(night);
    let lines = text.split(|byte| *byte == b'\n').skip(1).filter_map(|line| std::str::from_utf8(line).ok());
    let fields = |line: &&str| line.split(',').count() == if line.contains(", ") { 7 } else { 6 };
    let good = lines.filter(fields).filter_map(|line| line.split_once(','));
    good.filter(|(id, _)| !id.is_empty()).map(|(id, rest)| (id.to_owned(), rest.to_owned())).collect()
}

#[test]
fn the_second_night_lacks_two_members_has_three_more_and_other_points() {
    let [before, after] = [members(FILES[0]), members(FILES[1])];
    assert_eq!((before.len(), after.len()), (200, 201));
    let ids = |night: &[(String, String)]| night.iter().map(|(id, _)| id.clone()).collect::<HashSet<_>>();
    assert_eq!(ids(&before).len(), before.len());
    assert_eq!(ids(&before).difference(&ids(&after)).count(), 2);
    assert_eq!(ids(&after).difference(&ids(&before)).count(), 3);
    let before: HashSet<_> = before.into_iter().collect();
    let changed = after.iter().filter(|member| !before.contains(member)).count() - 3;
    assert!((10..40).contains(&changed), "{changed}");
}

#[test]
fn the_exports_have_what_such_exports_have() {
    for night in &FILES[..2] {
        let bytes = checked_in(night);
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines[0], b"id,password,firstName,lastName,email,points");
        assert_eq!(lines.iter().filter(|line| std::str::from_utf8(line).is_err()).count(), 1);
        assert_eq!(lines.iter().filter(|line| line.starts_with(b",")).count(), 1);
        let text = String::from_utf8_lossy(&bytes);
        for part in [", Jr.\",", " \"\"Sunny\"\"\",", ",n/a,", ",not an email,", ",,", "@Example."] {
            assert!(text.contains(part), "{part}");
        }
    }
}

#[test]
fn the_store_knows_half_of_the_people_and_every_order_and_line_leads_somewhere() {
    let store = store();
    let records = |kind: &str| store[kind].as_array().unwrap().clone();
    let ids = |kind: &str, id: &str| records(kind).iter().map(|record| record[id].to_string()).collect::<HashSet<_>>();
    let (customers, products) = (ids("customers", "Id"), ids("products", "ProductId"));
    assert_eq!([customers.len(), records("orders").len(), products.len()], [150, 250, 40]);
    let known = people::all().iter().filter(|person| customers.contains(&person.id(System::OnlineStore).to_string()));
    assert_eq!(known.count(), 140);

    let orders = records("orders");
    for order in &orders {
        assert!(customers.contains(&order["CustomerId"].to_string()));
        for item in order["Items"].as_array().unwrap() {
            assert_eq!(item["OrderId"], order["OrderId"]);
            assert!(products.contains(&item["ProductId"].to_string()));
            // Text, as the numbers are kept exactly: two digits behind the point.
            assert_eq!(item["Price"].to_string().split_once('.').unwrap().1.len(), 2);
        }
    }
    assert_eq!(orders.iter().filter(|order| order["Items"] == Value::Array(Vec::new())).count(), 1);
    assert!(records("products").iter().any(|product| product["Name"] == "Café chair, beech"));
}
