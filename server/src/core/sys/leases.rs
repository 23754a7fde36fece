//! `sys/leases`: what was handed out for a time, tokens among it, looked up, renewed and revoked by lease id. After
//! Vault's API page "/sys/leases"; the older spellings (`sys/renew`, `sys/revoke`, ...) lead to the same handlers.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use obol_mount::fields::{Count, Flag, Ttl};
use obol_mount::{
    Begun, Cx, Data, Error, Keys, Lease, Methods, NoContent, Output, Reply, Response, Result,
    Routes, Warned, get, list, post,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;
use crate::core::leases::LeaseEntry;
use crate::core::path::RequestPath;
use crate::core::tokens::TokenEntry;
use crate::core::{Live, rfc3339, unix_now};

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .sudo(
            "leases",
            "The leases that could not be revoked",
            get(list_irrevocable),
        )
        .at(
            "leases/count",
            "How many leases could not be revoked",
            get(count_irrevocable),
        )
        .at(
            "leases/lookup",
            "Show a lease; listing needs sudo",
            post(lookup).list(list_all),
        )
        .sudo(
            "leases/lookup/{prefix*}",
            "The lease ids below a path",
            list(list_below),
        )
        .at("leases/renew", "Renew a lease", post(renew))
        .at("leases/renew/{url_lease_id*}", "Renew a lease", post(renew))
        .at("leases/revoke", "Revoke a lease", post(revoke))
        .at(
            "leases/revoke/{url_lease_id*}",
            "Revoke a lease",
            post(revoke),
        )
        .sudo(
            "leases/revoke-prefix/{prefix*}",
            "Revoke all leases and tokens below a path",
            post(revoke_prefix),
        )
        .sudo(
            "leases/revoke-force/{prefix*}",
            "Remove all leases and tokens below a path, even where the engine cannot take back what it gave",
            post(revoke_force),
        )
        .at(
            "leases/tidy",
            "Look for leases without a token and for index entries without a lease",
            post(tidy),
        )
        .and(older_spellings())
}

fn older_spellings() -> Routes<System> {
    let renewing = || -> Methods<System> { post(renew) };
    let revoking = || -> Methods<System> { post(revoke) };
    Routes::new()
        .at("renew", "As sys/leases/renew", renewing())
        .at("renew/{url_lease_id*}", "As sys/leases/renew", renewing())
        .at("revoke", "As sys/leases/revoke", revoking())
        .at("revoke/{url_lease_id*}", "As sys/leases/revoke", revoking())
        .sudo(
            "revoke-prefix/{prefix*}",
            "As sys/leases/revoke-prefix",
            post(revoke_prefix),
        )
        .sudo(
            "revoke-force/{prefix*}",
            "As sys/leases/revoke-force",
            post(revoke_force),
        )
}

/// A lease by its id.
#[derive(Deserialize, JsonSchema)]
struct LookupInput {
    /// The lease id.
    #[serde(default)]
    lease_id: String,
}

/// A lease to be renewed.
#[derive(Deserialize, JsonSchema)]
struct RenewInput {
    /// The lease id; wins over that of the path.
    #[serde(default)]
    lease_id: String,
    /// The lease id, as part of the path.
    #[serde(default)]
    url_lease_id: String,
    /// The TTL that is asked for; the server may give less. Default: what the lease was issued with.
    #[serde(default)]
    increment: Ttl,
}

/// A lease to be revoked.
#[derive(Deserialize, JsonSchema)]
struct RevokeInput {
    /// The lease id; wins over that of the path.
    #[serde(default)]
    lease_id: String,
    /// The lease id, as part of the path.
    #[serde(default)]
    url_lease_id: String,
    /// Whether to answer when it is done (the default) or, with false, when it is queued.
    #[serde(default = "yes")]
    sync: Flag,
}

/// All leases below a path.
#[derive(Deserialize, JsonSchema)]
struct PrefixInput {
    /// The beginning of the lease ids, such as `auth/kerberos` or `database/creds/app`.
    prefix: String,
    /// Whether to answer when it is done (the default) or, with false, when it is queued.
    #[serde(default = "yes")]
    sync: Flag,
}

