//! Sealing and opening one message: AES-GCM and ChaCha20-Poly1305, with the key itself or one derived for a context, and
//! RSA-OAEP.
//!
//! The layout is Vault's: nonce (12 bytes), ciphertext, tag. A derived key is HKDF-SHA256 (RFC 5869) of the version's key
//! without a salt, with the context as info. Convergent encryption (version 3, as Vault's page of the engine describes it)
//! reads 32 bytes more from the same derivation: the key of an HMAC-SHA256 over the message, whose beginning is the nonce.
//!
//! Where a convergent message comes with associated data, this server reads yet 32 bytes more and computes the nonce from
//! both. With Vault's nonce, the same message under two associated data would be sealed twice with one nonce, and that
//! gives the authentication key away (threats: `nonce-reuse`). The nonce travels in the ciphertext: both open both.

use std::sync::Arc;

use obol_mount::{Error, Result};
use ring::aead::{Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce};
use ring::hkdf::{KeyType as OutputLength, Prk};
use ring::hmac;
use rsa::Oaep;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::ciphertext;
use super::head::Head;
use super::live::Version;
use super::material::{self, Opened};
use crate::base64_field;
use crate::randomness::{self, Randomness};

/// What goes with a message: decoded.
#[derive(Default)]
pub(super) struct Around {
    pub(super) context: Zeroizing<Vec<u8>>,
    pub(super) associated_data: Zeroizing<Vec<u8>>,
}

/// Encrypts base64 and answers `vault:vN:...`.
pub(super) async fn encrypt(
    head: &Head,
    version: &Arc<Version>,
    plaintext: &str,
    around: &Around,
) -> Result<String> {
    if let Opened::Rsa(_) = version.opened {
        let message = base64_field::decode("plaintext", plaintext)?;
        no_associated_data(around)?;
        return rsa_encrypt(version, &message);
    }
    let mut bytes = base64_field::decode_framed("plaintext", plaintext, NONCE_LEN, MAX_TAG_LEN)?;
    seal(head, version, around, &mut bytes)?;
    Ok(ciphertext::text(version.number, &bytes))
}

/// Encrypts bytes and answers `vault:vN:...`.
pub(super) fn encrypt_bytes(
    head: &Head,
    version: &Version,
    message: &[u8],
    around: &Around,
) -> Result<String> {
    if let Opened::Rsa(_) = version.opened {
        no_associated_data(around)?;
        return rsa_encrypt(version, message);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(NONCE_LEN + message.len() + MAX_TAG_LEN));
    bytes.resize(NONCE_LEN, 0);
    bytes.extend_from_slice(message);
    seal(head, version, around, &mut bytes)?;
    Ok(ciphertext::text(version.number, &bytes))
}

/// Opens what follows `vault:vN:`.
pub(super) async fn decrypt(
    head: &Head,
    version: &Arc<Version>,
    body: &str,
    around: &Around,
) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = base64_field::decode("ciphertext", body)
        .map_err(|_| Error::bad_request("invalid ciphertext: could not decode base64"))?;
    if let Opened::Rsa(_) = version.opened {
        no_associated_data(around)?;
        return rsa_decrypt(version.clone(), bytes).await;
    }
    let wrong = || Error::bad_request("cipher: message authentication failed");
    if bytes.len() < NONCE_LEN + MAX_TAG_LEN {
        return Err(Error::bad_request(
            "invalid ciphertext: length is too short",
        ));
    }
    let nonce: [u8; NONCE_LEN] = bytes[..NONCE_LEN]
        .try_into()
        .expect("the length was checked");
    let nonce = Nonce::assume_unique_for_key(nonce);
    let aad = Aad::from(around.associated_data.as_slice());
    let subkeys;
    let key = match &version.opened {
        Opened::Cipher(key) => key,
        Opened::Derives(root) => {
            subkeys = Subkeys::derive(head, root, &around.context)?;
            &subkeys.cipher
        }
        _ => return Err(cannot("decryption", head)),
    };
    let length = key
        .open_within(nonce, aad, &mut bytes[..], NONCE_LEN..)
        .map_err(|_| wrong())?
        .len();
    bytes.truncate(length);
    Ok(bytes)
}

