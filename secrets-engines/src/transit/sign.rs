//! Signatures: how they are made and checked for each type of key. The handlers are in [`super::verify`].
//!
//! ECDSA and RSA go through RustCrypto for every hash: ring signs each curve with one hash, RSA with one length of salt, and
//! no digest that the client made. ECDSA's nonces are those of RFC 6979; RSA is blinded, and each signature is checked
//! before it goes out, so that a fault of the machine gives no key away.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use obol_mount::{Error, Result};
use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use ring::hkdf::Prk;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rsa::traits::{PublicKeyParts, SignatureScheme};
use rsa::{Pkcs1v15Sign, RsaPrivateKey};

use super::cipher;
use super::ciphertext::PREFIX;
use super::head::Head;
use super::live::Version;
use super::material::{Opened, SEED};
use crate::base64_field;
use crate::hashes::{Hash, PssUser};
use crate::randomness::Randomness;

/// How a request wants it.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// `None`: the input is signed without a hash, by RSA PKCS #1 v1.5 only.
    pub(super) hash: Option<Hash>,
    /// The input is a digest already.
    pub(super) prehashed: bool,
    pub(super) pss: bool,
    pub(super) marshaling: Marshaling,
    pub(super) salt: Salt,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marshaling {
    /// DER for ECDSA, in standard base64.
    Asn1,
    /// As JSON Web Signatures have it (RFC 7515): both numbers one after the other, in base64 for URLs.
    Jws,
}

/// The salt of RSA-PSS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Salt {
    /// Signing takes the longest, verifying any.
    Auto,
    /// As long as the hash.
    Hash,
    Bytes(usize),
}

/// A signature, and the public key where it depends on the context.
pub(super) struct Signed {
    pub(super) text: String,
    pub(super) public: Option<String>,
}

pub(super) async fn sign(
    head: &Head,
    version: &Arc<Version>,
    how: How,
    context: &[u8],
    input: &[u8],
) -> Result<Signed> {
    let mut public = None;
    let bytes = match &version.opened {
        Opened::Ed25519(pair) => pair.sign(input).as_ref().to_vec(),
        Opened::Derives(root) if head.kind.signs() => {
            let pair = derived_pair(root, context)?;
            public = Some(STANDARD.encode(pair.public_key()));
            pair.sign(input).as_ref().to_vec()
        }
        Opened::P256(key) => {
            let signature: p256::ecdsa::Signature =
                key.sign_prehash(&how.digest(input)?).map_err(unsigned)?;
            match how.marshaling {
                Marshaling::Asn1 => signature.to_der().as_bytes().to_vec(),
                Marshaling::Jws => signature.to_bytes().to_vec(),
            }
        }
        Opened::P384(key) => {
            let signature: p384::ecdsa::Signature =
                key.sign_prehash(&how.digest(input)?).map_err(unsigned)?;
            match how.marshaling {
                Marshaling::Asn1 => signature.to_der().as_bytes().to_vec(),
                Marshaling::Jws => signature.to_bytes().to_vec(),
            }
        }
        Opened::P521(key) => {
            let signature: p521::ecdsa::Signature =
                key.sign_prehash(&how.digest(input)?).map_err(unsigned)?;
            match how.marshaling {
                Marshaling::Asn1 => signature.to_der().as_bytes().to_vec(),
                Marshaling::Jws => signature.to_bytes().to_vec(),
            }
        }
        Opened::Rsa(_) => {
            let digest = how.digest(input)?;
            let version = version.clone();
            // Milliseconds of arithmetic: not where requests are served.
            tokio::task::spawn_blocking(move || rsa_sign(&version, how, &digest))
                .await
                .map_err(Error::internal)??
        }
        Opened::Cipher(_) | Opened::Derives(_) | Opened::Hmac => {
            return Err(cannot("signing", head));
        }
    };
    let mut text = format!("{PREFIX}{}:", version.number);
    match how.marshaling {
        Marshaling::Asn1 => STANDARD.encode_string(bytes, &mut text),
        Marshaling::Jws => URL_SAFE_NO_PAD.encode_string(bytes, &mut text),
    }
    Ok(Signed { text, public })
}

