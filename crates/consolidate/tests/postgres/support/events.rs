//! What sources say, in words that both the program (as records) and the independent model understand.

use chrono::{DateTime, Utc};
use model::{
    Entity, ExternalId, InteractionFields, LogPosition, Mapped, Operation, OrderFields, OrderLine, Participant,
    Position, ProductFields, Record,
};
use serde_json::{Map, Value, json};

/// One thing that a source said.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: Id,
    /// Place in the source's log, then the offset that breaks ties; -1 comes before all offsets.
    pub(crate) position: (u64, i64),
    /// Night and row, for a row of a file.
    pub(crate) in_file: Option<(i64, u64)>,
    /// Seconds since the epoch.
    pub(crate) observed_at: i64,
    pub(crate) says: Says,
}

/// An external id and whether the source writes it as a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(pub(crate) String, pub(crate) bool);

#[derive(Clone, Debug)]
pub(crate) enum Says {
    Customer(Customer),
    /// A delete, and the id that the row has from now on.
    CustomerGone(Option<Id>),
    Order(Order),
    OrderGone,
    Product(Option<ProductFields>),
    Interaction(Option<Vec<String>>),
    /// An interaction with all that a mapping makes of it.
    Mail(InteractionFields),
}

/// Absent keeps (`None`), null clears (`Some(Null)`), values overwrite.
#[derive(Clone, Debug, Default)]
pub(crate) struct Customer {
    pub(crate) email: Option<Value>,
    pub(crate) credential: Option<Value>,
    pub(crate) attributes: Map<String, Value>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    pub(crate) customer: Option<String>,
    pub(crate) total: Option<String>,
    pub(crate) lines: Option<Vec<Line>>,
    pub(crate) purchased_at: Option<DateTime<Utc>>,
    pub(crate) cancelled: bool,
    pub(crate) document: Value,
}

/// Product, quantity, price of one.
pub(crate) type Line = (String, Option<String>, Option<String>);

impl From<i64> for Id {
    fn from(id: i64) -> Self {
        Self(id.to_string(), true)
    }
}

impl From<&str> for Id {
    fn from(id: &str) -> Self {
        Self(id.to_owned(), false)
    }
}

/// The UTC midnight that a nightly file is of.
pub(crate) fn night(night: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_006_400 + night * 86_400, 0).unwrap()
}

/// A customer record at a place in the source's log.
pub(crate) fn customer(id: impl Into<Id>, position: u64) -> Event {
    event(id, position, Says::Customer(Customer::default()))
}

/// The delete of a customer.
pub(crate) fn gone(id: impl Into<Id>, position: u64) -> Event {
    event(id, position, Says::CustomerGone(None))
}

/// The delete of a primary-key change.
pub(crate) fn moved(id: impl Into<Id>, to: impl Into<Id>, position: u64) -> Event {
    event(id, position, Says::CustomerGone(Some(to.into())))
}

/// A row of a nightly file.
pub(crate) fn member(id: &str, in_night: i64, row: u64) -> Event {
    let mut event = customer(id, 0);
    event.in_file = Some((in_night, row));
    event.observed_at = night(in_night).timestamp();
    event
}

/// An order record.
pub(crate) fn order(id: impl Into<Id>, position: u64) -> Event {
    event(id, position, Says::Order(Order::default()))
}

pub(crate) fn event(id: impl Into<Id>, position: u64, says: Says) -> Event {
    let seconds = i64::try_from(position).unwrap();
    Event { id: id.into(), position: (position, seconds), in_file: None, observed_at: seconds, says }
}

impl Event {
    pub(crate) fn email(self, email: &str) -> Self {
        self.customer(|customer| customer.email = Some(email.into()))
    }

    pub(crate) fn email_cleared(self) -> Self {
        self.customer(|customer| customer.email = Some(Value::Null))
    }

    pub(crate) fn credential(self, credential: &str) -> Self {
        self.customer(|customer| customer.credential = Some(credential.into()))
    }

    pub(crate) fn attribute(self, name: &str, value: impl Into<Value>) -> Self {
        self.customer(|customer| {
            customer.attributes.insert(name.to_owned(), value.into());
        })
    }

    pub(crate) fn observed_at(mut self, seconds: i64) -> Self {
        self.observed_at = seconds;
        self
    }

    fn customer(mut self, change: impl FnOnce(&mut Customer)) -> Self {
        match &mut self.says {
            Says::Customer(customer) => change(customer),
            other => panic!("not a customer: {other:?}"),
        }
        self
    }

