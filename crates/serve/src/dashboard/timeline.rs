//! A timeline as days of what happened.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;
use sqlx::types::{BigDecimal, Uuid};

use super::locale::{Locale, Moment};
use super::markdown;
use super::operator::{Merge, Merges};
use super::systems::{Badge, Systems, label};
use crate::api::timeline::Happened;

/// What happened on one day.
pub(super) struct Day {
    pub(super) title: String,
    pub(super) items: Vec<Item>,
}

/// Something that happened.
pub(super) struct Item {
    pub(super) at: Option<Moment>,
    /// Which picture stands before it.
    pub(super) icon: &'static str,
    pub(super) title: String,
    /// Where the title leads.
    pub(super) link: Option<String>,
    /// Stands muted below the title.
    pub(super) detail: String,
    /// Drawn Markdown.
    pub(super) html: String,
    /// Attributes that changed.
    pub(super) changes: Vec<Changed>,
    pub(super) badge: Option<Badge>,
    /// The page that takes it back.
    pub(super) undo: Option<String>,
    /// An entry: where it is, and its version.
    pub(super) entry: Option<(String, i64)>,
}

/// An attribute with what was there before, and what is there now.
pub(super) struct Changed {
    pub(super) label: String,
    pub(super) old: String,
    pub(super) new: String,
}

/// An order with its lines.
pub(super) struct Order {
    pub(super) id: String,
    pub(super) badge: Badge,
    pub(super) at: Option<Moment>,
    /// When it was made, as the source wrote it.
    pub(super) at_text: String,
    pub(super) total: String,
    pub(super) status: String,
    pub(super) lines: Vec<Line>,
}

/// A line of an order.
pub(super) struct Line {
    pub(super) quantity: String,
    pub(super) product: String,
    pub(super) unit_price: String,
    pub(super) total: String,
}

/// What products are called, by system and id.
pub(super) type Products = HashMap<(String, String), String>;

/// What a timeline is drawn with.
pub(super) struct Drawing<'a> {
    pub(super) customer_id: Uuid,
    pub(super) products: &'a Products,
    /// Those that the reader may undo.
    pub(super) merges: &'a Merges,
    pub(super) systems: &'a Systems,
    pub(super) locale: &'a Locale,
}

/// A member that is text, or a number.
fn member(content: &Value, name: &str) -> String {
    content.get(name).map_or_else(String::new, shown)
}

pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The products of all orders among these.
pub(super) fn products_of<'h>(happened: impl Iterator<Item = &'h Happened>) -> BTreeSet<(String, String)> {
    let orders = happened.filter(|happened| happened.kind == "order");
    orders
        .flat_map(|order| {
            let lines = order.content.get("lines").and_then(Value::as_array).into_iter().flatten();
            lines.map(|line| (member(&order.content, "system"), member(line, "product_id")))
        })
        .collect()
}

