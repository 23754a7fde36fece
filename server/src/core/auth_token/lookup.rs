//! Looking tokens up: by themselves, by accessor, and all of them.

use std::collections::BTreeMap;

use obol_mount::{Cx, Error, Keys, Reply, Response, Result, TokenKind};
use serde::Serialize;

use super::{AccessorInput, ListInput, TokenBackend, TokenInput, found, found_by_accessor};
use crate::core::tokens::Cached;
use crate::core::{Live, rfc3339, unix_now};

pub(super) async fn lookup(cx: Cx<TokenBackend>, input: TokenInput) -> Result<Response> {
    let (token, secret) = found(&cx, input.token).await?;
    shown(&*cx.live()?, &token, secret.expose(), unix_now()).await
}

pub(super) async fn lookup_self(cx: Cx<TokenBackend>) -> Result<Response> {
    let secret = cx.request.token()?.expose();
    let now = cx.request.now_unix();
    let live = cx.live()?;
    let tokens = &live.tokens;
    // The caller was found a moment ago, so its id is known; a batch token has none, it is its own record.
    let found = match tokens.known(&cx.request.caller()?.token_id, now).await? {
        Some(found) => Some(found),
        None => tokens.find(secret, now).await?,
    };
    shown(&live, &*found.ok_or_else(Error::forbidden)?, secret, now).await
}

pub(super) async fn lookup_accessor(
    cx: Cx<TokenBackend>,
    input: AccessorInput,
) -> Result<Response> {
    let token = found_by_accessor(&cx, &input.accessor).await?;
    // An accessor must not lead to the token itself.
    shown(&*cx.live()?, &token, "", unix_now()).await
}

pub(super) async fn accessors(cx: Cx<TokenBackend>, input: ListInput) -> Result<Keys> {
    let limit = input.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.0.max(1)).unwrap_or(usize::MAX)
    });
    Ok(Keys {
        keys: cx
            .live()?
            .tokens
            .accessors(input.after.as_deref(), limit)
            .await?,
    })
}

/// What a lookup shows.
async fn shown(live: &Live, token: &Cached, id: &str, now: u64) -> Result<Response> {
    let entry = &token.entry;
    let identity = live.identity_policies(entry).await?;
    let data = ShownToken {
        accessor: &entry.accessor,
        creation_time: entry.created,
        creation_ttl: entry.creation_ttl,
        display_name: &entry.display_name,
        entity_id: &entry.entity_id,
        expire_time: entry.expires.and_then(rfc3339),
        explicit_max_ttl: entry.explicit_max_ttl,
        id,
        meta: (!entry.metadata.is_empty()).then_some(&entry.metadata),
        num_uses: entry.uses_left.unwrap_or(0),
        orphan: entry.is_orphan(),
        path: &entry.path,
        role: Some(entry.role.as_str()).filter(|role| !role.is_empty()),
        policies: &entry.policies,
        identity_policies: (!identity.is_empty()).then_some(&*identity),
        renewable: entry.renewable,
        ttl: entry.ttl(now),
        kind: entry.kind,
        issue_time: entry.expires.and_then(|_| rfc3339(entry.created)),
        period: (entry.period > 0).then_some(entry.period),
        last_renewal: entry.last_renewal.and_then(rfc3339),
        last_renewal_time: entry.last_renewal,
        bound_cidrs: Some(entry.bound_cidrs.as_slice()).filter(|blocks| !blocks.is_empty()),
    };
    Reply::json(&data).map(Response::new)
}

/// Vault's names and order. What is left out has no value, or none that Vault would show.
#[derive(Serialize)]
struct ShownToken<'a> {
    accessor: &'a str,
    creation_time: u64,
    creation_ttl: u64,
    display_name: &'a str,
    entity_id: &'a str,
    expire_time: Option<String>,
    explicit_max_ttl: u64,
    id: &'a str,
    meta: Option<&'a BTreeMap<String, String>>,
    num_uses: u64,
    orphan: bool,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    policies: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_policies: Option<&'a [String]>,
    renewable: bool,
    ttl: u64,
    #[serde(rename = "type")]
    kind: TokenKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    issue_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_cidrs: Option<&'a [ipnet::IpNet]>,
}
