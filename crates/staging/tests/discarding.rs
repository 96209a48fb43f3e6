//! Dead letters that are selected, and given up.

use chrono::TimeDelta;
use model::{Reason, Reject};
use serde_json::json;
use staging::dead_letters::{self, Selection, State};
use staging::imports::{self, File};
use staging::{Batch, Checkpoint, DeadLetter};

use crate::support::{SOURCE, Staged, TTL, advance, dead_letter, noon, origin, refusal, staged};

/// Letters of offsets 0 to 4: two bad values, and an hour later three that are no JSON.
async fn five(staged: &Staged) -> Vec<i64> {
    let mut lander = staged.lander();
    let mut batch = Batch::new(SOURCE, TTL);
    for offset in 0..2 {
        batch.push_dead_letter(DeadLetter::new(json!({"offset": offset}), Reject::new(Reason::BadValue, ""), b"x"));
    }
    lander.land(&mut batch, &origin(0), &advance(None, 2), noon()).await.unwrap();
    let mut batch = Batch::new(SOURCE, TTL);
    (2..5).for_each(|offset| batch.push_dead_letter(dead_letter(offset, b"x")));
    lander.land(&mut batch, &origin(2), &advance(Some(2), 5), noon() + TimeDelta::hours(1)).await.unwrap();
    sqlx::query_scalar("select dead_letter_id from staging.dead_letters order by dead_letter_id")
        .fetch_all(&staged.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn letters_are_selected_by_id_source_reason_time_and_state() {
    let staged = staged().await;
    let ids = five(&staged).await;
    let all = Selection::default;
    let hour = |hours| Some(noon() + TimeDelta::hours(hours));
    for (selection, expected) in [
        (all(), &ids[..]),
        (Selection { ids: Some(vec![ids[1], ids[3], -1]), ..all() }, &[ids[1], ids[3]]),
        (Selection { source: Some(SOURCE.to_owned()), ..all() }, &ids[..]),
        (Selection { source: Some("loyalty".to_owned()), ..all() }, &[]),
        (Selection { reason: Some("not_json".to_owned()), ..all() }, &ids[2..]),
        (Selection { since: hour(1), ..all() }, &ids[2..]),
        (Selection { until: hour(1), ..all() }, &ids[..2]),
        (Selection { since: hour(0), until: hour(0), ..all() }, &[]),
        (Selection { state: Some(State::Retried), ..all() }, &[]),
        (Selection { last: Some(ids[1]), ..all() }, &ids[..2]),
    ] {
        let mut listed = dead_letters::list(&staged.pool, &selection, None, 10).await.unwrap();
        listed.reverse();
        let listed: Vec<i64> = listed.iter().map(|letter| letter.dead_letter_id).collect();
        assert_eq!(listed, expected, "{selection:?}");
        let counts = dead_letters::count(&staged.pool, &selection).await.unwrap();
        let counted: i64 = counts.iter().map(|count| count.letters).sum();
        assert_eq!(usize::try_from(counted).unwrap(), expected.len(), "{selection:?}");
        let waiting = dead_letters::waiting(&staged.pool, &selection, SOURCE, 0, 10).await.unwrap();
        assert_eq!(waiting.iter().map(|(id, _)| *id).collect::<Vec<_>>(), expected, "{selection:?}");
    }
    assert_eq!(dead_letters::newest(&staged.pool).await.unwrap(), Some(ids[4]));
    let page = dead_letters::list(&staged.pool, &all(), Some(ids[4]), 2).await.unwrap();
    assert_eq!(page.iter().map(|letter| letter.dead_letter_id).collect::<Vec<_>>(), [ids[3], ids[2]]);
    let counts = dead_letters::count(&staged.pool, &all()).await.unwrap();
    let counts: Vec<_> = counts.iter().map(|count| (count.reason.as_str(), count.letters, count.oldest)).collect();
    assert_eq!(counts, [("bad_value", 2, noon()), ("not_json", 3, noon() + TimeDelta::hours(1))]);
}

#[tokio::test]
async fn what_is_discarded_is_wiped_and_nothing_else_is() {
    let staged = staged().await;
    let ids = five(&staged).await;
    let selection = Selection { reason: Some("not_json".to_owned()), ..Selection::default() };
    assert_eq!(dead_letters::discardable(&staged.pool, &selection).await.unwrap(), (3, 0));
    assert_eq!(dead_letters::discard(&staged.pool, &selection, 2, noon()).await.unwrap(), (2, 0));
    assert_eq!(dead_letters::discard(&staged.pool, &selection, 2, noon()).await.unwrap(), (1, 0));
    assert_eq!(dead_letters::discard(&staged.pool, &selection, 2, noon()).await.unwrap(), (0, 0));
    let letters = dead_letters::list(&staged.pool, &Selection::default(), None, 10).await.unwrap();
    let states: Vec<_> = letters.iter().rev().map(|letter| (letter.state, letter.handled_at)).collect();
    assert_eq!(states[..2], [(State::Parked, None); 2]);
    assert_eq!(states[2..], [(State::Discarded, Some(noon())); 3]);
    let held: Vec<i64> = sqlx::query_scalar(
        "select dead_letter_id from staging.dead_letters where payload <> '' or context is not null order by 1",
    )
    .fetch_all(&staged.pool)
    .await
    .unwrap();
    assert_eq!(held, ids[..2]);
}

#[tokio::test]
async fn letters_of_a_file_that_is_being_imported_are_left_alone_and_those_of_a_refused_one_are_wiped() {
    let staged = staged().await;
    let file = File {
        directory: "drop".to_owned(),
        source: SOURCE.to_owned(),
        file_name: "members.csv".to_owned(),
        as_of: noon(),
        mtime: noon(),
        dated: true,
        full_export: true,
        sha256: "00".to_owned(),
    };
    let import_id = imports::begin(&staged.pool, &file, noon()).await.unwrap();
    let mut batch = Batch::new(SOURCE, TTL);
    (0..3).for_each(|line| batch.push_dead_letter(dead_letter(line, b"1;2")));
    let checkpoint = Checkpoint::Csv { import_id, rows_before: 0, rows: 3 };
    staged.lander().land(&mut batch, &origin(0), &checkpoint, noon()).await.unwrap();
    let all = Selection::default();
    assert_eq!(dead_letters::waiting(&staged.pool, &all, SOURCE, 0, 10).await.unwrap(), []);
    assert_eq!(dead_letters::discard(&staged.pool, &all, 10, noon()).await.unwrap(), (0, 0));
    assert_eq!(dead_letters::list(&staged.pool, &all, None, 10).await.unwrap().len(), 3);

    imports::refuse(&mut staged.connection().await, import_id, &refusal("3 of 3 rows are bad"), noon()).await.unwrap();
    assert_eq!(dead_letters::waiting(&staged.pool, &all, SOURCE, 0, 10).await.unwrap(), [], "nobody lands them");
    assert_eq!(dead_letters::discardable(&staged.pool, &all).await.unwrap(), (0, 3));
    assert_eq!(dead_letters::discard(&staged.pool, &all, 10, noon()).await.unwrap(), (0, 3));
    assert_eq!(staged.ask::<i64>("select count(*) from staging.dead_letters where payload <> ''").await, 0);
}

#[tokio::test]
async fn settled_letters_are_forgotten_when_their_time_is_over_and_parked_ones_never() {
    let staged = staged().await;
    let ids = five(&staged).await;
    let settle = format!(
        "update staging.dead_letters set state = 'discarded', handled_at = landed_at + interval '10 days'
         where dead_letter_id = {};
         update staging.dead_letters set state = 'discarded' where dead_letter_id = {};
         update staging.dead_letters set state = 'retried', handled_at = landed_at, landed_batch_id = batch_id, landed_ordinal = 0
         where dead_letter_id = {}",
        ids[0], ids[1], ids[2]
    );
    staged.run(&settle).await;
    let left = async || -> Vec<i64> {
        sqlx::query_scalar("select dead_letter_id from staging.dead_letters order by 1")
            .fetch_all(&staged.pool)
            .await
            .unwrap()
    };
    let forget = async |before| dead_letters::forget_settled(&staged.pool, before).await.unwrap();
    assert_eq!(forget(noon()).await, 0);
    // The second was settled before anybody noted when: it counts from when it came. The third's batch is still known.
    assert_eq!(forget(noon() + TimeDelta::days(1)).await, 1);
    assert_eq!(left().await, [ids[0], ids[2], ids[3], ids[4]]);
    assert_eq!(forget(noon() + TimeDelta::days(11)).await, 1);
    staged.run("delete from staging.batches").await;
    assert_eq!(forget(noon() + TimeDelta::days(11)).await, 1);
    assert_eq!(left().await, ids[3..]);
    assert_eq!(forget(noon() + TimeDelta::days(9_999)).await, 0);
}
