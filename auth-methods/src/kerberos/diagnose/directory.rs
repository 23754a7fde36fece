//! The steps about the directory: each server on its own, the owners of the SPN, one user.

use std::collections::BTreeMap;

use obol_directory::{DirectoryError, ServerProbe, SpnOwner, StepName, UserProbe};
use obol_kerberos::{Accepted, PacState, Principal};

use super::super::live::{Service, Snapshot};
use super::super::login;
use super::super::membership::{self, Membership, Unknown};
use super::super::user::{Rules, User};
use super::report::{GroupReport, Steps, UserReport};
use super::{kdc, ticket};
use crate::directory::users::Users;

/// Every server of `url`, on its own. One that fails is a warning while another one works. Says whether one does.
pub(super) async fn servers(steps: &mut Steps, users: &Users) -> bool {
    let probes = users.directory.probe().await;
    let usable = probes.iter().any(ServerProbe::is_usable);
    for probe in probes {
        for step in probe.steps {
            let name = match step.name {
                StepName::Dial => "ldap dial",
                StepName::Tls => "ldap tls",
                StepName::Bind => "ldap bind",
                StepName::RootDse => "ldap server",
                StepName::UserDn => "userdn",
                StepName::GroupDn => "groupdn",
            };
            steps.took(step.took);
            match step.outcome {
                Ok(finding) => {
                    steps.ok(name, format!("{}: {finding}", probe.url));
                }
                Err(error) if usable => {
                    steps
                        .warn(name, format!("{}: {}", probe.url, error.cause()))
                        .mend(error.mend());
                }
                Err(error) => {
                    steps
                        .fail(name, format!("{}: {}", probe.url, error.cause()))
                        .mend(error.mend());
                }
            }
        }
    }
    usable
}

/// Whose the SPN is, where the directory knows (Active Directory). Each login fails when it is nobody's, or somebody
/// else's; when it is two accounts', the KDC gives no ticket.
pub(super) async fn spn(steps: &mut Steps, service: &Service, users: &Users, named: Option<&str>) {
    let Some(spn) = kdc::asked_spn(service, named) else {
        return;
    };
    let spn = spn.split('@').next().unwrap_or(&spn);
    let names = ticket::names(service, spn);
    let owners = match users.directory.owners_of_spn(spn).await {
        // The servers' own steps have said what is wrong.
        Err(_) | Ok(None) => return,
        Ok(Some(owners)) => owners,
    };
    let is_ours = |owner: &SpnOwner| {
        let account = owner.account.trim_end_matches('$');
        service.acceptor.keys().iter().any(|key| {
            let principal = key.principal.components().join("/");
            let principal_account = principal.trim_end_matches('$');
            principal_account.eq_ignore_ascii_case(account)
                || owner
                    .spns
                    .iter()
                    .any(|spn| spn.eq_ignore_ascii_case(&principal))
        })
    };
    match owners.as_slice() {
        [] => {
            let with_port = match users.directory.owners_of_spn_with_port(spn).await {
                Ok(Some(owners)) => named_with_port(&owners, spn),
                Err(_) | Ok(None) => String::new(),
            };
            let step = steps
                .fail("spn owner", format!("no account has {spn}{with_port}"))
                .mend(format!("register {spn} for the service account"));
            ticket::with(step, names.register_spn());
        }
        [owner] if is_ours(owner) => {
            steps.ok(
                "spn owner",
                format!(
                    "{spn} belongs to {} alone, whose keys the keytab holds",
                    owner.account
                ),
            );
        }
        [owner] => {
            let step = steps
                .fail(
                    "spn owner",
                    format!(
                        "{spn} belongs to {}, and the keytab holds keys of another account",
                        owner.account
                    ),
                )
                .mend("move the SPN to the service account, or export that account's keytab");
            ticket::with(step, names.find_spn());
        }
        several => {
            let accounts: Vec<&str> = several.iter().map(|owner| owner.account.as_str()).collect();
            let step = steps
                .fail(
                    "spn owner",
                    format!(
                        "{spn} belongs to {} accounts: {}",
                        several.len(),
                        accounts.join(", ")
                    ),
                )
                .mend("remove the SPN from all of them but the service account");
            ticket::with(step, names.find_spn());
        }
    }
}

/// The same name with a port is easily taken for it: browsers and curl ask for the one without.
fn named_with_port(owners: &[SpnOwner], spn: &str) -> String {
    let found = owners.iter().find_map(|owner| {
        let has_port = |name: &&String| {
            let (name, port) = name.rsplit_once(':').unwrap_or_default();
            name.eq_ignore_ascii_case(spn) && !port.is_empty()
        };
        Some((&owner.account, owner.spns.iter().find(has_port)?))
    });
    match found {
        Some((account, name)) => {
            format!("; {account} has {name}, and clients leave the port out")
        }
        None => String::new(),
    }
}

