//! Who may ask.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use secrecy::ExposeSecret;
use serve::keys::{self, NewKey, Role};
use sqlx::postgres::PgConnectOptions;

use crate::support::base::Base;

#[tokio::test]
async fn only_a_valid_key_opens_anything_and_nobody_learns_why_another_does_not() {
    let base = Base::new().await;
    let mut connection = staging::connect(&base.options).await.unwrap();
    let new = |name: &str, ago| NewKey {
        name: name.to_owned(),
        role: Role::Viewer,
        only: None,
        expires_at: Some(Utc::now() - TimeDelta::hours(ago)),
    };
    let (_, expired) = keys::add(&mut connection, &new("expired", 1), Utc::now()).await.unwrap();
    let (_, valid) = keys::add(&mut connection, &new("valid", -1), Utc::now()).await.unwrap();
    let (revoked_key, revoked) = keys::add(&mut connection, &new("revoked", -1), Utc::now()).await.unwrap();
    keys::revoke(&mut connection, &revoked_key.prefix, Utc::now()).await.unwrap();
    assert!(matches!(keys::revoke(&mut connection, "revoked", Utc::now()).await, Err(keys::Error::Unknown(_))));
    assert!(matches!(keys::add(&mut connection, &new("valid", -1), Utc::now()).await, Err(keys::Error::Exists(_))));

    let (valid, expired) = (valid.expose_secret(), expired.expose_secret());
    assert_eq!(base.server.ask(valid, "/customers").await.status, 200);
    let answer = base.server.ask(expired, "/customers").await;
    assert_eq!((answer.status, answer.json()["detail"].as_str()), (401, Some("this API key has expired")));
    assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
    // Who has only the beginning of the expired key does not read that it has expired.
    let almost = format!("{}x", &expired[..expired.len() - 1]);
    for wrong in [almost.as_str(), revoked.expose_secret(), "c360_", "x", &"x".repeat(5000)] {
        let answer = base.server.ask(wrong, "/customers").await;
        assert_eq!(
            (answer.status, answer.json()["detail"].as_str()),
            (401, Some("this API key is not valid")),
            "{wrong}"
        );
    }
    for nothing in ["", "c360_\u{e4}"] {
        assert_eq!(base.server.ask(nothing, "/customers").await.status, 401);
    }
    assert_eq!(base.server.get("/api/v1/customers").await.status, 401);
    let stored: i64 =
        sqlx::query_scalar("select count(*) from customer360.api_keys k where k::text like '%' || $1 || '%'")
            .bind(&valid[13..])
            .fetch_one(&base.pool)
            .await
            .unwrap();
    assert_eq!(stored, 0, "only digests are stored");
}

async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut answers = String::new();
    tokio::io::AsyncReadExt::read_to_string(stream, &mut answers).await.unwrap();
    answers
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_back() {
    let base = Base::new().await;
    let (busy, other) = (base.key(Role::Viewer, None).await, base.key(Role::Viewer, None).await);
    // Many at once: nothing is asked of the database for them.
    let request = format!("GET /api/v1/customers?limit=0 HTTP/1.1\r\nhost: c360\r\nauthorization: Bearer {busy}\r\n");
    let many = format!("{request}\r\n").repeat(8000) + &request + "connection: close\r\n\r\n";
    let mut stream = base.server.connect().await;
    let (mut reading, mut writing) = stream.split();
    let (answers, written) =
        tokio::join!(read_all(&mut reading), tokio::io::AsyncWriteExt::write_all(&mut writing, many.as_bytes()));
    written.unwrap();
    let refused = answers.matches("HTTP/1.1 429").count();
    assert!(refused > 0 && answers.matches("retry-after: 1").count() == refused, "{refused} were refused");
    assert!(answers.matches("HTTP/1.1 400").count() >= 1000);
    assert_eq!(base.server.ask(&other, "/customers").await.status, 200);
}

#[tokio::test]
async fn a_database_that_is_away_is_said_with_when_to_try_again() {
    let server = crate::support::server_without_database().await;
    let answer = server.ask("c360_whatever", "/customers").await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
}

#[tokio::test]
async fn whoever_waits_for_a_database_that_is_away_waits_for_one_try() {
    // Nobody listens on a port that was free a moment ago: a try goes on until the time for it is over, five seconds.
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let nobody = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
    let server = crate::support::server(nobody).await;
    let since = Instant::now();
    let answers = futures::future::join_all((0..20).map(|_| server.ask("c360_whatever", "/customers"))).await;
    for answer in answers {
        assert_eq!(answer.status, 503);
        assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    }
    assert!(since.elapsed() < Duration::from_secs(10), "they did not wait for each other: {:?}", since.elapsed());
}

#[tokio::test]
async fn a_database_that_admits_nobody_at_the_moment_is_no_bug_of_ours() {
    let base = Base::new().await;
    let keys = [base.key(Role::Viewer, None).await, base.key(Role::Viewer, Some("state in ('NH')")).await];
    let mut elsewhere = staging::connect(&base.options.clone().database("postgres")).await.unwrap();
    let database: String = sqlx::query_scalar("select current_database()::text").fetch_one(&base.pool).await.unwrap();
    let away = format!(
        "alter database {database} allow_connections false;
         select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{database}'"
    );
    for key in &keys {
        assert_eq!(base.server.ask(key, "/customers").await.status, 200);
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(away)).execute(&mut elsewhere).await.unwrap();
    // The keys are known for two seconds more, and asked for after that.
    for _ in 0..6 {
        for key in &keys {
            let answer = base.server.ask(key, "/customers").await;
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
