//! Breaking the seal.

use sqlx::PgExecutor;

use super::{Context, LETTER, Letter};
use crate::{Error, Seal, constant_sql};

/// A letter with what it holds, or why that cannot be had.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The letter.
    pub letter: Letter,
    /// What it holds.
    pub contents: Result<Contents, Closed>,
}

/// What a letter holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The bytes as they came.
    pub payload: Vec<u8>,
    /// What reading them again takes; `None` where another version of this program did not keep it, or not so that this one
    /// understands it.
    pub context: Option<Context>,
}

/// Why a letter stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// There is nothing in it any more: it was retried or discarded.
    Wiped,
    /// It was sealed under another key, or is damaged.
    Sealed,
}

/// Opens letters, in the order of their numbers; those that do not exist are missing from the answer.
pub async fn open(executor: impl PgExecutor<'_>, seal: &Seal, ids: &[i64]) -> Result<Vec<Opened>, Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        #[sqlx(flatten)]
        letter: Letter,
        payload: Vec<u8>,
        context: Option<Vec<u8>>,
    }
    let sql = format!(
        "select {LETTER}, d.payload, d.context from staging.dead_letters d
         where d.dead_letter_id = any ($1)
         order by d.dead_letter_id"
    );
    let query = sqlx::query_as(constant_sql(sql)).bind(ids);
    let rows: Vec<Row> = query.fetch_all(executor).await.map_err(Error::database("reading dead letters"))?;
    let opened = |Row { letter, payload, context }| {
        let contents = contents(seal, &letter.source, &payload, context.as_deref());
        Opened { letter, contents }
    };
    Ok(rows.into_iter().map(opened).collect())
}

fn contents(seal: &Seal, source: &str, payload: &[u8], context: Option<&[u8]>) -> Result<Contents, Closed> {
    if payload.is_empty() {
        return Err(Closed::Wiped);
    }
    let open = |sealed| seal.open(source, sealed).map_err(|_| Closed::Sealed);
    let context = context.map(open).transpose()?;
    let context = context.and_then(|context| serde_json::from_slice(&context).ok());
    Ok(Contents { payload: open(payload)?, context })
}

impl Closed {
    /// In words, to be said behind a colon.
    pub fn why(self) -> &'static str {
        match self {
            Self::Wiped => "it was retried or discarded, and what it held is wiped",
            Self::Sealed => "it does not open: it was sealed under another installation key, or is damaged",
        }
    }
}