/// Seals what lies behind the room for the nonce, where it lies.
fn seal(
    head: &Head,
    version: &Version,
    around: &Around,
    bytes: &mut Zeroizing<Vec<u8>>,
) -> Result<()> {
    let subkeys;
    let key = match &version.opened {
        Opened::Cipher(key) => {
            randomness::fill(&mut bytes[..NONCE_LEN])?;
            key
        }
        Opened::Derives(root) => {
            subkeys = Subkeys::derive(head, root, &around.context)?;
            if head.convergent {
                let nonce = subkeys.convergent_nonce(&around.associated_data, &bytes[NONCE_LEN..]);
                bytes[..NONCE_LEN].copy_from_slice(&nonce);
            } else {
                randomness::fill(&mut bytes[..NONCE_LEN])?;
            }
            &subkeys.cipher
        }
        _ => return Err(cannot("encryption", head)),
    };
    let (nonce, message) = bytes.split_at_mut(NONCE_LEN);
    let nonce: [u8; NONCE_LEN] = (&*nonce).try_into().expect("it was split there");
    let nonce = Nonce::assume_unique_for_key(nonce);
    let aad = Aad::from(around.associated_data.as_slice());
    let tag = key
        .seal_in_place_separate_tag(nonce, aad, message)
        .map_err(|_| Error::bad_request("the plaintext is too long for the cipher"))?;
    bytes.extend_from_slice(tag.as_ref());
    Ok(())
}

/// What is derived for one context.
struct Subkeys {
    cipher: LessSafeKey,
    /// Of the nonces of convergent messages, without and with associated data.
    nonce: hmac::Key,
    nonce_with_data: hmac::Key,
}

impl Subkeys {
    fn derive(head: &Head, root: &Prk, context: &[u8]) -> Result<Self> {
        let cipher = head
            .kind
            .cipher()
            .ok_or_else(|| cannot("encryption", head))?;
        let key_len = cipher.key_len();
        // A longer output begins with the shorter one (RFC 5869, section 2.3): what is read for the nonces changes nothing
        // of the cipher's key.
        let output = derive(root, context, key_len + 2 * NONCE_KEY)?;
        let (key, nonces) = output.split_at(key_len);
        let (nonce, nonce_with_data) = nonces.split_at(NONCE_KEY);
        Ok(Self {
            cipher: material::cipher(head.kind, key)?,
            nonce: hmac::Key::new(hmac::HMAC_SHA256, nonce),
            nonce_with_data: hmac::Key::new(hmac::HMAC_SHA256, nonce_with_data),
        })
    }

    fn convergent_nonce(&self, associated_data: &[u8], message: &[u8]) -> [u8; NONCE_LEN] {
        let tag = if associated_data.is_empty() {
            hmac::sign(&self.nonce, message)
        } else {
            let mut mac = hmac::Context::with_key(&self.nonce_with_data);
            mac.update(&(associated_data.len() as u64).to_be_bytes());
            mac.update(associated_data);
            mac.update(message);
            mac.sign()
        };
        tag.as_ref()[..NONCE_LEN]
            .try_into()
            .expect("an HMAC-SHA256 is longer than a nonce")
    }
}

/// So many bytes for a context, by HKDF-SHA256 (RFC 5869).
pub(super) fn derive(root: &Prk, context: &[u8], length: usize) -> Result<Zeroizing<Vec<u8>>> {
    let info = [context];
    let output = root
        .expand(&info, Length(length))
        .map_err(Error::internal)?;
    let mut bytes = Zeroizing::new(vec![0; length]);
    output.fill(&mut bytes).map_err(Error::internal)?;
    Ok(bytes)
}

struct Length(usize);

impl OutputLength for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn rsa_encrypt(version: &Version, message: &[u8]) -> Result<String> {
    let Opened::Rsa(key) = &version.opened else {
        return Err(Error::internal("an RSA key was expected"));
    };
    let mut random = Randomness::default();
    let sealed = key
        .as_public_key()
        .encrypt(&mut random, Oaep::<Sha256>::new(), message)
        .map_err(|_| Error::bad_request("plaintext: it is longer than this RSA key encrypts"))?;
    let sealed = random.checked(sealed)?;
    Ok(ciphertext::text(version.number, &sealed))
}

/// RSA-OAEP with SHA-256, as Vault's. The arithmetic is constant-time and blinded, the padding is checked without
/// branches, and every failure is one answer (RFC 8017, section 7.1.2).
async fn rsa_decrypt(
    version: Arc<Version>,
    bytes: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>> {
    let work = move || {
        let Opened::Rsa(key) = &version.opened else {
            return Err(Error::internal("an RSA key was expected"));
        };
        let mut random = Randomness::default();
        let opened = key.decrypt_blinded(&mut random, Oaep::<Sha256>::new(), &bytes);
        let opened = random.checked(opened)?;
        opened
            .map(Zeroizing::new)
            .map_err(|_| Error::bad_request("failed to RSA decrypt the ciphertext"))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)?
}

fn no_associated_data(around: &Around) -> Result<()> {
    match around.associated_data.is_empty() {
        true => Ok(()),
        false => Err(Error::bad_request(
            "associated_data is for keys of an authenticated cipher, not for RSA",
        )),
    }
}

/// What Vault says of a key that is of another kind.
pub(super) fn cannot(what: &str, head: &Head) -> Error {
    Error::bad_request(format!(
        "message {what} not supported for key type {}",
        head.kind.as_str()
    ))
}

const NONCE_KEY: usize = 32;
