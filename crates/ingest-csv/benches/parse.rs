//! How long a row takes from bytes to an encoded batch, without landing: ROWS rows (1,000,000), RUNS times (3).

use std::fmt::Write;
use std::time::Instant;

use ingest_csv::{Settings, parse_only};
use model::mapping::{Context, CustomerMapping, Mapping};
use model::{Credentials, InstallationKey};

fn main() {
    let (count, runs) = (number("ROWS", 1_000_000), number("RUNS", 3));
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
    for id in 0..count {
        writeln!(text, "{id},xrinn{id}.swd,Matthew{id},Groves,matthew.groves{id}@couchbase.com,{}", id % 1_000)
            .expect("writing to a string");
    }
    for _ in 0..runs {
        let started = Instant::now();
        let counts = parse_only(text.clone().into_bytes(), &settings);
        assert_eq!(counts, (count, 0, 0));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let (rows, bytes) = (count as f64, text.len() as f64);
        let seconds = started.elapsed().as_secs_f64();
        println!("{:.0} ns/row, {:.0} rows/s, {:.0} MB/s", seconds * 1e9 / rows, rows / seconds, bytes / seconds / 1e6);
    }
}

/// The number in a variable, or this one where there is none.
fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() { default } else { text.parse().expect("a whole number") }
}
