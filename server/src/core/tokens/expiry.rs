//! Expiry: an index in storage, ordered by time. The worker reads its front and never more; unsealing
//! reads nothing of it.

use obol_mount::Result;

use super::revoke::Forget;
use super::{TokenId, Tokens};

const PAGE: usize = 256;

impl Tokens {
    /// Revokes what has ended by `now`. Returns how many tokens that were.
    pub async fn expire(&self, now: u64, forget: &Forget<'_>) -> Result<u64> {
        let end = format!("expiry/{:016x}/", now.saturating_add(1));
        let mut expired = 0;
        loop {
            let due = self.storage.scan("expiry/", Some(&end), PAGE).await?;
            if due.is_empty() {
                return Ok(expired);
            }
            for (path, _) in due {
                let Some(id) = path.rsplit('/').next().map(TokenId::stored) else {
                    continue;
                };
                let ended = self
                    .read(&id)
                    .await?
                    .is_some_and(|entry| entry.is_expired(now));
                if ended {
                    self.revoke(&id, forget).await?;
                    expired += 1;
                }
                // Gone with the token; of a token that is gone or was renewed it is a leftover.
                self.storage.delete(&path).await?;
            }
        }
    }
}
