//! Revoking: a token goes with everything that hangs on it. The head of the tree dies in one commit and leaves a
//! mark; from then on nobody below it is let in (`lookup.rs` looks at the parents while there are marks), and the
//! rest is removed in pages. A crash in between is taken up at the next unseal.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError};

use super::lookup::folders_of_leases;
use super::{TokenEntry, TokenId, Tokens};
use crate::core::leases::Leases;
use crate::core::mounts::Mounts;
use crate::core::wrapping::Wrapping;

/// What else must go with a token: the mounts' own per-token storage, and its leases.
pub struct Forget<'a> {
    pub mounts: &'a Mounts,
    pub leases: &'a Leases,
    pub wrapping: &'a Wrapping,
}

impl Forget<'_> {
    fn forget_in(&self, id: &TokenId, batch: &mut Batch) {
        self.wrapping.forget_token(id.as_str(), batch);
        for mounted in self.mounts.all() {
            mounted.backend.forget_token(id.as_str(), batch);
        }
    }
}

/// How far the removal of each family has come: its last child that is gone. Nothing is born below a dead token, so
/// storage need not look again through what is behind that.
#[derive(Default)]
pub(super) struct Progress(HashMap<TokenId, String>);

/// What one commit removed.
#[derive(Default)]
pub(super) struct Killed {
    count: usize,
    /// Those of them that left a mark, because something may hang on them.
    heads: Vec<TokenId>,
}

impl Tokens {
    /// Revokes a token and all its descendants. When this returns, none of them is let in any more; a small family
    /// is gone, a large one goes in the background.
    pub async fn revoke(&self, id: &TokenId, forget: &Forget<'_>) -> Result<()> {
        let _begun = self.reaping.begin();
        let killed = self.kill(std::slice::from_ref(id), forget).await?;
        self.reap(killed.heads, AT_ONCE, &mut Progress::default(), forget)
            .await
    }

    /// Revokes a token alone; its children live on as orphans.
    pub async fn revoke_orphaning(&self, id: &TokenId, forget: &Forget<'_>) -> Result<()> {
        let folder = format!("child/{id}/");
        loop {
            let children = self.storage.list(&folder, None, PAGE).await?;
            if children.is_empty() {
                break;
            }
            self.orphan(&children, id).await?;
        }
        // A child that is born now finds the parent gone; one that was born in between goes with it.
        self.revoke(id, forget).await
    }

    /// Revokes everything that a mount has issued, a page at a time. Families go in the background.
    pub async fn revoke_issued_by(&self, mount: &str, forget: &Forget<'_>) -> Result<u64> {
        self.revoke_listed(&format!("issued/{mount}/"), forget)
            .await
    }

    /// Revokes the tokens whose lease ids begin with `prefix` (a folder), a page at a time.
    pub async fn revoke_by_path(&self, prefix: &str, forget: &Forget<'_>) -> Result<u64> {
        let mut revoked = 0;
        for folder in folders_of_leases(forget.mounts, prefix) {
            revoked += self.revoke_listed(&folder, forget).await?;
        }
        Ok(revoked)
    }

    /// Revokes the tokens that an index names in the last segment of its entries below `folder`.
    async fn revoke_listed(&self, folder: &str, forget: &Forget<'_>) -> Result<u64> {
        let _begun = self.reaping.begin();
        let mut revoked = 0;
        loop {
            let page = self.storage.scan_folder(folder, None, PAGE).await?;
            if page.is_empty() {
                return Ok(revoked);
            }
            let ids: Vec<TokenId> = page.iter().filter_map(|(path, _)| last_id(path)).collect();
            let killed = self.kill(&ids, forget).await?;
            revoked += killed.count as u64;
            // An index entry without its token would bring this loop round for ever.
            let mut batch = Batch::new();
            for (path, _) in &page {
                self.storage.delete_in(&mut batch, path);
            }
            self.storage.commit(batch).await?;
            self.reap(killed.heads, PAGE, &mut Progress::default(), forget)
                .await?;
        }
    }

