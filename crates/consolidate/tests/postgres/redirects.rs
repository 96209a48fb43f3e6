//! Where a customer leads whose last cross-reference has left: wherever that one is, and never to a stranger.

use consolidate::decide::Request;
use consolidate::{Error, Key, Refusal, show};
use serde_json::{Value, json};

use crate::support::World;
use crate::support::events::{Event, customer, gone, order};

const ANN: &str = "ann@x.example";
const BOB: &str = "bob@x.example";
const CYD: &str = "cyd@x.example";

fn key(word: &str) -> Key {
    Key::parse(&[word.to_owned()])
}

impl World {
    async fn say(&mut self, events: &[Event]) {
        self.land("store", events).await;
        self.consolidate().await;
    }

    async fn ask(&mut self, request: &Request) {
        self.request(request).await.unwrap();
        self.consolidate().await;
    }

    async fn id(&self, email: &str) -> Value {
        self.customer(email).await.unwrap()["customer_id"].clone()
    }

    /// The match key of whoever is shown.
    async fn shown(&self, word: &str) -> Result<String, Error> {
        let mut connection = self.pool.acquire().await.unwrap();
        show::show(&mut connection, &self.rules, &key(word)).await.map(|customer| customer.match_key)
    }
}

/// Ann is 1, Bob is 2.
async fn two_people() -> World {
    let mut world = World::new().await;
    world.say(&[customer(1, 1).email(ANN).attribute("name", "Ann"), customer(2, 1).email(BOB)]).await;
    world
}

#[tokio::test]
async fn a_redirect_follows_the_cross_reference_that_left_and_is_gone_when_its_customer_lives_again() {
    let mut world = two_people().await;
    let ann = world.id(ANN).await;
    world.say(&[customer(1, 2).email(BOB)]).await;
    assert_eq!(world.follow(&ann).await, world.id(BOB).await);
    world.say(&[customer(1, 3).email(CYD)]).await;
    assert_eq!(world.follow(&ann).await, world.id(CYD).await, "she moved on, and Bob is a stranger");
    world.say(&[customer(1, 4).email("nobody")]).await;
    assert_eq!(world.follow(&ann).await, ann, "her cross-reference belongs to nobody");
    world.say(&[customer(1, 5).email(BOB)]).await;
    assert_eq!(world.follow(&ann).await, world.id(BOB).await);
    world.say(&[gone(1, 6)]).await;
    world.say(&[customer(1, 7).email(CYD)]).await;
    assert_eq!(world.follow(&ann).await, world.id(CYD).await, "a cross-reference that comes back is the one it was");

    world.say(&[customer(3, 1).email(ANN)]).await;
    world.say(&[gone(3, 2)]).await;
    assert_eq!(world.follow(&ann).await, ann, "she lived again, and whoever was last has not left");
}

#[tokio::test]
async fn who_matches_nobody_before_it_goes_to_another_leads_there_and_who_is_held_back_does_not() {
    let mut world = two_people().await;
    let ann = world.id(ANN).await;
    world.say(&[customer(1, 2).email("nobody")]).await;
    assert_eq!(world.follow(&ann).await, ann);
    world.say(&[customer(1, 3).email(CYD)]).await;
    assert_eq!(world.follow(&ann).await, world.id(CYD).await);

    let bob = world.id(BOB).await;
    world.rules.guards.max_xrefs_per_system = 1;
    world.say(&[customer(3, 1).email(BOB)]).await;
    world.say(&[customer(2, 2).email("dan@x.example"), customer(3, 2).email("eve@x.example")]).await;
    assert_eq!(world.follow(&bob).await, bob, "who shared an email may be strangers");
}

/// More swaps than one transaction folds: somebody's redirect is noted before the other one has moved in, and each takes orders
/// of customers whom the other one writes.
#[tokio::test]
async fn who_moves_in_while_the_last_one_moves_out_leaves_no_redirect_behind() {
    let mut world = World::new().await;
    let have = |position: u64, first: &str, second: &str| {
        let of = |id: i64| {
            let who = if id % 2 == 0 { first } else { second };
            customer(id, position).email(&format!("{who}{}@x.example", id / 2))
        };
        (0..3_000).map(of).collect::<Vec<_>>()
    };
    world.say(&have(1, "ann", "bob")).await;
    world.say(&(0..3_000).map(|id| order(id, 1).of_customer(&id.to_string())).collect::<Vec<_>>()).await;
    world.say(&have(2, "bob", "ann")).await;
    world.assert_counts_are_right("moved").await;
    assert_eq!(world.value("select count(*) from customer360.documents").await, 3_000);
    assert_eq!(world.value("select count(*) from customer360.redirects").await, 0);
}