/// All leases below a path, by force.
#[derive(Deserialize, JsonSchema)]
struct ForceInput {
    /// The beginning of the lease ids.
    prefix: String,
}

/// A page of lease ids.
#[derive(Deserialize, JsonSchema)]
struct ListInput {
    /// The beginning of the lease ids.
    #[serde(default)]
    prefix: String,
    /// Start after this name.
    after: Option<String>,
    /// At most so many.
    limit: Option<Count>,
}

/// Leases of one type.
#[derive(Deserialize, JsonSchema)]
struct CountInput {
    /// `irrevocable`: there is no other type.
    #[serde(rename = "type", default)]
    kind: String,
    /// Taken for Vault's sake: there are no namespaces, so nothing is left out.
    #[serde(default)]
    include_child_namespaces: Flag,
}

/// Leases of one type, by id.
#[derive(Deserialize, JsonSchema)]
struct IrrevocableInput {
    /// `irrevocable`: there is no other type.
    #[serde(rename = "type", default)]
    kind: String,
    /// Taken for Vault's sake: there are no namespaces, so nothing is left out.
    #[serde(default)]
    include_child_namespaces: Flag,
    /// At most so many, or `none` for all of them; 10000 by default.
    #[serde(default)]
    limit: String,
}

/// A lease.
#[derive(Serialize, JsonSchema)]
struct ShownLease {
    /// The lease id.
    id: String,
    /// RFC 3339.
    issue_time: Option<String>,
    /// RFC 3339; null for a token that never ends.
    expire_time: Option<String>,
    /// RFC 3339; null when it was never renewed.
    last_renewal: Option<String>,
    /// Whether it can be renewed; false for one that has ended. A token's lease is renewed with the token.
    renewable: bool,
    /// Seconds left.
    ttl: u64,
}

/// How many leases there are, by mount.
#[derive(Serialize, JsonSchema)]
struct Counts {
    /// Of all mounts together.
    lease_count: u64,
    /// By the accessor of the mount.
    counts: BTreeMap<String, u64>,
}

/// Leases that could not be revoked.
#[derive(Serialize, JsonSchema)]
struct IrrevocableList {
    /// How many are listed.
    lease_count: u64,
    /// The leases, at most as many as `limit` says.
    leases: Vec<ShownIrrevocable>,
}

/// A lease that could not be revoked.
#[derive(Serialize, JsonSchema)]
struct ShownIrrevocable {
    /// The lease id.
    lease_id: String,
    /// The accessor of the mount.
    mount_id: String,
    /// Why it could not be revoked the last time.
    error: String,
    /// RFC 3339.
    expire_time: Option<String>,
}

async fn lookup(cx: Cx<System>, input: LookupInput) -> Result<Data<ShownLease>> {
    let id = one_of(&input.lease_id, "")?;
    let live = cx.live()?;
    let now = unix_now();
    if let Some(token) = live.tokens.by_lease_id(&id, now).await? {
        return Ok(Data(ShownLease::of_token(id, &token.entry, now)));
    }
    match live.leases.get(&id).await? {
        Some(entry) => Ok(Data(ShownLease::of(id, &entry, now))),
        None => Err(Error::bad_request("invalid lease")),
    }
}

async fn list_all(cx: Cx<System>, input: ListInput) -> Result<Keys> {
    // The route is open to whoever may look up a lease that they know; what there is, is for sudo to see.
    let live = cx.live()?;
    let caller = cx.request.caller()?;
    let acl = live.acl_of_caller(caller).await?;
    let sudo = ["sys/leases/lookup", "sys/leases/lookup/"]
        .iter()
        .any(|path| acl.capabilities(path).contains(&"sudo"));
    if !caller.is_root && !sudo {
        return Err(Error::forbidden());
    }
    list_below(cx, input).await
}

async fn list_below(cx: Cx<System>, input: ListInput) -> Result<Keys> {
    let folder = match input.prefix.as_str() {
        "" => String::new(),
        prefix => format!("{}/", checked(prefix, "prefix")?),
    };
    let limit = input.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.0.max(1)).unwrap_or(usize::MAX)
    });
    let live = cx.live()?;
    let after = input.after.as_deref();
    let mut keys = live.leases.list(&folder, after, limit).await?;
    let tokens = live
        .tokens
        .list_lease_ids(&live.mounts, &folder, after, limit)
        .await?;
    keys.extend(tokens);
    keys.sort();
    keys.dedup();
    keys.truncate(limit);
    Ok(Keys { keys })
}

