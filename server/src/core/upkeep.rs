//! What an unsealed server does by itself: ends tokens whose time has come, takes up what a crash interrupted,
//! lets mounts tidy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Core, Live, unix_now};
use obol_mount::Result;
use tokio::task::JoinHandle;

/// How soon after its end a token's record goes. It is refused from the second on in any case.
const EXPIRY_TICK: Duration = Duration::from_secs(1);
const TIDY_TICK: Duration = Duration::from_secs(60);
const KEYS_TICK: Duration = Duration::from_secs(30);

impl Core {
    /// Starts the upkeep of a server that was just unsealed. Sealing aborts it.
    pub(super) fn start_upkeep(self: &Arc<Self>, live: &Arc<Live>) -> Vec<JoinHandle<()>> {
        let expiry = {
            let live = live.clone();
            tokio::spawn(async move {
                if let Err(error) = resume(&live).await {
                    tracing::error!(%error, "taking up interrupted revocations failed; they are tried again at the next unseal");
                }
                loop {
                    if let Err(error) = live.tokens.expire(unix_now(), &live.forget()).await {
                        tracing::error!(%error, "expiring tokens failed; it is tried again");
                    }
                    tokio::time::sleep(EXPIRY_TICK).await;
                }
            })
        };
        let tidy = {
            let live = live.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(TIDY_TICK).await;
                    if let Err(error) = live.lockout.tidy(unix_now()).await {
                        tracing::warn!(%error, "failed logins that are over could not be dropped; it is tried again");
                    }
                    for mounted in live.mounts.all() {
                        if let Err(error) = mounted.backend.tidy(SystemTime::now()).await {
                            tracing::warn!(mount = %mounted.entry.path, %error, "a mount could not tidy");
                        }
                    }
                }
            })
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
        vec![expiry, tidy, keys]
    }
}

async fn resume(live: &Live) -> Result<()> {
    live.identity.resume().await?;
    live.tokens.resume_revocations(&live.forget()).await?;
    for uuid in live.mounts.tainted().await? {
        live.finish_disable(&uuid).await?;
    }
    Ok(())
}

impl Live {
    /// The second half of disabling a mount: what it issued is revoked, then its data goes.
    pub(super) async fn finish_disable(&self, uuid: &str) -> Result<()> {
        self.revoke_issued_by(uuid).await?;
        self.mounts.remove(uuid).await
    }

    /// Revokes all that a mount has handed out.
    pub(super) async fn revoke_issued_by(&self, uuid: &str) -> Result<()> {
        self.tokens.revoke_issued_by(uuid, &self.forget()).await?;
        Ok(())
    }
}
