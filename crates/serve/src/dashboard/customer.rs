//! `GET /customers/{customer}`: the whole customer on one page.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;
use sqlx::types::Uuid;

use super::counts::{Counts, Stat};
use super::entries::{Field, fields, is_kind};
use super::filters::{Filter, Shown};
use super::frame::{Frame, page};
use super::locale::{Locale, Moment};
use super::older::{older_link, older_orders_link};
use super::operations::Freshness;
use super::operator::{self, Operator};
use super::profile::{self, Row, external_id};
use super::session::once;
use super::systems::{Badge, label, unsent};
use super::timeline::{Day, Drawing, Item, Order, Products, products_of, segment};
use super::visitor::Reader;
use super::{Dashboard, decide, lists, refresh};
use crate::api::customer::{self, Customer, Refusal};
use crate::api::params::Params;
use crate::api::recommendations::{self, Recommendation};
use crate::api::timeline::{self, Happened};
use crate::problem::Problem;

/// The newest orders that are shown beside the timeline, and the newest contacts and links.
const ORDERS: u32 = 10;
const CONTACTS_AND_LINKS: u32 = 100;
const RECOMMENDATIONS: u32 = 5;

#[derive(Template)]
#[template(path = "customer.html")]
struct Whole {
    frame: Frame,
    customer_id: Uuid,
    name: String,
    email: String,
    is_gone: bool,
    flash: Option<Flash>,
    stats: Vec<Stat>,
    rows: Vec<Row>,
    disagree: usize,
    xrefs: Vec<System>,
    /// Whether there are sources that can be asked.
    asks: bool,
    lists: Vec<String>,
    keeps_lists: bool,
    /// Those that the customer can be put on.
    other_lists: Vec<String>,
    /// Contacts and links.
    beside: [Beside; 2],
    orders: Vec<Order>,
    order_count: String,
    more_orders: Option<String>,
    kinds: Vec<Kind>,
    write: Option<Write>,
    shown: Shown,
    filters: Vec<Filter>,
    days: Vec<Day>,
    older: Option<String>,
    recommended: Vec<Recommended>,
    operator: Option<Operator>,
}

/// Entries that stand beside the timeline, too.
struct Beside {
    id: &'static str,
    title: &'static str,
    /// How many there are.
    count: String,
    items: Vec<Item>,
    /// Where all of them are, if there are more than these.
    all: Option<String>,
}

/// What was done, and how it is undone.
struct Flash {
    text: String,
    undo: Option<Undo>,
}

/// How something is undone: an entry at once, a decision on a page of its own.
enum Undo {
    Entry(String, i64),
    Decision(String),
}

/// A product that the customer may like.
struct Recommended {
    product: String,
    /// How many times more often than by chance.
    lift: String,
    because: String,
}

/// A cross-reference.
struct System {
    badge: Badge,
    external_id: String,
    /// If it is another one than the customer's.
    email: Option<String>,
    changed: Moment,
    seen: Moment,
    /// As far as it is known at the moment.
    freshness: Option<Freshness>,
    /// What its source has yet to take of edits, or does not.
    unsent: Vec<String>,
}

/// Something to write, and the page with its form.
struct Kind {
    label: String,
    link: String,
    is_current: bool,
}

/// A form for something new.
struct Write {
    label: String,
    action: String,
    fields: Vec<Field>,
    /// Whether whoever came wants to write.
    is_focused: bool,
    once: String,
}

/// `GET /customers/{customer}`
pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    reader: Reader,
    Path(named): Path<String>,
    params: Params,
) -> Response {
    match whole(&dashboard, &reader, &named, params).await {
        Ok(whole) => page(StatusCode::OK, &whole),
        Err(refusal) => {
            let rest = reader.visitor.here.find('?').map_or("", |query| &reader.visitor.here[query..]);
            Frame::of(&dashboard, &reader).refusal(&refusal, rest)
        }
    }
}

