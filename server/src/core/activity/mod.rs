//! Who uses the server: its clients, month by month, as Vault counts them
//! (<https://developer.hashicorp.com/vault/docs/concepts/client-count>). A client is an entity, or all tokens that have no
//! entity and the same policies. Root tokens and wrapping tokens are none. It counts once in a month, with the mount
//! that it first came from.
//!
//! | path below `core/activity/` | holds |
//! | --- | --- |
//! | `config` | whether clients are counted, and for how many months they are kept |
//! | `<YYYY-MM>/<client id>` | a client of that month (UTC): where it first came from, and when |
//!
//! A request asks two numbers in memory whether its token was counted this month ([`Activity::knows`]); nearly always
//! it was. Whoever is new waits in a bounded queue, and a task writes the queue out every second ([`writer`]): a crash
//! loses a second, sealing and stopping lose nothing. A record is written where there is none, so several servers on one
//! storage agree. Nothing is counted in memory: a count reads the months ([`count`]), in order and in pages.

mod client;
mod config;
mod count;
mod month;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use obol_mount::{Error, Result};
use obol_storage::View;
use quick_cache::sync::Cache;
use tokio::sync::{Notify, Semaphore};

pub use client::{Client, ClientId, ClientKind};
pub use config::{Config, ConfigChange, Switch};
pub use count::{ByMount, Count, MonthCount, Range};
pub use month::{LAST_SECOND, Month};

use super::identity::Resolved;
use super::mounts::{Mounted, Mounts};
use super::tokens::{Cached, TokenEntry};
use super::wrapping::is_wrapping_token;

/// The clients of an unsealed server.
pub struct Activity {
    storage: View,
    /// As of the last look at it.
    config: ArcSwap<Config>,
    /// What a token is marked with that was counted: the generation of the configuration, and where the month ends. 0
    /// while nothing is counted.
    stamp: AtomicU64,
    /// Clients that were handed over under a stamp. For tokens that are decoded for each request, such as batch tokens,
    /// and for those that fell out of the cache of tokens.
    seen: Cache<(u64, u128), ()>,
    /// New clients, at most [`MOST_WAITING`].
    waiting: Mutex<Vec<Sighting>>,
    /// Those that are being written. Held by who writes.
    writing: tokio::sync::Mutex<Vec<Sighting>>,
    /// Many are waiting.
    wake: Notify,
    /// One count at a time: it is bounded in memory, not in work.
    counting: tokio::sync::Mutex<()>,
    /// Held by the one export that may run.
    pub exporting: Arc<Semaphore>,
}

/// A client that was new here.
struct Sighting {
    generation: u64,
    month: Month,
    id: ClientId,
    client: Client,
}

impl Activity {
    pub async fn open(storage: View, now: u64) -> Result<Self> {
        let activity = Self {
            storage,
            config: ArcSwap::default(),
            stamp: AtomicU64::new(0),
            seen: Cache::new(SEEN),
            waiting: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            counting: tokio::sync::Mutex::default(),
            exporting: Arc::new(Semaphore::new(1)),
        };
        let (config, _) = activity.stored_config().await?;
        activity.config.store(config.into());
        activity.restamp(now);
        Ok(activity)
    }

    /// Whether there is nothing to do about a token: it was counted this month, or nobody is counted.
    #[inline]
    pub fn knows(&self, token: &Cached, now: u64) -> bool {
        let stamp = self.stamp.load(Ordering::Relaxed);
        stamp == 0 || (token.counted.load(Ordering::Relaxed) == stamp && now < end_of(stamp))
    }

    /// Counts whoever came with a token, which is not marked yet. Waits for nothing.
    #[cold]
    pub fn see(&self, mounts: &Mounts, token: &Cached, entity: Option<&Resolved>, now: u64) {
        let stamp = self.stamp_at(now);
        if stamp == 0 {
            return;
        }
        // Of an entity that was merged, the one that it is now.
        let entity = entity.map_or("", |entity| &entity.entity.id);
        let no_client = token.caller().is_root || is_wrapping_token(token);
        if no_client || self.note(stamp, mounts, &token.entry, entity, now) {
            token.counted.store(stamp, Ordering::Relaxed);
        }
    }

