//! The worker: takes what is due from the front of the expiry index, has it revoked, and comes back to what failed.

use std::sync::Arc;
use std::time::Duration;

use obol_mount::Result;
use obol_storage::{Batch, Error as StorageError};
use tokio::task::JoinSet;

use super::{LeaseEntry, Leases, PAGE, id_in};
use crate::core::{Live, unix_now};

/// When a revocation that failed is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// After the first failure; each further one doubles it.
    pub first: Duration,
    /// How often it is tried before a lease counts as irrevocable.
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        // Ten seconds to five minutes, as Vault has it.
        Self {
            first: Duration::from_secs(10),
            tries: 6,
        }
    }
}

impl Patience {
    /// `None`: not any more.
    pub(super) fn next_try(&self, failures: u32, now: u64) -> Option<u64> {
        if failures >= self.tries {
            return None;
        }
        let factor = 1_u64.checked_shl(failures.saturating_sub(1))?;
        Some(now.saturating_add(self.first.as_secs().saturating_mul(factor)))
    }
}

impl Live {
    /// Revokes leases as their time comes. Never returns; sealing ends it.
    pub async fn revoke_leases_for_ever(self: &Arc<Self>) {
        // Ends its revocations when it is dropped.
        let mut at_work = JoinSet::new();
        loop {
            while at_work.try_join_next().is_some() {}
            match self.leases.claim_due(unix_now()).await {
                Ok(ids) if ids.is_empty() => {
                    let _ = tokio::time::timeout(TICK, self.leases.wake.notified()).await;
                }
                Ok(ids) => {
                    for id in ids {
                        let Ok(hand) = self.leases.hands.clone().acquire_owned().await else {
                            return;
                        };
                        let live = self.clone();
                        at_work.spawn(async move {
                            let _hand = hand;
                            // A failure of the engine is noted and logged where it happened.
                            let _ = live.revoke_due(&id).await;
                        });
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "looking for leases that have ended failed; it is tried again");
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    }
}

impl Leases {
    /// Takes a page of what is due, and moves it on in the index, in one commit: another server, or this one after a
    /// crash, comes back to it when nothing has become of it by then.
    async fn claim_due(&self, now: u64) -> Result<Vec<String>> {
        let end = format!("expiry/{:016x}/", now.saturating_add(1));
        let due = self.storage.scan("expiry/", Some(&end), PAGE).await?;
        let mut claimed = Vec::with_capacity(due.len());
        let mut batch = Batch::new();
        for (path, _) in &due {
            let Some(id) = id_in(path, "expiry/") else {
                continue;
            };
            match self.seen(id).await? {
                Some((old, seen)) if old.has_ended(now) && old.next.is_some_and(|n| n <= now) => {
                    let new = LeaseEntry {
                        next: Some(now.saturating_add(CLAIM.as_secs())),
                        ..old.clone()
                    };
                    self.put_in(&mut batch, id, Some((&old, &seen)), &new)?;
                    claimed.push(id.to_owned());
                }
                Some((old, _)) if old.next.is_some_and(|next| next <= now) => {
                    // Not at its end, and still in front: cannot be, but must not be looked at for ever.
                    tracing::error!(
                        lease = id,
                        "a lease lies at a wrong place of the expiry index"
                    );
                    self.storage.delete_in(&mut batch, path);
                }
                // Of a lease that is gone or was moved it is a leftover.
                _ => self.storage.delete_in(&mut batch, path),
            }
        }
        if batch.is_empty() {
            return Ok(claimed);
        }
        match self.storage.commit(batch).await {
            Ok(()) => Ok(claimed),
            // Somebody renewed or revoked one of them: look again.
            Err(StorageError::Conflict { .. }) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Box::pin(self.claim_due(now)).await
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// How soon after its end a lease is revoked.
const TICK: Duration = Duration::from_secs(1);
/// How long a claimed lease is left alone: longer than an engine may take, and waiting for a hand.
const CLAIM: Duration = Duration::from_secs(120);
