//! Dead letters of rows: what is kept with one, reading it again after the configuration has changed, and its cells.

use std::borrow::Cow;
use std::io::Cursor;
use std::ops::Range;

use chrono::{DateTime, Utc};
use model::{Reason, Reject};
use serde::{Deserialize, Serialize};
use staging::dead_letters::{Cannot, Context, Opened, Reread};

use crate::Settings;
use crate::cells::Cell;
use crate::header::{Header, fold};
use crate::parse::{Origin, Parser, Taken};
use crate::rows::{Row, RowReader};

/// All that reading a row takes beside its bytes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Place<'a> {
    pub(crate) row: u64,
    pub(crate) as_of: DateTime<Utc>,
    pub(crate) mtime: DateTime<Utc>,
    pub(crate) delimiter: char,
    /// As the header spells them.
    pub(crate) columns: Cow<'a, [String]>,
    /// See [`Origin::is_accepted`].
    #[serde(default)]
    pub(crate) is_accepted: bool,
    /// Whether nothing said how the file is encoded: then bytes that are no UTF-8 may be of the encoding that is configured
    /// now. Elsewhere they are what could not be read even so.
    #[serde(default = "assumed")]
    pub(crate) is_assumed_utf8: bool,
}

/// Of letters that do not say.
fn assumed() -> bool {
    true
}

/// The row of a dead letter, told apart into cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRow {
    /// The row as it is written.
    pub text: String,
    /// Its cells.
    pub cells: Vec<NamedCell>,
}

/// One cell of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCell {
    /// Its column, as the header of the file spells it.
    pub column: String,
    /// Its text.
    pub text: String,
    /// Where that is written in the row, quotes and all that is within them.
    pub place: Range<usize>,
    /// Whether it holds the mapped credential.
    pub is_credential: bool,
}

/// Makes records of a dead letter's bytes under the settings as they are now, at the position that the row had. Bytes that
/// are not UTF-8 are read in the configured encoding.
pub fn reread(settings: &Settings, opened: &Opened) -> Reread {
    let (place, payload) = match place_of(opened) {
        Ok(known) => known,
        Err(why) => return Reread::Cannot(why),
    };
    let origin = Origin {
        file_name: String::new(),
        as_of: place.as_of,
        mtime: place.mtime,
        observed_at: model::observed_at(place.as_of, opened.letter.landed_at),
        is_accepted: place.is_accepted,
        is_assumed_utf8: place.is_assumed_utf8,
        mark: 0,
        is_seen: false,
    };
    let text = decoded(settings, &place, payload);
    let delimiter = u8::try_from(place.delimiter).unwrap_or(b',');
    let columns = place.columns.into_owned();
    let header = match Header::of_columns(columns, delimiter, &settings.mapping, place.is_accepted) {
        Ok(header) => header,
        Err(missing) => return Reread::StillBad(Reject::new(Reason::UnknownShape, missing)),
    };
    let mut records = Vec::new();
    let (rows, row) = row_of(settings, &text, header.delimiter, header.names.len());
    if let Some(row) = row {
        match Parser::at_row(settings, &origin, &header, place.row).read(&rows, &row) {
            Taken::Record(record) => records.push(*record),
            Taken::Nothing => {}
            Taken::Bad(reject, _) => return Reread::StillBad(reject),
        }
    }
    Reread::Lands { records, dead_letters: Vec::new(), products: Vec::new() }
}

/// The row of a dead letter by the header of its file; `None` where the bytes cannot be told apart into as many cells.
pub fn read_row(settings: &Settings, opened: &Opened) -> Option<ReadRow> {
    let (place, payload) = place_of(opened).ok()?;
    let text = decoded(settings, &place, payload);
    let delimiter = u8::try_from(place.delimiter).ok()?;
    let (rows, row) = row_of(settings, &text, delimiter, place.columns.len());
    let row = row.filter(|row| row.fault.is_none() && rows.fits())?;
    let text = std::str::from_utf8(rows.raw(&row)).ok()?;
    let credential = settings.mapping.credential_column().map(fold);
    let cell = |(column, cell): (&String, &Cell)| NamedCell {
        column: column.clone(),
        text: cell.text(text).into_owned(),
        place: cell.place(),
        is_credential: credential.as_ref() == Some(&fold(column)),
    };
    let cells = place.columns.iter().zip(rows.cells()).map(cell).collect();
    Some(ReadRow { text: text.to_owned(), cells })
}

fn place_of(opened: &Opened) -> Result<(Place<'static>, &[u8]), Cannot> {
    let contents = opened.contents.as_ref().map_err(|_| Cannot::Sealed)?;
    // Letters of before there was a context have it all in their origin.
    let context = match &contents.context {
        Some(Context::Source(context)) => context,
        _ => &opened.letter.origin,
    };
    let place = Place::deserialize(context).map_err(|_| Cannot::NoSource)?;
    Ok((place, &contents.payload))
}

fn decoded<'a>(settings: &Settings, place: &Place<'_>, payload: &'a [u8]) -> Cow<'a, [u8]> {
    match settings.encoding {
        Some(encoding) if place.is_assumed_utf8 && std::str::from_utf8(payload).is_err() => {
            let decoded = encoding.decode_without_bom_handling_and_without_replacement(payload);
            decoded.map_or(Cow::Borrowed(payload), |text| Cow::Owned(text.into_owned().into_bytes()))
        }
        _ => Cow::Borrowed(payload),
    }
}

/// The one row that a text is.
fn row_of<'t>(
    settings: &Settings,
    text: &'t [u8],
    delimiter: u8,
    width: usize,
) -> (RowReader<Cursor<&'t [u8]>>, Option<Row>) {
    let mut rows = RowReader::new(Cursor::new(text), settings.max_record_bytes);
    rows.set_dialect(delimiter, width);
    // Reading from memory does not fail.
    let row = rows.next().unwrap_or_default();
    (rows, row)
}
