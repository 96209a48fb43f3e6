//! A database that goes away in the middle: the error is transient, and trying again works.

use chrono::Utc;
use embedded_postgres::test::{Loss, Proxy, eventually, until, until_waiting};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgCopyIn;
use sqlx::{Connection, PgConnection};
use staging::health::Speaker;
use staging::{Error, Landing};

use crate::support::{SOURCE, TTL, advance, batch, noon, origin, staged};

#[tokio::test]
async fn a_backend_killed_while_landing_is_a_transient_error_and_the_same_batch_lands_later() {
    let staged = staged().await;
    staged.land(0, 1, TTL, noon()).await;
    let mut lander = staged.lander();
    let (mut batch, origin, checkpoint) = (batch(1, 50, TTL), origin(1), advance(Some(1), 51));

    // Held up at the compare-and-swap, so that there is a middle.
    let mut rival = staged.pool.begin().await.unwrap();
    sqlx::query("select from staging.kafka_offsets for update").execute(&mut *rival).await.unwrap();
    let killing = async {
        until_waiting(&staged.pool, 1).await;
        staged
            .run(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock'",
            )
            .await;
    };
    let (landing, ()) = tokio::join!(lander.land(&mut batch, &origin, &checkpoint, noon()), killing);
    let error = landing.unwrap_err();
    assert!(error.is_transient() && !error.is_data(), "{error}");
    rival.rollback().await.unwrap();

    assert_eq!(staged.count("batches").await, 1);
    let landing = lander.land(&mut batch, &origin, &checkpoint, noon()).await.unwrap();
    assert!(matches!(landing, Landing::Landed { .. }));
    assert_eq!(staged.count("records").await, 51);
}

