//! The JWT method against a real issuer over TLS: a mount is opened on memory storage behind a real barrier and driven
//! through its route table, as the core does.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod config;
mod issuers;
mod logins;
mod roles;

use std::sync::LazyLock;

use obol_mount::{Error, Login};
use obol_testbed::{Issuer, SigningKey};
use serde_json::{Value, json};

use common::Mount;

/// Keys that tests share: RSA ones take their time.
static RSA: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(Some("rsa-1"), "RS256").unwrap());
static EC: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(Some("ec-1"), "ES256").unwrap());

/// A mount that trusts a new issuer by its discovery document, with a role `dev`.
async fn ready() -> (Issuer, Mount) {
    let issuer = Issuer::start(&[RSA.clone(), EC.clone()]).unwrap();
    let mount = Mount::fresh("jwt").await;
    mount.write("config", discovery(&issuer)).await.unwrap();
    mount.write("role/dev", role()).await.unwrap();
    (issuer, mount)
}

fn discovery(issuer: &Issuer) -> Value {
    json!({"oidc_discovery_url": issuer.url(), "oidc_discovery_ca_pem": issuer.ca_pem()})
}

fn role() -> Value {
    json!({
        "role_type": "jwt",
        "bound_audiences": "obol",
        "user_claim": "sub",
        "groups_claim": "groups",
        "token_policies": "dev",
        "token_ttl": "10m",
    })
}

/// Claims that the role takes.
fn claims(issuer: &Issuer) -> Value {
    issuer.claims(json!({"sub": "grace", "aud": "obol", "groups": ["engineers"]}))
}

async fn log_in(mount: &Mount, jwt: &str) -> Result<Login, Error> {
    mount
        .login("login", json!({"role": "dev", "jwt": jwt}))
        .await
}
