//! `c360 customer show`

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use consolidate::Key;
use consolidate::show::{self, Customer};
use serde_json::Value;

use super::Opened;
use crate::cli::customer::Show;
use crate::commands::print;
use crate::commands::table::table;
use crate::config::Config;
use crate::exit::Exit;
use status::words::{count, printable};

pub(super) async fn run(args: &Show, config: Config) -> anyhow::Result<Exit> {
    let mut opened = Opened::open(config).await?;
    let rules = opened.installation.rules()?;
    let customer = show::show(&mut opened.connection, &rules, &Key::parse(&args.whom.key)).await?;
    print(args.json, &customer, || page(&customer))?;
    Ok(Exit::Done)
}

/// A customer for people.
pub(super) fn page(customer: &Customer) -> String {
    let mut page = format!("customer {}\n", customer.customer_id);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(page, "  {name:11} {}", printable(value));
    };
    line("match key", &customer.match_key);
    line("email", customer.email.as_deref().unwrap_or("none"));
    line("changed", &format!("{}, version {}", time(customer.updated_at), customer.version));
    if let Some(at) = customer.deleted_at {
        line("deleted", &format!("{}: no living cross-reference is left", time(at)));
    }
    for redirect in &customer.redirects {
        line("instead of", &format!("{} since {}", redirect.customer_id, time(redirect.since)));
    }
    page += "\nprofile\n";
    page += &table(profile(customer));
    let _ = writeln!(page, "\n{}", count(i64::try_from(customer.xrefs.len()).unwrap_or(i64::MAX), "cross-reference"));
    let xrefs = customer.xrefs.iter().map(|xref| {
        let state = xref.deleted_at.map_or(String::new(), |at| format!("deleted {}", time(at)));
        let email = xref.email.clone().unwrap_or_default();
        vec![format!("  {}", xref.system), xref.external_id.clone(), time(xref.observed_at), email, state]
    });
    page += &table(xrefs.collect());
    let _ = writeln!(page, "\n{}", count(customer.order_count, "order"));
    let orders = customer.orders.iter().map(|order| {
        let at = order.purchased_at.map_or(String::new(), time);
        vec![format!("  {}", order.system), order.order_id.clone(), at, order.total.clone().unwrap_or_default()]
    });
    page += &table(orders.collect());
    page
}

fn profile(customer: &Customer) -> Vec<Vec<String>> {
    let attributes = customer.profile.as_object().into_iter().flatten();
    let origin = |name: &str, part: &str| customer.provenance[name][part].as_str().unwrap_or_default().to_owned();
    let line = |(name, value): (&String, &Value)| {
        vec![format!("  {name}"), text(value), origin(name, "system"), origin(name, "external_id")]
    };
    attributes.map(line).collect()
}

/// A value as people write it.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
