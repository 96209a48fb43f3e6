//! What goes wrong: a deck of faults, shuffled by the seed, dealt one after the other.

use std::fmt::{self, Display, Formatter};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sqlx::Row;
use tokio::time::sleep;

use crate::feed::Feed;
use crate::ledger::CUSTOMERS;
use crate::nights::Nights;
use crate::world::{PROCESSES, World, ends_well};

/// Customers never get more partitions than this.
const MOST_PARTITIONS: i32 = 8;
/// With less time than this there are no long waits.
const LONG: Duration = Duration::from_mins(20);
/// Exit codes of commands that say "try again".
const TRY_AGAIN: [Option<i32>; 2] = [Some(69), Some(75)];

/// One thing that happens; times are milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Kill {
        process: usize,
        away: u64,
    },
    Terminate {
        process: usize,
    },
    Freeze {
        process: usize,
        asleep: u64,
    },
    LoseReply {
        process: usize,
    },
    Cut {
        process: usize,
    },
    TerminateBackends,
    CrashPostgres {
        away: u64,
    },
    RestartBroker {
        is_orderly: bool,
    },
    AddPartition,
    Storm,
    Replay {
        share: f64,
        messages: i64,
        killed_after: Option<u64>,
    },
    Retry {
        limit: u32,
    },
    Night,
    Correction,
    Copy,
    /// A transaction that has read everything stays open.
    Analyst {
        open: u64,
    },
    /// Nothing comes through to Postgres, and nobody is told.
    Silence {
        process: usize,
        lasting: u64,
    },
    /// Everything takes 200 ms there and back, and connections break all the time.
    Slow {
        process: usize,
        lasting: u64,
    },
    StoreTrouble,
    BrokerAway {
        away: u64,
    },
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Deals actions for ever.
pub(crate) struct Deck {
    random: StdRng,
    cards: Vec<Action>,
    /// Whether there is time for long waits: minutes in which somebody is away or asleep.
    is_long: bool,
}

impl Deck {
    pub(crate) fn new(random: StdRng, time: Duration) -> Self {
        Self { random, cards: Vec::new(), is_long: time >= LONG }
    }

    /// The next action, and how long to wait before it.
    pub(crate) fn deal(&mut self) -> (Duration, Action) {
        if self.cards.is_empty() {
            self.cards = self.all();
            self.cards.shuffle(&mut self.random);
        }
        let pause = Duration::from_millis(self.random.random_range(100..2_500));
        (pause, self.cards.pop().unwrap_or(Action::Night))
    }

    fn all(&mut self) -> Vec<Action> {
        let random = &mut self.random;
        let mut any = || random.random_range(0..PROCESSES);
        let (first, second, third, fourth) = (any(), any(), any(), any());
        // The first process has no proxy.
        let (one, other) = (1 + first % 2, 1 + second % 2);
        let mut cards = vec![
            Action::Kill { process: first, away: random.random_range(0..1_500) },
            Action::Kill { process: second, away: 0 },
            Action::Terminate { process: third },
            Action::Freeze { process: fourth, asleep: random.random_range(7_000..10_000) },
            Action::Freeze { process: third, asleep: random.random_range(500..5_000) },
            Action::LoseReply { process: one },
            Action::LoseReply { process: other },
            Action::Cut { process: one },
            Action::TerminateBackends,
            Action::CrashPostgres { away: random.random_range(0..2_000) },
            Action::RestartBroker { is_orderly: random.random_bool(0.5) },
            Action::AddPartition,
            Action::Storm,
            replay(random),
            replay(random),
            Action::Retry { limit: if random.random_bool(0.5) { 64 } else { 128 } },
            Action::Night,
            Action::Night,
            Action::Correction,
            Action::Copy,
            Action::Analyst { open: random.random_range(1_000..8_000) },
            Action::Silence { process: one, lasting: random.random_range(1_000..5_000) },
            Action::Slow { process: other, lasting: random.random_range(2_000..6_000) },
            Action::StoreTrouble,
        ];
        if self.is_long {
            cards.extend([Action::BrokerAway { away: 300_000 }, Action::Freeze { process: first, asleep: 60_000 }]);
            cards.push(Action::Silence { process: other, lasting: 90_000 });
        }
        cards
    }
}

fn replay(random: &mut StdRng) -> Action {
    let killed_after = random.random_bool(0.5).then(|| random.random_range(100..900));
    Action::Replay { share: random.random_range(0.0..1.0), messages: random.random_range(1..1_500), killed_after }
}

/// A stretch of customers that was landed again: how often it was begun, and how often it came to its end.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) partition: i32,
    pub(crate) offsets: std::ops::Range<i64>,
    pub(crate) begun: usize,
    pub(crate) ended: usize,
}

/// Those who do it.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) feed: Feed,
    pub(crate) nights: Nights,
    pub(crate) replayed: Vec<Stretch>,
}

