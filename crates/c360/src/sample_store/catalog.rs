//! The data file, turned into one ready answer for every key.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail, ensure};
use axum::body::Bytes;
use axum::http::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Endpoint, Fault};

/// A body and its entity tag.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) body: Bytes,
    pub(super) etag: HeaderValue,
}

/// An answer for each key of each endpoint, rendered when the data is read and when it changes.
#[derive(Debug)]
pub(super) struct Catalog {
    answers: HashMap<(Endpoint, String), Answer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    customers: Vec<Box<RawValue>>,
    orders: Vec<Box<RawValue>>,
    products: Vec<Box<RawValue>>,
    #[serde(default)]
    faults: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CustomerKeys {
    id: Value,
    email: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OrderKeys {
    customer_id: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProductKeys {
    product_id: Value,
}

pub(super) fn parse(text: &str) -> anyhow::Result<(Catalog, Vec<Fault>)> {
    let data: Data = serde_json::from_str(text)?;
    Ok((Catalog::made_of(&data)?, data.faults))
}

impl Catalog {
    pub(super) fn answer(&self, endpoint: Endpoint, key: &str) -> Option<&Answer> {
        self.answers.get(&(endpoint, key.to_owned()))
    }

    fn made_of(data: &Data) -> anyhow::Result<Self> {
        let mut catalog = Self { answers: HashMap::new() };
        let mut orders: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (n, raw) in data.customers.iter().enumerate() {
            let keys: CustomerKeys = serde_json::from_str(raw.get()).with_context(|| format!("customer {}", n + 1))?;
            let id = id_text(&keys.id).with_context(|| format!("customer {}", n + 1))?;
            catalog.add(Endpoint::Customer, &keys.email, raw.get()).with_context(|| format!("customer {id}"))?;
            orders.entry(id).or_default();
        }
        for (n, raw) in data.orders.iter().enumerate() {
            let keys: OrderKeys = serde_json::from_str(raw.get()).with_context(|| format!("order {}", n + 1))?;
            let customer = id_text(&keys.customer_id).with_context(|| format!("order {}", n + 1))?;
            orders.entry(customer).or_default().push(raw.get());
        }
        for (customer, orders) in orders {
            catalog.add(Endpoint::Orders, &customer, &format!("[{}]", orders.join(",")))?;
        }
        for (n, raw) in data.products.iter().enumerate() {
            let keys: ProductKeys = serde_json::from_str(raw.get()).with_context(|| format!("product {}", n + 1))?;
            let id = id_text(&keys.product_id).with_context(|| format!("product {}", n + 1))?;
            catalog.add(Endpoint::Product, &id, raw.get()).with_context(|| format!("product {id}"))?;
        }
        Ok(catalog)
    }

    /// All answers of an endpoint, by key.
    pub(super) fn of(&self, endpoint: Endpoint) -> impl Iterator<Item = (&str, &Bytes)> {
        let wanted = self.answers.iter().filter(move |((asked, _), _)| *asked == endpoint);
        wanted.map(|((_, key), answer)| (key.as_str(), &answer.body))
    }

    /// Answers this from now on.
    pub(super) fn put(&mut self, endpoint: Endpoint, key: &str, body: &str) -> Answer {
        let answer = Answer::of(body);
        self.answers.insert((endpoint, endpoint.key(key).into_owned()), answer.clone());
        answer
    }

    fn add(&mut self, endpoint: Endpoint, key: &str, body: &str) -> anyhow::Result<()> {
        let known = self.answers.contains_key(&(endpoint, endpoint.key(key).into_owned()));
        self.put(endpoint, key, body);
        // Without the key: it may be an email, and errors never hold one.
        ensure!(!known, "there is another with the same {}", endpoint.parameter());
        Ok(())
    }
}

impl Answer {
    fn of(body: &str) -> Self {
        let hash = hex::encode(&Sha256::digest(body)[..16]);
        let etag = HeaderValue::try_from(format!("\"{hash}\""));
        let etag = etag.unwrap_or_else(|_| unreachable!("hexadecimal digits are a header's value"));
        Self { body: Bytes::copy_from_slice(body.as_bytes()), etag }
    }
}

/// `27` and `"27"` are asked for alike: a query string has no types.
pub(super) fn id_text(id: &Value) -> anyhow::Result<String> {
    match id {
        Value::Number(number) => Ok(number.to_string()),
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        _ => bail!("an id is a number or a text"),
    }
}
