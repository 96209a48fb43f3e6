//! Writing the result: for people, or one JSON document a line.

use std::io::{self, Write};

use super::results::{Document, Order, Summary};

/// One document a line.
pub(super) fn json(out: &mut impl Write, documents: &[String]) -> io::Result<()> {
    for document in documents {
        writeln!(out, "{document}")?;
    }
    out.flush()
}

/// The reference customer in full, everybody else in numbers.
pub(super) fn text(out: &mut impl Write, reference: &Document, orders: &[Order], summary: &Summary) -> io::Result<()> {
    writeln!(out, "The reference customer: one golden record out of three systems")?;
    writeln!(out)?;
    writeln!(out, "{}", serde_json::to_string_pretty(reference)?)?;
    writeln!(out)?;
    writeln!(out, "His orders")?;
    for order in orders {
        write_order(out, order)?;
    }
    writeln!(out)?;
    writeln!(out, "Everybody")?;
    for (what, value) in rows(summary) {
        writeln!(out, "  {what:<30} {value:>6}")?;
    }
    out.flush()
}

fn write_order(out: &mut impl Write, order: &Order) -> io::Result<()> {
    let unknown = || "?".to_owned();
    let at = order.purchased_at.clone().unwrap_or_else(unknown);
    writeln!(out)?;
    writeln!(out, "  order {} of {}, {at}", order.id, order.system)?;
    for line in &order.lines {
        let product_id = line.product_id.clone().unwrap_or_else(unknown);
        let product = line.product.clone().unwrap_or_else(|| format!("product {product_id}"));
        let quantity = line.quantity.clone().unwrap_or_else(unknown);
        let price = line.unit_price.clone().unwrap_or_else(unknown);
        let amount = line.amount.clone().unwrap_or_else(unknown);
        writeln!(out, "    {quantity:>3} x {price:>8}  {amount:>9}  {product}")?;
    }
    let total = order.total.clone().unwrap_or_else(unknown);
    writeln!(out, "    {:<14}  {total:>9}", "total")
}

/// The lines of the summary.
fn rows(summary: &Summary) -> Vec<(String, i64)> {
    let mut rows = vec![("customers".to_owned(), summary.customers)];
    for (systems, customers) in &summary.by_systems {
        let plural = if *systems == 1 { "" } else { "s" };
        rows.push((format!("  known to {systems} system{plural}"), *customers));
    }
    rows.push(("orders".to_owned(), summary.orders));
    if summary.waiting_orders > 0 {
        rows.push(("  waiting for their customer".to_owned(), summary.waiting_orders));
    }
    rows.push(("products".to_owned(), summary.products));
    rows.push(("records without a customer".to_owned(), summary.unmatched.iter().map(|(_, count)| count).sum()));
    rows.extend(summary.unmatched.iter().map(|(reason, count)| (format!("  {reason}"), *count)));
    rows.push(("dead letters".to_owned(), summary.dead_letters.values().sum()));
    rows.extend(summary.dead_letters.iter().map(|((source, reason), count)| (format!("  {source}: {reason}"), *count)));
    rows
}
