//! Errors show no value of any row, however they are printed.

use std::fmt::Write;

use model::Record;
use sqlx::Connection;
use staging::{Batch, Error, Landing};

use crate::support::{SOURCE, TTL, advance, batch, noon, origin, record, staged};

const CANARY: &str = "canary-matthew.groves@couchbase.com";

/// As everybody prints errors: for people, for developers, and with everything that caused them.
fn printed(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        write!(text, " {cause} {cause:?}").unwrap();
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn a_refused_record_does_not_show_in_the_error() {
    let staged = staged().await;
    let mut lander = staged.lander();
    let mut poison = record(0);
    poison.mapped.email = Some(format!("{CANARY}\0"));
    let mut not_json = record(0);
    not_json.mapped.attributes = format!("{{\"email\": {CANARY}}}");
    let poisons: [Record; 2] = [poison, not_json];
    for poison in poisons {
        let mut refused = Batch::new(SOURCE, TTL);
        refused.push(&record(0));
        refused.push(&poison);
        let error = lander.land(&mut refused, &origin(0), &advance(None, 2), noon()).await.unwrap_err();
        assert!(error.is_data() && !error.is_transient(), "{error}");
        let text = printed(&error);
        assert!(text.contains("copying rows") && text.contains("SQLSTATE 22"), "{text}");
        assert!(!text.contains("canary") && !text.contains("groves"), "{text}");
    }
    assert_eq!((staged.count("records").await, staged.count("kafka_offsets").await), (0, 0));
    let landing = lander.land(&mut batch(0, 2, TTL), &origin(0), &advance(None, 2), noon()).await.unwrap();
    assert!(matches!(landing, Landing::Landed { .. }), "the lander goes on");
}

#[tokio::test]
async fn a_violated_constraint_is_named_and_its_values_are_not() {
    let staged = staged().await;
    let mut connection = staged.connection().await;
    let insert = "insert into staging.polls (source, match_key, email, next_at, state) values ($1, $2, $2, now(), $3)";
    let attempt = async |connection: &mut sqlx::PgConnection, state: &str| {
        let done = sqlx::query(insert).bind(SOURCE).bind(CANARY).bind(state).execute(connection).await;
        done.map_err(Error::database("noting a poll"))
    };
    attempt(&mut connection, "due").await.unwrap();
    let twice = attempt(&mut connection, "due").await.unwrap_err();
    let unknown_state = attempt(&mut connection, "canary-state").await.unwrap_err();
    for (error, constraint) in [(twice, "polls_pkey"), (unknown_state, "polls_state")] {
        let text = printed(&error);
        assert!(text.contains("SQLSTATE 23") && text.contains(constraint), "{text}");
        assert!(!text.contains("canary") && !text.contains("groves"), "{text}");
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_failing_cast_does_not_show_its_input() {
    let staged = staged().await;
    for sql in ["select $1::text::jsonb", "select $1::text::bigint", "select $1::text::timestamptz"] {
        let error = sqlx::query(sql).bind(CANARY).execute(&staged.pool).await;
        let text = printed(&error.map_err(Error::database("casting")).unwrap_err());
        assert!(text.contains("SQLSTATE 22") && !text.contains("canary"), "{text}");
    }
}
