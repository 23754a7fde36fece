//! The directory crate against a real OpenLDAP: binds, TLS, lookups, outages and the pool.
#![allow(clippy::unwrap_used)]

mod active_directory;
mod awkward;
mod binds;
mod cache;
mod hostile;
mod lookups;
mod outages;
mod pool;
mod probe;
mod sasl;
mod support;
mod tls;
mod tokens;
