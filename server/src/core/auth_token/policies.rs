//! Which policies a token may be created with: a part of the caller's, or what a role says
//! (threats: `policy-name-case`, `batch-token-escalation`). Names are checked and folded before they are compared.

use obol_mount::{Caller, Error, Result};

use super::create::CreateInput;
use super::roles::Role;
use crate::core::policies::{DEFAULT, PolicySet, parse_policy_list};
use crate::core::settle::default_policy;

/// The child's policies: what was asked, within what the role allows or the caller has, unless the caller may give
/// more.
pub(super) fn policies_of_child(
    input: &CreateInput,
    caller: &Caller,
    sudo: bool,
    role: Option<&Role>,
) -> Result<PolicySet> {
    let own = parse_policy_list(caller.policies.iter()).map_err(Error::internal)?;
    let asked = match &input.policies {
        Some(list) if !list.0.is_empty() => {
            let asked = parse_policy_list(&list.0)
                .map_err(|error| Error::bad_request(error.to_string()))?;
            Some(asked)
        }
        _ => None,
    };
    let no_default =
        input.no_default_policy.0 || role.is_some_and(|role| role.token.token_no_default_policy);
    let policies = match role.filter(|role| role.decides_policies()) {
        Some(role) => by_role(role, asked, &own, no_default)?,
        None => by_caller(asked, &own, sudo, no_default)?,
    };
    if policies.grants_root() && !caller.is_root {
        return Err(Error::bad_request(
            "root tokens may not be created without the parent token being root",
        ));
    }
    Ok(policies)
}

/// A role with lists of its own decides, whatever the caller has.
fn by_role(
    role: &Role,
    asked: Option<PolicySet>,
    own: &PolicySet,
    no_default: bool,
) -> Result<PolicySet> {
    let add_default = !no_default && !role.disallows(DEFAULT);
    let policies = match asked {
        Some(asked) => {
            let refused = asked.names().iter().find(|name| {
                !(role.allows(name.as_str()) || add_default && name.as_str() == DEFAULT)
            });
            if let Some(name) = refused {
                return Err(Error::bad_request(format!(
                    "token policies must be a subset of the role's allowed policies: {name:?} is not"
                )));
            }
            asked
        }
        None => match role.allowed_policies.is_empty() && role.allowed_policies_glob.is_empty() {
            false => parse_policy_list(&role.allowed_policies).map_err(Error::internal)?,
            // The role only takes away: the caller's own are what is left to give.
            true => own.clone(),
        },
    };
    let policies = if add_default {
        policies.with(default_policy()?)
    } else {
        without_default_if(no_default, policies)
    };
    if let Some(name) = policies.names().iter().find(|n| role.disallows(n.as_str())) {
        return Err(Error::bad_request(format!(
            "token policy {name:?} is disallowed by this role"
        )));
    }
    Ok(policies)
}

fn by_caller(
    asked: Option<PolicySet>,
    own: &PolicySet,
    sudo: bool,
    no_default: bool,
) -> Result<PolicySet> {
    let asked = asked.unwrap_or_else(|| own.clone());
    let default = default_policy()?;
    if !sudo && !asked.is_subset_of(own) {
        return Err(Error::bad_request(
            "child policies must be a subset of the parent's",
        ));
    }
    if no_default {
        return Ok(without_default_if(true, asked));
    }
    // A caller that has no `default` itself does not hand it on unless it may give anything.
    if asked.grants_root() || (!sudo && !own.contains(DEFAULT)) {
        return Ok(asked);
    }
    Ok(asked.with(default))
}

fn without_default_if(condition: bool, policies: PolicySet) -> PolicySet {
    if !condition {
        return policies;
    }
    policies
        .names()
        .iter()
        .filter(|name| name.as_str() != DEFAULT)
        .cloned()
        .collect()
}
