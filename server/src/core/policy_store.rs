//! Policies as they are stored, and the compiled ACLs that all tokens with the same policies share.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use obol_mount::{Error, Result};
use obol_storage::View;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use super::identity::Resolved;
use super::policies::{
    Acl, DEFAULT, DEFAULT_TEXT, Policy, PolicyName, RESPONSE_WRAPPING, RESPONSE_WRAPPING_TEXT, ROOT,
};

/// How many different sets of policies stay compiled.
const COMPILED_SETS: usize = 1024;
/// How many entities' own rules stay compiled. They are few and small; what they lie on is shared.
const FILLED_SETS: usize = 8192;

/// Writes invalidate by a generation: whatever was compiled before it is compiled anew when next needed. The
/// generation is local to this process; a cluster's watch will advance it as a write here does.
pub struct PolicyStore {
    storage: View,
    generation: AtomicU64,
    parsed: RwLock<HashMap<String, Option<Arc<Policy>>>>,
    acls: Cache<Vec<String>, (u64, Arc<Acl>)>,
    /// With the templates filled: by the state of the entity and the set that they were filled in.
    filled: Cache<(u64, usize), Arc<Acl>>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    text: String,
}

impl PolicyStore {
    pub fn new(storage: View) -> Self {
        Self {
            storage,
            generation: AtomicU64::new(1),
            parsed: RwLock::default(),
            acls: Cache::new(COMPILED_SETS),
            filled: Cache::new(FILLED_SETS),
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Writes the built-in `default` policy if there is none: once, at initialization; operators may change it.
    pub async fn ensure_default(&self) -> Result<()> {
        if self.storage.get(DEFAULT).await?.is_none() {
            self.storage
                .put_json(
                    DEFAULT,
                    &Stored {
                        text: DEFAULT_TEXT.to_owned(),
                    },
                )
                .await?;
        }
        Ok(())
    }

    /// The text of a policy as it was written.
    pub async fn text(&self, name: &PolicyName) -> Result<Option<String>> {
        if name.is_root() {
            return Ok(Some(String::new()));
        }
        if name.as_str() == RESPONSE_WRAPPING {
            return Ok(Some(RESPONSE_WRAPPING_TEXT.to_owned()));
        }
        Ok(self
            .storage
            .get_json::<Stored>(name.as_str())
            .await?
            .map(|stored| stored.text))
    }

    /// Parses and stores a policy. What does not parse changes nothing.
    pub async fn put(&self, name: &PolicyName, text: &str) -> Result<()> {
        if !name.is_writable() {
            return Err(Error::bad_request(format!(
                "the {name} policy cannot be changed"
            )));
        }
        Policy::parse(name.as_str(), text)
            .map_err(|error| Error::bad_request(format!("failed to parse policy: {error}")))?;
        self.storage
            .put_json(
                name.as_str(),
                &Stored {
                    text: text.to_owned(),
                },
            )
            .await?;
        self.invalidate(name);
        Ok(())
    }

    pub async fn delete(&self, name: &PolicyName) -> Result<()> {
        if !name.is_deletable() {
            return Err(Error::bad_request(format!(
                "the {:?} policy cannot be deleted",
                name.as_str()
            )));
        }
        self.storage.delete(name.as_str()).await?;
        self.invalidate(name);
        Ok(())
    }

    /// The names of all policies, `root` among them, sorted.
    pub async fn names(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let mut names = self.storage.list("", after, limit).await?;
        if after.is_none_or(|after| after < ROOT) && !names.iter().any(|n| n == ROOT) {
            names.push(ROOT.to_owned());
            names.sort();
            names.truncate(limit);
        }
        Ok(names)
    }

    /// The compiled ACL of a token's own policies and of those that its entity gives it.
    pub async fn acl_for(&self, own: &[String], identity: Option<&Resolved>) -> Result<Arc<Acl>> {
        let Some(entity) = identity else {
            return self.acl(own).await;
        };
        let base = match entity.policies.is_empty() {
            true => self.acl(own).await?,
            false => {
                let all: BTreeSet<&String> = own.iter().chain(entity.policies.iter()).collect();
                let all: Vec<String> = all.into_iter().cloned().collect();
                self.acl(&all).await?
            }
        };
        if !base.has_templates() {
            return Ok(base);
        }
        // What is remembered holds its base, so that no other can have this address.
        let key = (entity.serial, Arc::as_ptr(&base).addr());
        if let Some(filled) = self.filled.get(&key) {
            return Ok(filled);
        }
        let filled = base.for_entity(entity);
        self.filled.insert(key, filled.clone());
        Ok(filled)
    }

    /// The compiled ACL of a set of policies. A policy that does not exist grants nothing.
    pub async fn acl(&self, names: &[String]) -> Result<Arc<Acl>> {
        let generation = self.generation();
        if let Some((compiled, acl)) = self.acls.get(names)
            && compiled == generation
        {
            return Ok(acl);
        }
        let mut policies = Vec::with_capacity(names.len());
        for name in names {
            if let Some(policy) = self.parsed(name).await? {
                policies.push(policy);
            }
        }
        let acl = Arc::new(Acl::compile(&policies));
        self.acls.insert(names.to_vec(), (generation, acl.clone()));
        Ok(acl)
    }

    /// Whether there is such a policy, of those that are built in, too.
    pub async fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.parsed(name).await?.is_some())
    }

    async fn parsed(&self, name: &str) -> Result<Option<Arc<Policy>>> {
        if name == ROOT {
            return Ok(Some(Policy::root()));
        }
        let generation = self.generation();
        if let Some(known) = self
            .parsed
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .get(name)
        {
            return Ok(known.clone());
        }
        let stored = match name {
            RESPONSE_WRAPPING => Some(Stored {
                text: RESPONSE_WRAPPING_TEXT.to_owned(),
            }),
            name => self.storage.get_json::<Stored>(name).await?,
        };
        let policy = match stored {
            None => None,
            // A policy was parsed before it was stored; one that no longer parses must not silently grant nothing
            // less than it denied: the request fails.
            Some(stored) => Some(Arc::new(
                Policy::parse(name, &stored.text).map_err(Error::internal)?,
            )),
        };
        let mut parsed = self
            .parsed
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // A write since the read has advanced the generation: do not keep what may be old.
        // Names without a policy are not kept either: anybody may think up any number of them.
        if self.generation() == generation && policy.is_some() {
            parsed.insert(name.to_owned(), policy.clone());
        }
        Ok(policy)
    }

    fn invalidate(&self, name: &PolicyName) {
        let mut parsed = self
            .parsed
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        self.generation.fetch_add(1, Ordering::AcqRel);
        parsed.remove(name.as_str());
    }
}
