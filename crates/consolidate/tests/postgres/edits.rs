//! Operators' edits of attributes: last write wins.

use std::collections::BTreeMap;
use std::time::Duration;

use consolidate::edit::{self, Edited, Made, NewCustomer, Takers};
use embedded_postgres::test::until_waiting;
use model::Unmatched;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::World;
use crate::support::events::{customer, moved};

const ANN: &str = "ann@x.example";

/// The store takes names and phones, and makes customers.
fn takers() -> Takers {
    let attributes = ["name", "phone"].map(str::to_owned).into();
    Takers { update: [("online_store".to_owned(), attributes)].into(), create: ["online_store".to_owned()].into() }
}

async fn edit(world: &World, id: &str, attribute: &str, value: Value, replaced: Value) {
    sqlx::query(
        "insert into customer360.edits (system, external_id, attribute, value, replaced, at, by)
         values ('loyalty', $1, $2, $3, $4, now(), 'test')",
    )
    .bind(id)
    .bind(attribute)
    .bind(value)
    .bind(replaced)
    .execute(&world.pool)
    .await
    .unwrap();
    world.mark(&[ANN]).await;
}

#[tokio::test]
async fn an_edit_stands_first_in_rank_and_yields_once_the_source_changes_the_value() {
    let mut world = World::new().await;
    world.land("loyalty", &[customer("27", 1).email(ANN).attribute("name", "Ann").attribute("phone", "1")]).await;
    world.land("home_delivery", &[customer(1029, 1).email(ANN).attribute("name", "A. Smith")]).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "A. Smith", "phone": "1"})));

    edit(&world, "27", "name", json!("Annie"), json!("Ann")).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["name"], "Annie");

    world.land("loyalty", &[customer("27", 2).attribute("phone", "2")]).await;
    world.land("home_delivery", &[customer(1029, 2).attribute("name", "Ann Smith")]).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "Annie", "phone": "2"})), "others change, it stands");

    world.land("loyalty", &[customer("27", 3).attribute("name", "Anna")]).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["name"], "Ann Smith", "the source wins again");
}

#[tokio::test]
async fn an_edit_of_what_nobody_supplied_stands_and_moves_with_its_cross_reference() {
    let mut world = World::new().await;
    world.land("loyalty", &[customer("27", 1).email(ANN).attribute("name", "Ann")]).await;
    world.consolidate().await;
    edit(&world, "27", "segment", json!("gold"), Value::Null).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["segment"], "gold");
    assert_eq!(
        world.customer(ANN).await.unwrap()["provenance"]["segment"],
        json!({"system": "loyalty", "external_id": "27"})
    );
    world.land("loyalty", &[customer("27", 2).email("ann@y.example")]).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@y.example").await, Some(json!({"name": "Ann", "segment": "gold"})));
}

#[tokio::test]
async fn an_edit_moves_with_a_primary_key_that_changes() {
    let mut world = World::new().await;
    world.land("loyalty", &[customer("27", 1).email(ANN).attribute("name", "Ann").attribute("phone", "1")]).await;
    world.consolidate().await;
    for (attribute, value, replaced) in [("name", "Annie", "Ann"), ("phone", "7", "1")] {
        edit(&world, "27", attribute, json!(value), json!(replaced)).await;
    }
    world.consolidate().await;
    let again = |id: &str, at| customer(id, at).email(ANN).attribute("name", "Ann").attribute("phone", "1");
    world.land("loyalty", &[moved("27", "28", 2), again("28", 3), moved("28", "29", 4), again("29", 5)]).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "Annie", "phone": "7"})));
    world.land("loyalty", &[customer("29", 6).attribute("phone", "2")]).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "Annie", "phone": "2"})), "the source wins again");
    world.land("loyalty", &[customer("27", 7).email("bob@x.example").attribute("name", "Ann")]).await;
    world.consolidate().await;
    assert_eq!(world.profile("bob@x.example").await, Some(json!({"name": "Ann"})), "the id is somebody else's now");
}

