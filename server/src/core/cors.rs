//! Which pages of other origins may use the API from a browser: `sys/config/cors`. The listener applies it.

use serde::{Deserialize, Serialize};

/// What a page may send without being named, as in Vault.
const STANDARD_HEADERS: [&str; 10] = [
    "Content-Type",
    "X-Requested-With",
    "X-Vault-AWS-IAM-Server-ID",
    "X-Vault-MFA",
    "X-Vault-No-Request-Forwarding",
    "X-Vault-Wrap-Format",
    "X-Vault-Wrap-TTL",
    "X-Vault-Policy-Override",
    "Authorization",
    "X-Vault-Token",
];

/// The configuration. Without origins CORS is off.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cors {
    pub allowed_origins: Vec<String>,
    /// Beside the standard ones.
    pub allowed_headers: Vec<String>,
}

impl Cors {
    pub fn is_enabled(&self) -> bool {
        !self.allowed_origins.is_empty()
    }

    /// Whether a page of this origin may ask.
    pub fn allows(&self, origin: &str) -> bool {
        let same = |allowed: &String| allowed == "*" || allowed.eq_ignore_ascii_case(origin);
        self.allowed_origins.iter().any(same)
    }

    /// All headers that a page may send.
    pub fn headers(&self) -> Vec<&str> {
        STANDARD_HEADERS
            .into_iter()
            .chain(self.allowed_headers.iter().map(String::as_str))
            .collect()
    }
}
