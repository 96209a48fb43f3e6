//! What a client can make the server hold is bounded. Time is paused: it passes by itself whenever everybody waits.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, pause, sleep, timeout};

use crate::support::{Answer, read_to_end, server_without_database};

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: c360\r\n\r\n";

#[tokio::test]
async fn a_client_that_trickles_its_headers_is_cut_off() {
    let server = server_without_database().await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: c360\r\n").await.unwrap();
    pause();
    let since = Instant::now();
    let mut byte = [0; 1];
    // Slowloris: another header each second, and never the empty line.
    let ended = loop {
        let _ = stream.write_all(b"x-a: b\r\n").await;
        match timeout(Duration::from_secs(1), stream.read(&mut byte)).await {
            Ok(Ok(0) | Err(_)) => break since.elapsed(),
            Ok(Ok(_)) | Err(_) => assert!(since.elapsed() < Duration::from_mins(1), "still connected"),
        }
    };
    assert!(ended <= Duration::from_secs(12), "{ended:?}");
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_a_preface_is_cut_off() {
    let server = server_without_database().await;
    let mut streams = Vec::new();
    for beginning in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"\r\n", b"GET /healthz HTTP/1.1"] {
        let mut stream = server.connect().await;
        stream.write_all(beginning).await.unwrap();
        streams.push(stream);
    }
    pause();
    let since = Instant::now();
    for stream in &mut streams {
        read_to_end(stream).await;
    }
    assert!(since.elapsed() <= Duration::from_secs(12), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_connection_that_is_kept_without_a_request_is_cut_off() {
    let server = server_without_database().await;
    let mut stream = server.connect().await;
    stream.write_all(REQUEST).await.unwrap();
    let mut chunk = [0; 4096];
    let read = stream.read(&mut chunk).await.unwrap();
    assert_eq!(Answer::parse(&chunk[..read]).status, 200);
    pause();
    let since = Instant::now();
    assert_eq!(read_to_end(&mut stream).await, b"");
    assert!(since.elapsed() <= Duration::from_secs(12), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_what_it_asks_for_is_cut_off() {
    let server = server_without_database().await;
    let mut stream = server.connect().await;
    pause();
    let since = Instant::now();
    // Until nobody takes the answers and so nobody reads the requests any more; then until the connection is gone.
    while timeout(Duration::from_mins(2), stream.write_all(REQUEST)).await.expect("still connected").is_ok() {}
    assert!(since.elapsed() <= Duration::from_secs(65), "{:?}", since.elapsed());
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = server_without_database().await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(REQUEST).await.unwrap();
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        assert_eq!(Answer::parse(&chunk[..read]).status, 200);
    }
}

#[tokio::test]
async fn huge_or_many_headers_and_huge_addresses_are_refused() {
    let server = server_without_database().await;
    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nhost: c360\r\n{headers}\r\n");
    let huge = get("/healthz", &format!("x-a: {}\r\n", "b".repeat(64 << 10)));
    let many = get("/healthz", &"x-a: b\r\n".repeat(200));
    let long = get(&format!("/{}", "a".repeat(100 << 10)), "");
    for request in [huge, many, long] {
        let status = server.send(request.as_bytes()).await.status;
        assert!([414, 431].contains(&status), "{status}");
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_harms_nobody() {
    let server = server_without_database().await;
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"SELECT 1;\r\n\r\n", &[0; 100]] {
        assert_eq!(server.send(bytes).await.status, 400);
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_their_turn() {
    let server = server_without_database().await;
    let mut holders = Vec::new();
    for _ in 0..400 {
        holders.push(server.connect().await);
    }
    let mut next = server.connect().await;
    next.write_all(REQUEST).await.unwrap();
    let mut chunk = [0; 4096];
    let early = timeout(Duration::from_millis(200), next.read(&mut chunk)).await;
    assert!(early.is_err(), "served beyond the limit");
    holders.pop();
    let read = next.read(&mut chunk).await.unwrap();
    assert_eq!(Answer::parse(&chunk[..read]).status, 200);
    // And whoever holds the others is cut off, so that nobody can hold them all for good.
    pause();
    sleep(Duration::from_secs(15)).await;
    for holder in &mut holders {
        assert_eq!(read_to_end(holder).await, b"");
    }
}
