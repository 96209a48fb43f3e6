//! Reading an answer: whether it says that it is JSON, how long it asks us to wait, and no more of it than is allowed.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use model::{Reason, Reject};
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, LINK, RETRY_AFTER};

use crate::client::failure_of;
use crate::error::Failure;

/// The longest pause that a source can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// Whether the content type is some JSON, or absent.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return true };
    let Ok(value) = value.to_str() else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.is_empty() || matches!(essence.as_str(), "application/json" | "text/json") || essence.ends_with("+json")
}

/// The pause that the source asks for, in seconds or until a date; capped.
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        // A number beyond u64 is a long time too.
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => MAX_RETRY_AFTER,
        Err(_) => (http_date(text)? - now).to_std().unwrap_or_default(),
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

/// When the answer was made, by the source's clock.
pub(crate) fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    http_date(headers.get(DATE)?.to_str().ok()?.trim())
}

/// What the answer says about other pages.
pub(crate) fn link(headers: &HeaderMap) -> Option<String> {
    let links: Vec<&str> = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).collect();
    (!links.is_empty()).then(|| links.join(", "))
}

/// `Wed, 21 Oct 2015 07:28:00 GMT`, the one form that is still allowed to be sent.
fn http_date(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, "%a, %d %b %Y %H:%M:%S GMT").ok().map(|time| time.and_utc())
}

/// The body, decompressed, as long as it stays within the cap.
pub(crate) async fn read(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure_of(&error))? {
        let room = max_bytes - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            let reject = Reject::new(Reason::TooLarge, format!("more than {max_bytes} bytes"));
            return Err(Failure::TooLarge { reject, beginning: body });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn headers(name: reqwest::header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date_and_capped() {
        let now = DateTime::parse_from_rfc3339("2015-10-21T07:28:00Z").unwrap().to_utc();
        for (text, expected) in [
            ("7", Some(7)),
            ("3600", Some(60)),
            ("99999999999999999999999", Some(60)),
            ("Wed, 21 Oct 2015 07:28:09 GMT", Some(9)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("Mon, 21 Oct 2037 07:27:00 GMT", None),
            ("Fri, 23 Oct 2015 07:27:00 GMT", Some(60)),
            ("soon", None),
            ("", None),
        ] {
            let pause = retry_after(&headers(RETRY_AFTER, text), now);
            assert_eq!(pause, expected.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn json_goes_by_several_names() {
        for (text, expected) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("Application/HAL+JSON", true),
            ("text/json", true),
            ("text/html", false),
            ("application/octet-stream", false),
        ] {
            assert_eq!(is_json(&headers(CONTENT_TYPE, text)), expected, "{text}");
        }
        assert!(is_json(&HeaderMap::new()));
    }
}
