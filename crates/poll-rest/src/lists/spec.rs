//! A list as it is asked for: what its configuration comes to.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, TimeDelta, Utc};
use model::mapping::Mapping;
use reqwest::Url;
use secrecy::ExposeSecret;

use super::Trouble;
use super::paging::{Next, Paging};
use crate::Settings;
use crate::error::ConfigError;
use crate::guard::on_host_of;
use crate::settings::List;
use crate::template::Template;
use crate::validators::{self, fingerprint};

/// A list of one source.
pub(crate) struct Spec {
    pub list: List,
    pub mapping: Mapping,
    /// What lies in the records of this list.
    pub nested: Vec<Mapping>,
    pub paging: Paging,
    /// Fingerprint of all that decides what is asked for and read: under another the list is read from its beginning.
    pub rules: String,
    base: Url,
    /// For a page that no cursor leads to.
    first: Template,
    further: Template,
    has_since: bool,
}

impl Spec {
    /// All lists of a source.
    pub(crate) fn all(settings: &Settings) -> Result<Vec<Self>, ConfigError> {
        settings.lists.iter().map(|list| Self::new(settings, list)).collect()
    }

    fn new(settings: &Settings, list: &List) -> Result<Self, ConfigError> {
        let entity = list.entity.as_str();
        let mappings = settings.mappings();
        let mapping = mappings.iter().find(|mapping| mapping.entity() == list.entity).cloned();
        let mapping = mapping.ok_or(ConfigError::NoMapping(entity))?;
        let is_nested = |mapping: &&Mapping| {
            !matches!(mapping, Mapping::Customer(_)) && mapping.request().is_none() && mapping.records().is_some()
        };
        let nested = match mapping {
            Mapping::Customer(_) => mappings.iter().filter(is_nested).cloned().collect(),
            _ => Vec::new(),
        };
        let key = format!("list.{entity}");
        let refuse = |problem: &str| ConfigError::Request { key: key.clone(), problem: problem.to_owned() };
        let has = |name: &str| list.request.contains(&format!("{{{name}}}"));
        let paging = match (&list.next, has("page"), has("cursor")) {
            (None, true, false) => Paging::Number { first: list.first_page },
            (Some(path), false, true) => Paging::Cursor { path: path.clone() },
            (Some(path), false, false) => Paging::Url { path: path.clone() },
            (None, false, false) => Paging::Link,
            (_, true, true) => return Err(refuse("contains {page} and {cursor}; keep one of them")),
            (Some(_), true, false) => return Err(refuse("contains {page}, which `next` is of no use with")),
            (None, false, true) => return Err(refuse("contains {cursor}; say by `next` where an answer has it")),
        };
        if StrftimeItems::new(&list.since_format).any(|item| item == Item::Error) {
            return Err(ConfigError::SinceFormat(entity));
        }
        let base = settings.base_url.expose_secret();
        let allowed = &["since", "page", "cursor"];
        let further = Template::of_list(base, &key, &list.request, allowed)?;
        let first = without_cursor(&list.request).ok_or_else(|| refuse("has {cursor} outside of its query"))?;
        let first = Template::of_list(base, &key, &first, allowed)?;
        let url = Url::parse(base).map_err(|_| ConfigError::BaseUrl)?;
        let asked = format!("{} {:?} {:?} {}", list.request, list.records, list.next, validators::rules(settings));
        let rules = fingerprint(settings, asked.as_bytes());
        let has_since = has("since");
        Ok(Self { list: list.clone(), mapping, nested, paging, rules, base: url, first, further, has_since })
    }

    /// The request, for origins of batches and dead letters.
    pub(crate) fn label(&self) -> &str {
        self.further.label()
    }

