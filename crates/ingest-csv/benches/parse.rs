//! How long a row takes from bytes to an encoded batch, without landing: `cargo bench -p ingest-csv`.

use std::fmt::Write;
use std::time::Instant;

use ingest_csv::{Settings, parse_only};
use model::mapping::{Context, CustomerMapping, Mapping};
use model::{Credentials, InstallationKey};

const ROWS: u64 = 1_000_000;

fn main() {
    let mapping: CustomerMapping = serde_json::from_str(
        r#"{"external_id": "id", "email": "email", "credential": "password",
            "attributes": {"firstName": "firstName", "lastName": "lastName", "name": ["firstName", "lastName"],
                           "loyaltyPoints": "points"}}"#,
    )
    .expect("a mapping");
    let context =
        Context { credentials: Credentials::digest(&InstallationKey::new([7; 32])), timezone: chrono_tz::UTC };
    let settings = Settings::new("loyalty", ".", "*.csv", Mapping::Customer(mapping), context);
    let mut text = "id,password,firstName,lastName,email,points\n".to_owned();
    for id in 0..ROWS {
        writeln!(text, "{id},xrinn{id}.swd,Matthew{id},Groves,matthew.groves{id}@couchbase.com,{}", id % 1_000)
            .expect("writing to a string");
    }
    for _ in 0..3 {
        let started = Instant::now();
        let counts = parse_only(text.clone().into_bytes(), &settings);
        assert_eq!(counts, (ROWS, 0, 0));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let (rows, bytes) = (ROWS as f64, text.len() as f64);
        let seconds = started.elapsed().as_secs_f64();
        println!("{:.0} ns/row, {:.0} rows/s, {:.0} MB/s", seconds * 1e9 / rows, rows / seconds, bytes / seconds / 1e6);
    }
}
