//! One file at a time, on a real Postgres: what it is, and whether it is published.

use crate::support::{HEADER, Shop, members};
use ingest_csv::{ImportOptions, Outcome};
use model::mapping::Mapping;
use serde_json::Value;
use staging::dead_letters::Reread;

#[tokio::test]
async fn a_file_is_landed_and_published_as_a_whole() {
    let shop = Shop::open().await;
    shop.put(
        "loyalty_members_2026-01-31.csv",
        HEADER.to_owned()
            + "27,xrinn5xp.swd,Matthew,Groves,matthew.groves@couchbase.com,47\n0028,x,\\N,\"\",\"a\"\"b@x.com\",\n",
    );
    let report = shop.import_one().await;
    assert_eq!((report.state, report.rows, report.dead_letters), (Outcome::Imported, 2, 0), "{report:?}");
    assert_eq!((report.delimiter, report.encoding), (Some(','), Some("UTF-8")));
    assert_eq!(shop.published_ids().await, ["27", "0028"]);
    let (email, attributes, payload): (String, Value, Value) =
        sqlx::query_as("select email, attributes::jsonb, payload::jsonb from staging.records where external_id = '27'")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    assert_eq!(email, "matthew.groves@couchbase.com");
    assert_eq!(
        attributes,
        serde_json::json!({"firstName": "Matthew", "lastName": "Groves", "name": "Matthew Groves", "loyaltyPoints": "47"})
    );
    assert_eq!(payload["points"], "47");
    assert!(!payload.to_string().contains("xrinn5xp"), "the password is replaced");
    let (email, attributes): (String, Value) =
        sqlx::query_as("select email, attributes::jsonb from staging.records where external_id = '0028'")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    assert_eq!(email, "a\"b@x.com");
    assert_eq!(attributes["firstName"], Value::Null);
    assert_eq!(shop.count("select count(*) from staging.batches where completes_import").await, 1);
    let as_of: String = sqlx::query_scalar("select (as_of at time zone 'utc')::text from staging.csv_imports")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    assert_eq!(as_of, "2026-01-31 00:00:00");
}

#[tokio::test]
async fn the_same_file_again_is_a_copy_whatever_its_name() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", members(1..=3));
    assert_eq!(shop.import_one().await.state, Outcome::Imported);
    shop.put("loyalty_members_20260131_again.csv", members(1..=3));
    let reports = shop.import(&ImportOptions::default()).await.unwrap();
    assert!(
        reports.iter().all(|report| (report.state, report.rows, report.skipped) == (Outcome::Copy, 3, 3)),
        "{reports:?}"
    );
    shop.import(&ImportOptions::default()).await.unwrap();
    let states: Vec<String> = shop.ledger().await.into_iter().map(|row| row.1).collect();
    assert_eq!(states, ["imported", "copy", "copy"], "each copy is noted once");
    assert_eq!(shop.published_ids().await, ["1", "2", "3"]);
    let again = ImportOptions { again: true, ..ImportOptions::default() };
    let reports = shop.import(&again).await.unwrap();
    assert_eq!(reports[0].state, Outcome::Imported);
}

#[tokio::test]
async fn the_same_content_under_another_date_is_a_new_night() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", members(1..=3));
    shop.put("loyalty_members_2026-02-01.csv", members(1..=3));
    let reports = shop.import(&ImportOptions::default()).await.unwrap();
    assert_eq!(reports.iter().map(|report| report.state).collect::<Vec<_>>(), [Outcome::Imported; 2]);
    assert!(reports[0].as_of < reports[1].as_of, "the oldest night first");
}

#[tokio::test]
async fn other_content_of_the_same_date_is_a_correction_and_wins() {
    let shop = Shop::open().await;
    shop.put_at("loyalty_members_2026-01-31.csv", members(1..=3), 1_700_000_000);
    shop.import_one().await;
    shop.put_at("loyalty_members_2026-01-31.csv", members(1..=4), 1_700_000_100);
    assert_eq!(shop.import_one().await.state, Outcome::Imported);
    // A tool that keeps times: the content is newer all the same.
    shop.put_at("loyalty_members_2026-01-31.csv", members(1..=5), 1_700_000_100);
    assert_eq!(shop.import_one().await.state, Outcome::Imported);
    let newest: i64 = shop
        .count(
            "select i.row_count from staging.records r join staging.batches b using (batch_id)
             join staging.csv_imports i using (import_id) where r.external_id = '1' order by r.position desc limit 1",
        )
        .await;
    assert_eq!(newest, 5);
    // The first version comes back: as a full export it is older than what is known.
    shop.put_at("loyalty_members_2026-01-31.csv", members(1..=3), 1_700_000_000);
    assert_eq!(shop.import_one().await.state, Outcome::Superseded);
}

