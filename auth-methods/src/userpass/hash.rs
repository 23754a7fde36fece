//! Passwords as they rest: Argon2id (RFC 9106) with a salt each, or a bcrypt hash that was brought along. The work is
//! slow on purpose, so it runs in [`super::pool`].

use std::hint::black_box;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use obol_mount::{Error, Result, Secret};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A password's hash. Each has the cost that it was made with, so the costs of new ones may rise.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "lowercase")]
pub(super) enum PasswordHash {
    Argon2id(Argon2id),
    /// In its usual text form, `$2b$12$...`.
    Bcrypt(String),
}

#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Argon2id {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    /// Base64 without padding, as PHC strings have it.
    salt: String,
    hash: String,
}

impl PasswordHash {
    /// Hashes a new password.
    pub(super) fn new(password: &Secret) -> Result<Self> {
        let mut salt = [0; SALT];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| Error::internal("no randomness"))?;
        let mut hash = Argon2id {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: STANDARD_NO_PAD.encode(salt),
            hash: String::new(),
        };
        hash.hash = STANDARD_NO_PAD.encode(hash.of(password, &salt)?.as_slice());
        Ok(Self::Argon2id(hash))
    }

    /// Takes over a bcrypt hash.
    pub(super) fn brought(text: &Secret) -> Result<Self> {
        let refuse = |why: &str| Error::bad_request(format!("password_hash: {why}"));
        let text = text.expose();
        let parts: bcrypt::HashParts = text
            .parse()
            .map_err(|_| refuse("expected a bcrypt hash such as $2b$12$..."))?;
        match parts.get_cost() {
            0..BCRYPT_MIN => Err(refuse("its cost is too low to protect a password")),
            BCRYPT_MIN..=BCRYPT_MAX => Ok(Self::Bcrypt(text.to_owned())),
            _ => Err(refuse(
                "its cost is so high that a few logins would keep the server busy",
            )),
        }
    }

    /// Whether this is the password's hash. Compared in constant time.
    pub(super) fn matches(&self, password: &Secret) -> Result<bool> {
        match self {
            Self::Argon2id(kept) => {
                let salt = STANDARD_NO_PAD
                    .decode(&kept.salt)
                    .map_err(Error::internal)?;
                let kept_hash = STANDARD_NO_PAD
                    .decode(&kept.hash)
                    .map(Zeroizing::new)
                    .map_err(Error::internal)?;
                let hash = kept.of(password, &salt)?;
                Ok(kept_hash.as_slice().ct_eq(hash.as_slice()).into())
            }
            Self::Bcrypt(kept) => bcrypt::verify(password.expose(), kept).map_err(Error::internal),
        }
    }

    /// Takes the time of [`PasswordHash::matches`] and looks at nothing: for a name that nobody has, and for one that
    /// is locked (threats: `timing-user`).
    pub(super) fn spend(&self, password: &Secret) -> Result<()> {
        match self {
            Self::Argon2id(like) => {
                black_box(like.of(password, &[0; SALT])?);
            }
            Self::Bcrypt(like) => {
                let parts: bcrypt::HashParts = like.parse().map_err(Error::internal)?;
                let hash = bcrypt::hash_with_salt(password.expose(), parts.get_cost(), [0; SALT]);
                black_box(hash.map_err(Error::internal)?);
            }
        }
        Ok(())
    }

    /// Whether it was brought along, and is not made as the hashes of new passwords are.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(self, Self::Bcrypt(_))
    }

    /// The cost of a new password, for where there is no user to take it from.
    pub(super) fn none() -> Self {
        Self::Argon2id(Argon2id {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: String::new(),
            hash: String::new(),
        })
    }
}

impl Argon2id {
    fn of(&self, password: &Secret, salt: &[u8]) -> Result<Zeroizing<[u8; HASH]>> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH))
            .map_err(Error::internal)?;
        let mut hash = Zeroizing::new([0; HASH]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.expose().as_bytes(), salt, hash.as_mut_slice())
            .map_err(Error::internal)?;
        Ok(hash)
    }
}

/// What OWASP's password storage page asks for at least: 19 MiB, two passes, one lane. That is about 20 ms of one
/// core, and what a login costs.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Bytes.
const SALT: usize = 16;
const HASH: usize = 32;
/// The costs of hashes that are taken over. bcrypt itself begins at 4.
const BCRYPT_MIN: u32 = 4;
const BCRYPT_MAX: u32 = 15;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_password_matches_its_hash_and_no_other() {
        let hash = PasswordHash::new(&secret("hunter2")).unwrap();
        assert!(hash.matches(&secret("hunter2")).unwrap());
        assert!(!hash.matches(&secret("hunter3")).unwrap());
        let stored = serde_json::to_string(&hash).unwrap();
        assert!(!stored.contains("hunter2"), "{stored}");
        let read: PasswordHash = serde_json::from_str(&stored).unwrap();
        assert!(read.matches(&secret("hunter2")).unwrap());
    }

    #[test]
    fn the_same_password_twice_leaves_two_hashes() {
        let hash = || serde_json::to_string(&PasswordHash::new(&secret("same")).unwrap()).unwrap();
        assert_ne!(hash(), hash());
    }

    #[test]
    fn a_bcrypt_hash_is_taken_over_within_reason() {
        let made = bcrypt::hash("hunter2", 4).unwrap();
        let hash = PasswordHash::brought(&secret(&made)).unwrap();
        assert!(hash.matches(&secret("hunter2")).unwrap());
        assert!(!hash.matches(&secret("hunter3")).unwrap());
        hash.spend(&secret("hunter2")).unwrap();
        for wrong in [
            "",
            "hunter2",
            "$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA",
            &made[..59],
            &made.replace("$04$", "$31$"),
            &made.replace("$04$", "$16$"),
        ] {
            let error = PasswordHash::brought(&secret(wrong)).err().unwrap();
            assert_eq!(error.status(), 400);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
