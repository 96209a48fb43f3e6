//! Customers whom a search names by an id, as no text of a profile does.

use serde_json::Value;
use sqlx::types::Uuid;

use super::Dashboard;
use super::profile;
use super::visitor::Reader;
use crate::problem::Problem;

/// The longest id that somebody types or pastes.
const MAX_ID_CHARS: usize = 100;
/// Of the systems that use one id.
const MOST: i64 = 5;

/// A customer, and what names it.
pub(super) struct Named {
    pub(super) by: String,
    pub(super) name: String,
    pub(super) link: String,
}

/// The customers of a search that is a customer's id, a system and its id (`loyalty 27`, `loyalty:27`), or the id alone.
pub(super) async fn named(dashboard: &Dashboard, reader: &Reader, q: &str) -> Result<Vec<Named>, Problem> {
    let q = q.trim();
    if q.is_empty() || q.chars().count() > MAX_ID_CHARS {
        return Ok(Vec::new());
    }
    let customer_id: Option<Uuid> = q.parse().ok();
    let pairs = pairs(dashboard.systems.filters(), q);
    let (systems, ids): (Vec<&str>, Vec<&str>) = pairs.into_iter().unzip();
    let rows: Vec<(String, Uuid, Option<String>, Value)> = sqlx::query_as(
        "select n.named, c.customer_id, c.email, c.profile
         from (select x.system || ' ' || x.external_id as named, x.customer_id
               from unnest($1::text[], $2::text[]) as p (system, external_id)
               join customer360.xrefs x on x.system = p.system and x.external_id = p.external_id
               where x.deleted_at is null
               union all
               select 'Customer ' || $3::text, customer360.resolved($3) where $3 is not null) n
         join customer360.customers c on c.customer_id = n.customer_id
         order by n.named
         limit $4",
    )
    .bind(systems)
    .bind(ids)
    .bind(customer_id)
    .bind(MOST)
    .fetch_all(dashboard.api.ask(&reader.caller).await?)
    .await?;
    let named = |(by, customer_id, email, profile): (String, Uuid, Option<String>, Value)| Named {
        by,
        name: profile::name(&profile, email.as_deref(), customer_id),
        link: format!("/customers/{customer_id}"),
    };
    Ok(rows.into_iter().map(named).collect())
}

/// The systems and ids that a search may mean.
fn pairs<'a>(systems: impl Iterator<Item = &'a str>, q: &'a str) -> Vec<(&'a str, &'a str)> {
    let id = |system: &str| match q.strip_prefix(system) {
        Some(rest) if rest.starts_with([':', ' ']) => rest[1..].trim(),
        _ => q,
    };
    systems.map(|system| (system, id(system))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_alone_may_be_of_any_system_and_one_with_its_system_is_of_that_one() {
        let pairs = |q| pairs(["loyalty", "store"].into_iter(), q);
        assert_eq!(pairs("27"), [("loyalty", "27"), ("store", "27")]);
        assert_eq!(pairs("loyalty 27"), [("loyalty", "27"), ("store", "loyalty 27")]);
        assert_eq!(pairs("loyalty:27")[0], ("loyalty", "27"));
        assert_eq!(pairs("loyalty27")[0], ("loyalty", "loyalty27"));
    }
}
