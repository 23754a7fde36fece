//! `sys/quotas`: rate limits, lease counts, and what they have in common.

use obol_mount::fields::{CommaList, Count, Flag, Ttl};
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, Routes, Secret, get, list};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;
use crate::core::Live;
use crate::core::path::RequestPath;
use crate::core::quotas::{LeaseCount, RateLimit, Target};

/// Requests in one interval; more is no limit.
const MAX_RATE: f64 = 1e9;
/// Seconds for one request; more is no rate.
const MAX_WAIT: f64 = 100.0 * 365.25 * 86_400.0;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "quotas/config",
            "What all quotas have in common",
            get(read_config).post(write_config),
        )
        .at(
            "quotas/rate-limit",
            "The names of all rate limits",
            list(list_rate_limits),
        )
        .at(
            "quotas/rate-limit/{name}",
            "How many requests a client may make in a time",
            get(read_rate_limit)
                .post(write_rate_limit)
                .delete(delete_rate_limit),
        )
        .at(
            "quotas/lease-count",
            "The names of all lease counts",
            list(list_lease_counts),
        )
        .at(
            "quotas/lease-count/{name}",
            "How many tokens and leases there may be at a time",
            get(read_lease_count)
                .post(write_lease_count)
                .delete(delete_lease_count),
        )
}

/// The configuration of all quotas. What is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
struct ConfigInput {
    /// Paths that no rate limit counts; `*` at the end stands for any rest.
    rate_limit_exempt_paths: Option<CommaList>,
    /// Whether the audit log has the requests that a rate limit refused.
    enable_rate_limit_audit_logging: Option<Flag>,
    /// Whether answers say how much of a rate is left, in `X-Ratelimit-Limit`, `-Remaining` and `-Reset`.
    enable_rate_limit_response_headers: Option<Flag>,
}

#[derive(Serialize, JsonSchema)]
struct ConfigOut {
    enable_rate_limit_audit_logging: bool,
    enable_rate_limit_response_headers: bool,
    rate_limit_exempt_paths: Vec<String>,
}

/// A quota by its name.
#[derive(Deserialize, JsonSchema)]
struct NameInput {
    name: String,
}

/// A rate limit.
#[derive(Deserialize, JsonSchema)]
struct RateLimitInput {
    name: String,
    /// How many requests a client may make in an interval; parts of one count.
    rate: Option<Rate>,
    /// The interval; a second by default.
    #[serde(default)]
    interval: Ttl,
    /// For how long a client that exceeds the rate is refused everything; by default until the rate allows.
    #[serde(default)]
    block_interval: Ttl,
    /// A mount, a path in one, or a beginning that ends in `*`. Without it the limit is for everything.
    #[serde(default)]
    path: String,
    /// Logins of this role alone; the path must be that of an auth method with roles.
    #[serde(default)]
    role: String,
    /// Whose requests are counted together: `ip`, those of a client's address, and nothing else.
    #[serde(default)]
    group_by: String,
    /// Kept and shown; it is for namespaces below, of which there are none.
    #[serde(default)]
    inheritable: Flag,
}

/// A number, or a text that is one.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Rate {
    Number(f64),
    Text(Secret),
}

#[derive(Serialize, JsonSchema)]
struct RateLimitOut {
    block_interval: u64,
    inheritable: bool,
    interval: u64,
    /// The name of the quota.
    name: String,
    path: String,
    rate: f64,
    role: String,
    /// `rate-limit`.
    #[serde(rename = "type")]
    kind: &'static str,
}

/// A lease count.
#[derive(Deserialize, JsonSchema)]
struct LeaseCountInput {
    name: String,
    /// How many tokens and leases there may be at a time.
    max_leases: Option<Count>,
    /// The mount whose tokens and leases are counted. Without it all are.
    #[serde(default)]
    path: String,
    /// Must be empty: leases are not counted by role.
    #[serde(default)]
    role: String,
    /// Kept and shown; it is for namespaces below, of which there are none.
    #[serde(default)]
    inheritable: Flag,
}

