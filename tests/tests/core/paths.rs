//! `path-traversal`: a path that could be read in two ways is refused, whoever asks; sent as raw bytes, because no
//! proper client would send them.

use obol_tests::http::Reply;
use serde_json::json;

use super::{client_with, root, server};

/// A request line as it is.
fn raw(target: &str, token: &str) -> Reply {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: {token}\r\nConnection: close\r\n\r\n"
    );
    server().client().raw(request.as_bytes()).unwrap()
}

const ODD: &[&str] = &[
    "/v1/secret/data/open/../closed/x",
    "/v1/secret/data/open/./x",
    "/v1/secret/data/open/%2e%2e/closed/x",
    "/v1/secret/data/open/.%2e/closed/x",
    "/v1/secret/data/open/%2E%2E/closed/x",
    "/v1/secret/data/open/%252e%252e/closed/x",
    "/v1/secret/data/open/..%2fclosed/x",
    "/v1/secret/data/open/..%5cclosed/x",
    "/v1/secret/data/open/..\\closed\\x",
    "/v1/secret/data/open//x",
    "/v1//secret/data/open/x",
    "/v1/secret/data//closed/x",
    "/v1/secret%2fdata%2fclosed%2fx",
    "/v1/secret/data/open%00/x",
    "/v1/secret/data/open/x%0a",
    "/v1/secret/data/open/%",
    "/v1/secret/data/open/%zz",
    "/v1/secret/data/open/%ff",
    "/v1/secret/data/open/%c0%ae%c0%ae/closed/x",
    "/v1/../v1/secret/data/open/x",
    "/v1/secret/data/open/x/..",
    "/v1/sys/../secret/data/open/x",
    "/v1/secret/data/open/..;/closed/x",
];

#[test]
fn path_traversal_odd_paths_reach_nothing() {
    let root = root();
    root.post("secret/data/open/x", json!({"data": {"which": "open"}}))
        .expect(200);
    root.post("secret/data/closed/x", json!({"data": {"which": "closed"}}))
        .expect(200);
    let client = client_with(
        "open-only",
        r#"path "secret/data/open/*" { capabilities = ["create", "read", "update", "delete", "list"] }
           path "secret/data/closed/*" { capabilities = ["deny"] }"#,
    );
    client.get("secret/data/open/x").expect(200);
    client.get("secret/data/closed/x").expect(403);
    for path in ODD {
        for token in [client.token(), root.token()] {
            let reply = raw(path, token);
            assert!(
                matches!(reply.status, 400 | 403 | 404),
                "{path}: {} {}",
                reply.status,
                reply.text()
            );
            assert!(!reply.text().contains("which"), "{path}: {}", reply.text());
        }
    }
}

#[test]
fn path_traversal_mounts_and_names_cannot_be_made_of_odd_paths() {
    let root = root();
    for path in [
        "sys/mounts/a/../sys",
        "sys/mounts/a//b",
        "sys/mounts/..",
        "sys/mounts/a%2fb",
        "sys/policies/acl/..%2froot",
        "sys/policies/acl/a%2fb",
        "sys/policies/acl/..",
        "secret/data/../../sys/mounts",
        "cubbyhole/../sys/mounts",
    ] {
        let reply = root.post(
            path,
            json!({"type": "kv", "policy": "path \"a\" { capabilities = [\"read\"] }"}),
        );
        assert!(
            matches!(reply.status, 400 | 404),
            "{path}: {} {}",
            reply.status,
            reply.text()
        );
    }
    // Nor of a path in a body.
    root.post(
        "sys/audit/x",
        json!({"type": "file", "options": {"file_path": "/tmp/../etc/obol-audit"}}),
    )
    .expect(400);
}

#[test]
fn case_and_a_slash_at_the_end_are_no_way_around_a_rule() {
    let root = root();
    root.post("secret/data/Kept/x", json!({"data": {"which": "kept"}}))
        .expect(200);
    let client = client_with(
        "around",
        r#"path "secret/data/*" { capabilities = ["read"] }
           path "secret/data/Kept/x" { capabilities = ["deny"] }"#,
    );
    for path in [
        "secret/data/Kept/x",
        "secret/data/Kept/x/",
        "secret/data/kept/x",
        "secret/data/KEPT/x",
    ] {
        let reply = client.get(path);
        assert!(
            matches!(reply.status, 403 | 404),
            "{path}: {}",
            reply.text()
        );
        assert!(!reply.text().contains("which"), "{path}");
    }
    // A mount's name is its own in one case alone.
    root.get("SECRET/data/Kept/x").expect(404);
}

#[test]
fn only_paths_below_v1_are_the_api() {
    for path in [
        "/v1",
        "/v2/sys/health",
        "/V1/sys/health",
        "/sys/health",
        "/v1sys/health",
        "/ui/no-such-page",
        "/uix",
        "/metrics",
    ] {
        let reply = raw(path, root().token());
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
    }
    let long = format!("/v1/secret/data/{}", "a".repeat(5000));
    assert_eq!(raw(&long, root().token()).status, 400);
}
