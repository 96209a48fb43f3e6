//! The whole pipeline on real parts: MariaDB, Debezium, Kafka, a drop directory, an HTTP store, Postgres, and c360 as a
//! process of its own. What comes out is compared with an independent model.

mod model;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use c360_tests::people;
use c360_tests::program::{Installation, Running};
use c360_tests::stack::{CUSTOMERS_TOPIC, Schemas, Stack, debezium_mariadb_config};
use embedded_postgres::test::{eventually, until};
use serde_json::{Value, json};
use sqlx::{PgPool, Row};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures");

/// The reference configuration, told where the real parts are.
fn installation(stack: &Stack, database: &str, store: &str) -> Result<Installation> {
    let config = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../c360.toml"))?;
    let installation = Installation::new(&config)?
        .with("C360__DATABASE__URL", database)
        .with("C360__SOURCES__HOME_DELIVERY__BROKERS", &stack.broker.bootstrap())
        .with("C360__SOURCES__ONLINE_STORE__BASE_URL", store)
        .with("C360__SOURCES__LOYALTY__SETTLE", "200ms")
        .with("C360__SOURCES__LOYALTY__SCAN_EVERY", "1s");
    std::fs::create_dir_all(installation.path().join("drop/loyalty"))?;
    Ok(installation)
}

/// Starts the sample store as a process of its own.
async fn store(home: &Installation) -> Result<(Running, String)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let data = format!("{FIXTURES}/online_store.json");
    let running = home.start(&["sample-store", "--listen", &address, "--data", &data], "store.log")?;
    let url = format!("http://{address}");
    eventually("the store answers", async || tokio::net::TcpStream::connect(&address).await.is_ok()).await;
    Ok((running, url))
}

/// Puts the cast into MariaDB.
async fn fill(stack: &Stack) -> Result<()> {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    let row = |person: &people::Person| {
        let email = person.home_delivery_email().map_or("null".to_owned(), |email| quoted(&email));
        let id = person.id(people::System::HomeDelivery);
        let password = quoted(&person.password(people::System::HomeDelivery));
        let name = quoted(&person.name());
        format!("({id}, {name}, {email}, {password}, '{id} Main Street', null, 'Keene', 'NH', '03431', '603.555.{id}')")
    };
    let rows: Vec<String> = people::all().iter().map(row).collect();
    stack.mariadb.execute(&format!("insert into customers values {}", rows.join(","))).await?;
    Ok(())
}

/// Changes of every kind, while everything runs.
async fn change(stack: &Stack) -> Result<()> {
    stack
        .mariadb
        .execute(
            "update customers set phonenumber = '1' where id between 1040 and 1060;
             update customers set email = concat('moved.', email) where id in (1070, 1071, 1073);
             delete from customers where id between 1090 and 1095;
             update customers set id = 5071 where id = 1100;
             update customers set email = 'swap@example.com' where id = 1110;
             update customers c join customers d on d.id = 1111 set c.email = d.email where c.id = 1112;
             update customers set email = 'swapped@example.com' where id = 1111;
             delete from customers where id = 1120;
             insert into customers (id, name, email) values (1120, 'Again', 'again@example.com');",
        )
        .await?;
    Ok(())
}

fn drop_file(installation: &Installation, name: &str) -> Result<()> {
    let target = installation.path().join("drop/loyalty").join(name);
    std::fs::copy(Path::new(FIXTURES).join("loyalty").join(name), target)?;
    Ok(())
}

/// Waits until c360 has landed the whole topic and merged what it landed.
async fn settled(stack: &Stack, pool: &PgPool) -> Result<()> {
    // The last change of all, by which the end of the topic is known.
    stack.mariadb.execute("replace into customers (id, name, email) values (9998, 'End', 'end@example.com')").await?;
    let last = "select count(*) from customer360.xrefs
                where system = 'home_delivery' and external_id = '9998' and customer_id is not null";
    until(pool, last, 1).await;
    let waiting = "select (select count(*) from staging.batches
                           where consolidated_at is null and abandoned_at is null)
                        + (select count(*) from customer360.dirty_marks)
                        + (select count(*) from staging.polls where state = 'due' or checked_at is null)
                        + 2 - (select count(*) from staging.csv_imports where state = 'imported')";
    until(pool, waiting, 0).await;
    Ok(())
}

