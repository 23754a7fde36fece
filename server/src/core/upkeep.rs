//! What an unsealed server does by itself: ends tokens whose time has come, takes up what a crash interrupted,
//! lets mounts tidy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Core, Live, unix_now};
use obol_mount::{Error, LeaseIntent, Result};
use tokio::task::JoinHandle;

/// How soon after its end a token's record goes. It is refused from the second on in any case.
const EXPIRY_TICK: Duration = Duration::from_secs(1);
/// How soon a setting that another process has changed applies here.
const REFRESH_TICK: Duration = Duration::from_secs(5);
const TIDY_TICK: Duration = Duration::from_secs(60);
const KEYS_TICK: Duration = Duration::from_secs(30);

impl Core {
    /// Starts the upkeep of a server that was just unsealed. Sealing aborts it.
    pub(super) fn start_upkeep(self: &Arc<Self>, live: &Arc<Live>) -> Vec<JoinHandle<()>> {
        let expiry = {
            let live = live.clone();
            tokio::spawn(async move {
                loop {
                    if let Err(error) = live.tokens.expire(unix_now(), &live.forget()).await {
                        tracing::error!(%error, "expiring tokens failed; it is tried again");
                    }
                    tokio::time::sleep(EXPIRY_TICK).await;
                }
            })
        };
        let families = {
            let live = live.clone();
            tokio::spawn(async move { live.tokens.reap_for_ever(&live.forget()).await })
        };
        let leases = {
            let live = live.clone();
            tokio::spawn(async move { live.revoke_leases_for_ever().await })
        };
        let tidy = {
            let live = live.clone();
            tokio::spawn(async move {
                loop {
                    if let Err(error) = resume(&live).await {
                        tracing::error!(%error, "a mount that is being disabled is not gone yet; it is tried again");
                    }
                    tokio::time::sleep(TIDY_TICK).await;
                    if let Err(error) = live.lockout.tidy(unix_now()).await {
                        tracing::warn!(%error, "failed logins that are over could not be dropped; it is tried again");
                    }
                    if let Err(error) = live.activity.tidy(unix_now()).await {
                        tracing::warn!(%error, "clients of months that are over could not be dropped; it is tried again");
                    }
                    for mounted in live.mounts.all() {
                        let intents = live
                            .leases
                            .roll_back_intents(&mounted, LeaseIntent::AGE, unix_now())
                            .await;
                        if let Err(error) = intents {
                            tracing::warn!(mount = %mounted.entry.path, %error, "looking for what was left half-done failed");
                        }
                        if let Err(error) = mounted.backend.tidy(SystemTime::now()).await {
                            tracing::warn!(mount = %mounted.entry.path, %error, "a mount could not tidy");
                        }
                    }
                }
            })
        };
        let activity = {
            let live = live.clone();
            tokio::spawn(async move { live.activity.write_for_ever().await })
        };
        let keys = {
            let (core, live) = (Arc::downgrade(self), live.clone());
            tokio::spawn(async move {
                while let Some(core) = core.upgrade() {
                    core.look_after_keys(&live).await;
                    drop(core);
                    tokio::time::sleep(KEYS_TICK).await;
                }
            })
        };
        let usage = {
            let (core, live) = (Arc::downgrade(self), live.clone());
            let period = self.settings.telemetry.usage_gauge_period;
            tokio::spawn(async move {
                while let Some(core) = core.upgrade().filter(|_| !period.is_zero()) {
                    core.count_usage(&live).await;
                    drop(core);
                    tokio::time::sleep(period).await;
                }
            })
        };
        let refresh = {
            let live = live.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(REFRESH_TICK).await;
                    if let Err(error) = live.refresh().await {
                        tracing::warn!(%error, "settings could not be read again; those known stay");
                    }
                }
            })
        };
        vec![
            expiry, families, leases, tidy, activity, keys, usage, refresh,
        ]
    }
}

/// Takes up the removal of mounts that a crash interrupted, or a lease that could not be revoked.
async fn resume(live: &Live) -> Result<()> {
    live.identity.resume().await?;
    for uuid in live.mounts.tainted().await? {
        live.finish_disable(&uuid).await?;
    }
    Ok(())
}

impl Live {
    /// The second half of disabling a mount: what it issued and handed out is revoked, then its data goes.
    pub(super) async fn finish_disable(&self, uuid: &str) -> Result<()> {
        self.revoke_issued_by(uuid).await?;
        if let Some(accessor) = self.mounts.accessor_of(uuid).await? {
            self.identity.forget_mount(&accessor).await?;
        }
        self.mounts.remove(uuid).await
    }

    /// Revokes all that a mount has handed out.
    pub(super) async fn revoke_issued_by(&self, uuid: &str) -> Result<()> {
        self.tokens.revoke_issued_by(uuid, &self.forget()).await?;
        if let Some(mounted) = self.mounts.even_tainted(uuid).await? {
            self.revoke_leases_of(&mounted).await?;
            let left = self
                .leases
                .roll_back_intents(&mounted, Duration::ZERO, unix_now())
                .await?;
            if left > 0 {
                return Err(Error::unavailable(
                    "the mount no longer serves, but what it began outside could not be taken back yet; it is tried again",
                ));
            }
        }
        Ok(())
    }
}
