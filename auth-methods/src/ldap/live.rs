//! What logins use: the directory with its kept connections, and the group map.

use std::sync::Arc;

use obol_mount::{Error, Result};

use super::CONFIG;
use super::config::StoredConfig;
use crate::directory::groups::GroupMap;
use crate::directory::users::Users;
use crate::live::{Built, Part, part};
use crate::store::Store;

/// The configuration at one generation.
pub(super) struct Snapshot {
    users: Option<Part<Users>>,
    pub(super) groups: GroupMap,
}

impl Built for Snapshot {
    async fn build(store: &Store, old: Option<&Self>) -> Result<Self> {
        let old = old.and_then(|old| old.users.as_ref());
        let users = part(store, CONFIG, old, |record: StoredConfig| record.users()).await?;
        Ok(Self {
            users,
            groups: GroupMap::read(store).await?,
        })
    }
}

impl Snapshot {
    pub(super) fn users(&self) -> Option<&Arc<Users>> {
        self.users.as_ref().map(|(_, users)| users)
    }

    /// The same; without it, what to configure.
    pub(super) fn configured(&self, mount: &str) -> Result<&Arc<Users>> {
        self.users().ok_or_else(|| {
            Error::bad_request(format!(
                "LDAP is not configured: write the directory to {mount}config"
            ))
        })
    }
}
