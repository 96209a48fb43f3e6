//! From one page to the next: what an answer says of it, and what never ends.

use std::collections::HashSet;

use model::{Field, Fields};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Trouble;

/// How a list is paged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Paging {
    /// By numbers, up to a page without records.
    Number { first: u32 },
    /// By a cursor that the answer has at this path.
    Cursor { path: String },
    /// By the URL of the next page that the answer has at this path.
    Url { path: String },
    /// By a header `Link` with `rel="next"` (RFC 8288). An answer without one is the last page.
    Link,
}

/// How the next page is asked for; the content of `lists.next_page`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Next {
    Page(u32),
    Cursor(String),
    Url(String),
}

impl Paging {
    /// What follows the page that was asked for by `asked`; `None` behind the last one.
    pub(crate) fn next(
        &self,
        asked: Option<&Next>,
        (body, link): (&str, Option<&str>),
        records: usize,
    ) -> Result<Option<Next>, Trouble> {
        match self {
            Self::Number { .. } if records == 0 => Ok(None),
            Self::Number { first } => {
                let number = match asked {
                    Some(Next::Page(number)) => *number,
                    _ => *first,
                };
                Ok(Some(Next::Page(number.checked_add(1).ok_or(Trouble::Next)?)))
            }
            Self::Cursor { path } => Ok(word(body, path)?.map(Next::Cursor)),
            Self::Url { path } => Ok(word(body, path)?.map(Next::Url)),
            Self::Link => Ok(link.and_then(next_of_links).map(Next::Url)),
        }
    }
}

/// The cursor or URL at a path of the answer: a text or a number. Null, false, "" and nothing at all end the list.
fn word(body: &str, path: &str) -> Result<Option<String>, Trouble> {
    // An answer that is a list, and no object, cannot have it.
    let Ok(fields) = Fields::from_json(body, None) else { return Ok(None) };
    match fields.get(path) {
        Field::Absent | Field::Unavailable | Field::Null | Field::Json("false") => Ok(None),
        Field::Text(text) => Ok(Some(text.into_owned()).filter(|text| !text.is_empty())),
        Field::Json(raw) if raw.starts_with(|c: char| c.is_ascii_digit()) => Ok(Some(raw.to_owned())),
        Field::Json(_) => Err(Trouble::Next),
    }
}

/// The target of the first link whose relation is `next`.
pub(crate) fn next_of_links(header: &str) -> Option<String> {
    let mut rest = header;
    loop {
        let (_, behind) = rest.split_once('<')?;
        let (target, behind) = behind.split_once('>')?;
        let end = end_of_parameters(behind);
        if parameters(&behind[..end]).any(is_next) {
            return Some(target.trim().to_owned());
        }
        rest = &behind[end..];
    }
}

/// Where the parameters of a link end: at a comma outside of quotes.
fn end_of_parameters(text: &str) -> usize {
    let mut is_quoted = false;
    let end = text.char_indices().find(|(_, c)| {
        is_quoted ^= *c == '"';
        *c == ',' && !is_quoted
    });
    end.map_or(text.len(), |(at, _)| at)
}

/// The parameters of a link: semicolons part them outside of quotes.
fn parameters(text: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '"';
        c == ';' && !is_quoted
    })
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let relations = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("rel")
        && relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
}

/// What has come in this pass: a list that comes back to where it was never ends.
#[derive(Default)]
pub(crate) struct Seen {
    pages: HashSet<[u8; 32]>,
    asked: HashSet<[u8; 32]>,
}

impl Seen {
    /// Whether the list goes in a circle: a page with the same records as another one, or a next page that was asked for
    /// before. `records` is the text of the page's records, `None` of an empty page: those may be alike. A cursor that
    /// stays the same over an empty page is how some sources say that there is no more.
    pub(crate) fn judge(
        &mut self,
        asked: Option<&Next>,
        next: Option<Next>,
        records: Option<&[u8]>,
    ) -> Result<Option<Next>, Trouble> {
        if let Some(records) = records
            && !self.pages.insert(Sha256::digest(records).into())
        {
            return Err(Trouble::Loop);
        }
        self.asked.insert(digest(asked));
        match next {
            Some(next) if records.is_none() && asked == Some(&next) => Ok(None),
            Some(next) if self.asked.contains(&digest(Some(&next))) => Err(Trouble::Loop),
            next => Ok(next),
        }
    }
}

