//! From the configuration of a source to the settings of its ingester.

use model::mapping::{Context, Mapping};
use model::{CredentialKey, Entity, InstallationKey, Limits};

use crate::config::{Csv, Kafka, KafkaFormat, List, Rest, Source, SourceKind};
use crate::exit::Exit;

/// What an ingester is told.
#[expect(missing_docs, reason = "each variant is its settings")]
#[expect(clippy::large_enum_variant, reason = "there are a handful of them, made once")]
pub enum Ingester {
    Kafka(ingest_kafka::Settings),
    Csv(ingest_csv::Settings),
    Rest(poll_rest::Settings),
}

/// The settings of one source's ingester.
pub fn ingester(name: &str, source: &Source, key: &InstallationKey) -> anyhow::Result<Ingester> {
    let context = Context { credentials: source.settings.credentials.under(key), timezone: source.settings.timezone };
    match &source.kind {
        SourceKind::Kafka(settings) => kafka(name, source, settings, context).map(Ingester::Kafka),
        SourceKind::Csv(settings) => csv(name, source, settings, context).map(Ingester::Csv),
        SourceKind::Rest(settings) => Ok(Ingester::Rest(rest(name, source, settings, context, key))),
    }
}

fn kafka(name: &str, source: &Source, kafka: &Kafka, context: Context) -> anyhow::Result<ingest_kafka::Settings> {
    Ok(ingest_kafka::Settings {
        name: name.to_owned(),
        brokers: kafka.brokers.clone(),
        topics: kafka.topics.clone(),
        group_id: kafka.group_id.clone(),
        format: match kafka.format {
            KafkaFormat::Debezium => ingest_kafka::Format::Debezium,
            KafkaFormat::Json => ingest_kafka::Format::Json,
            KafkaFormat::Avro => ingest_kafka::Format::Avro(registry(name, kafka)?),
        },
        mappings: source.mappings(),
        context,
        limits: Limits { max_record_bytes: kafka.max_record_bytes, max_depth: kafka.max_depth },
        ttl: source.ttl(),
        placeholder: kafka.unavailable_placeholder.clone(),
        flattened_prefix: kafka.flattened_prefix.clone(),
        properties: kafka.exposed_properties(),
    })
}

fn registry(name: &str, kafka: &Kafka) -> anyhow::Result<ingest_kafka::Registry> {
    let user = kafka.schema_registry_user.clone().map(|user| (user, kafka.schema_registry_password.clone()));
    let registry = ingest_kafka::Registry::new(name, kafka.schema_registry.as_deref().unwrap_or_default(), user);
    let refuse = |problem| anyhow::anyhow!("sources.{name}.schema_registry: {problem}");
    registry.map_err(|problem| Exit::Configuration.because(refuse(problem)))
}

fn csv(name: &str, source: &Source, csv: &Csv, context: Context) -> anyhow::Result<ingest_csv::Settings> {
    let refuse = |problem: String| Exit::Configuration.because(anyhow::anyhow!("sources.{name}.{problem}"));
    let mapping: Mapping =
        source.mappings().into_iter().next().ok_or_else(|| refuse("customer: a mapping is missing".to_owned()))?;
    let delimiter = csv.delimiter.map(|delimiter| {
        u8::try_from(delimiter).map_err(|_| refuse("delimiter: must be one ASCII character".to_owned()))
    });
    let encoding = csv.encoding.as_ref().map(|label| {
        let known = ingest_csv::Encoding::for_label(label.as_bytes());
        known.ok_or_else(|| refuse(format!("encoding: {label:?} is no known encoding, such as \"windows-1252\"")))
    });
    Ok(ingest_csv::Settings {
        source: name.to_owned(),
        directory: csv.directory.clone(),
        patterns: vec![csv.pattern.clone()],
        ignore: csv.ignore.clone(),
        marker: csv.marker.clone(),
        full_export: csv.full_export,
        as_of_pattern: csv.as_of_pattern.clone(),
        null_values: csv.null_values.clone(),
        delimiter: delimiter.transpose()?,
        encoding: encoding.transpose()?,
        settle: csv.settle,
        scan_every: csv.scan_every,
        max_bad_rows: csv.max_bad_rows,
        max_bad_percent: csv.max_bad_percent,
        max_drop_percent: csv.max_drop_percent,
        max_record_bytes: csv.max_record_bytes,
        mapping,
        context,
        ttl: source.ttl(),
    })
}

fn list(rest: &Rest, entity: Entity, list: &List) -> poll_rest::List {
    poll_rest::List {
        entity,
        request: list.request.clone(),
        records: list.records.clone(),
        next: list.next.clone(),
        first_page: list.first_page,
        every: list.every.unwrap_or(rest.refresh_every),
        overlap: list.overlap,
        since_format: list.since_format.clone(),
        max_pages: list.max_pages,
    }
}

fn rest(name: &str, source: &Source, rest: &Rest, context: Context, key: &InstallationKey) -> poll_rest::Settings {
    let bearer = rest.bearer_token.clone().map(poll_rest::Auth::Bearer);
    let basic = rest.basic.clone().map(|basic| poll_rest::Auth::Basic { user: basic.user, password: basic.password });
    let oauth2 = rest.oauth2.clone().map(|oauth2| {
        poll_rest::Auth::OAuth2(poll_rest::OAuth2 {
            token_url: oauth2.token_url.into(),
            client_id: oauth2.client_id,
            client_secret: oauth2.client_secret,
            scope: oauth2.scope,
        })
    });
    poll_rest::Settings {
        source: name.to_owned(),
        base_url: rest.base_url.clone().into(),
        headers: rest.headers.clone(),
        auth: bearer.or(basic).or(oauth2),
        private_addresses: rest.private_addresses,
        requests_per_second: rest.requests_per_second,
        concurrency: rest.concurrency,
        refresh_every: rest.refresh_every,
        connect_timeout: rest.connect_timeout,
        read_timeout: rest.read_timeout,
        timeout: rest.timeout,
        max_body_bytes: rest.max_body_bytes,
        breaker_failures: rest.breaker_failures,
        breaker_cooldown: rest.breaker_cooldown,
        customer: source.settings.customer.clone(),
        order: source.settings.order.clone(),
        product: source.settings.product.clone(),
        interaction: source.settings.interaction.clone(),
        lists: rest.list.each().map(|(entity, list)| self::list(rest, entity, list)).collect(),
        context,
        fingerprint_key: CredentialKey::new(key),
        limits: Limits::default(),
        ttl: source.ttl(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Environment};

    #[test]
    fn a_kafka_source_reads_what_only_its_mappings_name() {
        let text = r#"
            [sources.shop]
            kind = "kafka"
            brokers = "localhost:9092"
            [sources.shop.customer]
            topics = ["customers"]
            external_id = "id"
            [sources.shop.order]
            topics = ["^orders\\..*"]
            order_id = "id"
            customer_external_id = "customer"
        "#;
        let config = Config::parse(text, Some(Path::new("c360.toml")), &Environment::default()).unwrap();
        let Ok(Ingester::Kafka(settings)) = ingester("shop", &config.sources["shop"], &InstallationKey::new([0; 32]))
        else {
            panic!()
        };
        settings.check().unwrap();
        assert_eq!(settings.all_topics(), ["customers", "^orders\\..*"]);
    }
}
