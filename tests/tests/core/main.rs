//! The server's own paths: seal, mounts, policies, tokens, and what every request must keep to.
#![allow(clippy::unwrap_used)]

mod bombs;
mod constraints;
mod mounts;
mod paths;
mod policies;
mod races;
mod requests;
mod seal;
mod tokens;

use std::sync::OnceLock;

use obol_tests::{Client, Server, ServerOptions};
use serde_json::json;

/// A server for all tests that keep to names of their own. `secret/` is a kv version 2.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(with_kv)
}

fn root() -> Client {
    server().root()
}

/// A server of a test's own.
fn with_kv() -> Server {
    let server = Server::ready(ServerOptions::default());
    let kv = json!({"type": "kv", "options": {"version": "2"}});
    server.root().post("sys/mounts/secret", kv).expect(204);
    server
}

/// Writes a policy of this name and gives a client whose token has it (and `default`).
fn client_with(name: &str, policy: &str) -> Client {
    root()
        .put(
            &format!("sys/policies/acl/{name}"),
            json!({ "policy": policy }),
        )
        .expect(204);
    token(json!({ "policies": [name] }))
}

/// A client with a new child of the root token.
fn token(body: serde_json::Value) -> Client {
    let token = root().post("auth/token/create", body).client_token();
    server().client().with_token(token)
}