#[tokio::test]
async fn a_customer_made_by_hand_is_one_more_who_knows_a_person() {
    let mut world = World::new().await;
    let attributes = serde_json::Map::from_iter([("phone".to_owned(), json!("9"))]);
    let make = async |world: &World, external_id: &str, email: &str| {
        let mut connection = staging::connect(&world.options).await.unwrap();
        let new = NewCustomer { external_id, email, attributes: &attributes };
        edit::make(&mut connection, (&world.rules, &takers()), &world.seal, new, chrono::Utc::now()).await.unwrap()
    };
    let Made::Noted { customer_id, .. } = make(&world, "a", " Ann@X.example").await else { panic!("none is made") };
    assert_eq!(make(&world, "b", "noreply@x.example").await, Made::Unmatched(Unmatched::Blocked));
    assert_eq!(make(&world, "b", "nobody").await, Made::Unmatched(Unmatched::InvalidEmail));
    world.consolidate().await;
    assert_eq!(world.customer(ANN).await.unwrap()["customer_id"], json!(customer_id));
    assert_eq!(world.profile(ANN).await, Some(json!({"phone": "9"})));
    // Once more is nothing, and never somebody else; and what systems say later joins it.
    let again = make(&world, "a", " Ann@X.example").await;
    assert!(matches!(again, Made::Noted { customer_id: same, is_new: false, .. } if same == customer_id), "{again:?}");
    assert_eq!(make(&world, "a", "bob@x.example").await, Made::Reused);
    world.land("home_delivery", &[customer(1029, 1).email(ANN).attribute("name", "Ann")]).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "Ann", "phone": "9"})));
    assert_eq!(world.value("select count(*) from customer360.xrefs").await, 2);

    let whom = consolidate::Key::Word(ANN.to_owned());
    let mut connection = staging::connect(&world.options).await.unwrap();
    let (rules, orders) = (&world.rules, consolidate::erase::Orders::Delete);
    consolidate::erase::erase(&mut connection, rules, &world.seal, &whom, orders, false).await.unwrap();
    assert_eq!(make(&world, "c", "ann@x.example").await, Made::Erased);
}

#[tokio::test]
async fn a_customer_is_not_made_by_hand_so_often_that_the_email_would_be_nobodys() {
    let mut world = World::new().await;
    world.rules.guards.max_xrefs_per_system = 2;
    let attributes = serde_json::Map::from_iter([("phone".to_owned(), json!("9"))]);
    let make = async |world: &World, external_id: &str| {
        let mut connection = staging::connect(&world.options).await.unwrap();
        let new = NewCustomer { external_id, email: ANN, attributes: &attributes };
        edit::make(&mut connection, (&world.rules, &takers()), &world.seal, new, chrono::Utc::now()).await.unwrap()
    };
    make(&world, "a").await;
    make(&world, "b").await;
    assert_eq!(make(&world, "c").await, Made::Unmatched(Unmatched::Crowded));
    let again = make(&world, "b").await;
    assert!(matches!(again, Made::Noted { is_new: false, .. }), "{again:?}");
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await, Some(json!({"phone": "9"})), "it is still there");
    assert_eq!(world.value("select count(*) from staging.outbox").await, 2, "and the store heard of no third");

    world.decide("allow", &[ANN], &[ANN]).await;
    assert!(matches!(make(&world, "c").await, Made::Noted { is_new: true, .. }));
}

async fn edit_by(world: &World, attributes: Value, version: Option<i64>) -> Edited {
    edit_in(&mut staging::connect(&world.options).await.unwrap(), world, attributes, version).await
}

async fn edit_in(connection: &mut PgConnection, world: &World, attributes: Value, version: Option<i64>) -> Edited {
    let id: sqlx::types::Uuid = world.customer(ANN).await.unwrap()["customer_id"].as_str().unwrap().parse().unwrap();
    let attributes: BTreeMap<String, Option<Value>> = serde_json::from_value(attributes).unwrap();
    let rules = (&world.rules.survivorship, &takers());
    edit::edit(connection, rules, id, &attributes, version.as_slice(), "ann", chrono::Utc::now()).await.unwrap()
}

#[tokio::test]
async fn of_edits_that_are_meant_for_one_version_one_is_noted() {
    let mut world = World::new().await;
    world.land("home_delivery", &[customer(1029, 1).email(ANN).attribute("name", "Ann Smith")]).await;
    world.consolidate().await;
    for version in 1..4 {
        let edit =
            async |name: &str| edit_by(&world, json!({"name": format!("{name} {version}")}), Some(version)).await;
        let edited = tokio::join!(edit("a"), edit("b"), edit("c")).into();
        let edited: [Edited; 3] = edited;
        let noted = edited.iter().filter(|edited| matches!(edited, Edited::Noted { .. })).count();
        let changed = edited.iter().filter(|edited| **edited == Edited::Changed).count();
        assert_eq!((noted, changed), (1, 2), "{edited:?}");
        world.consolidate().await;
    }
}

