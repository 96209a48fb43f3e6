//! The file beside a file that says that it is whole, and perhaps how many rows it has.

use std::path::Path;

use serde::Deserialize;

use crate::file::{self, Identity};
use crate::name::Names;

/// A manifest is small.
const MAX_BYTES: u64 = 64 << 10;

/// What of a manifest counts; it may say more.
#[derive(Deserialize)]
struct Manifest {
    rows: u64,
}

/// Why a file of the directory does not count yet; `None` if it does. A marker that is older than its file is that of the
/// file before it.
pub(crate) fn missing(directory: &Path, name: &str, identity: &Identity, names: &Names) -> Option<String> {
    let marker = names.marker_of(name)?;
    match std::fs::metadata(directory.join(&marker)) {
        Ok(metadata) if !metadata.is_file() => Some(format!("its marker {marker} is not a file")),
        Ok(metadata) if Identity::of(&metadata).mtime() < identity.mtime() => {
            Some(format!("its marker {marker} is older than the file"))
        }
        Ok(_) => None,
        Err(_) => Some(format!("its marker {marker} is not there")),
    }
}

/// How many rows the marker says that the file has: a number alone, or `rows` of a JSON object.
pub(crate) fn rows(path: &Path, names: &Names) -> Option<u64> {
    let marker = path.with_file_name(names.marker_of(path.file_name()?.to_str()?)?);
    let (file, identity) = file::open(&marker, false).ok()?;
    let text = (identity.size() <= MAX_BYTES).then(|| std::io::read_to_string(file).ok())??;
    let manifest = || serde_json::from_str::<Manifest>(&text).ok();
    text.trim().parse().ok().or_else(|| manifest().map(|manifest| manifest.rows))
}
