//! Revoking: the engine takes back what it gave, then the lease goes in one commit. What fails is tried again by the
//! worker, later and later, and in the end shown as irrevocable; it is never lost.

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError};

use super::{ATTEMPTS, ENGINE_TIMEOUT, LeaseEntry, Leases, PAGE};
use crate::core::mounts::Mounted;
use crate::core::{Live, unix_now};

impl Live {
    /// Revokes a lease now. A lease that is not there is revoked already.
    pub async fn revoke_lease(&self, id: &str) -> Result<()> {
        // Durable first: from here on it is not renewed, and a crash does not lose the wish.
        self.leases.mark_due(&[id.to_owned()], |_| {}).await?;
        self.revoke_due(id).await
    }

    /// Queues a lease to be revoked by the worker.
    pub async fn revoke_lease_later(&self, id: &str) -> Result<()> {
        self.leases.mark_due(&[id.to_owned()], |_| {}).await
    }

    /// Revokes all leases below a folder of lease ids. Queued, or one after the other until one fails.
    pub async fn revoke_leases_below(&self, folder: &str, sync: bool) -> Result<()> {
        let folder = format!("entry/{folder}");
        let mut after = None;
        loop {
            let page = self.leases.ids_below(&folder, after.as_deref()).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(super::entry_path(last));
            self.leases.mark_due(&page, |_| {}).await?;
            if sync {
                for id in &page {
                    self.revoke_due(id).await?;
                }
            }
        }
    }

    /// Removes a lease, whatever the engine says.
    pub async fn force_lease(&self, id: &str) -> Result<()> {
        self.leases.mark_due(&[id.to_owned()], |_| {}).await?;
        if let Err(error) = self.revoke_due(id).await {
            tracing::warn!(lease = id, %error, "the engine did not revoke a lease that is removed by force");
            self.leases.forget(id).await?;
        }
        Ok(())
    }

    /// Removes all leases below a folder of lease ids, whatever the engine says.
    pub async fn force_leases_below(&self, folder: &str) -> Result<()> {
        let folder = format!("entry/{folder}");
        let mut after = None;
        loop {
            let page = self.leases.ids_below(&folder, after.as_deref()).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(super::entry_path(last));
            for id in &page {
                self.force_lease(id).await?;
            }
        }
    }

    /// Revokes the leases of a mount that is being disabled. Those that cannot be revoked stay, and keep the mount's
    /// data where it is.
    pub async fn revoke_leases_of(&self, mounted: &Mounted) -> Result<()> {
        let folder = format!("mount/{}/", mounted.entry.uuid);
        let mut after: Option<String> = None;
        let mut failed = 0_u64;
        loop {
            let page = self
                .leases
                .storage
                .scan_folder(&folder, after.as_deref(), PAGE)
                .await?;
            let Some((last, _)) = page.last() else {
                break;
            };
            after = Some(last.clone());
            let ids: Vec<String> = page
                .iter()
                .filter_map(|(path, _)| path.strip_prefix(&folder).map(str::to_owned))
                .collect();
            self.leases.mark_due(&ids, |_| {}).await?;
            for id in &ids {
                if let Err(error) = self.revoke_lease_with(mounted, id).await {
                    tracing::warn!(lease = id, %error, "a lease of a mount that is being disabled could not be revoked");
                    failed += 1;
                }
            }
        }
        if failed > 0 {
            return Err(Error::new_internal(
                format!(
                    "the mount no longer serves, but {failed} of its leases could not be revoked yet; they are tried again, or use sys/leases/revoke-force"
                ),
                "leases of a mount that is being disabled could not be revoked",
            ));
        }
        Ok(())
    }

    /// Revokes a lease that is marked as due, or has ended.
    pub(super) async fn revoke_due(&self, id: &str) -> Result<()> {
        let Some(entry) = self.leases.get(id).await? else {
            return Ok(());
        };
        match self.mounts.even_tainted(&entry.mount).await? {
            Some(mounted) => self.revoke_lease_with(&mounted, id).await,
            None => {
                // A mount goes only after its leases; whoever asked for that is not here any more.
                tracing::warn!(lease = id, "the mount of a lease is gone");
                self.leases.forget(id).await
            }
        }
    }

