//! The record of a key: its settings and the numbers of its versions. The material of the versions lies beside it.

use obol_mount::{Error, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key_type::KeyType;

/// What is stored of a key at `keys/<name>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Unique to this life of the key: the versions of a deleted key of the same name are not its own.
    pub(super) id: String,
    pub(super) kind: KeyType,
    pub(super) derived: bool,
    pub(super) convergent: bool,
    pub(super) exportable: bool,
    pub(super) allow_plaintext_backup: bool,
    pub(super) deletion_allowed: bool,
    /// Bytes of an `hmac` key; 0 for the other types.
    pub(super) key_size: u32,
    /// Seconds; 0 is never.
    pub(super) auto_rotate_period: u64,
    pub(super) latest: u64,
    /// When the latest version was made, in seconds since 1970.
    pub(super) rotated: u64,
    /// Versions before it are gone; 0 until something was trimmed.
    pub(super) min_available: u64,
    pub(super) min_decryption: u64,
    /// 0 is the latest.
    pub(super) min_encryption: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backed_up: Option<Mark>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restored: Option<Mark>,
}

/// A backup or a restore.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Nanoseconds since 1970.
    pub(super) time: u64,
    pub(super) version: u64,
}

/// What a new key is to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) kind: Option<KeyType>,
    pub(super) derived: bool,
    pub(super) convergent: bool,
    pub(super) exportable: bool,
    pub(super) allow_plaintext_backup: bool,
    pub(super) key_size: u32,
    pub(super) auto_rotate_period: u64,
}

impl Head {
    /// A key without a version.
    pub(super) fn new(wanted: &Wanted) -> Result<Self> {
        let kind = wanted.kind.unwrap_or(KeyType::Aes256Gcm96);
        if wanted.derived && !kind.derives() {
            return Err(Error::bad_request(format!(
                "derivation and convergent encryption not supported for keys of type {}",
                kind.as_str()
            )));
        }
        if wanted.convergent && !wanted.derived {
            return Err(Error::bad_request(
                "convergent encryption requires derivation to be enabled",
            ));
        }
        if wanted.convergent && kind.cipher().is_none() {
            return Err(Error::bad_request(format!(
                "convergent encryption not supported for keys of type {}",
                kind.as_str()
            )));
        }
        let key_size = match (kind, wanted.key_size) {
            (KeyType::Hmac, 0) => MIN_HMAC_KEY,
            (KeyType::Hmac, size @ MIN_HMAC_KEY..=MAX_HMAC_KEY) => size,
            (KeyType::Hmac, _) => {
                return Err(Error::bad_request(format!(
                    "key_size: expected {MIN_HMAC_KEY} to {MAX_HMAC_KEY} bytes for keys of type hmac"
                )));
            }
            (_, 0) => 0,
            _ => {
                return Err(Error::bad_request(format!(
                    "key_size is not valid for keys of type {}: it is for hmac only",
                    kind.as_str()
                )));
            }
        };
        check_rotate_period(wanted.auto_rotate_period)?;
        Ok(Self {
            id: Uuid::new_v4().simple().to_string(),
            kind,
            derived: wanted.derived,
            convergent: wanted.convergent,
            exportable: wanted.exportable,
            allow_plaintext_backup: wanted.allow_plaintext_backup,
            deletion_allowed: false,
            key_size,
            auto_rotate_period: wanted.auto_rotate_period,
            latest: 0,
            rotated: 0,
            min_available: 0,
            min_decryption: 1,
            min_encryption: 0,
            backed_up: None,
            restored: None,
        })
    }

    /// Whether the parts of a record that came from outside make a key.
    pub(super) fn adds_up(&self) -> bool {
        let sized = match self.kind {
            KeyType::Hmac => (MIN_HMAC_KEY..=MAX_HMAC_KEY).contains(&self.key_size),
            _ => self.key_size == 0,
        };
        sized
            && (!self.derived || self.kind.derives())
            && (!self.convergent || (self.derived && self.kind.cipher().is_some()))
            && check_rotate_period(self.auto_rotate_period).is_ok()
            && (1..=MAX_VERSION).contains(&self.latest)
            && (1..=self.latest).contains(&self.min_decryption)
            && self.min_available <= self.min_decryption
            && (self.min_encryption == 0
                || (self.min_decryption..=self.latest).contains(&self.min_encryption))
    }

    /// When it rotates by itself next, in seconds since 1970.
    pub(super) fn due(&self) -> Option<u64> {
        (self.auto_rotate_period > 0).then(|| self.rotated.saturating_add(self.auto_rotate_period))
    }

    /// The version to encrypt, sign or compute an HMAC with; 0 asks for the latest.
    pub(super) fn version_to_use(&self, asked: u64) -> Result<u64> {
        match asked {
            0 => Ok(self.latest),
            asked if asked > self.latest => Err(Error::bad_request(
                "requested version for encryption is higher than the latest key version",
            )),
            asked if asked < self.first_to_use() => Err(Error::bad_request(
                "requested version for encryption is less than the minimum encryption key version",
            )),
            asked => Ok(asked),
        }
    }

    /// The first version that a request may ask for. What is encrypted must also be decrypted again.
    fn first_to_use(&self) -> u64 {
        let first = self.min_encryption.max(self.min_decryption);
        first.max(self.min_available)
    }

    /// Whether what was made with this version may still be opened or verified. `what` is a ciphertext or a signature.
    pub(super) fn check_made_with(&self, version: u64, what: &str) -> Result<()> {
        if version > self.latest {
            return Err(Error::bad_request(format!(
                "invalid {what}: version is too new"
            )));
        }
        if version < self.min_decryption.max(self.min_available) {
            return Err(Error::bad_request(TOO_OLD));
        }
        Ok(())
    }
}

/// Checks `auto_rotate_period`, in seconds.
pub(super) fn check_rotate_period(seconds: u64) -> Result<()> {
    match seconds {
        1..HOUR => Err(Error::bad_request(
            "auto rotate period must be 0 to disable or at least an hour",
        )),
        _ => Ok(()),
    }
}

/// What Vault says of a version before `min_decryption_version`.
pub(super) const TOO_OLD: &str =
    "ciphertext or signature version is disallowed by policy (too old)";
/// Beyond what anybody rotates.
const MAX_VERSION: u64 = u32::MAX as u64;
const HOUR: u64 = 3600;
/// In bytes.
const MIN_HMAC_KEY: u32 = 32;
const MAX_HMAC_KEY: u32 = 512;
