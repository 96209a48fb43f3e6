//! What ingesters say of themselves, alone and as several processes of one source.

use chrono::TimeDelta;
use serde_json::{Value, json};
use staging::health::{self, Speaker};

use crate::support::{SOURCE, Staged, noon, staged};

#[tokio::test]
async fn a_key_stays_as_it_was_said_until_it_is_said_again() {
    let staged = staged().await;
    say(&staged, 0, &json!({"breaker": "open", "trouble": "no broker answers"})).await;
    say(&staged, 9, &json!({"trouble": null})).await;
    assert_eq!(word(&staged).await, json!({"breaker": "open", "trouble": null, "daemon": true}));
}

#[tokio::test]
async fn a_command_beside_a_daemon_does_not_hide_its_trouble_and_is_heard_where_none_runs() {
    let staged = staged().await;
    let (trouble, none) = (json!({"trouble": "no broker answers"}), json!({"trouble": null}));
    for (seconds, speaker, said, heard) in [
        (0, Speaker::Command, &trouble, &trouble),
        (1, Speaker::Command, &none, &none),
        (2, Speaker::Daemon, &trouble, &trouble),
        (61, Speaker::Command, &none, &trouble),
        (63, Speaker::Command, &none, &none),
        (64, Speaker::Command, &trouble, &trouble),
        (65, Speaker::Daemon, &none, &none),
    ] {
        say_as(&staged, speaker, seconds, said).await;
        assert_eq!(word(&staged).await["trouble"], heard["trouble"], "{speaker:?} after {seconds} s");
    }
}

#[tokio::test]
async fn two_processes_of_a_source_add_up_and_do_not_overwrite_each_other() {
    let staged = staged().await;
    say(&staged, 0, &json!({"partitions": {"t/0": partition(0, 5, 7, None), "t/1": partition(0, 1, 2, None)}})).await;
    say(&staged, 1, &json!({"partitions": {"t/2": partition(1, 30, 3, Some("gone"))}})).await;
    let said = word(&staged).await;
    assert_eq!(
        (&said["lag"], &said["lag_seconds"], &said["oldest_unlanded_seconds"]),
        (&json!(36), &json!(7), &json!(7))
    );
    assert_eq!(said["stopped"], json!([{"topic": "t", "reason": "gone"}]));
    // A partition changes hands.
    say(&staged, 2, &json!({"partitions": {"t/1": partition(2, 0, 0, None), "t/2": partition(2, 0, 0, None)}})).await;
    let said = word(&staged).await;
    assert_eq!((&said["lag"], &said["lag_seconds"], &said["stopped"]), (&json!(5), &json!(7), &json!([])));
}

#[tokio::test]
async fn a_partition_that_nobody_speaks_of_any_more_is_forgotten_while_others_are_spoken_of() {
    let staged = staged().await;
    say(&staged, 0, &json!({"partitions": {"t/0": partition(0, 5, 7, None)}})).await;
    say(&staged, 59, &json!({"partitions": {}})).await;
    assert_eq!(word(&staged).await["lag"], 5);
    say(&staged, 61, &json!({"partitions": {"t/1": partition(61, 2, 0, None)}})).await;
    assert_eq!(word(&staged).await["lag"], 2);
}

#[tokio::test]
async fn an_emptied_table_is_told_until_it_is_emptied_again_whatever_is_said_beside_it() {
    let staged = staged().await;
    let emptied = |topic: &str, day: u8, noticed: u8| {
        json!({"topic": topic, "at": format!("2026-02-{day}T12:00:00.000Z"),
                                                   "noticed_at": format!("2026-03-{noticed}T12:00:00.000Z")})
    };
    let read = [
        ("orders", 11, 10),
        ("customers", 12, 11),
        ("customers", 14, 12),
        ("customers", 13, 13),
        ("customers", 14, 14),
    ];
    for (topic, day, noticed) in read {
        health::report_emptied(&staged.pool, SOURCE, &emptied(topic, day, noticed)).await.unwrap();
        say(&staged, 0, &json!({"trouble": null})).await;
    }
    assert_eq!(word(&staged).await["truncated"], json!([emptied("customers", 14, 12), emptied("orders", 11, 10)]));
}

async fn say(staged: &Staged, seconds: i64, word: &Value) {
    say_as(staged, Speaker::Daemon, seconds, word).await;
}

async fn say_as(staged: &Staged, speaker: Speaker, seconds: i64, word: &Value) {
    health::report(&staged.pool, SOURCE, speaker, word, noon() + TimeDelta::seconds(seconds)).await.unwrap();
}

async fn word(staged: &Staged) -> Value {
    let said = health::all(&staged.pool).await.unwrap();
    assert_eq!(said.len(), 1);
    said[0].health.clone()
}

fn partition(at: i64, lag: i64, seconds: i64, stopped: Option<&str>) -> Value {
    let stopped = stopped.map(|reason| json!({"topic": "t", "reason": reason}));
    let at = noon() + TimeDelta::seconds(at);
    json!({"lag": lag, "lag_seconds": seconds, "oldest_unlanded_seconds": seconds, "stopped": stopped, "at": at})
}
