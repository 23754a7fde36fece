//! Whom an accepted ticket stands for: the one place where a principal becomes a user name, for
//! logins and for renewals (threats: `realm-confusion`, `instance-strip`).

use obol_kerberos::Principal;

use super::live::{Service, Users};

/// A principal that may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// The principal without its realm: `grace`, `grace/admin`. What identity and metadata know.
    pub(super) name: String,
    /// The name that LDAP is asked for; without the instance where the operator wants that.
    pub(super) directory_name: String,
    pub(super) realm: String,
}

/// Why a principal may not log in. For the operator's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) cause: String,
    pub(super) mend: &'static str,
}

impl User {
    /// Vault takes a user of any realm that the KDC vouches for when `upndomain` is empty; a trusted
    /// realm's `grace` would then have the groups of this realm's. Here the realms of the keytab's keys
    /// count, unless `upndomain` names the realm; it is compared exactly, as Vault documents.
    pub(super) fn of(
        principal: &Principal,
        service: &Service,
        users: &Users,
    ) -> Result<Self, Refusal> {
        let realm = principal.realm();
        match &users.upndomain {
            Some(domain) if domain != realm => {
                return Err(Refusal {
                    cause: format!("{principal} is of realm {realm}, and upndomain is {domain}"),
                    mend: "set upndomain in config/ldap to the realm of the users, in its spelling",
                });
            }
            None if !service.realms.contains(realm) => {
                return Err(Refusal {
                    cause: format!("{principal} is of a realm that the keytab has no keys of"),
                    mend: "if the users of that realm are those of the directory, set upndomain in config/ldap to it",
                });
            }
            _ => {}
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
        let name = principal.components().join("/");
        Ok(Self {
            directory_name: if service.remove_instance_name {
                principal.primary().to_owned()
            } else {
                name.clone()
            },
            name,
            realm: realm.to_owned(),
        })
    }
}