async fn renew(cx: Cx<System>, input: RenewInput) -> Result<Warned<Renewed>> {
    let id = one_of(&input.lease_id, &input.url_lease_id)?;
    let core = cx.core()?;
    let live = core.live()?;
    if live.tokens.by_lease_id(&id, unix_now()).await?.is_some() {
        return Err(Error::bad_request(
            "tokens cannot be renewed through this endpoint: use auth/token/renew",
        ));
    }
    let (entry, warnings) = core.renew_lease(&live, &id, input.increment.0).await?;
    let lease = Lease {
        ttl: Duration::from_secs(entry.ttl(unix_now())),
        renewable: entry.renewable,
        id,
        ..Lease::default()
    };
    Ok(Warned {
        answer: Renewed(lease),
        warnings,
    })
}

fn yes() -> Flag {
    Flag(true)
}

async fn revoke(cx: Cx<System>, input: RevokeInput) -> Result<Revoked> {
    let id = one_of(&input.lease_id, &input.url_lease_id)?;
    let live = cx.live()?;
    let sync = input.sync.0;
    to_the_end(async move {
        match live.tokens.by_lease_id(&id, unix_now()).await? {
            Some(token) => live.tokens.revoke(&token.id, &live.forget()).await,
            None if sync => live.revoke_lease(&id).await,
            None => live.revoke_lease_later(&id).await,
        }
    })
    .await?;
    Ok(Revoked { already: sync })
}

async fn revoke_prefix(cx: Cx<System>, input: PrefixInput) -> Result<Revoked> {
    let prefix = checked(&input.prefix, "prefix")?;
    let live = cx.live()?;
    let sync = input.sync.0;
    to_the_end(async move {
        revoke_exactly(&live, &prefix, sync).await?;
        let folder = format!("{prefix}/");
        live.tokens.revoke_by_path(&folder, &live.forget()).await?;
        live.revoke_leases_below(&folder, sync).await
    })
    .await?;
    Ok(Revoked { already: sync })
}

async fn revoke_force(cx: Cx<System>, input: ForceInput) -> Result<NoContent> {
    let prefix = checked(&input.prefix, "prefix")?;
    let live = cx.live()?;
    to_the_end(async move {
        let folder = format!("{prefix}/");
        live.tokens.revoke_by_path(&folder, &live.forget()).await?;
        live.force_lease(&prefix).await?;
        live.force_leases_below(&folder).await
    })
    .await?;
    Ok(NoContent)
}

/// A prefix may be a whole lease id.
async fn revoke_exactly(live: &Arc<Live>, id: &str, sync: bool) -> Result<()> {
    if let Some(token) = live.tokens.by_lease_id(id, unix_now()).await? {
        return live.tokens.revoke(&token.id, &live.forget()).await;
    }
    match sync {
        true => live.revoke_lease(id).await,
        false => live.revoke_lease_later(id).await,
    }
}

async fn tidy(cx: Cx<System>) -> Result<Begun> {
    Ok(begun(cx.live()?.start_tidying_leases()))
}

async fn count_irrevocable(cx: Cx<System>, input: CountInput) -> Result<Data<Counts>> {
    check_kind(&input.kind)?;
    let _ = input.include_child_namespaces;
    let live = cx.live()?;
    let mut counts = BTreeMap::new();
    for (mount, count) in live.leases.count_irrevocable().await? {
        *counts.entry(accessor_of(&live, &mount).await?).or_default() += count;
    }
    Ok(Data(Counts {
        lease_count: counts.values().sum(),
        counts,
    }))
}

