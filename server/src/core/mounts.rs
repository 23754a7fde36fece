//! The mount table and the router: which backend answers for a path.
//!
//! The table is one record, changed with a precondition. A mount's data lies under its UUID, so that
//! remounting will move no data, and a new mount at an old path never sees the old one's.

mod moving;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use obol_mount::fields::{CommaList, Ttl};
use obol_mount::{Backend, Error, Family, Kind, MountContext, Result, RouteTable, TokenKind};
use obol_storage::{Barrier, Batch, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lockout::{Lockout, LockoutConfig};
use super::metrics::RouteTimings;
use super::path::RequestPath;

pub use moving::parse_table_path;

const TABLE: &str = "mounts";

/// A mount's tuning, as `sys/mounts/:path/tune` takes and shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MountConfig {
    /// Seconds; 0 means the system's default.
    #[serde(default)]
    pub default_lease_ttl: Ttl,
    /// Seconds; 0 means the system's maximum.
    #[serde(default)]
    pub max_lease_ttl: Ttl,
    /// Kept for clients that set it; every backend here reads its storage fresh or invalidates it itself.
    #[serde(default)]
    pub force_no_cache: bool,
    /// Keys of requests that the audit log shows in the clear.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub audit_non_hmac_request_keys: CommaList,
    /// Keys of responses that the audit log shows in the clear.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub audit_non_hmac_response_keys: CommaList,
    /// `unauth` shows the mount to callers without a token; `hidden` (the default) does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub listing_visibility: String,
    /// Kept for clients that set it: every backend here gets the headers that it needs.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub passthrough_request_headers: CommaList,
    /// Kept for clients that set it: every backend here sends the headers that it documents.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub allowed_response_headers: CommaList,
    /// What kind of tokens the auth method issues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<TokenKind>,
    /// After how many failed logins a name is locked, and for how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_lockout_config: Option<LockoutConfig>,
}

fn is_empty(list: &CommaList) -> bool {
    list.0.is_empty()
}

/// One line of the mount table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountEntry {
    pub uuid: String,
    /// With the family's prefix and a trailing slash: `auth/kerberos/`, `secret/`.
    pub path: String,
    /// The registered name of the backend.
    pub kind: String,
    pub accessor: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub config: MountConfig,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub local: bool,
    #[serde(default)]
    pub seal_wrap: bool,
    #[serde(default)]
    pub external_entropy_access: bool,
    /// Being disabled: takes no requests, and its removal is taken up again after a crash.
    #[serde(default)]
    pub tainted: bool,
}

impl MountEntry {
    pub fn new(family: Family, path: &str, kind: &str) -> Self {
        let path = match family {
            Family::Auth => format!("auth/{path}/"),
            Family::Secrets => format!("{path}/"),
        };
        let short: String = Uuid::new_v4()
            .simple()
            .to_string()
            .chars()
            .take(8)
            .collect();
        let family = if path.starts_with("auth/") {
            "auth_"
        } else {
            ""
        };
        Self {
            uuid: Uuid::new_v4().to_string(),
            accessor: format!("{family}{kind}_{short}"),
            path,
            kind: kind.to_owned(),
            description: String::new(),
            config: MountConfig::default(),
            options: BTreeMap::new(),
            local: false,
            seal_wrap: false,
            external_entropy_access: false,
            tainted: false,
        }
    }

    pub fn family(&self) -> Family {
        if self.path.starts_with("auth/") {
            Family::Auth
        } else {
            Family::Secrets
        }
    }

    /// The mount's own part of storage.
    pub fn storage(&self, barrier: &Arc<Barrier>) -> Result<View> {
        Ok(View::new(barrier.clone(), self.prefix())?)
    }