#[tokio::test]
async fn a_connection_killed_between_landings_is_replaced() {
    let staged = staged().await;
    let mut lander = staged.lander();
    lander.land(&mut batch(0, 1, TTL), &origin(0), &advance(None, 1), noon()).await.unwrap();
    staged
        .run(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity
             where datname = current_database() and application_name = 'c360'",
        )
        .await;
    let (mut batch, checkpoint) = (batch(1, 1, TTL), advance(Some(1), 2));
    let error = lander.land(&mut batch, &origin(1), &checkpoint, noon()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let landing = lander.land(&mut batch, &origin(1), &checkpoint, noon()).await.unwrap();
    assert!(matches!(landing, Landing::Landed { .. }));
}

/// A landing of a process that froze in the middle of its rows: its session, which has the lock of erasures and the
/// partition's row.
async fn frozen_landing(frozen: &mut PgConnection) -> PgCopyIn<&mut PgConnection> {
    let locks = "begin; select pg_advisory_xact_lock_shared(hashtext('c360.erasures'));
                 update staging.kafka_offsets set next_offset = next_offset + 1";
    sqlx::raw_sql(locks).execute(&mut *frozen).await.unwrap();
    frozen.copy_in_raw("copy staging.erased (digest) from stdin").await.unwrap()
}

/// Postgres waits for ever for the rest of the rows, and no time limit of its own ends that.
#[tokio::test]
async fn whoever_froze_while_it_sent_its_rows_keeps_its_successor_for_half_a_minute_and_finds_its_session_ended() {
    let staged = staged().await;
    staged.land(0, 1, TTL, noon()).await;
    let mut session = staged.connection().await;
    let frozen = frozen_landing(&mut session).await;
    let mut lander = staged.lander();
    let (mut batch, checkpoint) = (batch(1, 1, TTL), advance(Some(1), 2));
    let error = lander.land(&mut batch, &origin(1), &checkpoint, noon()).await.unwrap_err();
    assert!(error.is_locked() && error.is_transient(), "{error}");
    let landing = lander.land(&mut batch, &origin(1), &checkpoint, noon()).await.unwrap();
    assert!(matches!(landing, Landing::Landed { .. }));
    let error = frozen.finish().await.unwrap_err();
    assert!(staging::is_transient(&error), "{error}");
}

#[tokio::test]
async fn whoever_froze_while_it_sent_its_rows_does_not_keep_somebody_from_being_erased() {
    let staged = staged().await;
    staged.land(0, 1, TTL, noon()).await;
    let mut session = staged.connection().await;
    let frozen = frozen_landing(&mut session).await;
    let mut erasing = staged.connection().await;
    sqlx::query("set lock_timeout = '100ms'").execute(&mut erasing).await.unwrap();
    eventually("the lock is had", async || {
        let mut transaction = erasing.begin().await.unwrap();
        staging::erased::hold_alone(&mut transaction).await.is_ok()
    })
    .await;
    assert!(frozen.finish().await.is_err(), "its session has ended");
}

/// A process that was frozen finds its transaction ended. Over TCP it reads why; a Unix socket only says that it is closed.
#[tokio::test]
async fn a_transaction_that_idled_for_too_long_is_a_transient_error() {
    let staged = staged().await;
    let proxy = Proxy::start(&staged.options(), Loss::Cut).await;
    let options = proxy.through(&staged.database.name, &staged.options());
    let mut connection = staging::connect(&options).await.unwrap();
    let settings = "set idle_in_transaction_session_timeout = '10ms'; set application_name = 'frozen'";
    sqlx::raw_sql(settings).execute(&mut connection).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let frozen =
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'frozen'";
    until(&staged.pool, frozen, 0).await;
    let error = sqlx::query("select 1").execute(&mut *transaction).await.unwrap_err();
    let code = error.as_database_error().and_then(DatabaseError::code);
    assert_eq!(code.as_deref(), Some("25P03"));
    assert!(staging::is_transient(&error), "{error}");
}

/// A daemon goes on while a newer one migrates.
#[tokio::test]
async fn a_statement_prepared_before_a_migration_is_a_transient_error_and_what_postgres_cannot_do_is_not() {
    let staged = staged().await;
    let mut connection = staged.connection().await;
    sqlx::query("select * from staging.sources").fetch_all(&mut connection).await.unwrap();
    staged.run("alter table staging.sources add column later text").await;
    let error = sqlx::query("select * from staging.sources").fetch_all(&mut connection).await.unwrap_err();
    assert_eq!(error.as_database_error().and_then(DatabaseError::code).as_deref(), Some("0A000"));
    assert!(staging::is_transient(&error), "{error}");
    let mut anew = staged.connection().await;
    sqlx::query("select * from staging.sources").fetch_all(&mut anew).await.unwrap();

    let error =
        sqlx::query("select no_such_database.pg_catalog.pg_class.oid from no_such_database.pg_catalog.pg_class")
            .fetch_all(&mut anew)
            .await
            .unwrap_err();
    assert_eq!(error.as_database_error().and_then(DatabaseError::code).as_deref(), Some("0A000"));
    assert!(!staging::is_transient(&error), "{error}");
}

/// It is being moved, or restored.
#[tokio::test]
async fn a_database_that_admits_nobody_is_a_transient_error() {
    let (staged, other) = (staged().await, staged().await);
    other.run(&format!("alter database {} allow_connections false", staged.database.name)).await;
    let error = staging::connect(&staged.options()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let staging::Error::Database { error, .. } = error else { panic!("{error}") };
    assert_eq!(error.code().as_deref(), Some("55000"));
}

#[tokio::test]
async fn a_row_that_somebody_keeps_locked_is_a_transient_error() {
    let staged = staged().await;
    let mut connection = staged.connection().await;
    staging::health::report(&mut connection, SOURCE, Speaker::Daemon, &serde_json::json!({}), Utc::now())
        .await
        .unwrap();
    let mut rival = staged.pool.begin().await.unwrap();
    sqlx::query("select from staging.sources for update").execute(&mut *rival).await.unwrap();
    sqlx::query("set lock_timeout = '10ms'").execute(&mut connection).await.unwrap();
    let error =
        staging::health::report(&mut connection, SOURCE, Speaker::Daemon, &serde_json::json!({}), Utc::now()).await;
    let error = error.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_a_transient_error_and_a_missing_schema_is_not() {
    let staged = staged().await;
    let nobody = staged.options().host("127.0.0.1").port(1);
    let error = match nobody.get_socket() {
        Some(_) => staging::connect(&staged.options().socket("/nowhere")).await.unwrap_err(),
        None => staging::connect(&nobody).await.unwrap_err(),
    };
    assert!(error.is_transient(), "{error}");

    let empty = embedded_postgres::test::database().await;
    let mut lander = staging::Lander::new(empty.url.parse().unwrap(), crate::support::seal(), crate::support::HOUR);
    let error = lander.land(&mut batch(0, 1, TTL), &origin(0), &advance(None, 1), noon()).await.unwrap_err();
    assert!(matches!(error, Error::Database { .. }) && !error.is_transient() && !error.is_data(), "{error}");
}
