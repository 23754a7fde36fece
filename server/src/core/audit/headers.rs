//! Which headers of requests the audit log has, and how: `sys/config/auditing/request-headers`. By default none.

use std::collections::BTreeMap;

use obol_mount::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// More would make every request slow.
const MAX_HEADERS: usize = 128;

/// What lets somebody in is never written in the clear (threats: `audit-raw`).
const CREDENTIALS: [&str; 5] = [
    "x-vault-token",
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
];

/// How one header is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// Whether its values are written as HMACs.
    pub hmac: bool,
}

/// The headers by their names in lower case.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AuditedHeaders(pub BTreeMap<String, Rule>);

/// An audited header that came with a request.
#[derive(Debug, Clone)]
pub struct Sent {
    pub name: String,
    pub values: Vec<String>,
    pub hmac: bool,
}

impl AuditedHeaders {
    pub fn set(&mut self, name: &str, rule: Rule) -> Result<()> {
        let name = folded(name)?;
        if !rule.hmac && CREDENTIALS.contains(&name.as_str()) {
            return Err(Error::bad_request(format!(
                "the header {name} carries credentials: it is audited with hmac=true alone"
            )));
        }
        if self.0.len() >= MAX_HEADERS && !self.0.contains_key(&name) {
            return Err(Error::bad_request(format!(
                "at most {MAX_HEADERS} headers can be audited"
            )));
        }
        self.0.insert(name, rule);
        Ok(())
    }
}

/// A header's name in lower case (RFC 9110, section 5.1: a token, without case).
pub fn folded(name: &str) -> Result<String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 256 || !name.bytes().all(token) {
        return Err(Error::bad_request("this is no name of a header"));
    }
    Ok(name.to_ascii_lowercase())
}