async fn whole(dashboard: &Dashboard, reader: &Reader, named: &str, mut params: Params) -> Result<Whole, Refusal> {
    let (api, caller, locale) = (&dashboard.api, &reader.caller, &reader.visitor.locale);
    let object_types = &api.settings.object_types;
    let shown = Shown::take(&mut params, object_types)?;
    let mut flash = flash(dashboard, named, &mut params)?;
    let asked_to_write = params.one("write")?.filter(|kind| is_kind(object_types, kind));
    let is_focused = asked_to_write.is_some();
    let writing = asked_to_write.unwrap_or_else(|| "note".to_owned());
    params.finish(&["type", "q", "write", "did", "kind", "entry", "version", "decision", "waits", "silent"])?;

    let mut customer = customer::read(api, caller, named, &shown.types).await?;
    let customer_id = customer.customer_id;
    let part = async |query: &str| {
        timeline::page(api, caller, &customer_id.to_string(), of_timeline(customer_id, query)?).await
    };
    if !shown.q.is_empty() {
        (_, customer.timeline) = part(&shown.query(None)).await?;
    }
    let (_, orders) = part(&format!("type=order&limit={ORDERS}")).await?;
    let (_, beside) = part(&format!("type=contact&type=link&limit={CONTACTS_AND_LINKS}")).await?;
    let counts = Counts::read(dashboard, reader, customer_id).await?;
    let happened = customer.timeline.items.iter().chain(&orders.items);
    let products = products(dashboard, reader, happened).await?;
    let keepable = lists::keepable(dashboard, reader).await?;
    let (_, recommended) = recommendations::of(api, caller, named, RECOMMENDATIONS, false).await?;
    let known = operator::known(dashboard, reader, customer_id).await?;
    let merges = operator::merges(dashboard, customer_id, known.as_ref()).await?;
    // Who was merged is told by what stands, and by no address.
    if let Some(Flash { text, undo: Some(Undo::Decision(undo)) }) = &mut flash
        && let Some(merge) = merges.values().find(|merge| merge.undo == *undo)
    {
        *text = text.replacen("Merged", &format!("Merged {}", merge.from), 1);
    }

    let drawing = Drawing { customer_id, products: &products, merges: &merges, systems: &dashboard.systems, locale };
    let of_kind = |kind, id, title| {
        let items: Vec<Item> =
            beside.items.iter().filter(|item| item.kind == kind).map(|item| drawing.item(item)).collect();
        let is_all = usize::try_from(counts.of(kind)).is_ok_and(|count| count <= items.len());
        let all = format!("/customers/{customer_id}?{}#timeline", Shown::only(kind).query(None));
        Beside { id, title, count: locale.count(counts.of(kind)), items, all: (!is_all).then_some(all) }
    };
    let rows = profile::rows(&customer, &api.settings.rules.survivorship, &dashboard.systems, locale);
    let frame = Frame::of(dashboard, reader);
    let timeline_query = Some(shown.query(None)).filter(|query| !query.is_empty()).map(|query| format!("&{query}"));
    let timeline_query = timeline_query.unwrap_or_default();
    let kinds = ["note", "contact", "link"].into_iter().chain(object_types.iter().map(String::as_str));
    Ok(Whole {
        customer_id,
        name: profile::name(&customer.profile, customer.email.as_deref(), customer_id),
        is_gone: customer.deleted_at.is_some(),
        flash,
        stats: counts.stats(&customer, locale),
        disagree: rows.iter().filter(|row| !row.losing.is_empty()).count(),
        rows,
        xrefs: systems(dashboard, &customer, locale).await?,
        asks: !api.settings.rules.polled_sources.is_empty(),
        beside: [of_kind("contact", "contacts", "Contacts"), of_kind("link", "links", "Links")],
        orders: orders.items.iter().map(|order| drawing.order(order)).collect(),
        order_count: locale.count(counts.of("order")),
        more_orders: orders.next_cursor.map(|cursor| older_orders_link(customer_id, &cursor)),
        kinds: kinds
            .map(|kind| Kind {
                label: label(kind),
                link: format!("/customers/{customer_id}?write={kind}{timeline_query}#write"),
                is_current: kind == writing,
            })
            .collect(),
        write: frame.may_write().then(|| Write {
            label: label(&writing).to_lowercase(),
            action: format!("/customers/{customer_id}/{}", segment(&writing)),
            fields: fields(&writing, &Value::Null),
            is_focused,
            once: once(),
        }),
        filters: shown.filters(&counts, customer_id, object_types, locale),
        days: drawing.days(&customer.timeline.items),
        older: customer.timeline.next_cursor.as_ref().map(|cursor| older_link(customer_id, &shown, cursor)),
        shown,
        recommended: recommended.items.into_iter().map(|recommended| may_like(recommended, locale)).collect(),
        operator: known.map(|known| operator::section(&customer, &known, locale)),
        email: customer.email.unwrap_or_default(),
        keeps_lists: !keepable.is_empty(),
        other_lists: keepable.into_iter().filter(|list| !customer.lists.contains(list)).collect(),
        lists: customer.lists,
        frame,
    })
}

