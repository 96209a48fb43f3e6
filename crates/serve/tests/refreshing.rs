//! Asking REST sources out of turn. Who answers here is played: a poll is leased and its outcome landed as pollers do it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use model::InstallationKey;
use serde_json::{Value, json};
use serve::keys::Role;
use staging::health::Speaker;
use staging::polls::{self, LeaseTimes, Polled, State, Subject};
use staging::{Batch, Checkpoint, DEFAULT_PARTITION_WIDTH, Lander, Seal};
use tokio::task::JoinHandle;

use crate::support::base::Base;

const STORE: &str = "online_store";

async fn offer(base: &Base, email: &str) {
    let emails = [email.to_owned()];
    polls::offer(&base.pool, &[STORE.to_owned()], &emails, &emails, Utc::now()).await.unwrap();
}

async fn say(base: &Base, health: Value) {
    staging::health::report(&base.pool, STORE, Speaker::Daemon, &health, Utc::now()).await.unwrap();
}

/// Answers the next poll that somebody has made due out of its turn.
fn poller(base: &Arc<Base>, state: State) -> JoinHandle<()> {
    let base = Arc::clone(base);
    tokio::spawn(async move {
        let since = std::time::Instant::now();
        let poll = loop {
            let asked = "select exists (select from staging.polls where asked_now_at is not null)";
            if sqlx::query_scalar::<_, bool>(asked).fetch_one(&base.pool).await.unwrap() {
                let now = Utc::now();
                let times = LeaseTimes { now, due_before: now, leased_until: now + TimeDelta::minutes(2) };
                let leased = polls::lease(&base.pool, Subject::Customer, STORE, 1, times, None).await.unwrap();
                break leased.into_iter().next().unwrap();
            }
            assert!(since.elapsed() < Duration::from_mins(2), "nobody asks");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let failed = state == State::Failing;
        let polled = Polled {
            subject: Subject::Customer,
            key: poll.key,
            leased_until: poll.leased_until,
            state,
            external_id: None,
            checked_at: (!failed).then(Utc::now),
            next_at: Utc::now() + TimeDelta::days(1),
            failures: i32::from(failed),
            validators: json!({}),
            products: Vec::new(),
            customers: Vec::new(),
        };
        let seal = Seal::new(&InstallationKey::new([7; 32]));
        let mut lander = Lander::new(base.options.clone(), seal, DEFAULT_PARTITION_WIDTH);
        let mut batch = Batch::new(STORE, Duration::from_hours(1));
        let (origin, checkpoint) = (json!({"request": "/"}), Checkpoint::Rest(vec![polled]));
        lander.land(&mut batch, &origin, &checkpoint, Utc::now()).await.unwrap();
    })
}

#[tokio::test]
async fn a_source_is_asked_when_its_answer_is_older_than_wanted_and_waited_for() {
    let base = Base::new().await;
    base.customer("ann@x.example", json!({"name": "Ann"})).await;
    offer(&base, "ann@x.example").await;
    say(&base, json!({"breaker": "closed"})).await;
    let key = base.key(Role::Viewer, None).await;
    let answering = poller(&base, State::Unknown);
    let refreshed = base.server.request(&key, "POST /customers/ann@x.example/refresh", "", "").await;
    answering.await.unwrap();
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    let refreshed = refreshed.json();
    assert_eq!((&refreshed["profile"], &refreshed["has_followed"]), (&json!({"name": "Ann"}), &json!(true)));
    let source = &refreshed["sources"][0];
    assert_eq!(
        (&source["system"], &source["state"], &source["outcome"]),
        (&json!(STORE), &json!("unknown"), &json!("answered"))
    );
    assert!(source["answered_at"].is_string() && source["age_seconds"].is_i64(), "{source}");

    let young = base.server.ask(&key, "/customers/ann@x.example?max_age=1h&fields=sources").await.json();
    assert_eq!(young["sources"][0]["answered_at"], source["answered_at"], "it is not asked again");
    let plain = base.server.ask(&key, "/customers/ann@x.example").await.json();
    assert!(plain.get("sources").is_none() && plain.get("has_followed").is_none());
    base.run("update staging.polls set checked_at = now() - interval '2 hours'").await;
    let answering = poller(&base, State::Failing);
    let old = base.server.ask(&key, "/customers/ann@x.example?max_age=1h&fields=sources").await.json();
    answering.await.unwrap();
    assert_eq!(old["sources"][0]["outcome"], "failed", "{old}");
    assert!(old["sources"][0]["age_seconds"].as_i64().unwrap() >= 7200, "what is known has its age: {old}");
}

#[tokio::test]
async fn a_source_that_is_not_asked_or_does_not_answer_leaves_what_is_known() {
    let base = Base::new().await;
    base.customer("ann@x.example", json!({"name": "Ann"})).await;
    offer(&base, "ann@x.example").await;
    let key = base.key(Role::Viewer, None).await;
    let outcome = async || {
        let answer = base.server.request(&key, "POST /customers/ann@x.example/refresh", "", "").await;
        assert_eq!((answer.status, &answer.json()["profile"]), (200, &json!({"name": "Ann"})), "{answer:?}");
        answer.json()["sources"][0]["outcome"].clone()
    };
    assert_eq!(outcome().await, "down", "nobody polls");
    say(&base, json!({"breaker": "open"})).await;
    assert_eq!(outcome().await, "down", "it rests");
    say(&base, json!({"breaker": "closed"})).await;
    assert_eq!(outcome().await, "late");
    // Whoever asks meanwhile waits for the same answer: making the poll due once more would fence the one under way.
    let asked = "select asked_now_at::text from staging.polls";
    let first: String = sqlx::query_scalar(asked).fetch_one(&base.pool).await.unwrap();
    assert_eq!(outcome().await, "late");
    assert_eq!(sqlx::query_scalar::<_, String>(asked).fetch_one(&base.pool).await.unwrap(), first);
    base.run("update staging.polls set asked_now_at = asked_now_at - interval '1 hour', next_at = 'infinity'").await;
    assert_eq!(outcome().await, "late", "and what nobody has answered for long is asked anew");
    let due: bool =
        sqlx::query_scalar("select next_at < now() from staging.polls").fetch_one(&base.pool).await.unwrap();
    assert!(due);
}

#[tokio::test]
async fn nobody_asks_about_whom_he_may_not_see() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "ME"})).await;
    let old = base.customer("old@x.example", json!({"name": "Old", "state": "ME"})).await;
    base.merged(old, ann).await;
    offer(&base, "ann@x.example").await;
    let key = base.key(Role::Viewer, None).await;
    let limited = base.key(Role::Agent, Some("state in ('NH')")).await;
    let asks = format!("POST /customers/{ann}/refresh");
    assert_eq!(base.server.request(&limited, &asks, "", "").await.status, 404);
    assert_eq!(base.server.ask(&limited, &format!("/customers/{ann}?max_age=1s")).await.status, 404);
    let asked: bool = sqlx::query_scalar("select exists (select from staging.polls where asked_now_at is not null)")
        .fetch_one(&base.pool)
        .await
        .unwrap();
    assert!(!asked);
    let moved = base.server.request(&key, &format!("POST /customers/{old}/refresh"), "", "").await;
    assert_eq!(moved.status, 308);
    assert!(moved.head.contains(&format!("location: /api/v1/customers/{ann}/refresh")), "{}", moved.head);
    for wrong in ["soon", "60", "-1s"] {
        let answer = base.server.ask(&key, &format!("/customers/{ann}?max_age={wrong}")).await;
        assert_eq!((answer.status, answer.json()["errors"][0]["field"].as_str()), (400, Some("max_age")), "{wrong}");
    }
}
