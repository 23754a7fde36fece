//! The server without a network. [`request`] is the life of a request, [`sealing`] what comes before it: init,
//! unseal, seal. What exists only while unsealed hangs on [`Live`], and is gone when that is dropped.

pub mod activity;
pub mod audit;
mod auth_token;
mod collect;
pub mod cors;
mod envelope;
pub mod generate_root;
pub mod handing_out;
pub mod identity;
pub mod in_flight;
pub mod leases;
pub mod lockout;
pub mod logs;
pub mod metrics;
pub mod mounts;
pub mod password_policies;
pub mod path;
pub mod policies;
pub mod policy_store;
pub mod quotas;
pub mod rekey;
pub mod remount;
pub mod request;
mod rights;
pub mod rotation;
pub mod sanitized;
pub mod sealing;
pub mod setting;
mod settle;
mod sys;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod ui_headers;
mod upkeep;
pub mod versions;
pub mod wrapping;

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use obol_mount::{Document, Error, Family, Kind, MountDoc, Result};
use obol_storage::seal::RekeyTarget;
use obol_storage::{Barrier, Engine, View};
use serde_json::Value;

use activity::Activity;
use audit::Audit;
use audit::headers::AuditedHeaders;
use cors::Cors;
use generate_root::RootGeneration;
use identity::Identity;
use in_flight::InFlight;
use leases::{Leases, Patience};
use lockout::{Lockout, LockoutStanzas};
use logs::Logs;
use metrics::{Metrics, Telemetry};
use mounts::{MountEntry, Mounted, Mounts};
use password_policies::PasswordPolicies;
use policy_store::PolicyStore;
use quotas::Quotas;
use rekey::Rekeying;
use remount::Remounts;
use sanitized::Sanitized;
use sealing::Sealing;
use setting::Setting;
use tokens::{Forget, Limits, TokenId, Tokens};
use ui_headers::UiHeaders;
use wrapping::Wrapping;

/// This build's version, as every status shows it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the core is told by the configuration file.
#[derive(Debug, Clone)]
pub struct Settings {
    pub default_lease_ttl: Duration,
    pub max_lease_ttl: Duration,
    /// The address that clients should use, for `sys/leader`.
    pub api_addr: String,
    pub cluster_name: String,
    pub telemetry: Telemetry,
    /// The configuration without anything secret, for `sys/config/state/sanitized`.
    pub sanitized: Sanitized,
    /// Whether `sys/raw` shows what is stored.
    pub raw_storage: bool,
    /// After how many failed logins a name is locked.
    pub lockout: LockoutStanzas,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_lease_ttl: Duration::from_secs(32 * 86_400),
            max_lease_ttl: Duration::from_secs(32 * 86_400),
            api_addr: String::new(),
            cluster_name: "obol".into(),
            telemetry: Telemetry::default(),
            sanitized: Sanitized::default(),
            raw_storage: false,
            lockout: LockoutStanzas::new(),
        }
    }
}

/// One server.
pub struct Core {
    pub(crate) barrier: Arc<Barrier>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) settings: Settings,
    pub(crate) sealing: Sealing,
    pub(crate) metrics: Metrics,
    /// The server's own log; a core without a server around it has none.
    logs: OnceLock<Arc<Logs>>,
    /// What the listeners are working on.
    pub(crate) in_flight: InFlight,
    /// Whose turn it is to take or restore a snapshot.
    pub(crate) snapshots: Arc<tokio::sync::Semaphore>,
    kinds: Arc<[Kind]>,
    patience: Patience,
    live: ArcSwapOption<Live>,
    /// `sys/`, which answers a few paths while sealed too.
    system: OnceLock<Arc<Mounted>>,
}

/// Everything that an unsealed server has.
pub struct Live {
    pub mounts: Mounts,
    pub tokens: Tokens,
    pub identity: Identity,
    pub leases: Leases,
    pub policies: PolicyStore,
    pub audit: Audit,
    pub lockout: Arc<Lockout>,
    pub activity: Activity,
    pub password_policies: PasswordPolicies,
    rekeying: Rekeying,
    recovery_rekeying: Rekeying,
    root_generation: RootGeneration,
    pub wrapping: Wrapping,
    remounts: Remounts,
    pub quotas: Quotas,
    pub cors: Setting<Cors>,
    pub ui_headers: Setting<UiHeaders>,
}

