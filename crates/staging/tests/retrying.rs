//! Dead letters that are retried: each lands exactly once, at its own position, or stays parked with the reason of now.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use embedded_postgres::test::{Loss, Proxy};
use model::{InstallationKey, Position, Reason, Record, Reject};
use serde_json::{Value, json};
use staging::dead_letters::{self, Cannot, Closed, Context, Files, Opened, Reread, Retried, Retrier, Selection, State};
use staging::imports::{self, File};
use staging::{Batch, DeadLetter, Error, Lander, Seal};
use tokio_util::sync::CancellationToken;

use crate::support::{HOUR, SOURCE, Staged, TTL, advance, noon, origin, record, seal, staged};

/// A letter that gives the record of its offset to whoever reads it by these tests.
fn letter(offset: i64, payload: &str) -> DeadLetter {
    let reject = Reject::new(Reason::BadValue, "column points is no number");
    let at = json!({"topic": "customers", "partition": 0, "offset": offset});
    DeadLetter::new(at, reject, payload.as_bytes()).with_context(&json!({"key": "ann@x.example", "offset": offset}))
}

async fn park(staged: &Staged, letters: impl IntoIterator<Item = DeadLetter>) -> Vec<i64> {
    let mut batch = Batch::new(SOURCE, TTL);
    letters.into_iter().for_each(|letter| batch.push_dead_letter(letter));
    let count = i64::from(batch.dead_letter_count());
    let stored = "select max(next_offset) from staging.kafka_offsets";
    let expected = staged.ask::<Option<i64>>(stored).await;
    let next = expected.unwrap_or(0) + count;
    staged.lander().land(&mut batch, &origin(0), &advance(expected, next), noon()).await.unwrap();
    parked(staged).await
}

async fn parked(staged: &Staged) -> Vec<i64> {
    let waiting = dead_letters::waiting(&staged.pool, &Selection::default(), SOURCE, 0, 10_000).await.unwrap();
    waiting.into_iter().map(|(id, _)| id).collect()
}

/// The record of a letter whose payload says that it is good; a list of them has its bad ones parked anew.
fn reread(opened: &Opened) -> Reread {
    let contents = opened.contents.as_ref().unwrap();
    let Some(Context::Source(context)) = &contents.context else { return Reread::Cannot(Cannot::NoContext) };
    let offset = context["offset"].as_i64().unwrap();
    let (records, dead_letters) = match &*contents.payload {
        b"good" => (vec![record(offset)], Vec::new()),
        b"nothing" => (Vec::new(), Vec::new()),
        b"half" => (vec![record(offset), record(offset + 1)], vec![letter(offset, "bad")]),
        b"refused" => {
            let mut refused = record(offset);
            refused.mapped.email = Some("nul\0".to_owned());
            (vec![refused], Vec::new())
        }
        _ => return Reread::StillBad(Reject::new(Reason::NoExternalId, "column id has no value")),
    };
    Reread::Lands { records, dead_letters, products: Vec::new() }
}

async fn retry_by(staged: &Staged, mut lander: Lander, files: Option<Files>, ids: &[i64]) -> Result<Retried, Error> {
    let (database, cancel) = (staged.options(), CancellationToken::new());
    let mut retrier =
        Retrier { source: SOURCE, ttl: TTL, files, database: &database, lander: &mut lander, cancel: &cancel };
    retrier.retry(ids, &reread).await
}

async fn retry(staged: &Staged, ids: &[i64]) -> Retried {
    retry_by(staged, staged.lander(), None, ids).await.unwrap()
}

/// How often each offset is landed.
async fn landed(staged: &Staged) -> BTreeMap<i64, usize> {
    let ids: Vec<String> =
        sqlx::query_scalar("select external_id from staging.records").fetch_all(&staged.pool).await.unwrap();
    let mut times = BTreeMap::new();
    for id in ids {
        *times.entry(id.parse().unwrap()).or_default() += 1;
    }
    times
}

