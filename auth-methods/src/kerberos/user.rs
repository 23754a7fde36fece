//! Whom an accepted ticket stands for: the one place where a principal becomes a user name, for
//! logins and for renewals (threats: `realm-confusion`, `instance-strip`).

use std::collections::BTreeSet;

use obol_kerberos::Principal;

use super::live::Service;
use crate::directory::users::Users;

/// A principal that may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// The principal without its realm: `grace`, `grace/admin`; with it, `grace@OTHER.REALM`, if the realm is one of
    /// `allowed_realms`. What identity and metadata know.
    pub(super) name: String,
    /// The name that LDAP is asked for; without the instance where the operator wants that.
    pub(super) directory_name: String,
    /// `directory_name` is the ticket's, which is not the account's: whoever asked for the ticket has chosen it.
    pub(super) is_named_by_ticket: bool,
    pub(super) realm: String,
    /// The account's principal.
    pub(super) principal: String,
    /// The realm is one of `allowed_realms`: another's users, not to be taken for ours.
    pub(super) is_foreign: bool,
}

/// Why a principal may not log in. For the operator's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) cause: String,
    pub(super) mend: &'static str,
}

/// What the configuration says of who may log in.
#[derive(Clone, Copy)]
pub(super) struct Rules<'c> {
    /// The one realm whose users may log in.
    upndomain: Option<&'c str>,
    /// The realms of the keytab's keys: those whose users may log in without an `upndomain`.
    realms: &'c BTreeSet<String>,
    /// Other realms whose users may log in, under their name with the realm.
    allowed_realms: &'c [String],
    remove_instance_name: bool,
}

impl<'c> Rules<'c> {
    pub(super) fn of(service: &'c Service, users: &'c Users) -> Self {
        Self {
            upndomain: users.upndomain.as_deref(),
            realms: &service.realms,
            allowed_realms: &service.ticket.allowed_realms,
            remove_instance_name: service.remove_instance_name,
        }
    }
}

impl User {
    /// Vault takes a user of any realm that the KDC vouches for when `upndomain` is empty; a trusted
    /// realm's `grace` would then have the groups of this realm's. Here the realms of the keytab's keys
    /// count, unless `upndomain` names the realm; it is compared exactly, as Vault documents.
    ///
    /// `account` is who it is, `client` the name in the ticket. In Active Directory they differ: the KDC writes
    /// the name as it was asked for, in any case, as a UPN, or without the `$` of a computer's name. The account
    /// counts; the ticket's name is what `upndomain` makes a UPN of, and nothing else. That the entry which it leads to is
    /// the account's is for the directory to say ([`super::membership`]).
    pub(super) fn of(
        account: &Principal,
        client: &Principal,
        rules: Rules<'_>,
    ) -> Result<Self, Refusal> {
        let mut user = Self::of_name(account, rules)?;
        if let Some(domain) = rules.upndomain
            && client != account
        {
            user.directory_name = match enterprise_name(client, domain) {
                Some(name) => name.to_owned(),
                None => Self::of_name(client, rules)?.directory_name,
            };
            user.is_named_by_ticket = true;
        }
        Ok(user)
    }

    fn of_name(principal: &Principal, rules: Rules<'_>) -> Result<Self, Refusal> {
        let realm = principal.realm();
        let is_ours = match rules.upndomain {
            Some(domain) => domain == realm,
            None => rules.realms.contains(realm),
        };
        let is_foreign = !is_ours && rules.allowed_realms.iter().any(|allowed| allowed == realm);
        if !is_ours && !is_foreign {
            return Err(match rules.upndomain {
                Some(domain) if domain.eq_ignore_ascii_case(realm) => Refusal {
                    cause: format!(
                        "{principal} is of realm {realm}, and upndomain is spelled {domain}"
                    ),
                    mend: "spell upndomain in config/ldap as the realm is spelled: case counts",
                },
                Some(domain) => Refusal {
                    cause: format!("{principal} is of realm {realm}, and upndomain is {domain}"),
                    mend: "set upndomain in config/ldap to the realm of the users, or name the realm in allowed_realms of config",
                },
                None => Refusal {
                    cause: format!("{principal} is of a realm that the keytab has no keys of"),
                    mend: "name the realm in allowed_realms of config if its users may log in; if they are those of the directory, set upndomain in config/ldap to it",
                },
            });
        }
        // A slash within a component would make `grace\/admin` and `grace/admin` one user.
        if principal
            .components()
            .iter()
            .any(|part| part.contains(['/', '@']))
        {
            return Err(Refusal {
                cause: format!("{principal} has a slash or an @ within a component"),
                mend: "rename the principal",
            });
        }
        let with_realm = |name: String| match is_foreign {
            true => format!("{name}@{realm}"),
            false => name,
        };
        let name = with_realm(principal.components().join("/"));
        Ok(Self {
            directory_name: if rules.remove_instance_name {
                with_realm(principal.primary().to_owned())
            } else {
                name.clone()
            },
            is_named_by_ticket: false,
            name,
            realm: realm.to_owned(),
            principal: principal.to_string(),
            is_foreign,
        })
    }
}

