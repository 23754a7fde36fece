//! `auth/token`: tokens made from tokens, looked up, renewed, revoked. The rules are in [`super::tokens`]; here is
//! who may ask for what.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use obol_mount::fields::{CommaList, Count, Flag, Ttl};
use obol_mount::{
    Backend, Caller, Cx, Error, Keys, NoContent, Output, Renewal, Reply, Response, Result,
    RouteTable, Routes, Secret, TokenKind, cidr, get, list, post,
};
use obol_storage::Batch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::policies::{PolicySet, parse_policy_list};
use super::settle::{auth_of, default_policy};
use super::tokens::{Cached, NewToken, TokenEntry};
use super::{Core, Live, rfc3339, unix_now, upgrade};

/// The longest text that a client may put into a token's metadata or display name.
const MAX_TEXT: usize = 1024;
const MAX_METADATA: usize = 64;

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
        .at("lookup", "Show a token", post(lookup))
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
}

/// A new token.
#[derive(Default, Deserialize, JsonSchema)]
struct CreateInput {
    /// A chosen id; root only. It may not begin like a token of the server's own making.
    id: Option<Secret>,
    /// Policies; a subset of the caller's, unless the caller has sudo here. Default: the caller's own.
    policies: Option<CommaList>,
    /// Metadata, texts by name; shown in lookups and in the audit log.
    #[serde(default)]
    meta: BTreeMap<String, String>,
    /// Without a parent; needs sudo.
    #[serde(default)]
    no_parent: Flag,
    /// Leave out the `default` policy.
    #[serde(default)]
    no_default_policy: Flag,
    /// Whether it can be renewed; true by default.
    renewable: Option<Flag>,
    /// The TTL.
    #[serde(default)]
    ttl: Ttl,
    /// `service` or `batch`.
    #[serde(rename = "type", default)]
    kind: String,
    /// A limit on its whole life that no renewal moves.
    #[serde(default)]
    explicit_max_ttl: Ttl,
    /// A name for people; `token` by default.
    #[serde(default)]
    display_name: String,
    /// How often it may be used; 0 means without limit.
    #[serde(default)]
    num_uses: Count,
    /// Makes it periodic; needs sudo.
    #[serde(default)]
    period: Ttl,
    /// Binding to an entity comes with identity: refused when set.
    #[serde(default)]
    entity_alias: String,
    /// Addresses (CIDR blocks) from which it may be used.
    #[serde(default)]
    bound_cidrs: CommaList,
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
struct Auth {
    auth: Value,
    warnings: Vec<String>,
}

impl Output for Auth {
    fn into_response(self) -> Result<Response> {
        let mut response = Response::new(Reply::Auth(self.auth));
        response.warnings = self.warnings;
        Ok(response)
    }

