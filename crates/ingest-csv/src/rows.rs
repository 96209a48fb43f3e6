//! Splitting bytes into rows and cells, in one pass and in bounded memory.
//!
//! RFC 4180 as the world writes it: LF, CRLF or CR end a row, quotes count only at the start of a cell, a doubled quote is
//! one, whatever stands behind a closing quote belongs to the cell. What a plain reader of CSV cannot do is to doubt a
//! quote: one stray `"` silently swallows all rows up to the next one. Here a cell that goes over several lines is doubted
//! when the text around its closing quote, the count of cells, or the lines themselves say that they are rows; then the
//! line of its opening quote is the bad row, and reading goes on at the line behind it.

use std::io::{self, Read};

use memchr::{memchr_iter, memchr2};

use crate::cells::{Cell, Quote, Scan, count_line_ends, fits, line_end_len, lines, scan};

/// Most lines of one cell.
const MAX_QUOTED_LINES: usize = 1_000;
/// So many lines that would each be a row are no text that somebody wrote into a cell.
const MIN_ROWS_IN_CELL: usize = 4;
const CHUNK: usize = 256 << 10;

/// What is wrong with a row as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A quote that is never closed, or closed so late that rows were swallowed. The row is the quote's line.
    UnclosedQuote,
    /// Longer than the limit. The row is only its beginning if `cut`.
    TooLarge { cut: bool },
}

/// One row, by its place in the reader's buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Line of the file on which it begins, from 1.
    pub(crate) line: u64,
    /// Last line of it.
    pub(crate) last_line: u64,
    /// Offset of its first byte in the file; of a packed file, in what it unpacks to; of another encoding than UTF-8, in
    /// the text as UTF-8.
    pub(crate) byte_offset: u64,
    pub(crate) fault: Option<Fault>,
    start: usize,
    end: usize,
}

/// Reads rows out of text that should be UTF-8 but need not be.
pub(crate) struct RowReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// `start..end` of the buffer is not given out yet.
    start: usize,
    end: usize,
    at_eof: bool,
    offset: u64,
    line: u64,
    max_record_bytes: usize,
    delimiter: u8,
    /// How many cells a row should have; 0 while nobody knows.
    width: usize,
    cells: Vec<Cell>,
}

