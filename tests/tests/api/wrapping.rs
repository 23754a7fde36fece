//! Response wrapping: an answer that is fetched once, with a token made for it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Barrier, OnceLock};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use obol_tests::http::Reply;
use obol_tests::{Client, Server, ServerOptions, eventually};
use serde_json::{Value, json};

const INVALID: &str = "wrapping token is not valid or does not exist";

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| with_kv(ServerOptions::default()))
}

fn with_kv(options: ServerOptions) -> Server {
    let server = Server::ready(options);
    let kv = json!({"type": "kv", "options": {"version": "2"}});
    server.root().post("sys/mounts/secret", kv).expect(204);
    server
        .root()
        .post("secret/data/app", json!({"data": {"password": "hunter2"}}))
        .expect(200);
    server
}

/// Asks for a path with the answer wrapped, and gives `wrap_info`.
fn wrapped(client: &Client, method: &str, path: &str, body: Option<Value>) -> Value {
    let mut request = client
        .request(method, path)
        .header("X-Vault-Wrap-TTL", "5m");
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().expect(200).json();
    assert_eq!(answer["data"], Value::Null, "{answer}");
    assert_eq!(answer["auth"], Value::Null, "{answer}");
    answer["wrap_info"].clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn unwrap_as(token: &str) -> Reply {
    let client = server().client().with_token(token);
    client.post("sys/wrapping/unwrap", json!({}))
}

fn assert_invalid(reply: Reply) {
    let reply = reply.expect(400);
    assert_eq!(reply.errors(), [INVALID]);
}

#[test]
fn a_wrapped_answer_is_fetched_once_with_the_token_itself() {
    let root = server().root();
    let info = wrapped(&root, "GET", "secret/data/app", None);
    assert_eq!(info["ttl"], 300);
    assert_eq!(info["creation_path"], "secret/data/app");
    assert!(text(&info["creation_time"]).contains('T'));
    assert!(info.get("wrapped_accessor").is_none(), "{info}");
    let token = text(&info["token"]);
    // It is a token of one use and of one policy.
    let seen = root
        .post("auth/token/lookup", json!({ "token": token }))
        .data();
    assert_eq!(seen["policies"], json!(["response-wrapping"]));
    assert_eq!(
        (&seen["num_uses"], &seen["renewable"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(seen["accessor"], info["accessor"]);

    let answer = unwrap_as(token).expect(200).json();
    assert_eq!(answer["data"]["data"], json!({"password": "hunter2"}));
    assert_eq!(answer["wrap_info"], Value::Null);
    assert_eq!(text(&answer["request_id"]).len(), 36);
    assert_invalid(unwrap_as(token));
    root.post("auth/token/lookup", json!({ "token": token }))
        .expect(403);
}

#[test]
fn a_wrapped_answer_is_fetched_once_by_another_token() {
    let root = server().root();
    let other = root
        .post("auth/token/create", json!({"policies": ["default"]}))
        .client_token();
    let other = server().client().with_token(other);
    let info = wrapped(&root, "GET", "secret/data/app", None);
    let body = json!({ "token": info["token"] });
    let answer = other.put("sys/wrapping/unwrap", body.clone()).expect(200);
    assert_eq!(answer.json()["data"]["data"]["password"], "hunter2");
    assert_invalid(other.post("sys/wrapping/unwrap", body.clone()));
    assert_invalid(unwrap_as(text(&info["token"])));
    // Without any token of one's own it is refused before it is spent.
    let info = wrapped(&root, "GET", "secret/data/app", None);
    let body = json!({ "token": info["token"] });
    server()
        .client()
        .post("sys/wrapping/unwrap", body.clone())
        .expect(403);
    // In both places it is still one use.
    let own = server().client().with_token(text(&info["token"]));
    own.post("sys/wrapping/unwrap", body).expect(200);
}

#[test]
fn what_was_never_wrapped_is_refused_in_words_that_clients_know() {
    let root = server().root();
    assert_invalid(unwrap_as("obs.nonsense"));
    assert_invalid(unwrap_as("eyJ.nonsense.x"));
    assert_invalid(root.post("sys/wrapping/unwrap", json!({})));
    assert_invalid(root.post("sys/wrapping/unwrap", json!({"token": "obs.nonsense"})));
    assert_invalid(root.post("sys/wrapping/rewrap", json!({"token": root.token()})));
    assert_invalid(root.post("sys/wrapping/lookup", json!({"token": root.token()})));
    assert_invalid(server().client().post("sys/wrapping/unwrap", json!({})));
    assert_invalid(server().client().post("sys/wrapping/lookup", json!({})));
    root.post("sys/wrapping/unwrap", json!({"token": 5}))
        .expect(400);
}

#[test]
fn anything_can_be_wrapped_and_comes_back_as_it_was() {
    let root = server().root();
    let content = json!({"zip": "zap", "n": 5, "deep": [{"a": null}], "token": "not one"});
    let refused = root.post("sys/wrapping/wrap", content.clone()).expect(400);
    assert!(refused.errors()[0].contains("requires response wrapping"));
    let info = wrapped(&root, "POST", "sys/wrapping/wrap", Some(content.clone()));
    assert_eq!(info["creation_path"], "sys/wrapping/wrap");
    let answer = unwrap_as(text(&info["token"])).expect(200).json();
    assert_eq!(answer["data"], content);
}

#[test]
fn a_lookup_needs_no_rights_and_spends_nothing() {
    let info = wrapped(&server().root(), "GET", "secret/data/app", None);
    let anybody = server().client();
    for _ in 0..3 {
        let seen = anybody.post("sys/wrapping/lookup", json!({"token": info["token"]}));
        let seen = seen.data();
        assert_eq!(seen["creation_ttl"], 300);
        assert_eq!(seen["creation_path"], "secret/data/app");
        assert_eq!(seen["creation_time"], info["creation_time"]);
        assert_eq!(seen.len(), 3);
    }
    let own = anybody.with_token(text(&info["token"]));
    own.post("sys/wrapping/lookup", json!({})).expect(200);
    own.get("sys/wrapping/lookup").expect(200);
    unwrap_as(own.token()).expect(200);
}

#[test]
fn a_rewrapped_answer_has_a_new_token_and_the_old_one_is_spent() {
    let root = server().root();
    let old = wrapped(&root, "GET", "secret/data/app", None);
    let answer = root.post("sys/wrapping/rewrap", json!({"token": old["token"]}));
    let answer = answer.expect(200).json();
    assert_eq!(answer["data"], Value::Null);
    let new = answer["wrap_info"].clone();
    assert_ne!(new["token"], old["token"]);
    assert_eq!(
        (&new["ttl"], &new["creation_path"]),
        (&json!(300), &json!("secret/data/app"))
    );
    assert_invalid(unwrap_as(text(&old["token"])));
    // The token itself may ask, too.
    let own = server().client().with_token(text(&new["token"]));
    let newest = own
        .post("sys/wrapping/rewrap", json!({}))
        .expect(200)
        .json();
    assert_invalid(unwrap_as(own.token()));
    let answer = unwrap_as(text(&newest["wrap_info"]["token"])).expect(200);
    assert_eq!(answer.json()["data"]["data"]["password"], "hunter2");
}

#[test]
fn a_wrapped_login_says_the_accessor_of_the_token_inside() {
    let root = server().root();
    let info = wrapped(
        &root,
        "POST",
        "auth/token/create",
        Some(json!({"policies": ["default"]})),
    );
    let inside = root.post(
        "auth/token/lookup-accessor",
        json!({"accessor": info["wrapped_accessor"]}),
    );
    assert_eq!(inside.data()["policies"], json!(["default"]));
    let auth = unwrap_as(text(&info["token"])).auth();
    assert_eq!(auth["accessor"], info["wrapped_accessor"]);
    server()
        .client()
        .with_token(text(&auth["client_token"]))
        .get("auth/token/lookup-self")
        .expect(200);
}

#[test]
fn a_jwt_says_where_to_unwrap_and_works_in_both_places() {
    let root = server().root();
    let as_jwt = || {
        let answer = root
            .request("GET", "secret/data/app")
            .header("X-Vault-Wrap-TTL", "60")
            .header("X-Vault-Wrap-Format", "jwt")
            .send();
        answer.expect(200).json()["wrap_info"].clone()
    };
    let info = as_jwt();
    let jwt = text(&info["token"]);
    let parts: Vec<&str> = jwt.split('.').collect();
    let decode = |part: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(decode(parts[0])["typ"], "JWT");
    let claims = decode(parts[1]);
    assert_eq!(claims["type"], "wrapping");
    assert_eq!(claims["accessor"], info["accessor"]);
    assert_eq!(
        claims["addr"],
        format!("http://127.0.0.1:{}", server().port())
    );
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        60
    );
    root.post("sys/wrapping/lookup", json!({ "token": jwt }))
        .expect(200);
    // A changed claim is no claim.
    let mut forged = claims.clone();
    forged["exp"] = json!(u64::MAX);
    let forged = URL_SAFE_NO_PAD.encode(forged.to_string());
    assert_invalid(unwrap_as(&format!("{}.{forged}.{}", parts[0], parts[2])));
    unwrap_as(jwt).expect(200);
    assert_invalid(unwrap_as(jwt));
    // The token inside is the token.
    let info = as_jwt();
    let claims = decode(text(&info["token"]).split('.').nth(1).unwrap());
    unwrap_as(text(&claims["jti"])).expect(200);
    let info = as_jwt();
    root.post("sys/wrapping/unwrap", json!({"token": info["token"]}))
        .expect(200);
    // What is wrapped anew keeps its form.
    let again = root.post("sys/wrapping/rewrap", json!({"token": as_jwt()["token"]}));
    assert!(text(&again.expect(200).json()["wrap_info"]["token"]).starts_with("eyJ"));
    root.request("GET", "secret/data/app")
        .header("X-Vault-Wrap-TTL", "60")
        .header("X-Vault-Wrap-Format", "xml")
        .send()
        .expect(400);
}

#[test]
fn num_uses_race_of_many_who_unwrap_at_once_one_gets_the_answer() {
    let root = server().root();
    for _ in 0..4 {
        let info = wrapped(&root, "GET", "secret/data/app", None);
        let token = text(&info["token"]);
        let start = Barrier::new(16);
        let replies: Vec<Reply> = thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|n| {
                    let (start, root) = (&start, &root);
                    scope.spawn(move || {
                        start.wait();
                        match n % 3 {
                            0 => unwrap_as(token),
                            1 => root.post("sys/wrapping/unwrap", json!({ "token": token })),
                            _ => root.post("sys/wrapping/rewrap", json!({ "token": token })),
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        let got = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(got, 1, "{statuses:?}");
        let others: BTreeSet<u16> = statuses.into_iter().filter(|s| *s != 200).collect();
        assert!(others.iter().all(|s| matches!(s, 400 | 503)), "{others:?}");
    }
}

#[test]
fn child_outlives_parent_the_answer_goes_with_its_token() {
    let root = server().root();
    // Revoked by its accessor.
    let info = wrapped(&root, "GET", "secret/data/app", None);
    root.post(
        "auth/token/revoke-accessor",
        json!({"accessor": info["accessor"]}),
    )
    .expect(204);
    assert_invalid(unwrap_as(text(&info["token"])));
    // Ended.
    let short = root
        .request("GET", "secret/data/app")
        .header("X-Vault-Wrap-TTL", "1s")
        .send()
        .json()["wrap_info"]
        .clone();
    let ended = || {
        let seen = root.post("sys/wrapping/lookup", json!({"token": short["token"]}));
        (seen.status == 400).then_some(())
    };
    eventually("the end of a wrapping token", ended);
    assert_invalid(unwrap_as(text(&short["token"])));
    // Spent on what it is not for: nothing is left of it.
    let info = wrapped(&root, "GET", "secret/data/app", None);
    let own = server().client().with_token(text(&info["token"]));
    own.get("secret/data/app").expect(403);
    assert_invalid(unwrap_as(own.token()));
}

#[test]
fn policies_say_for_how_long_an_answer_must_be_wrapped() {
    let root = server().root();
    let policy = r#"path "secret/data/app" {
        capabilities = ["read"]
        min_wrapping_ttl = "1m"
        max_wrapping_ttl = "1h"
    }"#;
    root.put("sys/policies/acl/wrapped-only", json!({ "policy": policy }))
        .expect(204);
    let client = root
        .post("auth/token/create", json!({"policies": ["wrapped-only"]}))
        .client_token();
    let client = server().client().with_token(client);
    client.get("secret/data/app").expect(403);
    for (ttl, status) in [("30s", 403), ("2h", 403), ("5m", 200), ("1m", 200)] {
        client
            .request("GET", "secret/data/app")
            .header("X-Vault-Wrap-TTL", ttl)
            .send()
            .expect(status);
    }
}

#[test]
fn errors_and_empty_answers_are_not_wrapped() {
    let root = server().root();
    let ask = |method: &str, path: &str| {
        root.request(method, path)
            .header("X-Vault-Wrap-TTL", "5m")
            .send()
    };
    assert_eq!(ask("GET", "secret/data/none").expect(404).errors(), [""; 0]);
    ask("DELETE", "sys/policies/acl/never-was").expect(204);
    // What stands beside the envelope is wrapped as well.
    let info = ask("GET", "sys/internal/specs/openapi").expect(200).json()["wrap_info"].clone();
    let document = unwrap_as(text(&info["token"])).expect(200).json();
    assert!(document["openapi"].is_string());
    // A limit above the system's is the system's.
    let info = root
        .request("GET", "secret/data/app")
        .header("X-Vault-Wrap-TTL", "100000h")
        .send()
        .expect(200)
        .json()["wrap_info"]
        .clone();
    assert_eq!(info["ttl"], 768 * 3600);
}

#[test]
fn policy_name_case_nobody_is_given_the_policy_of_wrapping_tokens() {
    let root = server().root();
    for name in ["response-wrapping", "Response-Wrapping"] {
        root.post("auth/token/create", json!({"policies": [name]}))
            .expect(400);
    }
    root.put(
        "sys/policies/acl/response-wrapping",
        json!({"policy": "path \"*\" { capabilities = [\"sudo\"] }"}),
    )
    .expect(400);
    root.delete("sys/policies/acl/response-wrapping")
        .expect(400);
    let shown = root.get("sys/policies/acl/response-wrapping").data();
    assert!(text(&shown["policy"]).contains("sys/wrapping/unwrap"));
    let names = root.list("sys/policies/acl").keys();
    assert!(
        !names.contains(&"response-wrapping".to_owned()),
        "{names:?}"
    );
}

#[test]
fn audit_raw_neither_the_token_nor_the_answer_is_in_the_log() {
    let server = with_kv(ServerOptions::default());
    let root = server.root();
    let file = server.dir().join("audit.log");
    let device = json!({"type": "file", "options": {"file_path": file.display().to_string()}});
    root.put("sys/audit/file", device).expect(204);
    let info = wrapped(&root, "GET", "secret/data/app", None);
    let login = wrapped(
        &root,
        "POST",
        "auth/token/create",
        Some(json!({"policies": ["default"]})),
    );
    let inside = |info: &Value| {
        let own = server.client().with_token(text(&info["token"]));
        own.post("sys/wrapping/unwrap", json!({}))
            .expect(200)
            .json()
    };
    let (secret, auth) = (inside(&info), inside(&login)["auth"].clone());
    assert_eq!(secret["data"]["data"]["password"], "hunter2");
    let log = fs::read_to_string(&file).unwrap();
    for plain in [
        "hunter2",
        text(&info["token"]),
        text(&login["token"]),
        text(&login["wrapped_accessor"]),
        text(&auth["client_token"]),
    ] {
        assert!(!log.contains(plain), "{plain} in {log}");
    }
    let hash = |input: &Value| {
        let hash = root.post("sys/audit-hash/file", json!({ "input": input }));
        hash.data()["hash"].clone()
    };
    let responses: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|entry: &Value| entry["type"] == "response")
        .collect();
    let wrapping = responses
        .iter()
        .find(|entry| entry["request"]["path"] == "secret/data/app")
        .unwrap();
    assert_eq!(
        wrapping["response"]["wrap_info"]["token"],
        hash(&info["token"])
    );
    assert_eq!(wrapping["response"]["wrap_info"]["ttl"], 300);
    assert_eq!(wrapping["request"]["wrap_ttl"], 300);
    let unwrapping = responses
        .iter()
        .find(|entry| entry["request"]["path"] == "sys/wrapping/unwrap")
        .unwrap();
    assert_eq!(
        unwrapping["response"]["data"]["data"]["password"],
        hash(&json!("hunter2"))
    );
    let login = responses
        .iter()
        .rfind(|entry| entry["request"]["path"] == "sys/wrapping/unwrap")
        .unwrap();
    assert_eq!(
        login["response"]["auth"]["client_token"],
        hash(&auth["client_token"])
    );
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "restarts a server")]
fn a_wrapped_answer_survives_a_crash_and_is_gone_after_its_use() {
    let server = with_kv(ServerOptions::on_disk());
    let info = wrapped(&server.root(), "GET", "secret/data/app", None);
    let jwt = server
        .root()
        .request("GET", "secret/data/app")
        .header("X-Vault-Wrap-TTL", "5m")
        .header("X-Vault-Wrap-Format", "jwt")
        .send()
        .json()["wrap_info"]["token"]
        .clone();
    server.crash_and_restart();
    for token in [text(&info["token"]), text(&jwt)] {
        let own = server.client().with_token(token);
        own.post("sys/wrapping/unwrap", json!({})).expect(200);
    }
    server.crash_and_restart();
    let own = server.client().with_token(text(&info["token"]));
    own.post("sys/wrapping/unwrap", json!({})).expect(400);
}
