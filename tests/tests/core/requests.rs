//! What every request keeps to: the envelope, verbs, headers, and errors that repeat nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{root, server, token};

#[test]
fn an_answer_has_vaults_envelope() {
    root()
        .post("secret/data/envelope", json!({"data": {"a": "b"}}))
        .expect(200);
    let reply = root().get("secret/data/envelope").expect(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    let body = reply.json();
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    for key in [
        "request_id",
        "lease_id",
        "renewable",
        "lease_duration",
        "data",
        "wrap_info",
        "warnings",
        "auth",
    ] {
        assert!(
            keys.iter().any(|k| *k == key),
            "{key} is missing from {keys:?}"
        );
    }
    assert_eq!(body["request_id"].as_str().unwrap().len(), 36);
    assert_ne!(
        body["request_id"],
        root().get("secret/data/envelope").json()["request_id"]
    );
    let error = root().get("secret/data/nothing/here").expect(404);
    assert_eq!(error.json(), json!({"errors": []}));
    assert_eq!(error.header("content-type"), Some("application/json"));
    let denied = server().client().get("secret/data/envelope").expect(403);
    assert_eq!(denied.json(), json!({"errors": ["permission denied"]}));
    // Where Vault sends nothing, nothing is sent.
    let done = root()
        .put(
            "sys/policies/acl/envelope",
            json!({"policy": "path \"a\" { capabilities = [\"read\"] }"}),
        )
        .expect(204);
    assert!(done.body.is_empty());
}

#[test]
fn unknown_parameters_are_warned_of_and_do_nothing() {
    let reply = root()
        .post(
            "auth/token/create",
            json!({"policies": ["default"], "colour": "crimson", "size": 3}),
        )
        .expect(200);
    assert_eq!(
        reply.warnings(),
        ["Endpoint ignored these unrecognized parameters: [colour size]"]
    );
    assert!(!reply.warnings()[0].contains("crimson"));
    let reply = root()
        .post(
            "sys/policies/acl/warned",
            json!({"policy": "path \"a\" { capabilities = [\"read\"] }", "name": "other", "x": 1}),
        )
        .expect(200);
    assert_eq!(reply.warnings().len(), 2, "{:?}", reply.warnings());
    root().get("sys/policies/acl/warned").expect(200);
    root().get("sys/policies/acl/other").expect(404);
}

#[test]
fn verbs_are_vaults() {
    let root = root();
    root.put("secret/data/verbs/a", json!({"data": {"n": 1}}))
        .expect(200);
    root.post("secret/data/verbs/a", json!({"data": {"n": 2}}))
        .expect(200);
    assert_eq!(root.list("secret/metadata/verbs").keys(), ["a"]);
    for query in ["list=true", "list=1"] {
        assert_eq!(
            root.get(&format!("secret/metadata/verbs?{query}")).keys(),
            ["a"]
        );
    }
    let head = root
        .request("HEAD", "secret/data/verbs/a")
        .send()
        .expect(200);
    assert!(head.body.is_empty());
    let policy = json!({"policy": "path \"a\" { capabilities = [\"read\"] }"});
    root.patch("sys/policies/acl/verbs", policy.clone())
        .expect(204);
    root.get("sys/policies/acl/verbs").expect(200);
    let untyped = root
        .request("PATCH", "sys/policies/acl/verbs")
        .json(&policy)
        .send()
        .expect(415);
    assert!(
        untyped.errors()[0].contains("merge-patch"),
        "{:?}",
        untyped.errors()
    );

    root.post("secret/metadata", json!({})).expect(405);
    root.delete("sys/mounts").expect(405);
    root.get("auth/token/create").expect(405);
    root.request("OPTIONS", "sys/mounts").send().expect(405);
    root.get("no/such/mount").expect(404);
    root.get("sys/no-such-path").expect(404);
    root.get("secret/no-such-route/x").expect(404);
}

#[test]
fn path_traversal_a_trailing_slash_is_no_other_path_and_nothing_is_written_to_a_folder() {
    let server = server();
    let root = server.root();
    root.post("secret/data/team", json!({"data": {"n": 1}}))
        .expect(200);
    root.post("secret/data/team/a", json!({"data": {"n": 2}}))
        .expect(200);
    let policy = r#"
        path "secret/data/team/*" { capabilities = ["create", "read", "update", "delete", "list"] }
        path "secret/metadata/team/*" { capabilities = ["list", "delete"] }
        path "sys/policies/acl/team/*" { capabilities = ["create", "update"] }
    "#;
    root.put("sys/policies/acl/of-team", json!({"policy": policy}))
        .expect(204);
    let token = root
        .post("auth/token/create", json!({"policies": ["of-team"]}))
        .client_token();
    let member = server.client().with_token(token);
    member.get("secret/data/team/a").expect(200);
    for path in ["secret/data/team", "secret/data/team/"] {
        member.get(path).expect(403);
        member.delete(path).expect(403);
    }
    member.delete("secret/metadata/team/").expect(403);
    member.list("secret/metadata/team/").expect(200);
    let data = json!({"data": {"n": 3}});
    let refused = member.post("secret/data/team/", data.clone()).expect(400);
    assert_eq!(refused.errors(), ["cannot write to a path ending in '/'"]);
    let other = json!({"policy": "path \"*\" { capabilities = [\"read\"] }"});
    member.post("sys/policies/acl/team/", other).expect(403);
    // Not by root either: was the secret meant, or one in the folder?
    root.post("secret/data/team/", data).expect(400);
    assert_eq!(root.get("secret/data/team").data()["data"]["n"], 1);
}

#[test]
fn whoever_may_not_know_is_not_told_what_is_there() {
    let stranger = token(json!({"policies": ["default"]}));
    for path in [
        "secret/data/verbs/a",
        "secret/data/nothing/here",
        "no/such/mount",
        "sys/no-such-path",
        "sys/mounts",
    ] {
        stranger.get(path).expect(403);
        server().client().get(path).expect(403);
        server()
            .client()
            .with_token("obs.nonsense")
            .get(path)
            .expect(403);
    }
}

#[test]
fn the_token_comes_in_either_header_and_never_in_two_versions() {
    let client = token(json!({"policies": ["default"]}));
    let bare = server().client();
    let path = "auth/token/lookup-self";
    let bearer = format!("Bearer {}", client.token());
    bare.request("GET", path)
        .header("Authorization", &bearer)
        .send()
        .expect(200);
    bare.request("GET", path)
        .header("authorization", &bearer.replace("Bearer", "bearer"))
        .send()
        .expect(200);
    client
        .request("GET", path)
        .header("Authorization", &bearer)
        .send()
        .expect(200);
    bare.get(&format!("{path}?token={}", client.token()))
        .expect(403);
    // `duplicate-credential`
    let root_bearer = format!("Bearer {}", root().token());
    client
        .request("GET", path)
        .header("Authorization", &root_bearer)
        .send()
        .expect(400);
    client
        .request("GET", path)
        .header("X-Vault-Token", root().token())
        .send()
        .expect(400);
    client
        .request("GET", path)
        .header("X-Vault-Token", client.token())
        .send()
        .expect(400);
    bare.request("GET", path)
        .header("Authorization", &bearer)
        .header("Authorization", &root_bearer)
        .send()
        .expect(400);
    // Something else in Authorization is not for this route, and no reason to refuse the token.
    client
        .request("GET", path)
        .header("Authorization", "Basic Z3JhY2U6cGFzc3dvcmQ=")
        .send()
        .expect(200);
}

#[test]
fn headers_of_vaults_clients_are_taken_and_what_is_not_there_is_refused() {
    let client = token(json!({"policies": ["default"]}));
    let path = "auth/token/lookup-self";
    for (name, value) in [
        ("X-Vault-Request", "true"),
        ("X-Vault-Policy-Override", "true"),
        ("X-Vault-No-Request-Forwarding", "true"),
        ("X-Vault-Wrap-Format", "jwt"),
        ("X-Vault-Namespace", ""),
        ("X-Vault-Namespace", "root"),
        ("X-Vault-Wrap-TTL", ""),
        ("X-Vault-Wrap-TTL", "0"),
    ] {
        client
            .request("GET", path)
            .header(name, value)
            .send()
            .expect(200);
    }
    let namespace = client
        .request("GET", path)
        .header("X-Vault-Namespace", "team")
        .send()
        .expect(400);
    assert!(
        namespace.errors()[0].contains("namespaces"),
        "{:?}",
        namespace.errors()
    );
    client
        .request("GET", path)
        .header("X-Vault-Wrap-TTL", "a while")
        .send()
        .expect(400);
    let large = "x".repeat(90 * 1024);
    client
        .request("GET", path)
        .header("X-Large", &large)
        .send()
        .expect(200);
}

#[test]
fn error_leaks_input_an_error_repeats_nothing_that_was_sent() {
    let secret = "hunter2-correct-horse";
    let root = root();
    let mut replies = vec![
        root.request("POST", "secret/data/leak")
            .body(format!("{{\"data\": {secret}}}"))
            .send(),
        root.request("POST", "secret/data/leak").body(secret).send(),
        root.request("POST", "secret/data/leak")
            .body(format!("\"{secret}\""))
            .send(),
        root.request("POST", "secret/data/leak")
            .body(format!("{{\"data\": \"{secret}"))
            .send(),
        root.post("secret/data/leak", json!({ "data": secret })),
        root.post(
            "secret/data/leak",
            json!({"data": {"a": 1}, "options": secret}),
        ),
        root.post(
            "secret/data/leak",
            json!({"data": {"a": 1}, "options": {"cas": secret}}),
        ),
        root.post("secret/delete/leak", json!({ "versions": secret })),
        root.post("auth/token/create", json!({ "ttl": secret })),
        root.post("auth/token/create", json!({ "policies": {"a": secret} })),
        root.post("auth/token/create", json!({ "meta": secret })),
        root.post("auth/token/create", json!({ "bound_cidrs": secret })),
        root.post("auth/token/create", json!({ "type": secret })),
        root.post("auth/token/lookup", json!({ "token": secret })),
        root.post("auth/token/lookup", json!({ "token": [secret] })),
        root.post(
            "auth/token/renew",
            json!({ "token": secret, "increment": secret }),
        ),
        root.put("sys/policies/acl/leak", json!({ "policy": {"a": secret} })),
        root.put("sys/unseal", json!({ "key": secret })),
        root.put("sys/unseal", json!({ "key": STANDARD.encode(secret) })),
        root.post(
            "sys/mounts/leak",
            json!({"type": "kv", "config": {"default_lease_ttl": secret}}),
        ),
        root.get(&format!("sys/health?activecode={secret}")),
        root.get(&format!("secret/data/{secret}/../x")),
        root.request("GET", "auth/token/lookup-self")
            .header("X-Vault-Wrap-TTL", secret)
            .send(),
        root.request("GET", "auth/token/lookup-self")
            .header("X-Vault-Namespace", secret)
            .send(),
    ];
    let stranger = server().client().with_token(secret);
    replies.push(stranger.get("secret/data/leak"));
    replies.push(stranger.post("secret/data/leak", json!({"data": {"a": secret}})));
    for (n, reply) in replies.iter().enumerate() {
        // Sealed or not, unseal answers 200 on an open server: then it has taken nothing.
        assert!(
            reply.status >= 400 || reply.status == 200,
            "request {n}: {} {}",
            reply.status,
            reply.text()
        );
        assert!(
            !reply.text().contains("hunter2"),
            "request {n}: {}",
            reply.text()
        );
    }
    assert!(
        !server().log().contains("hunter2"),
        "the log repeats what was sent"
    );
    assert!(
        !server().log().contains(root.token()),
        "the log shows a token"
    );
}

#[test]
fn bodies_that_are_no_objects_are_refused_and_nothing_is_an_empty_one() {
    for body in [
        "[]",
        "1",
        "\"text\"",
        "{",
        "{}}",
        "{\"a\": 1,}",
        "\u{feff}{}",
        "{\"a\": 1} {\"b\": 2}",
        "a=b",
    ] {
        let reply = root()
            .request("POST", "auth/token/create")
            .body(body)
            .send();
        assert_eq!(reply.status, 400, "{body:?}: {}", reply.text());
    }
    for body in ["", "  \n", "{}", "null"] {
        root()
            .request("POST", "auth/token/create")
            .body(body)
            .send()
            .expect(200);
    }
    // curl's `--data` says that it sends a form; what counts is what it sends.
    let request = root()
        .request("POST", "secret/data/form")
        .body("{\"data\": {}}")
        .header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(root().raw(&request.bytes()).unwrap().status, 200);
}

#[test]
fn two_bodies_in_one_request_are_one_or_none() {
    // Request smuggling: two lengths, or a length and chunks.
    let token = root().token().to_owned();
    for headers in [
        "Content-Length: 5\r\nContent-Length: 12",
        "Content-Length: 5, 12",
        "Content-Length: +12",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
    ] {
        let request = format!(
            "POST /v1/auth/token/lookup HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Vault-Token: {token}\r\n{headers}\r\n\r\n{{\"token\": \"\"}}"
        );
        if let Ok(reply) = root().raw(request.as_bytes()) {
            assert!(
                matches!(reply.status, 400 | 501),
                "{headers}: {}",
                reply.status
            );
        }
    }
}