/// As a row filter by a list has to: an agent's client stays that.
#[tokio::test]
async fn who_is_on_a_list_stays_on_it_under_another_email_and_through_a_merge_and_its_undoing() {
    let mut world = two_people().await;
    sqlx::raw_sql(
        "insert into customer360.lists values ('mine', 'ann', now()), ('theirs', 'ann', now());
         insert into customer360.list_members (customer_id, list, added_at)
         select customer_id, 'mine', now() from customer360.customers where email in ('ann@x.example', 'bob@x.example');
         insert into customer360.list_members (customer_id, list, added_at)
         select customer_id, 'theirs', now() from customer360.customers where email = 'ann@x.example'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let listed = async |world: &World| {
        let rows = world
            .rows(
                "select m.list || ' ' || c.email as who from customer360.list_members m
                 join customer360.customers c on c.customer_id = m.customer_id and c.deleted_at is null order by 1",
            )
            .await;
        rows.iter().map(|row| row["who"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = ["mine ann@x.example", "mine bob@x.example", "theirs ann@x.example"];
    assert_eq!(listed(&world).await, before);
    world.ask(&Request::Merge(key(ANN), key(BOB))).await;
    assert_eq!(listed(&world).await, ["mine bob@x.example", "theirs bob@x.example"]);
    world.say(&[customer(2, 2).email(CYD)]).await;
    assert_eq!(listed(&world).await, ["mine bob@x.example", "theirs bob@x.example"], "the merged one is still there");
    world.say(&[customer(2, 3).email(BOB)]).await;
    world.ask(&Request::UndoLast(key(ANN))).await;
    assert_eq!(listed(&world).await, before);
    world.say(&[customer(1, 2).email(CYD)]).await;
    assert_eq!(listed(&world).await, ["mine bob@x.example", "mine cyd@x.example", "theirs cyd@x.example"]);
    world.say(&[gone(1, 3)]).await;
    assert_eq!(listed(&world).await, ["mine bob@x.example"]);
    world.say(&[customer(1, 4).email(ANN)]).await;
    assert_eq!(listed(&world).await, before);

    // An older version moves customers only.
    world.ask(&Request::Merge(key(ANN), key(BOB))).await;
    sqlx::raw_sql(
        "update customer360.list_members m set customer_id = c.customer_id, put_on = null
         from customer360.customers c where c.email = 'ann@x.example' and m.list = 'theirs'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    assert_eq!(listed(&world).await, ["mine bob@x.example"]);
    world.catch_up().await;
    assert_eq!(listed(&world).await, ["mine bob@x.example", "theirs bob@x.example"]);
}

#[tokio::test]
async fn what_an_older_version_wrote_of_redirects_is_finished_by_a_newer_one() {
    let mut world = two_people().await;
    let (ann, bob) = (world.id(ANN).await, world.id(BOB).await);
    world.say(&[customer(1, 2).email(CYD)]).await;
    let cyd = world.id(CYD).await;
    let is = "select to_customer_id, followed_to, decided_to from customer360.redirects";
    let written = async |world: &World, set: &str| {
        let sql = format!("update customer360.redirects set {set}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&world.pool).await.unwrap();
        world.catch_up().await;
        world.rows(is).await.remove(0)
    };
    let to = |to: &Value, followed: &Value, decided: &Value| json!({"to_customer_id": to, "followed_to": followed, "decided_to": decided});
    let none = Value::Null;
    assert_eq!(world.rows(is).await, [to(&cyd, &cyd, &none)]);
    assert_eq!(written(&world, "followed_to = null").await, to(&cyd, &cyd, &none), "it noted where to");
    let moved = format!("to_customer_id = '{}'", bob.as_str().unwrap());
    assert_eq!(written(&world, &moved).await, to(&bob, &bob, &none), "it followed");
    assert_eq!(written(&world, "to_customer_id = null").await, to(&none, &none, &none), "to nobody");
    let merged = format!("decided_to = '{}'", bob.as_str().unwrap());
    assert_eq!(written(&world, &merged).await, to(&bob, &none, &bob), "it noted a merge");
    let moved = format!("to_customer_id = '{}'", cyd.as_str().unwrap());
    assert_eq!(written(&world, &moved).await, to(&bob, &cyd, &bob), "it followed whom it had merged");
    assert_eq!(world.resolved(&ann).await, bob);
}

#[tokio::test]
async fn the_redirect_of_a_decision_goes_with_it() {
    let mut world = two_people().await;
    let ann = world.id(ANN).await;
    let merge = Request::Merge(key(ANN), key(BOB));
    world.ask(&merge).await;
    assert_eq!(world.shown(ann.as_str().unwrap()).await.unwrap(), BOB);
    world.ask(&Request::UndoLast(key(ANN))).await;
    world.say(&[gone(1, 2)]).await;
    assert_eq!(world.shown(ann.as_str().unwrap()).await.unwrap(), ANN, "Bob is a stranger again");

    world.say(&[customer(1, 3).email(ANN)]).await;
    world.ask(&merge).await;
    world.say(&[customer(1, 4).email(CYD)]).await;
    let shown = world.shown(ann.as_str().unwrap()).await;
    // The merge stands: her match key leads to Bob, whoever had it.
    assert_eq!(shown.unwrap(), BOB);
    assert_eq!(world.resolved(&ann).await, world.id(BOB).await, "for the API, too");
    world.ask(&Request::UndoLast(key(ANN))).await;
    assert_eq!(world.shown(ann.as_str().unwrap()).await.unwrap(), CYD);
    assert_eq!(world.resolved(&ann).await, world.id(CYD).await);
}

#[tokio::test]
async fn who_is_merged_while_nobody_is_there_leads_on_all_the_same() {
    let mut world = two_people().await;
    let (ann, bob) = (world.id(ANN).await, world.id(BOB).await);
    world.say(&[gone(1, 2), customer(3, 1).email(CYD)]).await;
    world.ask(&Request::Merge(key(ANN), key(BOB))).await;
    assert_eq!(world.resolved(&ann).await, bob);
    world.say(&[customer(9, 3).email(ANN)]).await;
    assert_eq!(world.resolved(&ann).await, bob);
    assert_eq!(world.shown("store:9").await.unwrap(), BOB);
    world.ask(&Request::Merge(key(BOB), key(CYD))).await;
    assert_eq!(world.resolved(&ann).await, world.id(CYD).await, "over both merges");
    world.ask(&Request::UndoLast(key(BOB))).await;
    assert_eq!(world.resolved(&ann).await, bob);
    world.ask(&Request::UndoLast(key(ANN))).await;
    assert_eq!(world.resolved(&ann).await, ann, "who lives again");
}

#[tokio::test]
async fn the_redirect_of_a_split_follows_who_was_split_off() {
    let mut world = two_people().await;
    world.say(&[customer(3, 1).email(ANN)]).await;
    let store_3 = Key::Xref("store".to_owned(), "3".to_owned());
    world.ask(&Request::Split(store_3.clone())).await;
    let alone = world.id("#store:3").await;
    world.ask(&Request::UndoLast(store_3)).await;
    assert_eq!(world.shown(alone.as_str().unwrap()).await.unwrap(), ANN);
    world.say(&[customer(3, 2).email(CYD)]).await;
    assert_eq!(world.shown(alone.as_str().unwrap()).await.unwrap(), CYD);
}

#[tokio::test]
async fn whose_cross_references_are_held_back_is_no_customer_even_where_a_redirect_leads_on() {
    let mut world = World::new().await;
    world.rules.guards.max_xrefs_per_system = 1;
    world.say(&[customer(1, 1).email("family@x.example"), customer(2, 1).email(BOB)]).await;
    let family = world.id("family@x.example").await;
    world.say(&[customer(1, 2).email(ANN)]).await;
    assert_eq!(world.shown("family@x.example").await.unwrap(), ANN);
    world.say(&[customer(3, 1).email("family@x.example"), customer(4, 1).email("family@x.example")]).await;
    for word in ["family@x.example", "store:3", family.as_str().unwrap()] {
        let shown = world.shown(word).await;
        assert!(matches!(shown, Err(Error::Refused(Refusal::HeldBack))), "{word}: {shown:?}");
    }
    world.ask(&Request::Allow(key("family@x.example"))).await;
    assert_eq!(world.shown("store:3").await.unwrap(), "family@x.example", "what was allowed is what was named");
    assert_eq!(world.value("select subject from customer360.decisions").await, json!(["family@x.example"]));
}
