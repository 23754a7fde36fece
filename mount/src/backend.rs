//! How a backend is opened, what the core may ask of it besides its routes, and how it is registered.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use obol_storage::{Batch, View};
use serde_json::{Map, Value};

use crate::{Attempts, Error, LeaseRenewal, Result, RouteTable, TokenParams};

/// Auth methods live under `auth/`, secrets engines anywhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    Auth,
    Secrets,
}

/// What a backend is opened with.
#[derive(Clone)]
pub struct MountContext {
    /// The mount's own part of storage, encrypted, and nothing outside it.
    pub storage: View,
    /// What all mounts of this kind have in common. It outlives each of them, so it is for facts that are true
    /// whatever is mounted: a Kerberos proof that was used at one mount is used at every other.
    pub shared: View,
    /// Identifies the mount for its whole life, also when it is moved.
    pub uuid: String,
    /// The `options` that the mount was enabled with, such as kv's `version`.
    pub options: std::collections::BTreeMap<String, String>,
    /// Counts attempts with secrets that can be guessed, and knows who is locked.
    pub attempts: Attempts,
}

/// A mounted auth method or secrets engine.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Typed routes, with their handlers; built once when the mount is opened.
    fn routes(self: Arc<Self>) -> Result<RouteTable>;

    /// Whether logins here are for a role, which a rate limit may name.
    fn has_roles(&self) -> bool {
        false
    }

    /// The role that a login with these fields is for, by its one name, whoever sends it and however it is spelled
    /// (threats: `alias-case`). `None`: no role, or one that there is not. Asked before the login is looked at, and only
    /// where a rate limit names a role.
    async fn login_role(&self, fields: &Map<String, Value>) -> Result<Option<String>> {
        let _ = fields;
        Ok(None)
    }

    /// May a token that this mount issued be renewed? Looks at the proof again, where it can: a user
    /// who is gone must not live on by renewals (threats: `renew-with-other-identity`).
    ///
    /// `internal` is what the login stored. `policies` are those that the token was issued with: the login's,
    /// those of `token_policies`, and `default` unless it was left out (see [`crate::same_policies`]).
    async fn renew(&self, internal: &Map<String, Value>, policies: &[String]) -> Result<Renewal> {
        let _ = (internal, policies);
        Err(Error::bad_request(
            "tokens of this auth method cannot be renewed",
        ))
    }

    /// Adds to `batch` what this mount keeps for one token and must lose with it.
    fn forget_token(&self, token_id: &str, batch: &mut Batch) {
        let _ = (token_id, batch);
    }

    /// Renews a lease that this mount handed out. `internal` is what the lease was registered with, `increment` what
    /// was asked for (zero: nothing). The core keeps to the limits of the lease and of the mount in any case; an
    /// engine with something outside moves its end there.
    async fn renew_lease(
        &self,
        internal: &Map<String, Value>,
        increment: Duration,
    ) -> Result<LeaseRenewal> {
        let _ = (internal, increment);
        Ok(LeaseRenewal::default())
    }

    /// Takes back what a lease gave. Called again until it answers `Ok`, also after a crash and for an intent whose
    /// outside act never happened: what is gone already is `Ok`. The default has nothing outside to take back.
    async fn revoke_lease(&self, internal: &Map<String, Value>) -> Result<()> {
        let _ = internal;
        Ok(())
    }

    /// What this mount has counted so far, for the metrics: names below `obol.` and the counts, which may begin again
    /// when its configuration is written. Looks at memory alone.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// How many secrets the mount keeps, where it keeps any. Asked for now and then, for the metrics.
    async fn count_secrets(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// May the mount go on with these options? Adds to `batch` what must become durable together with them; the mount
    /// is opened anew afterwards. Returns what to warn of.
    fn change_options(
        &self,
        options: &BTreeMap<String, String>,
        batch: &mut Batch,
    ) -> Result<Vec<String>> {
        let _ = (options, batch);
        Err(Error::bad_request(
            "the options of this mount cannot be changed after it was enabled: enable another mount and copy what it holds",
        ))
    }

    /// Called about once a minute: drop what has expired. Errors are logged by the core.
    async fn tidy(&self, now: SystemTime) -> Result<()> {
        let _ = now;
        Ok(())
    }
}

/// A renewal that a backend allows.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    /// The mount's present token settings; its limits apply from now on.
    pub token: TokenParams,
    /// Caps the TTL below what was asked, for example at the end of a ticket. `None`: no cap of its own.
    pub at_most: Option<Duration>,
    /// The external groups as they are now, as [`crate::Login::group_aliases`] has them at a login. `None`: this
    /// method cannot tell without a proof, and the memberships stay as they are.
    pub group_aliases: Option<Vec<String>>,
}

pub type OpenFuture = Pin<Box<dyn Future<Output = Result<Arc<dyn Backend>>> + Send>>;

/// A registered kind of backend: one line in the registry of its crate.
#[derive(Clone)]
pub struct Kind {
    /// The `type` that `auth enable` and `secrets enable` take.
    pub name: &'static str,
    /// Other names for it, each with the options that the name means: `kv-v2` is `kv` with version 2.
    pub aliases: &'static [KindAlias],
    pub family: Family,
    /// One line for listings and help.
    pub about: &'static str,
    pub open: Arc<dyn Fn(MountContext) -> OpenFuture + Send + Sync>,
    /// The routes without a mount, for documents and `path-help`. Handlers in it are never called.
    pub docs: fn() -> Result<Vec<crate::RouteDoc>>,
}

/// Another name for a kind, and the options of the mount that go with it.
pub type KindAlias = (&'static str, &'static [(&'static str, &'static str)]);

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kind")
            .field("name", &self.name)
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}
