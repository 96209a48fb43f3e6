//! Erasing a person: what is left, what comes later, and what happens at the same time.

use std::collections::BTreeMap;
use std::time::Duration;

use consolidate::decide::Request;
use consolidate::edit::{NewCustomer, Takers};
use consolidate::erase::{self, Orders, Outcome, Receipt};
use consolidate::{Error, Key, Refusal};
use embedded_postgres::test::{eventually, until_waiting};
use model::{InteractionFields, Position, ProductFields, Reason, Record, Reject};
use serde_json::{Value, json};
use sqlx::{Connection, PgPool};
use staging::{Batch, DeadLetter, erased};

use crate::support::events::{Event, Says, customer, event, member, moved, order};
use crate::support::{Export, TTL, World, rules};

/// What is Ann's alone: parts of emails, names and ids.
const CANARIES: [&str; 6] = ["ann.canary", "zinnober", "canaria", "c-27x", "+41 44 555 77", "second.ann"];

fn email(email: &str) -> Key {
    Key::Word(email.to_owned())
}

async fn erase(world: &World, whom: &Key, orders: Orders) -> Outcome {
    let mut connection = staging::connect(&world.options).await.unwrap();
    erase::erase(&mut connection, &world.rules, &world.seal, whom, orders, false).await.unwrap()
}

fn receipt(outcome: Outcome) -> Receipt {
    match outcome {
        Outcome::Erased(receipt) => receipt,
        other => panic!("{other:?}"),
    }
}

/// Tables of both schemas in a row of which something of Ann's stands, with what.
async fn left(world: &World) -> Vec<String> {
    let tables = world
        .rows(
            "select format('%I.%I', n.nspname, c.relname) as name
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('staging', 'customer360')",
        )
        .await;
    assert!(tables.len() > 25, "both schemas are looked through");
    let mut left = Vec::new();
    for table in tables {
        let table = table["name"].as_str().unwrap();
        for canary in CANARIES {
            let found = world.value(&format!("select count(*) from {table} t where t::text ilike '%{canary}%'")).await;
            if found != json!(0) {
                left.push(format!("{table}: {canary} {found}"));
            }
        }
    }
    left
}

fn everything_of_delivery() -> [Event; 3] {
    [
        customer(1029, 10)
            .email(" Ann.Canary@X.Example ")
            .attribute("name", "Canaria Zinnober")
            .attribute("phone", "+41 44 555 77 00")
            .credential("digest-of-a-password"),
        customer(5, 11).email("bob@x.example").attribute("name", "Bob"),
        event(
            "call-1",
            12,
            Says::Interaction(Some(vec!["Ann.Canary@x.example".to_owned(), "bob@x.example".to_owned()])),
        ),
    ]
}

fn everything_of_store() -> [Event; 3] {
    [
        customer(77, 20).email("second.ann@y.example").attribute("name", "C. Zinnober"),
        order(700, 21).of_customer("77").lines(&[("p", "2", "1.50")]).document(json!({"ship_to": "Canaria Zinnober"})),
        event("mail-1", 22, Says::Interaction(Some(vec!["second.ann@y.example".to_owned()]))),
    ]
}

fn members(in_night: i64) -> [Event; 2] {
    [
        member("c-27x", in_night, 1).email("ANN.CANARY@x.example").attribute("name", "Canaria"),
        member("28", in_night, 2).email("bob@x.example").attribute("points", "7"),
    ]
}

async fn export(world: &mut World, night: i64) {
    world.export(&Export { source: "loyalty", night, members: &members(night), unreadable: &[], batch_rows: 1 }).await;
}

/// Letters of Ann: of bytes that name her, of a record of hers, of one whose id alone could be read; and one of Bob.
fn letters() -> [DeadLetter; 4] {
    let reject = || Reject::new(Reason::NotJson, "no JSON");
    let record = Record { position: Position::from(vec![9]), ..everything_of_delivery()[0].record() };
    [
        DeadLetter::new(json!({"offset": 1}), reject(), b"{\"email\":\"aNN.canary@x.example\",}"),
        DeadLetter::of_record(json!({"offset": 2}), reject(), &record),
        DeadLetter::new(json!({"offset": 3}), reject(), b"???").with_external_id(Some("1029".to_owned())),
        DeadLetter::new(json!({"offset": 4}), reject(), b"{\"email\":\"bob@x.example\",}"),
    ]
}