    /// Has this mount take back what a lease gave, if the lease is at its end.
    pub(super) async fn revoke_lease_with(&self, mounted: &Mounted, id: &str) -> Result<()> {
        let Some(entry) = self.leases.get(id).await? else {
            return Ok(());
        };
        if !entry.has_ended(unix_now()) || entry.mount != mounted.entry.uuid {
            return Ok(());
        }
        let asked = mounted.backend.revoke_lease(&entry.internal);
        let answered = tokio::time::timeout(ENGINE_TIMEOUT, asked)
            .await
            .unwrap_or_else(|_| Err(Error::bad_gateway("the engine took too long")));
        match answered {
            Ok(()) => self.leases.forget(id).await,
            Err(error) => {
                self.leases.failed(id, &error).await?;
                Err(Error::new_internal(
                    format!("failed to revoke lease {id:?}: it is tried again"),
                    error,
                ))
            }
        }
    }
}

impl Leases {
    /// Marks leases as to be revoked now, in one commit, and wakes the worker. Those that are not there are passed
    /// over; one that was given up gets another round of tries.
    pub(super) async fn mark_due(
        &self,
        ids: &[String],
        change: impl Fn(&mut LeaseEntry) + Copy,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let now = unix_now();
            let mut batch = Batch::new();
            for id in ids {
                let Some((old, seen)) = self.seen(id).await? else {
                    continue;
                };
                let mut due = LeaseEntry {
                    revoking: true,
                    next: Some(now),
                    failures: 0,
                    ..old.clone()
                };
                change(&mut due);
                self.put_in(&mut batch, id, Some((&old, &seen)), &due)?;
            }
            if batch.is_empty() {
                return Ok(());
            }
            match self.storage.commit(batch).await {
                Ok(()) => {
                    self.wake.notify_one();
                    return Ok(());
                }
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::unavailable("the leases are in heavy use; try again"))
    }

    /// Removes a lease with its index entries.
    async fn forget(&self, id: &str) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some((entry, seen)) = self.seen(id).await? else {
                return Ok(());
            };
            let mut batch = Batch::new();
            self.delete_in(&mut batch, id, &entry, &seen);
            match self.storage.commit(batch).await {
                Ok(()) => return Ok(()),
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::unavailable("the lease is in heavy use; try again"))
    }

    /// Notes that revoking has failed, and when it is tried again.
    async fn failed(&self, id: &str, why: &Error) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some((old, seen)) = self.seen(id).await? else {
                return Ok(());
            };
            let failures = old.failures.saturating_add(1);
            let new = LeaseEntry {
                failures,
                next: self.patience.next_try(failures, unix_now()),
                // What the client is told of an error gives nothing away; the cause is in the log.
                error: Some(why.messages().join("; ")),
                ..old.clone()
            };
            if new.is_irrevocable() {
                tracing::error!(lease = id, failures, error = %why, "a lease cannot be revoked and is not tried any more");
            } else {
                tracing::warn!(lease = id, failures, error = %why, "revoking a lease failed; it is tried again");
            }
            let mut batch = Batch::new();
            self.put_in(&mut batch, id, Some((&old, &seen)), &new)?;
            match self.storage.commit(batch).await {
                Ok(()) => return Ok(()),
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::unavailable("the lease is in heavy use; try again"))
    }

    /// A page of lease ids below a folder of `entry/`, behind a path in it.
    pub(super) async fn ids_below(&self, folder: &str, after: Option<&str>) -> Result<Vec<String>> {
        let page = self.storage.scan_folder(folder, after, PAGE).await?;
        Ok(page
            .into_iter()
            .filter_map(|(path, _)| path.strip_prefix("entry/").map(str::to_owned))
            .collect())
    }
}
