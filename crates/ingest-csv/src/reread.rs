//! Reading a dead letter again, after the configuration has changed.

use std::borrow::Cow;
use std::io::Cursor;

use chrono::{DateTime, Utc};
use model::{Reason, Record, Reject};
use serde::Deserialize;
use serde_json::Value;

use crate::Settings;
use crate::header::Header;
use crate::parse::{Origin, Parser, Taken};
use crate::rows::RowReader;

/// The part of a dead letter's origin by which its row can be read without its file.
#[derive(Deserialize)]
struct Place {
    file: String,
    row: u64,
    as_of: DateTime<Utc>,
    mtime: DateTime<Utc>,
    delimiter: char,
    columns: Vec<String>,
}

/// Makes a record of a dead letter's bytes under the settings as they are now, at the position that the row had; `None` if
/// it is nothing to land. Bytes that are not UTF-8 are read in the configured encoding.
pub fn reread(
    settings: &Settings,
    origin: &Value,
    payload: &[u8],
    now: DateTime<Utc>,
) -> Result<Option<Record>, Reject> {
    let lost = |_| Reject::new(Reason::UnknownShape, "the dead letter does not say how its file was written");
    let place = Place::deserialize(origin).map_err(lost)?;
    let delimiter = u8::try_from(place.delimiter).unwrap_or(b',');
    let header = Header::of_columns(place.columns, delimiter, &settings.mapping)
        .map_err(|missing| Reject::new(Reason::UnknownShape, missing))?;
    let origin = Origin {
        file_name: place.file,
        as_of: place.as_of,
        mtime: place.mtime,
        observed_at: model::observed_at(place.as_of, now),
    };
    let text = match settings.encoding {
        Some(encoding) if std::str::from_utf8(payload).is_err() => {
            let decoded = encoding.decode_without_bom_handling_and_without_replacement(payload);
            decoded.map_or(Cow::Borrowed(payload), |text| Cow::Owned(text.into_owned().into_bytes()))
        }
        _ => Cow::Borrowed(payload),
    };
    let mut rows = RowReader::new(Cursor::new(&text[..]), settings.max_record_bytes);
    rows.set_dialect(header.delimiter, header.names.len());
    let Ok(Some(row)) = rows.next() else { return Ok(None) };
    match Parser::at_row(settings, &origin, &header, place.row).read(&rows, &row) {
        Taken::Record(record) => Ok(Some(*record)),
        Taken::Nothing => Ok(None),
        Taken::Bad(reject, _) => Err(reject),
    }
}
