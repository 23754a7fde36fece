//! Looking tokens up: by themselves, by accessor, and all of them.

use std::collections::BTreeMap;

use obol_mount::{Cx, Error, Keys, Output, Reply, Response, Result, Secret, TokenKind};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use super::{AccessorInput, ListInput, TokenBackend, TokenInput, found, found_by_accessor};
use crate::core::tokens::Cached;
use crate::core::{Live, rfc3339, unix_now};

pub(super) async fn lookup(cx: Cx<TokenBackend>, input: TokenInput) -> Result<Shown> {
    if input.token.as_ref().is_none_or(Secret::is_empty) {
        return lookup_self(cx).await;
    }
    let (token, secret) = found(&cx, input.token).await?;
    shown(&*cx.live()?, &token, secret.expose(), unix_now()).await
}

pub(super) async fn lookup_self(cx: Cx<TokenBackend>) -> Result<Shown> {
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

pub(super) async fn lookup_accessor(cx: Cx<TokenBackend>, input: AccessorInput) -> Result<Shown> {
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
async fn shown(live: &Live, token: &Cached, id: &str, now: u64) -> Result<Shown> {
    let entry = &token.entry;
    let identity = live.identity_policies(&entry.entity_id).await?;
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
    Reply::json(&data).map(Shown)
}

/// A [`ShownToken`] that is written: it borrows from what it shows.
pub(super) struct Shown(Reply);

impl Output for Shown {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(self.0))
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<ShownToken<'static>>())
    }
}

/// A token. Vault's names and order; what is left out has no value, or none that Vault would show.
#[derive(Serialize, JsonSchema)]
struct ShownToken<'a> {
    /// A name of the token with which it can be looked up, renewed and revoked, but not used.
    accessor: &'a str,
    /// Seconds since 1970.
    creation_time: u64,
    /// Seconds that it was made for, or was last renewed for; 0 for a token that never ends.
    creation_ttl: u64,
    /// A name for people.
    display_name: &'a str,
    /// Who it stands for; empty for a token without an entity.
    entity_id: &'a str,
    /// RFC 3339; null for a token that never ends.
    expire_time: Option<String>,
    /// Seconds of its whole life that no renewal moves; 0 means no such limit.
    explicit_max_ttl: u64,
    /// The token itself; empty when it was looked up by its accessor.
    id: &'a str,
    /// What the login, or whoever made the token, says of it; null when that is nothing.
    meta: Option<&'a BTreeMap<String, String>>,
    /// How often it may still be used; 0 means without limit.
    num_uses: u64,
    /// Whether it has no parent with which it would end.
    orphan: bool,
    /// The path of the request that made it.
    path: &'a str,
    /// The token role that it was made by.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    /// Its own policies.
    policies: &'a [String],
    /// Those of its entity and of the entity's groups, as they are now.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_policies: Option<&'a [String]>,
    /// Whether it can be renewed; false for a batch token and for one that never ends.
    renewable: bool,
    /// Seconds left; 0 for a token that never ends.
    ttl: u64,
    /// `service` or `batch`.
    #[serde(rename = "type")]
    kind: TokenKind,
    /// RFC 3339; left out of a token that never ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    issue_time: Option<String>,
    /// Seconds that each renewal of a periodic token gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<u64>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal_time: Option<u64>,
    /// The addresses (CIDR blocks) from which it may be used; left out where it may be used from all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    bound_cidrs: Option<&'a [ipnet::IpNet]>,
}