/// Of a long list, cursors would fill the memory.
fn digest(next: Option<&Next>) -> [u8; 32] {
    Sha256::digest(serde_json::to_vec(&next).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_they_are_written() {
        for (header, expected) in [
            (r#"<http://x/2>; rel="next""#, Some("http://x/2")),
            (r#"<http://x/1>; rel="prev", <http://x/3>; rel="next", <http://x/9>; rel="last""#, Some("http://x/3")),
            ("</2>;rel=next", Some("/2")),
            (r#"<http://x/a,b;c>; title="a, b"; REL="Next last""#, Some("http://x/a,b;c")),
            (r#"<http://x/1>; title="rel=next, <y>; rel=next"; rel=prev"#, None),
            (r#"<http://x/1>; rel="nextish""#, None),
            ("<http://x/1", None),
            ("", None),
        ] {
            assert_eq!(next_of_links(header).as_deref(), expected, "{header}");
        }
    }

    #[test]
    fn a_cursor_is_a_text_or_a_number_and_nothing_ends_the_list() {
        let paging = Paging::Cursor { path: "meta.next".to_owned() };
        let next = |body: &str| paging.next(None, (body, None), 3).map_err(|_| "refused");
        let cursor = |text: &str| Ok(Some(Next::Cursor(text.to_owned())));
        for (body, expected) in [
            (r#"{"meta":{"next":"a/b=="}}"#, cursor("a/b==")),
            (r#"{"meta":{"next":17}}"#, cursor("17")),
            (r#"{"meta":{"next":null}}"#, Ok(None)),
            (r#"{"meta":{"next":""}}"#, Ok(None)),
            (r#"{"meta":{"next":false}}"#, Ok(None)),
            (r#"{"meta":{}}"#, Ok(None)),
            ("[]", Ok(None)),
            (r#"{"meta":{"next":{"after":1}}}"#, Err("refused")),
            (r#"{"meta":{"next":true}}"#, Err("refused")),
        ] {
            assert_eq!(next(body), expected, "{body}");
        }
    }

    #[test]
    fn numbers_go_on_up_to_a_page_without_records() {
        let paging = Paging::Number { first: 0 };
        let next = |asked: Option<&Next>, records| paging.next(asked, ("[]", None), records).unwrap();
        assert_eq!(next(None, 3), Some(Next::Page(1)));
        assert_eq!(next(Some(&Next::Page(1)), 1), Some(Next::Page(2)));
        assert_eq!(next(Some(&Next::Page(2)), 0), None);
        assert!(paging.next(Some(&Next::Page(u32::MAX)), ("[]", None), 1).is_err());
    }

    #[test]
    fn a_list_that_goes_in_a_circle_is_noticed() {
        let cursor = |text: &str| Some(Next::Cursor(text.to_owned()));
        let judge = |pages: &[(Option<Next>, Option<&[u8]>)]| {
            let (mut seen, mut asked) = (Seen::default(), None);
            for (index, (next, records)) in pages.iter().enumerate() {
                match seen.judge(asked.as_ref(), next.clone(), *records) {
                    Ok(None) => return format!("ends with page {}", index + 1),
                    Ok(next) => asked = next,
                    Err(_) => return format!("loops at page {}", index + 1),
                }
            }
            "goes on".to_owned()
        };
        let (a, b, c) = (Some(&b"a"[..]), Some(&b"b"[..]), Some(&b"c"[..]));
        assert_eq!(judge(&[(cursor("1"), a), (cursor("2"), b), (None, c)]), "ends with page 3");
        assert_eq!(judge(&[(cursor("1"), a), (cursor("2"), b), (cursor("1"), c)]), "loops at page 3");
        assert_eq!(judge(&[(cursor("1"), a), (cursor("1"), b)]), "loops at page 2");
        assert_eq!(judge(&[(cursor("1"), a), (cursor("2"), a)]), "loops at page 2");
        assert_eq!(judge(&[(cursor("1"), a), (cursor("1"), None)]), "ends with page 2");
        assert_eq!(judge(&[(cursor("1"), None), (cursor("2"), None), (cursor("3"), a)]), "goes on");
    }
}
