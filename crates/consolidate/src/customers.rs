//! Customers and the changes of their profiles: read as a set, written as a set.

use std::collections::{BTreeSet, HashMap};
use std::iter;

use chrono::{DateTime, Utc};
use model::{Origin, Profile};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{PgConnection, Row};
use staging::copy::Rows;

use crate::error::database;
use crate::search::Said;
use crate::{Error, search};

/// What the table knows of a customer.
pub(crate) struct Known {
    match_key: String,
    email: Option<String>,
    profile: Profile,
    /// As lists show them.
    systems: Vec<String>,
    /// As insights count them.
    disagreeing: Vec<String>,
    deleted: bool,
}

/// What a customer is to be.
pub(crate) struct Target {
    pub(crate) customer_id: Uuid,
    pub(crate) match_key: String,
    pub(crate) email: Option<String>,
    pub(crate) profile: Profile,
    /// Those of the living cross-references; without one the row stays, empty.
    pub(crate) systems: BTreeSet<String>,
    /// The attributes of which one of these says something else than the profile.
    pub(crate) disagreeing: BTreeSet<String>,
    pub(crate) cause: String,
}

impl Target {
    pub(crate) fn living(&self) -> bool {
        !self.systems.is_empty()
    }

    fn said(&self) -> impl Iterator<Item = Said<'_>> {
        let systems = self.systems.iter().map(|system| (self.customer_id, Some(system.as_str()), None));
        let attributes = self.disagreeing.iter().map(|attribute| (self.customer_id, None, Some(attribute.as_str())));
        iter::once((self.customer_id, None, None)).chain(systems).chain(attributes)
    }
}

/// Reads customers by id.
pub(crate) async fn read(connection: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, Known>, Error> {
    let rows = sqlx::query(
        "select c.customer_id, c.email, c.profile::text, c.provenance::text, c.deleted_at is not null, c.match_key, s.systems,
                s.disagreeing
         from customer360.customers c
         left join customer360.customer_search s on s.customer_id = c.customer_id
         where c.customer_id = any ($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await
    .map_err(database("reading customers"))?;
    // Our own jsonb: it parses. Where somebody damaged it by hand, it counts as empty and is written anew.
    let known = |row: &PgRow| Known {
        email: row.get(1),
        profile: Profile {
            attributes: serde_json::from_str(row.get(2)).unwrap_or_default(),
            provenance: serde_json::from_str(row.get(3)).unwrap_or_default(),
        },
        deleted: row.get(4),
        match_key: row.get(5),
        systems: row.get::<Option<_>, _>(6).unwrap_or_default(),
        disagreeing: row.get::<Option<_>, _>(7).unwrap_or_default(),
    };
    Ok(rows.iter().map(|row| (row.get(0), known(row))).collect())
}

/// Whether one who was known has somebody again, or nobody any more.
pub(crate) fn has_come_or_gone(target: &Target, known: &HashMap<Uuid, Known>) -> bool {
    known.get(&target.customer_id).is_some_and(|known| known.deleted == target.living())
}

/// Writes the customers that differ from what is known, with what changed, and returns how many.
pub(crate) async fn write(
    connection: &mut PgConnection,
    targets: &[Target],
    known: &HashMap<Uuid, Known>,
    now: DateTime<Utc>,
) -> Result<usize, Error> {
    let mut changes = Rows::default();
    let (mut new, mut different, mut listed, mut said) = (Rows::default(), Vec::new(), Vec::new(), Vec::new());
    let mut written = 0;
    for target in targets {
        match known.get(&target.customer_id) {
            None if target.living() => {
                push_new(&mut new, target, now);
                push_change(&mut changes, target, Change::begins(target), now);
                written += 1;
            }
            None => continue,
            Some(known) if known.is(target) => {
                if known.systems.iter().eq(&target.systems) && known.disagreeing.iter().eq(&target.disagreeing) {
                    continue;
                }
            }
            Some(known) => {
                for change in known.changes(target) {
                    push_change(&mut changes, target, change, now);
                }
                different.push(target);
                written += 1;
            }
        }
        listed.push(target.customer_id);
        said.extend(target.said());
    }
    new.copy(
        connection,
        "copy customer360.customers (customer_id, match_key, email, profile, provenance, created_at, updated_at)
         from stdin (format binary)",
    )
    .await?;
    update(connection, &different, now).await?;
    search::keep(connection, &listed, &said).await?;
    changes
        .copy(
            connection,
            "copy customer360.changes (customer_id, at, attribute, old, new, system, external_id, cause, also_from)
             from stdin (format binary)",
        )
        .await?;
    Ok(written)
}

/// What writing a customer would do to its profile, with the attributes that would change; `None` where it says the same
/// afterwards.
pub(crate) fn foresee(target: &Target, known: Option<&Known>) -> Option<(crate::Change, Vec<String>)> {
    let Some(known) = known else {
        return target.living().then(|| (crate::Change::Appears, Vec::new()));
    };
    match (known.deleted, target.living()) {
        (true, true) => Some((crate::Change::Appears, Vec::new())),
        (false, false) => Some((crate::Change::Vanishes, Vec::new())),
        _ => {
            let changes = known.changes(target).into_iter();
            let names: Vec<String> = changes.filter_map(|change| change.attribute.map(str::to_owned)).collect();
            (!names.is_empty()).then_some((crate::Change::Changes, names))
        }
    }
}

async fn update(connection: &mut PgConnection, changed: &[&Target], now: DateTime<Utc>) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update customer360.customers c
         set match_key = w.match_key, email = w.email, profile = w.profile::jsonb, provenance = w.provenance::jsonb,
             deleted_at = case when not w.living then coalesce(c.deleted_at, $7) end,
             updated_at = $7, version = c.version + 1
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[])
             as w (customer_id, match_key, email, profile, provenance, living)
         where c.customer_id = w.customer_id",
    )
    .bind(changed.iter().map(|target| target.customer_id).collect::<Vec<_>>())
    .bind(changed.iter().map(|target| target.match_key.as_str()).collect::<Vec<_>>())
    .bind(changed.iter().map(|target| target.email.as_deref()).collect::<Vec<_>>())
    .bind(changed.iter().map(|target| json(&target.profile.attributes)).collect::<Vec<_>>())
    .bind(changed.iter().map(|target| json(&target.profile.provenance)).collect::<Vec<_>>())
    .bind(changed.iter().map(|target| target.living()).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await
    .map_err(database("writing customers"))?;
    Ok(())
}

/// One entry of the history. `attribute` is `None` for a profile that begins or ends.
struct Change<'a> {
    attribute: Option<&'a str>,
    old: Option<Value>,
    new: Option<Value>,
    /// Whom `new` is from, or else `old`, first; then all others whose values these hold.
    origins: Vec<&'a Origin>,
}

