//! Logging in with Kerberos tickets, against a real KDC and a real directory, by clients that nobody here wrote.
#![allow(clippy::unwrap_used)]

mod bindings;
mod challenge;
mod clients;
mod enctypes;
mod flood;
mod groups;
mod large;
mod readback;
mod replay;
mod settings;
mod users;

use std::sync::OnceLock;

use obol_tests::{Server, kerberos};

/// A server for all tests that leave `auth/kerberos` as it is.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(kerberos::kerberized)
}