#[derive(Serialize, JsonSchema)]
struct LeaseCountOut {
    /// How many there are now.
    counter: u64,
    inheritable: bool,
    max_leases: u64,
    /// The name of the quota.
    name: String,
    path: String,
    /// Always empty: leases are not counted by role.
    role: String,
    /// `lease-count`.
    #[serde(rename = "type")]
    kind: &'static str,
}

async fn read_config(cx: Cx<System>) -> Result<Data<ConfigOut>> {
    let config = cx.live()?.quotas.config.get();
    Ok(Data(ConfigOut {
        enable_rate_limit_audit_logging: config.enable_rate_limit_audit_logging,
        enable_rate_limit_response_headers: config.enable_rate_limit_response_headers,
        rate_limit_exempt_paths: config.rate_limit_exempt_paths.clone(),
    }))
}

async fn write_config(cx: Cx<System>, input: ConfigInput) -> Result<NoContent> {
    let exempt = input
        .rate_limit_exempt_paths
        .map(|paths| paths.0.iter().map(|path| pattern(path)).collect())
        .transpose()?;
    let change = |config: &mut crate::core::quotas::Config| {
        if let Some(paths) = &exempt {
            Vec::clone_from(&mut config.rate_limit_exempt_paths, paths);
        }
        if let Some(flag) = input.enable_rate_limit_audit_logging {
            config.enable_rate_limit_audit_logging = flag.0;
        }
        if let Some(flag) = input.enable_rate_limit_response_headers {
            config.enable_rate_limit_response_headers = flag.0;
        }
        Ok(())
    };
    cx.live()?.quotas.config.change(change).await?;
    Ok(NoContent)
}

async fn list_rate_limits(cx: Cx<System>) -> Result<Keys> {
    let limits = cx.live()?.quotas.rate_limits.get();
    Ok(Keys {
        keys: limits.0.keys().cloned().collect(),
    })
}

async fn read_rate_limit(cx: Cx<System>, input: NameInput) -> Result<Option<Data<RateLimitOut>>> {
    let limits = cx.live()?.quotas.rate_limits.get();
    Ok(limits.0.get(&input.name).map(|limit| {
        Data(RateLimitOut {
            block_interval: limit.block_interval,
            inheritable: limit.target.inheritable,
            interval: limit.interval,
            name: input.name,
            path: limit.target.path.clone(),
            rate: limit.rate,
            role: limit.target.role.clone(),
            kind: "rate-limit",
        })
    }))
}

async fn write_rate_limit(cx: Cx<System>, input: RateLimitInput) -> Result<NoContent> {
    let rate = match &input.rate {
        Some(Rate::Number(rate)) => Some(*rate),
        Some(Rate::Text(text)) => text.expose().trim().parse().ok(),
        None => None,
    };
    let rate = rate
        .filter(|rate| rate.is_finite() && *rate > 0.0 && *rate <= MAX_RATE)
        .ok_or_else(|| Error::bad_request("rate is required: a number above 0, and at most 1e9"))?;
    let interval = input.interval.0.as_secs().max(1);
    if interval as f64 / rate > MAX_WAIT {
        return Err(Error::bad_request(
            "rate: that is less than one request in a hundred years; to refuse everything, use a policy",
        ));
    }
    if !matches!(input.group_by.as_str(), "" | "ip") {
        return Err(Error::bad_request(
            "group_by: requests are counted for each address: expected ip, or nothing",
        ));
    }
    let live = cx.live()?;
    let limit = RateLimit {
        target: target(&live, &input.path, input.role, input.inheritable.0)?,
        rate,
        interval,
        block_interval: input.block_interval.0.as_secs(),
    };
    let limits = &live.quotas.rate_limits;
    limits
        .change(|limits| limits.set(&input.name, limit.clone()))
        .await?;
    Ok(NoContent)
}

async fn delete_rate_limit(cx: Cx<System>, input: NameInput) -> Result<NoContent> {
    let remove = |limits: &mut crate::core::quotas::RateLimits| {
        limits.0.remove(&input.name);
        Ok(())
    };
    cx.live()?.quotas.rate_limits.change(remove).await?;
    Ok(NoContent)
}

