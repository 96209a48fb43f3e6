//! The query of a request, taken apart parameter by parameter: nothing that was asked for is silently left out.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, TimeDelta, Utc};

use crate::problem::Problem;

const DEFAULT_LIMIT: u32 = 50;
pub(crate) const MAX_LIMIT: u32 = 200;
const MAX_WORDS_CHARS: usize = 200;
/// What only says how an answer is cut, not what it is about.
const OF_PAGING: [&str; 4] = ["cursor", "limit", "count", "fields"];

/// What is left to take.
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    scope: String,
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(parts.uri.path(), parts.uri.query().unwrap_or_default())
    }
}

impl Params {
    /// The parameters of a request for this path.
    pub(crate) fn read(path: &str, query: &str) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        if let Some((name, _)) = pairs.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
            return Err(Problem::bad(name.replace('\0', ""), "text without the character NUL"));
        }
        let about: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let scope = Self::scope_of(path, &about);
        Ok(Self { pairs, scope })
    }

    /// The scope of a request with these parameters.
    pub(crate) fn scope_of(path: &str, pairs: &[(&str, &str)]) -> String {
        let mut about: Vec<_> = pairs.iter().filter(|(name, _)| !OF_PAGING.contains(name)).collect();
        about.sort();
        format!("{path}?{about:?}")
    }

    /// Makes it a request for this path: before anything is taken, for a path that can be written in several ways.
    pub(crate) fn at(mut self, path: &str) -> Self {
        let pairs: Vec<(&str, &str)> = self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.scope = Self::scope_of(path, &pairs);
        self
    }

    /// What the request is about, whatever page of it: cursors belong to it.
    pub(crate) fn scope(&self) -> &str {
        &self.scope
    }

    /// All values of a parameter.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        self.pairs.extract_if(.., |(named, _)| named == name).map(|(_, value)| value).collect()
    }

    /// The value of a parameter that may be given once; an empty one is none.
    pub(crate) fn one(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.all(name);
        match values.len() {
            0 | 1 => Ok(values.pop().filter(|value| !value.is_empty())),
            _ => Err(Problem::bad(name, "one value")),
        }
    }

    /// Words to search for, if there are any.
    pub(crate) fn words(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let words = self.one(name)?.filter(|words| !words.trim().is_empty());
        match words.as_ref().map(|words| words.chars().count()) {
            Some(chars) if chars > MAX_WORDS_CHARS => {
                Err(Problem::bad(name, format!("at most {MAX_WORDS_CHARS} characters")))
            }
            _ => Ok(words),
        }
    }

    pub(crate) fn limit(&mut self) -> Result<u32, Problem> {
        let Some(limit) = self.one("limit")? else { return Ok(DEFAULT_LIMIT) };
        limit
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or_else(|| Problem::bad("limit", format!("a number from 1 to {MAX_LIMIT}")))
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.one(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::bad(name, "true or false")),
        }
    }

    /// A time, or a day for its first moment in UTC.
    pub(crate) fn time(&mut self, name: &str) -> Result<Option<DateTime<Utc>>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let time = DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc());
        let day = || text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN).and_utc());
        match time.or_else(|_| day()) {
            // Years of four digits, as RFC 3339 has them, are all times for Postgres, too.
            Ok(time) if (0..=9999).contains(&time.year()) => Ok(Some(time)),
            _ => Err(Problem::bad(name, "a time like 2026-11-29T08:30:00Z, or a day like 2026-11-29")),
        }
    }

    /// A time span.
    pub(crate) fn span(&mut self, name: &str) -> Result<Option<TimeDelta>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let span = humantime::parse_duration(&text).ok().and_then(|span| TimeDelta::from_std(span).ok());
        // More than that is before all times.
        let span = span.filter(|span| *span <= TimeDelta::days(36_500));
        span.map(Some).ok_or_else(|| Problem::bad(name, "a time span like 60s, 5m or 1h 30m"))
    }

    /// The values of a parameter of which each has to be one of these.
    pub(crate) fn any_of(&mut self, name: &str, allowed: &[&str]) -> Result<Vec<String>, Problem> {
        let values = self.all(name);
        if values.iter().all(|value| allowed.contains(&value.as_str())) {
            return Ok(values);
        }
        Err(Problem::bad(name, format!("any of {}", allowed.join(", "))))
    }

    /// What is left: for lists whose parameters are attributes.
    pub(crate) fn rest(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.pairs)
    }

    /// Refuses what nobody has taken.
    pub(crate) fn finish(mut self, allowed: &[&str]) -> Result<(), Problem> {
        match self.rest().first() {
            None => Ok(()),
            Some((name, _)) => Err(unknown(name, allowed.iter().copied())),
        }
    }
}

/// A parameter that does not exist; says the one that was probably meant.
pub(crate) fn unknown<'a>(name: &str, allowed: impl Iterator<Item = &'a str> + Clone) -> Problem {
    let near = allowed.clone().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    let meant = near.filter(|near| strsim::jaro(near, name) > 0.7);
    let meant = meant.map_or_else(|| ".".to_owned(), |near| format!("; did you mean `{near}`?"));
    let allowed: Vec<&str> = allowed.collect();
    let there_are =
        if allowed.is_empty() { "It takes none".to_owned() } else { format!("There are {}", allowed.join(", ")) };
    Problem::bad(name, format!("there is no such parameter{meant} {there_are}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::read("/customers", query).unwrap()
    }

    #[test]
    fn a_scope_is_the_same_for_all_pages_and_any_order() {
        let first = params("state=NH&sort=name&limit=5");
        assert_eq!(first.scope(), params("cursor=x&sort=name&state=NH&count=true").scope());
        assert_ne!(first.scope(), params("state=VT&sort=name").scope());
        assert_ne!(first.scope(), Params::read("/interactions", "state=NH&sort=name").unwrap().scope());
    }

    #[test]
    fn nothing_that_was_asked_for_is_left_out() {
        let mut asked = params("limit=7&q=a+b&q=c&count=true&form=2026-11-29");
        assert_eq!(asked.limit().unwrap(), 7);
        assert!(asked.flag("count").unwrap());
        assert!(asked.one("q").is_err());
        assert!(asked.finish(&["from", "to"]).is_err());
        assert!(Params::read("/", "q=%00").is_err());
        for limit in ["0", "201", "-1", "x"] {
            assert!(params(&format!("limit={limit}")).limit().is_err(), "{limit}");
        }
    }

    #[test]
    fn a_day_is_its_first_moment() {
        let day = params("from=2026-11-29").time("from").unwrap();
        assert_eq!(day, params("from=2026-11-29T01:00:00%2B01:00").time("from").unwrap());
        for time in ["yesterday", "-5000-01-01", "%2B10000-01-01"] {
            assert!(params(&format!("from={time}")).time("from").is_err(), "{time}");
        }
    }

    #[test]
    fn a_span_is_a_number_with_a_unit() {
        assert_eq!(params("max_age=1h+30m").span("max_age").unwrap(), Some(TimeDelta::minutes(90)));
        assert_eq!(params("max_age=0s").span("max_age").unwrap(), Some(TimeDelta::zero()));
        for span in ["60", "-1s", "soon", "500years", "99999999999999999999s"] {
            assert!(params(&format!("max_age={span}")).span("max_age").is_err(), "{span}");
        }
    }
}
