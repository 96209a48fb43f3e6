//! From the body of an answer to records. Pure: a bad answer is data.

use chrono::{DateTime, Utc};
use model::mapping::{Context, Mapping};
use model::{
    Field, Fields, Limits, MatchKey, Operation, OrderFields, Position, Reason, Record, Reject, inspect,
    redact_credential,
};
use serde::{Deserialize, Serialize};
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
    pub form: Form,
}

/// What the bytes of a [`Bad`] are, for whoever reads them again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Form {
    /// The record by itself.
    Record,
    /// A body that should have one record.
    One,
    /// A body that should have a list of them.
    List,
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
    /// Reads an answer about one thing: an object, or a list of those that were found.
    pub(crate) fn one(&self, body: &[u8], at: DateTime<Utc>) -> Elements {
        let bad = |reject| Elements::Bad(Bad { reject, bytes: body.to_vec(), external_id: None, form: Form::One });
        let raw = match raw(body) {
            Ok(raw) => raw.get(),
            Err(_) if body.trim_ascii().is_empty() => return Elements::Unusable,
            Err(reject) => return bad(reject),
        };
        match below(raw, self.mapping.records()) {
            Some(found) if found.starts_with('[') => self.elements(found, at).map_or_else(bad, Elements::Each),
            Some(found) => Elements::Each(vec![self.object(found, at)]),
            None => Elements::Unusable,
        }
    }

    /// Reads an answer that is a list of objects.
    pub(crate) fn list(&self, body: &[u8], at: DateTime<Utc>) -> Elements {
        self.list_below(body, self.mapping.records(), at)
    }

    /// Reads an answer that has a list of objects at a dotted path.
    pub(crate) fn list_below(&self, body: &[u8], path: Option<&str>, at: DateTime<Utc>) -> Elements {
        let bad = |reject| Elements::Bad(Bad { reject, bytes: body.to_vec(), external_id: None, form: Form::List });
        let raw = match raw(body) {
            Ok(raw) => raw.get(),
            Err(_) if body.trim_ascii().is_empty() => return Elements::Unusable,
            Err(reject) => return bad(reject),
        };
        match below(raw, path) {
            None => Elements::Unusable,
            Some(found) if found.starts_with(['n', '{']) => Elements::Unusable,
            Some(found) => self.elements(found, at).map_or_else(bad, Elements::Each),
        }
    }

    /// Reads what lies in another record: a list of objects or one of them. Nothing where the record has none.
    pub(crate) fn within(&self, record: &str, at: DateTime<Utc>) -> Vec<One> {
        let bad = |reject| {
            vec![One::Bad(Bad { reject, bytes: record.as_bytes().to_vec(), external_id: None, form: Form::List })]
        };
        let path = self.mapping.records().unwrap_or_default();
        let found = Fields::from_json(record, None).map_or(Field::Absent, |fields| fields.get(path));
        match found {
            field if field.keeps() || field.clears() => Vec::new(),
            Field::Json(list) if list.starts_with('[') => self.elements(list, at).unwrap_or_else(bad),
            Field::Json(object) if object.starts_with('{') => vec![self.object(object, at)],
            _ => bad(Reject::new(Reason::UnknownShape, "not a list")),
        }
    }

    fn elements(&self, list: &str, at: DateTime<Utc>) -> Result<Vec<One>, Reject> {
        let elements: Vec<&RawValue> =
            serde_json::from_str(list).map_err(|_| Reject::new(Reason::UnknownShape, "not a list"))?;
        Ok(elements.iter().map(|element| self.object(element.get(), at)).collect())
    }

    /// Reads the bytes of a record that were read as one before.
    pub(crate) fn record(&self, bytes: &[u8], at: DateTime<Utc>) -> One {
        match raw(bytes) {
            Ok(raw) => self.object(raw.get(), at),
            Err(reject) => One::Bad(Bad { reject, bytes: bytes.to_vec(), external_id: None, form: Form::Record }),
        }
    }

    fn object(&self, raw: &str, at: DateTime<Utc>) -> One {
        let letter =
            |reject, external_id| Bad { reject, bytes: raw.as_bytes().to_vec(), external_id, form: Form::Record };
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
pub(crate) fn raw(body: &[u8]) -> Result<&RawValue, Reject> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = std::str::from_utf8(body)
        .map_err(|error| Reject::new(Reason::NotUtf8, format!("invalid at byte {}", error.valid_up_to())))?;
    // The text of the error is left out: it can quote.
    serde_json::from_str(text).map_err(|_| Reject::new(Reason::NotJson, "not valid JSON"))
}

/// What stands at a dotted path of a JSON value, if that is a list or an object; without a path the value itself.
pub(crate) fn below<'a>(raw: &'a str, path: Option<&str>) -> Option<&'a str> {
    let Some(path) = path else { return Some(raw) };
    match Fields::from_json(raw, None).ok()?.get(path) {
        Field::Json(found) if found.starts_with(['[', '{']) => Some(found),
        _ => None,
    }
}

