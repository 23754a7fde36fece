//! What clients and user interfaces ask about a server: its nodes, its versions, its configuration, its counts.

use obol_mount::{Access, Cx, Error, Keys, Reply, Response, Result, Routes, get, list};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::System;
use crate::core::VERSION;

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
        .at(
            "internal/counters/tokens",
            "How many service tokens there are",
            get(tokens),
        )
        .at(
            "internal/counters/entities",
            "How many entities there are",
            get(entities),
        )
}

pub(super) async fn ha_status(cx: Cx<System>) -> Result<Response> {
    let core = cx.core()?;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let node = json!({
        "hostname": hostname.trim(),
        "api_address": core.settings.api_addr,
        "cluster_address": "",
        "active_node": true,
        "last_echo": null,
        "version": VERSION,
    });
    Ok(data([("nodes", json!([node]))]))
}

pub(super) async fn replication(_: Cx<System>) -> Result<Response> {
    Ok(data([
        ("mode", json!("disabled")),
        ("dr", json!({ "mode": "disabled" })),
        ("performance", json!({ "mode": "disabled" })),
    ]))
}

pub(super) async fn versions(cx: Cx<System>) -> Result<Response> {
    let history = cx.core()?.version_history().await?;
    let (mut keys, mut info, mut previous) = (Vec::new(), Map::new(), Value::Null);
    for run in history {
        let installed = i64::try_from(run.installed)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .and_then(|time| time.format(&Rfc3339).ok())
            .ok_or_else(|| Error::internal("the time of a version is no time"))?;
        keys.push(run.version.clone());
        let shown = json!({
            "timestamp_installed": installed,
            "previous_version": previous,
            "build_date": "",
        });
        previous = run.version.as_str().into();
        info.insert(run.version, shown);
    }
    if keys.is_empty() {
        return Err(Error::not_found());
    }
    Ok(data([
        ("keys", json!(Keys { keys }.keys)),
        ("key_info", info.into()),
    ]))
}

pub(super) async fn sanitized(cx: Cx<System>) -> Result<Response> {
    let shown = cx.core()?.settings.sanitized.clone();
    Ok(Response::new(Reply::Data(shown)))
}

pub(super) async fn tokens(cx: Cx<System>) -> Result<Response> {
    let total = cx.core()?.count_tokens().await?;
    let counters = json!({ "service_tokens": { "total": total } });
    Ok(data([("counters", counters)]))
}

pub(super) async fn entities(cx: Cx<System>) -> Result<Response> {
    let total = cx.core()?.count_entities().await?;
    Ok(data([(
        "counters",
        json!({ "entities": { "total": total } }),
    )]))
}

fn data<const N: usize>(fields: [(&str, Value); N]) -> Response {
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    Response::new(Reply::Data(fields.into_iter().collect()))
}
