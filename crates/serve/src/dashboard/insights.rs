//! `GET /insights`: the whole base in aggregate, as charts and as tables with a bar beside each number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::Dashboard;
use super::chart::{Chart, months};
use super::frame::{Frame, page};
use super::locale::{self, Locale, Moment};
use super::operations::unmatched_words;
use super::systems::{counted, label};
use super::visitor::Reader;
use crate::api::insights::{self, Cohort, System};

#[derive(Template)]
#[template(path = "insights.html")]
struct Page {
    frame: Frame,
    as_of: Moment,
    stats: Vec<Stat>,
    /// With the class of what holds them.
    groups: [(&'static str, Vec<Table>); 2],
    cohorts: Vec<CohortRow>,
}

/// A number on top, with what it is to be seen beside.
struct Stat {
    label: &'static str,
    value: String,
    remark: String,
}

/// A table whose bars have one scale; below a chart it has none.
struct Table {
    id: &'static str,
    title: &'static str,
    remark: &'static str,
    chart: Option<Chart>,
    /// What a row is about, and what is counted.
    heads: &'static [&'static str],
    rows: Vec<Row>,
}

/// So many rows stand there at once: months, and others.
const MONTHS: usize = 4;
const OTHERS: usize = 7;
/// Fewer than this many more are worth no click.
const MORE: usize = 3;

impl Table {
    /// The rows that stand there at once, and the others.
    fn folded(&self) -> (&[Row], &[Row]) {
        let few = if self.chart.is_some() { MONTHS } else { OTHERS };
        self.rows.split_at(if self.rows.len() < few + MORE { self.rows.len() } else { few })
    }
}

struct Row {
    label: String,
    /// The customers behind it.
    link: Option<String>,
    /// Of a system: when it last had something new.
    newest: Option<Moment>,
    /// How long its bar is, in hundredths.
    share: i64,
    values: Vec<String>,
}

struct CohortRow {
    label: String,
    customers: String,
    cells: Vec<Cell>,
}

/// How many of a cohort ordered in a month, and how dark that is, in tenths; the month of the first order, in which all did, is
/// as light as nothing.
struct Cell {
    value: String,
    shade: i64,
}

/// `GET /insights`
pub(super) async fn show(State(dashboard): State<Arc<Dashboard>>, reader: Reader) -> Response {
    let frame = Frame::of(&dashboard, &reader);
    match insights::count(&dashboard.api, &reader.caller).await {
        Ok(insights) => page(StatusCode::OK, &drawn(&dashboard, frame, &reader.visitor.locale, &insights)),
        Err(problem) => frame.failure(&problem),
    }
}

fn drawn(dashboard: &Dashboard, frame: Frame, locale: &Locale, insights: &insights::Insights) -> Page {
    Page {
        frame,
        as_of: locale.clock(insights.as_of),
        stats: stats(locale, insights),
        groups: [("pair charts", charts(locale, insights)), ("beside", tables(dashboard, locale, insights))],
        cohorts: cohorts(locale, &insights.cohorts),
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
            month
                .map(|month| format!("{} new in {}", locale.count(month.customers), locale::month(&month.month)))
                .unwrap_or_default(),
        ),
        stat(
            "Known to several systems",
            locale.count(several),
            percent(locale, several, customers.total, "of customers"),
        ),
        stat("Orders", locale.count(orders.total), counted(locale, orders.buyers, "buyer", "buyers")),
        stat("Order value", locale.money(&orders.value), "as the sources write it".to_owned()),
        stat(
            "Bought again",
            locale.count(orders.repeat_buyers),
            percent(locale, orders.repeat_buyers, orders.buyers, "of buyers"),
        ),
    ]
}

/// By month, newest first; those of the chart in which there was nothing, too.
fn charts(locale: &Locale, insights: &insights::Insights) -> Vec<Table> {
    let (new, orders) = (&insights.customers.new_by_month, &insights.orders.by_month);
    let counts: Vec<String> = new.iter().map(|by| by.customers.to_string()).collect();
    let counts: HashMap<&str, &str> =
        new.iter().zip(&counts).map(|(by, count)| (by.month.as_str(), count.as_str())).collect();
    let values: HashMap<&str, &str> = orders.iter().map(|by| (by.month.as_str(), by.value.as_str())).collect();
    let (new_chart, orders_chart) = (
        Chart::of(locale, insights.as_of, &counts, |count| locale.number(count)),
        Chart::of(locale, insights.as_of, &values, |value| locale.money(value)),
    );
    let charted = months(insights.as_of);
    let rows = |chart: &Option<Chart>, nothing: Vec<String>, known: Vec<(&str, Vec<String>)>| {
        let charted = charted.iter().filter(|_| chart.is_some()).map(|month| (month.as_str(), nothing.clone()));
        let by_month: BTreeMap<&str, Vec<String>> = charted.chain(known).collect();
        let row = |(month, values)| Row { label: locale::month(month), link: None, newest: None, share: 0, values };
        by_month.into_iter().rev().map(row).collect()
    };
    let new = new.iter().map(|by| (by.month.as_str(), vec![locale.count(by.customers)])).collect();
    let orders =
        orders.iter().map(|by| (by.month.as_str(), vec![locale.count(by.orders), locale.money(&by.value)])).collect();
    vec![
        Table {
            id: "new",
            title: "New customers",
            remark: "By month. Grey: not over yet",
            heads: &["Month", "Customers"],
            rows: rows(&new_chart, vec![locale.count(0)], new),
            chart: new_chart,
        },
        Table {
            id: "orders",
            title: "Order value",
            remark: "By month. Grey: not over yet",
            heads: &["Month", "Orders", "Order value"],
            rows: rows(&orders_chart, vec![locale.count(0), locale.money("0")], orders),
            chart: orders_chart,
        },
    ]
}

