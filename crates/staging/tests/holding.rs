//! Connections that hold locks: heard of while they are idle, ended by Postgres when nothing is heard of them, and known to
//! be lost when the network is.

use std::time::Duration;

use embedded_postgres::test::{Loss, Proxy, eventually};
use staging::LockHolder;
use tokio_util::sync::CancellationToken;

use crate::support::{Staged, staged};

const SOURCE: &str = "loyalty";
const IS_FREE: &str = "select count(*) = 0 from pg_locks
    where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())";

async fn lock(holder: &LockHolder) -> bool {
    staging::imports::lock(&mut *holder.connection().await, SOURCE).await.unwrap()
}

/// Through a proxy that is lost together with the reply to this transaction's COMMIT.
async fn lose(holder: &LockHolder, proxy: &Proxy) -> Result<(), staging::Error> {
    proxy.lose_the_next_commit();
    let committing = async {
        let mut connection = holder.connection().await;
        let done = sqlx::raw_sql("begin; COMMIT").execute(&mut *connection).await;
        done.map(drop).map_err(staging::Error::database("testing"))
    };
    holder.unless_lost(committing).await
}

async fn through_a_network_that_falls_silent(staged: &Staged) -> (LockHolder, Proxy) {
    let proxy = Proxy::start(&staged.options(), Loss::Silence).await;
    let options = proxy.through(&staged.database.name, &staged.options());
    let holder = LockHolder::connect(&options, &CancellationToken::new()).await.unwrap();
    assert!(lock(&holder).await);
    (holder, proxy)
}

#[tokio::test]
async fn a_lock_is_kept_for_as_long_as_its_holder_has_nothing_to_do() {
    let staged = staged().await;
    let holder = LockHolder::connect(&staged.options(), &CancellationToken::new()).await.unwrap();
    assert!(lock(&holder).await);
    let old = "select clock_timestamp() - max(backend_start) > '13 s' from pg_stat_activity
        where datname = current_database() and application_name = 'c360'";
    eventually("it is older than Postgres lets an idle one be", async || staged.ask(old).await).await;
    assert!(!holder.is_lost());
    assert!(!staged.ask::<bool>(IS_FREE).await);
    drop(holder);
    eventually("a holder that is dropped gives its lock back", async || staged.ask(IS_FREE).await).await;
}

#[tokio::test]
async fn a_lock_is_free_and_its_holder_knows_it_when_the_network_swallows_a_reply() {
    let staged = staged().await;
    let (holder, proxy) = through_a_network_that_falls_silent(&staged).await;
    let losing = tokio::time::timeout(Duration::from_mins(1), lose(&holder, &proxy)).await;
    let error = losing.expect("it waits for a reply that never comes").unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(holder.is_lost());
    assert!(staged.ask::<bool>(IS_FREE).await, "Postgres has not heard of it");
}

#[tokio::test]
async fn a_holder_that_waits_for_one_long_statement_is_not_lost() {
    let staged = staged().await;
    let holder = LockHolder::connect(&staged.options(), &CancellationToken::new()).await.unwrap();
    let long = async {
        let mut connection = holder.connection().await;
        let done = sqlx::query("select pg_sleep(16)").execute(&mut *connection).await;
        done.map(drop).map_err(staging::Error::database("testing"))
    };
    holder.unless_lost(long).await.unwrap();
    assert!(!holder.is_lost());
}

#[tokio::test]
async fn a_holder_whose_connection_is_ended_knows_it_without_using_it() {
    let staged = staged().await;
    let holder = LockHolder::connect(&staged.options(), &CancellationToken::new()).await.unwrap();
    staged
        .run(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity
              where datname = current_database() and application_name = 'c360'",
        )
        .await;
    let waiting = holder.unless_lost(std::future::pending::<Result<(), staging::Error>>());
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert!(waited.expect("nobody has noticed").unwrap_err().is_transient());
}
