//! What leaves the dashboard as a file: all that is kept about one customer, and the customers that a search or filters show.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use csv::{QuoteStyle, WriterBuilder};
use futures::stream::{self, StreamExt as _};
use sqlx::types::Uuid;

use super::Dashboard;
use super::customers::Asked;
use super::frame::Frame;
use super::profile;
use super::visitor::Reader;
use crate::api::customers::{self, Listed};
use crate::api::decide;
use crate::api::params::MAX_LIMIT;
use crate::problem::Problem;

/// Pages of the list of customers that a file has at most.
const PAGES: u32 = 50;
/// Customers that a file has at most.
pub(super) const MAX_CUSTOMERS: u32 = PAGES * MAX_LIMIT;

/// `GET /customers/{customer}/export`: the document of `c360 customer export`.
pub(super) async fn customer(
    State(dashboard): State<Arc<Dashboard>>,
    reader: Reader,
    Path(customer_id): Path<Uuid>,
) -> Response {
    match decide::export(&dashboard.api, &reader.caller, customer_id).await {
        Ok(document) => {
            let name = format!("customer-{customer_id}.json");
            file(&name, "application/json", format!("{document:#}\n"))
        }
        Err(problem) => Frame::of(&dashboard, &reader).failure(&problem),
    }
}

fn file(name: &str, content_type: &'static str, content: impl Into<Body>) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    ([(CONTENT_TYPE, content_type.to_owned()), (CONTENT_DISPOSITION, disposition)], content.into()).into_response()
}

/// `GET /customers.csv`: what the page of customers shows with the same query, on all its pages.
pub(super) async fn customers(State(dashboard): State<Arc<Dashboard>>, reader: Reader) -> Response {
    let export = Export { asked: Asked::of(&reader.visitor.here), dashboard, reader };
    let (mut first, next) = match export.page(None).await {
        Ok(page) => page,
        Err(problem) => return Frame::of(&export.dashboard, &export.reader).failure(&problem),
    };
    export.dashboard.api.audit.read(&export.reader.caller, "export_customers", None).await;
    first.splice(..0, export.head());
    // A page is asked for when the one before is sent, so a client that reads slowly holds no more than one.
    let rest = stream::try_unfold((export, next), async |(export, cursor)| {
        let Some(cursor) = cursor else { return Ok(None) };
        // Why not is in the log; the client sees that the file breaks off.
        let page = export.next_page(&cursor).await.map_err(|_| io::Error::other("an export was not finished"));
        page.map(|(lines, next)| Some((lines, (export, next))))
    });
    let pages = stream::iter([Ok::<_, io::Error>(first)]).chain(rest.take(PAGES as usize - 1));
    file("customers.csv", "text/csv; charset=utf-8", Body::from_stream(pages))
}

/// A file of customers in the making.
struct Export {
    dashboard: Arc<Dashboard>,
    reader: Reader,
    asked: Asked,
}

impl Export {
    /// The lines of a page, and where the next one begins.
    async fn page(&self, cursor: Option<&str>) -> Result<(Vec<u8>, Option<String>), Problem> {
        let found = customers::page(&self.dashboard.api, &self.reader.caller, self.asked.exported(cursor)?).await?;
        Ok((lines(found.items.iter().map(|listed| self.line(listed))), found.next_cursor))
    }

    /// The same, as long as the key holds.
    async fn next_page(&self, cursor: &str) -> Result<(Vec<u8>, Option<String>), Problem> {
        match self.dashboard.api.keyring.of_id(self.reader.caller.key.key_id, Utc::now()).await? {
            Some(_) => self.page(Some(cursor)).await,
            None => Err(Problem::new(StatusCode::FORBIDDEN)),
        }
    }

    /// The names of the columns, after a byte-order mark, without which spreadsheets take the file for one in another encoding.
    fn head(&self) -> Vec<u8> {
        let attributes = self.dashboard.api.settings.attributes.iter().map(String::as_str);
        let names =
            ["customer_id", "email"].into_iter().chain(attributes).chain(["systems", "created_at", "updated_at"]);
        let mut head = "\u{feff}".as_bytes().to_vec();
        head.extend(lines([names.map(str::to_owned).collect()].into_iter()));
        head
    }

    fn line(&self, listed: &Listed) -> Vec<String> {
        let attribute = |name: &String| listed.profile.get(name).map_or_else(String::new, profile::text);
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        [listed.customer_id.to_string(), listed.email.clone().unwrap_or_default()]
            .into_iter()
            .chain(self.dashboard.api.settings.attributes.iter().map(attribute))
            .chain([listed.systems.join(" "), time(listed.created_at), time(listed.updated_at)])
            .collect()
    }
}

/// Lines of cells that are each in quotes: a spreadsheet that takes another character for the separator finds none in a cell.
fn lines(rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let mut writer = WriterBuilder::new().quote_style(QuoteStyle::Always).from_writer(Vec::new());
    for row in rows {
        let written = writer.write_record(row.into_iter().map(inert));
        written.unwrap_or_else(|error| unreachable!("rows are of one length, and memory takes them: {error}"));
    }
    writer.into_inner().unwrap_or_else(|error| unreachable!("memory takes all of it: {error}"))
}

/// A text that no spreadsheet takes for a formula.
fn inert(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_begins_as_a_formula_does() {
        for formula in ["=1+1", "+1 603 555 0100", "-2", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(inert(formula.to_owned()), format!("'{formula}"));
        }
        for text in ["", "Ann", "1=1", "'=1", " =1"] {
            assert_eq!(inert(text.to_owned()), text);
        }
        let cells = ["=A1;=B1".to_owned(), "a \"b\"\n, c".to_owned()];
        let written = lines([cells.to_vec()].into_iter());
        assert_eq!(String::from_utf8(written).unwrap(), "\"'=A1;=B1\",\"a \"\"b\"\"\n, c\"\n");
    }
}
