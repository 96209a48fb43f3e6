//! Migrations while processes of the version before go on: they only add.

use std::collections::BTreeMap;

use c360_tests::program::Installation;
use c360_tests::source;
use consolidate::Consolidator;
use serde_json::Value;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use crate::people;

static STAGING: Migrator = sqlx::migrate!("../crates/staging/migrations");
static CUSTOMER360: Migrator = sqlx::migrate!("../crates/consolidate/migrations");

/// What statements of a version rely on.
#[derive(Default)]
struct Schema {
    /// `table.column`: its type, whether it may be left out of an insert, and whether it must not be null.
    columns: BTreeMap<String, (String, bool, bool)>,
    /// What refuses rows, by name: the columns that it looks at.
    constraints: BTreeMap<String, Vec<String>>,
}

impl Schema {
    async fn read(connection: &mut PgConnection, schema: &str) -> Self {
        let columns = sqlx::query(
            "select c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod),
                    a.atthasdef or a.attidentity <> '' or not a.attnotnull, a.attnotnull
             from pg_attribute a
             join pg_class c on c.oid = a.attrelid
             join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relkind in ('r', 'p', 'v') and not c.relispartition and a.attnum > 0
               and not a.attisdropped",
        )
        .bind(schema)
        .fetch_all(&mut *connection)
        .await
        .unwrap();
        let constraints = sqlx::query(
            "select c.conname::text, array_agg(t.relname || '.' || a.attname)
             from pg_constraint c
             join pg_class t on t.oid = c.conrelid
             join pg_namespace n on n.oid = t.relnamespace
             join pg_attribute a on a.attrelid = t.oid and a.attnum = any (c.conkey)
             where n.nspname = $1 and not t.relispartition
             group by c.oid, c.conname
             union all
             select i.indexrelid::regclass::text, array_agg(t.relname || '.' || a.attname)
             from pg_index i
             join pg_class t on t.oid = i.indrelid
             join pg_namespace n on n.oid = t.relnamespace
             join pg_attribute a on a.attrelid = t.oid and a.attnum = any (i.indkey)
             where n.nspname = $1 and not t.relispartition and i.indisunique
             group by i.indexrelid",
        )
        .bind(schema)
        .fetch_all(connection)
        .await
        .unwrap();
        Self {
            columns: columns.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3)))).collect(),
            constraints: constraints.iter().map(|row| (row.get(0), row.get(1))).collect(),
        }
    }

    fn has_table_of(&self, column: &str) -> bool {
        let table = column.split('.').next().unwrap();
        self.columns.keys().any(|known| known.split('.').next() == Some(table))
    }

    /// What statements that were right for `self` could trip over in `newer`.
    fn breaks(&self, newer: &Self) -> Vec<String> {
        let mut breaks = Vec::new();
        for (column, (kind, _, not_null)) in &self.columns {
            match newer.columns.get(column) {
                None => breaks.push(format!("{column} is gone")),
                Some((other, _, _)) if other != kind => breaks.push(format!("{column} was {kind} and is {other}")),
                Some((_, _, true)) if !not_null => breaks.push(format!("{column} may be null no more")),
                Some(_) => {}
            }
        }
        for (column, (_, may_lack, _)) in &newer.columns {
            if !self.columns.contains_key(column) && self.has_table_of(column) && !may_lack {
                breaks.push(format!("{column} has no default"));
            }
        }
        for (name, columns) in &newer.constraints {
            let is_old = columns.iter().all(|column| self.columns.contains_key(column));
            if !self.constraints.contains_key(name) && is_old {
                breaks.push(format!("{name} refuses rows that were right"));
            }
        }
        breaks
    }
}

