//! The contract of `auth/kerberos`, word for word: every request of Vault's page about the method, sent by curl with
//! the page's own arguments and payloads, and every answer compared with the page's, key for key.
#![allow(clippy::unwrap_used)]

use obol_tests::clients::curl;
use obol_tests::http::Reply;
use obol_tests::kerberos::{self, negotiate, own_realm};
use obol_tests::{Server, ServerOptions};
use serde_json::{Map, Value, json};

#[test]
fn configure_vault_kerberos_and_read_it() {
    let server = enabled();
    let wrote = send(&server, "POST", "config", Some(CONFIG_PAYLOAD));
    kerberos::accepted(wrote);

    let read = send(&server, "GET", "config", None).expect(200);
    same(&read.json(), CONFIG_RESPONSE, BESIDE_CONFIG);
    assert!(read.json()["data"].get("keytab").is_none());
}

#[test]
fn configure_kerberos_ldap_and_read_it() {
    let server = enabled();
    kerberos::accepted(send(&server, "POST", "config/ldap", Some(LDAP_PAYLOAD)));

    let read = send(&server, "GET", "config/ldap", None).expect(200);
    same(&read.json(), LDAP_RESPONSE, BESIDE_LDAP);
}

#[test]
fn write_list_read_and_delete_groups() {
    let server = enabled();
    for group in ["groups/scientists", "groups/engineers"] {
        send(&server, "POST", group, Some(GROUP_PAYLOAD)).expect(204);
    }
    let listed = send(&server, "LIST", "groups", None).expect(200).json();
    same(
        &sorted(listed),
        &sorted(serde_json::from_str(LIST_RESPONSE).unwrap()).to_string(),
        &[],
    );
    // Vault's other way to list.
    let listed = send(&server, "GET", "groups?list=true", None)
        .expect(200)
        .json();
    same(
        &sorted(listed),
        &sorted(serde_json::from_str(LIST_RESPONSE).unwrap()).to_string(),
        &[],
    );

    send(&server, "POST", "groups/admins", Some(GROUP_PAYLOAD)).expect(204);
    let read = send(&server, "GET", "groups/admins", None).expect(200);
    same(&read.json(), GROUP_RESPONSE, &[]);

    send(&server, "DELETE", "groups/admins", None).expect(204);
    send(&server, "GET", "groups/admins", None).expect(404);
}

#[test]
fn the_printed_ticket_of_long_ago_is_refused_with_a_plain_401() {
    let server = enabled();
    kerberos::accepted(send(&server, "POST", "config", Some(CONFIG_PAYLOAD)));
    kerberos::accepted(send(&server, "POST", "config/ldap", Some(LDAP_PAYLOAD)));
    let url = format!("http://127.0.0.1:{}/v1/auth/kerberos/login", server.port());
    let token: String = SPNEGO_TOKEN.split_ascii_whitespace().collect();
    let header = format!("Authorization: Negotiate {token}");
    let reply = curl(&["--header", &header, "--request", "POST", &url]).expect(401);
    assert!(reply.json().get("auth").is_none(), "{}", reply.text());
    assert!(
        reply.errors()[0].contains("the ticket was not accepted"),
        "{:?}",
        reply.errors()
    );
    // The keytab of the page opens the ticket of the page.
    let log = server.log();
    assert!(
        log.contains("has expired") || log.contains("clocks"),
        "{log}"
    );
}

#[test]
fn log_in_with_a_valid_kerberos_spnego_token() {
    let realm = own_realm();
    let server = enabled();
    let root = server.root();
    kerberos::accepted(root.post("auth/kerberos/config", kerberos::config_payload(&realm)));
    kerberos::accepted(root.post("auth/kerberos/config/ldap", kerberos::ldap_payload(&realm)));
    send(&server, "POST", "groups/engineers", Some(GROUP_PAYLOAD)).expect(204);

    let tickets = realm.kinit("grace").unwrap();
    let url = format!("http://127.0.0.1:{}/v1/auth/kerberos/login", server.port());
    let header = format!("Authorization: {}", negotiate(&realm, &tickets));
    let reply = curl(&["--header", &header, "--request", "POST", &url]).expect(200);
    let body = reply.json();
    assert_eq!(body["data"], Value::Null);
    assert_eq!(body["lease_duration"], 0);
    let auth = &body["auth"];
    assert_eq!(auth["policies"], json!(["admin", "default"]));
    assert_eq!(auth["token_policies"], json!(["admin", "default"]));
    assert_eq!(
        auth["metadata"],
        json!({"user": "grace", "domain": "EXAMPLE.COM"})
    );
    assert_eq!(auth["renewable"], true);
    assert_eq!(auth["token_type"], "service");
    assert_eq!(auth["orphan"], true);
    assert_eq!(auth["lease_duration"], 768 * 3600);
    let token = auth["client_token"].as_str().unwrap();
    let looked_up = server
        .client()
        .with_token(token)
        .get("auth/token/lookup-self")
        .data();
    assert_eq!(looked_up["display_name"], "kerberos-grace");
    assert_eq!(looked_up["path"], "auth/kerberos/login");
    assert_eq!(looked_up["accessor"], auth["accessor"]);
    assert_eq!(
        looked_up["meta"],
        json!({"user": "grace", "domain": "EXAMPLE.COM"})
    );
}

