//! What clients ask about the API itself: the OpenAPI document, and the mounts that a user interface or the
//! command line needs to know.

use std::collections::BTreeMap;

use obol_mount::{Access, Bare, Cx, Data, Error, Family, Result, Routes, get};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::System;
use crate::core::mounts::{MountConfig, Mounted};
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

/// An OpenAPI 3.1 document: its shape is that of the specification.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct OpenApi(#[schemars(with = "Map<String, Value>")] Value);

pub(super) async fn openapi(cx: Cx<System>) -> Result<Bare<OpenApi>> {
    let core = cx.core()?;
    let document = core.openapi(&*core.live()?)?;
    Ok(Bare(OpenApi(document)))
}

/// The mounts that everybody may know of, by their paths.
#[derive(Default, Serialize, JsonSchema)]
pub(super) struct UiMounts {
    /// Auth methods.
    auth: BTreeMap<String, Summary>,
    /// Secrets engines.
    secret: BTreeMap<String, Summary>,
}

/// What a user interface needs to know of a mount.
#[derive(Serialize, JsonSchema)]
struct Summary {
    /// For people.
    description: String,
    /// Options of the backend, such as `version` of kv; null when there are none.
    options: Option<BTreeMap<String, String>>,
    /// What is mounted: `kv`, `kerberos`, ...
    #[serde(rename = "type")]
    kind: String,
}

/// The mount behind a path.
#[derive(Serialize, JsonSchema)]
pub(super) struct UiMount {
    #[serde(flatten)]
    summary: Summary,
    /// Where it is, with a slash at its end.
    path: String,
    /// A name of the mount that stays when it is moved.
    accessor: String,
    /// The name of the mount's place in storage.
    uuid: String,
    /// As it is set.
    config: MountConfig,
}

/// Mounts that are listed for everybody.
pub(super) async fn ui_mounts(cx: Cx<System>) -> Result<Data<UiMounts>> {
    let live = cx.live()?;
    let mut shown = UiMounts::default();
    for mounted in live
        .mounts
        .all()
        .iter()
        .filter(|m| m.entry.config.listing_visibility == "unauth")
    {
        let (path, summary) = (&mounted.entry.path, Summary::of(mounted));
        match mounted.entry.family() {
            Family::Auth => {
                let path = path.trim_start_matches("auth/");
                shown.auth.insert(path.to_owned(), summary)
            }
            Family::Secrets => shown.secret.insert(path.clone(), summary),
        };
    }
    Ok(Data(shown))
}

/// The mount behind a path, for callers who may do anything below it.
pub(super) async fn ui_mount(cx: Cx<System>, input: PathInput) -> Result<Data<UiMount>> {
    let live = cx.live()?;
    let path = RequestPath::from_decoded(&input.path)
        .map_err(|error| Error::bad_request(error.to_string()))?;
    let caller = cx.request.caller()?;
    let acl = live.acl_of_caller(caller).await?;
    let (mounted, _) = live.mounts.route(&path).ok_or_else(Error::forbidden)?;
    if !may_reach(&acl, &mounted) {
        return Err(Error::forbidden());
    }
    let entry = &mounted.entry;
    Ok(Data(UiMount {
        summary: Summary::of(&mounted),
        path: entry.path.clone(),
        accessor: entry.accessor.clone(),
        uuid: entry.uuid.clone(),
        config: entry.config.clone(),
    }))
}

impl Summary {
    fn of(mounted: &Mounted) -> Self {
        let entry = &mounted.entry;
        Self {
            description: entry.description.clone(),
            options: (!entry.options.is_empty()).then(|| entry.options.clone()),
            kind: entry.kind.clone(),
        }
    }
}

/// Whether some rule of the caller reaches below the mount.
fn may_reach(acl: &Acl, mounted: &Mounted) -> bool {
    acl.reaches(&mounted.entry.path)
}
