//! What properties may say: not what the promises rest on, and of security only what this build can do.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// Properties that the promises of this crate rest on, with what to do instead.
const RESERVED: [(&str, &str); 11] = [
    ("enable.auto.commit", "progress is kept in the database"),
    ("auto.commit.enable", "progress is kept in the database"),
    ("enable.auto.offset.store", "progress is kept in the database"),
    ("auto.offset.reset", "a lost position raises an alarm and is never jumped over"),
    ("isolation.level", "aborted transactions are never read"),
    ("enable.partition.eof", "the end of a partition is found in another way"),
    ("group.id", "set group_id"),
    ("bootstrap.servers", "set brokers"),
    ("metadata.broker.list", "set brokers"),
    ("enabled_events", "events are chosen by the client"),
    ("log.queue", "logs are forwarded already"),
];

const BUILD: &str = "which this c360 was built without: take the image, or build it with `--features kafka-tls`";
const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512";

/// A property for librdkafka that cannot be as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadProperty {
    /// Its name.
    pub name: &'static str,
    /// What is wrong, and what to do instead, as it follows the name. It repeats no value that may be secret.
    pub problem: String,
}

/// Whether these properties for librdkafka can work in this build.
pub fn check_properties(properties: &BTreeMap<String, String>) -> Result<(), BadProperty> {
    check(properties, cfg!(feature = "tls"))
}

fn check(properties: &BTreeMap<String, String>, has_tls: bool) -> Result<(), BadProperty> {
    let bad = |name, problem| Err(BadProperty { name, problem });
    for (property, instead) in RESERVED {
        if properties.contains_key(property) {
            return bad(property, format!("cannot be changed: {instead}"));
        }
    }
    let word = |property: &str| properties.get(property).map(|value| value.trim().to_ascii_uppercase());
    let protocol = word("security.protocol").unwrap_or_default();
    if !has_tls && ["SSL", "SASL_SSL"].contains(&protocol.as_str()) {
        return bad("security.protocol", format!("= {protocol} wants TLS, {BUILD}"));
    }
    let (name, mechanism) = match word("sasl.mechanisms") {
        Some(mechanism) => ("sasl.mechanisms", Some(mechanism)),
        None => ("sasl.mechanism", word("sasl.mechanism")),
    };
    let wants_one = ["SASL_PLAINTEXT", "SASL_SSL"].contains(&protocol.as_str());
    match mechanism.as_deref() {
        None if wants_one => bad(name, format!("is missing, which {protocol} wants: {MECHANISMS} are supported")),
        Some(_) if !wants_one => {
            bad(name, "is of no use without security.protocol = SASL_SSL (or SASL_PLAINTEXT)".to_owned())
        }
        None | Some("PLAIN") => Ok(()),
        Some("SCRAM-SHA-256" | "SCRAM-SHA-512") if has_tls => Ok(()),
        Some(scram @ ("SCRAM-SHA-256" | "SCRAM-SHA-512")) => bad(name, format!("= {scram} wants OpenSSL, {BUILD}")),
        Some(_) => bad(name, format!("is not one that is supported: {MECHANISMS} are")),
    }
}

impl Display for BadProperty {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "properties.{} {}", self.name, self.problem)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::config::ClientConfig;

    use super::*;

    fn refusal(has_tls: bool, properties: &[(&str, &str)]) -> String {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(&properties, has_tls).err().map(|bad| bad.to_string()).unwrap_or_default()
    }

    #[test]
    fn properties_that_would_break_a_promise_are_refused_by_name() {
        let told = refusal(true, &[("enable.auto.commit", "true")]);
        assert_eq!(told, "properties.enable.auto.commit cannot be changed: progress is kept in the database");
    }

    #[test]
    fn a_build_without_tls_says_how_to_get_one_that_has_it() {
        for properties in [
            &[("security.protocol", "ssl")][..],
            &[("security.protocol", "SASL_SSL"), ("sasl.mechanism", "PLAIN")],
            &[("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "SCRAM-SHA-256")],
        ] {
            let told = refusal(false, properties);
            assert!(told.contains("--features kafka-tls") && told.contains("the image"), "{told}");
            assert_eq!(refusal(true, properties), "");
        }
        assert_eq!(refusal(false, &[("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN")]), "");
    }

    #[test]
    fn mechanisms_that_are_not_supported_or_not_said_are_refused() {
        for mechanism in ["GSSAPI", "OAUTHBEARER", "scram"] {
            let told = refusal(true, &[("security.protocol", "SASL_SSL"), ("sasl.mechanisms", mechanism)]);
            assert!(told.contains("is not one that is supported: PLAIN, SCRAM-SHA-256"), "{told}");
        }
        assert!(refusal(true, &[("security.protocol", "sasl_ssl")]).contains("sasl.mechanism is missing"));
        assert!(refusal(true, &[("sasl.mechanism", "PLAIN")]).contains("is of no use without"));
    }

    #[test]
    fn a_client_has_what_its_build_claims() {
        let features = ClientConfig::new().create_native_config().unwrap().get("builtin.features").unwrap();
        let has = |feature: &str| features.split(',').any(|has| has == feature);
        assert!(has("sasl_plain"), "{features}");
        assert_eq!(has("ssl") && has("sasl_scram"), cfg!(feature = "tls"), "{features}");
    }
}