#[tokio::test]
async fn an_older_full_export_is_superseded_and_an_older_delta_lands() {
    let mut shop = Shop::open().await;
    shop.put("loyalty_members_2026-02-01.csv", members(1..=3));
    shop.import_one().await;
    std::fs::remove_file(shop.path("loyalty_members_2026-02-01.csv")).unwrap();
    shop.put("loyalty_members_2026-01-31.csv", members(1..=2));
    let report = shop.import_one().await;
    assert_eq!((report.state, report.rows, report.skipped), (Outcome::Superseded, 2, 2));
    assert_eq!(shop.ledger().await[1].1, "superseded");
    shop.settings.full_export = false;
    shop.settings.source = "deltas".to_owned();
    shop.put("loyalty_members_2026-02-01.csv", members(4..=5));
    let reports = shop.import(&ImportOptions::default()).await.unwrap();
    assert!(reports.iter().all(|report| report.state == Outcome::Imported));
    std::fs::remove_file(shop.path("loyalty_members_2026-02-01.csv")).unwrap();
    shop.put("loyalty_members_2026-01-30.csv", members(1..=2));
    assert_eq!(shop.import(&ImportOptions::default()).await.unwrap()[0].state, Outcome::Imported);
}

#[tokio::test]
async fn a_look_at_the_directory_imports_none_of_several_deltas_of_a_night_twice() {
    let mut shop = Shop::open().await;
    shop.settings.full_export = false;
    let first = shop.put_at("loyalty_members_2026-01-31.csv", members(1..=3), 1_700_000_000);
    shop.put_at("loyalty_members_2026-01-31_more.csv", members(4..=5), 1_700_000_100);
    let look = async |options: &ImportOptions| {
        let reports = shop.import(options).await.unwrap();
        reports.iter().map(|report| report.state).collect::<Vec<_>>()
    };
    assert_eq!(look(&ImportOptions::default()).await, [Outcome::Imported; 2]);
    assert_eq!(look(&ImportOptions::default()).await, [Outcome::Copy], "the newest of the night");
    let named = shop.import_files(&[first], &ImportOptions::default()).await.unwrap();
    assert_eq!(named[0].state, Outcome::Imported, "somebody asked for it");
    let again = ImportOptions { again: true, ..ImportOptions::default() };
    assert_eq!(look(&again).await, [Outcome::Imported; 2]);
}

#[tokio::test]
async fn without_a_date_in_the_name_the_newest_import_of_all_decides() {
    let shop = Shop::open().await;
    shop.put_at("loyalty_members.csv", members(1..=3), 1_700_000_000);
    assert_eq!(shop.import_one().await.state, Outcome::Imported);
    shop.put_at("loyalty_members.csv", members(1..=3), 1_700_090_000);
    assert_eq!(shop.import_one().await.state, Outcome::Copy);
    shop.put_at("loyalty_members.csv", members(1..=4), 1_700_180_000);
    assert_eq!(shop.import_one().await.state, Outcome::Imported);
    shop.put_at("loyalty_members.csv", members(1..=3), 1_700_270_000);
    assert_eq!(shop.import_one().await.state, Outcome::Imported, "back to what it was before is news");
}

#[tokio::test]
async fn files_that_are_named_lie_anywhere_but_must_be_there() {
    let shop = Shop::open().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("export of 2026-01-31.txt");
    std::fs::write(&path, members(1..=2)).unwrap();
    let link = elsewhere.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let missing = elsewhere.path().join("missing.csv");
    let options = ImportOptions::default();
    let outcome = shop.import_files(&[path.clone(), missing], &options).await;
    assert!(matches!(outcome, Err(ingest_csv::Error::NoSuchFile(_))), "{outcome:?}");
    let reports = shop.import_files(std::slice::from_ref(&link), &options).await.unwrap();
    assert_eq!((reports[0].state, reports[0].rows), (Outcome::Imported, 2));
    let reports = shop.import_files(&[elsewhere.path().to_owned()], &options).await.unwrap();
    assert_eq!((reports[0].state, reports[0].reason.as_deref()), (Outcome::Unreadable, Some("not a regular file")));
}

#[tokio::test]
async fn a_dry_run_judges_and_writes_nothing() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", members(1..=3));
    let dry = ImportOptions { dry_run: true, ..ImportOptions::default() };
    let reports = shop.import(&dry).await.unwrap();
    assert_eq!((reports[0].state, reports[0].rows, reports[0].dry_run), (Outcome::Imported, 3, true));
    assert_eq!(shop.ledger().await, []);
    assert_eq!(shop.count("select count(*) from staging.batches").await, 0);
}

