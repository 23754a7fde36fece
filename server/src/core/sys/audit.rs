//! `sys/audit` and `sys/audit-hash`.

use std::collections::BTreeMap;

use obol_mount::fields::Flag;
use obol_mount::{Cx, Data, Error, NoContent, Reply, Response, Result, Routes, Secret, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::System;
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
    /// The kind of device: `file`.
    #[serde(rename = "type")]
    kind: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// `file_path` (an absolute path, or `stdout`), `mode`, `hmac_accessor`.
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
    hash: String,
}

pub(super) async fn show_all(cx: Cx<System>) -> Result<Response> {
    let mut data = Map::new();
    for device in cx.live()?.audit.list() {
        let shown = json!({
            "description": device.description,
            "local": device.local,
            "options": device.options,
            "path": device.path,
            "type": device.kind,
        });
        data.insert(device.path.clone(), shown);
    }
    Ok(Response::new(Reply::Data(data)))
}

pub(super) async fn enable(cx: Cx<System>, input: EnableInput) -> Result<NoContent> {
    let path = format!("{}/", parse_mount_path(&input.path)?);
    cx.live()?
        .audit
        .enable(
            path,
            input.kind,
            input.description,
            input.options,
            input.local.0,
        )
        .await?;
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
