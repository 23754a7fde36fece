//! What the document says of answers: each success has a shape that a program can be made from, and what has none is
//! listed here with the reason.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{document, with_everything};

/// Answers whose fields are not the server's to name, by the name of their schema and the field.
const FREE: &[(&str, &str)] = &[
    ("Stored", "a value of the cubbyhole is what its owner wrote"),
    ("Secret", "a secret of kv version 1 is what its owner wrote"),
    (
        "SecretData.data",
        "a secret of kv version 2 is what its owner wrote",
    ),
    (
        "Subkeys.subkeys",
        "the names are those of the secret that its owner wrote",
    ),
    (
        "Unwrapped",
        "what is unwrapped is the answer of any other operation",
    ),
    ("OpenApi", "its shape is that of the OpenAPI specification"),
    (
        "RoleView.bound_claims",
        "the claims are those of the issuer of the tokens",
    ),
];

#[test]
fn every_field_of_an_answer_has_words() {
    let server = with_everything();
    let document = document(&server.root());
    let mut fields = 0;
    let mut without = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, described) in schema["properties"].as_object().into_iter().flatten() {
            fields += 1;
            // What refers to another schema has that one's words.
            let parts = ["allOf", "anyOf"]
                .into_iter()
                .filter_map(|of| described[of].as_array());
            let mut all = parts.flatten().chain([described]);
            if !all.any(|part| !part["description"].is_null() || !part["$ref"].is_null()) {
                without.push(format!("{name}.{field}"));
            }
        }
    }
    assert!(fields > 500, "{fields}");
    assert!(
        without.is_empty(),
        "a `///` above each of these fields is missing: {without:#?}"
    );
}

#[test]
fn every_success_has_a_shape_or_stands_on_the_list_with_a_reason() {
    let server = with_everything();
    let document = document(&server.root());
    let mut walk = Walk {
        document: &document,
        seen: BTreeSet::new(),
        open: BTreeSet::new(),
        undescribed: BTreeSet::new(),
    };
    let mut bodies = 0;
    let mut refused = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            let Some(responses) = operation["responses"].as_object() else {
                continue;
            };
            if !responses.keys().any(|status| status.starts_with('2')) {
                refused.push(format!("{verb} {path}"));
            }
            for (status, response) in responses {
                let Some(media) = response["content"].as_object() else {
                    continue;
                };
                if !status.starts_with('2') {
                    continue;
                }
                let what = format!("{verb} {path} {status}");
                for schema in media.values().map(|media| &media["schema"]) {
                    bodies += 1;
                    // The envelope alone says nothing of what is in it; `Done` says that there is nothing.
                    assert_ne!(
                        schema["$ref"], "#/components/schemas/Envelope",
                        "{what} is documented by the envelope alone"
                    );
                    walk.schema(schema, &what, false);
                }
            }
        }
    }
    assert!(bodies > 200, "{bodies}");
    assert_eq!(refused, ["get /auth/kerberos/login"], "have no success");
    let free: BTreeSet<String> = FREE.iter().map(|(name, _)| (*name).to_owned()).collect();
    let new: Vec<_> = walk.open.difference(&free).collect();
    assert!(
        new.is_empty(),
        "these answers have no shape: give each a struct, or a line in FREE with the reason: {new:#?}"
    );
    let gone: Vec<_> = free.difference(&walk.open).collect();
    assert!(gone.is_empty(), "these have a shape by now: {gone:#?}");
    assert!(
        walk.undescribed.is_empty(),
        "these say nothing of what they may hold: {:#?}",
        walk.undescribed
    );
}

struct Walk<'d> {
    document: &'d Value,
    seen: BTreeSet<&'d str>,
    /// Where anything may be.
    open: BTreeSet<String>,
    /// Of these, where no words say what.
    undescribed: BTreeSet<String>,
}

impl<'d> Walk<'d> {
    /// `place` is the name of the schema and the field; `described` whether something around it says what it is.
    fn schema(&mut self, schema: &'d Value, place: &str, described: bool) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap();
            // Its `data` is what each operation says beside it.
            if name != "Envelope" && self.seen.insert(name) {
                let target = self.document.pointer(&reference[1..]).unwrap();
                self.schema(target, name, false);
            }
            return;
        }
        let described = described || schema["description"].is_string();
        if is_open(schema) {
            self.open.insert(place.to_owned());
            if !described {
                self.undescribed.insert(place.to_owned());
            }
            return;
        }
        for any in ["allOf", "anyOf", "oneOf"] {
            for part in schema[any].as_array().into_iter().flatten() {
                self.schema(part, place, described);
            }
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            self.schema(field, &format!("{place}.{name}"), false);
        }
        for below in ["additionalProperties", "items"] {
            if schema[below].is_object() {
                self.schema(&schema[below], place, described);
            }
        }
    }
}

/// Whether a schema lets through anything, or any object.
fn is_open(schema: &Value) -> bool {
    let Some(schema) = schema.as_object() else {
        return schema == &Value::Bool(true);
    };
    let says = |key: &&str| schema.contains_key(*key);
    if ["allOf", "anyOf", "oneOf", "enum", "const", "maxProperties"]
        .iter()
        .any(says)
    {
        return false;
    }
    let is = |kind: &str| match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|k| k == kind),
        Some(one) => one == kind,
        // Without a type it is anything, unless it says which fields it has.
        None => !says(&"properties"),
    };
    let more = schema.get("additionalProperties");
    let any_field = match says(&"properties") {
        true => more == Some(&Value::Bool(true)),
        false => more.is_none_or(|more| more == &Value::Bool(true)),
    };
    is("object") && any_field || is("array") && !says(&"items")
}

#[test]
fn a_file_is_documented_as_one() {
    let server = with_everything();
    let document = document(&server.root());
    for path in ["/sys/storage/snapshot", "/sys/storage/raft/snapshot"] {
        let item = &document["paths"][path];
        let only = |content: &Value| {
            let media = content.as_object().unwrap();
            assert_eq!(
                media.keys().collect::<Vec<_>>(),
                ["application/octet-stream"],
                "{path}"
            );
            assert_eq!(
                media["application/octet-stream"]["schema"]["format"],
                "binary"
            );
        };
        only(&item["post"]["requestBody"]["content"]);
        assert_eq!(item["post"]["requestBody"]["required"], true);
        only(&item["get"]["responses"]["200"]["content"]);
        let forced = &document["paths"][format!("{path}-force")];
        only(&forced["post"]["requestBody"]["content"]);
    }
    // And nothing else takes one.
    let others = document["paths"].as_object().unwrap().iter();
    for (path, item) in others.filter(|(path, _)| !path.contains("/snapshot")) {
        let body = &item["post"]["requestBody"]["content"];
        assert!(body["application/octet-stream"].is_null(), "{path}");
    }
}
