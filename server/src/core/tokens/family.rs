//! What hangs on a token: children and leases. The accessor's record says whether anything ever did, and is the
//! place where a birth and a death meet: whoever hangs something on a token expects that record, whoever kills the
//! token removes it. So nothing is born below a dead token, and a token without a family dies in one commit.

use obol_mount::{Error, Result};
use obol_storage::{Batch, Seen};
use serde::{Deserialize, Serialize};

use super::{TokenId, Tokens};

/// The record under `accessor/<accessor>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AccessorRecord {
    pub(super) id: TokenId,
    /// Has, or once had, children.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) parent: bool,
    /// Has, or once had, leases.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) lessee: bool,
}

/// What is hung on a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belonging {
    Child,
    Lease,
}

impl AccessorRecord {
    pub(super) fn new(id: TokenId) -> Self {
        Self {
            id,
            parent: false,
            lessee: false,
        }
    }

    pub(super) fn has_family(&self) -> bool {
        self.parent || self.lessee
    }
}

impl Tokens {
    /// Adds to `batch` that the token lives when it is committed, and notes on it that something hangs there. Returns
    /// the path whose conflict says that somebody else did the same at the same moment: try again.
    pub async fn hang_on(
        &self,
        token: &TokenId,
        what: Belonging,
        batch: &mut Batch,
        now: u64,
    ) -> Result<String> {
        // The cache may be asked: that the token lives is what the expectation below proves.
        let holder = self.get(token, now).await?.ok_or_else(Error::forbidden)?;
        let path = Self::accessor_path(&holder.entry.accessor);
        let Some((mut record, seen)) = self.accessor(&holder.entry.accessor).await? else {
            return Err(Error::forbidden());
        };
        self.storage.expect_in(batch, &path, &seen);
        let noted = match what {
            Belonging::Child => &mut record.parent,
            Belonging::Lease => &mut record.lessee,
        };
        if !*noted {
            *noted = true;
            self.storage.put_json_in(batch, &path, &record)?;
        }
        Ok(self.storage.full(&path))
    }

    pub(super) async fn accessor(&self, accessor: &str) -> Result<Option<(AccessorRecord, Seen)>> {
        Ok(self
            .storage
            .get_json_seen(&Self::accessor_path(accessor))
            .await?)
    }

    pub(super) fn accessor_path(accessor: &str) -> String {
        format!("accessor/{accessor}")
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}
