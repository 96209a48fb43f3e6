//! `GET /docs`: how to ask the API, as a page made from the document that describes it. Everybody may read it.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::Dashboard;
use super::frame::{Frame, page};
use super::markdown;
use super::visitor::{Reader, Visitor};

/// The document, taken apart for the page.
pub(super) struct Docs {
    /// Drawn Markdown.
    about: String,
    groups: Vec<Group>,
    shapes: Vec<Shape>,
}

/// The operations of a tag.
struct Group {
    tag: String,
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    title: String,
    /// Drawn Markdown.
    about: String,
    parameters: Vec<Member>,
    /// What the body is, and its members, if it is not one of the shapes.
    body: Option<Kind>,
    answers: Vec<Answer>,
    curl: String,
}

/// A parameter, or a member of a shape.
struct Member {
    name: String,
    /// In the path, query or a header.
    place: String,
    kind: Kind,
    is_required: bool,
    about: String,
}

struct Answer {
    status: String,
    about: String,
    kind: Option<Kind>,
}

/// A type in words.
struct Kind(Vec<Word>);

/// Some words, or the name of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    text: String,
    is_shape: bool,
}

/// A JSON object that bodies and answers are made of.
struct Shape {
    name: String,
    about: String,
    members: Vec<Member>,
}

impl Docs {
    pub(super) fn new(document: &Value) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (path, item) in members(&document["paths"]) {
            for (method, operation) in members(item) {
                let tag = text(&operation["tags"][0]);
                let operation = Self::operation(document, path, method, operation);
                match groups.iter_mut().find(|group| group.tag == tag) {
                    Some(group) => group.operations.push(operation),
                    None => groups.push(Group { tag, operations: vec![operation] }),
                }
            }
        }
        let shapes = members(&document["components"]["schemas"]);
        Self {
            about: markdown::drawn(&text(&document["info"]["description"])),
            groups,
            shapes: shapes.map(|(name, schema)| shape(name, schema)).collect(),
        }
    }

    fn operation(document: &Value, path: &str, method: &str, operation: &Value) -> Operation {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let body = &operation["requestBody"]["content"]["application/json"];
        let answers = members(&operation["responses"]).map(|(status, answer)| Answer {
            status: if status == "default" { "else".to_owned() } else { status.clone() },
            about: text(&answer["description"]),
            kind: members(&answer["content"]).next().map(|(_, content)| kind(&content["schema"])),
        });
        Operation {
            id: text(&operation["operationId"]),
            method: method.to_uppercase(),
            path: path.to_owned(),
            title: text(&operation["summary"]),
            about: markdown::drawn(&text(&operation["description"])),
            parameters: parameters.map(parameter).collect(),
            body: (!body.is_null()).then(|| kind(&body["schema"])),
            answers: answers.collect(),
            curl: curl(method, path, (!body.is_null()).then(|| example(document, body))),
        }
    }
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn parameter(parameter: &Value) -> Member {
    Member {
        name: text(&parameter["name"]),
        place: text(&parameter["in"]),
        kind: kind(&parameter["schema"]),
        is_required: parameter["required"].as_bool().unwrap_or_default(),
        about: text(&parameter["description"]),
    }
}

fn shape(name: &str, schema: &Value) -> Shape {
    let is_required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let member = |(name, schema): (&String, &Value)| Member {
        name: name.clone(),
        place: String::new(),
        kind: kind(schema),
        is_required: is_required(name),
        about: text(&schema["description"]),
    };
    Shape {
        name: name.to_owned(),
        about: text(&schema["description"]),
        members: members(&schema["properties"]).map(member).collect(),
    }
}

