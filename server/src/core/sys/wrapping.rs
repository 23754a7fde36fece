//! `sys/wrapping`: answers that are fetched with a token of one use.

use std::sync::Arc;

use obol_mount::{
    Access, Cx, Data, Error, Output, Part, Reply, Response, Result, Routes, Secret, WrapInfo, get,
    post,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::System;
use crate::core::tokens::Cached;
use crate::core::wrapping::{invalid, is_wrapping_token};
use crate::core::{Live, unix_now};

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "wrapping/wrap",
            "Wrap what is sent in a token of one use",
            post(wrap).verbatim(),
        )
        .at(
            "wrapping/unwrap",
            "The answer that a token wraps; this spends the token",
            post(unwrap),
        )
        .at(
            "wrapping/rewrap",
            "The same answer in a new token, for as long again; this spends the old one",
            post(rewrap),
        )
        .with(
            Access::Public,
            "wrapping/lookup",
            "When, for how long and by which request a wrapping token was made",
            get(lookup).post(lookup),
        )
}

/// Any JSON object. The header `X-Vault-Wrap-TTL` must say for how long.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct Content(Map<String, Value>);

/// A wrapping token.
#[derive(Deserialize, JsonSchema)]
struct TokenInput {
    /// The wrapping token. Without it the token in the header is meant.
    token: Option<Secret>,
}

#[derive(Serialize, JsonSchema)]
struct Looked {
    /// The path of the request whose answer is wrapped.
    creation_path: String,
    /// RFC 3339.
    creation_time: String,
    /// Seconds that the token was made for.
    creation_ttl: u64,
}

/// What was sent: it is wrapped like any other answer.
struct ToWrap(Map<String, Value>);

impl Output for ToWrap {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(Reply::Data(self.0)))
    }

    const PART: Part = Part::WrapInfo;
}

/// The answer that was wrapped, as it would have been sent then: an envelope of any operation, or what was sent to
/// `wrap`. The status is that of then, too.
#[derive(JsonSchema)]
struct Unwrapped {
    #[serde(flatten)]
    body: Map<String, Value>,
    #[serde(skip)]
    status: u16,
}

impl Output for Unwrapped {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(Reply::Bare(self.body.into())).with_status(self.status))
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Self>())
    }

    const PART: Part = Part::Body;
}

/// The token that wraps the answer from now on.
struct Rewrapped(Box<WrapInfo>);

impl Output for Rewrapped {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(Reply::Wrapped(self.0)))
    }

    const PART: Part = Part::WrapInfo;
}

async fn wrap(cx: Cx<System>, Content(content): Content) -> Result<ToWrap> {
    if cx.request.wrap_ttl.is_none() {
        return Err(Error::bad_request(
            "endpoint requires response wrapping to be used",
        ));
    }
    Ok(ToWrap(content))
}

async fn unwrap(cx: Cx<System>, input: TokenInput) -> Result<Unwrapped> {
    let live = cx.live()?;
    let token = wrapping_token(&cx, &live, input).await?;
    let content = live.wrapping.take(&token).await?.ok_or_else(invalid)?;
    live.discard(&token.id).await;
    match content.into_parts()? {
        (Value::Object(body), status) => Ok(Unwrapped { body, status }),
        _ => Err(Error::internal("a wrapped answer is no object")),
    }
}

async fn rewrap(cx: Cx<System>, input: TokenInput) -> Result<Rewrapped> {
    let core = cx.core()?;
    let live = core.live()?;
    let token = wrapping_token(&cx, &live, input).await?;
    let wrapped = core.rewrap(&live, &token).await?.ok_or_else(invalid)?;
    Ok(Rewrapped(wrapped.info))
}

async fn lookup(cx: Cx<System>, input: TokenInput) -> Result<Data<Looked>> {
    let live = cx.live()?;
    let token = wrapping_token(&cx, &live, input).await?;
    let info = live.wrapping.info(&token).await?.ok_or_else(invalid)?;
    Ok(Data(Looked {
        creation_path: info.creation_path,
        creation_time: info.creation_time,
        creation_ttl: info.creation_ttl,
    }))
}

/// The wrapping token that is meant: alive, and one.
async fn wrapping_token(cx: &Cx<System>, live: &Live, input: TokenInput) -> Result<Arc<Cached>> {
    let sent = input.token.filter(|token| !token.is_empty());
    let token = sent
        .as_ref()
        .or(cx.request.token.as_ref())
        .ok_or_else(invalid)?;
    let token = live.wrapping.unpacked(token).await?;
    let found = live.tokens.find(token.expose(), unix_now()).await?;
    found
        .filter(|token| is_wrapping_token(token))
        .ok_or_else(invalid)
}
