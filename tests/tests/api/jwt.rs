//! auth/jwt: tokens of a real issuer over TLS, from the outside.

use std::time::Duration;

use obol_testbed::{Behaviour, Issuer, SigningKey};
use obol_tests::{Client, Reply, Server, ServerOptions};
use serde_json::{Value, json};

fn key() -> SigningKey {
    SigningKey::generate(Some("one"), "ES256").unwrap()
}

fn server_for(issuer: &Issuer) -> Server {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.post("sys/auth/jwt", json!({"type": "jwt"}))
        .expect(204);
    root.post(
        "auth/jwt/config",
        json!({"oidc_discovery_url": issuer.url(), "oidc_discovery_ca_pem": issuer.ca_pem(), "default_role": "dev"}),
    )
    .expect(204);
    root.post(
        "auth/jwt/role/dev",
        json!({
            "role_type": "jwt",
            "bound_audiences": ["obol"],
            "bound_claims": {"namespace": "team-*"},
            "bound_claims_type": "glob",
            "claim_mappings": {"namespace": "namespace"},
            "user_claim": "sub",
            "groups_claim": "groups",
            "token_policies": ["dev"],
            "token_num_uses": 5,
        }),
    )
    .expect(204);
    server
}

fn token(issuer: &Issuer, key: &SigningKey, more: Value) -> String {
    let mut claims = issuer.claims(
        json!({"sub": "grace", "aud": ["obol"], "namespace": "team-a", "groups": ["engineers"]}),
    );
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    key.sign(&claims).unwrap()
}

fn log_in(client: &Client, jwt: &str) -> Reply {
    client.post("auth/jwt/login", json!({"role": "dev", "jwt": jwt}))
}

#[test]
fn a_token_of_the_issuer_becomes_a_token_of_the_role() {
    let key = key();
    let issuer = Issuer::start(std::slice::from_ref(&key)).unwrap();
    let server = server_for(&issuer);
    let auth = log_in(&server.client(), &token(&issuer, &key, json!({}))).auth();
    assert_eq!(auth["policies"], json!(["default", "dev"]));
    assert_eq!(
        auth["metadata"],
        json!({"namespace": "team-a", "role": "dev"})
    );
    assert_eq!(auth["num_uses"], 5);
    let me = server
        .client()
        .with_token(auth["client_token"].as_str().unwrap())
        .get("auth/token/lookup-self")
        .data();
    assert_eq!(me["display_name"], "jwt-grace");
    // The default role.
    let body = json!({"jwt": token(&issuer, &key, json!({}))});
    server.client().post("auth/jwt/login", body).expect(200);
}

#[test]
fn what_is_wrong_with_a_token_is_said_without_it() {
    let key = key();
    let issuer = Issuer::start(std::slice::from_ref(&key)).unwrap();
    let server = server_for(&issuer);
    for (more, says) in [
        (json!({"aud": "other"}), "aud"),
        (json!({"namespace": "prod"}), "namespace"),
        (json!({"exp": 1000}), "exp"),
        (json!({"iss": "https://elsewhere"}), "iss"),
    ] {
        let jwt = token(&issuer, &key, more);
        let refused = log_in(&server.client(), &jwt).expect(400);
        assert!(refused.errors()[0].contains(says), "{}", refused.text());
        let payload = jwt.split('.').nth(1).unwrap();
        assert!(!refused.text().contains(payload) && !server.log().contains(payload));
    }
    let forged = SigningKey::generate(Some("one"), "ES256").unwrap();
    log_in(&server.client(), &token(&issuer, &forged, json!({}))).expect(400);
}

#[test]
fn keys_rotate_and_an_outage_of_the_issuer_is_no_outage_of_logins() {
    let (old, new) = (key(), SigningKey::generate(Some("two"), "ES384").unwrap());
    let issuer = Issuer::start(std::slice::from_ref(&old)).unwrap();
    let server = server_for(&issuer);
    log_in(&server.client(), &token(&issuer, &old, json!({}))).expect(200);
    issuer.rotate(&[old.clone(), new.clone()]).unwrap();
    std::thread::sleep(Duration::from_secs(6));
    log_in(&server.client(), &token(&issuer, &new, json!({}))).expect(200);
    issuer.behave(Behaviour::Down);
    log_in(&server.client(), &token(&issuer, &old, json!({}))).expect(200);
    log_in(&server.client(), &token(&issuer, &new, json!({}))).expect(200);
}

#[test]
fn the_browser_flow_is_refused_in_words() {
    let issuer = Issuer::start(&[key()]).unwrap();
    let server = server_for(&issuer);
    let root = server.root();
    let refused = root.post(
        "auth/jwt/role/web",
        json!({"role_type": "oidc", "user_claim": "sub", "allowed_redirect_uris": "http://localhost:8250/oidc/callback"}),
    );
    assert!(refused.expect(400).errors()[0].contains("browser flow"));
    root.post("sys/auth/oidc", json!({"type": "oidc"}))
        .expect(400);
}

#[test]
fn a_role_takes_the_older_names_of_the_settings_of_its_tokens() {
    let issuer = Issuer::start(&[key()]).unwrap();
    let server = server_for(&issuer);
    let root = server.root();
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": "obol", "policies": "x",
        "ttl": "5m", "max_ttl": "10m", "num_uses": 3, "bound_cidrs": "127.0.0.1/32",
    });
    root.post("auth/jwt/role/older", role).expect(204);
    let shown = root.get("auth/jwt/role/older").data();
    for (name, kept) in [
        ("token_policies", json!(["x"])),
        ("token_ttl", json!(300)),
        ("token_max_ttl", json!(600)),
        ("token_num_uses", json!(3)),
    ] {
        assert_eq!(shown[name], kept, "{name}");
    }
    assert_eq!(shown["token_bound_cidrs"].as_array().unwrap().len(), 1);
}
