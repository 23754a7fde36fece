//! The LDAP method against a real directory: a mount is opened on memory storage behind a real barrier and driven
//! through its route table, as the core does.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod config;
mod logins;
mod renew;

use std::sync::LazyLock;

use obol_testbed::ldap::people::{GROUP_DN, USER_DN};
use obol_testbed::ldap::{BIND_DN, BIND_PASSWORD};
use obol_testbed::{LdapOptions, OpenLdap};
use serde_json::{Value, json};

use common::Mount;

/// A directory for all tests that only read.
fn shared() -> &'static OpenLdap {
    static SHARED: LazyLock<OpenLdap> =
        LazyLock::new(|| OpenLdap::start(LdapOptions::default()).unwrap());
    &SHARED
}

/// By LDAPS, bound as the service account.
fn directory(ldap: &OpenLdap) -> Value {
    json!({
        "url": ldap.ldaps_url(),
        "certificate": ldap.ca_pem(),
        "binddn": BIND_DN,
        "bindpass": BIND_PASSWORD,
        "userdn": USER_DN,
        "userattr": "uid",
        "groupdn": GROUP_DN,
        "groupattr": "cn",
        "connection_timeout": "5s",
        "request_timeout": "5s",
    })
}

/// A mount with that directory and two groups.
async fn ready(ldap: &OpenLdap) -> Mount {
    let mount = Mount::fresh("ldap").await;
    mount.write("config", directory(ldap)).await.unwrap();
    mount
        .write("groups/engineers", json!({"policies": "dev,shared"}))
        .await
        .unwrap();
    mount
        .write("groups/scientists", json!({"policies": ["lab", "shared"]}))
        .await
        .unwrap();
    mount
}
