//! `GET /insights`: the whole base in aggregate, as tables with a bar beside each number.

use std::collections::BTreeSet;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::Dashboard;
use super::frame::{Frame, page};
use super::locale::{Locale, Moment};
use super::systems::{counted, label};
use super::visitor::Reader;
use crate::api::insights::{self, Cohort};

#[derive(Template)]
#[template(path = "insights.html")]
struct Page {
    frame: Frame,
    as_of: Moment,
    stats: Vec<Stat>,
    tables: Vec<Table>,
    cohorts: Vec<Row>,
}

/// A number on top, with what it is to be seen beside.
struct Stat {
    label: &'static str,
    value: String,
    remark: String,
}

/// A table whose bars have one scale.
struct Table {
    id: &'static str,
    title: &'static str,
    remark: &'static str,
    /// What a row is about, and what is counted.
    heads: [&'static str; 2],
    rows: Vec<Row>,
}

struct Row {
    label: String,
    /// The customers behind it.
    link: Option<String>,
    cells: Vec<Cell>,
}

/// A number, and how long its bar is, in hundredths.
struct Cell {
    value: String,
    share: i64,
}

/// `GET /insights`
pub(super) async fn show(State(dashboard): State<Arc<Dashboard>>, reader: Reader) -> Response {
    let frame = Frame::of(&dashboard, &reader);
    match insights::count(&dashboard.api, &reader.caller).await {
        Ok(insights) => {
            let attributes = &dashboard.api.settings.attributes;
            page(StatusCode::OK, &drawn(frame, &reader.visitor.locale, &insights, attributes))
        }
        Err(problem) => frame.failure(&problem),
    }
}

fn drawn(frame: Frame, locale: &Locale, insights: &insights::Insights, attributes: &BTreeSet<String>) -> Page {
    Page {
        frame,
        as_of: locale.ago(insights.as_of),
        stats: stats(locale, insights),
        tables: tables(locale, insights, attributes),
        cohorts: insights.cohorts.iter().map(|cohort| cohort_row(locale, cohort)).collect(),
    }
}

fn stats(locale: &Locale, insights: &insights::Insights) -> Vec<Stat> {
    let (customers, orders) = (&insights.customers, &insights.orders);
    let month = customers.new_by_month.first();
    let several: i64 = customers.by_systems.iter().filter(|by| by.systems > 1).map(|by| by.customers).sum();
    let stat = |label, value, remark| Stat { label, value, remark };
    vec![
        stat(
            "Customers",
            locale.count(customers.total),
            month.map(|month| format!("{} new in {}", locale.count(month.customers), month.month)).unwrap_or_default(),
        ),
        stat("Known to several systems", locale.count(several), percent(several, customers.total, "of customers")),
        stat("Orders", locale.count(orders.total), counted(locale, orders.buyers, "buyer", "buyers")),
        stat("Order value", locale.money(&orders.value), "as the sources write it".to_owned()),
        stat(
            "Bought again",
            locale.count(orders.repeat_buyers),
            percent(orders.repeat_buyers, orders.buyers, "of buyers"),
        ),
    ]
}

/// Attributes are those that can be filtered by.
fn tables(locale: &Locale, insights: &insights::Insights, attributes: &BTreeSet<String>) -> Vec<Table> {
    let (customers, orders) = (&insights.customers, &insights.orders);
    let systems =
        customers.by_systems.iter().map(|by| (counted(locale, by.systems, "system", "systems"), None, by.customers));
    let states = customers.by_state.iter().map(|by| {
        let link = by.value.as_ref().map(|value| customers_with("state", &[value]));
        (by.value.clone().unwrap_or_else(|| "None".to_owned()), link, by.customers)
    });
    let new = customers.new_by_month.iter().map(|by| (by.month.clone(), None, by.customers));
    let points = customers.by_loyalty.iter().map(|by| {
        let range = format!("{} to {}", locale.count(by.from), locale.count(by.below - 1));
        (if by.below - by.from == 1 { locale.count(by.from) } else { range }, None, by.customers)
    });
    let ordered =
        orders.by_month.iter().map(|by| (format!("{}, {}", by.month, locale.money(&by.value)), None, by.orders));
    let sources = insights
        .systems
        .iter()
        .map(|system| (system.system.clone(), Some(customers_with("system", &[&system.system])), system.customers));
    let missing = insights.quality.missing.iter().map(|by| (label(&by.attribute), None, by.customers));
    let disagreements = insights.quality.disagreements.iter().map(|by| {
        let link = attributes.contains(&by.attribute).then(|| customers_with("disagreeing", &[&by.attribute]));
        (label(&by.attribute), link, by.customers)
    });
    let any = Some(insights.quality.disagreeing).filter(|any| *any > 0).map(|any| {
        let names: Vec<&str> = insights.quality.disagreements.iter().map(|by| by.attribute.as_str()).collect();
        let link = names.iter().all(|name| attributes.contains(*name)).then(|| customers_with("disagreeing", &names));
        ("Any of them".to_owned(), link, any)
    });
    let unmatched = insights.quality.unmatched.iter().map(|by| (by.reason.clone(), None, by.xrefs));
    let table = |id, title, remark, heads, rows| Table { id, title, remark, heads, rows };
    vec![
        table("new", "New customers", "By month, newest first", ["Month", "Customers"], rows(locale, new)),
        table(
            "orders",
            "Orders",
            "By month with their value, newest first",
            ["Month", "Orders"],
            rows(locale, ordered),
        ),
        table("known", "Known to", "How many systems know a customer", ["Systems", "Customers"], rows(locale, systems)),
        table("sources", "Systems", "Customers whom they know", ["System", "Customers"], rows(locale, sources)),
        table("states", "States", "The largest sixty", ["State", "Customers"], rows(locale, states)),
        table(
            "points",
            "Loyalty points",
            "In steps of ten times as many",
            ["Points", "Customers"],
            rows(locale, points),
        ),
        table(
            "missing",
            "Missing values",
            "Customers without a value",
            ["Attribute", "Customers"],
            rows(locale, missing),
        ),
        table(
            "disagreements",
            "Systems disagree",
            "Customers they differ about",
            ["Attribute", "Customers"],
            rows(locale, any.into_iter().chain(disagreements)),
        ),
        table(
            "unmatched",
            "Unmatched",
            "Cross-references without a customer",
            ["Reason", "Cross-references"],
            rows(locale, unmatched),
        ),
    ]
}

fn rows(locale: &Locale, counts: impl Iterator<Item = (String, Option<String>, i64)>) -> Vec<Row> {
    let counts: Vec<_> = counts.collect();
    let most = counts.iter().map(|(_, _, count)| *count).max().unwrap_or_default();
    let row = |(label, link, count)| Row {
        label,
        link,
        cells: vec![Cell { value: locale.count(count), share: share(count, most) }],
    };
    counts.into_iter().map(row).collect()
}

/// How many of a cohort ordered in each month since.
fn cohort_row(locale: &Locale, cohort: &Cohort) -> Row {
    let cell = |ordered: &i64| {
        let share = share(*ordered, cohort.customers);
        Cell { value: format!("{share} %"), share }
    };
    let customers = counted(locale, cohort.customers, "customer", "customers");
    Row {
        label: format!("{}, {customers}", cohort.month),
        link: None,
        cells: cohort.ordered.iter().map(cell).collect(),
    }
}

/// Customers with any of these values.
fn customers_with(name: &str, values: &[impl AsRef<str>]) -> String {
    let pairs = values.iter().map(|value| (name, value));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("/customers?{query}")
}

/// In hundredths, rounded.
fn share(part: i64, whole: i64) -> i64 {
    if whole == 0 { 0 } else { (part * 200 + whole) / (whole * 2) }
}

fn percent(part: i64, whole: i64, of: &str) -> String {
    if whole == 0 { String::new() } else { format!("{} % {of}", share(part, whole)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_and_nothing_of_nothing_is_nothing() {
        let shares = [(0, 3), (1, 3), (2, 3), (3, 3), (1, 200), (1, 0)].map(|(part, whole)| share(part, whole));
        assert_eq!(shares, [0, 33, 67, 100, 1, 0]);
        assert_eq!(
            (percent(1, 4, "of buyers"), percent(0, 0, "of buyers")),
            ("25 % of buyers".to_owned(), String::new())
        );
    }
}
