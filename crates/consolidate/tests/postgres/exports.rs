//! Nightly full exports: who is not in the newest one has left.

use serde_json::{Value, json};

use crate::support::events::{Event, member};
use crate::support::{Export, World};

fn night(night: i64, members: &[Event]) -> Export<'_> {
    Export { source: "loyalty", night, members, unreadable: &[], batch_rows: 2 }
}

fn people(in_night: i64, points: &str) -> Vec<Event> {
    let person = |(row, id): (u64, &str)| {
        member(id, in_night, row).email(&format!("{id}@x.example")).attribute("loyaltyPoints", points)
    };
    (1..).zip(["ann", "bob", "cyd"]).map(person).collect()
}

async fn is_gone(world: &World, id: &str) -> bool {
    !world.xref("loyalty", id).await["deleted_at"].is_null()
}

#[tokio::test]
async fn an_unchanged_member_costs_no_write_and_keeps_its_position() {
    let mut world = World::new().await;
    world.export(&night(0, &people(0, "47"))).await;
    world.consolidate().await;
    let before = world.row_versions().await;
    world.export(&night(1, &people(1, "47"))).await;
    assert_eq!(world.consolidate().await.records, 3);
    assert_eq!(world.row_versions().await, before);
}

#[tokio::test]
async fn a_missing_member_is_tombstoned_at_the_position_of_the_export_and_the_next_night_revives() {
    let mut world = World::new().await;
    world.export(&night(0, &people(0, "47"))).await;
    world.export(&night(1, &people(1, "48")[..2])).await;
    world.consolidate().await;
    assert!(is_gone(&world, "cyd").await && !is_gone(&world, "ann").await && !is_gone(&world, "bob").await);
    assert_eq!(world.document("cyd@x.example").await, None);
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"loyaltyPoints": "48"})));
    let file = model::Position::csv_file(night(1, &[]).as_of(), night(1, &[]).as_of());
    let tombstone = world.xref("loyalty", "cyd").await["tombstone_position"].clone();
    assert_eq!(tombstone, format!("\\x{}", hex::encode(file.as_bytes())));

    world.export(&night(2, &people(2, "48"))).await;
    world.consolidate().await;
    assert!(!is_gone(&world, "cyd").await);
    assert_eq!(world.profile("cyd@x.example").await, Some(json!({"loyaltyPoints": "48"})));
}

#[tokio::test]
async fn a_member_whose_row_is_a_dead_letter_has_not_left() {
    let mut world = World::new().await;
    world.export(&night(0, &people(0, "47"))).await;
    world.consolidate().await;
    let members = people(1, "48");
    world.export(&Export { unreadable: &["cyd"], ..night(1, &members[..1]) }).await;
    world.consolidate().await;
    assert!(is_gone(&world, "bob").await && !is_gone(&world, "cyd").await);
    assert_eq!(world.profile("cyd@x.example").await, Some(json!({"loyaltyPoints": "47"})));
}

#[tokio::test]
async fn a_member_whose_row_could_not_be_read_at_all_comes_back_with_the_row() {
    let mut world = World::new().await;
    world.export(&night(0, &people(0, "47"))).await;
    let members = people(1, "48");
    world.export(&night(1, &members[..2])).await;
    world.consolidate().await;
    assert!(is_gone(&world, "cyd").await, "nobody could tell whose row it was");

    // The dead letter is retried: the row lands at its own position.
    world.land("loyalty", &members[2..]).await;
    world.consolidate().await;
    assert!(!is_gone(&world, "cyd").await);
    assert_eq!(world.profile("cyd@x.example").await, Some(json!({"loyaltyPoints": "48"})));
}

#[tokio::test]
async fn nothing_of_a_file_is_claimed_before_it_is_whole() {
    let mut world = World::new().await;
    let import = "insert into staging.csv_imports (source, file_name, as_of, mtime, dated, full_export, sha256, state, started_at)
                  values ('loyalty', 'f', now(), now(), true, true, 'x', 'importing', now()) returning import_id";
    let import_id: i64 = sqlx::query_scalar(import).fetch_one(&world.pool).await.unwrap();
    world.land("loyalty", &people(0, "47")).await;
    sqlx::query("update staging.batches set published_at = null, import_id = $1")
        .bind(import_id)
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(world.consolidate().await.records, 0);
    assert_eq!(world.value("select count(*) from customer360.xrefs").await, 0);
}

#[tokio::test]
async fn of_two_rows_with_one_id_the_later_wins_and_an_export_without_rows_empties_the_house() {
    let mut world = World::new().await;
    let mut members = people(0, "47");
    members.push(member("ann", 0, 4).email("ann@x.example").attribute("loyaltyPoints", "50"));
    world.export(&night(0, &members)).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"loyaltyPoints": "50"})));
    world.export(&night(1, &members)).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"loyaltyPoints": "50"})), "the same two rows again");
    world.export(&night(2, &[])).await;
    world.consolidate().await;
    assert_eq!(world.value("select count(*) from customer360.documents").await, 0);
}

#[tokio::test]
async fn missed_nights_that_are_caught_up_at_once_give_what_one_by_one_would() {
    let rows = |found: Vec<Value>| found;
    let mut results = Vec::new();
    for at_once in [true, false] {
        let mut world = World::new().await.with_known_ids().await;
        for (in_night, points, count) in [(0, "1", 3), (1, "2", 1), (2, "2", 2), (3, "3", 2)] {
            world.export(&night(in_night, &people(in_night, points)[..count])).await;
            if !at_once {
                world.consolidate().await;
            }
        }
        world.consolidate().await;
        let xrefs =
            "select external_id, customer_id, attributes, position, deleted_at from customer360.xrefs order by 1";
        results.push((world.living().await, rows(world.rows(xrefs).await)));
    }
    assert_eq!(results[0], results[1]);
}
