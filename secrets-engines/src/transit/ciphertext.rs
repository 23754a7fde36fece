//! The text form of ciphertexts, signatures and HMACs: `vault:v3:` and base64, as Vault writes it.

use obol_mount::{Error, Result};

use super::head::Head;
use crate::base64_field;

/// The version that a text was made with, and what follows it. `what` is `ciphertext` or `signature`, for the refusals.
pub(super) fn parse<'a>(text: &'a str, what: &str, head: &Head) -> Result<(u64, &'a str)> {
    let invalid = |why: &str| Error::bad_request(format!("invalid {what}: {why}"));
    let rest = text
        .strip_prefix(PREFIX)
        .ok_or_else(|| invalid("no prefix"))?;
    let (version, body) = rest
        .split_once(':')
        .ok_or_else(|| invalid("wrong number of fields"))?;
    let version = match version.parse() {
        // The first keys of Vault began at 0.
        Ok(0) => 1,
        Ok(version) => version,
        Err(_) => return Err(invalid("version number could not be decoded")),
    };
    head.check_made_with(version, what)?;
    Ok((version, body))
}

/// `vault:vN:` and the base64 of `bytes`.
pub(super) fn text(version: u64, bytes: &[u8]) -> String {
    let prefix = format!("{PREFIX}{version}:");
    let mut text = String::with_capacity(prefix.len() + base64_field::encoded_len(bytes.len()));
    text.push_str(&prefix);
    base64_field::encode_onto(&mut text, bytes);
    text
}

pub(super) const PREFIX: &str = "vault:v";