/// Ann, in every table that knows her, and Bob.
async fn world_with_ann() -> World {
    let mut world =
        World::with(consolidate::Rules { polled_sources: vec!["online_store".to_owned()], ..rules() }).await;
    world.land("home_delivery", &everything_of_delivery()).await;
    world.land("online_store", &everything_of_store()).await;
    export(&mut world, 1).await;
    world.consolidate().await;
    world
        .decide(
            "merge",
            &["second.ann@y.example", "ann.canary@x.example"],
            &["second.ann@y.example", "ann.canary@x.example"],
        )
        .await;
    world.consolidate().await;
    sqlx::raw_sql(
        "insert into customer360.edits (system, external_id, attribute, value, replaced, at, by)
         values ('home_delivery', '1029', 'name', '\"Canaria Z.\"', '\"Canaria Zinnober\"', now(), 'test');
         insert into staging.listed_records (source, entity, record_key, fingerprint)
         values ('loyalty', 'customer', 'c-27x', 'f'), ('online_store', 'order', '700', 'f');
         update staging.polls set external_id = '77' where match_key = 'ann.canary@x.example'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    // Not consolidated yet: a change of hers, and letters.
    world.land("home_delivery", &[customer(1029, 30).attribute("name", "Canaria Zinnober-Groves")]).await;
    let mut batch = Batch::new("home_delivery", TTL);
    for letter in letters() {
        batch.push_dead_letter(letter);
    }
    world.land_batch("home_delivery", &mut batch).await;
    world
}

#[tokio::test]
async fn invariant_8_erased_stays_erased_in_every_table_and_under_whatever_comes_later() {
    let mut world = world_with_ann().await;
    assert!(left(&world).await.len() > 12, "she is known in many places: {:?}", left(&world).await);
    let bob = world.document("bob@x.example").await.unwrap();

    let receipt = receipt(erase(&world, &email("ann.canary@X.EXAMPLE"), Orders::Delete).await);
    assert_eq!(left(&world).await, [""; 0]);
    world.assert_counts_are_right("erased").await;
    assert_eq!(receipt.digests.len(), 5, "two emails, three ids");
    let removed = |table: &str| receipt.removed.get(table).copied().unwrap_or_default();
    let tables = ["customer360.xrefs", "customer360.customers", "customer360.orders", "customer360.order_lines"];
    assert_eq!(tables.map(removed), [3, 2, 1, 1]);
    assert_eq!(removed("staging.dead_letters"), 3);
    assert_eq!(removed("staging.polls"), 2);
    let states = "select state, count(*) as letters from staging.dead_letters group by state order by state";
    let states = world.rows(states).await;
    assert_eq!(states, [json!({"state": "discarded", "letters": 3}), json!({"state": "parked", "letters": 1})]);
    world.consolidate().await;
    assert_eq!(world.document("bob@x.example").await, Some(bob.clone()));
    let participants = world.rows("select interaction_id, email from customer360.interaction_participants").await;
    assert_eq!(participants, [json!({"interaction_id": "call-1", "email": "bob@x.example"})]);

    // Everything once more, in other letter case, under another id, in another night, as letters that are retried.
    let skipped =
        "select sum(skipped_count) from staging.batches where batch_id > (select max(batch_id) from staging.batches)";
    assert_eq!(world.value(skipped).await, Value::Null);
    let last = world.value("select max(batch_id) from staging.batches").await;
    world.land("home_delivery", &everything_of_delivery()).await;
    world.land("online_store", &everything_of_store()).await;
    world
        .land("home_delivery", &[customer(2000, 90).email("ann.CANARY@x.example").attribute("name", "Zinnober")])
        .await;
    export(&mut world, 2).await;
    let mut batch = Batch::new("home_delivery", TTL);
    for letter in letters() {
        batch.push_dead_letter(letter);
    }
    world.land_batch("home_delivery", &mut batch).await;
    world.consolidate().await;
    world.catch_up().await;
    assert_eq!(left(&world).await, [""; 0]);
    let skipped = format!("select sum(skipped_count) from staging.batches where batch_id > {last}");
    assert_eq!(world.value(&skipped).await, json!(1 + 3 + 1 + 1 + 3), "each is a counted skip");
    let polls = world.rows("select match_key from staging.polls").await;
    assert_eq!(polls, [json!({"match_key": "bob@x.example"})]);
    assert_eq!(world.profile("bob@x.example").await, Some(bob["profile"].clone()));
    assert_eq!(world.value("select count(*) from customer360.xrefs where deleted_at is not null").await, json!(0));

    rebuild(&world).await;
    assert_eq!(left(&world).await, [""; 0]);
    world.assert_counts_are_right("rebuilt").await;
    assert_eq!(erase(&world, &email("Ann.Canary@x.example"), Orders::Delete).await, Outcome::Already);
    assert_eq!(erase(&world, &Key::Xref("loyalty".into(), "c-27x".into()), Orders::Delete).await, Outcome::Already);
    assert_eq!(erase(&world, &email("nobody@x.example"), Orders::Delete).await, Outcome::Unknown);
}

#[tokio::test]
async fn a_preview_says_what_would_be_removed_and_waits_for_nobody() {
    let world = world_with_ann().await;
    let mut landing = world.pool.begin().await.unwrap();
    staging::erased::hold(&mut landing).await.unwrap();
    let mut connection = staging::connect(&world.options).await.unwrap();
    let ann = email("ann.canary@x.example");
    let previewing = erase::erase(&mut connection, &world.rules, &world.seal, &ann, Orders::Delete, true);
    let preview = tokio::time::timeout(Duration::from_mins(1), previewing).await.unwrap().unwrap();
    landing.rollback().await.unwrap();
    assert_eq!(receipt(preview).removed, receipt(erase(&world, &ann, Orders::Delete).await).removed);
}

async fn rebuild(world: &World) {
    let mut connection = world.pool.acquire().await.unwrap();
    let recorded = consolidate::rebuild::record(&mut connection, &world.rules, chrono::Utc::now()).await.unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    let (rules, seal, options) = (&world.rules, &world.seal, &world.options);
    consolidate::rebuild::carry_out(rules, seal, options, recorded.rebuild_id, &mut |_| {}, &cancel).await.unwrap();
}

/// In whatever others say: their attributes, orders, what changed on them, products and messages.
#[tokio::test]
async fn whoever_is_named_by_others_is_taken_out_of_what_they_say() {
    let mut world = world_with_ann().await;
    let says = "for Ann.Canary@X.example, not <jo.ann@x.example>";
    let bob = customer(5, 30).email("bob@x.example").attribute("note", says);
    let bobs = [
        bob,
        order(701, 31).of_customer("5").document(json!({"gift": {"to": [says]}})),
        event("p", 32, Says::Product(Some(ProductFields { name: Some(says.to_owned()), attributes: BTreeMap::new() }))),
        event("mail-2", 33, Says::Interaction(Some(vec!["bob@x.example".to_owned()]))),
    ];
    world.land("home_delivery", &bobs).await;
    world.consolidate().await;
    sqlx::raw_sql(
        "update customer360.interactions set subject = 'ann.canary@x.example' where interaction_id = 'mail-2';
         insert into customer360.edits (system, external_id, attribute, value, replaced, at, by)
         select system, external_id, 'note', attributes -> 'note', attributes -> 'note', now(), 'test'
         from customer360.xrefs where external_id = '5';
         insert into customer360.entries (customer_id, entry_id, type, content, author, created_at, updated_at, history)
         select customer_id, customer_id, 'note', '{\"text\": \"ask ann.canary@x.example\"}', 'ann', now(), now(),
                '[{\"content\": {\"text\": \"Ann.Canary@x.example\"}}]'
         from customer360.customers where email = 'bob@x.example';
         insert into staging.outbox
             (source, kind, system, external_id, match_key, email, edits, edited_at, next_at)
         values ('online_store', 'update', 'home_delivery', '5', 'bob@x.example', 'bob@x.example',
                 '{\"note\": {\"value\": \"ask Ann.Canary@x.example\", \"replaced\": []},
                   \"name\": {\"value\": \"Bob\", \"replaced\": [\"Bob <ann.canary@x.example>\"]}}', now(), now()),
                ('online_store', 'update', 'home_delivery', '6', 'bob@x.example', 'bob@x.example',
                 '{\"note\": {\"value\": \"ann.canary@x.example\", \"replaced\": []}}', now(), now());
         insert into customer360.views
         values ('ann', 'her', '[[\"q\", \"ann.canary@x.example\"], [\"state\", \"NH\"]]', now())",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let removed = receipt(erase(&world, &email("ann.canary@x.example"), Orders::Delete).await).removed;
    assert_eq!(left(&world).await, [""; 0]);
    assert_eq!(
        (removed["customer360.products"], removed["customer360.edits"], removed["staging.outbox"]),
        (1, 2, 2),
        "an edit of hers, one that names her, those on their way that do"
    );
    let on_its_way = world.value("select edits from staging.outbox").await;
    let without_her = json!({"name": {"value": "Bob", "replaced": ["Bob <>"]}});
    assert_eq!(on_its_way, without_her, "no source is told half a sentence");
    let redacted = json!("for , not <jo.ann@x.example>");
    assert_eq!(world.profile("bob@x.example").await.unwrap()["note"], redacted);
    assert_eq!(world.order("home_delivery", "701").await["document"], json!({"gift": {"to": [redacted]}}));
    let before = world.row_versions().await;
    rebuild(&world).await;
    assert_eq!(world.row_versions().await, before, "profiles are what cross-references make of them");
}

/// Before it was noted whom all of an entry is from, and since.
#[tokio::test]
async fn what_somebody_said_while_taken_for_another_leaves_that_ones_history() {
    for is_older in [true, false] {
        let mut world = World::new().await;
        let bob = customer(5, 1).email("bob@x.example").attribute("firstName", "Bob").attribute("loyaltyPoints", "12");
        world.land("home_delivery", &[bob]).await;
        if is_older {
            world.consolidate().await;
        }
        let points = customer("27", 1).email("bob@x.example").attribute("loyaltyPoints", "zinnober");
        world.land("loyalty", &[points]).await;
        world.consolidate().await;
        assert_eq!(world.profile("bob@x.example").await.unwrap()["loyaltyPoints"], "zinnober");
        world.land("loyalty", &[customer("27", 2).email("ann.canary@x.example")]).await;
        world.consolidate().await;
        world.land("home_delivery", &[customer(5, 2).attribute("loyaltyPoints", "13")]).await;
        world.consolidate().await;
        if is_older {
            sqlx::query("update customer360.changes set also_from = null").execute(&world.pool).await.unwrap();
        }
        receipt(erase(&world, &email("ann.canary@x.example"), Orders::Delete).await);
        assert_eq!(left(&world).await, [""; 0], "{is_older}");
        let stay = world.rows("select old, new from customer360.changes").await;
        assert_eq!(stay, [json!({"old": "12", "new": "13"})], "{is_older}");
    }
}

/// Whom an id or an email of before leads to may be somebody else by now.
#[tokio::test]
async fn nobody_is_erased_by_what_leads_to_him_only_by_a_redirect() {
    let mut world = World::new().await;
    world.land("crm", &[customer(1, 1).email("ann.before@x.example")]).await;
    world.consolidate().await;
    world.land("crm", &[customer(1, 2).email("ann@x.example")]).await;
    world.consolidate().await;
    let mut connection = staging::connect(&world.options).await.unwrap();
    let before = email("ann.before@x.example");
    let refused =
        erase::erase(&mut connection, &world.rules, &world.seal, &before, Orders::Delete, false).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::MovedOn { .. })), "{refused}");
    assert!(world.document("ann@x.example").await.is_some());
    receipt(erase(&world, &email("ann@x.example"), Orders::Delete).await);
    assert_eq!(erase(&world, &before, Orders::Delete).await, Outcome::Already);
}

