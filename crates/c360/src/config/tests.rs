//! Configurations that can be used, and what is said about those that cannot.

mod problems;
mod reference;

use std::path::Path;

use secrecy::ExposeSecret;

use super::*;

/// A source of each kind, as small as can be.
pub(super) const SMALL: &str = r#"
[sources.shop]
kind = "rest"
base_url = "http://localhost:1"
[sources.shop.customer]
request = "/c?email={email}"
external_id = "Id"

[sources.orders_feed]
kind = "kafka"
brokers = "localhost:9092"
topics = ["^orders\\..*"]
[sources.orders_feed.order]
order_id = "id"
customer_external_id = "customer.id"

[sources.members]
kind = "csv"
directory = "drop"
[sources.members.customer]
external_id = "id"
email = { any = ["e-mail", "email"] }
"#;

pub(super) fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    Config::parse(text, Some(Path::new("c360.toml")), &environment(variables))
}

fn url(config: &Config) -> &str {
    config.database.url.as_ref().unwrap().expose_secret()
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = parse("", &[]).unwrap();
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8360");
    assert_eq!(config.key_file(), Path::new("data/installation.key"));
    assert_eq!(config.embedded_directory(), Path::new("data/postgres"));
    assert_eq!(config.staging.ttl.as_secs(), 90_000);
    assert_eq!(config.staging.partition_width.as_secs(), 3_600);
    assert_eq!(config.survivorship.groups, [["address1", "address2", "city", "state", "zipcode"]]);
    assert_eq!(config.matching.max_xrefs_per_system, 10);
    assert!(config.database.connect_options().unwrap().is_none());
}

#[test]
fn kafka_sources_are_kept_a_week_and_others_as_long_as_staging_says() {
    let config = parse(&format!("[staging]\nttl = \"2h\"\n{SMALL}"), &[]).unwrap();
    let hours = |name: &str| config.sources[name].ttl().as_secs() / 3_600;
    assert_eq!((hours("orders_feed"), hours("shop"), hours("members")), (7 * 24, 2, 2));
}

#[test]
fn a_rest_source_that_says_nothing_is_asked_as_fast_as_the_shipped_one() {
    let rest = |text: &str, source: &str| match &parse(text, &[]).unwrap().sources[source].kind {
        SourceKind::Rest(rest) => (rest.requests_per_second, rest.concurrency, rest.refresh_every),
        _ => panic!(),
    };
    assert_eq!(rest(SMALL, "shop"), rest(include_str!("../../../../c360.toml"), "online_store"));
}

