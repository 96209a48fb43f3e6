//! `c360 customer export`

use std::io::Write;

use anyhow::anyhow;
use consolidate::Key;

use super::Opened;
use crate::cli::customer::Export;
use crate::config::Config;
use crate::exit::Exit;
use crate::mask;

pub(super) async fn run(args: &Export, config: Config) -> anyhow::Result<Exit> {
    let mut opened = Opened::open(config).await?;
    let rules = opened.installation.rules()?;
    let key = Key::parse(&args.whom.key);
    let document = consolidate::export::export(&mut opened.connection, &rules, &key).await?;
    let Some(mut document) = document else {
        return Err(Exit::NotFound.because(anyhow!("nothing is known of such a person")));
    };
    mask::export(&mut document, &opened.installation.config);
    let text = if args.json { document.to_string() } else { serde_json::to_string_pretty(&document)? };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(Exit::Done)
}
