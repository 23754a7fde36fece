//! The document that the server gives of itself: it has every path that this version promises, and every route
//! explains itself.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use obol_tests::{Client, Server, ServerOptions};
use serde_json::{Value, json};

/// The rows of the HTTP surface that are marked F, as paths of the document, with the methods they have there.
const PROMISED: &[(&str, &[&str])] = &[
    ("sys/init", &["get", "post"]),
    ("sys/seal-status", &["get"]),
    ("sys/unseal", &["post"]),
    ("sys/seal", &["post"]),
    ("sys/health", &["get"]),
    ("sys/leader", &["get"]),
    ("sys/mounts", &["get"]),
    ("sys/mounts/{path}", &["get", "post", "delete"]),
    ("sys/mounts/{path}/tune", &["get", "post"]),
    ("sys/auth", &["get"]),
    ("sys/auth/{path}", &["get", "post", "delete"]),
    ("sys/auth/{path}/tune", &["get", "post"]),
    ("sys/policies/acl", &["get"]),
    (
        "sys/policies/acl/{name}",
        &["get", "post", "patch", "delete"],
    ),
    ("sys/policy", &["get"]),
    ("sys/policy/{name}", &["get", "post", "delete"]),
    ("sys/capabilities", &["post"]),
    ("sys/capabilities-self", &["post"]),
    ("sys/capabilities-accessor", &["post"]),
    ("sys/audit", &["get"]),
    ("sys/audit/{path}", &["post", "delete"]),
    ("sys/audit-hash/{path}", &["post"]),
    ("sys/internal/specs/openapi", &["get"]),
    ("sys/internal/ui/mounts", &["get"]),
    ("sys/internal/ui/mounts/{path}", &["get"]),
    ("auth/token/create", &["post"]),
    ("auth/token/create-orphan", &["post"]),
    ("auth/token/lookup", &["post"]),
    ("auth/token/lookup-self", &["get"]),
    ("auth/token/lookup-accessor", &["post"]),
    ("auth/token/renew-self", &["post"]),
    ("auth/token/revoke", &["post"]),
    ("auth/token/revoke-self", &["post"]),
    ("auth/token/revoke-accessor", &["post"]),
    ("auth/token/revoke-orphan", &["post"]),
    ("auth/token/accessors", &["get"]),
    ("auth/kerberos/config", &["get", "post"]),
    ("auth/kerberos/config/ldap", &["get", "post"]),
    ("auth/kerberos/groups", &["get"]),
    ("auth/kerberos/groups/{name}", &["get", "post", "delete"]),
    ("auth/kerberos/login", &["get", "post"]),
    ("secret/data/{path}", &["get", "post", "delete"]),
    ("secret/metadata/{path}", &["get", "post", "delete"]),
    ("secret/delete/{path}", &["post"]),
    ("secret/undelete/{path}", &["post"]),
    ("secret/destroy/{path}", &["post"]),
    ("cubbyhole/{path}", &["get", "post", "delete"]),
];

#[test]
fn every_promised_path_is_in_the_document() {
    let server = with_everything();
    let document = document(&server.root());
    let mut missing = Vec::new();
    for (path, methods) in PROMISED {
        match document["paths"].get(format!("/{path}")) {
            None => missing.push((*path).to_owned()),
            Some(item) => {
                missing.extend(
                    methods
                        .iter()
                        .filter(|m| item.get(*m).is_none())
                        .map(|m| format!("{m} {path}")),
                );
            }
        }
    }
    let known: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert!(missing.is_empty(), "missing: {missing:#?}\nin: {known:#?}");
}

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
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../api-docs/openapi.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        panic!("{} is missing: `make docs` writes it", file.display());
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

fn with_everything() -> Server {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.post(
        "sys/mounts/secret",
        json!({"type": "kv", "options": {"version": "2"}}),
    )
    .expect(204);
    root.post("sys/auth/kerberos", json!({"type": "kerberos"}))
        .expect(204);
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
