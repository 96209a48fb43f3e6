//! Kafka that speaks TLS and wants to know who asks: a real broker with certificates of its own, and c360 as a process.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use c360_tests::program::Installation;
use c360_tests::stack::{Authority, Broker, CUSTOMERS_TOPIC, Secure};
use embedded_postgres::test::{look_until, until};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

/// In every password, right or wrong; to be found nowhere.
const CANARY: &str = "C4N4RY";
const WRONG: &str = "C4N4RY-wrong-horse";
const RECORDS: &str = "select count(*) from staging.records";
const CUSTOMERS: &str = "select count(*) from customer360.documents";

type Properties = BTreeMap<&'static str, String>;

/// A broker with ten customers, and the files that its clients have.
struct World {
    broker: Broker,
    files: tempfile::TempDir,
}

/// An installation with one source and a database of its own.
struct Client {
    installation: Installation,
    pool: PgPool,
}

impl World {
    async fn new() -> Self {
        let broker = Broker::start_secure().await.unwrap();
        broker.create_topic(CUSTOMERS_TOPIC, 2).await.unwrap();
        let world = Self { broker, files: tempfile::tempdir().unwrap() };
        world.produce(0..10).await;
        world
    }

    fn secure(&self) -> &Secure {
        self.broker.secure().unwrap()
    }

    async fn produce(&self, ids: std::ops::Range<i32>) {
        self.broker.insert(CUSTOMERS_TOPIC, 2, ids).await.unwrap();
    }

    /// The path of a file with this content.
    fn file(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.files.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn trusting(&self, authority: &Authority, name: &str) -> Properties {
        BTreeMap::from([
            ("security.protocol", "SSL".to_owned()),
            ("ssl.ca.location", self.file(name, &authority.pem())),
        ])
    }

    /// TLS, trusting whom the broker's certificates are of.
    fn tls(&self) -> Properties {
        self.trusting(self.secure().authority(), "authority.pem")
    }

    /// TLS and this password, which is in a file.
    fn sasl(&self, mechanism: &str, password: &str) -> Properties {
        let mut properties = self.tls();
        properties.insert("security.protocol", "SASL_SSL".to_owned());
        properties.insert("sasl.mechanism", mechanism.to_owned());
        properties.insert("sasl.username", Secure::ACCOUNT.0.to_owned());
        properties.insert("sasl.password_file", self.file(password, &format!("{password}\n")));
        properties
    }

    fn mutual_tls(&self) -> Properties {
        let own = self.secure().authority().issue("c360.example.org").unwrap();
        let mut properties = self.tls();
        properties.insert("ssl.certificate.location", self.file("own.pem", &own.certificate));
        properties.insert("ssl.key.location", self.file("own.key", &own.key));
        properties
    }
}

impl Client {
    async fn new(brokers: &str, properties: &Properties) -> Self {
        let database = embedded_postgres::test::database().await;
        let installation = Installation::new(&configuration(brokers, properties))
            .unwrap()
            .with("C360__DATABASE__URL", &database.url)
            .with("RUST_LOG", "trace");
        Self { installation, pool: database.pool().await }
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap_or(-1)
    }

    /// The exit code, and what was said.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.installation.run(arguments).unwrap();
        let said = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert!(!said.contains(CANARY), "{said}");
        (status.code(), said)
    }

    fn status(&self) -> Value {
        let output = self.installation.run(&["status", "--json"]).unwrap();
        let source = serde_json::from_slice::<Value>(&output.stdout).unwrap()["sources"]["home_delivery"].clone();
        assert!(!source.to_string().contains(CANARY), "{source:#}");
        source
    }

    fn log(&self) -> String {
        fs::read_to_string(self.installation.path().join("c360.log")).unwrap_or_default()
    }

