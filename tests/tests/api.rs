//! The API as its users meet it: c360 as a process, keys made by its own command, and a client that means no good.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use c360_tests::program::{Installation, Running};
use serde_json::{Value, json};

const MATTHEW: &str = "matthew.groves@couchbase.com";

/// An installation with the loyalty programme's members, and c360 that serves them.
struct World {
    installation: Installation,
    base_url: String,
    _database: embedded_postgres::test::TestDatabase,
    _serving: Running,
}

impl World {
    async fn new() -> Self {
        // The other test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/loyalty");
        let database = embedded_postgres::test::database().await;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            r#"
            [http]
            listen = "127.0.0.1:{port}"
            [sources.loyalty]
            kind = "csv"
            directory = "{}"
            pattern = "loyalty_members*.csv"
            full_export = true
            settle = "0s"
            [sources.loyalty.customer]
            external_id = "id"
            email = "email"
            credential = "password"
            attributes = {{ name = ["firstName", "lastName"], loyaltyPoints = "points" }}
            "#,
            fixtures.display()
        );
        let installation = Installation::new(&config).unwrap().with("C360__DATABASE__URL", &database.url);
        let imported = installation.run(&["run", "--once", "--no-http"]).unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        let serving = installation.start(&["serve"], "serve.log").unwrap();
        let base_url = format!("http://127.0.0.1:{port}");
        let since = Instant::now();
        while reqwest::get(format!("{base_url}/readyz")).await.is_err() {
            assert!(since.elapsed() < Duration::from_mins(1), "c360 does not serve");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { installation, base_url, _database: database, _serving: serving }
    }

    fn key(&self, words: &[&str]) -> String {
        let made = self.installation.run(&[&["keys", "add"], words].concat()).unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().trim_end().to_owned()
    }

    async fn get(&self, key: &str, path: &str) -> (u16, Value) {
        let client = reqwest::Client::builder().gzip(true).build().unwrap();
        let answer = client.get(format!("{}/api/v1{path}", self.base_url)).bearer_auth(key).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

#[tokio::test]
async fn a_key_of_the_command_line_opens_what_was_landed_and_a_revoked_one_nothing() {
    let world = World::new().await;
    let key = world.key(&["reports", "--role", "viewer"]);
    let (status, page) = world.get(&key, "/customers?q=mathew+grovs&fields=email").await;
    assert_eq!((status, &page["items"][0]), (200, &json!({"email": MATTHEW})));
    let (_, customer) = world.get(&key, &format!("/customers/{MATTHEW}")).await;
    assert_eq!(
        (&customer["profile"]["loyaltyPoints"], &customer["xrefs"][0]["external_id"]),
        (&json!("47"), &json!("27"))
    );
    assert!(customer["timeline"]["items"].as_array().is_some_and(|items| !items.is_empty()));
    let (_, insights) = world.get(&key, "/insights").await;
    assert_eq!(insights["systems"][0]["system"], "loyalty");

    let limited = world.key(&["nobody", "--role", "agent", "--only", "state in ('NH')"]);
    assert_eq!(world.get(&limited, "/customers?count=true").await.1["total"], 0, "nobody here has a state");
    let listed = world.installation.run(&["keys", "list", "--json"]).unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(r#""only":"state in ('NH')""#) && !listed.contains(&key[13..]), "{listed}");

    assert!(world.installation.run(&["keys", "revoke", "reports"]).unwrap().status.success());
    assert_eq!(world.installation.run(&["keys", "revoke", "reports"]).unwrap().status.code(), Some(66));
    let since = Instant::now();
    while world.get(&key, "/insights").await.0 != 401 {
        assert!(since.elapsed() < Duration::from_secs(20), "it is revoked within two seconds");
    }
    let again = world.installation.run(&["keys", "add", "nobody", "--role", "viewer"]).unwrap();
    assert_eq!(again.status.code(), Some(65), "there is one of this name");
    let wrong = world.installation.run(&["keys", "add", "x", "--role", "viewer", "--only", "state = 'NH'"]).unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[tokio::test]
async fn whatever_is_sent_every_operation_answers_as_its_document_says_and_never_with_a_5xx() {
    let world = World::new().await;
    let key = world.key(&["hostile", "--role", "operator"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let fetched = Command::new(root.join("scripts/fetch-python.sh")).arg("hostile").output().unwrap();
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    let python = String::from_utf8(fetched.stdout).unwrap();
    // Somebody who is there, beside whatever else it makes up.
    fs::write(
        world.installation.path().join("schemathesis.toml"),
        format!("[parameters]\n\"path.customer\" = \"{MATTHEW}\"\n\"path.kind\" = \"notes\"\n"),
    )
    .unwrap();
    for named in [true, false] {
        let mut client = Command::new(Path::new(python.trim_end()).with_file_name("schemathesis"));
        client.current_dir(world.installation.path());
        if named {
            client.args(["--config-file", "schemathesis.toml"]);
        }
        let output = client
            .args(["run", &format!("{}/openapi.json", world.base_url)])
            .args(["--header", &format!("Authorization: Bearer {key}")])
            .args([
                "--checks",
                "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
            ])
            .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--rate-limit", "90/s"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(" passed") && !said.contains(" 0 selected"), "{said}");
    }
}