#[tokio::test]
async fn who_somebody_was_before_is_erased_too_though_by_now_he_belongs_to_nobody() {
    let mut world = World::new().await;
    for (position, now) in [(1, "ann.before@x.example"), (2, "ann@x.example"), (3, "nobody")] {
        world.land("crm", &[customer(1, position).email(now)]).await;
        world.consolidate().await;
    }
    receipt(erase(&world, &Key::Xref("crm".into(), "1".into()), Orders::Delete).await);
    assert_eq!(world.customer("ann.before@x.example").await, None);
    assert_eq!(world.value("select count(*) from customer360.redirects").await, json!(0));
}

#[tokio::test]
async fn who_shares_a_former_email_by_a_merge_only_is_not_erased() {
    let mut world = World::new().await;
    let [ann, bob] = ["ann@x.example", "bob@x.example"];
    world.land("crm", &[customer(1, 1).email(ann), customer(2, 1).email(bob)]).await;
    world.consolidate().await;
    world.request(&Request::Merge(email(ann), email(bob))).await.unwrap();
    world.consolidate().await;
    world.land("crm", &[customer(1, 2).email("cyd@x.example")]).await;
    world.consolidate().await;
    receipt(erase(&world, &email("cyd@x.example"), Orders::Delete).await);
    let bob = world.customer(bob).await.unwrap()["customer_id"].clone();
    let redirects = "select to_jsonb(r) - '{since,customer_id,decided_to}'::text[] from customer360.redirects r";
    let leads_to_bob = json!({"to_customer_id": bob, "followed_to": null, "system": null, "external_id": null});
    assert_eq!(world.value(redirects).await, leads_to_bob, "and not by whom");
}

