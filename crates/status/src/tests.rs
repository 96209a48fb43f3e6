//! Facts to documents and pages, without a database.

mod pages;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use consolidate::overview::{LogRestart, Unfolded};
use serde_json::{Value, json};
use staging::health::Health;
use staging::imports::State;
use staging::overview::{self, DeadLetters, LedgerFile, PollsDue};

use super::{Expected, Facts, Kind, Lags, Paint, Report, Setup, Severity, page};

/// That of the reference scenario.
fn setup() -> Setup {
    let source = |kind, late_after| Expected { kind, late_after: Some(late_after), ttl: Duration::from_hours(25) };
    let files = Kind::Csv { directory: "drop/loyalty".into(), scan_every: Duration::from_secs(30) };
    let sources = [
        ("home_delivery", source(Kind::Kafka, Duration::from_mins(5))),
        ("loyalty", source(files, Duration::from_hours(30))),
        ("online_store", source(Kind::Rest, Duration::from_hours(24))),
    ];
    Setup {
        sources: sources.map(|(name, source)| (name.to_owned(), source)).into(),
        rules: "fingerprint".to_owned(),
        listen: ([127, 0, 0, 1], 8360).into(),
    }
}

fn now() -> DateTime<Utc> {
    "2026-03-01T03:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> DateTime<Utc> {
    now() - TimeDelta::seconds(seconds)
}

/// A daemon that has run for an hour and has nothing to do.
fn calm() -> Facts {
    let mut facts = Facts { consolidator_since: Some(ago(3_600)), staging_bytes: 3 << 20, ..Facts::default() };
    facts.expiry.partitions = 26;
    say(
        &mut facts,
        "home_delivery",
        2,
        json!({"lag": 0, "lag_seconds": 0, "oldest_unlanded_seconds": 0, "stopped": []}),
    );
    say(&mut facts, "loyalty", 20, json!({"oldest_unlanded_seconds": 0, "stopped": []}));
    say(&mut facts, "online_store", 3, json!({"breaker": "closed", "stopped": [], "oldest_unlanded_seconds": 0.0}));
    facts
}

fn say(facts: &mut Facts, source: &str, seconds_ago: i64, health: Value) {
    let health = Health { source: source.to_owned(), health, said_at: Some(ago(seconds_ago)) };
    facts.health.insert(source.to_owned(), health);
}

fn waits(source: &str, seconds: i64) -> overview::Backlog {
    overview::Backlog {
        source: source.to_owned(),
        batches: 2,
        records: 1_204,
        oldest: ago(seconds),
        newest: ago(seconds),
        oldest_claimable: Some(ago(seconds)),
        first_expires_at: ago(seconds) + TimeDelta::hours(25),
        last_error: None,
    }
}

fn refused() -> LedgerFile {
    LedgerFile {
        source: "loyalty".to_owned(),
        directory: Some("/mnt/drop".to_owned()),
        file_name: "loyalty_members_2026-03-01.csv".to_owned(),
        as_of: "2026-03-01T00:00:00Z".parse().unwrap(),
        state: State::Refused,
        rows: 400,
        dead_letters: 212,
        skipped: 0,
        reason: Some("212 of 400 rows are bad".to_owned()),
        may_be_accepted: true,
        started_at: ago(3_004),
        finished_at: Some(ago(3_000)),
    }
}

fn letters(reason: &str, parked: i64, recent: i64) -> DeadLetters {
    let first_recent = (recent > 0).then(|| ago(600));
    DeadLetters { source: "home_delivery".to_owned(), reason: reason.to_owned(), parked, recent, first_recent }
}

fn report(facts: &Facts) -> Report {
    Report::new(&setup(), facts, &Lags::new(), now())
}

/// What needs a look, each as `source: problem $ command`.
fn looks(facts: &Facts) -> Vec<String> {
    looks_with(facts, &Lags::new())
}

fn looks_with(facts: &Facts, lags: &Lags) -> Vec<String> {
    let report = Report::new(&setup(), facts, lags, now());
    let look =
        |look: &super::Look| format!("{}: {} $ {}", look.source.as_deref().unwrap_or("-"), look.problem, look.command);
    report.looks.iter().map(look).collect()
}

fn only(looks: &[String]) -> &str {
    assert_eq!(looks.len(), 1, "{looks:#?}");
    &looks[0]
}

