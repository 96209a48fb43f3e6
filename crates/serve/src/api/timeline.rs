//! What happened to a customer, newest first: orders, interactions, changes of the profile, and what people wrote down.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::types::{Json as FromJson, Uuid};
use utoipa::ToSchema;

use super::customer::{self, Refusal};
use super::fields::Fields;
use super::page::{Page, Place};
use super::params::Params;
use super::path::Path;
use super::{Api, Caller};
use crate::problem::Problem;

/// What c360 keeps by itself; further types are those of entries.
const TYPES: [&str; 6] = ["order", "note", "contact", "link", "change", "interaction"];
const PARAMS: [&str; 6] = ["type", "q", "limit", "cursor", "count", "fields"];
const FIELDS: [&str; 4] = ["at", "type", "id", "content"];

/// Something on a timeline.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Happened {
    /// When; null for an order or interaction whose time could not be read, which stands last.
    pub(crate) at: Option<DateTime<Utc>>,
    /// order, interaction, change, or the type of an entry: note, contact, link.
    #[serde(rename = "type")]
    #[schema(example = "order")]
    pub(crate) kind: String,
    /// What it is called among those of its type.
    pub(crate) id: String,
    /// The rest, which depends on the type.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    pub(crate) content: Value,
    /// Where it stands in the list.
    #[serde(default, skip_serializing)]
    place: Place,
}

impl Happened {
    pub(super) fn with_place(mut self) -> (Place, Self) {
        (std::mem::take(&mut self.place), self)
    }
}

/// What of a timeline is wanted, in SQL: parameters or, where nothing is asked, what stands for that. With few parameters Postgres
/// keeps the plan, which takes longer to make than to carry out.
pub(super) struct Wanted<'w> {
    /// A `text[]` of types; empty for all.
    pub(super) types: &'w str,
    /// The place to go on from, three texts or null.
    pub(super) after: [&'w str; 3],
    /// How many; null for all.
    pub(super) most: &'w str,
    /// Words that all of it has to hold, a text or null.
    pub(super) words: &'w str,
}

