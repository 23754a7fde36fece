//! `sys/mounts` and `sys/auth`: one set of handlers for both families.

use std::collections::BTreeMap;

use obol_mount::fields::{CommaList, Flag, Ttl};
use obol_mount::{
    Cx, Error, Family, NoContent, Reply, Response, Result, Routes, TokenKind, Written, get,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::System;
use crate::core::Core;
use crate::core::lockout::{LockoutConfig, METHODS};
use crate::core::mounts::{MountConfig, MountEntry, parse_mount_path};

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
    /// The TTL of tokens and leases that do not ask for another; 0 means the system's.
    default_lease_ttl: Option<Ttl>,
    /// The longest TTL; 0 means the system's.
    max_lease_ttl: Option<Ttl>,
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

impl TuneFields {
    fn apply(&self, config: &mut MountConfig, family: Family, kind_of_mount: &str) -> Result<()> {
        if let Some(ttl) = self.default_lease_ttl {
            config.default_lease_ttl = ttl;
        }
        if let Some(ttl) = self.max_lease_ttl {
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
            config.token_type = Some(kind);
        }
        if let Some(sent) = &self.user_lockout_config {
            let set = config.user_lockout_config.unwrap_or_default();
            config.user_lockout_config = Some(set.tuned(sent, kind_of_mount)?);
        }
        Ok(())
    }
}

fn show(core: &Core, entry: &MountEntry) -> Value {
    let config = &entry.config;
    let mut shown = json!({
        "accessor": entry.accessor,
        "config": {
            "default_lease_ttl": config.default_lease_ttl,
            "force_no_cache": config.force_no_cache,
            "max_lease_ttl": config.max_lease_ttl,
        },
        "description": entry.description,
        "external_entropy_access": entry.external_entropy_access,
        "local": entry.local,
        "options": if entry.options.is_empty() { Value::Null } else { json!(entry.options) },
        "plugin_version": "",
        "running_plugin_version": format!("v{}+builtin", crate::core::VERSION),
        "running_sha256": "",
        "deprecation_status": "supported",
        "seal_wrap": entry.seal_wrap,
        "type": entry.kind,
        "uuid": entry.uuid,
    });
    if !config.listing_visibility.is_empty() {
        shown["config"]["listing_visibility"] = config.listing_visibility.as_str().into();
    }
    for (key, list) in [
        (
            "audit_non_hmac_request_keys",
            &config.audit_non_hmac_request_keys,
        ),
        (
            "audit_non_hmac_response_keys",
            &config.audit_non_hmac_response_keys,
        ),
        (
            "passthrough_request_headers",
            &config.passthrough_request_headers,
        ),
        ("allowed_response_headers", &config.allowed_response_headers),
    ] {
        if !list.0.is_empty() {
            shown["config"][key] = json!(list);
        }
    }
    if entry.family() == Family::Auth {
        shown["config"]["token_type"] =
            json!(config.token_type.unwrap_or(TokenKind::DefaultService));
    }
    if let Some(lockout) = &config.user_lockout_config {
        shown["config"]["user_lockout_config"] = json!(lockout);
    }
    let _ = core;
    shown
}

fn list(cx: &Cx<System>, family: Family) -> Result<Response> {
    let core = cx.core()?;
    let mut data = Map::new();
    for mounted in core.live()?.mounts.all() {
        if mounted.entry.family() == family {
            let name = mounted
                .entry
                .path
                .strip_prefix("auth/")
                .unwrap_or(&mounted.entry.path);
            data.insert(name.to_owned(), show(&core, &mounted.entry));
        }
    }
    Ok(Response::new(Reply::Data(data)))
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

fn read(cx: &Cx<System>, family: Family, input: &PathInput) -> Result<Response> {
    let core = cx.core()?;
    let path = full_path(family, &input.path)?;
    let mounted = core.live()?.mounts.get(&path);
    let mounted = mounted.ok_or_else(|| Error::bad_request(format!("no mount at {path:?}")))?;
    match show(&core, &mounted.entry) {
        Value::Object(data) => Ok(Response::new(Reply::Data(data))),
        _ => Err(Error::internal("a mount that is shown is an object")),
    }
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

fn read_tune(cx: &Cx<System>, family: Family, input: &PathInput) -> Result<Response> {
    let core = cx.core()?;
    let path = full_path(family, &input.path)?;
    let mounted = core.live()?.mounts.get(&path);
    let entry = &mounted
        .ok_or_else(|| Error::bad_request(format!("no mount at {path:?}")))?
        .entry;
    let limits = core.limits(Some(entry));
    let mut data = match show(&core, entry)["config"].take() {
        Value::Object(config) => config,
        _ => return Err(Error::internal("a mount's configuration is an object")),
    };
    // Tuning shows what applies, the listing what is set.
    data.insert(
        "default_lease_ttl".into(),
        limits.default_ttl.as_secs().into(),
    );
    data.insert("max_lease_ttl".into(), limits.max_ttl.as_secs().into());
    data.insert("description".into(), entry.description.as_str().into());
    if METHODS.contains(&entry.kind.as_str()) {
        let rules = core.lockout_rules(entry);
        for (name, value) in [
            ("threshold", json!(rules.threshold)),
            ("duration", json!(rules.duration.as_secs())),
            (
                "counter_reset_duration",
                json!(rules.counter_reset.as_secs()),
            ),
            ("disable", json!(rules.is_disabled)),
        ] {
            data.insert(format!("user_lockout_{name}"), value);
        }
    }
    if !entry.options.is_empty() {
        data.insert("options".into(), json!(entry.options));
    }
    Ok(Response::new(Reply::Data(data)))
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

pub(super) async fn list_secrets(cx: Cx<System>) -> Result<Response> {
    list(&cx, Family::Secrets)
}

pub(super) async fn list_auth(cx: Cx<System>) -> Result<Response> {
    list(&cx, Family::Auth)
}

pub(super) async fn read_secrets(cx: Cx<System>, input: PathInput) -> Result<Response> {
    read(&cx, Family::Secrets, &input)
}

pub(super) async fn read_auth(cx: Cx<System>, input: PathInput) -> Result<Response> {
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

pub(super) async fn read_tune_secrets(cx: Cx<System>, input: PathInput) -> Result<Response> {
    read_tune(&cx, Family::Secrets, &input)
}

pub(super) async fn read_tune_auth(cx: Cx<System>, input: PathInput) -> Result<Response> {
    read_tune(&cx, Family::Auth, &input)
}

pub(super) async fn tune_secrets(cx: Cx<System>, input: TuneInput) -> Result<Written> {
    tune(&cx, Family::Secrets, input).await
}

pub(super) async fn tune_auth(cx: Cx<System>, input: TuneInput) -> Result<Written> {
    tune(&cx, Family::Auth, input).await
}
