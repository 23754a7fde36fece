//! Secret IDs as they rest: found by their HMAC, spent in one commit with the token, dropped when their time is over.
//!
//! | path | holds |
//! | --- | --- |
//! | `secret/ROLE/HASH` | what is known of a secret ID |
//! | `accessor/ROLE/ACCESSOR` | its hash |
//! | `expiry/TIME/ROLE/HASH` | nothing: ordered by time, read from the front |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError, Seen, View};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::key::Hasher;

/// The secret IDs of a mount.
pub(super) struct Secrets {
    view: View,
    hasher: Hasher,
    /// Logins with the same limited secret ID take turns, or most of them would meet a conflict.
    turns: [Arc<Mutex<()>>; 64],
}

/// What is known of a secret ID. Times are seconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SecretId {
    pub(super) accessor: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) cidr_list: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) token_bound_cidrs: Vec<String>,
    /// Logins that are left; none: without limit.
    pub(super) uses_left: Option<u64>,
    /// Seconds; 0: without end.
    pub(super) ttl: u64,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) expires: Option<u64>,
}

impl SecretId {
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// One that was found, and where.
pub(super) struct Found {
    pub(super) secret: SecretId,
    pub(super) hash: String,
    seen: Seen,
}

/// A login's turn with a secret ID whose uses are counted.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Secrets {
    pub(super) fn new(view: View, hasher: Hasher) -> Self {
        Self {
            view,
            hasher,
            turns: std::array::from_fn(|_| Arc::default()),
        }
    }

    pub(super) fn hash(&self, role: &str, secret_id: &str) -> String {
        self.hasher.hash(role, secret_id)
    }

    /// A secret ID that a role has; one whose time is over is none.
    pub(super) async fn find(&self, role: &str, hash: String, now: u64) -> Result<Option<Found>> {
        let path = secret_path(role, &hash);
        let found: Option<(SecretId, Seen)> = self.view.get_json_seen(&path).await?;
        Ok(found
            .filter(|(secret, _)| !secret.is_over(now))
            .map(|(secret, seen)| Found { secret, hash, seen }))
    }

    pub(super) async fn find_by_accessor(
        &self,
        role: &str,
        accessor: &str,
        now: u64,
    ) -> Result<Option<Found>> {
        // What is no segment of a path is no accessor either.
        if accessor.is_empty() || accessor.contains(['/', '\0']) {
            return Ok(None);
        }
        let path = accessor_path(role, accessor);
        match self.view.get_json::<String>(&path).await? {
            Some(hash) => self.find(role, hash, now).await,
            None => Ok(None),
        }
    }

    /// Adds a new one to `batch`, which expects that there is none of this hash. `false`: there is.
    pub(super) async fn add_in(
        &self,
        batch: &mut Batch,
        role: &str,
        hash: &str,
        secret: &SecretId,
    ) -> Result<bool> {
        let path = secret_path(role, hash);
        match self.view.get_json_seen::<SecretId>(&path).await? {
            // Chosen again after its time was over, before that was tidied.
            Some((old, seen)) if old.is_over(secret.created) => {
                self.view.expect_in(batch, &path, &seen);
                self.remove_in(batch, role, hash, &old);
            }
            Some(_) => return Ok(false),
            None => self.view.expect_absent_in(batch, &path),
        }
        self.view.put_json_in(batch, &path, secret)?;
        self.view
            .put_json_in(batch, &accessor_path(role, &secret.accessor), hash)?;
        if let Some(expires) = secret.expires {
            self.view
                .put_in(batch, &expiry_path(expires, role, hash), Vec::new());
        }
        Ok(true)
    }

    /// A login with it: adds to `commit` that it must still be there, and that one use less is left. With a turn to
    /// hold until the commit is done. `None`: another login took the last use.
    pub(super) async fn spend(
        &self,
        commit: &mut Batch,
        role: &str,
        found: Found,
        now: u64,
    ) -> Result<Option<(SecretId, Option<Turn>)>> {
        if found.secret.uses_left.is_none() {
            let path = secret_path(role, &found.hash);
            self.view.expect_in(commit, &path, &found.seen);
            return Ok(Some((found.secret, None)));
        }
        let turn = self.turns[turn_of(&found.hash)].clone().lock_owned().await;
        // Those before have spent theirs.
        let Some(found) = self.find(role, found.hash, now).await? else {
            return Ok(None);
        };
        let Found { secret, hash, seen } = found;
        let path = secret_path(role, &hash);
        self.view.expect_in(commit, &path, &seen);
        match secret.uses_left.map(|left| left.saturating_sub(1)) {
            Some(0) => self.remove_in(commit, role, &hash, &secret),
            left => {
                let spent = SecretId {
                    uses_left: left,
                    updated: now,
                    ..secret.clone()
                };
                self.view.put_json_in(commit, &path, &spent)?;
            }
        }
        Ok(Some((secret, Some(turn))))
    }

