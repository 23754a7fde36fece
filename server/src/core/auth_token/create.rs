//! Creating tokens: with a parent, without, or by the rules of a role.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use obol_mount::fields::{CommaList, Count, Flag, Metadata, Ttl};
use obol_mount::{Caller, Cx, Error, Result, Secret, TokenKind, cidr, duration};
use obol_storage::Batch;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

use super::policies::policies_of_child;
use super::roles::{self, Role};
use super::{NewAuth, TokenBackend, limits_here};
use crate::core::identity::Who;
use crate::core::policies::ROOT;
use crate::core::settle::auth_of;
use crate::core::tokens::{Cached, NewToken};
use crate::core::{Live, unix_now};

/// A new token.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct CreateInput {
    /// A chosen id; root only. It may not begin like a token of the server's own making.
    id: Option<Secret>,
    /// Policies; a subset of the caller's, unless the caller has sudo here or a role says otherwise. Default: the
    /// caller's own, or all that the role allows.
    pub(super) policies: Option<CommaList>,
    /// Metadata, texts by name; shown in lookups and in the audit log.
    #[serde(default)]
    meta: Metadata,
    /// Without a parent; needs sudo.
    #[serde(default)]
    no_parent: Flag,
    /// Leave out the `default` policy.
    #[serde(default)]
    pub(super) no_default_policy: Flag,
    /// Whether it can be renewed; true by default.
    renewable: Option<Flag>,
    /// The TTL.
    #[serde(default)]
    ttl: Ttl,
    /// An older name of `ttl`.
    #[serde(default)]
    lease: Ttl,
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
    /// The name of an entity alias at this mount: the token belongs to its entity. Only by a role that allows it.
    #[serde(default)]
    entity_alias: String,
    /// Addresses (CIDR blocks) from which it may be used; within those of the role, or of the caller's token.
    #[serde(default)]
    bound_cidrs: CommaList,
}

/// A new token by the rules of a role.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RoleCreateInput {
    /// The role.
    role_name: String,
    #[serde(flatten)]
    token: CreateInput,
}

pub(super) async fn create(cx: Cx<TokenBackend>, input: CreateInput) -> Result<NewAuth> {
    make(&cx, input, false, None).await
}

pub(super) async fn create_orphan(cx: Cx<TokenBackend>, input: CreateInput) -> Result<NewAuth> {
    make(&cx, input, true, None).await
}

pub(super) async fn create_for_role(
    cx: Cx<TokenBackend>,
    RoleCreateInput { role_name, token }: RoleCreateInput,
) -> Result<NewAuth> {
    let role = roles::find(&*cx.live()?, &role_name)
        .await?
        .ok_or_else(|| Error::bad_request(format!("unknown role {role_name}")))?;
    make(&cx, token, false, Some((role_name, role))).await
}

async fn make(
    cx: &Cx<TokenBackend>,
    input: CreateInput,
    orphan: bool,
    role: Option<(String, Role)>,
) -> Result<NewAuth> {
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
    let (role_name, role) = match role {
        Some((name, role)) => (name, Some(role)),
        None => (String::new(), None),
    };
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
    let kind = kind_of(&input.kind, role.as_ref())?;
    let who = match (input.entity_alias.as_str(), &role) {
        ("", _) => None,
        (_, None) => {
            return Err(Error::bad_request(
                "field \"entity_alias\": only in combination with a token role",
            ));
        }
        (alias, Some(role)) => Some(alias_of(cx, &live, role, alias)?),
    };
    let policies = policies_of_child(&input, caller, sudo, role.as_ref())?;
    let bound_cidrs = bound_cidrs(&input, &parent, sudo, role.as_ref())?;
    let limits = role
        .as_ref()
        .map(|role| role.token.clone())
        .unwrap_or_default();
    let ttl = if input.ttl.0.is_zero() {
        input.lease.0
    } else {
        input.ttl.0
    };
    let mut warnings = Vec::new();
    let mut lower = |asked: Ttl, of_role: Ttl, what: &str| {
        let lesser = lower(asked.0, of_role.0);
        if !asked.0.is_zero() && !of_role.0.is_zero() {
            warnings.push(format!(
                "{what}: of the request's and the role's, the lesser counts: {}",
                duration::format(lesser)
            ));
        }
        lesser
    };
    let period = lower(input.period, limits.token_period, "period");
    let explicit_max_ttl = lower(
        input.explicit_max_ttl,
        limits.token_explicit_max_ttl,
        "explicit_max_ttl",
    );
    if kind == TokenKind::Batch && !explicit_max_ttl.is_zero() {
        return Err(Error::bad_request(
            "field \"explicit_max_ttl\": a batch token cannot have one, it is not renewed",
        ));
    }
    let grants_root = policies.grants_root();
    let asks_for_an_end = [ttl, period, explicit_max_ttl]
        .iter()
        .any(|ttl| !ttl.is_zero());
    let immortal = grants_root && !asks_for_an_end && parent.entry.expires.is_none();
    if grants_root && parent.entry.expires.is_some() && ttl.is_zero() {
        return Err(Error::bad_request(
            "an expiring root token cannot create a root token that never ends",
        ));
    }
    let orphan = orphan || input.no_parent.0 || role.as_ref().is_some_and(|role| role.orphan);
    let suffix = role.as_ref().map_or("", |role| &role.path_suffix);
    let new = NewToken {
        parent: (!orphan).then(|| parent.id.clone()),
        // Root is everything already, so nothing stands beside it.
        policies: match grants_root {
            true => vec![ROOT.to_owned()],
            false => policies.to_strings(),
        },
        kind,
        display_name: display_name_of(&input.display_name),
        metadata: input.meta.0,
        path: match suffix {
            "" => path,
            suffix => format!("{path}/{suffix}"),
        },
        issuer: None,
        role: role_name,
        ttl,
        max_ttl: Duration::ZERO,
        explicit_max_ttl,
        period,
        num_uses: match (input.num_uses.0, limits.token_num_uses) {
            (0, uses) | (uses, 0) => uses,
            (asked, most) => asked.min(most),
        },
        renewable: input.renewable.is_none_or(|flag| flag.0)
            && role.as_ref().is_none_or(|role| role.renewable),
        bound_cidrs,
        entity_id: match orphan {
            true => String::new(),
            false => parent.entry.entity_id.clone(),
        },
        internal: Map::new(),
        immortal,
        id: input.id,
    };
    let limits = limits_here(&core, &live);
    // Root tokens have no lease, so that an operator can still make one.
    if !new.policies.iter().any(|policy| policy == ROOT) {
        live.quotas.admit(&live, None).await?;
    }
    // Before the token is there: what fails now leaves none behind.
    for policy in &new.policies {
        if !live.policies.exists(policy).await? {
            warnings.push(format!("there is no policy {policy:?}"));
        }
    }
    let issued = match &who {
        Some(who) => Box::pin(live.issue_for(who, new, limits, Batch::new(), now)).await,
        None => live.tokens.issue(new, limits, Batch::new(), now).await,
    };
    let issued = issued.map_err(Error::from)?;
    warnings.extend(issued.warnings);
    let ttl = issued.entry.creation_ttl;
    let auth = auth_of(issued.entry, issued.token, ttl);
    Ok(NewAuth {
        auth: Box::new(live.with_identity(auth).await?),
        warnings,
    })
}

