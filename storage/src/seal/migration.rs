//! From one kind of seal to the other. The shares stay as they are, and change what they are for: unseal keys become
//! recovery keys when a static key takes their place, and recovery keys unseal keys when it is given up.
//!
//! The root key stays, too: whoever has the old seal's key and an old copy of the storage can read what is written
//! today, until a rekey replaces it.

use super::{
    CONFIG_PATH, RECOVERY_BACKUP_PATH, RECOVERY_PATH, ROOT_KEY_PATH, RootKey, Seal, SealConfig,
    SealKind, Share, UNSEAL_BACKUP_PATH, config, record, recovery_digest, root_from_static_key,
    root_record, same_or_wrong, shamir, unwrap_root, wrap_root,
};
use crate::barrier::Barrier;
use crate::barrier::envelope::{unwrap, wrap};
use crate::engine::{Commit, Expected, Op};
use crate::error::Error;

/// Whether what is stored is under another kind of seal than the server is to have. Works on a sealed barrier.
pub async fn is_pending(barrier: &Barrier, seal: &Seal) -> Result<bool, Error> {
    let stored = config(barrier).await?;
    Ok(stored.is_some_and(|stored| stored.kind != seal.kind()))
}

/// Puts the root key under `seal`, for whoever has shown enough shares of the stored seal, and unseals. One commit:
/// whenever the process ends, either the old seal opens everything or the new one does.
///
/// `SealKind` when there is nothing to migrate, or the static key to migrate from is not there.
pub async fn migrate(barrier: &Barrier, seal: &Seal, shares: &[Share]) -> Result<(), Error> {
    let stored = config(barrier).await?.ok_or(Error::NotInitialized)?;
    let seen_config = record(barrier, CONFIG_PATH).await?;
    let seen_root = root_record(barrier).await?;
    let split = shamir::combine(shares, stored.shares, stored.threshold)?;
    let put = |path: &str, record| Op::Put(path.to_owned(), record);
    let delete = |path: &str| Op::Delete(path.to_owned());
    let root: RootKey;
    let mut ops = match (stored.kind, seal) {
        (SealKind::Shamir, Seal::Static(keys)) => {
            root = unwrap_root(&split, &seen_root)?;
            let digest = wrap(root.key(), RECOVERY_PATH, &recovery_digest(&split))?;
            vec![
                put(ROOT_KEY_PATH, wrap_root(keys.current.key(), &root)?),
                put(RECOVERY_PATH, digest),
            ]
        }
        (SealKind::Static, Seal::Leaving(keys)) => {
            (root, _) = root_from_static_key(keys, &stored, &seen_root)?;
            let digest = record(barrier, RECOVERY_PATH).await?;
            let digest = unwrap(root.key(), RECOVERY_PATH, &digest)?;
            same_or_wrong(&recovery_digest(&split), &digest)?;
            vec![
                put(ROOT_KEY_PATH, wrap_root(&split, &root)?),
                delete(RECOVERY_PATH),
            ]
        }
        _ => {
            return Err(Error::SealKind {
                found: stored.kind.as_str(),
                asked: seal.kind().as_str(),
            });
        }
    };
    // A backup of the shares is of the other kind from now on, like the shares.
    let (from, to) = match stored.kind {
        SealKind::Shamir => (UNSEAL_BACKUP_PATH, RECOVERY_BACKUP_PATH),
        SealKind::Static => (RECOVERY_BACKUP_PATH, UNSEAL_BACKUP_PATH),
    };
    if let Some(backup) = barrier.engine().get(from).await? {
        ops.extend([put(to, backup), delete(from)]);
    }
    let new = SealConfig {
        kind: seal.kind(),
        key_id: match seal {
            Seal::Static(keys) => Some(keys.current.id().to_owned()),
            Seal::Shamir | Seal::Leaving(_) => None,
        },
        ..stored
    };
    ops.push(put(CONFIG_PATH, new.to_record()));
    barrier.unseal(&root).await?;
    let commit = Commit {
        expect: vec![
            (CONFIG_PATH.to_owned(), Expected::Exactly(seen_config)),
            (ROOT_KEY_PATH.to_owned(), Expected::Exactly(seen_root)),
        ],
        ops,
    };
    barrier.engine().commit(commit).await.map_err(|error| {
        barrier.seal();
        error.into()
    })
}
