//! What logins use: the configuration with the keys that it leads to.

use std::sync::Arc;

use obol_mount::{Error, Result};

use super::CONFIG;
use super::config::{StoredConfig, Verifier};
use crate::live::{Built, Part, part};
use crate::store::Store;

/// The configuration at one generation.
pub(super) struct Snapshot {
    verifier: Option<Part<Verifier>>,
}

impl Built for Snapshot {
    async fn build(store: &Store, old: Option<&Self>) -> Result<Self> {
        let old = old.and_then(|old| old.verifier.as_ref());
        let verifier = part(store, CONFIG, old, |record: StoredConfig| record.verifier()).await?;
        Ok(Self { verifier })
    }
}

impl Snapshot {
    /// Without a configuration, what to write.
    pub(super) fn verifier(&self) -> Option<&Arc<Verifier>> {
        self.verifier.as_ref().map(|(_, verifier)| verifier)
    }

    pub(super) fn configured(&self, mount: &str) -> Result<&Arc<Verifier>> {
        self.verifier().ok_or_else(|| {
            Error::bad_request(format!(
                "JWT is not configured: write whose tokens are accepted to {mount}config"
            ))
        })
    }
}
