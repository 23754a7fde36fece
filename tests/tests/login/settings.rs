//! The token_* fields of `config/ldap`, and the mount's own tuning, on the tokens that logins get.

use obol_tests::kerberos::{self, config_payload, ldap_payload, log_in, with};
use obol_tests::realm;
use serde_json::{Value, json};

use super::server;

/// Enables a mount with these token fields and logs grace in there.
fn auth_with(mount: &str, fields: Value) -> Value {
    enable_with(mount, fields);
    log_in(server(), mount, "grace").auth()
}

fn enable_with(mount: &str, fields: Value) {
    kerberos::enable(
        &server().root(),
        mount,
        &config_payload(realm()),
        &with(ldap_payload(realm()), fields),
    );
}

fn lookup(auth: &Value) -> Value {
    let token = auth["client_token"].as_str().unwrap();
    let path = "auth/token/lookup-self";
    Value::Object(server().client().with_token(token).get(path).data())
}

#[test]
fn ttl_and_maximum() {
    let auth = auth_with("ttl", json!({"token_ttl": "20m", "token_max_ttl": 1800}));
    assert_eq!(auth["lease_duration"], 1200);
    let grace = server()
        .client()
        .with_token(auth["client_token"].as_str().unwrap());
    let renewed = grace.post("auth/token/renew-self", json!({"increment": "10h"}));
    assert!(!renewed.warnings().is_empty());
    let left = renewed.auth()["lease_duration"].as_u64().unwrap();
    assert!((1700..=1800).contains(&left), "{left}");
}

#[test]
fn explicit_maximum() {
    let auth = auth_with(
        "explicit",
        json!({"token_ttl": "20m", "token_explicit_max_ttl": "25m"}),
    );
    let seen = lookup(&auth);
    assert_eq!(seen["explicit_max_ttl"], 1500);
    let grace = server()
        .client()
        .with_token(auth["client_token"].as_str().unwrap());
    let renewed = grace
        .post("auth/token/renew-self", json!({"increment": "1h"}))
        .auth();
    assert!(
        renewed["lease_duration"].as_u64().unwrap() <= 1500,
        "{renewed}"
    );
}

#[test]
fn policies_and_no_default() {
    let auth = auth_with(
        "policies",
        json!({"token_policies": ["extra", "more"], "token_no_default_policy": true}),
    );
    assert_eq!(auth["policies"], json!(["extra", "more"]));
}

#[test]
fn number_of_uses() {
    let auth = auth_with("uses", json!({"token_num_uses": 2}));
    assert_eq!(auth["num_uses"], 2);
    let grace = server()
        .client()
        .with_token(auth["client_token"].as_str().unwrap());
    grace.get("auth/token/lookup-self").expect(200);
    grace.get("auth/token/lookup-self").expect(200);
    grace.get("auth/token/lookup-self").expect(403);
}

#[test]
fn periodic() {
    let auth = auth_with(
        "periodic",
        json!({"token_period": "30m", "token_ttl": "5m"}),
    );
    assert_eq!(auth["lease_duration"], 1800);
    assert_eq!(lookup(&auth)["period"], 1800);
}

#[test]
fn batch() {
    let auth = auth_with("batch", json!({"token_type": "batch", "token_ttl": "5m"}));
    let token = auth["client_token"].as_str().unwrap();
    assert!(token.starts_with("obb."), "{token}");
    assert_eq!(auth["token_type"], "batch");
    assert_eq!(auth["renewable"], false);
    assert_eq!(lookup(&auth)["type"], "batch");
}

#[test]
fn bound_addresses() {
    let auth = auth_with(
        "bound",
        json!({"token_bound_cidrs": "127.0.0.0/8,10.1.0.0/16"}),
    );
    let seen = lookup(&auth);
    assert_eq!(seen["bound_cidrs"], json!(["127.0.0.0/8", "10.1.0.0/16"]));

    enable_with("elsewhere", json!({"token_bound_cidrs": ["192.0.2.0/24"]}));
    log_in(server(), "elsewhere", "grace").expect(403);
}

#[test]
fn bound_cidr_proxy_a_forwarded_address_is_not_believed() {
    enable_with("forwarded", json!({"token_bound_cidrs": ["192.0.2.0/24"]}));
    let header = kerberos::negotiate(realm(), &obol_tests::ticket("grace"));
    for name in [
        "X-Forwarded-For",
        "X-Real-IP",
        "Forwarded",
        "True-Client-IP",
    ] {
        let value = if name == "Forwarded" {
            "for=192.0.2.7"
        } else {
            "192.0.2.7"
        };
        let login = server().client();
        let login = login
            .request("POST", "auth/forwarded/login")
            .header("Authorization", &header);
        login
            .header(name, value)
            .json(&json!({}))
            .send()
            .expect(403);
    }
}

#[test]
fn values_that_make_no_sense_are_refused_by_field() {
    enable_with("refusing", json!({}));
    for (field, value) in [
        ("token_ttl", json!("soon")),
        ("token_type", json!("eternal")),
        ("token_bound_cidrs", json!("not-an-address")),
        ("tls_min_version", json!("ssl3")),
        ("starttls", json!("perhaps")),
        ("groupfilter", json!("(member={{.UserDN}")),
        ("groupfilter", json!("({{.Password}})")),
        ("url", json!("http://localhost")),
        ("certificate", json!("no PEM")),
        ("userdn", json!("no dn at all,,")),
    ] {
        let reply = server()
            .root()
            .post("auth/refusing/config/ldap", json!({ field: value }));
        assert_eq!(reply.status, 400, "{field} {value}: {}", reply.text());
        assert!(
            reply.errors()[0].contains(field),
            "{field} {value}: {:?}",
            reply.errors()
        );
    }
}

#[test]
fn the_mounts_own_tuning_counts_too() {
    enable_with("tuned", json!({}));
    let root = server().root();
    let tune = json!({"default_lease_ttl": "15m", "max_lease_ttl": "20m"});
    root.post("sys/auth/tuned/tune", tune).expect(204);
    assert_eq!(
        log_in(server(), "tuned", "grace").auth()["lease_duration"],
        900
    );
    root.post("sys/auth/tuned/tune", json!({"token_type": "batch"}))
        .expect(204);
    assert_eq!(
        log_in(server(), "tuned", "grace").auth()["token_type"],
        "batch"
    );
}
