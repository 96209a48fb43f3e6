//! Files land in parts and are published as a whole.

use sqlx::Connection;
use staging::imports::{self, File};
use staging::{Batch, Checkpoint, Lander, Landing};

use crate::support::{SOURCE, Staged, TTL, batch, dead_letter, noon, origin, staged};

async fn begin(staged: &Staged) -> i64 {
    let file = File {
        directory: "drop".to_owned(),
        source: SOURCE.to_owned(),
        file_name: "loyalty_members_2026-03-01.csv".to_owned(),
        as_of: noon(),
        mtime: noon(),
        dated: true,
        full_export: true,
        sha256: "00".to_owned(),
    };
    imports::begin(&staged.pool, &file, noon()).await.unwrap()
}

async fn land(lander: &mut Lander, batch: &mut Batch, import_id: i64, rows_before: i64, rows: i64) -> Landing {
    let checkpoint = Checkpoint::Csv { import_id, rows_before, rows };
    lander.land(batch, &origin(rows_before), &checkpoint, noon()).await.unwrap()
}

#[tokio::test]
async fn nothing_of_a_file_is_claimed_before_all_of_it_is_published() {
    let staged = staged().await;
    let mut lander = staged.lander();
    let import_id = begin(&staged).await;
    let mut second = batch(3, 2, TTL);
    second.push_dead_letter(dead_letter(5, b"a;b"));
    second.skip();
    land(&mut lander, &mut batch(0, 3, TTL), import_id, 0, 3).await;
    land(&mut lander, &mut second, import_id, 3, 4).await;
    assert_eq!(staged.claimed(100).await, Vec::<i64>::new());

    let mut connection = staged.connection().await;
    let early = imports::publish(&mut connection, import_id, 6, TTL, noon()).await.unwrap();
    assert!(!early, "the ledger has seven rows");
    assert!(imports::publish(&mut connection, import_id, 7, TTL, noon()).await.unwrap());
    let claimed = staging::claim(&staged.pool, 100, &[]).await.unwrap();
    let completes: Vec<bool> = claimed.iter().map(|batch| batch.import.as_ref().unwrap().completes).collect();
    assert_eq!(completes, [false, true]);
    let ledger = imports::finished_with(&staged.pool, SOURCE, "00").await.unwrap();
    assert_eq!((ledger[0].row_count, ledger[0].dead_letter_count, ledger[0].skipped_count), (7, 1, 1));
}

#[tokio::test]
async fn invariant_2_position_with_data_rows_of_a_file_land_once() {
    let staged = staged().await;
    let (mut one, mut other) = (staged.lander(), staged.lander());
    let import_id = begin(&staged).await;
    assert!(matches!(land(&mut one, &mut batch(0, 3, TTL), import_id, 0, 3).await, Landing::Landed { .. }));
    assert_eq!(land(&mut other, &mut batch(0, 3, TTL), import_id, 0, 3).await, Landing::Fenced);
    assert_eq!((staged.count("batches").await, staged.count("records").await), (1, 3));
}

#[tokio::test]
async fn an_importer_that_was_taken_for_dead_is_fenced_and_what_it_landed_is_abandoned() {
    let staged = staged().await;
    let mut lander = staged.lander();
    let import_id = begin(&staged).await;
    let mut first = batch(0, 3, TTL);
    first.push_dead_letter(dead_letter(3, b"a;b"));
    land(&mut lander, &mut first, import_id, 0, 4).await;
    let abandoned = imports::abandon_leftovers(&mut staged.connection().await, SOURCE, noon()).await.unwrap();
    assert_eq!(abandoned, 1);
    assert_eq!(land(&mut lander, &mut batch(4, 1, TTL), import_id, 4, 1).await, Landing::Fenced);
    assert_eq!(staged.claimed(100).await, Vec::<i64>::new());
    assert_eq!(staged.count("dead_letters").await, 0, "the file brings them again");
}

#[tokio::test]
async fn the_members_of_an_export_are_those_of_its_rows_and_of_its_dead_letters() {
    let staged = staged().await;
    let mut lander = staged.lander();
    let import_id = begin(&staged).await;
    let mut first = batch(0, 2, TTL);
    first.push_dead_letter(dead_letter(2, b"").with_external_id(Some("27".to_owned())));
    first.push_dead_letter(dead_letter(3, b""));
    land(&mut lander, &mut first, import_id, 0, 4).await;
    land(&mut lander, &mut batch(1, 2, TTL), import_id, 4, 2).await;
    let mut connection = staged.connection().await;
    let mut transaction = connection.begin().await.unwrap();
    staging::note_members(&mut transaction, import_id).await.unwrap();
    let members: Vec<String> = sqlx::query_scalar("select external_id from export_members order by 1")
        .fetch_all(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(members, ["0", "1", "2", "27"]);
}
