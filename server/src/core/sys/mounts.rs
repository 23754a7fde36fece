//! `sys/mounts` and `sys/auth`: one set of handlers for both families.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use obol_mount::fields::{CommaList, Flag, Ttl};
use obol_mount::{Cx, Data, Error, Family, NoContent, Result, Routes, TokenKind, Written, get};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::System;
use crate::core::lockout::{LockoutConfig, METHODS};
use crate::core::mounts::{MountConfig, MountEntry, Mounted, parse_mount_path};

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at("mounts", "The mounted secrets engines", get(list_secrets))
        .sudo(
            "mounts/{path*}/tune",
            "How a secrets engine is tuned",
            get(read_tune_secrets).post(tune_secrets),
        )
        .at(
            "mounts/{path*}",
            "Enable, show or disable a secrets engine",
            get(read_secrets)
                .post(enable_secrets)
                .delete(disable_secrets),
        )
        .at("auth", "The enabled auth methods", get(list_auth))
        .sudo(
            "auth/{path*}/tune",
            "How an auth method is tuned",
            get(read_tune_auth).post(tune_auth),
        )
        .sudo(
            "auth/{path*}",
            "Enable, show or disable an auth method",
            get(read_auth).post(enable_auth).delete(disable_auth),
        )
}

/// A mount by its path.
#[derive(Deserialize, JsonSchema)]
pub(super) struct PathInput {
    path: String,
}

/// Enables a mount.
#[derive(Deserialize, JsonSchema)]
pub(super) struct EnableInput {
    path: String,
    /// What to mount: `kv`, `kerberos`, ...
    #[serde(rename = "type")]
    kind: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// Tuning from the start.
    #[serde(default)]
    config: TuneFields,
    /// Options of the backend, such as `version` of kv.
    #[serde(default)]
    options: Option<BTreeMap<String, Value>>,
    /// Kept and shown; replication comes with the cluster.
    #[serde(default)]
    local: Flag,
    /// Kept and shown; every value is encrypted under the barrier in any case.
    #[serde(default)]
    seal_wrap: Flag,
    /// Not supported: refused when true.
    #[serde(default)]
    external_entropy_access: Flag,
}

/// The tuning of a mount; what is absent stays as it is.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct TuneFields {
    /// The TTL of tokens and leases that do not ask for another; 0, -1 or `system` mean the system's.
    default_lease_ttl: Option<OwnTtl>,
    /// The longest TTL; 0, -1 or `system` mean the system's.
    max_lease_ttl: Option<OwnTtl>,
    /// Kept for clients that set it.
    force_no_cache: Option<Flag>,
    /// Request keys that the audit log shows in the clear.
    audit_non_hmac_request_keys: Option<CommaList>,
    /// Response keys that the audit log shows in the clear.
    audit_non_hmac_response_keys: Option<CommaList>,
    /// `unauth` or `hidden`.
    listing_visibility: Option<String>,
    /// Names of request headers. Kept for clients that set it: every backend here gets the headers that it needs.
    passthrough_request_headers: Option<CommaList>,
    /// Names of response headers. Kept for clients that set it: every backend here sends the headers that it documents.
    allowed_response_headers: Option<CommaList>,
    /// `service`, `batch`, `default-service` or `default-batch`; auth methods only.
    token_type: Option<TokenKind>,
    /// After how many failed logins a name is locked, and for how long; userpass, ldap and approle only.
    user_lockout_config: Option<LockoutConfig>,
}

/// Tunes a mount.
#[derive(Deserialize, JsonSchema)]
pub(super) struct TuneInput {
    path: String,
    /// For people.
    description: Option<String>,
    /// Options of the backend, each as it shall be from now on. Few can be changed once the mount is there: kv goes from
    /// version 1 to 2.
    options: Option<BTreeMap<String, Value>>,
    #[serde(flatten)]
    fields: TuneFields,
}

/// A TTL of the mount's own; zero where it has the system's, which clients write as 0, -1 or `system`.
#[derive(Clone, Copy)]
struct OwnTtl(Ttl);

