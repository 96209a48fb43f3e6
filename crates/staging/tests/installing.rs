//! Bringing the schema up to date.

use embedded_postgres::test;
use sqlx::Connection;

use crate::support::{TTL, noon, staged};

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let staged = staged().await;
    staged.land(0, 3, TTL, noon()).await;
    let applied: i64 = staged.count("_migrations").await;
    assert!(applied > 0);
    staging::migrate(&mut staged.connection().await).await.unwrap();
    assert_eq!((staged.count("_migrations").await, staged.count("records").await), (applied, 3));
}

#[tokio::test]
async fn processes_that_migrate_at_once_all_succeed() {
    for _ in 0..3 {
        let database = test::database().await;
        // A thread and a runtime for each, as near to processes as a test gets.
        let processes = (0..6).map(|_| {
            let options = database.url.parse().unwrap();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut connection = staging::connect(&options).await?;
                    staging::migrate(&mut connection).await
                })
            })
        });
        for process in processes.collect::<Vec<_>>() {
            process.join().unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn migrations_of_a_newer_program_are_left_alone() {
    let staged = staged().await;
    staged
        .run(
            "insert into staging._migrations (version, description, success, checksum, execution_time)
             values (9999, 'from the future', true, '\\x00', 0)",
        )
        .await;
    let mut connection = staged.connection().await;
    staging::migrate(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert_eq!(staged.ask::<i64>("select max(version) from staging._migrations").await, 9999);
}

#[tokio::test]
async fn a_database_lacks_all_migrations_before_and_none_after() {
    let database = test::database().await;
    let mut connection = staging::connect(&database.url.parse().unwrap()).await.unwrap();
    assert!(staging::missing_migrations(&mut connection).await.unwrap() > 0);
    staging::migrate(&mut connection).await.unwrap();
    assert_eq!(staging::missing_migrations(&mut connection).await.unwrap(), 0);
}
