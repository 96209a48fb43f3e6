//! Which night a file is of, and what that makes of it.

use std::fs;

use ingest_csv::{ImportOptions, Outcome};

use crate::support::{HEADER, Shop, members, touch};

#[tokio::test]
async fn the_night_is_in_the_name_where_the_pattern_says_else_it_is_the_modification_time() {
    let mut shop = Shop::open().await;
    shop.settings.as_of_pattern = Some("_to_([0-9]{14}|[0-9-]{10})".to_owned());
    for (name, expected) in [
        ("loyalty_members_2026-01-01_to_2026-01-31.csv", "2026-01-31T00:00:00Z"),
        ("loyalty_members_2026-01-01_to_20260201.csv", "2023-11-14T22:13:20Z"),
        ("loyalty_members_to_20260202043000.csv", "2026-02-02T00:00:00Z"),
    ] {
        let path = shop.put(name, members(1..=3));
        let dry_run = ImportOptions { dry_run: true, ..ImportOptions::default() };
        let report = shop.import(&dry_run).await.unwrap().remove(0);
        assert_eq!(report.as_of, Some(expected.parse().unwrap()), "{name}");
        fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn an_older_night_that_comes_late_is_superseded_even_if_it_says_what_the_newest_says() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-02-01.csv", members(1..=3));
    shop.import_one().await;
    fs::remove_file(shop.path("loyalty_members_2026-02-01.csv")).unwrap();
    let late = shop.put("loyalty_members_2026-01-31.csv", members(1..=3));
    assert_eq!(shop.import_one().await.state, Outcome::Superseded);
    let again = ImportOptions { again: true, ..ImportOptions::default() };
    assert_eq!(shop.import(&again).await.unwrap()[0].state, Outcome::Superseded, "again is for what was imported");
    // The newest itself can be imported again, also by a tool that has set its time back.
    fs::rename(late, shop.path("loyalty_members_2026-02-01.csv")).unwrap();
    touch(&shop.path("loyalty_members_2026-02-01.csv"), 1_600_000_000);
    assert_eq!(shop.import(&again).await.unwrap()[0].state, Outcome::Imported);
}

#[tokio::test]
async fn a_copy_is_told_by_its_hash_and_not_read_again() {
    let mut shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", HEADER.to_owned() + "1,s,A,B,a@x.com,1\n\n2,s\n");
    assert_eq!(shop.import_one().await.delimiter, Some(','));
    // Under this delimiter nobody could count its rows.
    shop.settings.delimiter = Some(b'|');
    let copy = shop.import_one().await;
    assert_eq!((copy.state, copy.rows, copy.skipped, copy.delimiter), (Outcome::Copy, 3, 3, None));
    assert_eq!(shop.ledger().await[1].2..=shop.ledger().await[1].4, 3..=3);
}

#[tokio::test]
async fn a_delta_without_rows_is_a_night_on_which_nothing_happened() {
    let mut shop = Shop::open().await;
    shop.settings.full_export = false;
    shop.put("loyalty_members_2026-01-31.csv", HEADER);
    let report = shop.import_one().await;
    assert_eq!((report.state, report.rows, report.encoding), (Outcome::Imported, 0, Some("UTF-8")));
    shop.put("loyalty_members_2026-01-31.csv", "");
    let report = shop.import_one().await;
    assert_eq!(report.state, Outcome::Refused, "not even a header: {report:?}");
}

#[tokio::test]
async fn an_accepted_file_may_lack_columns_and_what_it_lacks_stays_as_it_is() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", "id;email\n1;a@x.com\n2;b@x.com;more\n");
    let report = shop.import_one().await;
    let reason = report.reason.as_deref().unwrap_or_default();
    assert_eq!(report.state, Outcome::Refused);
    assert_eq!(reason, "required columns missing: firstName, lastName, password, points");
    let accept = ImportOptions { accept: true, ..ImportOptions::default() };
    let report = shop.import(&accept).await.unwrap().remove(0);
    assert_eq!((report.state, report.rows, report.dead_letters), (Outcome::Imported, 2, 1));
    assert_eq!(report.delimiter, Some(';'));
    let absent = "select count(*) from staging.records where attributes::jsonb = '{}' and credential is null";
    assert_eq!(shop.count(absent).await, 1, "absent, and not null: it clears nothing");
    // Its dead letters are read by the same header.
    let again = ingest_csv::reread(&shop.settings, &shop.letters().await[0]);
    let ragged = |reject: &model::Reject| reject.reason == model::Reason::RaggedRow;
    assert!(matches!(&again, staging::dead_letters::Reread::StillBad(reject) if ragged(reject)), "{again:?}");
}