#[tokio::test]
async fn what_can_be_read_by_now_lands_at_its_position_and_its_letter_is_wiped() {
    let staged = staged().await;
    let ids = park(&staged, [letter(7, "good"), letter(8, "nothing"), letter(9, "bad")]).await;
    let retried = retry(&staged, &ids).await;
    assert_eq!((retried.letters, retried.landed, retried.records, retried.skipped), (3, 1, 1, 1));
    assert_eq!(retried.still_bad, BTreeMap::from([("no_external_id", 1)]));
    let position: Vec<u8> = staged.ask("select position from staging.records").await;
    assert_eq!(position, record(7).position.as_bytes());
    let batch: Value = staged
        .ask(
            "select jsonb_build_object('origin', origin, 'records', record_count, 'skipped', skipped_count,
                                       'claimable', published_at is not null)
             from staging.batches where record_count > 0",
        )
        .await;
    let expected = json!({
        "origin": {"dead_letters": {"first": ids[0], "last": ids[2]}}, "records": 1, "skipped": 1, "claimable": true,
    });
    assert_eq!(batch, expected);
    let letters = dead_letters::list(&staged.pool, &Selection::default(), None, 10).await.unwrap();
    let became: Vec<_> = letters.iter().rev().map(|letter| (letter.state, letter.landed_batch_id.is_some())).collect();
    assert_eq!(became, [(State::Retried, true), (State::Retried, true), (State::Parked, false)]);
    assert_eq!((letters[0].reason.as_str(), letters[0].detail.as_str()), ("no_external_id", "column id has no value"));
    assert!(letters.iter().all(|letter| letter.handled_at.is_some() && letter.landed_at == noon()));
    let opened = dead_letters::open(&staged.pool, &seal(), &ids).await.unwrap();
    let contents: Vec<_> = opened.iter().map(|opened| opened.contents.as_ref().map(|held| &*held.payload)).collect();
    assert_eq!(contents, [Err(&Closed::Wiped), Err(&Closed::Wiped), Ok(&b"bad"[..])]);
    let held: i64 = staged
        .ask("select count(*) from staging.dead_letters where octet_length(payload) > 0 or context is not null")
        .await;
    assert_eq!(held, 1, "only what is parked holds anything");
}

#[tokio::test]
async fn letters_of_the_erased_are_counted_apart_from_those_that_land() {
    let staged = staged().await;
    let ids = park(&staged, [letter(7, "good"), letter(8, "good"), letter(9, "nothing"), letter(11, "half")]).await;
    for offset in [7, 11] {
        let digest = seal().erasure_key().of_id(SOURCE, &offset.to_string());
        sqlx::query("insert into staging.erased (digest) values ($1)")
            .bind(digest.as_slice())
            .execute(&staged.pool)
            .await
            .unwrap();
    }
    staged.run("update staging.erasure_version set version = version + 1").await;
    let (database, cancel) = (staged.options(), CancellationToken::new());
    let mut lander = staged.lander();
    let mut retrier =
        Retrier { source: SOURCE, ttl: TTL, files: None, database: &database, lander: &mut lander, cancel: &cancel };
    let counts = |retried: &Retried| (retried.landed, retried.records, retried.skipped, retried.erased);
    let foreseen = retrier.look(&ids, &reread).await.unwrap();
    assert_eq!(counts(&foreseen), (2, 2, 1, 1), "{foreseen:?}");
    let done = retrier.retry(&ids, &reread).await.unwrap();
    assert_eq!(counts(&done), counts(&foreseen), "{done:?}");
    assert_eq!(landed(&staged).await, BTreeMap::from([(8, 1), (12, 1)]));
}

#[tokio::test]
async fn a_letter_that_is_retried_again_and_again_lands_once() {
    let staged = staged().await;
    let ids = park(&staged, [letter(1, "good"), letter(2, "bad")]).await;
    retry(&staged, &ids).await;
    let again = retry(&staged, &ids).await;
    assert_eq!((again.landed, again.elsewhere, again.still_bad.len()), (0, 1, 1));
    assert_eq!(landed(&staged).await, BTreeMap::from([(1, 1)]));
    assert_eq!(staged.ask::<i64>("select count(*) from staging.batches where record_count > 0").await, 1);
}

#[tokio::test]
async fn two_operators_at_once_land_every_letter_once() {
    let staged = staged().await;
    let ids = park(&staged, (0..200).map(|offset| letter(offset, "good"))).await;
    let (front, back) = (&ids[..150], &ids[50..]);
    let (one, other) =
        tokio::join!(retry_by(&staged, staged.lander(), None, front), retry_by(&staged, staged.lander(), None, back));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.landed + other.landed, 200);
    assert_eq!(one.elsewhere + other.elsewhere, 100);
    assert_eq!(landed(&staged).await, (0..200).map(|offset| (offset, 1)).collect());
}

