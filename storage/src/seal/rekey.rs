//! Rekeying: fresh keys in the place of those that guard the root key, in two steps. [`prepare_new_keys`] makes them
//! from a proof of the old ones and changes nothing, so that they can be handed out and checked first;
//! [`install_new_keys`] puts them into force in one commit. Until then the old keys are valid, from then on the new
//! ones, and at no time neither.

use std::fmt;

use bytes::Bytes;

use super::shamir::{self, Share};
use super::{
    CONFIG_PATH, RECOVERY_BACKUP_PATH, RECOVERY_PATH, ROOT_KEY_PATH, RootKey, Seal, SealConfig,
    SealKind, UNSEAL_BACKUP_PATH, config, record, recovery_digest, same_or_wrong, verify_shares,
    wrap_root,
};
use crate::barrier::Barrier;
use crate::barrier::envelope::{Key, random_key, unwrap, wrap};
use crate::engine::{Commit, Expected, Op};
use crate::error::Error;

/// Which keys are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RekeyTarget {
    /// The root key, and with Shamir's shares the unseal keys above it.
    Barrier,
    /// The recovery keys of a server that unseals itself.
    Recovery,
}

impl RekeyTarget {
    fn backup_path(self) -> &'static str {
        match self {
            Self::Barrier => UNSEAL_BACKUP_PATH,
            Self::Recovery => RECOVERY_BACKUP_PATH,
        }
    }
}