#[test]
fn the_method_works_wherever_it_is_enabled() {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.post("sys/auth/team/lab-kerberos", json!({"type": "kerberos"}))
        .expect(204);
    let payload: Value = serde_json::from_str(CONFIG_PAYLOAD).unwrap();
    kerberos::accepted(root.post("auth/team/lab-kerberos/config", payload));
    same(
        &root.get("auth/team/lab-kerberos/config").json(),
        CONFIG_RESPONSE,
        BESIDE_CONFIG,
    );
    root.get("auth/kerberos/config").expect(404);
}

#[test]
fn what_was_not_written_is_404_and_what_is_left_out_keeps_its_value() {
    let server = enabled();
    send(&server, "GET", "config", None).expect(404);
    send(&server, "GET", "config/ldap", None).expect(404);
    send(&server, "LIST", "groups", None).expect(404);

    kerberos::accepted(send(&server, "POST", "config", Some(CONFIG_PAYLOAD)));
    kerberos::accepted(send(
        &server,
        "POST",
        "config",
        Some(r#"{"add_group_aliases": "true"}"#),
    ));
    let read = send(&server, "GET", "config", None).data();
    assert_eq!(read["add_group_aliases"], true);
    assert_eq!(read["service_account"], "vault_svc");

    kerberos::accepted(send(&server, "POST", "config/ldap", Some(LDAP_PAYLOAD)));
    kerberos::accepted(send(
        &server,
        "POST",
        "config/ldap",
        Some(r#"{"upndomain": "example.com", "token_ttl": "1h"}"#),
    ));
    let read = send(&server, "GET", "config/ldap", None).data();
    assert_eq!(read["upndomain"], "example.com");
    assert_eq!(read["token_ttl"], 3600);
    assert_eq!(read["userattr"], "samaccountname");
}

#[test]
fn a_keytab_that_cannot_work_is_refused_when_it_is_written() {
    let server = enabled();
    let with = |field: &str, value: Value| {
        let mut payload: Map<String, Value> = serde_json::from_str(CONFIG_PAYLOAD).unwrap();
        payload.insert(field.to_owned(), value);
        server
            .root()
            .post("auth/kerberos/config", Value::Object(payload))
    };
    for (field, value, says) in [
        ("keytab", json!("not base64!"), "base64"),
        ("keytab", json!("aGVsbG8gd29ybGQ="), "no keytab"),
        ("keytab", json!(""), "empty"),
        (
            "keytab",
            json!("BQIAAAA6AAEACk1BVFJJWC5MQU4ACXZhdWx0X3N2"),
            "keytab",
        ),
        (
            "service_account",
            json!("somebody_else"),
            "no entry for the service account",
        ),
        ("service_account", json!(""), "service_account"),
    ] {
        let reply = with(field, value.clone()).expect(400);
        assert!(
            reply.errors()[0].contains(says),
            "{field} {value}: {:?}",
            reply.errors()
        );
    }
    send(&server, "GET", "config", None).expect(404);
}

// --- how the page is sent and compared ----------------------------------------------------------

fn enabled() -> Server {
    let server = Server::ready(ServerOptions::default());
    server
        .root()
        .post("sys/auth/kerberos", json!({"type": "kerberos"}))
        .expect(204);
    server
}

/// The page's curl line, with our port and token.
fn send(server: &Server, method: &str, path: &str, payload: Option<&str>) -> Reply {
    let token = format!("X-Vault-Token: {}", server.keys().root_token);
    let url = format!("http://127.0.0.1:{}/v1/auth/kerberos/{path}", server.port());
    let file = server.dir().join("payload.json");
    let data = format!("@{}", file.display());
    let mut arguments = vec!["--header", token.as_str()];
    if method != "GET" {
        arguments.extend(["--request", method]);
    }
    if let Some(payload) = payload {
        std::fs::write(&file, payload).unwrap();
        arguments.extend(["--data", data.as_str()]);
    }
    arguments.push(&url);
    curl(&arguments)
}

/// Everything that the page shows is there and equal. More there is only what the envelope always has, and
/// `beside` in `data`.
fn same(ours: &Value, page: &str, beside: &[&str]) {
    const ENVELOPE: &[&str] = &["request_id", "auth", "wrap_info"];
    let page: Value = serde_json::from_str(page).unwrap();
    compare(
        "",
        ours.as_object().unwrap(),
        page.as_object().unwrap(),
        ENVELOPE,
    );
    compare(
        "data.",
        ours["data"].as_object().unwrap(),
        page["data"].as_object().unwrap(),
        beside,
    );
}

fn compare(within: &str, ours: &Map<String, Value>, page: &Map<String, Value>, beside: &[&str]) {
    for (key, value) in page.iter().filter(|(key, _)| *key != "data") {
        assert_eq!(ours.get(key), Some(value), "{within}{key}");
    }
    for key in ours.keys() {
        assert!(
            page.contains_key(key) || beside.contains(&key.as_str()),
            "{within}{key} is not in the contract"
        );
    }
}

fn sorted(mut listed: Value) -> Value {
    let keys = listed["data"]["keys"].as_array_mut().unwrap();
    keys.sort_by_key(|key| key.as_str().unwrap().to_owned());
    listed
}

/// What api-surface adds to `config/ldap`, and the page's own fields that its sample leaves out.
const BESIDE_LDAP: &[&str] = &[
    "anonymous_group_search",
    "bind_with_keytab",
    "cache_ttl",
    "case_sensitive_names",
    "client_tls_cert",
    "client_tls_key",
    "connection_timeout",
    "dereference_aliases",
    "max_page_size",
    "request_timeout",
    "token_bound_cidrs",
    "token_explicit_max_ttl",
    "token_max_ttl",
    "token_no_default_policy",
    "token_num_uses",
    "token_period",
    "token_policies",
    "token_ttl",
    "token_type",
    "use_token_groups",
    "userfilter",
    "username_as_alias",
];

/// What api-surface adds to `config`.
const BESIDE_CONFIG: &[&str] = &[
    "allowed_enctypes",
    "allowed_realms",
    "channel_bindings",
    "clock_skew",
    "decode_pac",
    "group_source",
    "require_pac",
    "trusted_domain_sids",
];

const CONFIG_PAYLOAD: &str = r#"{
  "add_group_aliases": false,
  "keytab": "BQIAAAA6AAEACk1BVFJJWC5MQU4ACXZhdWx0X3N2YwAAAAFdzZSjAgAXABDwhEyRR9nRqkpP8KTn2A83AAAAAg==",
  "remove_instance_name": false,
  "service_account": "vault_svc"
}"#;

const CONFIG_RESPONSE: &str = r#"{
  "auth": null,
  "warnings": null,
  "wrap_info": null,
  "data": {
    "add_group_aliases": false,
    "remove_instance_name": false,
    "service_account": "vault_svc"
  },
  "lease_duration": 0,
  "renewable": false,
  "lease_id": ""
}"#;

