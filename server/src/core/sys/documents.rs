//! What clients ask about the API itself: the OpenAPI document, and the mounts that a user interface or the
//! command line needs to know.

use obol_mount::{Access, Bare, Cx, Error, Family, Reply, Response, Result, Routes, get};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::System;
use crate::core::mounts::Mounted;
use crate::core::path::RequestPath;
use crate::core::policies::Acl;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "internal/specs/openapi",
            "The OpenAPI document of everything that is mounted",
            get(openapi),
        )
        .with(
            Access::Public,
            "internal/ui/mounts",
            "The mounts that the caller may see",
            get(ui_mounts),
        )
        .with(
            Access::AnyToken,
            "internal/ui/mounts/{path*}",
            "The mount behind a path",
            get(ui_mount),
        )
}

/// A path below any mount.
#[derive(Deserialize, JsonSchema)]
pub(super) struct PathInput {
    path: String,
}

pub(super) async fn openapi(cx: Cx<System>) -> Result<Bare> {
    let core = cx.core()?;
    let document = core.openapi(&*core.live()?)?;
    Ok(Bare(document))
}

/// Mounts that are listed for everybody.
pub(super) async fn ui_mounts(cx: Cx<System>) -> Result<Response> {
    let live = cx.live()?;
    let (mut auth, mut secret) = (Map::new(), Map::new());
    for mounted in live
        .mounts
        .all()
        .iter()
        .filter(|m| m.entry.config.listing_visibility == "unauth")
    {
        let shown = summary(mounted);
        match mounted.entry.family() {
            Family::Auth => auth.insert(
                mounted.entry.path.trim_start_matches("auth/").to_owned(),
                shown,
            ),
            Family::Secrets => secret.insert(mounted.entry.path.clone(), shown),
        };
    }
    let mut data = Map::new();
    data.insert("auth".into(), auth.into());
    data.insert("secret".into(), secret.into());
    Ok(Response::new(Reply::Data(data)))
}

/// The mount behind a path, for callers who may do anything below it.
pub(super) async fn ui_mount(cx: Cx<System>, input: PathInput) -> Result<Response> {
    let live = cx.live()?;
    let path = RequestPath::from_decoded(&input.path)
        .map_err(|error| Error::bad_request(error.to_string()))?;
    let caller = cx.request.caller()?;
    let acl = live.acl_of_caller(caller).await?;
    let (mounted, _) = live.mounts.route(&path).ok_or_else(Error::forbidden)?;
    if !may_reach(&acl, &mounted) {
        return Err(Error::forbidden());
    }
    let mut data = match summary(&mounted) {
        Value::Object(data) => data,
        _ => Map::new(),
    };
    data.insert("path".into(), mounted.entry.path.as_str().into());
    data.insert("accessor".into(), mounted.entry.accessor.as_str().into());
    data.insert("uuid".into(), mounted.entry.uuid.as_str().into());
    data.insert("config".into(), json!(mounted.entry.config));
    Ok(Response::new(Reply::Data(data)))
}

fn summary(mounted: &Mounted) -> Value {
    let entry = &mounted.entry;
    json!({
        "description": entry.description,
        "options": if entry.options.is_empty() { Value::Null } else { json!(entry.options) },
        "type": entry.kind,
    })
}

/// Whether some rule of the caller reaches below the mount.
fn may_reach(acl: &Acl, mounted: &Mounted) -> bool {
    acl.reaches(&mounted.entry.path)
}