/// Whether two emails have one match key.
pub(crate) fn same_email(one: &str, other: &str) -> bool {
    let key = MatchKey::of_any_email;
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

/// The products that an order names.
pub(crate) fn products_of(record: &Record) -> Vec<String> {
    let Ok(order) = serde_json::from_str::<OrderFields>(&record.mapped.attributes) else { return Vec::new() };
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
    use model::mapping::CustomerMapping;
    use model::{Credentials, InstallationKey};

    fn context() -> Context {
        Context { credentials: Credentials::digest(&InstallationKey::new([1; 32])), timezone: Tz::UTC }
    }

    fn customer() -> Mapping {
        let mapping = r#"{
            "external_id": "Id", "email": "Email", "credential": "Password", "attributes": {"name": "Name"}}"#;
        Mapping::Customer(serde_json::from_str(mapping).unwrap())
    }

    fn order() -> Mapping {
        let mapping = r#"{
            "order_id": "OrderId", "customer_external_id": "CustomerId", "cancelled": [],
            "lines": {"path": "Items", "product_id": "ProductId", "quantity": "Quantity", "unit_price": "Price"}}"#;
        Mapping::Order(serde_json::from_str(mapping).unwrap())
    }

    fn read(body: &[u8]) -> Elements {
        let (context, mapping) = (context(), customer());
        Reader { context: &context, limits: Limits::default(), mapping: &mapping }.one(body, DateTime::UNIX_EPOCH)
    }

    fn read_one(body: &[u8]) -> One {
        match read(body) {
            Elements::Each(mut ones) if ones.len() == 1 => ones.remove(0),
            Elements::Bad(bad) => One::Bad(bad),
            elements => panic!("{elements:?} is not one"),
        }
    }

    #[test]
    fn a_customer_is_landed_as_it_came_except_for_the_password() {
        let body = "\u{feff} {\"Id\":1 , \"Name\":\"Ann\",\"Email\":\"a@x\",\"Password\":\"s3cret\",\"N\":1e400} ";
        let One::Record(record) = read_one(body.as_bytes()) else { panic!("a record") };
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
            let is_unusable = match read(body.as_bytes()) {
                Elements::Each(ones) => ones.iter().all(|one| matches!(one, One::Unusable(_))),
                elements => matches!(elements, Elements::Unusable),
            };
            assert!(is_unusable, "{body}");
        }
        for (body, reason) in [
            (&b"<html>"[..], Reason::NotJson),
            (b"{\"Id\":1", Reason::NotJson),
            (b"{\"Id\":1} {}", Reason::NotJson),
            (b"\xff\xfe{}", Reason::NotUtf8),
            (b"7", Reason::UnknownShape),
            (b"{\"Id\":1.5}", Reason::BadExternalId),
            (b"{\"Id\":1,\"Name\":\"\\u0000\"}", Reason::Nul),
            (b"{\"Id\":1,\"Name\":\"\\ud83d\"}", Reason::LoneSurrogate),
        ] {
            let One::Bad(bad) = read_one(body) else { panic!("{body:?} is bad") };
            assert_eq!((bad.reject.reason, &bad.bytes[..]), (reason, body));
        }
        let deep = format!("{{\"Id\":1,\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(read_one(deep.as_bytes()), One::Bad(bad) if bad.reject.reason == Reason::TooDeep));
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
    fn records_are_where_the_path_leads_and_an_error_in_their_place_is_no_answer() {
        let Mapping::Customer(mapping) = customer() else { panic!("a customer") };
        let mapping = Mapping::Customer(CustomerMapping { records: Some("data.found".to_owned()), ..mapping });
        let context = context();
        let reader = Reader { context: &context, limits: Limits::default(), mapping: &mapping };
        let count = |body: &str| match reader.one(body.as_bytes(), DateTime::UNIX_EPOCH) {
            Elements::Each(ones) => ones.iter().filter(|one| matches!(one, One::Record(_))).count(),
            Elements::Bad(_) => panic!("{body} is bad"),
            Elements::Unusable => 99,
        };
        for (body, expected) in [
            (r#"{"data":{"found":[{"Id":1},{"Id":2}]}}"#, 2),
            (r#"{"data":{"found":{"Id":1}}}"#, 1),
            (r#"{"data":{"found":[]}}"#, 0),
            (r#"{"data.found":[{"Id":1}]}"#, 1),
            (r#"{"data":{"found":null},"errors":[{"message":"later"}]}"#, 99),
            (r#"{"data":null}"#, 99),
            (r#"{"error":"no database"}"#, 99),
            (r#"[{"Id":1}]"#, 99),
            ("null", 99),
        ] {
            assert_eq!(count(body), expected, "{body}");
        }
        // Without a path, a list is what was found.
        let Elements::Each(found) = read(br#"[{"Id":1},7]"#) else { panic!("a list") };
        assert!(matches!(&found[..], [One::Record(_), One::Bad(bad)] if bad.bytes == b"7"));
        assert!(matches!(read(b"[]"), Elements::Each(found) if found.is_empty()));
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