const LDAP_PAYLOAD: &str = r#"{
  "binddn": "cn=vault,ou=Users,dc=example,dc=com",
  "deny_null_bind": true,
  "discoverdn": false,
  "groupattr": "cn",
  "groupdn": "ou=Groups,dc=example,dc=com",
  "groupfilter": "(\u0026(objectClass=group)(member:1.2.840.113556.1.4.1941:={{.UserDN}}))",
  "insecure_tls": false,
  "starttls": false,
  "tls_max_version": "tls12",
  "tls_min_version": "tls12",
  "url": "ldaps://ldap.myorg.com:636",
  "userattr": "samaccountname",
  "userdn": "ou=Users,dc=example,dc=com"
}"#;

const LDAP_RESPONSE: &str = r#"{
  "auth": null,
  "warnings": null,
  "wrap_info": null,
  "data": {
    "binddn": "cn=vault,ou=Users,dc=example,dc=com",
    "bindpass": "",
    "certificate": "",
    "deny_null_bind": true,
    "discoverdn": false,
    "groupattr": "cn",
    "groupdn": "ou=Groups,dc=example,dc=com",
    "groupfilter": "(\u0026(objectClass=group)(member:1.2.840.113556.1.4.1941:={{.UserDN}}))",
    "insecure_tls": false,
    "starttls": false,
    "tls_max_version": "tls12",
    "tls_min_version": "tls12",
    "upndomain": "",
    "url": "ldaps://ldap.myorg.com:636",
    "userattr": "samaccountname",
    "userdn": "ou=Users,dc=example,dc=com"
  },
  "lease_duration": 0,
  "renewable": false,
  "lease_id": ""
}"#;

const LIST_RESPONSE: &str = r#"{
  "auth": null,
  "warnings": null,
  "wrap_info": null,
  "data": {
    "keys": ["scientists", "engineers"]
  },
  "lease_duration": 0,
  "renewable": false,
  "lease_id": ""
}"#;