#[tokio::test]
async fn a_lost_commit_reply_neither_doubles_nor_loses_a_letter() {
    let staged = staged().await;
    let ids = park(&staged, [letter(1, "good"), letter(2, "half"), letter(9, "bad")]).await;
    let proxy = Proxy::start(&staged.options(), Loss::Cut).await;
    let through = proxy.through(&staged.database.name, &staged.options());
    let mut lander = Lander::new(through, seal(), HOUR);
    // Connection and partitions have to be there: the reply is lost to the COMMIT of the landing.
    lander.land(&mut Batch::new("another", TTL), &origin(0), &advance(None, 1), Utc::now()).await.unwrap();
    proxy.lose_the_next_commit();
    let retried = retry_by(&staged, lander, None, &ids).await.unwrap();
    proxy.lost().await;
    assert_eq!((retried.landed, retried.records, retried.parts, retried.elsewhere), (2, 3, 1, 0), "all of it is told");
    assert_eq!(retried.batch_ids.len(), 1);
    assert_eq!(landed(&staged).await, BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    assert_eq!(parked(&staged).await.len(), 2, "the bad one, and the bad part");
}

#[tokio::test]
async fn one_that_the_database_refuses_stays_parked_and_its_neighbours_land() {
    let staged = staged().await;
    let payload = |offset: i64| if offset == 13 { "refused" } else { "good" };
    let ids = park(&staged, (0..30).map(|offset| letter(offset, payload(offset)))).await;
    let retried = retry(&staged, &ids).await;
    assert_eq!((retried.letters, retried.landed), (30, 29));
    assert_eq!(retried.still_bad, BTreeMap::from([("bad_value", 1)]));
    let all_but_one = (0..30).filter(|offset| *offset != 13).map(|offset| (offset, 1)).collect();
    assert_eq!(landed(&staged).await, all_but_one);
    let selection = Selection { state: Some(State::Parked), ..Selection::default() };
    let left = dead_letters::list(&staged.pool, &selection, None, 10).await.unwrap();
    assert!(
        left.len() == 1 && left[0].detail.starts_with("the database refuses it: copying rows: SQLSTATE 22"),
        "{left:?}"
    );
    assert!(!left[0].detail.contains("nul"));
}

#[tokio::test]
async fn parts_that_are_still_bad_are_parked_by_themselves_and_can_be_retried_again() {
    let staged = staged().await;
    let ids = park(&staged, [letter(5, "half")]).await;
    let retried = retry(&staged, &ids).await;
    assert_eq!((retried.landed, retried.records, retried.parts), (1, 2, 1));
    let left = parked(&staged).await;
    assert_ne!(left, ids);
    assert_eq!(retry(&staged, &left).await.still_bad.values().sum::<u64>(), 1);
}

#[tokio::test]
async fn what_was_not_kept_whole_or_is_sealed_by_another_key_cannot_be_retried() {
    let staged = staged().await;
    let large = "x".repeat(70_000);
    let cut = DeadLetter::new(json!({}), Reject::new(Reason::TooLarge, ""), large.as_bytes()).with_context(&json!({}));
    assert_eq!(cut.context, None);
    let mut old = letter(2, "good");
    old.context = None;
    let ids = park(&staged, [cut, old, letter(3, "good")]).await;
    let retried = retry(&staged, &ids[..2]).await;
    assert_eq!(retried.cannot, BTreeMap::from([(Cannot::Truncated, 1), (Cannot::NoContext, 1)]));
    let lander = Lander::new(staged.options(), Seal::new(&InstallationKey::new([8; 32])), HOUR);
    let retried = retry_by(&staged, lander, None, &ids[2..]).await.unwrap();
    assert_eq!(retried.cannot, BTreeMap::from([(Cannot::Sealed, 1)]));
    assert_eq!(parked(&staged).await, ids, "they stay as they are");
    let untouched: i64 = staged.ask("select count(*) from staging.dead_letters where handled_at is null").await;
    assert_eq!(untouched, 3);
}

#[tokio::test]
async fn a_look_changes_nothing() {
    let staged = staged().await;
    let ids = park(&staged, [letter(1, "good"), letter(2, "bad"), letter(3, "half")]).await;
    let before: Value =
        staged.ask("select jsonb_agg(to_jsonb(d) order by dead_letter_id) from staging.dead_letters d").await;
    let (mut lander, database, cancel) = (staged.lander(), staged.options(), CancellationToken::new());
    let mut retrier =
        Retrier { source: SOURCE, ttl: TTL, files: None, database: &database, lander: &mut lander, cancel: &cancel };
    let looked = retrier.look(&ids, &reread).await.unwrap();
    let after: Value =
        staged.ask("select jsonb_agg(to_jsonb(d) order by dead_letter_id) from staging.dead_letters d").await;
    assert_eq!(before, after);
    assert_eq!((staged.count("records").await, staged.count("batches").await), (0, 1));
    let done = retry(&staged, &ids).await;
    assert_eq!(Retried { batch_ids: Vec::new(), ..done }, looked, "it says what a retry does");
}

async fn import(staged: &Staged, as_of: DateTime<Utc>) {
    let file = File {
        directory: "drop".to_owned(),
        source: SOURCE.to_owned(),
        file_name: "members.csv".to_owned(),
        as_of,
        mtime: as_of,
        dated: true,
        full_export: true,
        sha256: as_of.to_string(),
    };
    let import_id = imports::begin(&staged.pool, &file, noon()).await.unwrap();
    assert!(imports::publish(&mut staged.connection().await, import_id, 0, TTL, noon()).await.unwrap());
}

/// A letter whose record is a row of the file of that time.
fn row_letter(id: i64, as_of: DateTime<Utc>) -> DeadLetter {
    let row = Record { position: Position::csv(as_of, as_of, 4), ..record(id) };
    DeadLetter::of_record(json!({"file": "members.csv", "line": 5}), Reject::new(Reason::BadValue, ""), &row)
}

#[tokio::test]
async fn a_row_of_an_older_full_export_is_nothing_to_land_and_one_of_an_older_delta_is() {
    for (files, records) in [(Files::FullExports, &[2][..]), (Files::Deltas, &[1, 2])] {
        let staged = staged().await;
        import(&staged, noon()).await;
        let ids = park(&staged, [row_letter(1, noon() - TimeDelta::days(1)), row_letter(2, noon())]).await;
        let retried = retry_by(&staged, staged.lander(), Some(files), &ids).await.unwrap();
        assert_eq!(landed(&staged).await.into_keys().collect::<Vec<_>>(), records, "{files:?}");
        assert_eq!(retried.records + retried.skipped, 2);
        assert_eq!(parked(&staged).await, Vec::<i64>::new());
    }
}

#[tokio::test]
async fn a_row_that_the_database_refuses_says_so_also_where_files_were_imported_since() {
    let staged = staged().await;
    import(&staged, noon()).await;
    let ids = park(&staged, [letter(1, "refused")]).await;
    let retried = retry_by(&staged, staged.lander(), Some(Files::Deltas), &ids).await.unwrap();
    assert_eq!(retried.still_bad.values().sum::<u64>(), 1);
    let detail: String = staged.ask("select detail from staging.dead_letters").await;
    assert!(detail.starts_with("the database refuses it"), "{detail}");
}

#[tokio::test]
async fn while_files_are_imported_rows_wait() {
    let staged = staged().await;
    let ids = park(&staged, [row_letter(1, noon())]).await;
    let mut importer = staged.connection().await;
    assert!(imports::lock(&mut importer, SOURCE).await.unwrap());
    let refused = retry_by(&staged, staged.lander(), Some(Files::Deltas), &ids).await.unwrap_err();
    assert!(matches!(refused, Error::Importing), "{refused}");
    assert_eq!(parked(&staged).await, ids);
    imports::unlock(&mut importer, SOURCE).await.unwrap();
    assert_eq!(retry_by(&staged, staged.lander(), Some(Files::Deltas), &ids).await.unwrap().records, 1);
}

#[tokio::test]
async fn a_full_export_that_is_published_meanwhile_is_noticed() {
    let staged = staged().await;
    import(&staged, noon()).await;
    let ids = park(&staged, [letter(1, "good"), row_letter(1, noon())]).await;
    let (mut lander, database, cancel) = (staged.lander(), staged.options(), CancellationToken::new());
    let mut retrier = Retrier {
        source: SOURCE,
        ttl: TTL,
        files: Some(Files::FullExports),
        database: &database,
        lander: &mut lander,
        cancel: &cancel,
    };
    let url = staged.database.url.clone();
    let times = std::cell::Cell::new(0);
    // Reading a letter again is no moment for asynchronous work, so the other importer has a thread of its own.
    let meddling = |_: &Opened| {
        if times.replace(times.get() + 1) == 0 {
            let url = url.clone();
            let publish = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut connection = staging::connect(&url.parse().unwrap()).await.unwrap();
                    let as_of = noon() + TimeDelta::days(1);
                    let file = File {
                        directory: "drop".to_owned(),
                        source: SOURCE.to_owned(),
                        file_name: "members.csv".to_owned(),
                        as_of,
                        mtime: as_of,
                        dated: true,
                        full_export: true,
                        sha256: "new".to_owned(),
                    };
                    let import_id = imports::begin(&mut connection, &file, noon()).await.unwrap();
                    assert!(imports::publish(&mut connection, import_id, 0, TTL, noon()).await.unwrap());
                });
            };
            std::thread::spawn(publish).join().unwrap();
        }
        Reread::Lands { records: Vec::new(), dead_letters: Vec::new(), products: Vec::new() }
    };
    let done = retrier.retry(&ids, &meddling).await.unwrap();
    assert_eq!((done.records, done.skipped), (0, 2), "the row is of yesterday's export now");
    assert_eq!(staged.count("records").await, 0);
}

