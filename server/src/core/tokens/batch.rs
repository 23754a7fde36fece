//! Batch tokens: the record itself, sealed, is the token. Nothing is stored, so nothing can be
//! revoked; they end by themselves, with their parent, or with the mount that issued them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use obol_mount::{Error, Result, Secret};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::{TokenEntry, Tokens};

/// What a batch token begins with.
pub(super) const PREFIX: &str = "obb.";
const AAD: &[u8] = b"obol batch token v1";

pub(super) struct BatchSealer(LessSafeKey);

impl BatchSealer {
    pub(super) fn new(key: &[u8]) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key)
            .map_err(|_| Error::internal("the batch token key has a wrong length"))?;
        Ok(Self(LessSafeKey::new(key)))
    }
}

impl Tokens {
    /// Seals a record into a token. No disk write.
    pub(super) fn seal_batch(&self, entry: &TokenEntry) -> Result<Secret> {
        let mut nonce = [0u8; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .map_err(|_| Error::internal("no randomness"))?;
        let mut sealed = serde_json::to_vec(entry).map_err(Error::internal)?;
        let tag = self
            .batch
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(AAD),
                &mut sealed,
            )
            .map_err(|_| Error::internal("sealing a batch token failed"))?;
        let mut raw = nonce.to_vec();
        raw.extend_from_slice(&sealed);
        raw.extend_from_slice(tag.as_ref());
        Ok(Secret::new(format!(
            "{PREFIX}{}",
            URL_SAFE_NO_PAD.encode(&raw)
        )))
    }

    /// Opens a batch token; `None` when it is not one of ours.
    pub(super) fn open_batch(&self, token: &str) -> Option<TokenEntry> {
        let mut raw = Zeroizing::new(URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?);
        let (nonce, sealed) = raw.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self
            .batch
            .0
            .open_in_place(nonce, Aad::from(AAD), sealed)
            .ok()?;
        serde_json::from_slice(plain).ok()
    }
}
