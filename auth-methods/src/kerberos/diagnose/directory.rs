//! The steps about the directory: each server on its own, the owners of the SPN, one user.

use obol_directory::DirectoryError;
use obol_kerberos::{Accepted, PacState, Principal};

use super::super::live::{Service, Snapshot, Users};
use super::super::membership::{self, Membership, Unknown};
use super::super::user::{Rules, User};
use super::report::{GroupReport, Steps, UserReport};

/// A user's way from the name to the policies. The user is the one who was named, or whose ticket was sent.
pub(super) async fn user(
    steps: &mut Steps,
    snapshot: &Snapshot,
    users: &Users,
    named: Option<&str>,
    ticket: Option<&Accepted>,
) -> Option<UserReport> {
    let Some(service) = snapshot.service() else {
        steps.skip("user", "no keytab is configured");
        return None;
    };
    let principal = match (named, ticket) {
        (Some(name), _) => match principal(name, service, users) {
            Ok(principal) => principal,
            Err(cause) => {
                steps
                    .fail("user", format!("{name:?} is no name of a user: {cause}"))
                    .mend("write it as the ticket has it: grace, grace/admin or grace@REALM");
                return None;
            }
        },
        (None, Some(accepted)) => accepted.client.clone(),
        (None, None) => {
            steps.skip("user", "no user was named (user=grace)");
            return None;
        }
    };
    let user = match User::of(&principal, Rules::of(service, users)) {
        Ok(user) => user,
        Err(refusal) => {
            steps.fail("user", refusal.cause).mend(refusal.mend);
            return None;
        }
    };
    // The named user may be another than the one whose ticket it is.
    let pac = ticket
        .filter(|accepted| accepted.client == principal)
        .map_or(&PacState::NotRead, |accepted| &accepted.pac);
    let found = match pac {
        PacState::NotRead => membership::in_directory_now(users, &user).await,
        pac => membership::at_login(service, users, &user, pac, true).await,
    };
    let membership = match found {
        Ok(membership) => membership,
        Err(Unknown::Ticket(refusal)) => {
            steps.fail("user", refusal.cause).mend(refusal.mend);
            return None;
        }
        Err(Unknown::Directory(error)) => {
            directory_failed(steps, "user", &error);
            return None;
        }
    };
    Some(report(steps, snapshot, users, &user, &membership))
}

fn report(
    steps: &mut Steps,
    snapshot: &Snapshot,
    users: &Users,
    user: &User,
    membership: &Membership,
) -> UserReport {
    let mut policies = snapshot.policies(users, membership);
    let mapped = policies.len();
    policies.extend(users.token.policies.iter().cloned());
    policies.sort_unstable();
    policies.dedup();
    let dn = membership.user_dn.as_deref();
    let groups = membership.groups.len().max(membership.sids.len());
    let finding = format!(
        "{} is {}, in {groups} groups, of which the mapped ones give {mapped} policies",
        user.name,
        dn.unwrap_or("known by the ticket alone"),
    );
    match (groups, mapped) {
        (0, _) => steps.warn("user", finding).mend(
            "check groupdn (it is the DN below which groups lie), groupfilter and groupattr in config/ldap; the user's groups are looked for with them",
        ),
        (_, 0) => steps.warn("user", finding).mend(format!(
            "map one of the groups to policies; those found: {}",
            listed(membership)
        )),
        _ => steps.ok("user", finding),
    };
    let named = membership.groups.iter().map(|(name, sources)| GroupReport {
        name: name.clone(),
        sources: [("ldap", sources.ldap), ("pac", sources.pac)]
            .into_iter()
            .filter_map(|(source, found)| found.then_some(source))
            .collect(),
    });
    let sids = membership.sids.iter().map(|sid| GroupReport {
        name: sid.clone(),
        sources: vec!["pac"],
    });
    UserReport {
        name: user.name.clone(),
        dn: membership.user_dn.clone(),
        groups: named.chain(sids).collect(),
        policies,
    }
}

fn listed(membership: &Membership) -> String {
    const SHOWN: usize = 10;
    let names: Vec<&str> = membership
        .groups
        .keys()
        .map(String::as_str)
        .take(SHOWN)
        .collect();
    match membership.groups.len() > SHOWN {
        true => format!("{} ...", names.join(", ")),
        false => names.join(", "),
    }
}

/// A name as an operator writes it: without a realm it is one of ours.
fn principal(name: &str, service: &Service, users: &Users) -> Result<Principal, String> {
    let realm = users
        .upndomain
        .as_ref()
        .or_else(|| service.realms.first())
        .cloned()
        .unwrap_or_default();
    let full = match name.contains('@') {
        true => name.to_owned(),
        false => format!("{name}@{realm}"),
    };
    Principal::parse(&full).map_err(|error| error.to_string())
}

fn directory_failed(steps: &mut Steps, name: &'static str, error: &DirectoryError) {
    steps
        .fail(name, format!("{error}: {}", error.cause()))
        .mend(error.mend());
}
