//! Who has failed to log in too often: counted in storage, for each name of a mount, so that neither a restart nor
//! another server on the same storage forgets it.
//!
//! | path below `core/lockout/` | holds |
//! | --- | --- |
//! | `name/<mount uuid>/<hash of the name>` | the failures of one name |
//! | `locked/<mount uuid>/<hash of the name>` | who is locked, for listings |
//! | `expiry/<time>/<mount uuid>/<hash of the name>` | nothing: when the two go |
//! | `nobody/<slot>` | nothing worth reading: written where there is nothing to count, so that it takes the same time |
//!
//! A name that the method does not know is not kept: there is nothing to guess, and a flood of made-up names would
//! fill the storage. Names that a method cannot tell are kept until their count begins again.

mod rules;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use obol_mount::{AttemptCounter, Attempts, Error, Result, Standing};
use obol_storage::{Batch, Error as StorageError, View};
use ring::digest;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::mounts::MountEntry;
use super::{Core, upgrade};
pub use rules::{ALL, LockoutConfig, LockoutStanzas, METHODS, Rules};

/// The failures of all mounts.
pub struct Lockout {
    storage: View,
    core: Weak<Core>,
    /// Failures that this process has counted: an attempt looks again when there was one since it began.
    counted: AtomicU64,
    /// Those who count the same name take turns, or guessing with many connections would mostly meet conflicts.
    turns: [Mutex<()>; 64],
}

/// A name that is locked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Locked {
    pub name: String,
    /// Seconds since 1970.
    pub until: u64,
}

/// The failures of one name.
#[derive(Debug, Serialize, Deserialize)]
struct Failures {
    count: u64,
    is_locked: bool,
    /// The end of the lock, or when the count begins again; seconds since 1970.
    until: u64,
}

impl Lockout {
    pub fn new(storage: View, core: Weak<Core>) -> Arc<Self> {
        Arc::new(Self {
            storage,
            core,
            counted: AtomicU64::new(0),
            turns: std::array::from_fn(|_| Mutex::new(())),
        })
    }

    /// The count of a mount, for the methods that need one.
    pub fn of(self: &Arc<Self>, entry: &MountEntry) -> Attempts {
        if !METHODS.contains(&entry.kind.as_str()) {
            return Attempts::uncounted();
        }
        Attempts::new(Arc::new(MountLockout {
            lockout: self.clone(),
            mount: entry.uuid.clone(),
        }))
    }

    /// Those of a mount who are locked, in no particular order: a page, and where the next begins.
    pub async fn locked(
        &self,
        mount: &str,
        after: Option<&str>,
        now: u64,
    ) -> Result<(Vec<Locked>, Option<String>)> {
        let folder = format!("locked/{mount}/");
        let page = self.storage.scan_folder(&folder, after, PAGE).await?;
        let next = match page.last() {
            Some((path, _)) if page.len() == PAGE => Some(path.clone()),
            _ => None,
        };
        let mut locked = Vec::with_capacity(page.len());
        for (path, entry) in &page {
            let one: Locked = self.storage.parse(path, entry)?;
            if one.until > now {
                locked.push(one);
            }
        }
        Ok((locked, next))
    }