/// A user's way from the name to the policies. The user is the one who was named, or whose ticket was sent.
pub(super) async fn user(
    steps: &mut Steps,
    snapshot: &Snapshot,
    users: &Users,
    named: Option<&str>,
    accepted: Option<&Accepted>,
) -> Option<UserReport> {
    let Some(service) = snapshot.service() else {
        steps.skip("user", "no keytab is configured");
        return None;
    };
    let rules = Rules::of(service, users);
    let user = match (named, accepted) {
        (Some(name), _) => match principal(name, service, users) {
            Ok(principal) => User::of(&principal, &principal, rules),
            Err(cause) => {
                steps
                    .fail("user", format!("{name:?} is no name of a user: {cause}"))
                    .mend("write it as the ticket has it: grace, grace/admin or grace@REALM");
                return None;
            }
        },
        (None, Some(accepted)) => login::user(accepted, rules),
        (None, None) => {
            steps.skip("user", "no user was named (user=grace)");
            return None;
        }
    };
    let user = match user {
        Ok(user) => user,
        Err(refusal) => {
            steps.fail("user", refusal.cause).mend(refusal.mend);
            return None;
        }
    };
    let probe = users.directory.explain_user(&user.directory_name).await;
    searched(steps, &probe);
    // The named user may be another than the one whose ticket it is.
    let pac = accepted
        .filter(|accepted| {
            login::user(accepted, rules)
                .is_ok_and(|of_ticket| of_ticket.principal == user.principal)
        })
        .map_or(&PacState::NotRead, |accepted| &accepted.pac);
    let found = match pac {
        PacState::NotRead => membership::without_ticket(service, users, &user)
            .await
            .map_err(Unknown::Directory),
        pac => membership::at_login(service, users, &user, pac, true).await,
    };
    let membership = match found {
        Ok(membership) => membership,
        Err(Unknown::Ticket(refusal) | Unknown::User(refusal)) => {
            steps.fail("user", refusal.cause).mend(refusal.mend);
            return None;
        }
        Err(Unknown::Directory(error)) => {
            directory_failed(steps, "user", &error);
            return None;
        }
    };
    // A login that asks the directory was refused for it above; others find out at the first renewal.
    if let Some(refusal) = membership.shut_out() {
        steps.fail("account", refusal.cause).mend(refusal.mend);
    }
    if *pac == PacState::Absent && membership.standing.sid.is_some() && !user.is_foreign {
        steps
            .warn(
                "account",
                "the ticket has no PAC, so the name in it is only the one that was asked for",
            )
            .mend("see that the service account's userAccountControl has no NO_AUTH_DATA_REQUIRED, and set require_pac to true in config");
    }
    Some(report(steps, snapshot, users, &user, &membership, &probe))
}

/// What the directory finds of the user, by each of its ways.
fn searched(steps: &mut Steps, probe: &UserProbe) {
    let by = match &probe.user_search {
        Some(search) => format!("{} below {:?}", search.filter, search.base),
        None => "userattr, the name and userdn put together".to_owned(),
    };
    match &probe.user_dn {
        Ok(dn) => {
            steps.ok("user entry", format!("{dn}, by {by}"));
        }
        Err(error) => {
            directory_failed(steps, "user entry", error);
            return;
        }
    }
    let by = match &probe.group_search {
        Some(search) => format!("{} below {:?}", search.filter, search.base),
        None => return,
    };
    match &probe.groups_by_filter {
        Some(Ok(names)) if names.is_empty() && !probe.uses_token_groups => {
            steps.warn("groups", format!("{by} finds none")).mend(
                "check groupdn (the DN below which groups lie), groupfilter and groupattr in config/ldap",
            );
        }
        Some(Ok(names)) => {
            steps.ok("groups", format!("{by} finds {}", names.len()));
        }
        Some(Err(error)) => directory_failed(steps, "groups", error),
        None => {}
    }
    match &probe.token_groups {
        Some(Ok(sids)) => {
            let named = sids.iter().filter(|sid| !sid.names.is_empty()).count();
            steps.ok(
                "token groups",
                format!(
                    "tokenGroups lists {}, of which {named} count below groupdn",
                    sids.len()
                ),
            );
        }
        Some(Err(error)) if probe.uses_token_groups => {
            directory_failed(steps, "token groups", error);
        }
        Some(Err(_)) | None => {}
    }
}

fn report(
    steps: &mut Steps,
    snapshot: &Snapshot,
    users: &Users,
    user: &User,
    membership: &Membership,
    probe: &UserProbe,
) -> UserReport {
    let mut policies = snapshot.policies(users, membership);
    let mapped = policies.len();
    policies.extend(users.token.policies.iter().cloned());
    // What a login would have, but for what identity adds.
    if !users.token.no_default_policy {
        policies.push("default".to_owned());
    }
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
            "map one of the groups to policies, or set groupattr in config/ldap to the attribute that holds their names, if these are none: {}",
            listed(membership)
        )),
        _ => steps.ok("user", finding),
    };
    let mut groups: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
    let mut found = |name: &str, source: &'static str| {
        let sources = groups.entry(name.to_owned()).or_default();
        if !sources.contains(&source) {
            sources.push(source);
        }
    };
    for name in probe.groups_by_filter.iter().flatten().flatten() {
        found(name, "ldap");
    }
    for sid in probe.token_groups.iter().flatten().flatten() {
        sid.names
            .iter()
            .for_each(|name| found(name, "token_groups"));
    }
    for (name, _) in membership.groups.iter().filter(|(_, sources)| sources.pac) {
        found(name, "pac");
    }
    for sid in &membership.unnamed {
        found(sid, "pac");
    }
    UserReport {
        name: user.name.clone(),
        dn: probe.user_dn.as_ref().ok().cloned(),
        groups: groups
            .into_iter()
            .map(|(name, sources)| GroupReport { name, sources })
            .collect(),
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
    let (mut finding, cause) = (error.to_string(), error.cause());
    if !finding.contains(&cause) {
        finding = format!("{finding}: {cause}");
    }
    steps.fail(name, finding).mend(error.mend());
}