    /// Counts who has just logged in: the token may never be used.
    pub fn see_login(&self, mounts: &Mounts, issued: &TokenEntry, now: u64) {
        let stamp = self.stamp_at(now);
        if stamp != 0 {
            self.note(stamp, mounts, issued, &issued.entity_id, now);
        }
    }

    /// `false`: not now, since too many are waiting; the next request tries again.
    fn note(
        &self,
        stamp: u64,
        mounts: &Mounts,
        token: &TokenEntry,
        entity: &str,
        now: u64,
    ) -> bool {
        let id = ClientId::new(&token.policies, entity);
        let key = (stamp, id.key());
        if self.seen.get(&key).is_some() {
            return true;
        }
        // A mount that is being disabled: neither does its token work any more.
        let Some(mounted) = mount_of(mounts, token) else {
            return false;
        };
        let policies = match id.kind() {
            ClientKind::Entity => Vec::new(),
            ClientKind::Token => token.policies.clone(),
        };
        let client = Client {
            kind: id.kind(),
            accessor: mounted.entry.accessor.clone(),
            mount: mounted.entry.path.clone(),
            mount_kind: mounted.entry.kind.clone(),
            seen: now,
            policies,
        };
        let sighting = Sighting {
            generation: stamp >> END_BITS,
            month: Month::of(now),
            id,
            client,
        };
        let waiting = {
            let mut waiting = self.waiting();
            if waiting.len() >= MOST_WAITING {
                return false;
            }
            waiting.push(sighting);
            waiting.len()
        };
        self.seen.insert(key, ());
        if waiting >= CHUNK {
            self.wake.notify_one();
        }
        true
    }

    fn stamp_at(&self, now: u64) -> u64 {
        match self.stamp.load(Ordering::Relaxed) {
            stamp if stamp == 0 || now < end_of(stamp) => stamp,
            _ => self.restamp(now),
        }
    }

    /// What tokens are marked with from now on. Should this meet a change of the configuration, the writer's next turn
    /// sets it right; until then what is noted carries its generation, and is not written.
    fn restamp(&self, now: u64) -> u64 {
        let config = self.config.load();
        let stamp = match config.is_enabled() {
            true => short(config.generation) << END_BITS | Month::of(now).end(),
            false => 0,
        };
        self.stamp.store(stamp, Ordering::Relaxed);
        stamp
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Sighting>> {
        // A list is whole between its changes, also when somebody panicked who held it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mount that a token is from: the method that issued it, or `auth/token`.
fn mount_of(mounts: &Mounts, token: &TokenEntry) -> Option<Arc<Mounted>> {
    match &token.issuer {
        Some(uuid) => mounts.by_uuid(uuid),
        None => mounts.get("auth/token/"),
    }
}

/// Where the month of a stamp ends.
fn end_of(stamp: u64) -> u64 {
    stamp & ((1 << END_BITS) - 1)
}

/// A generation as stamps have it.
fn short(generation: u64) -> u64 {
    generation & ((1 << (64 - END_BITS)) - 1)
}

fn busy() -> Error {
    Error::unavailable("the counters are in heavy use; try again")
}

/// Enough for every second of the years that there are ([`LAST_SECOND`]).
const END_BITS: u32 = 40;
/// Clients of which it is known that they were handed over. The rest are looked up in storage, in the background.
const SEEN: usize = 32_768;
/// More new clients than this are not taken at once.
const MOST_WAITING: usize = 16_384;
/// New clients in one commit.
const CHUNK: usize = 512;
/// How often something begins again when another came in between.
const ATTEMPTS: u32 = 32;
