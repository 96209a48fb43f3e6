//! `GET /insights`: the whole base in aggregate, as it is now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json as FromJson;
use utoipa::ToSchema;

use super::params::Params;
use super::{Api, Caller};
use crate::problem::Problem;

/// What the base is made of, as far as the key sees it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct BySystems {
    pub(crate) systems: i64,
    pub(crate) customers: i64,
}

/// Customers with a value.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ByValue {
    /// Null for those without one.
    pub(crate) value: Option<String>,
    pub(crate) customers: i64,
}

/// Customers of a month.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ByMonth {
    /// As 2026-11.
    pub(crate) month: String,
    pub(crate) customers: i64,
}

/// Customers with so many points.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ByPoints {
    pub(crate) from: i64,
    /// Less than this many.
    pub(crate) below: i64,
    pub(crate) customers: i64,
}

/// Orders of customers; those that were cancelled do not count.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct OrdersByMonth {
    /// As 2026-11.
    pub(crate) month: String,
    pub(crate) orders: i64,
    pub(crate) value: String,
}

/// What a system contributes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct System {
    pub(crate) system: String,
    /// Its living cross-references that have a customer.
    pub(crate) xrefs: i64,
    /// When anything of them last came.
    pub(crate) last_seen_at: Option<DateTime<Utc>>,
}

/// What is wanting.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Quality {
    /// Cross-references without a customer, by why. A key with a row filter sees none.
    pub(crate) unmatched: Vec<Unmatched>,
    /// Customers without a value, by attribute of the configuration.
    pub(crate) missing: Vec<Missing>,
}

/// Cross-references without a customer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Unmatched {
    pub(crate) reason: String,
    pub(crate) xrefs: i64,
}

/// Customers without a value.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Missing {
    pub(crate) attribute: String,
    pub(crate) customers: i64,
}

/// Customers whose first order was in one month.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Cohort {
    /// As 2026-11.
    pub(crate) month: String,
    pub(crate) customers: i64,
    /// How many of them ordered in that month, the next one, and so on; up to twelve.
    pub(crate) ordered: Vec<i64>,
}

