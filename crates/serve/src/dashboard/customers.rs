//! `GET /customers`: search, filters, sorting, pages.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;
use unicode_normalization::UnicodeNormalization as _;

use super::Dashboard;
use super::export::MAX_CUSTOMERS;
use super::frame::{Frame, details, page};
use super::locale::{Locale, Moment};
use super::named::{Named, named};
use super::profile;
use super::systems::{Badge, Systems, counted, label};
use super::views::{self, Tab};
use super::visitor::Reader;
use crate::api::customers::{self, Listed, MAX_FOUND};
use crate::api::page::Page;
use crate::api::params::{MAX_LIMIT, Params};
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "customers.html")]
struct Customers {
    frame: Frame,
    /// Whether the reader may make a customer.
    may_make: bool,
    views: Vec<Tab>,
    /// What can be saved as a view; nothing where it is all customers, or a view already.
    savable: Option<String>,
    /// The view that is looked at.
    view: Option<String>,
    q: String,
    /// Whom it names by an id.
    named: Vec<Named>,
    systems: Vec<Choice>,
    /// Filters that are set elsewhere, and that a search keeps.
    hidden: Vec<(&'static str, String)>,
    attributes: Vec<Attribute>,
    sort: String,
    chips: Vec<Chip>,
    /// The same search without the filters that are on.
    wider: Option<String>,
    columns: Vec<Column>,
    has_place: bool,
    rows: Vec<Row>,
    summary: String,
    next: Option<String>,
    first: Option<String>,
    /// The file with these customers, of all pages, and how many it has at most.
    file: (String, String),
    error: Option<String>,
}

/// A system to filter by.
struct Choice {
    badge: Badge,
    is_chosen: bool,
}

/// An attribute to filter by, with the values that are asked for.
struct Attribute {
    name: String,
    label: String,
    values: Vec<String>,
}

/// A filter that is on, and the page without it.
struct Chip {
    label: String,
    value: String,
    without: String,
}

/// The head of a column, which sorts by it.
struct Column {
    label: &'static str,
    class: &'static str,
    sorted: Option<&'static str>,
    link: Option<String>,
}

struct Row {
    link: String,
    name: String,
    email: String,
    place: String,
    /// What matched, if the row does not show it otherwise.
    why: Option<String>,
    slots: Vec<Option<Badge>>,
    updated: Moment,
}

/// `GET /customers`
pub(super) async fn show(State(dashboard): State<Arc<Dashboard>>, reader: Reader) -> Response {
    let asked = Asked::of(&reader.visitor.here);
    let frame = Frame::of(&dashboard, &reader);
    let views = match views::tabs(&dashboard, &reader, &asked).await {
        Ok(views) => views,
        Err(problem) => return frame.failure(&problem),
    };
    let found = match asked.params() {
        Ok(params) => customers::page(&dashboard.api, &reader.caller, params).await,
        Err(problem) => Err(problem),
    };
    let named = match named(&dashboard, &reader, asked.one("q")).await {
        Ok(named) => named,
        Err(problem) => return frame.failure(&problem),
    };
    let may_make = reader.caller.writes_for_everybody();
    let around = (frame, views, named, may_make);
    let bad_request = |problem: &Problem| problem.status == StatusCode::BAD_REQUEST;
    match found {
        Ok(found) => page(StatusCode::OK, &drawn(&dashboard, &reader.visitor.locale, around, &asked, found, None)),
        Err(problem) if bad_request(&problem) => {
            let nobody = Page { items: Vec::new(), next_cursor: None, total: None, is_cut: false };
            let error = Some(details(&problem));
            let drawn = drawn(&dashboard, &reader.visitor.locale, around, &asked, nobody, error);
            page(StatusCode::BAD_REQUEST, &drawn)
        }
        Err(problem) => around.0.failure(&problem),
    }
}

fn drawn(
    dashboard: &Dashboard,
    locale: &Locale,
    (frame, views, named, may_make): (Frame, Vec<Tab>, Vec<Named>, bool),
    asked: &Asked,
    found: Page<Listed>,
    error: Option<String>,
) -> Customers {
    let settings = &dashboard.api.settings;
    let systems = dashboard.systems.filters();
    let attributes = profile::of_form(&settings.attributes, &settings.rules.survivorship).concat();
    let attributes = attributes.into_iter().map(|name| Attribute {
        label: label(&name),
        values: asked.all(&name).map(str::to_owned).collect(),
        name,
    });
    let next =
        found.next_cursor.as_ref().map(|cursor| asked.link(|name, _| name != "cursor", Some(("cursor", cursor))));
    let view = views.iter().find(|view| view.is_current).map(|view| view.name.clone());
    let kept = asked.kept();
    let is_savable = frame.may_write() && view.is_none() && !kept.is_empty() && error.is_none();
    let query = || form_urlencoded::Serializer::new(String::new()).extend_pairs(&kept).finish();
    Customers {
        savable: is_savable.then(query),
        view: view.filter(|_| frame.may_write()),
        views,
        frame,
        may_make,
        q: asked.one("q").to_owned(),
        named,
        systems: systems
            .map(|name| Choice {
                badge: dashboard.systems.badge(name),
                is_chosen: asked.all("system").any(|asked| asked == name),
            })
            .collect(),
        hidden: ["list", "disagreeing"]
            .into_iter()
            .flat_map(|name| asked.all(name).map(move |value| (name, value.to_owned())))
            .collect(),
        attributes: attributes.collect(),
        sort: asked.one("sort").to_owned(),
        wider: asked.wider(),
        chips: asked.chips(),
        columns: asked.columns(settings.attributes.contains("city")),
        has_place: settings.attributes.contains("city"),
        summary: summary(locale, asked, &found),
        rows: found.items.into_iter().map(|listed| row(&dashboard.systems, locale, listed, asked.one("q"))).collect(),
        next,
        file: (format!("/customers.csv?{}", query()), locale.count(MAX_CUSTOMERS.into())),
        first: (!asked.one("cursor").is_empty()).then(|| asked.link(|name, _| name != "cursor", None)),
        error,
    }
}

fn row(systems: &Systems, locale: &Locale, listed: Listed, q: &str) -> Row {
    let text = |name: &str| listed.profile.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = profile::name(&listed.profile, listed.email.as_deref(), listed.customer_id);
    let place = ["city", "state"].into_iter().filter_map(text).collect::<Vec<_>>().join(", ");
    let shown = [name.as_str(), listed.email.as_deref().unwrap_or_default(), &place].map(folded);
    Row {
        link: format!("/customers/{}", listed.customer_id),
        why: why(&listed.profile, &shown, q),
        name,
        place,
        slots: systems.slots(&listed.systems),
        updated: locale.ago(listed.updated_at),
        email: listed.email.unwrap_or_default(),
    }
}

/// The first value that holds a word of the search which nothing else in the row does.
fn why(profile: &Value, shown: &[String], q: &str) -> Option<String> {
    let words = q.split_whitespace().map(folded).filter(|word| !shown.iter().any(|shown| shown.contains(word)));
    let words: Vec<String> = words.collect();
    let texts = profile.as_object()?.values().filter_map(Value::as_str);
    texts.into_iter().find(|text| words.iter().any(|word| folded(text).contains(word))).map(str::to_owned)
}

/// Letters and digits without case and accents, about as the search compares them.
fn folded(text: &str) -> String {
    text.nfd().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// What is on the page, in words.
fn summary(locale: &Locale, asked: &Asked, found: &Page<Listed>) -> String {
    let shown = i64::try_from(found.items.len()).unwrap_or(i64::MAX);
    let order = if asked.one("sort").is_empty() { ", best match first" } else { "" };
    match found.total {
        Some(total) if found.is_cut => {
            let customers = counted(locale, total, "customer", "customers");
            let most = locale.count(MAX_FOUND.into());
            format!(
                "{customers}{order}, of the first {most} that the search met. A longer search, or another filter, meets fewer."
            )
        }
        Some(total) => {
            let customers = counted(locale, total, "customer", "customers");
            format!("{customers}{order}. Where nothing matches exactly, close spellings are shown.")
        }
        None if found.next_cursor.is_some() => format!("{} shown, more follow.", locale.count(shown)),
        None => format!("{}.", counted(locale, shown, "customer", "customers")),
    }
}

/// What the query asks for: forms also send what nobody filled in.
pub(super) struct Asked(Vec<(String, String)>);

impl Asked {
    pub(super) fn of(here: &str) -> Self {
        let query = here.split_once('?').map_or("", |(_, query)| query);
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        Self(pairs.filter(|(_, value)| !value.trim().is_empty()).collect())
    }

    /// What the API is asked; whoever searches wants to know how many there are, and nobody else waits for a count.
    fn params(&self) -> Result<Params, Problem> {
        let count = (!self.one("q").is_empty()).then_some(("count", "true"));
        Params::read("/customers", self.link(|name, _| name != "count", count).trim_start_matches("/customers?"))
    }

    /// What the API is asked for a page of a file. By the time of their change customers would move over pages that are read
    /// while others come in, so a file is by the time at which they were made instead.
    pub(super) fn exported(&self, cursor: Option<&str>) -> Result<Params, Problem> {
        let is_by_change = match self.one("sort") {
            "" => self.one("q").is_empty(),
            sort => sort.trim_start_matches('-') == "updated_at",
        };
        let kept = self.kept().into_iter().filter(|(name, _)| !is_by_change || name != "sort");
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(kept)
            .extend_pairs(is_by_change.then_some(("sort", "-created_at")))
            .append_pair("limit", &MAX_LIMIT.to_string())
            .extend_pairs(cursor.map(|cursor| ("cursor", cursor)))
            .finish();
        Params::read("/customers", &query)
    }

    /// What a view keeps: not which page of it is looked at.
    pub(super) fn kept(&self) -> Vec<(String, String)> {
        let is_kept = |name: &str| !["cursor", "count", "limit"].contains(&name);
        self.0.iter().filter(|(name, _)| is_kept(name)).cloned().collect()
    }

    /// Whether a view asks for the same, in whatever order.
    pub(super) fn is_same(&self, view: &[(String, String)]) -> bool {
        let sorted = |mut query: Vec<(String, String)>| {
            query.sort();
            query
        };
        sorted(self.kept()) == sorted(view.to_vec())
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(named, _)| named == name).map(|(_, value)| value.as_str())
    }

    fn one(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// The page that asks for what is kept of this, and more.
    fn link(&self, keep: impl Fn(&str, &str) -> bool, more: Option<(&str, &str)>) -> String {
        let kept = self
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, value)| keep(name, value));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.chain(more)).finish();
        format!("/customers?{query}")
    }

    fn filters(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter().filter(|(name, _)| !["q", "sort", "limit", "cursor", "count"].contains(&name.as_str()))
    }

    /// A search without its filters, if it has some.
    fn wider(&self) -> Option<String> {
        let has_filters = self.filters().next().is_some() && !self.one("q").is_empty();
        has_filters.then(|| self.link(|name, _| name == "q" || name == "sort", None))
    }

    fn chips(&self) -> Vec<Chip> {
        self.filters()
            .map(|(name, value)| {
                let (label, shown) = match name.as_str() {
                    "disagreeing" => ("Systems disagree".to_owned(), label(value)),
                    _ => (label(name), value.clone()),
                };
                let without = self.link(|other, said| other != "cursor" && (other, said) != (name, value), None);
                Chip { label, value: shown, without }
            })
            .collect()
    }

    fn columns(&self, has_place: bool) -> Vec<Column> {
        let sort = self.one("sort");
        // Names from A, times from the newest; the same again turns it around.
        let sortable = |label, class, by: &str, first: &'static str| {
            let is_descending = sort == format!("-{by}");
            let sorted =
                (sort.trim_start_matches('-') == by).then_some(if is_descending { "descending" } else { "ascending" });
            let to = match sorted {
                Some("ascending") => format!("-{by}"),
                Some(_) => by.to_owned(),
                None => format!("{first}{by}"),
            };
            let link = self.link(|name, _| name != "sort" && name != "cursor", Some(("sort", &to)));
            Column { label, class, sorted, link: Some(link) }
        };
        let plain = |label, class| Column { label, class, sorted: None, link: None };
        let place = has_place.then(|| plain("City", "wide"));
        let columns = [sortable("Name", "", "name", ""), sortable("Email", "wide email", "email", "")];
        columns
            .into_iter()
            .chain(place)
            .chain([plain("Systems", "systems"), sortable("Changed", "wide number", "updated_at", "-")])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_matched_is_named_where_a_row_does_not_show_it() {
        let profile = json!({"name": "Zoë Hill", "points": 4, "phone": "603.555-0142", "street": "12 Allée Verte"});
        for (q, said) in [
            ("zoe", None),
            ("hill allee", Some("12 Allée Verte")),
            ("5550142", Some("603.555-0142")),
            ("hil verte 555", Some("603.555-0142")),
            ("keene", None),
            ("4", Some("603.555-0142")),
            ("- ,", None),
            ("", None),
        ] {
            assert_eq!(why(&profile, &["Zoë Hill"].map(folded), q).as_deref(), said, "{q}");
        }
    }

    #[test]
    fn a_file_is_in_no_order_that_changes_while_it_is_read() {
        for (query, sort) in [
            ("", Some("-created_at")),
            ("?state=NH&sort=-updated_at&cursor=x&limit=5&count=true", Some("-created_at")),
            ("?q=ann&sort=updated_at", Some("-created_at")),
            ("?q=ann", None),
            ("?sort=name", Some("name")),
        ] {
            let mut params = Asked::of(&format!("/customers.csv{query}")).exported(None).unwrap();
            assert_eq!(params.one("sort").unwrap().as_deref(), sort, "{query}");
            assert_eq!((params.limit().unwrap(), params.one("cursor").unwrap()), (MAX_LIMIT, None), "{query}");
            assert!(!params.flag("count").unwrap());
        }
    }
}
