//! `c360 import` as cron sees it, on a real Postgres: what it prints, and how it ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Home, stderr, stdout};

const CONFIG: &str = r#"
[sources.loyalty]
kind = "csv"
directory = "drop"
pattern = "members*.csv"
settle = "10ms"
full_export = true
[sources.loyalty.customer]
external_id = "id"
email = "email"
credential = "password"
attributes = { city = "city" }

[sources.home_delivery]
kind = "kafka"
brokers = "127.0.0.1:1"
topics = ["customers"]
[sources.home_delivery.customer]
external_id = "id"
"#;
const HEADER: &str = "id;email;password;city\n";

struct Place(Home);

impl Place {
    async fn new() -> Self {
        let home = Home::new(CONFIG).await.with("C360_LOG", "trace");
        std::fs::create_dir(home.path("drop")).unwrap();
        Self(home)
    }

    /// Writes the configuration with something more, or something else, in it.
    fn configure(&self, part: &str, by: &str) {
        let config = if part.is_empty() { CONFIG.to_owned() } else { CONFIG.replace(part, by) };
        self.0.write("c360.toml", config);
    }

    fn put(&self, name: &str, rows: &str) {
        self.0.write(name, HEADER.to_owned() + rows);
    }

    /// Runs it for a reader who has gone, and returns its exit code.
    fn unread(&self, arguments: &[&str]) -> Option<i32> {
        let (_, writer) = std::io::pipe().unwrap();
        self.0.command(arguments).stdout(writer).stderr(std::process::Stdio::null()).status().unwrap().code()
    }

    /// Imports, expects an exit code, and returns what it prints of its files.
    fn import(&self, arguments: &[&str], code: i32) -> Vec<Value> {
        let printed = stdout(&self.0.c360(&[&["import", "loyalty"], arguments].concat()).code(code));
        assert_eq!(printed.lines().count(), 1, "{printed}");
        serde_json::from_str::<Value>(&printed).unwrap()["files"].as_array().unwrap().clone()
    }

    /// Like [`Place::import`], of one file.
    fn import_one(&self, arguments: &[&str], code: i32) -> Value {
        let mut files = self.import(arguments, code);
        assert_eq!(files.len(), 1, "{files:#?}");
        files.remove(0)
    }

    async fn count(&self, sql: &str) -> i64 {
        self.0.ask(sql).await
    }
}

