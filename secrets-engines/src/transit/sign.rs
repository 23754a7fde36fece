//! Signing and verifying.

use obol_mount::{Error, Result};
use ring::hkdf::Prk;
use ring::signature::Ed25519KeyPair;

use super::cipher;
use super::material::SEED;

/// The key of one context, for derived ed25519 keys: what HKDF gives is the seed, as in Vault.
pub(super) fn derived_pair(root: &Prk, context: &[u8]) -> Result<Ed25519KeyPair> {
    let seed = cipher::derive(root, context, SEED)?;
    Ed25519KeyPair::from_seed_unchecked(&seed).map_err(Error::internal)
}
