//! Secrets from files: `x_file` becomes `x`.

use toml::Value;

use super::document::{Document, KeyPath};
use super::keys;
use super::problem::Report;

/// The longest secret: a key with its chain of certificates fits, a device or a wrong path does not fill the memory.
const LONGEST: usize = 1024 * 1024;

/// Reads the file of every `x_file` whose `x` is a secret, and puts its content, without line ends behind it, at `x`.
pub(super) fn read_files(document: &mut Document, report: &mut Report) {
    let mut paths = Vec::new();
    if let Some(root) = document.get::<&str>(&[]) {
        collect(root, &mut Vec::new(), &mut paths);
    }
    for (from, to) in paths {
        let problem = match read(document, &from, &to) {
            Ok(secret) => {
                document.replace(&from, &to, secret);
                continue;
            }
            Err(problem) => problem,
        };
        report.add(document.place(&from), from.join("."), problem);
        document.remove(&from);
    }
}

/// All keys `x_file` of secrets `x`, as (`x_file`, `x`).
fn collect(value: &Value, path: &mut KeyPath, found: &mut Vec<(KeyPath, KeyPath)>) {
    let Value::Table(table) = value else { return };
    for (key, below) in table {
        path.push(key.clone());
        if let Some(name) = key.strip_suffix("_file") {
            let mut secret = path.clone();
            secret.pop();
            secret.push(name.to_owned());
            if keys::is_secret(&secret) {
                found.push((path.clone(), secret));
            }
        }
        collect(below, path, found);
        path.pop();
    }
}

fn read(document: &Document, from: &[String], to: &[String]) -> Result<String, String> {
    let Some(Value::String(file)) = document.get(from) else {
        return Err("must be a string: the path of the file that holds the secret".to_owned());
    };
    if document.get(to).is_some() {
        return Err(format!("`{}` is set too; keep one of them", to.join(".")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let secret = text.trim_end_matches(['\n', '\r']);
    match secret.len() {
        0 => Err(format!("{file} is empty")),
        length if length > LONGEST => Err(format!("{file} is too long for a secret")),
        _ => Ok(secret.to_owned()),
    }
}