impl Core {
    pub fn new(
        engine: Arc<dyn Engine>,
        seal: obol_storage::seal::Seal,
        settings: Settings,
    ) -> Result<Arc<Self>> {
        let kinds: Arc<[Kind]> = obol_auth_methods::kinds()
            .into_iter()
            .chain(obol_secrets_engines::kinds())
            .collect::<Vec<_>>()
            .into();
        Self::with_kinds(engine, seal, settings, kinds, Patience::default())
    }

    /// A server with other backends than those that are built in, and its own pace of trying again.
    fn with_kinds(
        engine: Arc<dyn Engine>,
        seal: obol_storage::seal::Seal,
        settings: Settings,
        kinds: Arc<[Kind]>,
        patience: Patience,
    ) -> Result<Arc<Self>> {
        let core = Arc::new(Self {
            barrier: Arc::new(Barrier::new(engine.clone())),
            engine,
            settings,
            sealing: Sealing::new(seal),
            metrics: Metrics::default(),
            logs: OnceLock::new(),
            in_flight: InFlight::default(),
            snapshots: Arc::new(tokio::sync::Semaphore::new(1)),
            kinds,
            patience,
            live: ArcSwapOption::empty(),
            system: OnceLock::new(),
        });
        let backend = Arc::new(sys::System::new(Arc::downgrade(&core)));
        let system = Arc::new(Mounted::new(
            own_mount("sys", "system", Family::Secrets),
            backend,
        )?);
        // The cell was made empty three statements ago.
        let _ = core.system.set(system);
        Ok(core)
    }

    /// What an unsealed server has, or 503.
    pub fn live(&self) -> Result<Arc<Live>> {
        self.live
            .load_full()
            .ok_or_else(|| Error::unavailable("Obol is sealed"))
    }

    pub fn is_sealed(&self) -> bool {
        self.live.load().is_none()
    }

    /// Lets `sys/loggers` and `sys/monitor` at the server's log. Once, before it serves.
    pub fn attach_logs(&self, logs: Arc<Logs>) {
        let _ = self.logs.set(logs);
    }

    pub(crate) fn logs(&self) -> Result<&Arc<Logs>> {
        self.logs
            .get()
            .ok_or_else(|| Error::unavailable("the server has no log to show"))
    }

    /// Ends what would keep connections open for ever.
    pub fn end_streams(&self) {
        if let Some(logs) = self.logs.get() {
            logs.end_monitors();
        }
    }

    /// Opens audit files anew: after a log rotation, on SIGHUP.
    pub fn reopen_audit(&self) {
        if let Some(live) = &*self.live.load() {
            live.audit.reopen();
        }
    }

    /// Which pages of other origins may ask; `None` when none may, or while sealed.
    pub(crate) fn cors(&self) -> Option<Arc<Cors>> {
        let cors = self.live.load().as_ref()?.cors.get();
        cors.is_enabled().then_some(cors)
    }

    /// Headers for the pages; none while sealed.
    pub(crate) fn ui_headers(&self) -> Option<Arc<UiHeaders>> {
        let headers = self.live.load().as_ref()?.ui_headers.get();
        (!headers.0.is_empty()).then_some(headers)
    }

    /// The headers of requests that are audited, where there are any and somebody audits.
    pub(crate) fn audited_headers(&self) -> Option<Arc<AuditedHeaders>> {
        let live = self.live.load();
        let audit = &live.as_ref()?.audit;
        let headers = audit.headers.get();
        (audit.is_enabled() && !headers.0.is_empty()).then_some(headers)
    }

    fn system(&self) -> Result<&Arc<Mounted>> {
        self.system
            .get()
            .ok_or_else(|| Error::internal("the server is still starting"))
    }

