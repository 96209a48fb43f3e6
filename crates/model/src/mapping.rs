//! Mappings: which columns of a source mean what. Read from the configuration, applied to decoded rows.

mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::headers::{addresses, message_ids};
use crate::json::push_string;
use crate::order::fits_numeric;
use crate::{
    Credentials, Entity, ExternalId, Field, Fields, InteractionFields, Mapped, OrderFields, OrderLine, Participant,
    ProductFields, Reason, Reject, parse_time,
};

pub use write::{Method, Part, WriteMapping, parts};

/// The column or columns that make one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Columns {
    /// One column, taken as it is.
    One(String),
    /// Columns whose non-empty values are joined with one space.
    Join(Vec<String>),
    /// Names under which one column may appear; the first that is there counts.
    Any {
        /// The names.
        any: Vec<String>,
    },
}

impl Columns {
    /// Whether it names a column at all, and none by an empty name.
    pub fn is_given(&self) -> bool {
        let names = match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Join(names) | Self::Any { any: names } => names,
        };
        !names.is_empty() && names.iter().all(|name| !name.is_empty())
    }
}

/// `[sources.NAME.customer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomerMapping {
    /// Topics that this mapping is for; the source's own when empty.
    #[serde(default)]
    pub topics: Vec<String>,
    /// REST: path and query of the request, with `{email}`.
    pub request: Option<String>,
    /// REST: dotted path to where an answer has its records; `None` if it is them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// Column with the system's id.
    pub external_id: Columns,
    /// Column with the email.
    pub email: Option<Columns>,
    /// Column with the password or the like.
    pub credential: Option<String>,
    /// Plain JSON: column with the record's version, a number or a time.
    pub version: Option<String>,
    /// Our attribute to their columns. The names `email` and `credential` are taken.
    #[serde(default)]
    pub attributes: BTreeMap<String, Columns>,
    /// REST: how edits of attributes are written through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<WriteMapping>,
    /// REST: how a customer who was made by hand is made there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<WriteMapping>,
}

/// `[sources.NAME.order]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderMapping {
    /// Topics that this mapping is for; the source's own when empty.
    #[serde(default)]
    pub topics: Vec<String>,
    /// REST: path and query of the request, with `{external_id}`.
    pub request: Option<String>,
    /// REST: dotted path to where an answer has its records; `None` if it is them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// Column with the order's id.
    pub order_id: Columns,
    /// Column with the same system's id of the customer.
    pub customer_external_id: Columns,
    /// Column with the time of purchase.
    pub purchased_at: Option<Columns>,
    /// Column with the total; without one the lines are summed.
    pub total: Option<Columns>,
    /// Column with the order's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Columns>,
    /// Words of `status`, in any case of letters, of an order that is cancelled.
    #[serde(default = "cancelled", skip_serializing_if = "is_cancelled")]
    pub cancelled: Vec<String>,
    /// Plain JSON: column with the record's version, a number or a time.
    pub version: Option<String>,
    /// Where the lines are.
    pub lines: Option<LinesMapping>,
}

/// The words that most systems have for it.
fn cancelled() -> Vec<String> {
    ["cancelled", "canceled"].map(str::to_owned).into()
}

fn is_cancelled(words: &[String]) -> bool {
    words == cancelled()
}

/// `lines` of an order mapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinesMapping {
    /// Column that holds the list.
    pub path: String,
    /// Within a line: the product's id.
    pub product_id: String,
    /// Within a line: how many.
    pub quantity: String,
    /// Within a line: the price of one.
    pub unit_price: String,
}

/// `[sources.NAME.product]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProductMapping {
    /// Topics that this mapping is for; the source's own when empty.
    #[serde(default)]
    pub topics: Vec<String>,
    /// REST: path and query of the request, with `{product_id}`.
    pub request: Option<String>,
    /// REST: dotted path to where an answer has its records; `None` if it is them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// Column with the product's id.
    pub product_id: Columns,
    /// Column with the product's name. All other columns are the product's attributes.
    pub name: Option<Columns>,
    /// Plain JSON: column with the record's version, a number or a time.
    pub version: Option<String>,
}

