//! What the probes answer, and how errors look.

use std::time::{Duration, Instant};

use embedded_postgres::test;
use futures::future::join_all;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Answer, Server, server, server_without_database};

/// The server asks the database again after a moment; there is nothing to be notified by.
async fn until(server: &Server, what: &str, holds: impl Fn(&Answer) -> bool) -> Answer {
    let since = Instant::now();
    loop {
        let answer = server.get("/readyz").await;
        if holds(&answer) {
            return answer;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "not within 20 s: {what}; last {answer:?}");
        tokio::task::yield_now().await;
    }
}

/// A migrated database with a server, and a pool of somebody else's.
async fn migrated() -> (Server, PgPool, String) {
    let database = test::database().await;
    let options = database.url.parse().unwrap();
    let mut connection = staging::connect(&options).await.unwrap();
    staging::migrate(&mut connection).await.unwrap();
    consolidate::migrate(&mut connection).await.unwrap();
    (server(options).await, database.pool().await, database.name)
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

#[tokio::test]
async fn lives_without_a_database_and_says_why_it_is_not_ready() {
    let server = server_without_database().await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert_eq!(answer.json(), json!({"ready": false, "reasons": ["the database does not answer"]}));
}

#[tokio::test]
async fn is_ready_once_both_schemas_are_migrated() {
    let database = test::database().await;
    let options = database.url.parse().unwrap();
    let server = server(options).await;
    let answer = server.get("/readyz").await;
    let reasons = ["schema staging is not migrated", "schema customer360 is not migrated"];
    assert_eq!((answer.status, answer.json()), (503, json!({"ready": false, "reasons": reasons})));

    let mut connection = staging::connect(&database.url.parse().unwrap()).await.unwrap();
    staging::migrate(&mut connection).await.unwrap();
    until(&server, "one schema is missing", |answer| answer.json()["reasons"] == json!([reasons[1]])).await;
    consolidate::migrate(&mut connection).await.unwrap();
    let answer = until(&server, "ready", |answer| answer.status == 200).await;
    assert_eq!(answer.json(), json!({"ready": true, "reasons": []}));
}

#[tokio::test]
async fn is_not_ready_while_the_database_is_down_and_ready_when_it_is_back() {
    let (server, _, name) = migrated().await;
    assert_eq!(server.get("/readyz").await.status, 200);
    // From outside, as nobody can get in to let others in.
    let outside = test::database().await.pool().await;
    let down = format!(
        "alter database {name} with allow_connections false;
         select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{name}'"
    );
    run(&outside, &down).await;
    let answer = until(&server, "down", |answer| answer.status == 503).await;
    assert_eq!(answer.json()["reasons"], json!(["the database does not answer"]));
    assert_eq!(server.get("/healthz").await.status, 200);
    run(&outside, &format!("alter database {name} with allow_connections true")).await;
    until(&server, "back", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn a_database_that_hangs_is_given_up_after_a_second_and_recovers() {
    let (server, pool, _) = migrated().await;
    let mut rival = pool.begin().await.unwrap();
    sqlx::query("lock table staging._migrations in access exclusive mode").execute(&mut *rival).await.unwrap();
    let since = Instant::now();
    let answer = server.get("/readyz").await;
    assert_eq!(answer.json()["reasons"], json!(["the database does not answer within a second"]));
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    rival.rollback().await.unwrap();
    until(&server, "ready", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_no_outage() {
    let (server, pool, _) = migrated().await;
    let backend = async || {
        let sql = "select pid from pg_stat_activity where datname = current_database() and application_name = 'c360'
             and pid <> pg_backend_pid() and state = 'idle' order by backend_start desc limit 1";
        sqlx::query_scalar::<_, i32>(sql).fetch_optional(&pool).await.unwrap()
    };
    assert_eq!(server.get("/readyz").await.status, 200);
    let first = backend().await.unwrap();
    sqlx::query("select pg_terminate_backend($1, 10000)").bind(first).execute(&pool).await.unwrap();
    while backend().await.is_none_or(|now| now == first) {
        assert_eq!(server.get("/readyz").await.status, 200);
    }
}

#[tokio::test]
async fn however_many_probe_the_database_is_asked_on_one_connection() {
    let (server, pool, _) = migrated().await;
    let answers = join_all((0..100).map(|_| server.get("/readyz"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let connections: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'c360'
         and state = 'idle'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn metrics_are_what_the_process_counts() {
    let server = server_without_database().await;
    metrics::with_local_recorder(&server.recorder, || {
        metrics::counter!("c360_records_landed_total", "source" => "home_delivery").increment(3);
    });
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains(r#"c360_records_landed_total{source="home_delivery"} 3"#), "{}", answer.body);
}

#[tokio::test]
async fn errors_are_problems_and_repeat_nothing_of_the_request() {
    let server = server_without_database().await;
    let post = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nhost: c360\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n")
    };
    let path = "/nowhere/matthew.groves%40couchbase.com?q=canary";
    let cases = [
        (server.get(path).await, 404, "Not Found", None),
        (server.get("/nowhere").await, 404, "Not Found", None),
        (server.send(post("/healthz", 0).as_bytes()).await, 405, "Method Not Allowed", None),
        (
            server.send(post("/healthz", 2 << 20).as_bytes()).await,
            413,
            "Payload Too Large",
            Some("a body has at most one mebibyte"),
        ),
    ];
    for (answer, status, title, detail) in cases {
        assert_eq!(answer.status, status);
        assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
        assert!(answer.header("x-request-id").is_some(), "{}", answer.head);
        let mut problem = json!({"type": "about:blank", "title": title, "status": status});
        if let Some(detail) = detail {
            problem["detail"] = json!(detail);
        }
        assert_eq!(answer.json(), problem);
    }
    let allow = server.send(post("/healthz", 0).as_bytes()).await.head;
    assert!(allow.contains("allow: get,head"), "{allow}");
}

#[tokio::test]
async fn an_address_in_use_is_said_before_anything_starts() {
    let server = server_without_database().await;
    let error = serve::listen(server.address).await.unwrap_err();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
}