/// Whether `body`, what follows `vault:vN:`, is a signature of the input. Malformed text is refused; bytes that are no
/// signature are just not valid.
pub(super) fn verify(
    head: &Head,
    version: &Version,
    how: How,
    context: &[u8],
    input: &[u8],
    body: &str,
) -> Result<bool> {
    let bytes = match how.marshaling {
        Marshaling::Asn1 => base64_field::decode("signature", body)
            .map(|bytes| bytes.to_vec())
            .map_err(|_| Error::bad_request(BAD_BASE64))?,
        Marshaling::Jws => URL_SAFE_NO_PAD
            .decode(body)
            .map_err(|_| Error::bad_request(BAD_BASE64))?,
    };
    let ed25519 = |pair: &Ed25519KeyPair| {
        let key = UnparsedPublicKey::new(&ED25519, pair.public_key());
        key.verify(input, &bytes).is_ok()
    };
    Ok(match &version.opened {
        Opened::Ed25519(pair) => ed25519(pair),
        Opened::Derives(root) if head.kind.signs() => ed25519(&derived_pair(root, context)?),
        Opened::P256(key) => {
            let signature = match how.marshaling {
                Marshaling::Asn1 => p256::ecdsa::Signature::from_der(&bytes),
                Marshaling::Jws => p256::ecdsa::Signature::from_slice(&bytes),
            };
            let digest = how.digest(input)?;
            let key = key.verifying_key();
            signature.is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok())
        }
        Opened::P384(key) => {
            let signature = match how.marshaling {
                Marshaling::Asn1 => p384::ecdsa::Signature::from_der(&bytes),
                Marshaling::Jws => p384::ecdsa::Signature::from_slice(&bytes),
            };
            let digest = how.digest(input)?;
            let key = key.verifying_key();
            signature.is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok())
        }
        Opened::P521(key) => {
            let signature = match how.marshaling {
                Marshaling::Asn1 => p521::ecdsa::Signature::from_der(&bytes),
                Marshaling::Jws => p521::ecdsa::Signature::from_slice(&bytes),
            };
            let digest = how.digest(input)?;
            let key = key.verifying_key();
            signature.is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok())
        }
        Opened::Rsa(key) => rsa_verify(key, how, &how.digest(input)?, &bytes)?,
        Opened::Cipher(_) | Opened::Derives(_) | Opened::Hmac => {
            return Err(cannot("verification", head));
        }
    })
}

/// The key of one context, for derived ed25519 keys: what HKDF gives is the seed, as in Vault.
pub(super) fn derived_pair(root: &Prk, context: &[u8]) -> Result<Ed25519KeyPair> {
    let seed = cipher::derive(root, context, SEED)?;
    Ed25519KeyPair::from_seed_unchecked(&seed).map_err(Error::internal)
}

/// What Vault says of a key that is of another kind.
pub(super) fn cannot(what: &str, head: &Head) -> Error {
    Error::bad_request(format!(
        "key type {} does not support {what}",
        head.kind.as_str()
    ))
}

impl How {
    /// Checks what goes together for this type of key.
    pub(super) fn check(&self, head: &Head) -> Result<()> {
        let ed25519 = head.kind.signs() && head.kind.derives();
        if ed25519 && self.prehashed {
            return Err(Error::bad_request(
                "prehashed: ed25519 keys sign the message itself (Ed25519ph is not offered)",
            ));
        }
        if self.hash.is_none() && !(self.prehashed && !self.pss && head.kind.rsa_bits().is_some()) {
            return Err(Error::bad_request(
                "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15, and an RSA key",
            ));
        }
        Ok(())
    }

    /// What is signed: the digest of the input, unless the input is one.
    fn digest(&self, input: &[u8]) -> Result<Vec<u8>> {
        match (self.hash, self.prehashed) {
            (Some(hash), false) => Ok(hash.digest(input)),
            (_, true) if !input.is_empty() => Ok(input.to_vec()),
            _ => Err(Error::bad_request("input: expected a digest")),
        }
    }

