//! The record of a lease.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::core::tokens::TokenId;

/// A lease as it is stored. Times are seconds since 1970, durations seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseEntry {
    /// Whose it is, and with whom it goes. None for that of an orphaned batch token, and once the token is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    /// The UUID of the mount that handed it out.
    pub mount: String,
    pub issued: u64,
    /// The TTL that it was issued with.
    pub ttl: u64,
    pub expires: u64,
    /// No renewal goes beyond.
    pub latest: u64,
    pub renewable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_renewal: Option<u64>,
    /// When the worker looks at it next: at its end, or when revoking is tried again. `None`: never again.
    pub next: Option<u64>,
    /// It is to be revoked, whatever its time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoking: bool,
    /// How often revoking has failed, and why it did last.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the engine wants to see again.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub internal: Map<String, Value>,
}

impl LeaseEntry {
    /// Whether what it gave is to be taken back now.
    pub fn has_ended(&self, now: u64) -> bool {
        self.revoking || self.expires <= now
    }

    pub fn is_irrevocable(&self) -> bool {
        self.next.is_none()
    }

    /// Seconds left.
    pub fn ttl(&self, now: u64) -> u64 {
        match self.revoking {
            true => 0,
            false => self.expires.saturating_sub(now),
        }
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}
