//! `sys/capabilities` and its kin: what a token may do on paths.

use std::sync::Arc;

use obol_mount::fields::CommaList;
use obol_mount::{Cx, Error, Reply, Response, Result, Routes, Secret, post};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{System, required};
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

pub(super) async fn of_caller(cx: Cx<System>, input: SelfInput) -> Result<Response> {
    let live = cx.live()?;
    let caller = cx.request.caller()?;
    let acl = live.acl_of_caller(caller).await?;
    answer(&input.paths, |path| {
        acl.capabilities(path)
            .iter()
            .map(ToString::to_string)
            .collect()
    })
}

pub(super) async fn of_token(cx: Cx<System>, input: TokenInput) -> Result<Response> {
    let token = required(input.token, "token")?;
    let found = cx.live()?.tokens.find(token.expose(), unix_now()).await?;
    of(&cx, found, &input.paths).await
}

pub(super) async fn of_accessor(cx: Cx<System>, input: AccessorInput) -> Result<Response> {
    let found = cx
        .live()?
        .tokens
        .by_accessor(&input.accessor, unix_now())
        .await?;
    of(&cx, found, &input.paths).await
}

async fn of(cx: &Cx<System>, found: Option<Arc<Cached>>, paths: &CommaList) -> Result<Response> {
    let token = found.ok_or_else(|| Error::bad_request("invalid token"))?;
    let acl = cx.live()?.acl_of(&token).await?;
    answer(paths, |path| {
        acl.capabilities(path)
            .iter()
            .map(ToString::to_string)
            .collect()
    })
}

fn answer(paths: &CommaList, of: impl Fn(&str) -> Vec<String>) -> Result<Response> {
    if paths.0.is_empty() {
        return Err(Error::bad_request("paths must be supplied"));
    }
    let mut data = Map::new();
    for path in &paths.0 {
        data.insert(path.clone(), json!(of(path.trim_start_matches('/'))));
    }
    if let [only] = paths.0.as_slice() {
        let capabilities: Value = data[only].clone();
        data.insert("capabilities".into(), capabilities);
    }
    Ok(Response::new(Reply::Data(data)))
}
