//! The rules by which records become customers once more, written from their words and not from the program: everything that was ever said, sorted,
//! looked at from its end. No state, no order of arrival, nothing of `model` but the words for positions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sqlx::types::Uuid;

use super::World;
use super::events::{Customer, Event, Id, Line, Says};

/// Customer ids of all worlds that are compared come from here.
pub(crate) const NAMESPACE: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

/// Everything that was said, and the decisions that stand.
#[derive(Clone, Default)]
pub(crate) struct History {
    pub(crate) events: Vec<(&'static str, Event)>,
    pub(crate) merges: Vec<(String, String)>,
    pub(crate) splits: BTreeSet<(String, String)>,
    pub(crate) blocks: BTreeSet<String>,
    pub(crate) allows: BTreeSet<String>,
    /// System and second.
    pub(crate) retirements: Vec<(&'static str, i64)>,
    pub(crate) max_xrefs_per_system: usize,
}

/// What the tables hold of the living, by table, as JSON in a fixed order.
pub(crate) type Living = BTreeMap<&'static str, Vec<Value>>;

type Name = (&'static str, String);

struct Write {
    position: (u64, i64),
    observed_at: i64,
    id: Id,
    /// `None` deletes.
    says: Option<Customer>,
}

struct Xref {
    id: Id,
    observed_at: i64,
    email: Option<String>,
    credential: Option<String>,
    attributes: Map<String, Value>,
    key: Result<String, &'static str>,
}

impl History {
    /// What the tables are to hold.
    pub(crate) fn living(&self) -> Living {
        let writes = self.writes();
        let mut xrefs: BTreeMap<&Name, Xref> =
            writes.iter().filter_map(|(name, writes)| Some((name, self.xref(name, writes)?))).collect();
        self.hold_back_the_crowded(&mut xrefs);
        let mut customers: BTreeMap<String, Vec<(&Name, &Xref)>> = BTreeMap::new();
        for (name, xref) in &xrefs {
            if let Ok(key) = &xref.key {
                customers.entry(self.lead(key)).or_default().push((name, xref));
            }
        }
        BTreeMap::from([
            ("xrefs", xrefs.iter().map(|(name, xref)| self.xref_row(name, xref)).collect()),
            ("customers", sorted(customers.iter().map(|(key, xrefs)| customer_row(key, xrefs)).collect())),
            ("documents", sorted(customers.iter().map(|(key, xrefs)| document(key, xrefs)).collect())),
            ("orders", self.orders(&writes, &xrefs)),
            ("participants", self.participants(&customers)),
            ("polls", self.polls(&xrefs)),
        ])
    }

    /// To whom each living cross-reference belongs.
    pub(crate) fn owners(&self) -> BTreeMap<(String, String), Option<Uuid>> {
        let writes = self.writes();
        let mut xrefs: BTreeMap<&Name, Xref> =
            writes.iter().filter_map(|(name, writes)| Some((name, self.xref(name, writes)?))).collect();
        self.hold_back_the_crowded(&mut xrefs);
        let owner = |(name, xref): (&&Name, &Xref)| ((name.0.to_owned(), name.1.clone()), self.customer_id(xref));
        xrefs.iter().map(owner).collect()
    }

    /// Takes over the decisions that stand, as rows of kind and subject.
    pub(crate) fn decided(&mut self, standing: &[Value]) {
        (self.merges, self.splits) = (Vec::new(), BTreeSet::new());
        (self.blocks, self.allows) = (BTreeSet::new(), BTreeSet::new());
        for decision in standing {
            let subject = |at: usize| decision["subject"][at].as_str().unwrap().to_owned();
            match decision["kind"].as_str().unwrap() {
                "merge" => self.merges.push((subject(0), subject(1))),
                "split" => drop(self.splits.insert((subject(0), subject(1)))),
                "block" => drop(self.blocks.insert(subject(0))),
                "allow" => drop(self.allows.insert(subject(0))),
                kind => panic!("no kind of decision: {kind}"),
            }
        }
    }

    /// All writes by cross-reference, oldest first, with those that primary-key changes carry over.
    fn writes(&self) -> BTreeMap<Name, Vec<Write>> {
        let mut writes: BTreeMap<Name, BTreeMap<(u64, i64), Write>> = BTreeMap::new();
        let mut moves = Vec::new();
        for (system, event) in &self.events {
            let says = match &event.says {
                Says::Customer(customer) => Some(customer.clone()),
                Says::CustomerGone(to) => {
                    moves.extend(to.iter().map(|to| (*system, event, to.clone())));
                    None
                }
                _ => continue,
            };
            let says = says.filter(|_| !self.is_retired(system, event));
            let write = Write { position: event.position, observed_at: event.observed_at, id: event.id.clone(), says };
            writes.entry((system, event.id.0.clone())).or_default().insert(event.position, write);
        }
        for (system, event, to) in moves {
            let before = |write: &&Write| write.position < event.position;
            let old: Vec<&Write> = writes[&(system, event.id.0.clone())].values().filter(before).collect();
            let Some(carried) = values(&old) else { continue };
            let position = (event.position.0, -1);
            let says = Some(carried).filter(|_| !self.is_retired(system, event));
            let write = Write { position, observed_at: event.observed_at, id: to.clone(), says };
            writes.entry((system, to.0)).or_default().insert(position, write);
        }
        writes.into_iter().map(|(name, writes)| (name, writes.into_values().collect())).collect()
    }

    /// What is older than a retirement of its system is dead, at its own position.
    pub(crate) fn is_retired(&self, system: &str, event: &Event) -> bool {
        self.retirements.iter().any(|(retired, before)| *retired == system && event.observed_at < *before)
    }

    /// A living cross-reference; `None` for a tombstone.
    fn xref(&self, name: &Name, writes: &[Write]) -> Option<Xref> {
        let newest = writes.last()?;
        let values = values(&writes.iter().collect::<Vec<_>>())?;
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let email = text(values.email);
        let key = if self.splits.contains(&(name.0.to_owned(), name.1.clone())) {
            Ok(format!("#{}:{}", name.0, name.1))
        } else {
            self.key_of(email.as_deref())
        };
        Some(Xref {
            id: newest.id.clone(),
            observed_at: newest.observed_at,
            email,
            credential: text(values.credential),
            attributes: values.attributes,
            key,
        })
    }

    /// The match key of the simple emails of these tests.
    fn key_of(&self, email: Option<&str>) -> Result<String, &'static str> {
        let folded = email.unwrap_or_default().trim().to_lowercase();
        match folded.split('@').collect::<Vec<_>>()[..] {
            _ if folded == "n/a" || folded.starts_with("test@") || self.blocks.contains(&folded) => Err("blocked"),
            [""] => Err("no_email"),
            [local, domain] if !local.is_empty() && !domain.is_empty() && !folded.contains(' ') => Ok(folded),
            _ => Err("invalid_email"),
        }
    }

    fn hold_back_the_crowded(&self, xrefs: &mut BTreeMap<&Name, Xref>) {
        let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
        for (name, xref) in &*xrefs {
            if let Ok(key) = &xref.key {
                *counts.entry((name.0, key.clone())).or_default() += 1;
            }
        }
        for ((system, key), count) in counts {
            if count <= self.max_xrefs_per_system || self.allows.contains(&key) || key.starts_with('#') {
                continue;
            }
            for (name, xref) in &mut *xrefs {
                if name.0 == system && xref.key.as_ref() == Ok(&key) {
                    xref.key = Err("crowded");
                }
            }
        }
    }

    /// Through all merges to the last.
    fn lead(&self, key: &str) -> String {
        match self.merges.iter().find(|(from, _)| from == key) {
            Some((_, into)) => self.lead(into),
            None => key.to_owned(),
        }
    }

    fn customer_id(&self, xref: &Xref) -> Option<Uuid> {
        xref.key.as_ref().ok().map(|key| id_of(&self.lead(key)))
    }

    fn xref_row(&self, (system, external_id): &Name, xref: &Xref) -> Value {
        let match_key = match (&xref.key, &xref.email) {
            (Ok(key), _) => Some(key.clone()),
            (Err("crowded"), email) => self.key_of(email.as_deref()).ok(),
            (Err(_), _) => None,
        };
        json!({"system": system, "external_id": external_id, "customer_id": self.customer_id(xref),
               "unmatched_reason": xref.key.as_ref().err(), "match_key": match_key, "email": xref.email,
               "external_id_json": id_json(&xref.id), "credential": xref.credential, "attributes": xref.attributes,
               "observed_at": xref.observed_at})
    }

    fn orders(&self, writes: &BTreeMap<Name, Vec<Write>>, xrefs: &BTreeMap<&Name, Xref>) -> Vec<Value> {
        let mut said: BTreeMap<Name, BTreeMap<(u64, i64), &Event>> = BTreeMap::new();
        for (system, event) in &self.events {
            if matches!(event.says, Says::Order(_) | Says::OrderGone) {
                said.entry((system, event.id.0.clone())).or_default().insert(event.position, event);
            }
        }
        let row = |((system, order_id), said): (Name, BTreeMap<(u64, i64), &Event>)| {
            let Says::Order(newest) = &said.last_key_value()?.1.says else { return None };
            let lines = said.values().rev().find_map(|event| match &event.says {
                Says::Order(order) => order.lines.clone(),
                _ => Some(Vec::new()),
            });
            let line = |(_, quantity, price): &Line| {
                Some(quantity.as_ref()?.parse::<i64>().unwrap() * price.as_ref()?.parse::<i64>().unwrap())
            };
            let sum = lines.as_ref().and_then(|lines| lines.iter().map(line).sum::<Option<i64>>());
            let owner = newest.customer.clone().map(|id| (system, id));
            // Whose order it is behind a tombstone is history.
            let is_history =
                owner.as_ref().is_some_and(|owner| writes.contains_key(owner) && !xrefs.contains_key(owner));
            let customer_id = owner.as_ref().and_then(|owner| self.customer_id(xrefs.get(owner)?));
            Some(json!({"system": system, "order_id": order_id, "customer_external_id": newest.customer,
                        "customer_id": if is_history { json!("history") } else { json!(customer_id) },
                        "total": newest.total.clone().or(sum.map(|sum| sum.to_string())),
                        "lines": lines.unwrap_or_default(), "document": newest.document}))
        };
        said.into_iter().filter_map(row).collect()
    }

    fn participants(&self, customers: &BTreeMap<String, Vec<(&Name, &Xref)>>) -> Vec<Value> {
        let mut newest: BTreeMap<Name, &Event> = BTreeMap::new();
        for (system, event) in &self.events {
            let known = newest.entry((system, event.id.0.clone()));
            if matches!(event.says, Says::Interaction(_)) {
                known
                    .and_modify(|known| {
                        if known.position < event.position {
                            *known = event;
                        }
                    })
                    .or_insert(event);
            }
        }
        let who = |((system, id), event): (Name, &Event)| {
            let Says::Interaction(Some(emails)) = event.says.clone() else { return Vec::new() };
            let row = |email: String| {
                let key = History::default().key_of(Some(&email)).ok();
                let customer = key.map(|key| self.lead(&key)).filter(|lead| customers.contains_key(lead));
                json!({"system": system, "interaction_id": id, "email": email,
                       "customer_id": customer.map(|key| id_of(&key))})
            };
            emails.into_iter().map(row).collect()
        };
        newest.into_iter().flat_map(who).collect()
    }

    fn polls(&self, xrefs: &BTreeMap<&Name, Xref>) -> Vec<Value> {
        let mut newest: BTreeMap<String, (Reverse<i64>, &Name, &str)> = BTreeMap::new();
        for (name, xref) in xrefs {
            let key = match &xref.key {
                Ok(key) if !key.starts_with('#') => key.clone(),
                Err("crowded") => self.key_of(xref.email.as_deref()).unwrap(),
                _ => continue,
            };
            let candidate = (Reverse(xref.observed_at), *name, xref.email.as_deref().unwrap_or_default().trim());
            newest.entry(key).and_modify(|known| *known = candidate.min(*known)).or_insert(candidate);
        }
        newest.into_iter().map(|(key, (_, _, email))| json!({"match_key": key, "email": email})).collect()
    }
}

/// Registers after a history of one id: of each the newest write that is newer than the newest delete. `None` if that
/// delete is the newest of all.
fn values(writes: &[&Write]) -> Option<Customer> {
    writes.last()?.says.as_ref()?;
    let mut values = Customer::default();
    for write in writes {
        match &write.says {
            None => values = Customer::default(),
            Some(says) => {
                values.email = says.email.clone().or(values.email);
                values.credential = says.credential.clone().or(values.credential);
                values.attributes.extend(says.attributes.clone());
            }
        }
    }
    let has_value = |value: &Value| !value.is_null() && value != "";
    values.email = values.email.filter(has_value);
    values.credential = values.credential.filter(has_value);
    values.attributes.retain(|_, value| has_value(value));
    Some(values)
}

fn customer_row(key: &str, xrefs: &[(&Name, &Xref)]) -> Value {
    let (profile, provenance) = fold(xrefs);
    json!({"customer_id": id_of(key), "match_key": key, "email": email_of(key, xrefs), "profile": profile,
           "provenance": provenance})
}

fn document(key: &str, xrefs: &[(&Name, &Xref)]) -> Value {
    let listed = xrefs.iter().map(|(name, xref)| {
        let mut listed = json!({"external_system": name.0, "external_ID": id_json(&xref.id)});
        if let Some(credential) = &xref.credential {
            listed["pass"] = json!(credential);
        }
        listed
    });
    let document = json!({"type": "user", "profile": fold(xrefs).0, "xrefs": listed.collect::<Vec<_>>()});
    json!({"email": email_of(key, xrefs), "document": document})
}

/// A customer that was split off has the email of its cross-reference, if that is usable.
fn email_of(key: &str, xrefs: &[(&Name, &Xref)]) -> Option<String> {
    if !key.starts_with('#') {
        return Some(key.to_owned());
    }
    let own = xrefs.iter().find(|(_, xref)| xref.key.as_deref() == Ok(key))?;
    History::default().key_of(own.1.email.as_deref()).ok()
}

const PREFER: [&str; 3] = ["home_delivery", "online_store", "loyalty"];
const GROUP: [&str; 5] = ["address1", "address2", "city", "state", "zipcode"];

fn fold(xrefs: &[(&Name, &Xref)]) -> (Map<String, Value>, Map<String, Value>) {
    let (mut profile, mut provenance) = (Map::new(), Map::new());
    let names: BTreeSet<&str> = xrefs.iter().flat_map(|(_, xref)| xref.attributes.keys().map(String::as_str)).collect();
    let alone = names.iter().filter(|name| !GROUP.contains(name)).map(|name| vec![*name]);
    for group in alone.chain([GROUP.to_vec()]) {
        let having = xrefs.iter().filter(|(_, xref)| group.iter().any(|name| xref.attributes.contains_key(*name)));
        let best = having.min_by_key(|(name, xref)| {
            let own_list = group[0] == "loyaltyPoints" && name.0 == "loyalty";
            let preferred = PREFER.iter().position(|system| *system == name.0).unwrap_or(PREFER.len());
            (!own_list, preferred, Reverse(xref.observed_at), (name.0, name.1.clone()))
        });
        let Some((name, xref)) = best else { continue };
        for attribute in group {
            if let Some(value) = xref.attributes.get(attribute) {
                profile.insert(attribute.to_owned(), value.clone());
                provenance.insert(attribute.to_owned(), json!({"system": name.0, "external_id": name.1}));
            }
        }
    }
    (profile, provenance)
}

fn id_of(key: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, key.as_bytes())
}

fn id_json(id: &Id) -> Value {
    if id.1 { serde_json::from_str(&id.0).unwrap() } else { json!(id.0) }
}

fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(Value::to_string);
    rows
}

