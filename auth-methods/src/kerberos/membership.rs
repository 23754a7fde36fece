//! Which groups a user is in, by the sources that `group_source` names: the directory, the ticket's PAC, or both.
//! Groups from a PAC come as SIDs; the directory gives them the names that its own searches would give, once, and
//! remembers them. A policy can be mapped to a SID as well, and then needs no directory at all.

use std::collections::BTreeMap;
use std::time::SystemTime;

use obol_directory::{DirectoryError, Standing};
use obol_kerberos::{Pac, PacState, Sid};

use super::live::Service;
use super::ticket_rules::TicketRules;
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
    /// The directory says that this is not the user, or nobody who may log in.
    User(Refusal),
}

impl Membership {
    /// Why the account may not be used now, as far as the directory was asked.
    pub(super) fn shut_out(&self) -> Option<Refusal> {
        let cause = self.standing.shut_out(SystemTime::now())?;
        Some(Refusal {
            cause: format!("{cause} ({})", self.user_dn.as_deref().unwrap_or_default()),
            mend: "enable the account, or give it a later end (accountExpires), if its user is to log in",
        })
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }

    /// Takes in the groups of a PAC, with their names where those are wanted.
    async fn take_sids(
        &mut self,
        users: &Users,
        sids: &[Sid],
        names: bool,
    ) -> Result<(), DirectoryError> {
        self.sids = sids.iter().map(Sid::to_string).collect();
        if !names {
            return Ok(());
        }
        let binary: Vec<Vec<u8>> = sids.iter().map(Sid::to_bytes).collect();
        let named = users.directory.group_names_of_sids(&binary).await?;
        for (sid, group) in sids.iter().zip(named) {
            if group.names.is_empty() {
                self.unnamed.push(sid.to_string());
            }
            for name in group.names {
                self.add(name, Sources::PAC);
            }
        }
        Ok(())
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
    let pac = read(pac, &service.ticket)?;
    let mut membership = match source.asks_ldap() {
        true => {
            let found = in_directory(users, user)
                .await
                .map_err(Unknown::Directory)?;
            may_log_in(&found)?;
            found
        }
        false => Membership::default(),
    };
    if let Some(pac) = pac {
        let user_sid = pac.user_sid().to_string();
        if source.asks_ldap() {
            same_account(user, &user_sid, &membership)?;
        }
        membership.user_sid = Some(user_sid);
        if source.reads_pac() {
            let own = (!user.is_foreign).then_some(pac.logon_domain_sid);
            let sids = counted(pac.group_sids(), own, service);
            membership
                .take_sids(users, &sids, names)
                .await
                .map_err(Unknown::Directory)?;
        }
    }
    Ok(membership)
}

/// Who has a ticket keeps it until it ends; whether the account may still be used, the directory knows (threats:
/// `group-gone`).
fn may_log_in(found: &Membership) -> Result<(), Unknown> {
    match found.shut_out() {
        Some(refusal) => Err(Unknown::User(refusal)),
        None => Ok(()),
    }
}

/// The entry that a name led to must be that of the account in the PAC. In Active Directory the name in a ticket is the
/// one that was asked for, and a KDC takes one account's `sAMAccountName`, with a `$` behind it too, before another's
/// UPN (MS-KILE 3.3.5.6.1): whoever may make an account could take the name of another's UPN, and `upndomain` would
/// lead to that other's groups.
fn same_account(user: &User, user_sid: &str, found: &Membership) -> Result<(), Unknown> {
    let entry = found.user_dn.as_deref().unwrap_or_default();
    let cause = match &found.standing.sid {
        Some(sid) if sid == user_sid => return Ok(()),
        // Another realm's user has an entry of its own here, if any.
        _ if user.is_foreign => return Ok(()),
        Some(sid) => format!("the ticket is of {user_sid}, and the entry {entry} is {sid}"),
        None if user.is_named_by_ticket => format!(
            "the ticket is of another name than its account ({}), and the entry {entry} shows no objectSid by which it could be told to be the same",
            user.name
        ),
        None => return Ok(()),
    };
    Err(Unknown::User(Refusal {
        cause,
        mend: "log in under the account's own name; no account's name may be the first part of another's UPN, and the bind account must be able to read objectSid",
    }))
}

/// Whether a login of this user asks the directory who they are, instead of what is remembered.
pub(super) fn needs_question(service: &Service, users: &Users, user: &User) -> bool {
    service.ticket.group_source.asks_ldap() && !users.directory.remembers(&user.directory_name)
}

/// Without a ticket: at a renewal, or of a user who was named. Where the groups are those of the PAC, the directory says
/// which ones a domain controller would write into one.
pub(super) async fn without_ticket(
    service: &Service,
    users: &Users,
    user: &User,
) -> Result<Membership, DirectoryError> {
    let source = service.ticket.group_source;
    // Asked now: a token that lives on by what was so an hour ago would have it for a lifetime more.
    let found = users.directory.lookup_fresh(&user.directory_name).await?;
    let mut membership = of_directory(&found);
    if !source.reads_pac() {
        return Ok(membership);
    }
    let dn = membership.user_dn.clone().unwrap_or_default();
    let sids = match users.directory.sids_of_groups(&dn).await {
        Ok(sids) => sids,
        // Not Active Directory: its own searches are all that there is.
        Err(DirectoryError::NoTokenGroups { .. }) => return Ok(membership),
        Err(error) => return Err(error),
    };
    if !source.asks_ldap() {
        membership.groups.clear();
    }
    let own = membership.standing.sid.as_deref();
    let own = own.and_then(|sid| sid.parse::<Sid>().ok()?.domain());
    let sids = sids.iter().filter_map(|sid| Sid::from_bytes(sid).ok());
    let sids = counted(sids, own.filter(|_| !user.is_foreign), service);
    membership.take_sids(users, &sids, true).await?;
    Ok(membership)
}

async fn in_directory(users: &Users, user: &User) -> Result<Membership, DirectoryError> {
    let found = users.directory.lookup(&user.directory_name).await?;
    Ok(of_directory(&found))
}

fn of_directory(found: &obol_directory::Membership) -> Membership {
    let mut membership = Membership {
        user_dn: Some(found.user_dn.clone()),
        standing: found.standing.clone(),
        ..Membership::default()
    };
    for name in &found.groups {
        membership.add(name.clone(), Sources::LDAP);
    }
    membership
}

/// The PAC, if it may be believed. A ticket without one is refused where nothing else says the groups, and where the
/// operator requires one; one whose PAC cannot be verified is refused wherever it is asked.
fn read<'p>(pac: &'p PacState, rules: &TicketRules) -> Result<Option<&'p Pac>, Unknown> {
    let source = rules.group_source;
    let refuse = |cause: &str, mend: &'static str| {
        Err(Unknown::Ticket(Refusal {
            cause: cause.to_owned(),
            mend,
        }))
    };
    match pac {
        PacState::Verified(pac) => Ok(Some(pac)),
        PacState::Absent | PacState::NotRead if rules.require_pac => refuse(
            "the ticket has no PAC that its signature vouches for, and require_pac is on",
            "see that the service account's userAccountControl has no NO_AUTH_DATA_REQUIRED; set require_pac to false if users of realms whose KDC writes no groups (MIT, Heimdal) are to log in",
        ),
        _ if !source.reads_pac() && !rules.require_pac => Ok(None),
        PacState::Absent | PacState::NotRead if source.asks_ldap() => Ok(None),
        PacState::Absent | PacState::NotRead => refuse(
            "the ticket has no PAC that its signature vouches for, and group_source is pac",
            "set group_source to ldap or ldap+pac for realms whose KDC writes no groups (MIT, Heimdal); in Active Directory, see that the service account's userAccountControl has no NO_AUTH_DATA_REQUIRED",
        ),
        PacState::Unverified => refuse(
            "the PAC in the ticket is not signed with the service account's key for this client and time",
            "look for a KDC that copies PACs from other realms' tickets unsigned, or for an attack; with group_source ldap, PACs are not looked at",
        ),
        PacState::Malformed(error) => refuse(
            &error.to_string(),
            "report it with the log around this line",
        ),
    }
}

