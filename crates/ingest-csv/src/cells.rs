//! Cells of one row: where they begin and end, and what is written in them.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr2, memchr2_iter, memchr3};

/// One cell, by its place in the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    start: usize,
    end: usize,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Plain,
    /// `start..end` is what stands between the quotes.
    Quoted,
    /// Doubled quotes inside or text behind the closing quote; `start` is on the opening quote.
    Odd,
}

impl Cell {
    /// The cell's text within its row.
    pub(crate) fn text<'a>(&self, row: &'a str) -> Cow<'a, str> {
        match self.form {
            Form::Plain | Form::Quoted => Cow::Borrowed(&row[self.start..self.end]),
            Form::Odd => Cow::Owned(unquote(&row[self.start..self.end])),
        }
    }

    /// Where it is written in its row; of a plain or quoted cell what stands between the quotes.
    pub(crate) fn place(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Whether there is nothing in it, not even quotes.
    pub(crate) fn is_empty(&self) -> bool {
        self.form == Form::Plain && self.start == self.end
    }

    /// Whether it ends before a place of the row.
    pub(crate) fn ends_before(&self, place: usize) -> bool {
        self.end < place
    }

    /// The cell by itself, where its own bytes are UTF-8.
    pub(crate) fn isolated<'a>(&self, row: &'a [u8]) -> Option<(&'a str, Self)> {
        let text = std::str::from_utf8(&row[self.start..self.end]).ok()?;
        Some((text, Self { start: 0, end: text.len(), form: self.form }))
    }
}

/// Takes the quotes off a cell that begins with one.
fn unquote(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    let mut rest = &cell[1..];
    while let Some((before, behind)) = rest.split_once('"') {
        text.push_str(before);
        let Some(behind) = behind.strip_prefix('"') else {
            text.push_str(behind);
            return text;
        };
        text.push('"');
        rest = behind;
    }
    text.push_str(rest);
    text
}

pub(crate) enum Scan {
    /// The row is `..end`, the next one begins at `next`.
    Row { end: usize, next: usize, multi_line: Option<Quote> },
    /// The row does not end here; `open` is the place of a quote that is not closed.
    More { open: Option<usize> },
}

/// The first quoted cell of a row that goes over several lines.
#[derive(Clone, Copy)]
pub(crate) struct Quote {
    pub(crate) open: usize,
    /// Whether text follows its closing quote.
    pub(crate) has_tail: bool,
}

/// Splits the first row of `data`; the row ends where `data` ends only at the end of the file.
pub(crate) fn scan(data: &[u8], at_eof: bool, delimiter: u8, cells: &mut Vec<Cell>) -> Scan {
    cells.clear();
    let mut multi_line: Option<Quote> = None;
    let mut at = 0;
    loop {
        let start = at;
        let mut form = Form::Plain;
        let mut close = 0;
        if data.get(at) == Some(&b'"') {
            let mut from = at + 1;
            close = loop {
                let Some(found) = memchr(b'"', &data[from..]) else { return Scan::More { open: Some(start) } };
                match data.get(from + found + 1) {
                    Some(b'"') => {
                        form = Form::Odd;
                        from += found + 2;
                    }
                    None if !at_eof => return Scan::More { open: Some(start) },
                    _ => break from + found,
                }
            };
            at = close + 1;
        }
        let end = memchr3(delimiter, b'\n', b'\r', &data[at..]).map(|found| at + found);
        let Some(end) = end.or(at_eof.then_some(data.len())) else { return Scan::More { open: None } };
        if close > 0 {
            let has_tail = end > at;
            if multi_line.is_none() && memchr2(b'\n', b'\r', &data[start..close]).is_some() {
                multi_line = Some(Quote { open: start, has_tail });
            }
            form = if has_tail || form == Form::Odd { Form::Odd } else { Form::Quoted };
        }
        cells.push(match form {
            Form::Quoted => Cell { start: start + 1, end: close, form },
            Form::Plain | Form::Odd => Cell { start, end, form },
        });
        if data.get(end) == Some(&delimiter) {
            at = end + 1;
            continue;
        }
        if data.get(end) == Some(&b'\r') && end + 1 == data.len() && !at_eof {
            return Scan::More { open: None };
        }
        return Scan::Row { end, next: end + line_end_len(&data[end..]), multi_line };
    }
}

pub(crate) fn fits(cells: &[Cell], width: usize) -> bool {
    cells.len() == width || (cells.len() == width + 1 && cells.last().is_some_and(Cell::is_empty))
}

pub(crate) fn line_end_len(data: &[u8]) -> usize {
    match data {
        [b'\r', b'\n', ..] => 2,
        [_, ..] => 1,
        [] => 0,
    }
}

pub(crate) fn count_line_ends(data: &[u8]) -> usize {
    memchr2_iter(b'\n', b'\r', data).filter(|at| !(data[*at] == b'\n' && *at > 0 && data[at - 1] == b'\r')).count()
}

pub(crate) fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line_end = if memchr(b'\n', data).is_some() { b'\n' } else { b'\r' };
    data.split(move |byte| *byte == line_end).map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}