#[test]
fn the_document_has_the_frozen_shape() {
    let mut facts = calm();
    say(
        &mut facts,
        "home_delivery",
        2,
        json!({
            "lag": 12, "lag_seconds": 3, "oldest_unlanded_seconds": 1,
            "stopped": [{"topic": "t", "partition": 1, "reason": "retention has passed it"}]
        }),
    );
    facts.backlog.insert("home_delivery".to_owned(), waits("home_delivery", 12));
    facts.dead_letters = vec![letters("not_json", 3, 0), letters("no_external_id", 1, 0)];
    facts.last_files.insert("loyalty".to_owned(), refused());
    let polls = PollsDue { source: "online_store".to_owned(), due: 35, oldest: ago(4) };
    facts.polls_due.insert("online_store".to_owned(), polls);
    facts.unmatched = [("no_email".to_owned(), 12)].into();
    facts.expiry.held_back_since = Some(ago(90));
    let document = serde_json::to_value(report(&facts)).unwrap();

    let kafka = &document["sources"]["home_delivery"];
    assert_eq!(kafka["kind"], "kafka");
    assert_eq!(
        (&kafka["lag"], &kafka["lag_seconds"], &kafka["oldest_unlanded_seconds"]),
        (&json!(12), &json!(3), &json!(1))
    );
    assert_eq!(kafka["dead_letters"], json!({"not_json": 3, "no_external_id": 1}));
    assert_eq!(kafka["stopped"][0]["partition"], 1);
    assert_eq!(kafka["reported_seconds_ago"], 2);
    for foreign in ["breaker", "last_file", "polls_due"] {
        assert!(kafka.get(foreign).is_none(), "{foreign} is not Kafka's");
    }
    let csv = &document["sources"]["loyalty"];
    assert_eq!((&csv["kind"], &csv["last_file"]["state"]), (&json!("csv"), &json!("refused")));
    assert!(csv.get("lag").is_none() && csv.get("breaker").is_none());
    let rest = &document["sources"]["online_store"];
    assert_eq!((&rest["breaker"], &rest["polls_due"], &rest["stopped"]), (&json!("closed"), &json!(35), &json!([])));
    assert_eq!(rest["oldest_unlanded_seconds"], 4);
    assert_eq!(document["backlog"], json!({"batches": 2, "records": 1204, "oldest_seconds": 12}));
    assert_eq!(document["unmatched"], json!({"no_email": 12}));
    assert_eq!((&document["expiry"]["held_back_seconds"], &document["expiry"]["partitions"]), (&json!(90), &json!(26)));
    assert_eq!(document["ready"], false, "a partition is stopped");
}

#[test]
fn a_list_shows_how_far_it_is_read_and_for_how_long_it_waits() {
    let mut facts = calm();
    let list = staging::lists::Overview {
        source: "online_store".to_owned(),
        entity: "customer".to_owned(),
        complete_until: Some(ago(4_000)),
        finished_at: Some(ago(3_900)),
        due_since: Some(ago(400)),
        pages: 12,
        records: 1_200,
        failures: 0,
    };
    facts.lists.insert("online_store".to_owned(), vec![list.clone()]);
    let document = serde_json::to_value(report(&facts)).unwrap();
    let rest = &document["sources"]["online_store"];
    assert_eq!(rest["oldest_unlanded_seconds"], 400);
    let shown = json!({
        "complete_until": ago(4_000), "finished_at": ago(3_900), "due_seconds": 400, "pages": 12, "records": 1_200, "failures": 0
    });
    assert_eq!(rest["lists"], json!({ "customer": shown }));
    let page = page(&report(&facts), now(), Paint::Plain);
    assert!(page.contains("list of customers from page 13, 6 min"), "{page}");
    assert_eq!(looks(&facts), [""; 0], "it is being read");

    facts.consolidator_since = None;
    facts.health.clear();
    assert!(only(&looks(&facts)).contains("this waits for one: the list of customers on online_store."));

    let resting = staging::lists::Overview { due_since: None, pages: 0, ..list };
    facts.lists.insert("online_store".to_owned(), vec![resting]);
    assert_eq!(looks(&facts), [""; 0]);

    let word = json!({"breaker": "closed", "stopped": [], "trouble": "list_customer: a page has come twice"});
    say(&mut facts, "online_store", 3, word);
    assert!(only(&looks(&facts)).contains("online_store: list_customer: a page has come twice."));
}

#[test]
fn where_all_is_well_nothing_needs_a_look_and_all_is_ready() {
    let report = report(&calm());
    assert_eq!((report.looks.len(), report.ready), (0, true), "{:#?}", report.looks);
}