impl<R: Read> RowReader<R> {
    pub(crate) fn new(input: R, max_record_bytes: usize) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            at_eof: false,
            offset: 0,
            line: 1,
            max_record_bytes,
            delimiter: b',',
            width: 0,
            cells: Vec::new(),
        }
    }

    /// With text that begins so many bytes behind the beginning of its file.
    pub(crate) fn starting_at(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// From now on rows have this form.
    pub(crate) fn set_dialect(&mut self, delimiter: u8, width: usize) {
        self.delimiter = delimiter;
        self.width = width;
    }

    /// Looks at the next row under a delimiter without taking it.
    pub(crate) fn peek(&mut self, delimiter: u8) -> io::Result<Option<Row>> {
        let (offset, line, dialect) = (self.offset, self.line, (self.delimiter, self.width));
        self.set_dialect(delimiter, 0);
        let row = self.next()?;
        let keeps = row.is_none_or(|row| row.fault != Some(Fault::TooLarge { cut: true }));
        if keeps && let Some(row) = row {
            self.start = row.start;
            (self.offset, self.line) = (offset, line);
        }
        self.set_dialect(dialect.0, dialect.1);
        Ok(row)
    }

    /// The next row; `None` at the end. Rows may be empty lines.
    pub(crate) fn next(&mut self) -> io::Result<Option<Row>> {
        loop {
            let data = &self.buffer[self.start..self.end];
            if data.is_empty() && self.at_eof {
                return Ok(None);
            }
            match scan(data, self.at_eof, self.delimiter, &mut self.cells) {
                Scan::Row { end, next, multi_line } => {
                    let row = match multi_line {
                        Some(quote) if self.is_doubtful(&data[..end], quote) => {
                            return Ok(Some(self.unclosed(quote.open)));
                        }
                        _ if end > self.max_record_bytes => Some(Fault::TooLarge { cut: false }),
                        _ => None,
                    };
                    let lines = if multi_line.is_some() { 1 + count_line_ends(&data[..end]) } else { 1 };
                    return Ok(Some(self.take(end, next, lines, row)));
                }
                Scan::More { open } => {
                    let doubted = open.filter(|open| {
                        let lines = count_line_ends(&data[*open..]);
                        self.at_eof || lines > MAX_QUOTED_LINES || (lines > 0 && data.len() > self.max_record_bytes)
                    });
                    if let Some(open) = doubted {
                        return Ok(Some(self.unclosed(open)));
                    }
                    if data.len() > self.max_record_bytes {
                        return self.cut().map(Some);
                    }
                    self.fill()?;
                }
            }
        }
    }

    /// The bytes of the row that was read last.
    pub(crate) fn raw(&self, row: &Row) -> &[u8] {
        &self.buffer[row.start..row.end]
    }

    /// The cells of the row that was read last; of a bad row only those that can be told apart.
    pub(crate) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// Whether the row that was read last has as many cells as it should; one empty cell more is a trailing delimiter.
    pub(crate) fn fits(&self) -> bool {
        fits(&self.cells, self.width)
    }

    fn is_doubtful(&self, row: &[u8], quote: Quote) -> bool {
        if quote.has_tail || (self.width > 0 && !fits(&self.cells, self.width)) {
            return true;
        }
        if count_line_ends(row) > MAX_QUOTED_LINES {
            return true;
        }
        let is_row = |line: &[u8]| {
            let delimiters = memchr_iter(self.delimiter, line).count();
            delimiters + 1 == self.width || (delimiters == self.width && line.last() == Some(&self.delimiter))
        };
        self.width >= 3 && lines(row).count() > MIN_ROWS_IN_CELL && lines(row).all(is_row)
    }

    /// Takes the lines up to that of the doubted quote as a bad row.
    fn unclosed(&mut self, open: usize) -> Row {
        let data = &self.buffer[self.start..self.end];
        let end = memchr2(b'\n', b'\r', &data[open..]).map_or(data.len(), |found| open + found);
        let next = end + line_end_len(&data[end..]);
        let lines = 1 + count_line_ends(&data[..end]);
        self.cells.retain(|cell| cell.ends_before(open));
        self.take(end, next, lines, Some(Fault::UnclosedQuote))
    }

    fn take(&mut self, end: usize, next: usize, lines: usize, fault: Option<Fault>) -> Row {
        let lines = lines as u64;
        let row = Row {
            line: self.line,
            last_line: self.line + lines - 1,
            byte_offset: self.offset,
            fault,
            start: self.start,
            end: self.start + end,
        };
        self.line += lines;
        self.offset += next as u64;
        self.start += next;
        row
    }

    /// Gives out the beginning of a row over the limit and drops the rest of its line as it comes.
    fn cut(&mut self) -> io::Result<Row> {
        let kept = self.end - self.start;
        let row = Row {
            line: self.line,
            last_line: self.line,
            byte_offset: self.offset,
            fault: Some(Fault::TooLarge { cut: true }),
            start: 0,
            end: kept,
        };
        self.buffer.drain(..self.start);
        (self.start, self.end) = (kept, kept);
        self.buffer.truncate(kept);
        self.buffer.resize(kept + CHUNK, 0);
        self.offset += kept as u64;
        self.line += 1;
        // The kept bytes stay in front; what is behind them is read over and over.
        let mut after_cr = false;
        loop {
            let read = read_some(&mut self.input, &mut self.buffer[kept..])?;
            if read == 0 {
                self.at_eof = true;
                (self.start, self.end) = (kept, kept);
                return Ok(row);
            }
            let chunk = &self.buffer[kept..kept + read];
            let end = if after_cr { Some(usize::from(chunk[0] == b'\n')) } else { None };
            let end = end.or_else(|| match memchr2(b'\n', b'\r', chunk) {
                Some(at) if chunk[at] == b'\r' && at + 1 == read => {
                    after_cr = true;
                    None
                }
                Some(at) => Some(at + line_end_len(&chunk[at..])),
                None => None,
            });
            self.offset += end.unwrap_or(read) as u64;
            if let Some(end) = end {
                (self.start, self.end) = (kept + end, kept + read);
                return Ok(row);
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let wanted = self.end + CHUNK.max(self.end);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let read = read_some(&mut self.input, &mut self.buffer[self.end..])?;
        self.end += read;
        self.at_eof = read == 0;
        Ok(())
    }
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
