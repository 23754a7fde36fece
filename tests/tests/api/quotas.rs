//! Quotas: how often a client may ask, and how many tokens there may be; and what is under way.

use std::fs;

use obol_tests::{Client, Server, ServerOptions, eventually};
use serde_json::{Value, json};

fn server() -> Server {
    let server = Server::ready(ServerOptions::default());
    let kv = json!({"type": "kv", "options": {"version": "2"}});
    server.root().post("sys/mounts/secret", kv).expect(204);
    server
}

fn limit(root: &Client, name: &str, body: Value) {
    root.post(&format!("sys/quotas/rate-limit/{name}"), body)
        .expect(204);
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let server = server();
    let root = server.root();
    limit(
        &root,
        "kv",
        json!({"path": "secret", "rate": 3, "interval": "1h"}),
    );
    for _ in 0..3 {
        root.get("secret/data/x").expect(404);
    }
    let refused = root.get("secret/data/x").expect(429);
    assert_eq!(
        refused.errors(),
        ["request path \"secret/data/x\": rate limit quota exceeded"]
    );
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1200).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-limit"), None);
    // Before it is known who asks, and nothing else is touched by it.
    server.client().get("secret/data/x").expect(429);
    root.get("auth/token/lookup-self").expect(200);
    let shown = root.get("sys/quotas/rate-limit/kv").data();
    assert_eq!(
        Value::Object(shown),
        json!({"block_interval": 0, "inheritable": false, "interval": 3600, "name": "kv", "path": "secret/",
               "rate": 3.0, "role": "", "type": "rate-limit"})
    );
    assert_eq!(root.list("sys/quotas/rate-limit").keys(), ["kv"]);
    root.delete("sys/quotas/rate-limit/kv").expect(204);
    root.get("secret/data/x").expect(404);
    root.list("sys/quotas/rate-limit").expect(404);
}

#[test]
fn headers_exemptions_and_the_audit_of_refusals_are_configured() {
    let server = server();
    let root = server.root();
    let config = root.get("sys/quotas/config").data();
    assert_eq!(config["enable_rate_limit_response_headers"], false);
    assert!(
        config["rate_limit_exempt_paths"]
            .as_array()
            .unwrap()
            .contains(&json!("sys/health"))
    );
    let body = json!({"rate_limit_exempt_paths": ["sys/quotas/*", "secret/data/free", "sys/audit*"],
                      "enable_rate_limit_response_headers": true, "enable_rate_limit_audit_logging": true});
    root.post("sys/quotas/config", body).expect(204);
    let file = server.dir().join("audit.log");
    let device = json!({"type": "file", "options": {"file_path": file.display().to_string()}});
    root.put("sys/audit/file", device).expect(204);
    limit(
        &root,
        "all",
        json!({"rate": 2.0, "interval": 3600, "block_interval": "1h"}),
    );
    for left in ["1", "0"] {
        let reply = root.get("secret/data/x").expect(404);
        assert_eq!(reply.header("x-ratelimit-limit"), Some("2"));
        assert_eq!(reply.header("x-ratelimit-remaining"), Some(left));
    }
    let refused = root.get("secret/data/x").expect(429);
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(refused.header("retry-after"), Some("3600"));
    root.get("secret/data/free").expect(404);
    let log = fs::read_to_string(&file).unwrap();
    let audited = log
        .lines()
        .any(|line| line.contains("rate limit quota exceeded"));
    assert!(audited, "{log}");
    server.client().get("sys/health").expect(200);
}

#[test]
fn bound_cidr_proxy_each_client_behind_a_proxy_has_a_rate_of_its_own() {
    let server = Server::ready(ServerOptions {
        listener: "  x_forwarded_for_authorized_addrs = \"127.0.0.1\"\n  x_forwarded_for_reject_not_present = false\n".into(),
        ..ServerOptions::default()
    });
    limit(
        &server.root(),
        "self",
        json!({"path": "auth/token/lookup-self", "rate": 1, "interval": "1h"}),
    );
    let from = |address: &str| {
        let request = server.root().request("GET", "auth/token/lookup-self");
        request.header("X-Forwarded-For", address).send().status
    };
    assert_eq!(from("10.0.0.1"), 200);
    assert_eq!(from("10.0.0.1"), 429);
    // In front of the proxy's own word anything may stand.
    assert_eq!(from("10.7.7.7, 10.0.0.1"), 429);
    assert_eq!(from("10.0.0.2"), 200);
    assert_eq!(from("2001:db8::1"), 200);
    assert_eq!(from("2001:db8::2"), 429);
}