/// Compares customers and cross-references with the model; returns how many customers there are.
async fn compare(stack: &Stack, pool: &PgPool) -> Result<usize> {
    let rows = stack
        .mariadb
        .execute(
            "select id, name, email, 'password', address_line_1, address_line_2, city, state, zipcode, phonenumber
             from customers order by id",
        )
        .await?;
    let loyalty = std::fs::read(format!("{FIXTURES}/loyalty/loyalty_members_2026-11-19.csv"))?;
    let store: Value = serde_json::from_slice(&std::fs::read(format!("{FIXTURES}/online_store.json"))?)?;
    let expected = model::customers(&rows, &loyalty, &store)?;
    let mut found = model::Customers::new();
    for row in sqlx::query("select email, document from customer360.documents").fetch_all(pool).await? {
        let (email, document): (String, Value) = (row.get(0), row.get(1));
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let xrefs = document["xrefs"].as_array().context("xrefs")?;
        let ids: BTreeSet<(String, String)> =
            xrefs.iter().map(|xref| (text(&xref["external_system"]), text(&xref["external_ID"]))).collect();
        ensure!(found.insert(email.clone(), (document["profile"].clone(), ids)).is_none(), "two customers of {email}");
    }
    for (key, customer) in &expected {
        let known = found.get(key).with_context(|| format!("{key} is missing, expected {customer:?}"))?;
        ensure!(known.1 == customer.1, "cross-references of {key}: {:?}, expected {:?}", known.1, customer.1);
        // Of two cross-references of one system the newest wins, which the model does not know.
        let systems: BTreeSet<&String> = customer.1.iter().map(|(system, _)| system).collect();
        if systems.len() == customer.1.len() {
            ensure!(known.0 == customer.0, "profile of {key}: {}, expected {}", known.0, customer.0);
        }
    }
    let surplus: Vec<&String> = found.keys().filter(|key| !expected.contains_key(*key)).collect();
    ensure!(surplus.is_empty(), "customers that ought not to be: {surplus:?}");
    Ok(found.len())
}

/// The document of DESIGN's reference customer, passes left out.
async fn reference(pool: &PgPool) -> Result<Value> {
    let mut document: Value = sqlx::query_scalar("select document from customer360.documents where email = $1")
        .bind("matthew.groves@couchbase.com")
        .fetch_one(pool)
        .await?;
    for xref in document["xrefs"].as_array_mut().context("xrefs")? {
        let pass = xref.as_object_mut().and_then(|xref| xref.remove("pass")).context("a pass")?;
        ensure!(pass.as_str().is_some_and(|pass| pass.len() == 64), "a pass is a digest");
    }
    Ok(document)
}

