//! What there is of one customer, counted: the figures on top of the page, and those beside the filters of the timeline.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::{Json as FromJson, Uuid};

use super::Dashboard;
use super::locale::{Locale, Moment};
use super::systems::label;
use super::visitor::Reader;
use crate::api::customer::Customer;
use crate::problem::Problem;

/// A figure, with its label.
pub(super) struct Stat {
    pub(super) label: &'static str,
    pub(super) value: String,
    /// A time that follows.
    pub(super) moment: Option<Moment>,
}

/// What there is of one customer.
#[derive(sqlx::FromRow)]
pub(super) struct Counts {
    orders: i64,
    value: Option<String>,
    first_order: Option<DateTime<Utc>>,
    interactions: i64,
    last_contact: Option<DateTime<Utc>>,
    /// What that was.
    last_type: Option<String>,
    changes: i64,
    /// By type.
    entries: FromJson<BTreeMap<String, i64>>,
}

impl Counts {
    pub(super) async fn read(dashboard: &Dashboard, reader: &Reader, customer_id: Uuid) -> Result<Self, Problem> {
        let session = dashboard.api.ask(&reader.caller).await?;
        let counts = sqlx::query_as(
            "with once as materialized (
                 select unnest(customer360.once_known_as($1)) as customer_id
             ),
             bought as materialized (
                 select count(*) as orders, min(o.purchased_at) as first_order,
                        -- No shop has a larger total, and of such numeric could not hold the sum.
                        trim_scale(sum(o.total) filter (where o.cancelled is not true and abs(o.total) < 1e30))::text
                            as value
                 from customer360.orders o
                 where o.customer_id = $1 and o.deleted_at is null
             ),
             talked as materialized (
                 select count(*) as interactions, max(i.at) as last_contact,
                        (array_agg(i.type order by i.at desc nulls last))[1] as last_type
                 from customer360.interactions i
                 where i.deleted_at is null
                   and (i.system, i.interaction_id) in (
                       select p.system, p.interaction_id
                       from customer360.interaction_participants p
                       where p.customer_id = $1
                       union all
                       select p.system, p.interaction_id
                       from customer360.interaction_participants p
                       where p.customer_id is null
                         and p.match_key in (
                             select c.match_key
                             from customer360.customers c
                             join once o on o.customer_id = c.customer_id))
             ),
             written as materialized (
                 select coalesce(jsonb_object_agg(w.type, w.written), '{}') as entries
                 from (select e.type, count(*) as written
                       from customer360.entries e
                       where e.customer_id in (select customer_id from once) and e.deleted_at is null
                       group by e.type) w
             ),
             changed as materialized (
                 select (select count(*) from customer360.changes c
                         where c.customer_id in (select customer_id from once))
                        + (select count(*) from customer360.redirects r
                           where r.customer_id in (select customer_id from once) and r.customer_id <> $1) as changes
             )
             select bought.*, talked.*, written.*, changed.* from bought, talked, written, changed",
        )
        .bind(customer_id)
        .fetch_one(session)
        .await?;
        Ok(counts)
    }

    pub(super) fn all(&self) -> i64 {
        self.orders + self.interactions + self.changes + self.entries.values().sum::<i64>()
    }

    pub(super) fn of(&self, kind: &str) -> i64 {
        match kind {
            "order" => self.orders,
            "interaction" => self.interactions,
            "change" => self.changes,
            kind => self.entries.get(kind).copied().unwrap_or_default(),
        }
    }

    pub(super) fn stats(&self, customer: &Customer, locale: &Locale) -> Vec<Stat> {
        let at = |label, at: Option<DateTime<Utc>>, moment: fn(&Locale, DateTime<Utc>) -> Moment| Stat {
            label,
            value: if at.is_none() { "–".to_owned() } else { String::new() },
            moment: at.map(|at| moment(locale, at)),
        };
        let talked = self.last_contact.and(self.last_type.as_deref()).filter(|kind| !kind.is_empty());
        let last_contact = at("Last contact", self.last_contact, Locale::ago);
        let plain = |label, value: String| Stat { label, value, moment: None };
        vec![
            Stat { value: talked.map_or(last_contact.value, |kind| format!("{}, ", label(kind))), ..last_contact },
            plain("Orders", locale.count(self.orders)),
            plain("Order value", self.value.as_ref().map_or_else(|| "–".to_owned(), |value| locale.money(value))),
            at("First order", self.first_order, Locale::day),
            plain("Systems", locale.count(i64::try_from(customer.xrefs.len()).unwrap_or(i64::MAX))),
            at("Last change", Some(customer.updated_at), Locale::ago),
        ]
    }
}
