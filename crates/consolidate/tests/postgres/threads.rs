//! Threads of messages: the same in whatever order they come.

use std::collections::BTreeMap;

use model::InteractionFields;
use serde_json::Value;

use crate::support::World;
use crate::support::events::{Event, Says, event};
use crate::support::random::Random;

fn mail(id: &str, position: u64, in_reply_to: Option<&str>, thread_id: Option<&str>) -> Event {
    let fields = InteractionFields {
        message_id: Some(format!("{id}@x")),
        in_reply_to: in_reply_to.map(|id| format!("{id}@x")),
        thread_id: thread_id.map(str::to_owned),
        ..InteractionFields::default()
    };
    event(id, position, Says::Mail(fields))
}

async fn threads(world: &World) -> BTreeMap<String, Value> {
    let rows = world.rows("select interaction_id as id, thread_id from customer360.interactions").await;
    rows.into_iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row["thread_id"].clone())).collect()
}

#[tokio::test]
async fn a_message_that_comes_late_mends_the_threads_of_its_children_and_theirs() {
    let mut world = World::new().await;
    world.land("mail", &[mail("c", 1, Some("b"), None), mail("d", 2, Some("c"), None)]).await;
    world.consolidate().await;
    assert_eq!(threads(&world).await, [("c".into(), "b@x".into()), ("d".into(), "b@x".into())].into());
    world.land("mail", &[mail("b", 3, Some("a"), None)]).await;
    world.consolidate().await;
    assert!(threads(&world).await.values().all(|thread| thread == "a@x"));
    world.land("mail", &[mail("a", 4, None, Some("root@x"))]).await;
    // Another system's message of that id is another message.
    world.land("crm", &[mail("b", 1, None, Some("other"))]).await;
    world.consolidate().await;
    let of_mail = world.rows("select thread_id from customer360.interactions where system = 'mail'").await;
    assert!(of_mail.iter().all(|row| row["thread_id"] == "root@x"), "{of_mail:?}");
    // Whatever is deleted ties nothing together.
    world.land("mail", &[event("b", 5, Says::Interaction(None))]).await;
    world.consolidate().await;
    assert_eq!(world.value("select thread_id from customer360.interactions where interaction_id = 'd'").await, "b@x");
}

/// The thread of a message among the newest versions of all, by the rule and nothing else. Parents come before their
/// children in `ids`, so there are no circles.
fn expected(newest: &BTreeMap<String, Event>, id: &str) -> Value {
    let Says::Mail(fields) = &newest[id].says else { return Value::Null };
    if let Some(thread) = &fields.thread_id {
        return thread.as_str().into();
    }
    let Some(replied_to) = &fields.in_reply_to else { return fields.message_id.as_deref().into() };
    match newest.get(replied_to.trim_end_matches("@x")) {
        Some(parent) if matches!(parent.says, Says::Mail(_)) => expected(newest, &parent.id.0),
        _ => replied_to.as_str().into(),
    }
}

#[tokio::test]
async fn threads_are_the_same_in_any_order_of_arrival_and_any_batches() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let ids: Vec<String> = (0..10).map(|number| format!("m{number:02}")).collect();
        let mut newest: BTreeMap<String, Event> = BTreeMap::new();
        let mut events = Vec::new();
        for position in 1..=25_u64 {
            let at = random.below(ids.len());
            let says = if random.once_in(8) {
                event(ids[at].as_str(), position, Says::Interaction(None))
            } else {
                let parent = (at > 0 && !random.once_in(4)).then(|| ids[random.below(at)].as_str());
                let thread = random.once_in(6).then(|| format!("t{}", random.below(3)));
                mail(&ids[at], position, parent, thread.as_deref())
            };
            newest.insert(ids[at].clone(), says.clone());
            events.push(says);
        }
        random.shuffle(&mut events);
        let mut world = World::new().await;
        while !events.is_empty() {
            let rest = events.split_off((1 + random.below(6)).min(events.len()));
            world.land("mail", &events).await;
            world.consolidate().await;
            events = rest;
        }
        let expected: BTreeMap<String, Value> = newest.keys().map(|id| (id.clone(), expected(&newest, id))).collect();
        assert_eq!(threads(&world).await, expected, "seed {seed}");
    }
}

#[tokio::test]
async fn messages_in_a_circle_are_one_thread_whoever_came_first() {
    let circle = [mail("b", 1, Some("a"), None), mail("a", 1, Some("c"), None), mail("c", 1, Some("b"), None)];
    for first in 0..3 {
        let mut world = World::new().await;
        for at in 0..3 {
            world.land("mail", &[circle[(first + at) % 3].clone()]).await;
            world.consolidate().await;
        }
        assert!(threads(&world).await.values().all(|thread| thread == "a@x"), "from {first}");
    }
}