    /// That no table holds a password.
    async fn check_tables(&self) {
        let tables: Vec<String> = sqlx::query_scalar(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('staging', 'customer360')",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        assert!(tables.len() > 5, "{tables:?}");
        for table in tables {
            let sql = format!("select count(*) from {table} as rows where rows::text like '%{CANARY}%'");
            let found: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap();
            assert_eq!(found, 0, "{table}");
        }
    }
}

fn configuration(brokers: &str, properties: &Properties) -> String {
    let properties: Vec<String> = properties.iter().map(|(name, value)| format!("{name:?} = {value:?}")).collect();
    format!(
        "[sources.home_delivery]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\ntopics = [\"{CUSTOMERS_TOPIC}\"]\n\
         properties = {{ {} }}\n\
         [sources.home_delivery.customer]\nexternal_id = \"id\"\nemail = \"email\"\nattributes = {{ name = \"name\" }}\n",
        properties.join(", ")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mechanism_lands_rows_and_every_command_that_asks_brokers_uses_it() {
    let world = World::new().await;
    let (_, password) = Secure::ACCOUNT;
    let (sasl, mutual) = (world.secure().sasl(), world.secure().mutual());
    for (brokers, properties) in [
        (&sasl, world.sasl("PLAIN", password)),
        (&sasl, world.sasl("SCRAM-SHA-256", password)),
        (&mutual, world.mutual_tls()),
    ] {
        let client = Client::new(brokers, &properties).await;
        let (code, said) = client.run(&["run", "--once"]);
        assert_eq!((code, client.count(RECORDS).await), (Some(0), 10), "{properties:?}\n{said}");
    }

    let client = Client::new(&sasl, &world.sasl("SCRAM-SHA-512", password)).await;
    assert_eq!(client.run(&["migrate"]).0, Some(0));
    assert_eq!(client.status()["lag"], 10);
    let (code, said) = client.run(&["run", "--once"]);
    assert_eq!((code, client.count(CUSTOMERS).await), (Some(0), 10), "{said}");
    let (code, said) = client.run(&["replay", "home_delivery", "--dry-run"]);
    assert!(code == Some(0) && said.contains(r#""records":10"#), "{said}");
    let (code, said) = client.run(&["replay", "home_delivery", "--partition", "1", "--from-offset", "2"]);
    assert!(code == Some(0) && said.contains(r#""records":3"#), "{said}");

    let daemon = client.installation.start(&["run", "--no-http"], "c360.log").unwrap();
    world.produce(10..20).await;
    until(&client.pool, CUSTOMERS, 20).await;
    assert_eq!(client.status()["lag"], 0);
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
    assert!(!client.log().contains(CANARY), "{}", client.log());
    client.check_tables().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_brokers_refuse_is_told_with_what_to_do_and_never_hammered() {
    let world = World::new().await;
    let secure = world.secure();
    let (sasl, stranger) = (secure.sasl(), Authority::new("a stranger").unwrap());
    let password = "refuses the user name or the password: see properties.sasl.username";
    let certificate =
        "has a certificate that cannot be trusted: it has expired, is for another host, or its issuer is not in";
    for (brokers, properties, told) in [
        (&sasl, world.sasl("PLAIN", WRONG), password),
        (&sasl, world.sasl("SCRAM-SHA-512", WRONG), password),
        (&secure.mutual(), world.trusting(&stranger, "stranger.pem"), certificate),
        (&secure.expired(), world.tls(), certificate),
        (&secure.elsewhere(), world.tls(), certificate),
        (&secure.mutual(), world.tls(), "wants a certificate of c360 that it trusts: see properties.ssl.certificate"),
    ] {
        let client = Client::new(brokers, &properties).await;
        let (code, said) = client.run(&["run", "--once"]);
        let expected = format!("no answer from brokers {brokers}: broker {brokers} {told}");
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(told)).collect();
        assert!(
            code == Some(69) && lines.len() == 1 && lines[0].contains(&expected),
            "{properties:?} {code:?}\n{said}"
        );
        let (code, said) = client.run(&["replay", "home_delivery", "--dry-run"]);
        assert!(code == Some(69) && said.contains(&expected), "{code:?} {said}");
        assert_eq!(client.count(RECORDS).await, 0);
    }

    for (brokers, properties, told) in [
        (&sasl, world.sasl("PLAIN", WRONG), password),
        (&secure.elsewhere(), world.tls(), certificate),
        (
            &sasl,
            Properties::new(),
            "closes the connection and may want TLS at this port: see properties.security.protocol",
        ),
        (&sasl, world.tls(), "closes the connection and may want a user name: see properties.security.protocol"),
        (&world.broker.bootstrap(), world.tls(), "closes the connection and may not speak TLS at this port"),
    ] {
        refused_daemon(&Client::new(brokers, &properties).await, told).await;
    }
}

/// A daemon says what is wrong in `status` and once in its log, and waits.
async fn refused_daemon(client: &Client, told: &str) {
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let installation = &client.installation;
    let config = [
        fs::read_to_string(installation.path().join("c360.toml")).unwrap(),
        format!("[http]\nlisten = \"{listen}\"\n"),
    ];
    fs::write(installation.path().join("c360.toml"), config.concat()).unwrap();
    let daemon = installation.start(&["run"], "c360.log").unwrap();
    let is_told = |status: &Value| status["trouble"].as_str().is_some_and(|trouble| trouble.contains(told));
    look_until(told, async || client.status(), is_told).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let metrics = reqwest::get(format!("http://{listen}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("c360_") && !metrics.contains(CANARY), "{metrics}");
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
    let log = client.log();
    let lines = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    let lines: Vec<&str> = lines.filter(|line| line.contains("home_delivery")).collect();
    assert!(lines.len() == 1 && lines[0].contains(told), "{lines:#?}");
    assert!(!log.contains(CANARY), "{log}");
    client.check_tables().await;
}

#[test]
fn what_no_broker_could_take_is_refused_before_anything_starts() {
    let sasl = |mechanism: &str| {
        BTreeMap::from([
            ("security.protocol", "SASL_SSL".to_owned()),
            ("sasl.mechanism", mechanism.to_owned()),
            ("sasl.username", "ann".to_owned()),
            ("sasl.password", WRONG.to_owned()),
        ])
    };
    let mut nowhere = sasl("PLAIN");
    nowhere.insert("ssl.ca.location", Path::new("nowhere.pem").display().to_string());
    for (properties, command, told) in [
        (sasl("GSSAPI"), &["config", "check"][..], "PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are"),
        (sasl("OAUTHBEARER"), &["run"], "PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are"),
        (nowhere, &["run", "--once"], "ssl.ca.location"),
    ] {
        // Without a database in reach the first two would wait for it, were they not refused before.
        let options = embedded_postgres::Options::temporary();
        let database = (command == ["run", "--once"]).then(|| embedded_postgres::Cluster::start(&options).unwrap());
        let installation = Installation::new(&configuration("127.0.0.1:1", &properties)).unwrap();
        let url =
            database.as_ref().map_or("postgres://nobody@127.0.0.1:1/none".to_owned(), embedded_postgres::Cluster::url);
        let output = installation.with("C360__DATABASE__URL", &url).run(command).unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(told) && !said.contains(CANARY), "{said}");
    }
}
