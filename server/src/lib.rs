//! Obol: a secrets and auth server that speaks the Vault HTTP API, with Kerberos as its first-class way in.
//!
//! [`core`] is the server without a network, [`http`] puts it on one, [`server`] starts and stops the
//! whole, [`cli`] is the command line. The map is in ARCHITECTURE.md.

pub mod cli;
pub mod config;
pub mod core;
pub mod hcl;
pub mod http;
pub mod pgp;
pub mod server;
