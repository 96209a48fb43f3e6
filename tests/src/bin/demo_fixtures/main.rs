//! Writes the demo's data: the nightly loyalty exports, the sample online store and the rows of the home-delivery
//! database, all about the same three hundred people ([`c360_tests::people`]).
//!
//!     cargo run -p c360-tests --bin demo_fixtures [DIRECTORY]
//!
//! The directory is the repository's, if none is given. The same program writes the same bytes: nothing depends on the
//! clock, on the machine or on chance, and a test compares them with what is checked in. All names are invented and all
//! addresses are in domains reserved for examples, but for Matthew Groves, who is the reference scenario.

mod chance;
mod inventory;
mod loyalty;
mod newcomers;
mod online_store;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let root = env::args_os().nth(1).map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), PathBuf::from);
    let files = [
        ("fixtures/loyalty/loyalty_members_2026-11-18.csv", loyalty::first_night()),
        ("fixtures/loyalty/loyalty_members_2026-11-19.csv", loyalty::second_night()),
        ("fixtures/online_store.json", online_store::data()),
        ("deploy/mysql/20-customers.sql", inventory::rows()),
    ];
    for (name, content) in files {
        write(&root.join(name), &content).with_context(|| format!("cannot write {name}"))?;
        println!("{name}: {} bytes", content.len());
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::create_dir_all(path.parent().context("no directory")?)?;
    Ok(fs::write(path, content)?)
}