#[tokio::test]
async fn an_edit_that_is_meant_for_a_version_waits_for_one_that_is_meant_for_any() {
    let mut world = World::new().await;
    world.land("home_delivery", &[customer(1029, 1).email(ANN).attribute("name", "Ann Smith")]).await;
    world.consolidate().await;
    let mut first = staging::connect(&world.options).await.unwrap();
    let mut open = first.begin().await.unwrap();
    let noted = edit_in(&mut open, &world, json!({"name": "a"}), None).await;
    assert!(matches!(noted, Edited::Noted { .. }), "{noted:?}");
    let commit = async {
        until_waiting(&world.pool, 1).await;
        open.commit().await.unwrap();
    };
    let (second, ()) = tokio::join!(edit_by(&world, json!({"name": "b"}), Some(1)), commit);
    assert_eq!(second, Edited::Changed);
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["name"], "a");
}

#[tokio::test]
async fn an_edit_of_what_is_about_to_be_somebody_elses_shows_there() {
    let mut world = World::new().await;
    world.land("loyalty", &[customer("27", 1).email(ANN).attribute("name", "Ann").attribute("phone", "1")]).await;
    world.land("home_delivery", &[customer(1029, 1).email(ANN).attribute("name", "Ann Smith")]).await;
    world.consolidate().await;
    // Its record with another email is merged, and whoever folds has taken the mark and looked for edits.
    sqlx::query("update customer360.xrefs set email = $1, match_key = $1 where system = 'loyalty'")
        .bind("ann@y.example")
        .execute(&world.pool)
        .await
        .unwrap();
    edit_by(&world, json!({"phone": "2"}), None).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@y.example").await, Some(json!({"name": "Ann", "phone": "2"})));
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "Ann Smith"})));
}

/// Where each edit lies.
async fn edits(world: &World) -> Value {
    world
        .value(
            "select coalesce(jsonb_object_agg(attribute, concat(system, ' ', external_id, ' ', value, ' ', replaced)), '{}')
             from customer360.edits",
        )
        .await
}

#[tokio::test]
async fn an_edit_lies_where_the_value_came_from_and_elsewhere_on_the_best_ranked() {
    let mut world = World::new().await;
    let home = customer(1029, 1).email(ANN).attribute("name", "Ann Smith").attribute("city", "Keene");
    world.land("home_delivery", &[home]).await;
    world
        .land("loyalty", &[customer("27", 5).email(ANN).attribute("phone", "1").attribute("loyaltyPoints", "47")])
        .await;
    world.consolidate().await;
    let edited = json!({"name": "Annie", "phone": "2", "state": "NH", "segment": "gold", "loyaltyPoints": 48});
    let Edited::Noted { mark_id: mark, .. } = edit_by(&world, edited, Some(1)).await else { panic!("it is not noted") };
    let mut connection = staging::connect(&world.options).await.unwrap();
    assert!(!edit::has_followed(&mut connection, mark).await.unwrap());
    world.consolidate().await;
    assert!(edit::has_followed(&mut connection, mark).await.unwrap());
    let lie = json!({
        "name": "home_delivery 1029 \"Annie\" \"Ann Smith\"",
        "phone": "loyalty 27 \"2\" \"1\"",
        // Its group comes from there.
        "state": "home_delivery 1029 \"NH\" null",
        // Nobody said it: home_delivery comes first in the rules.
        "segment": "home_delivery 1029 \"gold\" null",
        "loyaltyPoints": "loyalty 27 48 \"47\"",
    });
    assert_eq!(edits(&world).await, lie);
    let profile =
        json!({"name": "Annie", "city": "Keene", "state": "NH", "phone": "2", "segment": "gold", "loyaltyPoints": 48});
    assert_eq!(world.profile(ANN).await, Some(profile));
    assert_eq!(world.value("select count(*) from customer360.changes where cause = 'edit'").await, 5);
}

#[tokio::test]
async fn an_edit_is_meant_for_a_version_replaced_by_the_next_and_taken_back() {
    let mut world = World::new().await;
    world.land("home_delivery", &[customer(1029, 1).email(ANN).attribute("name", "Ann Smith")]).await;
    world.consolidate().await;
    assert_eq!(edit_by(&world, json!({"name": "x"}), Some(7)).await, Edited::Changed);
    assert_eq!(edits(&world).await, json!({}));
    // The older one lies on another cross-reference by then.
    edit_by(&world, json!({"segment": "silver"}), None).await;
    world.land("online_store", &[customer(1, 1).email(ANN).attribute("segment", "bronze")]).await;
    world.land("home_delivery", &[customer(1029, 2).attribute("segment", "iron")]).await;
    world.consolidate().await;
    edit_by(&world, json!({"segment": "gold"}), None).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["segment"], "gold");
    assert_eq!(edits(&world).await, json!({"segment": "home_delivery 1029 \"gold\" \"iron\""}));
    edit_by(&world, json!({"segment": null}), None).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["segment"], "iron");
    assert_eq!(edits(&world).await, json!({}));

    let mut connection = staging::connect(&world.options).await.unwrap();
    let (nobody, nothing) = (sqlx::types::Uuid::nil(), BTreeMap::new());
    let takers = takers();
    let edited = edit::edit(
        &mut connection,
        (&world.rules.survivorship, &takers),
        nobody,
        &nothing,
        &[],
        "ann",
        chrono::Utc::now(),
    );
    assert_eq!(edited.await.unwrap(), Edited::Unknown);
}

