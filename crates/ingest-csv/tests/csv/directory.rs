//! What lies in a directory and is no finished file: odd things, files without their marker, files under way.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::Command;

use ingest_csv::{FileReport, ImportOptions, Outcome};

use crate::support::{HEADER, Shop, members, touch};

async fn import(shop: &Shop) -> Vec<FileReport> {
    shop.import(&ImportOptions::default()).await.unwrap()
}

/// State and reason of the one report.
fn only(reports: &[FileReport]) -> (Outcome, &str) {
    let [report] = reports else { panic!("one report: {reports:?}") };
    (report.state, report.reason.as_deref().unwrap_or_default())
}

#[tokio::test]
async fn odd_things_in_the_directory_are_left_alone() {
    let shop = Shop::open().await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), members(7..=9)).unwrap();
    std::os::unix::fs::symlink(secret.path(), shop.path("loyalty_members_link.csv")).unwrap();
    std::os::unix::fs::symlink("/nowhere", shop.path("loyalty_members_dangling.csv")).unwrap();
    fs::create_dir(shop.path("loyalty_members_directory.csv")).unwrap();
    fs::write(shop.path("loyalty_members_directory.csv/loyalty_members.csv"), members(7..=9)).unwrap();
    assert!(Command::new("mkfifo").arg(shop.path("loyalty_members_fifo.csv")).status().unwrap().success());
    let _socket = UnixListener::bind(shop.path("loyalty_members_socket.csv")).unwrap();
    // /dev/zero, which never ends, where whoever runs the tests may make one.
    let _ = Command::new("mknod").arg(shop.path("loyalty_members_device.csv")).args(["c", "1", "5"]).output();
    for name in ["loyalty_members.csv.tmp", ".loyalty_members.csv", "loyalty_members.csv.part", "other.csv"] {
        shop.put(name, members(7..=9));
    }
    shop.put("loyalty_members_new\nline_2026-01-31.csv", members(1..=1));
    let reports = import(&shop).await;
    assert_eq!(only(&reports), (Outcome::Imported, ""));
    assert_eq!(shop.published_ids().await, ["1"]);
}

#[tokio::test]
async fn a_hard_link_is_the_file_that_it_is_and_counts_once() {
    let shop = Shop::open().await;
    let path = shop.put("loyalty_members_2026-01-31.csv", members(1..=3));
    fs::hard_link(&path, shop.path("loyalty_members_2026-01-31_link.csv")).unwrap();
    let states: Vec<_> = import(&shop).await.iter().map(|report| report.state).collect();
    assert_eq!(states, [Outcome::Imported, Outcome::Copy]);
    assert_eq!(shop.published_ids().await.len(), 3);
}

#[tokio::test]
async fn names_and_values_that_mean_something_to_a_database_are_text() {
    let shop = Shop::open().await;
    let evil = "'); drop table staging.records; --";
    let name = format!("loyalty_members{evil}{{}}$1%s_2026-01-31.csv");
    let cells = [evil, "$1", "\\.", "%s'", "a@x.com", "=HYPERLINK(1)"];
    shop.put(&name, format!("{HEADER}{}\n{}\n", cells.join(","), "\\\\.,\t,'',;,b@x.com,1"));
    assert_eq!(import(&shop).await[0].state, Outcome::Imported);
    assert_eq!(shop.published_ids().await, [evil, "\\\\."]);
    assert_eq!(shop.ledger().await[0].0, name);
    let points = "select count(*) from staging.records where attributes->>'loyaltyPoints' = '=HYPERLINK(1)'";
    assert_eq!(shop.count(points).await, 1, "stored as it is; whoever exports it escapes it");
}

#[tokio::test]
async fn a_file_that_is_still_written_to_is_said_and_left_to_the_next_import() {
    let shop = Shop::open().await;
    let path = shop.path("loyalty_members_2026-01-31.csv");
    let writing = {
        let mut file = File::create(&path).unwrap();
        file.write_all(HEADER.as_bytes()).unwrap();
        tokio::spawn(async move {
            for id in 0.. {
                writeln!(file, "{id},s,A,B,m{id}@x.com,1").unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let reports = import(&shop).await;
    writing.abort();
    assert_eq!(only(&reports), (Outcome::Changing, "somebody still writes to it, or to a file of an older night"));
    assert_eq!(shop.ledger().await, []);
    assert_eq!(only(&import(&shop).await).0, Outcome::Imported, "once it is still");
}

#[tokio::test]
async fn without_its_marker_a_file_is_said_and_not_imported() {
    let mut shop = Shop::open().await;
    shop.settings.marker = Some(".done".to_owned());
    let path = shop.put("loyalty_members_2026-01-31.csv", members(1..=3));
    let (state, reason) = (Outcome::Changing, "its marker loyalty_members_2026-01-31.csv.done is");
    assert_eq!(only(&import(&shop).await), (state, &*format!("{reason} not there")));
    let marker = shop.put_at("loyalty_members_2026-01-31.csv.done", "", 1_600_000_000);
    assert_eq!(only(&import(&shop).await), (state, &*format!("{reason} older than the file")), "that of another night");
    assert_eq!(shop.ledger().await, []);
    touch(&marker, 1_700_000_000);
    assert_eq!(only(&import(&shop).await).0, Outcome::Imported);
    fs::remove_file(&marker).unwrap();
    assert_eq!(import(&shop).await.len(), 0, "finished with: it needs no marker any more");
    touch(&path, 1_700_000_001);
    assert_eq!(import(&shop).await.len(), 1, "another file");
    assert_eq!(shop.import_files(&[path], &ImportOptions::default()).await.unwrap()[0].state, Outcome::Copy);
}

#[tokio::test]
async fn a_marker_may_count_the_rows_by_itself_or_in_a_manifest() {
    let mut shop = Shop::open().await;
    shop.settings.marker = Some(".manifest".to_owned());
    let refused = "the marker says 4 rows, the file has 3";
    for (night, manifest, expected) in [
        (1, "4\n", (Outcome::Refused, refused)),
        (2, r#"{"file": "x", "rows": 4, "sha256": "00"}"#, (Outcome::Refused, refused)),
        (3, r#"{"file": "x", "rows": 3}"#, (Outcome::Imported, "")),
        (4, "2026-01-31T04:00:00Z", (Outcome::Imported, "")),
    ] {
        let name = format!("loyalty_members_2026-01-0{night}.csv");
        let path = shop.put(&name, members(1..=3));
        let marker = shop.put(&format!("{name}.manifest"), manifest);
        let reports = import(&shop).await;
        assert_eq!(only(&reports), expected, "{manifest}");
        fs::remove_file(path).unwrap();
        fs::remove_file(marker).unwrap();
    }
}

#[tokio::test]
async fn a_marker_of_another_name_is_for_the_whole_directory() {
    let mut shop = Shop::open().await;
    shop.settings.marker = Some("_SUCCESS".to_owned());
    shop.put("loyalty_members_2026-01-30.csv", members(1..=3));
    shop.put("loyalty_members_2026-01-31.csv", members(1..=3));
    assert!(import(&shop).await.iter().all(|report| report.state == Outcome::Changing));
    shop.put("_SUCCESS", "");
    assert!(import(&shop).await.iter().all(|report| report.state == Outcome::Imported));
}
