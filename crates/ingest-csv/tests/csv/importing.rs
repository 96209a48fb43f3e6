//! One file at a time, on a real Postgres: what it is, and whether it is published.


use ingest_csv::{ImportOptions, Outcome};
use serde_json::Value;
use crate::support::{HEADER, Shop, members};

#[tokio::test]
async fn a_file_is_landed_and_published_as_a_whole() {
    let shop = Shop::open().await;
    shop.put(
        "loyalty_members_2026-01-31.csv",
        HEADER.to_owned() + "27,xrinn5xp.swd,Matthew,Groves,matthew.groves@couchbase.com,47\n0028,x,\\N,\"\",\"a\"\"b@x.com\",\n",
    );
    let report = shop.import_one().await;
    assert_eq!((report.state, report.rows, report.dead_letters), (Outcome::Imported, 2, 0), "{report:?}");
    assert_eq!((report.delimiter, report.encoding), (Some(','), Some("UTF-8")));
    assert_eq!(shop.published_ids().await, ["27", "0028"]);
    let (email, attributes, payload): (String, Value, Value) =
        sqlx::query_as("select email, attributes::jsonb, payload::jsonb from staging.records where external_id = '27'")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    assert_eq!(email, "matthew.groves@couchbase.com");
    assert_eq!(
        attributes,
        serde_json::json!({"firstName": "Matthew", "lastName": "Groves", "name": "Matthew Groves", "loyaltyPoints": "47"})
    );
    assert_eq!(payload["points"], "47");
    assert!(!payload.to_string().contains("xrinn5xp"), "the password is replaced");
    let (email, attributes): (String, Value) =
        sqlx::query_as("select email, attributes::jsonb from staging.records where external_id = '0028'")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    assert_eq!(email, "a\"b@x.com");
    assert_eq!(attributes["firstName"], Value::Null);
    assert_eq!(shop.count("select count(*) from staging.batches where completes_import").await, 1);
    let as_of: String =
        sqlx::query_scalar("select (as_of at time zone 'utc')::text from staging.csv_imports").fetch_one(&shop.pool).await.unwrap();
    assert_eq!(as_of, "2026-01-31 00:00:00");
}
