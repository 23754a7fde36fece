//! What clients ask about the API itself: the OpenAPI document, and the mounts that a user interface or the
//! command line needs to know.

use std::collections::BTreeMap;
use std::sync::Arc;

use obol_mount::{Access, Bare, Cx, Data, Error, Family, Result, Routes, cidr, get};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::System;
use crate::core::Live;
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
    auth: BTreeMap<String, Shown>,
    /// Secrets engines.
    secret: BTreeMap<String, Shown>,
}

/// A mount in the list of all.
#[derive(Serialize, JsonSchema)]
struct Shown {
    #[serde(flatten)]
    summary: Summary,
    /// For callers who may do something below it.
    #[serde(flatten)]
    details: Option<Details>,
}

/// What callers see of mounts below which they may do something.
#[derive(Serialize, JsonSchema)]
struct Details {
    /// A name of the mount that stays when it is moved.
    accessor: String,
    /// The name of the mount's place in storage.
    uuid: String,
    /// As it is set.
    config: MountConfig,
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
    #[serde(flatten)]
    details: Details,
}

/// Mounts that are listed for everybody, and with a token those below which it may do something.
pub(super) async fn ui_mounts(cx: Cx<System>) -> Result<Data<UiMounts>> {
    let live = cx.live()?;
    let acl = acl_of_whoever_asks(&cx, &live).await;
    let mut shown = UiMounts::default();
    for mounted in &*live.mounts.all() {
        let entry = &mounted.entry;
        let is_reached = acl.as_ref().is_some_and(|acl| may_reach(acl, mounted));
        if !is_reached && entry.config.listing_visibility != "unauth" {
            continue;
        }
        let listed = Shown {
            summary: Summary::of(mounted),
            details: is_reached.then(|| Details::of(mounted)),
        };
        match entry.family() {
            Family::Auth => {
                let path = entry.path.trim_start_matches("auth/");
                shown.auth.insert(path.to_owned(), listed)
            }
            Family::Secrets => shown.secret.insert(entry.path.clone(), listed),
        };
    }
    Ok(Data(shown))
}

/// The rights of the token that came with a request for which none is needed. One that may not be used, here or any
/// more, is none.
async fn acl_of_whoever_asks(cx: &Cx<System>, live: &Live) -> Option<Arc<Acl>> {
    let token = cx.request.token.as_ref()?;
    let found = live
        .tokens
        .find(token.expose(), cx.request.now_unix())
        .await;
    let token = found.ok().flatten()?;
    if !cidr::allows(&token.entry.bound_cidrs, cx.request.peer) {
        return None;
    }
    live.acl_of(&token).await.ok()
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
        details: Details::of(&mounted),
    }))
}

impl Details {
    fn of(mounted: &Mounted) -> Self {
        let entry = &mounted.entry;
        Self {
            accessor: entry.accessor.clone(),
            uuid: entry.uuid.clone(),
            config: entry.config.clone(),
        }
    }
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