/// A schema in words.
fn kind(schema: &Value) -> Kind {
    let word = |text: &str, is_shape| Word { text: text.to_owned(), is_shape };
    if let Some(reference) = schema["$ref"].as_str() {
        return Kind(vec![word(reference.rsplit('/').next().unwrap_or_default(), true)]);
    }
    let joined = |kinds: Vec<Kind>, by: &str| {
        let kinds: Vec<Vec<Word>> = kinds.into_iter().map(|kind| kind.0).collect();
        Kind(kinds.join(&word(by, false)))
    };
    for (key, by) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(schemas) = schema[key].as_array() {
            return joined(schemas.iter().map(kind).collect(), by);
        }
    }
    let of = |what: &str, inner: &Value| Kind([word(what, false)].into_iter().chain(kind(inner).0).collect());
    let named = |name: &Value| match (name.as_str().unwrap_or_default(), schema["format"].as_str()) {
        ("array", _) => of("list of ", &schema["items"]),
        ("object", _) if schema["additionalProperties"].is_object() => {
            of("object of ", &schema["additionalProperties"])
        }
        ("string", Some(format)) => Kind(vec![word(format, false)]),
        (name, _) => Kind(vec![word(name, false)]),
    };
    match &schema["type"] {
        Value::Array(types) => joined(types.iter().map(named).collect(), " or "),
        Value::Null => Kind(vec![word("any value", false)]),
        one => named(one),
    }
}

/// What a body may be: the example of the operation, or those of the members of its shape.
fn example(document: &Value, body: &Value) -> Value {
    if let Some(example) = body.get("example") {
        return example.clone();
    }
    let name = body["schema"]["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()).unwrap_or_default();
    let properties = members(&document["components"]["schemas"][name]["properties"]);
    properties.filter_map(|(name, schema)| Some((name.clone(), schema.get("example")?.clone()))).collect()
}

/// The operation as a line for a shell, with what has to be filled in as its variables.
fn curl(method: &str, path: &str, body: Option<Value>) -> String {
    let filled: String = path
        .split('/')
        .map(|part| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => format!("${}", name.to_uppercase()),
            None => part.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("/");
    let request = match (method, &body) {
        ("get", _) | ("post", Some(_)) => String::new(),
        (method, _) => format!(" --request {}", method.to_uppercase()),
    };
    let json = body.map(|body| format!(" --json '{body}'")).unwrap_or_default();
    format!("curl{request} --header \"Authorization: Bearer $KEY\" \"$C360{filled}\"{json}")
}

#[derive(Template)]
#[template(path = "docs.html")]
struct Page<'a> {
    frame: Frame,
    docs: &'a Docs,
}

/// `GET /docs`
pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    visitor: Visitor,
    reader: Result<Reader, Response>,
) -> Response {
    let frame = reader.map_or_else(|_| Frame::visiting(&visitor), |reader| Frame::of(&dashboard, &reader));
    page(StatusCode::OK, &Page { frame, docs: &dashboard.docs })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_are_said_in_words_with_the_shapes_that_they_name() {
        for (schema, said) in [
            (json!({"type": "string"}), "string"),
            (json!({"type": "string", "format": "uuid"}), "uuid"),
            (json!({"type": ["string", "null"], "format": "date-time"}), "date-time or null"),
            (json!({"type": "array", "items": {"$ref": "#/components/schemas/Xref"}}), "list of <Xref>"),
            (json!({"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Page"}]}), "null or <Page>"),
            (
                json!({"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Origin"}}),
                "object of <Origin>",
            ),
            (json!({}), "any value"),
        ] {
            let words = kind(&schema).0.into_iter();
            let words = words.map(|word| if word.is_shape { format!("<{}>", word.text) } else { word.text });
            assert_eq!(words.collect::<String>(), said);
        }
    }

    #[test]
    fn an_operation_is_a_line_for_a_shell() {
        assert_eq!(
            curl("put", "/api/v1/lists/{name}", None),
            "curl --request PUT --header \"Authorization: Bearer $KEY\" \"$C360/api/v1/lists/$NAME\""
        );
        assert_eq!(
            curl("post", "/api/v1/customers", Some(json!({"email": "a@x.example"}))),
            "curl --header \"Authorization: Bearer $KEY\" \"$C360/api/v1/customers\" --json '{\"email\":\"a@x.example\"}'"
        );
    }
}
