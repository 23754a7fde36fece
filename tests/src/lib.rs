//! The harness of the end-to-end tests: a real server, real Kerberos clients, and an HTTP client that can
//! also send what no proper client would. Everything is on free ports and goes away with the test.
//!
//! The functions here panic with a plain account of what happened, because every caller is a test.

pub mod ad;
pub mod browser;
pub mod clients;
pub mod gpg;
pub mod http;
pub mod kerberos;
pub mod server;
pub mod wait;

pub use browser::{Browser, BrowserOptions};
pub use http::{Client, Reply};
pub use kerberos::{realm, ticket};
pub use server::{Server, ServerOptions, Storage};
pub use wait::{eventually, holds};
