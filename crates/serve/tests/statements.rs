//! One statement to Postgres per request: keys are known, and reads are written down behind.

use std::time::{Duration, Instant};

use serde_json::json;
use serve::keys::Role;
use sqlx::PgConnection;

use crate::support::base::Base;

const REQUESTS: u32 = 200;
/// Keys are read every two seconds, the audit log is written five times a second; autovacuum comes when it likes.
const BESIDES_PER_SECOND: f64 = 6.0;
const BESIDES: f64 = 60.0;
/// The server trusts a connection for a second after it was used.
const TRUSTED: Duration = Duration::from_millis(1_100);

/// How many transactions the sessions of the test's database have committed. They say so when they end.
async fn commits(elsewhere: &mut PgConnection, database: &str) -> i64 {
    sqlx::query("select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where datname = $1")
        .bind(database)
        .execute(&mut *elsewhere)
        .await
        .unwrap();
    sqlx::query_scalar("select xact_commit from pg_stat_database where datname = $1")
        .bind(database)
        .fetch_one(elsewhere)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_read_is_one_statement() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    base.order(ann, "7", Some("2026-11-03T10:00:00Z"), "p1").await;
    base.note(ann, "called", "2026-11-05T10:00:00Z").await;
    base.run("insert into customer360.products values ('online_store', 'p1', 'Lamp', '{}', '')").await;
    let key = base.key(Role::Agent, None).await;
    let database: String = sqlx::query_scalar("select current_database()::text").fetch_one(&base.pool).await.unwrap();
    let mut elsewhere = staging::connect(&base.options.clone().database("postgres")).await.unwrap();
    for path in [
        "/customers?count=true&state=NH",
        "/customers?q=ann",
        &format!("/customers/{ann}"),
        "/customers/ann@x.example",
        &format!("/customers/{ann}/timeline"),
        &format!("/customers/{ann}/timeline?count=true"),
        &format!("/customers/{ann}/recommendations"),
        "/interactions?count=true",
        "/products/online_store/p1",
        "/insights",
        "/lists",
    ] {
        let before = commits(&mut elsewhere, &database).await;
        tokio::time::sleep(TRUSTED).await;
        let asked = Instant::now();
        for _ in 0..REQUESTS {
            assert_eq!(base.server.ask(&key, path).await.status, 200, "{path}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let besides = BESIDES + BESIDES_PER_SECOND * asked.elapsed().as_secs_f64();
        let statements = commits(&mut elsewhere, &database).await - before;
        let most = f64::from(REQUESTS) + besides;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let is_one_each = (f64::from(REQUESTS)..most).contains(&(statements as f64));
        assert!(is_one_each, "{path}: {statements} statements for {REQUESTS} requests, {besides:.0} besides them");
    }
}
