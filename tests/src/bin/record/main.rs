//! Records `fixtures/home_delivery/*.jsonl` anew from a real Kafka, Connect, Debezium and MariaDB: one message a line.

mod customers;
mod shapes;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use c360_tests::stack::Message;

#[tokio::main]
async fn main() -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/home_delivery");
    fs::create_dir_all(&directory)?;
    let (customers, shapes) = (customers::record().await?, shapes::record().await?);
    write(&directory.join("customers.jsonl"), &customers)?;
    write(&directory.join("shapes.jsonl"), &shapes)
}

fn write(file: &Path, messages: &[Message]) -> Result<()> {
    let mut lines = String::new();
    for message in messages {
        lines += &serde_json::to_string(message)?;
        lines.push('\n');
    }
    fs::write(file, &lines).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}: {} messages, {} bytes", file.display(), messages.len(), lines.len());
    Ok(())
}
