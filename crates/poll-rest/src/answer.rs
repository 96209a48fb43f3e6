//! From the body of an answer to records. Pure: a bad answer is data.

use chrono::{DateTime, Utc};
use model::mapping::{Context, Mapping};
use model::{
    Decisions, Fields, Guards, Limits, MatchKey, Operation, OrderFields, Position, Reason, Record, Reject, inspect,
    redact_credential,
};
use serde_json::value::RawValue;

/// A record, or what is wrong with it.
#[derive(Debug)]
pub(crate) enum One {
    /// A record.
    Record(Record),
    /// Something that was meant as a record and cannot be one.
    Bad(Bad),
    /// No record at all: nothing, null, an empty object, an error message. Nobody can tell what it says.
    Unusable(Bad),
}

/// A record to be: the bytes, why it cannot be one, and its id where that could be read.
#[derive(Debug, PartialEq)]
pub(crate) struct Bad {
    pub reject: Reject,
    pub bytes: Vec<u8>,
    pub external_id: Option<String>,
}

/// The elements of a list, or why it is none.
#[derive(Debug)]
pub(crate) enum Elements {
    /// Each by itself: a bad one does not stop its neighbours.
    Each(Vec<One>),
    /// Not a list.
    Bad(Bad),
    /// No list at all; see [`One::Unusable`].
    Unusable,
}

/// What reading an answer needs beside it.
pub(crate) struct Reader<'a> {
    pub context: &'a Context,
    pub limits: Limits,
    pub mapping: &'a Mapping,
}

impl Reader<'_> {
    /// Reads an answer that is one object.
    pub(crate) fn one(&self, body: &[u8], at: DateTime<Utc>) -> One {
        let bad = |reject| Bad { reject, bytes: body.to_vec(), external_id: None };
        match raw(body) {
            Ok(raw) => self.object(raw.get(), at),
            Err(reject) if body.trim_ascii().is_empty() => One::Unusable(bad(reject)),
            Err(reject) => One::Bad(bad(reject)),
        }
    }

    /// Reads an answer that is a list of objects.
    pub(crate) fn list(&self, body: &[u8], at: DateTime<Utc>) -> Elements {
        let bad = |reject| Elements::Bad(Bad { reject, bytes: body.to_vec(), external_id: None });
        let raw = match raw(body) {
            Ok(raw) => raw.get(),
            Err(_) if body.trim_ascii().is_empty() => return Elements::Unusable,
            Err(reject) => return bad(reject),
        };
        if raw.starts_with(['n', '{']) {
            return Elements::Unusable;
        }
        match serde_json::from_str::<Vec<&RawValue>>(raw) {
            Ok(elements) => Elements::Each(elements.iter().map(|element| self.object(element.get(), at)).collect()),
            Err(_) => bad(Reject::new(Reason::UnknownShape, "not a list")),
        }
    }

    fn object(&self, raw: &str, at: DateTime<Utc>) -> One {
        let letter = |reject, external_id| Bad { reject, bytes: raw.as_bytes().to_vec(), external_id };
        let bad = |reject, external_id| One::Bad(letter(reject, external_id));
        if raw.starts_with('n') {
            return One::Unusable(letter(Reject::new(Reason::UnknownShape, "null is no record"), None));
        }
        if let Err(reject) = inspect(raw.as_bytes(), self.limits) {
            return bad(reject, None);
        }
        let Ok(fields) = Fields::from_json(raw, None) else {
            return bad(Reject::new(Reason::UnknownShape, "not an object"), None);
        };
        let id = self.mapping.id_columns().read(&fields);
        if id.keeps() || id.clears() {
            let detail = format!("column {} has no value", self.mapping.id_columns().label());
            return One::Unusable(letter(Reject::new(Reason::NoExternalId, detail), None));
        }
        let mapped = match self.mapping.map(&fields, self.context) {
            Ok(mapped) => mapped,
            Err(reject) => return bad(reject, id.text().map(std::borrow::Cow::into_owned)),
        };
        let payload = match self.mapping.credential_column() {
            Some(column) => redact_credential(raw, column, &self.context.credentials).map(std::borrow::Cow::into_owned),
            None => Ok(raw.to_owned()),
        };
        let Ok(payload) = payload else {
            return bad(Reject::new(Reason::NotJson, "not valid JSON"), None);
        };
        One::Record(Record {
            operation: Operation::Upsert,
            mapped,
            position: Position::rest(at),
            observed_at: at,
            moved_to: None,
            payload: Some(payload),
        })
    }
}

