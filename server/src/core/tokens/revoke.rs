//! Revoking: a token goes with everything that hangs on it. The head of the tree dies first and leaves a
//! mark; the rest follows in pages; a crash in between is taken up at the next unseal.

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError};

use super::{TokenEntry, TokenId, Tokens};

/// How many children one commit takes.
const PAGE: usize = 256;

/// What else must go with a token: the mounts' own per-token storage.
pub(super) type Forget<'a> = dyn Fn(&str, &mut Batch) + Send + Sync + 'a;

impl Tokens {
    /// Revokes a token and all its descendants. Returns when all of them are gone.
    pub async fn revoke(&self, id: &TokenId, forget: &Forget<'_>) -> Result<()> {
        if self.kill(id, true, forget).await? {
            self.finish(id, forget).await?;
        }
        Ok(())
    }

    /// Revokes a token alone; its children live on as orphans.
    pub async fn revoke_orphaning(&self, id: &TokenId, forget: &Forget<'_>) -> Result<()> {
        let folder = format!("child/{id}/");
        loop {
            let children = self.storage.list(&folder, None, PAGE).await?;
            if children.is_empty() {
                break;
            }
            for child in children {
                self.orphan(&TokenId::stored(&child), id).await?;
            }
        }
        // A child that is born now finds the parent gone; one that was born in between goes with it.
        self.revoke(id, forget).await
    }

    /// Revokes everything that a mount has issued, a page at a time.
    pub async fn revoke_issued_by(&self, mount: &str, forget: &Forget<'_>) -> Result<u64> {
        let folder = format!("issuer/{mount}/");
        let mut revoked = 0;
        loop {
            let page = self.storage.list(&folder, None, PAGE).await?;
            if page.is_empty() {
                return Ok(revoked);
            }
            for id in page {
                let id = TokenId::stored(&id);
                self.revoke(&id, forget).await?;
                // An index entry without its token would bring this loop round for ever.
                self.storage.delete(&format!("{folder}{id}")).await?;
                revoked += 1;
            }
        }
    }

    /// Takes up what a crash interrupted.
    pub async fn resume_revocations(&self, forget: &Forget<'_>) -> Result<()> {
        loop {
            let page = self.storage.list("revoking/", None, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for id in page {
                self.finish(&TokenId::stored(&id), forget).await?;
            }
        }
    }

    /// Revokes the descendants of a token that is dead already, then its mark.
    async fn finish(&self, head: &TokenId, forget: &Forget<'_>) -> Result<()> {
        // Depth first with an explicit stack: a chain of parents may be long.
        let mut stack = vec![head.clone()];
        while let Some(id) = stack.last().cloned() {
            let children = self
                .storage
                .list(&format!("child/{id}/"), None, PAGE)
                .await?;
            if children.is_empty() {
                stack.pop();
                self.storage.delete(&format!("revoking/{id}")).await?;
                continue;
            }
            for child in children {
                let child = TokenId::stored(&child);
                let has_children = !self
                    .storage
                    .list(&format!("child/{child}/"), None, 1)
                    .await?
                    .is_empty();
                if has_children {
                    // Dead at once, with a mark of its own until its descendants are gone too.
                    self.kill(&child, true, forget).await?;
                    stack.push(child.clone());
                } else {
                    self.kill(&child, false, forget).await?;
                }
                if stack.last() == Some(&child) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Removes one token and its index entries in one commit. `false` when it was gone already.
    async fn kill(&self, id: &TokenId, with_mark: bool, forget: &Forget<'_>) -> Result<bool> {
        let path = format!("id/{id}");
        for _ in 0..16 {
            let Some((entry, seen)) = self.storage.get_json_seen::<TokenEntry>(&path).await? else {
                return Ok(false);
            };
            let mut batch = Batch::new();
            let view = &self.storage;
            view.expect_in(&mut batch, &path, &seen);
            view.delete_in(&mut batch, &path);
            view.delete_in(&mut batch, &format!("accessor/{}", entry.accessor));
            if let Some(parent) = &entry.parent {
                view.delete_in(&mut batch, &format!("child/{parent}/{id}"));
            }
            if let Some(issuer) = &entry.issuer {
                view.delete_in(&mut batch, &format!("issuer/{issuer}/{id}"));
            }
            if let Some(expires) = entry.expires {
                view.delete_in(&mut batch, &Self::expiry_path(expires, id));
            }
            if with_mark {
                view.put_in(&mut batch, &format!("revoking/{id}"), Vec::new());
            }
            forget(id.as_str(), &mut batch);
            match view.commit(batch).await {
                Ok(()) => {
                    self.cache.remove(id);
                    return Ok(true);
                }
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::unavailable("the token is in heavy use; try again"))
    }

    async fn orphan(&self, child: &TokenId, parent: &TokenId) -> Result<()> {
        let path = format!("id/{child}");
        for _ in 0..16 {
            let mut batch = Batch::new();
            self.storage
                .delete_in(&mut batch, &format!("child/{parent}/{child}"));
            if let Some((mut entry, seen)) = self.storage.get_json_seen::<TokenEntry>(&path).await?
            {
                self.storage.expect_in(&mut batch, &path, &seen);
                entry.parent = None;
                self.storage.put_json_in(&mut batch, &path, &entry)?;
            }
            match self.storage.commit(batch).await {
                Ok(()) => {
                    self.cache.remove(child);
                    return Ok(());
                }
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::unavailable("the token is in heavy use; try again"))
    }
}