    /// The hash of RSA, whose digests have one length.
    fn rsa_hash(&self, digest: &[u8]) -> Result<Option<Hash>> {
        match self.hash {
            Some(hash) if hash.length() != digest.len() => Err(Error::bad_request(
                "input: its length is not that of a digest by hash_algorithm",
            )),
            hash => Ok(hash),
        }
    }
}

fn rsa_sign(version: &Version, how: How, digest: &[u8]) -> Result<Vec<u8>> {
    let Opened::Rsa(key) = &version.opened else {
        return Err(Error::internal("an RSA key was expected"));
    };
    let mut random = Randomness::default();
    let signature = match how.rsa_hash(digest)? {
        Some(hash) if how.pss => {
            let salt = salt_length(key, hash, how.salt)?;
            let longest = longest_salt(key, hash);
            let user = SignPss {
                key,
                digest,
                random: &mut random,
            };
            hash.with_pss(Some(salt.unwrap_or(longest)), user)
        }
        Some(hash) => key.sign_with_rng(&mut random, hash.pkcs1v15(), digest),
        None => key.sign_with_rng(&mut random, Pkcs1v15Sign::new_unprefixed(), digest),
    };
    random
        .checked(signature)?
        .map_err(|_| Error::bad_request("input: it is longer than this RSA key signs"))
}

fn rsa_verify(key: &RsaPrivateKey, how: How, digest: &[u8], signature: &[u8]) -> Result<bool> {
    let public = key.as_public_key();
    let verified = match how.rsa_hash(digest)? {
        Some(hash) if how.pss => {
            let salt = salt_length(key, hash, how.salt)?;
            let user = VerifyPss {
                key,
                digest,
                signature,
            };
            hash.with_pss(salt, user)
        }
        Some(hash) => public.verify(hash.pkcs1v15(), digest, signature),
        None => public.verify(Pkcs1v15Sign::new_unprefixed(), digest, signature),
    };
    Ok(verified.is_ok())
}

/// `None` for [`Salt::Auto`].
fn salt_length(key: &RsaPrivateKey, hash: Hash, salt: Salt) -> Result<Option<usize>> {
    match salt {
        Salt::Auto => Ok(None),
        Salt::Hash => Ok(Some(hash.length())),
        Salt::Bytes(bytes) if bytes <= longest_salt(key, hash) => Ok(Some(bytes)),
        Salt::Bytes(_) => Err(Error::bad_request(
            "salt_length: this key and hash leave no room for so long a salt",
        )),
    }
}

/// RFC 8017, section 9.1.1: what the modulus leaves beside the hash and two bytes.
fn longest_salt(key: &RsaPrivateKey, hash: Hash) -> usize {
    let encoded = (key.n().bits() as usize - 1).div_ceil(8);
    encoded.saturating_sub(hash.length() + 2)
}

struct SignPss<'a> {
    key: &'a RsaPrivateKey,
    digest: &'a [u8],
    random: &'a mut Randomness,
}

impl PssUser<rsa::Result<Vec<u8>>> for SignPss<'_> {
    fn with(self, scheme: impl SignatureScheme) -> rsa::Result<Vec<u8>> {
        self.key.sign_with_rng(self.random, scheme, self.digest)
    }
}

struct VerifyPss<'a> {
    key: &'a RsaPrivateKey,
    digest: &'a [u8],
    signature: &'a [u8],
}

impl PssUser<rsa::Result<()>> for VerifyPss<'_> {
    fn with(self, scheme: impl SignatureScheme) -> rsa::Result<()> {
        let public = self.key.as_public_key();
        public.verify(scheme, self.digest, self.signature)
    }
}

fn unsigned(error: p256::ecdsa::Error) -> Error {
    Error::internal(error)
}

const BAD_BASE64: &str = "invalid base64 signature value";
