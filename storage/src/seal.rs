//! Seals: what guards the root key while the server is not running. Shamir's shares are typed in
//! by people; a static key comes from the environment or a file and unseals by itself.
//!
//! | record | holds |
//! | --- | --- |
//! | `core/seal-config` | the kind, shares and threshold, in the clear: read before unsealing |
//! | `core/root-key` | the root key under the seal's key |
//! | `core/recovery-key` | with a static seal: a digest of the recovery key, under the root key |
//! | `core/unseal-keys-backup`, `core/recovery-keys-backup` | keys as they were handed out, encrypted for their keepers |

mod migration;
mod rekey;
mod shamir;
mod static_key;

use std::fmt;

use bytes::Bytes;
use ring::digest;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use migration::{is_pending, migrate};
pub use rekey::{
    NewKeys, RekeyTarget, check_new_keys, delete_key_backup, install_new_keys, key_backup,
    prepare_new_keys,
};
pub use shamir::{Share, ShareError};
pub use static_key::{StaticKey, StaticKeyError, StaticSeal};

use crate::barrier::Barrier;
use crate::barrier::envelope::{KEY_LEN, Key, random_key, unwrap, wrap};
use crate::engine::{Commit, Expected, Op};
use crate::error::{Corruption, Error};

/// The key above all others: the keyring rests under it. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct RootKey(Key);

impl RootKey {
    /// A fresh key from the system's random number generator.
    pub fn generate() -> Result<Self, Error> {
        random_key().map(Self)
    }

    /// A key from its 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        key_from(bytes).map(Self)
    }

    /// The key itself. Secret.
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    pub(crate) fn key(&self) -> &Key {
        &self.0
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(redacted)")
    }
}

/// What guards the root key.
pub enum Seal {
    /// Shares of a key that is nowhere stored.
    Shamir,
    /// A key that the operator provides to the process.
    Static(StaticSeal),
    /// Shamir's shares, in the place of a static key that is still there to be [migrated](migrate) from.
    Leaving(StaticSeal),
}

/// The two kinds of seal, as in configuration and in `sys/seal-status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SealKind {
    Shamir,
    Static,
}

/// What a sealed storage tells about its seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealConfig {
    pub kind: SealKind,
    /// How many shares there are: unseal shares with Shamir, recovery shares with a static seal.
    pub shares: u8,
    /// How many of them it takes.
    pub threshold: u8,
    /// With a static seal: the name of the key that the root key rests under. For people to read;
    /// the key itself is recognised by its fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
}

/// What initializing gives out, once.
pub struct Initialized {
    pub root_key: RootKey,
    /// Unseal shares with Shamir, recovery shares with a static seal.
    pub shares: Vec<Share>,
}

/// Creates keyring, root key and the seal's records in one commit. The barrier stays sealed.
///
/// One share with threshold one is the key itself; otherwise the threshold is at least two.
pub async fn initialize(
    barrier: &Barrier,
    seal: &Seal,
    shares: u8,
    threshold: u8,
) -> Result<Initialized, Error> {
    shamir::check_parameters(shares, threshold)?;
    let root_key = RootKey::generate()?;
    let split_key = random_key()?;
    let mut records = Vec::with_capacity(3);
    let key_id = match seal {
        Seal::Shamir | Seal::Leaving(_) => {
            records.push((ROOT_KEY_PATH, wrap_root(&split_key, &root_key)?));
            None
        }
        Seal::Static(keys) => {
            records.push((ROOT_KEY_PATH, wrap_root(keys.current.key(), &root_key)?));
            let verifier = wrap(root_key.key(), RECOVERY_PATH, &recovery_digest(&split_key))?;
            records.push((RECOVERY_PATH, verifier));
            Some(keys.current.id().to_owned())
        }
    };
    let config = SealConfig {
        kind: seal.kind(),
        shares,
        threshold,
        key_id,
    };
    records.push((CONFIG_PATH, config.to_record()));
    let shares = shamir::split(&split_key, shares, threshold)?;
    barrier.initialize_with(&root_key, records).await?;
    Ok(Initialized { root_key, shares })
}

/// The seal's configuration, `None` before initialization. Works on a sealed barrier.
pub async fn config(barrier: &Barrier) -> Result<Option<SealConfig>, Error> {
    match barrier.engine().get(CONFIG_PATH).await? {
        Some(raw) => SealConfig::from_record(&raw).map(Some),
        None => Ok(None),
    }
}

/// Unseals with Shamir's shares; give at least as many as the threshold says.
pub async fn unseal_with_shares(barrier: &Barrier, shares: &[Share]) -> Result<(), Error> {
    let config = config_of_kind(barrier, SealKind::Shamir).await?;
    let root = root_from_shares(barrier, &config, shares).await?;
    barrier.unseal(&root).await
}

/// Unseals with a static key. When the previous key opened the root key, that is wrapped anew
/// under the current one, so that the previous can be thrown away.
pub async fn unseal_with_static_key(barrier: &Barrier, keys: &StaticSeal) -> Result<(), Error> {
    let config = config_of_kind(barrier, SealKind::Static).await?;
    let raw = root_record(barrier).await?;
    let (root, by) = root_from_static_key(keys, &config, &raw)?;
    barrier.unseal(&root).await?;
    match by {
        By::Current => Ok(()),
        By::Previous => rewrap(barrier, keys, config, raw, &root).await,
    }
}

/// Which of the static keys opened the root key.
enum By {
    Current,
    Previous,
}

