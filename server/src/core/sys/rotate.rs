//! `sys/key-status`, `sys/rotate`: the key that values are encrypted with.

use obol_mount::fields::{Count, Flag, Ttl};
use obol_mount::{Cx, Data, Error, NoContent, Result, Routes, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::System;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "key-status",
            "The key that values are encrypted with, and how much it was used",
            get(key_status),
        )
        .sudo(
            "rotate",
            "Encrypt with a new key from now on; what is stored stays readable",
            post(rotate),
        )
        .sudo(
            "rotate/keyring",
            "Encrypt with a new key from now on; what is stored stays readable",
            post(rotate),
        )
        .at(
            "rotate/config",
            "When the key is rotated without being asked",
            get(read_config).post(write_config),
        )
}

#[derive(Serialize, JsonSchema)]
pub(super) struct KeyStatus {
    /// The number of the key, from 1.
    term: u32,
    /// When it was installed, RFC 3339.
    install_time: String,
    /// Encryptions with it so far; rounded up where servers have reserved some.
    encryptions: u64,
}

pub(super) async fn key_status(cx: Cx<System>) -> Result<Data<KeyStatus>> {
    let status = cx.core()?.barrier.key_status()?;
    let installed = i64::try_from(status.installed)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .ok_or_else(|| Error::internal("the time of the key's installation is no time"))?;
    Ok(Data(KeyStatus {
        term: status.term,
        install_time: installed,
        encryptions: status.encryptions,
    }))
}

pub(super) async fn rotate(cx: Cx<System>) -> Result<NoContent> {
    let core = cx.core()?;
    // Goes on when the client goes away.
    let term = tokio::spawn(async move { core.barrier.rotate().await })
        .await
        .map_err(Error::internal)??;
    tracing::info!(term, "the barrier key was rotated");
    Ok(NoContent)
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RotationConfig {
    /// Encryptions after which the key is rotated.
    max_operations: u64,
    /// Whether it is rotated without being asked.
    enabled: bool,
    /// Seconds after which the key is rotated; 0 for never.
    interval: u64,
}

/// When the key is rotated; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RotationInput {
    /// Encryptions after which the key is rotated, from 1,000,000 to 3,865,470,566.
    max_operations: Option<Count>,
    /// Time after which the key is rotated, at least 24h; 0 for never.
    interval: Option<Ttl>,
    /// Whether the key is rotated without being asked. Where not, it is all the same before the cipher's own limit of
    /// 2^32 encryptions.
    enabled: Option<Flag>,
}

pub(super) async fn read_config(cx: Cx<System>) -> Result<Data<RotationConfig>> {
    let config = cx.core()?.rotation_config().await?;
    Ok(Data(RotationConfig {
        max_operations: config.max_operations,
        enabled: config.enabled,
        interval: config.interval,
    }))
}

pub(super) async fn write_config(cx: Cx<System>, input: RotationInput) -> Result<NoContent> {
    cx.core()?
        .set_rotation_config(|config| {
            if let Some(Count(operations)) = input.max_operations {
                config.max_operations = operations;
            }
            if let Some(interval) = input.interval {
                config.interval = interval.as_secs();
            }
            if let Some(Flag(enabled)) = input.enabled {
                config.enabled = enabled;
            }
        })
        .await?;
    Ok(NoContent)
}