/// What customers cannot be filtered by leads nowhere.
fn tables(dashboard: &Dashboard, locale: &Locale, insights: &insights::Insights) -> Vec<Table> {
    let attributes = &dashboard.api.settings.attributes;
    let customers = &insights.customers;
    let systems =
        customers.by_systems.iter().map(|by| (counted(locale, by.systems, "system", "systems"), None, by.customers));
    let states = customers.by_state.iter().map(|by| {
        let value = by.value.as_ref().filter(|_| attributes.contains("state"));
        let link = value.map(|value| customers_with("state", &[value]));
        (by.value.clone().unwrap_or_else(|| "None".to_owned()), link, by.customers)
    });
    let points = customers.by_loyalty.iter().map(|by| {
        let range = format!("{} to {}", locale.count(by.from), locale.count(by.below - 1));
        (if by.below - by.from == 1 { locale.count(by.from) } else { range }, None, by.customers)
    });
    let sources = insights.systems.iter().map(|System { system, customers, .. }| {
        let is_filter = dashboard.systems.filters().any(|filter| filter == system);
        (system.clone(), is_filter.then(|| customers_with("system", &[system])), *customers)
    });
    let mut sources = rows(locale, sources);
    for (row, System { newest_observed_at, .. }) in sources.iter_mut().zip(&insights.systems) {
        row.newest = newest_observed_at.map(|at| locale.ago(at));
    }
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
    let unmatched = insights.quality.unmatched.iter().map(|by| {
        let words = unmatched_words(&by.reason).unwrap_or(&by.reason);
        (words.to_owned(), None, by.xrefs)
    });
    let table = |id, title, remark, heads, rows| Table { id, title, remark, chart: None, heads, rows };
    vec![
        table(
            "known",
            "Known to",
            "How many systems know a customer",
            &["Systems", "Customers"],
            rows(locale, systems),
        ),
        table("sources", "Systems", "Whom they know, and how new it is", &["System", "Customers"], sources),
        table("states", "States", "The largest sixty", &["State", "Customers"], rows(locale, states)),
        table(
            "points",
            "Loyalty points",
            "In steps of ten times as many",
            &["Points", "Customers"],
            rows(locale, points),
        ),
        table(
            "missing",
            "Missing values",
            "Customers without a value",
            &["Attribute", "Customers"],
            rows(locale, missing),
        ),
        table(
            "disagreements",
            "Systems disagree",
            "Customers they differ about",
            &["Attribute", "Customers"],
            rows(locale, any.into_iter().chain(disagreements)),
        ),
        table(
            "unmatched",
            "Unmatched",
            "Cross-references without a customer",
            &["Reason", "Cross-references"],
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
        newest: None,
        share: share(count, most),
        values: vec![locale.count(count)],
    };
    counts.into_iter().map(row).collect()
}

/// How many ordered in each month since; the darker, the nearer to the highest share of all.
fn cohorts(locale: &Locale, cohorts: &[Cohort]) -> Vec<CohortRow> {
    let later = |cohort: &Cohort| cohort.ordered.iter().skip(1).map(|ordered| share(*ordered, cohort.customers)).max();
    let most = cohorts.iter().filter_map(later).max().unwrap_or_default();
    let cell = |(later, share)| Cell {
        value: locale.percent(share),
        shade: if later == 0 { 0 } else { (share * 10 + most - 1) / most.max(1) },
    };
    let row = |cohort: &Cohort| CohortRow {
        label: locale::month(&cohort.month),
        customers: locale.count(cohort.customers),
        cells: cohort.ordered.iter().map(|ordered| share(*ordered, cohort.customers)).enumerate().map(cell).collect(),
    };
    cohorts.iter().map(row).collect()
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

fn percent(locale: &Locale, part: i64, whole: i64, of: &str) -> String {
    if whole == 0 { String::new() } else { format!("{} {of}", locale.percent(share(part, whole))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_and_nothing_of_nothing_is_nothing() {
        let shares = [(0, 3), (1, 3), (2, 3), (3, 3), (1, 200), (1, 0)].map(|(part, whole)| share(part, whole));
        assert_eq!(shares, [0, 33, 67, 100, 1, 0]);
        let locale = Locale::new("en", "", chrono::Utc::now());
        let percents = [(1, 4), (0, 0)].map(|(part, whole)| percent(&locale, part, whole, "of buyers"));
        assert_eq!(percents, ["25% of buyers", ""]);
    }
}
