//! What clients and user interfaces ask about a server: its nodes, its versions, its configuration.

use std::collections::BTreeMap;

use obol_mount::{Access, Cx, Data, Error, Result, Routes, get, list};
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::System;
use crate::core::VERSION;
use crate::core::sanitized::Sanitized;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "ha-status",
            "The servers of the cluster: this one",
            get(ha_status),
        )
        .with(
            Access::Public,
            "replication/status",
            "Whether there is replication: there is none",
            get(replication),
        )
        .at(
            "version-history",
            "The versions that have run on this storage, and since when",
            list(versions),
        )
        .at(
            "config/state/sanitized",
            "The configuration that the server started with, without secrets",
            get(sanitized),
        )
}

/// The servers of the cluster.
#[derive(Serialize, JsonSchema)]
pub(super) struct HaStatus {
    /// This one.
    nodes: [Node; 1],
}

#[derive(Serialize, JsonSchema)]
struct Node {
    /// The host name of the machine; empty where the system does not tell it.
    hostname: String,
    /// The address that clients should use.
    api_address: String,
    /// Always empty: there is one server.
    cluster_address: &'static str,
    /// Always true.
    active_node: bool,
    /// Always null: there is nobody to hear from.
    last_echo: (),
    /// The version of the server.
    version: &'static str,
}

pub(super) async fn ha_status(cx: Cx<System>) -> Result<Data<HaStatus>> {
    let core = cx.core()?;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let node = Node {
        hostname: hostname.trim().to_owned(),
        api_address: core.settings.api_addr.clone(),
        cluster_address: "",
        active_node: true,
        last_echo: (),
        version: VERSION,
    };
    Ok(Data(HaStatus { nodes: [node] }))
}

/// Whether there is replication.
#[derive(Serialize, JsonSchema)]
pub(super) struct Replication {
    /// `disabled`.
    mode: &'static str,
    dr: Mode,
    performance: Mode,
}

#[derive(Serialize, JsonSchema)]
struct Mode {
    /// `disabled`.
    mode: &'static str,
}

pub(super) async fn replication(_: Cx<System>) -> Result<Data<Replication>> {
    const NONE: &str = "disabled";
    Ok(Data(Replication {
        mode: NONE,
        dr: Mode { mode: NONE },
        performance: Mode { mode: NONE },
    }))
}

/// The versions that have run on this storage.
#[derive(Serialize, JsonSchema)]
pub(super) struct Versions {
    /// The oldest first.
    keys: Vec<String>,
    /// By version.
    key_info: BTreeMap<String, Installed>,
}

#[derive(Serialize, JsonSchema)]
struct Installed {
    /// When it ran first, RFC 3339.
    timestamp_installed: String,
    /// Null for the first one.
    previous_version: Option<String>,
    /// Always empty: a build says its version alone.
    build_date: &'static str,
}

pub(super) async fn versions(cx: Cx<System>) -> Result<Data<Versions>> {
    let history = cx.core()?.version_history().await?;
    let (mut keys, mut key_info) = (Vec::<String>::new(), BTreeMap::new());
    for run in history {
        let timestamp_installed = i64::try_from(run.installed)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .and_then(|time| time.format(&Rfc3339).ok())
            .ok_or_else(|| Error::internal("the time of a version is no time"))?;
        let installed = Installed {
            timestamp_installed,
            previous_version: keys.last().cloned(),
            build_date: "",
        };
        keys.push(run.version.clone());
        key_info.insert(run.version, installed);
    }
    match keys.is_empty() {
        true => Err(Error::not_found()),
        false => Ok(Data(Versions { keys, key_info })),
    }
}

pub(super) async fn sanitized(cx: Cx<System>) -> Result<Data<Sanitized>> {
    Ok(Data(cx.core()?.settings.sanitized.clone()))
}
