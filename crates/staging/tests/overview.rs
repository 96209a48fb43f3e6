//! What `status` and the gauges ask.

use chrono::TimeDelta;
use model::{Reason, Reject};
use serde_json::json;
use staging::imports::{self, File, State};
use staging::overview::{self, Backlog, DeadLetters, Expiry, PollsDue};
use staging::{Batch, Checkpoint, DeadLetter, polls};

use crate::support::{HOUR, SOURCE, Staged, TTL, advance, batch, dead_letter, noon, origin, record, refusal, staged};

const CSV: &str = "loyalty";

async fn begun(staged: &Staged, name: &str, minutes: i64) -> i64 {
    let file = File {
        directory: "drop".to_owned(),
        source: CSV.to_owned(),
        file_name: name.to_owned(),
        as_of: noon() + TimeDelta::minutes(minutes),
        mtime: noon(),
        dated: false,
        full_export: false,
        sha256: name.to_owned(),
    };
    imports::begin(&staged.pool, &file, noon() + TimeDelta::minutes(minutes)).await.unwrap()
}

#[tokio::test]
async fn the_backlog_is_what_is_landed_and_neither_consolidated_nor_abandoned_by_source() {
    let staged = staged().await;
    assert_eq!(overview::backlog(&staged.pool).await.unwrap(), []);
    let done = staged.land(0, 2, TTL, noon()).await;
    let minute = TimeDelta::minutes(1);
    let waiting = staged.land(2, 3, TTL, noon() + minute).await;
    staged.land(5, 4, TTL, noon() + minute * 2).await;
    staged.finish(&[done], noon()).await;
    staging::fail(&staged.pool, &[waiting], "SQLSTATE 54000").await.unwrap();
    let import_id = begun(&staged, "members.csv", 0).await;
    let mut rows = Batch::new(CSV, TTL);
    rows.push(&record(0));
    let checkpoint = Checkpoint::Csv { import_id, rows_before: 0, rows: 1 };
    staged.lander().land(&mut rows, &json!({}), &checkpoint, noon() + minute * 3).await.unwrap();

    let expected =
        |source: &str, batches, records, (oldest, newest), oldest_claimable, last_error: Option<&str>| Backlog {
            source: source.to_owned(),
            batches,
            records,
            oldest,
            newest,
            oldest_claimable,
            first_expires_at: oldest + TTL,
            last_error: last_error.map(str::to_owned),
        };
    let (one, two, three) = (noon() + minute, noon() + minute * 2, noon() + minute * 3);
    let kafka = expected(SOURCE, 2, 7, (one, two), Some(noon() + minute), Some("SQLSTATE 54000"));
    let csv = expected(CSV, 1, 1, (three, three), None, None);
    assert_eq!(overview::backlog(&staged.pool).await.unwrap(), [kafka.clone(), csv]);
    imports::refuse(&mut staged.connection().await, import_id, &refusal("too many bad rows"), noon()).await.unwrap();
    assert_eq!(overview::backlog(&staged.pool).await.unwrap(), [kafka]);
}

#[tokio::test]
async fn parked_dead_letters_are_counted_by_source_and_reason_and_the_recent_ones_by_themselves() {
    let staged = staged().await;
    let mut lander = staged.lander();
    for (hour, from) in [(0, 0), (1, 3)] {
        let mut batch = batch(from, 0, TTL);
        batch.push_dead_letter(dead_letter(from, b"["));
        batch.push_dead_letter(dead_letter(from + 1, b"["));
        let reject = Reject::new(Reason::NoExternalId, "column id is missing");
        batch.push_dead_letter(DeadLetter::new(json!({"offset": from + 2}), reject, b"{}"));
        let stored = (from > 0).then_some(from);
        let now = noon() + TimeDelta::hours(hour);
        lander.land(&mut batch, &origin(from), &advance(stored, from + 3), now).await.unwrap();
    }
    staged.run("update staging.dead_letters set state = 'discarded' where origin->>'offset' = '0'").await;
    let expected = |reason: &str, parked, recent| DeadLetters {
        source: SOURCE.to_owned(),
        reason: reason.to_owned(),
        parked,
        recent,
        first_recent: Some(noon() + HOUR),
    };
    let letters = overview::dead_letters(&staged.pool, noon() + HOUR).await.unwrap();
    assert_eq!(letters, [expected("no_external_id", 2, 1), expected("not_json", 3, 2)]);
    let parked = overview::parked(&staged.pool).await.unwrap();
    assert_eq!(parked[&(SOURCE.to_owned(), "not_json".to_owned())], 3);
}

#[tokio::test]
async fn of_each_source_the_latest_five_files_are_recent() {
    let staged = staged().await;
    let mut connection = staged.connection().await;
    for night in 0..7 {
        let import_id = begun(&staged, &format!("members-{night}.csv"), night).await;
        let refusal = refusal("too many bad rows");
        assert!(imports::refuse(&mut connection, import_id, &refusal, noon() + HOUR).await.unwrap());
    }
    let files = overview::recent_files(&staged.pool).await.unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.file_name.as_str()).collect();
    assert_eq!(names, [6, 5, 4, 3, 2].map(|night| format!("members-{night}.csv")));
    assert_eq!(files[0].finished_at, Some(noon() + HOUR));
}

