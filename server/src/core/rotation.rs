//! When the barrier's key is rotated without being asked: after a number of encryptions, and after a time.

use std::sync::Arc;

use obol_mount::{Error, Result};
use obol_storage::{BarrierOptions, View};
use serde::{Deserialize, Serialize};

use super::{Core, Live, unix_now};

/// `sys/rotate/config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationConfig {
    /// Encryptions under one key.
    pub max_operations: u64,
    /// Seconds under one key; 0 for no limit.
    pub interval: u64,
    pub enabled: bool,
}

impl Default for RotationConfig {
    fn default() -> Self {
        Self {
            max_operations: BarrierOptions::default().rotate_after,
            interval: 0,
            enabled: true,
        }
    }
}

impl RotationConfig {
    fn check(&self) -> Result<()> {
        if !(MIN_OPERATIONS..=MAX_OPERATIONS).contains(&self.max_operations) {
            return Err(Error::bad_request(format!(
                "field \"max_operations\": expected a number from {MIN_OPERATIONS} to {MAX_OPERATIONS}"
            )));
        }
        if self.interval != 0 && self.interval < MIN_INTERVAL {
            return Err(Error::bad_request(
                "field \"interval\": expected 0 for none, or at least 24h",
            ));
        }
        Ok(())
    }
}

impl Core {
    pub(super) async fn rotation_config(&self) -> Result<RotationConfig> {
        Ok(self
            .rotation_view()?
            .get_json(RECORD)
            .await?
            .unwrap_or_default())
    }

    pub(super) async fn set_rotation_config(
        &self,
        change: impl Fn(&mut RotationConfig),
    ) -> Result<()> {
        let config = self
            .rotation_view()?
            .update_json(RECORD, |config: Option<RotationConfig>| {
                let mut config = config.unwrap_or_default();
                change(&mut config);
                config.check()?;
                Ok::<_, Error>(config)
            })
            .await?;
        self.apply_rotation(config);
        Ok(())
    }

    /// Looks after the keys as long as the server is unsealed: takes over what another server has configured, rotates
    /// when it is time, forgets new keys that nobody came back for.
    pub(super) async fn look_after_keys(self: &Arc<Self>, live: &Live) {
        if self.barrier.is_sealed() {
            // Another server has replaced the root key, without which this one can do nothing. Sealing ends the task
            // that this runs in, too.
            let core = self.clone();
            tokio::spawn(async move { core.seal().await });
            return;
        }
        if let Err(error) = self.rotate_when_due().await {
            tracing::error!(%error, "the barrier key could not be rotated; it is tried again");
        }
        live.rekeying.forget_old().await;
        live.recovery_rekeying.forget_old().await;
    }

    async fn rotate_when_due(&self) -> Result<()> {
        let config = self.rotation_config().await?;
        self.apply_rotation(config);
        if config.enabled && config.interval > 0 {
            let before = unix_now().saturating_sub(config.interval);
            if let Some(term) = self.barrier.rotate_if_installed_by(before).await? {
                tracing::info!(term, "the barrier key was rotated by its age");
            }
        }
        Ok(())
    }

    fn apply_rotation(&self, config: RotationConfig) {
        self.barrier.set_rotate_after(match config.enabled {
            true => config.max_operations,
            // The cipher's own limit stays, whatever is configured.
            false => u64::MAX,
        });
    }

    fn rotation_view(&self) -> Result<View> {
        Ok(View::new(self.barrier.clone(), "core/")?)
    }
}

const RECORD: &str = "rotate";
/// Vault's bounds of `max_operations`: the upper one is nine tenths of what NIST SP 800-38D allows.
const MIN_OPERATIONS: u64 = 1_000_000;
const MAX_OPERATIONS: u64 = 3_865_470_566;
/// A day, as with Vault.
const MIN_INTERVAL: u64 = 86_400;
