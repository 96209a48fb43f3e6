//! `GET /insights`: the whole base in aggregate, as it is now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use consolidate::edit::BY_HAND;
use serde::Serialize;
use utoipa::ToSchema;

use super::params::Params;
use super::{Api, Caller};
use crate::problem::Problem;

/// Months and states that are told apart.
const MONTHS: u8 = 12;
const STATES: usize = 60;

/// What the base is made of, as far as the key sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Insights {
    /// When it was counted.
    pub(crate) as_of: DateTime<Utc>,
    pub(crate) customers: Customers,
    pub(crate) orders: Orders,
    /// By name.
    pub(crate) systems: Vec<System>,
    pub(crate) quality: Quality,
    /// Customers by the month of their first order, newest first; at most twelve.
    pub(crate) cohorts: Vec<Cohort>,
}

/// Customers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Customers {
    pub(crate) total: i64,
    /// By how many systems know them.
    pub(crate) by_systems: Vec<BySystems>,
    /// By the attribute `state`, the largest first; at most sixty.
    pub(crate) by_state: Vec<ByValue>,
    /// By the month in which they became known, newest first; at most twelve.
    pub(crate) new_by_month: Vec<ByMonth>,
    /// By the attribute `loyaltyPoints`, in steps of ten times as many.
    pub(crate) by_loyalty: Vec<ByPoints>,
}

/// Customers who are known to so many systems.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BySystems {
    pub(crate) systems: i64,
    pub(crate) customers: i64,
}

/// Customers with a value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ByValue {
    /// Null for those without one.
    pub(crate) value: Option<String>,
    pub(crate) customers: i64,
}

/// Customers of a month.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ByMonth {
    /// As 2026-11.
    pub(crate) month: String,
    pub(crate) customers: i64,
}

/// Customers with so many points.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ByPoints {
    pub(crate) from: i64,
    /// Less than this many.
    pub(crate) below: i64,
    pub(crate) customers: i64,
}

/// Orders of customers; those that were cancelled do not count.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Orders {
    pub(crate) total: i64,
    /// What they are worth together, exactly; as the sources write it, whatever the currency.
    pub(crate) value: String,
    /// Customers with an order.
    pub(crate) buyers: i64,
    /// Customers with more than one.
    pub(crate) repeat_buyers: i64,
    /// By month, newest first; at most twelve.
    pub(crate) by_month: Vec<OrdersByMonth>,
}

/// Orders of a month.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrdersByMonth {
    /// As 2026-11.
    pub(crate) month: String,
    pub(crate) orders: i64,
    pub(crate) value: String,
}

/// What a system contributes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct System {
    pub(crate) system: String,
    /// Customers whom it knows.
    pub(crate) customers: i64,
    /// The time of its newest record.
    pub(crate) newest_observed_at: Option<DateTime<Utc>>,
}

/// What is wanting.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Quality {
    /// Cross-references without a customer, by why. A key with a row filter sees none.
    pub(crate) unmatched: Vec<Unmatched>,
    /// Customers without a value, by attribute of the configuration.
    pub(crate) missing: Vec<Missing>,
    /// Customers about whom systems disagree, in whatever.
    pub(crate) disagreeing: i64,
    /// The same by attribute, the most first: a system says something else than the profile.
    pub(crate) disagreements: Vec<Disagreement>,
}

/// Cross-references without a customer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Unmatched {
    pub(crate) reason: String,
    pub(crate) xrefs: i64,
}

/// Customers without a value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Missing {
    pub(crate) attribute: String,
    pub(crate) customers: i64,
}

/// Customers about whom systems disagree.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Disagreement {
    pub(crate) attribute: String,
    pub(crate) customers: i64,
}

/// Customers whose first order was in one month.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Cohort {
    /// As 2026-11.
    pub(crate) month: String,
    pub(crate) customers: i64,
    /// How many of them ordered in that month, the next one, and so on; up to twelve.
    pub(crate) ordered: Vec<i64>,
}

/// The whole base, from the counts that are kept.
const KEPT: &str = "
    select measure, key, count, value from customer360.counts
    union all
    select 'unmatched', unmatched_reason, count(*), 0 from customer360.xrefs
    where unmatched_reason is not null and deleted_at is null group by unmatched_reason";