/// The one JSON value that a body is.
fn raw(body: &[u8]) -> Result<&RawValue, Reject> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = std::str::from_utf8(body)
        .map_err(|error| Reject::new(Reason::NotUtf8, format!("invalid at byte {}", error.valid_up_to())))?;
    // The text of the error is left out: it can quote.
    serde_json::from_str(text).map_err(|_| Reject::new(Reason::NotJson, "not valid JSON"))
}

/// Whether two emails have one match key.
pub(crate) fn same_email(one: &str, other: &str) -> bool {
    let Ok(guards) = Guards::new::<&str>(&[], usize::MAX) else { return one == other };
    let key = |email: &str| MatchKey::of_email(email, &guards, &Decisions::default());
    one == other || matches!((key(one), key(other)), (Ok(one), Ok(other)) if one == other)
}

/// Gives an order that does not name its customer the one whom it was asked for, and returns the products that it names.
pub(crate) fn complete_order(record: &mut Record, customer: &str) -> Vec<String> {
    // What the mapping has just written reads back.
    let Ok(mut order) = serde_json::from_str::<OrderFields>(&record.mapped.attributes) else { return Vec::new() };
    if order.customer_external_id.is_none() {
        order.customer_external_id = Some(customer.to_owned());
        if let Ok(attributes) = serde_json::to_string(&order) {
            record.mapped.attributes = attributes;
        }
    }
    order.lines.into_iter().flatten().filter_map(|line| line.product_id).collect()
}

/// A time later than `last`, so that a clock that was set back does not make new answers look old.
pub(crate) fn position_time(at: DateTime<Utc>, last: Option<DateTime<Utc>>) -> DateTime<Utc> {
    let at = DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at);
    last.map_or(at, |last| at.max(last + chrono::TimeDelta::microseconds(1)))
}

