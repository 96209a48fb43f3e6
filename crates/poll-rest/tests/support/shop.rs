//! A store with lists: customers with their orders in them, sorted by when they changed, paged in every way there is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use model::Entity;
use model::mapping::{Columns, CustomerMapping, OrderMapping};
use poll_rest::List;
use serde_json::{Value, json};
use wiremock::matchers::path;
use wiremock::{Mock, Request, Respond, ResponseTemplate};

use super::World;

pub(crate) const LIST: &str = "/api/customers";
const PER_PAGE: usize = 3;

/// How the store pages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Style {
    Number,
    Cursor,
    Link,
    Url,
}

#[derive(Clone)]
pub(crate) struct Shop(Arc<Mutex<Inside>>);

/// Done to the customers after a page was answered.
pub(crate) type Between = Box<dyn FnMut(&mut Vec<Customer>, usize) + Send>;
/// The answer to a page, in place of the list.
pub(crate) type Instead = Box<dyn FnMut(usize) -> Option<ResponseTemplate> + Send>;

pub(crate) struct Inside {
    pub(crate) style: Style,
    pub(crate) customers: Vec<Customer>,
    /// What the clock of the store shows, if not ours.
    pub(crate) now: Option<DateTime<Utc>>,
    pub(crate) between: Option<Between>,
    pub(crate) instead: Option<Instead>,
}

#[derive(Clone)]
pub(crate) struct Customer {
    pub(crate) id: usize,
    pub(crate) name: String,
    pub(crate) changed_at: DateTime<Utc>,
    pub(crate) orders: Vec<Value>,
}

impl Shop {
    /// A store with so many customers, who changed a second after each other, an hour ago; every second one has an order.
    pub(crate) fn with(style: Style, count: usize) -> Self {
        let since = Utc::now() - TimeDelta::hours(1);
        let customer = |id: usize| Customer {
            id,
            name: format!("Customer {id}"),
            changed_at: since + TimeDelta::seconds(i64::try_from(id).unwrap()),
            orders: if id.is_multiple_of(2) { vec![json!({"OrderId": id * 100})] } else { Vec::new() },
        };
        let customers = (1..=count).map(customer).collect();
        Self(Arc::new(Mutex::new(Inside { style, customers, now: None, between: None, instead: None })))
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A customer changes now.
    pub(crate) fn change(&self, id: usize, name: &str) {
        let mut inside = self.inside();
        let now = inside.now.unwrap_or_else(Utc::now);
        inside.change(id, name, now);
    }

    pub(crate) fn list(&self) -> List {
        let (request, next) = match self.inside().style {
            Style::Number => ("?page={page}", None),
            Style::Cursor => ("?after={cursor}", Some("meta.next")),
            Style::Link => ("", None),
            Style::Url => ("", Some("meta.next")),
        };
        List {
            entity: Entity::Customer,
            request: format!("{LIST}{request}"),
            records: Some("data.customers".to_owned()),
            next: next.map(str::to_owned),
            first_page: 1,
            every: Duration::from_mins(5),
            overlap: Duration::from_mins(1),
            since_format: "%Y-%m-%dT%H:%M:%SZ".to_owned(),
            max_pages: 100,
        }
    }

    /// As [`Shop::list`], but asking for what has changed only.
    pub(crate) fn list_since(&self) -> List {
        let list = self.list();
        let glue = if list.request.contains('?') { '&' } else { '?' };
        List { request: format!("{}{glue}since={{since}}", list.request), ..list }
    }
}

impl Inside {
    /// Moves a customer to the end of the list.
    pub(crate) fn change(&mut self, id: usize, name: &str, now: DateTime<Utc>) {
        change(&mut self.customers, id, name, now);
    }
}

pub(crate) fn change(customers: &mut Vec<Customer>, id: usize, name: &str, now: DateTime<Utc>) {
    let at = customers.iter().position(|customer| customer.id == id).unwrap();
    let customer = customers.remove(at);
    customers.push(Customer { name: name.to_owned(), changed_at: now, ..customer });
}

impl Respond for Shop {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut inside = self.inside();
        let query =
            |name: &str| request.url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned());
        let style = inside.style;
        let page: usize = match style {
            Style::Number => query("page").unwrap().parse().unwrap(),
            Style::Cursor => query("after").map_or(1, |cursor| cursor.strip_prefix("c/").unwrap().parse().unwrap()),
            Style::Link | Style::Url => query("p").map_or(1, |page| page.parse().unwrap()),
        };
        if let Some(instead) = inside.instead.as_mut()
            && let Some(answer) = instead(page)
        {
            return answer;
        }
        let since: Option<DateTime<Utc>> = query("since").map(|since| since.parse().unwrap());
        let listed: Vec<Customer> = inside
            .customers
            .iter()
            .filter(|customer| since.is_none_or(|since| customer.changed_at >= since))
            .cloned()
            .collect();
        let records: Vec<Value> = listed.iter().skip((page - 1) * PER_PAGE).take(PER_PAGE).map(record).collect();
        let has_more = listed.len() > page * PER_PAGE;
        let since = query("since").map(|since| format!("&since={since}")).unwrap_or_default();
        let further = format!("{LIST}?p={}{since}", page + 1);
        let next = match style {
            Style::Cursor => Value::from(format!("c/{}", page + 1)),
            Style::Url => Value::from(further.as_str()),
            Style::Number | Style::Link => Value::Null,
        };
        let next = if has_more { next } else { Value::Null };
        let mut answer = ResponseTemplate::new(200).set_body_json(
            json!({"data": {"customers": records}, "meta": {"next": next, "at": Utc::now().to_string()}}),
        );
        if style == Style::Link && has_more {
            answer = answer.insert_header("link", format!("<{LIST}?p=1>; rel=\"first\", <{further}>; rel=\"next\""));
        }
        if let Some(now) = inside.now {
            answer = answer.insert_header("date", now.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
        }
        let Inside { customers, between, .. } = &mut *inside;
        if let Some(between) = between {
            between(customers, page);
        }
        answer
    }
}

