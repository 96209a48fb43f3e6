//! Events that real connectors wrote as JSON with schemas, written as Connect's Avro converter writes them: whatever the
//! converter, the records are the same.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use model::mapping::{Columns, Mapping};
use serde_json::Map;

use super::*;

const RECORDED: [&str; 2] =
    [include_str!("../../tests/events/types.jsonl"), include_str!("../../tests/events/wrapped.jsonl")];

/// Connect's schema as its Avro converter writes it. Structs get a name of their own the first time.
fn avro(connect: &Value, names: &mut Vec<String>) -> Value {
    let kind = match connect["type"].as_str().unwrap() {
        "int8" | "int16" | "int32" => "int",
        "int64" => "long",
        other => other,
    };
    let mut schema = json!({"type": kind});
    match kind {
        "struct" => {
            let name = connect["name"].as_str().map_or_else(|| format!("ConnectDefault{}", names.len()), str::to_owned);
            let name = name.replace('-', "_");
            if names.contains(&name) {
                schema = name.into();
            } else {
                names.push(name.clone());
                let field = |field: &Value| json!({"name": field["field"], "type": avro(field, names), "default": "of Connect"});
                let fields: Vec<Value> = connect["fields"].as_array().unwrap().iter().map(field).collect();
                schema = json!({"type": "record", "name": name, "fields": fields, "connect.name": connect["name"]});
            }
        }
        "array" => schema["items"] = avro(&connect["items"], names),
        "map" => schema["values"] = avro(&connect["values"], names),
        _ => {
            if let Some(name) = connect["name"].as_str() {
                schema["connect.name"] = name.into();
                schema["connect.parameters"] = connect.get("parameters").cloned().unwrap_or(json!({}));
                if name.ends_with("connect.data.Decimal") {
                    schema["logicalType"] = "decimal".into();
                    schema["precision"] = 64.into();
                    schema["scale"] = connect["parameters"]["scale"].as_str().unwrap().parse::<i64>().unwrap().into();
                }
            }
        }
    }
    if connect["optional"] == true { json!(["null", schema]) } else { schema }
}

fn datum(connect: &Value, value: &Value) -> Datum {
    let text = || value.as_str().unwrap().to_owned();
    let number = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let datum = match connect["type"].as_str().unwrap() {
        _ if value.is_null() => Datum::Null,
        "int8" | "int16" | "int32" => Datum::Int(i32::try_from(value.as_i64().unwrap()).unwrap()),
        "int64" => Datum::Long(value.as_i64().unwrap()),
        "float" => Datum::Float(number().parse().unwrap()),
        "double" => Datum::Double(number().parse().unwrap()),
        "boolean" => Datum::Boolean(value.as_bool().unwrap()),
        "string" => Datum::String(text()),
        "bytes" => Datum::Bytes(BASE64_STANDARD.decode(text()).unwrap()),
        "array" => Datum::Array(value.as_array().unwrap().iter().map(|item| datum(&connect["items"], item)).collect()),
        "map" => {
            let values: &Map<String, Value> = value.as_object().unwrap();
            Datum::Map(values.iter().map(|(name, value)| (name.clone(), datum(&connect["values"], value))).collect())
        }
        "struct" => {
            let name = |field: &Value| field["field"].as_str().unwrap().to_owned();
            let fields = connect["fields"].as_array().unwrap().iter();
            Datum::Record(fields.map(|field| (name(field), datum(field, &value[name(field)]))).collect())
        }
        other => panic!("{other}"),
    };
    let is_there = u32::from(!value.is_null());
    if connect["optional"] == true { Datum::Union(is_there, Box::new(datum)) } else { datum }
}

/// A value or key in both forms: as it was recorded, and as the Avro converter would have written it.
fn both(text: &str, id: u32) -> Option<(Vec<u8>, String)> {
    let wrapped: Value = serde_json::from_str(text).ok()?;
    let (connect, payload) = (wrapped.get("schema")?, wrapped.get("payload")?);
    let schema = avro(connect, &mut Vec::new());
    let mut plain = schema.to_string().replace(r#""logicalType":"decimal","#, "");
    plain = plain.replace(r#""default":"of Connect","#, "");
    let body = encode(&serde_json::from_str(&plain).unwrap(), datum(connect, payload));
    Some((framed(id, &body), schema.to_string()))
}

#[test]
fn what_real_connectors_wrote_is_the_same_in_avro() {
    let (mut count, mut columns) = (0, 0);
    for event in RECORDED.iter().flat_map(|events| events.lines()) {
        let event: Value = serde_json::from_str(event).unwrap();
        let text = |name: &str| event[name].as_str().map(str::to_owned);
        let (key, value) = (text("key"), text("value"));
        let (avro_key, avro_value) =
            (key.as_ref().and_then(|text| both(text, 1)), value.as_ref().and_then(|text| both(text, 2)));
        let schemas = [(1, &avro_key), (2, &avro_value)].into_iter();
        let schemas = schemas.filter_map(|(id, both)| Some((id, both.as_ref()?.1.as_str())));
        let header = event["headers"].as_array().unwrap().iter().find(|header| header[0] == "__debezium.newkey");
        let new_key = header.map(|header| header[1].as_str().unwrap().to_owned());
        let message = Message {
            offset: event["offset"].as_i64().unwrap(),
            timestamp_ms: event["timestamp"].as_i64(),
            key: key.as_deref().map(str::as_bytes),
            value: value.as_deref().map(str::as_bytes),
            new_key: new_key.as_deref().map(str::as_bytes),
        };
        let as_avro = Message {
            key: avro_key.as_ref().map(|both| &*both.0),
            value: avro_value.as_ref().map(|both| &*both.0),
            ..message
        };
        if as_avro.key.is_none() != message.key.is_none() || as_avro.value.is_none() != message.value.is_none() {
            continue;
        }
        let row = value.as_ref().map(|value| serde_json::from_str::<Value>(value).unwrap());
        let row = row
            .map(|row| row["payload"].get("after").or(row["payload"].get("before")).unwrap_or(&row["payload"]).clone());
        let wanting = |format: Format| {
            let mut settings = settings(format);
            let Mapping::Customer(customer) = &mut settings.mappings[0] else { unreachable!() };
            if let Some(row) = row.as_ref().and_then(Value::as_object) {
                customer.attributes = row.keys().map(|name| (name.clone(), Columns::One(name.clone()))).collect();
            }
            Decoder::new(&settings, "customers")
        };
        let read = |decoder: &Decoder, message: &Message<'_>| {
            let mut records = Vec::new();
            let outcome = decoder.decode(message, &mut Seen::default(), 0, now(), &mut records);
            for record in &mut records {
                record.payload = None;
            }
            (outcome, records)
        };
        let expected = read(&wanting(Format::Debezium), &message);
        let found = read(&wanting(Format::Avro(Registry::knowing(schemas))), &as_avro);
        assert_eq!(found, expected, "line {} of a recording", event["line"]);
        count += found.1.len();
        columns += found.1.iter().map(|record| record.mapped.attributes.matches("\":").count()).sum::<usize>();
    }
    assert!(
        count > 10 && columns > 100,
        "only {count} records and {columns} values: does this still read what was recorded?"
    );
}