    /// The TTL limits of a mount: its own tuning within the system's.
    pub fn limits(&self, mount: Option<&MountEntry>) -> Limits {
        let own = |ttl: obol_mount::fields::Ttl| (!ttl.0.is_zero()).then_some(ttl.0);
        let max_ttl = mount
            .and_then(|m| own(m.config.max_lease_ttl))
            .unwrap_or(self.settings.max_lease_ttl);
        let default_ttl = mount
            .and_then(|m| own(m.config.default_lease_ttl))
            .unwrap_or(self.settings.default_lease_ttl);
        Limits {
            default_ttl: default_ttl.min(max_ttl),
            max_ttl,
        }
    }

    /// The OpenAPI document of the mounts that there are.
    pub(crate) fn openapi(&self, live: &Live) -> Result<Value> {
        let mut mounts = Vec::new();
        for mounted in live.mounts.all() {
            let routes = mounted
                .routes
                .routes()
                .map(|route| route.doc.clone())
                .collect();
            mounts.push(MountDoc {
                path: mounted.entry.path.clone(),
                kind: mounted.entry.kind.clone(),
                about: self.about(&mounted.entry.kind),
                routes,
            });
        }
        Ok(Document::new("Obol", VERSION, mounts).build())
    }

    /// One line about a kind of mount, whether it can be enabled or is always there.
    fn about(&self, kind: &str) -> &'static str {
        let known = self.kinds.iter().find(|known| known.name == kind);
        known.map_or_else(|| about_own(kind), |known| known.about)
    }

    async fn open_live(self: &Arc<Self>) -> Result<Arc<Live>> {
        let view = |prefix: &str| View::new(self.barrier.clone(), prefix).map_err(Error::from);
        let tokens = Tokens::open(view("core/token/")?).await?;
        let identity = Identity::new(view("core/identity/")?);
        let leases = Leases::new(view("core/lease/")?, self.patience);
        let policies = PolicyStore::new(view("core/policy/")?);
        policies.ensure_default().await?;
        self.note_version().await?;
        let audit = Audit::open(view("core/")?).await?;
        let identity_backend = Arc::new(identity::IdentityBackend::new(Arc::downgrade(self)));
        let token_backend = Arc::new(auth_token::TokenBackend::new(Arc::downgrade(self)));
        let fixed = vec![
            self.system()?.clone(),
            Arc::new(Mounted::new(
                own_mount("token", "token", Family::Auth),
                token_backend,
            )?),
            Arc::new(Mounted::new(
                own_mount("identity", "identity", Family::Secrets),
                identity_backend,
            )?),
        ];
        let lockout = Lockout::new(view("core/lockout/")?, Arc::downgrade(self));
        let mounts =
            Mounts::open(&self.barrier, self.kinds.clone(), fixed, lockout.clone()).await?;
        if mounts.get("cubbyhole/").is_none() {
            let mut entry = MountEntry::new(Family::Secrets, "cubbyhole", "cubbyhole");
            entry.description = "per-token private secret storage".into();
            entry.local = true;
            mounts.enable(entry).await?;
        }
        Ok(Arc::new(Live {
            mounts,
            tokens,
            identity,
            leases,
            policies,
            audit,
            lockout,
            activity: Activity::open(view("core/activity/")?, unix_now()).await?,
            password_policies: PasswordPolicies::new(view("core/password-policy/")?),
            rekeying: Rekeying::new(RekeyTarget::Barrier),
            recovery_rekeying: Rekeying::new(RekeyTarget::Recovery),
            root_generation: RootGeneration::default(),
            wrapping: Wrapping::new(view("core/wrapping/")?),
            remounts: Remounts::default(),
            quotas: Quotas::open(view("core/quota/")?).await?,
            cors: Setting::open(view("core/")?, "cors").await?,
            ui_headers: Setting::open(view("core/")?, "ui-headers").await?,
        }))
    }
}