async fn list_irrevocable(
    cx: Cx<System>,
    input: IrrevocableInput,
) -> Result<Warned<Data<IrrevocableList>>> {
    check_kind(&input.kind)?;
    let _ = input.include_child_namespaces;
    let limit = match input.limit.as_str() {
        "" => MOST_LISTED,
        "none" => usize::MAX,
        text => text
            .parse::<usize>()
            .ok()
            .filter(|limit| *limit > 0)
            .ok_or_else(|| {
                Error::bad_request("field \"limit\": expected a number above 0, or \"none\"")
            })?,
    };
    let live = cx.live()?;
    let mut found = live.leases.irrevocable(limit.saturating_add(1)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let mut leases = Vec::with_capacity(found.len());
    for lease in found {
        leases.push(ShownIrrevocable {
            lease_id: lease.id,
            mount_id: accessor_of(&live, &lease.mount).await?,
            error: lease.error,
            expire_time: rfc3339(lease.expires),
        });
    }
    let answer = Data(IrrevocableList {
        lease_count: leases.len() as u64,
        leases,
    });
    let warnings = match more {
        true => vec![MORE_LEASES.to_owned()],
        false => Vec::new(),
    };
    Ok(Warned { answer, warnings })
}

async fn accessor_of(live: &Live, mount: &str) -> Result<String> {
    Ok(match live.mounts.even_tainted(mount).await? {
        Some(mounted) => mounted.entry.accessor.clone(),
        None => mount.to_owned(),
    })
}

fn check_kind(kind: &str) -> Result<()> {
    match kind {
        "irrevocable" => Ok(()),
        _ => Err(Error::bad_request(
            "field \"type\": expected \"irrevocable\"",
        )),
    }
}

/// The lease id of the body, or that of the path.
fn one_of(body: &str, path: &str) -> Result<String> {
    match (body, path) {
        ("", "") => Err(Error::bad_request("lease_id must be specified")),
        ("", path) => checked(path, "lease_id"),
        (body, _) => checked(body, "lease_id"),
    }
}

/// A lease id, or the beginning of one, is a path.
fn checked(text: &str, field: &str) -> Result<String> {
    RequestPath::from_decoded(text)
        .map(|path| path.as_str().to_owned())
        .map_err(|error| Error::bad_request(format!("field {field:?}: {error}")))
}

/// The lease as it is now: in the envelope, without data.
struct Renewed(Lease);

impl Output for Renewed {
    fn into_response(self) -> Result<Response> {
        let mut response = Response::new(Reply::Empty);
        response.lease = Some(self.0);
        Ok(response)
    }
}

/// 204, or 202 where the leases are revoked after the answer.
struct Revoked {
    already: bool,
}

impl Output for Revoked {
    fn into_response(self) -> Result<Response> {
        let response = Response::new(Reply::Empty);
        Ok(match self.already {
            true => response,
            false => response.with_status(202),
        })
    }

    const STATUS: u16 = 204;
    const ALSO: &'static [u16] = &[202];
}

/// What a client is told who asks for tidying.
pub(crate) fn begun(now: bool) -> Begun {
    Begun {
        now,
        warning: if now { TIDY_STARTED } else { TIDY_RUNS },
    }
}

/// Goes on when the client goes away.
async fn to_the_end(work: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    tokio::spawn(work).await.map_err(Error::internal)?
}

impl ShownLease {
    fn of(id: String, entry: &LeaseEntry, now: u64) -> Self {
        Self {
            id,
            issue_time: rfc3339(entry.issued),
            expire_time: rfc3339(entry.expires),
            last_renewal: entry.last_renewal.and_then(rfc3339),
            renewable: entry.renewable && !entry.has_ended(now),
            ttl: entry.ttl(now),
        }
    }

    fn of_token(id: String, entry: &TokenEntry, now: u64) -> Self {
        Self {
            id,
            issue_time: rfc3339(entry.created),
            expire_time: entry.expires.and_then(rfc3339),
            last_renewal: entry.last_renewal.and_then(rfc3339),
            renewable: entry.renewable,
            ttl: entry.ttl(now),
        }
    }
}

const MORE_LEASES: &str =
    "there are more leases than were listed: raise limit, or set it to \"none\"";
const TIDY_STARTED: &str =
    "Tidy operation successfully started. What it finds is in the server's log.";
const TIDY_RUNS: &str = "Tidy operation already in progress.";
/// How many leases are listed where no limit is given.
const MOST_LISTED: usize = 10_000;
