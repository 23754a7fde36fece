//! Lease counts: how many tokens and leases a mount, or the whole server, may have out at a time. They are counted
//! where they are indexed, page by page and never beyond the limit, so a count is right whoever made or ended them;
//! requests that are at work at the same moment may exceed it by as many as they are.

use std::collections::BTreeMap;

use obol_mount::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{Asking, Quotas, Target, check_new};
use crate::core::Live;
use crate::core::mounts::Mounted;

/// So many tokens and leases at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaseCount {
    #[serde(flatten)]
    pub target: Target,
    pub max_leases: u64,
}

/// Lease counts by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LeaseCounts(pub BTreeMap<String, LeaseCount>);

impl LeaseCounts {
    /// Adds or replaces a quota.
    pub fn set(&mut self, name: &str, quota: LeaseCount) -> Result<()> {
        let others = self.0.iter().map(|(name, quota)| (name, &quota.target));
        check_new(name, &quota.target, others)?;
        self.0.insert(name.to_owned(), quota);
        Ok(())
    }
}

impl LeaseCount {
    /// How many there are now. Beyond the limit it is not exact.
    pub async fn counter(&self, live: &Live) -> Result<u64> {
        let mount = match self.target.path.as_str() {
            "" => None,
            path => match live.mounts.get(path) {
                Some(mounted) => Some(mounted.entry.uuid.clone()),
                None => return Ok(0),
            },
        };
        let most = self.max_leases.saturating_add(1);
        let tokens = match &mount {
            Some(mount) => live.tokens.count(Some(mount), most).await?,
            None => live.tokens.count_ending(most).await?,
        };
        let leases = live.leases.count(mount.as_deref(), most).await?;
        Ok(tokens.saturating_add(leases))
    }
}

impl Quotas {
    /// Whether a mount may give out one token or lease more; no mount is `auth/token`. Batch tokens are refused like
    /// others, but do not count, as in Vault.
    pub async fn admit(&self, live: &Live, mounted: Option<&Mounted>) -> Result<()> {
        let quotas = self.lease_counts.get();
        if quotas.0.is_empty() {
            return Ok(());
        }
        let path = mounted.map_or("auth/token", |m| m.entry.path.trim_end_matches('/'));
        let asking = Asking {
            path,
            role: None,
            peer: None,
        };
        let fitting = quotas.0.values().filter(|quota| quota.target.fits(&asking));
        let Some(quota) = fitting.max_by_key(|quota| quota.target.rank()) else {
            return Ok(());
        };
        if quota.counter(live).await? >= quota.max_leases {
            return Err(Error::too_many(format!(
                "request path {path:?}: lease count quota exceeded"
            )));
        }
        Ok(())
    }
}
