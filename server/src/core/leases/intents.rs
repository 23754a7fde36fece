//! Intents: what an engine wrote before it acted outside, and a crash or an error left behind. Once they are old
//! enough, the engine is asked to take back what may have come of them.

use std::time::Duration;

use obol_mount::{Error, LeaseIntent, Result, StoredIntent};

use super::{ENGINE_TIMEOUT, Leases, PAGE};
use crate::core::mounts::Mounted;

impl Leases {
    /// Rolls back the intents of a mount that are older than `age`. Returns how many could not be.
    pub async fn roll_back_intents(
        &self,
        mounted: &Mounted,
        age: Duration,
        now: u64,
    ) -> Result<u64> {
        let view = mounted.entry.storage(self.storage.barrier())?;
        let mut after: Option<String> = None;
        let mut failed = 0;
        loop {
            let page = view
                .scan_folder(LeaseIntent::FOLDER, after.as_deref(), PAGE)
                .await?;
            let Some((last, _)) = page.last() else {
                return Ok(failed);
            };
            after = Some(last.clone());
            for (path, entry) in &page {
                let intent: StoredIntent = view.parse(path, entry)?;
                if intent.written.saturating_add(age.as_secs()) > now {
                    continue;
                }
                let asked = mounted.backend.revoke_lease(&intent.internal);
                let answered = tokio::time::timeout(ENGINE_TIMEOUT, asked)
                    .await
                    .unwrap_or_else(|_| Err(Error::bad_gateway("the engine took too long")));
                match answered {
                    Ok(()) => view.delete(path).await?,
                    Err(error) => {
                        failed += 1;
                        tracing::warn!(mount = %mounted.entry.path, %error, "what was begun outside and not finished could not be taken back yet; it is tried again");
                    }
                }
            }
        }
    }
}