#[tokio::test]
async fn an_edit_does_not_stand_again_when_the_source_comes_back_to_what_it_replaced() {
    let mut world = World::new().await;
    world.land("online_store", &[customer(1, 1).email(ANN).attribute("name", "Ann")]).await;
    world.consolidate().await;
    edit_by(&world, json!({"name": "Annie"}), None).await;
    world.consolidate().await;
    for (position, name) in [(2, "Annie"), (3, "Ann"), (4, "Annie"), (5, "Ann")] {
        world.land("online_store", &[customer(1, position).attribute("name", name)]).await;
        world.consolidate().await;
        assert_eq!(world.profile(ANN).await.unwrap()["name"], name, "the last write");
    }
    edit_by(&world, json!({"name": "Anna"}), None).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["name"], "Anna", "and another edit stands");
}

#[tokio::test]
async fn an_edit_does_not_yield_to_an_earlier_one_that_arrives_at_the_source() {
    let mut world = World::new().await;
    world.land("online_store", &[customer(1, 1).email(ANN).attribute("name", "Ann").attribute("phone", "1")]).await;
    world.consolidate().await;
    let name = async |world: &mut World, position: u64, says: Value| {
        world.land("online_store", &[customer(1, position).attribute("name", says)]).await;
        world.consolidate().await;
        world.profile(ANN).await.unwrap()["name"].clone()
    };
    for edited in ["A", "", "B"] {
        edit_by(&world, json!({"name": edited}), None).await;
        world.consolidate().await;
    }
    assert_eq!(edits(&world).await, json!({"name": "online_store 1 \"B\" \"Ann\""}), "what the store said then");
    assert_eq!(name(&mut world, 2, json!("A")).await, "B");
    assert_eq!(name(&mut world, 3, Value::Null).await, "B", "the name was cleared in between");
    edit_by(&world, json!({"name": "C"}), None).await;
    assert_eq!(name(&mut world, 4, json!("B")).await, "C", "also one of before the last that arrived");
    assert_eq!(name(&mut world, 5, json!("C")).await, "C");
    assert_eq!(name(&mut world, 6, json!("A")).await, "A", "the last has arrived: this is the store's own");

    // What nobody was told can only be the source's own.
    edit_by(&world, json!({"segment": "gold"}), None).await;
    edit_by(&world, json!({"segment": "iron"}), None).await;
    world.land("online_store", &[customer(1, 7).attribute("segment", "gold")]).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["segment"], "gold");
}

/// What is on its way, in the order of the edits.
async fn outbox(world: &World) -> Value {
    world
        .value(
            "select coalesce(jsonb_agg(jsonb_build_array(kind, system, external_id, edits) order by edited_at, edit_id), '[]')
             from staging.outbox",
        )
        .await
}

#[tokio::test]
async fn what_a_source_takes_of_an_edit_is_on_its_way_in_the_same_transaction() {
    let mut world = World::new().await;
    let store = customer(1, 1).email(ANN).attribute("name", "Ann").attribute("segment", "gold");
    world.land("online_store", &[store]).await;
    world.land("loyalty", &[customer("27", 1).email(ANN).attribute("phone", "1")]).await;
    world.consolidate().await;
    let Edited::Noted { outgoing, .. } =
        edit_by(&world, json!({"name": "A", "segment": "iron", "phone": "2"}), None).await
    else {
        panic!("it is not noted")
    };
    assert_eq!(outgoing.len(), 1, "nobody takes segments, and loyalty takes nothing");
    let sent = |value: &str, replaced: Value| json!({"name": {"value": value, "replaced": replaced}});
    assert_eq!(outbox(&world).await, json!([["update", "online_store", "1", sent("A", json!(["Ann"]))]]));

    // The last value only; what the source may have been sent meanwhile does not contradict it.
    edit_by(&world, json!({"name": "B"}), None).await;
    assert_eq!(outbox(&world).await, json!([["update", "online_store", "1", sent("B", json!(["Ann", "A"]))]]));
    edit_by(&world, json!({"name": "C"}), None).await;
    assert_eq!(outbox(&world).await, json!([["update", "online_store", "1", sent("C", json!(["Ann", "B", "A"]))]]));
    edit_by(&world, json!({"name": null}), None).await;
    assert_eq!(outbox(&world).await, json!([]), "taken back");
    edit_by(&world, json!({"name": "C"}), Some(7)).await;
    assert_eq!(outbox(&world).await, json!([]), "of another version than was meant");
}

