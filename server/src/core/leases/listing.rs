//! What `sys/leases` shows: lease ids by folder, and the leases that were given up.

use std::collections::BTreeMap;

use obol_mount::Result;

use super::{Leases, PAGE};

/// A lease that could not be revoked and is not tried any more.
pub struct Irrevocable {
    pub id: String,
    /// The UUID of its mount.
    pub mount: String,
    pub error: String,
    pub expires: u64,
}

impl Leases {
    /// One level of lease ids below a folder (empty, or ending with a slash).
    pub async fn list(
        &self,
        folder: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        Ok(self
            .storage
            .list(&format!("entry/{folder}"), after, limit)
            .await?)
    }

    /// How many leases there are, or how many of a mount; counted to `most` and no further.
    pub async fn count(&self, mount: Option<&str>, most: u64) -> Result<u64> {
        let folder = mount.map_or("mount/".to_owned(), |uuid| format!("mount/{uuid}/"));
        Ok(self.storage.count_to(&folder, most).await?)
    }

    /// How many leases of each mount (by UUID) are irrevocable.
    pub async fn count_irrevocable(&self) -> Result<BTreeMap<String, u64>> {
        let mut counts = BTreeMap::new();
        let mut after = None;
        loop {
            let (page, last) = self.irrevocable_page(after.as_deref()).await?;
            for lease in page {
                *counts.entry(lease.mount).or_default() += 1;
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(counts),
            }
        }
    }

    /// The irrevocable leases by their ids, at most `limit`.
    pub async fn irrevocable(&self, limit: usize) -> Result<Vec<Irrevocable>> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let (page, last) = self.irrevocable_page(after.as_deref()).await?;
            found.extend(page);
            match last {
                Some(last) if found.len() < limit => after = Some(last),
                _ => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn irrevocable_page(
        &self,
        after: Option<&str>,
    ) -> Result<(Vec<Irrevocable>, Option<String>)> {
        let page = self
            .storage
            .scan_folder("irrevocable/", after, PAGE)
            .await?;
        let last = page.last().map(|(path, _)| path.clone());
        let mut leases = Vec::with_capacity(page.len());
        for (path, _) in page {
            let Some(id) = path.strip_prefix("irrevocable/") else {
                continue;
            };
            if let Some(entry) = self.get(id).await?
                && entry.is_irrevocable()
            {
                leases.push(Irrevocable {
                    id: id.to_owned(),
                    mount: entry.mount,
                    error: entry.error.unwrap_or_default(),
                    expires: entry.expires,
                });
            }
        }
        Ok((leases, last))
    }
}