impl<'de> Deserialize<'de> for OwnTtl {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let sent = Value::deserialize(d)?;
        let system = sent == -1 || matches!(sent.as_str(), Some("system" | "-1"));
        match system {
            true => Ok(Self(Ttl::default())),
            false => Ttl::deserialize(sent).map(Self).map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for OwnTtl {
    fn schema_name() -> Cow<'static, str> {
        "OwnTtl".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": -1, "examples": ["1h30m", 5400, "system"] })
    }
}

impl TuneFields {
    fn apply(&self, config: &mut MountConfig, family: Family, kind_of_mount: &str) -> Result<()> {
        if let Some(OwnTtl(ttl)) = self.default_lease_ttl {
            config.default_lease_ttl = ttl;
        }
        if let Some(OwnTtl(ttl)) = self.max_lease_ttl {
            config.max_lease_ttl = ttl;
        }
        if !config.max_lease_ttl.0.is_zero() && config.default_lease_ttl > config.max_lease_ttl {
            return Err(Error::bad_request(
                "default_lease_ttl may not be longer than max_lease_ttl",
            ));
        }
        if let Some(Flag(value)) = self.force_no_cache {
            config.force_no_cache = value;
        }
        if let Some(keys) = &self.audit_non_hmac_request_keys {
            config.audit_non_hmac_request_keys = keys.clone();
        }
        if let Some(keys) = &self.audit_non_hmac_response_keys {
            config.audit_non_hmac_response_keys = keys.clone();
        }
        if let Some(headers) = &self.passthrough_request_headers {
            config.passthrough_request_headers =
                header_names("passthrough_request_headers", headers)?;
        }
        if let Some(headers) = &self.allowed_response_headers {
            config.allowed_response_headers = header_names("allowed_response_headers", headers)?;
        }
        match self.listing_visibility.as_deref() {
            None => {}
            Some(value @ ("" | "hidden" | "unauth")) => {
                config.listing_visibility = value.to_owned()
            }
            Some(_) => {
                return Err(Error::bad_request(
                    "listing_visibility must be \"unauth\" or \"hidden\"",
                ));
            }
        }
        if let Some(kind) = self.token_type {
            if family != Family::Auth {
                return Err(Error::bad_request("token_type belongs to auth methods"));
            }
            if kind_of_mount == "token" {
                return Err(Error::bad_request(
                    "token_type cannot be set for auth/token: each request, or its role, says it",
                ));
            }
            config.token_type = Some(kind);
        }
        if let Some(sent) = &self.user_lockout_config {
            let set = config.user_lockout_config.unwrap_or_default();
            config.user_lockout_config = Some(set.tuned(sent, kind_of_mount)?);
        }
        Ok(())
    }
}

/// A mount.
#[derive(Serialize, JsonSchema)]
pub(super) struct ShownMount {
    /// A name of the mount that stays when it is moved; aliases of identity name it.
    accessor: String,
    /// As it is set.
    config: ShownConfig,
    /// For people.
    description: String,
    /// Always false: it is not supported.
    external_entropy_access: bool,
    /// Kept and shown; replication comes with the cluster.
    local: bool,
    /// Options of the backend, such as `version` of kv; null when there are none.
    options: Option<BTreeMap<String, String>>,
    /// Always empty: everything is part of the server.
    plugin_version: &'static str,
    /// The server's version, marked as built in.
    running_plugin_version: String,
    /// Always empty: everything is part of the server.
    running_sha256: &'static str,
    /// `supported`.
    deprecation_status: &'static str,
    /// Kept and shown; every value is encrypted under the barrier in any case.
    seal_wrap: bool,
    /// What is mounted: `kv`, `kerberos`, ...
    #[serde(rename = "type")]
    kind: String,
    /// The name of the mount's place in storage.
    uuid: String,
}

/// How a mount is tuned; lists and texts that are empty are left out.
#[derive(Serialize, JsonSchema)]
struct ShownConfig {
    /// Seconds that tokens and leases live which do not ask for another time; 0 means the system's.
    default_lease_ttl: u64,
    /// Kept for clients that set it.
    force_no_cache: bool,
    /// Seconds that they live at most; 0 means the system's.
    max_lease_ttl: u64,
    /// `unauth` where callers without a token see the mount.
    #[serde(skip_serializing_if = "String::is_empty")]
    listing_visibility: String,
    /// Request keys that the audit log shows in the clear.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audit_non_hmac_request_keys: Vec<String>,
    /// Response keys that the audit log shows in the clear.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audit_non_hmac_response_keys: Vec<String>,
    /// Names of request headers. Kept for clients that set it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passthrough_request_headers: Vec<String>,
    /// Names of response headers. Kept for clients that set it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_response_headers: Vec<String>,
    /// What kind of tokens an auth method issues; left out for secrets engines.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<TokenKind>,
    /// What is set of the lockout of names after failed logins.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_lockout_config: Option<LockoutConfig>,
}

/// How a mount is tuned, with what applies where nothing is set.
#[derive(Serialize, JsonSchema)]
pub(super) struct ShownTuning {
    #[serde(flatten)]
    config: ShownConfig,
    /// For people.
    description: String,
    #[serde(flatten)]
    lockout: Option<ShownLockout>,
    /// Options of the backend, such as `version` of kv; left out when there are none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
}

/// The lockout that applies; left out where an auth method has none.
#[derive(Serialize, JsonSchema)]
struct ShownLockout {
    /// So many failed logins lock a name.
    user_lockout_threshold: u64,
    /// Seconds that it stays locked.
    user_lockout_duration: u64,
    /// Seconds without a failure after which the count begins again.
    user_lockout_counter_reset_duration: u64,
    /// Nothing is counted and nobody is locked.
    user_lockout_disable: bool,
}

impl ShownMount {
    fn of(entry: &MountEntry) -> Self {
        Self {
            accessor: entry.accessor.clone(),
            config: ShownConfig::of(entry),
            description: entry.description.clone(),
            external_entropy_access: entry.external_entropy_access,
            local: entry.local,
            options: (!entry.options.is_empty()).then(|| entry.options.clone()),
            plugin_version: "",
            running_plugin_version: format!("v{}+builtin", crate::core::VERSION),
            running_sha256: "",
            deprecation_status: "supported",
            seal_wrap: entry.seal_wrap,
            kind: entry.kind.clone(),
            uuid: entry.uuid.clone(),
        }
    }
}

impl ShownConfig {
    fn of(entry: &MountEntry) -> Self {
        let config = entry.config.clone();
        Self {
            default_lease_ttl: config.default_lease_ttl.as_secs(),
            force_no_cache: config.force_no_cache,
            max_lease_ttl: config.max_lease_ttl.as_secs(),
            listing_visibility: config.listing_visibility,
            audit_non_hmac_request_keys: config.audit_non_hmac_request_keys.0,
            audit_non_hmac_response_keys: config.audit_non_hmac_response_keys.0,
            passthrough_request_headers: config.passthrough_request_headers.0,
            allowed_response_headers: config.allowed_response_headers.0,
            token_type: (entry.family() == Family::Auth)
                .then(|| config.token_type.unwrap_or(TokenKind::DefaultService)),
            user_lockout_config: config.user_lockout_config,
        }
    }
}

/// Mounts by their paths, each with a slash at its end.
type Mounts = Data<BTreeMap<String, ShownMount>>;

fn list(cx: &Cx<System>, family: Family) -> Result<Mounts> {
    let mounts = cx.live()?.mounts.all();
    let of_family = mounts.iter().filter(|m| m.entry.family() == family);
    let shown = of_family.map(|mounted| {
        let path = &mounted.entry.path;
        let name = path.strip_prefix("auth/").unwrap_or(path);
        (name.to_owned(), ShownMount::of(&mounted.entry))
    });
    Ok(Data(shown.collect()))
}

/// The path in the table of a mount that a client names.
fn full_path(family: Family, path: &str) -> Result<String> {
    let path = parse_mount_path(path)?;
    match family {
        Family::Auth => Ok(format!("auth/{path}/")),
        Family::Secrets if path == "auth" || path.starts_with("auth/") => Err(Error::bad_request(
            "secrets engines cannot be mounted below auth/",
        )),
        Family::Secrets => Ok(format!("{path}/")),
    }
}

/// The mount that a client names.
fn named(cx: &Cx<System>, family: Family, input: &PathInput) -> Result<Arc<Mounted>> {
    let path = full_path(family, &input.path)?;
    let mounted = cx.live()?.mounts.get(&path);
    mounted.ok_or_else(|| Error::bad_request(format!("no mount at {path:?}")))
}

fn read(cx: &Cx<System>, family: Family, input: &PathInput) -> Result<Data<ShownMount>> {
    let mounted = named(cx, family, input)?;
    Ok(Data(ShownMount::of(&mounted.entry)))
}

async fn enable(cx: &Cx<System>, family: Family, input: EnableInput) -> Result<NoContent> {
    if input.external_entropy_access.0 {
        return Err(Error::bad_request(
            "external_entropy_access is not supported",
        ));
    }
    let path = parse_mount_path(&input.path)?;
    full_path(family, &path)?;
    if input.kind == "cubbyhole" {
        return Err(Error::bad_request(
            "the cubbyhole is there already, once: at cubbyhole/",
        ));
    }
    let mut entry = MountEntry::new(family, &path, &input.kind);
    entry.description = input.description;
    entry.local = input.local.0;
    entry.seal_wrap = input.seal_wrap.0;
    input.config.apply(&mut entry.config, family, &input.kind)?;
    entry.options = texts(input.options.unwrap_or_default())?;
    cx.live()?.mounts.enable(entry).await?;
    Ok(NoContent)
}

/// Options as they are kept: texts.
fn texts(options: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>> {
    let text = |(key, value)| match value {
        Value::String(text) => Ok((key, text)),
        Value::Number(number) => Ok((key, number.to_string())),
        Value::Bool(flag) => Ok((key, flag.to_string())),
        _ => Err(Error::bad_request("field \"options\": expected texts")),
    };
    options.into_iter().map(text).collect()
}

fn header_names(field: &str, names: &CommaList) -> Result<CommaList> {
    let token = |name: &String| {
        let symbol = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || symbol(b))
    };
    match names.0.iter().all(token) {
        true => Ok(names.clone()),
        false => Err(Error::bad_request(format!(
            "field {field:?}: expected names of headers"
        ))),
    }
}

async fn disable(cx: &Cx<System>, family: Family, input: &PathInput) -> Result<NoContent> {
    let live = cx.live()?;
    let path = full_path(family, &input.path)?;
    let Some(mounted) = live.mounts.get(&path) else {
        // Vault answers 204 for a mount that is not there: the wish is fulfilled.
        return Ok(NoContent);
    };
    let uuid = mounted.entry.uuid.clone();
    live.mounts.taint(&path).await?;
    // Goes on when the client goes away: half a removal would be taken up only at the next unseal.
    let work = tokio::spawn(async move { live.finish_disable(&uuid).await });
    work.await.map_err(Error::internal)??;
    Ok(NoContent)
}

fn read_tune(cx: &Cx<System>, family: Family, input: &PathInput) -> Result<Data<ShownTuning>> {
    let core = cx.core()?;
    let mounted = named(cx, family, input)?;
    let entry = &mounted.entry;
    let limits = core.limits(Some(entry));
    let lockout = METHODS.contains(&entry.kind.as_str()).then(|| {
        let rules = core.lockout_rules(entry);
        ShownLockout {
            user_lockout_threshold: rules.threshold,
            user_lockout_duration: rules.duration.as_secs(),
            user_lockout_counter_reset_duration: rules.counter_reset.as_secs(),
            user_lockout_disable: rules.is_disabled,
        }
    });
    Ok(Data(ShownTuning {
        // Tuning shows what applies, the listing what is set.
        config: ShownConfig {
            default_lease_ttl: limits.default_ttl.as_secs(),
            max_lease_ttl: limits.max_ttl.as_secs(),
            ..ShownConfig::of(entry)
        },
        description: entry.description.clone(),
        lockout,
        options: entry.options.clone(),
    }))
}

async fn tune(cx: &Cx<System>, family: Family, input: TuneInput) -> Result<Written> {
    let path = full_path(family, &input.path)?;
    let options = input.options.map(texts).transpose()?;
    let change = |entry: &mut MountEntry| {
        for (key, value) in options.iter().flatten() {
            entry.options.insert(key.clone(), value.clone());
        }
        if let Some(description) = &input.description {
            entry.description.clone_from(description);
        }
        input.fields.apply(&mut entry.config, family, &entry.kind)
    };
    let warnings = cx.live()?.mounts.tune(&path, change).await?;
    Ok(Written { warnings })
}

pub(super) async fn list_secrets(cx: Cx<System>) -> Result<Mounts> {
    list(&cx, Family::Secrets)
}

pub(super) async fn list_auth(cx: Cx<System>) -> Result<Mounts> {
    list(&cx, Family::Auth)
}

pub(super) async fn read_secrets(cx: Cx<System>, input: PathInput) -> Result<Data<ShownMount>> {
    read(&cx, Family::Secrets, &input)
}

pub(super) async fn read_auth(cx: Cx<System>, input: PathInput) -> Result<Data<ShownMount>> {
    read(&cx, Family::Auth, &input)
}

pub(super) async fn enable_secrets(cx: Cx<System>, input: EnableInput) -> Result<NoContent> {
    enable(&cx, Family::Secrets, input).await
}

pub(super) async fn enable_auth(cx: Cx<System>, input: EnableInput) -> Result<NoContent> {
    enable(&cx, Family::Auth, input).await
}

pub(super) async fn disable_secrets(cx: Cx<System>, input: PathInput) -> Result<NoContent> {
    disable(&cx, Family::Secrets, &input).await
}

pub(super) async fn disable_auth(cx: Cx<System>, input: PathInput) -> Result<NoContent> {
    disable(&cx, Family::Auth, &input).await
}

pub(super) async fn read_tune_secrets(
    cx: Cx<System>,
    input: PathInput,
) -> Result<Data<ShownTuning>> {
    read_tune(&cx, Family::Secrets, &input)
}

pub(super) async fn read_tune_auth(cx: Cx<System>, input: PathInput) -> Result<Data<ShownTuning>> {
    read_tune(&cx, Family::Auth, &input)
}

pub(super) async fn tune_secrets(cx: Cx<System>, input: TuneInput) -> Result<Written> {
    tune(&cx, Family::Secrets, input).await
}

pub(super) async fn tune_auth(cx: Cx<System>, input: TuneInput) -> Result<Written> {
    tune(&cx, Family::Auth, input).await
}