    /// The storage prefix of the mount's own data.
    fn prefix(&self) -> String {
        format!("mount/{}/", self.uuid)
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Table {
    mounts: Vec<MountEntry>,
    /// What mounts are tuned to that the server itself provides, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    own: BTreeMap<String, OwnTuning>,
}

/// What is kept of a mount that the server itself provides.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OwnTuning {
    description: String,
    config: MountConfig,
}

/// A mount that is open.
pub struct Mounted {
    pub entry: MountEntry,
    /// The entry's path as requests carry it: shared, not copied, on the hot path.
    pub path: Arc<str>,
    pub backend: Arc<dyn Backend>,
    pub routes: Arc<RouteTable>,
    pub timings: Arc<RouteTimings>,
}

impl Mounted {
    pub fn new(entry: MountEntry, backend: Arc<dyn Backend>) -> Result<Self> {
        let routes = Arc::new(backend.clone().routes()?);
        Ok(Self {
            path: entry.path.as_str().into(),
            entry,
            backend,
            routes,
            timings: Arc::default(),
        })
    }

    /// The same with other settings.
    fn tuned(&self, entry: MountEntry) -> Self {
        Self {
            entry,
            path: self.path.clone(),
            backend: self.backend.clone(),
            routes: self.routes.clone(),
            timings: self.timings.clone(),
        }
    }
}

impl OwnTuning {
    fn of(entry: &MountEntry) -> Self {
        Self {
            description: entry.description.clone(),
            config: entry.config.clone(),
        }
    }

    /// The mount as it is tuned.
    fn over(&self, entry: &MountEntry) -> MountEntry {
        MountEntry {
            description: self.description.clone(),
            config: self.config.clone(),
            ..entry.clone()
        }
    }
}

/// The open mounts by path. Replaced whole when the table changes.
type Router = HashMap<String, Arc<Mounted>>;

/// All mounts of an unsealed server.
pub struct Mounts {
    /// Where the table is.
    storage: View,
    kinds: Arc<[Kind]>,
    router: ArcSwap<Router>,
    /// Serialises changes of the router with those of the table.
    changing: tokio::sync::Mutex<()>,
    /// Mounts that the server itself provides: `sys/`, `auth/token/`.
    fixed: Vec<Arc<Mounted>>,
    /// Counts the failed logins of the mounts.
    lockout: Arc<Lockout>,
}

impl Mounts {
    /// Opens every mount of the table.
    pub async fn open(
        barrier: &Arc<Barrier>,
        kinds: Arc<[Kind]>,
        fixed: Vec<Arc<Mounted>>,
        lockout: Arc<Lockout>,
    ) -> Result<Self> {
        let storage = View::new(barrier.clone(), "core/")?;
        let mounts = Self {
            storage,
            kinds,
            router: ArcSwap::default(),
            changing: tokio::sync::Mutex::default(),
            fixed,
            lockout,
        };
        let table = mounts.table().await?;
        let fixed = mounts.fixed.iter().map(|m| {
            let path = m.entry.path.clone();
            let mounted = match table.own.get(&path) {
                Some(tuning) => Arc::new(m.tuned(tuning.over(&m.entry))),
                None => m.clone(),
            };
            (path, mounted)
        });
        let mut router: Router = fixed.collect();
        for entry in table.mounts {
            if entry.tainted {
                continue;
            }
            let path = entry.path.clone();
            match mounts.open_one(entry).await {
                Ok(mounted) => drop(router.insert(path, Arc::new(mounted))),
                // One mount that does not open must not keep the others from serving.
                Err(error) => {
                    tracing::error!(%path, %error, "a mount could not be opened and does not serve")
                }
            }
        }
        mounts.router.store(Arc::new(router));
        Ok(mounts)
    }

    /// The mount with the longest matching path, and the path below it (without slashes at its ends).
    pub fn route<'p>(&self, path: &'p RequestPath) -> Option<(Arc<Mounted>, &'p str)> {
        let router = self.router.load();
        let text = path.as_str();
        let directory = path.as_directory();
        let mut end = directory.len();
        loop {
            let candidate = &directory[..end];
            if let Some(mounted) = router.get(candidate) {
                return Some((mounted.clone(), text.get(end..).unwrap_or_default()));
            }
            end = directory[..end - 1].rfind('/')? + 1;
        }
    }

