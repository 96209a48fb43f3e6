//! I3, I4 and I5: customers, cross-references and orders are those of the model.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sqlx::PgPool;

use crate::model::{self, Customers, Orders, Xrefs};
use crate::world::STORE_CUSTOMERS;

/// System, id, customer's id, total in cents, match key of the customer that it belongs to.
type OrderRow = (String, String, String, Option<String>, Option<String>);

/// Compares; how many customers and orders there are.
///
/// `story` is what is known of a customer of home delivery.
pub(crate) async fn compare(
    pool: &PgPool,
    xrefs: &Xrefs,
    orders: &Orders,
    story: impl Fn(&str) -> String,
) -> Result<(usize, usize)> {
    cross_references(pool, xrefs, story).await?;
    let customers = customers(pool, &model::customers(xrefs)).await?;
    Ok((customers, self::orders(pool, xrefs, orders).await?))
}

async fn cross_references(pool: &PgPool, expected: &Xrefs, story: impl Fn(&str) -> String) -> Result<()> {
    let rows: Vec<(String, String, Option<String>, Value)> = sqlx::query_as(
        "select system, external_id, case when unmatched_reason is null or unmatched_reason = 'crowded' then match_key end,
                attributes
         from customer360.xrefs where deleted_at is null",
    )
    .fetch_all(pool)
    .await?;
    let mut found = BTreeSet::new();
    for (system, id, key, attributes) in rows {
        let name = (system, id);
        let xref =
            expected.get(&name).with_context(|| format!("{name:?} lives and ought not to\n{}", story(&name.1)))?;
        ensure!(key == xref.key, "match key of {name:?}: {key:?} and not {:?}\n{}", xref.key, story(&name.1));
        let values: BTreeMap<String, String> = serde_json::from_value::<BTreeMap<String, Option<String>>>(attributes)?
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
            .collect();
        ensure!(values == xref.values, "values of {name:?}: {values:?} and not {:?}\n{}", xref.values, story(&name.1));
        found.insert(name);
    }
    let Some(missing) = expected.keys().find(|name| !found.contains(*name)) else { return Ok(()) };
    let known: Option<String> =
        sqlx::query_scalar("select to_jsonb(x)::text from customer360.xrefs x where system = $1 and external_id = $2")
            .bind(&missing.0)
            .bind(&missing.1)
            .fetch_optional(pool)
            .await?;
    let (all, lives) = (expected.len(), found.len());
    bail!("{lives} live and {all} ought to; {missing:?} is {known:?}\n{}", story(&missing.1));
}

async fn customers(pool: &PgPool, expected: &Customers) -> Result<usize> {
    let rows: Vec<(String, Value)> =
        sqlx::query_as("select email, document from customer360.documents").fetch_all(pool).await?;
    let mut found = Customers::new();
    for (email, document) in rows {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let profile = serde_json::from_value(document["profile"].clone())?;
        let xrefs = document["xrefs"].as_array().context("xrefs")?;
        let ids = xrefs.iter().map(|xref| (text(&xref["external_system"]), text(&xref["external_ID"]))).collect();
        ensure!(found.insert(email.clone(), (profile, ids)).is_none(), "two customers of {email}");
    }
    for (key, customer) in expected {
        let known = found.get(key).with_context(|| format!("{key} is missing, expected {customer:?}"))?;
        ensure!(known == customer, "{key}: {known:?}, expected {customer:?}");
    }
    let surplus: Vec<&String> = found.keys().filter(|key| !expected.contains_key(*key)).take(5).collect();
    ensure!(surplus.is_empty(), "customers that ought not to be: {surplus:?}");
    Ok(found.len())
}

async fn orders(pool: &PgPool, xrefs: &Xrefs, expected: &Orders) -> Result<usize> {
    let rows: Vec<OrderRow> = sqlx::query_as(
        "select o.system, o.order_id, o.customer_external_id, trim_scale(o.total * 100)::text, c.match_key
         from customer360.orders o left join customer360.customers c using (customer_id)
         where o.deleted_at is null",
    )
    .fetch_all(pool)
    .await?;
    let lines: Vec<(String, String, String, String)> = sqlx::query_as(
        "select l.order_id, l.product_id, l.quantity::text, (l.unit_price * 100)::bigint::text
         from customer360.order_lines l join customer360.orders o using (system, order_id)
         where o.deleted_at is null and system = 'home_delivery' order by l.order_id, l.line_no",
    )
    .fetch_all(pool)
    .await?;
    let mut found_lines: BTreeMap<String, Vec<(i64, i64, i64)>> = BTreeMap::new();
    for (order, product, quantity, cents) in lines {
        found_lines.entry(order).or_default().push((product.parse()?, quantity.parse()?, cents.parse()?));
    }
    let (mut ours, mut of_the_store) = (0, 0);
    for (system, id, customer, total, key) in &rows {
        if system == "online_store" {
            of_the_store += 1;
            ensure!(total.as_deref() == Some("250"), "order {id} of the store: {total:?}");
            ensure!(*key == Some(format!("member{customer}@soak.example")), "order {id} of the store is of {key:?}");
            continue;
        }
        ours += 1;
        let (of, lines) = expected.get(id).with_context(|| format!("order {id} ought not to be"))?;
        ensure!(of.to_string() == *customer, "order {id} is of {customer} and not of {of}");
        ensure!(found_lines.get(id) == Some(lines), "lines of order {id}: {:?} and not {lines:?}", found_lines.get(id));
        let cents: i64 = lines.iter().map(|(_, quantity, cents)| quantity * cents).sum();
        let sum = cents.to_string();
        ensure!(total.as_deref() == Some(&sum), "order {id} sums up to {total:?} cents and not {sum}");
        // Of somebody who is gone an order stays where it was.
        if let Some(xref) = xrefs.get(&("home_delivery".to_owned(), customer.clone())) {
            let is_crowded = xref.key.is_some() && key.is_none();
            ensure!(*key == xref.key || is_crowded, "order {id} of {customer} is of {key:?} and not of {:?}", xref.key);
        }
    }
    ensure!(ours == expected.len(), "{ours} orders and not {}", expected.len());
    ensure!(of_the_store == 2 * STORE_CUSTOMERS as usize, "{of_the_store} orders of the store");
    Ok(rows.len())
}
