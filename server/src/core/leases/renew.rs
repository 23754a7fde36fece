//! Renewing: the engine agrees, then the lease's end moves, within every limit, in one commit with the index.

use std::time::Duration;

use obol_mount::{Error, LeaseRenewal, Result};
use obol_storage::{Batch, Error as StorageError};

use super::{ATTEMPTS, ENGINE_TIMEOUT, LeaseEntry};
use crate::core::tokens::Limits;
use crate::core::{Core, Live, unix_now};

impl Core {
    /// Renews a lease. `increment` is what was asked for; zero: what it was issued with. Returns the new record and
    /// warnings about what was capped.
    pub async fn renew_lease(
        &self,
        live: &Live,
        id: &str,
        increment: Duration,
    ) -> Result<(LeaseEntry, Vec<String>)> {
        for _ in 0..ATTEMPTS {
            let now = unix_now();
            let Some((entry, seen)) = live.leases.seen(id).await? else {
                return Err(Error::bad_request("lease not found"));
            };
            if entry.has_ended(now) || entry.is_irrevocable() {
                return Err(Error::bad_request("lease expired"));
            }
            if !entry.renewable {
                return Err(Error::bad_request("lease is not renewable"));
            }
            let Some(mounted) = live.mounts.by_uuid(&entry.mount) else {
                return Err(Error::bad_request("lease not found"));
            };
            let renewal = mounted.backend.renew_lease(&entry.internal, increment);
            let renewal = tokio::time::timeout(ENGINE_TIMEOUT, renewal)
                .await
                .map_err(|_| Error::bad_gateway("the engine took too long to renew the lease"))??;
            let limits = self.limits(Some(&mounted.entry));
            let mut warnings = Vec::new();
            let renewed = renewed(&entry, increment, renewal, limits, now, &mut warnings);
            let mut batch = Batch::new();
            live.leases
                .put_in(&mut batch, id, Some((&entry, &seen)), &renewed)?;
            match live.leases.storage.commit(batch).await {
                Ok(()) => return Ok((renewed, warnings)),
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::unavailable("the lease is in heavy use; try again"))
    }
}

fn renewed(
    old: &LeaseEntry,
    increment: Duration,
    renewal: LeaseRenewal,
    limits: Limits,
    now: u64,
    warnings: &mut Vec<String>,
) -> LeaseEntry {
    let mut ttl = match increment.as_secs() {
        0 => old.ttl,
        asked => asked,
    };
    let mut cap = |left: u64, by: &str| {
        if ttl > left {
            warnings.push(format!(
                "TTL was capped at {:?} by the {by}",
                obol_mount::duration::format(Duration::from_secs(left))
            ));
            ttl = left;
        }
    };
    if !renewal.ttl.is_zero() {
        cap(renewal.ttl.as_secs(), "engine");
    }
    if !renewal.max_ttl.is_zero() {
        let end = old.issued.saturating_add(renewal.max_ttl.as_secs());
        cap(end.saturating_sub(now), "engine's max_ttl");
    }
    let end = old.issued.saturating_add(limits.max_ttl.as_secs());
    cap(end.saturating_sub(now), "mount's max_ttl");
    cap(old.latest.saturating_sub(now), "lease's own maximum");
    let expires = now.saturating_add(ttl);
    LeaseEntry {
        expires,
        next: Some(expires),
        last_renewal: Some(now),
        internal: renewal.internal.unwrap_or_else(|| old.internal.clone()),
        ..old.clone()
    }
}
