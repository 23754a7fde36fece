//! The LDIF that fills a new directory.

use std::collections::BTreeMap;

use crate::ldif::Ldif;

use super::people::{
    AWKWARD_NAMES, AWKWARD_PASSWORD, GROUP_DN, GROUPS, Kind, SUFFIX, TEAMS, USER_DN, USERS,
    group_dn, user_dn,
};
use super::{ADMIN_DN, BIND_DN, BIND_PASSWORD};

/// Everything in [`super::people`], as slapadd takes it: memberOf included, because the overlay
/// that maintains it later does not see what slapadd loads.
pub(super) fn seed() -> String {
    let groups = groups();
    let mut member_of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for group in groups
        .iter()
        .filter(|group| group.kind == Kind::GroupOfNames)
    {
        for member in &group.members {
            member_of.entry(member).or_default().push(&group.dn);
        }
    }

    let mut ldif = Ldif::default();
    ldif.entry(
        SUFFIX,
        &["organization", "dcObject"],
        &[("o", "Example"), ("dc", "example")],
    );
    ldif.entry(USER_DN, &["organizationalUnit"], &[("ou", "Users")]);
    ldif.entry(GROUP_DN, &["organizationalUnit"], &[("ou", "Groups")]);
    ldif.entry(ADMIN_DN, &["organizationalRole"], &[("cn", "admin")]);
    ldif.entry(NOBODY_DN, &["organizationalRole"], &[("cn", "nobody")]);
    ldif.entry(
        BIND_DN,
        &["organizationalRole", "simpleSecurityObject"],
        &[("cn", "vault"), ("userPassword", BIND_PASSWORD)],
    );

    let awkward = AWKWARD_NAMES
        .iter()
        .map(|uid| (*uid, *uid, AWKWARD_PASSWORD));
    for (uid, name, password) in USERS
        .iter()
        .map(|user| (user.uid, user.name, user.password))
        .chain(awkward)
    {
        let dn = user_dn(uid);
        let upn = format!("{uid}@example.com");
        let mut attributes = vec![
            ("uid", uid),
            ("cn", name),
            (
                "sn",
                name.rsplit(' ')
                    .find(|word| !word.is_empty())
                    .unwrap_or(name),
            ),
            ("userPassword", password),
            ("sAMAccountName", uid),
            ("userPrincipalName", &upn),
        ];
        attributes.extend(
            member_of
                .get(dn.as_str())
                .into_iter()
                .flatten()
                .map(|dn| ("memberOf", *dn)),
        );
        ldif.entry(&dn, &["inetOrgPerson", "adAccount"], &attributes);
    }

    for (number, group) in groups.iter().enumerate() {
        let number = (5000 + number).to_string();
        let (class, attribute) = match group.kind {
            Kind::GroupOfNames => ("groupOfNames", "member"),
            Kind::GroupOfUniqueNames => ("groupOfUniqueNames", "uniqueMember"),
            Kind::Posix => ("posixGroup", "memberUid"),
        };
        let mut attributes = vec![("cn", group.cn.as_str())];
        match group.kind {
            Kind::Posix => attributes.push(("gidNumber", &number)),
            // Both classes insist on a member, and a group must be able to lose its last one.
            _ => attributes.push((attribute, NOBODY_DN)),
        }
        attributes.extend(
            group
                .members
                .iter()
                .map(|member| (attribute, member.as_str())),
        );
        attributes.extend(
            member_of
                .get(group.dn.as_str())
                .into_iter()
                .flatten()
                .map(|dn| ("memberOf", *dn)),
        );
        ldif.entry(&group.dn, &[class], &attributes);
    }
    ldif.0
}

/// A member of each group that nobody logs in as.
pub(super) const NOBODY_DN: &str = "cn=nobody,dc=example,dc=com";

struct Members {
    cn: String,
    dn: String,
    kind: Kind,
    /// DNs, or user names for POSIX groups.
    members: Vec<String>,
}

fn groups() -> Vec<Members> {
    let listed = GROUPS.iter().map(|group| Members {
        cn: group.cn.to_owned(),
        dn: group_dn(group.cn),
        kind: group.kind,
        members: match group.kind {
            Kind::Posix => group.users.iter().map(|&uid| uid.to_owned()).collect(),
            _ => group
                .users
                .iter()
                .map(|uid| user_dn(uid))
                .chain(group.groups.iter().map(|cn| group_dn(cn)))
                .collect(),
        },
    });
    let awkward = Members {
        cn: "awkward".to_owned(),
        dn: group_dn("awkward"),
        kind: Kind::GroupOfNames,
        members: AWKWARD_NAMES.iter().map(|uid| user_dn(uid)).collect(),
    };
    let teams = (0..TEAMS).map(|n| {
        let cn = format!("team-{n:03}");
        Members {
            dn: group_dn(&cn),
            cn,
            kind: Kind::GroupOfNames,
            members: vec![user_dn("many")],
        }
    });
    listed.chain([awkward]).chain(teams).collect()
}
