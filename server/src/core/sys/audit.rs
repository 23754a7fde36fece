//! `sys/audit`, `sys/audit-hash` and `sys/config/auditing/request-headers`.

use std::collections::BTreeMap;

use obol_mount::fields::Flag;
use obol_mount::{Cx, Data, Error, NoContent, Result, Routes, Secret, Written, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;
use crate::core::audit::headers::{AuditedHeaders, Rule, folded};
use crate::core::mounts::parse_mount_path;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .sudo("audit", "The enabled audit devices", get(show_all))
        .sudo(
            "audit/{path*}",
            "Enable or disable an audit device",
            post(enable).delete(disable),
        )
        .at(
            "audit-hash/{path*}",
            "What an audit device writes for a text",
            post(hash),
        )
        .sudo(
            "config/auditing/request-headers",
            "The headers of requests that the audit log has",
            get(show_headers).list(show_headers),
        )
        .sudo(
            "config/auditing/request-headers/{header}",
            "Whether the audit log has a header of requests, and how",
            get(show_header).post(set_header).delete(remove_header),
        )
}

/// An audit device by its path.
#[derive(Deserialize, JsonSchema)]
pub(super) struct PathInput {
    path: String,
}

/// Enables an audit device.
#[derive(Deserialize, JsonSchema)]
pub(super) struct EnableInput {
    path: String,
    /// The kind of device: `file`, `syslog` or `socket`.
    #[serde(rename = "type")]
    kind: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// Of all: `format` (`json`), `prefix`, `hmac_accessor`, `log_raw`, `elide_list_responses`. Of a file: `file_path`
    /// (an absolute path, or `stdout`), `mode`. Of a syslog: `facility`, `tag`. Of a socket: `address`, `socket_type`
    /// (`tcp`, `udp`, `unix`), `write_timeout`.
    #[serde(default)]
    options: BTreeMap<String, String>,
    /// Kept and shown; replication comes with the cluster.
    #[serde(default)]
    local: Flag,
}

/// A text whose hash is wanted.
#[derive(Deserialize, JsonSchema)]
pub(super) struct HashInput {
    path: String,
    /// The text to hash as this device does.
    input: Secret,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct HashOut {
    /// `hmac-sha256:` and 64 hexadecimal digits.
    hash: String,
}

/// An audit device.
#[derive(Serialize, JsonSchema)]
pub(super) struct ShownDevice {
    /// For people.
    description: String,
    /// Kept and shown; replication comes with the cluster.
    local: bool,
    /// As they were given when it was enabled.
    options: BTreeMap<String, String>,
    /// With a slash at its end.
    path: String,
    /// `file`, `syslog` or `socket`.
    #[serde(rename = "type")]
    kind: String,
}

pub(super) async fn show_all(cx: Cx<System>) -> Result<Data<BTreeMap<String, ShownDevice>>> {
    let shown = cx.live()?.audit.list().into_iter().map(|device| {
        let shown = ShownDevice {
            description: device.description,
            local: device.local,
            options: device.options,
            path: device.path.clone(),
            kind: device.kind,
        };
        (device.path, shown)
    });
    Ok(Data(shown.collect()))
}

pub(super) async fn enable(cx: Cx<System>, input: EnableInput) -> Result<Written> {
    let path = format!("{}/", parse_mount_path(&input.path)?);
    let raw = cx
        .live()?
        .audit
        .enable(
            path,
            input.kind,
            input.description,
            input.options,
            input.local.0,
        )
        .await?;
    let mut warnings = Vec::new();
    if raw {
        warnings.push(
            "log_raw is set: every secret that is read or written stands in this device's log in the clear"
                .to_owned(),
        );
    }
    Ok(Written { warnings })
}

/// A header by its name.
#[derive(Deserialize, JsonSchema)]
pub(super) struct HeaderInput {
    header: String,
}

/// A header, and how it is recorded.
#[derive(Deserialize, JsonSchema)]
pub(super) struct HeaderWrite {
    header: String,
    /// Whether its values are written as HMACs.
    #[serde(default)]
    hmac: Flag,
}

/// The headers of requests that the audit log has.
#[derive(Serialize, JsonSchema)]
pub(super) struct ShownHeaders {
    /// By their names in lower case.
    headers: BTreeMap<String, Rule>,
}

pub(super) async fn show_headers(cx: Cx<System>) -> Result<Data<ShownHeaders>> {
    let headers = cx.live()?.audit.headers.get().0.clone();
    Ok(Data(ShownHeaders { headers }))
}

pub(super) async fn show_header(
    cx: Cx<System>,
    input: HeaderInput,
) -> Result<Data<BTreeMap<String, Rule>>> {
    let headers = cx.live()?.audit.headers.get();
    let name = folded(&input.header)?;
    match headers.0.get(&name) {
        Some(rule) => Ok(Data([(name, *rule)].into())),
        None => Err(Error::bad_request("Could not find header in config")),
    }
}

pub(super) async fn set_header(cx: Cx<System>, input: HeaderWrite) -> Result<NoContent> {
    let rule = Rule { hmac: input.hmac.0 };
    let set = |headers: &mut AuditedHeaders| headers.set(&input.header, rule);
    cx.live()?.audit.headers.change(set).await?;
    Ok(NoContent)
}

pub(super) async fn remove_header(cx: Cx<System>, input: HeaderInput) -> Result<NoContent> {
    let name = folded(&input.header)?;
    let remove = |headers: &mut AuditedHeaders| {
        headers.0.remove(&name);
        Ok(())
    };
    cx.live()?.audit.headers.change(remove).await?;
    Ok(NoContent)
}

pub(super) async fn disable(cx: Cx<System>, input: PathInput) -> Result<NoContent> {
    let path = format!("{}/", parse_mount_path(&input.path)?);
    cx.live()?.audit.disable(&path).await?;
    Ok(NoContent)
}

pub(super) async fn hash(cx: Cx<System>, input: HashInput) -> Result<Data<HashOut>> {
    let path = format!("{}/", parse_mount_path(&input.path)?);
    let hash = cx.live()?.audit.hash(&path, input.input.expose());
    hash.map(|hash| Data(HashOut { hash }))
        .ok_or_else(|| Error::bad_request(format!("no audit device at {path:?}")))
}
