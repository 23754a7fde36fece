//! From a token to its record. The hot path: an HMAC and a look into the cache, no disk, no lock held.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use obol_mount::{Error, Result, Secret, TokenKind, cidr};
use obol_storage::Error as StorageError;

use super::turns::Turn;
use super::{Cached, TokenEntry, TokenId, Tokens, batch};
use crate::core::mounts::Mounts;

/// A token that a request may use.
pub struct Use {
    pub token: Arc<Cached>,
    /// Of a token with a limited number of uses: the use that this request has spent.
    spent: Option<Spent>,
}

struct Spent {
    turn: Turn,
    last: bool,
}

impl Use {
    /// Called when the request is done: the token that it must revoke, because it spent the last use.
    pub async fn exhausted(&self) -> Option<&TokenId> {
        let spent = self.spent.as_ref().filter(|spent| spent.last)?;
        spent.turn.alone().await;
        Some(&self.token.id)
    }
}

impl Tokens {
    /// The token of a request, ready to be used once: alive, called from an allowed address, and with a use
    /// left, which is spent here, in storage, before anything else happens (threats: `num-uses-race`).
    pub async fn authenticate(
        &self,
        token: &Secret,
        peer: Option<IpAddr>,
        now: u64,
    ) -> Result<Use> {
        let found = self
            .find(token.expose(), now)
            .await?
            .ok_or_else(Error::forbidden)?;
        if !cidr::allows(&found.entry.bound_cidrs, peer) {
            return Err(Error::forbidden().with_cause("the token is bound to other addresses"));
        }
        match found.entry.uses_left {
            None => Ok(Use {
                token: found,
                spent: None,
            }),
            Some(_) => Box::pin(self.spend(&found.id)).await,
        }
    }

    /// The living token behind its secret.
    pub async fn find(&self, token: &str, now: u64) -> Result<Option<Arc<Cached>>> {
        if token.starts_with(batch::PREFIX) {
            return Box::pin(self.find_batch(token, now)).await;
        }
        self.get(&self.id_of(token), now).await
    }

    /// The living token of a caller, by the id that the core gave it; none for batch tokens, which have no id.
    pub async fn known(&self, id: &Arc<str>, now: u64) -> Result<Option<Arc<Cached>>> {
        if id.is_empty() {
            Ok(None)
        } else {
            self.get(&TokenId::from(id.clone()), now).await
        }
    }