    /// Ends a secret ID. `false`: it has changed meanwhile.
    pub(super) async fn destroy(&self, role: &str, found: &Found) -> Result<bool> {
        let mut batch = Batch::new();
        let path = secret_path(role, &found.hash);
        self.view.expect_in(&mut batch, &path, &found.seen);
        self.remove_in(&mut batch, role, &found.hash, &found.secret);
        match self.view.commit(batch).await {
            Ok(()) => Ok(true),
            Err(StorageError::Conflict { .. }) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    pub(super) async fn commit(&self, batch: Batch) -> Result<bool> {
        match self.view.commit(batch).await {
            Ok(()) => Ok(true),
            Err(StorageError::Conflict { .. }) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// A page of a role's accessors.
    pub(super) async fn accessors(
        &self,
        role: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let folder = format!("{ACCESSORS}{role}/");
        Ok(self.view.list(&folder, after, limit).await?)
    }

    /// Drops those whose time is over. Reads the front of the index, never all of them.
    pub(super) async fn tidy(&self, now: u64) -> Result<()> {
        let end = format!("{EXPIRY}{:016x}/", now.saturating_add(1));
        let mut conflicts = 0;
        loop {
            let page = self.view.scan(EXPIRY, Some(&end), PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new();
            for (index, _) in &page {
                self.view.delete_in(&mut batch, index);
                let Some((_, place)) = index[EXPIRY.len()..].split_once('/') else {
                    continue;
                };
                let Some((role, hash)) = place.split_once('/') else {
                    continue;
                };
                let path = secret_path(role, hash);
                let found: Option<(SecretId, Seen)> = self.view.get_json_seen(&path).await?;
                if let Some((secret, seen)) = found
                    && secret.is_over(now)
                {
                    self.view.expect_in(&mut batch, &path, &seen);
                    self.remove_in(&mut batch, role, hash, &secret);
                }
            }
            if !self.commit(batch).await? {
                conflicts += 1;
                if conflicts == CONFLICTS {
                    return Err(Error::unavailable(
                        "secret IDs changed while they were tidied; it is tried again",
                    ));
                }
            }
        }
    }

    fn remove_in(&self, batch: &mut Batch, role: &str, hash: &str, secret: &SecretId) {
        let view = &self.view;
        view.delete_in(batch, &secret_path(role, hash));
        view.delete_in(batch, &accessor_path(role, &secret.accessor));
        if let Some(expires) = secret.expires {
            view.delete_in(batch, &expiry_path(expires, role, hash));
        }
    }
}

/// Adds to a batch that a role's secret IDs go. Their places in the index of expiry go with their time.
pub(super) fn forget_role_in(view: &View, batch: &mut Batch, role: &str) {
    view.delete_prefix_in(batch, &format!("{SECRETS}{role}/"));
    view.delete_prefix_in(batch, &format!("{ACCESSORS}{role}/"));
}

/// Seconds since 1970.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn secret_path(role: &str, hash: &str) -> String {
    [SECRETS, role, "/", hash].concat()
}

fn accessor_path(role: &str, accessor: &str) -> String {
    [ACCESSORS, role, "/", accessor].concat()
}

/// Zeros in front, so that the order of the texts is the order of the times.
fn expiry_path(expires: u64, role: &str, hash: &str) -> String {
    format!("{EXPIRY}{expires:016x}/{role}/{hash}")
}

fn turn_of(hash: &str) -> usize {
    let head = hash.get(..2).unwrap_or_default();
    usize::from_str_radix(head, 16).unwrap_or_default() % 64
}

const SECRETS: &str = "secret/";
const ACCESSORS: &str = "accessor/";
const EXPIRY: &str = "expiry/";
const PAGE: usize = 500;
const CONFLICTS: u32 = 32;
