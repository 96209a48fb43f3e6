//! The parts themselves: that they are real, and that they go away.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use c360_tests::stack::{CUSTOMERS_TOPIC, MariaDb, Message, Outgoing, Schemas, Stack, debezium_mariadb_config};
use serde_json::Value;

const CHILD: &str = "C360_TESTS_ABORTING_CHILD";

/// The operation of a change event; `-` for a tombstone.
fn operation(message: &Message) -> String {
    let event = message.json().expect("JSON");
    event.map_or_else(|| "-".to_owned(), |event| event["op"].as_str().expect("an operation").to_owned())
}

fn after(message: &Message) -> Value {
    message.json().expect("JSON").expect("not a tombstone")["after"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_mariadb_come_out_of_kafka_in_order_and_survive_restarts() {
    let mut stack = Stack::start().await.unwrap();
    stack.mariadb.execute("insert into customers (id, name) values (1029, 'Zoë 🏠'), (1030, 'Ann')").await.unwrap();

    let config = debezium_mariadb_config(&stack.mariadb, &stack.broker, Schemas::Off);
    stack.connect.register("home-delivery", &config).await.unwrap();
    let mut reader = stack.broker.reader(&[CUSTOMERS_TOPIC]).await.unwrap();
    let snapshot = reader.take(2).await.unwrap();
    assert_eq!(snapshot.iter().map(operation).collect::<Vec<_>>(), ["r", "r"]);
    assert_eq!(snapshot[0].key.as_deref(), Some(r#"{"id":1029}"#));
    assert_eq!(after(&snapshot[0])["name"], "Zoë 🏠");
    assert_eq!(after(&snapshot[0])["email"], Value::Null);

    let changes = "
        insert into customers (id, name, email) values (1031, 'Bea', 'bea@example.org');
        update customers set email = 'b@example.org' where id = 1031;
        update customers set id = 2031 where id = 1031;
        delete from customers where id = 1030;";
    stack.mariadb.execute(changes).await.unwrap();
    let streamed = reader.take(7).await.unwrap();
    assert_eq!(streamed.iter().map(operation).collect::<Vec<_>>(), ["c", "u", "d", "-", "c", "d", "-"]);
    assert_eq!(after(&streamed[1])["email"], "b@example.org");
    assert!(streamed[4].headers.iter().any(|(name, _)| name == "__debezium.oldkey"));

    stack.connect.stop().await.unwrap();
    stack.mariadb.stop().await.unwrap();
    stack.broker.stop().await.unwrap();
    stack.broker.restart().await.unwrap();
    stack.mariadb.restart().await.unwrap();
    stack.connect.restart().await.unwrap();
    stack.mariadb.execute("update customers set name = 'After' where id = 2031").await.unwrap();
    let mut again = stack.broker.reader(&[CUSTOMERS_TOPIC]).await.unwrap();
    assert_eq!(again.take(9).await.unwrap(), [snapshot, streamed].concat());
    assert_eq!(after(&again.next().await.unwrap())["name"], "After");

    stack.broker.create_topic("orders", 3).await.unwrap();
    let headers: [(&str, Option<&[u8]>); 2] = [("a", Some(b"1")), ("a", None)];
    let sent =
        Outgoing { topic: "orders", key: Some(b"k"), headers: &headers, timestamp_ms: Some(7), ..Outgoing::default() };
    let (partition, offset) = stack.broker.produce(Outgoing { partition: Some(2), ..sent }).await.unwrap();
    assert_eq!((partition, offset), (2, 0));
    let numbers: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let many = numbers.iter().map(|number| Outgoing { value: Some(number.as_bytes()), partition: Some(1), ..sent });
    stack.broker.producer().unwrap().send_all(many).await.unwrap();
    let read = stack.broker.reader(&["orders"]).await.unwrap().take(1001).await.unwrap();
    let (tombstones, values): (Vec<Message>, Vec<Message>) =
        read.into_iter().partition(|message| message.value.is_none());
    assert_eq!(values.into_iter().filter_map(|message| message.value).collect::<Vec<_>>(), numbers);
    assert_eq!(tombstones[0].headers, [("a".to_owned(), Some("1".to_owned())), ("a".to_owned(), None)]);
    assert_eq!((tombstones[0].timestamp, tombstones[0].partition), (Some(7), 2));
}

#[tokio::test]
async fn a_connector_that_fails_says_why() {
    let stack = Stack::start().await.unwrap();
    let mut config = debezium_mariadb_config(&stack.mariadb, &stack.broker, Schemas::Off);
    config["database.password"] = "wrong".into();
    let error = stack.connect.register("home-delivery", &config).await.unwrap_err();
    assert!(format!("{error:#}").contains("Access denied"), "{error:#}");

    let error = stack.mariadb.execute("select nonsense").await.unwrap_err();
    assert!(format!("{error:#}").contains("Unknown column"), "{error:#}");
}

/// Not a test but the child of the next one: starts a server and dies without dropping anything.
#[tokio::test]
async fn child_that_aborts() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mariadb = MariaDb::start().await.unwrap();
    println!("\npid={}\nown={}", mariadb.pid().unwrap(), std::process::id());
    std::process::abort();
}

#[test]
fn a_process_that_aborts_leaves_no_server_and_no_data_behind() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_aborts", "--nocapture"])
        .env(CHILD, "1")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(!child.status.success());
    let output = String::from_utf8(child.stdout).unwrap();
    let pid = output.lines().find_map(|line| line.strip_prefix("pid=")).expect("the child printed no pid");

    let own = output.lines().find_map(|line| line.strip_prefix("own=")).expect("the child printed no pid of its own");

    let server = Path::new("/proc").join(pid).join("exe");
    let is_its = |name: &str| name.starts_with(&format!("c360-tests-{own}-"));
    let has_directory = || {
        let entries = std::fs::read_dir(std::env::temp_dir()).unwrap();
        entries.flatten().any(|entry| is_its(&entry.file_name().to_string_lossy()))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.read_link().is_ok() || has_directory() {
        assert!(Instant::now() < deadline, "process {pid} or its data is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}
