//! Which groups a user is in, by the sources that `group_source` names: the directory, the ticket's PAC, or both.
//! Groups from a PAC come as SIDs; the directory gives them the names that its own searches would give, once, and
//! remembers them. A policy can be mapped to a SID as well, and then needs no directory at all.

use std::collections::BTreeMap;

use obol_directory::{DirectoryError, Standing};
use obol_kerberos::{Pac, PacState, Sid};

use super::live::Service;
use super::ticket_rules::GroupSource;
use super::user::{Refusal, User};
use crate::directory::users::Users;

/// A user's groups.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// The user's entry in the directory, where that was asked.
    pub(super) user_dn: Option<String>,
    /// What the entry says of the account.
    pub(super) standing: Standing,
    /// The user's SID, where the ticket says it.
    pub(super) user_sid: Option<String>,
    /// Names of groups as the directory spells them, each with where it was found.
    pub(super) groups: BTreeMap<String, Sources>,
    /// The SIDs of the groups in the PAC that count, with a name or without.
    pub(super) sids: Vec<String>,
    /// Those that no group below `groupdn` has.
    pub(super) unnamed: Vec<String>,
}

/// Where a group was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) ldap: bool,
    pub(super) pac: bool,
}

impl Sources {
    const LDAP: Self = Self {
        ldap: true,
        pac: false,
    };
    const PAC: Self = Self {
        ldap: false,
        pac: true,
    };
}

/// Why a user's groups are not known.
#[derive(Debug)]
pub(super) enum Unknown {
    Directory(DirectoryError),
    /// The ticket does not say.
    Ticket(Refusal),
}

impl Membership {
    pub(super) fn names(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }

    fn add(&mut self, name: String, found: Sources) {
        let sources = self.groups.entry(name).or_default();
        sources.ldap |= found.ldap;
        sources.pac |= found.pac;
    }
}

/// At a login, when there is a ticket to read. Without `names` the groups of a PAC stay SIDs, and the directory is not
/// asked for their names.
pub(super) async fn at_login(
    service: &Service,
    users: &Users,
    user: &User,
    pac: &PacState,
    names: bool,
) -> Result<Membership, Unknown> {
    let source = service.ticket.group_source;
    // What the ticket says is looked at first: a ticket that is refused for it costs no search.
    let pac = read(pac, source)?;
    let mut membership = match source.asks_ldap() {
        true => in_directory(users, user)
            .await
            .map_err(Unknown::Directory)?,
        false => Membership::default(),
    };
    if let Some(pac) = pac {
        membership.user_sid = Some(pac.user_sid().to_string());
        if source.reads_pac() {
            let sids = counted(pac, user, service);
            membership.sids = sids.iter().map(Sid::to_string).collect();
            if names {
                name_groups(users, &sids, &mut membership).await?;
            }
        }
    }
    Ok(membership)
}

/// Whether a login of this user asks the directory who they are, instead of what is remembered.
pub(super) fn needs_question(service: &Service, users: &Users, user: &User) -> bool {
    service.ticket.group_source.asks_ldap() && !users.directory.remembers(&user.directory_name)
}

/// The directory's answer alone: at a renewal there is no ticket any more.
pub(super) async fn in_directory(users: &Users, user: &User) -> Result<Membership, DirectoryError> {
    let found = users.directory.lookup(&user.directory_name).await?;
    Ok(of_directory(found))
}

/// The same, asked now and not remembered.
pub(super) async fn in_directory_now(
    users: &Users,
    user: &User,
) -> Result<Membership, DirectoryError> {
    let found = users.directory.lookup_fresh(&user.directory_name).await?;
    Ok(of_directory(found))
}

fn of_directory(found: obol_directory::Membership) -> Membership {
    let mut membership = Membership {
        user_dn: Some(found.user_dn),
        standing: found.standing,
        ..Membership::default()
    };
    for name in found.groups {
        membership.add(name, Sources::LDAP);
    }
    membership
}

/// The PAC, if it may be believed. A ticket that should say the groups and does not is refused where nothing else
/// says them; one that says them in a way that cannot be verified is refused wherever it is asked.
fn read(pac: &PacState, source: GroupSource) -> Result<Option<&Pac>, Unknown> {
    let refuse = |cause: &str, mend: &'static str| {
        Err(Unknown::Ticket(Refusal {
            cause: cause.to_owned(),
            mend,
        }))
    };
    match pac {
        PacState::Verified(pac) => Ok(Some(pac)),
        _ if !source.reads_pac() => Ok(None),
        PacState::Absent | PacState::NotRead if source.asks_ldap() => Ok(None),
        PacState::Absent | PacState::NotRead => refuse(
            "the ticket has no PAC that its signature vouches for, and group_source is pac",
            "set group_source to ldap or ldap+pac for realms whose KDC writes no groups (MIT, Heimdal); in Active Directory, see that the account's userAccountControl has no NO_AUTH_DATA_REQUIRED",
        ),
        PacState::Unverified => refuse(
            "libkrb5 does not vouch for the ticket's PAC",
            "look for a KDC that is not of this realm, or for an attack",
        ),
        PacState::Malformed(error) => refuse(
            &error.to_string(),
            "report it with the log around this line",
        ),
    }
}

/// The groups of a PAC that count. A KDC vouches for the groups of its own domain; what a trusted domain says of
/// other domains is believed where the operator said so (threats: `pac-unverified`, `realm-confusion`).
fn counted(pac: &Pac, user: &User, service: &Service) -> Vec<Sid> {
    let trusted = service.trusted_domains.iter();
    let own = (!user.is_foreign).then_some(&pac.logon_domain_sid);
    let domains: Vec<&Sid> = own.into_iter().chain(trusted).collect();
    pac.group_sids()
        .into_iter()
        .filter(|sid| domains.iter().any(|domain| sid.is_in_domain(domain)))
        .collect()
}

async fn name_groups(
    users: &Users,
    sids: &[Sid],
    membership: &mut Membership,
) -> Result<(), Unknown> {
    let binary: Vec<Vec<u8>> = sids.iter().map(Sid::to_bytes).collect();
    let named = users
        .directory
        .group_names_of_sids(&binary)
        .await
        .map_err(Unknown::Directory)?;
    for (sid, group) in sids.iter().zip(named) {
        if group.names.is_empty() {
            membership.unnamed.push(sid.to_string());
        }
        for name in group.names {
            membership.add(name, Sources::PAC);
        }
    }
    Ok(())
}