/// Of what is made by hand nothing lands: that is looked up.
static KEPT_TIMES: LazyLock<String> = LazyLock::new(|| {
    format!(
        "select source as system, newest_observed_at from customer360.source_times
         union all
         select '{BY_HAND}', max(observed_at) from customer360.xrefs
         where system = '{BY_HAND}' and deleted_at is null having count(*) > 0"
    )
});

/// The customers whom the session sees, counted one by one; of those on list `$1` only, which the row filter asks for anyway.
const SEEN: &str = "
    select measure, key, count, value from customer360.measured
    where $1::text is null
       or customer_id in (select m.customer_id from customer360.list_members m where m.list = $1)";
const SEEN_TIMES: &str = "
    select system, max(observed_at) as newest_observed_at from customer360.xrefs
    where deleted_at is null
      and ($1::text is null
           or customer_id in (select m.customer_id from customer360.list_members m where m.list = $1))
    group by system";

/// The whole base in aggregate
///
/// From counts that are kept with every change; for a key with a row filter counted when it is asked for, over the customers
/// whom it sees.
#[utoipa::path(
    get, path = "/api/v1/insights", tag = "insights", operation_id = "get_insights",
    responses((status = 200, description = "The base", body = Insights)),
)]
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    params: Params,
) -> Result<Json<Insights>, Problem> {
    params.finish(&[])?;
    Ok(Json(count(&api, &caller).await?))
}

/// Counts the base, as far as the caller sees it.
pub(crate) async fn count(api: &Api, caller: &Caller) -> Result<Insights, Problem> {
    let only = caller.key.only.as_ref();
    let (counts, times) = if only.is_some() { (SEEN, SEEN_TIMES) } else { (KEPT, KEPT_TIMES.as_str()) };
    let statement = format!(
        "select measure, key, grouping(key) = 1 as is_total, sum(count)::bigint as count,
                trim_scale(sum(value))::text as value, null as at
         from ({counts}) m group by grouping sets ((measure, key), (measure))
         having sum(count) <> 0
         union all
         select 'newest', system, false, 0, '0', newest_observed_at from ({times}) t
         union all
         select 'now', null, true, 0, '0', now()"
    );
    let query = sqlx::query_as::<_, Counted>(staging::constant_sql(statement));
    let query = if let Some(only) = only { query.bind(only.lists().next()) } else { query };
    let rows = query.fetch_all(api.ask(caller).await?).await?;
    Ok(Counts::from(rows).insights(&api.settings.attributes))
}

/// A count: of one key of a measure, or of all of them.
#[derive(sqlx::FromRow)]
struct Counted {
    measure: String,
    key: Option<String>,
    is_total: bool,
    count: i64,
    value: String,
    at: Option<DateTime<Utc>>,
}

/// The counts of each measure; the words are those of `migrations/0013_counts.sql` and `0015_disagreements.sql`.
#[derive(Default)]
struct Counts {
    totals: BTreeMap<String, Counted>,
    by_key: BTreeMap<String, Vec<Counted>>,
}

impl From<Vec<Counted>> for Counts {
    fn from(rows: Vec<Counted>) -> Self {
        let mut counts = Self::default();
        for row in rows {
            if row.is_total {
                counts.totals.insert(row.measure.clone(), row);
            } else {
                counts.by_key.entry(row.measure.clone()).or_default().push(row);
            }
        }
        counts
    }
}

impl Counts {
    fn total(&self, measure: &str) -> i64 {
        self.totals.get(measure).map_or(0, |row| row.count)
    }

    /// By key; what has none is left out.
    fn of(&self, measure: &str) -> BTreeMap<&str, &Counted> {
        let rows = self.by_key.get(measure).map(Vec::as_slice).unwrap_or_default();
        rows.iter().filter_map(|row| Some((row.key.as_deref()?, row))).collect()
    }

    /// By a key that is a number.
    fn of_numbers(&self, measure: &str) -> BTreeMap<i64, i64> {
        self.of(measure).into_iter().filter_map(|(key, row)| Some((key.parse().ok()?, row.count))).collect()
    }