    const AUTH: bool = true;
}

async fn create(cx: Cx<TokenBackend>, input: CreateInput) -> Result<Auth> {
    make(&cx, input, false).await
}

async fn create_orphan(cx: Cx<TokenBackend>, input: CreateInput) -> Result<Auth> {
    make(&cx, input, true).await
}

async fn make(cx: &Cx<TokenBackend>, input: CreateInput, orphan: bool) -> Result<Auth> {
    let core = cx.core()?;
    let live = core.live()?;
    let caller = cx.request.caller()?;
    if caller.kind == TokenKind::Batch {
        return Err(Error::bad_request("batch tokens cannot create more tokens"));
    }
    let now = unix_now();
    let parent = living_caller(&live, caller, now).await?;
    if parent.entry.uses_left.is_some() {
        return Err(Error::bad_request(
            "a token with a limited number of uses cannot create tokens",
        ));
    }
    let path = format!("{}{}", cx.request.mount, cx.request.path);
    let sudo = live.acl_of_caller(caller).await?.capabilities(&path);
    let sudo = caller.is_root || sudo.contains(&"sudo") || sudo.contains(&"root");
    if !input.entity_alias.is_empty() {
        return Err(Error::bad_request(
            "entity_alias needs identity, which this version does not have",
        ));
    }
    if input.no_parent.0 && !sudo {
        return Err(Error::bad_request(
            "root or sudo privileges are required to create orphan tokens",
        ));
    }
    if !input.period.0.is_zero() && !sudo {
        return Err(Error::bad_request(
            "root or sudo privileges are required to create periodic tokens",
        ));
    }
    if input.id.is_some() && !caller.is_root {
        return Err(Error::bad_request("only root may choose a token's id"));
    }
    if let Some(id) = &input.id {
        check_chosen_id(id.expose())?;
    }
    check_texts(&input)?;
    let kind = match input.kind.as_str() {
        "" | "service" => TokenKind::Service,
        "batch" => TokenKind::Batch,
        _ => {
            return Err(Error::bad_request(
                "field \"type\": expected \"service\" or \"batch\"",
            ));
        }
    };
    let policies = policies_of_child(&input, caller, sudo)?;
    let grants_root = policies.grants_root();
    let asks_for_an_end = [input.ttl, input.period, input.explicit_max_ttl]
        .iter()
        .any(|ttl| !ttl.0.is_zero());
    let immortal = grants_root && !asks_for_an_end && parent.entry.expires.is_none();
    let orphan = orphan || input.no_parent.0;
    let new = NewToken {
        parent: (!orphan).then(|| parent.id.clone()),
        policies: policies.to_strings(),
        kind,
        display_name: if input.display_name.is_empty() {
            "token".into()
        } else {
            format!("token-{}", input.display_name)
        },
        metadata: input.meta,
        path,
        issuer: None,
        ttl: input.ttl.0,
        max_ttl: Duration::ZERO,
        explicit_max_ttl: input.explicit_max_ttl.0,
        period: input.period.0,
        num_uses: input.num_uses.0,
        renewable: input.renewable.is_none_or(|flag| flag.0),
        bound_cidrs: cidr::parse_list("bound_cidrs", &input.bound_cidrs.0)?,
        entity_id: if orphan {
            String::new()
        } else {
            parent.entry.entity_id.clone()
        },
        internal: Map::new(),
        immortal,
        id: input.id,
    };
    if grants_root && !immortal && parent.entry.expires.is_some() && input.ttl.0.is_zero() {
        return Err(Error::bad_request(
            "an expiring root token cannot create a root token that never ends",
        ));
    }
    let issued = live
        .tokens
        .issue(new, core.limits(None), Batch::new(), now)
        .await
        .map_err(Error::from)?;
    Ok(Auth {
        auth: live.with_identity(auth_of(&issued), &issued.entry).await?,
        warnings: issued.warnings,
    })
}

/// The child's policies: what was asked, within what the caller has, unless the caller may give more.
fn policies_of_child(input: &CreateInput, caller: &Caller, sudo: bool) -> Result<PolicySet> {
    let own = parse_policy_list(caller.policies.iter()).map_err(Error::internal)?;
    let asked = match &input.policies {
        Some(list) if !list.0.is_empty() => {
            parse_policy_list(&list.0).map_err(|error| Error::bad_request(error.to_string()))?
        }
        _ => own.clone(),
    };
    if asked.grants_root() && !caller.is_root {
        return Err(Error::bad_request(
            "root tokens may not be created without the parent token being root",
        ));
    }
    if !sudo
        && !asked
            .names()
            .iter()
            .all(|name| own.contains(name.as_str()) || name.as_str() == super::policies::DEFAULT)
    {
        return Err(Error::bad_request(
            "child policies must be a subset of the parent's",
        ));
    }
    let default = default_policy()?;
    // A caller that has no `default` itself does not hand it on unless it may give anything.
    if input.no_default_policy.0 {
        Ok(asked
            .names()
            .iter()
            .filter(|name| **name != default)
            .cloned()
            .collect())
    } else if asked.grants_root() || (!sudo && !own.contains(default.as_str())) {
        Ok(asked
            .names()
            .iter()
            .filter(|name| own.contains(name.as_str()) || **name != default)
            .cloned()
            .collect())
    } else {
        Ok(asked.with(default))
    }
}

fn check_texts(input: &CreateInput) -> Result<()> {
    let long = |text: &str| text.len() > MAX_TEXT || text.contains(char::is_control);
    if long(&input.display_name) {
        return Err(Error::bad_request(format!(
            "display_name may have {MAX_TEXT} bytes and no control characters"
        )));
    }
    if input.meta.len() > MAX_METADATA
        || input
            .meta
            .iter()
            .any(|(k, v)| k.is_empty() || long(k) || long(v))
    {
        return Err(Error::bad_request(format!(
            "metadata may have {MAX_METADATA} entries of {MAX_TEXT} bytes without control characters"
        )));
    }
    Ok(())
}

fn check_chosen_id(id: &str) -> Result<()> {
    let own = ["obs.", "obb.", "obr."]
        .iter()
        .any(|prefix| id.starts_with(prefix));
    let odd = id.is_empty() || id.len() > MAX_TEXT || !id.bytes().all(|b| b.is_ascii_graphic());
    if own || odd {
        return Err(Error::bad_request(
            "a chosen id must be printable ASCII and may not begin with obs., obb. or obr.",
        ));
    }
    Ok(())
}

async fn living_caller(live: &Live, caller: &Caller, now: u64) -> Result<Arc<Cached>> {
    live.tokens
        .by_accessor(&caller.accessor, now)
        .await?
        .ok_or_else(Error::forbidden)
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

async fn found(cx: &Cx<TokenBackend>, token: Option<Secret>) -> Result<(Arc<Cached>, Secret)> {
    let token = token
        .filter(|t| !t.is_empty())
        .ok_or_else(|| Error::bad_request("missing required field \"token\""))?;
    let found = cx.live()?.tokens.find(token.expose(), unix_now()).await?;
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

async fn lookup(cx: Cx<TokenBackend>, input: TokenInput) -> Result<Response> {
    let (token, secret) = found(&cx, input.token).await?;
    shown(&*cx.live()?, &token, secret.expose(), unix_now()).await
}

async fn lookup_self(cx: Cx<TokenBackend>) -> Result<Response> {
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

async fn lookup_accessor(cx: Cx<TokenBackend>, input: AccessorInput) -> Result<Response> {
    let token = found_by_accessor(&cx, &input.accessor).await?;
    // An accessor must not lead to the token itself.
    shown(&*cx.live()?, &token, "", unix_now()).await
}

async fn renew(cx: Cx<TokenBackend>, input: RenewInput) -> Result<Auth> {
    let (token, secret) = found(&cx, input.token).await?;
    renew_one(&cx, &token, Some(secret), input.increment.0).await
}

async fn renew_self(cx: Cx<TokenBackend>, input: IncrementInput) -> Result<Auth> {
    let secret = cx.request.token()?.clone();
    let (token, secret) = found(&cx, Some(secret)).await?;
    renew_one(&cx, &token, Some(secret), input.increment.0).await
}

async fn renew_accessor(cx: Cx<TokenBackend>, input: AccessorInput) -> Result<Auth> {
    let token = found_by_accessor(&cx, &input.accessor).await?;
    renew_one(&cx, &token, None, input.increment.0).await
}

async fn renew_one(
    cx: &Cx<TokenBackend>,
    token: &Cached,
    secret: Option<Secret>,
    increment: Duration,
) -> Result<Auth> {
    let core = cx.core()?;
    let live = core.live()?;
    let entry = &token.entry;
    if entry.kind == TokenKind::Batch {
        return Err(Error::bad_request("batch tokens cannot be renewed"));
    }
    if !entry.renewable {
        return Err(Error::bad_request("this token is not renewable"));
    }
    // Who issued it looks at the proof again, and its present settings apply.
    let (
        Renewal {
            token: params,
            at_most,
            group_aliases,
        },
        limits,
    ) = match &entry.issuer {
        None => (
            Renewal {
                token: entry.params(),
                at_most: None,
                group_aliases: None,
            },
            core.limits(None),
        ),
        Some(issuer) => {
            let mounted = live.mounts.by_uuid(issuer).ok_or_else(Error::forbidden)?;
            let renewal = mounted
                .backend
                .renew(&entry.internal, &entry.policies)
                .await?;
            (renewal, core.limits(Some(&mounted.entry)))
        }
    };
    // Also when somebody else renews it: a disabled entity has nothing to renew.
    live.identity_of(&entry.entity_id).await?;
    if let Some(groups) = group_aliases
        && let Some(mounted) = entry.issuer.as_ref().and_then(|i| live.mounts.by_uuid(i))
        && !entry.entity_id.is_empty()
    {
        live.identity
            .refresh(&entry.entity_id, &mounted.entry.accessor, &groups)
            .await?;
    }
    let (entry, warnings) = live
        .tokens
        .renew(&token.id, increment, &params, at_most, limits, unix_now())
        .await?;
    Ok(Auth {
        auth: live
            .with_identity(renewed_auth(&entry, secret), &entry)
            .await?,
        warnings,
    })
}

fn renewed_auth(entry: &TokenEntry, secret: Option<Secret>) -> Value {
    json!({
        "client_token": secret.as_ref().map_or("", Secret::expose),
        "accessor": entry.accessor,
        "policies": entry.policies,
        "token_policies": entry.policies,
        "metadata": if entry.metadata.is_empty() { Value::Null } else { json!(entry.metadata) },
        "lease_duration": entry.ttl(unix_now()),
        "renewable": entry.renewable,
        "entity_id": entry.entity_id,
        "token_type": entry.kind,
        "orphan": entry.is_orphan(),
        "mfa_requirement": null,
        "num_uses": entry.uses_left.unwrap_or(0),
    })
}

async fn revoke(cx: Cx<TokenBackend>, input: TokenInput) -> Result<NoContent> {
    let token = input
        .token
        .filter(|t| !t.is_empty())
        .ok_or_else(|| Error::bad_request("missing required field \"token\""))?;
    let live = cx.live()?;
    if let Some(found) = live.tokens.find(token.expose(), unix_now()).await? {
        revoke_one(live, &found, false).await?;
    }
    Ok(NoContent)
}

async fn revoke_self(cx: Cx<TokenBackend>) -> Result<NoContent> {
    let (token, _) = found(&cx, Some(cx.request.token()?.clone())).await?;
    revoke_one(cx.live()?, &token, false).await?;
    Ok(NoContent)
}

async fn revoke_accessor(cx: Cx<TokenBackend>, input: AccessorInput) -> Result<NoContent> {
    let token = found_by_accessor(&cx, &input.accessor).await?;
    revoke_one(cx.live()?, &token, false).await?;
    Ok(NoContent)
}

async fn revoke_orphan(cx: Cx<TokenBackend>, input: TokenInput) -> Result<NoContent> {
    let (token, _) = found(&cx, input.token).await?;
    revoke_one(cx.live()?, &token, true).await?;
    Ok(NoContent)
}

/// Goes on when the client goes away: half a tree would be finished only at the next unseal.
async fn revoke_one(live: Arc<Live>, token: &Cached, orphaning: bool) -> Result<()> {
    if token.entry.kind == TokenKind::Batch {
        return Err(Error::bad_request(
            "batch tokens cannot be revoked: they end by themselves",
        ));
    }
    let id = token.id.clone();
    let work = tokio::spawn(async move {
        if orphaning {
            live.tokens.revoke_orphaning(&id, &live.forget()).await
        } else {
            live.tokens.revoke(&id, &live.forget()).await
        }
    });
    work.await.map_err(Error::internal)?
}

async fn accessors(cx: Cx<TokenBackend>, input: ListInput) -> Result<Keys> {
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
