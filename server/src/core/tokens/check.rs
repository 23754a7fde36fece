//! Whether the records of tokens and their indexes agree: for `obol operator check`, and `auth/token/tidy`, which
//! mends what it finds. Reads in pages; what seems wrong is looked at again before it is told, since others may be
//! at work.

use std::sync::Arc;

use obol_mount::Result;
use obol_storage::Batch;

use super::{Forget, TokenEntry, TokenId, Tokens};
use crate::core::Live;
use crate::core::leases::Inconsistency;

impl Live {
    /// Starts [`Tokens::tidy`] in the background; `false` when it is running already.
    pub fn start_tidying_tokens(self: &Arc<Self>) -> bool {
        let Ok(permit) = self.tokens.tidying.clone().try_acquire_owned() else {
            return false;
        };
        let live = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match live.tokens.tidy(&live.forget()).await {
                Ok((dropped, revoked)) => tracing::info!(dropped, revoked, "tokens were tidied"),
                Err(error) => tracing::error!(%error, "tidying tokens failed"),
            }
        });
        true
    }
}

impl Tokens {
    /// Whether a token is stored, or is dead and its family still to be removed.
    pub async fn exists_or_goes(&self, id: &TokenId) -> Result<bool> {
        // In this order: a token leaves its mark in the commit that removes its record.
        Ok(self.read(id).await?.is_some()
            || self.storage.get(&format!("revoking/{id}")).await?.is_some())
    }

    /// Everything that is wrong with tokens and their indexes, at most `limit` findings.
    pub async fn inconsistencies(&self, limit: usize) -> Result<Vec<Inconsistency>> {
        let mut found = Vec::new();
        for folder in FOLDERS {
            let mut after: Option<String> = None;
            while found.len() < limit {
                let page = self
                    .storage
                    .scan_folder(folder, after.as_deref(), PAGE)
                    .await?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (path, _) in &page {
                    if let Some(what) = self.what_is_wrong(folder, path).await?
                        && self.storage.get(path).await?.is_some()
                        && let Some(still) = self.what_is_wrong(folder, path).await?
                        && still == what
                    {
                        found.push(Inconsistency {
                            path: self.storage.full(path),
                            what,
                        });
                    }
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Drops index entries without a token, and revokes tokens whose parent is gone. Returns how many of each.
    pub async fn tidy(&self, forget: &Forget<'_>) -> Result<(u64, u64)> {
        let (mut dropped, mut revoked) = (0, 0);
        loop {
            let found = self.inconsistencies(PAGE).await?;
            if found.is_empty() {
                return Ok((dropped, revoked));
            }
            let mut progress = false;
            for Inconsistency { path, .. } in found {
                let Some(path) = path.strip_prefix(self.storage.prefix()) else {
                    continue;
                };
                match path.strip_prefix("id/") {
                    // A token that cannot be found by its indexes cannot be trusted to end.
                    Some(id) => {
                        self.revoke(&TokenId::stored(id), forget).await?;
                        revoked += 1;
                    }
                    None => {
                        let mut batch = Batch::new();
                        self.storage.delete_in(&mut batch, path);
                        self.storage.commit(batch).await?;
                        dropped += 1;
                    }
                }
                progress = true;
            }
            if !progress {
                return Ok((dropped, revoked));
            }
        }
    }

    async fn what_is_wrong(&self, folder: &str, path: &str) -> Result<Option<&'static str>> {
        let Some(name) = path.rsplit('/').next() else {
            return Ok(None);
        };
        if folder == "id/" {
            return self.what_is_wrong_with(&TokenId::stored(name)).await;
        }
        let id = match folder {
            "issued/" => match name.strip_prefix(super::LEASE_MARK) {
                Some(id) => TokenId::stored(id),
                None => return Ok(Some("a lease id that names no token")),
            },
            _ => TokenId::stored(name),
        };
        let Some(entry) = self.read(&id).await? else {
            return Ok(match folder {
                // The family of a dead token goes page by page, its children with their entries.
                "child/" => Some("an index entry of a child that is gone"),
                _ => Some("an index entry without its token"),
            });
        };
        let is_wanted = Self::indexes(&id, &entry).iter().any(|index| index == path);
        Ok((!is_wanted).then_some("an index entry at a wrong place"))
    }

    async fn what_is_wrong_with(&self, id: &TokenId) -> Result<Option<&'static str>> {
        let Some(entry) = self.read(id).await? else {
            return Ok(None);
        };
        if id.bytes().map(|id| self.accessors.of(id)).as_ref() != Some(&entry.accessor) {
            return Ok(Some("a token with a wrong accessor"));
        }
        for index in Self::indexes(id, &entry) {
            if self.storage.get(&index).await?.is_none() {
                return Ok(Some("a token misses an index entry"));
            }
        }
        if let Some(parent) = &entry.parent
            && !self.exists_or_goes(parent).await?
        {
            return Ok(Some("a token has outlived its parent"));
        }
        Ok(None)
    }

    /// The index entries of a token. They say nothing but that it is there.
    pub(super) fn indexes(id: &TokenId, entry: &TokenEntry) -> Vec<String> {
        let mut paths = Vec::with_capacity(4);
        if let Some(parent) = &entry.parent {
            paths.push(Self::child_path(parent, id));
        }
        if let Some(expires) = entry.expires {
            paths.push(Self::expiry_path(expires, id));
        }
        // A token that never ends has no lease.
        if entry.expires.is_some() || entry.issuer.is_some() {
            paths.push(Self::issued_path(entry, id));
        }
        paths
    }
}

/// How many entries are looked at together.
const PAGE: usize = 128;
const FOLDERS: [&str; 4] = ["id/", "child/", "issued/", "expiry/"];
