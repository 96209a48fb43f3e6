//! What types cannot say: names, limits, and things that must fit together.

mod rest;

use std::collections::BTreeSet;
use std::time::Duration;

use model::mapping::{Columns, Mapping};
use regex::Regex;

use super::Config;
use super::document::Document;
use super::problem::{Report, suggestion};
use super::sections::Survivorship;
use super::source::{CredentialPolicy, Csv, Kafka, KafkaFormat, Source, SourceKind};

/// The system of customers made by hand.
const CRM: &str = "crm";
/// A record that stays longer stays for good, and the time at which it goes has to be one.
const LONGEST_TTL: Duration = Duration::from_hours(24 * 3650);
/// A source's name is part of tables' rows, of metrics and of paths.
const LONGEST_NAME: usize = 63;

/// Checks everything, and returns what is allowed but probably not meant.
pub(super) fn check(config: &Config, document: &Document, report: &mut Report) -> Vec<String> {
    let mut checks = Checks { document, report, warnings: Vec::new() };
    checks.names();
    checks.database(config);
    checks.limits(config);
    for (name, source) in &config.sources {
        checks.source(name, source);
    }
    checks.survivorship(config);
    checks.objects(config);
    checks.warnings
}

struct Checks<'a> {
    document: &'a Document,
    report: &'a mut Report,
    warnings: Vec<String>,
}

