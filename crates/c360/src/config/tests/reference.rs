//! The shipped `c360.toml`: it can be used, and it names every key there is, with its true default.

use std::collections::BTreeSet;
use std::path::Path;

use model::mapping::{CustomerMapping, InteractionMapping, LinesMapping, OrderMapping, ProductMapping};

use super::super::*;
use super::super::{keys, sections, source};
use super::environment;

const SHIPPED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../c360.toml"));

fn parse(text: &str) -> Config {
    Config::parse(text, Some(Path::new("c360.toml")), &environment(&[])).unwrap_or_else(|error| panic!("{error}"))
}

/// The shipped text with the comments that are keys made keys: `# key = value`, and the section of interactions.
fn uncommented() -> String {
    let is_key = |text: &str| {
        let name = text.split(" = ").next().unwrap_or_default();
        text.contains(" = ")
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c))
    };
    let lines = SHIPPED.lines().map(|line| match line.strip_prefix("# ") {
        Some(text) if is_key(text) || text.starts_with('[') => text,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_file_is_the_reference_scenario() {
    let config = parse(SHIPPED);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let kinds: Vec<_> = config.sources.iter().map(|(name, source)| (name.as_str(), source.kind.name())).collect();
    assert_eq!(kinds, [("home_delivery", "kafka"), ("loyalty", "csv"), ("online_store", "rest")]);
    assert_eq!(config.sources["online_store"].mappings().len(), 3);
    assert_eq!(config.survivorship.rules().prefer, ["home_delivery", "online_store", "loyalty"]);
    assert!(config.matching.guards().is_ok());
    let database = config.database.connect_options().unwrap().unwrap();
    assert_eq!((database.get_host(), database.get_username()), ("localhost", "c360"));
}

#[test]
fn the_status_expects_of_each_source_what_is_configured() {
    let late = |text: &str| {
        let setup = parse(text).setup().unwrap();
        setup.sources.values().map(|source| source.late_after.map(|after| after.as_secs())).collect::<Vec<_>>()
    };
    assert_eq!(late(SHIPPED), [Some(300), Some(30 * 3_600), Some(24 * 3_600)]);
    let deltas = SHIPPED.replace("full_export = true", "full_export = false");
    assert_eq!(late(&deltas), [Some(300), None, Some(24 * 3_600)], "such files come when there is news");
    let setup = parse(SHIPPED).setup().unwrap();
    let days: Vec<_> = setup.sources.values().map(|source| source.ttl.as_secs() / 3_600).collect();
    assert_eq!(days, [7 * 24, 25, 25]);
}

#[test]
fn every_key_of_the_shipped_file_is_accepted() {
    // Of the three ways to authenticate one may stay.
    let text: Vec<_> = uncommented()
        .lines()
        .filter(|line| {
            !line.starts_with("bearer_token") && !line.starts_with("basic") && !line.contains("X-Api-Key_file")
        })
        .map(str::to_owned)
        .collect();
    let config = parse(&text.join("\n"));
    let SourceKind::Rest(rest) = &config.sources["online_store"].kind else { panic!() };
    assert!(rest.oauth2.is_some());
    assert!(config.sources["online_store"].settings.interaction.is_some());
}

#[test]
fn every_key_there_is_stands_in_the_shipped_file() {
    let text = uncommented();
    let mut keys: BTreeSet<&str> = keys::TOP.into();
    keys.extend(keys::fields::<sections::Database>());
    keys.extend(keys::fields::<sections::Http>());
    keys.extend(keys::fields::<sections::Security>());
    keys.extend(keys::fields::<sections::Staging>());
    keys.extend(keys::fields::<sections::Retention>());
    keys.extend(keys::fields::<sections::Survivorship>());
    keys.extend(keys::fields::<sections::Matching>());
    keys.extend(keys::fields::<sections::Objects>());
    keys.extend(keys::fields::<sections::Erasure>());
    keys.extend(keys::fields::<source::SourceSettings>());
    keys.extend(keys::fields::<source::Kafka>());
    keys.extend(keys::fields::<source::Csv>());
    keys.extend(keys::fields::<source::Rest>());
    keys.extend(keys::fields::<source::Basic>());
    keys.extend(keys::fields::<source::OAuth2>());
    keys.extend(keys::fields::<source::Lists>());
    keys.extend(keys::fields::<source::List>());
    keys.extend(keys::fields::<CustomerMapping>());
    keys.extend(keys::fields::<OrderMapping>());
    keys.extend(keys::fields::<LinesMapping>());
    keys.extend(keys::fields::<ProductMapping>());
    keys.extend(keys::fields::<InteractionMapping>());
    let absent: Vec<_> = keys
        .into_iter()
        .filter(|key| {
            !text.contains(&format!("{key} ="))
                && !text.contains(&format!("[{key}"))
                && !text.contains(&format!(".{key}]"))
                && !text.contains(&format!(".{key}."))
        })
        .collect();
    assert!(absent.is_empty(), "not in c360.toml: {absent:?}");
}

#[test]
fn every_secret_there_is_stands_in_the_head_of_the_shipped_file() {
    let head = SHIPPED.split("\n\n").next().unwrap();
    for secret in keys::SECRETS {
        let named = secret.iter().filter(|word| !["sources", "*"].contains(word)).copied();
        let name = named.collect::<Vec<_>>().join(".");
        assert!(head.contains(&name), "{name} is not among the secrets");
    }
}

/// What the file says of defaults is true: with those comments made keys, nothing changes.
#[test]
fn the_defaults_in_the_comments_are_the_defaults() {
    let examples = [
        "password",
        "schema_registry",
        "schema_registry_user",
        "schema_registry_password",
        "topics",
        "version",
        "as_of_pattern",
        "delimiter",
        "encoding",
        "marker",
        "headers",
        "bearer_token",
        "basic",
        "oauth2",
        "records",
        "total",
        "status",
        "key_file",
        "ttl",
    ];
    let mut text = String::new();
    for (shipped, line) in SHIPPED.lines().zip(uncommented().lines()) {
        let key = line.split(" = ").next().unwrap_or_default();
        let example = shipped != line && (examples.contains(&key) || line.starts_with('['));
        // The sections of lists and of interactions are examples from here to the next one.
        if shipped.contains("[sources.online_store.list.customer]") {
            text.push_str("[matching]\n");
            text.push_str(SHIPPED.split_once("\n[matching]\n").unwrap().1);
            text.push_str(&SHIPPED[SHIPPED.find("\n[survivorship]").unwrap()..SHIPPED.find("\n[matching]").unwrap()]);
            break;
        }
        text.push_str(if example { shipped } else { line });
        text.push('\n');
    }
    assert!(text.contains("\nmax_depth = 64") && text.contains("\nbreaker_failures = 5"));
    assert_eq!(parse(&text).to_redacted_toml(), parse(SHIPPED).to_redacted_toml());
    let ttl = parse(&SHIPPED.replace("# ttl = \"25h\"", "ttl = \"25h\""));
    assert_eq!(ttl.to_redacted_toml(), parse(SHIPPED).to_redacted_toml());
}

#[test]
fn the_defaults_of_a_list_in_the_comments_are_its_defaults() {
    let text = uncommented();
    let text: String = text.lines().filter(|line| !line.contains("X-Api-Key_file")).collect::<Vec<_>>().join("\n");
    let list = |text: &str| {
        let text = text.replace("bearer_token = ", "# ").replace("oauth2 = ", "# ");
        let SourceKind::Rest(rest) = parse(&text).sources["online_store"].kind.clone() else { panic!() };
        rest.list.customer.unwrap()
    };
    let (from, to) = (text.find("first_page = ").unwrap(), text.find("# Emails, meetings and calls").unwrap());
    let shipped = list(&text);
    let bare = list(&format!("{}{}", &text[..from], &text[to..]));
    assert_eq!(shipped.every, Some(std::time::Duration::from_hours(24)), "as refresh_every");
    assert_eq!(format!("{bare:?}"), format!("{:?}", List { every: None, ..shipped }));
}
