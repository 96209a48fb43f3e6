//! The source at work: changes go to the broker without a pause, by a plain and by a transactional producer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::Result;
use c360_tests::stack::{Broker, Outgoing, Producer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::task::{JoinHandle, block_in_place};
use tokio_util::sync::CancellationToken;

use crate::ledger::{CUSTOMERS, Entry, Ledger};
use crate::table::Table;

/// Names a message by its place in the ledger.
pub(crate) const NUMBER: &str = "n";
const BETWEEN: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);

/// The running feed.
pub(crate) struct Feed {
    cancel: CancellationToken,
    task: JoinHandle<Result<Ledger>>,
    /// How many partitions of customers it writes to.
    pub(crate) partitions: Arc<AtomicI32>,
}

impl Feed {
    pub(crate) fn start(broker: &Broker, seed: u64, partitions: i32) -> Result<Self> {
        let cancel = CancellationToken::new();
        let partitions = Arc::new(AtomicI32::new(partitions));
        let mut source = Source {
            random: StdRng::seed_from_u64(seed ^ 1),
            table: Table::new(StdRng::seed_from_u64(seed)),
            plain: broker.producer()?,
            transactional: None,
            known_partitions: 0,
            bootstrap: broker.bootstrap(),
            ledger: Ledger::default(),
        };
        let (stopped, of_customers) = (cancel.clone(), partitions.clone());
        let task = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                source.write(of_customers.load(Ordering::Relaxed)).await?;
                tokio::time::sleep(BETWEEN).await;
            }
            Ok(source.ledger)
        });
        Ok(Self { cancel, task, partitions })
    }

    /// Stops after what it is writing; the ledger of all that was written.
    pub(crate) async fn stop(self) -> Result<Ledger> {
        self.cancel.cancel();
        self.task.await?
    }
}

struct Source {
    random: StdRng,
    table: Table,
    plain: Producer,
    transactional: Option<BaseProducer>,
    known_partitions: i32,
    bootstrap: String,
    ledger: Ledger,
}

impl Source {
    async fn write(&mut self, partitions: i32) -> Result<()> {
        if self.known_partitions < partitions {
            block_in_place(|| self.plain.refresh(CUSTOMERS))?;
            // Another one begins with what there is now.
            self.transactional = None;
            self.known_partitions = partitions;
        }
        let changes = self.random.random_range(5..40);
        match self.random.random_range(0..20) {
            0 => {
                let rows: Vec<Entry> = (0..changes).flat_map(|_| self.table.aborted(partitions)).collect();
                self.transact(&rows, None, false);
            }
            choice => {
                let entries: Vec<Entry> = (0..changes).flat_map(|_| self.table.change(partitions)).collect();
                let first = self.ledger.0.len();
                let is_sure = if choice == 1 {
                    self.transact(&entries, Some(first), true)
                } else {
                    self.send(&entries, first).await.is_ok()
                };
                self.ledger.0.extend(entries.into_iter().map(|entry| Entry { is_sure, ..entry }));
            }
        }
        Ok(())
    }

    async fn send(&self, entries: &[Entry], first: usize) -> Result<()> {
        let numbers: Vec<String> = (first..first + entries.len()).map(|number| number.to_string()).collect();
        let mut all = Vec::with_capacity(entries.len());
        for (entry, number) in entries.iter().zip(&numbers) {
            all.push(headers(entry, number));
        }
        let mut messages = Vec::with_capacity(entries.len());
        for (entry, headers) in entries.iter().zip(&all) {
            messages.push(Outgoing {
                topic: entry.topic,
                partition: Some(entry.partition),
                key: entry.key.as_deref(),
                value: entry.value.as_deref(),
                headers,
                timestamp_ms: None,
            });
        }
        self.plain.send_all(messages).await
    }

    /// One transaction; false when it is not known to be committed.
    fn transact(&mut self, entries: &[Entry], first: Option<usize>, commits: bool) -> bool {
        let done = block_in_place(|| {
            let producer = self.producer()?;
            producer.begin_transaction()?;
            for (index, entry) in entries.iter().enumerate() {
                let number = first.map_or_else(|| "aborted".to_owned(), |first| (first + index).to_string());
                let all = headers(entry, &number);
                let all =
                    all.into_iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value }));
                let mut record = BaseRecord::<[u8], [u8]>::to(entry.topic).partition(entry.partition).headers(all);
                record.key = entry.key.as_deref();
                record.payload = entry.value.as_deref();
                producer.send(record).map_err(|(error, _)| error)?;
            }
            producer.flush(PATIENCE)?;
            let ended =
                if commits { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) };
            ended?;
            anyhow::Ok(())
        });
        if done.is_err() {
            // What it left open would keep everybody from reading on: another one of its name ends it.
            self.transactional = None;
            for _ in 0..6 {
                if block_in_place(|| self.producer()).is_ok() {
                    break;
                }
            }
        }
        done.is_ok()
    }

    fn producer(&mut self) -> Result<&BaseProducer> {
        if self.transactional.is_none() {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &self.bootstrap).set("transactional.id", "soak");
            let producer: BaseProducer = config.create()?;
            producer.init_transactions(PATIENCE)?;
            self.transactional = Some(producer);
        }
        self.transactional.as_ref().ok_or_else(|| anyhow::anyhow!("a producer"))
    }
}

fn headers<'a>(entry: &'a Entry, number: &'a str) -> Vec<(&'a str, Option<&'a [u8]>)> {
    let mut headers = vec![(NUMBER, Some(number.as_bytes()))];
    headers.extend(entry.new_key.as_deref().map(|key| ("__debezium.newkey", Some(key))));
    headers
}