fn record(customer: &Customer) -> Value {
    json!({
        "Id": customer.id,
        "Name": customer.name,
        "Email": format!("{}@x.com", customer.id),
        "Password": "edzchzmatv5",
        "Orders": customer.orders,
    })
}

impl World {
    /// A world whose source has a list, and nobody to ask about one by one.
    pub(crate) async fn with_shop(shop: &Shop, list: List) -> Self {
        let mut world = Self::new().await;
        Mock::given(path(LIST)).respond_with(shop.clone()).mount(&world.store).await;
        let column = |name: &str| Columns::One(name.to_owned());
        world.settings.customer = world.settings.customer.map(|customer| CustomerMapping { request: None, ..customer });
        world.settings.order = Some(OrderMapping {
            topics: Vec::new(),
            request: None,
            records: Some("Orders".to_owned()),
            order_id: column("OrderId"),
            customer_external_id: column("CustomerId"),
            purchased_at: None,
            total: None,
            status: None,
            cancelled: Vec::new(),
            version: None,
            lines: None,
        });
        world.settings.product = None;
        world.settings.lists = vec![list];
        world
    }

    /// The list is due again.
    pub(crate) async fn list_is_due(&self) {
        self.execute(
            "update staging.lists
             set next_at = now() - interval '1 second', due_at = due_at - interval '1 hour',
                 finished_at = finished_at - interval '1 hour'",
        )
        .await;
    }

    /// The pages that were asked for, by what names them.
    pub(crate) async fn pages_asked(&self) -> Vec<String> {
        let requests = self.store.received_requests().await.unwrap();
        let page = |request: &Request| {
            let pairs: Vec<_> = request.url.query_pairs().collect();
            let found = pairs.iter().find(|(name, _)| ["page", "after", "p"].contains(&&**name));
            found.map_or_else(|| "first".to_owned(), |(_, value)| value.clone().into_owned())
        };
        requests.iter().filter(|request| request.url.path() == LIST).map(page).collect()
    }

    /// The newest name of every customer that has landed, by id.
    pub(crate) async fn names(&self) -> Vec<(usize, String)> {
        let newest = "select jsonb_build_array(external_id::integer, attributes->>'name') from (
                          select distinct on (external_id) external_id, attributes from staging.records
                          where entity = 'customer' order by external_id, position desc) as newest
                      order by external_id::integer";
        let rows = self.column(newest).await;
        let pair =
            |row: &Value| (usize::try_from(row[0].as_u64().unwrap()).unwrap(), row[1].as_str().unwrap().to_owned());
        rows.iter().map(pair).collect()
    }
}

/// The names as the store has them.
pub(crate) fn names_of(shop: &Shop) -> Vec<(usize, String)> {
    let mut names: Vec<_> = shop.inside().customers.iter().map(|c| (c.id, c.name.clone())).collect();
    names.sort();
    names
}
