//! `deploy/citus/distribute.sql`, and what Citus asks of keys and statements, as far as one node can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use c360_tests::source;
use consolidate::Consolidator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgPool};

use crate::people;

const SCRIPT: &str = include_str!("../../../deploy/citus/distribute.sql");
const ARCHITECTURE: &str = include_str!("../../../ARCHITECTURE.md");
/// What a reference table has in place of a column.
const EVERYWHERE: &str = "everywhere";

/// What a table has in place of a column that is a view on Citus.
const NOWHERE: &str = "a view";

/// Each table that the script names, with the column that it is distributed by.
fn distributed() -> Vec<(String, String)> {
    let dropped = SCRIPT.split("drop table ").skip(1).filter_map(|rest| rest.split(';').next());
    let dropped = dropped.map(|table| (table.to_owned(), NOWHERE.to_owned()));
    let calls = SCRIPT.split("select create_").skip(1);
    let table = |call: &str| {
        let words: Vec<&str> = call.split('\'').skip(1).step_by(2).collect();
        let column = if call.starts_with("reference_table(") { EVERYWHERE } else { words[1] };
        (words[0].to_owned(), column.to_owned())
    };
    calls.map(table).chain(dropped).collect()
}

async fn migrated() -> (PgPool, PgConnectOptions) {
    let database = embedded_postgres::test::database().await;
    let options: PgConnectOptions = database.url.parse().unwrap();
    people::migrate(&options).await;
    (database.pool().await, options)
}

#[tokio::test]
async fn the_script_names_every_table_once_and_every_unique_key_holds_its_column() {
    let (pool, _) = migrated().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select n.nspname || '.' || c.relname
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname in ('staging', 'customer360') and c.relkind in ('r', 'p') and not c.relispartition
           and c.relname <> '_migrations'
         order by 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let mut named: Vec<String> = distributed().into_iter().map(|(table, _)| table).collect();
    named.sort();
    assert_eq!(named, tables);

    for (table, column) in distributed() {
        if [EVERYWHERE, NOWHERE].contains(&column.as_str()) {
            continue;
        }
        let keys: Vec<Vec<String>> = sqlx::query_scalar(
            "select array_agg(a.attname::text)
             from pg_index i
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
             where i.indrelid = $1::regclass and i.indisunique
             group by i.indexrelid",
        )
        .bind(&table)
        .fetch_all(&pool)
        .await
        .unwrap();
        assert!(!keys.is_empty() || table == "staging.records", "{table} has no key");
        assert!(keys.iter().all(|key| key.contains(&column)), "{table} by {column}: {keys:?}");
    }
}

#[test]
fn the_architecture_says_the_same_columns_as_the_script() {
    let mut said = BTreeMap::new();
    for section in ARCHITECTURE.split("\n### Schema `").skip(1) {
        let schema = section.split('`').next().unwrap();
        for row in section.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            for table in cells[1].split(',') {
                said.insert(
                    format!("{schema}.{}", table.trim().trim_matches('`')),
                    cells[3].trim_matches('`').to_owned(),
                );
            }
        }
    }
    assert_eq!(said, distributed().into_iter().collect::<BTreeMap<_, _>>());
}

#[tokio::test]
async fn the_grouped_view_gives_the_documents_of_the_lateral_one() {
    let (pool, options) = migrated().await;
    let mut lander = source::lander(&options);
    people::land(&mut lander, 0..20).await;
    people::consolidate(&mut Consolidator::connect(&options).await.unwrap()).await;
    // Tombstones, nobody's, and a customer of whom nothing is left but the row.
    sqlx::raw_sql(
        "update customer360.xrefs set deleted_at = now() where external_id in ('1', '2', '3');
         update customer360.xrefs set customer_id = null, unmatched_reason = 'crowded' where external_id = '9';
         update customer360.customers set deleted_at = now() where email = 'person5@example.org'",
    )
    .execute(&pool)
    .await
    .unwrap();
    let documents = async || -> Vec<(String, String)> {
        sqlx::query_as("select email, document::text from customer360.documents order by email")
            .fetch_all(&pool)
            .await
            .unwrap()
    };
    let lateral = documents().await;
    assert_eq!(lateral.len(), 9);
    let view = &SCRIPT[SCRIPT.find("create or replace view").unwrap()..];
    assert!(!view.contains("lateral"));
    sqlx::raw_sql(AssertSqlSafe(view)).execute(&pool).await.unwrap();
    assert_eq!(documents().await, lateral);
}

#[tokio::test]
async fn what_triggers_keep_is_counted_where_there_are_none() {
    let (pool, options) = migrated().await;
    let part = &SCRIPT[SCRIPT.find("do $$").unwrap()..SCRIPT.find("-- What every landing").unwrap()];
    sqlx::raw_sql(part).execute(&pool).await.unwrap();
    let mut lander = source::lander(&options);
    people::land(&mut lander, 0..20).await;
    people::consolidate(&mut Consolidator::connect(&options).await.unwrap()).await;
    let customers = "select sum(count)::bigint from customer360.counts where measure = 'customers'";
    let customers: i64 = sqlx::query_scalar(customers).fetch_one(&pool).await.unwrap();
    assert_eq!(customers, 10);
    let mut connection = staging::connect(&options).await.unwrap();
    consolidate::add_up_counts(&mut connection).await.unwrap();
    consolidate::migrate(&mut connection).await.unwrap();
}

/// Row locks are fine on reference tables, which these are. Lists of row filters are for one node.
const ALLOWED: [(&str, &str); 2] =
    [("staging/src/polls/lease.rs", "for update"), ("serve/src/api/interactions.rs", "lateral (")];

#[test]
fn no_statement_uses_what_citus_cannot_do() {
    let reference: BTreeSet<String> =
        distributed().into_iter().filter(|(_, column)| column == EVERYWHERE).map(|(table, _)| table).collect();
    assert!(reference.contains("staging.polls") && reference.contains("staging.polled_products"));
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut sources = Vec::new();
    for directory in std::fs::read_dir(&crates).unwrap() {
        collect(&directory.unwrap().path().join("src"), &mut sources);
    }
    assert!(sources.len() > 100, "only {} files were found", sources.len());
    let mut found = Vec::new();
    for path in sources {
        let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
        // What a comment says is no statement.
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        for word in ["for update", "for no key update", "lateral (", "merge into", "detach partition", "with recursive"]
        {
            let is_allowed = ALLOWED.iter().any(|(file, allowed)| path.ends_with(file) && *allowed == word);
            if code.contains(word) && !is_allowed {
                found.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "sql") {
            found.push(path);
        }
    }
}
