//! Roles: rules under which tokens are created that their caller could not create alone. After Vault's API page
//! "Token auth method", roles.

use std::time::Duration;

use obol_mount::fields::{CommaList, Count, Flag, StoredTokenFields, TokenFields, Ttl};
use obol_mount::{
    Cx, Data, Error, Keys, PolicyName, Result, TokenKind, TokenParams, Written,
    assignable_policies, duration,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ListInput, TokenBackend, limits_here};
use crate::core::Live;
use crate::core::tokens::TokenEntry;

/// A role as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Role {
    pub(super) allowed_policies: Vec<String>,
    pub(super) allowed_policies_glob: Vec<String>,
    disallowed_policies: Vec<String>,
    disallowed_policies_glob: Vec<String>,
    pub(super) orphan: bool,
    pub(super) renewable: bool,
    pub(super) path_suffix: String,
    allowed_entity_aliases: Vec<String>,
    #[serde(flatten)]
    pub(super) token: StoredTokenFields,
}

impl Default for Role {
    fn default() -> Self {
        Self {
            allowed_policies: Vec::new(),
            allowed_policies_glob: Vec::new(),
            disallowed_policies: Vec::new(),
            disallowed_policies_glob: Vec::new(),
            orphan: false,
            renewable: true,
            path_suffix: String::new(),
            allowed_entity_aliases: Vec::new(),
            token: StoredTokenFields {
                token_type: TokenKind::DefaultService,
                ..StoredTokenFields::default()
            },
        }
    }
}

impl Role {
    /// Whether the role's own lists take the place of the caller's policies.
    pub(super) fn decides_policies(&self) -> bool {
        [
            &self.allowed_policies,
            &self.allowed_policies_glob,
            &self.disallowed_policies,
            &self.disallowed_policies_glob,
        ]
        .iter()
        .any(|list| !list.is_empty())
    }

    /// Without lists of what is allowed, all is that is not disallowed.
    pub(super) fn allows(&self, policy: &str) -> bool {
        let no_list = self.allowed_policies.is_empty() && self.allowed_policies_glob.is_empty();
        no_list || listed(&self.allowed_policies, &self.allowed_policies_glob, policy)
    }

    pub(super) fn disallows(&self, policy: &str) -> bool {
        listed(
            &self.disallowed_policies,
            &self.disallowed_policies_glob,
            policy,
        )
    }

    /// A batch token has no parent, no renewal and no end but its own; a role for them must say so.
    fn check_batch(&self) -> Result<()> {
        let wanted = if !self.orphan {
            "orphan = true"
        } else if self.renewable {
            "renewable = false"
        } else if !self.token.token_explicit_max_ttl.0.is_zero() {
            "token_explicit_max_ttl = 0"
        } else {
            return Ok(());
        };
        Err(Error::bad_request(format!(
            "token_type \"batch\" needs {wanted}: batch tokens have no parent, renewal or explicit maximum"
        )))
    }

    /// `alias` in lower case.
    pub(super) fn allows_alias(&self, alias: &str) -> bool {
        self.allowed_entity_aliases
            .iter()
            .any(|allowed| matches(&allowed.to_lowercase(), alias))
    }
}

fn listed(names: &[String], globs: &[String], policy: &str) -> bool {
    names.iter().any(|name| name == policy) || globs.iter().any(|glob| matches(glob, policy))
}

/// Whether `text` is what `glob` says, where each `*` stands for any characters.
fn matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The role of this name.
pub(super) async fn find(live: &Live, name: &str) -> Result<Option<Role>> {
    Ok(live.tokens.roles().get_json(&path(name)).await?)
}

/// The settings under which a token that no mount has issued is renewed: its own, and those that its role has now.
pub(super) async fn params_at_renewal(live: &Live, entry: &TokenEntry) -> Result<TokenParams> {
    let mut params = entry.params();
    if entry.role.is_empty() {
        return Ok(params);
    }
    let Some(role) = find(live, &entry.role).await? else {
        return Err(Error::bad_request(format!(
            "the role {:?} that the token was created by is gone: it is not renewed",
            entry.role
        )));
    };
    if !role.renewable {
        return Err(Error::bad_request(format!(
            "the role {:?} does not let its tokens be renewed",
            entry.role
        )));
    }
    let lower = |own: Duration, of_role: Duration| match (own.is_zero(), of_role.is_zero()) {
        (true, _) => of_role,
        (_, true) => own,
        _ => own.min(of_role),
    };
    params.period = lower(params.period, role.token.token_period.0);
    params.explicit_max_ttl = lower(params.explicit_max_ttl, role.token.token_explicit_max_ttl.0);
    Ok(params)
}

/// A role by its name.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RoleNameInput {
    /// The role.
    role_name: String,
}

