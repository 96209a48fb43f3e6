//! Finding a customer by what an operator has in hand: an email, a customer id, a system and its id.

use model::{MatchKey, Unmatched};
use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::error::database;
use crate::matching::Matching;
use crate::{Error, Refusal};

/// Redirects that are followed one after the other; a circle ends here.
const MAX_STEPS: usize = 64;

/// What an operator named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A customer, also one who was merged or has moved.
    CustomerId(Uuid),
    /// A system and its id.
    Xref(String, String),
    /// One word: an email in any spelling, or a system and its id with a colon between.
    Word(String),
}

/// A customer who was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The match key that was named, as it is normalised.
    pub(crate) named: MatchKey,
    /// The match key on which decisions about this customer are made: the one that was named, unless whoever had it has
    /// moved on.
    pub(crate) match_key: MatchKey,
    /// To whom that leads, through merges and redirects; `None` where all cross-references are held back.
    pub(crate) customer_id: Option<Uuid>,
}

/// A cross-reference that was found.
#[derive(sqlx::FromRow)]
pub(crate) struct FoundXref {
    pub(crate) system: String,
    pub(crate) external_id: String,
    pub(crate) match_key: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) customer_id: Option<Uuid>,
    pub(crate) unmatched_reason: Option<String>,
    pub(crate) is_living: bool,
}

impl Key {
    /// Reads what was typed: one word, or a system and its id.
    pub fn parse(words: &[String]) -> Self {
        match words {
            [system, external_id] => Self::Xref(system.clone(), external_id.clone()),
            words => {
                let word = words.concat();
                word.trim().parse().map_or(Self::Word(word), Self::CustomerId)
            }
        }
    }
}

/// Finds a customer.
pub(crate) async fn find(connection: &mut PgConnection, matching: &Matching<'_>, key: &Key) -> Result<Found, Error> {
    let named = match key {
        Key::CustomerId(id) => match row(connection, *id).await? {
            Some(row) => row.match_key,
            None => return Err(Refusal::Unknown.into()),
        },
        Key::Xref(system, external_id) => match xref(connection, system, external_id).await? {
            Some(xref) => key_of(connection, &xref).await?,
            None => return Err(Refusal::Unknown.into()),
        },
        Key::Word(word) => match xref_in(connection, word).await? {
            Some(xref) => key_of(connection, &xref).await?,
            None => key_of_email(connection, matching, word).await?,
        },
    };
    let leads_to = matching.decisions.resolve(&named);
    let end = follow(connection, leads_to.customer_id(matching.namespace)).await?;
    let customer_id = (!end.is_held_back).then_some(end.customer_id);
    let match_key = end.match_key.filter(|_| *leads_to == named).unwrap_or_else(|| named.clone());
    Ok(Found { named, match_key, customer_id })
}

/// The cross-reference that was named; none for an email or a customer id.
pub(crate) async fn find_xref(connection: &mut PgConnection, key: &Key) -> Result<Option<FoundXref>, Error> {
    match key {
        Key::CustomerId(_) => Ok(None),
        Key::Xref(system, external_id) => xref(connection, system, external_id).await,
        Key::Word(word) => xref_in(connection, word).await,
    }
}

/// `system:id`, also as the match key of one that is split off. A system's name has no colon.
async fn xref_in(connection: &mut PgConnection, word: &str) -> Result<Option<FoundXref>, Error> {
    match word.strip_prefix('#').unwrap_or(word).split_once(':') {
        Some((system, external_id)) => xref(connection, system, external_id).await,
        None => Ok(None),
    }
}

/// The match key of a cross-reference; that of the customer it had, if it is tombstoned.
async fn key_of(connection: &mut PgConnection, xref: &FoundXref) -> Result<MatchKey, Error> {
    if let Some(key) = &xref.match_key {
        return Ok(MatchKey::from_stored(key.clone()));
    }
    if let Some(reason) = &xref.unmatched_reason {
        return Err(Refusal::Unmatched { reason: reason.clone() }.into());
    }
    let row = match xref.customer_id {
        Some(customer_id) => row(connection, customer_id).await?,
        None => None,
    };
    row.map(|row| row.match_key).ok_or_else(|| Refusal::Unknown.into())
}