#[tokio::test]
async fn who_had_an_email_last_is_erased_by_it_though_by_now_it_is_cleared() {
    let mut world = World::new().await;
    world.land("crm", &[customer(1, 1).email("ann@x.example").attribute("name", "Canaria")]).await;
    world.consolidate().await;
    world.land("crm", &[customer(1, 2).email("").attribute("name", "Canaria")]).await;
    world.consolidate().await;
    receipt(erase(&world, &email("ann@x.example"), Orders::Delete).await);
    assert_eq!(left(&world).await, [""; 0]);
    world.land("crm", &[customer(1, 3).email("new@x.example").attribute("name", "Canaria")]).await;
    world.consolidate().await;
    assert_eq!(left(&world).await, [""; 0]);
}

/// As one of several in a text, or where a block keeps participants from everybody.
#[tokio::test]
async fn whoever_is_named_where_nobody_is_matched_is_taken_out_of_it() {
    let mut world = world_with_ann().await;
    let both = || [customer(6, 40).email("Ann.Canary@x.example cyd@x.example").attribute("name", "Both")];
    world.land("home_delivery", &both()).await;
    world.consolidate().await;
    world.land("home_delivery", &both()).await;
    sqlx::query(
        "update customer360.interaction_participants set match_key = null, customer_id = null
         where email ilike 'ann.canary@%'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    receipt(erase(&world, &email("ann.canary@x.example"), Orders::Delete).await);
    assert_eq!(left(&world).await, [""; 0]);
    world.land("home_delivery", &both()).await;
    world.consolidate().await;
    assert_eq!(left(&world).await, [""; 0]);
    let both =
        "select jsonb_build_array(email, unmatched_reason, customer_id) from customer360.xrefs where external_id = '6'";
    assert_eq!(world.value(both).await, json!([null, "no_email", null]), "what is left of two is nobody's");
    assert_eq!(world.document("cyd@x.example").await, None);
}

#[tokio::test]
async fn a_value_that_is_erased_makes_room_for_what_another_system_says() {
    let mut world = world_with_ann().await;
    let referrer = |id: i64, position, who| customer(id, position).email("bob@x.example").attribute("referrer", who);
    world.land("home_delivery", &[referrer(5, 40, "ann.canary@x.example")]).await;
    world.land("online_store", &[referrer(6, 39, "cyd@x.example")]).await;
    world.consolidate().await;
    assert_eq!(world.profile("bob@x.example").await.unwrap()["referrer"], json!("ann.canary@x.example"));
    receipt(erase(&world, &email("ann.canary@x.example"), Orders::Delete).await);
    world.consolidate().await;
    assert_eq!(world.profile("bob@x.example").await.unwrap()["referrer"], json!("cyd@x.example"));
}

/// Ids of customers and orders are the same small numbers.
#[tokio::test]
async fn a_letter_of_an_order_is_that_of_its_customer_and_not_of_the_one_with_its_number() {
    let mut world = world_with_ann().await;
    let letter = |customer: &str, context: Value| {
        let letter = DeadLetter::new(json!({"customer": customer}), Reject::new(Reason::BadValue, ""), b"{}");
        letter.with_external_id(Some("77".to_owned())).with_context(&context)
    };
    let mut batch = Batch::new("online_store", TTL);
    batch.push_dead_letter(letter("somebody else's order", json!({"entity": "order", "customer": "5"})));
    batch.push_dead_letter(letter("her order", json!({"entity": "order", "customer": "77"})));
    batch.push_dead_letter(letter("she", json!({"entity": "customer"})));
    batch.push_dead_letter(letter("key", json!({"entity": "order", "key": b"{\"e\":\"Ann.Canary@x.example\"}"})));
    world.land_batch("online_store", &mut batch).await;
    receipt(erase(&world, &email("ann.canary@x.example"), Orders::Delete).await);
    let parked = "select origin ->> 'customer' as whose, external_id from staging.dead_letters
                  where state = 'parked' and source = 'online_store'";
    assert_eq!(world.rows(parked).await, [json!({"whose": "somebody else's order", "external_id": "77"})]);
}

/// Before she is erased and after, as the row comes to be skipped in staging or on its way there.
#[tokio::test]
async fn a_member_whose_row_names_somebody_erased_has_not_left() {
    let mut world = world_with_ann().await;
    let tonight = async |world: &mut World, night| {
        let bob = member("28", night, 1).email("ann.canary@x.example");
        let members = [bob, member("29", night, 2).email("cyd@x.example")];
        world.export(&Export { source: "loyalty", night, members: &members, unreadable: &[], batch_rows: 1 }).await;
    };
    tonight(&mut world, 2).await;
    receipt(erase(&world, &email("ann.canary@x.example"), Orders::Delete).await);
    let members =
        "select external_id from customer360.xrefs where system = 'loyalty' and deleted_at is null order by 1";
    let bob_and_cyd = ["28", "29"].map(|id| json!({"external_id": id}));
    world.consolidate().await;
    assert_eq!(world.rows(members).await, bob_and_cyd);
    assert_eq!(world.profile("bob@x.example").await.unwrap()["points"], json!("7"));
    tonight(&mut world, 3).await;
    world.consolidate().await;
    assert_eq!(world.rows(members).await, bob_and_cyd);
    assert_eq!(left(&world).await, [""; 0]);
}

/// As when a note names her once more.
#[tokio::test]
async fn who_is_erased_a_second_time_is_readmitted_with_all_that_was_erased_at_first() {
    let mut world = world_with_ann().await;
    receipt(erase(&world, &email("ann.canary@x.example"), Orders::Delete).await);
    sqlx::raw_sql("insert into customer360.views values ('bob', 'her', '[[\"q\", \"ann.canary@x.example\"]]', now())")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(receipt(erase(&world, &email("ann.canary@x.example"), Orders::Delete).await).digests.len(), 1);
    let mut connection = staging::connect(&world.options).await.unwrap();
    assert_eq!(erase::readmit(&mut connection, &world.seal, &email("ann.canary@x.example")).await.unwrap(), 5);
    world.land("home_delivery", &everything_of_delivery()).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann.canary@x.example").await.unwrap()["name"], json!("Canaria Zinnober"));
}

#[tokio::test]
async fn whoever_is_readmitted_counts_from_then_on_under_all_emails_and_ids() {
    let mut world = world_with_ann().await;
    receipt(erase(&world, &Key::Xref("online_store".into(), "77".into()), Orders::Delete).await);
    let mut connection = staging::connect(&world.options).await.unwrap();
    assert_eq!(erase::readmit(&mut connection, &world.seal, &email("nobody@x.example")).await.unwrap(), 0);
    let lifted = erase::readmit(&mut connection, &world.seal, &email("SECOND.ann@y.example")).await.unwrap();
    assert_eq!(lifted, 5);
    assert_eq!(world.value("select count(*) from staging.erased").await, json!(0));
    world.land("home_delivery", &everything_of_delivery()).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann.canary@x.example").await.unwrap()["name"], json!("Canaria Zinnober"));
}

#[tokio::test]
async fn orders_stay_without_the_person_where_that_is_wanted() {
    let mut world = world_with_ann().await;
    receipt(erase(&world, &email("ann.canary@x.example"), Orders::Anonymise).await);
    let kept = world.order("online_store", "700").await;
    assert_eq!((kept["total"].to_string().as_str(), &kept["document"]), ("3.00", &Value::Null));
    assert_eq!((&kept["customer_id"], &kept["customer_external_id"]), (&Value::Null, &Value::Null));
    world.assert_counts_are_right("anonymised").await;
    world.land("online_store", &everything_of_store()).await;
    world.consolidate().await;
    assert_eq!(left(&world).await, [""; 0]);
    assert_eq!(world.order("online_store", "700").await, kept);
}

#[tokio::test]
async fn a_look_at_an_erasure_changes_nothing() {
    let world = world_with_ann().await;
    let before = left(&world).await;
    let mut connection = staging::connect(&world.options).await.unwrap();
    let whom = email("ann.canary@x.example");
    let outcome = erase::erase(&mut connection, &world.rules, &world.seal, &whom, Orders::Delete, true).await.unwrap();
    assert_eq!(receipt(outcome).removed["customer360.xrefs"], 3);
    assert_eq!(left(&world).await, before);
    assert_eq!(world.value("select count(*) from staging.erased").await, json!(0));
}

#[tokio::test]
async fn everything_about_a_person_is_one_document_without_credentials() {
    let world = world_with_ann().await;
    let mut connection = staging::connect(&world.options).await.unwrap();
    let whom = email("second.ann@y.example");
    let document = consolidate::export::export(&mut connection, &world.rules, &whom).await.unwrap().unwrap();
    let count = |part: &str| document[part].as_array().unwrap().len();
    let parts = ["customers", "xrefs", "orders", "interactions", "edits", "decisions", "polls"];
    assert_eq!(parts.map(count), [2, 3, 1, 2, 1, 1, 2]);
    assert_eq!(document["customers"][0]["provenance"]["phone"]["external_id"], json!("1029"));
    assert_eq!(document["orders"][0]["lines"][0]["product_id"], json!("p"));
    assert!(count("changes") > 0 && count("staged") >= 4);
    assert!(!document.to_string().contains("digest-of-a-password"), "no credential, not even its digest");
    assert!(!document.to_string().contains("Bob"));
    let nobody = consolidate::export::export(&mut connection, &world.rules, &email("nobody@x.example")).await.unwrap();
    assert_eq!(nobody, None);
}

/// Waits until a session of this database holds, or waits for, an advisory lock of this mode.
async fn until_locked(pool: &PgPool, mode: &str, granted: bool) {
    let sql = "select exists (
             select from pg_locks l join pg_database d on d.oid = l.database
             where l.locktype = 'advisory' and l.mode = $1 and l.granted = $2 and d.datname = current_database())";
    let locked = async || sqlx::query_scalar::<_, bool>(sql).bind(mode).bind(granted).fetch_one(pool).await.unwrap();
    eventually("somebody comes to the lock", locked).await;
}

