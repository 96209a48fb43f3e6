//! Messages that are landed again, and the dead letters that they had.

use staging::offsets::{Advance, Progress, StoredOffset};
use staging::replays::{self, Rewind, Section};
use staging::{Batch, Checkpoint, Landing};

use crate::support::{SOURCE, Staged, TOPIC, TTL, advance, dead_letter, noon, origin, record, staged};

const STATES: &str = "select string_agg(state, ' ' order by dead_letter_id) from staging.dead_letters";

impl Staged {
    /// Three messages are landed, of which the one at offset 1 is a dead letter.
    async fn land_with_a_letter(&self) {
        let mut batch = Batch::new(SOURCE, TTL);
        batch.push(&record(0));
        batch.push_dead_letter(dead_letter(1, b"{"));
        batch.push(&record(2));
        self.lander().land(&mut batch, &origin(0), &advance(None, 3), noon()).await.unwrap();
    }

    /// Lands messages from the first on, all of them good.
    async fn land_good(&self, next_offset: i64, progress: Progress, epoch: u32) -> Landing {
        let Checkpoint::Kafka(first) = advance(Some(0), next_offset) else { unreachable!() };
        let checkpoint = Checkpoint::Kafka(Advance { progress, epoch, ..first });
        let mut batch = Batch::new(SOURCE, TTL);
        (0..next_offset).for_each(|offset| batch.push(&record(offset)));
        self.lander().land(&mut batch, &origin(0), &checkpoint, noon()).await.unwrap()
    }

    async fn rewind(&self, new_epoch: bool, is_made_again: bool) {
        let start =
            StoredOffset { topic: TOPIC.to_owned(), partition: 0, next_offset: 0, last_seen: None, last_message: None };
        let rewind = Rewind { stored: Some(3), start, first_offset: 0, is_made_again };
        let mut connection = self.connection().await;
        assert!(replays::rewind(&mut connection, SOURCE, &[rewind], new_epoch, noon()).await.unwrap());
    }

    async fn begin(&self, request: &str, section: &Section) {
        let sections = std::slice::from_ref(section);
        replays::begin(&self.pool, SOURCE, request, sections, noon()).await.unwrap();
    }
}

fn section(first_offset: i64, end_offset: i64) -> Section {
    Section {
        topic: TOPIC.to_owned(),
        partition: 0,
        first_offset,
        end_offset,
        next_offset: first_offset,
        last_seen: None,
    }
}

fn replay(request: &str) -> Progress {
    Progress::Replay(request.into())
}

#[tokio::test]
async fn a_letter_of_a_new_epoch_is_superseded_when_its_message_lands_and_not_before() {
    let staged = staged().await;
    staged.land_with_a_letter().await;
    staged.rewind(true, false).await;
    assert_eq!(staged.ask::<String>(STATES).await, "parked", "nothing is landed again yet");
    assert!(matches!(staged.land_good(1, Progress::Source, 1).await, Landing::Landed { .. }));
    assert_eq!(staged.ask::<String>(STATES).await, "parked");
    staged.run("update staging.kafka_offsets set next_offset = 0").await;
    assert!(matches!(staged.land_good(2, Progress::Source, 1).await, Landing::Landed { .. }));
    assert_eq!(staged.ask::<String>(STATES).await, "retried");
}

#[tokio::test]
async fn letters_of_a_topic_that_was_deleted_outlive_replays_of_the_one_that_was_made_in_its_place() {
    for new_epoch in [false, true] {
        let staged = staged().await;
        staged.land_with_a_letter().await;
        staged.rewind(new_epoch, true).await;
        let epoch = u32::from(new_epoch);
        assert!(matches!(staged.land_good(3, Progress::Source, epoch).await, Landing::Landed { .. }));
        staged.begin("", &section(0, 3)).await;
        assert!(matches!(staged.land_good(3, replay(""), epoch).await, Landing::Landed { .. }));
        assert_eq!(staged.ask::<String>(STATES).await, "parked", "its message is nowhere else");
        assert!(staged.ask::<bool>("select (origin -> 'topic_deleted')::boolean from staging.dead_letters").await);

        // A letter of the new topic is superseded as any other.
        staged.run("update staging.dead_letters set origin = origin - 'topic_deleted'").await;
        staged.run("update staging.replays set next_offset = 0").await;
        assert!(matches!(staged.land_good(3, replay(""), epoch).await, Landing::Landed { .. }));
        assert_eq!(staged.ask::<String>(STATES).await, "retried");
    }
}

#[tokio::test]
async fn a_record_that_could_not_be_consolidated_is_superseded_too() {
    let staged = staged().await;
    let batch_id = staged.land(0, 3, TTL, noon()).await;
    let records = staging::read(&staged.pool, &[batch_id]).await.unwrap();
    let seal = crate::support::seal();
    staging::exclude(&mut staged.connection().await, &seal, &records[1], "SQLSTATE 22003", noon()).await.unwrap();
    staged.begin("", &section(0, 3)).await;
    assert!(matches!(staged.land_good(3, replay(""), 0).await, Landing::Landed { .. }));
    assert_eq!(staged.ask::<String>(STATES).await, "retried");
}

#[tokio::test]
async fn whose_place_another_replay_has_taken_lands_no_more_and_can_see_it() {
    let staged = staged().await;
    staged.land(0, 3, TTL, noon()).await;
    let of = async |request: &str| {
        let progress = replays::stored(&staged.pool, SOURCE, request).await.unwrap();
        (progress.own.iter().map(|own| own.next_offset).collect::<Vec<_>>(), progress.others.len())
    };
    staged.begin("long", &section(0, 3)).await;
    assert_eq!(of("long").await, (vec![0], 0));
    staged.begin("short", &section(0, 2)).await;
    assert_eq!(of("long").await, (vec![], 1));
    assert_eq!(staged.land_good(1, replay("long"), 0).await, Landing::Fenced);
    assert!(matches!(staged.land_good(2, replay("short"), 0).await, Landing::Landed { .. }));
    replays::forget_done(&staged.pool, SOURCE).await.unwrap();
    assert_eq!(of("long").await, (vec![], 1), "also when that is done");

    // What is done without having taken anybody's place is forgotten.
    staged.run("delete from staging.replays").await;
    staged.begin("long", &section(0, 3)).await;
    assert!(matches!(staged.land_good(3, replay("long"), 0).await, Landing::Landed { .. }));
    replays::forget_done(&staged.pool, SOURCE).await.unwrap();
    assert_eq!(staged.count("replays").await, 0);
}

#[tokio::test]
async fn the_same_replay_goes_on_unless_what_it_had_left_is_not_there_any_more() {
    let staged = staged().await;
    let next = "select next_offset from staging.replays";
    for (begun, left, again, expected) in [
        ((0, 9), 4, (0, 9), 4),
        ((0, 9), 4, (0, 12), 4),
        // Retention has passed it.
        ((0, 9), 4, (6, 9), 6),
        // The topic was made again, and is shorter.
        ((0, 9), 4, (0, 3), 0),
    ] {
        staged.run("delete from staging.replays").await;
        staged.begin("", &section(begun.0, begun.1)).await;
        staged.run(&format!("update staging.replays set next_offset = {left}")).await;
        staged.begin("", &section(again.0, again.1)).await;
        assert_eq!(staged.ask::<i64>(next).await, expected, "{again:?}");
    }
}
