//! A customer as an operator looks at one: the profile, the cross-references, the orders, and who leads there.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Uuid;
use sqlx::{PgConnection, Row};

use crate::error::database;
use crate::find::{Key, find};
use crate::matching::Matching;
use crate::{Error, Refusal, Rules};

/// Orders that are named; the newest.
const MAX_ORDERS: i64 = 100;

/// A customer with everything that belongs to it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
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
    pub xrefs: Vec<Xref>,
    /// The newest orders.
    pub orders: Vec<Order>,
    /// How many orders there are.
    pub order_count: i64,
    /// Customers that lead here.
    pub redirects: Vec<Redirect>,
}

/// A cross-reference of a customer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
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
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
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
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
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
    let row = sqlx::query(
        "select match_key, email, profile, provenance, created_at, updated_at, version, deleted_at
         from customer360.customers where customer_id = $1",
    )
    .bind(customer_id)
    .fetch_optional(&mut *connection)
    .await
    .map_err(database("reading a customer"))?;
    let Some(row) = row else { return Ok(None) };
    let xrefs = xrefs(connection, customer_id).await?;
    let (orders, order_count) = orders(connection, customer_id).await?;
    Ok(Some(Customer {
        customer_id,
        match_key: row.get(0),
        email: row.get(1),
        profile: row.get(2),
        provenance: row.get(3),
        created_at: row.get(4),
        updated_at: row.get(5),
        version: row.get(6),
        deleted_at: row.get(7),
        xrefs,
        orders,
        order_count,
        redirects: redirects(connection, customer_id).await?,
    }))
}

async fn xrefs(connection: &mut PgConnection, customer_id: Uuid) -> Result<Vec<Xref>, Error> {
    let rows = sqlx::query(
        "select system, external_id, match_key, email, observed_at, deleted_at
         from customer360.xrefs
         where customer_id = $1
         order by system collate \"C\", external_id collate \"C\"",
    )
    .bind(customer_id)
    .fetch_all(connection)
    .await
    .map_err(database("reading cross-references"))?;
    let xref = |row: &sqlx::postgres::PgRow| Xref {
        system: row.get(0),
        external_id: row.get(1),
        match_key: row.get(2),
        email: row.get(3),
        observed_at: row.get(4),
        deleted_at: row.get(5),
    };
    Ok(rows.iter().map(xref).collect())
}

async fn orders(connection: &mut PgConnection, customer_id: Uuid) -> Result<(Vec<Order>, i64), Error> {
    let rows = sqlx::query(
        "select system, order_id, purchased_at, trim_scale(total)::text, count(*) over ()
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
    let order = |row: &sqlx::postgres::PgRow| Order {
        system: row.get(0),
        order_id: row.get(1),
        purchased_at: row.get(2),
        total: row.get(3),
    };
    Ok((rows.iter().map(order).collect(), rows.first().map_or(0, |row| row.get(4))))
}

/// Only of customers that have nobody: of others a redirect is not followed.
async fn redirects(connection: &mut PgConnection, customer_id: Uuid) -> Result<Vec<Redirect>, Error> {
    let rows = sqlx::query(
        "select r.customer_id, r.since
         from customer360.redirects r
         join customer360.customers c on c.customer_id = r.customer_id
         where r.to_customer_id = $1 and c.deleted_at is not null
         order by r.since, r.customer_id",
    )
    .bind(customer_id)
    .fetch_all(connection)
    .await
    .map_err(database("reading redirects"))?;
    Ok(rows.iter().map(|row| Redirect { customer_id: row.get(0), since: row.get(1) }).collect())
}
