//! Dead letters: kept whole, sealed, and opened only by who holds the key.

use model::{InstallationKey, Reason, Reject};
use serde_json::{Value, json};
use sqlx::Row;
use staging::{Batch, DeadLetter, Seal, adopt_key};

use crate::support::{SOURCE, TTL, advance, dead_letter, noon, origin, seal, staged};

const RAW: &[u8] =
    b"{\"after\":{\"id\":27,\"email\":\"matthew.groves@couchbase.com\",\"password\":\"xrinn5xp.swd\"\xff";

#[tokio::test]
async fn invariant_7_a_parked_payload_is_sealed_and_only_the_installation_opens_it() {
    let staged = staged().await;
    let mut batch = Batch::new(SOURCE, TTL);
    batch.push_dead_letter(dead_letter(0, RAW).with_external_id(Some("27".to_owned())));
    staged.lander().land(&mut batch, &origin(0), &advance(None, 1), noon()).await.unwrap();

    let sealed: Vec<u8> = staged.ask("select payload from staging.dead_letters").await;
    for part in [&b"xrinn5xp"[..], b"matthew", b"after", b"password"] {
        assert!(!sealed.windows(part.len()).any(|window| window == part));
    }
    assert_eq!(seal().open(SOURCE, &sealed).unwrap(), RAW);
    assert!(Seal::new(&InstallationKey::new([8; 32])).open(SOURCE, &sealed).is_err());
    assert!(seal().open("another source", &sealed).is_err());

    let everything: String = staged.ask("select to_jsonb(d)::text from staging.dead_letters d").await;
    assert!(!everything.contains("groves") && !everything.contains("xrinn5xp"), "{everything}");
}

#[tokio::test]
async fn a_dead_letter_says_what_where_and_why() {
    let staged = staged().await;
    let mut batch = Batch::new(SOURCE, TTL);
    let reject = Reject::new(Reason::BadValue, "column points is no number");
    let at = json!({"file": "loyalty_members.csv", "line": 7, "byte_offset": 301});
    batch.push_dead_letter(DeadLetter::new(at.clone(), reject, b"27,x").with_external_id(Some("27".to_owned())));
    batch.push_dead_letter(dead_letter(1, b""));
    staged.lander().land(&mut batch, &origin(0), &advance(None, 2), noon()).await.unwrap();
    let rows = sqlx::query(
        "select to_jsonb(d) - 'payload' - 'dead_letter_id' from staging.dead_letters d order by dead_letter_id",
    )
    .fetch_all(&staged.pool)
    .await
    .unwrap();
    let batch_id: i64 = staged.ask("select batch_id from staging.batches").await;
    let expected = json!({
        "source": SOURCE, "origin": at, "reason": "bad_value", "detail": "column points is no number",
        "truncated": false, "external_id": "27", "batch_id": batch_id, "landed_at": "2026-03-01T12:00:00+00:00",
        "state": "parked", "context": null, "handled_at": null, "landed_batch_id": null, "landed_ordinal": null,
    });
    assert_eq!(rows[0].get::<Value, _>(0), expected);
    assert_eq!(rows[1].get::<Value, _>(0)["external_id"], Value::Null);
}

#[tokio::test]
async fn of_a_record_that_is_too_large_the_beginning_is_kept_and_marked() {
    let staged = staged().await;
    let mut batch = Batch::new(SOURCE, TTL);
    let bytes: Vec<u8> = (0..200 << 10).map(|place: u32| place.to_le_bytes()[1]).collect();
    batch.push_dead_letter(DeadLetter::new(origin(0), Reject::new(Reason::TooLarge, "over 1 MiB"), &bytes));
    batch.push_dead_letter(DeadLetter::new(origin(1), Reject::new(Reason::NotJson, ""), &bytes));
    staged.lander().land(&mut batch, &origin(0), &advance(None, 2), noon()).await.unwrap();
    let rows = sqlx::query("select payload, truncated from staging.dead_letters order by dead_letter_id")
        .fetch_all(&staged.pool)
        .await
        .unwrap();
    assert!(rows[0].get::<bool, _>(1) && !rows[1].get::<bool, _>(1));
    assert_eq!(seal().open(SOURCE, rows[0].get(0)).unwrap(), bytes[..64 << 10]);
    assert_eq!(seal().open(SOURCE, rows[1].get(0)).unwrap(), bytes);
}

#[tokio::test]
async fn a_database_takes_one_installation_key_and_refuses_another() {
    let staged = staged().await;
    let mut connection = staged.connection().await;
    let (ours, another) = (InstallationKey::new([7; 32]), InstallationKey::new([8; 32]));
    adopt_key(&mut connection, &ours).await.unwrap();
    adopt_key(&mut connection, &ours).await.unwrap();
    let refused = adopt_key(&mut connection, &another).await.unwrap_err();
    assert!(matches!(refused, staging::Error::WrongKey) && !refused.is_transient());
    assert!(refused.to_string().contains("security.key_file"), "{refused}");
    adopt_key(&mut connection, &ours).await.unwrap();
    let kept: String = staged.ask("select to_jsonb(i)::text from staging.installation i").await;
    assert!(kept.contains(&ours.fingerprint()) && !kept.contains(&"07".repeat(8)), "{kept}");
}

#[tokio::test]
async fn of_two_keys_offered_at_once_one_is_adopted() {
    let staged = staged().await;
    let (mut one, mut other) = (staged.connection().await, staged.connection().await);
    let keys = (InstallationKey::new([1; 32]), InstallationKey::new([2; 32]));
    let (one, other) = tokio::join!(adopt_key(&mut one, &keys.0), adopt_key(&mut other, &keys.1));
    assert_ne!(one.is_ok(), other.is_ok());
    assert_eq!(staged.count("installation").await, 1);
}
