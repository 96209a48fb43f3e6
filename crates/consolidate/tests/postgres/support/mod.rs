//! A world of one's own: a database with both schemas, sources that land into it, and what came of it.

pub(crate) mod events;
pub(crate) mod oracle;
pub(crate) mod random;

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use consolidate::decide::{self, Decision, Done, Request};
use consolidate::{Consolidator, Drained, Rules};
use model::{Guards, InstallationKey, Record, Survivorship};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use staging::offsets::{Advance, Progress};
use staging::{Batch, Checkpoint, DEFAULT_PARTITION_WIDTH, DeadLetter, Lander, Landing, Seal};
use tokio_util::sync::CancellationToken;

use events::Event;

pub(crate) const TTL: Duration = Duration::from_hours(24);

pub(crate) struct World {
    pub(crate) pool: PgPool,
    pub(crate) options: PgConnectOptions,
    pub(crate) rules: Rules,
    pub(crate) seal: Seal,
    /// The epoch of all sources that land.
    pub(crate) epoch: u32,
    /// Whether what lands was asked for again.
    pub(crate) again: bool,
    lander: Lander,
    next_offsets: HashMap<String, i64>,
    now: Option<DateTime<Utc>>,
}

/// The rules of the reference scenario.
pub(crate) fn rules() -> Rules {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let blocked = ["n/a", "none", "unknown", "test@*", "noreply@*", "no-reply@*"];
    Rules {
        survivorship: Survivorship {
            prefer: words(&["home_delivery", "online_store", "loyalty"]),
            groups: vec![words(&["address1", "address2", "city", "state", "zipcode"])],
            attributes: HashMap::from([("loyaltyPoints".to_owned(), words(&["loyalty"]))]),
        },
        guards: Guards::new(&blocked, 10).unwrap(),
        polled_sources: Vec::new(),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(rules()).await
    }

    pub(crate) async fn with(rules: Rules) -> Self {
        let database = embedded_postgres::test::database().await;
        let options: PgConnectOptions = database.url.parse().unwrap();
        let mut connection = staging::connect(&options).await.unwrap();
        staging::migrate(&mut connection).await.unwrap();
        consolidate::migrate(&mut connection).await.unwrap();
        let seal = Seal::new(&InstallationKey::new([7; 32]));
        Self {
            pool: database.pool().await,
            lander: Lander::new(options.clone(), seal.clone(), DEFAULT_PARTITION_WIDTH),
            options,
            rules,
            seal,
            epoch: 0,
            again: false,
            next_offsets: HashMap::new(),
            now: None,
        }
    }

    /// Lands events of one source as one batch, which can be claimed at once.
    pub(crate) async fn land(&mut self, source: &str, events: &[Event]) {
        let records: Vec<Record> = events.iter().map(Event::record).collect();
        self.land_records(source, &records).await;
    }

    pub(crate) async fn land_records(&mut self, source: &str, records: &[Record]) {
        let mut batch = Batch::new(source, TTL);
        for record in records {
            batch.push(record);
        }
        self.land_batch(source, &mut batch).await;
    }

    /// Lands a batch of messages, which can be claimed at once.
    pub(crate) async fn land_batch(&mut self, source: &str, batch: &mut Batch) {
        let expected = self.next_offsets.get(source).copied();
        let first = expected.unwrap_or(0);
        let next_offset = first + i64::from(batch.record_count() + batch.dead_letter_count());
        let mut origin =
            json!({"topic": source, "partition": 0, "first_offset": first, "last_offset": next_offset - 1});
        if self.again {
            origin["again"] = true.into();
        }
        let topic = source.to_owned();
        let advance = Advance {
            progress: Progress::Source,
            epoch: self.epoch,
            topic,
            partition: 0,
            expected,
            next_offset,
            last_seen: None,
            last_message: None,
        };
        let now = self.now.unwrap_or_else(Utc::now);
        let landing = self.lander.land(batch, &origin, &Checkpoint::Kafka(advance), now).await.unwrap();
        assert!(matches!(landing, Landing::Landed { batch_id: Some(_) }));
        self.next_offsets.insert(source.to_owned(), next_offset);
    }

    /// [`World::land`] at another time than now.
    pub(crate) async fn land_at(&mut self, source: &str, events: &[Event], now: DateTime<Utc>) {
        self.now = Some(now);
        self.land(source, events).await;
        self.now = None;
    }

    /// Lands and publishes a full export of these members, one batch each `batch_rows`, and rows that could not be read, of
    /// which only the id is known.
    pub(crate) async fn export(&mut self, file: &Export<'_>) {
        let import_id: i64 = sqlx::query_scalar(
            "insert into staging.csv_imports (source, file_name, as_of, mtime, dated, full_export, sha256, state, started_at)
             values ($1, $2, $3, $3, true, true, $2, 'importing', now()) returning import_id",
        )
        .bind(file.source)
        .bind(format!("members_{}.csv", file.as_of().date_naive()))
        .bind(file.as_of())
        .fetch_one(&self.pool)
        .await
        .unwrap();
        let mut rows_before = 0;
        for members in file.members.chunks(file.batch_rows) {
            let mut batch = Batch::new(file.source, TTL);
            for event in members {
                batch.push(&event.record());
            }
            rows_before = self.land_rows(&mut batch, import_id, rows_before).await;
        }
        if !file.unreadable.is_empty() {
            let mut batch = Batch::new(file.source, TTL);
            for id in file.unreadable {
                let reject = model::Reject::new(model::Reason::RaggedRow, "too few columns");
                let letter = DeadLetter::new(json!({"file": "members.csv", "line": 9}), reject, b"?");
                batch.push_dead_letter(letter.with_external_id(Some((*id).to_owned())));
            }
            rows_before = self.land_rows(&mut batch, import_id, rows_before).await;
        }
        let mut connection = self.pool.acquire().await.unwrap();
        let published =
            staging::imports::publish(&mut connection, import_id, rows_before, TTL, Utc::now()).await.unwrap();
        assert!(published);
    }

    async fn land_rows(&mut self, batch: &mut Batch, import_id: i64, rows_before: i64) -> i64 {
        let rows = i64::from(batch.record_count() + batch.dead_letter_count());
        let checkpoint = Checkpoint::Csv { import_id, rows_before, rows };
        let landing = self.lander.land(batch, &json!({"file": "members.csv"}), &checkpoint, Utc::now()).await.unwrap();
        assert!(matches!(landing, Landing::Landed { batch_id: Some(_) }));
        rows_before + rows
    }

    /// Both steps until nothing is left.
    pub(crate) async fn consolidate(&mut self) -> Drained {
        let mut consolidator = self.consolidator().await;
        self.consolidate_by(&mut consolidator).await
    }

    /// The same by one that stays at work.
    pub(crate) async fn consolidate_by(&self, consolidator: &mut Consolidator) -> Drained {
        consolidator.drain(&self.rules, &self.seal, &CancellationToken::new()).await.unwrap()
    }

    /// One that is at work.
    pub(crate) async fn consolidator(&self) -> Consolidator {
        let mut consolidator = Consolidator::connect(&self.options).await.unwrap();
        while !consolidator.try_begin().await.unwrap() {
            // The last one's connections are being closed.
            tokio::task::yield_now().await;
        }
        consolidator
    }

    /// The same through the door of the commands, which takes the lock and offers known emails to new sources first.
    pub(crate) async fn catch_up(&self) -> Drained {
        consolidate::catch_up(&self.rules, &self.seal, &self.options, &CancellationToken::new()).await.unwrap()
    }

    /// Decides as a command does, without waiting for profiles.
    pub(crate) async fn request(&self, request: &Request) -> Result<(Done, Option<Decision>), consolidate::Error> {
        let mut connection = self.pool.acquire().await.unwrap();
        let recorded = decide::record(&mut connection, &self.rules, request, "test", Utc::now()).await?;
        Ok((recorded.done, recorded.decision))
    }

    /// Empties all tables: a new world costs more.
    pub(crate) async fn empty(&mut self) {
        let tables: String = sqlx::query_scalar(
            "select string_agg(format('%I.%I', n.nspname, c.relname), ', ')
             from pg_class c
             join pg_namespace n on n.oid = c.relnamespace
             where n.nspname in ('staging', 'customer360') and c.relkind in ('r', 'p') and not c.relispartition
               and c.relname not in ('installation', '_migrations', 'erasure_version')",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        let truncate = format!("truncate {tables} restart identity");
        sqlx::query(sqlx::AssertSqlSafe(truncate)).execute(&self.pool).await.unwrap();
        sqlx::query("update customer360.installation set namespace = $1")
            .bind(oracle::NAMESPACE)
            .execute(&self.pool)
            .await
            .unwrap();
        self.next_offsets.clear();
    }

    /// A decision as a row, whatever stands against it, and marks on the match keys that it concerns.
    pub(crate) async fn decide(&self, kind: &str, subject: &[&str], concerned: &[&str]) {
        sqlx::query(
            "insert into customer360.decisions (kind, subject, made_at, made_by) values ($1, $2, now(), 'test')",
        )
        .bind(kind)
        .bind(subject)
        .execute(&self.pool)
        .await
        .unwrap();
        self.mark(concerned).await;
    }

    /// Undoes the decision of this kind on this subject.
    pub(crate) async fn undo(&self, kind: &str, subject: &[&str], concerned: &[&str]) {
        let done = sqlx::query(
            "update customer360.decisions set undone_at = now()
             where kind = $1 and subject = $2 and undone_at is null",
        )
        .bind(kind)
        .bind(subject)
        .execute(&self.pool)
        .await
        .unwrap();
        assert_eq!(done.rows_affected(), 1);
        self.mark(concerned).await;
    }

    /// What `source retire` does first; the consolidator does the rest.
    pub(crate) async fn retire(&self, system: &str, before: DateTime<Utc>) -> i64 {
        consolidate::retire::record(&self.pool, system, before, Utc::now()).await.unwrap()
    }

    pub(crate) async fn mark(&self, keys: &[&str]) {
        let mut connection = self.pool.acquire().await.unwrap();
        consolidate::mark(&mut connection, keys, "decision", Utc::now()).await.unwrap();
    }

    /// The one column of the one row that a query gives, as JSON.
    pub(crate) async fn value(&self, sql: &str) -> Value {
        let sql = format!("select coalesce(to_jsonb(v), 'null') from ({sql}) as q (v)");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap()
    }

    /// The rows of a query, each as a JSON object.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Value> {
        let sql = format!("select to_jsonb(q) from ({sql}) q");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await.unwrap()
    }

    /// What is kept beside golden records, so that it need not be counted, is what counting finds.
    pub(crate) async fn assert_counts_are_right(&self, when: &str) {
        for (what, kept, counted) in [
            (
                "counts",
                "select measure, key, sum(count) as count, sum(value) as value from customer360.counts
                 group by 1, 2 having (sum(count), sum(value)) <> (0, 0)",
                "select measure, key, sum(count) as count, sum(value) as value from customer360.measured group by 1, 2",
            ),
            ("buyers", "table customer360.buyers", "select * from customer360.bought(null)"),
            (
                "systems",
                "select customer_id, systems from customer360.customer_search where systems <> '{}'",
                "select customer_id, array_agg(distinct system order by system) from customer360.xrefs
                 where deleted_at is null and customer_id is not null group by 1",
            ),
            (
                "what systems disagree about",
                "select customer_id, attribute from customer360.customer_search, unnest(disagreeing) as attribute",
                "select distinct x.customer_id, said.key
                 from customer360.xrefs x
                 join customer360.customers c on c.customer_id = x.customer_id
                 cross join lateral jsonb_each(x.attributes) as said
                 where x.deleted_at is null and said.value not in ('null', '\"\"')
                   and said.value is distinct from c.profile -> said.key",
            ),
            (
                "times of interactions",
                "select system, interaction_id, at from customer360.interaction_participants",
                "select i.system, i.interaction_id, coalesce(i.at, '-infinity')
                 from customer360.interaction_participants p join customer360.interactions i using (system, interaction_id)",
            ),
        ] {
            let difference = format!("(({kept}) except all ({counted})) union all (({counted}) except all ({kept}))");
            assert_eq!(self.rows(&difference).await, [Value::Null; 0], "{what}, {when}");
        }
    }

    /// `documents` by email.
    pub(crate) async fn document(&self, email: &str) -> Option<Value> {
        sqlx::query_scalar("select document from customer360.documents where email = $1")
            .bind(email)
            .fetch_optional(&self.pool)
            .await
            .unwrap()
    }

    /// The profile of the living customer of an email.
    pub(crate) async fn profile(&self, email: &str) -> Option<Value> {
        Some(self.document(email).await?["profile"].clone())
    }

    /// `{customer_id, unmatched_reason, match_key, deleted_at, ...}` of a cross-reference.
    pub(crate) async fn xref(&self, system: &str, external_id: &str) -> Value {
        sqlx::query_scalar("select to_jsonb(x) from customer360.xrefs x where system = $1 and external_id = $2")
            .bind(system)
            .bind(external_id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// A row of `customers`, by match key.
    pub(crate) async fn customer(&self, match_key: &str) -> Option<Value> {
        sqlx::query_scalar("select to_jsonb(c) from customer360.customers c where match_key = $1")
            .bind(match_key)
            .fetch_optional(&self.pool)
            .await
            .unwrap()
    }

    /// A row of `orders`.
    pub(crate) async fn order(&self, system: &str, order_id: &str) -> Value {
        sqlx::query_scalar("select to_jsonb(o) from customer360.orders o where system = $1 and order_id = $2")
            .bind(system)
            .bind(order_id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Where a customer leads: redirects, each followed only while its customer is deleted.
    pub(crate) async fn follow(&self, customer_id: &Value) -> Value {
        let mut at = customer_id.clone();
        for _ in 0..10 {
            let next = format!(
                "select max(r.to_customer_id::text)
                 from customer360.redirects r
                 join customer360.customers c on c.customer_id = r.customer_id and c.deleted_at is not null
                 where r.customer_id = '{}'",
                at.as_str().unwrap()
            );
            match self.value(&next).await {
                Value::Null => return at,
                next => at = next,
            }
        }
        panic!("redirects in a circle");
    }

    /// Where the API finds a customer who was known by this id.
    pub(crate) async fn resolved(&self, customer_id: &Value) -> Value {
        self.value(&format!("select customer360.resolved('{}')", customer_id.as_str().unwrap())).await
    }

    /// Every row version of the golden records, and how much history there is.
    pub(crate) async fn row_versions(&self) -> Vec<Value> {
        let tables =
            "customers xrefs orders order_lines products interactions interaction_participants redirects changes";
        let versions = tables.split(' ').map(|table| {
            format!(
                "select '{table}' as name, xmin::text, ctid::text, cmin::text, tableoid::text from customer360.{table}"
            )
        });
        self.rows(&format!("{} order by 1, 5, 3", versions.collect::<Vec<_>>().join(" union all "))).await
    }
}

/// A full export: of a night, with members, and rows that are dead letters.
pub(crate) struct Export<'a> {
    pub(crate) source: &'a str,
    /// Nights since some day; `Event::in_file` gives the positions.
    pub(crate) night: i64,
    pub(crate) members: &'a [Event],
    pub(crate) unreadable: &'a [&'a str],
    pub(crate) batch_rows: usize,
}

impl Export<'_> {
    pub(crate) fn as_of(&self) -> DateTime<Utc> {
        events::night(self.night)
    }
}