/// What the form that led here did.
fn flash(dashboard: &Dashboard, named: &str, params: &mut Params) -> Result<Option<Flash>, Problem> {
    let (did, kind) = (params.one("did")?, params.one("kind")?.unwrap_or_default());
    let (entry, version) = (params.one("entry")?, params.one("version")?);
    let (decision, waits) = (params.one("decision")?, params.one("waits")?.is_some());
    let later = if waits { " The profile follows as soon as somebody consolidates." } else { "" };
    let did = did.as_deref().unwrap_or_default();
    let plain = |text: &str| Some(Flash { text: format!("{text}{later}"), undo: None });
    match did {
        "listed" => return Ok(plain("Lists changed.")),
        "made" => return Ok(plain("Customer made.")),
        "edited" => return Ok(plain("Profile edited.")),
        "asked" => return Ok(plain(&refresh::told(dashboard, params)?)),
        "unasked" => return Ok(plain("No source is asked about this customer.")),
        _ => {}
    }
    if let Some((text, undo)) = decide::flash(named, did, decision.as_deref()) {
        return Ok(Some(Flash { text: format!("{text}{later}"), undo: undo.map(Undo::Decision) }));
    }
    let is_known = ["added", "changed", "deleted", "undone"].contains(&did);
    if !is_known || !is_kind(&dashboard.api.settings.object_types, &kind) {
        return Ok(None);
    }
    let text = if did == "undone" { "Last change undone.".to_owned() } else { format!("{} {did}.", label(&kind)) };
    let entry: Option<Uuid> = entry.and_then(|id| id.parse().ok());
    let version: Option<i64> = version.and_then(|version| version.parse().ok());
    let undo = entry.zip(version).filter(|_| did == "changed" || did == "deleted");
    let path = |entry| format!("/customers/{named}/{}/{entry}/undo", segment(&kind));
    Ok(Some(Flash { text, undo: undo.map(|(entry, version)| Undo::Entry(path(entry), version)) }))
}

fn may_like(recommended: Recommendation, locale: &Locale) -> Recommended {
    let Recommendation { name, product_id, because, lift, .. } = recommended;
    Recommended {
        product: name.unwrap_or(product_id),
        lift: locale.number(&format!("{lift:.1}")),
        because: because.name.unwrap_or(because.product_id),
    }
}

async fn systems(dashboard: &Dashboard, customer: &Customer, locale: &Locale) -> Result<Vec<System>, Problem> {
    let named = |xref: &customer::Xref| (xref.system.clone(), external_id(xref));
    let edits = dashboard.api.unsent(&customer.xrefs.iter().map(named).collect::<Vec<_>>()).await?;
    let unsent = |xref: &customer::Xref| {
        let of_xref: Vec<_> = edits.iter().filter(|edit| edit.xref == named(xref)).collect();
        unsent(locale, &of_xref)
    };
    let mut xrefs: Vec<_> = customer.xrefs.iter().collect();
    let place =
        |system: &String| dashboard.systems.names().iter().position(|name| name == system).unwrap_or(usize::MAX);
    xrefs.sort_by_key(|xref| place(&xref.system));
    let known = dashboard.watch.glance();
    let source = |system: &str| known.as_ref().and_then(|known| known.report.sources.get(system));
    let system = |xref: &&customer::Xref| System {
        badge: dashboard.systems.badge(&xref.system),
        external_id: external_id(xref),
        email: xref.email.clone().filter(|email| Some(email) != customer.email.as_ref()),
        changed: locale.ago(xref.observed_at),
        seen: locale.ago(xref.last_seen_at),
        freshness: source(&xref.system).map(|source| Freshness::of(locale, source)),
        unsent: unsent(xref),
    };
    Ok(xrefs.iter().map(system).collect())
}

/// What the products of these orders are called.
pub(super) async fn products(
    dashboard: &Dashboard,
    reader: &Reader,
    happened: impl Iterator<Item = &Happened>,
) -> Result<Products, Problem> {
    let (systems, ids): (Vec<String>, Vec<String>) = products_of(happened).into_iter().unzip();
    if ids.is_empty() {
        return Ok(Products::new());
    }
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select p.system, p.product_id, p.name
         from unnest($1::text[], $2::text[]) as wanted (system, product_id)
         join customer360.products p on p.system = wanted.system and p.product_id = wanted.product_id
         where p.name is not null",
    )
    .bind(systems)
    .bind(ids)
    .fetch_all(dashboard.api.ask(&reader.caller).await?)
    .await?;
    Ok(rows.into_iter().map(|(system, id, name)| ((system, id), name)).collect())
}

/// The parameters for a timeline: cursors of the API belong to its path.
pub(super) fn of_timeline(customer_id: Uuid, query: &str) -> Result<Params, Problem> {
    Params::read(&customer::path(customer_id, "/timeline"), query)
}
