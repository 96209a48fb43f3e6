//! Files of which nothing is published.

use ingest_csv::{FileReport, ImportOptions, Outcome};

use crate::support::{HEADER, Shop, members};

async fn refused(shop: &Shop, report: &FileReport, reason: &str) {
    assert_eq!(report.state, Outcome::Refused, "{report:?}");
    assert!(report.reason.as_deref().is_some_and(|said| said.contains(reason)), "{report:?}");
    let noted: (String, Option<String>) =
        sqlx::query_as("select state, reason from staging.csv_imports order by import_id desc limit 1")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    assert_eq!(noted, ("refused".to_owned(), report.reason.clone()));
    let open = "select count(*) from staging.batches b join staging.csv_imports i using (import_id)
                where i.state = 'refused' and (b.published_at is not null or b.abandoned_at is null)";
    assert_eq!(shop.count(open).await, 0, "nothing of it can be claimed");
    assert_eq!(shop.parked().await, [], "its dead letters are nobody's work");
}

#[tokio::test]
async fn too_many_bad_rows_refuse_the_file_until_somebody_accepts_it() {
    let shop = Shop::open().await;
    let bad = |count: u64| members(1..=500) + &"bad\n".repeat(usize::try_from(count).unwrap());
    shop.put("loyalty_members_2026-01-31.csv", bad(100));
    let report = shop.import_one().await;
    assert_eq!(
        (report.state, report.dead_letters),
        (Outcome::Imported, 100),
        "100 of 600 are too many percent, not too many"
    );
    shop.put("loyalty_members_2026-01-31.csv", members(1..=2_000) + &"bad\n".repeat(150));
    assert_eq!(shop.import_one().await.state, Outcome::Imported, "150 of 2150 are too many, not too many percent");
    sqlx::query("update staging.dead_letters set state = 'discarded'").execute(&shop.pool).await.unwrap();
    shop.put_at("loyalty_members_2026-01-31.csv", bad(1_000), 1_800_000_000);
    refused(&shop, &shop.import_one().await, "1000 of 1500 rows are bad").await;
    refused(&shop, &shop.import_one().await, "1000 of 1500 rows are bad").await;
    let accept = ImportOptions { accept: true, ..ImportOptions::default() };
    let reports = shop.import(&accept).await.unwrap();
    assert_eq!((reports[0].state, reports[0].rows), (Outcome::Imported, 1_500));
    assert_eq!(shop.parked().await.len(), 1_000);
}

#[tokio::test]
async fn a_refused_file_that_is_found_again_lands_nothing_until_it_is_right() {
    let mut shop = Shop::open().await;
    let row = |id: u64| [format!("{id},s,Zo").as_bytes(), b"\xeb,B,z@x.com,1\n"].concat();
    let rows: Vec<u8> = (0..200).flat_map(row).collect();
    shop.put("loyalty_members_2026-01-31.csv", [HEADER.as_bytes(), &rows].concat());
    refused(&shop, &shop.import_one().await, "set `encoding`").await;
    let batches = shop.count("select count(*) from staging.batches").await;
    let again = shop.import_one().await;
    assert_eq!((again.state, again.rows, again.dead_letters), (Outcome::Refused, 200, 200));
    assert!(again.reason.is_some_and(|reason| reason.contains("set `encoding`")));
    assert_eq!(shop.ledger().await.len(), 1, "it is known");
    assert_eq!(shop.count("select count(*) from staging.batches").await, batches, "and nothing of it lands again");
    shop.settings.encoding = ingest_csv::Encoding::for_label(b"windows-1252");
    assert_eq!(shop.import_one().await.state, Outcome::Imported, "the configuration is mended");
    assert_eq!(shop.published_ids().await.len(), 200);
}

#[tokio::test]
async fn a_wrong_encoding_is_refused_with_the_key_that_is_missing() {
    let shop = Shop::open().await;
    let row = |id: u64| [format!("{id},s,Zo").as_bytes(), b"\xeb,B,z@x.com,1\n"].concat();
    let rows: Vec<u8> = (0..200).flat_map(row).collect();
    shop.put("loyalty_members_2026-01-31.csv", [HEADER.as_bytes(), &rows].concat());
    refused(&shop, &shop.import_one().await, "set `encoding`").await;
}

#[tokio::test]
async fn a_full_export_without_rows_or_half_gone_is_refused() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-01.csv", HEADER);
    refused(&shop, &shop.import_one().await, "without rows").await;
    shop.put("loyalty_members_2026-01-02.csv", members(1..=300));
    let reports = shop.import(&ImportOptions::default()).await.unwrap();
    assert_eq!(reports.last().map(|report| report.state), Some(Outcome::Imported));
    std::fs::remove_file(shop.path("loyalty_members_2026-01-01.csv")).unwrap();
    std::fs::remove_file(shop.path("loyalty_members_2026-01-02.csv")).unwrap();
    shop.put("loyalty_members_2026-01-03.csv", members(1..=149));
    refused(&shop, &shop.import_one().await, "149 rows after a file of 300").await;
    shop.put("loyalty_members_2026-01-03.csv", members(1..=150));
    assert_eq!(shop.import_one().await.state, Outcome::Imported, "half is not more than half");
    shop.put("loyalty_members_2026-01-03.csv", HEADER);
    crate::support::touch(&shop.path("loyalty_members_2026-01-03.csv"), 1_800_000_000);
    let accept = ImportOptions { accept: true, ..ImportOptions::default() };
    assert_eq!(shop.import(&accept).await.unwrap()[0].state, Outcome::Imported);
    let completing =
        "select count(*) from staging.batches where completes_import and record_count = 0 and published_at is not null";
    assert_eq!(shop.count(completing).await, 1, "an accepted empty export says that everybody has left");
}

