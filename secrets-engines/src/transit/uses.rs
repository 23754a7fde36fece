//! How often a version of a key has encrypted. Random nonces of 96 bits want no more than 2^32 messages under one key (NIST
//! SP 800-38D, section 8.3; threats: `nonce-reuse`), over all servers and restarts together.
//!
//! Encryptions are reserved ahead with one durable write, few at first and more each time, and then counted down in
//! memory: what a restart wastes is small beside the limit, and the count never falls short of the truth. Halfway to the
//! limit the key rotates by itself; a version that has come to the limit all the same, because a client insists on it,
//! refuses to encrypt.
//!
//! Convergent keys are not counted: their nonce is a function of the message, so the same message may come back any
//! number of times, and a rotation would end the convergence that they are for.

use std::sync::atomic::Ordering;

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError};

use super::Transit;
use super::live::{Key, Version};
use super::store::{MAX_ATTEMPTS, uses_path};

impl Transit {
    /// Counts an encryption, before it is done.
    pub(super) async fn spend(&self, key: &Key, version: &Version) -> Result<()> {
        if key.head.convergent || key.head.kind.cipher().is_none() || take(version) {
            return Ok(());
        }
        let used = {
            let _turn = key.turn().await;
            // Somebody else may have reserved more meanwhile.
            if take(version) {
                return Ok(());
            }
            let used = self.reserve(key, version).await?;
            if !take(version) {
                return Err(Error::internal("a reservation of encryptions was empty"));
            }
            used
        };
        if used > self.limits.rotate && version.number == key.head.latest {
            tracing::info!(
                version = version.number,
                "a transit key has encrypted so much that it rotates by itself"
            );
            self.rotate_if_latest(&key.name, version.number).await?;
        }
        Ok(())
    }

    /// Reserves the next encryptions of a version; returns how many are reserved so far.
    async fn reserve(&self, key: &Key, version: &Version) -> Result<u64> {
        let path = uses_path(&key.head.id, version.number);
        let step = match version.step.load(Ordering::Relaxed) {
            0 => FIRST_STEP,
            step => (step * 2).min(LAST_STEP),
        };
        for _ in 0..MAX_ATTEMPTS {
            let stored: Option<(u64, _)> = self.storage.get_json_seen(&path).await?;
            let used = stored.as_ref().map_or(0, |(used, _)| *used);
            let step = step.min(self.limits.refuse.saturating_sub(used));
            if step == 0 {
                return Err(Error::bad_request(format!(
                    "version {} of this key has encrypted as many messages as one key may: rotate the key",
                    version.number
                )));
            }
            let mut batch = Batch::new();
            match &stored {
                Some((_, seen)) => self.storage.expect_in(&mut batch, &path, seen),
                None => self.storage.expect_absent_in(&mut batch, &path),
            }
            self.storage
                .put_json_in(&mut batch, &path, &(used + step))?;
            match self.storage.commit(batch).await {
                Ok(()) => {
                    version.left.fetch_add(step, Ordering::Relaxed);
                    version.step.store(step, Ordering::Relaxed);
                    return Ok(used + step);
                }
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StorageError::Conflict { path }.into())
    }
}

/// Takes one of the reserved encryptions.
fn take(version: &Version) -> bool {
    version
        .left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        })
        .is_ok()
}

/// How many messages one version may encrypt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Beyond it, the key rotates.
    pub(super) rotate: u64,
    /// From it on, the version refuses.
    pub(super) refuse: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rotate: 1 << 31,
            refuse: 1 << 32,
        }
    }
}

/// So little is lost where a key is opened, used once and forgotten again.
const FIRST_STEP: u64 = 1 << 10;
const LAST_STEP: u64 = 1 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use obol_storage::{Barrier, Memory, RootKey, View};

    use super::*;
    use crate::transit::head::Wanted;

    async fn view() -> View {
        let barrier = Arc::new(Barrier::new(Arc::new(Memory::default())));
        let root = RootKey::generate().unwrap();
        barrier.initialize(&root).await.unwrap();
        barrier.unseal(&root).await.unwrap();
        View::new(barrier, "mount/c0ffee/").unwrap()
    }

    fn server(view: &View) -> Transit {
        let mut transit = Transit::new(view.clone());
        transit.limits = Limits {
            rotate: 1500,
            refuse: 3000,
        };
        transit
    }

    /// Encrypts so often with one version; returns how often that was allowed.
    async fn encrypt(transit: &Transit, version: u64, times: u64) -> u64 {
        let mut allowed = 0;
        for _ in 0..times {
            let key = transit.key("a").await.unwrap();
            let version = transit.version(&key, version).await.unwrap();
            match transit.spend(&key, &version).await {
                Ok(()) => allowed += 1,
                Err(error) => assert!(error.messages()[0].contains("rotate the key")),
            }
        }
        allowed
    }

    #[tokio::test]
    async fn nonce_reuse_a_version_rotates_halfway_and_refuses_at_the_limit() {
        let view = view().await;
        let transit = server(&view);
        transit.create("a", &Wanted::default()).await.unwrap();
        assert_eq!(encrypt(&transit, 1, FIRST_STEP).await, FIRST_STEP);
        assert_eq!(transit.key("a").await.unwrap().head.latest, 1);
        assert_eq!(encrypt(&transit, 1, 3000).await, 3000 - FIRST_STEP);
        assert_eq!(transit.key("a").await.unwrap().head.latest, 2);
        assert_eq!(encrypt(&transit, 2, 10).await, 10);
        // A restart does not begin anew.
        assert_eq!(encrypt(&server(&view), 1, 1).await, 0);
    }

    #[tokio::test]
    async fn nonce_reuse_two_servers_count_together() {
        let view = view().await;
        let (one, two) = (server(&view), server(&view));
        one.create("a", &Wanted::default()).await.unwrap();
        let mut allowed = 0;
        for times in [700, 700, 3000] {
            allowed += encrypt(&one, 1, times).await;
            allowed += encrypt(&two, 1, times).await;
        }
        assert_eq!(allowed, 3000);
    }

    #[tokio::test]
    async fn convergent_keys_are_not_counted() {
        let view = view().await;
        let transit = server(&view);
        let wanted = Wanted {
            derived: true,
            convergent: true,
            ..Wanted::default()
        };
        transit.create("a", &wanted).await.unwrap();
        assert_eq!(encrypt(&transit, 1, 4000).await, 4000);
        assert_eq!(transit.key("a").await.unwrap().head.latest, 1);
    }
}