/// What a night said counts as it is read now: columns that are mapped since, that are mapped otherwise, and none that are not.
#[tokio::test(flavor = "multi_thread")]
async fn imported_again_files_count_by_the_mapping_of_now() {
    for export in ["full_export = true", "full_export = false"] {
        let place = Place::new().await;
        let profiles = async || -> Value {
            place.0.ask("select jsonb_object_agg(email, profile - 'email') from customer360.customers").await
        };
        let source = CONFIG.replace("full_export = true", export);
        place.0.write("c360.toml", &source);
        place.put("drop/members_2026-01-29.csv", "1;a@x.example;s;Bern\n2;b@x.example;s;Oslo\n");
        place.put("drop/members_2026-01-30.csv", "1;a@x.example;s;Rome\n2;b@x.example;s;Oslo\n");
        place.import(&[], 0);
        assert_eq!(profiles().await, json!({"a@x.example": {"city": "Rome"}, "b@x.example": {"city": "Oslo"}}));
        place.0.write("c360.toml", source.replace("{ city = \"city\" }", "{ town = [\"city\", \"id\"] }"));
        let foreseen = place.import(&["--again", "--dry-run"], 0);
        assert_eq!(foreseen.last().unwrap()["foreseen"]["news"], 2, "{foreseen:#?}");
        place.import(&["--again"], 0);
        assert_eq!(
            profiles().await,
            json!({"a@x.example": {"town": "Rome 1"}, "b@x.example": {"town": "Oslo 2"}}),
            "{export}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_end_has_its_code() {
    let place = Place::new().await;
    assert_eq!(place.import(&[], 0), [] as [Value; 0], "nothing to do is done");
    place.put("drop/members_2026-01-30.csv", "1;a@x.example;s;Rome\n2;b@x.example;s;Oslo\n");
    let file = place.import_one(&[], 0);
    assert_eq!(
        (&file["state"], &file["delimiter"], &file["encoding"]),
        (&json!("imported"), &json!(";"), &json!("UTF-8"))
    );
    assert_eq!(file["as_of"], "2026-01-30T00:00:00Z");
    assert_eq!(place.count("select count(*) from customer360.documents").await, 2, "it consolidates");
    assert_eq!(place.import_one(&[], 0)["state"], "copy");
    assert_eq!(place.import_one(&["--again"], 0)["state"], "imported");

    place.put("elsewhere.csv", "1;a@x.example;s;Bern\n2\n");
    assert_eq!(place.import_one(&["elsewhere.csv"], 4)["dead_letters"], 1);
    place.0.write("narrow.csv", "id;email\n1;a@x.example\n");
    let file = place.import_one(&["narrow.csv"], 65);
    assert_eq!(
        (&file["state"], &file["reason"]),
        (&json!("refused"), &json!("required columns missing: city, password"))
    );
    assert_eq!(place.import_one(&["narrow.csv", "--accept"], 0)["state"], "imported");
    assert_eq!(place.import_one(&["drop"], 65)["reason"], "not a regular file");

    assert!(stderr(&place.0.c360(&["import", "loyalty", "no.csv"]).code(66)).contains("no.csv: no such file"));
    let unknown = stderr(&place.0.c360(&["import", "royalty"]).code(66));
    assert!(unknown.contains("no source is called royalty (did you mean `loyalty`?"), "{unknown}");
    assert!(stderr(&place.0.c360(&["import", "home_delivery"]).code(2)).contains("it has no files"));
    place.0.c360(&["import"]).code(2);

    let mut other = place.0.connection().await;
    assert!(staging::imports::lock(&mut other, "loyalty").await.unwrap());
    assert!(stderr(&place.0.c360(&["import", "loyalty"]).code(75)).contains("another process is importing"));
    staging::imports::unlock(&mut other, "loyalty").await.unwrap();
    place.configure("settle = \"10ms\"", "settle = \"10ms\"\nmarker = \".done\"");
    place.put("drop/members_2026-01-31.csv", "1;a@x.example;s;Rome\n");
    let file = place.import_one(&[], 75);
    let reason = "its marker members_2026-01-31.csv.done is not there";
    assert_eq!((&file["state"], &file["reason"]), (&json!("changing"), &json!(reason)));

    place.configure("directory = \"drop\"", "directory = \"no/where\"");
    let said = stderr(&place.0.c360(&["import", "loyalty"]).code(69));
    assert!(said.contains(place.0.path("no/where").to_str().unwrap()), "which directory that is: {said}");
    place.configure("directory = \"drop\"", "directory = \"drop\"\nencoding = \"klingon\"");
    place.0.c360(&["import", "loyalty"]).code(78);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_has_seen_enough_is_no_error_and_hides_none() {
    let place = Place::new().await;
    place.put("drop/members_2026-01-30.csv", "1;a@x.example;s;Bern\n2\n");
    for (command, code) in [
        ("config print", 0),
        ("migrate", 0),
        ("import loyalty --dry-run", 4),
        ("import loyalty", 4),
        ("status", 0),
        ("status --check", 1),
        ("keys list", 0),
        ("dead-letters list", 0),
        ("customer unmatched", 0),
        ("source retire loyalty --dry-run", 0),
        ("rebuild", 0),
        ("expire", 0),
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        assert_eq!(place.unread(&arguments), Some(code), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let place = Place::new().await;
    let nights = "select count(*) from staging.csv_imports";
    place.put(
        "drop/members_2026-01-29.csv",
        "1;a@x.example;s;Rome\n2;b@x.example;s;Oslo\n3;c@x.example;s;Bern\n4;d@x.example;s;Bonn\n",
    );
    let foreseen = &place.import_one(&["--dry-run"], 0)["foreseen"];
    assert_eq!(
        (&foreseen["news"], &foreseen["leaving"], &foreseen["profiles"]["appear"]),
        (&json!(4), &json!(0), &json!(4))
    );
    assert_eq!(place.count(nights).await, 0);
    place.import(&[], 0);

    // One stays, one moves, one is unreadable and stays, one is gone, one is new.
    place.put(
        "drop/members_2026-01-30.csv",
        "1;a@x.example;s;Rome\n2;b@x.example;s;Bern\n3;c@x.example\n5;e@x.example;s;Rome\n",
    );
    let before = place.count("select sum(hashtext(x::text)) from customer360.xrefs x").await;
    let files = place.import(&["--dry-run"], 4);
    assert_eq!((&files[0]["state"], &files[1]["state"]), (&json!("copy"), &json!("imported")));
    assert_eq!((&files[0]["would_be"], &files[1]["would_be"]), (&json!("copy"), &json!("imported")));
    assert!(files[0].get("foreseen").is_none() && files[1]["dry_run"] == true);
    let foreseen = &files[1]["foreseen"];
    assert_eq!((&foreseen["news"], &foreseen["leaving"], &foreseen["not_applied"]), (&json!(3), &json!(1), &json!(0)));
    assert_eq!(foreseen["profiles"], json!({"appear": 1, "vanish": 1, "change": 1}));
    assert!(foreseen["samples"].to_string().contains("city"));
    assert_eq!(place.count(nights).await, 1);
    assert_eq!(place.count("select sum(hashtext(x::text)) from customer360.xrefs x").await, before);
    assert_eq!(place.count("select count(*) from staging.dead_letters").await, 0);

    // What would be refused would change nothing.
    place.0.write("narrow.csv", "id;email\n1;a@x.example\n");
    assert!(place.import_one(&["narrow.csv", "--dry-run"], 65).get("foreseen").is_none());
    assert_eq!(place.import_one(&["narrow.csv", "--dry-run", "--accept"], 0)["foreseen"]["leaving"], 3);

    // And it comes true.
    place.import(&[], 4);
    assert_eq!(place.count("select count(*) from customer360.documents").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_any_row_is_logged_or_printed_whatever_becomes_of_it() {
    let place = Place::new().await;
    let canary = "c4n4ry";
    let cells = format!("{canary};{canary}@x.example;{canary};{canary}");
    let rows = [
        format!("{cells}\n{cells};more\n{canary}\n;{cells}\n{canary};\"{canary};s;x\n{cells}\0\n"),
        format!("{}\n", format!("{canary};").repeat(300_000)),
    ]
    .concat();
    place.put("drop/members_2026-01-30.csv", &rows);
    place.0.write("drop/members_2026-01-31.csv", format!("{canary};{canary}\n{cells}\n"));
    let bytes = [HEADER.as_bytes(), cells.as_bytes(), b"\xff\n"].concat();
    place.0.write("drop/members_2026-02-01.csv", bytes);
    for arguments in [&["--dry-run"][..], &[], &["--accept"]] {
        let assert = place.0.c360(&[&["import", "loyalty"], arguments].concat()).code(65);
        let output = assert.get_output();
        for said in [&output.stdout, &output.stderr] {
            let said = String::from_utf8_lossy(said);
            assert!(!said.contains(canary), "{}", said.lines().find(|line| line.contains(canary)).unwrap_or_default());
        }
    }
    assert!(place.count("select count(*) from staging.dead_letters").await >= 6, "all of it was met");
    let ledger = format!("select count(*) from staging.csv_imports i where i::text like '%{canary}%'");
    assert_eq!(place.count(&ledger).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_anywhere_in_a_large_file_publishes_nothing_and_the_next_one_publishes_it_once() {
    const ROWS: i64 = 60_000;
    let place = Place::new().await;
    place.import(&[], 0);
    let row = |id: i64| format!("{id};m{id}@x.example;s;Rome\n");
    place.put("drop/members_2026-01-30.csv", &(0..ROWS).map(row).collect::<String>());
    let published = "select coalesce(sum(record_count), 0)::bigint from staging.batches
                     where published_at is not null and abandoned_at is null";
    let mut connection = place.0.connection().await;
    let mut begun = 0;
    for step in [0, 1, 12_000, 25_000, 40_000] {
        let import = place.0.start(&["import", "loyalty"], "import.log");
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            // Of the newest: each takes back what the one before it had landed.
            let sql = "select import_id, row_count from staging.csv_imports order by import_id desc limit 1";
            let newest: Option<(i64, i64)> = sqlx::query_as(sql).fetch_optional(&mut connection).await.unwrap();
            if newest.is_some_and(|(import_id, rows)| import_id > begun && rows >= step) {
                begun = newest.unwrap().0;
                break;
            }
            assert!(Instant::now() < deadline, "it does not come to row {step}: {newest:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(import);
        assert_eq!(place.count(published).await, 0, "killed behind row {step}");
        assert_eq!(place.count("select count(*) from customer360.xrefs").await, 0);
    }
    assert_eq!(place.import_one(&[], 0)["rows"], ROWS);
    assert_eq!(place.count(published).await, ROWS);
    assert_eq!(place.count("select count(*) from customer360.documents").await, ROWS);
    assert_eq!(place.import_one(&[], 0)["state"], "copy");
}

/// What came from files has positions of times, behind which no position of a log ever comes.
#[tokio::test]
async fn a_source_of_files_that_comes_by_kafka_under_the_same_name_is_refused_and_under_another_it_is_not() {
    let place = Place::new().await;
    place.put("drop/members.csv", "1;ann@x.example;s;Bern\n");
    place.import(&[], 0);
    let (_, kafka) = CONFIG.split_at(CONFIG.find("[sources.home_delivery]").unwrap());
    place.0.write("c360.toml", kafka.replace("home_delivery", "loyalty"));
    for command in [&["run", "--once"][..], &["replay", "loyalty"], &["expire"]] {
        let refused = stderr(&place.0.c360(command).code(78));
        assert!(refused.contains("source loyalty was read from files or by REST before"), "{refused}");
        assert!(refused.contains("c360 source retire loyalty"), "{refused}");
    }
    place.0.write("c360.toml", kafka);
    place.0.c360(&["source", "retire", "loyalty", "--yes"]).code(0);
}
