//! A person: everything under which one customer is known, followed to its end.

use std::collections::BTreeSet;

use model::MatchKey;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Uuid;
use sqlx::{PgConnection, Postgres, Row};

use crate::error::database;
use crate::find::follow;
use crate::matching::Matching;
use crate::{Error, Key};

/// All match keys that lead to a customer, all cross-references that point to it, and all rows of `customers` that it is
/// or was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) keys: BTreeSet<String>,
    pub(crate) ids: BTreeSet<(String, String)>,
    pub(crate) customers: BTreeSet<Uuid>,
}

/// What names a person, as statements take it: `$1` and `$2` systems and ids in pairs, `$3` customers, `$4` match keys.
pub(crate) struct Names {
    pub(crate) systems: Vec<String>,
    pub(crate) external_ids: Vec<String>,
    pub(crate) customers: Vec<Uuid>,
    pub(crate) keys: Vec<String>,
}

impl Names {
    /// A statement about the person, which may use `ids (system, external_id)`.
    pub(crate) fn about(&self, statement: &str) -> Query<'_, Postgres, PgArguments> {
        // Every parameter is named once, so that Postgres knows all types whatever the statement uses.
        let sql = format!(
            "with ids as materialized (
                 select system, external_id from unnest($1::text[], $2::text[]) as i (system, external_id)
                 where $3::uuid[] is not null and $4::text[] is not null
             )
             {statement}"
        );
        sqlx::query(staging::constant_sql(sql))
            .bind(&self.systems)
            .bind(&self.external_ids)
            .bind(&self.customers)
            .bind(&self.keys)
    }
}

/// What a word names: an email, or a system and its id with a colon between.
pub(crate) fn named(key: &Key) -> Key {
    match key {
        Key::Word(word) if !word.contains('@') => match word.strip_prefix('#').unwrap_or(word).split_once(':') {
            Some((system, external_id)) => Key::Xref(system.to_owned(), external_id.to_owned()),
            None => key.clone(),
        },
        key => key.clone(),
    }
}

/// The match key of an email, whatever is blocked.
pub(crate) fn key_of(email: &str) -> Option<MatchKey> {
    MatchKey::of_any_email(email).ok()
}

impl Person {
    /// Finds everything under which somebody is known. Of whom nothing is known, it holds what was named; of an unknown
    /// customer id nothing.
    pub(crate) async fn find(connection: &mut PgConnection, matching: &Matching<'_>, key: &Key) -> Result<Self, Error> {
        let mut person = Self::default();
        match &named(key) {
            Key::CustomerId(id) => {
                person.customers.insert(follow(connection, *id).await?.customer_id);
            }
            Key::Xref(system, external_id) => {
                person.ids.insert((system.clone(), external_id.clone()));
            }
            Key::Word(email) => {
                if let Some(key) = key_of(email) {
                    person.customers.insert(follow(connection, matching.customer_id(&key)).await?.customer_id);
                    person.keys.insert(key.as_str().to_owned());
                }
            }
        }
        loop {
            let before = person.clone();
            person.add_keys(matching);
            person.add_customers(connection).await?;
            person.add_departed(connection).await?;
            person.add_xrefs(connection, matching).await?;
            if person == before {
                return Ok(person);
            }
        }
    }

    /// What names the person.
    pub(crate) fn names(&self) -> Names {
        let (systems, external_ids) = self.pairs();
        let customers = self.customers.iter().copied().collect();
        Names { systems, external_ids, customers, keys: self.keys.iter().cloned().collect() }
    }

    /// The cross-references, as statements take them: systems and ids in pairs.
    fn pairs(&self) -> (Vec<String>, Vec<String>) {
        self.ids.iter().cloned().unzip()
    }

    /// Match keys that lead where one of these leads, and the customers of all of them.
    fn add_keys(&mut self, matching: &Matching<'_>) {
        for key in std::mem::take(&mut self.keys) {
            let key = MatchKey::from_stored(key);
            let leads_to = matching.decisions.resolve(&key).clone();
            for key in matching.decisions.leading_to(&leads_to).into_iter().chain([key]) {
                self.customers.insert(key.customer_id(matching.namespace));
                self.keys.insert(key.as_str().to_owned());
            }
        }
    }

