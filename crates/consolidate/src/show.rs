//! A customer as an operator looks at one: the profile, the cross-references, the orders, and who leads there.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::error::database;
use crate::find::{Key, find};
use crate::matching::Matching;
use crate::{Error, Refusal, Rules};

/// Orders that are named; the newest.
const MAX_ORDERS: i64 = 100;

/// A customer with everything that belongs to it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
pub struct Customer {
    /// The id.
    pub customer_id: Uuid,
    /// A normalised email, or `#system:id`.
    pub match_key: String,
    /// The email in its document.
    pub email: Option<String>,
    /// Attributes that have a value.
    pub profile: Value,
    /// Attribute to the cross-reference that supplied it.
    pub provenance: Value,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// How often it was written.
    pub version: i64,
    /// Since when nobody living is left.
    pub deleted_at: Option<DateTime<Utc>>,
    /// All cross-references, tombstones too.
    #[sqlx(skip)]
    pub xrefs: Vec<Xref>,
    /// The newest orders.
    #[sqlx(skip)]
    pub orders: Vec<Order>,
    /// How many orders there are.
    #[sqlx(skip)]
    pub order_count: i64,
    /// Customers that lead here.
    #[sqlx(skip)]
    pub redirects: Vec<Redirect>,
}

/// A cross-reference of a customer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
pub struct Xref {
    /// The system.
    pub system: String,
    /// The system's id.
    pub external_id: String,
    /// Its match key; `None` for a tombstone.
    pub match_key: Option<String>,
    /// The email as the system writes it.
    pub email: Option<String>,
    /// The time of its newest record.
    pub observed_at: DateTime<Utc>,
    /// Set for a tombstone.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// An order of a customer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
pub struct Order {
    /// The system.
    pub system: String,
    /// The system's id.
    pub order_id: String,
    /// When it was made.
    pub purchased_at: Option<DateTime<Utc>>,
    /// Exact, as text.
    pub total: Option<String>,
}

/// A customer whose last cross-reference came here.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
pub struct Redirect {
    /// The customer that leads here.
    pub customer_id: Uuid,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Finds a customer and reads everything that belongs to it.
pub async fn show(connection: &mut PgConnection, rules: &Rules, key: &Key) -> Result<Customer, Error> {
    let matching = Matching::read(connection, rules).await?;
    find_and_read(connection, &matching, key).await
}

pub(crate) async fn find_and_read(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    key: &Key,
) -> Result<Customer, Error> {
    let customer = match find(connection, matching, key).await?.customer_id {
        Some(customer_id) => read(connection, customer_id).await?,
        None => None,
    };
    customer.ok_or_else(|| Refusal::HeldBack.into())
}

/// Reads a customer by id.
pub(crate) async fn read(connection: &mut PgConnection, customer_id: Uuid) -> Result<Option<Customer>, Error> {
    let customer: Option<Customer> = sqlx::query_as(
        "select customer_id, match_key, email, profile, provenance, created_at, updated_at, version, deleted_at
         from customer360.customers where customer_id = $1",
    )
    .bind(customer_id)
    .fetch_optional(&mut *connection)
    .await
    .map_err(database("reading a customer"))?;
    let Some(mut customer) = customer else { return Ok(None) };
    customer.xrefs = xrefs(connection, customer_id).await?;
    (customer.orders, customer.order_count) = orders(connection, customer_id).await?;
    customer.redirects = redirects(connection, customer_id).await?;
    Ok(Some(customer))
}

async fn xrefs(connection: &mut PgConnection, customer_id: Uuid) -> Result<Vec<Xref>, Error> {
    sqlx::query_as(
        "select system, external_id, match_key, email, observed_at, deleted_at
         from customer360.xrefs
         where customer_id = $1
         order by system collate \"C\", external_id collate \"C\"",
    )
    .bind(customer_id)
    .fetch_all(connection)
    .await
    .map_err(database("reading cross-references"))
}

async fn orders(connection: &mut PgConnection, customer_id: Uuid) -> Result<(Vec<Order>, i64), Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        #[sqlx(flatten)]
        order: Order,
        order_count: i64,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "select system, order_id, purchased_at, trim_scale(total)::text as total, count(*) over () as order_count
         from customer360.orders
         where customer_id = $1 and deleted_at is null
         order by purchased_at desc nulls last, system, order_id
         limit $2",
    )
    .bind(customer_id)
    .bind(MAX_ORDERS)
    .fetch_all(connection)
    .await
    .map_err(database("reading orders"))?;
    let order_count = rows.first().map_or(0, |row| row.order_count);
    Ok((rows.into_iter().map(|row| row.order).collect(), order_count))
}

/// Only of customers that have nobody: of others a redirect is not followed.
async fn redirects(connection: &mut PgConnection, customer_id: Uuid) -> Result<Vec<Redirect>, Error> {
    sqlx::query_as(
        "select r.customer_id, r.since
         from customer360.redirects r
         join customer360.customers c on c.customer_id = r.customer_id
         where r.to_customer_id = $1 and c.deleted_at is not null
         order by r.since, r.customer_id",
    )
    .bind(customer_id)
    .fetch_all(connection)
    .await
    .map_err(database("reading redirects"))
}
