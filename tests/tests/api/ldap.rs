//! auth/ldap: names and passwords of a real directory, from the outside.

use std::sync::OnceLock;
use std::time::Instant;

use obol_testbed::ldap::people::{GROUP_DN, USER_DN};
use obol_testbed::ldap::{BIND_DN, BIND_PASSWORD};
use obol_testbed::{LdapOptions, OpenLdap};
use obol_tests::kerberos::accepted;
use obol_tests::{Client, Reply, Server, ServerOptions};
use serde_json::{Value, json};

fn directory() -> &'static OpenLdap {
    static LDAP: OnceLock<OpenLdap> = OnceLock::new();
    LDAP.get_or_init(|| OpenLdap::start(LdapOptions::default()).unwrap())
}

/// A server with the method at `auth/ldap`: engineers may read below `secret/works/`.
fn server_for(ldap: &OpenLdap) -> Server {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.post("sys/mounts/secret", json!({"type": "kv"}))
        .expect(204);
    root.post("secret/works/plan", json!({"text": "build it"}))
        .expect(204);
    root.put(
        "sys/policies/acl/works",
        json!({"policy": "path \"secret/works/*\" { capabilities = [\"read\"] }"}),
    )
    .expect(204);
    root.post("sys/auth/ldap", json!({"type": "ldap"}))
        .expect(204);
    accepted(root.post("auth/ldap/config", config(ldap)));
    root.post("auth/ldap/groups/Engineers", json!({"policies": "works"}))
        .expect(204);
    server
}

fn config(ldap: &OpenLdap) -> Value {
    json!({
        "url": ldap.ldaps_url(),
        "certificate": ldap.ca_pem(),
        "binddn": BIND_DN,
        "bindpass": BIND_PASSWORD,
        "userdn": USER_DN,
        "userattr": "uid",
        "groupdn": GROUP_DN,
        "connection_timeout": "5s",
        "request_timeout": "5s",
    })
}

fn log_in(client: &Client, name: &str, password: &str) -> Reply {
    client.post(
        &format!("auth/ldap/login/{name}"),
        json!({ "password": password }),
    )
}

#[test]
fn a_user_of_the_directory_reads_what_the_group_may_and_renews_until_out_of_it() {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let server = server_for(&ldap);
    let auth = log_in(&server.client(), "grace", "grace-password").auth();
    assert_eq!(auth["policies"], json!(["default", "works"]));
    assert_eq!(auth["metadata"], json!({"username": "grace"}));
    let grace = server
        .client()
        .with_token(auth["client_token"].as_str().unwrap());
    assert_eq!(
        grace.get("secret/works/plan").data()["text"],
        json!("build it")
    );
    let me = grace.get("auth/token/lookup-self").data();
    assert_eq!(me["display_name"], "ldap-grace");
    assert_eq!(me["path"], "auth/ldap/login/grace");
    grace.post("auth/token/renew-self", json!({})).expect(200);
    ldap.remove_member("engineers", "grace").unwrap();
    let refused = grace.post("auth/token/renew-self", json!({})).expect(400);
    assert!(refused.errors()[0].contains("log in again"));
}

#[test]
fn keytab_readback_neither_password_comes_back_or_is_logged() {
    let server = server_for(directory());
    log_in(&server.client(), "grace", "grace-password").expect(200);
    log_in(&server.client(), "grace", "a-wrong-password").expect(400);
    let read = server.root().get("auth/ldap/config");
    for secret in [BIND_PASSWORD, "grace-password", "a-wrong-password"] {
        assert!(!read.text().contains(secret));
        assert!(!server.log().contains(secret), "{secret}");
    }
    // The operator finds the refusal by its id.
    let refused = log_in(&server.client(), "grace", "a-wrong-password").expect(400);
    let text = refused.errors()[0].clone();
    let id = text
        .split("(request ")
        .nth(1)
        .unwrap()
        .trim_end_matches(')');
    assert!(server.log().contains(id), "{text}");
}

#[test]
fn alias_case_failures_are_counted_for_the_name_however_it_is_spelled() {
    let server = server_for(directory());
    let client = server.client();
    let wrong = log_in(&client, "grace", "wrong").expect(400).errors();
    for spelling in ["Grace", "GRACE", "gRACE", "grAce"] {
        log_in(&client, spelling, "wrong").expect(400);
    }
    // Locked: also with the right password, and with the same answer.
    let locked = log_in(&client, "grace", "grace-password")
        .expect(400)
        .errors();
    let sentence = |errors: Vec<String>| errors[0].split(" (request").next().unwrap().to_owned();
    assert_eq!(sentence(locked), sentence(wrong));
    log_in(&client, "joan", "joan-password").expect(200);
    let accessor = server.root().get("sys/auth").data()["ldap/"]["accessor"]
        .as_str()
        .unwrap()
        .to_owned();
    server
        .root()
        .post(
            &format!("sys/locked-users/{accessor}/unlock/grace"),
            json!({}),
        )
        .expect(204);
    log_in(&client, "grace", "grace-password").expect(200);
}

#[test]
fn timing_user_an_unknown_user_costs_what_a_wrong_password_costs() {
    let server = server_for(directory());
    let client = server.client();
    let time = |name: &str| {
        let mut times: Vec<_> = (0..9)
            .map(|_| {
                let started = Instant::now();
                log_in(&client, name, "wrong").expect(400);
                started.elapsed()
            })
            .collect();
        times.sort();
        times[4].as_secs_f64()
    };
    server
        .root()
        .post(
            "sys/auth/ldap/tune",
            json!({"user_lockout_config": {"lockout_disable": true}}),
        )
        .expect(204);
    // Both dial and bind; neither answers from a search alone, which takes a fraction of that.
    let (known, unknown) = (time("grace"), time("nobody-here"));
    let ratio = unknown / known;
    assert!((0.4..2.5).contains(&ratio), "{known} {unknown}");
}

#[test]
fn while_the_directory_is_down_nobody_learns_its_address_but_the_operator() {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let server = server_for(&ldap);
    ldap.stop().unwrap();
    let refused = log_in(&server.client(), "grace", "grace-password").expect(502);
    assert!(!refused.text().contains("ldaps://"));
    assert!(server.log().contains("check the host and port in url"));
    ldap.start_again().unwrap();
    log_in(&server.client(), "grace", "grace-password").expect(200);
}

#[test]
fn over_starttls_with_the_wrong_ca_no_password_is_sent() {
    let server = server_for(directory());
    let root = server.root();
    accepted(root.post(
        "auth/ldap/config",
        json!({"url": directory().url(), "starttls": true, "bindpass": BIND_PASSWORD}),
    ));
    log_in(&server.client(), "grace", "grace-password").expect(200);
    accepted(root.post(
        "auth/ldap/config",
        json!({"certificate": directory().other_ca_pem(), "bindpass": BIND_PASSWORD}),
    ));
    log_in(&server.client(), "grace", "grace-password").expect(502);
}
