//! Landing: what is in the tables once a batch is landed.

use chrono::{DateTime, Utc};
use model::{Entity, ExternalId, Mapped, Operation, Position, Record};
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::postgres::PgListener;
use staging::offsets::{self, StoredOffset};
use staging::{Batch, LANDED_CHANNEL, LIMIT_BYTES, LIMIT_ROWS, Landing};

use crate::support::{
    HOUR, SOURCE, TOPIC, TTL, advance, batch, dead_letter, last_message, last_seen, noon, origin, record, staged,
};

#[tokio::test]
async fn invariant_1_nothing_is_lost_a_source_record_is_landed_parked_or_counted() {
    let staged = staged().await;
    let mut lander = staged.lander();
    let mut expected = None;
    let mut ledger = 0;
    for part in 0..20 {
        let mut batch = Batch::new(SOURCE, TTL);
        let first = ledger;
        for _ in 0..30 {
            match ledger % 7 {
                2 => batch.push_dead_letter(dead_letter(ledger, b"{")),
                4 => batch.skip(),
                _ => batch.push(&record(ledger)),
            }
            ledger += 1;
        }
        // Each batch is tried twice: the second try must not add anything.
        let checkpoint = advance(expected, ledger);
        let landing = lander.land(&mut batch, &origin(first), &checkpoint, noon()).await.unwrap();
        assert!(matches!(landing, Landing::Landed { batch_id: Some(_) }), "part {part}: {landing:?}");
        let again = lander.land(&mut batch, &origin(first), &checkpoint, noon()).await.unwrap();
        assert_eq!(again, Landing::Fenced);
        expected = Some(ledger);
    }
    let accounted = "select offset_of, count(*) as times from (
            select external_id::bigint as offset_of from staging.records
            union all
            select (origin->>'offset')::bigint from staging.dead_letters) all_of_them
        group by 1";
    let skipped: i64 = staged.ask("select sum(skipped_count) from staging.batches").await;
    let times: (i64, i64) =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("select count(*), max(times) from ({accounted}) a")))
            .fetch_one(&staged.pool)
            .await
            .unwrap();
    assert_eq!(times, (ledger - skipped, 1));
    assert_eq!(skipped, (0..ledger).map(|offset| i64::from(offset % 7 == 4)).sum::<i64>());
    let counted: i64 =
        staged.ask("select sum(record_count + dead_letter_count + skipped_count) from staging.batches").await;
    assert_eq!(counted, ledger);
}

#[tokio::test]
async fn invariant_2_position_with_data_all_of_a_batch_commits_in_one_transaction() {
    let staged = staged().await;
    let mut batch = batch(0, 3, TTL);
    batch.push_dead_letter(dead_letter(3, b"{\"half"));
    staged.lander().land(&mut batch, &origin(0), &advance(None, 4), noon()).await.unwrap();
    let transactions: i64 = staged
        .ask(
            "select count(distinct xmin::text) from (
                 select xmin from staging.batches union all select xmin from staging.records
                 union all select xmin from staging.dead_letters union all select xmin from staging.kafka_offsets) t",
        )
        .await;
    assert_eq!(transactions, 1);
    let stored = offsets::stored(&staged.pool, SOURCE).await.unwrap();
    let (last_seen, last_message) = (Some(last_seen(4)), Some(last_message(4)));
    let expected = StoredOffset { topic: TOPIC.to_owned(), partition: 0, next_offset: 4, last_seen, last_message };
    assert_eq!(stored, [expected]);
}

