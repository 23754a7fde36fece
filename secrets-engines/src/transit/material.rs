//! The material of one version of a key: how it is made, stored, and opened for use.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use obol_mount::{Error, Result};
use p256::elliptic_curve::Generate;
use ring::aead::{LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use super::key_type::KeyType;
use crate::base64_field;
use crate::randomness::{self, Randomness};

/// A version as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Material {
    /// Nanoseconds since 1970.
    pub(super) created: u64,
    /// By type: the key of the cipher or of the HMAC; an Ed25519 seed with its public key behind it, as Vault keeps it;
    /// PKCS #8 for ECDSA and RSA.
    pub(super) key: KeyBytes,
    /// What `hmac/` computes with, whatever the type.
    pub(super) hmac: KeyBytes,
    /// Base64 for Ed25519, else PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) public: Option<String>,
}

/// Secret bytes: wiped when they are dropped, printed nowhere, stored as base64.
#[derive(Clone)]
pub(super) struct KeyBytes(Zeroizing<Vec<u8>>);

/// A version of a key, ready for use.
#[expect(
    clippy::large_enum_variant,
    reason = "each lives in the one allocation of its version"
)]
pub(super) enum Opened {
    /// The key of the cipher.
    Cipher(LessSafeKey),
    /// Keys are derived from it, one for each context.
    Derives(Prk),
    Ed25519(Ed25519KeyPair),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
    Rsa(Box<RsaPrivateKey>),
    /// Only its HMAC is asked for.
    Hmac,
}

impl Material {
    /// New material. For RSA this takes a while: see [`Material::make`].
    fn generate(kind: KeyType, key_size: u32, now: u64) -> Result<Self> {
        let hmac = KeyBytes(randomness::bytes(HMAC_KEY)?);
        let mut random = Randomness::default();
        let (key, public) = match kind {
            KeyType::Aes128Gcm96 => (randomness::bytes(16)?, None),
            KeyType::Aes256Gcm96 | KeyType::ChaCha20Poly1305 => (randomness::bytes(32)?, None),
            KeyType::Hmac => (randomness::bytes(key_size as usize)?, None),
            KeyType::Ed25519 => {
                let mut key = randomness::bytes(SEED)?;
                let pair = Ed25519KeyPair::from_seed_unchecked(&key).map_err(Error::internal)?;
                let public = pair.public_key().as_ref();
                let mut whole = Zeroizing::new(Vec::with_capacity(SEED + public.len()));
                whole.extend_from_slice(&key);
                whole.extend_from_slice(public);
                std::mem::swap(&mut key, &mut whole);
                (key, Some(STANDARD.encode(public)))
            }
            KeyType::EcdsaP256 => {
                let key = p256::SecretKey::generate_from_rng(&mut random);
                written(&key, &key.public_key())?
            }
            KeyType::EcdsaP384 => {
                let key = p384::SecretKey::generate_from_rng(&mut random);
                written(&key, &key.public_key())?
            }
            KeyType::EcdsaP521 => {
                let key = p521::SecretKey::generate_from_rng(&mut random);
                written(&key, &key.public_key())?
            }
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
                let bits = kind.rsa_bits().expect("these are the RSA types");
                let key = RsaPrivateKey::new(&mut random, bits).map_err(Error::internal)?;
                written(&key, key.as_public_key())?
            }
        };
        let key = KeyBytes(key);
        random.checked(Self {
            created: now,
            hmac: if kind == KeyType::Hmac {
                key.clone()
            } else {
                hmac
            },
            key,
            public,
        })
    }

    /// New material, made where it keeps no other request waiting.
    pub(super) async fn make(kind: KeyType, key_size: u32, now: u64) -> Result<Self> {
        if kind.rsa_bits().is_none() {
            return Self::generate(kind, key_size, now);
        }
        tokio::task::spawn_blocking(move || Self::generate(kind, key_size, now))
            .await
            .map_err(Error::internal)?
    }

    /// Opens it for use; `derived` keys are used through a context.
    pub(super) fn open(&self, kind: KeyType, derived: bool) -> Result<Opened> {
        if derived {
            return Ok(Opened::Derives(
                Salt::new(HKDF_SHA256, &[]).extract(&self.key.0),
            ));
        }
        Ok(match kind {
            KeyType::Aes128Gcm96 | KeyType::Aes256Gcm96 | KeyType::ChaCha20Poly1305 => {
                Opened::Cipher(cipher(kind, &self.key.0)?)
            }
            KeyType::Ed25519 => {
                let seed = self.key.0.get(..SEED).ok_or_else(broken)?;
                Opened::Ed25519(Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| broken())?)
            }
            KeyType::EcdsaP256 => {
                let key = p256::SecretKey::from_pkcs8_der(&self.key.0).map_err(|_| broken())?;
                Opened::P256(key.into())
            }
            KeyType::EcdsaP384 => {
                let key = p384::SecretKey::from_pkcs8_der(&self.key.0).map_err(|_| broken())?;
                Opened::P384(key.into())
            }
            KeyType::EcdsaP521 => {
                let key = p521::SecretKey::from_pkcs8_der(&self.key.0).map_err(|_| broken())?;
                Opened::P521(key.into())
            }
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
                let key = RsaPrivateKey::from_pkcs8_der(&self.key.0).map_err(|_| broken())?;
                Opened::Rsa(Box::new(key))
            }
            KeyType::Hmac => Opened::Hmac,
        })
    }
}

/// The key of a cipher from its bytes.
pub(super) fn cipher(kind: KeyType, key: &[u8]) -> Result<LessSafeKey> {
    let algorithm = kind.cipher().ok_or_else(broken)?;
    let key = UnboundKey::new(algorithm, key).map_err(|_| broken())?;
    Ok(LessSafeKey::new(key))
}

/// PKCS #8 of the private half, PEM of the public one.
fn written(
    key: &impl EncodePrivateKey,
    public: &impl EncodePublicKey,
) -> Result<(Zeroizing<Vec<u8>>, Option<String>)> {
    let der = key.to_pkcs8_der().map_err(Error::internal)?.to_bytes();
    let pem = public
        .to_public_key_pem(LineEnding::LF)
        .map_err(Error::internal)?;
    Ok((der, Some(pem)))
}

fn broken() -> Error {
    Error::internal("the stored material of a transit key does not fit its type")
}

impl KeyBytes {
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for KeyBytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&base64_field::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for KeyBytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Base64;
        impl Visitor<'_> for Base64 {
            type Value = KeyBytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes as base64")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeyBytes, E> {
                base64_field::decode("key", text)
                    .map(KeyBytes)
                    .map_err(|_| E::custom("expected bytes as base64"))
            }
        }
        // Base64 has nothing to escape: the text is read where it lies, not copied.
        d.deserialize_str(Base64)
    }
}

/// The seed of an Ed25519 key (RFC 8032, section 5.1.5).
pub(super) const SEED: usize = 32;
const HMAC_KEY: usize = 32;