    /// The label of its requests in metrics, and its name in logs.
    pub(crate) fn name(&self) -> &'static str {
        match self.mapping {
            Mapping::Customer(_) => "list_customer",
            Mapping::Order(_) => "list_order",
            Mapping::Product(_) => "list_product",
            Mapping::Interaction(_) => "list_interaction",
        }
    }

    /// Whether a record may move from one page to another while the list is read, so that it is read twice. A list that is
    /// read as a whole every time shows next time what it did not show this time; a cursor keeps its place.
    pub(crate) fn can_shift(&self) -> bool {
        self.has_since && !matches!(self.paging, Paging::Cursor { .. })
    }

    /// The URL of a page; `None` for `next` is the first.
    pub(crate) fn url(&self, next: Option<&Next>, complete_until: Option<DateTime<Utc>>) -> Result<Url, Trouble> {
        if let Some(Next::Url(url)) = next {
            return self.of_our_host(url);
        }
        let overlap = TimeDelta::from_std(self.list.overlap).unwrap_or(TimeDelta::MAX);
        // Before the first round has come to its end: everything.
        let since = complete_until.and_then(|at| at.checked_sub_signed(overlap)).unwrap_or(DateTime::UNIX_EPOCH);
        let since = since.format(&self.list.since_format).to_string();
        let number = match next {
            Some(Next::Page(number)) => *number,
            _ => self.list.first_page,
        };
        let number = number.to_string();
        let mut values = vec![("since", since.as_str()), ("page", number.as_str())];
        let template = match next {
            Some(Next::Cursor(cursor)) => {
                values.push(("cursor", cursor));
                &self.further
            }
            _ => &self.first,
        };
        template.fill(&values).ok_or(Trouble::Next)
    }

    /// A URL that the source has named, if it is the source's own: our credentials go nowhere else.
    pub(crate) fn of_our_host(&self, url: &str) -> Result<Url, Trouble> {
        on_host_of(&self.base, url).ok_or(Trouble::Elsewhere)
    }
}