const GROUP_RESPONSE: &str = r#"{
  "data": {
    "policies": ["admin", "default"]
  },
  "renewable": false,
  "lease_id": "",
  "lease_duration": 0,
  "warnings": null
}"#;

const GROUP_PAYLOAD: &str = r#"{ "policies": "admin,default" }"#;

const SPNEGO_TOKEN: &str = "
    YIIFSwYGKwYBBQUCoIIFPzCCBTugDTALBgkqhkiG9xIBAgKiggUoBIIFJGCCBSAGCSq
    GSIb3EgECAgEAboIFDzCCBQugAwIBBaEDAgEOogcDBQAgAAAAo4IEB2GCBAMwggP/oA
    MCAQWhDBsKTUFUUklYLkxBTqIvMC2gAwIBA6EmMCQbBEhUVFAbHDdlZmNjZTg4MGVkM
    y5tYXRyaXgubGFuOjgyMDCjggO3MIIDs6ADAgEXoQMCAQKiggOlBIIDoXky+VDSMXqT
    Z8XqUiIfzX3+t1ROgO49WYQPoqW1EJLA6vOVtsLITTuDUw8WaLIexki07up3wiO7bKn
    unPFN3Y6VaKZfGoubVBFnLwrxqiEqytk19fiuc0bUJD5fNX+BUeHjePPmE73kRcuchC
    L5+WkbY0X37cH5uKwCWI6TxpuEc74+mvmGOdAOdisC31MO6EBnOpTlxvKOXzShVk5Xa
    rkkHjTJyjoUslgm8JVdj/uB/+x16k0bFVOuWybfeCkn4FY7OeIxypxDJgk6uHU+5jpy
    XsdXK4w5GG+TK5BI6LXW8ZH6NOhcTZnRyt1/S4Wihd6HKhL8lH6H+wPWAnN4Ym8jiSg
    7O0nIkp9su1l/umJWnLnyUdsC9ekKmCYS9MLrmaUREnKMFfrYOF283gWVmfuSWd832Q
    9PIE93vUVTfetw1OwbJXEbG7ex3BotXPJ8yaDUAz4Zv0a6zQlj6JutE7LF3JvuuQeot
    QnwPhrZTrmv7ZbmGO3GmkzbMzIwcTXCCKX8ocOo8GLmtEigAPK23FOW2Y0p1meYjF0U
    xPzU6MPxfQWiXTWflqabXug7uZh8u76rzSEEceosPxoBqMm6hSmGc85+0bzy/E7AGJM
    5ELa2Ny2KpyniPiYCap44GsFZbGM1FwJeh1bG3dJungIn7po4X2wlg00wZVlbHsBzhP
    Hys0oxVzOQfrvx88G0fH80+vyzQiQAq4ZqmZqkO0zFSsdqG8ReJvpY0eGzN6/lGwcRl
    eav7Vum/s5MalXhYUdOjB4K3A5yQArHbbLfeZlhb7d4vttzPNkmaZ9ZNTyW1GSuqDtd
    +YJ0g70aN82KQMWiK3cbJcx/1jcmaN5gjSDm0xk19G2eb8VlRpwLFAazOlpPGozPl0Y
    PD45h3Yv3AA5aMVXvEi+NvSYR3z9VXxk6A8wFJxV5NZxV2hYwmxt0S+TYXFeudXzT+W
    ySoykcsxIU6rUevmJlEqZDyD3VcdnUOE9pxrIY/cqpdBBwatorF+jIK/ytcTBjvoM6c
    LL4g4n/isWMu8Xs6lSMxZzrC3Ewv9VYMzOEFxaHUXlyIC8GCN6t9DHZNzT91TC0u5Rj
    XuLqXENczg33dACvr+yhvin/0QNBQG+EXz/E4NiBBWqtTFa0BiTVTwyrKL5OyiLcIVe
    v4l8l9vyj/ABwDacr9ZGjhFbOShCTuFFWBPNnBwPqiRBV4y1gPP4abYBmeboLrUiqwZ
    81UrP2L8rCTEtYu9q3GmW/pIHqMIHnoAMCAReigd8EgdxwBViqyCyL0+J/k2bw0upNL
    h+4wzJcFBFC/wxX2aMvvIYdQv5nWwdNLMII3l/zQ0+eRdzpKfg1ZRT6x0D5278eQLto
    9r1CqKNW515u4kD5+pE8VOwZJMVe3FmduaH2gnTLAcoYXkBUE24hcr0ExSY6kTTBWPj
    U5dsmUsj3+qrN9JruEADqw99t/EWnN3iTsHh1rOQOd9jIJ1wCIkgvnLB8Rad+q5jguG
    8qQh1WDObTlNOnezDtiuLtRb03QDo8Q4Sm72IIcLDlffVvl7WAog5TpC8qM97+Wmv0C
    sWw";