#[tokio::test]
async fn every_migration_only_adds_so_that_statements_of_the_version_before_still_work() {
    for (schema, table, migrations) in
        [("staging", "staging._migrations", &STAGING), ("customer360", "customer360._migrations", &CUSTOMER360)]
    {
        let database = embedded_postgres::test::database().await;
        let mut connection = staging::connect(&database.url.parse().unwrap()).await.unwrap();
        let mut before = Schema::default();
        for count in 1..=migrations.iter().count() {
            let first = Migrator::with_migrations(migrations.iter().take(count).cloned().collect());
            staging::migrate_schema(&mut connection, &first, schema, table).await.unwrap();
            let after = Schema::read(&mut connection, schema).await;
            assert_eq!(before.breaks(&after), Vec::<String>::new(), "migration {count} of {schema}");
            before = after;
        }
        // This test sees what it is there for.
        let harm = match schema {
            "staging" => {
                "alter table staging.batches drop column last_error; alter table staging.polls add column n int not null"
            }
            _ => "alter table customer360.orders add constraint positive check (total >= 0)",
        };
        sqlx::raw_sql(harm).execute(&mut connection).await.unwrap();
        let broken = before.breaks(&Schema::read(&mut connection, schema).await);
        assert_eq!(broken.len(), if schema == "staging" { 2 } else { 1 }, "{broken:?}");
    }
}

async fn tables(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "select n.nspname || '.' || c.relname
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname in ('staging', 'customer360') and c.relkind in ('r', 'p') and not c.relispartition
           and c.relname <> '_migrations'",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// This process is the older one: it has its connections, with all of its statements prepared, when a newer one migrates.
#[tokio::test]
async fn a_process_goes_on_landing_and_consolidating_while_a_newer_version_adds_to_every_table() {
    let database = embedded_postgres::test::database().await;
    let (options, pool): (PgConnectOptions, PgPool) = (database.url.parse().unwrap(), database.pool().await);
    people::migrate(&options).await;
    let mut lander = source::lander(&options);
    let mut consolidator = Consolidator::connect(&options).await.unwrap();
    people::land(&mut lander, 0..10).await;
    people::consolidate(&mut consolidator).await;
    people::land(&mut lander, 10..20).await;

    let mut newer = pool.acquire().await.unwrap();
    for table in tables(&pool).await {
        let add = format!(
            "alter table {table} add column of_tomorrow text, add column counted_tomorrow integer not null default 0;
             create index on {table} (of_tomorrow)"
        );
        sqlx::raw_sql(AssertSqlSafe(add)).execute(&mut *newer).await.unwrap();
    }
    people::land(&mut lander, 20..30).await;
    people::consolidate(&mut consolidator).await;
    let found: i64 = sqlx::query_scalar("select count(*) from customer360.documents").fetch_one(&pool).await.unwrap();
    assert_eq!(found, 15);
    let left: i64 = sqlx::query_scalar("select count(*) from staging.batches where consolidated_at is null")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_names_the_migrations_that_would_run_and_changes_nothing() {
    let database = embedded_postgres::test::database().await;
    let installation = Installation::new("").unwrap().with("C360__DATABASE__URL", &database.url);
    let migrate = |arguments: &[&str]| {
        let output = installation.run(&[&["migrate"], arguments].concat()).unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&migrate(arguments)).unwrap() };
    let (staging, customer360) = (STAGING.iter().count(), CUSTOMER360.iter().count());

    let all = json(&["--dry-run", "--json"]);
    let names = all["migrations"].as_array().unwrap();
    assert_eq!(names.len(), staging + customer360);
    assert_eq!(names[0], serde_json::json!({"schema": "staging", "version": 1, "description": "staging"}));
    let pool = database.pool().await;
    let made = "select count(*) from pg_namespace where nspname in ('staging', 'customer360')";
    assert_eq!(sqlx::query_scalar::<_, i64>(made).fetch_one(&pool).await.unwrap(), 0);
    assert!(!installation.path().join("data").exists(), "no key either");

    staging::migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
    let rest = json(&["--dry-run", "--json"]);
    assert_eq!(rest["migrations"].as_array().unwrap().len(), customer360);
    assert!(migrate(&["--dry-run"]).starts_with("would apply customer360 0001 customer360\n"));
    let done = json(&["--json"]);
    assert_eq!((&done["dry_run"], &done["migrations"]), (&Value::Bool(false), &rest["migrations"]));
    assert_eq!(migrate(&["--dry-run"]), "schemas staging and customer360 are up to date\n");
}