#[tokio::test]
async fn a_refused_file_counts_until_one_of_its_night_or_of_a_newer_one_is_imported() {
    let staged = staged().await;
    let names = async || {
        let name = |files: Vec<overview::LedgerFile>| files.first().map(|file| (file.file_name.clone(), file.state));
        let (last, refused) =
            (overview::last_files(&staged.pool).await.unwrap(), overview::refused_files(&staged.pool).await.unwrap());
        (name(last), name(refused))
    };
    assert_eq!(names().await, (None, None));
    let mut connection = staged.connection().await;
    let bad = begun(&staged, "bad.csv", 0).await;
    imports::refuse(&mut connection, bad, &refusal("212 of 400 rows are bad"), noon()).await.unwrap();
    let refused = Some(("bad.csv".to_owned(), State::Refused));
    assert_eq!(names().await, (refused.clone(), refused.clone()));
    let reasons = overview::refused_files(&staged.pool).await.unwrap();
    assert_eq!(reasons[0].reason.as_deref(), Some("212 of 400 rows are bad"));

    let good = begun(&staged, "good.csv", 1).await;
    assert_eq!(names().await, (Some(("good.csv".to_owned(), State::Importing)), refused));
    imports::publish(&mut connection, good, 0, TTL, noon()).await.unwrap();
    assert_eq!(names().await, (Some(("good.csv".to_owned(), State::Imported)), None));

    let mut refuse = async |name: &str, minutes| {
        let import_id = begun(&staged, name, minutes).await;
        imports::refuse(&mut connection, import_id, &refusal("bad"), noon()).await.unwrap();
    };
    // Of one content the last word counts.
    for (name, minutes) in [("one.csv", 2), ("two.csv", 3), ("one.csv", 2)] {
        refuse(name, minutes).await;
    }
    let all = async || {
        let files = overview::refused_files(&staged.pool).await.unwrap();
        files.into_iter().map(|file| (file.directory.unwrap(), file.file_name)).collect::<Vec<_>>()
    };
    let expected =
        |names: &[&str]| names.iter().map(|name| ("drop".to_owned(), (*name).to_owned())).collect::<Vec<_>>();
    assert_eq!(all().await, expected(&["one.csv", "two.csv"]), "the latest first");
    let late = begun(&staged, "late.csv", 2).await;
    imports::publish(&mut staged.connection().await, late, 0, TTL, noon()).await.unwrap();
    assert_eq!(all().await, expected(&["two.csv"]), "an older night does not stand for a newer one");
}

#[tokio::test]
async fn due_polls_are_counted_with_the_oldest() {
    let staged = staged().await;
    let (minute, words) =
        (TimeDelta::minutes(1), |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect());
    for (email, minutes) in [("a@example.com", 0), ("b@example.com", 1), ("c@example.com", 9)] {
        let (sources, emails): (Vec<String>, Vec<String>) = (words(&["online_store"]), words(&[email]));
        polls::offer(&staged.pool, &sources, &emails, &emails, noon() + minute * minutes).await.unwrap();
    }
    let due = async |source| overview::polls_due(&staged.pool, &[source], noon() + minute * 5).await.unwrap();
    assert_eq!(due("online_store").await, [PollsDue { source: "online_store".to_owned(), due: 2, oldest: noon() }]);
    assert_eq!(due("another").await, [], "those of a source that is not configured any more are nobody's to ask");
}

#[tokio::test]
async fn expiry_tells_what_is_held_back_from_what_nobody_has_dropped() {
    let staged = staged().await;
    assert_eq!(overview::expiry(&mut staged.connection().await, noon()).await.unwrap(), Expiry::default());
    // Each landing makes the partition of its expiry and the next one.
    let first = staged.land(0, 1, HOUR, noon()).await;
    let second = staged.land(1, 1, HOUR * 4, noon()).await;
    staged.finish(&[first], noon()).await;
    let at = async |now| overview::expiry(&mut staged.connection().await, now).await.unwrap();
    let (end_of_first, end_of_second) = (noon() + HOUR * 2, noon() + HOUR * 5);

    let expires_at = Some(noon() + HOUR * 4);
    let nothing_late = Expiry { partitions: 4, first_unconsolidated_expires_at: expires_at, ..Expiry::default() };
    assert_eq!(at(end_of_first - TimeDelta::seconds(1)).await, nothing_late);
    let nobody_drops = Expiry { overdue_since: Some(end_of_first), ..nothing_late };
    assert_eq!(at(end_of_first + HOUR * 2).await, nobody_drops);
    let held_back = Expiry { held_back_since: Some(end_of_second), ..nobody_drops };
    assert_eq!(at(end_of_second + HOUR).await, held_back);
    staged.finish(&[second], noon()).await;
    assert_eq!(at(end_of_second + HOUR).await, Expiry { first_unconsolidated_expires_at: None, ..nobody_drops });
}

#[tokio::test]
async fn the_schema_has_a_size_and_sources_have_a_last_landing() {
    let staged = staged().await;
    let bytes = async || overview::bytes_by_table(&staged.pool, "staging").await.unwrap().values().sum::<i64>();
    let before = bytes().await;
    assert!(before > 0);
    staged.land(0, 2_000, TTL, noon()).await;
    assert!(bytes().await > before);
    assert_eq!(overview::kafka_progress(&staged.pool).await.unwrap()[SOURCE], noon());
}