fn root_from_static_key(
    keys: &StaticSeal,
    config: &SealConfig,
    raw: &[u8],
) -> Result<(RootKey, By), Error> {
    let previous = keys.previous.as_ref().map(|key| (key, By::Previous));
    for (key, by) in [(&keys.current, By::Current)].into_iter().chain(previous) {
        match unwrap_root(key.key(), raw) {
            Ok(root) => return Ok((root, by)),
            Err(Error::WrongKey) => {}
            Err(other) => return Err(other),
        }
    }
    Err(keys.wrong_key(config).into())
}

/// Proves that whoever holds the shares may act for the operators: unseal shares with Shamir,
/// recovery shares with a static seal. The barrier must be unsealed.
pub async fn verify_shares(barrier: &Barrier, shares: &[Share]) -> Result<(), Error> {
    let config = config(barrier).await?.ok_or(Error::NotInitialized)?;
    let root = barrier.root()?;
    match config.kind {
        SealKind::Shamir => {
            let given = root_from_shares(barrier, &config, shares).await?;
            same_or_wrong(given.expose(), root.expose())
        }
        SealKind::Static => {
            let given = shamir::combine(shares, config.shares, config.threshold)?;
            let raw = record(barrier, RECOVERY_PATH).await?;
            let stored = unwrap(root.key(), RECOVERY_PATH, &raw)?;
            same_or_wrong(&recovery_digest(&given), &stored)
        }
    }
}

impl Seal {
    pub fn kind(&self) -> SealKind {
        match self {
            Self::Shamir | Self::Leaving(_) => SealKind::Shamir,
            Self::Static(_) => SealKind::Static,
        }
    }
}

impl SealKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shamir => "shamir",
            Self::Static => "static",
        }
    }
}

impl SealConfig {
    fn to_record(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("numbers, a name and an enum are always JSON")
            .into()
    }

    fn from_record(raw: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(raw).map_err(|_| Error::corrupt(CONFIG_PATH, Corruption::Malformed))
    }
}

async fn config_of_kind(barrier: &Barrier, kind: SealKind) -> Result<SealConfig, Error> {
    let config = config(barrier).await?.ok_or(Error::NotInitialized)?;
    if config.kind != kind {
        return Err(Error::SealKind {
            found: config.kind.as_str(),
            asked: kind.as_str(),
        });
    }
    Ok(config)
}

async fn root_from_shares(
    barrier: &Barrier,
    config: &SealConfig,
    shares: &[Share],
) -> Result<RootKey, Error> {
    let key = shamir::combine(shares, config.shares, config.threshold)?;
    unwrap_root(&key, &root_record(barrier).await?)
}

/// Puts the root key under the current static key. Another server that did so first is fine.
async fn rewrap(
    barrier: &Barrier,
    keys: &StaticSeal,
    mut config: SealConfig,
    seen: Bytes,
    root: &RootKey,
) -> Result<(), Error> {
    config.key_id = Some(keys.current.id().to_owned());
    let commit = Commit {
        expect: vec![(ROOT_KEY_PATH.to_owned(), Expected::Exactly(seen))],
        ops: vec![
            Op::Put(
                ROOT_KEY_PATH.to_owned(),
                wrap_root(keys.current.key(), root)?,
            ),
            Op::Put(CONFIG_PATH.to_owned(), config.to_record()),
        ],
    };
    match barrier.engine().commit(commit).await.map_err(Error::from) {
        Ok(()) => {
            let id = keys.current.id();
            tracing::info!(
                key_id = id,
                "the root key was moved to the current static key"
            );
            Ok(())
        }
        Err(Error::Conflict { .. }) => Ok(()),
        Err(other) => Err(other),
    }
}

fn same_or_wrong(given: &[u8], right: &[u8]) -> Result<(), Error> {
    if given.ct_eq(right).into() {
        Ok(())
    } else {
        Err(Error::WrongKey)
    }
}

fn wrap_root(key: &Key, root: &RootKey) -> Result<Bytes, Error> {
    wrap(key, ROOT_KEY_PATH, root.expose())
}

fn unwrap_root(key: &Key, raw: &[u8]) -> Result<RootKey, Error> {
    RootKey::from_bytes(&unwrap(key, ROOT_KEY_PATH, raw)?)
        .ok_or_else(|| Error::corrupt(ROOT_KEY_PATH, Corruption::Malformed))
}

async fn root_record(barrier: &Barrier) -> Result<Bytes, Error> {
    record(barrier, ROOT_KEY_PATH).await
}

/// A record that initializing wrote, so that its absence is damage.
async fn record(barrier: &Barrier, path: &str) -> Result<Bytes, Error> {
    let raw = barrier.engine().get(path).await?;
    raw.ok_or_else(|| Error::corrupt(path, Corruption::Truncated))
}

fn recovery_digest(key: &Key) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"obol: recovery key");
    context.update(&**key);
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("the digest has its algorithm's length")
}

fn key_from(bytes: &[u8]) -> Option<Key> {
    let bytes: &[u8; KEY_LEN] = bytes.try_into().ok()?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    key.copy_from_slice(bytes);
    Some(key)
}

pub(crate) const CONFIG_PATH: &str = "core/seal-config";
pub(crate) const ROOT_KEY_PATH: &str = "core/root-key";
pub(crate) const RECOVERY_PATH: &str = "core/recovery-key";
pub(crate) const UNSEAL_BACKUP_PATH: &str = "core/unseal-keys-backup";
pub(crate) const RECOVERY_BACKUP_PATH: &str = "core/recovery-keys-backup";
