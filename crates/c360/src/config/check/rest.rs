//! What must fit together in a REST source. What its ingester refuses is refused here, so that `config check` says it.

use std::time::Duration;

use model::InstallationKey;
use model::mapping::Mapping;
use secrecy::ExposeSecret;

use super::{Checks, is_http, word};
use crate::config::source::{List, Rest, Source};
use crate::sources::{Ingester, ingester};

impl Checks<'_> {
    pub(super) fn rest(&mut self, name: &str, source: &Source, rest: &Rest, mappings: &[Mapping]) {
        let before = self.report.len();
        let key = |key| ["sources", name, key];
        self.require(is_http(&rest.base_url), &key("base_url"), "is required, and begins with http:// or https://");
        let message = "must not hold a user or a password; use `basic`";
        self.require(!has_user(&rest.base_url), &key("base_url"), message);
        let rate = rest.requests_per_second;
        self.require(rate.is_finite() && rate > 0.0, &key("requests_per_second"), "must be more than 0");
        self.require((1..=1024).contains(&rest.concurrency), &key("concurrency"), "must be from 1 to 1024");
        self.require(rest.max_body_bytes > 0, &key("max_body_bytes"), "must be more than 0");
        self.require(rest.breaker_failures > 0, &key("breaker_failures"), "must be at least 1");
        let times = [
            ("refresh_every", rest.refresh_every),
            ("connect_timeout", rest.connect_timeout),
            ("read_timeout", rest.read_timeout),
            ("timeout", rest.timeout),
            ("breaker_cooldown", rest.breaker_cooldown),
        ];
        for (word, time) in times {
            self.require(time > Duration::ZERO, &key(word), "must be more than 0");
        }
        self.authentication(name, rest);
        for mapping in mappings {
            self.way_to(name, rest, mapping);
        }
        for (entity, list) in rest.list.each() {
            self.list(name, entity.as_str(), list, mappings);
        }
        if self.report.len() == before {
            self.ingester(name, source);
        }
    }

    fn authentication(&mut self, name: &str, rest: &Rest) {
        let ways = [rest.bearer_token.is_some(), rest.basic.is_some(), rest.oauth2.is_some()];
        let is_empty = rest.bearer_token.as_ref().is_some_and(|token| token.expose_secret().is_empty());
        self.require(!is_empty, &["sources", name, "bearer_token"], "is empty");
        let message = "has several of `bearer_token`, `basic` and `oauth2`; keep one";
        self.require(ways.into_iter().filter(|set| *set).count() <= 1, &["sources", name], message);
        if let Some(oauth2) = &rest.oauth2 {
            let fits = is_http(&oauth2.token_url) && !has_user(&oauth2.token_url);
            let message = "must begin with http:// or https://, without user and password";
            self.require(fits, &["sources", name, "oauth2", "token_url"], message);
            self.require(!oauth2.client_id.is_empty(), &["sources", name, "oauth2", "client_id"], "must not be empty");
        }
    }

    /// A mapping has a request, a list, or lies in the records of customers.
    fn way_to(&mut self, name: &str, rest: &Rest, mapping: &Mapping) {
        let word = word(mapping);
        let places: &[&str] = match mapping {
            Mapping::Customer(_) => &["{email}"],
            Mapping::Order(_) => &["{external_id}", "{email}"],
            Mapping::Product(_) => &["{product_id}"],
            Mapping::Interaction(_) => &["{email}", "{external_id}"],
        };
        let is_nested = !matches!(mapping, Mapping::Customer(_)) && mapping.records().is_some();
        let has_list = rest.list.each().any(|(entity, _)| entity.as_str() == word);
        let request = mapping.request().unwrap_or_default();
        let fits = request.starts_with('/') && places.iter().any(|place| request.contains(place));
        let places = places.join(" or ");
        let message = match mapping {
            Mapping::Customer(_) => {
                format!("is required, or [sources.{name}.list.{word}]: a path that begins with / and holds {places}")
            }
            _ => format!(
                "is required, or [sources.{name}.list.{word}], or `records` where customers have them: a path that begins \
                 with / and holds {places}"
            ),
        };
        let is_reached = mapping.request().is_none() && (has_list || is_nested);
        self.require(is_reached || fits, &["sources", name, word, "request"], &message);
        self.require(mapping.records() != Some(""), &["sources", name, word, "records"], "must not be empty");
        let message = format!("is for the `request`; where a page has its records goes to `list.{word}.records`");
        let is_stray = matches!(mapping, Mapping::Customer(_)) && mapping.request().is_none();
        self.require(!(is_stray && mapping.records().is_some()), &["sources", name, word, "records"], &message);
    }

    fn list(&mut self, name: &str, entity: &str, list: &List, mappings: &[Mapping]) {
        let key = |key| ["sources", name, "list", entity, key];
        let message = format!("needs the mapping [sources.{name}.{entity}]");
        self.require(mappings.iter().any(|mapping| word(mapping) == entity), &key("request")[..4], &message);
        self.require(list.every != Some(Duration::ZERO), &key("every"), "must be more than 0");
        self.require(list.max_pages > 0, &key("max_pages"), "must be at least 1");
        for (word, path) in [("records", &list.records), ("next", &list.next)] {
            self.require(path.as_deref() != Some(""), &key(word), "must not be empty");
        }
    }

    /// What is left, in the words of whoever asks.
    fn ingester(&mut self, name: &str, source: &Source) {
        // Nothing is read here, so that any key does.
        let Ok(Ingester::Rest(settings)) = ingester(name, source, &InstallationKey::new([0; 32])) else { return };
        let Err(error) = poll_rest::check(&settings) else { return };
        let (below, text) = (error.key(), error.to_string());
        let key: Vec<&str> = ["sources", name].into_iter().chain(below.split('.')).filter(|k| !k.is_empty()).collect();
        self.problem(&key, text.strip_prefix(below.as_str()).unwrap_or(&text).trim_start_matches([' ', ':']));
    }
}

pub(super) fn has_user(url: &str) -> bool {
    url.split('/').nth(2).unwrap_or_default().contains('@')
}
