//! Who has a service principal name in Active Directory. A name that nobody has, that two accounts have, or that
//! another account has than the one whose keytab is used: each makes logins fail in its own way.

use crate::error::DirectoryError;
use crate::filter::escape_value;
use crate::lookup::{Directory, Via};
use crate::probe::ACTIVE_DIRECTORY;
use crate::session::{Query, Scope};

/// An account that has a service principal name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpnOwner {
    pub dn: String,
    /// The account's name (sAMAccountName).
    pub account: String,
    /// All of its names.
    pub spns: Vec<String>,
}

impl Directory {
    /// The accounts that have `spn`, ten at most. `None`: this is no Active Directory, where names of services are
    /// not in LDAP.
    pub async fn owners_of_spn(&self, spn: &str) -> Result<Option<Vec<SpnOwner>>, DirectoryError> {
        let filter = format!("(servicePrincipalName={})", escape_value(spn));
        self.spn_owners(&filter).await
    }

    /// The accounts that have `spn` with some port behind it, which is another name, and which clients seldom ask for.
    pub async fn owners_of_spn_with_port(
        &self,
        spn: &str,
    ) -> Result<Option<Vec<SpnOwner>>, DirectoryError> {
        let filter = format!("(servicePrincipalName={}:*)", escape_value(spn));
        self.spn_owners(&filter).await
    }

    async fn spn_owners(&self, filter: &str) -> Result<Option<Vec<SpnOwner>>, DirectoryError> {
        let mut via = Via::service(&self.inner().pool);
        let root = Query::entry(
            "read of the root DSE",
            "",
            &["defaultNamingContext", "supportedCapabilities"],
        );
        let root = self.search(&mut via, &root).await?.into_iter().next();
        let mut attributes = root.map(|root| root.attributes).unwrap_or_default();
        let is_ad = attributes
            .get(1)
            .is_some_and(|all| all.iter().any(|one| one == ACTIVE_DIRECTORY.as_bytes()));
        if !is_ad {
            return Ok(None);
        }
        let base = attributes.swap_remove(0).into_iter().next();
        let base = base.and_then(|base| String::from_utf8(base).ok());
        let Some(base) = base else { return Ok(None) };
        let query = Query {
            what: "search for the owner of an SPN",
            base: &base,
            scope: Scope::Subtree,
            filter,
            attributes: &["sAMAccountName", "servicePrincipalName"],
            enough: SHOWN,
        };
        let found = self.search(&mut via, &query).await?;
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        let owner = |entry: crate::session::Entry| {
            let mut attributes = entry.attributes.into_iter();
            let account = attributes.next().into_iter().flatten().next();
            SpnOwner {
                dn: entry.dn,
                account: account.map(text).unwrap_or_default(),
                spns: attributes.next().into_iter().flatten().map(text).collect(),
            }
        };
        Ok(Some(found.into_iter().take(SHOWN).map(owner).collect()))
    }
}

const SHOWN: usize = 10;
