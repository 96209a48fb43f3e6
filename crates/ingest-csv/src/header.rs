//! The header: which delimiter the file has, and which of its columns is which of the mapping's.

use std::io::{self, Read};

use model::mapping::{Columns, Mapping};
use staging::imports::Refusal;

use crate::rows::{Fault, Row, RowReader};

const CANDIDATES: [u8; 4] = [b',', b';', b'\t', b'|'];
const MAX_COLUMNS: usize = 4_096;

/// What the header says.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) delimiter: u8,
    /// Names of the columns, trimmed; those that the mapping names are spelled as there.
    pub(crate) names: Vec<String>,
    /// Further spellings of the mapping for the same columns.
    pub(crate) aliases: Vec<(String, usize)>,
    /// The columns as the file spells them.
    pub(crate) written: Vec<String>,
    /// The line as it is.
    pub(crate) line: Vec<u8>,
    /// How many of the columns that it should have it lacks; 0 unless an operator takes the file as it is.
    missing: usize,
}

/// Why a file has no usable header.
#[derive(Debug)]
pub(crate) enum Unusable {
    Io(io::Error),
    /// Its words have names of configured columns and no text of the file.
    Refused(Refusal),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads the header; rows come next. Without a configured delimiter it is the one under which the header has all mapped
/// columns. Of a file that `is_accepted` it is the one under which most of them are there, of several such the first;
/// columns that are not there are as absent as an attribute that a record does not mention.
pub(crate) fn read<R: Read>(
    rows: &mut RowReader<R>,
    mapping: &Mapping,
    configured: Option<u8>,
    is_accepted: bool,
) -> Result<Header, Unusable> {
    let configured = skip_preamble(rows)?.or(configured);
    let candidates = configured.as_ref().map_or(&CANDIDATES[..], std::slice::from_ref);
    let wanted = Wanted::of(mapping, is_accepted);
    let (mut found, mut complaints): (Vec<Header>, Vec<Complaint>) = (Vec::new(), Vec::new());
    for delimiter in candidates {
        let Some(row) = rows.peek(*delimiter)? else { return Err(refused("the file is empty: it has no header")) };
        if row.fault.is_some() {
            return Err(refused(fault_of(row)));
        }
        match Header::of(rows, row, *delimiter, &wanted)? {
            // Under a delimiter that does not occur the header is the same: one column.
            Ok(header) if found.iter().any(|known| known.names.len() == 1 && header.names.len() == 1) => {}
            Ok(header) => found.push(header),
            Err(complaint) => complaints.push(complaint),
        }
    }
    if found.len() > 1 && !is_accepted {
        return Err(Unusable::Refused(Refusal {
            reason: "ambiguous dialect: the header has the mapped columns under several delimiters; set `delimiter`"
                .to_owned(),
            may_be_accepted: true,
        }));
    }
    let Some(header) = found.into_iter().min_by_key(|header| header.missing) else {
        // Accepted, it is read under a delimiter that suits.
        let may_be_accepted = complaints.iter().any(|complaint| complaint.may_be_accepted);
        let complaint = complaints.into_iter().min_by_key(|complaint| complaint.missing);
        let reason = complaint.map(|complaint| complaint.message).unwrap_or_default();
        return Err(Unusable::Refused(Refusal { reason, may_be_accepted }));
    };
    rows.set_dialect(header.delimiter, 0);
    rows.next()?;
    rows.set_dialect(header.delimiter, header.names.len());
    Ok(header)
}

/// For good: nobody could accept it.
fn refused(reason: &str) -> Unusable {
    Unusable::Refused(Refusal { reason: reason.to_owned(), may_be_accepted: false })
}

fn fault_of(row: Row) -> &'static str {
    match row.fault {
        Some(Fault::UnclosedQuote) => "the header has a quote that is not closed",
        _ => "the header is longer than max_record_bytes",
    }
}

/// Skips empty lines and the `sep=;` by which Excel names the delimiter.
fn skip_preamble<R: Read>(rows: &mut RowReader<R>) -> Result<Option<u8>, Unusable> {
    let mut named = None;
    // Under this delimiter a line of text is one cell.
    while let Some(row) = rows.peek(0)? {
        if row.fault.is_some() {
            return Err(refused(fault_of(row)));
        }
        match rows.raw(&row) {
            line if line.trim_ascii().is_empty() => {}
            [b's', b'e', b'p', b'=', delimiter] => named = Some(*delimiter),
            _ => break,
        }
        rows.next()?;
    }
    Ok(named)
}

struct Complaint {
    missing: usize,
    /// Whether the columns of the id are there.
    may_be_accepted: bool,
    message: String,
}

impl Header {
    /// The header of columns that are known; fails with what is missing.
    pub(crate) fn of_columns(
        written: Vec<String>,
        delimiter: u8,
        mapping: &Mapping,
        is_accepted: bool,
    ) -> Result<Self, String> {
        let found = find(&written, &Wanted::of(mapping, is_accepted)).map_err(|complaint| complaint.message)?;
        Ok(Self::new(found, delimiter, written, Vec::new()))
    }