#[test]
fn variables_find_their_key_whatever_its_case() {
    let variables = [
        ("C360__HTTP__LISTEN", "0.0.0.0:80"),
        ("C360__SOURCES__ORDERS_FEED__BROKERS", "kafka:9092"),
        ("C360__SOURCES__ORDERS_FEED__PROPERTIES__SECURITY_PROTOCOL", "SSL"),
        ("C360__SOURCES__ORDERS_FEED__TOPICS", r#"["a", "b"]"#),
        ("C360__SOURCES__MEMBERS__FULL_EXPORT", "true"),
        ("C360__SOURCES__SHOP__BEARER_TOKEN", "12345"),
        ("C360__SURVIVORSHIP__ATTRIBUTES__LOYALTYPOINTS", r#"["shop"]"#),
        ("C360__DATA_DIR", "/var/lib/c360"),
        ("C360_CONFIG", "not a key"),
    ];
    let text = format!("{SMALL}[survivorship.attributes]\nloyaltyPoints = [\"members\"]");
    let config = parse(&text, &variables).unwrap();
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:80");
    let SourceKind::Kafka(kafka) = &config.sources["orders_feed"].kind else { panic!() };
    assert_eq!((kafka.brokers.as_str(), kafka.topics.len()), ("kafka:9092", 2));
    assert_eq!(kafka.properties["security.protocol"].expose_secret(), "SSL");
    let SourceKind::Csv(csv) = &config.sources["members"].kind else { panic!() };
    assert!(csv.full_export);
    let SourceKind::Rest(rest) = &config.sources["shop"].kind else { panic!() };
    assert_eq!(rest.bearer_token.as_ref().unwrap().expose_secret(), "12345");
    assert_eq!(config.survivorship.attributes["loyaltyPoints"], ["shop"]);
    assert_eq!(config.data_dir, Path::new("/var/lib/c360"));
}

#[test]
fn a_source_can_come_from_the_environment_alone() {
    let variables = [
        ("C360__SOURCES__FEED__KIND", "csv"),
        ("C360__SOURCES__FEED__DIRECTORY", "/drop"),
        ("C360__SOURCES__FEED__CUSTOMER", r#"{ external_id = "id", email = "mail" }"#),
    ];
    assert_eq!(parse("", &variables).unwrap().sources["feed"].mappings().len(), 1);
}

#[test]
fn our_variable_comes_before_the_common_one_and_both_before_the_file() {
    let text = "[database]\nurl = \"postgres://file@h/d\"";
    let common = ("DATABASE_URL", "postgres://common@h/d");
    let ours = ("C360__DATABASE__URL", "postgres://ours@h/d");
    assert_eq!(url(&parse(text, &[]).unwrap()), "postgres://file@h/d");
    assert_eq!(url(&parse(text, &[common]).unwrap()), "postgres://common@h/d");
    assert_eq!(url(&parse(text, &[ours, common]).unwrap()), "postgres://ours@h/d");
}

#[test]
fn secrets_come_from_files_without_their_line_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (url_file, key_file) = (file("url", "postgres://filed@h/d\n"), file("key", "k\r\n"));
    let password_file = file("password", "pw\n");
    let text = format!(
        "[database]\nurl_file = {url_file:?}\npassword_file = {password_file:?}\n{}",
        SMALL.replace("brokers =", &format!("properties = {{ \"sasl.password_file\" = {key_file:?} }}\nbrokers ="))
    );
    let config = parse(&text, &[("C360__SOURCES__SHOP__HEADERS__X-API-KEY_FILE", &key_file)]).unwrap();
    assert_eq!(url(&config), "postgres://filed@h/d");
    assert_eq!(config.database.password.as_ref().unwrap().expose_secret(), "pw");
    let SourceKind::Kafka(kafka) = &config.sources["orders_feed"].kind else { panic!() };
    assert_eq!(kafka.properties["sasl.password"].expose_secret(), "k");
    let SourceKind::Rest(rest) = &config.sources["shop"].kind else { panic!() };
    assert_eq!(rest.headers["x-api-key"].expose_secret(), "k");

    // A variable for the one stands in for the other in the file.
    assert_eq!(url(&parse(&text, &[("DATABASE_URL", "postgres://env@h/d")]).unwrap()), "postgres://env@h/d");
    let plain = "[database]\nurl = \"postgres://file@h/d\"";
    let filed = parse(plain, &[("C360__DATABASE__URL_FILE", &url_file), ("DATABASE_URL", "postgres://env@h/d")]);
    assert_eq!(url(&filed.unwrap()), "postgres://filed@h/d");
}

#[test]
fn properties_are_text_whatever_they_look_like() {
    let text = SMALL.replace(
        "brokers =",
        "properties = { \"queued.min.messages\" = 1000, enable.ssl.certificate.verification = false }\nbrokers =",
    );
    let config = parse(&text, &[]).unwrap();
    let SourceKind::Kafka(kafka) = &config.sources["orders_feed"].kind else { panic!() };
    let properties: Vec<_> = kafka.properties.iter().map(|(n, v)| (n.as_str(), v.expose_secret())).collect();
    assert_eq!(properties, [("enable.ssl.certificate.verification", "false"), ("queued.min.messages", "1000")]);
}

#[test]
fn what_is_printed_holds_no_secret_and_is_a_configuration() {
    let text = SMALL
        .replace("brokers =", "properties = { \"sasl.password\" = \"s3cret\", \"client.id\" = \"me\" }\nbrokers =")
        .replace(
            "base_url =",
            "headers = { X = \"s3cret\" }\nbasic = { user = \"u\", password = \"s3cret\" }\nbase_url =",
        )
        .replace("/c?email", "/c?api_key=s3cret&email");
    let config = parse(&text, &[("DATABASE_URL", "postgres://c360:s3cret@h/d?sslmode=require")]).unwrap();
    let printed = config.to_redacted_toml();
    assert!(!printed.contains("s3cret") && !format!("{config:?}").contains("\"s3cret"), "{printed}");
    for kept in ["c360:[redacted]@h/d?sslmode=require", "\"client.id\" = \"me\"", "max_record_bytes = \"1MiB\"", "7d"] {
        assert!(printed.contains(kept), "{kept} in\n{printed}");
    }
    let again = parse(&printed.replace(":[redacted]@", "@"), &[]).unwrap();
    assert_eq!(again.to_redacted_toml(), printed.replace(":[redacted]@", "@"));
}

#[test]
fn a_url_may_lead_to_a_socket_in_every_form_that_psql_takes() {
    for (url, socket, port) in [
        ("postgres://u:p@/d?host=/run/pg&port=5433", "/run/pg", 5433),
        ("postgres://u@:5433/d?host=/run/pg", "/run/pg", 5433),
        ("postgresql:///d?user=u&host=/run/pg", "/run/pg", 5432),
        ("postgres://u@%2Frun%2Fpg/d", "/run/pg", 5432),
        ("postgres://u@localhost/d?host=/run/pg", "/run/pg", 5432),
    ] {
        let config = parse(&format!("[database]\nurl = {url:?}"), &[]).unwrap_or_else(|error| panic!("{url}: {error}"));
        let options = config.database.connect_options().unwrap().unwrap();
        let found =
            (options.get_socket().map(|path| path.to_string_lossy()), options.get_port(), options.get_username());
        assert_eq!(found, (Some(socket.into()), port, "u"), "{url}");
        assert_eq!(options.get_database(), Some("d"), "{url}");
    }
}

#[test]
fn a_password_beside_the_url_is_for_a_url_without_one() {
    let text = "[database]\npassword = \"beside\"\nurl = ";
    let options = |url: &str| {
        let config = parse(&format!("{text}\"{url}\""), &[]).unwrap();
        format!("{:?}", config.database.connect_options().unwrap().unwrap())
    };
    assert!(options("postgres://u@h/d").contains("beside"));
    assert!(!options("postgres://u:within@h/d").contains("beside"));
}

#[test]
fn what_is_allowed_but_probably_not_meant_is_warned_about() {
    let text = SMALL.replace("kind = \"csv\"", "kind = \"csv\"\ncredentials = \"keep\"");
    let config = parse(&format!("{text}[survivorship.attributes]\npointz = [\"shop\"]"), &[]).unwrap();
    let warnings = config.warnings.join("\n");
    assert!(warnings.contains("source members keeps passwords in clear"), "{warnings}");
    assert!(warnings.contains("survivorship.attributes.pointz"), "{warnings}");

    let empty = [("DATABASE_URL", "")];
    let config = parse(SMALL, &empty).unwrap();
    assert!(config.warnings.join("\n").contains("DATABASE_URL is empty"), "{:?}", config.warnings);
    let config = parse(&format!("[database]\nurl = \"postgres://file@h/d\"\n{SMALL}"), &empty).unwrap();
    assert_eq!((url(&config), config.warnings.len()), ("postgres://file@h/d", 0), "the file says where");
}

#[test]
fn a_file_that_was_named_must_exist() {
    let named = Config::load(Some(Path::new("/nonexistent/c360.toml")), &Environment::default()).unwrap_err();
    assert!(named.to_string().contains("/nonexistent/c360.toml: cannot be read"), "{named}");
    let unnamed = Error::no_file().to_string();
    assert!(unnamed.contains("--config FILE or C360_CONFIG"), "{unnamed}");
}
