//! Commands as a user runs them, against a small HTTP server that records what was asked and answers as told. The
//! real server is met in the end-to-end tests.
#![allow(clippy::unwrap_used)]

mod client;
mod harness;
mod help;
mod kerberos;
mod kv;
mod leases;
mod login;
mod mounts;
mod observe;
mod operator;
mod requests;
mod tls;
mod token_store;