    /// Every open mount, sorted by path.
    pub fn all(&self) -> Vec<Arc<Mounted>> {
        let mut all: Vec<_> = self.router.load().values().cloned().collect();
        all.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
        all
    }

    pub fn get(&self, path: &str) -> Option<Arc<Mounted>> {
        self.router.load().get(path).cloned()
    }

    pub fn by_uuid(&self, uuid: &str) -> Option<Arc<Mounted>> {
        self.router
            .load()
            .values()
            .find(|m| m.entry.uuid == uuid)
            .cloned()
    }

    /// A mount of the table, also one that is being disabled and takes no requests any more: its leases are still to
    /// be revoked. That one is opened anew.
    pub async fn even_tainted(&self, uuid: &str) -> Result<Option<Arc<Mounted>>> {
        if let Some(mounted) = self.by_uuid(uuid) {
            return Ok(Some(mounted));
        }
        let entry = self.table().await?.mounts.into_iter();
        match entry.into_iter().find(|m| m.uuid == uuid) {
            Some(entry) => Ok(Some(Arc::new(self.open_one(entry).await?))),
            None => Ok(None),
        }
    }

    /// Whether the table has a mount, also one that is being removed.
    pub async fn knows(&self, uuid: &str) -> Result<bool> {
        if self.by_uuid(uuid).is_some() {
            return Ok(true);
        }
        Ok(self.table().await?.mounts.iter().any(|m| m.uuid == uuid))
    }

    /// Adds a mount: opened first, so that one that cannot open is not stored.
    pub async fn enable(&self, entry: MountEntry) -> Result<()> {
        let entry = self.under_its_own_name(entry)?;
        let _changing = self.changing.lock().await;
        check_free(&entry.path, &self.router.load())?;
        let mounted = self.open_one(entry.clone()).await?;
        self.change_table(|table| {
            if table.mounts.iter().any(|m| overlaps(&m.path, &entry.path)) {
                return Err(in_use(&entry.path));
            }
            table.mounts.push(entry.clone());
            Ok(())
        })
        .await?;
        self.replace(|router| drop(router.insert(entry.path.clone(), Arc::new(mounted))));
        Ok(())
    }

    /// Stops a mount from serving and marks it for removal. Returns it, so that what it issued can be revoked.
    pub async fn taint(&self, path: &str) -> Result<Arc<Mounted>> {
        let _changing = self.changing.lock().await;
        let mounted = self.get(path).ok_or_else(|| no_mount(path))?;
        if self.fixed.iter().any(|fixed| fixed.entry.path == path)
            || mounted.entry.kind == "cubbyhole"
        {
            return Err(Error::bad_request(format!(
                "{path:?} belongs to the server and cannot be disabled"
            )));
        }
        self.change_table(|table| {
            table
                .mounts
                .iter_mut()
                .filter(|m| m.path == path)
                .for_each(|m| m.tainted = true);
            Ok(())
        })
        .await?;
        self.replace(|router| drop(router.remove(path)));
        Ok(mounted)
    }

    /// Removes a tainted mount with all its data, in one commit.
    pub async fn remove(&self, uuid: &str) -> Result<()> {
        let _changing = self.changing.lock().await;
        for _ in 0..16 {
            let Some((mut table, seen)) = self.storage.get_json_seen::<Table>(TABLE).await? else {
                return Ok(());
            };
            let Some(at) = table.mounts.iter().position(|m| m.uuid == uuid) else {
                return Ok(());
            };
            let entry = table.mounts.remove(at);
            let mut batch = Batch::new();
            self.storage.expect_in(&mut batch, TABLE, &seen);
            self.storage.put_json_in(&mut batch, TABLE, &table)?;
            batch.delete_prefix(entry.prefix());
            match self.storage.commit(batch).await {
                Err(obol_storage::Error::Conflict { .. }) => {}
                done => return Ok(done?),
            }
        }
        Err(Error::unavailable(
            "the mount table is in heavy use; try again",
        ))
    }