    /// Match keys of the customers, and those who have moved to one of them, or with one of the cross-references, and left
    /// nobody behind.
    async fn add_customers(&mut self, connection: &mut PgConnection) -> Result<(), Error> {
        let (systems, external_ids) = self.pairs();
        let customers: Vec<(Uuid, String)> = sqlx::query_as(
            "with ids as materialized (
                 select * from unnest($2::text[], $3::text[]) as i (system, external_id)
             ),
             moved as materialized (
                 select customer_id from customer360.redirects where to_customer_id = any ($1)
                 union
                 -- Whom a merge leads elsewhere is whoever is there.
                 select r.customer_id
                 from customer360.redirects r join ids i on i.system = r.system and i.external_id = r.external_id
                 where r.decided_to is null
             )
             select customer_id, match_key from customer360.customers where customer_id = any ($1)
             union
             select c.customer_id, c.match_key
             from customer360.customers c join moved m on m.customer_id = c.customer_id
             where c.deleted_at is not null",
        )
        .bind(self.customers.iter().copied().collect::<Vec<_>>())
        .bind(systems)
        .bind(external_ids)
        .fetch_all(connection)
        .await
        .map_err(database("finding a person's customers"))?;
        for (customer_id, match_key) in customers {
            self.customers.insert(customer_id);
            self.keys.insert(match_key);
        }
        Ok(())
    }

    /// The cross-reference that each of the customers had last, while it belongs to nobody.
    async fn add_departed(&mut self, connection: &mut PgConnection) -> Result<(), Error> {
        let departed: Vec<(String, String)> = sqlx::query_as(
            "select system, external_id from customer360.redirects
             where customer_id = any ($1) and followed_to is null and system is not null",
        )
        .bind(self.customers.iter().copied().collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .map_err(database("finding who has left a person's customers"))?;
        self.ids.extend(departed);
        Ok(())
    }

    /// Cross-references that point to the customers, living or tombstoned, have one of the match keys, or have the email of
    /// one and are held back; and where the named ones lead. One that was split off is somebody else, with the same email.
    async fn add_xrefs(&mut self, connection: &mut PgConnection, matching: &Matching<'_>) -> Result<(), Error> {
        let (systems, external_ids) = self.pairs();
        let rows = sqlx::query(
            "with named as materialized (
                 select * from unnest($3::text[], $4::text[]) as n (system, external_id)
             )
             select system, external_id, match_key, customer_id, null::text as email
             from customer360.xrefs where customer_id = any ($1)
             union all
             select system, external_id, match_key, customer_id, null from customer360.xrefs where match_key = any ($2)
             union all
             select x.system, x.external_id, x.match_key, x.customer_id, null
             from named n join customer360.xrefs x on x.system = n.system and x.external_id = n.external_id
             union all
             select system, external_id, match_key, customer_id, email
             from customer360.xrefs where match_key is null and email is not null",
        )
        .bind(self.customers.iter().copied().collect::<Vec<_>>())
        .bind(self.keys.iter().cloned().collect::<Vec<_>>())
        .bind(systems)
        .bind(external_ids)
        .fetch_all(connection)
        .await
        .map_err(database("finding a person's cross-references"))?;
        for row in rows {
            // Of those that are held back; all others are theirs.
            let email = row.get::<Option<&str>, _>("email");
            if email.is_none_or(|email| key_of(email).is_some_and(|key| self.keys.contains(key.as_str()))) {
                self.ids.insert((row.get("system"), row.get("external_id")));
                self.keys.extend(row.get::<Option<String>, _>("match_key"));
                self.customers.extend(row.get::<Option<Uuid>, _>("customer_id"));
            }
        }
        let splits: Vec<String> = self
            .ids
            .iter()
            .filter(|(system, external_id)| matching.decisions.is_split(system, external_id))
            .map(|(system, external_id)| MatchKey::of_split(system, external_id).as_str().to_owned())
            .collect();
        self.keys.extend(splits);
        Ok(())
    }

    /// As `staging` knows a person, with these orders.
    pub(crate) fn staged(&self, orders: Vec<(String, String)>) -> staging::erase::Person {
        let emails = self.keys.iter().filter(|key| !MatchKey::from_stored((*key).clone()).is_split());
        staging::erase::Person { emails: emails.cloned().collect(), ids: self.ids.iter().cloned().collect(), orders }
    }
}

/// To whom a redirect leads from the customer that was named, if it does: an id or an email of before. By now that may be
/// somebody else.
pub(crate) async fn moved_on(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    key: &Key,
) -> Result<Option<Uuid>, Error> {
    let customer_id = match named(key) {
        Key::CustomerId(id) => Some(id),
        Key::Xref(..) => None,
        Key::Word(email) => key_of(&email).map(|key| matching.customer_id(&key)),
    };
    let Some(customer_id) = customer_id else { return Ok(None) };
    let end = follow(connection, customer_id).await?.customer_id;
    Ok((end != customer_id).then_some(end))
}