impl Wanted<'_> {
    /// Common tables that end in `happened`: what happened to the customer `$1`. Every part is cut before anything is made of
    /// it; entries, changes and interactions are also those of whom redirects lead here from. What redirects lead here is a change,
    /// too.
    fn happened(&self) -> String {
        let Self { types, after: [at, kind, id], most, words } = self;
        // Apart, so that those of one customer come in the order of their index.
        let own_changes = self.changes("= (select customer_id from at)");
        let former_changes = self.changes("= any (array(select customer_id from former))");
        let own_interactions = self.interactions("p.customer_id = (select customer_id from at)");
        // Emails of before are nobody's any more.
        let former_interactions = self.interactions(
            "p.customer_id is null and p.match_key in (
                 select c.match_key from customer360.customers c join former f on f.customer_id = c.customer_id)",
        );
        format!(
            "
    at as materialized (select customer360.resolved($1) as customer_id),
    sought as materialized (select customer360.patterns({words}::text) as words),
    once as materialized (select unnest(customer360.once_known_as((select customer_id from at))) as customer_id),
    former as materialized (select customer_id from once where customer_id <> (select customer_id from at)),
    theirs as materialized (
        select distinct p.* from (({own_interactions}) union all ({former_interactions})) p
        order by 1 desc, 2 desc limit case when {words} is null then {most} end
    ),
    happened as materialized (
        (select coalesce(o.purchased_at, '-infinity') as at, 'order' as type, o.system || ':' || o.order_id as id,
                o.system, o.order_id as key, null::bigint as number, null::jsonb as content
         from customer360.orders o
         where o.customer_id = (select customer_id from at) and o.deleted_at is null
           and ({types} = '{{}}' or 'order' = any ({types}))
           and ({words} is null or customer360.plain(o.order_id) || customer360.texts(o.document) like all ((select words from sought)::text[]))
           and ({at}::timestamptz is null
                or (coalesce(o.purchased_at, '-infinity'), 'order', o.system || ':' || o.order_id) < ({at}::timestamptz, {kind}, {id}))
         order by 1 desc, 3 desc limit {most})
        union all
        (select t.at, 'interaction', t.id,
                i.system, i.interaction_id, null,
                jsonb_build_object('system', i.system, 'interaction_id', i.interaction_id, 'thread_id', i.thread_id,
                                   'type', i.type, 'status', i.status, 'subject', i.subject)
         from theirs t
         join customer360.interactions i on i.system = t.system and i.interaction_id = t.interaction_id
         where i.deleted_at is null
           and ({words} is null
                or customer360.plain(coalesce(i.subject, '')) || customer360.texts(i.attributes) like all ((select words from sought)::text[]))
         order by 1 desc, 3 desc limit {most})
        union all
        (select e.created_at, e.type, e.entry_id::text, null, null, null,
                e.content || jsonb_build_object('author', e.author, 'updated_at', e.updated_at, 'version', e.version)
         from customer360.entries e
         where e.customer_id in (select customer_id from once) and e.deleted_at is null
           and ({types} = '{{}}' or e.type = any ({types}))
           and ({words} is null or e.search like all ((select words from sought)::text[]))
           and ({at}::timestamptz is null or (e.created_at, e.type, e.entry_id::text) < ({at}::timestamptz, {kind}, {id}))
         order by 1 desc, 2 desc, 3 desc limit {most})
        union all
        {own_changes}
        union all
        {former_changes}
        union all
        (select r.since, 'change', r.customer_id::text, null, null, null,
                jsonb_build_object('cause', 'redirect', 'from_customer_id', r.customer_id)
         from customer360.redirects r
         where r.customer_id in (select customer_id from former)
           and ({types} = '{{}}' or 'change' = any ({types})) and {words} is null
           and ({at}::timestamptz is null or (r.since, 'change', r.customer_id::text) < ({at}::timestamptz, {kind}, {id}))
         order by 1 desc, 3 desc limit {most})
    )"
        )
    }

    /// The newest interactions in which somebody of whom this holds took part.
    fn interactions(&self, whose: &str) -> String {
        let Self { types, after: [at, kind, id], most, words } = self;
        format!(
            "select distinct p.at, p.system || ':' || p.interaction_id as id, p.system, p.interaction_id
             from customer360.interaction_participants p
             where {whose}
               and ({types} = '{{}}' or 'interaction' = any ({types}))
               and ({at}::timestamptz is null
                    or (p.at, 'interaction', p.system || ':' || p.interaction_id) < ({at}::timestamptz, {kind}, {id}))
             order by 1 desc, 2 desc limit case when {words} is null then {most} end"
        )
    }

    /// The newest changes of whom this names.
    fn changes(&self, whose: &str) -> String {
        let Self { types, after: [at, kind, id], most, words } = self;
        format!(
            "(select c.at, 'change', lpad(c.change_id::text, 20, '0'), null, null, null,
                jsonb_build_object('attribute', c.attribute, 'old', c.old, 'new', c.new, 'system', c.system,
                                   'external_id', c.external_id, 'cause', c.cause)
         from customer360.changes c
         where c.customer_id {whose}
           and ({types} = '{{}}' or 'change' = any ({types}))
           and ({words} is null
                or customer360.texts(jsonb_build_array(c.attribute, c.old, c.new)) like all ((select words from sought)::text[]))
           and ({at}::timestamptz is null or (c.at, 'change', lpad(c.change_id::text, 20, '0')) < ({at}::timestamptz, {kind}, {id}))
         order by c.at desc, c.change_id desc limit {most})"
        )
    }

    /// Those and further ones that end in `timeline (items)`, an array of it, newest first.
    pub(super) fn tables(&self) -> String {
        let (happened, most) = (self.happened(), self.most);
        format!(
            "{happened},
    newest as materialized (select * from happened order by at desc, type desc, id desc limit {most}),
    lines as materialized (
        select l.system, l.order_id,
               jsonb_agg(jsonb_build_object('line_no', l.line_no, 'product_id', l.product_id,
                                            'quantity', l.quantity::text, 'unit_price', l.unit_price::text)
                         order by l.line_no) as lines
        from customer360.order_lines l
        join newest n on n.system = l.system and n.key = l.order_id and n.type = 'order'
        group by l.system, l.order_id
    ),
    sold as materialized (
        select o.system, o.order_id,
               jsonb_build_object('system', o.system, 'order_id', o.order_id, 'purchased_at_text', o.purchased_at_text,
                                  'total', trim_scale(o.total)::text, 'status', o.status, 'cancelled', o.cancelled,
                                  'lines', coalesce(l.lines, '[]')) as content
        from customer360.orders o
        join newest n on n.system = o.system and n.key = o.order_id and n.type = 'order'
        left join lines l on l.system = o.system and l.order_id = o.order_id
    ),
    timeline as materialized (
        select coalesce(jsonb_agg(
                   jsonb_build_object(
                       'at', case when n.at >= '0001-01-01+00' and n.at < '10000-01-01+00' then n.at end, 'type', n.type, 'id', n.id,
                       'content', coalesce(n.content, s.content),
                       'place', jsonb_build_array(n.at::text, n.type, n.id))
                   order by n.at desc, n.type desc, n.id desc), '[]') as items
        from newest n
        left join sold s on s.system = n.system and s.order_id = n.key and n.type = 'order'
    )"
        )
    }
}