/// Whether a mapped email says nothing: absent, null or empty. Then it is the one that was asked for.
pub(crate) fn no_email(email: Option<&str>) -> bool {
    email.is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Tz;
    use model::mapping::{Columns, CustomerMapping, LinesMapping, OrderMapping};
    use model::{Credentials, InstallationKey};

    fn context() -> Context {
        Context { credentials: Credentials::digest(&InstallationKey::new([1; 32])), timezone: Tz::UTC }
    }

    fn column(name: &str) -> Columns {
        Columns::One(name.to_owned())
    }

    fn customer() -> Mapping {
        Mapping::Customer(CustomerMapping {
            topics: Vec::new(),
            request: None,
            external_id: column("Id"),
            email: Some(column("Email")),
            credential: Some("Password".to_owned()),
            version: None,
            attributes: [("name".to_owned(), column("Name"))].into(),
        })
    }

    fn order() -> Mapping {
        Mapping::Order(OrderMapping {
            topics: Vec::new(),
            request: None,
            order_id: column("OrderId"),
            customer_external_id: column("CustomerId"),
            purchased_at: None,
            total: None,
            version: None,
            lines: Some(LinesMapping {
                path: "Items".to_owned(),
                product_id: "ProductId".to_owned(),
                quantity: "Quantity".to_owned(),
                unit_price: "Price".to_owned(),
            }),
        })
    }

    fn read(body: &[u8]) -> One {
        let (context, mapping) = (context(), customer());
        Reader { context: &context, limits: Limits::default(), mapping: &mapping }.one(body, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_customer_is_landed_as_it_came_except_for_the_password() {
        let body = "\u{feff} {\"Id\":1 , \"Name\":\"Ann\",\"Email\":\"a@x\",\"Password\":\"s3cret\",\"N\":1e400} ";
        let One::Record(record) = read(body.as_bytes()) else { panic!("a record") };
        let payload = record.payload.unwrap();
        assert!(payload.starts_with("{\"Id\":1 , \"Name\":\"Ann\"") && payload.ends_with("\"N\":1e400}"), "{payload}");
        assert!(!payload.contains("s3cret"));
        assert!(payload.contains(record.mapped.credential.as_deref().unwrap()));
        assert_eq!(record.mapped.external_id.to_json(), 1);
        assert_eq!(record.mapped.attributes, r#"{"name":"Ann"}"#);
    }

    #[test]
    fn what_names_nobody_is_unusable_and_what_cannot_be_mapped_is_bad() {
        for body in ["", " ", "null", "{}", r#"{"error":"no database"}"#, r#"{"Id":null,"Name":null}"#, r#"{"Id":""}"#]
        {
            assert!(matches!(read(body.as_bytes()), One::Unusable(_)), "{body}");
        }
        for (body, reason) in [
            (&b"<html>"[..], Reason::NotJson),
            (b"{\"Id\":1", Reason::NotJson),
            (b"{\"Id\":1} {}", Reason::NotJson),
            (b"\xff\xfe{}", Reason::NotUtf8),
            (b"[1]", Reason::UnknownShape),
            (b"7", Reason::UnknownShape),
            (b"{\"Id\":1.5}", Reason::BadExternalId),
            (b"{\"Id\":1,\"Name\":\"\\u0000\"}", Reason::Nul),
            (b"{\"Id\":1,\"Name\":\"\\ud83d\"}", Reason::LoneSurrogate),
        ] {
            let One::Bad(bad) = read(body) else { panic!("{body:?} is bad") };
            assert_eq!((bad.reject.reason, &bad.bytes[..]), (reason, body));
        }
        let deep = format!("{{\"Id\":1,\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(read(deep.as_bytes()), One::Bad(bad) if bad.reject.reason == Reason::TooDeep));
    }

    #[test]
    fn a_bad_order_does_not_stop_its_neighbours() {
        let (context, mapping) = (context(), order());
        let reader = Reader { context: &context, limits: Limits::default(), mapping: &mapping };
        let body = br#"[{"OrderId":1,"Items":[{"ProductId":200,"Quantity":2,"Price":87.81}]},
            {"OrderId":2,"CustomerId":9,"Items":[{"ProductId":201,"Quantity":"two"}]}, {"OrderId":3,"CustomerId":9}, null]"#;
        let Elements::Each(elements) = reader.list(body, DateTime::UNIX_EPOCH) else { panic!("a list") };
        let [One::Record(mut first), One::Bad(second), One::Record(third), One::Unusable(_)] =
            <[One; 4]>::try_from(elements).unwrap()
        else {
            panic!("good, bad, good, nothing")
        };
        assert_eq!((second.reject.reason, second.external_id.as_deref()), (Reason::BadValue, Some("2")));
        assert_eq!(complete_order(&mut first, "1"), ["200"]);
        assert!(first.mapped.attributes.contains(r#""customer_external_id":"1""#), "{}", first.mapped.attributes);
        assert!(third.mapped.attributes.contains(r#""customer_external_id":"9""#));
        for (body, unusable) in [("null", true), ("{\"error\":1}", true), ("7", false), ("[1", false)] {
            match reader.list(body.as_bytes(), DateTime::UNIX_EPOCH) {
                Elements::Unusable => assert!(unusable, "{body}"),
                Elements::Bad(_) => assert!(!unusable, "{body}"),
                Elements::Each(_) => panic!("{body} is no list"),
            }
        }
    }

    #[test]
    fn emails_are_the_same_when_their_match_keys_are() {
        assert!(same_email("Ann@X.com ", "mailto:ann@x.com"));
        assert!(!same_email("ann@x.com", "bob@x.com"));
        assert!(!same_email("n/a", "none"));
    }

    #[test]
    fn positions_grow_even_when_the_clock_is_set_back() {
        let last = DateTime::from_timestamp_micros(1_000_000).unwrap();
        let earlier = DateTime::from_timestamp_micros(5).unwrap();
        assert!(Position::rest(position_time(earlier, Some(last))) > Position::rest(last));
        assert_eq!(position_time(last, Some(earlier)), last);
        assert_eq!(position_time(last, None), last);
    }
}