#[tokio::test]
async fn a_record_lands_with_every_column_as_given() {
    let staged = staged().await;
    let observed_at: DateTime<Utc> = "2019-04-25T15:15:58.008385Z".parse().unwrap();
    let full = Record {
        operation: Operation::Delete,
        mapped: Mapped {
            entity: Entity::Order,
            external_id: ExternalId::from_text("ä\t\\N\n27").unwrap(),
            email: Some(String::new()),
            credential: Some("digest".to_owned()),
            attributes: r#"{"z":1e400,"a":"\u00e9","a":0.10}"#.to_owned(),
        },
        position: Position::from(vec![0, 255, 10, 92]),
        observed_at,
        moved_to: Some(ExternalId::from_parts("1029".to_owned(), true)),
        payload: Some(r#"{"a" : "x\\y\"", "n":12345678901234567890123}"#.to_owned()),
    };
    let bare = Record { payload: None, ..record(5) };
    let mut batch = Batch::new(SOURCE, TTL);
    batch.push(&full);
    batch.push(&bare);
    staged.lander().land(&mut batch, &origin(4), &advance(None, 6), noon()).await.unwrap();

    let rows = sqlx::query(
        "select batch_id, landed_at, expires_at, ordinal, source, entity, operation, external_id, id_is_number, email,
                credential, position, observed_at, attributes::text, moved_to::text, payload
         from staging.records order by ordinal",
    )
    .fetch_all(&staged.pool)
    .await
    .unwrap();
    let [first, second] = rows.as_slice() else { panic!("{} rows", rows.len()) };
    let text = |row: &sqlx::postgres::PgRow, column: &str| row.get::<Option<String>, _>(column);
    let batch_id: i64 = staged.ask("select batch_id from staging.batches").await;
    assert_eq!(first.get::<i64, _>("batch_id"), batch_id);
    assert_eq!(first.get::<DateTime<Utc>, _>("landed_at"), noon());
    assert_eq!(first.get::<DateTime<Utc>, _>("expires_at"), noon() + TTL);
    assert_eq!((first.get::<i32, _>("ordinal"), second.get::<i32, _>("ordinal")), (0, 1));
    assert_eq!(text(first, "source").unwrap(), SOURCE);
    assert_eq!((text(first, "entity").unwrap(), text(first, "operation").unwrap()), ("order".into(), "delete".into()));
    assert_eq!(text(first, "external_id").unwrap(), "ä\t\\N\n27");
    assert!(!first.get::<bool, _>("id_is_number") && second.get::<bool, _>("id_is_number"));
    assert_eq!((text(first, "email"), text(first, "credential")), (Some(String::new()), Some("digest".to_owned())));
    assert_eq!(text(second, "credential"), None);
    assert_eq!(first.get::<&[u8], _>("position"), full.position.as_bytes());
    assert_eq!(first.get::<DateTime<Utc>, _>("observed_at"), observed_at);
    assert_eq!(text(first, "attributes").unwrap(), full.mapped.attributes);
    assert_eq!((text(first, "moved_to").unwrap(), text(second, "moved_to")), ("1029".to_owned(), None));
    assert_eq!((text(first, "payload"), text(second, "payload")), (full.payload, None));
}

#[tokio::test]
async fn a_landed_payload_can_be_cast_to_jsonb() {
    let staged = staged().await;
    staged.land(0, 100, TTL, noon()).await;
    let ids: i64 = staged.ask("select count(distinct payload::jsonb #>> '{after,id}') from staging.records").await;
    assert_eq!(ids, 100);
}

#[tokio::test]
async fn the_batch_row_says_where_from_how_much_and_how_long() {
    let staged = staged().await;
    let mut batch = batch(10, 2, TTL);
    batch.push_dead_letter(dead_letter(12, b"["));
    batch.skip();
    staged.lander().land(&mut batch, &origin(10), &advance(None, 14), noon()).await.unwrap();
    let row: Value = staged.ask("select to_jsonb(b) - 'batch_id' from staging.batches b").await;
    let expected = json!({
        "source": SOURCE, "origin": origin(10), "record_count": 2, "dead_letter_count": 1, "skipped_count": 1,
        "landed_at": "2026-03-01T12:00:00+00:00", "published_at": "2026-03-01T12:00:00+00:00",
        "expires_at": "2026-03-02T13:00:00+00:00", "consolidated_at": null, "abandoned_at": null, "attempts": 0,
        "excluded": [], "left_out": [], "last_error": null, "import_id": null, "completes_import": false,
    });
    assert_eq!(row, expected);
}

#[tokio::test]
async fn progress_alone_moves_the_offset_and_makes_no_batch() {
    let staged = staged().await;
    let mut lander = staged.lander();
    let nothing = &mut Batch::new(SOURCE, TTL);
    let landing = lander.land(nothing, &origin(0), &advance(None, 7), noon()).await.unwrap();
    assert_eq!(landing, Landing::Landed { batch_id: None });
    assert_eq!(staged.count("batches").await, 0);
    assert_eq!(staged.ask::<i64>("select next_offset from staging.kafka_offsets").await, 7);
}

#[tokio::test]
async fn landing_wakes_whoever_listens() {
    let staged = staged().await;
    let mut listener = PgListener::connect_with(&staged.pool).await.unwrap();
    listener.listen(LANDED_CHANNEL).await.unwrap();
    staged.land(0, 1, TTL, noon()).await;
    assert_eq!(listener.recv().await.unwrap().payload(), SOURCE);
}

#[tokio::test]
async fn a_batch_is_full_by_rows_or_by_bytes() {
    let mut by_rows = batch(0, i64::try_from(LIMIT_ROWS).unwrap() - 1, HOUR);
    assert!(!by_rows.is_full());
    by_rows.push_dead_letter(dead_letter(0, b""));
    assert!(by_rows.is_full());
    let mut by_bytes = Batch::new(SOURCE, HOUR);
    while !by_bytes.is_full() {
        by_bytes.push(&Record { payload: Some(format!("\"{}\"", "x".repeat(1 << 20))), ..record(0) });
    }
    assert_eq!(by_bytes.record_count(), 8);
    assert!(by_bytes.bytes() < LIMIT_BYTES + (2 << 20));
}
