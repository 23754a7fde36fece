//! The configuration as `sys/config/state/sanitized` shows it: nothing that could be a secret, no place of one.

use serde_json::{Map, Value, json};

use super::{Config, LogFormat, SealConfig, StorageConfig};

impl Config {
    pub fn sanitized(&self) -> Map<String, Value> {
        let listeners: Vec<Value> = self
            .listeners
            .iter()
            .map(|listener| {
                json!({
                    "type": "tcp",
                    "config": {
                        "address": listener.address.to_string(),
                        "tls_disable": listener.tls.is_none(),
                        "unauthenticated_metrics_access": listener.open_metrics,
                    },
                })
            })
            .collect();
        let storage = match self.storage {
            StorageConfig::RocksDb { .. } => "rocksdb",
            StorageConfig::Memory => "inmem",
        };
        let seal = match self.seal {
            SealConfig::Shamir => "shamir",
            SealConfig::Static(_) => "static",
        };
        let format = match self.log_format {
            LogFormat::Text => "standard",
            LogFormat::Json => "json",
        };
        let shown = json!({
            "api_addr": self.api_addr.clone().unwrap_or_default(),
            "cluster_name": self.cluster_name.clone().unwrap_or_default(),
            "default_lease_ttl": self.default_lease_ttl.as_secs(),
            "disable_mlock": self.disable_mlock,
            "enable_ui": self.ui,
            "listeners": listeners,
            "log_format": format,
            "log_level": self.log_level,
            "max_lease_ttl": self.max_lease_ttl.as_secs(),
            "pid_file": self.pid_file.as_deref().map_or_else(String::new, |p| p.display().to_string()),
            "seals": [{ "type": seal, "disabled": false }],
            "storage": { "type": storage },
            "telemetry": {
                "prometheus": self.telemetry.prometheus,
                "usage_gauge_period": self.telemetry.usage_gauge_period.as_secs(),
            },
        });
        match shown {
            Value::Object(shown) => shown,
            _ => Map::new(),
        }
    }
}
