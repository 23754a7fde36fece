//! The Kerberos method against a real KDC and a real directory: a mount is opened on memory storage
//! behind a real barrier and driven through its route table, as the core does.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod config;
mod groups;
mod login;
mod mount;
mod renew;
mod replay;
mod tickets;
mod world;
