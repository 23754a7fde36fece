//! `auth/token`: tokens made from tokens, looked up, renewed, revoked. The rules are in [`super::tokens`]; here is
//! who may ask for what, one room for each.

mod create;
mod lookup;
mod policies;
mod renew;
mod revoke;
mod roles;

use std::sync::{Arc, Weak};

use obol_mount::fields::{Count, Ttl};
use obol_mount::{
    Auth, Backend, Cx, Error, Output, Part, Reply, Response, Result, RouteTable, Routes, Secret,
    get, list, post,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::tokens::{Cached, Limits};
use super::{Core, Live, unix_now, upgrade};
use create::{create, create_for_role, create_orphan};
use lookup::{accessors, lookup, lookup_accessor, lookup_self};
use renew::{renew, renew_accessor, renew_self};
use revoke::{revoke, revoke_accessor, revoke_orphan, revoke_self, tidy};
use roles::{delete_role, list_roles, read_role, role_exists, write_role};

pub(crate) struct TokenBackend {
    core: Weak<Core>,
}

impl TokenBackend {
    pub(crate) fn new(core: Weak<Core>) -> Self {
        Self { core }
    }

    fn core(&self) -> Result<Arc<Core>> {
        upgrade(&self.core)
    }

    fn live(&self) -> Result<Arc<Live>> {
        self.core()?.live()
    }
}

impl Backend for TokenBackend {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }
}

pub(crate) fn routes() -> Routes<TokenBackend> {
    Routes::new()
        .at(
            "create",
            "Create a child of the calling token",
            post(create),
        )
        .sudo(
            "create-orphan",
            "Create a token without a parent",
            post(create_orphan),
        )
        .at(
            "lookup",
            "Show a token; the calling one, where none is named",
            get(lookup_self).post(lookup),
        )
        .at(
            "lookup-self",
            "Show the calling token",
            get(lookup_self).post(lookup_self),
        )
        .at(
            "lookup-accessor",
            "Show the token of an accessor",
            post(lookup_accessor),
        )
        .at("renew", "Renew a token", post(renew))
        .at("renew-self", "Renew the calling token", post(renew_self))
        .at(
            "renew-accessor",
            "Renew the token of an accessor",
            post(renew_accessor),
        )
        .at("revoke", "Revoke a token and its children", post(revoke))
        .at(
            "revoke-self",
            "Revoke the calling token and its children",
            post(revoke_self),
        )
        .at(
            "revoke-accessor",
            "Revoke the token of an accessor, and its children",
            post(revoke_accessor),
        )
        .sudo(
            "revoke-orphan",
            "Revoke a token; its children live on as orphans",
            post(revoke_orphan),
        )
        .sudo("accessors", "The accessors of all tokens", list(accessors))
        .at(
            "create/{role_name}",
            "Create a token by the rules of a role",
            post(create_for_role),
        )
        .at("roles", "The names of all roles", list(list_roles))
        .at(
            "roles/{role_name}",
            "A role: what tokens made by it may and may not have",
            get(read_role)
                .post(write_role)
                .delete(delete_role)
                .exists(role_exists),
        )
        .at(
            "tidy",
            "Look for tokens and index entries that do not agree, and mend them",
            post(tidy),
        )
}

/// A token by its secret.
#[derive(Deserialize, JsonSchema)]
struct TokenInput {
    /// The token.
    token: Option<Secret>,
}

/// A token to be renewed.
#[derive(Deserialize, JsonSchema)]
struct RenewInput {
    /// The token.
    token: Option<Secret>,
    /// The TTL that is asked for; the server may give less.
    #[serde(default)]
    increment: Ttl,
}

/// How long to renew for.
#[derive(Deserialize, JsonSchema)]
struct IncrementInput {
    /// The TTL that is asked for; the server may give less.
    #[serde(default)]
    increment: Ttl,
}

/// A token by its accessor.
#[derive(Deserialize, JsonSchema)]
struct AccessorInput {
    /// The accessor.
    accessor: String,
    /// For renewals: the TTL that is asked for.
    #[serde(default)]
    increment: Ttl,
}

/// A page of a listing.
#[derive(Deserialize, JsonSchema)]
struct ListInput {
    /// Start after this accessor.
    after: Option<String>,
    /// At most so many.
    limit: Option<Count>,
}

/// An answer that carries a token's `auth`.
struct NewAuth {
    auth: Box<Auth>,
    warnings: Vec<String>,
}

impl Output for NewAuth {
    fn into_response(self) -> Result<Response> {
        let mut response = Response::new(Reply::Auth(self.auth));
        response.warnings = self.warnings;
        Ok(response)
    }

    const PART: Part = Part::Auth;
}

/// What `auth/token` is tuned to.
fn limits_here(core: &Core, live: &Live) -> Limits {
    let mounted = live.mounts.get("auth/token/");
    core.limits(mounted.as_ref().map(|mounted| &mounted.entry))
}

/// The token that a request names, if it is there.
async fn find(
    cx: &Cx<TokenBackend>,
    token: Option<Secret>,
) -> Result<(Option<Arc<Cached>>, Secret)> {
    let token = token
        .filter(|t| !t.is_empty())
        .ok_or_else(|| Error::bad_request("missing required field \"token\""))?;
    let found = cx.live()?.tokens.find(token.expose(), unix_now()).await?;
    Ok((found, token))
}

async fn found(cx: &Cx<TokenBackend>, token: Option<Secret>) -> Result<(Arc<Cached>, Secret)> {
    let (found, token) = find(cx, token).await?;
    // Vault's words and status for a token that is not there, whoever asks.
    Ok((
        found.ok_or_else(|| Error::forbidden_because("bad token"))?,
        token,
    ))
}

async fn found_by_accessor(cx: &Cx<TokenBackend>, accessor: &str) -> Result<Arc<Cached>> {
    let found = cx.live()?.tokens.by_accessor(accessor, unix_now()).await?;
    found.ok_or_else(|| Error::forbidden_because("invalid accessor"))
}
