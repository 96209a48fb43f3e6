//! Stopping: what is under way ends, nobody new comes in, and nobody can hold the process up.

use std::time::{Duration, Instant};

use embedded_postgres::test::{self, until_waiting};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Answer, read_to_end, server, server_without_database};

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_ends() {
    let database = test::database().await;
    let pool = database.pool().await;
    let options = database.url.parse().unwrap();
    staging::migrate(&mut staging::connect(&options).await.unwrap()).await.unwrap();
    let server = server(options).await;
    // The probe hangs, and so does the request.
    let mut rival = pool.begin().await.unwrap();
    sqlx::query("lock table staging._migrations in access exclusive mode").execute(&mut *rival).await.unwrap();
    let mut stream = server.connect().await;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: c360\r\n\r\n").await.unwrap();
    until_waiting(&pool, 1).await;

    server.cancel.cancel();
    let answer = Answer::parse(&read_to_end(&mut stream).await);
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("within a second"), "{}", answer.body);
    server.served.await.unwrap().unwrap();
    rival.rollback().await.unwrap();
}

#[tokio::test]
async fn idle_connections_are_closed_at_once_and_new_ones_refused() {
    let server = server_without_database().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: c360\r\n\r\n").await.unwrap();
    // Answered, so accepted.
    idle.readable().await.unwrap();
    let since = Instant::now();
    server.cancel.cancel();
    assert_eq!(Answer::parse(&read_to_end(&mut idle).await).status, 200);
    server.served.await.unwrap().unwrap();
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_client_in_the_middle_of_its_headers_does_not_hold_the_end_up() {
    let server = server_without_database().await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    // Another that is answered, so that the slow one is accepted for sure.
    assert_eq!(server.get("/healthz").await.status, 200);
    tokio::time::pause();
    let since = tokio::time::Instant::now();
    server.cancel.cancel();
    server.served.await.unwrap().unwrap();
    assert!(since.elapsed() <= Duration::from_secs(6), "{:?}", since.elapsed());
    assert_eq!(read_to_end(&mut slow).await, b"");
}