    /// The accessor of a mount, also of one that is being disabled.
    pub async fn accessor_of(&self, uuid: &str) -> Result<Option<String>> {
        let table = self.table().await?;
        Ok(table
            .mounts
            .into_iter()
            .find(|m| m.uuid == uuid)
            .map(|m| m.accessor))
    }

    /// Mounts whose removal a crash interrupted.
    pub async fn tainted(&self) -> Result<Vec<String>> {
        let table = self.table().await?;
        Ok(table
            .mounts
            .into_iter()
            .filter(|m| m.tainted)
            .map(|m| m.uuid)
            .collect())
    }

    /// Changes what a mount is tuned to, or its options. Returns what to warn of.
    pub async fn tune(
        &self,
        path: &str,
        change: impl Fn(&mut MountEntry) -> Result<()>,
    ) -> Result<Vec<String>> {
        let _changing = self.changing.lock().await;
        let mounted = self.get(path).ok_or_else(|| no_mount(path))?;
        let mut entry = mounted.entry.clone();
        change(&mut entry)?;
        let own = self.fixed.iter().find(|fixed| fixed.entry.path == path);
        if own.is_some() && (entry.kind != "token" || entry.options != mounted.entry.options) {
            return Err(Error::bad_request(format!(
                "{path:?} belongs to the server and cannot be tuned"
            )));
        }
        if entry.options != mounted.entry.options {
            return self.change_options(&mounted, entry, change).await;
        }
        self.change_table(|table| {
            if let Some(own) = own {
                let mut entry = match table.own.get(path) {
                    Some(tuning) => tuning.over(&own.entry),
                    None => own.entry.clone(),
                };
                change(&mut entry)?;
                table.own.insert(path.to_owned(), OwnTuning::of(&entry));
                return Ok(());
            }
            let stored = table.mounts.iter_mut().find(|m| m.path == path);
            change(stored.ok_or_else(|| no_mount(path))?)
        })
        .await?;
        let tuned = Arc::new(mounted.tuned(entry));
        self.replace(|router| drop(router.insert(path.to_owned(), tuned)));
        Ok(Vec::new())
    }

    /// Changes the options of a mount, if its backend allows that, and opens it anew. The caller holds `changing`.
    async fn change_options(
        &self,
        mounted: &Mounted,
        entry: MountEntry,
        change: impl Fn(&mut MountEntry) -> Result<()>,
    ) -> Result<Vec<String>> {
        for _ in 0..16 {
            let mut batch = Batch::new();
            let warnings = mounted.backend.change_options(&entry.options, &mut batch)?;
            let found = self.storage.get_json_seen::<Table>(TABLE).await?;
            let (mut table, seen) = found.ok_or_else(|| no_mount(&entry.path))?;
            let stored = table.mounts.iter_mut().find(|m| m.uuid == entry.uuid);
            change(stored.ok_or_else(|| no_mount(&entry.path))?)?;
            self.storage.expect_in(&mut batch, TABLE, &seen);
            self.storage.put_json_in(&mut batch, TABLE, &table)?;
            match self.storage.commit(batch).await {
                Err(obol_storage::Error::Conflict { .. }) => continue,
                done => done?,
            }
            let path = entry.path.clone();
            let reopened = Arc::new(self.open_one(entry).await?);
            self.replace(|router| drop(router.insert(path, reopened)));
            return Ok(warnings);
        }
        Err(Error::unavailable(
            "the mount table is in heavy use; try again",
        ))
    }