/// `[sources.NAME.interaction]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InteractionMapping {
    /// Topics that this mapping is for; the source's own when empty.
    #[serde(default)]
    pub topics: Vec<String>,
    /// REST: path and query of the request, with `{email}` or `{external_id}`.
    pub request: Option<String>,
    /// REST: dotted path to where an answer has its records; `None` if it is them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// Column with the interaction's id.
    pub interaction_id: Columns,
    /// Column with the conversation's id.
    pub thread_id: Option<Columns>,
    /// Column with the id by which other messages refer to it, as the header `Message-ID` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Columns>,
    /// Column with the ids of the messages before it, the first of its conversation first, as the header `References` has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<Columns>,
    /// Column with the id of the message that it replies to, as the header `In-Reply-To` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<Columns>,
    /// Column with the kind of interaction.
    #[serde(rename = "type")]
    pub kind: Option<Columns>,
    /// Column with its state.
    pub status: Option<Columns>,
    /// Column with its time.
    pub at: Option<Columns>,
    /// Column with the email of the one customer it is with.
    pub email: Option<Columns>,
    /// Columns that hold emails: a list of them, one of objects with an `email` and maybe a `role`, or text with commas
    /// between. Otherwise the column's name is the role.
    #[serde(default)]
    pub participants: Vec<String>,
    /// Column with its subject.
    pub subject: Option<Columns>,
    /// Plain JSON: column with the record's version, a number or a time.
    pub version: Option<String>,
    /// Our attribute to their columns.
    #[serde(default)]
    pub attributes: BTreeMap<String, Columns>,
}

/// One mapping of any kind, as an ingester holds them.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is its mapping")]
pub enum Mapping {
    Customer(CustomerMapping),
    Order(OrderMapping),
    Product(ProductMapping),
    Interaction(InteractionMapping),
}

/// What mapping needs beside the row.
#[derive(Clone, Debug)]
pub struct Context {
    /// What becomes of credentials.
    pub credentials: Credentials,
    /// The zone of times that name none.
    pub timezone: Tz,
}

impl Mapping {
    /// What the rows are about.
    pub fn entity(&self) -> Entity {
        match self {
            Self::Customer(_) => Entity::Customer,
            Self::Order(_) => Entity::Order,
            Self::Product(_) => Entity::Product,
            Self::Interaction(_) => Entity::Interaction,
        }
    }

    /// Topics that this mapping is for; the source's own when empty.
    pub fn topics(&self) -> &[String] {
        match self {
            Self::Customer(mapping) => &mapping.topics,
            Self::Order(mapping) => &mapping.topics,
            Self::Product(mapping) => &mapping.topics,
            Self::Interaction(mapping) => &mapping.topics,
        }
    }

    /// REST: path and query of the request that brings the rows one by one.
    pub fn request(&self) -> Option<&str> {
        match self {
            Self::Customer(mapping) => mapping.request.as_deref(),
            Self::Order(mapping) => mapping.request.as_deref(),
            Self::Product(mapping) => mapping.request.as_deref(),
            Self::Interaction(mapping) => mapping.request.as_deref(),
        }
    }

    /// REST: dotted path to where an answer has its records.
    pub fn records(&self) -> Option<&str> {
        match self {
            Self::Customer(mapping) => mapping.records.as_deref(),
            Self::Order(mapping) => mapping.records.as_deref(),
            Self::Product(mapping) => mapping.records.as_deref(),
            Self::Interaction(mapping) => mapping.records.as_deref(),
        }
    }