impl World {
    /// Makes customer ids comparable; for an empty world.
    pub(crate) async fn with_known_ids(self) -> Self {
        sqlx::query("update customer360.installation set namespace = $1")
            .bind(NAMESPACE)
            .execute(&self.pool)
            .await
            .unwrap();
        self
    }

    /// What the tables hold of the living.
    pub(crate) async fn living(&self) -> Living {
        BTreeMap::from([
            (
                "xrefs",
                self.rows(
                    "select system, external_id, customer_id, unmatched_reason, match_key, email, external_id_json, credential,
                            jsonb_strip_nulls(attributes) as attributes, extract(epoch from observed_at)::bigint as observed_at
                     from customer360.xrefs where deleted_at is null
                     order by system collate \"C\", external_id collate \"C\"",
                )
                .await,
            ),
            (
                "customers",
                sorted(
                    self.rows(
                        "select customer_id, match_key, email, profile, provenance
                         from customer360.customers where deleted_at is null",
                    )
                    .await,
                ),
            ),
            ("documents", sorted(self.rows("select email, document from customer360.documents").await)),
            (
                "orders",
                self.rows(
                    "select o.system, o.order_id, o.customer_external_id,
                            case when x.deleted_at is not null then to_jsonb('history'::text)
                                 else coalesce(to_jsonb(o.customer_id), 'null') end as customer_id,
                            trim_scale(o.total)::text as total,
                            (select coalesce(jsonb_agg(jsonb_build_array(product_id, quantity::text, unit_price::text)
                                                       order by line_no), '[]')
                             from customer360.order_lines l
                             where l.system = o.system and l.order_id = o.order_id) as lines,
                            o.document
                     from customer360.orders o
                     left join customer360.xrefs x on x.system = o.system and x.external_id = o.customer_external_id
                     where o.deleted_at is null
                     order by o.system collate \"C\", o.order_id collate \"C\"",
                )
                .await,
            ),
            (
                "participants",
                self.rows(
                    "select system, interaction_id, email, customer_id from customer360.interaction_participants
                     order by system collate \"C\", interaction_id collate \"C\", participant_no",
                )
                .await,
            ),
            ("polls", self.rows("select match_key, email from staging.polls order by match_key collate \"C\"").await),
        ])
    }
}
