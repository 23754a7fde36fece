//! Init, unseal, seal: how a server comes to hold its keys, and lets go of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use obol_mount::{Error, Family, Result, Secret};
use obol_storage::seal::{self, Initialized, Seal, SealConfig, SealKind, Share};
use obol_storage::{Batch, Error as StorageError, RootKey};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::mounts::MountEntry;
use super::policies::ROOT;
use super::tokens::NewToken;
use super::{Core, Live, unix_now};

/// The seal and the progress of unsealing.
pub struct Sealing {
    seal: Seal,
    progress: Mutex<Progress>,
    /// One change of state at a time: init, unseal and seal exclude each other.
    changing: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Progress {
    shares: Vec<Share>,
    nonce: String,
}

/// What `sys/seal-status` tells.
pub struct Status {
    pub kind: SealKind,
    pub initialized: bool,
    pub sealed: bool,
    pub threshold: u8,
    pub shares: u8,
    pub progress: usize,
    pub nonce: String,
    /// The configuration has another kind of seal than storage: the keys must be given to change it.
    pub migration: bool,
}

/// What init gives out, once.
pub struct NewServer {
    /// Unseal keys with Shamir, recovery keys with a static seal.
    pub shares: Vec<Share>,
    pub kind: SealKind,
    pub root_token: Secret,
}

impl Sealing {
    pub fn new(seal: Seal) -> Self {
        Self {
            seal,
            progress: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    pub fn kind(&self) -> SealKind {
        self.seal.kind()
    }

    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        // Progress is plain data: a panic elsewhere cannot have left it half-changed.
        self.progress
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Core {
    pub async fn seal_status(&self) -> Result<Status> {
        let config = seal::config(&self.barrier).await?;
        let progress = self.sealing.progress();
        Ok(Status {
            kind: config.as_ref().map_or(self.sealing.kind(), |c| c.kind),
            initialized: config.is_some(),
            sealed: self.is_sealed(),
            threshold: config.as_ref().map_or(0, |c| c.threshold),
            shares: config.as_ref().map_or(0, |c| c.shares),
            progress: progress.shares.len(),
            nonce: progress.nonce.clone(),
            migration: config.is_some_and(|c| c.kind != self.sealing.kind()),
        })
    }

    /// Creates keys, the mounts that every server has, and the root token. With Shamir the server is sealed
    /// again afterwards; with a static key it serves at once.
    pub async fn initialize(
        self: &Arc<Self>,
        shares: u8,
        threshold: u8,
        dev: Option<DevSetup>,
    ) -> Result<NewServer> {
        let mut upkeep = self.sealing.changing.lock().await;
        let Initialized { root_key, shares } =
            seal::initialize(&self.barrier, &self.sealing.seal, shares, threshold)
                .await
                .map_err(init_error)?;
        self.barrier.unseal(&root_key).await?;
        let live = self.open_live().await?;
        let root = NewToken {
            policies: vec![ROOT.to_owned()],
            display_name: ROOT.to_owned(),
            path: "auth/token/root".to_owned(),
            immortal: true,
            id: dev.as_ref().and_then(|dev| dev.root_token_id.clone()),
            ..NewToken::default()
        };
        let issued = live
            .tokens
            .issue(root, self.limits(None), Batch::new(), unix_now())
            .await?;
        if dev.is_some() {
            let mut entry = MountEntry::new(Family::Secrets, "secret", "kv");
            entry.description = "key/value secret storage".into();
            entry.options = BTreeMap::from([("version".to_owned(), "2".to_owned())]);
            live.mounts.enable(entry).await?;
        }
        if dev.is_some() || self.sealing.kind() == SealKind::Static {
            self.go_live(live, &mut upkeep);
        } else {
            self.barrier.seal();
        }
        tracing::info!(seal = self.sealing.kind().as_str(), "initialized");
        Ok(NewServer {
            shares,
            kind: self.sealing.kind(),
            root_token: issued.token,
        })
    }

    /// Takes one share. Unseals when there are enough of them; wrong ones are all forgotten. With `migrate` the storage
    /// is put under the seal of the configuration, which is another than it has.
    pub async fn unseal(self: &Arc<Self>, share: Share, migrate: bool) -> Result<()> {
        let mut upkeep = self.sealing.changing.lock().await;
        if !self.is_sealed() {
            return Ok(());
        }
        let Some(SealConfig {
            kind, threshold, ..
        }) = seal::config(&self.barrier).await?
        else {
            return Err(Error::bad_request(
                "the server is not initialized: run `obol operator init` first",
            ));
        };
        let to = self.sealing.kind();
        match (&self.sealing.seal, migrate) {
            (_, true) if kind == to => {
                return Err(Error::bad_request(format!(
                    "there is nothing to migrate: storage and configuration both have the {} seal",
                    kind.as_str()
                )));
            }
            (Seal::Shamir, _) if kind == SealKind::Static => {
                return Err(Error::bad_request(
                    "this storage is sealed with a static key, which the configuration does not have: put its seal stanza \
                 back, with disabled = true to migrate to Shamir's shares",
                ));
            }
            (_, false) if kind != to => {
                return Err(Error::bad_request(format!(
                    "the seal is to be changed from {} to {}: give every key with migrate, as `obol operator unseal \
                 -migrate` does, or take the change out of the configuration",
                    kind.as_str(),
                    to.as_str()
                )));
            }
            (_, false) if kind == SealKind::Static => {
                return Err(Error::bad_request(
                    "this server unseals itself with its static key; shares are for recovery",
                ));
            }
            _ => {}
        }
        let shares = {
            let mut progress = self.sealing.progress();
            if progress
                .shares
                .iter()
                .any(|known| known.index() == share.index())
            {
                return Err(Error::bad_request("this unseal key was given already"));
            }
            if progress.shares.is_empty() {
                progress.nonce = Uuid::new_v4().to_string();
            }
            progress.shares.push(share);
            if progress.shares.len() < usize::from(threshold) {
                return Ok(());
            }
            std::mem::take(&mut *progress).shares
        };
        if migrate {
            seal::migrate(&self.barrier, &self.sealing.seal, &shares).await
        } else {
            seal::unseal_with_shares(&self.barrier, &shares).await
        }
        .map_err(unseal_error)?;
        if migrate {
            tracing::warn!(
                from = kind.as_str(),
                to = to.as_str(),
                "the seal was changed"
            );
        }
        let live = self
            .open_live()
            .await
            .inspect_err(|_| self.barrier.seal())?;
        self.go_live(live, &mut upkeep);
        tracing::info!("unsealed");
        Ok(())
    }

    /// Unseals with the static key, if the server has one and is initialized. `false` when there is nothing to do, or
    /// when the seal is to be changed first, which takes the keys of its present one.
    pub async fn auto_unseal(self: &Arc<Self>) -> Result<bool> {
        let mut upkeep = self.sealing.changing.lock().await;
        if seal::is_pending(&self.barrier, &self.sealing.seal).await? {
            tracing::warn!(
                to = self.sealing.kind().as_str(),
                "the configuration has another kind of seal than the storage: the server stays sealed until the seal is \
                 changed with `obol operator unseal -migrate`"
            );
            return Ok(false);
        }
        let Seal::Static(keys) = &self.sealing.seal else {
            return Ok(false);
        };
        if !self.is_sealed() || seal::config(&self.barrier).await?.is_none() {
            return Ok(false);
        }
        seal::unseal_with_static_key(&self.barrier, keys)
            .await
            .map_err(unseal_error)?;
        let live = self
            .open_live()
            .await
            .inspect_err(|_| self.barrier.seal())?;
        self.go_live(live, &mut upkeep);
        tracing::info!("unsealed with the static key");
        Ok(true)
    }

    /// Forgets shares that were given so far.
    pub fn reset_unseal(&self) {
        *self.sealing.progress() = Progress::default();
    }

    /// Drops the keys and all that hangs on them. Requests under way fail with 503.
    pub async fn seal(&self) {
        let mut upkeep = self.sealing.changing.lock().await;
        for task in upkeep.drain(..) {
            task.abort();
        }
        self.end_streams();
        if let Some(live) = self.live.swap(None) {
            live.activity.finish().await;
            tracing::info!("sealed");
        }
        self.barrier.seal();
    }

    /// Begins anew on what is stored now, which is not what it was: everything in memory is let go of. A server that
    /// cannot do that stays sealed.
    pub(super) async fn begin_anew(self: &Arc<Self>, root: &RootKey) -> Result<()> {
        let mut upkeep = self.sealing.changing.lock().await;
        for task in upkeep.drain(..) {
            task.abort();
        }
        self.live.store(None);
        self.barrier.seal();
        self.barrier.unseal(root).await.map_err(unseal_error)?;
        let live = self
            .open_live()
            .await
            .inspect_err(|_| self.barrier.seal())?;
        self.go_live(live, &mut upkeep);
        Ok(())
    }

    fn go_live(self: &Arc<Self>, live: Arc<Live>, upkeep: &mut Vec<JoinHandle<()>>) {
        *upkeep = self.start_upkeep(&live);
        self.live.store(Some(live));
    }
}

/// What `-dev` wants set up at once.
#[derive(Debug, Clone, Default)]
pub struct DevSetup {
    pub root_token_id: Option<Secret>,
}

fn init_error(error: StorageError) -> Error {
    match error {
        StorageError::AlreadyInitialized => Error::bad_request("Obol is already initialized"),
        StorageError::SealParameters(why) => Error::bad_request(why),
        other => other.into(),
    }
}

fn unseal_error(error: StorageError) -> Error {
    match error {
        StorageError::WrongKey => Error::bad_request(
            "unseal failed: these keys do not open this storage; all of them were forgotten, start again",
        ),
        StorageError::Share(why) => Error::bad_request(format!(
            "unseal failed: {why}; all keys were forgotten, start again"
        )),
        StorageError::SealKind { .. } | StorageError::StaticKey(_) => {
            Error::bad_request(error.to_string())
        }
        other => other.into(),
    }
}
