//! New keys on their way to the people who keep them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::{Error, Result};
use obol_storage::seal::Share;
use zeroize::Zeroizing;

use crate::pgp::Recipient;

/// Keys as they are handed out, in the order of their holders: bare, or each encrypted for one of them.
#[derive(Clone)]
pub struct HandedOut {
    pub keys: Vec<Zeroizing<Vec<u8>>>,
    /// Of the holders' PGP keys, where the keys are encrypted.
    pub fingerprints: Option<Vec<String>>,
}

/// The keys of those who will hold `shares` keys, in their order; none where nobody asked for encryption.
///
/// `field` is where they were given, for the error.
pub fn recipients(given: Option<Vec<String>>, shares: u8, field: &str) -> Result<Arc<[Recipient]>> {
    let given = given.unwrap_or_default();
    if !given.is_empty() && given.len() != usize::from(shares) {
        return Err(Error::bad_request(format!(
            "field {field:?}: {} PGP keys for {shares} keys; there must be one for each",
            given.len()
        )));
    }
    let parsed = given.iter().enumerate().map(|(index, text)| {
        Recipient::parse(text.as_bytes())
            .map_err(|error| Error::bad_request(format!("{field}[{index}]: {error}")))
    });
    parsed.collect()
}

impl HandedOut {
    /// Encrypts each share, in hexadecimal as Vault does, for the holder in the same place. No holders: bare shares.
    pub fn new(shares: &[Share], holders: &[Recipient]) -> Result<Self> {
        if holders.is_empty() {
            let bare = shares
                .iter()
                .map(|share| Zeroizing::new(share.expose().to_vec()));
            return Ok(Self {
                keys: bare.collect(),
                fingerprints: None,
            });
        }
        debug_assert_eq!(shares.len(), holders.len());
        let encrypted = shares.iter().zip(holders).map(|(share, holder)| {
            let text = Zeroizing::new(hex::encode(share.expose()));
            holder
                .encrypt(text.as_bytes())
                .map(Zeroizing::new)
                .map_err(Error::internal)
        });
        Ok(Self {
            keys: encrypted.collect::<Result<_>>()?,
            fingerprints: fingerprints(holders),
        })
    }

    pub fn hexadecimal(&self) -> Vec<String> {
        self.keys.iter().map(hex::encode).collect()
    }

    pub fn base64(&self) -> Vec<String> {
        self.keys
            .iter()
            .map(|key| STANDARD.encode(&**key))
            .collect()
    }
}

/// The holders' fingerprints, in their order; `None` where there are no holders.
pub fn fingerprints(holders: &[Recipient]) -> Option<Vec<String>> {
    (!holders.is_empty()).then(|| holders.iter().map(Recipient::fingerprint).collect())
}

/// The key of one person; none where nothing is given.
pub fn recipient(given: Option<String>, field: &str) -> Result<Option<Recipient>> {
    let given = given.filter(|given| !given.is_empty());
    let parsed = given.map(|text| {
        Recipient::parse(text.as_bytes())
            .map_err(|error| Error::bad_request(format!("{field}: {error}")))
    });
    parsed.transpose()
}
