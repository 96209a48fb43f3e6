//! Reading the golden records that the sources became.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::{FromRow, PgConnection};

use super::fixtures::REFERENCE_EMAIL;

/// A customer's document, in the order in which people read it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Document {
    r#type: String,
    profile: Map<String, Value>,
    xrefs: Vec<Xref>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Xref {
    external_system: String,
    #[serde(rename = "external_ID")]
    external_id: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
}

/// An order with its lines.
#[derive(Debug, FromRow)]
pub(super) struct Order {
    pub(super) system: String,
    pub(super) id: String,
    pub(super) purchased_at: Option<String>,
    pub(super) total: Option<String>,
    #[sqlx(skip)]
    pub(super) lines: Vec<Line>,
}

/// A line of an order.
#[derive(Debug, FromRow)]
pub(super) struct Line {
    pub(super) product_id: Option<String>,
    pub(super) product: Option<String>,
    pub(super) quantity: Option<String>,
    pub(super) unit_price: Option<String>,
    pub(super) amount: Option<String>,
}

/// Everybody in numbers.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) customers: i64,
    /// Number of systems, and how many customers are known to so many.
    pub(super) by_systems: Vec<(i64, i64)>,
    /// Reason, and how many cross-references are without a customer because of it.
    pub(super) unmatched: Vec<(String, i64)>,
    /// How many, by source and reason.
    pub(super) dead_letters: BTreeMap<(String, String), i64>,
    pub(super) orders: i64,
    /// Orders whose customer nobody knows yet.
    pub(super) waiting_orders: i64,
    pub(super) products: i64,
}

/// How many customers there are.
pub(super) async fn customers(database: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from customer360.documents").fetch_one(database).await
}

/// All documents as Postgres writes them: customers by email, then orders by key.
pub(super) async fn documents(database: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    let customers = "select document::text from customer360.documents order by email collate \"C\"";
    let orders = "select document::text from customer360.order_documents order by key collate \"C\"";
    let mut documents = sqlx::query_scalar(customers).fetch_all(&mut *database).await?;
    documents.extend(sqlx::query_scalar::<_, String>(orders).fetch_all(database).await?);
    Ok(documents)
}

/// The reference customer and his orders, the oldest first.
pub(super) async fn reference(database: &mut PgConnection) -> anyhow::Result<(Document, Vec<Order>)> {
    let document: Option<String> =
        sqlx::query_scalar("select document::text from customer360.documents where email = $1")
            .bind(REFERENCE_EMAIL)
            .fetch_optional(&mut *database)
            .await?;
    let document = document.context("the reference customer has not arrived")?;
    let mut orders: Vec<Order> = sqlx::query_as(
        "select o.system, o.order_id as id, o.total::text,
                to_char(o.purchased_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') as purchased_at
         from customer360.orders o
         join customer360.customers c using (customer_id)
         where c.email = $1 and c.deleted_at is null and o.deleted_at is null
         order by o.purchased_at, o.order_id collate \"C\"",
    )
    .bind(REFERENCE_EMAIL)
    .fetch_all(&mut *database)
    .await?;
    for order in &mut orders {
        order.lines = lines(database, order).await?;
    }
    Ok((serde_json::from_str(&document)?, orders))
}

async fn lines(database: &mut PgConnection, order: &Order) -> sqlx::Result<Vec<Line>> {
    sqlx::query_as(
        "select l.product_id, p.name as product, l.quantity::text, l.unit_price::text,
                (l.quantity * l.unit_price)::text as amount
         from customer360.order_lines l
         left join customer360.products p on p.system = l.system and p.product_id = l.product_id
         where l.system = $1 and l.order_id = $2
         order by l.line_no",
    )
    .bind(&order.system)
    .bind(&order.id)
    .fetch_all(database)
    .await
}

/// Counts everybody.
pub(super) async fn summary(database: &mut PgConnection) -> anyhow::Result<Summary> {
    let by_systems = sqlx::query_as(
        "select systems, count(*)
         from (
             select count(distinct system) as systems from customer360.xrefs
             where customer_id is not null and deleted_at is null
             group by customer_id
         ) known
         group by systems
         order by systems desc",
    );
    let unmatched = sqlx::query_as(
        "select unmatched_reason, count(*) from customer360.xrefs
         where unmatched_reason is not null and deleted_at is null
         group by unmatched_reason
         order by unmatched_reason",
    );
    let orders = sqlx::query_as(
        "select count(*), count(*) filter (where customer_id is null) from customer360.orders where deleted_at is null",
    );
    let products = sqlx::query_scalar("select count(*) from customer360.products where deleted_at is null");
    let (orders, waiting_orders) = orders.fetch_one(&mut *database).await?;
    Ok(Summary {
        customers: customers(database).await?,
        by_systems: by_systems.fetch_all(&mut *database).await?,
        unmatched: unmatched.fetch_all(&mut *database).await?,
        dead_letters: staging::overview::parked(&mut *database).await?,
        orders,
        waiting_orders,
        products: products.fetch_one(database).await?,
    })
}