    /// Whether anything is made of a column, or of a part of it: `address.city` reads `address`.
    pub fn reads(&self, column: &str) -> bool {
        let in_path =
            |path: &str| path.strip_prefix(column).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let in_columns = |columns: &Columns| columns.names().iter().any(|path| in_path(path));
        let in_any = |columns: &[&Option<Columns>]| columns.iter().copied().flatten().any(in_columns);
        let in_text = |path: &Option<String>| path.as_deref().is_some_and(in_path);
        in_columns(self.id_columns())
            || self.version_column().is_some_and(in_path)
            || match self {
                Self::Customer(CustomerMapping { email, credential, attributes, .. }) => {
                    in_any(&[email]) || in_text(credential) || attributes.values().any(in_columns)
                }
                Self::Order(OrderMapping { customer_external_id, purchased_at, total, status, lines, .. }) => {
                    in_columns(customer_external_id)
                        || in_any(&[purchased_at, total, status])
                        || lines.as_ref().is_some_and(|lines| in_path(&lines.path))
                }
                Self::Product(_) => true,
                Self::Interaction(InteractionMapping {
                    thread_id,
                    message_id,
                    references,
                    in_reply_to,
                    kind,
                    status,
                    at,
                    email,
                    subject,
                    participants,
                    attributes,
                    ..
                }) => {
                    in_any(&[thread_id, message_id, references, in_reply_to])
                        || in_any(&[kind, status, at, email, subject])
                        || participants.iter().any(|path| in_path(path))
                        || attributes.values().any(in_columns)
                }
            }
    }

    /// The columns that make the id.
    pub fn id_columns(&self) -> &Columns {
        match self {
            Self::Customer(mapping) => &mapping.external_id,
            Self::Order(mapping) => &mapping.order_id,
            Self::Product(mapping) => &mapping.product_id,
            Self::Interaction(mapping) => &mapping.interaction_id,
        }
    }

    /// The column that holds a credential.
    pub fn credential_column(&self) -> Option<&str> {
        match self {
            Self::Customer(mapping) => mapping.credential.as_deref(),
            _ => None,
        }
    }

    /// The column that holds the record's version, for formats without positions of their own.
    pub fn version_column(&self) -> Option<&str> {
        match self {
            Self::Customer(mapping) => mapping.version.as_deref(),
            Self::Order(mapping) => mapping.version.as_deref(),
            Self::Product(mapping) => mapping.version.as_deref(),
            Self::Interaction(mapping) => mapping.version.as_deref(),
        }
    }

    /// The id in a row or in a message key.
    pub fn external_id(&self, fields: &Fields<'_>) -> Result<ExternalId, Reject> {
        let columns = self.id_columns();
        ExternalId::from_field(&columns.read(fields), &columns.label())
    }

    /// Maps one row.
    pub fn map(&self, fields: &Fields<'_>, context: &Context) -> Result<Mapped, Reject> {
        let mut mapped = Mapped::bare(self.entity(), self.external_id(fields)?);
        mapped.attributes = match self {
            Self::Customer(mapping) => {
                mapped.email = mapping.email.as_ref().and_then(|columns| email_text(&columns.read(fields)));
                let credential = mapping.credential.as_ref().map_or(Field::Absent, |column| fields.get(column));
                mapped.credential = replaced(&credential, &context.credentials);
                attributes_json(&mapping.attributes, fields)
            }
            Self::Order(mapping) => to_json(&mapping.read(fields, context)?),
            Self::Product(mapping) => to_json(&mapping.read(fields)),
            Self::Interaction(mapping) => to_json(&mapping.read(fields, context)),
        };
        Ok(mapped)
    }
}

impl Columns {
    /// Reads the value. Of joined columns: absent if any is absent or unavailable, else the non-empty ones by their text.
    pub fn read<'a>(&self, fields: &Fields<'a>) -> Field<'a> {
        match self {
            Self::One(name) => fields.get(name),
            Self::Any { any } => {
                any.iter().map(|name| fields.get(name)).find(|field| *field != Field::Absent).unwrap_or(Field::Absent)
            }
            Self::Join(names) => {
                let parts: Vec<Field<'_>> = names.iter().map(|name| fields.get(name)).collect();
                if parts.iter().any(Field::keeps) {
                    return Field::Absent;
                }
                let parts: Vec<Cow<'_, str>> = parts.iter().filter_map(Field::text).collect();
                Field::Text(parts.join(" ").into())
            }
        }
    }

    /// The columns' names, for messages.
    pub fn label(&self) -> Cow<'_, str> {
        match self {
            Self::One(name) => name.into(),
            Self::Join(names) => names.join(" + ").into(),
            Self::Any { any } => any.join(" or ").into(),
        }
    }

    /// All names that a row may have this value under.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Join(names) | Self::Any { any: names } => names,
        }
    }
}