/// What a role is to say; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RoleInput {
    /// The role.
    role_name: String,
    /// Policies that its tokens may have, whatever the caller's own are. `root` cannot be among them.
    allowed_policies: Option<CommaList>,
    /// The same with `*` in the names.
    allowed_policies_glob: Option<CommaList>,
    /// Policies that its tokens may not have; `default` here keeps it from being added.
    disallowed_policies: Option<CommaList>,
    /// The same with `*` in the names.
    disallowed_policies_glob: Option<CommaList>,
    /// Its tokens have no parent.
    orphan: Option<Flag>,
    /// Whether its tokens can be renewed; true by default.
    renewable: Option<Flag>,
    /// Ends the path that its tokens are issued under, to tell them apart in `sys/leases`.
    path_suffix: Option<String>,
    /// Names that `entity_alias` may have; `*` stands for any characters.
    allowed_entity_aliases: Option<CommaList>,
    /// Addresses (CIDR blocks) from which its tokens may be used.
    token_bound_cidrs: Option<CommaList>,
    /// A limit on its tokens' whole life that no renewal moves; 0 means none.
    token_explicit_max_ttl: Option<Ttl>,
    /// Leave out the `default` policy.
    token_no_default_policy: Option<Flag>,
    /// How often its tokens may be used; 0 means without limit.
    token_num_uses: Option<Count>,
    /// Makes its tokens periodic: each renewal sets the TTL to this period.
    token_period: Option<Ttl>,
    /// `service`, `batch`, `default-service` or `default-batch`: the last two are what a request that asks for
    /// nothing gets.
    token_type: Option<TokenKind>,
    /// An older name of `token_bound_cidrs`.
    bound_cidrs: Option<CommaList>,
    /// An older name of `token_explicit_max_ttl`.
    explicit_max_ttl: Option<Ttl>,
    /// An older name of `token_period`.
    period: Option<Ttl>,
}

/// A role, by Vault's names.
#[derive(Serialize, JsonSchema)]
pub(super) struct ShownRole {
    allowed_entity_aliases: Vec<String>,
    allowed_policies: Vec<String>,
    allowed_policies_glob: Vec<String>,
    disallowed_policies: Vec<String>,
    disallowed_policies_glob: Vec<String>,
    explicit_max_ttl: Ttl,
    /// The role's name.
    name: String,
    orphan: bool,
    path_suffix: String,
    period: Ttl,
    renewable: bool,
    token_bound_cidrs: CommaList,
    token_explicit_max_ttl: Ttl,
    token_no_default_policy: bool,
    token_num_uses: u64,
    token_period: Ttl,
    token_type: TokenKind,
}

pub(super) async fn read_role(
    cx: Cx<TokenBackend>,
    input: RoleNameInput,
) -> Result<Option<Data<ShownRole>>> {
    let role = find(&*cx.live()?, &input.role_name).await?;
    Ok(role.map(|role| {
        Data(ShownRole {
            allowed_entity_aliases: role.allowed_entity_aliases,
            allowed_policies: role.allowed_policies,
            allowed_policies_glob: role.allowed_policies_glob,
            disallowed_policies: role.disallowed_policies,
            disallowed_policies_glob: role.disallowed_policies_glob,
            explicit_max_ttl: role.token.token_explicit_max_ttl,
            name: input.role_name,
            orphan: role.orphan,
            path_suffix: role.path_suffix,
            period: role.token.token_period,
            renewable: role.renewable,
            token_bound_cidrs: role.token.token_bound_cidrs,
            token_explicit_max_ttl: role.token.token_explicit_max_ttl,
            token_no_default_policy: role.token.token_no_default_policy,
            token_num_uses: role.token.token_num_uses,
            token_period: role.token.token_period,
            token_type: role.token.token_type,
        })
    }))
}

pub(super) async fn write_role(cx: Cx<TokenBackend>, input: RoleInput) -> Result<Written> {
    let live = cx.live()?;
    check_name(&input.role_name)?;
    let mut warnings = Vec::new();
    for (older, newer, name) in [
        (
            input.bound_cidrs.is_some(),
            input.token_bound_cidrs.is_some(),
            "bound_cidrs",
        ),
        (
            input.explicit_max_ttl.is_some(),
            input.token_explicit_max_ttl.is_some(),
            "explicit_max_ttl",
        ),
        (
            input.period.is_some(),
            input.token_period.is_some(),
            "period",
        ),
    ] {
        match (older, newer) {
            (true, true) => warnings.push(format!(
                "{name} was ignored: it is an older name of token_{name}, which was sent, too"
            )),
            (true, false) => {
                warnings.push(format!("{name} is an older name: use token_{name}"));
            }
            (false, _) => {}
        }
    }
    let most = limits_here(&*cx.core()?, &live).max_ttl;
    if let Some(Ttl(asked)) = input.token_explicit_max_ttl.or(input.explicit_max_ttl)
        && asked > most
    {
        warnings.push(format!(
            "token_explicit_max_ttl of {:?} exceeds the effective max_ttl of {:?}, with which tokens of this role end",
            duration::format(asked),
            duration::format(most)
        ));
    }
    live.tokens
        .roles()
        .update_json(&path(&input.role_name), |role: Option<Role>| {
            input.apply(role.unwrap_or_default())
        })
        .await?;
    Ok(Written { warnings })
}