#[tokio::test]
async fn every_row_is_landed_dead_or_skipped_and_dead_members_have_not_left() {
    let shop = Shop::open().await;
    let text = HEADER.to_owned()
        + "1,s,A,B,a@x.com,1\n\n2,s,A\n3,s,\"Boston,B,c@x.com,3\n4,s,A,B,d@x.com,4\n5,s,A\0,B,e@x.com,5\n,s,A,B,f@x.com,6\n"
        + HEADER;
    shop.put("loyalty_members_2026-01-31.csv", [text.as_bytes(), b"7,s,\xff,B,g@x.com,7\n"].concat());
    let report = shop.import_one().await;
    assert_eq!((report.rows, report.dead_letters, report.skipped), (9, 5, 2));
    assert_eq!(shop.ledger().await[0].2..=shop.ledger().await[0].2, 9..=9);
    assert_eq!(shop.published_ids().await, ["1", "4"]);
    let parked: Vec<_> = shop.parked().await;
    let parked: Vec<_> = parked.iter().map(|(reason, id, line)| (reason.as_str(), id.as_deref(), *line)).collect();
    assert_eq!(
        parked,
        [
            ("ragged_row", Some("2"), 4),
            ("unclosed_quote", Some("3"), 5),
            ("nul", Some("5"), 7),
            ("no_external_id", None, 8),
            ("not_utf8", Some("7"), 10),
        ]
    );
    let sealed: Vec<u8> =
        sqlx::query_scalar("select payload from staging.dead_letters where reason = 'unclosed_quote'")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    let opened = staging::Seal::new(&crate::support::key()).open("loyalty", &sealed).unwrap();
    assert_eq!(opened, b"3,s,\"Boston,B,c@x.com,3", "the bytes as they came");
}

#[tokio::test]
async fn a_file_that_is_imported_again_takes_its_dead_letters_with_it() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-30.csv", members(1..=3) + "bad\n");
    shop.import(&ImportOptions::default()).await.unwrap();
    shop.put("loyalty_members_2026-01-31.csv", members(1..=3) + "bad\nworse\n");
    shop.import(&ImportOptions::default()).await.unwrap();
    let parked = async || {
        let parked = "select array_agg(origin->>'file' order by dead_letter_id) from staging.dead_letters where state = 'parked'";
        sqlx::query_scalar::<_, Vec<String>>(parked).fetch_one(&shop.pool).await.unwrap()
    };
    let before = parked().await;
    assert_eq!(before.len(), 3, "{before:?}");
    std::fs::remove_file(shop.path("loyalty_members_2026-01-30.csv")).unwrap();

    let again = ImportOptions { again: true, ..ImportOptions::default() };
    for _ in 0..2 {
        let report = shop.import(&again).await.unwrap().remove(0);
        assert_eq!((report.state, report.dead_letters), (Outcome::Imported, 2));
        assert_eq!(parked().await, before, "neither doubled, nor those of another night taken");
    }
    let wiped =
        "select count(*) from staging.dead_letters where state = 'retried' and payload = '' and context is null";
    assert_eq!(shop.count(wiped).await, 4);
}

#[tokio::test]
async fn a_dead_letter_can_be_read_again_once_the_configuration_is_right() {
    let mut shop = Shop::open().await;
    let text = [HEADER.as_bytes(), b"1,s,A,B,a@x.com,1\n2,s,Zo\xeb,B,z@x.com,2\n3,s\n"].concat();
    shop.put("loyalty_members_2026-01-31.csv", text);
    assert_eq!(shop.import_one().await.dead_letters, 2);
    let letters = shop.letters().await;
    assert_eq!(
        letters[0].letter.origin.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["byte_offset", "file", "line"]
    );
    assert!(matches!(ingest_csv::reread(&shop.settings, &letters[0]), Reread::StillBad(_)));
    shop.settings.encoding = ingest_csv::Encoding::for_label(b"latin1");
    let Reread::Lands { records, .. } = ingest_csv::reread(&shop.settings, &letters[0]) else { panic!("a record") };
    assert!(records[0].mapped.attributes.contains("Zoë"), "{records:?}");
    let before: Vec<u8> =
        sqlx::query_scalar("select position from staging.records").fetch_one(&shop.pool).await.unwrap();
    assert!(records[0].position.as_bytes() > &before[..], "behind the row before it");
    let again = ingest_csv::reread(&shop.settings, &letters[1]);
    assert!(matches!(&again, Reread::StillBad(reject) if reject.reason == model::Reason::RaggedRow), "{again:?}");
}

