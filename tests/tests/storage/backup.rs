//! A backup of before is restored while the sources have gone on.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use c360_tests::event;
use c360_tests::program::Installation;
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC};
use serde_json::{Value, json};
use sqlx::PgPool;

const CONFIG: &str = r#"
[sources.home_delivery]
kind = "kafka"
brokers = "localhost:9092"
topics = ["dbserver1.inventory.customers"]
[sources.home_delivery.customer]
external_id = "id"
email = "email"
credential = "password"
attributes = { name = "name" }
"#;

/// A program beside the server that runs these tests.
async fn beside_postgres(pool: &PgPool, program: &str) -> Command {
    let directory: String =
        sqlx::query_scalar("select setting from pg_config() where name = 'BINDIR'").fetch_one(pool).await.unwrap();
    let path = PathBuf::from(directory).join(program);
    assert!(path.is_file(), "{program} is not beside Postgres: install the client programs of the same version");
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// People 0 to 49 have a row each, and their version in the name.
async fn produce(broker: &Broker, offsets: std::ops::Range<i64>) {
    let event = |n: i64| {
        let (id, version) = (n % 50, n / 50);
        let op = if version == 0 { "c" } else { "u" };
        let after = json!({"name": format!("Ann {version}")});
        event::change(id, &json!({"after": after, "source": {"pos": 1_000 + n}, "op": op}))
    };
    broker.send_all(CUSTOMERS_TOPIC, offsets.map(event)).await.unwrap();
}

/// Everything up to now.
fn catch_up(installation: &Installation, database: &str) {
    let output = installation.run_with(&["run", "--once"], &[("C360__DATABASE__URL", database)]).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What there is to know, without times and numbers of rows.
async fn golden(pool: &PgPool) -> Vec<Value> {
    let sql = "select to_jsonb(q) from (
                   select c.customer_id, d.email, d.document, c.provenance
                   from customer360.documents d join customer360.customers c on c.email = d.email
                   order by d.email) q
               union all
               select to_jsonb(o) - 'updated_at' from staging.kafka_offsets o
               union all
               select to_jsonb(q) from (
                   select system, external_id, match_key, attributes, encode(position, 'hex') as position
                   from customer360.xrefs order by external_id) q";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_goes_on_from_its_own_offsets_and_ends_where_the_lost_database_was() {
    let broker = Broker::start().await.unwrap();
    broker.create_topic(CUSTOMERS_TOPIC, 1).await.unwrap();
    let (lost, restored) = (embedded_postgres::test::database().await, embedded_postgres::test::database().await);
    let (lost_pool, restored_pool) = (lost.pool().await, restored.pool().await);
    let installation =
        Installation::new(CONFIG).unwrap().with("C360__SOURCES__HOME_DELIVERY__BROKERS", &broker.bootstrap());

    produce(&broker, 0..70).await;
    catch_up(&installation, &lost.url);
    let dump = installation.path().join("c360.dump");
    succeeds(
        beside_postgres(&lost_pool, "pg_dump").await.args(["--format=custom", "--file"]).arg(&dump).arg(&lost.url),
    );
    produce(&broker, 70..130).await;
    catch_up(&installation, &lost.url);
    let expected = golden(&lost_pool).await;

    let mut restore = beside_postgres(&restored_pool, "pg_restore").await;
    succeeds(restore.args(["--exit-on-error", "--no-owner", "--dbname"]).arg(&restored.url).arg(&dump));
    let offset = "select next_offset from staging.kafka_offsets";
    assert_eq!(sqlx::query_scalar::<_, i64>(offset).fetch_one(&restored_pool).await.unwrap(), 70);
    catch_up(&installation, &restored.url);

    assert_eq!(golden(&restored_pool).await, expected);
    // Each message was landed once: none of those before the dump again, all of those behind it.
    let landed = "select sum(record_count)::bigint from staging.batches";
    assert_eq!(sqlx::query_scalar::<_, i64>(landed).fetch_one(&restored_pool).await.unwrap(), 130);
}