/// The first part of a name that a client has asked for as a whole UPN (an enterprise name, RFC 6806 section 5), if the
/// rest of it is what `upndomain` puts there again.
fn enterprise_name<'n>(client: &'n Principal, upndomain: &str) -> Option<&'n str> {
    let [name] = client.components() else {
        return None;
    };
    let (name, domain) = name.split_once('@')?;
    let is_whole = !name.is_empty() && !name.contains('/') && client.realm() == upndomain;
    (is_whole && domain.eq_ignore_ascii_case(upndomain)).then_some(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn user(
        principal: &str,
        upndomain: Option<&str>,
        remove_instance_name: bool,
    ) -> Result<User, Refusal> {
        let rules = Rules {
            upndomain,
            realms: &["EXAMPLE.COM".to_owned()].into(),
            allowed_realms: &["PARTNER.COM".to_owned()],
            remove_instance_name,
        };
        let principal = Principal::parse(principal).unwrap();
        User::of(&principal, &principal, rules)
    }

    #[test]
    fn realm_confusion_only_the_realms_of_the_keytab_or_of_upndomain_count() {
        for (principal, upndomain, accepted) in [
            ("grace@EXAMPLE.COM", None, true),
            ("grace@OTHER.REALM", None, false),
            ("grace@example.com", None, false),
            ("grace@SUB.EXAMPLE.COM", None, false),
            ("grace@EXAMPLE.COM", Some("EXAMPLE.COM"), true),
            ("grace@EXAMPLE.COM", Some("example.com"), false),
            ("grace@OTHER.REALM", Some("OTHER.REALM"), true),
            ("grace@EXAMPLE.COM", Some("OTHER.REALM"), false),
        ] {
            assert_eq!(
                user(principal, upndomain, false).is_ok(),
                accepted,
                "{principal} {upndomain:?}"
            );
        }
    }

    #[test]
    fn realm_confusion_a_user_of_an_allowed_realm_keeps_the_realm_in_every_name() {
        for (upndomain, remove, directory_name) in [
            (None, false, "grace/admin@PARTNER.COM"),
            (Some("EXAMPLE.COM"), true, "grace@PARTNER.COM"),
        ] {
            let user = user("grace/admin@PARTNER.COM", upndomain, remove).unwrap();
            assert!(user.is_foreign);
            assert_eq!(user.name, "grace/admin@PARTNER.COM");
            assert_eq!(user.directory_name, directory_name);
        }
        assert!(user("grace@partner.com", None, false).is_err());
    }

    #[test]
    fn alias_case_the_account_counts_and_not_the_name_that_was_asked_for() {
        let of = |client: &str, upndomain| {
            let realms = ["EXAMPLE.COM".to_owned()].into();
            let rules = Rules {
                upndomain,
                realms: &realms,
                allowed_realms: &[],
                remove_instance_name: false,
            };
            let account = Principal::parse("joan@EXAMPLE.COM").unwrap();
            User::of(&account, &Principal::parse(client).unwrap(), rules).unwrap()
        };
        let user = of("JOAN.CLARKE@EXAMPLE.COM", None);
        assert_eq!(
            (user.name.as_str(), user.directory_name.as_str()),
            ("joan", "joan")
        );
        let user = of("joan.clarke@EXAMPLE.COM", Some("EXAMPLE.COM"));
        assert_eq!(
            (user.name.as_str(), user.directory_name.as_str()),
            ("joan", "joan.clarke")
        );
    }

    #[test]
    fn a_whole_upn_in_the_ticket_is_that_name_of_upndomain_and_no_others() {
        let account = Principal::parse("joan@EXAMPLE.COM").unwrap();
        let of = |client: &str| {
            let rules = Rules {
                upndomain: Some("EXAMPLE.COM"),
                realms: &BTreeSet::new(),
                allowed_realms: &[],
                remove_instance_name: false,
            };
            User::of(&account, &Principal::parse(client).unwrap(), rules)
        };
        let user = of(r"joan.clarke\@example.com@EXAMPLE.COM").unwrap();
        assert_eq!(
            (user.name.as_str(), user.directory_name.as_str()),
            ("joan", "joan.clarke")
        );
        assert!(user.is_named_by_ticket);
        for other in [
            r"joan.clarke\@other.com@EXAMPLE.COM",
            r"joan.clarke\@example.com\@example.com@EXAMPLE.COM",
            r"\@example.com@EXAMPLE.COM",
            r"joan\/clarke\@example.com@EXAMPLE.COM",
            r"joan.clarke\@example.com/admin@EXAMPLE.COM",
        ] {
            of(other).unwrap_err();
        }
    }

    #[test]
    fn instance_strip_names_keep_their_instance_unless_told_otherwise() {
        let kept = user("grace/admin@EXAMPLE.COM", None, false).unwrap();
        assert_eq!(
            (kept.name.as_str(), kept.directory_name.as_str()),
            ("grace/admin", "grace/admin")
        );
        let stripped = user("grace/admin@EXAMPLE.COM", None, true).unwrap();
        assert_eq!(
            (stripped.name.as_str(), stripped.directory_name.as_str()),
            ("grace/admin", "grace")
        );
    }

    #[test]
    fn a_name_that_could_be_read_as_another_is_refused() {
        for principal in [
            r"grace\/admin@EXAMPLE.COM",
            r"grace\@EXAMPLE.COM@EXAMPLE.COM",
            r"grace/a\/b@EXAMPLE.COM",
        ] {
            assert!(
                user(principal, None, false)
                    .unwrap_err()
                    .cause
                    .contains("within a component")
            );
        }
        // A backslash is nobody's separator: the directory is asked for the name as it is.
        assert_eq!(
            user(r"back\\slash@EXAMPLE.COM", None, false)
                .unwrap()
                .directory_name,
            r"back\slash"
        );
    }
}
