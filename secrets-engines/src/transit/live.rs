//! Keys in memory, opened: what encrypting and signing use.
//!
//! Every request reads the key's record, one point read of a few hundred bytes, and compares it with the one that the
//! opened key was made from. So a rotation, a new minimum or a deletion counts from the next request on, whichever server
//! made it, and nothing has to tell the others; what the cache saves is the reading, parsing and expanding of the material.
//! The cache is bounded, both in keys and in versions of a key.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use obol_mount::{Error, Result};
use obol_storage::Seen;
use quick_cache::sync::Cache;
use tokio::sync::Mutex;

use super::Transit;
use super::head::{Head, TOO_OLD};
use super::material::{KeyBytes, Opened};
use super::store::{NO_KEY, key_path};

/// The opened keys of a mount.
pub(super) struct Live {
    keys: ArcSwap<Cache<Box<str>, Arc<Key>>>,
}

/// A key as its record had it when a request began.
pub(super) struct Key {
    pub(super) name: Box<str>,
    pub(super) head: Head,
    seen: Seen,
    /// Shared with the earlier states of the same key.
    versions: Arc<Versions>,
}

#[derive(Default)]
struct Versions {
    opened: RwLock<HashMap<u64, Arc<Version>>>,
    /// Held by whoever opens a version or reserves uses of one.
    turn: Mutex<()>,
}

/// An opened version.
pub(super) struct Version {
    pub(super) number: u64,
    pub(super) opened: Opened,
    pub(super) hmac: KeyBytes,
    /// Encryptions that are reserved and not yet done: see [`super::uses`].
    pub(super) left: AtomicU64,
    /// How many are reserved next.
    pub(super) step: AtomicU64,
}

impl Live {
    pub(super) fn new(size: u64) -> Self {
        Self {
            keys: ArcSwap::from_pointee(Cache::new(bounded(size))),
        }
    }

    /// Begins again with another size.
    pub(super) fn resize(&self, size: u64) {
        if self.keys.load().capacity() != bounded(size) as u64 {
            self.keys.store(Arc::new(Cache::new(bounded(size))));
        }
    }

    fn get(&self, name: &str) -> Option<Arc<Key>> {
        self.keys.load().get(name)
    }

    fn put(&self, key: Arc<Key>) {
        self.keys.load().insert(key.name.clone(), key);
    }

    pub(super) fn forget(&self, name: &str) {
        self.keys.load().remove(name);
    }
}

fn bounded(size: u64) -> usize {
    match size {
        0 => DEFAULT_KEYS,
        size => usize::try_from(size).unwrap_or(MAX_KEYS).min(MAX_KEYS),
    }
}

impl Transit {
    /// The key of this name as it is now.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Arc<Key>>> {
        let Some(entry) = self.storage.get(&key_path(name)).await? else {
            self.live.forget(name);
            return Ok(None);
        };
        let known = self.live.get(name);
        if let Some(key) = &known
            && key.seen == entry.seen
        {
            return Ok(known);
        }
        let head: Head = self.storage.parse(&key_path(name), &entry)?;
        let versions = known
            .filter(|known| known.head.id == head.id)
            .map(|known| known.versions.clone())
            .unwrap_or_default();
        versions
            .write()
            .retain(|number, _| *number >= head.min_available);
        let key = Arc::new(Key {
            name: name.into(),
            head,
            seen: entry.seen,
            versions,
        });
        self.live.put(key.clone());
        Ok(Some(key))
    }

    /// The same where the key must be there.
    pub(super) async fn key(&self, name: &str) -> Result<Arc<Key>> {
        let found = self.find(name).await?;
        found.ok_or_else(|| Error::bad_request(NO_KEY))
    }

    /// A version of a key, opened. The caller has checked that the key's record allows it.
    pub(super) async fn version(&self, key: &Key, number: u64) -> Result<Arc<Version>> {
        if let Some(version) = key.versions.get(number) {
            return Ok(version);
        }
        let _turn = key.versions.turn.lock().await;
        if let Some(version) = key.versions.get(number) {
            return Ok(version);
        }
        let material = self.material(&key.head.id, number).await?;
        // It was trimmed, or the key deleted, since the record was read.
        let material = material.ok_or_else(|| Error::bad_request(TOO_OLD))?;
        let version = Arc::new(Version {
            number,
            opened: material.open(key.head.kind, key.head.derived)?,
            hmac: material.hmac.clone(),
            left: AtomicU64::new(0),
            step: AtomicU64::new(0),
        });
        let mut opened = key.versions.write();
        if opened.len() >= MAX_VERSIONS {
            // Old versions are seldom asked for twice: all but the latest make room.
            opened.retain(|number, _| *number == key.head.latest);
        }
        opened.insert(number, version.clone());
        Ok(version)
    }
}

impl Key {
    /// Waits for whoever opens a version or reserves uses.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.versions.turn.lock().await
    }
}

impl Versions {
    fn get(&self, number: u64) -> Option<Arc<Version>> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.get(&number).cloned()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<u64, Arc<Version>>> {
        // The map is whole after every statement that changes it.
        self.opened.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opened keys where nothing else is set.
pub(super) const DEFAULT_KEYS: usize = 4096;
/// However many are asked for: memory is bounded.
pub(super) const MAX_KEYS: usize = 1 << 20;
/// Opened versions of one key.
const MAX_VERSIONS: usize = 32;
