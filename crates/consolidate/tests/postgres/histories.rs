//! Random histories of several systems, in random order, with repetitions, in random batches, consolidated at random moments
//! and with operators deciding and undoing in between, against the independent model.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use consolidate::decide::Request;
use consolidate::{Error, Key, Rules};
use serde_json::{Value, json};

use crate::support::events::{Customer, Event, Id, Order, Says};
use crate::support::oracle::{History, Living};
use crate::support::random::Random;
use crate::support::{World, rules};

const SYSTEMS: [&str; 4] = ["home_delivery", "online_store", "loyalty", "another"];
const EMAILS: [&str; 12] = [
    "ann@x.example",
    " Ann@X.example",
    "bob@x.example",
    "BOB@x.example\u{a0}",
    "cyd@x.example",
    "cyd@x.example",
    "dan@x.example",
    "test@x.example",
    "N/A",
    "no email",
    "a@b@c",
    "",
];
const KEYS: [&str; 4] = ["ann@x.example", "bob@x.example", "cyd@x.example", "dan@x.example"];
const ATTRIBUTES: [&str; 5] = ["name", "address1", "city", "loyaltyPoints", "phone"];
const MAX_XREFS_PER_SYSTEM: usize = 2;
/// Systems whose clocks do not run against their logs, so that they can be retired: what was overwritten left no time behind.
const ORDERLY: [&str; 2] = ["loyalty", "another"];

/// How large a history is.
#[derive(Clone, Copy)]
struct Size {
    /// Places in each system's log.
    positions: u64,
    /// Customers of each system.
    ids: usize,
    /// Emails beside the odd ones.
    people: usize,
}

const SMALL: Size = Size { positions: 24, ids: 4, people: 0 };
const LARGE: Size = Size { positions: 1_500, ids: 150, people: 200 };

/// Seeds of small histories that have found something: a redirect from a customer who never was, none from one whose last
/// cross-reference matched nobody for a while before it went to another, and one that stayed when a new one came instead.
const FOUND_BY: [u64; 3] = [100_044, 1_003_102, 1_004_318];

/// `C360_HISTORIES` and `C360_LARGE_HISTORIES` say how many, `C360_HISTORIES_FROM` the first seed, `C360_HISTORIES_AT_ONCE` how
/// many are lived through at the same time, each in a world of its own.
#[tokio::test]
async fn invariant_3_a_profile_is_a_pure_function_of_cross_references_decisions_and_rules() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (from, at_once) = (number("C360_HISTORIES_FROM", 0), number("C360_HISTORIES_AT_ONCE", 4));
    let mut seen = Seen::default();
    let mut world = World::with(rules_of_histories()).await;
    for seed in FOUND_BY {
        seen.add(&live_through(seed, SMALL, &mut world).await);
    }
    let small = (SMALL, number("C360_HISTORIES", 10), at_once);
    // To think of a large one and to compare it keeps the others waiting for longer than a connection does.
    let large = (LARGE, number("C360_LARGE_HISTORIES", 0), 1);
    for (size, count, at_once) in [small, large] {
        let slot = async |slot: u64| {
            let mut seen = Seen::default();
            let mut world = World::with(rules_of_histories()).await;
            for seed in (from..from + count).filter(|seed| seed % at_once == slot) {
                seen.add(&live_through(seed, size, &mut world).await);
            }
            seen
        };
        let slots = futures::future::join_all((0..at_once.min(count)).map(slot)).await;
        for slot in &slots {
            seen.add(slot);
        }
    }
    println!("{seen:?}");
    let is_rich = seen.retirements > 8 && seen.decisions > 40 && seen.undos > 10 && seen.redirects > 8;
    assert!(is_rich || seen.histories < 10, "the seeds are bad: {seen:?}");
}

/// What happened in histories.
#[derive(Debug, Default)]
struct Seen {
    histories: usize,
    events: usize,
    retirements: usize,
    decisions: i64,
    undos: i64,
    refusals: usize,
    redirects: usize,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.events += other.events;
        self.retirements += other.retirements;
        self.decisions += other.decisions;
        self.undos += other.undos;
        self.refusals += other.refusals;
        self.redirects += other.redirects;
    }
}

fn rules_of_histories() -> Rules {
    let mut rules = rules();
    rules.guards.max_xrefs_per_system = MAX_XREFS_PER_SYSTEM;
    rules.polled_sources = vec!["online_store".to_owned()];
    rules
}