impl Drawing<'_> {
    /// What happened, by day; what has no time stands last.
    pub(super) fn days(&self, happened: &[Happened]) -> Vec<Day> {
        let mut days: Vec<Day> = Vec::new();
        for together in happened.chunk_by(are_one_change) {
            let at = together.first().and_then(|first| first.at);
            let title = at.map_or_else(|| "Without a time".to_owned(), |at| self.locale.day_title(at));
            let Some(item) = self.one_item(together) else { continue };
            match days.last_mut().filter(|day| day.title == title) {
                Some(day) => day.items.push(item),
                None => days.push(Day { title, items: vec![item] }),
            }
        }
        days
    }

    /// One item of what belongs together.
    fn one_item(&self, together: &[Happened]) -> Option<Item> {
        let mut items = together.iter().rev().map(|happened| self.item(happened));
        let mut item = items.next()?;
        item.changes.extend(items.flat_map(|item| item.changes));
        if item.changes.len() > 1 {
            item.title = format!("{} attributes changed", item.changes.len());
        }
        Some(item)
    }

    pub(super) fn item(&self, happened: &Happened) -> Item {
        let content = &happened.content;
        let said = |name| member(content, name);
        let plain = Item {
            at: happened.at.map(|at| self.locale.clock(at)),
            icon: "note",
            title: String::new(),
            link: None,
            detail: String::new(),
            html: String::new(),
            changes: Vec::new(),
            badge: content.get("system").and_then(Value::as_str).map(|system| self.systems.badge(system)),
            undo: None,
            entry: None,
        };
        match happened.kind.as_str() {
            "order" => {
                let order = self.order(happened);
                let total = if order.total.is_empty() { String::new() } else { format!(" for {}", order.total) };
                let lines = order.lines.iter().map(|line| format!("{} × {}", line.quantity, isolated(&line.product)));
                let status = (!order.status.is_empty()).then_some(order.status.clone());
                let detail = status.into_iter().chain(lines).collect::<Vec<_>>().join(", ");
                Item { icon: "order", title: format!("Order {}{total}", order.id), detail, ..plain }
            }
            "interaction" => {
                let kind = label(&said("type"));
                let subject = said("subject");
                let title = if subject.is_empty() { kind.clone() } else { subject };
                let title = if title.is_empty() { "Interaction".to_owned() } else { title };
                let thread = said("thread_id");
                let thread = if thread.is_empty() { thread } else { format!("Thread {thread}") };
                let parts = [kind, said("status"), thread];
                let detail = parts.into_iter().filter(|part| !part.is_empty() && *part != title).collect::<Vec<_>>();
                let icon = if said("type") == "call" { "call" } else { "mail" };
                Item { icon, detail: detail.join(", "), title, ..plain }
            }
            "change" => self.change(content, plain),
            kind => self.entry(kind, happened, plain),
        }
    }

    fn change(&self, content: &Value, plain: Item) -> Item {
        let said = |name| member(content, name);
        let cause = match said("cause").as_str() {
            "record" | "redirect" => String::new(),
            cause => format!("By {}", label(cause).to_lowercase()),
        };
        let plain = Item { icon: "change", detail: cause, ..plain };
        if let Some(from) = content.get("from_customer_id") {
            let from = shown(from);
            let merge = from.parse().ok().and_then(|from: Uuid| self.merges.get(&from));
            let plain = Item { icon: "merge", title: format!("Merged with customer {from}"), ..plain };
            let Some(Merge { from, by, undo }) = merge else { return plain };
            let (title, detail) = (format!("Merged with {from}"), format!("By {by}"));
            return Item { title, detail, undo: Some(undo.clone()), ..plain };
        }
        match content.get("attribute").and_then(Value::as_str) {
            Some(attribute) => {
                let (old, new) = (said("old"), said("new"));
                let did = match (old.as_str(), new.as_str()) {
                    ("", _) => "added",
                    (_, "") => "removed",
                    _ => "changed",
                };
                let label = label(attribute);
                Item { title: format!("{label} {did}"), changes: vec![Changed { label, old, new }], ..plain }
            }
            None if content.get("new").is_some_and(|new| !new.is_null()) => {
                Item { title: "Profile begins".to_owned(), ..plain }
            }
            None => Item { title: "Profile ends: no system knows the customer".to_owned(), ..plain },
        }
    }

    fn entry(&self, kind: &str, happened: &Happened, plain: Item) -> Item {
        let said = |name| member(&happened.content, name);
        let author = said("author");
        let version = happened.content.get("version").and_then(Value::as_i64).unwrap_or_default();
        let path = format!("/customers/{}/{}/{}", self.customer_id, segment(kind), happened.id);
        // The badge is that of whoever sends records; a member of an object may be called so, too.
        let plain = Item { entry: Some((path, version)), badge: None, ..plain };
        match kind {
            "note" => Item { title: format!("Note by {author}"), html: markdown::drawn(&said("text")), ..plain },
            "contact" => {
                let detail = [said("label"), format!("Added by {author}")];
                let detail = detail.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(". ");
                Item { icon: "call", title: said("value"), detail, ..plain }
            }
            "link" => {
                let (title, url) = (said("title"), said("url"));
                let title = if title.is_empty() { url.clone() } else { title };
                Item { icon: "link", title, link: Some(url), detail: format!("Added by {author}"), ..plain }
            }
            _ => {
                let title = format!("{} by {author}", label(kind));
                Item { title, html: markdown::drawn(&said("text")), detail: rest(&happened.content), ..plain }
            }
        }
    }

    /// An order of the timeline.
    pub(super) fn order(&self, happened: &Happened) -> Order {
        let content = &happened.content;
        let said = |name| member(content, name);
        let system = said("system");
        let money = |amount: &str| if amount.is_empty() { String::new() } else { self.locale.money(amount) };
        let lines = content.get("lines").and_then(Value::as_array).into_iter().flatten().map(|line| {
            let (product_id, quantity, price) =
                (member(line, "product_id"), member(line, "quantity"), member(line, "unit_price"));
            let number = |text: &str| text.parse::<BigDecimal>().ok();
            let total = number(&quantity).zip(number(&price)).map(|(quantity, price)| (quantity * price).normalized());
            Line {
                product: self.products.get(&(system.clone(), product_id.clone())).cloned().unwrap_or(product_id),
                quantity: self.locale.number(quantity.trim_end_matches(".0")),
                unit_price: money(&price),
                total: total.map_or_else(String::new, |total| money(&total.to_plain_string())),
            }
        });
        let is_cancelled = content.get("cancelled").and_then(Value::as_bool).unwrap_or_default();
        Order {
            id: said("order_id"),
            badge: self.systems.badge(&system),
            at: happened.at.map(|at| self.locale.day(at)),
            at_text: said("purchased_at_text"),
            total: money(&said("total")),
            status: if is_cancelled { "Cancelled".to_owned() } else { said("status") },
            lines: lines.collect(),
        }
    }
}

/// Whether two are changes of attributes in the same moment, from the same system and for the same cause.
fn are_one_change(one: &Happened, other: &Happened) -> bool {
    let of_attribute = |happened: &Happened| happened.content.get("attribute").is_some_and(Value::is_string);
    let is_same = |name| one.content.get(name) == other.content.get(name);
    let are_changes = [one, other].iter().all(|happened| happened.kind == "change" && of_attribute(happened));
    are_changes && one.at == other.at && is_same("system") && is_same("cause")
}

/// Text within other text: should it be written from right to left, what is around it stays where it is.
fn isolated(text: &str) -> String {
    format!("\u{2068}{text}\u{2069}")
}

/// What an object holds besides its text.
fn rest(content: &Value) -> String {
    let ours = ["text", "author", "updated_at", "version"];
    let members = content.as_object().into_iter().flatten().filter(|(name, _)| !ours.contains(&name.as_str()));
    members.map(|(name, value)| format!("{}: {}", label(name), isolated(&shown(value)))).collect::<Vec<_>>().join(", ")
}

/// The part of a path that stands for a type of entries.
pub(super) fn segment(kind: &str) -> &str {
    match kind {
        "note" => "notes",
        "contact" => "contacts",
        "link" => "links",
        kind => kind,
    }
}
