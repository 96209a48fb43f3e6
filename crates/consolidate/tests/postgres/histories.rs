//! Random histories of several systems, in random order, with repetitions, in random batches, consolidated at random moments
//! and with operators deciding in between, against the independent model.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
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

#[tokio::test]
async fn invariant_3_a_profile_is_a_pure_function_of_cross_references_decisions_and_rules() {
    let mut retirements = 0;
    for seed in 0..10 {
        let random = &mut Random::new(seed);
        let mut history = said(random);
        history.max_xrefs_per_system = MAX_XREFS_PER_SYSTEM;
        decided(random, &mut history);
        retired(random, &mut history);
        let expected = history.living();
        for delivery in 0..2 {
            let found = deliver(random, &history).await;
            assert_same(&expected, &found, &format!("seed {seed}, delivery {delivery}"));
        }
        retirements += history.retirements.len();
    }
    assert!(retirements > 8, "only {retirements} retirements: the seeds are bad");
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

/// What the systems said, each in its own order.
fn said(random: &mut Random) -> History {
    let mut events = Vec::new();
    for system in SYSTEMS {
        let mut moves = 0;
        for position in 1..=24 {
            let id = *random.pick(&["1", "2", "3", "4"]);
            let already_moved = |id: &str| {
                let from = |(s, event): &(&str, Event)| {
                    *s == system && event.id.0 == id && matches!(event.says, Says::CustomerGone(Some(_)))
                };
                events.iter().any(from)
            };
            let says = match random.below(12) {
                0 | 1 => Says::Order(an_order(random)),
                2 => Says::OrderGone,
                3 => Says::Interaction(
                    (!random.once_in(5))
                        .then(|| (0..=random.below(2)).map(|_| (*random.pick(&EMAILS)).to_owned()).collect()),
                ),
                4 => Says::CustomerGone(None),
                5 if moves < 2 && !already_moved(id) => {
                    moves += 1;
                    // The row comes back under a key that was never used, in the transaction that deletes the old one.
                    let new_id = Id(format!("moved {moves}"), false);
                    events.push((
                        system,
                        spoken(new_id.clone(), (position, 0), Says::Customer(a_customer(random)), random),
                    ));
                    Says::CustomerGone(Some(new_id))
                }
                6 if moves > 0 => {
                    let new_id = Id(format!("moved {moves}"), false);
                    events.push((system, spoken(new_id, (position, 1), Says::Customer(a_customer(random)), random)));
                    continue;
                }
                _ => Says::Customer(a_customer(random)),
            };
            let id = match says {
                Says::Order(_) | Says::OrderGone => Id(format!("o{}", random.below(3)), false),
                Says::Interaction(_) => Id(format!("i{}", random.below(2)), false),
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

fn a_customer(random: &mut Random) -> Customer {
    let mut customer = Customer::default();
    if !random.once_in(3) {
        let email = *random.pick(&EMAILS);
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

fn an_order(random: &mut Random) -> Order {
    let number = |random: &mut Random| (!random.once_in(8)).then(|| random.below(50).to_string());
    let lines = (!random.once_in(3)).then(|| {
        let count = random.below(3);
        (0..count).map(|_| (format!("p{}", random.below(3)), number(random), number(random))).collect()
    });
    Order {
        customer: (!random.once_in(6)).then(|| (*random.pick(&["1", "2", "3", "moved 1", "nobody"])).to_owned()),
        total: random.once_in(3).then(|| random.below(1000).to_string()),
        lines,
        purchased_at: None,
        document: json!({"n": random.below(1000)}),
    }
}

/// What operators decided, and did not undo.
fn decided(random: &mut Random, history: &mut History) {
    if random.once_in(2) {
        history.merges.push((KEYS[0].to_owned(), KEYS[1].to_owned()));
    }
    if random.once_in(3) {
        history.merges.push((KEYS[1].to_owned(), KEYS[2].to_owned()));
    }
    if random.once_in(2) {
        history.splits.insert(((*random.pick(&SYSTEMS)).to_owned(), "1".to_owned()));
    }
    if random.once_in(4) {
        history.blocks.insert((*random.pick(&KEYS)).to_owned());
    }
    if random.once_in(2) {
        history.allows.insert((*random.pick(&KEYS)).to_owned());
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

/// Brings a history into a new world, in an order that sources could have, and returns what came of it.
async fn deliver(random: &mut Random, history: &History) -> Living {
    let mut rules = rules();
    rules.guards.max_xrefs_per_system = MAX_XREFS_PER_SYSTEM;
    rules.polled_sources = vec!["online_store".to_owned()];
    let mut world = World::with(rules).await.with_known_ids().await;
    let mut open = in_some_order(random, &history.events).into_iter().peekable();
    let mut decisions = decisions(history);
    random.shuffle(&mut decisions);
    let mut retirements = history.retirements.clone();
    random.shuffle(&mut retirements);
    while open.peek().is_some() || !decisions.is_empty() || !retirements.is_empty() {
        let mut batches: BTreeMap<&str, Vec<Event>> = BTreeMap::new();
        for (system, event) in open.by_ref().take(1 + random.below(25)) {
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
        if random.once_in(2)
            && let Some((kind, subject, stands)) = decisions.pop()
        {
            let subject: Vec<&str> = subject.iter().map(String::as_str).collect();
            let split = format!("#{}", subject.join(":"));
            let concerned: Vec<&str> = KEYS.into_iter().chain([split.as_str()]).collect();
            world.decide(kind, &subject, &concerned).await;
            if !stands {
                if random.once_in(2) {
                    world.consolidate().await;
                }
                world.undo(kind, &subject, &concerned).await;
            }
        }
        if random.once_in(2) {
            world.consolidate().await;
        }
    }
    world.consolidate().await;
    let restarts = consolidate::overview::log_restarts(&mut world.pool.acquire().await.unwrap()).await.unwrap();
    assert!(restarts.is_empty(), "no log has begun again: {restarts:?}");
    world.living().await
}

/// Kind, subject, and whether it stands: those of the history, and some that are undone.
fn decisions(history: &History) -> Vec<(&'static str, Vec<String>, bool)> {
    let pair = |(a, b): &(String, String)| vec![a.clone(), b.clone()];
    let mut decisions: Vec<(&str, Vec<String>, bool)> = Vec::new();
    decisions.extend(history.merges.iter().map(|merge| ("merge", pair(merge), true)));
    decisions.extend(history.splits.iter().map(|split| ("split", pair(split), true)));
    decisions.extend(history.blocks.iter().map(|value| ("block", vec![value.clone()], true)));
    decisions.extend(history.allows.iter().map(|key| ("allow", vec![key.clone()], true)));
    let undone = [
        ("merge", vec![KEYS[3], KEYS[0]]),
        ("split", vec![SYSTEMS[0], "2"]),
        ("block", vec![KEYS[3]]),
        ("allow", vec![KEYS[2]]),
    ];
    let undone = undone.map(|(kind, subject)| (kind, subject.into_iter().map(str::to_owned).collect(), false));
    for decision in undone {
        if !decisions.iter().any(|(kind, subject, _)| (kind, subject) == (&decision.0, &decision.1)) {
            decisions.push(decision);
        }
    }
    decisions
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
