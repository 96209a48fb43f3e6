//! `GET /customers/{customer}/recommendations`: bought by people who bought the same.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sqlx::types::{Json as FromJson, Uuid};
use utoipa::ToSchema;

use super::customer::Refusal;
use super::page::Page;
use super::params::Params;
use super::path::Path;
use super::{Api, Caller};
use crate::problem::Problem;

/// A product that the customer has not bought.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Recommendation {
    pub(crate) system: String,
    pub(crate) product_id: String,
    pub(crate) name: Option<String>,
    /// How many times more often than by chance it is bought with `because`.
    pub(crate) lift: f64,
    /// How many customers, of the whole base, bought both; at least five.
    pub(crate) buyers: i64,
    pub(crate) because: Bought,
}

/// A product that the customer has bought.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Bought {
    pub(crate) system: String,
    pub(crate) product_id: String,
    pub(crate) name: Option<String>,
}

/// Of each product only the pair with the highest lift counts: it is the reason.
const STATEMENT: &str = "
with at as materialized (
    select c.customer_id from customer360.customers c where c.customer_id = customer360.resolved($1)
),
bought as materialized (
    select o.system, o.order_id from customer360.orders o
    where o.customer_id in (select customer_id from at) and o.deleted_at is null and not o.cancelled
),
own as materialized (
    select distinct l.system, l.product_id
    from customer360.order_lines l
    join bought b on b.system = l.system and b.order_id = l.order_id
    where l.product_id is not null
),
reasons as materialized (
    select distinct on (p.other_system, p.other_product_id) p.*
    from customer360.product_pairs p
    join own on own.system = p.system and own.product_id = p.product_id
    left join customer360.products n on n.system = p.other_system and n.product_id = p.other_product_id
    where (p.other_system, p.other_product_id) not in (select system, product_id from own) and n.deleted_at is null
    order by p.other_system, p.other_product_id, p.lift desc, p.buyers desc, p.system, p.product_id
),
best as materialized (
    select * from reasons order by lift desc, buyers desc, other_system, other_product_id limit $2
)
select at.customer_id, (
    select coalesce(jsonb_agg(jsonb_build_object(
               'system', b.other_system, 'product_id', b.other_product_id, 'name', n.name,
               'lift', b.lift, 'buyers', b.buyers,
               'because', jsonb_build_object('system', b.system, 'product_id', b.product_id, 'name', m.name))
               order by b.lift desc, b.buyers desc, b.other_system, b.other_product_id), '[]')
    from best b
    left join customer360.products n on n.system = b.other_system and n.product_id = b.other_product_id
    left join customer360.products m on m.system = b.system and m.product_id = b.product_id),
    case when $3 then (select count(*) from reasons) end
from at";

/// What a customer may like
///
/// Products that people bought who bought what this customer did, counted over the whole base every few minutes, with at
/// least five buyers behind each; what the customer has is left out.
#[utoipa::path(
    get, path = "/api/v1/customers/{customer}/recommendations", tag = "customers",
    operation_id = "list_recommendations",
    params(
        ("customer" = String, Path, description = "The id, or an email"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "At most so many; 50 by default"),
        ("count" = Option<bool>, Query, description = "Whether to count all of them, as total"),
    ),
    responses(
        (status = 200, description = "The best first", body = Page<Recommendation>),
        (status = 308, description = "The customer is known under another id by now"),
    ),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(named): Path<String>,
    mut params: Params,
) -> Result<Json<Page<Recommendation>>, Refusal> {
    let (limit, count) = (params.limit()?, params.flag("count")?);
    params.finish(&["limit", "count"])?;
    let (customer_id, recommendations) = of(&api, &caller, &named, limit, count).await?;
    api.audit.read(&caller, "list_recommendations", customer_id).await;
    Ok(Json(recommendations))
}

/// What a customer may like, at most so many, with how much there is of it if that is to be counted; and who that is.
pub(crate) async fn of(
    api: &Api,
    caller: &Caller,
    named: &str,
    limit: u32,
    count: bool,
) -> Result<(Uuid, Page<Recommendation>), Refusal> {
    let customer_id = api.customer_id(named).await?;
    let session = api.ask(caller).await?;
    let row: Option<(Uuid, FromJson<Vec<Recommendation>>, Option<i64>)> =
        sqlx::query_as(STATEMENT).bind(customer_id).bind(i64::from(limit)).bind(count).fetch_optional(session).await?;
    let (found, FromJson(items), total) = row.ok_or_else(Problem::not_found)?;
    Refusal::unless_at(found, customer_id)?;
    Ok((found, Page { items, next_cursor: None, total, is_cut: false }))
}
