//! Whether clients are counted, and for how long they are kept: `sys/internal/counters/config`.

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError, Seen};
use serde::{Deserialize, Serialize};

use super::{ATTEMPTS, Activity, Month};

/// What an operator says of counting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Counts: what was not counted cannot be told later.
    #[default]
    Default,
    Enable,
    Disable,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub enabled: Switch,
    /// Months that are kept beside the present one.
    pub retention_months: u64,
    /// Advanced when counting is switched off, which drops the present month: who was seen before is seen anew when
    /// it is on again, on every server.
    #[serde(default)]
    pub(super) generation: u64,
}

/// What is to be changed of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfigChange {
    pub enabled: Option<Switch>,
    pub retention_months: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: Switch::Default,
            retention_months: DEFAULT_RETENTION,
            generation: 0,
        }
    }
}

impl Config {
    pub fn is_enabled(&self) -> bool {
        self.enabled != Switch::Disable
    }

    /// The first month that is kept.
    pub fn oldest(&self, now: u64) -> Month {
        Month::of(now).back(self.retention_months)
    }

    /// Makes the change, or says what is wrong with it. Returns what to warn of.
    fn apply(&mut self, change: ConfigChange) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        if let Some(months) = change.retention_months {
            self.retention_months = months;
            if months > MOST_RETENTION {
                self.retention_months = MOST_RETENTION;
                warnings.push(format!(
                    "retention_months cannot be more than {MOST_RETENTION}; it is {MOST_RETENTION} now"
                ));
            }
        }
        let was_enabled = self.is_enabled();
        if let Some(enabled) = change.enabled {
            self.enabled = enabled;
        }
        if was_enabled && !self.is_enabled() {
            self.generation += 1;
            warnings.push(
                "clients are no longer counted; those of the present month are dropped".into(),
            );
        }
        if self.is_enabled() && self.retention_months == 0 {
            return Err(Error::bad_request(
                "field \"retention_months\": cannot be 0 while clients are counted",
            ));
        }
        Ok(warnings)
    }
}

impl Activity {
    pub fn config(&self) -> std::sync::Arc<Config> {
        self.config.load_full()
    }

    /// Changes the configuration. Switching off drops the present month in the same commit. Returns what to warn of.
    pub async fn configure(&self, change: ConfigChange, now: u64) -> Result<Vec<String>> {
        for _ in 0..ATTEMPTS {
            let (mut config, mut batch) = self.stored_config().await?;
            let before = config.generation;
            let warnings = config.apply(change)?;
            self.storage.put_json_in(&mut batch, CONFIG, &config)?;
            if config.generation != before {
                self.storage
                    .delete_prefix_in(&mut batch, &Month::of(now).folder());
            }
            match self.storage.commit(batch).await {
                Ok(()) => {
                    self.config.store(config.into());
                    self.restamp(now);
                    return Ok(warnings);
                }
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(super::busy())
    }

    /// Reads the record again, which another server may have changed.
    pub async fn refresh(&self, now: u64) -> Result<()> {
        let (config, _) = self.stored_config().await?;
        if *self.config.load_full() != config {
            self.config.store(config.into());
            self.restamp(now);
        }
        Ok(())
    }

    /// The record as it is stored, and a batch that is refused when it has changed since.
    pub(super) async fn stored_config(&self) -> Result<(Config, Batch)> {
        let mut batch = Batch::new();
        let found: Option<(Config, Seen)> = self.storage.get_json_seen(CONFIG).await?;
        let config = match found {
            Some((config, seen)) => {
                self.storage.expect_in(&mut batch, CONFIG, &seen);
                config
            }
            None => {
                self.storage.expect_absent_in(&mut batch, CONFIG);
                Config::default()
            }
        };
        Ok((config, batch))
    }
}

const CONFIG: &str = "config";
/// Vault's default.
const DEFAULT_RETENTION: u64 = 48;
/// Vault's limit, and so the most months that one answer is made of.
const MOST_RETENTION: u64 = 60;