/// A page.
const PAGE: Wanted<'_> = Wanted { types: "$2", after: ["$3", "$4", "$5"], most: "$6", words: "$7" };

static STATEMENT: LazyLock<String> = LazyLock::new(|| statement("null::bigint"));

/// With how much there is on all pages.
static COUNTED: LazyLock<String> = LazyLock::new(|| {
    let all = Wanted { after: ["null::text"; 3], most: "null::bigint", ..PAGE };
    statement(&format!("(with {} select count(*) from happened)", all.happened()))
});

/// The customer whose timeline it is, with a page of it; no row for nobody whom the caller may see.
fn statement(total: &str) -> String {
    format!(
        "with {}
         select c.customer_id, timeline.items, {total}
         from timeline
         join customer360.customers c on c.customer_id = (select customer_id from at)",
        PAGE.tables()
    )
}

/// A customer's timeline
///
/// Orders, interactions, changes of the profile, notes, contacts, links and other entries, newest first; `type` keeps some
/// of them, `q` those that hold all of its words, without accents. Entries on and changes of customers who have become this
/// one are among them.
#[utoipa::path(
    get, path = "/api/v1/customers/{customer}/timeline", tag = "customers", operation_id = "list_timeline",
    params(
        ("customer" = String, Path, description = "The id, or an email"),
        ("type" = Option<Vec<String>>, Query, description = "order, note, contact, link, change, interaction, or a type of objects.types; repeated: any"),
        ("q" = Option<String>, Query, description = "Words to search for", max_length = 200),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "Items on a page; 50 by default"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("count" = Option<bool>, Query, description = "Whether to count all of them, as total"),
        ("fields" = Option<String>, Query, description = "Members to answer, with commas between"),
    ),
    responses(
        (status = 200, description = "A page of the timeline", body = Page<Happened>),
        (status = 308, description = "The customer is known under another id by now"),
    ),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(named): Path<String>,
    mut params: Params,
) -> Result<Json<Page<Box<RawValue>>>, Refusal> {
    let fields = Fields::take(&mut params, &FIELDS)?;
    let (customer_id, page) = page(&api, &caller, &named, params).await?;
    api.audit.read(&caller, "list_timeline", customer_id).await;
    Ok(Json(fields.of_each(page)?))
}

/// A page of the timeline of a customer, and who that is.
pub(crate) async fn page(
    api: &Api,
    caller: &Caller,
    named: &str,
    params: Params,
) -> Result<(Uuid, Page<Happened>), Refusal> {
    let customer_id = api.customer_id(named).await?;
    let mut params = params.at(&customer::path(customer_id, "/timeline"));
    let scope = params.scope().to_owned();
    let after = api.cursors.take(&mut params)?;
    let kinds: Vec<&str> = TYPES.into_iter().chain(api.settings.object_types.iter().map(String::as_str)).collect();
    let types = params.any_of("type", &kinds)?;
    let q = params.words("q")?;
    let limit = params.limit()?;
    let statement = if params.flag("count")? { &COUNTED } else { &STATEMENT };
    params.finish(&PARAMS)?;
    let session = api.ask(caller).await?;
    let row: Option<(Uuid, FromJson<Vec<Happened>>, Option<i64>)> =
        sqlx::query_as(staging::constant_sql(statement.as_str()))
            .bind(customer_id)
            .bind(types)
            .bind(place(after.as_ref(), 0))
            .bind(place(after.as_ref(), 1))
            .bind(place(after.as_ref(), 2))
            .bind(i64::from(limit) + 1)
            .bind(q)
            .fetch_optional(session)
            .await?;
    let (found, FromJson(items), total) = row.ok_or_else(Problem::not_found)?;
    Refusal::unless_at(found, customer_id)?;
    let rows = items.into_iter().map(Happened::with_place).collect();
    Ok((found, api.cursors.page(&scope, rows, limit, total)))
}

/// A part of the place that a request goes on from.
fn place(after: Option<&Place>, part: usize) -> Option<&str> {
    after?.get(part).map(String::as_str)
}
