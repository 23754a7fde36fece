//! What `sys/config/state/sanitized` shows of the configuration.

use super::{Config, LogFormat, SealConfig, StorageConfig};
use crate::core::sanitized::{
    Sanitized, SanitizedAddress, SanitizedListener, SanitizedSeal, SanitizedStorage,
    SanitizedTelemetry,
};

impl Config {
    pub fn sanitized(&self) -> Sanitized {
        let listeners = self.listeners.iter().map(|listener| SanitizedListener {
            kind: "tcp",
            config: SanitizedAddress {
                address: listener.address.to_string(),
                tls_disable: listener.tls.is_none(),
                unauthenticated_metrics_access: listener.open_metrics,
            },
        });
        let storage = match self.storage {
            StorageConfig::RocksDb { .. } => "rocksdb",
            StorageConfig::Memory => "inmem",
        };
        let (seal, disabled) = match self.seal {
            SealConfig::Shamir => ("shamir", false),
            SealConfig::Static(_) => ("static", false),
            SealConfig::Leaving(_) => ("static", true),
        };
        let format = match self.log_format {
            LogFormat::Text => "standard",
            LogFormat::Json => "json",
        };
        Sanitized {
            api_addr: self.api_addr.clone().unwrap_or_default(),
            cluster_name: self.cluster_name.clone().unwrap_or_default(),
            default_lease_ttl: self.default_lease_ttl.as_secs(),
            disable_mlock: self.disable_mlock,
            enable_ui: self.ui,
            listeners: listeners.collect(),
            log_format: format,
            log_level: self.log_level.clone(),
            max_lease_ttl: self.max_lease_ttl.as_secs(),
            pid_file: self
                .pid_file
                .as_deref()
                .map_or_else(String::new, |p| p.display().to_string()),
            seals: vec![SanitizedSeal {
                kind: seal,
                disabled,
            }],
            storage: SanitizedStorage { kind: storage },
            telemetry: SanitizedTelemetry {
                prometheus: self.telemetry.prometheus,
                usage_gauge_period: self.telemetry.usage_gauge_period.as_secs(),
            },
        }
    }
}
