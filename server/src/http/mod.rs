//! The server on a network: listeners, TLS, and the translation between HTTP and the core's requests.

mod cors;
mod forwarded;
mod handler;
mod json;
mod linger;
mod listener;
mod tls;
mod ui;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use forwarded::Forwarding;
pub use listener::{Bound, serve};
pub use tls::ReloadableTls;
pub(crate) use tls::end_point;

/// One listener, as configured.
#[derive(Debug, Clone)]
pub struct Options {
    pub address: SocketAddr,
    pub tls: Option<TlsOptions>,
    pub limits: Limits,
    /// Shows `sys/metrics` to callers without a token.
    pub open_metrics: bool,
    pub forwarding: Forwarding,
}

/// What TLS needs. Paths are read again on SIGHUP.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub client_ca_file: Option<PathBuf>,
    pub require_client_cert: bool,
    /// TLS 1.3 alone; otherwise 1.2 too.
    pub only_tls13: bool,
    /// TLS 1.2 alone.
    pub only_tls12: bool,
}

/// Bounds on what a client may send before anybody knows who it is (threats: `json-bomb`).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a request body.
    pub max_request_size: usize,
    /// Nesting of a JSON body.
    pub max_json_depth: usize,
    /// Values and keys of a JSON body, all levels together.
    pub max_json_items: usize,
    /// Bytes of one string in a JSON body.
    pub max_json_string: usize,
    /// Bytes of the request line and all headers. Kerberos tickets of users in many groups reach 64 KiB, which
    /// base64 makes 88 KiB.
    pub max_header_size: usize,
    /// How long a client may take to send a request's headers.
    pub header_timeout: Duration,
    /// How long a request may take, body and answer together.
    pub request_timeout: Duration,
    /// Requests at work at once; more are told to come back.
    pub max_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request_size: 32 << 20,
            max_json_depth: 64,
            max_json_items: 100_000,
            max_json_string: 1 << 20,
            max_header_size: 256 << 10,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(90),
            max_in_flight: 4096,
        }
    }
}