    /// Revokes what has ended by `now`. Returns how many tokens that were; their families go in the background.
    pub async fn expire(&self, now: u64, forget: &Forget<'_>) -> Result<u64> {
        let end = format!("expiry/{:016x}/", now.saturating_add(1));
        let mut expired = 0;
        loop {
            let due = self.storage.scan("expiry/", Some(&end), PAGE).await?;
            if due.is_empty() {
                return Ok(expired);
            }
            // While there is a backlog, the child of a parent that has ended is not let in either.
            let _begun = self.reaping.begin();
            let mut ended = Vec::with_capacity(due.len());
            for id in due.iter().filter_map(|(path, _)| last_id(path)) {
                if self
                    .read(&id)
                    .await?
                    .is_some_and(|entry| entry.is_expired(now))
                {
                    ended.push(id);
                }
            }
            expired += self.kill(&ended, forget).await?.count as u64;
            // Gone with the token; of a token that is gone or was renewed it is a leftover.
            let mut batch = Batch::new();
            for (path, _) in &due {
                self.storage.delete_in(&mut batch, path);
            }
            self.storage.commit(batch).await?;
        }
    }

    /// Removes the families of dead tokens: those that are too large to go at once, and those that a crash left.
    /// Never returns; sealing ends it.
    pub async fn reap_for_ever(&self, forget: &Forget<'_>) {
        let mut progress = Progress::default();
        loop {
            let epoch = self.reaping.epoch();
            match self.reap_round(&mut progress, forget).await {
                Ok(true) => {
                    self.reaping.found_clean(epoch);
                    // Of families that another server has removed meanwhile.
                    progress = Progress::default();
                    // Another server's marks are found by looking now and then.
                    let _ = tokio::time::timeout(LOOK_AGAIN, self.reaping.awoken()).await;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "removing the families of revoked tokens failed; it is tried again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Does a share of every removal that is under way; `true` when there is none.
    pub(super) async fn reap_round(
        &self,
        progress: &mut Progress,
        forget: &Forget<'_>,
    ) -> Result<bool> {
        let mut after = None;
        let mut none = true;
        loop {
            let heads = self
                .storage
                .list("revoking/", after.as_deref(), PAGE)
                .await?;
            let Some(last) = heads.last() else {
                return Ok(none);
            };
            none = false;
            after = Some(last.clone());
            for head in heads {
                let began = Instant::now();
                self.reap(vec![TokenId::stored(&head)], SHARE, progress, forget)
                    .await?;
                // Small commits, and most of the time is the requests': a removal is in nobody's way.
                tokio::time::sleep((2 * began.elapsed()).min(LONGEST_PAUSE)).await;
            }
        }
    }

    /// Removes what hangs on dead tokens, page by page, until about `budget` tokens are gone. What is left has its
    /// mark and goes in the background.
    async fn reap(
        &self,
        heads: Vec<TokenId>,
        budget: usize,
        Progress(gone): &mut Progress,
        forget: &Forget<'_>,
    ) -> Result<()> {
        let mut heads = VecDeque::from(heads);
        let mut spent = 0;
        while let Some(head) = heads.pop_front() {
            let folder = format!("child/{head}/");
            loop {
                if spent >= budget {
                    return Ok(());
                }
                let after = gone.get(&head).map(String::as_str);
                let names = self
                    .storage
                    .list(&folder, after, PAGE.min(budget - spent))
                    .await?;
                spent += names.len() + 1;
                if let Some(last) = names.last() {
                    let children: Vec<TokenId> =
                        names.iter().map(|child| TokenId::stored(child)).collect();
                    let killed = self.kill(&children, forget).await?;
                    heads.extend(killed.heads);
                    if killed.count < children.len() {
                        self.drop_lost_children(&folder, &children).await?;
                    }
                    gone.insert(head.clone(), last.clone());
                    continue;
                }
                // Once more from the front, before it is called done.
                if gone.remove(&head).is_some() {
                    continue;
                }
                if !forget.leases.surrender(&head).await? {
                    break;
                }
            }
            self.storage.delete(&format!("revoking/{head}")).await?;
        }
        Ok(())
    }

    /// An index entry whose token is gone would bring the removal round for ever.
    async fn drop_lost_children(&self, folder: &str, children: &[TokenId]) -> Result<()> {
        let mut batch = Batch::new();
        for child in children {
            if self.read(child).await?.is_none() {
                self.storage
                    .delete_in(&mut batch, &format!("{folder}{child}"));
            }
        }
        Ok(self.storage.commit(batch).await?)
    }

    /// Removes tokens and their index entries in one commit. Those on whom something may hang leave a mark: whoever
    /// calls this has begun a revocation, or removes the family of one whose mark is there.
    pub(super) async fn kill(&self, ids: &[TokenId], forget: &Forget<'_>) -> Result<Killed> {
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::new();
            let mut killed = Killed::default();
            for (at, id) in ids.iter().enumerate() {
                if at % BREATH == BREATH - 1 {
                    tokio::task::yield_now().await;
                }
                if let Some(has_family) = self.kill_in(id, &mut batch, forget).await? {
                    killed.count += 1;
                    if has_family {
                        killed.heads.push(id.clone());
                    }
                }
            }
            if killed.count == 0 {
                return Ok(killed);
            }
            match self.storage.commit(batch).await {
                Ok(()) => {
                    for id in ids {
                        self.cache.remove(id);
                    }
                    if !killed.heads.is_empty() {
                        self.reaping.marked();
                    }
                    return Ok(killed);
                }
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            // One token of a page that is in heavy use must not keep the others alive.
            if ids.len() > 1 {
                let (one, other) = ids.split_at(ids.len() / 2);
                let mut killed = Box::pin(self.kill(one, forget)).await?;
                let rest = Box::pin(self.kill(other, forget)).await?;
                killed.count += rest.count;
                killed.heads.extend(rest.heads);
                return Ok(killed);
            }
        }
        Err(Error::unavailable("the token is in heavy use; try again"))
    }

    /// Adds one token's end to a batch, and says whether something may hang on it. `None` when it is gone already.
    async fn kill_in(
        &self,
        id: &TokenId,
        batch: &mut Batch,
        forget: &Forget<'_>,
    ) -> Result<Option<bool>> {
        let path = Self::path_of(id);
        let view = &self.storage;
        let Some((entry, seen)) = view.get_json_seen::<TokenEntry>(&path).await? else {
            return Ok(None);
        };
        view.expect_in(batch, &path, &seen);
        view.delete_in(batch, &path);
        for index in Self::indexes(id, &entry) {
            view.delete_in(batch, &index);
        }
        let has_family = !entry.belongings.is_none();
        if has_family {
            view.put_in(batch, &format!("revoking/{id}"), Vec::new());
        }
        forget.forget_in(id, batch);
        Ok(Some(has_family))
    }

    /// Makes orphans of a page of children.
    async fn orphan(&self, children: &[String], parent: &TokenId) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::new();
            for child in children {
                let path = Self::path_of(&TokenId::stored(child));
                let view = &self.storage;
                view.delete_in(&mut batch, &format!("child/{parent}/{child}"));
                if let Some((mut entry, seen)) = view.get_json_seen::<TokenEntry>(&path).await? {
                    view.expect_in(&mut batch, &path, &seen);
                    entry.parent = None;
                    view.put_json_in(&mut batch, &path, &entry)?;
                }
            }
            match self.storage.commit(batch).await {
                Ok(()) => {
                    for child in children {
                        self.cache.remove(&TokenId::stored(child));
                    }
                    return Ok(());
                }
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if children.len() > 1 {
                let (one, other) = children.split_at(children.len() / 2);
                Box::pin(self.orphan(one, parent)).await?;
                return Box::pin(self.orphan(other, parent)).await;
            }
        }
        Err(Error::unavailable("the token is in heavy use; try again"))
    }
}

/// The token that the last segment of an index entry names.
fn last_id(path: &str) -> Option<TokenId> {
    let name = path.rsplit('/').next()?;
    Some(TokenId::stored(
        name.strip_prefix(super::LEASE_MARK).unwrap_or(name),
    ))
}

/// How many tokens one commit takes.
const PAGE: usize = 128;
/// How many tokens a revocation removes before it answers.
const AT_ONCE: usize = 512;
/// How many tokens the background removes before it pauses.
const SHARE: usize = 16;
/// After so many tokens others get their turn on the thread.
const BREATH: usize = 4;
/// How often a commit is tried against others' changes.
const ATTEMPTS: usize = 16;
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
const LOOK_AGAIN: Duration = Duration::from_secs(60);
