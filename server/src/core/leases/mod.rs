//! Leases: secrets that were handed out for a time. A lease belongs to the token that asked for it and goes with it;
//! what the engine gave is taken back when the lease ends, and tried again until that has worked.
//!
//! | path below `core/lease/` | holds |
//! | --- | --- |
//! | `entry/<lease id>` | the lease's record; a lease id is `<request path>/<random>` |
//! | `expiry/<time>/<lease id>` | nothing: when the worker looks at it next, read from the front |
//! | `token/<token hmac>/<lease id>` | nothing: the token's leases |
//! | `mount/<mount uuid>/<lease id>` | nothing: the mount's leases |
//! | `irrevocable/<lease id>` | nothing: leases that could not be revoked and are not tried any more |
//!
//! All of a lease's entries are written and removed in one commit. Nothing of it is loaded at unseal, and nothing
//! stays in memory: a million leases cost disk.

mod check;
mod entry;
mod intents;
mod listing;
mod register;
mod renew;
mod revoke;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use obol_mount::Result;
use obol_storage::{Batch, Seen, View};
use tokio::sync::{Notify, Semaphore};

pub use check::Inconsistency;
pub use entry::LeaseEntry;
pub use listing::Irrevocable;
pub use worker::Patience;

/// All leases of an unsealed server.
pub struct Leases {
    storage: View,
    patience: Patience,
    wake: Notify,
    /// Bounds how many engines are asked at the same time to take something back.
    hands: Arc<Semaphore>,
    /// Held by the one tidy that may run.
    tidying: Arc<Semaphore>,
}

impl Leases {
    pub fn new(storage: View, patience: Patience) -> Self {
        Self {
            storage,
            patience,
            wake: Notify::new(),
            hands: Arc::new(Semaphore::new(HANDS)),
            tidying: Arc::new(Semaphore::new(1)),
        }
    }

    /// The record of a lease.
    pub async fn get(&self, id: &str) -> Result<Option<LeaseEntry>> {
        Ok(self.seen(id).await?.map(|(entry, _)| entry))
    }

    async fn seen(&self, id: &str) -> Result<Option<(LeaseEntry, Seen)>> {
        Ok(self.storage.get_json_seen(&entry_path(id)).await?)
    }

    /// Adds a lease that changed (or is new: `old` is `None`) to a batch, with its index entries.
    fn put_in(
        &self,
        batch: &mut Batch,
        id: &str,
        old: Option<(&LeaseEntry, &Seen)>,
        new: &LeaseEntry,
    ) -> Result<()> {
        let view = &self.storage;
        match old {
            Some((old, seen)) => {
                view.expect_in(batch, &entry_path(id), seen);
                self.delete_indexes_in(batch, id, old);
            }
            None => {
                view.expect_absent_in(batch, &entry_path(id));
            }
        }
        for path in indexes(id, new) {
            view.put_in(batch, &path, Vec::new());
        }
        Ok(view.put_json_in(batch, &entry_path(id), new)?)
    }

    fn delete_in(&self, batch: &mut Batch, id: &str, entry: &LeaseEntry, seen: &Seen) {
        self.storage.expect_in(batch, &entry_path(id), seen);
        self.storage.delete_in(batch, &entry_path(id));
        self.delete_indexes_in(batch, id, entry);
    }

    fn delete_indexes_in(&self, batch: &mut Batch, id: &str, entry: &LeaseEntry) {
        for path in indexes(id, entry) {
            self.storage.delete_in(batch, &path);
        }
    }
}

fn entry_path(id: &str) -> String {
    format!("entry/{id}")
}

/// Every index entry that a lease has.
fn indexes(id: &str, entry: &LeaseEntry) -> Vec<String> {
    let mut paths = Vec::with_capacity(3);
    match entry.next {
        Some(next) => paths.push(format!("expiry/{next:016x}/{id}")),
        None => paths.push(format!("irrevocable/{id}")),
    }
    if let Some(token) = &entry.token {
        paths.push(format!("token/{token}/{id}"));
    }
    paths.push(format!("mount/{}/{id}", entry.mount));
    paths
}

/// The lease id in an index entry: what follows the folder and its one more segment.
fn id_in<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let (_, id) = path.strip_prefix(folder)?.split_once('/')?;
    Some(id)
}

/// How many leases are looked at together.
const PAGE: usize = 128;
/// How often a commit is tried against others' changes.
const ATTEMPTS: usize = 16;
/// How many engines are asked at the same time.
const HANDS: usize = 16;
/// How long an engine may take to renew or to revoke.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(60);
