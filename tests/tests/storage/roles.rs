//! `deploy/roles`: c360 as the owner of its schemas and nothing else, analysts who see no credential.

use c360_tests::source;
use consolidate::Consolidator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::people;

const OWNER: &str = include_str!("../../../deploy/roles/owner.sql");
const ANALYST: &str = include_str!("../../../deploy/roles/analyst.sql");
const PERMISSION_DENIED: &str = "42501";

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

async fn count(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
}

/// The code with which Postgres refuses a statement.
async fn refusal(connection: &mut PgConnection, sql: &str) -> String {
    match sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await {
        Ok(_) => panic!("allowed: {sql}"),
        Err(error) => error.as_database_error().unwrap().code().unwrap().into_owned(),
    }
}

#[tokio::test]
async fn c360_owns_its_schemas_only_and_analysts_read_neither_credentials_nor_staging() {
    let database = embedded_postgres::test::database().await;
    let admin_options: PgConnectOptions = database.url.parse().unwrap();
    let mut admin = PgConnection::connect_with(&admin_options).await.unwrap();
    run(&mut admin, &format!("revoke create on database {} from public", database.name)).await;
    run(&mut admin, "create schema others; create table others.secret (id int)").await;
    // Twice: whoever runs a script again loses nothing.
    for _ in 0..2 {
        run(&mut admin, OWNER).await;
    }

    // c360 migrates, lands and consolidates as a role without any other right.
    let owner_options = admin_options.clone().username("c360");
    people::migrate(&owner_options).await;
    let mut lander = source::lander(&owner_options);
    people::land(&mut lander, 0..8).await;
    let mut consolidator = Consolidator::connect(&owner_options).await.unwrap();
    people::consolidate(&mut consolidator).await;
    let mut owner = PgConnection::connect_with(&owner_options).await.unwrap();
    assert_eq!(count(&mut owner, "select count(*) from customer360.documents").await, 4);
    assert_eq!(
        count(&mut owner, "select count(*) from pg_roles where rolname = 'c360' and (rolsuper or rolbypassrls)").await,
        0
    );
    for forbidden in ["create schema mine", "select * from others.secret", "create table public.mine (id int)"] {
        assert_eq!(refusal(&mut owner, forbidden).await, PERMISSION_DENIED, "{forbidden}");
    }

    for _ in 0..2 {
        run(&mut admin, ANALYST).await;
    }
    let login = "do $$ begin create role ann login; exception when duplicate_object then null; end $$; grant c360_analyst to ann";
    run(&mut admin, login).await;
    let mut ann = PgConnection::connect_with(&admin_options.username("ann")).await.unwrap();
    assert_eq!(count(&mut ann, "select count(*) from customer360.analyst_documents").await, 4);
    assert_eq!(count(&mut ann, "select count(external_id) from customer360.xrefs").await, 8);
    assert!(count(&mut ann, "select count(*) from customer360.changes").await > 0);
    assert_eq!(
        count(&mut ann, "select count(*) from customer360.analyst_documents where document::text like '%digest%'")
            .await,
        0
    );
    for forbidden in [
        "select credential from customer360.xrefs",
        "select * from customer360.xrefs",
        "select document from customer360.documents",
        "select * from staging.records",
        "select * from staging.polls",
        "select * from customer360.installation",
        "select * from customer360.decisions",
        "delete from customer360.customers",
    ] {
        assert_eq!(refusal(&mut ann, forbidden).await, PERMISSION_DENIED, "{forbidden}");
    }
    // Every other column can be read, those of migrations to come included: name them in the script, or leave them out here.
    let unseen = "select count(*) from information_schema.columns c
                  where c.table_schema = 'customer360' and c.table_name = 'xrefs'
                    and not has_column_privilege('ann', 'customer360.xrefs', c.column_name, 'select')";
    assert_eq!(count(&mut admin, unseen).await, 1);

    // A policy holds for analysts, also after the script has run again, and c360 works on.
    run(
        &mut owner,
        "drop policy analyst on customer360.customers;
         create policy of_nh on customer360.customers to c360_analyst using (profile ->> 'state' = 'NH')",
    )
    .await;
    run(&mut admin, ANALYST).await;
    assert_eq!(count(&mut ann, "select count(*) from customer360.analyst_documents").await, 2);
    assert_eq!(count(&mut ann, "select count(*) from customer360.customers").await, 2);
    people::land(&mut lander, 8..12).await;
    people::consolidate(&mut consolidator).await;
    assert_eq!(count(&mut owner, "select count(*) from customer360.documents").await, 6);
    assert_eq!(count(&mut ann, "select count(*) from customer360.analyst_documents").await, 3);
}
