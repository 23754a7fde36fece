//! The document that the server gives of itself: it has every path that this version promises, and every route
//! explains itself; what it says of answers is what clients get.
#![allow(clippy::unwrap_used)]

mod answers;
mod schemathesis;
mod surface;

use std::collections::BTreeSet;

use obol_tests::{Client, Server, ServerOptions};
use serde_json::{Value, json};

#[test]
fn every_reference_in_the_document_leads_somewhere_and_every_operation_is_named_once() {
    let server = with_everything();
    let document = document(&server.root());
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3."),
        "{}",
        document["openapi"]
    );
    assert!(document["info"]["version"].is_string());

    let mut references = Vec::new();
    collect(&document, "$ref", &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }

    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, v)| v.get("responses").is_some())
        {
            if let Some(id) = operation["operationId"].as_str() {
                assert!(
                    names.insert(id.to_owned()),
                    "{id} names two operations, one of them {method} {path}"
                );
            }
        }
    }
}

#[test]
fn every_route_explains_itself() {
    let server = with_everything();
    let root = server.root();
    let document = document(&root);
    for path in document["paths"].as_object().unwrap().keys() {
        let reply = root.get(&format!("{}?help=1", example_of(path)));
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let help = reply.json();
        let text = help["help"]
            .as_str()
            .unwrap_or_else(|| panic!("{path}: no help in {help}"));
        assert!(text.len() > 20, "{path}: {text:?}");
    }
}

#[test]
fn the_document_of_a_fresh_checkout_is_that_of_the_server() {
    // `make lint` compares the file with the routes; here, the routes with what a server serves.
    let file = "../api-docs/openapi.json";
    let Ok(text) = std::fs::read_to_string(file) else {
        panic!("{file} is missing: `make docs` writes it");
    };
    let written: Value = serde_json::from_str(&text).unwrap();
    let server = with_everything();
    let served = document(&server.root());
    let paths = |document: &Value| -> BTreeSet<String> {
        document["paths"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    let (written, served) = (paths(&written), paths(&served));
    let lacking: Vec<_> = served.difference(&written).collect();
    assert!(
        lacking.is_empty(),
        "served, and not in api-docs/openapi.json: {lacking:#?}"
    );
}

/// A server with every auth method and every secrets engine, and all that a configuration can turn on.
fn with_everything() -> Server {
    everything(ServerOptions::default())
}

fn everything(options: ServerOptions) -> Server {
    let server = Server::ready(ServerOptions {
        config: format!("raw_storage_endpoint = true\n{}", options.config),
        ..options
    });
    let root = server.root();
    for kind in ["kerberos", "userpass", "ldap", "approle", "jwt"] {
        root.post(&format!("sys/auth/{kind}"), json!({ "type": kind }))
            .expect(204);
    }
    for (path, kind, version) in [
        ("secret", "kv", "2"),
        ("kv", "kv", "1"),
        ("transit", "transit", ""),
    ] {
        let options = match version {
            "" => json!({}),
            version => json!({ "version": version }),
        };
        let mount = json!({ "type": kind, "options": options });
        root.post(&format!("sys/mounts/{path}"), mount).expect(204);
    }
    server
}

fn document(root: &Client) -> Value {
    root.get("sys/internal/specs/openapi").expect(200).json()
}

/// `/sys/mounts/{path}/tune` as somebody would ask for it.
fn example_of(path: &str) -> String {
    let segments = path.trim_matches('/').split('/');
    let example: Vec<&str> = segments
        .map(|s| if s.starts_with('{') { "example" } else { s })
        .collect();
    example.join("/")
}

fn collect<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).and_then(Value::as_str));
            map.values().for_each(|v| collect(v, key, found));
        }
        Value::Array(list) => list.iter().for_each(|v| collect(v, key, found)),
        _ => {}
    }
}