async fn reference_is_right(stack: &Stack, pool: &PgPool) -> Result<()> {
    let name = stack.mariadb.execute("select name from customers where id = 1029").await?;
    let document = reference(pool).await?;
    assert_eq!(
        document["xrefs"],
        json!([
            {"external_system": "home_delivery", "external_ID": 1029},
            {"external_system": "loyalty", "external_ID": "27"},
            {"external_system": "online_store", "external_ID": 1},
        ])
    );
    assert_eq!(document["type"], "user");
    assert_eq!(document["profile"]["name"], name.trim());
    assert_eq!(document["profile"]["loyaltyPoints"], "47");
    let orders: Vec<String> = sqlx::query_scalar(
        "select order_id from customer360.orders o join customer360.xrefs x on x.customer_id = o.customer_id
         where o.system = 'online_store' and x.system = 'home_delivery' and x.external_id = '1029' order by 1",
    )
    .fetch_all(pool)
    .await?;
    assert_eq!(orders, ["1", "2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_systems_become_one_customer_on_real_parts() {
    let stack = Stack::start().await.unwrap();
    fill(&stack).await.unwrap();
    let config = debezium_mariadb_config(&stack.mariadb, &stack.broker, Schemas::Off);
    stack.connect.register("home-delivery", &config).await.unwrap();
    let database = embedded_postgres::test::database().await;
    let pool = database.pool().await;
    let home = Installation::new("").unwrap();
    let (_store, store_url) = store(&home).await.unwrap();
    let installation = installation(&stack, &database.url, &store_url).unwrap();
    drop_file(&installation, "loyalty_members_2026-11-18.csv").unwrap();

    let daemon = installation.start(&["run", "--no-http"], "c360.log").unwrap();
    let many = "select (count(*) > 100)::int::bigint from customer360.documents";
    until(&pool, many, 1).await;
    change(&stack).await.unwrap();
    drop_file(&installation, "loyalty_members_2026-11-19.csv").unwrap();
    stack.broker.produce(c360_tests::stack::Outgoing { value: Some(b"{\"not\": json"), ..poison() }).await.unwrap();
    settled(&stack, &pool).await.unwrap();
    let customers = compare(&stack, &pool).await.unwrap();
    assert!(customers > 250, "{customers}");
    reference_is_right(&stack, &pool).await.unwrap();
    let reasons: Vec<(String, String)> =
        sqlx::query_as("select distinct source, reason from staging.dead_letters order by 1, 2")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert!(reasons.contains(&("home_delivery".into(), "not_json".into())), "{reasons:?}");
    for reason in ["no_external_id", "not_utf8", "ragged_row"] {
        assert!(reasons.contains(&("loyalty".into(), reason.into())), "{reason} in {reasons:?}");
    }
    let (code, took) = daemon.terminate().unwrap();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    no_secret_is_logged(&std::fs::read_to_string(installation.path().join("c360.log")).unwrap());
    no_credential_is_stored(&pool).await.unwrap();

    // The same input once more, in another order and with kill -9 in the middle, into an empty database.
    let documents = documents(&pool).await.unwrap();
    let again = embedded_postgres::test::database().await;
    let again_pool = again.pool().await;
    let installation = installation.with("C360__DATABASE__URL", &again.url);
    for pause in [300, 500, 700, 900] {
        let daemon = installation.start(&["run", "--no-http"], "killed.log").unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        daemon.kill().unwrap();
    }
    let output = installation.run(&["run", "--once"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    same(&self::documents(&again_pool).await.unwrap(), &documents);
    let batches = sqlx::query_scalar::<_, i64>("select count(*) from staging.batches").fetch_one(&again_pool);
    let batches = batches.await.unwrap();
    let output = installation.run(&["run", "--once"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    same(&self::documents(&again_pool).await.unwrap(), &documents);
    let after: i64 = sqlx::query_scalar("select count(*) from staging.batches").fetch_one(&again_pool).await.unwrap();
    assert_eq!(after, batches, "a second run lands nothing");
}

fn poison() -> c360_tests::stack::Outgoing<'static> {
    c360_tests::stack::Outgoing { topic: CUSTOMERS_TOPIC, key: Some(b"{\"id\":1}"), ..Default::default() }
}

/// Says where two sets of documents differ, and nothing of the rest.
fn same(found: &[(String, Value)], expected: &[(String, Value)]) {
    let lacking: Vec<_> = expected.iter().filter(|document| !found.contains(document)).take(3).collect();
    let surplus: Vec<_> = found.iter().filter(|document| !expected.contains(document)).take(3).collect();
    assert!(lacking.is_empty() && surplus.is_empty(), "lacking, at most three: {lacking:#?}\nsurplus: {surplus:#?}");
}

/// Everything that a reader sees: documents and orders.
async fn documents(pool: &PgPool) -> Result<Vec<(String, Value)>> {
    let sql = "select email, document from customer360.documents
               union all select key, document from customer360.order_documents order by 1";
    Ok(sqlx::query_as(sql).fetch_all(pool).await?)
}

/// No password of anybody is in any table, whatever its type: rows are read as text.
async fn no_credential_is_stored(pool: &PgPool) -> Result<()> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('staging', 'customer360')",
    )
    .fetch_all(pool)
    .await?;
    let systems = [people::System::HomeDelivery, people::System::Loyalty, people::System::OnlineStore];
    let passwords: Vec<String> =
        people::all().iter().flat_map(|person| systems.map(|system| person.password(system))).collect();
    for table in &tables {
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select count(*) from {table} t cross join unnest($1::text[]) as secret where strpos(t::text, secret) > 0"
        )))
        .bind(&passwords)
        .fetch_one(pool)
        .await?;
        ensure!(found == 0, "{found} passwords in clear in {table}");
    }
    ensure!(tables.len() > 10, "only {} tables were looked at", tables.len());
    Ok(())
}

/// No email of anybody and no password is in what c360 says.
fn no_secret_is_logged(log: &str) {
    assert!(!log.is_empty());
    for person in people::all() {
        for secret in [person.password(people::System::HomeDelivery), person.home_delivery_email().unwrap_or_default()]
        {
            assert!(secret.len() < 4 || secret == "n/a" || !log.contains(&secret), "{secret} is in the log");
        }
    }
}