pub(super) async fn delete_role(
    cx: Cx<TokenBackend>,
    input: RoleNameInput,
) -> Result<obol_mount::NoContent> {
    cx.live()?
        .tokens
        .roles()
        .delete(&path(&input.role_name))
        .await?;
    Ok(obol_mount::NoContent)
}

pub(super) async fn role_exists(cx: Cx<TokenBackend>, input: RoleNameInput) -> Result<bool> {
    Ok(find(&*cx.live()?, &input.role_name).await?.is_some())
}

pub(super) async fn list_roles(cx: Cx<TokenBackend>, input: ListInput) -> Result<Keys> {
    let limit = input.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.0.max(1)).unwrap_or(usize::MAX)
    });
    let live = cx.live()?;
    let roles = live.tokens.roles();
    let keys = roles.list("role/", input.after.as_deref(), limit).await?;
    Ok(Keys { keys })
}

impl RoleInput {
    /// The role with what was sent, or a refusal that changes nothing.
    fn apply(&self, mut role: Role) -> Result<Role> {
        if let Some(CommaList(names)) = &self.allowed_policies {
            role.allowed_policies = assignable_policies("allowed_policies", names)?;
        }
        if let Some(CommaList(names)) = &self.disallowed_policies {
            role.disallowed_policies = disallowed(names)?;
        }
        if let Some(CommaList(globs)) = &self.allowed_policies_glob {
            role.allowed_policies_glob = policy_globs("allowed_policies_glob", globs)?;
        }
        if let Some(CommaList(globs)) = &self.disallowed_policies_glob {
            role.disallowed_policies_glob = policy_globs("disallowed_policies_glob", globs)?;
        }
        if let Some(Flag(orphan)) = self.orphan {
            role.orphan = orphan;
        }
        if let Some(Flag(renewable)) = self.renewable {
            role.renewable = renewable;
        }
        if let Some(suffix) = &self.path_suffix {
            check_suffix(suffix)?;
            role.path_suffix.clone_from(suffix);
        }
        if let Some(CommaList(aliases)) = &self.allowed_entity_aliases {
            role.allowed_entity_aliases.clone_from(aliases);
        }
        let mut params = TokenParams::from(role.token.clone());
        let fields = TokenFields {
            token_bound_cidrs: self.token_bound_cidrs.clone().or(self.bound_cidrs.clone()),
            token_explicit_max_ttl: self.token_explicit_max_ttl.or(self.explicit_max_ttl),
            token_no_default_policy: self.token_no_default_policy,
            token_num_uses: self.token_num_uses,
            token_period: self.token_period.or(self.period),
            token_type: self.token_type.map(|kind| match kind {
                TokenKind::Default => TokenKind::DefaultService,
                other => other,
            }),
            ..TokenFields::default()
        };
        fields.apply(&mut params)?;
        role.token = StoredTokenFields::from(&params);
        if role.token.token_type == TokenKind::Batch {
            role.check_batch()?;
        }
        Ok(role)
    }
}

/// Names that may not be given out: `root` may well be among them.
fn disallowed(names: &[String]) -> Result<Vec<String>> {
    let checked = names.iter().enumerate().map(|(index, name)| {
        PolicyName::parse(name)
            .map(|name| name.as_str().to_owned())
            .map_err(|why| {
                Error::bad_request(format!(
                    "disallowed_policies: policy number {}: {why}",
                    index + 1
                ))
            })
    });
    checked.collect()
}

/// Globs over policy names: a glob is folded and checked as a name is, with the stars left out.
fn policy_globs(field: &str, globs: &[String]) -> Result<Vec<String>> {
    let checked = globs.iter().enumerate().map(|(index, glob)| {
        PolicyName::parse(&glob.replace('*', "x"))
            .map(|_| glob.to_lowercase())
            .map_err(|why| Error::bad_request(format!("{field}: glob number {}: {why}", index + 1)))
    });
    checked.collect()
}

fn check_name(name: &str) -> Result<()> {
    if name.len() > MAX_NAME || !is_plain(name) {
        return Err(Error::bad_request(
            "role_name may hold letters, digits, `-`, `_` and `.` only, and begins and ends with a letter or a digit",
        ));
    }
    Ok(())
}

fn check_suffix(suffix: &str) -> Result<()> {
    if !suffix.is_empty() && (suffix.len() > MAX_NAME || !is_plain(suffix)) {
        return Err(Error::bad_request(
            "path_suffix may hold letters, digits, `-`, `_` and `.` only, and begins and ends with a letter or a digit",
        ));
    }
    Ok(())
}

fn is_plain(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn path(name: &str) -> String {
    format!("role/{name}")
}

/// The longest name in bytes.
const MAX_NAME: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (glob, text, matched) in [
            ("dev-*", "dev-", true),
            ("dev-*", "dev-web", true),
            ("dev-*", "dev", false),
            ("*-ro", "web-ro", true),
            ("*-ro", "web-row", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("*", "anything", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("aa*aa", "aaa", false),
        ] {
            assert_eq!(matches(glob, text), matched, "{glob} {text}");
        }
    }
}
