//! How a small record rests under a key that is not a term of the keyring: the keyring under the
//! root key, the root key under the seal key.
//!
//! `[format 2][fingerprint of the key, 16][nonce, 12][AES-256-GCM ciphertext and tag]`, bound to
//! the record's path. The fingerprint tells a wrong key from a damaged record, which the cipher
//! alone cannot. It gives nothing away: it is an HMAC under a key of 256 random bits.

use std::ops::Deref;

use bytes::Bytes;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use crate::error::{Corruption, Error};

/// The length of every key in this crate, in bytes.
pub(crate) const KEY_LEN: usize = 32;

/// A key in memory, wiped when dropped.
pub(crate) type Key = Zeroizing<[u8; KEY_LEN]>;

pub(crate) fn random_key() -> Result<Key, Error> {
    let mut key = Key::default();
    fill_random(&mut *key)?;
    Ok(key)
}

pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new().fill(bytes).map_err(|_| Error::Random)
}

/// An AES-256-GCM key, ready to use and wiped when dropped.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    pub(crate) fn new(key: &Key) -> Self {
        Self(expand(key))
    }
}

impl Deref for Cipher {
    type Target = LessSafeKey;

    fn deref(&self) -> &LessSafeKey {
        &self.0
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        // ring does not wipe an expanded key: write that of a key of zeros over it. The black box
        // keeps the compiler from dropping a write to memory that is about to be freed.
        self.0 = expand(&Key::default());
        std::hint::black_box(&self.0);
    }
}

fn expand(key: &Key) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, &**key).expect("the key has the cipher's length");
    LessSafeKey::new(key)
}

/// Seals `plain` under `key` for `path`.
pub(crate) fn wrap(key: &Key, path: &str, plain: &[u8]) -> Result<Bytes, Error> {
    let mut out = Vec::with_capacity(HEADER + plain.len() + AES_256_GCM.tag_len());
    let mut nonce = [0; NONCE_LEN];
    fill_random(&mut nonce)?;
    out.push(FORMAT);
    out.extend_from_slice(&fingerprint(key));
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let aad = Aad::from(associated_data(key, path));
    let tag = Cipher::new(key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut out[HEADER..])
        .expect("a record is far below the cipher's limit of 64 GiB");
    out.extend_from_slice(tag.as_ref());
    Ok(out.into())
}

/// Opens what [`wrap`] sealed. [`Error::WrongKey`] says that it was sealed under another key.
pub(crate) fn unwrap(key: &Key, path: &str, raw: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let corrupt = |why| Error::corrupt(path, why);
    match raw.first() {
        None => return Err(corrupt(Corruption::Truncated)),
        Some(&FORMAT) => {}
        Some(&other) => return Err(corrupt(Corruption::UnknownFormat(other))),
    }
    if raw.len() < HEADER + AES_256_GCM.tag_len() {
        return Err(corrupt(Corruption::Truncated));
    }
    let (header, sealed) = raw.split_at(HEADER);
    let (stored_fingerprint, nonce) = header[1..].split_at(FINGERPRINT);
    let nonce = Nonce::try_assume_unique_for_key(nonce)
        .expect("the header ends with a nonce of the cipher's length");
    let mut plain = Zeroizing::new(sealed.to_vec());
    // The associated data holds the fingerprint of the key in hand, not the stored one, so that a
    // damaged fingerprint still opens and is told from a wrong key.
    let aad = Aad::from(associated_data(key, path));
    let opened = Cipher::new(key)
        .open_in_place(nonce, aad, &mut plain)
        .is_ok();
    let right_key = stored_fingerprint == fingerprint(key);
    match (opened, right_key) {
        (true, true) => {
            let length = plain.len() - AES_256_GCM.tag_len();
            plain.truncate(length);
            Ok(plain)
        }
        (false, false) => Err(Error::WrongKey),
        _ => Err(corrupt(Corruption::Authentication)),
    }
}

fn fingerprint(key: &Key) -> [u8; FINGERPRINT] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &**key);
    let digest = hmac::sign(&key, b"obol: fingerprint of a wrapping key");
    digest.as_ref()[..FINGERPRINT]
        .try_into()
        .expect("a SHA-256 digest is longer than a fingerprint")
}

fn associated_data(key: &Key, path: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(1 + FINGERPRINT + path.len());
    data.push(FORMAT);
    data.extend_from_slice(&fingerprint(key));
    data.extend_from_slice(path.as_bytes());
    data
}

const FORMAT: u8 = 2;
const FINGERPRINT: usize = 16;
const HEADER: usize = 1 + FINGERPRINT + NONCE_LEN;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_and_a_damaged_record_are_told_apart() {
        let key = random_key().unwrap();
        let raw = wrap(&key, "core/x", b"content").unwrap();
        assert_eq!(&**unwrap(&key, "core/x", &raw).unwrap(), b"content");

        let other = random_key().unwrap();
        assert!(matches!(
            unwrap(&other, "core/x", &raw),
            Err(Error::WrongKey)
        ));
        for position in 0..raw.len() {
            let mut damaged = raw.to_vec();
            damaged[position] ^= 1;
            let error = unwrap(&key, "core/x", &damaged).unwrap_err();
            assert!(
                matches!(error, Error::Corrupt { .. }),
                "byte {position}: {error}"
            );
        }
        for length in 0..raw.len() {
            let error = unwrap(&key, "core/x", &raw[..length]).unwrap_err();
            assert!(
                matches!(error, Error::Corrupt { .. }),
                "length {length}: {error}"
            );
        }
    }

    #[test]
    fn ciphertext_moved_to_another_record_is_refused() {
        let key = random_key().unwrap();
        let raw = wrap(&key, "core/x", b"content").unwrap();
        assert!(matches!(
            unwrap(&key, "core/y", &raw),
            Err(Error::Corrupt {
                why: Corruption::Authentication,
                ..
            })
        ));
    }
}