#[tokio::test]
async fn the_first_full_export_after_deltas_is_compared_with_the_largest_of_them() {
    let mut shop = Shop::open().await;
    shop.settings.full_export = false;
    for (night, rows) in [(1, 1..=400), (2, 5..=24), (3, 30..=39)] {
        shop.put(&format!("loyalty_members_2026-01-0{night}.csv"), members(rows));
        shop.import(&ImportOptions::default()).await.unwrap();
    }
    shop.settings.full_export = true;
    shop.put("loyalty_members_2026-01-04.csv", members(1..=20));
    let reports = shop.import(&ImportOptions::default()).await.unwrap();
    refused(&shop, reports.last().unwrap(), "20 rows after a file of 400").await;
    // From now on there is a last one.
    shop.put("loyalty_members_2026-01-05.csv", members(1..=350));
    shop.put("loyalty_members_2026-01-06.csv", members(1..=180));
    let reports = shop.import(&ImportOptions::default()).await.unwrap();
    assert!(reports[reports.len() - 2..].iter().all(|report| report.state == Outcome::Imported), "{reports:?}");
}

#[tokio::test]
async fn headers_that_do_not_fit_are_refused() {
    let shop = Shop::open().await;
    for (text, reason) in [
        ("id,firstName,lastName,email,points\n1,A,B,a@x.com,1\n", "required columns missing: password"),
        ("1,s,A,B,a@x.com,1\n", "required columns missing: email, firstName, id"),
        ("id,password,firstName,lastName,email,points,Email\n", "column email is there more than once"),
        ("", "empty"),
        ("\n", "empty"),
    ] {
        shop.put("loyalty_members_2026-01-31.csv", text);
        refused(&shop, &shop.import_one().await, reason).await;
    }
}

#[tokio::test]
async fn the_ledger_says_where_a_refused_file_was_and_whether_it_may_be_accepted() {
    let shop = Shop::open().await;
    for (text, is_acceptable) in [
        ("", false),
        ("email,password\na@x.com,1\n", false),
        ("id,firstName,lastName,email,points\n1,A,B,a@x.com,1\n", true),
        ("id,password,firstName,lastName,email,points,Email\n1,s,A,B,a@x.com,1,b@x.com\n", true),
        (HEADER, true),
    ] {
        shop.put("loyalty_members_2026-01-31.csv", text);
        assert_eq!(shop.import_one().await.state, Outcome::Refused, "{text}");
        let noted: (String, bool) = sqlx::query_as(
            "select directory, may_be_accepted from staging.csv_imports order by import_id desc limit 1",
        )
        .fetch_one(&shop.pool)
        .await
        .unwrap();
        let directory = shop.path("").to_string_lossy().trim_end_matches('/').to_owned();
        assert_eq!(noted, (directory, is_acceptable), "{text}");
        let accept = ImportOptions { accept: true, ..ImportOptions::default() };
        let accepted = shop.import(&accept).await.unwrap()[0].state;
        assert_eq!(accepted == Outcome::Imported, is_acceptable, "{text}");
        sqlx::query("delete from staging.csv_imports").execute(&shop.pool).await.unwrap();
    }
}

#[tokio::test]
async fn a_cut_off_gzip_file_is_refused_after_all_that_it_had() {
    use std::io::Write;
    let shop = Shop::open().await;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(members(1..=20_000).as_bytes()).unwrap();
    let whole = packer.finish().unwrap();
    shop.put("loyalty_members_2026-01-31.csv.gz", &whole[..whole.len() - 100]);
    refused(&shop, &shop.import_one().await, "cut off").await;
    assert!(shop.count("select count(*) from staging.records").await > 0, "it was refused half-way");
    shop.put("loyalty_members_2026-01-31.csv.gz", whole);
    let report = shop.import_one().await;
    assert_eq!((report.state, report.rows), (Outcome::Imported, 20_000));
    assert_eq!(shop.published_ids().await.len(), 20_000);
}

#[tokio::test]
async fn a_marker_that_counts_other_rows_refuses_the_file() {
    let mut shop = Shop::open().await;
    shop.settings.marker = Some(".done".to_owned());
    shop.put("loyalty_members_2026-01-31.csv", members(1..=3));
    assert_eq!(shop.import_one().await.state, Outcome::Changing, "no marker, no file");
    shop.put("loyalty_members_2026-01-31.csv.done", "4\n");
    refused(&shop, &shop.import_one().await, "the marker says 4 rows, the file has 3").await;
    shop.put("loyalty_members_2026-01-31.csv.done", "3\n");
    assert_eq!(shop.import_one().await.state, Outcome::Imported);
}