impl Checks<'_> {
    fn problem(&mut self, key: &[&str], message: impl Into<String>) {
        self.report.add(self.document.place(key), key.join("."), message);
    }

    fn require(&mut self, holds: bool, key: &[&str], message: &str) {
        if !holds {
            self.problem(key, message);
        }
    }

    /// Names as written, also of sources that could not be read.
    fn names(&mut self) {
        for name in self.document.keys(&["sources"]).into_iter().map(str::to_owned).collect::<Vec<_>>() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let fits = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain);
            let message = "a source's name is a lower-case letter and then up to 62 lower-case letters, digits and _";
            self.require(fits && name.len() <= LONGEST_NAME, &["sources", &name], message);
            let message = "`crm` is the system of customers made by hand; choose another name";
            self.require(name != CRM, &["sources", &name], message);
        }
    }

    fn database(&mut self, config: &Config) {
        use secrecy::ExposeSecret;
        let key = ["database", "url"];
        if let Some(url) = &config.database.url {
            let url = url.expose_secret();
            let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
            let parses = config.database.connect_options().is_ok();
            let message = "must be a Postgres URL: postgres://user@host:5432/database, or for a socket \
                           postgres://user@/database?host=/run/postgresql";
            self.require(is_postgres && parses, &key, message);
        }
        if config.database.password.is_some() && config.database.url.is_none() {
            self.problem(&["database", "password"], "is of no use without `database.url`");
        }
    }

    fn limits(&mut self, config: &Config) {
        let second = Duration::from_secs(1);
        let message = "must be at least \"1s\"";
        self.require(config.staging.partition_width >= second, &["staging", "partition_width"], message);
        self.ttl(config.staging.ttl, &["staging", "ttl"]);
        let message = "must be at least 1";
        self.require(config.matching.max_xrefs_per_system >= 1, &["matching", "max_xrefs_per_system"], message);
        self.require(!config.data_dir.as_os_str().is_empty(), &["data_dir"], "must not be empty");
        if config.matching.guards().is_err() {
            self.problem(&["matching", "blocked"], "these patterns are too many or too long");
        }
    }

    fn ttl(&mut self, ttl: Duration, key: &[&str]) {
        let fits = (Duration::from_secs(1)..=LONGEST_TTL).contains(&ttl);
        self.require(fits, key, "must be at least \"1s\", and at most \"3650d\"");
    }

    fn source(&mut self, name: &str, source: &Source) {
        let at = ["sources", name];
        self.ttl(source.ttl(), &[at[0], at[1], "ttl"]);
        if source.settings.credentials == CredentialPolicy::Keep {
            let warning = "keeps passwords in clear (credentials = \"keep\")";
            self.warnings.push(format!("source {name} {warning}; \"digest\" shows as much and reveals nothing"));
        }
        let mappings = source.mappings();
        let message = "needs a mapping: a section [sources.NAME.customer], order, product or interaction";
        self.require(!mappings.is_empty(), &at, &message.replace("NAME", name));
        for mapping in &mappings {
            self.mapping(name, source, mapping);
        }
        match &source.kind {
            SourceKind::Kafka(kafka) => self.kafka(name, kafka, &mappings),
            SourceKind::Csv(csv) => self.csv(name, csv, mappings.len()),
            SourceKind::Rest(rest) => self.rest(name, source, rest, &mappings),
        }
    }

    fn mapping(&mut self, name: &str, source: &Source, mapping: &Mapping) {
        let word = word(mapping);
        if !matches!(source.kind, SourceKind::Kafka(_)) {
            let message = "is for Kafka sources; this one has no topics";
            self.require(mapping.topics().is_empty(), &["sources", name, word, "topics"], message);
        }
        let is_rest = matches!(source.kind, SourceKind::Rest(_));
        if !is_rest {
            let message = "is for REST sources; nobody asks this one";
            self.require(mapping.request().is_none(), &["sources", name, word, "request"], message);
            self.require(mapping.records().is_none(), &["sources", name, word, "records"], message);
        }
        if let (Mapping::Customer(customer), false) = (mapping, is_rest) {
            let message = "is for REST sources; nobody writes to this one";
            self.require(customer.update.is_none(), &["sources", name, word, "update"], message);
            self.require(customer.create.is_none(), &["sources", name, word, "create"], message);
        }
        if let Mapping::Customer(customer) = mapping {
            for taken in ["email", "credential"] {
                let message = format!("is not an attribute: map it by the key `{taken}` of the mapping itself");
                let key = ["sources", name, word, "attributes", taken];
                self.require(!customer.attributes.contains_key(taken), &key, &message);
            }
            for taken in serve::TAKEN_ATTRIBUTES {
                let message = format!(
                    "the API could not filter by an attribute of this name, which is a parameter of its list of customers: call \
                     the attribute otherwise; what stands behind `{taken} =` may stay"
                );
                let key = ["sources", name, word, "attributes", taken];
                self.require(!customer.attributes.contains_key(taken), &key, &message);
            }
            let columns = [("external_id", Some(&customer.external_id)), ("email", customer.email.as_ref())];
            let message = "must name a column, or columns";
            for (key, columns) in columns {
                self.require(columns.is_none_or(Columns::is_given), &["sources", name, word, key], message);
            }
            self.require(customer.credential.as_deref() != Some(""), &["sources", name, word, "credential"], message);
            for (attribute, columns) in &customer.attributes {
                let key = ["sources", name, word, "attributes", attribute];
                self.require(columns.is_given(), &key, message);
                self.require(!attribute.is_empty(), &key, "needs a name");
            }
            if customer.email.is_none() && !is_rest {
                let what = "its customers will match nobody (unmatched: no_email)";
                self.warnings.push(format!("source {name} maps no email: {what}"));
            }
        }
    }

    fn kafka(&mut self, name: &str, kafka: &Kafka, mappings: &[Mapping]) {
        let key = |key| ["sources", name, key];
        self.require(
            !kafka.brokers.trim().is_empty(),
            &key("brokers"),
            "must be \"host:port\", or several with commas",
        );
        let all_have_topics = mappings.iter().all(|mapping| !mapping.topics().is_empty());
        let message = "is required, here or in every mapping";
        self.require(!kafka.topics.is_empty() || all_have_topics, &key("topics"), message);
        for topic in kafka.topics.iter().chain(mappings.iter().flat_map(Mapping::topics)) {
            let fits = match topic.strip_prefix('^') {
                Some(_) => Regex::new(topic).is_ok(),
                None => !topic.is_empty() && topic.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
            };
            let message = "is neither a topic (letters, digits, `.`, `_`, `-`) nor a pattern that begins with `^`";
            self.require(fits, &key("topics"), &format!("{topic:?} {message}"));
        }
        self.require(!kafka.group_id.is_empty(), &key("group_id"), "must not be empty");
        self.require(kafka.max_record_bytes > 0, &key("max_record_bytes"), "must be more than 0");
        self.require((1..=128).contains(&kafka.max_depth), &key("max_depth"), "must be from 1 to 128");
        let message = "must not be empty: the names of columns are none of the transform's";
        self.require(!kafka.flattened_prefix.is_empty(), &key("flattened_prefix"), message);
        let is_avro = kafka.format == KafkaFormat::Avro;
        let message = "is required with format = \"avro\": the URL of the schema registry";
        self.require(!is_avro || kafka.schema_registry.is_some(), &key("schema_registry"), message);
        for (word, is_set) in [
            ("schema_registry", kafka.schema_registry.is_some()),
            ("schema_registry_user", kafka.schema_registry_user.is_some()),
            ("schema_registry_password", kafka.schema_registry_password.is_some()),
        ] {
            if is_set && !is_avro {
                self.warnings.push(format!("source {name}: `{word}` is of no use without format = \"avro\""));
            }
        }
        if let Some(url) = &kafka.schema_registry {
            let message =
                "must not hold a user or a password; use `schema_registry_user` and `schema_registry_password`";
            self.require(!rest::has_user(url), &key("schema_registry"), message);
            let problem = ingest_kafka::Registry::new(name, url, None).err();
            self.require(problem.is_none(), &key("schema_registry"), problem.unwrap_or_default());
        }
        let message = "is of no use without `schema_registry_user`";
        let is_whole = kafka.schema_registry_password.is_none() || kafka.schema_registry_user.is_some();
        self.require(is_whole, &key("schema_registry_password"), message);
        if let Err(bad) = ingest_kafka::check_properties(&kafka.exposed_properties()) {
            self.problem(&["sources", name, "properties", bad.name], bad.problem);
        }
    }

    fn csv(&mut self, name: &str, csv: &Csv, mappings: usize) {
        let key = |key| ["sources", name, key];
        self.require(!csv.directory.as_os_str().is_empty(), &key("directory"), "is required");
        self.require(!csv.pattern.is_empty() && !csv.pattern.contains('/'), &key("pattern"), "must be a file name");
        for (word, pattern) in
            std::iter::once(("pattern", &csv.pattern)).chain(csv.ignore.iter().map(|p| ("ignore", p)))
        {
            if let Err(problem) = ingest_csv::check_pattern(pattern) {
                self.problem(&key(word), format!("{pattern:?} is not a pattern of file names: {problem}"));
            }
        }
        let message = "has several mappings; a file's rows are of one kind, so make one source of each";
        self.require(mappings <= 1, &["sources", name], message);
        self.require(csv.max_record_bytes > 0, &key("max_record_bytes"), "must be more than 0");
        let percent = 0.0..=100.0;
        let message = "must be from 0 to 100";
        self.require(percent.contains(&csv.max_bad_percent), &key("max_bad_percent"), message);
        self.require(percent.contains(&csv.max_drop_percent), &key("max_drop_percent"), message);
        if let Some(delimiter) = csv.delimiter {
            let fits = delimiter.is_ascii() && !"\"\r\n".contains(delimiter);
            self.require(fits, &key("delimiter"), "must be one ASCII character, not a quote or a line end");
        }
        if let Some(pattern) = &csv.as_of_pattern {
            let message = "must be a regular expression with one group, which is the date";
            self.require(Regex::new(pattern).is_ok_and(|p| p.captures_len() == 2), &key("as_of_pattern"), message);
        }
        if let Some(label) = &csv.encoding {
            let known = encoding_rs::Encoding::for_label(label.as_bytes()).is_some();
            let message = format!("{label:?} is not an encoding such as \"utf-8\" or \"windows-1252\"");
            self.require(known, &key("encoding"), &message);
        }
        if let Some(marker) = &csv.marker {
            self.require(!marker.is_empty(), &key("marker"), "must not be empty");
        }
        self.require(csv.scan_every > Duration::ZERO, &key("scan_every"), "must be more than 0");
    }

    fn survivorship(&mut self, config: &Config) {
        // As written: a source that could not be read is no reason to call its name unknown.
        let mut known: Vec<&str> = self.document.keys(&["sources"]);
        known.push(CRM);
        let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let rules = &config.survivorship;
        let mut lists = vec![(vec!["survivorship", "prefer"], &rules.prefer)];
        let of_attributes = rules.attributes.iter();
        lists.extend(of_attributes.map(|(name, list)| (vec!["survivorship", "attributes", name.as_str()], list)));
        for (key, systems) in lists {
            let mut seen = BTreeSet::new();
            for system in systems {
                let message = format!("{system:?} is not a source{}", suggestion(system, &known));
                self.require(known.contains(&system.as_str()), &key, &message);
                self.require(seen.insert(system), &key, &format!("{system:?} stands here twice"));
            }
        }
        let mut grouped = BTreeSet::new();
        for attribute in rules.groups.iter().flatten() {
            let message = format!("`{attribute}` stands in two groups, or twice in one");
            self.require(grouped.insert(attribute), &["survivorship", "groups"], &message);
        }
        self.unmapped_attributes(config);
    }

    /// Types of objects stand in paths and on timelines.
    fn objects(&mut self, config: &Config) {
        let key = ["objects", "types"];
        for kind in &config.objects.types {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let fits = !kind.is_empty() && kind.len() <= LONGEST_NAME && kind.chars().all(plain);
            let message =
                format!("{kind:?} is no name of a type: write letters, digits, _ and -, at most {LONGEST_NAME}");
            self.require(fits, &key, &message);
            let is_taken = serve::TAKEN_OBJECT_TYPES.contains(&kind.as_str());
            let message = format!("`{kind}` is something else on a customer already: choose another name");
            self.require(!is_taken, &key, &message);
        }
    }

    /// An attribute that no source maps is a slip of the pen or a source that is gone.
    fn unmapped_attributes(&mut self, config: &Config) {
        let customers = config.sources.values().filter_map(|source| source.settings.customer.as_ref());
        let mapped: BTreeSet<&str> = customers.flat_map(|c| c.attributes.keys().map(String::as_str)).collect();
        let mapped: Vec<&str> = mapped.into_iter().collect();
        let ruled = config.survivorship.attributes.keys().map(String::as_str);
        for attribute in ruled.filter(|name| !mapped.contains(name)) {
            let hint = suggestion(attribute, &mapped);
            self.warnings.push(format!("survivorship.attributes.{attribute}: no source maps this attribute{hint}"));
        }
        // Of the default group a source need not have all.
        let default = Survivorship::default().groups;
        let grouped = config.survivorship.groups.iter().filter(|group| !default.contains(group)).flatten();
        for attribute in grouped.filter(|name| !mapped.contains(&name.as_str())) {
            let hint = suggestion(attribute, &mapped);
            self.warnings.push(format!("survivorship.groups: no source maps the attribute {attribute}{hint}"));
        }
    }
}

fn word(mapping: &Mapping) -> &'static str {
    match mapping {
        Mapping::Customer(_) => "customer",
        Mapping::Order(_) => "order",
        Mapping::Product(_) => "product",
        Mapping::Interaction(_) => "interaction",
    }
}

fn is_http(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}
