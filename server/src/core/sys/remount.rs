//! `sys/remount`: mounts move to other paths. Their data stays where it is; tokens and leases that they have handed
//! out are revoked, and policies that name the old path are left alone, as with Vault.

use obol_mount::{Cx, Data, Error, Result, Routes, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;
use crate::core::mounts::parse_table_path;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .sudo(
            "remount",
            "Move a secrets engine or an auth method to another path",
            post(remount),
        )
        .at(
            "remount/status/{migration_id}",
            "How far a move has come",
            get(status),
        )
}

/// Moves a mount.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RemountInput {
    /// Where it is: `secret`, or `auth/kerberos` for an auth method.
    from: String,
    /// Where it shall be. An auth method stays below `auth/`.
    to: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Begun {
    /// To ask `sys/remount/status` with.
    migration_id: String,
}

pub(super) async fn remount(cx: Cx<System>, input: RemountInput) -> Result<Data<Begun>> {
    let named = |field: &str, path: &str| match path.is_empty() {
        true => Err(Error::bad_request(format!(
            "missing required field {field:?}"
        ))),
        false => parse_table_path(path).map(|(_, path)| path),
    };
    let (from, to) = (named("from", &input.from)?, named("to", &input.to)?);
    let migration_id = cx.live()?.remount(from, to).await?;
    Ok(Data(Begun { migration_id }))
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct StatusInput {
    /// As the move's beginning was answered with.
    migration_id: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Status {
    /// As the answer to the move named it.
    migration_id: String,
    migration_info: MigrationInfo,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct MigrationInfo {
    /// From where it is moved.
    source_mount: String,
    /// To where.
    target_mount: String,
    /// `in-progress`, `success` or `failure`; the log says why it failed.
    status: &'static str,
}

pub(super) async fn status(cx: Cx<System>, input: StatusInput) -> Result<Option<Data<Status>>> {
    Ok(cx.live()?.remounts.get(&input.migration_id).map(|known| {
        Data(Status {
            migration_id: known.id,
            migration_info: MigrationInfo {
                source_mount: known.from,
                target_mount: known.to,
                status: known.status.as_str(),
            },
        })
    }))
}
