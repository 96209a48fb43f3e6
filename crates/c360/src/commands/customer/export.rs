//! `c360 customer export`

use std::io::Write;

use anyhow::anyhow;
use consolidate::Key;
use serde_json::{Value, json};

use super::{Opened, with_exit};
use crate::cli::customer::Export;
use crate::commands::dead_letters::{Mask, as_json};
use crate::config::Config;
use crate::exit::Exit;

pub(super) async fn run(args: &Export, config: Config) -> anyhow::Result<Exit> {
    let mut opened = Opened::open(config).await?;
    let rules = opened.installation.rules()?;
    let key = Key::parse(&args.whom.key);
    let document = consolidate::export::export(&mut opened.connection, &rules, &key).await.map_err(with_exit)?;
    let Some(mut document) = document else {
        return Err(Exit::NotFound.because(anyhow!("nothing is known of such a person")));
    };
    mask(&mut document, &opened.installation.config);
    let text = if args.json { document.to_string() } else { serde_json::to_string_pretty(&document)? };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(Exit::Done)
}

/// Takes credentials out of raw records; where nobody knows which column holds one, the record as it came is left out.
fn mask(document: &mut Value, config: &Config) {
    for record in document["staged"].as_array_mut().into_iter().flatten() {
        let source = record["source"].as_str().and_then(|source| config.sources.get(source));
        let payload = record["payload"].as_str().and_then(|payload| as_json(payload.as_bytes()));
        let masked = source.zip(payload).and_then(|(source, payload)| Mask::of(source, false).apply(payload));
        record["payload"] = json!(masked);
    }
}