    pub(crate) fn of_customer(self, external_id: &str) -> Self {
        self.order(|order| order.customer = Some(external_id.to_owned()))
    }

    pub(crate) fn total(self, total: &str) -> Self {
        self.order(|order| order.total = Some(total.to_owned()))
    }

    /// Lines as (product, quantity, price of one); "?" is a number that is missing.
    pub(crate) fn lines(self, lines: &[(&str, &str, &str)]) -> Self {
        let number = |text: &str| (text != "?").then(|| text.to_owned());
        let lines =
            lines.iter().map(|(product, quantity, price)| ((*product).to_owned(), number(quantity), number(price)));
        self.order(|order| order.lines = Some(lines.collect()))
    }

    pub(crate) fn cancelled(self) -> Self {
        self.order(|order| order.cancelled = true)
    }

    pub(crate) fn document(self, document: Value) -> Self {
        self.order(|order| order.document = document)
    }

    fn order(mut self, change: impl FnOnce(&mut Order)) -> Self {
        match &mut self.says {
            Says::Order(order) => change(order),
            other => panic!("not an order: {other:?}"),
        }
        self
    }

    pub(crate) fn model_position(&self) -> Position {
        if let Some((in_night, row)) = self.in_file {
            return Position::csv(night(in_night), night(in_night), row);
        }
        let log = LogPosition { file: 0, pos: self.position.0, streamed: true, row: 0 };
        Position::kafka(0, log, self.position.1)
    }

    /// The record that an ingester would land.
    pub(crate) fn record(&self) -> Record {
        let mut mapped = Mapped::bare(self.entity(), external_id(&self.id));
        let mut operation = Operation::Upsert;
        let mut moved_to = None;
        let mut payload = None;
        match &self.says {
            Says::Customer(customer) => {
                mapped.email = customer.email.as_ref().map(text);
                mapped.credential = customer.credential.as_ref().map(text);
                mapped.attributes = Value::Object(customer.attributes.clone()).to_string();
            }
            Says::Order(order) => {
                mapped.attributes = serde_json::to_string(&order.fields()).unwrap();
                payload = Some(order.document.to_string());
            }
            Says::Product(Some(product)) => mapped.attributes = serde_json::to_string(product).unwrap(),
            Says::Interaction(Some(emails)) => {
                let participants =
                    emails.iter().map(|email| Participant { email: email.clone(), role: Some("to".to_owned()) });
                let fields = InteractionFields {
                    kind: Some("email".to_owned()),
                    participants: participants.collect(),
                    ..InteractionFields::default()
                };
                mapped.attributes = serde_json::to_string(&fields).unwrap();
                payload = Some(json!({"to": emails}).to_string());
            }
            Says::Mail(fields) => mapped.attributes = serde_json::to_string(fields).unwrap(),
            Says::CustomerGone(to) => {
                operation = Operation::Delete;
                moved_to = to.as_ref().map(external_id);
            }
            Says::OrderGone | Says::Product(None) | Says::Interaction(None) => operation = Operation::Delete,
        }
        let observed_at = DateTime::from_timestamp(self.observed_at, 0).unwrap();
        Record { operation, mapped, position: self.model_position(), observed_at, moved_to, payload }
    }

    fn entity(&self) -> Entity {
        match &self.says {
            Says::Customer(_) | Says::CustomerGone(_) => Entity::Customer,
            Says::Order(_) | Says::OrderGone => Entity::Order,
            Says::Product(_) => Entity::Product,
            Says::Interaction(_) | Says::Mail(_) => Entity::Interaction,
        }
    }
}

impl Order {
    fn fields(&self) -> OrderFields {
        let line = |(product, quantity, price): &Line| OrderLine {
            product_id: Some(product.clone()),
            quantity: quantity.as_ref().map(|number| number.parse().unwrap()),
            unit_price: price.as_ref().map(|number| number.parse().unwrap()),
        };
        OrderFields {
            customer_external_id: self.customer.clone(),
            purchased_at: self.purchased_at,
            purchased_at_text: None,
            status: self.cancelled.then(|| "Cancelled".to_owned()),
            cancelled: self.cancelled,
            total: self.total.as_ref().map(|total| total.parse().unwrap()),
            lines: self.lines.as_ref().map(|lines| lines.iter().map(line).collect()),
        }
    }
}

fn external_id(id: &Id) -> ExternalId {
    ExternalId::from_parts(id.0.clone(), id.1)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