impl Stage {
    /// Does it, and puts right what an operator would.
    pub(crate) async fn act(&mut self, action: Action) -> Result<()> {
        let world = &mut self.world;
        match action {
            Action::Kill { process, away } => {
                world.kill(process)?;
                sleep(Duration::from_millis(away)).await;
                world.run(process)?;
            }
            Action::Terminate { process } => {
                world.terminate(process)?;
                world.run(process)?;
            }
            Action::Freeze { process, asleep } => {
                world.process(process)?.freeze()?;
                sleep(Duration::from_millis(asleep)).await;
                world.process(process)?.thaw()?;
            }
            Action::LoseReply { process } => {
                let proxy = world.proxy(process)?;
                proxy.lose_the_next_commit();
                // A process without work to do commits nothing.
                let _ = tokio::time::timeout(Duration::from_secs(5), proxy.lost()).await;
            }
            Action::Cut { process } => world.proxy(process)?.cut(),
            Action::TerminateBackends => {
                let sql = "select pg_terminate_backend(pid) from pg_stat_activity
                           where datname = current_database() and pid <> pg_backend_pid()";
                for _ in 0..3 {
                    let _ = sqlx::query(sql).fetch_all(&world.pool).await;
                    sleep(Duration::from_millis(200)).await;
                }
            }
            Action::CrashPostgres { away } => world.crash_postgres(Duration::from_millis(away)).await?,
            Action::RestartBroker { is_orderly } => {
                if is_orderly {
                    world.broker.stop().await?;
                } else {
                    world.broker.kill();
                }
                world.broker.restart().await?;
            }
            Action::AddPartition => self.add_partition().await?,
            Action::Storm => {
                for _ in 0..3 {
                    let more = world.spawn(1, "storm.log")?;
                    sleep(Duration::from_secs(2)).await;
                    ends_well(more)?;
                }
            }
            Action::Replay { share, messages, killed_after } => self.replay(share, messages, killed_after).await?,
            Action::Retry { limit } => retry(world, limit).await?,
            Action::Night => drop(self.nights.next(&world.drop_directory())?),
            Action::Correction => drop(self.nights.correct(&world.drop_directory())?),
            Action::Copy => drop(self.nights.copy(&world.drop_directory())?),
            Action::Analyst { open } => world.analyse(Duration::from_millis(open)).await,
            Action::Silence { process, lasting } => {
                world.proxy(process)?.silence(true);
                sleep(Duration::from_millis(lasting)).await;
                world.proxy(process)?.silence(false);
            }
            Action::Slow { process, lasting } => {
                let proxy = world.proxy(process)?;
                proxy.delay(100);
                proxy.break_one_in(50);
                sleep(Duration::from_millis(lasting)).await;
                proxy.delay(0);
                proxy.break_one_in(0);
            }
            Action::StoreTrouble => world.trouble_the_store()?,
            Action::BrokerAway { away } => {
                world.broker.stop().await?;
                sleep(Duration::from_millis(away)).await;
                world.broker.restart().await?;
            }
        }
        Ok(())
    }

    async fn add_partition(&self) -> Result<()> {
        let wanted = self.feed.partitions.load(Ordering::Relaxed) + 1;
        if wanted > MOST_PARTITIONS {
            return Ok(());
        }
        self.world.broker.add_partitions(CUSTOMERS, u16::try_from(wanted)?).await?;
        self.feed.partitions.store(wanted, Ordering::Relaxed);
        Ok(())
    }

    /// Lands a stretch again, until that has come to its end.
    async fn replay(&mut self, share: f64, messages: i64, killed_after: Option<u64>) -> Result<()> {
        let rows = sqlx::query(
            "select partition, next_offset from staging.kafka_offsets
             where source = 'home_delivery' and topic = $1 and next_offset > 10
             order by partition",
        )
        .bind(CUSTOMERS)
        .fetch_all(&self.world.pool)
        .await?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "small numbers"
        )]
        let at = |count: usize| ((count as f64) * share) as usize;
        let Some(row) = rows.get(at(rows.len())) else { return Ok(()) };
        let (partition, end): (i32, i64) = (row.get(0), row.get(1));
        let from = i64::try_from(at(usize::try_from(end)?))?.min(end - 1);
        let to = (from + messages).min(end);
        let words = [partition.to_string(), from.to_string(), to.to_string()];
        let mut arguments = vec!["replay", "home_delivery", "--topic", CUSTOMERS, "--partition", &words[0]];
        arguments.extend(["--from-offset", &words[1], "--to-offset", &words[2]]);
        let mut stretch = Stretch { partition, offsets: from..to, begun: 0, ended: 0 };
        if let Some(after) = killed_after {
            stretch.begun += 1;
            let running = self.world.begin(&arguments)?;
            sleep(Duration::from_millis(after)).await;
            running.kill()?;
        }
        while stretch.ended == 0 {
            stretch.begun += 1;
            ensure!(stretch.begun < 12, "replay {words:?} does not come to its end");
            let output = self.world.command(&arguments, &[])?;
            match output.status.code() {
                Some(0) => stretch.ended += 1,
                code if TRY_AGAIN.contains(&code) => sleep(Duration::from_millis(500)).await,
                code => bail!("replay {words:?} ended with {code:?}: {}", String::from_utf8_lossy(&output.stderr)),
            }
        }
        self.replayed.push(stretch);
        Ok(())
    }
}

/// Retries all dead letters of Kafka, with this limit on the depth of JSON.
pub(crate) async fn retry(world: &World, limit: u32) -> Result<()> {
    let limit = limit.to_string();
    let variables = [("C360__SOURCES__HOME_DELIVERY__MAX_DEPTH", limit.as_str())];
    for _ in 0..10 {
        let output = world.command(&["dead-letters", "retry", "--source", "home_delivery"], &variables)?;
        match output.status.code() {
            // Some of it is bad for ever.
            Some(0 | 65) => return Ok(()),
            code if TRY_AGAIN.contains(&code) => sleep(Duration::from_millis(500)).await,
            code => bail!("retrying ended with {code:?}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
    bail!("retrying does not come to its end")
}