/// What is said in one history, delivered twice in different orders, with operators who decide in between.
async fn live_through(seed: u64, size: Size, world: &mut World) -> Seen {
    let random = &mut Random::new(seed);
    let mut history = said(random, size);
    history.max_xrefs_per_system = MAX_XREFS_PER_SYSTEM;
    retired(random, &mut history);
    let mut found = Seen { histories: 1, retirements: history.retirements.len(), ..Seen::default() };
    for delivery in 0..2 {
        world.empty().await;
        let when = format!("{} positions, seed {seed}, delivery {delivery}", size.positions);
        found.refusals += deliver(random, &history, size, world, &when).await;
        history.decided(&world.rows("select kind, subject from customer360.decisions where undone_at is null").await);
        assert_same(&history.living(), &world.living().await, &when);
        world.assert_counts_are_right(&when).await;
        found.redirects += assert_redirects_follow(&history, world, &when).await;
        let count = world.value("select array[count(*), count(undone_at)] from customer360.decisions").await;
        found.decisions += count[0].as_i64().unwrap();
        found.undos += count[1].as_i64().unwrap();
        found.events += history.events.len();
    }
    found
}

fn assert_same(expected: &Living, found: &Living, when: &str) {
    for (table, rows) in expected {
        let (missing, odd): (Vec<_>, Vec<_>) = (
            rows.iter().filter(|row| !found[table].contains(row)).collect(),
            found[table].iter().filter(|row| !rows.contains(row)).collect(),
        );
        assert!(missing.is_empty() && odd.is_empty(), "{when}, {table}: expected {missing:#?}, found {odd:#?}");
        assert_eq!(rows.len(), found[table].len(), "{when}, {table}: some rows are there twice");
    }
}

/// That there are redirects is history; where they lead is not: where their cross-reference is, by the model. Returns how many
/// there are.
async fn assert_redirects_follow(history: &History, world: &World, when: &str) -> usize {
    let owners = history.owners();
    let redirects = world
        .rows(
            "select r.system, r.external_id, r.customer_id, r.followed_to, c.deleted_at is not null as has_nobody,
                    x.customer_id as of_tombstone
             from customer360.redirects r
             left join customer360.customers c on c.customer_id = r.customer_id
             left join customer360.xrefs x
                 on x.system = r.system and x.external_id = r.external_id and x.deleted_at is not null
             where r.system is not null",
        )
        .await;
    for redirect in &redirects {
        let text = |column: &str| redirect[column].as_str().unwrap().to_owned();
        let owner = owners.get(&(text("system"), text("external_id")));
        let leads_to = owner.map_or_else(|| redirect["of_tombstone"].clone(), |owner| json!(owner));
        assert_eq!(redirect["followed_to"], leads_to, "{when}: {redirect}");
        assert_eq!(redirect["has_nobody"], true, "{when}: {redirect}");
    }
    let astray = world
        .rows(
            "select c.customer_id, c.match_key, r.decided_to
             from customer360.customers c
             left join customer360.redirects r on r.customer_id = c.customer_id
             where r.to_customer_id is distinct from coalesce(r.decided_to, r.followed_to)
                or (r.decided_to is not null) <> (c.deleted_at is not null and exists (
                 select from customer360.decisions d
                 where d.kind = 'merge' and d.undone_at is null and d.subject[1] = c.match_key))",
        )
        .await;
    assert_eq!(astray, [json!(null); 0], "{when}: merges lead whom they are of");
    redirects.len()
}

/// Customers and their living cross-references, by system and id.
type Owned = BTreeMap<String, BTreeSet<(String, String)>>;

async fn owned(world: &World) -> Owned {
    let rows = world
        .rows("select system, external_id, customer_id from customer360.xrefs where deleted_at is null and customer_id is not null")
        .await;
    let mut owned = Owned::new();
    for row in rows {
        let text = |column: &str| row[column].as_str().unwrap().to_owned();
        owned.entry(text("customer_id")).or_default().insert((text("system"), text("external_id")));
    }
    owned
}

/// Customers all of whose cross-references went to others, while nobody came, lead after one of them.
async fn assert_redirects_are_noted(before: &Owned, after: &Owned, world: &World, when: &str) {
    let redirects = world.rows("select customer_id, system, external_id from customer360.redirects").await;
    let crowded = world
        .rows(
            "select c.customer_id from customer360.customers c join customer360.xrefs x on x.match_key = c.match_key
             where x.customer_id is null",
        )
        .await;
    let elsewhere: BTreeSet<&(String, String)> = after.values().flatten().collect();
    for (customer_id, xrefs) in before {
        let nobody_came = crowded.iter().all(|row| row["customer_id"] != *customer_id);
        if nobody_came && !after.contains_key(customer_id) && xrefs.iter().all(|xref| elsewhere.contains(xref)) {
            let redirect = redirects.iter().find(|redirect| redirect["customer_id"] == *customer_id);
            let redirect = redirect.unwrap_or_else(|| panic!("{when}: {customer_id} leads nowhere, and had {xrefs:?}"));
            let text = |column: &str| redirect[column].as_str().unwrap().to_owned();
            assert!(
                xrefs.contains(&(text("system"), text("external_id"))),
                "{when}: {redirect} does not hang on {xrefs:?}"
            );
        }
    }
}