    fn insights(&self, attributes: &BTreeSet<String>) -> Insights {
        let now = self.totals.get("now").and_then(|row| row.at).unwrap_or_default();
        Insights {
            as_of: now,
            customers: self.customers(),
            orders: self.orders(),
            systems: self.systems(),
            quality: self.quality(attributes),
            cohorts: self.cohorts(now),
        }
    }

    fn customers(&self) -> Customers {
        let states = self.by_key.get("state").map(Vec::as_slice).unwrap_or_default().iter();
        let mut by_state: Vec<ByValue> =
            states.map(|row| ByValue { value: row.key.clone(), customers: row.count }).collect();
        by_state.sort_by(|a, b| (b.customers, &a.value).cmp(&(a.customers, &b.value)));
        by_state.truncate(STATES);
        let by_systems = self.of_numbers("systems").into_iter();
        let by_points = self.of_numbers("points").into_iter();
        let by_month = self.of("created").into_iter().rev().take(MONTHS.into());
        Customers {
            total: self.total("customers"),
            by_systems: by_systems.map(|(systems, customers)| BySystems { systems, customers }).collect(),
            by_state,
            new_by_month: by_month
                .map(|(month, row)| ByMonth { month: month.to_owned(), customers: row.count })
                .collect(),
            by_loyalty: by_points
                .map(|(from, customers)| ByPoints { from, below: (from * 10).max(1), customers })
                .collect(),
        }
    }

    fn orders(&self) -> Orders {
        let by_month = self.of("orders").into_iter().rev().take(MONTHS.into());
        Orders {
            total: self.total("orders"),
            value: self.totals.get("orders").map_or_else(|| "0".to_owned(), |row| row.value.clone()),
            buyers: self.total("buyers"),
            repeat_buyers: self.total("repeat_buyers"),
            by_month: by_month
                .map(|(month, row)| OrdersByMonth {
                    month: month.to_owned(),
                    orders: row.count,
                    value: row.value.clone(),
                })
                .collect(),
        }
    }

    fn systems(&self) -> Vec<System> {
        let newest = self.of("newest");
        let systems = self.of("system").into_iter();
        systems
            .map(|(system, row)| System {
                system: system.to_owned(),
                customers: row.count,
                newest_observed_at: newest.get(system).and_then(|row| row.at),
            })
            .collect()
    }

    fn quality(&self, attributes: &BTreeSet<String>) -> Quality {
        let (total, known) = (self.total("customers"), self.of("attribute"));
        let known = |attribute: &str| known.get(attribute).map_or(0, |row| row.count);
        let mut missing: Vec<Missing> = attributes
            .iter()
            .map(|attribute| Missing { attribute: attribute.clone(), customers: total - known(attribute) })
            .collect();
        missing.sort_by(|a, b| (b.customers, &a.attribute).cmp(&(a.customers, &b.attribute)));
        let disagreements = self.of("disagreement").into_iter();
        let mut disagreements: Vec<Disagreement> = disagreements
            .map(|(attribute, row)| Disagreement { attribute: attribute.to_owned(), customers: row.count })
            .collect();
        disagreements.sort_by(|a, b| (b.customers, &a.attribute).cmp(&(a.customers, &b.attribute)));
        let unmatched = self.of("unmatched").into_iter();
        Quality {
            unmatched: unmatched
                .map(|(reason, row)| Unmatched { reason: reason.to_owned(), xrefs: row.count })
                .collect(),
            missing,
            disagreeing: self.total("disagreeing"),
            disagreements,
        }
    }

    /// A cohort has a number for each month up to now.
    fn cohorts(&self, now: DateTime<Utc>) -> Vec<Cohort> {
        let later = self.of("cohort");
        let cohort = |ago: u32| {
            let first = now.checked_sub_months(chrono::Months::new(ago))?.format("%Y-%m").to_string();
            let ordered: Vec<i64> = (0..=ago)
                .map(|later_by| later.get(format!("{first}+{later_by}").as_str()).map_or(0, |row| row.count))
                .collect();
            let customers = *ordered.first().filter(|customers| **customers > 0)?;
            Some(Cohort { month: first, customers, ordered })
        };
        (0..MONTHS.into()).filter_map(cohort).collect()
    }
}
