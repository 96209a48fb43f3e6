//! What is said about a configuration that cannot be used: one row per way to get it wrong.

use super::{SMALL, parse};

/// The message for `text`; a row expects its parts.
#[track_caller]
fn said(text: &str, variables: &[(&str, &str)]) -> String {
    match parse(text, variables) {
        Ok(_) => panic!("this can be used:\n{text}"),
        Err(error) => error.to_string(),
    }
}

/// [`SMALL`] with one thing changed.
#[track_caller]
fn small(old: &str, new: &str) -> String {
    assert!(SMALL.contains(old), "{old}");
    SMALL.replacen(old, new, 1)
}

/// [`SMALL`] with a registry.
#[track_caller]
fn avro(url: &str) -> String {
    small("brokers", &format!("format = \"avro\"\nschema_registry = \"{url}\"\nbrokers"))
}

/// Text to parts of what is said about it.
type Row = (String, &'static [&'static str]);

#[track_caller]
fn check(rows: Vec<Row>) {
    for (text, parts) in rows {
        let said = said(&text, &[]);
        for part in parts {
            assert!(said.contains(part), "expected {part:?} in:\n{said}\nfor:\n{text}");
        }
    }
}

#[test]
fn problems_name_the_place_the_key_and_what_was_meant() {
    check(vec![
        // Unknown keys, at every depth.
        ("databse = 1".into(), &["c360.toml:1: `databse`: unknown key", "did you mean `database`?"]),
        ("[http]\n\nlisen = \"x\"".into(), &["c360.toml:3: `http.lisen`: unknown key (did you mean `listen`?"]),
        ("[security]\ndata_dir = \"x\"".into(), &["`security.data_dir`: unknown key", "known here: key_file"]),
        (small("brokers", "broker = 1\nbrokers"), &[":11: `sources.orders_feed.broker`", "did you mean `brokers`?"]),
        (small("directory", "brokers = \"x\"\ndirectory"), &["`sources.members.brokers`: unknown key"]),
        (
            small("order_id", "orderid = 1\norder_id"),
            &["`sources.orders_feed.order.orderid`", "did you mean `order_id`?"],
        ),
        (small("any = [", "all = 1, any = ["), &["`sources.members.customer.email.all`: unknown key", "any"]),
        (
            small(
                "order_id",
                "lines = { path = \"a\", product_id = \"b\", quantity = \"c\", unit_price = \"d\", x = 1 }\norder_id",
            ),
            &["`sources.orders_feed.order.lines.x`: unknown key", "unit_price"],
        ),
        // Types.
        ("[http]\nlisten = 8360".into(), &["c360.toml:2: `http.listen`: ", "127.0.0.1:8360"]),
        ("[http]\nlisten = \"8360\"".into(), &["c360.toml:2: `http.listen`: ", "127.0.0.1:8360"]),
        (
            "[matching]\nmax_xrefs_per_system = \"many\"".into(),
            &["`matching.max_xrefs_per_system`", "expected a whole number"],
        ),
        ("[staging]\nttl = 90000".into(), &["c360.toml:2: `staging.ttl`", "a duration in quotes"]),
        ("[staging]\nttl = \"7 moons\"".into(), &["`staging.ttl`", "\"7 moons\" is not a duration"]),
        (small("brokers", "max_record_bytes = \"1MiX\"\nbrokers"), &["`sources.orders_feed.max_record_bytes`", "1MiX"]),
        (small("external_id = \"Id\"", "external_id = 5"), &["`sources.shop.customer.external_id`: must be a column"]),
        (
            small("directory", "timezone = \"Paris\"\ndirectory"),
            &["`sources.members.timezone`", "\"Paris\" is not a time zone"],
        ),
        (small("brokers", "format = \"xml\"\nbrokers"), &["`sources.orders_feed.format`", "debezium"]),
        (small("directory", "credentials = \"hide\"\ndirectory"), &["`sources.members.credentials`", "digest"]),
        ("sources = 5".into(), &["c360.toml:1: `sources`: must be sections"]),
        ("[survivorship]\nprefer = \"x\"".into(), &["c360.toml:2: `survivorship.prefer`", "expected a list"]),
        // What is required.
        (small("kind = \"csv\"\n", ""), &["`sources.members.kind`: is required"]),
        (small("kind = \"csv\"", "kind = \"cvs\""), &["`sources.members.kind`: \"cvs\" is not a kind", "`csv`?"]),
        (small("brokers = \"localhost:9092\"\n", ""), &["`sources.orders_feed.brokers`: is required"]),
        (small("topics = [\"^orders\\\\..*\"]\n", ""), &["`sources.orders_feed.topics`: is required"]),
        (small("external_id = \"id\"\n", ""), &["`sources.members.customer.external_id`: is required"]),
        (small("directory = \"drop\"\n", ""), &["`sources.members.directory`: is required"]),
        (small("base_url = \"http://localhost:1\"\n", ""), &["`sources.shop.base_url`: is required"]),
        (small("request = \"/c?email={email}\"\n", ""), &["`sources.shop.customer.request`: is required", "{email}"]),
        (
            "[sources.a]\nkind = \"csv\"\ndirectory = \"x\"".into(),
            &["`sources.a`: needs a mapping", "[sources.a.customer]"],
        ),
    ]);
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_reason() {
    check(vec![
        // Names, limits, and what must fit together.
        (small("members", "Members"), &["`sources.Members`: a source's name is"]),
        (SMALL.replace("members", "crm"), &["`sources.crm`: `crm` is the system of customers made by hand"]),
        ("[database]\nurl = \"mysql://h/d\"".into(), &["c360.toml:2: `database.url`: must be a Postgres URL"]),
        ("[staging]\npartition_width = \"10ms\"".into(), &["`staging.partition_width`: must be at least"]),
        (
            "[staging]\nttl = \"1000000000000d\"".into(),
            &["`staging.ttl`: must be at least \"1s\", and at most \"3650d\""],
        ),
        ("[matching]\nmax_xrefs_per_system = 0".into(), &["`matching.max_xrefs_per_system`: must be at least 1"]),
        (small("\"^orders\\\\..*\"", "\"^orders(\""), &["`sources.orders_feed.topics`: \"^orders(\" is neither"]),
        (small("brokers", "format = \"avro\"\nbrokers"), &["`sources.orders_feed.schema_registry`: is required"]),
        (avro("http://u:p@localhost"), &["`sources.orders_feed.schema_registry`: must not hold a user or a password"]),
        (avro("localhost:8081"), &["`sources.orders_feed.schema_registry`: must be a URL that begins with http://"]),
        (
            avro("http://r\"\nschema_registry_password = \"secret"),
            &["`sources.orders_feed.schema_registry_password`: is of no use without `schema_registry_user`"],
        ),
        (small("brokers", "properties = { \"group.id\" = \"x\" }\nbrokers"), &["properties.group.id`", "set group_id"]),
        (
            small("brokers", "properties = { \"security.protocol\" = \"SASL_SSL\" }\nbrokers"),
            &["sasl.mechanism", "PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are supported"],
        ),
        (
            small("directory", "max_bad_percent = 101\ndirectory"),
            &["`sources.members.max_bad_percent`: must be from 0"],
        ),
        (small("directory", "encoding = \"utf-99\"\ndirectory"), &["\"utf-99\" is not an encoding"]),
        (small("directory", "delimiter = \"\\\"\"\ndirectory"), &["`sources.members.delimiter`"]),
        (
            small("directory", "pattern = \"members[.csv\"\ndirectory"),
            &["`sources.members.pattern`: \"members[.csv\" is"],
        ),
        (
            small("directory", "ignore = [\"*.tmp\", \"[x\"]\ndirectory"),
            &["`sources.members.ignore`: \"[x\" is not a pattern"],
        ),
        (small("directory", "as_of_pattern = \"x\"\ndirectory"), &["`sources.members.as_of_pattern`", "one group"]),
        (
            format!("{SMALL}[sources.members.product]\nproduct_id = \"id\""),
            &["`sources.members`: has several mappings"],
        ),
        (small("http://localhost:1", "http://u:p@localhost:1"), &["`sources.shop.base_url`: must not hold a user"]),
        (small("base_url", "requests_per_second = 0\nbase_url"), &["`sources.shop.requests_per_second`"]),
        (
            small("base_url", "bearer_token = \"t\"\nbasic = { user = \"u\", password = \"p\" }\nbase_url"),
            &["has several of"],
        ),
        (small("external_id = \"id\"", "external_id = \"id\"\nrequest = \"/x\""), &["is for REST sources"]),
        (small("external_id = \"id\"", "external_id = \"id\"\nrecords = \"x\""), &["is for REST sources"]),
        (small("external_id = \"id\"", "external_id = \"id\"\ntopics = [\"x\"]"), &["is for Kafka sources"]),
        (
            small("external_id = \"id\"", "external_id = \"\"\nattributes = { name = [], city = { any = [\"\"] } }"),
            &[
                "`sources.members.customer.external_id`: must name a column",
                "`sources.members.customer.attributes.name`: must name a column",
                "`sources.members.customer.attributes.city`: must name a column",
            ],
        ),
        (small("base_url", "bearer_token = \"\"\nbase_url"), &["`sources.shop.bearer_token`: is empty"]),
        (
            small("external_id = \"id\"", "external_id = \"id\"\nattributes = { email = \"x\" }"),
            &["is not an attribute"],
        ),
        (
            small("external_id = \"id\"", "external_id = \"id\"\nattributes = { limit = \"credit\" }"),
            &["`sources.members.customer.attributes.limit`: the API could not filter", "call the attribute otherwise"],
        ),
        ("[objects]\ntypes = [\"timeline\"]".into(), &["c360.toml:2: `objects.types`: `timeline` is something else"]),
        ("[objects]\ntypes = [\"sale\", \"a/b\"]".into(), &["`objects.types`: \"a/b\" is no name of a type"]),
        ("[objects]\ntypes = [\"\"]".into(), &["`objects.types`: \"\" is no name of a type"]),
        (
            format!("{SMALL}[survivorship]\nprefer = [\"shopp\"]"),
            &["c360.toml:24: `survivorship.prefer`: \"shopp\" is not a source", "`shop`?"],
        ),
        (
            format!("{SMALL}[survivorship.attributes]\nname = [\"ship\"]"),
            &["`survivorship.attributes.name`: \"ship\" is not", "`shop`?"],
        ),
        (format!("{SMALL}[survivorship]\nprefer = [\"shop\", \"shop\"]"), &["\"shop\" stands here twice"]),
        (
            "[survivorship]\ngroups = [[\"a\", \"b\"], [\"b\"]]".into(),
            &["`survivorship.groups`: `b` stands in two groups"],
        ),
        // Not TOML.
        ("[http]\nlisten = \"x".into(), &["c360.toml:2: this is not TOML"]),
    ]);
}

#[test]
fn a_rest_source_that_cannot_be_asked_is_refused_with_its_reason() {
    let list = |keys: &str| format!("{SMALL}[sources.shop.list.customer]\n{keys}");
    let oauth2 = |keys: &str| small("base_url", &format!("oauth2 = {{ {keys} }}\nbase_url"));
    check(vec![
        (list("reqest = \"/c\""), &["`sources.shop.list.customer.reqest`: unknown key", "did you mean `request`?"]),
        (list("every = \"5m\""), &["`sources.shop.list.customer.request`: is required"]),
        (
            format!("{SMALL}[sources.shop.list.customers]\nrequest = \"/c\""),
            &["`sources.shop.list.customers`: unknown key", "did you mean `customer`?"],
        ),
        (
            format!("{SMALL}[sources.shop.list.order]\nrequest = \"/o\""),
            &["c360.toml:23: `sources.shop.list.order`: needs the mapping [sources.shop.order]"],
        ),
        (
            list("request = \"/c?page={pge}\""),
            &["c360.toml:24: `sources.shop.list.customer.request`: contains {pge}; it may"],
        ),
        (list("request = \"/c?c={cursor}\""), &["`sources.shop.list.customer.request`", "say by `next` where"]),
        (list("request = \"/c\"\nsince_format = \"%Q\""), &["list.customer.since_format`: is no strftime format"]),
        (list("request = \"/c\"\nevery = \"0s\""), &["`sources.shop.list.customer.every`: must be more than 0"]),
        (list("request = \"/c\"\nnext = \"\""), &["`sources.shop.list.customer.next`: must not be empty"]),
        (
            small("?email={email}", "?email={email}&k={key}"),
            &["`sources.shop.customer.request`: contains {key}; it may"],
        ),
        (
            format!("{SMALL}[sources.shop.order]\norder_id = \"id\"\ncustomer_external_id = \"c\""),
            &["`sources.shop.order.request`: is required, or [sources.shop.list.order], or `records`"],
        ),
        (
            "[sources.a]\nkind = \"rest\"\nbase_url = \"http://localhost\"\n[sources.a.order]\norder_id = \"id\"\n\
             customer_external_id = \"c\"\nrecords = \"orders\"\n[sources.a.product]\nproduct_id = \"id\"\n\
             [sources.a.list.product]\nrequest = \"/p\""
                .into(),
            &["`sources.a.order.records`: without order.request is where a customer's record has them"],
        ),
        (
            oauth2("token_url = \"ftp://x\", client_id = \"c\", client_secret = \"s\""),
            &["`sources.shop.oauth2.token_url`"],
        ),
        (oauth2("token_url = \"https://x\", client_secret = \"s\""), &["`sources.shop.oauth2.client_id`: is required"]),
        (oauth2("token_url = \"https://x\", client_id = \"c\", client_secret = \"s\", scop = \"x\""), &["`scope`?"]),
        (small("http://localhost:1", "http://169.254.169.254"), &["`sources.shop.base_url`: is a link-local"]),
        (
            small("base_url", "headers = { \"a b\" = \"x\" }\nbase_url"),
            &["`sources.shop.headers`: \"a b\" is no header"],
        ),
    ]);
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    let rows: [(&str, &str, &[&str]); 6] = [
        (
            "C360__HTTP__LISTNE",
            "x",
            &["environment variable C360__HTTP__LISTNE: `http.listne`: unknown key", "`listen`?"],
        ),
        ("C360__HTTP__LISTEN", "x", &["environment variable C360__HTTP__LISTEN: `http.listen`"]),
        ("C360__HTTP", "5", &["environment variable C360__HTTP: `http`", "expected a section"]),
        ("C360____LISTEN", "x", &["environment variable C360____LISTEN: is not C360__SECTION__KEY"]),
        ("C360__DATA_DIR__X", "x", &["environment variable C360__DATA_DIR__X", "`data_dir` is a value, not a section"]),
        ("DATABASE_URL", "nonsense", &["environment variable DATABASE_URL: `database.url`: must be a Postgres URL"]),
    ];
    for (variable, value, parts) in rows {
        let said = said("data_dir = \"x\"", &[(variable, value)]);
        for part in parts {
            assert!(said.contains(part), "expected {part:?} in:\n{said}");
        }
    }
}

#[test]
fn all_problems_are_said_at_once_in_order_of_place() {
    let said = said("[http]\nlistten = 1\n[staging]\nttl = 5\n[matching]\nblockd = []", &[("C360__HTTP__X", "1")]);
    let keys: Vec<_> =
        ["for 4 reasons", ":2: `http.listten`", ":4: `staging.ttl`", ":6: `matching.blockd`", "C360__HTTP__X"]
            .iter()
            .map(|part| said.find(part).unwrap_or_else(|| panic!("{part} in {said}")))
            .collect();
    assert!(keys.is_sorted(), "{said}");
}

#[test]
fn no_message_holds_a_secret() {
    let text = "[database]\nurl = \"mysql://u:s3cret@h/d\"\npassword = [\"s3cret\"]";
    let wrong = said(text, &[("C360__SOURCES__SHOP__BEARER_TOKEN", "[\"s3cret\"]")]);
    assert!(!wrong.contains("s3cret"), "{wrong}");
    let misplaced = said("", &[("C360__DATABASE", "postgres://u:s3cret@h/d")]);
    assert!(!misplaced.contains("s3cret") && misplaced.contains("expected a section"), "{misplaced}");
    let not_toml = said("[database]\nurl = \"s3cret", &[]);
    assert!(!not_toml.contains("s3cret"), "{not_toml}");
}

#[test]
fn a_secret_that_cannot_be_read_is_named_by_its_file() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    for (file, problem) in [("/nonexistent/url", "cannot read /nonexistent/url: No such file"), (empty, "is empty")] {
        let said = said(&format!("[database]\nurl_file = {file:?}"), &[]);
        assert!(said.contains("c360.toml:2: `database.url_file`: ") && said.contains(problem), "{said}");
    }
    let both = said(&format!("[database]\nurl_file = {empty:?}\nurl = \"postgres://h/d\""), &[]);
    assert!(both.contains("`database.url` is set too; keep one of them"), "{both}");
}