    /// The living token behind its stored id.
    pub async fn get(&self, id: &TokenId, now: u64) -> Result<Option<Arc<Cached>>> {
        let Some(token) = self.fetch(id, now).await? else {
            return Ok(None);
        };
        // Only while families of dead tokens are being removed can a parent be dead and its child still here
        // (threats: `child-outlives-parent`).
        if self.reaping.is_under_way() {
            let mut parent = token.entry.parent.clone();
            while let Some(id) = parent {
                match self.fetch(&id, now).await? {
                    Some(living) => parent = living.entry.parent.clone(),
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(token))
    }

    /// A token that is stored and has not ended, whatever became of its parents.
    async fn fetch(&self, id: &TokenId, now: u64) -> Result<Option<Arc<Cached>>> {
        let found = match self.cache.get_value_or_guard_async(id).await {
            Ok(found) => Some(found),
            Err(guard) => match Box::pin(self.read(id)).await? {
                Some(entry) => {
                    let cached = Arc::new(Cached::new(id.clone(), entry));
                    if cached.entry.uses_left.is_none() {
                        // Fails when a revocation removed the placeholder meanwhile: then it is not cached.
                        let _ = guard.insert(cached.clone());
                    }
                    Some(cached)
                }
                None => None,
            },
        };
        // A token whose last use is this very request is still there to be looked at; nobody can spend another.
        Ok(found.filter(|token| !token.entry.is_expired(now)))
    }

    /// The living token behind an accessor.
    pub async fn by_accessor(&self, accessor: &str, now: u64) -> Result<Option<Arc<Cached>>> {
        match self.accessors.id_of(accessor) {
            Some(id) => self.get(&id, now).await,
            None => Ok(None),
        }
    }

    /// The living token that a lease id names: `<issuing path>/h<stored id>`. `None` also for every other lease.
    pub async fn by_lease_id(&self, lease: &str, now: u64) -> Result<Option<Arc<Cached>>> {
        let Some((path, name)) = lease.rsplit_once('/') else {
            return Ok(None);
        };
        let Some(id) = name
            .strip_prefix(super::LEASE_MARK)
            .and_then(TokenId::parse)
        else {
            return Ok(None);
        };
        let found = self.get(&id, now).await?;
        // A token that never ends has no lease, as in Vault.
        Ok(found.filter(|token| token.entry.path == path && token.entry.expires.is_some()))
    }

    /// One level of tokens' lease ids below a folder (empty, or ending with a slash): sorted, each name once.
    pub async fn list_lease_ids(
        &self,
        mounts: &Mounts,
        folder: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for folder in folders_of_leases(mounts, folder) {
            names.extend(self.storage.list(&folder, after, limit).await?);
        }
        while names.len() > limit {
            names.pop_last();
        }
        Ok(names)
    }

    /// Accessors, a page at a time, in the order of storage, which is no order to see.
    pub async fn accessors(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let after = match after.filter(|after| !after.is_empty()) {
            Some(accessor) => Some(self.accessors.id_of(accessor).ok_or_else(|| {
                Error::bad_request(
                    "after: this is no accessor; give the last one of the page before",
                )
            })?),
            None => None,
        };
        let after = after.as_ref().map(TokenId::as_str);
        let ids = self.storage.list("id/", after, limit).await?;
        ids.iter()
            .map(|id| self.accessor_of(&TokenId::stored(id)))
            .collect()
    }

    /// How many service tokens there are, or how many a mount has issued; counted to `most` and no further.
    pub async fn count(&self, issuer: Option<&str>, most: u64) -> Result<u64> {
        let folder = issuer.map_or("id/".to_owned(), |mount| format!("issued/{mount}/"));
        Ok(self.storage.count_to(&folder, most).await?)
    }

    /// How many tokens there are that end some day, counted to `most`: those that count as leases.
    pub async fn count_ending(&self, most: u64) -> Result<u64> {
        Ok(self.storage.count_to("expiry/", most).await?)
    }

    pub(super) async fn read(&self, id: &TokenId) -> Result<Option<TokenEntry>> {
        Ok(self.storage.get_json(&Self::path_of(id)).await?)
    }

    async fn find_batch(&self, token: &str, now: u64) -> Result<Option<Arc<Cached>>> {
        let Some(entry) = self.open_batch(token) else {
            return Ok(None);
        };
        if entry.kind != TokenKind::Batch || entry.is_expired(now) {
            return Ok(None);
        }
        if let Some(parent) = &entry.parent
            && self.get(parent, now).await?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(Arc::new(Cached::new(self.id_of(token), entry))))
    }

    /// Takes one use off a limited token, against everybody else who does the same.
    async fn spend(&self, id: &TokenId) -> Result<Use> {
        let turn = self.turns.begin(id);
        let path = Self::path_of(id);
        let spent = self
            .storage
            .update_json(&path, |entry: Option<TokenEntry>| {
                let mut entry = entry.ok_or(Spend::Gone)?;
                entry.uses_left = match entry.uses_left {
                    Some(0) | None => return Err(Spend::Gone),
                    Some(left) => Some(left - 1),
                };
                Ok(entry)
            })
            .await;
        match spent {
            Ok(entry) => {
                let last = entry.uses_left == Some(0);
                Ok(Use {
                    token: Arc::new(Cached::new(id.clone(), entry)),
                    spent: Some(Spent { turn, last }),
                })
            }
            Err(Spend::Gone) => Err(Error::forbidden()),
            Err(Spend::Storage(error)) => Err(error.into()),
        }
    }
}

/// Where the tokens are whose lease ids begin with a folder (empty, or ending with a slash): those of the mounts below
/// it, or of the mount that it is in, and those of no mount.
pub(super) fn folders_of_leases(mounts: &Mounts, folder: &str) -> Vec<String> {
    let all = mounts.all();
    let concerned = all.iter().map(|mounted| &mounted.entry).filter(|entry| {
        entry.path.starts_with("auth/")
            && (entry.path.starts_with(folder) || folder.starts_with(&entry.path))
    });
    let issuers = concerned.map(|entry| entry.uuid.as_str());
    issuers
        .chain(std::iter::once(super::NO_MOUNT))
        .map(|issuer| format!("issued/{issuer}/{folder}"))
        .collect()
}

enum Spend {
    Gone,
    Storage(StorageError),
}

impl From<StorageError> for Spend {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}