#[tokio::test]
async fn what_is_being_landed_while_somebody_is_erased_is_removed_with_the_rest() {
    let mut world = world_with_ann().await;
    let whom = email("ann.canary@x.example");
    let mut blocker = staging::connect(&world.options).await.unwrap();
    let mut holding = blocker.begin().await.unwrap();
    sqlx::query("select 1 from staging.kafka_offsets for update").execute(&mut *holding).await.unwrap();
    let (pool, options, rules, seal) =
        (world.pool.clone(), world.options.clone(), world.rules.clone(), world.seal.clone());
    let landing = async {
        // By a clock that is behind.
        world.land_at("home_delivery", &everything_of_delivery(), chrono::Utc::now() - Duration::from_hours(1)).await;
        world
    };
    let erasing = async {
        // The landing holds the lock shared, and waits for the row that we hold.
        until_locked(&pool, "ShareLock", true).await;
        let mut connection = staging::connect(&options).await.unwrap();
        let erasing = erase::erase(&mut connection, &rules, &seal, &whom, Orders::Delete, false);
        let releasing = async {
            until_locked(&pool, "ExclusiveLock", false).await;
            holding.rollback().await.unwrap();
        };
        let (erased, ()) = tokio::join!(erasing, releasing);
        erased.unwrap()
    };
    let both = async { tokio::join!(landing, erasing) };
    let (mut world, outcome) = tokio::time::timeout(Duration::from_mins(1), both).await.unwrap();
    receipt(outcome);
    assert_eq!(left(&world).await, [""; 0]);
    world.consolidate().await;
    assert_eq!(left(&world).await, [""; 0]);
}

