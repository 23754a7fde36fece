//! `sys/capabilities` and its kin: what a token may do on paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use obol_mount::fields::CommaList;
use obol_mount::{Cx, Data, Error, Result, Routes, Secret, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{System, required};
use crate::core::policies::Acl;
use crate::core::tokens::Cached;
use crate::core::unix_now;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "capabilities",
            "What a token may do on paths",
            post(of_token),
        )
        .at(
            "capabilities-self",
            "What the calling token may do on paths",
            post(of_caller),
        )
        .at(
            "capabilities-accessor",
            "What the token of an accessor may do on paths",
            post(of_accessor),
        )
}

/// Paths to look at.
#[derive(Deserialize, JsonSchema)]
pub(super) struct SelfInput {
    /// The paths, without `/v1/`.
    #[serde(alias = "path")]
    #[schemars(extend("x-aliases" = ["path"]))]
    paths: CommaList,
}

/// A token and paths to look at.
#[derive(Deserialize, JsonSchema)]
pub(super) struct TokenInput {
    /// The token to look at.
    token: Option<Secret>,
    /// The paths, without `/v1/`.
    #[serde(alias = "path")]
    #[schemars(extend("x-aliases" = ["path"]))]
    paths: CommaList,
}

/// An accessor and paths to look at.
#[derive(Deserialize, JsonSchema)]
pub(super) struct AccessorInput {
    /// The accessor of the token to look at.
    accessor: String,
    /// The paths, without `/v1/`.
    #[serde(alias = "path")]
    #[schemars(extend("x-aliases" = ["path"]))]
    paths: CommaList,
}

/// What a token may do on each of the paths, by path, each a list of `create`, `read`, `update`, `patch`, `delete`, `list`,
/// `sudo`; `root` alone for everything and `deny` alone for nothing. Where one path was asked about, `capabilities` is the
/// same as what stands under it.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Allowed(BTreeMap<String, Vec<&'static str>>);

pub(super) async fn of_caller(cx: Cx<System>, input: SelfInput) -> Result<Data<Allowed>> {
    let live = cx.live()?;
    let caller = cx.request.caller()?;
    allowed(&*live.acl_of_caller(caller).await?, &input.paths)
}

pub(super) async fn of_token(cx: Cx<System>, input: TokenInput) -> Result<Data<Allowed>> {
    let token = required(input.token, "token")?;
    let found = cx.live()?.tokens.find(token.expose(), unix_now()).await?;
    of(&cx, found, &input.paths).await
}

pub(super) async fn of_accessor(cx: Cx<System>, input: AccessorInput) -> Result<Data<Allowed>> {
    let found = cx
        .live()?
        .tokens
        .by_accessor(&input.accessor, unix_now())
        .await?;
    of(&cx, found, &input.paths).await
}

async fn of(
    cx: &Cx<System>,
    found: Option<Arc<Cached>>,
    paths: &CommaList,
) -> Result<Data<Allowed>> {
    let token = found.ok_or_else(|| Error::bad_request("invalid token"))?;
    allowed(&*cx.live()?.acl_of(&token).await?, paths)
}

fn allowed(acl: &Acl, paths: &CommaList) -> Result<Data<Allowed>> {
    if paths.0.is_empty() {
        return Err(Error::bad_request("paths must be supplied"));
    }
    let of = |path: &String| acl.capabilities(path.trim_start_matches('/'));
    let mut allowed: BTreeMap<_, _> = paths.0.iter().map(|p| (p.clone(), of(p))).collect();
    if let [only] = paths.0.as_slice() {
        allowed.insert("capabilities".to_owned(), of(only));
    }
    Ok(Data(Allowed(allowed)))
}
