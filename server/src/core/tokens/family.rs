//! What hangs on a token: children and leases. Its record says whether anything ever did, and is the place where a
//! birth and a death meet: whoever hangs something on a token expects that record, whoever kills the token removes it.
//! So nothing is born below a dead token, and a token without a family dies in one commit.

use obol_mount::{Error, Result};
use obol_storage::Batch;
use serde::{Deserialize, Serialize};

use super::{TokenEntry, TokenId, Tokens};

/// What hangs, or once hung, on a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Belongings {
    #[serde(default, skip_serializing_if = "is_false")]
    children: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    leases: bool,
}

/// What is hung on a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belonging {
    Child,
    Lease,
}

impl Belongings {
    pub(super) fn is_none(&self) -> bool {
        !self.children && !self.leases
    }

    fn has(&self, what: Belonging) -> bool {
        match what {
            Belonging::Child => self.children,
            Belonging::Lease => self.leases,
        }
    }

    /// Notes that something hangs there; `false` when that was known.
    fn note(&mut self, what: Belonging) -> bool {
        let noted = match what {
            Belonging::Child => &mut self.children,
            Belonging::Lease => &mut self.leases,
        };
        !std::mem::replace(noted, true)
    }
}

impl Tokens {
    /// Adds to `batch` that the token lives when it is committed, and notes on it that something hangs there. Returns
    /// the path whose conflict says that the token has ended, or that somebody changed it at the same moment: tell
    /// [`Tokens::was_changed`], and try again.
    pub async fn hang_on(
        &self,
        token: &TokenId,
        what: Belonging,
        batch: &mut Batch,
        now: u64,
    ) -> Result<String> {
        // The cache may be asked: that the token lives is what the expectation below proves.
        let known = self.get(token, now).await?.ok_or_else(Error::forbidden)?;
        let path = Self::path_of(token);
        // What was noted stays noted, so that all that matters is whether the record is there.
        if known.entry.belongings.has(what) {
            self.storage.expect_present_in(batch, &path);
            return Ok(self.storage.full(&path));
        }
        let Some((mut entry, seen)) = self.storage.get_json_seen::<TokenEntry>(&path).await? else {
            return Err(Error::forbidden());
        };
        if entry.belongings.note(what) {
            self.storage.expect_in(batch, &path, &seen);
            self.storage.put_json_in(batch, &path, &entry)?;
        } else {
            self.storage.expect_present_in(batch, &path);
            // It was put there before the note was made. The next one finds it noted.
            self.cache.remove(token);
        }
        Ok(self.storage.full(&path))
    }

    /// A conflict at the path that [`Tokens::hang_on`] returned: storage knows better than the cache.
    pub fn was_changed(&self, token: &TokenId) {
        self.cache.remove(token);
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}