/// Service or batch: what was asked for, unless the role decides.
fn kind_of(asked: &str, role: Option<&Role>) -> Result<TokenKind> {
    let asked = match asked {
        "" => None,
        "service" => Some(TokenKind::Service),
        "batch" => Some(TokenKind::Batch),
        _ => {
            return Err(Error::bad_request(
                "field \"type\": expected \"service\" or \"batch\"",
            ));
        }
    };
    Ok(match role.map(|role| role.token.token_type) {
        Some(decided @ (TokenKind::Service | TokenKind::Batch)) => decided,
        Some(TokenKind::DefaultBatch) => asked.unwrap_or(TokenKind::Batch),
        _ => asked.unwrap_or(TokenKind::Service),
    })
}

/// The alias that a role allows, at the mount of tokens.
fn alias_of(cx: &Cx<TokenBackend>, live: &Live, role: &Role, alias: &str) -> Result<Who> {
    // Names that differ in case alone are one alias (threats: `alias-case`).
    let alias = alias.to_lowercase();
    if !role.allows_alias(&alias) {
        return Err(Error::bad_request(
            "field \"entity_alias\": the role does not allow it",
        ));
    }
    let mounted = live
        .mounts
        .get(&cx.request.mount)
        .ok_or_else(|| Error::internal("a request of a mount that is not there"))?;
    Ok(Who::new(&mounted.entry, &alias))
}

/// From where the token may be used: within what the role says, or else what the caller's own token is bound to. Who
/// has sudo here may free a child of its parent's bounds.
fn bound_cidrs(
    input: &CreateInput,
    parent: &Cached,
    sudo: bool,
    role: Option<&Role>,
) -> Result<Vec<IpNet>> {
    let asked = cidr::parse_list("bound_cidrs", &input.bound_cidrs.0)?;
    let of_role = match role {
        Some(role) => cidr::parse_list("token_bound_cidrs", &role.token.token_bound_cidrs.0)?,
        None => Vec::new(),
    };
    let bounds = match (of_role.is_empty(), sudo) {
        (false, _) => of_role,
        (true, true) => Vec::new(),
        (true, false) => parent.entry.bound_cidrs.clone(),
    };
    if asked.is_empty() || bounds.is_empty() {
        return Ok(if asked.is_empty() { bounds } else { asked });
    }
    let within = |block: &IpNet| bounds.iter().any(|bound| bound.contains(block));
    if let Some(at) = asked.iter().position(|block| !within(block)) {
        return Err(Error::bad_request(format!(
            "bound_cidrs: number {} is not within those of the role or of the calling token",
            at + 1
        )));
    }
    Ok(asked)
}

/// The lower of two limits, where zero is none.
fn lower(one: Duration, other: Duration) -> Duration {
    match (one.is_zero(), other.is_zero()) {
        (true, _) => other,
        (_, true) => one,
        _ => one.min(other),
    }
}

fn check_texts(input: &CreateInput) -> Result<()> {
    let long = |text: &str| text.len() > MAX_TEXT || text.contains(char::is_control);
    if long(&input.display_name) {
        return Err(Error::bad_request(format!(
            "display_name may have {MAX_TEXT} bytes and no control characters"
        )));
    }
    let Metadata(meta) = &input.meta;
    if meta.len() > MAX_METADATA || meta.iter().any(|(k, v)| k.is_empty() || long(k) || long(v)) {
        return Err(Error::bad_request(format!(
            "metadata may have {MAX_METADATA} entries of {MAX_TEXT} bytes without control characters"
        )));
    }
    Ok(())
}

/// `token-` and what was asked for, of which letters, digits and hyphens stay, as in Vault.
fn display_name_of(asked: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let mut name: String = "token-".chars().chain(asked.chars().map(kept)).collect();
    if name.ends_with('-') {
        name.pop();
    }
    name
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
        .known(&caller.token_id, now)
        .await?
        .ok_or_else(Error::forbidden)
}

/// The longest text that a client may put into a token's metadata or display name.
const MAX_TEXT: usize = 1024;
const MAX_METADATA: usize = 64;
