//! Whether records and indexes agree: for `obol operator check`, and `sys/leases/tidy`, which mends what it finds.
//! Reads in pages; what seems wrong is looked at again before it is told, since others may be at work.

use std::sync::Arc;

use obol_mount::Result;
use obol_storage::Batch;

use super::{LeaseEntry, Leases, PAGE, entry_path, id_in, indexes};
use crate::core::Live;

/// Two things in storage that belong together and do not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inconsistency {
    /// The storage path.
    pub path: String,
    pub what: &'static str,
}

impl Live {
    /// Everything that is wrong with leases, at most `limit` findings.
    pub async fn lease_inconsistencies(&self, limit: usize) -> Result<Vec<Inconsistency>> {
        let mut found = self.leases.lost_indexes(limit).await?;
        let mut after: Option<String> = None;
        while found.len() < limit {
            let page = self
                .leases
                .storage
                .scan_folder("entry/", after.as_deref(), PAGE)
                .await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (path, _) in &page {
                let Some(id) = path.strip_prefix("entry/") else {
                    continue;
                };
                if let Some(what) = self.what_is_wrong(id).await? {
                    found.push(Inconsistency {
                        path: self.leases.storage.full(path),
                        what,
                    });
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn what_is_wrong(&self, id: &str) -> Result<Option<&'static str>> {
        for last in [false, true] {
            let Some(entry) = self.leases.get(id).await? else {
                return Ok(None);
            };
            let missing = self.leases.misses_an_index(id, &entry).await?;
            let orphaned = match &entry.token {
                Some(token) => !self.tokens.exists_or_goes(token).await?,
                None => false,
            };
            let homeless = self.mounts.even_tainted(&entry.mount).await?.is_none();
            let what = match (missing, orphaned, homeless) {
                (true, _, _) => "a lease misses an index entry",
                (_, true, _) => "a lease has outlived its token",
                (_, _, true) => "a lease has outlived its mount",
                _ => return Ok(None),
            };
            if last {
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    /// Queues leases whose token is gone, and drops index entries without a lease. Returns how many of each.
    pub async fn tidy_leases(&self) -> Result<(u64, u64)> {
        let (mut queued, mut dropped) = (0, 0);
        let mut after: Option<String> = None;
        loop {
            let page = self
                .leases
                .storage
                .scan_folder("entry/", after.as_deref(), PAGE)
                .await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let mut lost = Vec::new();
            for (path, _) in &page {
                let Some(id) = path.strip_prefix("entry/") else {
                    continue;
                };
                let Some(entry) = self.leases.get(id).await? else {
                    continue;
                };
                if let Some(token) = &entry.token
                    && !self.tokens.exists_or_goes(token).await?
                {
                    lost.push(id.to_owned());
                } else if self.leases.misses_an_index(id, &entry).await? {
                    self.leases.write_indexes(id).await?;
                }
            }
            queued += lost.len() as u64;
            self.leases
                .mark_due(&lost, |entry| entry.token = None)
                .await?;
        }
        loop {
            let lost = self.leases.lost_indexes(PAGE).await?;
            if lost.is_empty() {
                break;
            }
            let mut batch = Batch::new();
            for finding in &lost {
                batch.delete(finding.path.clone());
            }
            self.leases.storage.commit(batch).await?;
            dropped += lost.len() as u64;
        }
        Ok((queued, dropped))
    }

    /// Starts [`Live::tidy_leases`] in the background; `false` when it is running already.
    pub fn start_tidying_leases(self: &Arc<Self>) -> bool {
        let Ok(permit) = self.leases.tidying.clone().try_acquire_owned() else {
            return false;
        };
        let live = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match live.tidy_leases().await {
                Ok((queued, dropped)) => {
                    tracing::info!(queued, dropped, "leases were tidied")
                }
                Err(error) => tracing::error!(%error, "tidying leases failed"),
            }
        });
        true
    }
}

impl Leases {
    /// Index entries without a lease that has them.
    async fn lost_indexes(&self, limit: usize) -> Result<Vec<Inconsistency>> {
        let mut found = Vec::new();
        for folder in ["expiry/", "token/", "mount/", "irrevocable/"] {
            let mut after: Option<String> = None;
            while found.len() < limit {
                let page = self
                    .storage
                    .scan_folder(folder, after.as_deref(), PAGE)
                    .await?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (path, _) in &page {
                    if self.is_lost(folder, path).await? {
                        found.push(Inconsistency {
                            path: self.storage.full(path),
                            what: "an index entry without its lease",
                        });
                    }
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn is_lost(&self, folder: &str, path: &str) -> Result<bool> {
        let id = match folder {
            "irrevocable/" => path.strip_prefix(folder),
            _ => id_in(path, folder),
        };
        let Some(id) = id else { return Ok(true) };
        let known = |entry: Option<LeaseEntry>| {
            entry.is_some_and(|entry| indexes(id, &entry).iter().any(|index| index == path))
        };
        // The page may be older than the lease's last change: then its entry is gone by now.
        Ok(!known(self.get(id).await?)
            && self.storage.get(path).await?.is_some()
            && !known(self.get(id).await?))
    }

    async fn misses_an_index(&self, id: &str, entry: &LeaseEntry) -> Result<bool> {
        for path in indexes(id, entry) {
            if self.storage.get(&path).await?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes a lease's index entries as its record wants them.
    async fn write_indexes(&self, id: &str) -> Result<()> {
        let Some((entry, seen)) = self.seen(id).await? else {
            return Ok(());
        };
        let mut batch = Batch::new();
        self.storage.expect_in(&mut batch, &entry_path(id), &seen);
        for path in indexes(id, &entry) {
            self.storage.put_in(&mut batch, &path, Vec::new());
        }
        match self.storage.commit(batch).await {
            // Changed meanwhile, with its index entries.
            Ok(()) | Err(obol_storage::Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