/// What the systems said, each in its own order.
fn said(random: &mut Random, size: Size) -> History {
    let mut events = Vec::new();
    for system in SYSTEMS {
        let mut moves = 0;
        for position in 1..=size.positions {
            let id = (1 + random.below(size.ids)).to_string();
            let id = id.as_str();
            let already_moved = |id: &str| {
                let from = |(s, event): &(&str, Event)| {
                    *s == system && event.id.0 == id && matches!(event.says, Says::CustomerGone(Some(_)))
                };
                events.iter().any(from)
            };
            let says = match random.below(12) {
                0 | 1 => Says::Order(an_order(random, size)),
                2 => Says::OrderGone,
                3 => Says::Interaction(
                    (!random.once_in(5)).then(|| (0..=random.below(2)).map(|_| an_email(random, size)).collect()),
                ),
                4 => Says::CustomerGone(None),
                5 if moves < 2 && !already_moved(id) => {
                    moves += 1;
                    // The row comes back under a key that was never used, in the transaction that deletes the old one.
                    let new_id = Id(format!("moved {moves}"), false);
                    events.push((
                        system,
                        spoken(new_id.clone(), (position, 0), Says::Customer(a_customer(random, size)), random),
                    ));
                    Says::CustomerGone(Some(new_id))
                }
                6 if moves > 0 => {
                    let new_id = Id(format!("moved {moves}"), false);
                    events.push((
                        system,
                        spoken(new_id, (position, 1), Says::Customer(a_customer(random, size)), random),
                    ));
                    continue;
                }
                _ => Says::Customer(a_customer(random, size)),
            };
            let id = match says {
                Says::Order(_) | Says::OrderGone => Id(format!("o{}", random.below(size.ids - 1)), false),
                Says::Interaction(_) => Id(format!("i{}", random.below(size.ids / 2)), false),
                _ => Id(id.to_owned(), random.once_in(2)),
            };
            let offset = i64::try_from(position).unwrap();
            events.push((system, spoken(id, (position, offset), says, random)));
        }
    }
    for (_, event) in events.iter_mut().filter(|(system, _)| ORDERLY.contains(system)) {
        event.observed_at = i64::try_from(event.position.0 / 4).unwrap();
    }
    History { events, ..History::default() }
}

fn spoken(id: Id, position: (u64, i64), says: Says, random: &mut Random) -> Event {
    // Sources' clocks are coarse, and they do not agree.
    let observed_at = i64::try_from(random.below(5)).unwrap();
    Event { id, position, in_file: None, observed_at, says }
}

fn an_email(random: &mut Random, size: Size) -> String {
    if size.people > 0 && !random.once_in(4) {
        return format!("p{}@x.example", random.below(size.people));
    }
    (*random.pick(&EMAILS)).to_owned()
}

fn a_customer(random: &mut Random, size: Size) -> Customer {
    let mut customer = Customer::default();
    if !random.once_in(3) {
        let email = an_email(random, size);
        customer.email = Some(if email.is_empty() { Value::Null } else { json!(email) });
    }
    if random.once_in(2) {
        customer.credential =
            Some(if random.once_in(4) { Value::Null } else { json!(format!("d{}", random.below(3))) });
    }
    for name in ATTRIBUTES {
        if random.once_in(2) {
            let value = match random.below(5) {
                0 => Value::Null,
                1 => json!(random.below(100)),
                _ => json!(format!("{name} {}", random.below(4))),
            };
            customer.attributes.insert(name.to_owned(), value);
        }
    }
    customer
}

fn an_order(random: &mut Random, size: Size) -> Order {
    let number = |random: &mut Random| (!random.once_in(8)).then(|| random.below(50).to_string());
    let lines = (!random.once_in(3)).then(|| {
        let count = random.below(3);
        (0..count).map(|_| (format!("p{}", random.below(3)), number(random), number(random))).collect()
    });
    Order {
        customer: (!random.once_in(6)).then(|| match random.below(size.ids + 1) {
            0 => "moved 1".to_owned(),
            1 => "nobody".to_owned(),
            id => (id - 1).to_string(),
        }),
        total: random.once_in(3).then(|| random.below(1000).to_string()),
        lines,
        purchased_at: None,
        cancelled: false,
        document: json!({"n": random.below(1000)}),
    }
}