async fn list_lease_counts(cx: Cx<System>) -> Result<Keys> {
    let quotas = cx.live()?.quotas.lease_counts.get();
    Ok(Keys {
        keys: quotas.0.keys().cloned().collect(),
    })
}

async fn read_lease_count(cx: Cx<System>, input: NameInput) -> Result<Option<Data<LeaseCountOut>>> {
    let live = cx.live()?;
    let quotas = live.quotas.lease_counts.get();
    let Some(quota) = quotas.0.get(&input.name) else {
        return Ok(None);
    };
    Ok(Some(Data(LeaseCountOut {
        counter: quota.counter(&live).await?,
        inheritable: quota.target.inheritable,
        max_leases: quota.max_leases,
        name: input.name,
        path: quota.target.path.clone(),
        role: quota.target.role.clone(),
        kind: "lease-count",
    })))
}

async fn write_lease_count(cx: Cx<System>, input: LeaseCountInput) -> Result<NoContent> {
    let max_leases = input
        .max_leases
        .map(|count| count.0)
        .filter(|count| *count > 0)
        .ok_or_else(|| Error::bad_request("max_leases is required: a number above 0"))?;
    if !input.role.is_empty() {
        return Err(Error::bad_request(
            "role: leases are counted for a mount, not by role; leave it out, or use a rate limit, which knows roles",
        ));
    }
    let live = cx.live()?;
    let target = target(&live, &input.path, String::new(), input.inheritable.0)?;
    let mount = live.mounts.get(&target.path);
    if !target.path.is_empty() && mount.is_none_or(|m| m.entry.kind == "token") {
        return Err(Error::bad_request(
            "path: leases are counted for a mount other than auth/token, or without a path for all of them together",
        ));
    }
    let quota = LeaseCount { target, max_leases };
    let quotas = &live.quotas.lease_counts;
    quotas
        .change(|quotas| quotas.set(&input.name, quota.clone()))
        .await?;
    Ok(NoContent)
}

async fn delete_lease_count(cx: Cx<System>, input: NameInput) -> Result<NoContent> {
    let remove = |quotas: &mut crate::core::quotas::LeaseCounts| {
        quotas.0.remove(&input.name);
        Ok(())
    };
    cx.live()?.quotas.lease_counts.change(remove).await?;
    Ok(NoContent)
}

/// What a quota is for: a path of a mount that there is, in the form in which it is compared.
fn target(live: &Live, path: &str, role: String, inheritable: bool) -> Result<Target> {
    let path = pattern(path)?;
    let whole = path.trim_end_matches(['*', '/']);
    let mounted = match whole {
        "" => None,
        whole => {
            let whole = RequestPath::from_decoded(whole)
                .map_err(|error| Error::bad_request(format!("path: {error}")))?;
            let (mounted, _) = live
                .mounts
                .route(&whole)
                .ok_or_else(|| Error::bad_request("path: there is no mount there"))?;
            Some(mounted)
        }
    };
    if !role.is_empty() && !mounted.as_ref().is_some_and(|m| m.backend.has_roles()) {
        return Err(Error::bad_request(
            "role: the path is not that of an auth method whose logins are for a role (such as approle and jwt); leave it out",
        ));
    }
    let path = match &mounted {
        // A mount may be named with its slash or without.
        Some(mounted) if mounted.entry.path.trim_end_matches('/') == path.trim_end_matches('/') => {
            mounted.entry.path.clone()
        }
        _ => path,
    };
    Ok(Target {
        path,
        role,
        inheritable,
    })
}

/// A path, or the beginning of one with `*` at the end.
fn pattern(text: &str) -> Result<String> {
    let text = text.trim_start_matches('/');
    let inner = text.strip_suffix('*').unwrap_or(text);
    if inner.contains(['*', '+']) || inner.len() > 4096 || inner.contains(char::is_control) {
        return Err(Error::bad_request(
            "a path of a quota may have `*` at its end and nowhere else",
        ));
    }
    Ok(text.to_owned())
}
