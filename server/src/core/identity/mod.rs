//! Identity: who is behind the tokens. An entity is a person or a machine, its aliases are its names at the auth
//! methods, groups give policies to their members: internal groups have members that an operator names, an external
//! group has those whose last login said that they are in the group of its alias.
//!
//! | path below `core/identity/` | holds |
//! | --- | --- |
//! | `entity/<id>` | an entity with its aliases |
//! | `entity-name/<name>` | the entity's id |
//! | `alias/<id>` | the id of the alias' entity |
//! | `alias-of/<accessor>/<name>` | the same, by mount and name: what a login looks for |
//! | `merged/<id>` | for an entity that was merged: the id of the entity that it is now |
//! | `group/<id>` | a group with its alias and its member groups |
//! | `group-name/<name>` | the group's id |
//! | `group-alias/<id>`, `group-alias-of/<accessor>/<name>` | the id of the alias' group |
//! | `members/<group>/<entity>`, `groups-of/<entity>/<group>` | nothing: who is in which group |
//! | `parents/<group>/<group>` | nothing: the groups whose member the first one is |
//! | `leaving/<id>` | nothing: an entity or group that is gone and whose memberships are being cleared |
//!
//! Names in paths are folded ([`names`]): `Grace` and `grace` are one (threats: `alias-case`). Members are entries of
//! their own, not a list in the group: a login into a group of a hundred thousand changes two entries.

mod aliases;
mod api;
mod check;
mod entities;
mod group_aliases;
mod groups;
mod kept;
mod login;
mod members;
mod merge;
mod names;
mod records;
mod resolve;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError, Seen, View};
use quick_cache::sync::Cache;
use serde::de::DeserializeOwned;

pub(crate) use api::{IdentityBackend, routes};
pub use kept::Kept;
pub use login::Who;
pub use records::{Alias, Entity, Group, GroupKind};
pub use resolve::{Member, Resolved};

/// All entities and groups. Holds no more of them in memory than were used lately.
pub struct Identity(Arc<Inner>);

struct Inner {
    storage: View,
    /// What requests need to know of entities, resolved through their groups.
    resolved: Cache<String, Arc<Resolved>>,
    /// The entity that an alias' path led to. Only a hint where to look: the entity has the last word.
    by_alias: Cache<String, Arc<str>>,
    /// By mount: in which generation somebody looked whether groups have aliases there, and what was found.
    group_aliases: Cache<String, (u64, bool)>,
    /// Advanced when a group changes: what was resolved before is resolved anew. Local to this process, like the
    /// generation of policies; a cluster's watch will advance it.
    generation: AtomicU64,
    /// Numbers what was resolved, so that an ACL knows what it was compiled from.
    serial: AtomicU64,
}

/// What one operation changes: one commit, and what is out of date after it.
#[derive(Default)]
struct Change {
    batch: Batch,
    /// Ids of entities whose record or direct groups change.
    entities: Vec<String>,
    /// A group changes in more than its direct members.
    groups: bool,
    /// Entities and groups whose memberships are to be cleared afterwards.
    leaving: Vec<String>,
}

impl Identity {
    pub fn new(storage: View) -> Self {
        Self(Arc::new(Inner {
            storage,
            resolved: Cache::new(RESOLVED),
            by_alias: Cache::new(RESOLVED),
            group_aliases: Cache::new(MOUNTS),
            generation: AtomicU64::new(1),
            serial: AtomicU64::new(1),
        }))
    }

    fn storage(&self) -> &View {
        &self.0.storage
    }

    /// Applies a change. Goes on when the client goes away: what is resolved must not stay older than what is stored.
    /// `false`: something that the change was based on is no longer so; begin again.
    async fn commit(&self, change: Change) -> Result<bool> {
        let Change {
            batch,
            entities,
            groups,
            leaving,
        } = change;
        if batch.is_empty() {
            return Ok(true);
        }
        let inner = self.0.clone();
        let work = tokio::spawn(async move {
            let done = inner.storage.commit(batch).await;
            inner.forget(&entities, groups);
            match done {
                Ok(()) => {
                    for id in leaving {
                        inner.clear_memberships(&id).await?;
                    }
                    Ok(true)
                }
                Err(StorageError::Conflict { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            }
        });
        work.await.map_err(Error::internal)?
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<(T, Seen)>> {
        Ok(self.0.storage.get_json_seen(path).await?)
    }

    /// An id that an index holds.
    async fn id_at(&self, path: &str) -> Result<Option<String>> {
        Ok(self.0.storage.get_json(path).await?)
    }

    /// Every name of a folder's level. Only for folders that the operator fills: a group's members, an entity's groups.
    async fn all_names(&self, folder: &str) -> Result<Vec<String>> {
        self.0.all_names(folder).await
    }
}

impl Inner {
    /// Drops what was resolved from records that have changed.
    fn forget(&self, entities: &[String], groups: bool) {
        for id in entities {
            self.resolved.remove(id.as_str());
        }
        if groups {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    async fn all_names(&self, folder: &str) -> Result<Vec<String>> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().map(String::as_str);
            let page = self.storage.list(folder, after, PAGE).await?;
            let last = page.len() < PAGE;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }
}

/// Runs one change until nothing came in between: `attempt!(self, change, { ... })`, where the block fills `change`
/// and its value is the result.
macro_rules! attempt {
    ($identity:expr, $change:ident, $made:block) => {{
        let mut attempts = 0;
        loop {
            let mut $change = crate::core::identity::Change::default();
            let made = $made;
            if $identity.commit($change).await? {
                break Ok(made);
            }
            attempts += 1;
            if attempts == crate::core::identity::ATTEMPTS {
                break Err(obol_mount::Error::unavailable(
                    "identity is in heavy use; try again",
                ));
            }
        }
    }};
}
use attempt;

/// How often a change begins again when another came in between.
const ATTEMPTS: u32 = 32;
/// How many names one read takes from a listing.
const PAGE: usize = 512;
/// How many entities stay resolved. The rest are a few point reads away.
const RESOLVED: usize = 8192;
/// Of how many mounts it is known whether groups have aliases there.
const MOUNTS: usize = 256;