#[test]
fn counts_of_a_process_that_is_gone_are_not_shown_and_what_it_had_stopped_is() {
    let mut facts = calm();
    facts.consolidator_since = None;
    let word = json!({"lag": 12, "lag_seconds": 3, "stopped": [{"topic": "t", "partition": 1, "reason": "gone"}]});
    say(&mut facts, "home_delivery", 4_000, word);
    let document = serde_json::to_value(report(&facts)).unwrap();
    let kafka = &document["sources"]["home_delivery"];
    assert!(kafka.get("lag").is_none() && kafka.get("lag_seconds").is_none(), "{kafka}");
    assert_eq!((&kafka["reported_seconds_ago"], &kafka["running"]), (&json!(4_000), &json!(false)));
    assert_eq!(kafka["stopped"][0]["reason"], "gone");
    assert!(only(&looks(&facts)).contains("(said 66 min ago): gone"), "{:?}", looks(&facts));
}

#[test]
fn without_a_daemon_only_work_that_waits_needs_a_look() {
    let mut facts = Facts::default();
    assert_eq!(looks(&facts), [""; 0]);
    let lags: Lags = [("home_delivery".to_owned(), Ok(5))].into();
    assert_eq!(
        only(&looks_with(&facts, &lags)),
        "-: no c360 runs, and this waits for one: 5 messages on home_delivery. $ c360 run"
    );
    facts.kafka_progress.insert("home_delivery".to_owned(), ago(200));
    assert_eq!(looks_with(&facts, &lags), [""; 0], "somebody landed just now");
    facts.kafka_progress.insert("home_delivery".to_owned(), ago(400));
    say(&mut facts, "home_delivery", 400, json!({}));
    facts.backlog.insert("loyalty".to_owned(), waits("loyalty", 500));
    let polls = PollsDue { source: "online_store".to_owned(), due: 1, oldest: ago(600) };
    facts.polls_due.insert("online_store".to_owned(), polls);
    let look = "-: no c360 has run for 6 min, and this waits for one: 5 messages on home_delivery; 1 poll due on \
                online_store; 1,204 records to be consolidated, the oldest for 8 min. $ c360 run";
    assert_eq!(only(&looks_with(&facts, &lags)), look);
    facts.unfolded = Unfolded { profiles: 200_000, oldest: Some(ago(720)) };
    let waits = only(&looks_with(&facts, &lags)).to_owned();
    assert!(waits.contains("1,204 records and 200,000 profiles to be consolidated, the oldest for 12 min"), "{waits}");
    let away: Lags = [("home_delivery".to_owned(), Err("no broker".to_owned()))].into();
    assert!(only(&looks_with(&facts, &away)).contains("nobody knows how many (no broker)"));
}

#[test]
fn what_is_stopped_names_the_command() {
    let mut facts = calm();
    let stopped = json!([{"topic": "customers", "partition": 3, "reason": "retention has passed it"}]);
    say(&mut facts, "home_delivery", 1, json!({ "stopped": stopped }));
    assert_eq!(
        only(&looks(&facts)),
        "home_delivery: partition 3 of customers is stopped: retention has passed it. \
         $ c360 replay home_delivery --partition 3 --from-offset OFFSET"
    );
    let mut facts = calm();
    let refused = json!(["the source answers 401: it refuses our credentials"]);
    say(&mut facts, "online_store", 1, json!({"breaker": "open", "stopped": refused}));
    assert!(only(&looks(&facts)).starts_with("online_store: the source answers 401: it refuses our credentials. $"));
    assert!(!report(&facts).ready);
}

#[test]
fn a_file_whose_marker_does_not_come_needs_a_look_after_five_minutes() {
    let mut facts = calm();
    let waiting = json!({"file": "members.csv", "reason": "its marker members.csv.done is not there"});
    for (seconds, expected) in [
        (299, None),
        (
            3_700,
            Some(
                "loyalty: the file members.csv is not taken: its marker members.csv.done is not there, for 61 min. \
                 $ c360 import loyalty drop/loyalty/members.csv",
            ),
        ),
    ] {
        say(&mut facts, "loyalty", 1, json!({"oldest_unlanded_seconds": seconds, "stopped": [], "waiting": waiting}));
        assert_eq!(looks(&facts).first().map(String::as_str), expected);
    }
}