#[test]
fn what_is_written_to_a_source_has_to_fit_its_mapping() {
    let shop = |kind: &str, keys: &str| {
        format!(
            "[sources.a]\n{kind}\n[sources.a.customer]\n{keys}\nexternal_id = \"id\"\nemail = \"email\"\n\
             attributes = {{ name = \"n\" }}"
        )
    };
    let rest = |keys: &str| shop("kind = \"rest\"\nbase_url = \"http://localhost\"", keys);
    let asked = |keys: &str| rest(&format!("request = \"/c?e={{email}}\"\n{keys}"));
    let update = |keys: &str| asked(&format!("update = {{ {keys} }}"));
    let create = |keys: &str| asked(&format!("create = {{ {keys} }}"));
    check(vec![
        (update("request = \"/c\""), &["`sources.a.customer.update.body`: is required"]),
        (update("body = {}, request = \"/c\""), &["`sources.a.customer.update.body`: names no attribute"]),
        (
            update("body = { N = \"{nam}\" }, request = \"/c\""),
            &["contains {nam}; it may contain external_id, email, name"],
        ),
        (update("body = { N = \"{name\" }, request = \"/c\""), &["has a brace without its other half"]),
        (update("body = { P = \"{credential}\" }, request = \"/c\""), &["contains {credential}"]),
        (
            update("body = { N = \"{name}\" }, request = \"c\""),
            &["`sources.a.customer.update.request`: must begin with /"],
        ),
        (update("bdy = 1, body = { N = \"{name}\" }, request = \"/c\""), &["update.bdy`: unknown key", "`body`"]),
        (
            update("method = \"GET\", body = { N = \"{name}\" }, request = \"/c\""),
            &["`sources.a.customer.update.method`"],
        ),
        (
            create("body = { N = \"{name}\" }, request = \"/c/{external_id}\""),
            &["create.request`: contains {external_id}"],
        ),
        (create("body = {}, request = \"/c\", modified = \"m\""), &["`sources.a.customer.create.modified`: is for"]),
        (
            format!(
                "{}\n[sources.a.list.customer]\nrequest = \"/l\"",
                rest("update = { request = \"/c\", body = { N = \"{name}\" } }")
            ),
            &["`sources.a.customer.update.request`: writes to the source"],
        ),
        (
            shop("kind = \"csv\"\ndirectory = \"d\"", "update = { request = \"/c\", body = { N = \"{name}\" } }"),
            &["`sources.a.customer.update`: is for REST sources"],
        ),
    ]);
}