#[tokio::test]
async fn an_excluded_record_lands_again_as_it_was_and_keeps_its_origin_when_it_is_excluded_again() {
    let staged = staged().await;
    let first = staged.land(0, 3, TTL, noon()).await;
    let mut connection = staged.connection().await;
    let exclude = async |connection: &mut sqlx::PgConnection, batch_id: i64, place: usize| {
        let records = staging::read(&staged.pool, &[batch_id]).await.unwrap();
        staging::exclude(connection, &seal(), &records[place], "SQLSTATE 22003", noon()).await.unwrap();
    };
    exclude(&mut connection, first, 1).await;
    let before: Value = staged.ask("select to_jsonb(r) - '{batch_id,ordinal,landed_at,expires_at}'::text[] from staging.records r where external_id = '1'").await;
    let more = park(&staged, [letter(70, "good")]).await;
    let retried = retry(&staged, &[more[1], more[0]]).await;
    assert_eq!(retried.records, 2);
    let after: Value = staged
        .ask(&format!("select to_jsonb(r) - '{{batch_id,ordinal,landed_at,expires_at}}'::text[] from staging.records r where external_id = '1' and batch_id <> {first}"))
        .await;
    assert_eq!(before, after);

    let place = staging::read(&staged.pool, &retried.batch_ids).await.unwrap();
    let place = place.iter().position(|record| record.external_id.as_str() == "1").unwrap();
    exclude(&mut connection, retried.batch_ids[0], place).await;
    let origins: Vec<Value> = sqlx::query_scalar(
        "select origin from staging.dead_letters where reason = 'cannot_consolidate' order by dead_letter_id",
    )
    .fetch_all(&staged.pool)
    .await
    .unwrap();
    assert_eq!(origins[0], origins[1]);
    assert_eq!(dead_letters::excluded_from(&staged.pool, &retried.batch_ids).await.unwrap(), 1);
    assert_eq!(retry(&staged, &parked(&staged).await).await.records, 1, "as often as it takes");
}

#[tokio::test]
async fn what_it_takes_to_read_a_letter_again_is_sealed_too() {
    let staged = staged().await;
    park(&staged, [letter(1, "good")]).await;
    let context: Vec<u8> = staged.ask("select context from staging.dead_letters").await;
    assert!(!context.windows(3).any(|window| window == b"ann"));
    assert!(String::from_utf8(seal().open(SOURCE, &context).unwrap()).unwrap().contains("ann@x.example"));
    let everything: String = staged.ask("select to_jsonb(d)::text from staging.dead_letters d").await;
    assert!(!everything.contains("ann"), "{everything}");
}