/// Keys that are not in force yet. Wiped when dropped, never printed.
pub struct NewKeys {
    target: RekeyTarget,
    config: SealConfig,
    /// What the shares are of; none where a static key guards the root key.
    split: Option<Key>,
    shares: Vec<Share>,
    /// The records that the old keys were proven against.
    seen: Vec<(&'static str, Bytes)>,
    backup: Option<Bytes>,
}

/// Makes new keys for whoever has shown enough of the old ones (unseal shares with Shamir, recovery shares with a
/// static seal). Nothing is stored. The barrier must be unsealed.
pub async fn prepare_new_keys(
    barrier: &Barrier,
    target: RekeyTarget,
    given: &[Share],
    shares: u8,
    threshold: u8,
) -> Result<NewKeys, Error> {
    let mut config = config(barrier).await?.ok_or(Error::NotInitialized)?;
    check_new_keys(config.kind, target, shares, threshold)?;
    // Read before the proof: if they change after it, installing finds out.
    let mut seen = Vec::with_capacity(3);
    for path in [CONFIG_PATH, ROOT_KEY_PATH] {
        seen.push((path, record(barrier, path).await?));
    }
    if config.kind == SealKind::Static {
        seen.push((RECOVERY_PATH, record(barrier, RECOVERY_PATH).await?));
    }
    verify_shares(barrier, given).await?;
    let split = match (config.kind, target) {
        (SealKind::Static, RekeyTarget::Barrier) => None,
        _ => Some(random_key()?),
    };
    let shares = match &split {
        Some(key) => {
            (config.shares, config.threshold) = (shares, threshold);
            shamir::split(key, shares, threshold)?
        }
        None => Vec::new(),
    };
    Ok(NewKeys {
        target,
        config,
        split,
        shares,
        seen,
        backup: None,
    })
}

/// Refuses what [`prepare_new_keys`] would, before anybody has typed a share.
pub fn check_new_keys(
    kind: SealKind,
    target: RekeyTarget,
    shares: u8,
    threshold: u8,
) -> Result<(), Error> {
    match (kind, target) {
        (SealKind::Shamir, RekeyTarget::Recovery) => Err(Error::SealKind {
            found: kind.as_str(),
            asked: SealKind::Static.as_str(),
        }),
        (SealKind::Static, RekeyTarget::Barrier) if (shares, threshold) != (1, 1) => {
            Err(Error::SealParameters(
                "this server unseals itself: only its root key is replaced, with one share and threshold one",
            ))
        }
        _ => shamir::check_parameters(shares, threshold),
    }
}

/// The backup that was stored with the keys in force, if there is one. Works on a sealed barrier.
pub async fn key_backup(barrier: &Barrier, target: RekeyTarget) -> Result<Option<Bytes>, Error> {
    Ok(barrier.engine().get(target.backup_path()).await?)
}

/// Forgets that backup.
pub async fn delete_key_backup(barrier: &Barrier, target: RekeyTarget) -> Result<(), Error> {
    let commit = Commit {
        expect: Vec::new(),
        ops: vec![Op::Delete(target.backup_path().to_owned())],
    };
    Ok(barrier.engine().commit(commit).await?)
}

/// Puts new keys into force. `Conflict` when the seal's records are not those any more against which the old keys were
/// proven: somebody else rekeyed in between, and nothing was written.
pub async fn install_new_keys(barrier: &Barrier, seal: &Seal, keys: &NewKeys) -> Result<(), Error> {
    match keys.target {
        RekeyTarget::Barrier => install_root(barrier, seal, keys).await,
        RekeyTarget::Recovery => {
            let root = barrier.root()?;
            let commit = Commit {
                expect: keys
                    .seen
                    .iter()
                    .map(|(path, raw)| ((*path).to_owned(), Expected::Exactly(raw.clone())))
                    .collect(),
                ops: vec![
                    Op::Put(
                        RECOVERY_PATH.to_owned(),
                        recovery_record(&root, keys.split.as_ref())?,
                    ),
                    Op::Put(CONFIG_PATH.to_owned(), keys.config.to_record()),
                    keys.backup_op(),
                ],
            };
            Ok(barrier.engine().commit(commit).await?)
        }
    }
}

async fn install_root(barrier: &Barrier, seal: &Seal, keys: &NewKeys) -> Result<(), Error> {
    let (old, new) = (barrier.root()?, RootKey::generate()?);
    let put = |path: &str, record| Op::Put(path.to_owned(), record);
    let mut ops = vec![keys.backup_op()];
    let mut config = keys.config.clone();
    match (seal, &keys.split) {
        (Seal::Shamir | Seal::Leaving(_), Some(key)) => {
            ops.push(put(ROOT_KEY_PATH, wrap_root(key, &new)?))
        }
        (Seal::Static(keys), None) => {
            ops.push(put(ROOT_KEY_PATH, wrap_root(keys.current.key(), &new)?));
            config.key_id = Some(keys.current.id().to_owned());
        }
        _ => {
            return Err(Error::SealKind {
                found: keys.config.kind.as_str(),
                asked: seal.kind().as_str(),
            });
        }
    }
    // The recovery keys stay; what they are recognised by rests under the root key and moves with it.
    if let Some((_, raw)) = keys.seen.iter().find(|(path, _)| *path == RECOVERY_PATH) {
        let digest = unwrap(old.key(), RECOVERY_PATH, raw)?;
        ops.push(put(RECOVERY_PATH, wrap(new.key(), RECOVERY_PATH, &digest)?));
    }
    ops.push(put(CONFIG_PATH, config.to_record()));
    barrier.replace_root(&new, &keys.seen, ops).await
}

fn recovery_record(root: &RootKey, split: Option<&Key>) -> Result<Bytes, Error> {
    let key = split.ok_or(Error::SealParameters("there is no recovery key to store"))?;
    wrap(root.key(), RECOVERY_PATH, &recovery_digest(key))
}

impl NewKeys {
    /// The new shares; none where a static key guards the root key.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Stores `backup` when the keys come into force, in the same commit; without it a backup of the old keys goes then.
    /// It lies there in the clear, so that it can be read where no key is left: it must be encrypted already, for the
    /// people who keep the keys.
    pub fn keep_backup(&mut self, backup: impl Into<Bytes>) {
        self.backup = Some(backup.into());
    }

    fn backup_op(&self) -> Op {
        let path = self.target.backup_path().to_owned();
        match &self.backup {
            Some(backup) => Op::Put(path, backup.clone()),
            None => Op::Delete(path),
        }
    }

    /// Proves that somebody holds enough of the new shares.
    pub fn verify(&self, given: &[Share]) -> Result<(), Error> {
        let key = self.split.as_ref().ok_or(Error::WrongKey)?;
        let combined = shamir::combine(given, self.config.shares, self.config.threshold)?;
        same_or_wrong(&*combined, &**key)
    }
}

impl fmt::Debug for NewKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewKeys({:?}, redacted)", self.target)
    }
}
