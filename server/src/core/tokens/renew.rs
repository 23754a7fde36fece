//! Renewing: a later end, within every limit, moved in one commit with the expiry index.

use std::time::Duration;

use obol_mount::{Error, Result, TokenParams};
use obol_storage::{Batch, Error as StorageError};

use super::{Limits, TokenEntry, TokenId, Tokens};

impl Tokens {
    /// Renews a token: `increment` is what was asked (zero: the default), `params` are the issuer's present
    /// settings. Returns the new record and warnings about what was capped.
    pub async fn renew(
        &self,
        id: &TokenId,
        increment: Duration,
        params: &TokenParams,
        at_most: Option<Duration>,
        limits: Limits,
        now: u64,
    ) -> Result<(TokenEntry, Vec<String>)> {
        let path = Self::path_of(id);
        for _ in 0..16 {
            let Some((mut entry, seen)) = self.storage.get_json_seen::<TokenEntry>(&path).await?
            else {
                return Err(Error::forbidden());
            };
            let Some(old) = entry.expires.filter(|expires| *expires > now) else {
                return Err(Error::bad_request(
                    "this token cannot be renewed: it has no end",
                ));
            };
            if !entry.renewable {
                return Err(Error::bad_request("this token is not renewable"));
            }
            let mut warnings = Vec::new();
            let ttl = renewed_ttl(
                &entry,
                increment,
                params,
                at_most,
                limits,
                now,
                &mut warnings,
            );
            entry.expires = Some(now.saturating_add(ttl.as_secs()));
            entry.last_renewal = Some(now);
            entry.period = params.period.as_secs();
            let mut batch = Batch::new();
            self.storage.expect_in(&mut batch, &path, &seen);
            self.storage
                .delete_in(&mut batch, &Self::expiry_path(old, id));
            self.storage.put_in(
                &mut batch,
                &Self::expiry_path(now.saturating_add(ttl.as_secs()), id),
                Vec::new(),
            );
            self.storage.put_json_in(&mut batch, &path, &entry)?;
            match self.storage.commit(batch).await {
                Ok(()) => {
                    self.cache.remove(id);
                    return Ok((entry, warnings));
                }
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::unavailable("the token is in heavy use; try again"))
    }
}

fn renewed_ttl(
    entry: &TokenEntry,
    increment: Duration,
    params: &TokenParams,
    at_most: Option<Duration>,
    limits: Limits,
    now: u64,
    warnings: &mut Vec<String>,
) -> Duration {
    let secs = Duration::from_secs;
    // What the issuer says now, also where it says that its tokens are not periodic any more.
    let period = params.period.min(limits.max_ttl);
    let mut ttl = match (period.is_zero(), increment.is_zero(), params.ttl.is_zero()) {
        (false, _, _) => period,
        (true, false, _) => increment,
        (true, true, false) => params.ttl,
        (true, true, true) => limits.default_ttl,
    };
    let age = now.saturating_sub(entry.created);
    let mut cap = |total: Duration, what: &str| {
        if total.is_zero() {
            return;
        }
        let left = secs(total.as_secs().saturating_sub(age));
        if ttl > left {
            warnings.push(format!(
                "TTL was capped at {:?} by the {what}",
                obol_mount::duration::format(left)
            ));
            ttl = left;
        }
    };
    // A periodic token lives as long as somebody renews it: no maximum but an explicit one.
    if period.is_zero() {
        cap(limits.max_ttl, "mount's max_ttl");
        cap(params.max_ttl, "token's max_ttl");
    }
    cap(secs(entry.explicit_max_ttl), "explicit_max_ttl");
    cap(params.explicit_max_ttl, "explicit_max_ttl");
    match at_most {
        Some(limit) if ttl > limit => limit,
        _ => ttl,
    }
}
