//! What can only be known by looking through storage: how many tokens there are, and of which methods. Counted now and
//! then, in pages and by names alone, so that neither memory nor other requests feel it.

use std::collections::BTreeMap;
use std::sync::Arc;

use obol_mount::Result;
use obol_storage::View;

use super::families::{Family, Value};
use crate::core::activity::Month;
use crate::core::{Core, Live, unix_now};

impl Core {
    pub(in crate::core) async fn count_usage(&self, live: &Live) {
        match self.usage(live).await {
            Ok(usage) => self.metrics.usage.store(Some(Arc::new(usage))),
            Err(error) => {
                tracing::warn!(%error, "tokens could not be counted for the metrics; it is tried again");
            }
        }
    }

    async fn usage(&self, live: &Live) -> Result<Vec<Family>> {
        let total = live.tokens.count(None, u64::MAX).await?;
        // Those that a method issued; the rest came from other tokens.
        let mut by_method: BTreeMap<String, u64> = BTreeMap::new();
        let mut issued = 0;
        for mounted in live.mounts.all() {
            if !mounted.entry.path.starts_with("auth/") {
                continue;
            }
            let issuer = Some(mounted.entry.uuid.as_str());
            let own = live.tokens.count(issuer, u64::MAX).await?;
            *by_method.entry(mounted.entry.kind.clone()).or_default() += own;
            issued += own;
        }
        *by_method.entry("token".into()).or_default() += total.saturating_sub(issued);
        let mut by_auth = Family::new(
            "vault.token.count.by_auth",
            "Service tokens, by the kind of method that issued them.",
        );
        for (method, count) in by_method {
            let labels = vec![("auth_method", method)];
            by_auth = by_auth.with(labels, Value::Gauge(count as f64));
        }
        let entities = live.identity.count_entities().await?;
        let mut kv = Family::new(
            "vault.secret.kv.count",
            "Secrets, by the mount that keeps them.",
        );
        for mounted in live.mounts.all() {
            if let Some(count) = mounted.backend.count_secrets().await? {
                let labels = vec![("mount_point", mounted.entry.path.clone())];
                kv = kv.with(labels, Value::Gauge(count as f64));
            }
        }
        let active = live.activity.count_names(Month::of(unix_now())).await?;
        let leases = View::new(self.barrier.clone(), "core/lease/")?;
        let (entries, irrevocable) = (
            leases.count("entry/").await?,
            leases.count("irrevocable/").await?,
        );
        Ok(vec![
            Family::new("vault.expire.num_leases", "Leases.")
                .with(Vec::new(), Value::Gauge(entries as f64)),
            Family::new(
                "vault.expire.num_irrevocable_leases",
                "Leases that could not be revoked.",
            )
            .with(Vec::new(), Value::Gauge(irrevocable as f64)),
            Family::new("vault.token.count", "Service tokens.")
                .with(Vec::new(), Value::Gauge(total as f64)),
            by_auth,
            kv,
            Family::new("vault.identity.num_entities", "Entities.")
                .with(Vec::new(), Value::Gauge(entities as f64)),
            Family::new(
                "vault.identity.entity.active.partial_month",
                "Entities that used the server in the present month.",
            )
            .with(Vec::new(), Value::Gauge(active.entities as f64)),
            Family::new(
                "vault.identity.nonentity.active.partial_month",
                "Clients without an entity that used the server in the present month.",
            )
            .with(Vec::new(), Value::Gauge(active.tokens as f64)),
        ])
    }
}