impl<'a> Change<'a> {
    fn begins(target: &'a Target) -> Self {
        let new = Value::from_iter(target.profile.attributes.clone());
        Self { attribute: None, old: None, new: Some(new), origins: each_once(target.profile.provenance.values()) }
    }

    fn ends(profile: &'a Profile) -> Self {
        let old = Value::from_iter(profile.attributes.clone());
        Self { attribute: None, old: Some(old), new: None, origins: each_once(profile.provenance.values()) }
    }
}

fn each_once<'a>(origins: impl Iterator<Item = &'a Origin>) -> Vec<&'a Origin> {
    let mut once = Vec::new();
    for origin in origins {
        if !once.contains(&origin) {
            once.push(origin);
        }
    }
    once
}

impl Known {
    /// Whether somebody has written another match key to the row.
    pub(crate) fn has_other_key(&self, target: &Target) -> bool {
        self.match_key != target.match_key
    }

    fn is(&self, target: &Target) -> bool {
        self.deleted != target.living()
            && self.email == target.email
            && self.profile == target.profile
            && !self.has_other_key(target)
    }

    /// What is different: attribute by attribute, or one entry for a profile that ends or begins again.
    fn changes<'a>(&'a self, target: &'a Target) -> Vec<Change<'a>> {
        if self.deleted && target.living() {
            return vec![Change::begins(target)];
        }
        if !self.deleted && !target.living() {
            return vec![Change::ends(&self.profile)];
        }
        let (before, after) = (&self.profile, &target.profile);
        let names: BTreeSet<&String> = before.attributes.keys().chain(after.attributes.keys()).collect();
        let different = names.into_iter().filter(|name| before.attributes.get(*name) != after.attributes.get(*name));
        different
            .map(|name| Change {
                attribute: Some(name),
                old: before.attributes.get(name).cloned(),
                new: after.attributes.get(name).cloned(),
                origins: each_once(after.provenance.get(name).into_iter().chain(before.provenance.get(name))),
            })
            .collect()
    }
}

fn push_new(rows: &mut Rows, target: &Target, now: DateTime<Utc>) {
    rows.row(7)
        .uuid(Some(target.customer_id))
        .text(&target.match_key)
        .option(target.email.as_deref())
        .jsonb(&json(&target.profile.attributes))
        .jsonb(&json(&target.profile.provenance))
        .time(now)
        .time(now);
}

fn push_change(rows: &mut Rows, target: &Target, change: Change<'_>, now: DateTime<Utc>) {
    let (origin, others) = match change.origins.split_first() {
        Some((origin, others)) => (Some(origin), others),
        None => (None, &[][..]),
    };
    rows.row(9).uuid(Some(target.customer_id)).time(now).option(change.attribute);
    for value in [change.old, change.new] {
        match value {
            Some(value) => rows.jsonb(&value.to_string()),
            None => rows.null(),
        };
    }
    rows.option(origin.map(|origin| origin.system.as_str()))
        .option(origin.map(|origin| origin.external_id.as_str()))
        .text(&target.cause)
        .jsonb(&json(others));
}

fn json<T: serde::Serialize + ?Sized>(plain: &T) -> String {
    serde_json::to_string(plain).unwrap_or_else(|error| unreachable!("profiles are plain JSON: {error}"))
}