#[test]
fn a_topic_that_is_not_there_needs_a_look_and_hides_nothing_of_the_others() {
    let mut facts = calm();
    let word = json!({"lag": 3, "stopped": [], "trouble": null, "absent_topics": ["dbserver1.customer"]});
    say(&mut facts, "home_delivery", 2, word);
    assert_eq!(
        only(&looks(&facts)),
        "home_delivery: there is no topic dbserver1.customer, or the brokers' access rules hide it. $ c360 config print"
    );
    let document = serde_json::to_value(report(&facts)).unwrap();
    let source = &document["sources"]["home_delivery"];
    assert_eq!((&source["absent_topics"], &source["lag"]), (&json!(["dbserver1.customer"]), &json!(3)));
    let page = page(&report(&facts), now(), Paint::Plain);
    assert!(page.contains("home_delivery  kafka  in trouble  3 messages"), "{page}");
}

#[test]
fn trouble_that_an_ingester_speaks_of_needs_a_look_while_it_speaks() {
    let mut facts = calm();
    let word = json!({"lag": 0, "stopped": [], "trouble": "no broker answers"});
    say(&mut facts, "home_delivery", 1, word.clone());
    assert_eq!(only(&looks(&facts)), "home_delivery: no broker answers. $ c360 config print");
    let report = report(&facts);
    assert_eq!((report.ready, report.sources["home_delivery"].lag), (true, None), "what was the lag is not known now");
    let page = page(&report, now(), Paint::Plain);
    assert!(page.contains("home_delivery  kafka  in trouble  unknown"), "{page}");
    facts.consolidator_since = None;
    say(&mut facts, "home_delivery", 100, word);
    assert_eq!(looks(&facts), [""; 0]);
}

