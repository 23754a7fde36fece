//! The configuration as `sys/config/state/sanitized` shows it: nothing that could be a secret, no place of one.

use schemars::JsonSchema;
use serde::Serialize;

/// What the server was started with.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Sanitized {
    /// The address that clients should use; empty where none is set.
    pub api_addr: String,
    /// Empty where none is set.
    pub cluster_name: String,
    /// Seconds.
    pub default_lease_ttl: u64,
    /// Whether memory may be swapped out.
    pub disable_mlock: bool,
    /// Whether there are pages for people.
    pub enable_ui: bool,
    /// The addresses that the server listens on.
    pub listeners: Vec<SanitizedListener>,
    /// `standard` or `json`.
    pub log_format: &'static str,
    /// From which level on there is a log.
    pub log_level: String,
    /// Seconds.
    pub max_lease_ttl: u64,
    /// Empty where none is set.
    pub pid_file: String,
    /// What unseals the server; always one.
    pub seals: Vec<SanitizedSeal>,
    pub storage: SanitizedStorage,
    pub telemetry: SanitizedTelemetry,
}

/// An address that the server listens on.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SanitizedListener {
    /// `tcp`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub config: SanitizedAddress,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SanitizedAddress {
    /// Address and port.
    pub address: String,
    /// Whether it speaks HTTP without TLS.
    pub tls_disable: bool,
    /// Whether `sys/metrics` needs no token there.
    pub unauthenticated_metrics_access: bool,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SanitizedSeal {
    /// `shamir` or `static`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Always false.
    pub disabled: bool,
}

#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct SanitizedStorage {
    /// `rocksdb` or `inmem`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct SanitizedTelemetry {
    /// Whether `sys/metrics` answers in Prometheus' format.
    pub prometheus: bool,
    /// Seconds between two counts of what is stored.
    pub usage_gauge_period: u64,
}