#[tokio::test]
async fn rows_are_read_again_as_they_would_have_been_when_they_came() {
    // The same file, with its bad rows and under a configuration by which none of them is.
    let text =
        [HEADER.as_bytes(), b"1,s,A,B,a@x.com,1\n2,s,\"Zo\xeb\",\\N,z@x.com,2\n3,\"t;\"\"u\",\xe9,B,,3\n"].concat();
    let mut shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", &text);
    shop.import_one().await;
    let letters = shop.letters().await;
    let mut other = Shop::open().await;
    for shop in [&mut shop, &mut other] {
        shop.settings.encoding = ingest_csv::Encoding::for_label(b"latin1");
    }
    other.put("loyalty_members_2026-01-31.csv", &text);
    assert_eq!(other.import_one().await.dead_letters, 0);
    let landed: Vec<(Vec<u8>, Value)> = sqlx::query_as(
        "select position, jsonb_build_object('id', external_id, 'payload', payload, 'credential', credential,
                                            'attributes', attributes, 'observed_at', observed_at)
         from staging.records where external_id <> '1' order by position",
    )
    .fetch_all(&other.pool)
    .await
    .unwrap();
    assert_eq!(letters.len(), landed.len());
    for (letter, (position, expected)) in letters.iter().zip(landed) {
        let Reread::Lands { records, .. } = ingest_csv::reread(&shop.settings, letter) else { panic!("a record") };
        let record = &records[0];
        let read = serde_json::json!({
            "id": record.mapped.external_id.as_str(), "payload": record.payload, "credential": record.mapped.credential,
            "attributes": serde_json::from_str::<Value>(&record.mapped.attributes).unwrap(),
            "observed_at": record.observed_at.format("%Y-%m-%dT%H:%M:%S+00:00").to_string(),
        });
        assert_eq!((record.position.as_bytes(), read), (&position[..], expected));
    }
}

#[tokio::test]
async fn what_a_declared_encoding_could_not_read_is_not_taken_for_another_one() {
    let mut shop = Shop::open().await;
    let marked =
        ["\u{feff}".as_bytes(), HEADER.as_bytes(), "1,s,Zoë \u{e9}".as_bytes(), b"\xff,B,a@x.com,1\n"].concat();
    shop.put("loyalty_members_2026-01-31.csv", marked);
    assert_eq!(shop.import_one().await.dead_letters, 1);
    shop.settings.encoding = ingest_csv::Encoding::for_label(b"latin1");
    let again = ingest_csv::reread(&shop.settings, &shop.letters().await[0]);
    assert!(matches!(&again, Reread::StillBad(reject) if reject.reason == model::Reason::NotUtf8), "{again:?}");
}

#[tokio::test]
async fn letters_of_before_there_was_a_context_are_read_by_their_origin() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", HEADER.to_owned() + "1,s,A,B,a@x.com,1\n2;s,A,B,a@x.com,1\n");
    shop.import_one().await;
    sqlx::raw_sql(
        r#"update staging.dead_letters
           set context = null, origin = origin || '{"row": 2, "as_of": "2026-01-31T00:00:00Z", "mtime": "2023-11-14T22:13:20Z",
               "delimiter": ",", "columns": ["id;password", "firstName", "lastName", "email", "points"]}'"#,
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    let mut settings = shop.settings.clone();
    settings.mapping = Mapping::Customer(serde_json::from_str(r#"{"external_id": "id;password"}"#).unwrap());
    let again = ingest_csv::reread(&settings, &shop.letters().await[0]);
    let Reread::Lands { records, .. } = again else { panic!("{again:?}") };
    assert_eq!(records[0].mapped.external_id.as_str(), "2;s");
}

#[tokio::test]
async fn the_cells_of_a_parked_row_have_names_and_one_of_them_is_the_credential() {
    let shop = Shop::open().await;
    let header = "ID,PassWord,firstName,lastName,email,points\n";
    shop.put(
        "loyalty_members_2026-01-31.csv",
        header.to_owned() + ",\"a\"\"b\",A,B,a@x.com,1\n3,s\n7,s,A,B,a@x.com,1\n",
    );
    shop.import_one().await;
    let letters = shop.letters().await;
    let row = ingest_csv::read_row(&shop.settings, &letters[0]).unwrap();
    let cells: Vec<_> = row.cells.iter().map(|cell| (&*cell.column, &*cell.text, cell.is_credential)).collect();
    assert_eq!(cells[..3], [("ID", "", false), ("PassWord", "a\"b", true), ("firstName", "A", false)]);
    assert_eq!(&row.text[row.cells[1].place.clone()], "\"a\"\"b\"");
    assert_eq!(ingest_csv::read_row(&shop.settings, &letters[1]), None, "a cell too few: nobody knows which is which");
}
