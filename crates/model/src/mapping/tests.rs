use serde_json::json;

use super::*;
use crate::InstallationKey;

fn context() -> Context {
    Context { credentials: Credentials::digest(&InstallationKey::new([7; 32])), timezone: Tz::UTC }
}

fn columns(value: Value) -> Columns {
    serde_json::from_value(value).unwrap()
}

fn map(mapping: Value, kind: fn(Value) -> Mapping, row: &str) -> Result<Mapped, Reject> {
    kind(mapping).map(&Fields::from_json(row, Some("?")).unwrap(), &context())
}

fn customer(mapping: Value) -> Mapping {
    Mapping::Customer(serde_json::from_value(mapping).unwrap())
}

fn order(mapping: Value) -> Mapping {
    Mapping::Order(serde_json::from_value(mapping).unwrap())
}

fn loyalty() -> Value {
    json!({"external_id": "id", "email": "email", "credential": "password",
           "attributes": {"name": ["firstName", "lastName"], "points": "points"}})
}

#[test]
fn a_customer_row_becomes_a_record_with_its_credential_replaced() {
    let row = r#"{"id":"27","password":"xrinn5xp.swd","firstName":"Matthew","lastName":"Groves","email":"m@x.com","points":"47"}"#;
    let mapped = map(loyalty(), customer, row).unwrap();
    assert_eq!(mapped.external_id.as_str(), "27");
    assert_eq!(mapped.email.as_deref(), Some("m@x.com"));
    assert_eq!(mapped.attributes, r#"{"name":"Matthew Groves","points":"47"}"#);
    assert!(!format!("{mapped:?}").contains("xrinn5xp"));
}

#[test]
fn kept_and_cleared_values_are_told_apart() {
    let mapped =
        map(loyalty(), customer, r#"{"id":1,"firstName":"Ann","lastName":"?","points":"","email":null}"#).unwrap();
    assert_eq!(mapped.attributes, r#"{"points":null}"#);
    assert_eq!((mapped.email.as_deref(), mapped.credential), (Some(""), None));
}

#[test]
fn joined_columns_skip_the_empty_ones_and_do_not_trim() {
    let join = columns(json!(["a", "b", "c"]));
    let read = |row: &'static str| join.read(&Fields::from_json(row, None).unwrap());
    assert_eq!(read(r#"{"a":" x ","b":"","c":7}"#), Field::Text(" x  7".into()));
    assert!(read(r#"{"a":"","b":null,"c":""}"#).clears());
    assert_eq!(read(r#"{"a":"x","b":"y"}"#), Field::Absent);
}

#[test]
fn aliases_take_the_first_name_that_is_there() {
    let any = columns(json!({"any": ["e-mail", "email"]}));
    assert_eq!(any.read(&Fields::from_json(r#"{"email":"a@x"}"#, None).unwrap()), Field::Text("a@x".into()));
}

#[test]
fn an_email_that_is_no_string_is_kept_as_no_email() {
    for (row, email) in [(r#"{"id":1,"email":5}"#, "5"), (r#"{"id":1,"email":{"a":"b@c.d"}}"#, "not a string")] {
        assert_eq!(map(loyalty(), customer, row).unwrap().email.as_deref(), Some(email));
    }
}

#[test]
fn a_row_without_an_id_is_refused_and_the_reason_holds_no_value() {
    let reject = map(loyalty(), customer, r#"{"id":"","email":"secret@x.com"}"#).unwrap_err();
    assert_eq!((reject.reason, reject.detail.as_str()), (Reason::NoExternalId, "column id is empty"));
}

fn store_order() -> Value {
    json!({"order_id": "OrderId", "customer_external_id": "CustomerId", "purchased_at": "PurchaseDate",
           "lines": {"path": "Items", "product_id": "ProductId", "quantity": "Quantity", "unit_price": "Price"}})
}

#[test]
fn an_order_keeps_the_text_of_a_date_and_exact_money() {
    let row = r#"{"OrderId":1,"PurchaseDate":"2019-04-25T15:15:5800838522","CustomerId":1,
                  "Items":[{"OrderId":1,"ProductId":200,"Quantity":2,"Price":87.81}]}"#;
    let mapped = map(store_order(), order, row).unwrap();
    let fields: OrderFields = serde_json::from_str(&mapped.attributes).unwrap();
    assert_eq!(fields.purchased_at_text.as_deref(), Some("2019-04-25T15:15:5800838522"));
    assert_eq!(fields.purchased_at.unwrap().to_rfc3339(), "2019-04-25T15:15:58.008385+00:00");
    assert_eq!(fields.customer_external_id.as_deref(), Some("1"));
    let lines = fields.lines.unwrap();
    assert_eq!(OrderFields::total_of(None, &lines).unwrap().to_string(), "175.62");
}

#[test]
fn lines_have_the_four_states_and_bad_money_is_refused() {
    let lines = |row: &str| {
        let mapped = map(store_order(), order, row)?;
        Ok(serde_json::from_str::<OrderFields>(&mapped.attributes).unwrap().lines.map(|lines| lines.len()))
    };
    assert_eq!(lines(r#"{"OrderId":1,"CustomerId":1}"#), Ok(None));
    assert_eq!(lines(r#"{"OrderId":1,"CustomerId":1,"Items":null}"#), Ok(Some(0)));
    assert_eq!(lines(r#"{"OrderId":1,"CustomerId":1,"Items":[]}"#), Ok(Some(0)));
    let reject: Reject = lines(r#"{"OrderId":1,"CustomerId":1,"Items":[{"Price":"much"}]}"#).unwrap_err();
    assert_eq!((reject.reason, reject.detail.as_str()), (Reason::BadValue, "Items[0].Price is not a decimal number"));
}

#[test]
fn the_rest_of_a_product_are_its_attributes() {
    let mapping: ProductMapping = serde_json::from_value(json!({"product_id": "ProductId", "name": "Name"})).unwrap();
    let fields = Fields::from_json(r#"{"ProductId":200,"Name":"Kettle","Colour":"red","Weight":1.50}"#, None).unwrap();
    let mapped = Mapping::Product(mapping).map(&fields, &context()).unwrap();
    assert_eq!(mapped.attributes, r#"{"name":"Kettle","attributes":{"Colour":"red","Weight":1.50}}"#);
}

#[test]
fn participants_come_from_one_column_or_from_lists() {
    let mapping = json!({"interaction_id": "id", "email": "with", "participants": ["to", "cc"], "type": "kind"});
    let mapping = Mapping::Interaction(serde_json::from_value(mapping).unwrap());
    let row = r#"{"id":"m1","kind":"email","with":"a@x","to":["b@x",{"email":"c@x"}],"cc":"d@x"}"#;
    let mapped = mapping.map(&Fields::from_json(row, None).unwrap(), &context()).unwrap();
    let fields: InteractionFields = serde_json::from_str(&mapped.attributes).unwrap();
    let emails: Vec<_> = fields.participants.iter().map(|p| (p.email.as_str(), p.role.as_deref())).collect();
    assert_eq!(emails, [("a@x", None), ("b@x", Some("to")), ("c@x", Some("to")), ("d@x", Some("cc"))]);
}

#[test]
fn an_order_is_cancelled_by_the_words_of_its_mapping() {
    let cancelled = |mapping: Value, row: &str| {
        let mut mapping = mapping;
        mapping["order_id"] = json!("id");
        mapping["customer_external_id"] = json!("customer");
        let mapped = map(mapping, order, row).unwrap();
        let fields: OrderFields = serde_json::from_str(&mapped.attributes).unwrap();
        (fields.status, fields.cancelled)
    };
    let state = json!({"status": "state"});
    assert_eq!(cancelled(state.clone(), r#"{"id":1,"state":" CANCELED"}"#), (Some(" CANCELED".to_owned()), true));
    assert_eq!(cancelled(state, r#"{"id":1,"state":"shipped"}"#), (Some("shipped".to_owned()), false));
    let flag = json!({"status": "void", "cancelled": ["true"]});
    assert!(cancelled(flag.clone(), r#"{"id":1,"void":true}"#).1);
    assert!(!cancelled(flag, r#"{"id":1}"#).1);
}

#[test]
fn headers_of_an_email_become_its_thread_and_who_took_part() {
    let mapping = json!({
        "interaction_id": "id", "message_id": "Message-ID", "references": "References", "in_reply_to": "In-Reply-To",
        "email": "owner", "participants": ["From", "To"],
    });
    let interaction = |value: Value| Mapping::Interaction(serde_json::from_value(value).unwrap());
    let read = |row: Value| -> InteractionFields {
        serde_json::from_str(&map(mapping.clone(), interaction, &row.to_string()).unwrap().attributes).unwrap()
    };
    let fields = read(json!({
        "id": 1, "Message-ID": "<c@x>", "References": "<a@x>\r\n <b@x>", "In-Reply-To": "<b@x>", "owner": "o@x.example",
        "From": "\"Groves, Matt\" <matt@x.example>", "To": [{"email": "ann@x.example", "role": "cc"}, "bob@x.example"],
    }));
    assert_eq!(fields.thread_id.as_deref(), Some("a@x"));
    assert_eq!((fields.message_id.as_deref(), fields.in_reply_to.as_deref()), (Some("c@x"), Some("b@x")));
    let who: Vec<_> = fields.participants.iter().map(|who| (who.email.as_str(), who.role.as_deref())).collect();
    assert_eq!(
        who,
        [
            ("o@x.example", None),
            ("\"Groves, Matt\" <matt@x.example>", Some("From")),
            ("ann@x.example", Some("cc")),
            ("bob@x.example", Some("To")),
        ]
    );
    let listed = read(json!({"id": 1, "References": ["<a@x>", "<b@x>"], "To": "ann@x.example, bob@x.example"}));
    assert_eq!((listed.thread_id.as_deref(), listed.participants.len()), (Some("a@x"), 2));
}