    fn new(found: Named, delimiter: u8, written: Vec<String>, line: Vec<u8>) -> Self {
        let Named { names, aliases, missing } = found;
        Self { delimiter, names, aliases, written, line, missing }
    }

    fn of<R: Read>(
        rows: &RowReader<R>,
        row: Row,
        delimiter: u8,
        wanted: &Wanted,
    ) -> Result<Result<Self, Complaint>, Unusable> {
        let line = rows.raw(&row);
        let Ok(text) = std::str::from_utf8(line) else {
            return Err(refused("the header is not UTF-8; set `encoding`"));
        };
        if line.contains(&0) {
            return Err(refused("the header holds 0x00: it is probably UTF-16; set `encoding`"));
        }
        let mut written: Vec<String> = rows.cells().iter().map(|cell| cell.text(text).trim().to_owned()).collect();
        if written.len() > 1 && written.last().is_some_and(String::is_empty) {
            written.pop();
        }
        if written.len() > MAX_COLUMNS {
            return Err(refused(&format!("the header has more than {MAX_COLUMNS} columns")));
        }
        let line = line.to_vec();
        Ok(find(&written, wanted).map(|found| Self::new(found, delimiter, written, line)))
    }
}

/// Columns with the names that the mapping knows them by.
struct Named {
    names: Vec<String>,
    aliases: Vec<(String, usize)>,
    missing: usize,
}

/// What a header should have.
struct Wanted {
    /// The columns without which nobody knows whose row it is.
    id: Columns,
    /// All of them.
    columns: Vec<Columns>,
    /// Whether the others may be missing, or there more than once.
    is_accepted: bool,
}

/// Gives the columns the names that the mapping knows them by.
fn find(written: &[String], wanted: &Wanted) -> Result<Named, Complaint> {
    let folded: Vec<String> = written.iter().map(|name| fold(name)).collect();
    let places = |name: &str| {
        let name = fold(name);
        folded.iter().enumerate().filter(move |(_, known)| **known == name).map(|(place, _)| place).collect::<Vec<_>>()
    };
    let is_there = |name: &String| !places(name).is_empty();
    let missing_of = |columns: &Columns| match columns {
        Columns::Any { any } if any.iter().any(is_there) => Vec::new(),
        Columns::Any { .. } => vec![columns.label().into_owned()],
        _ => columns.names().iter().filter(|name| !is_there(name)).cloned().collect(),
    };
    let mut missing: Vec<String> = wanted.columns.iter().flat_map(missing_of).collect();
    missing.sort();
    missing.dedup();
    let may_be_accepted = missing_of(&wanted.id).is_empty();
    let is_taken = missing.is_empty() || wanted.is_accepted && may_be_accepted;
    if !is_taken {
        let message = format!("required columns missing: {}", missing.join(", "));
        return Err(Complaint { missing: missing.len(), may_be_accepted, message });
    }
    let mut names = written.to_vec();
    let mut is_named = vec![false; written.len()];
    let mut aliases = Vec::new();
    for name in wanted.columns.iter().flat_map(Columns::names) {
        match places(name)[..] {
            [] => {}
            [_, _, ..] if !wanted.is_accepted => {
                let message = format!("ambiguous dialect: column {name} is there more than once");
                return Err(Complaint { missing: 0, may_be_accepted, message });
            }
            [.., place] if is_named[place] && names[place] != *name => aliases.push((name.clone(), place)),
            // As with keys that a JSON object has twice: the last one counts.
            [.., place] => {
                name.clone_into(&mut names[place]);
                is_named[place] = true;
            }
        }
    }
    aliases.sort();
    aliases.dedup();
    Ok(Named { names, aliases, missing: missing.len() })
}

/// By what names are compared.
pub(crate) fn fold(name: &str) -> String {
    name.trim().to_lowercase()
}

impl Wanted {
    fn of(mapping: &Mapping, is_accepted: bool) -> Self {
        Self { id: mapping.id_columns().clone(), columns: columns(mapping), is_accepted }
    }
}

/// The columns without which a file is not what it should be.
fn columns(mapping: &Mapping) -> Vec<Columns> {
    let one = |name: &Option<String>| name.clone().map(Columns::One);
    let mut wanted = vec![mapping.id_columns().clone()];
    match mapping {
        Mapping::Customer(m) => {
            wanted.extend(m.email.clone());
            wanted.extend(one(&m.credential));
            wanted.extend(m.attributes.values().cloned());
        }
        Mapping::Order(m) => {
            wanted.push(m.customer_external_id.clone());
            wanted.extend([&m.purchased_at, &m.total].into_iter().flatten().cloned());
            wanted.extend(m.lines.iter().map(|lines| Columns::One(lines.path.clone())));
        }
        Mapping::Product(m) => wanted.extend(m.name.clone()),
        Mapping::Interaction(m) => {
            wanted
                .extend([&m.thread_id, &m.kind, &m.status, &m.at, &m.email, &m.subject].into_iter().flatten().cloned());
            wanted.extend(m.participants.iter().cloned().map(Columns::One));
            wanted.extend(m.attributes.values().cloned());
        }
    }
    wanted.extend(mapping.version_column().map(|name| Columns::One(name.to_owned())));
    wanted
}