impl OrderMapping {
    fn read(&self, fields: &Fields<'_>, context: &Context) -> Result<OrderFields, Reject> {
        let purchased_at_text =
            self.purchased_at.as_ref().and_then(|columns| columns.read(fields).text().map(Cow::into_owned));
        let total = match &self.total {
            Some(columns) => decimal(&columns.read(fields), &columns.label())?,
            None => None,
        };
        let status = self.status.as_ref().and_then(|columns| columns.read(fields).text().map(Cow::into_owned));
        let is_cancelled = |status: &String| {
            let status = status.trim().to_lowercase();
            self.cancelled.iter().any(|word| word.to_lowercase() == status)
        };
        Ok(OrderFields {
            customer_external_id: self.customer_external_id.read(fields).text().map(Cow::into_owned),
            purchased_at: purchased_at_text.as_deref().and_then(|text| parse_time(text, context.timezone)),
            purchased_at_text,
            total,
            cancelled: status.as_ref().is_some_and(is_cancelled),
            status,
            lines: self.lines.as_ref().map(|lines| lines.read(fields)).transpose()?.flatten(),
        })
    }
}

impl LinesMapping {
    fn read(&self, fields: &Fields<'_>) -> Result<Option<Vec<OrderLine>>, Reject> {
        let unreadable = || Reject::new(Reason::BadValue, format!("column {} is not a list of lines", self.path));
        let list = match fields.get(&self.path) {
            field if field.keeps() => return Ok(None),
            field if field.clears() => return Ok(Some(Vec::new())),
            field => field,
        };
        let text = list.text().ok_or_else(unreadable)?;
        let rows: Vec<&RawValue> = serde_json::from_str(&text).map_err(|_| unreadable())?;
        let read_line = |(index, row): (usize, &&RawValue)| {
            let line = Fields::from_json(row.get(), None).map_err(|_| unreadable())?;
            let label = |column: &str| format!("{}[{index}].{column}", self.path);
            Ok(OrderLine {
                product_id: line.get(&self.product_id).text().map(Cow::into_owned),
                quantity: decimal(&line.get(&self.quantity), &label(&self.quantity))?,
                unit_price: decimal(&line.get(&self.unit_price), &label(&self.unit_price))?,
            })
        };
        rows.iter().enumerate().map(read_line).collect::<Result<Vec<_>, _>>().map(Some)
    }
}

impl ProductMapping {
    fn read(&self, fields: &Fields<'_>) -> ProductFields {
        let taken: Vec<&String> =
            self.product_id.names().iter().chain(self.name.iter().flat_map(Columns::names)).collect();
        let rest = fields.iter().filter(|(name, _)| !taken.iter().any(|taken| taken == name));
        ProductFields {
            name: self.name.as_ref().and_then(|columns| columns.read(fields).text().map(Cow::into_owned)),
            attributes: rest.filter_map(|(name, field)| Some((name.to_owned(), value(field)?))).collect(),
        }
    }
}