#[tokio::test]
async fn a_customer_made_by_hand_is_on_the_way_to_who_makes_customers_with_the_last_values() {
    let mut world = World::new().await;
    let attributes = serde_json::Map::from_iter([("name".to_owned(), json!("Ann")), ("phone".to_owned(), json!("1"))]);
    let mut told = Vec::new();
    for _ in 0..2 {
        let mut connection = staging::connect(&world.options).await.unwrap();
        let new = NewCustomer { external_id: "a", email: "Ann@X.example", attributes: &attributes };
        let takers = takers();
        let made = edit::make(&mut connection, (&world.rules, &takers), &world.seal, new, chrono::Utc::now()).await;
        let Made::Noted { outgoing, .. } = made.unwrap() else { panic!("none is made") };
        told.push(outgoing);
    }
    assert!(told[0].len() == 1 && told[0] == told[1], "who asks again hears what is on its way: {told:?}");
    world.consolidate().await;
    let wanted = |value: &str, replaced: Value| json!({"value": value, "replaced": replaced});
    let made = json!([["create", "crm", "a", {"name": wanted("Ann", json!([])), "phone": wanted("1", json!([]))}]]);
    assert_eq!(outbox(&world).await, made, "once");
    sqlx::query("update staging.outbox set state = 'refused', reason = 'status 422', attempts = 1")
        .execute(&world.pool)
        .await
        .unwrap();
    // The store may have been told what was said before: that does not contradict.
    edit_by(&world, json!({"name": "Anna", "phone": ""}), None).await;
    let phone = wanted("", json!(["1"]));
    let made = json!([["create", "crm", "a", {"name": wanted("Anna", json!(["Ann"])), "phone": phone}]]);
    assert_eq!(outbox(&world).await, made);
    assert_eq!(world.value("select to_jsonb(state) from staging.outbox").await, "waiting", "it is tried again");
    edit_by(&world, json!({"name": null}), None).await;
    let made = json!([["create", "crm", "a", {"name": wanted("Ann", json!(["Ann", "Anna"])), "phone": phone}]]);
    assert_eq!(outbox(&world).await, made, "what was said first");
}

#[tokio::test]
async fn an_edit_of_a_customer_made_by_hand_goes_to_where_the_customer_was_made() {
    let mut world = World::new().await;
    let attributes = serde_json::Map::from_iter([("name".to_owned(), json!("Ann"))]);
    let mut connection = staging::connect(&world.options).await.unwrap();
    let new = NewCustomer { external_id: "a", email: "Ann@X.example", attributes: &attributes };
    let rules = (&world.rules, &takers());
    edit::make(&mut connection, rules, &world.seal, new, chrono::Utc::now()).await.unwrap();
    world.consolidate().await;
    let settled = "update staging.outbox set state = 'settled', settled_at = now(), edits = '{\"name\": null}'";
    sqlx::query(settled).execute(&world.pool).await.unwrap();
    // Only the cross-reference made by hand is known yet, and of what it says the store takes the name.
    let Edited::Noted { outgoing, .. } = edit_by(&world, json!({"name": "Anna", "segment": "gold"}), None).await else {
        panic!("it is not noted")
    };
    assert_eq!(outgoing.len(), 1);
    let made = json!(["create", "crm", "a", {"name": null}]);
    let sent = |value: &str, replaced: Value| json!([made, ["update", "crm", "a", {"name": {"value": value, "replaced": replaced}}]]);
    assert_eq!(outbox(&world).await, sent("Anna", json!(["Ann"])));
    edit_by(&world, json!({"name": "Annie"}), None).await;
    assert_eq!(outbox(&world).await, sent("Annie", json!(["Ann", "Anna"])), "the last value only");
    // It goes there still when what is done has long been forgotten.
    staging::outbox::forget_settled(&mut connection, chrono::Utc::now() + Duration::from_hours(24)).await.unwrap();
    assert_eq!(outbox(&world).await, sent("Annie", json!(["Ann", "Anna"])));
    edit_by(&world, json!({"name": null}), None).await;
    assert_eq!(outbox(&world).await, json!([made]), "taken back");
}