/// The request without the parameter that holds the cursor.
fn without_cursor(request: &str) -> Option<String> {
    if !request.contains("{cursor}") {
        return Some(request.to_owned());
    }
    let (path, query) = request.split_once('?')?;
    if path.contains("{cursor}") {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|parameter| !parameter.contains("{cursor}")).collect();
    Some(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use chrono_tz::Tz;
    use model::mapping::Context;
    use model::{CredentialKey, Credentials, Entity, InstallationKey, Limits};

    use super::*;

    pub(in super::super) fn list(request: &str, next: Option<&str>) -> List {
        List {
            entity: Entity::Customer,
            request: request.to_owned(),
            records: None,
            next: next.map(str::to_owned),
            first_page: 1,
            every: Duration::from_mins(5),
            overlap: Duration::from_mins(5),
            since_format: "%Y-%m-%dT%H:%M:%SZ".to_owned(),
            max_pages: 10,
        }
    }

    pub(in super::super) fn spec(list: List) -> Result<Spec, ConfigError> {
        let customer = serde_json::from_str(r#"{"external_id": "id"}"#).unwrap();
        let settings = Settings {
            source: "shop".to_owned(),
            base_url: "http://shop.test/api/".to_owned().into(),
            headers: std::collections::BTreeMap::new(),
            auth: None,
            private_addresses: false,
            requests_per_second: 1.0,
            concurrency: 1,
            refresh_every: Duration::from_hours(1),
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            max_body_bytes: 1000,
            breaker_failures: 1,
            breaker_cooldown: Duration::from_secs(1),
            customer: Some(customer),
            order: None,
            product: None,
            interaction: None,
            lists: vec![list],
            context: Context { credentials: Credentials::Drop, timezone: Tz::UTC },
            fingerprint_key: CredentialKey::new(&InstallationKey::new([7; 32])),
            limits: Limits::default(),
            ttl: Duration::from_hours(1),
        };
        Ok(Spec::all(&settings)?.remove(0))
    }

    fn url(spec: &Spec, next: Option<&Next>, until: Option<&str>) -> String {
        spec.url(next, until.map(|at| at.parse().unwrap())).unwrap().to_string()
    }

    #[test]
    fn a_page_is_asked_for_by_number_by_cursor_and_since_the_last_round_less_the_overlap() {
        let numbered = spec(list("/customers?page={page}&since={since}", None)).unwrap();
        assert_eq!(url(&numbered, None, None), "http://shop.test/api/customers?page=1&since=1970-01-01T00%3A00%3A00Z");
        assert_eq!(
            url(&numbered, Some(&Next::Page(7)), Some("2026-11-21T17:00:00Z")),
            "http://shop.test/api/customers?page=7&since=2026-11-21T16%3A55%3A00Z"
        );
        let by_cursor = spec(list("/customers?limit=9&after={cursor}", Some("meta.next"))).unwrap();
        assert_eq!(url(&by_cursor, None, None), "http://shop.test/api/customers?limit=9");
        let cursor = Next::Cursor("a&b=/?".to_owned());
        assert_eq!(url(&by_cursor, Some(&cursor), None), "http://shop.test/api/customers?limit=9&after=a%26b%3D%2F%3F");
        let only = spec(list("/customers?after={cursor}", Some("next"))).unwrap();
        assert_eq!(url(&only, None, None), "http://shop.test/api/customers");
        let millis = List { since_format: "%s%3f".to_owned(), ..list("/customers?since={since}", None) };
        let millis = spec(millis).unwrap();
        assert_eq!(
            url(&millis, None, Some("2001-09-09T01:51:40.5Z")),
            "http://shop.test/api/customers?since=1000000000500"
        );
    }

    #[test]
    fn a_next_page_on_another_host_is_not_asked_for() {
        let spec = spec(list("/customers", None)).unwrap();
        for (url, expected) in [
            ("http://shop.test/api/customers?page=2#x", Some("http://shop.test/api/customers?page=2")),
            ("http://shop.test:80/x", Some("http://shop.test/x")),
            ("/other?page=2", Some("http://shop.test/other?page=2")),
            ("?page=2", Some("http://shop.test/api/?page=2")),
            ("//evil.test/customers", None),
            ("http://evil.test/customers", None),
            ("http://shop.test.evil.test/", None),
            ("http://shop.test@evil.test/", None),
            ("http://user:pw@shop.test/", None),
            ("https://shop.test/", None),
            ("http://shop.test:8080/", None),
            ("http://169.254.169.254/latest/meta-data", None),
            ("http://[::ffff:127.0.0.1]/", None),
            ("file:///etc/passwd", None),
            ("data:application/json,[]", None),
        ] {
            let found = spec.of_our_host(url);
            assert_eq!(found.as_ref().ok().map(Url::as_str), expected, "{url}");
            assert!(expected.is_some() || matches!(found, Err(Trouble::Elsewhere)), "{url}");
        }
    }

    #[test]
    fn lists_that_cannot_work_are_refused_with_what_is_wrong() {
        let refused = |list: List| spec(list).err().unwrap().to_string();
        for (request, next, expected) in [
            ("customers", None, "list.customer.request must begin with /"),
            (
                "/c?e={email}",
                None,
                "list.customer.request contains {email}; it may contain {since} or {page} or {cursor}",
            ),
            (
                "/c?p={page}&c={cursor}",
                Some("n"),
                "list.customer.request contains {page} and {cursor}; keep one of them",
            ),
            ("/c?p={page}", Some("n"), "list.customer.request contains {page}, which `next` is of no use with"),
            ("/c?c={cursor}", None, "list.customer.request contains {cursor}; say by `next` where an answer has it"),
            ("/c/{cursor}", Some("n"), "list.customer.request has {cursor} outside of its query"),
        ] {
            assert_eq!(refused(list(request, next)), expected);
        }
        let format = List { since_format: "%Q".to_owned(), ..list("/c?s={since}", None) };
        assert_eq!(refused(format), "list.customer.since_format is no strftime format");
        let order = List { entity: Entity::Order, ..list("/c", None) };
        assert_eq!(refused(order), "list.order needs the mapping order");
    }
}