#[test]
fn alias_case_logins_of_a_role_have_a_rate_of_their_own_however_the_role_is_named() {
    let server = server();
    let root = server.root();
    root.post("sys/auth/approle", json!({"type": "approle"}))
        .expect(204);
    let ids = ["web", "db"].map(|role| {
        let path = format!("auth/approle/role/{role}");
        root.post(
            &path,
            json!({"bind_secret_id": false, "token_bound_cidrs": "127.0.0.1"}),
        )
        .expect(204);
        let id = root.get(&format!("{path}/role-id")).data()["role_id"].clone();
        id.as_str().unwrap().to_owned()
    });
    let hourly =
        |path: &str, role: &str| json!({"path": path, "role": role, "rate": 1, "interval": "1h"});
    limit(&root, "web", hourly("auth/approle", "Web"));
    let login = |role_id: &str| {
        let body = json!({ "role_id": role_id });
        server.client().post("auth/approle/login", body).status
    };
    assert_eq!([login(&ids[0]), login(&ids[0])], [200, 429]);
    assert_eq!([login(&ids[1]), login(&ids[1])], [200, 200]);
    assert_eq!(login("nobody"), 400);

    root.post("sys/auth/jwt", json!({"type": "jwt"}))
        .expect(204);
    limit(&root, "ci", hourly("auth/jwt", "ci"));
    let attempt = |body: Value| server.client().post("auth/jwt/login", body).status;
    // Not configured yet: nobody's role.
    assert_eq!(attempt(json!({"role": "ci", "jwt": "x"})), 400);
    let config =
        json!({"jwt_validation_pubkeys": [PUBLIC_KEY], "bound_issuer": "ci", "default_role": "ci"});
    root.post("auth/jwt/config", config).expect(204);
    assert_eq!(attempt(json!({"role": "other", "jwt": "x"})), 400);
    assert_eq!(attempt(json!({"role": "ci", "jwt": "x"})), 400);
    // Another spelling, and the role that is meant where none is named, are the same role.
    assert_eq!(attempt(json!({"role": "CI", "jwt": "x"})), 429);
    assert_eq!(attempt(json!({"jwt": "x"})), 429);
    assert_eq!(attempt(json!({"role": "other", "jwt": "x"})), 400);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let server = server();
    let root = server.root();
    for body in [
        json!({}),
        json!({"rate": 0}),
        json!({"rate": -1}),
        json!({"rate": "often"}),
        json!({"rate": 1, "path": "no/such/mount"}),
        json!({"rate": 1, "path": "sec*ret/"}),
        json!({"rate": 1, "path": "secret/", "role": "web"}),
    ] {
        root.post("sys/quotas/rate-limit/odd", body).expect(400);
    }
    limit(
        &root,
        "one",
        json!({"rate": "5.5", "path": "secret/data/*"}),
    );
    let twice = root.post(
        "sys/quotas/rate-limit/two",
        json!({"rate": 1, "path": "secret/data/*"}),
    );
    assert!(twice.expect(400).errors()[0].contains("\"one\""));
    let odd = json!({"max_leases": 5, "path": "auth/approle/", "role": "app"});
    let refused = root.post("sys/quotas/lease-count/odd", odd).expect(400);
    assert!(refused.errors()[0].starts_with("role: "));
    let odd = json!({"rate": 5, "group_by": "none"});
    let refused = root.post("sys/quotas/rate-limit/odd", odd).expect(400);
    assert!(refused.errors()[0].starts_with("group_by: "));
    for rate in [json!("1e-300"), json!(1e-12), json!("NaN"), json!("inf")] {
        root.post("sys/quotas/rate-limit/odd", json!({"rate": rate}))
            .expect(400);
    }
    root.post("sys/quotas/lease-count/odd", json!({"max_leases": 0}))
        .expect(400);
    root.post(
        "sys/quotas/lease-count/odd",
        json!({"max_leases": 1, "path": "secret/data/x"}),
    )
    .expect(400);
    root.get("sys/quotas/rate-limit/none").expect(404);
}

#[test]
fn tokens_are_counted_where_they_are_and_one_too_many_is_refused() {
    let server = server();
    let root = server.root();
    let counter = || {
        let quota = root.get("sys/quotas/lease-count/all").data();
        quota["counter"].as_u64().unwrap()
    };
    root.post("sys/quotas/lease-count/all", json!({"max_leases": 2}))
        .expect(204);
    // The root token never ends, so it has no lease.
    assert_eq!(counter(), 0);
    let make = || root.post("auth/token/create", json!({"policies": ["default"]}));
    let first = make().client_token();
    make().expect(200);
    assert_eq!(counter(), 2);
    let refused = make().expect(429);
    assert!(
        refused.errors()[0].contains("lease count quota exceeded"),
        "{:?}",
        refused.errors()
    );
    assert!(refused.header("retry-after").is_some());
    // A batch token is refused as well, though it is no record, and an operator can still make a root token.
    let batch = json!({"type": "batch", "policies": ["default"]});
    root.post("auth/token/create", batch.clone()).expect(429);
    let another = root.post("auth/token/create", json!({"policies": ["root"]}));
    another.expect(200);
    root.post("auth/token/revoke", json!({ "token": first }))
        .expect(204);
    root.post("auth/token/create", batch).expect(200);
    assert_eq!(counter(), 1);
    make().expect(200);
    root.delete("sys/quotas/lease-count/all").expect(204);
    make().expect(200);
}

#[test]
fn a_request_under_way_is_seen() {
    let server = server();
    let root = server.root();
    let shown = root.get("sys/in-flight-req").data();
    let only = shown.values().next().unwrap();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!(only["request_path"], "/v1/sys/in-flight-req");
    assert_eq!(only["request_method"], "GET");
    assert_eq!(only["client_remote_address"], "127.0.0.1");
    let token = root
        .post("auth/token/create", json!({"policies": ["default"]}))
        .client_token();
    server
        .client()
        .with_token(token)
        .get("sys/in-flight-req")
        .expect(403);
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "restarts a server")]
fn quotas_are_there_after_a_restart() {
    let server = Server::ready(ServerOptions::on_disk());
    limit(
        &server.root(),
        "self",
        json!({"path": "auth/token/lookup-self", "rate": 1, "interval": "1h"}),
    );
    server.crash_and_restart();
    let root = server.root();
    let refused = || (root.get("auth/token/lookup-self").status == 429).then_some(());
    eventually("the quota", refused);
}

/// Of nobody: no token is signed with it.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEw3DlKQfVLrOU9Ikj3UIwXptn3UWL\nynCqwT55mRMK4iOEyJgRkebYA5mUIj2JICEZTEMy91KusTC6LJe5I1gpVw==\n-----END PUBLIC KEY-----\n";