    /// Forgets the failures of a name. `false`: there were none.
    pub async fn unlock(&self, mount: &str, name: &str) -> Result<bool> {
        let key = key(mount, name);
        for _ in 0..ATTEMPTS {
            let path = name_path(&key);
            let found = self.storage.get_json_seen::<Failures>(&path).await?;
            let Some((failures, seen)) = found else {
                return Ok(false);
            };
            let mut batch = Batch::new();
            self.storage.expect_in(&mut batch, &path, &seen);
            self.forget_in(&mut batch, &key, &failures);
            match self.storage.commit(batch).await {
                Ok(()) => return Ok(true),
                Err(StorageError::Conflict { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(busy())
    }

    /// Drops what is over.
    pub async fn tidy(&self, now: u64) -> Result<()> {
        let end = expiry_path(now, "");
        loop {
            let page = self.storage.scan("expiry/", Some(&end), PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for (path, _) in &page {
                let key = path.splitn(3, '/').nth(2).unwrap_or_default();
                let mut batch = Batch::new();
                self.storage.delete_in(&mut batch, path);
                if let Some((failures, seen)) = self
                    .storage
                    .get_json_seen::<Failures>(&name_path(key))
                    .await?
                    && failures.until <= now
                {
                    self.storage.expect_in(&mut batch, &name_path(key), &seen);
                    self.forget_in(&mut batch, key, &failures);
                }
                match self.storage.commit(batch).await {
                    // Counted on meanwhile: seen again at the next page.
                    Ok(()) | Err(StorageError::Conflict { .. }) => {}
                    Err(other) => return Err(other.into()),
                }
            }
        }
    }

    fn rules(&self, mount: &str) -> Result<Rules> {
        let core = upgrade(&self.core)?;
        let mounted = core.live()?.mounts.by_uuid(mount);
        // Disabled while the request was at work.
        let mounted = mounted.ok_or_else(Error::not_found)?;
        Ok(core.lockout_rules(&mounted.entry))
    }

    fn forget_in(&self, batch: &mut Batch, key: &str, failures: &Failures) {
        let storage = &self.storage;
        storage.delete_in(batch, &name_path(key));
        storage.delete_in(batch, &locked_path(key));
        storage.delete_in(batch, &expiry_path(failures.until, key));
    }

    async fn count(&self, mount: &str, name: &str, rules: &Rules, now: u64) -> Result<bool> {
        let key = key(mount, name);
        let storage = &self.storage;
        let _turn = self.turns[turn_of(&key, self.turns.len())].lock().await;
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::new();
            let mut before = 0;
            match storage.get_json_seen::<Failures>(&name_path(&key)).await? {
                Some((failures, _)) if failures.is_locked && failures.until > now => {
                    return Ok(false);
                }
                Some((failures, seen)) => {
                    storage.expect_in(&mut batch, &name_path(&key), &seen);
                    self.forget_in(&mut batch, &key, &failures);
                    if failures.until > now {
                        before = failures.count;
                    }
                }
                None => storage.expect_absent_in(&mut batch, &name_path(&key)),
            }
            let count = before + 1;
            let is_locked = count >= rules.threshold;
            let lasts = match is_locked {
                true => rules.duration,
                false => rules.counter_reset,
            };
            let failures = Failures {
                count,
                is_locked,
                until: now.saturating_add(lasts.as_secs()),
            };
            storage.put_json_in(&mut batch, &name_path(&key), &failures)?;
            storage.put_in(&mut batch, &expiry_path(failures.until, &key), Vec::new());
            if is_locked {
                let locked = Locked {
                    name: name.to_owned(),
                    until: failures.until,
                };
                storage.put_json_in(&mut batch, &locked_path(&key), &locked)?;
            }
            match storage.commit(batch).await {
                Ok(()) => {
                    self.counted.fetch_add(1, Ordering::AcqRel);
                    if is_locked {
                        tracing::warn!(
                            mount,
                            name,
                            failures = count,
                            seconds = lasts.as_secs(),
                            "a name is locked after too many failed logins; sys/locked-users shows it"
                        );
                    }
                    return Ok(true);
                }
                Err(StorageError::Conflict { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(busy())
    }

    /// A durable write like that of a failure that counts.
    async fn as_if(&self, mount: &str, name: &str) -> Result<()> {
        let hash = key(mount, name);
        let slot = turn_of(&hash, 256);
        let path = format!("nobody/{slot:02x}");
        let nothing = Failures {
            count: 0,
            is_locked: false,
            until: 0,
        };
        Ok(self.storage.put_json(&path, &nothing).await?)
    }
}

/// What a mount is given.
struct MountLockout {
    lockout: Arc<Lockout>,
    mount: String,
}

#[async_trait]
impl AttemptCounter for MountLockout {
    async fn look(&self, name: &str, now: u64) -> Result<Standing> {
        let Lockout {
            storage, counted, ..
        } = &*self.lockout;
        let moment = counted.load(Ordering::Acquire);
        let path = name_path(&key(&self.mount, name));
        let Some(failures) = storage.get_json::<Failures>(&path).await? else {
            return Ok(Standing {
                moment,
                ..Standing::default()
            });
        };
        let is_locked = failures.is_locked
            && failures.until > now
            && !self.lockout.rules(&self.mount)?.is_disabled;
        Ok(Standing {
            is_locked,
            has_failed: true,
            moment,
        })
    }

    async fn failed(
        &self,
        name: &str,
        is_known: bool,
        standing: &Standing,
        now: u64,
    ) -> Result<()> {
        let rules = self.lockout.rules(&self.mount)?;
        if rules.is_disabled {
            return Ok(());
        }
        let counts = is_known && !standing.is_locked;
        if counts && self.lockout.count(&self.mount, name, &rules, now).await? {
            return Ok(());
        }
        self.lockout.as_if(&self.mount, name).await
    }

    async fn passed(
        &self,
        name: &str,
        standing: &Standing,
        now: u64,
        commit: &mut Batch,
    ) -> Result<bool> {
        // What another server counted in the milliseconds since is seen by the next attempt.
        let counted = self.lockout.counted.load(Ordering::Acquire);
        if !standing.has_failed && counted == standing.moment {
            return Ok(true);
        }
        let key = key(&self.mount, name);
        let storage = &self.lockout.storage;
        let Some(failures) = storage.get_json::<Failures>(&name_path(&key)).await? else {
            return Ok(true);
        };
        if failures.is_locked
            && failures.until > now
            && !self.lockout.rules(&self.mount)?.is_disabled
        {
            return Ok(false);
        }
        self.lockout.forget_in(commit, &key, &failures);
        Ok(true)
    }
}

impl Core {
    /// What applies to a mount: its tuning over the configuration file's stanzas.
    pub fn lockout_rules(&self, entry: &MountEntry) -> Rules {
        Rules::of(
            &self.settings.lockout,
            &entry.kind,
            entry.config.user_lockout_config.as_ref(),
        )
    }
}

/// A name may hold anything and be of any length, a path may not.
fn key(mount: &str, name: &str) -> String {
    let hash = digest::digest(&digest::SHA256, name.as_bytes());
    [mount, "/", &hex::encode(hash)].concat()
}

fn name_path(key: &str) -> String {
    ["name/", key].concat()
}

fn locked_path(key: &str) -> String {
    format!("locked/{key}")
}

fn expiry_path(time: u64, key: &str) -> String {
    format!("expiry/{time:016x}/{key}")
}

/// One of `many`, by the hash at the end of a key.
fn turn_of(key: &str, many: usize) -> usize {
    let tail = key.get(key.len().saturating_sub(4)..).unwrap_or_default();
    usize::from_str_radix(tail, 16).unwrap_or_default() % many
}

fn busy() -> Error {
    Error::unavailable("too many logins of this name at once; try again")
}

const ATTEMPTS: u32 = 32;
const PAGE: usize = 500;