impl InteractionMapping {
    fn read(&self, fields: &Fields<'_>, context: &Context) -> InteractionFields {
        let text =
            |columns: &Option<Columns>| columns.as_ref().and_then(|c| c.read(fields).text().map(Cow::into_owned));
        let with = text(&self.email).map(|email| Participant { email, role: None });
        let listed = self.participants.iter().flat_map(|column| {
            let with_role = |who: Participant| Participant { role: who.role.or_else(|| Some(column.clone())), ..who };
            participants(&fields.get(column)).into_iter().map(with_role)
        });
        let header = |columns: &Option<Columns>| {
            let field = columns.as_ref()?.read(fields);
            let text = field.text()?;
            let listed: Option<Vec<String>> = serde_json::from_str(&text).ok();
            match listed {
                Some(ids) => ids.iter().find_map(|id| message_ids(id).next().map(str::to_owned)),
                None => message_ids(&text).next().map(str::to_owned),
            }
        };
        InteractionFields {
            thread_id: text(&self.thread_id).or_else(|| header(&self.references)),
            message_id: header(&self.message_id),
            in_reply_to: header(&self.in_reply_to),
            kind: text(&self.kind),
            status: text(&self.status),
            at: text(&self.at).and_then(|text| parse_time(&text, context.timezone)),
            subject: text(&self.subject),
            participants: with.into_iter().chain(listed).collect(),
            attributes: self
                .attributes
                .iter()
                .filter_map(|(name, c)| Some((name.clone(), value(&c.read(fields))?)))
                .collect(),
        }
    }
}

/// Who is named in a column: by a list of emails, of objects that have an `email` and maybe a `role`, or by text.
fn participants(field: &Field<'_>) -> Vec<Participant> {
    let Some(text) = field.text() else { return Vec::new() };
    let Ok(Value::Array(items)) = serde_json::from_str(&text) else {
        return addresses(&text).into_iter().map(|email| Participant { email, role: None }).collect();
    };
    let word = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    let participant = |item: &Value| {
        let email = item.as_str().map(str::to_owned).or_else(|| word(item, "email"))?;
        Some(Participant { email, role: word(item, "role") })
    };
    items.iter().filter_map(participant).collect()
}

/// The email as staged: what is no string is staged by a text that is no email.
fn email_text(field: &Field<'_>) -> Option<String> {
    match field {
        Field::Absent | Field::Unavailable => None,
        Field::Null => Some(String::new()),
        Field::Text(text) => Some(text.to_string()),
        Field::Json(raw) if raw.starts_with(['{', '[']) => Some("not a string".to_owned()),
        Field::Json(raw) => Some((*raw).to_owned()),
    }
}

fn replaced(field: &Field<'_>, credentials: &Credentials) -> Option<String> {
    match field {
        Field::Absent | Field::Unavailable => None,
        field => Some(field.text().and_then(|text| credentials.replace(&text)).unwrap_or_default()),
    }
}

/// The JSON object of mapped attributes: values by their exact text, null for cleared ones, kept ones left out.
fn attributes_json(attributes: &BTreeMap<String, Columns>, fields: &Fields<'_>) -> String {
    let mut json = String::with_capacity(256);
    json.push('{');
    for (name, columns) in attributes {
        let field = columns.read(fields);
        if field.keeps() {
            continue;
        }
        if json.len() > 1 {
            json.push(',');
        }
        push_string(&mut json, name);
        json.push(':');
        match field {
            Field::Json(raw) => json.push_str(raw),
            Field::Text(text) if !text.is_empty() => push_string(&mut json, &text),
            _ => json.push_str("null"),
        }
    }
    json.push('}');
    json
}

fn to_json(fields: &impl Serialize) -> String {
    // Maps with string keys and plain values: serialising them cannot fail.
    serde_json::to_string(fields).unwrap_or_else(|error| unreachable!("fields are plain JSON: {error}"))
}

fn value(field: &Field<'_>) -> Option<Value> {
    match field {
        Field::Absent | Field::Unavailable | Field::Null => None,
        Field::Text(text) => Some(Value::from(text.as_ref())),
        Field::Json(raw) => serde_json::from_str(raw).ok(),
    }
}

/// An exact decimal that Postgres can hold, `None` without a value; text that is none is refused.
fn decimal(field: &Field<'_>, column: &str) -> Result<Option<BigDecimal>, Reject> {
    let Some(text) = field.text() else { return Ok(None) };
    let refuse = |why: &str| Reject::new(Reason::BadValue, format!("{column} is {why}"));
    let number = text.trim().parse().map_err(|_| refuse("not a decimal number"))?;
    if !fits_numeric(&number) {
        return Err(refuse("beyond what Postgres numeric can hold"));
    }
    Ok(Some(number))
}

#[cfg(test)]
mod tests;
