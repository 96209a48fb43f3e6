//! Requests as configured: a path with a query, and placeholders for what is asked about.

use model::mapping::{Part, parts};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

use crate::error::ConfigError;

/// Everything but what RFC 3986 calls unreserved.
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request with placeholders, behind the base URL.
#[derive(Clone)]
pub(crate) struct Template {
    /// `base_url` without a slash at its end.
    base: String,
    parts: Vec<Part>,
    /// The path, without query: what origins and logs name.
    label: String,
}

impl Template {
    /// Reads a template in which only `allowed` placeholders may stand, and at least one must. `key` is the mapping's.
    pub(crate) fn new(base_url: &str, key: &str, request: &str, allowed: &[&str]) -> Result<Self, ConfigError> {
        let template = Self::of_list(base_url, key, request, allowed)?;
        if template.parts.iter().any(|part| matches!(part, Part::Placeholder(_))) {
            return Ok(template);
        }
        let problem = format!("must contain {}", braced(allowed));
        Err(ConfigError::Request { key: key.to_owned(), problem })
    }

    /// As [`Template::new`], for a request that may do without placeholders.
    pub(crate) fn of_list(base_url: &str, key: &str, request: &str, allowed: &[&str]) -> Result<Self, ConfigError> {
        let problem = |problem: String| ConfigError::Request { key: key.to_owned(), problem };
        let base = base_url.trim_end_matches('/').to_owned();
        let parsed = Url::parse(&base).map_err(|_| ConfigError::BaseUrl)?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(ConfigError::BaseUrl);
        }
        if !request.starts_with('/') {
            return Err(problem("must begin with /".to_owned()));
        }
        let parts = parts(request).ok_or_else(|| problem("has a brace without its other half".to_owned()))?;
        let mut names = parts.iter().filter_map(|part| match part {
            Part::Placeholder(name) => Some(name.as_str()),
            Part::Text(_) => None,
        });
        if let Some(unknown) = names.find(|name| !allowed.contains(name)) {
            return Err(problem(format!("contains {{{unknown}}}; it may contain {}", braced(allowed))));
        }
        let label = request.split(['?', '#']).next().unwrap_or_default().to_owned();
        Ok(Self { base, parts, label })
    }

    /// The path of the request with its placeholders, without its query.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The URL for these values. `None` when a value is missing, or would climb the path (`.` and `..` mean something to
    /// every URL parser, however they are encoded).
    pub(crate) fn fill(&self, values: &[(&str, &str)]) -> Option<Url> {
        let mut url = self.base.clone();
        for part in &self.parts {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Placeholder(name) => {
                    let (_, value) = values.iter().find(|(known, _)| known == name)?;
                    if matches!(*value, "" | "." | "..") {
                        return None;
                    }
                    url.extend(utf8_percent_encode(value, RESERVED));
                }
            }
        }
        Url::parse(&url).ok()
    }
}

fn braced(names: &[&str]) -> String {
    names.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(request: &str) -> Result<Template, ConfigError> {
        Template::new("http://store.test/base/", "customer", request, &["email"])
    }

    #[test]
    fn odd_emails_are_one_value_of_the_query_and_nothing_else() {
        let template = template("/get?customerEmail={email}&all=1").unwrap();
        for (email, expected) in [
            ("matthew.groves@couchbase.com", "matthew.groves%40couchbase.com"),
            ("a+b&c=d/é@x.com", "a%2Bb%26c%3Dd%2F%C3%A9%40x.com"),
            ("#?% \"'@x.com", "%23%3F%25%20%22%27%40x.com"),
            ("../../x@y", "..%2F..%2Fx%40y"),
        ] {
            let url = template.fill(&[("email", email)]).unwrap();
            assert_eq!(url.as_str(), format!("http://store.test/base/get?customerEmail={expected}&all=1"));
            assert_eq!(url.query_pairs().next().unwrap().1, email);
        }
        assert_eq!(template.label(), "/get");
    }

    #[test]
    fn a_value_in_the_path_never_leaves_its_segment() {
        let template = template("/customers/{email}/orders").unwrap();
        assert_eq!(template.fill(&[("email", "a/../b")]).unwrap().path(), "/base/customers/a%2F..%2Fb/orders");
        assert!(template.fill(&[("email", "..")]).is_none());
        assert!(template.fill(&[("email", "")]).is_none());
    }

    #[test]
    fn templates_that_cannot_work_are_refused_with_what_is_wrong() {
        for (request, expected) in [
            ("get?e={email}", "customer.request must begin with /"),
            ("/get", "customer.request must contain {email}"),
            ("/get?e={mail}", "customer.request contains {mail}; it may contain {email}"),
            ("/get?e={email", "customer.request has a brace without its other half"),
        ] {
            assert_eq!(template(request).err().unwrap().to_string(), expected);
        }
        assert!(Template::new("ftp://x", "customer", "/{email}", &["email"]).is_err());
        assert!(Template::new("http://x/?token=1", "customer", "/{email}", &["email"]).is_err());
    }
}