    async fn open_one(&self, entry: MountEntry) -> Result<Mounted> {
        let family = entry.family();
        let kind = self
            .kinds
            .iter()
            .find(|k| k.name == entry.kind && k.family == family)
            .ok_or_else(|| {
                Error::bad_request(format!(
                    "unknown type {:?}: {}",
                    entry.kind,
                    self.known(family)
                ))
            })?;
        let context = MountContext {
            storage: View::new(self.storage.barrier().clone(), entry.prefix())?,
            shared: View::new(
                self.storage.barrier().clone(),
                format!("kind/{}/", entry.kind),
            )?,
            uuid: entry.uuid.clone(),
            options: entry.options.clone(),
            attempts: self.lockout.of(&entry),
        };
        Mounted::new(entry, (kind.open)(context).await?)
    }

    /// A mount whose kind was asked for by another name, as the table holds it.
    fn under_its_own_name(&self, mut entry: MountEntry) -> Result<MountEntry> {
        let family = entry.family();
        let aliases = self
            .kinds
            .iter()
            .filter(|kind| kind.family == family)
            .flat_map(|kind| kind.aliases.iter().map(move |alias| (kind.name, *alias)));
        for (name, (alias, meant)) in aliases {
            if alias != entry.kind {
                continue;
            }
            for (key, value) in meant {
                match entry.options.insert((*key).into(), (*value).into()) {
                    Some(other) if other != *value => {
                        return Err(Error::bad_request(format!(
                            "option {key}: the type {alias} means {value}"
                        )));
                    }
                    _ => {}
                }
            }
            entry.kind = name.into();
            break;
        }
        Ok(entry)
    }

    fn known(&self, family: Family) -> String {
        let names: Vec<&str> = self
            .kinds
            .iter()
            .filter(|k| k.family == family)
            .map(|k| k.name)
            .collect();
        format!("this server has {}", names.join(", "))
    }

    async fn table(&self) -> Result<Table> {
        Ok(self.storage.get_json(TABLE).await?.unwrap_or_default())
    }

    async fn change_table(&self, change: impl Fn(&mut Table) -> Result<()>) -> Result<()> {
        self.storage
            .update_json(TABLE, |table: Option<Table>| {
                let mut table = table.unwrap_or_default();
                change(&mut table)?;
                Ok::<_, Error>(table)
            })
            .await
            .map(drop)
    }

    fn replace(&self, change: impl FnOnce(&mut Router)) {
        let mut router = Router::clone(&self.router.load());
        change(&mut router);
        self.router.store(Arc::new(router));
    }
}

/// A mount path as a client names it (`kerberos`, `kerberos/`, `team/kv`), checked.
pub fn parse_mount_path(text: &str) -> Result<String> {
    let path =
        RequestPath::from_decoded(text).map_err(|error| Error::bad_request(error.to_string()))?;
    let path = path.as_str();
    if path.contains(['{', '}', '*', '+', ' ']) || path != path.trim() {
        return Err(Error::bad_request(
            "a mount path may hold no blank and none of { } * +",
        ));
    }
    Ok(path.to_owned())
}

/// No mount may lie inside another, nor where the server's own paths are.
fn check_free(path: &str, router: &Router) -> Result<()> {
    const RESERVED: [&str; 5] = ["sys/", "auth/token/", "identity/", "cubbyhole/", "audit/"];
    let reserved = RESERVED.iter().any(|r| overlaps(r, path)) || path == "auth/";
    // The server mounts the cubbyhole itself, once.
    let own = path == "cubbyhole/" && !router.contains_key(path);
    if reserved && !own {
        return Err(Error::bad_request(format!(
            "{path:?} is reserved for the server itself"
        )));
    }
    if router.keys().any(|taken| overlaps(taken, path)) {
        return Err(in_use(path));
    }
    Ok(())
}

fn overlaps(a: &str, b: &str) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn in_use(path: &str) -> Error {
    Error::bad_request(format!("path is already in use at {path}"))
}

fn no_mount(path: &str) -> Error {
    Error::bad_request(format!("no mount at {path:?}"))
}