#[test]
fn what_has_failed_comes_before_what_needs_attention_and_says_since_when() {
    let mut facts = calm();
    facts.dead_letters = vec![letters("nul", 3, 2)];
    say(
        &mut facts,
        "home_delivery",
        2,
        json!({"lag": 9, "lag_seconds": 400, "oldest_unlanded_seconds": 400, "stopped": []}),
    );
    facts.refused_files.insert("loyalty".to_owned(), vec![refused()]);
    let looks = report(&facts).looks;
    let order: Vec<_> = looks.iter().map(|look| (look.severity, look.source.as_deref(), look.since)).collect();
    assert_eq!(
        order,
        [
            (Severity::Failed, Some("loyalty"), Some(ago(3_000))),
            (Severity::Attention, Some("home_delivery"), Some(ago(400))),
            (Severity::Attention, Some("home_delivery"), Some(ago(600))),
        ]
    );
    assert_eq!(looks.iter().map(|look| look.of_dead_letters).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn messages_that_wait_need_a_look_although_a_daemon_runs() {
    let mut facts = calm();
    let word =
        |seconds: i64| json!({"lag": 1_500, "lag_seconds": seconds, "oldest_unlanded_seconds": seconds, "stopped": []});
    say(&mut facts, "home_delivery", 2, word(300));
    assert_eq!(looks(&facts), [""; 0]);
    say(&mut facts, "home_delivery", 2, word(8_000));
    assert_eq!(
        only(&looks(&facts)),
        "home_delivery: 1,500 messages wait to be landed, the oldest for 2 h 13 min. $ watch c360 status"
    );
    let mut patient = setup();
    patient.sources.get_mut("home_delivery").unwrap().late_after = Some(Duration::from_hours(3));
    assert_eq!(Report::new(&patient, &facts, &Lags::new(), now()).looks.len(), 0);
    let mut stopped = word(8_000);
    stopped["stopped"] = json!([{"topic": "t", "partition": 1, "reason": "gone"}]);
    say(&mut facts, "home_delivery", 2, stopped);
    assert!(only(&looks(&facts)).contains("is stopped"), "one look says it");
}

#[test]
fn polls_and_lists_that_wait_for_a_day_need_a_look_although_a_daemon_runs() {
    let mut facts = calm();
    let mut due = |seconds: i64| {
        let polls = PollsDue { source: "online_store".to_owned(), due: 35, oldest: ago(seconds) };
        facts.polls_due.insert("online_store".to_owned(), polls);
        looks(&facts)
    };
    assert_eq!(due(86_400), [""; 0]);
    assert_eq!(only(&due(90_000)), "online_store: 35 polls due, the oldest for 25 h. $ watch c360 status");
    let list = staging::lists::Overview {
        source: "online_store".to_owned(),
        entity: "customer".to_owned(),
        complete_until: None,
        finished_at: None,
        due_since: Some(ago(180_000)),
        pages: 3,
        records: 300,
        failures: 0,
    };
    facts.lists.insert("online_store".to_owned(), vec![list]);
    let look = "online_store: 35 polls, the list of customers due, the oldest for 2 days. $ watch c360 status";
    assert_eq!(only(&looks(&facts)), look);
    say(&mut facts, "online_store", 3, json!({"breaker": "open", "stopped": []}));
    assert!(only(&looks(&facts)).contains("breaker is open"), "one look says it");
}

#[test]
fn a_night_whose_file_does_not_come_needs_a_look() {
    let mut facts = calm();
    let mut newest = |seconds: i64| {
        facts.newest_nights.insert("loyalty".to_owned(), ago(seconds));
        looks(&facts)
    };
    assert_eq!(newest(108_000), [""; 0], "it may come until six in the morning");
    assert_eq!(
        only(&newest(108_001)),
        "loyalty: no file has come since that of 2026-02-27T20:59:59Z, which is 30 h ago. $ c360 import loyalty --dry-run"
    );
    facts.refused_files.insert("loyalty".to_owned(), vec![refused()]);
    assert!(only(&looks(&facts)).contains("was refused"), "it has come");
    facts.refused_files.clear();
    facts.consolidator_since = None;
    facts.health.clear();
    assert!(only(&looks(&facts)).contains("no file has come"), "also where files are imported from cron");

    let mut deltas = setup();
    deltas.sources.get_mut("loyalty").unwrap().late_after = None;
    assert_eq!(Report::new(&deltas, &facts, &Lags::new(), now()).looks.len(), 0, "such files come when there is news");
}

#[test]
fn an_open_breaker_needs_a_look() {
    let mut facts = calm();
    for (state, needs_a_look) in [("open", true), ("half_open", true), ("closed", false)] {
        say(&mut facts, "online_store", 1, json!({"breaker": state, "stopped": []}));
        assert_eq!(!looks(&facts).is_empty(), needs_a_look, "{state}");
    }
    assert!(report(&facts).ready, "the source fails, c360 does not");
}

#[test]
fn a_source_that_is_not_heard_of_beside_a_running_daemon_needs_a_look() {
    let mut facts = calm();
    facts.health.remove("home_delivery");
    assert_eq!(
        only(&looks(&facts)),
        "home_delivery: nothing was ever heard of it, although c360 runs. $ c360 config check"
    );
    facts.consolidator_since = Some(ago(30));
    assert_eq!(looks(&facts), [""; 0], "a daemon that starts, or a command that consolidates");
    facts = calm();
    say(&mut facts, "loyalty", 600, json!({}));
    assert!(only(&looks(&facts)).contains("nothing has been heard of it for 10 min"));
    facts.backlog.insert("loyalty".to_owned(), waits("loyalty", 10));
    assert_eq!(looks(&facts), [""; 0], "it is landing a large file");
}

#[test]
fn a_refused_file_names_the_command_that_takes_it_all_the_same() {
    let mut facts = calm();
    facts.refused_files.insert("loyalty".to_owned(), vec![refused()]);
    assert_eq!(
        only(&looks(&facts)),
        "loyalty: the file loyalty_members_2026-03-01.csv was refused: 212 of 400 rows are bad. \
         $ c360 import loyalty /mnt/drop/loyalty_members_2026-03-01.csv --accept"
    );
    let unknown = LedgerFile { directory: None, ..refused() };
    facts.refused_files.insert("loyalty".to_owned(), vec![unknown]);
    assert!(
        only(&looks(&facts)).ends_with("$ c360 import loyalty drop/loyalty/loyalty_members_2026-03-01.csv --accept")
    );
    let empty = "the file is empty: it has no header";
    let empty = LedgerFile { reason: Some(empty.to_owned()), may_be_accepted: false, ..refused() };
    facts.refused_files.insert("loyalty".to_owned(), vec![empty]);
    assert_eq!(
        only(&looks(&facts)),
        "loyalty: the file loyalty_members_2026-03-01.csv was refused: the file is empty: it has no header. \
         $ c360 import loyalty /mnt/drop/loyalty_members_2026-03-01.csv"
    );
}

#[test]
fn of_several_refused_files_the_latest_are_named_and_the_others_counted() {
    let mut facts = calm();
    let file = |night: u8| LedgerFile { file_name: format!("2026-02-{night}.csv"), ..refused() };
    facts.refused_files.insert("loyalty".to_owned(), (20..=26).rev().map(file).collect());
    let looks = looks(&facts);
    assert_eq!(looks.len(), 4, "{looks:#?}");
    for (look, night) in looks.iter().zip([26, 25, 24]) {
        assert!(look.contains(&format!("the file 2026-02-{night}.csv was refused")), "{look}");
    }
    assert_eq!(looks[3], "loyalty: 4 files before these were refused, too. $ c360 import loyalty --dry-run");
}

#[test]
fn a_backlog_needs_a_look_after_five_minutes_and_says_why() {
    let mut facts = calm();
    let mut set = |backlog: overview::Backlog| {
        facts.backlog.insert("home_delivery".to_owned(), backlog);
        looks(&facts)
    };
    assert_eq!(set(waits("home_delivery", 299)), [""; 0]);
    assert!(only(&set(waits("home_delivery", 301))).starts_with("-: consolidation is behind: 1,204 records to do"));
    let importing = overview::Backlog { oldest_claimable: None, ..waits("home_delivery", 900) };
    assert_eq!(set(importing), [""; 0], "a file that is being imported");
    let failing = overview::Backlog { last_error: Some("SQLSTATE 54000".to_owned()), ..waits("home_delivery", 400) };
    assert!(only(&set(failing)).contains("and consolidation fails: SQLSTATE 54000."));
    facts.consolidator_since = None;
    facts.backlog.insert("home_delivery".to_owned(), waits("home_delivery", 400));
    assert!(only(&looks(&facts)).ends_with("and nobody consolidates. $ c360 run --once"));
}

#[test]
fn expiry_that_is_late_needs_a_look() {
    let mut facts = calm();
    facts.expiry.overdue_since = Some(ago(100));
    facts.expiry.held_back_since = Some(ago(100));
    assert_eq!(looks(&facts), [""; 0], "the daemon looks every minute");
    facts.expiry.overdue_since = Some(ago(9_000));
    assert!(only(&looks(&facts)).ends_with("the oldest for 2 h 30 min. $ c360 expire"));
    facts.expiry.held_back_since = Some(ago(8_000));
    assert!(only(&looks(&facts)).contains("expiry has been held back for 2 h 13 min"));
}

#[test]
fn dead_letters_need_a_look_for_a_day_and_show_for_ever() {
    let mut facts = calm();
    facts.dead_letters = vec![letters("not_json", 40, 0), letters("too_deep", 2, 0)];
    assert_eq!(looks(&facts), [""; 0]);
    assert!(
        page(&report(&facts), now(), Paint::Plain).contains("Dead letters  home_delivery: not_json 40, too_deep 2\n")
    );
    facts.dead_letters[0] = letters("not_json", 40, 1);
    assert_eq!(
        only(&looks(&facts)),
        "home_delivery: 1 dead letter within a day: not_json 1. $ c360 dead-letters list --source home_delivery"
    );
}

#[test]
fn an_emptied_table_needs_a_look_for_a_day() {
    let mut facts = calm();
    let (today, before) = ("2026-02-28T12:00:00.000Z", "2026-02-27T12:00:00.000Z");
    // What was read late is noticed late.
    for (at, noticed_at, needs_a_look) in
        [(today, None, true), (before, None, false), (before, Some(today), true), (before, Some(before), false)]
    {
        let emptied = json!([{"topic": "customers", "at": at, "noticed_at": noticed_at, "alarm": "..."}]);
        say(&mut facts, "home_delivery", 1, json!({"stopped": [], "truncated": emptied}));
        assert_eq!(!looks(&facts).is_empty(), needs_a_look, "{at} {noticed_at:?}");
    }
}

#[test]
fn a_command_that_has_said_something_is_no_daemon() {
    let mut facts = Facts::default();
    for (daemon, runs) in [(false, false), (true, true)] {
        say(&mut facts, "home_delivery", 1, json!({"daemon": daemon}));
        assert_eq!(report(&facts).daemon.unwrap().running, runs);
    }
}

#[test]
fn an_emptied_table_needs_no_look_once_its_source_is_retired_up_to_then() {
    let mut facts = calm();
    let emptied = json!([{"topic": "customers", "at": "2026-02-28T12:00:00.000Z", "alarm": "..."}]);
    say(&mut facts, "home_delivery", 1, json!({"stopped": [], "truncated": emptied}));
    assert_eq!(
        only(&looks(&facts)),
        "home_delivery: the table behind customers was emptied at 2026-02-28T12:00:00.000Z. \
         $ c360 source retire home_delivery --before 2026-02-28T12:00:00.000Z"
    );
    for (before, needs_a_look) in
        [("2026-02-28T11:59:59Z", true), ("2026-02-28T12:00:00Z", false), ("2026-02-28T13:00:00Z", false)]
    {
        facts.retired.insert("home_delivery".to_owned(), before.parse().unwrap());
        assert_eq!(!looks(&facts).is_empty(), needs_a_look, "{before}");
    }
    facts.retired = [("online_store".to_owned(), now())].into();
    assert_eq!(looks(&facts).len(), 1, "another source");
}

#[test]
fn a_file_of_a_day_that_is_retired_needs_a_look_if_it_was_imported_since() {
    let mut facts = calm();
    let file = LedgerFile { state: State::Imported, finished_at: Some(now()), ..refused() };
    let retired = |facts: &mut Facts, before: DateTime<Utc>| {
        facts.retired.insert("loyalty".to_owned(), before);
        looks(facts)
    };
    facts.last_files.insert("loyalty".to_owned(), file.clone());
    assert_eq!(retired(&mut facts, file.as_of), [""; 0], "it is of the time that counts");
    assert_eq!(retired(&mut facts, now()), [""; 0], "it was imported before that");
    assert_eq!(
        only(&retired(&mut facts, ago(1))),
        "loyalty: the file loyalty_members_2026-03-01.csv is of 2026-03-01T00:00:00Z, and what the source said before \
         2026-03-01T02:59:59Z is retired: nobody lives by it. $ c360 import loyalty"
    );
    facts.last_files.insert("loyalty".to_owned(), LedgerFile { state: State::Refused, ..file });
    assert_eq!(looks(&facts), [""; 0], "nothing of it was published");
}

#[test]
fn rules_that_have_changed_need_a_rebuild() {
    let mut facts = Facts { rebuild_is_due: true, other_rules_are_at_work: true, ..Facts::default() };
    assert!(only(&looks(&facts)).ends_with("were made. $ c360 rebuild"), "nobody works by them");
    facts.consolidator_since = Some(ago(10));
    let report = report(&facts);
    let [look] = &report.looks[..] else { panic!("{:#?}", report.looks) };
    assert!(look.problem.contains("not those that the daemon has started with"), "{look:?}");
    assert!(look.effect.contains("started again: do that first"), "a rebuild would be refused: {look:?}");
    facts.other_rules_are_at_work = false;
    assert!(only(&looks(&facts)).ends_with("were made. $ c360 rebuild"));
}

#[test]
fn a_retirement_that_nobody_carries_out_waits_for_a_daemon() {
    let mut facts = Facts::default();
    facts.retiring.insert("old_shop".to_owned(), ago(200));
    assert_eq!(looks(&facts), [""; 0], "it has only begun");
    facts.retiring.insert("old_shop".to_owned(), ago(400));
    assert!(only(&looks(&facts)).contains("this waits for one: the retirement of old_shop. $ c360 run"));
    facts.consolidator_since = Some(ago(10));
    assert_eq!(looks(&facts), [""; 0], "somebody does it");
}

fn restart(partition: i32, records: i64, seconds_ago: i64) -> LogRestart {
    LogRestart {
        topic: "customers".to_owned(),
        partition,
        records,
        first_offset: 120_000 + i64::from(partition),
        first_observed_at: ago(seconds_ago + 5),
        noticed_at: ago(seconds_ago),
        last_noticed_at: ago(1),
    }
}

#[test]
fn a_log_that_begins_again_needs_a_look_and_names_the_command() {
    let mut facts = calm();
    facts.log_restarts.insert("home_delivery".to_owned(), vec![restart(0, 12, 600)]);
    assert_eq!(
        only(&looks(&facts)),
        "home_delivery: its log seems to have begun again: since 2026-03-01T02:50:00Z 12 records looked old by position, \
         and newer by time than all before; the first is at offset 120000 of partition 0 of customers. \
         $ c360 replay home_delivery --from-offset 120000 --new-epoch"
    );
    let stored = |partitions, topics| overview::Stored { epoch: 0, partitions, topics };
    facts.stored.insert("home_delivery".to_owned(), stored(3, 1));
    assert!(
        only(&looks(&facts)).ends_with("$ c360 replay home_delivery --partition 0 --from-offset 120000 --new-epoch")
    );
    facts.stored.insert("home_delivery".to_owned(), stored(2, 2));
    assert!(
        only(&looks(&facts))
            .ends_with("$ c360 replay home_delivery --topic customers --partition 0 --from-offset 120000 --new-epoch")
    );
    facts.log_restarts.insert("home_delivery".to_owned(), vec![restart(0, 12, 600), restart(1, 1, 700)]);
    let look = looks(&facts);
    assert!(only(&look).contains("since 2026-03-01T02:48:20Z 13 records"), "{look:?}");
    assert!(only(&look).ends_with("$ c360 replay home_delivery --from 2026-03-01T02:48:15Z --new-epoch"), "{look:?}");

    let document = serde_json::to_value(report(&facts)).unwrap();
    let parts = &document["sources"]["home_delivery"]["log_restarts"];
    assert_eq!((&parts[1]["partition"], &parts[1]["first_offset"]), (&json!(1), &json!(120_001)));
    assert_eq!(document["sources"]["loyalty"].get("log_restarts"), None);
    assert_eq!(document["ready"], true, "everything else goes on");
}

#[test]
fn sources_that_are_configured_no_more_are_shown_with_what_they_left() {
    let mut facts = calm();
    say(&mut facts, "old_shop", 90_000, json!({"stopped": []}));
    facts.backlog.insert("old_shop".to_owned(), waits("old_shop", 10));
    let report = report(&facts);
    assert_eq!(report.sources["old_shop"].kind, None);
    assert_eq!(report.looks.len(), 0, "{:#?}", report.looks);
    assert!(page(&report, now(), Paint::Plain).contains("not configured"));
}

#[test]
fn names_of_others_do_not_reach_the_terminal_raw() {
    let mut facts = calm();
    facts
        .refused_files
        .insert("loyalty".to_owned(), vec![LedgerFile { file_name: "a\u{1b}[2J\n.csv".to_owned(), ..refused() }]);
    assert!(!page(&report(&facts), now(), Paint::Plain).contains('\u{1b}'));
}

#[test]
fn a_database_that_cannot_be_read_is_not_ready_and_keeps_the_shape() {
    for report in [Report::not_migrated(&setup()), Report::out_of_reach(&setup())] {
        let document = serde_json::to_value(&report).unwrap();
        assert_eq!((&document["ready"], &document["sources"]["loyalty"]["kind"]), (&json!(false), &json!("csv")));
        assert!(document.get("backlog").is_none() && report.looks.len() == 1);
    }
    let page = page(&Report::not_migrated(&setup()), now(), Paint::Plain);
    assert!(page.contains("The database is not migrated yet: run `c360 run` or `c360 migrate`."), "{page}");
}

#[test]
fn what_stopping_does_and_what_would_expire_is_answered() {
    let mut facts = calm();
    let document = |facts: &Facts| serde_json::to_value(report(facts)).unwrap();
    assert_eq!(document(&facts)["safe_to_stop"]["safe"], true);
    assert_eq!(document(&facts)["expiry"].get("unconsolidated_expires_in_seconds"), None, "nothing waits");

    facts.backlog.insert("home_delivery".to_owned(), waits("home_delivery", 12));
    facts.last_files.insert("loyalty".to_owned(), LedgerFile { state: State::Importing, ..refused() });
    facts.expiry.first_unconsolidated_expires_at = Some(now() + TimeDelta::hours(5));
    let busy = document(&facts);
    assert_eq!(busy["expiry"]["unconsolidated_expires_in_seconds"], 5 * 3_600);
    let reason = busy["safe_to_stop"]["reason"].as_str().unwrap();
    assert!(reason.contains("loyalty starts the file loyalty_members_2026-03-01.csv again"), "{reason}");
    assert!(reason.contains("1,204 records wait to be consolidated"), "{reason}");
    let page = page(&report(&facts), now(), Paint::Plain);
    assert!(page.contains("what waits is over in 5 h, and stays until it is consolidated"), "{page}");
    assert!(page.contains("Stopping      safe: "), "{page}");

    facts.backlog.clear();
    facts.unfolded = Unfolded { profiles: 7, oldest: Some(ago(30)) };
    let behind = document(&facts);
    assert_eq!(behind["backlog"], json!({"batches": 0, "records": 0, "profiles": 7, "oldest_seconds": 30}));
    let reason = behind["safe_to_stop"]["reason"].as_str().unwrap();
    assert!(reason.ends_with("7 profiles wait to be consolidated until it runs again"), "{reason}");

    facts.expiry.first_unconsolidated_expires_at = Some(ago(60));
    assert_eq!(document(&facts)["expiry"]["unconsolidated_expires_in_seconds"], 0);
}
