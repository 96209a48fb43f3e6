//! What ought to come out, worked out independently: from the rows that are in MariaDB now, the newest loyalty file and the
//! store's data, by the shortest code that follows the rules.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

const GROUP: [&str; 5] = ["address1", "address2", "city", "state", "zipcode"];
const HOME: [(&str, usize); 7] =
    [("name", 1), ("address1", 4), ("address2", 5), ("city", 6), ("state", 7), ("zipcode", 8), ("phone", 9)];

/// One customer: match key to profile and (system, external id) of its cross-references.
pub(crate) type Customers = BTreeMap<String, (Value, BTreeSet<(String, String)>)>;

struct Xref {
    system: &'static str,
    id: String,
    attributes: Map<String, Value>,
}

/// The customers that these sources make. `home_delivery` are rows of ten columns as the `mariadb` client prints them,
/// `loyalty` is a file, `store` the sample store's data.
pub(crate) fn customers(home_delivery: &str, loyalty: &[u8], store: &Value) -> Result<Customers> {
    let mut by_key: BTreeMap<String, Vec<Xref>> = BTreeMap::new();
    for line in home_delivery.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let attributes = HOME.iter().map(|(name, column)| ((*name).to_owned(), cell(cells[*column]))).collect();
        add(&mut by_key, cells[2], Xref { system: "home_delivery", id: cells[0].to_owned(), attributes });
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(loyalty);
    for row in reader.byte_records() {
        let row = row?;
        let cells: Option<Vec<&str>> = row.iter().map(|cell| std::str::from_utf8(cell).ok()).collect();
        let Some(&[id, _, first, last, email, points]) = cells.as_deref().filter(|cells| !cells[0].is_empty()) else {
            continue;
        };
        let attributes =
            json!({"firstName": first, "lastName": last, "name": format!("{first} {last}"), "loyaltyPoints": points});
        let attributes = attributes.as_object().context("an object")?.clone();
        add(&mut by_key, email, Xref { system: "loyalty", id: id.to_owned(), attributes });
    }
    for customer in store["customers"].as_array().context("customers")? {
        let email = customer["Email"].as_str().context("email")?;
        // The store is asked about the emails that others know, and about nobody else.
        let key = email.trim().to_lowercase();
        if by_key.contains_key(&key) {
            let attributes = json!({"name": customer["Name"]}).as_object().context("an object")?.clone();
            add(&mut by_key, email, Xref { system: "online_store", id: customer["Id"].to_string(), attributes });
        }
    }
    Ok(by_key.into_iter().map(|(key, xrefs)| (key, fold(&xrefs))).collect())
}

fn cell(text: &str) -> Value {
    if text == "NULL" { Value::Null } else { text.into() }
}

fn add(by_key: &mut BTreeMap<String, Vec<Xref>>, email: &str, xref: Xref) {
    let key = email.trim().to_lowercase();
    let usable = key.split('@').filter(|part| !part.is_empty()).count() == 2 && key.matches('@').count() == 1;
    let blocked = ["test@", "noreply@", "no-reply@"].iter().any(|prefix| key.starts_with(prefix));
    if usable && !blocked && email != "NULL" {
        by_key.entry(key).or_default().push(xref);
    }
}

fn fold(xrefs: &[Xref]) -> (Value, BTreeSet<(String, String)>) {
    let mut profile = Map::new();
    let has = |xref: &Xref, name: &str| xref.attributes.get(name).is_some_and(|value| !value.is_null() && value != "");
    let names: BTreeSet<&String> = xrefs.iter().flat_map(|xref| xref.attributes.keys()).collect();
    for name in names {
        let group: &[&str] = if GROUP.contains(&name.as_str()) { &GROUP } else { &[name] };
        let order: [&str; 3] = ["home_delivery", "online_store", "loyalty"];
        let best = order.iter().find_map(|system| {
            xrefs.iter().find(|xref| xref.system == *system && group.iter().any(|name| has(xref, name)))
        });
        if let Some(best) = best.filter(|best| has(best, name)) {
            profile.insert(name.clone(), best.attributes[name].clone());
        }
    }
    let ids = xrefs.iter().map(|xref| (xref.system.to_owned(), xref.id.clone())).collect();
    (Value::Object(profile), ids)
}