/// What names her in every way: merged and folded, taken along by a change of primary key, said once and then no more; and what
/// she says herself, while she is taken for another.
async fn write_of_ann(world: &mut World) {
    let says = "for Ann.Canary@X.example, not <jo.ann@x.example>";
    let mail = InteractionFields { subject: Some(says.to_owned()), ..InteractionFields::default() };
    let product = ProductFields { name: Some(says.to_owned()), attributes: BTreeMap::new() };
    let events = [
        customer(5, 50).email("bob@x.example").attribute("note", says),
        customer(6, 51).email("cyd@x.example").attribute("referrer", "ann.canary@x.example"),
        moved(8, 80, 52),
        customer(9, 53).email("Ann.Canary@x.example eve@x.example"),
        customer(1029, 53).email("bob@x.example").attribute("colour", "zinnober"),
        order(701, 54).of_customer("5").document(json!({"gift": says})),
        event("p", 55, Says::Product(Some(product))),
        event("mail-3", 56, Says::Mail(mail)),
        event("mail-4", 57, Says::Interaction(Some(vec!["Ann.Canary@x.example bob@x.example".to_owned()]))),
    ];
    world.land("home_delivery", &events).await;
    world.consolidate().await;
    let no_more = [customer(5, 60).attribute("note", "nothing"), customer(1029, 60).email("ann.canary@x.example")];
    world.land("home_delivery", &no_more).await;
    let mut batch = Batch::new("home_delivery", TTL);
    for letter in letters() {
        batch.push_dead_letter(letter);
    }
    world.land_batch("home_delivery", &mut batch).await;
    world.consolidate().await;
    let attributes = serde_json::Map::from_iter([("note".to_owned(), json!(says))]);
    let new = NewCustomer { external_id: "new", email: "fay@x.example", attributes: &attributes };
    let mut connection = world.pool.acquire().await.unwrap();
    let rules = (&world.rules, &Takers::default());
    consolidate::edit::make(&mut connection, rules, &world.seal, new, chrono::Utc::now()).await.unwrap();
    sqlx::raw_sql(
        "insert into customer360.edits (system, external_id, attribute, value, replaced, at, by)
         values ('loyalty', '28', 'note', '\"ann.canary@x.example\"', 'null', now(), 'test');
         insert into customer360.entries (customer_id, entry_id, type, content, author, created_at, updated_at, history)
         select customer_id, customer_id, 'note', '{\"text\": \"ask ann.canary@x.example\"}', 'ann', now(), now(),
                '[{\"content\": {\"text\": \"Ann.Canary@x.example\"}}]'
         from customer360.customers where email = 'bob@x.example'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn what_is_written_while_an_erasure_searches_is_erased_too() {
    let mut world = world_with_ann().await;
    world
        .land("home_delivery", &[customer(8, 40).email("dan@x.example").attribute("note", "ask ann.canary@x.example")])
        .await;
    world.consolidate().await;
    sqlx::raw_sql(
        "insert into customer360.edits (system, external_id, attribute, value, replaced, at, by)
         values ('home_delivery', '8', 'name', '\"ann.canary@x.example\"', 'null', now() - interval '1 day', 'test')",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    // It looks through these last.
    let mut blocker = staging::connect(&world.options).await.unwrap();
    let mut holding = blocker.begin().await.unwrap();
    sqlx::query("lock table customer360.views in access exclusive mode").execute(&mut *holding).await.unwrap();
    let (options, rules, seal) = (world.options.clone(), world.rules.clone(), world.seal.clone());
    let erasing = async {
        let mut connection = staging::connect(&options).await.unwrap();
        let whom = email("ann.canary@x.example");
        erase::erase(&mut connection, &rules, &seal, &whom, Orders::Delete, false).await.unwrap()
    };
    let writing = async {
        until_waiting(&world.pool, 1).await;
        write_of_ann(&mut world).await;
        holding.rollback().await.unwrap();
        world
    };
    let both = Box::pin(async { tokio::join!(erasing, writing) });
    let (outcome, mut world) = tokio::time::timeout(Duration::from_mins(1), both).await.unwrap();
    assert_eq!(receipt(outcome).removed["staging.dead_letters"], 6);
    assert_eq!(left(&world).await, [""; 0]);
    world.consolidate().await;
    assert_eq!(left(&world).await, [""; 0]);
    assert_eq!(
        world.profile("dan@x.example").await.unwrap()["note"],
        json!("ask "),
        "who has another primary key by now"
    );
    world.assert_counts_are_right("erased").await;
}

/// What is said of both was read by each before the other one was taken out of it.
#[tokio::test]
async fn two_who_are_erased_at_once_do_not_bring_each_other_back() {
    let mut world = world_with_ann().await;
    let both = customer(6, 40).email("cyd@x.example").attribute("note", "ann.canary@x.example and eve@x.example");
    world.land("home_delivery", &[both, customer(7, 41).email("eve@x.example")]).await;
    world.consolidate().await;
    let mut blocker = staging::connect(&world.options).await.unwrap();
    let mut holding = blocker.begin().await.unwrap();
    sqlx::query("lock table customer360.views in access exclusive mode").execute(&mut *holding).await.unwrap();
    let [ann, eve] = [email("ann.canary@x.example"), email("eve@x.example")];
    let releasing = async {
        until_waiting(&world.pool, 2).await;
        holding.rollback().await.unwrap();
    };
    let (ann, eve, ()) =
        tokio::join!(erase(&world, &ann, Orders::Delete), erase(&world, &eve, Orders::Delete), releasing);
    receipt(ann);
    receipt(eve);
    assert_eq!(left(&world).await, [""; 0]);
    let staged = "select count(*) from staging.records r where r::text ilike '%eve@%'";
    assert_eq!(world.value(staged).await, json!(0));
    world.consolidate().await;
    assert_eq!(world.profile("cyd@x.example").await.unwrap()["note"], json!(" and "));
}

#[tokio::test]
async fn what_was_read_for_merging_before_somebody_was_erased_is_not_merged() {
    let mut world = world_with_ann().await;
    let whom = email("ann.canary@x.example");
    let (rules, seal) = (world.rules.clone(), world.seal.clone());
    let mut connection = staging::connect(&world.options).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    erased::hold_alone(&mut transaction).await.unwrap();
    let pool = world.pool.clone();
    let erasing = async {
        until_locked(&pool, "ShareLock", false).await;
        let outcome = erase::erase(&mut transaction, &rules, &seal, &whom, Orders::Delete, false).await.unwrap();
        transaction.commit().await.unwrap();
        outcome
    };
    let (outcome, drained) = tokio::join!(erasing, world.consolidate());
    receipt(outcome);
    assert!(drained.batches > 0);
    assert_eq!(left(&world).await, [""; 0]);
    assert_eq!(world.value("select count(*) from customer360.xrefs where system = 'home_delivery'").await, json!(1));
}

#[tokio::test]
async fn whoever_was_split_off_from_the_erased_person_stays_without_the_email() {
    let mut world = World::new().await;
    let events = [
        customer(1, 1).email("ann.canary@x.example").attribute("name", "Canaria Zinnober"),
        customer(2, 2).email("Ann.Canary@x.example").attribute("name", "Bob"),
        customer(3, 3).email("Ann.Canary@x.example").attribute("name", "Cy"),
        customer(4, 4).email("bob@own.example").attribute("phone", "1"),
    ];
    world.land("home_delivery", &events).await;
    world.land("online_store", &[order(700, 21).of_customer("77"), customer(77, 22).email("bob@own.example")]).await;
    world.consolidate().await;
    let xref = |id: &str| Key::Xref("home_delivery".to_owned(), id.to_owned());
    for request in
        [Request::Split(xref("2")), Request::Split(xref("3")), Request::Merge(xref("2"), email("bob@own.example"))]
    {
        world.request(&request).await.unwrap();
        world.consolidate().await;
    }

    receipt(erase(&world, &email("ann.canary@x.example"), Orders::Delete).await);
    assert_eq!(left(&world).await, [""; 0]);
    world.consolidate().await;
    let living = "select profile ->> 'name' as name, profile ->> 'phone' as phone, email
                  from customer360.customers where deleted_at is null order by 1";
    let expected = [
        json!({"name": "Bob", "phone": "1", "email": "bob@own.example"}),
        json!({"name": "Cy", "phone": null, "email": null}),
    ];
    assert_eq!(world.rows(living).await, expected);
    assert_eq!(world.value("select count(*) from customer360.orders where customer_id is not null").await, json!(1));
}
