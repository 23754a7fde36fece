//! Changing the keyring: another data key (by hand, by count, by age), more encryptions under the present one,
//! another root key above all of them. Whatever changes is stored first, against other servers too, and then in
//! memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::keyring::{self, Keyring};
use super::{Barrier, Keys, MAX_ENCRYPTIONS, is_reserved};
use crate::engine::{Commit, EngineError, Expected, Op};
use crate::error::Error;
use crate::seal::RootKey;

impl Barrier {
    /// Adds a fresh key, under which values are sealed from now on. Returns its term.
    pub async fn rotate(&self) -> Result<u32, Error> {
        let _changing = self.changing.lock().await;
        self.change_keyring(|ring| ring.rotate().map(|_| Some(0)))
            .await?;
        Ok(self.loaded()?.active().number)
    }

    /// Rotates if the active key was installed at `before` or earlier (seconds since the epoch). Of several servers
    /// that ask at once, one does it. Returns the new term.
    pub async fn rotate_if_installed_by(&self, before: u64) -> Result<Option<u32>, Error> {
        let old = self.key_status()?;
        if old.installed > before {
            return Ok(None);
        }
        let _changing = self.changing.lock().await;
        self.change_keyring(|ring| {
            if ring.active_mut().installed > before {
                return Ok(None);
            }
            ring.rotate().map(|_| Some(0))
        })
        .await?;
        let term = self.loaded()?.active().number;
        Ok((term != old.term).then_some(term))
    }

    /// Sets after how many encryptions the barrier rotates by itself. No more than the cipher permits, whatever is
    /// asked for.
    pub fn set_rotate_after(&self, encryptions: u64) {
        self.rotate_after
            .store(encryptions.clamp(1, MAX_ENCRYPTIONS), Ordering::Relaxed);
    }

    /// Reserves encryptions under the active key, or rotates when it has had its share.
    pub(super) async fn reserve(&self, count: u64) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        if self.loaded()?.active().has(count) {
            return Ok(()); // somebody else reserved while this one waited
        }
        let threshold = self.rotate_after.load(Ordering::Relaxed);
        let grant = self.reserve.min(threshold).max(count);
        self.change_keyring(|ring| {
            let active = ring.active_mut();
            if active.reserved > 0 && active.reserved + grant > threshold {
                let fresh = ring.rotate()?;
                fresh.reserved = grant;
                tracing::info!(
                    term = fresh.number,
                    "the barrier key was rotated by its count"
                );
            } else {
                active.reserved += grant;
            }
            Ok(Some(grant))
        })
        .await
    }

    /// Puts the keyring under another root key, together with `seal_ops` on the records of the seal that lead to
    /// it, in one commit: whenever the process ends, either the old keys open everything or the new ones do.
    ///
    /// `expect` are the records that the change was based on. If one of them is another by now, nothing is written.
    pub(crate) async fn replace_root(
        &self,
        root: &RootKey,
        expect: &[(&'static str, Bytes)],
        seal_ops: Vec<Op>,
    ) -> Result<(), Error> {
        debug_assert!(
            seal_ops
                .iter()
                .all(|op| matches!(op, Op::Put(path, _) | Op::Delete(path) if is_reserved(path)))
        );
        let _changing = self.changing.lock().await;
        loop {
            let keys = self.loaded()?;
            let raw = self.stored_keyring().await?;
            let ring = self.open_keyring(&keys, &raw)?;
            let mut commit = Commit {
                expect: vec![(keyring::PATH.to_owned(), Expected::Exactly(raw))],
                ops: vec![Op::Put(keyring::PATH.to_owned(), ring.seal(root)?)],
            };
            for (path, seen) in expect {
                let seen = Expected::Exactly(seen.clone());
                commit.expect.push(((*path).to_owned(), seen));
            }
            commit.ops.extend(seal_ops.iter().cloned());
            match self.engine.commit(commit).await {
                Ok(()) => return self.install(&keys, root, &ring, 0),
                // Another server has reserved encryptions or rotated: begin again with its keyring.
                Err(EngineError::Conflict { key }) if key == keyring::PATH => continue,
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Opens the stored keyring with the root key in memory. When another server has replaced that, the key in memory
    /// is of no use any more: the barrier seals itself, and opens with the new keys only.
    pub(super) fn open_keyring(&self, keys: &Keys, raw: &[u8]) -> Result<Keyring, Error> {
        match Keyring::open(&keys.root, raw) {
            Err(Error::WrongKey) => {
                tracing::error!(
                    "the root key was replaced by another server: this one has sealed itself"
                );
                self.seal();
                Err(Error::Sealed)
            }
            other => other,
        }
    }

    /// Changes the stored keyring, against other servers too, then the one in memory. `change` returns how many
    /// encryptions under the active key this server may make from now on, `None` where there is nothing to change.
    /// The caller holds `changing`.
    pub(super) async fn change_keyring(
        &self,
        change: impl Fn(&mut Keyring) -> Result<Option<u64>, Error>,
    ) -> Result<(), Error> {
        loop {
            let keys = self.loaded()?;
            let raw = self.stored_keyring().await?;
            let mut ring = self.open_keyring(&keys, &raw)?;
            let Some(grant) = change(&mut ring)? else {
                return self.install(&keys, &keys.root, &ring, 0);
            };
            let commit = Commit {
                expect: vec![(keyring::PATH.to_owned(), Expected::Exactly(raw))],
                ops: vec![Op::Put(keyring::PATH.to_owned(), ring.seal(&keys.root)?)],
            };
            match self.engine.commit(commit).await {
                Ok(()) => return self.install(&keys, &keys.root, &ring, grant),
                // Another server was faster, so the servers together have got on.
                Err(EngineError::Conflict { .. }) => continue,
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Puts the keyring in the place of `old`, unless the barrier was sealed meanwhile.
    pub(super) fn install(
        &self,
        old: &Arc<Keys>,
        root: &RootKey,
        ring: &Keyring,
        grant: u64,
    ) -> Result<(), Error> {
        let fresh = Arc::new(Keys::new(root.clone(), ring, Some(old)));
        let active = fresh.active();
        active.allowance.fetch_add(grant, Ordering::AcqRel);
        let previous = self
            .keys
            .compare_and_swap(&Some(Arc::clone(old)), Some(fresh));
        match previous.as_ref() {
            Some(previous) if Arc::ptr_eq(previous, old) => Ok(()),
            _ => Err(Error::Sealed),
        }
    }
}