impl Live {
    /// What must go with a token, as revocation takes it.
    pub fn forget(&self) -> Forget<'_> {
        Forget {
            mounts: &self.mounts,
            leases: &self.leases,
            wrapping: &self.wrapping,
        }
    }

    /// Revokes a token that is spent, or that nobody gets. Where that fails, what it was for has succeeded all the same:
    /// it is logged, and the token ends by itself.
    pub async fn discard(&self, id: &TokenId) {
        if let Err(error) = self.tokens.revoke(id, &self.forget()).await {
            tracing::error!(%error, "a token that is of no more use could not be revoked");
        }
    }

    /// Reads again what requests look at in memory and another process may have changed.
    pub async fn refresh(&self) -> Result<()> {
        self.quotas.refresh().await?;
        self.audit.headers.refresh().await?;
        self.cors.refresh().await?;
        self.activity.refresh(unix_now()).await?;
        self.ui_headers.refresh().await
    }
}

/// A mount that the server itself provides. Not stored: its data lies where the core keeps its own.
fn own_mount(path: &str, kind: &str, family: Family) -> MountEntry {
    let mut entry = MountEntry::new(family, path, kind);
    // The same on every start: clients keep accessors.
    entry.accessor = format!(
        "{}{kind}_builtin",
        if family == Family::Auth { "auth_" } else { "" }
    );
    entry.uuid = format!("builtin-{kind}");
    entry.description = match kind {
        "system" => "system endpoints used for control, policy and debugging".into(),
        "identity" => "identity store".into(),
        _ => "token based credentials".into(),
    };
    entry
}

/// Whether the body of a POST to this path is a file and not JSON.
pub(crate) use sys::takes_upload;

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// A time as answers show it.
pub(crate) fn rfc3339(unix: u64) -> Option<String> {
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(unix).ok()?).ok()?;
    time.format(&time::format_description::well_known::Rfc3339)
        .ok()
}

/// A backend's way to the core it belongs to: weak, or the two would keep each other alive.
pub(crate) fn upgrade(core: &Weak<Core>) -> Result<Arc<Core>> {
    core.upgrade()
        .ok_or_else(|| Error::unavailable("the server is shutting down"))
}

/// The OpenAPI document of a fresh server with every backend mounted where the handbook mounts it.
pub fn openapi_of_everything() -> Result<Value> {
    let mut mounts = mounts_of_everything()?;
    mounts.push(MountDoc {
        path: "kv/".into(),
        kind: "kv".into(),
        about: "Secrets by path; with -version=2 a history of versions for each",
        routes: obol_secrets_engines::kv_v1_docs()?,
    });
    Ok(Document::new("Obol", VERSION, mounts).build())
}

/// What documents know of every backend, mounted where the handbook mounts it.
pub fn mounts_of_everything() -> Result<Vec<MountDoc>> {
    let mut mounts = vec![
        MountDoc {
            path: "sys/".into(),
            kind: "system".into(),
            about: about_own("system"),
            routes: sys::routes().docs()?,
        },
        MountDoc {
            path: "auth/token/".into(),
            kind: "token".into(),
            about: about_own("token"),
            routes: auth_token::routes().docs()?,
        },
        MountDoc {
            path: "identity/".into(),
            kind: "identity".into(),
            about: about_own("identity"),
            routes: identity::routes().docs()?,
        },
    ];
    let kinds = obol_auth_methods::kinds()
        .into_iter()
        .chain(obol_secrets_engines::kinds());
    for kind in kinds {
        let path = match (kind.family, kind.name) {
            (Family::Auth, name) => format!("auth/{name}/"),
            // Where it is mounted by custom.
            (Family::Secrets, "kv") => "secret/".into(),
            (Family::Secrets, name) => format!("{name}/"),
        };
        mounts.push(MountDoc {
            path,
            kind: kind.name.into(),
            about: kind.about,
            routes: (kind.docs)()?,
        });
    }
    Ok(mounts)
}

/// One line about what is mounted in every server.
fn about_own(kind: &str) -> &'static str {
    match kind {
        "token" => "Tokens: make them, look them up, renew and revoke them",
        "identity" => {
            "Who somebody is, by whichever method they log in, and which groups they are in"
        }
        _ => "The server itself: its seal, mounts, policies, leases, quotas, audit devices",
    }
}
