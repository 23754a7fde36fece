//! Registering: what an engine hands out becomes a lease in one commit, or is taken back.

use std::sync::Arc;
use std::time::Duration;

use obol_mount::{Error, Lease, Response, Result};
use obol_storage::{Batch, Error as StorageError};

use super::{LeaseEntry, Leases};
use crate::core::mounts::Mounted;
use crate::core::tokens::{Belonging, Cached, Limits, TokenId};
use crate::core::{Live, unix_now};

impl Live {
    /// Registers the lease of an answer, if it has one. When this fails, the client gets nothing, and what the engine
    /// gave is taken back, now or by the worker.
    pub async fn register_lease(
        &self,
        mounted: &Arc<Mounted>,
        limits: Limits,
        path: &str,
        token: Option<&Cached>,
        response: &mut Response,
    ) -> Result<()> {
        // One that has an id is registered, and was renewed.
        let Some(lease) = response.lease.as_mut().filter(|lease| lease.id.is_empty()) else {
            return Ok(());
        };
        if lease.ttl.is_zero() {
            lease.ttl = limits.default_ttl;
        }
        if lease.hint {
            return Ok(());
        }
        let now = unix_now();
        let max_ttl = match lease.max_ttl.is_zero() {
            true => limits.max_ttl,
            false => lease.max_ttl.min(limits.max_ttl),
        };
        if lease.ttl > max_ttl {
            lease.ttl = max_ttl;
        }
        let mut latest = now.saturating_add(max_ttl.as_secs());
        let owner = match token {
            Some(token) if token.caller().token_id.is_empty() => {
                // A batch token cannot be looked for, so its leases end with it, and go with its parent.
                let ends = token.entry.expires.unwrap_or(latest);
                latest = latest.min(ends);
                token.entry.parent.clone()
            }
            Some(token) => Some(token.id.clone()),
            None => None,
        };
        let expires = now.saturating_add(lease.ttl.as_secs()).min(latest);
        lease.ttl = Duration::from_secs(expires.saturating_sub(now));
        let entry = LeaseEntry {
            token: owner,
            mount: mounted.entry.uuid.clone(),
            issued: now,
            ttl: lease.ttl.as_secs(),
            expires,
            latest,
            renewable: lease.renewable,
            last_renewal: None,
            next: Some(expires),
            revoking: false,
            failures: 0,
            error: None,
            internal: std::mem::take(&mut lease.internal),
        };
        let id = format!("{path}/{}", self.tokens.random_base62(RANDOM)?.as_str());
        let refused = match token {
            None => Some(Error::internal("a lease for a request without a token")),
            // The request has spent the token's last use: the lease would go with it before the client has read it.
            Some(token) if token.entry.uses_left == Some(0) => Some(Error::bad_request(
                "this was the token's last use, so a lease would be revoked at once: nothing was handed out",
            )),
            Some(_) => None,
        };
        let written = match refused {
            Some(error) => Err(error),
            None => match self.quotas.admit(self, Some(mounted)).await {
                Ok(()) => self.write_lease(&id, &entry, lease, now).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = written {
            self.abandon(mounted, &id, entry, lease, now).await;
            return Err(error);
        }
        // The mount may have been disabled while this request was at work: its leases were revoked then, and this
        // one must not be left behind.
        if self.mounts.by_uuid(&mounted.entry.uuid).is_none() {
            self.abandon(mounted, &id, entry, lease, now).await;
            return Err(Error::not_found_because("the engine is being disabled"));
        }
        lease.id = id;
        Ok(())
    }

    /// Queues the lease of an answer that the client never gets.
    pub async fn take_back_lease(&self, response: &Response) {
        let registered = response.lease.as_ref().filter(|lease| !lease.id.is_empty());
        if let Some(lease) = registered
            && let Err(error) = self.revoke_lease_later(&lease.id).await
        {
            tracing::error!(lease = lease.id, %error, "a lease that could not be given out could not be revoked");
        }
    }

    async fn write_lease(
        &self,
        id: &str,
        entry: &LeaseEntry,
        lease: &Lease,
        now: u64,
    ) -> Result<()> {
        loop {
            let mut batch = Batch::new();
            let mut contended = None;
            if let Some(token) = &entry.token {
                // The token must live, or the lease would outlive it (threats: `child-outlives-parent`).
                let path = self
                    .tokens
                    .hang_on(token, Belonging::Lease, &mut batch, now)
                    .await?;
                contended = Some(path);
            }
            self.leases.put_in(&mut batch, id, None, entry)?;
            if let Some(intent) = &lease.intent {
                intent.settle_in(&mut batch);
            }
            match self.leases.storage.commit(batch).await {
                Ok(()) => return Ok(()),
                // The token has ended; or it was renewed or used up, or its first child or lease noted, at the same moment.
                Err(StorageError::Conflict { path }) if contended.as_ref() == Some(&path) => {
                    entry
                        .token
                        .iter()
                        .for_each(|token| self.tokens.was_changed(token));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes back what was given for a lease that did not come to be: it is written as one that is to be revoked, so
    /// that revoking is tried until it works. Where even that cannot be written, it is revoked here and now; and
    /// what has an intent is found by it.
    async fn abandon(
        &self,
        mounted: &Mounted,
        id: &str,
        mut entry: LeaseEntry,
        lease: &Lease,
        now: u64,
    ) {
        entry.token = None;
        entry.revoking = true;
        entry.next = Some(now);
        if let Err(error) = self.leases.replace(id, &entry, lease).await {
            tracing::error!(lease = id, %error, "a lease that was refused could not be written down; it is revoked directly");
            if let Err(error) = mounted.backend.revoke_lease(&entry.internal).await {
                tracing::error!(lease = id, %error, "a lease that was refused could not be revoked");
            }
            return;
        }
        if let Err(error) = self.revoke_lease_with(mounted, id).await {
            tracing::warn!(lease = id, %error, "a lease that was refused could not be revoked yet; it is tried again");
        }
    }
}

impl Leases {
    /// Writes a lease, whether or not there is one of this id.
    async fn replace(&self, id: &str, entry: &LeaseEntry, lease: &Lease) -> Result<()> {
        let mut batch = Batch::new();
        let old = self.seen(id).await?;
        let old = old.as_ref().map(|(entry, seen)| (entry, seen));
        self.put_in(&mut batch, id, old, entry)?;
        if let Some(intent) = &lease.intent {
            intent.settle_in(&mut batch);
        }
        Ok(self.storage.commit(batch).await?)
    }

    /// Marks the leases of a dead token as due, a page of them; `false` when it has none.
    pub async fn surrender(&self, token: &TokenId) -> Result<bool> {
        let folder = format!("token/{token}/");
        let page = self.storage.scan_folder(&folder, None, super::PAGE).await?;
        if page.is_empty() {
            return Ok(false);
        }
        let ids: Vec<String> = page
            .iter()
            .filter_map(|(path, _)| path.strip_prefix(&folder).map(str::to_owned))
            .collect();
        self.mark_due(&ids, |entry| entry.token = None).await?;
        // Of a lease that is gone, or no longer this token's, it is a leftover.
        let mut batch = Batch::new();
        for (path, _) in &page {
            self.storage.delete_in(&mut batch, path);
        }
        self.storage.commit(batch).await?;
        Ok(true)
    }
}

/// Random characters of a lease id; 24 of base62 carry 142 bits.
const RANDOM: usize = 24;
