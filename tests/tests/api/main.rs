//! The API as clients see it, room by room, against the real process.
#![allow(clippy::unwrap_used)]

mod approle;
mod audit_devices;
mod check;
mod churn;
mod commands;
mod cors;
mod counters;
mod forwarded;
mod generate_root;
mod identity;
mod jwt;
mod kv1;
mod kv2;
mod ldap;
mod leases;
mod lockout;
mod logging;
mod logins;
mod metrics;
mod password_policies;
mod pgp;
mod quotas;
mod raw;
mod rekey;
mod remount;
mod rotate;
mod snapshot;
mod status;
mod tokens;
mod transit;
mod userpass;
mod wrapping;

use obol_tests::server::Seal;
use obol_tests::{Server, ServerOptions};
use serde_json::Value;

/// A server whose unseal keys are in the hands of this many people.
fn holders(shares: u8, threshold: u8) -> Server {
    Server::ready(ServerOptions {
        seal: Seal::Shamir { shares, threshold },
        ..ServerOptions::default()
    })
}

fn keys_of(list: &Value) -> Vec<String> {
    let keys = list.as_array().unwrap().iter();
    keys.map(|key| key.as_str().unwrap().to_owned()).collect()
}