/// The groups of a PAC that count, of the domain that is the user's `own` and of those that are trusted. A KDC vouches for the groups of its own domain; what a trusted domain says of
/// other domains is believed where the operator said so (threats: `pac-unverified`, `realm-confusion`).
fn counted(sids: impl IntoIterator<Item = Sid>, own: Option<Sid>, service: &Service) -> Vec<Sid> {
    let trusted = service.trusted_domains.iter().copied();
    let domains: Vec<Sid> = own.into_iter().chain(trusted).collect();
    sids.into_iter()
        .filter(|sid| domains.iter().any(|domain| sid.is_in_domain(domain)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kerberos::ticket_rules::GroupSource;

    #[test]
    fn pac_unverified_where_the_pac_is_asked_one_that_is_not_vouched_for_is_refused_and_not_passed_over()
     {
        for (group_source, require_pac, refused) in [
            (GroupSource::Ldap, false, false),
            (GroupSource::Ldap, true, true),
            (GroupSource::Pac, false, true),
            (GroupSource::LdapAndPac, false, true),
        ] {
            let rules = TicketRules {
                group_source,
                require_pac,
                ..TicketRules::default()
            };
            let read = read(&PacState::Unverified, &rules);
            assert_eq!(read.is_err(), refused, "{group_source:?} {require_pac}");
            assert!(refused || matches!(read, Ok(None)));
        }
    }
}