/// `$1` the attributes of the configuration. Customers, orders and cross-references are each gone through once.
const STATEMENT: &str = "
with people as materialized (
    select c.profile, date_trunc('month', c.created_at at time zone 'UTC') as month
    from customer360.customers c
    where c.deleted_at is null
),
known as materialized (
    select x.customer_id, x.system, max(x.last_seen_at) as last_seen_at, count(*) as xrefs
    from customer360.xrefs x
    where x.deleted_at is null and x.customer_id is not null
    group by x.customer_id, x.system
),
bought as materialized (
    select o.customer_id, date_trunc('month', o.purchased_at at time zone 'UTC') as month, count(*) as orders,
           sum(o.total) as value
    from customer360.orders o
    where o.deleted_at is null and not o.cancelled and o.customer_id is not null
    group by 1, 2
),
buyers as materialized (
    select customer_id, sum(orders) as orders, min(month) as first_month from bought group by customer_id
),
cohorts as materialized (
    select b.first_month, (extract(year from age(o.month, b.first_month)) * 12
                           + extract(month from age(o.month, b.first_month)))::int as later, count(*) as customers
    from buyers b
    join bought o on o.customer_id = b.customer_id and o.month is not null
    where b.first_month >= date_trunc('month', now() at time zone 'UTC') - interval '11 months'
    group by 1, 2
),
points as materialized (
    select case when p < 1 then 0 else (10 ^ floor(log(p)))::bigint end as from, count(*) as customers
    from (select case when profile ->> 'loyaltyPoints' ~ '^[0-9]{1,15}$'
                      then (profile ->> 'loyaltyPoints')::numeric end as p
          from people) l
    where p is not null
    group by 1
)
select jsonb_build_object(
    'as_of', now(),
    'customers', jsonb_build_object(
        'total', (select count(*) from people),
        'by_systems', (select coalesce(jsonb_agg(jsonb_build_object('systems', systems, 'customers', customers)
                                                 order by systems), '[]')
                       from (select systems, count(*) as customers
                             from (select count(*) as systems from known group by customer_id) k group by systems) s),
        'by_state', (select coalesce(jsonb_agg(jsonb_build_object('value', value, 'customers', customers)
                                               order by customers desc, value), '[]')
                     from (select profile ->> 'state' as value, count(*) as customers from people
                           group by 1 order by 2 desc, 1 limit 60) s),
        'new_by_month', (select coalesce(jsonb_agg(jsonb_build_object('month', to_char(month, 'YYYY-MM'),
                                                                      'customers', customers) order by month desc), '[]')
                         from (select month, count(*) as customers from people
                               group by 1 order by 1 desc limit 12) m),
        'by_loyalty', (select coalesce(jsonb_agg(jsonb_build_object(
                                  'from', p.from, 'below', greatest(p.from * 10, 1), 'customers', customers)
                                  order by p.from), '[]')
                       from points p)),
    'orders', jsonb_build_object(
        'total', (select coalesce(sum(orders), 0)::bigint from bought),
        'value', (select coalesce(trim_scale(sum(value)), 0)::text from bought),
        'buyers', (select count(*) from buyers),
        'repeat_buyers', (select count(*) from buyers where orders > 1),
        'by_month', (select coalesce(jsonb_agg(jsonb_build_object('month', to_char(month, 'YYYY-MM'), 'orders', orders,
                                                                  'value', value::text) order by month desc), '[]')
                     from (select month, sum(orders)::bigint as orders, coalesce(trim_scale(sum(value)), 0) as value
                           from bought where month is not null group by 1 order by 1 desc limit 12) m)),
    'systems', (select coalesce(jsonb_agg(jsonb_build_object('system', system, 'xrefs', xrefs,
                                                             'last_seen_at', last_seen_at) order by system), '[]')
                from (select system, sum(xrefs)::bigint as xrefs, max(last_seen_at) as last_seen_at
                      from known group by system) s),
    'quality', jsonb_build_object(
        'unmatched', (select coalesce(jsonb_agg(jsonb_build_object('reason', reason, 'xrefs', xrefs)
                                                order by reason), '[]')
                      from (select unmatched_reason as reason, count(*) as xrefs from customer360.xrefs
                            where unmatched_reason is not null and deleted_at is null group by 1) u),
        'missing', (select coalesce(jsonb_agg(jsonb_build_object('attribute', attribute, 'customers', customers)
                                              order by customers desc, attribute), '[]')
                    from (select a.attribute, count(*) filter (where not profile ? a.attribute) as customers
                          from unnest($1::text[]) as a (attribute) cross join people group by 1) m)),
    'cohorts', (select coalesce(jsonb_agg(jsonb_build_object('month', to_char(first_month, 'YYYY-MM'),
                                                             'customers', ordered[1], 'ordered', ordered)
                                          order by first_month desc), '[]')
                from (select f.first_month, array_agg(coalesce(c.customers, 0) order by l.later) as ordered
                      from (select distinct first_month from cohorts) f
                      cross join generate_series(0, 11) as l (later)
                      left join cohorts c on c.first_month = f.first_month and c.later = l.later
                      where f.first_month + make_interval(months => l.later) <= now() at time zone 'UTC'
                      group by f.first_month) r))";

/// The whole base in aggregate
///
/// Counted when it is asked for, over the customers whom the key sees.
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
    let attributes: Vec<&String> = api.settings.attributes.iter().collect();
    let mut session = api.ask(caller).await?;
    let FromJson(insights): FromJson<Insights> =
        sqlx::query_scalar(STATEMENT).bind(attributes).fetch_one(&mut *session).await?;
    Ok(insights)
}