/// Something that an operator may ask for: it is refused if it makes no sense.
fn a_request(random: &mut Random, size: Size, made: &[i64]) -> Request {
    let mut a_key = || match random.below(4) {
        0 => Key::Xref((*random.pick(&SYSTEMS)).to_owned(), (1 + random.below(size.ids)).to_string()),
        _ if size.people > 0 => Key::parse(&[format!("p{}@x.example", random.below(size.people))]),
        _ => Key::parse(&[(*random.pick(&KEYS)).to_owned()]),
    };
    let (key, other) = (a_key(), a_key());
    match random.below(9) {
        0 | 1 => Request::Merge(key, other),
        2 | 3 => {
            Request::Split(Key::Xref((*random.pick(&SYSTEMS)).to_owned(), (1 + random.below(size.ids)).to_string()))
        }
        4 => Request::Block((*random.pick(&KEYS)).to_owned()),
        5 => Request::Unblock((*random.pick(&KEYS)).to_owned()),
        6 => Request::Allow(key),
        7 if !made.is_empty() => Request::Undo(*random.pick(made)),
        _ => Request::UndoLast(key),
    }
}

/// What operators retired. Not between what an id said and its change of primary key, which says it anew.
fn retired(random: &mut Random, history: &mut History) {
    for system in ORDERLY {
        for _ in 0..random.below(3) {
            let before = i64::try_from(random.below(8)).unwrap();
            let of_system = history.events.iter().filter(|(of, _)| *of == system).map(|(_, event)| event);
            let moves = of_system.clone().filter(|event| matches!(event.says, Says::CustomerGone(Some(_))));
            let tears = |change: &Event| {
                let said_before = |event: &Event| event.id.0 == change.id.0 && event.position < change.position;
                change.observed_at >= before
                    && of_system.clone().any(|event| said_before(event) && event.observed_at < before)
            };
            if !moves.clone().any(tears) {
                history.retirements.push((system, before));
            }
        }
    }
}

/// Brings a history into an empty world, in an order that sources could have, while operators decide; returns how often they
/// were refused.
async fn deliver(random: &mut Random, history: &History, size: Size, world: &mut World, when: &str) -> usize {
    let mut open = in_some_order(random, &history.events).into_iter().peekable();
    let mut retirements = history.retirements.clone();
    random.shuffle(&mut retirements);
    let (mut made, mut refusals) = (Vec::new(), 0);
    let mut consolidator = world.consolidator().await;
    while open.peek().is_some() || !retirements.is_empty() {
        let mut batches: BTreeMap<&str, Vec<Event>> = BTreeMap::new();
        for (system, event) in open.by_ref().take(1 + random.below(usize::try_from(size.positions).unwrap())) {
            batches.entry(system).or_default().push(event);
        }
        for (system, events) in batches {
            world.land(system, &events).await;
        }
        if random.once_in(4)
            && let Some((system, before)) = retirements.pop()
        {
            world.retire(system, DateTime::from_timestamp(before, 0).unwrap()).await;
        }
        for _ in 0..random.below(2 + size.ids / 2) {
            match world.request(&a_request(random, size, &made)).await {
                Ok((_, decision)) => made.extend(decision.map(|decision| decision.decision_id)),
                Err(Error::Refused(_)) => refusals += 1,
                Err(error) => panic!("{when}: {error}"),
            }
        }
        if random.once_in(2) {
            let before = owned(world).await;
            world.consolidate_by(&mut consolidator).await;
            assert_redirects_are_noted(&before, &owned(world).await, world, when).await;
        }
    }
    world.consolidate_by(&mut consolidator).await;
    let restarts = consolidate::overview::log_restarts(&mut world.pool.acquire().await.unwrap()).await.unwrap();
    assert!(restarts.is_empty(), "no log has begun again: {restarts:?}");
    refusals
}

/// Shuffled and with repetitions. Only what primary-key changes need is kept: the records of an old key come in order
/// around its change, as they do from one partition.
fn in_some_order(random: &mut Random, events: &[(&'static str, Event)]) -> Vec<(&'static str, Event)> {
    let moves = |event: &Event| matches!(event.says, Says::CustomerGone(Some(_)));
    let mut shuffled: Vec<usize> = (0..events.len()).collect();
    if !random.once_in(4) {
        random.shuffle(&mut shuffled);
    }
    let mut order: Vec<usize> = Vec::new();
    let mut seen = BTreeSet::new();
    for at in shuffled {
        let (system, event) = &events[at];
        let of_one_id = |other: &usize| events[*other].0 == *system && events[*other].1.id.0 == event.id.0;
        let change = (0..events.len()).filter(of_one_id).find(|other| moves(&events[*other].1));
        if let Some(change) = change
            && event.position >= events[change].1.position
        {
            let before = (0..events.len()).filter(of_one_id);
            let before = before.filter(|other| events[*other].1.position < events[change].1.position);
            order.extend(before.chain([change]).filter(|other| seen.insert(*other)));
        }
        if seen.insert(at) {
            order.push(at);
        }
        if random.once_in(4) {
            order.push(order[random.below(order.len())]);
        }
    }
    order.into_iter().map(|at| events[at].clone()).collect()
}