/// The match key of an email that somebody has or had.
async fn key_of_email(connection: &mut PgConnection, matching: &Matching<'_>, email: &str) -> Result<MatchKey, Error> {
    let key = match MatchKey::of_email(email, &matching.rules.guards, &matching.decisions) {
        Ok(key) => key,
        Err(Unmatched::Blocked) => return Err(Refusal::Blocked.into()),
        Err(_) => return Err(Refusal::NoKey.into()),
    };
    let is_known = row(connection, key.customer_id(matching.namespace)).await?.is_some();
    if is_known || holds_back(connection, &key).await? { Ok(key) } else { Err(Refusal::Unknown.into()) }
}

/// Whether somebody living has this match key and is held back.
async fn holds_back(connection: &mut PgConnection, key: &MatchKey) -> Result<bool, Error> {
    sqlx::query_scalar(
        "select exists (
             select from customer360.xrefs where match_key = $1 and customer_id is null and deleted_at is null
         )",
    )
    .bind(key.as_str())
    .fetch_one(connection)
    .await
    .map_err(database("looking for a match key"))
}

/// What a customer's row says of where to look.
struct CustomerRow {
    match_key: MatchKey,
    is_living: bool,
    leads_to: Option<Uuid>,
}

async fn row(connection: &mut PgConnection, customer_id: Uuid) -> Result<Option<CustomerRow>, Error> {
    let row: Option<(String, bool, Option<Uuid>)> = sqlx::query_as(
        "select c.match_key, c.deleted_at is null, r.to_customer_id
         from customer360.customers c
         left join customer360.redirects r on r.customer_id = c.customer_id
         where c.customer_id = $1",
    )
    .bind(customer_id)
    .fetch_optional(connection)
    .await
    .map_err(database("looking for a customer"))?;
    Ok(row.map(|(match_key, is_living, leads_to)| CustomerRow {
        match_key: MatchKey::from_stored(match_key),
        is_living,
        leads_to,
    }))
}

/// Where redirects end.
pub(crate) struct End {
    pub(crate) customer_id: Uuid,
    /// That of the customer; `None` of one of whom there is no row.
    match_key: Option<MatchKey>,
    /// Whether everybody with that match key is held back.
    is_held_back: bool,
}

/// Follows redirects, each only while its customer has nobody, and nobody is held back who would be that customer's: whoever
/// had the email before is a stranger to them.
pub(crate) async fn follow(connection: &mut PgConnection, customer_id: Uuid) -> Result<End, Error> {
    let mut end = End { customer_id, match_key: None, is_held_back: false };
    for _ in 0..MAX_STEPS {
        let Some(row) = row(connection, end.customer_id).await? else { break };
        end.is_held_back = !row.is_living && holds_back(connection, &row.match_key).await?;
        end.match_key = Some(row.match_key);
        match row.leads_to {
            Some(next) if !row.is_living && !end.is_held_back && next != customer_id => end.customer_id = next,
            _ => break,
        }
    }
    Ok(end)
}

async fn xref(connection: &mut PgConnection, system: &str, external_id: &str) -> Result<Option<FoundXref>, Error> {
    sqlx::query_as(
        "select system, external_id, match_key, email, customer_id, unmatched_reason, deleted_at is null as is_living
         from customer360.xrefs where system = $1 and external_id = $2",
    )
    .bind(system)
    .bind(external_id)
    .fetch_optional(connection)
    .await
    .map_err(database("looking for a cross-reference"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_an_id_or_an_email_and_two_are_a_system_and_its_id() {
        let parse = |words: &[&str]| Key::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&["loyalty", "27"]), Key::Xref("loyalty".into(), "27".into()));
        assert_eq!(parse(&["Ann@X.example"]), Key::Word("Ann@X.example".into()));
        assert_eq!(parse(&["loyalty:27"]), Key::Word("loyalty:27".into()));
        let id = "6f2b9c1e-0000-4000-8000-000000000001";
        assert_eq!(parse(&[&format!(" {id} ")]), Key::CustomerId(id.parse().unwrap()));
    }
}
