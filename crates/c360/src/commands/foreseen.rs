//! What a dry run says of profiles.

use std::io::{self, Write};

use consolidate::{Change, Foreseen};
use serde_json::{Value, json};

/// How many profiles a dry run names.
const SAMPLES: usize = 10;

/// For scripts; keys that belong to the command's own document.
pub(super) fn document(foreseen: &Foreseen) -> Value {
    json!({
        "news": foreseen.news, "not_applied": foreseen.not_applied, "leaving": foreseen.leaving,
        "profiles": {
            "appear": count(foreseen, Change::Appears),
            "vanish": count(foreseen, Change::Vanishes),
            "change": count(foreseen, Change::Changes),
        },
        "samples": &foreseen.profiles[..foreseen.profiles.len().min(SAMPLES)],
    })
}

/// For people.
pub(super) fn print(out: &mut impl Write, foreseen: &Foreseen) -> io::Result<()> {
    writeln!(
        out,
        "profiles: {} would appear, {} vanish, {} change",
        count(foreseen, Change::Appears),
        count(foreseen, Change::Vanishes),
        count(foreseen, Change::Changes)
    )?;
    for profile in foreseen.profiles.iter().take(SAMPLES) {
        writeln!(out, "  {} {:?}: {}", profile.customer_id, profile.change, profile.attributes.join(", "))?;
    }
    if foreseen.profiles.len() > SAMPLES {
        writeln!(out, "  ... and {} more", foreseen.profiles.len() - SAMPLES)?;
    }
    if foreseen.leaving > 0 {
        writeln!(out, "{} members are missing and would leave", foreseen.leaving)?;
    }
    if foreseen.not_applied > 0 {
        writeln!(out, "{} of the records that are news were too many to look at", foreseen.not_applied)?;
    }
    Ok(())
}

fn count(foreseen: &Foreseen, change: Change) -> usize {
    foreseen.profiles.iter().filter(|profile| profile.change == change).count()
}
