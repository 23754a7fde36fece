//! What logins use: the acceptor, the directory with its kept connections, and the group map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use obol_kerberos::{Acceptor, AcceptorError, AcceptorOptions, BindingMode, Keytab, Sid};
use obol_mount::{Error, Result};

use super::config::StoredConfig;
use super::ldap::StoredLdap;
use super::membership::Membership;
use super::ticket_rules::TicketRules;
use super::{CONFIG, LDAP};
use crate::directory::groups::{GroupMap, is_sid};
use crate::directory::users::Users;
use crate::live::{Built, Part, part};
use crate::store::Store;

/// The configuration at one generation.
pub(super) struct Snapshot {
    service: Option<Part<Service>>,
    users: Option<Part<Users>>,
    groups: GroupMap,
    /// Names of groups are needed: not where every mapped group is mapped by its SID.
    pub(super) needs_group_names: bool,
}

/// Whose tickets are accepted, from `config`.
pub(super) struct Service {
    pub(super) acceptor: Acceptor,
    /// The realms of the keys in use.
    pub(super) realms: BTreeSet<String>,
    pub(super) remove_instance_name: bool,
    pub(super) add_group_aliases: bool,
    pub(super) ticket: TicketRules,
    /// Domains whose groups in a PAC count beside those of the user's own.
    pub(super) trusted_domains: Vec<Sid>,
    keys: Keytab,
    options: AcceptorOptions,
}

impl Built for Snapshot {
    async fn build(store: &Store, old: Option<&Self>) -> Result<Self> {
        let old_service = old.and_then(|old| old.service.as_ref());
        let service = part(store, CONFIG, old_service, |record| Service::build(&record)).await?;
        let seen = |part: &Option<Part<Service>>| part.as_ref().map(|(seen, _)| seen.clone());
        let same_keytab = seen(&service) == old_service.map(|(seen, _)| seen.clone());
        let old_users = old
            .and_then(|old| old.users.as_ref())
            .filter(|(_, users)| same_keytab || !users.binds_by_sasl);
        let keys = service.as_ref().map(|(_, service)| &service.keys);
        let users = part(store, LDAP, old_users, |record: StoredLdap| {
            record.users(keys)
        })
        .await?;
        let groups = GroupMap::read(store).await?;
        let makes_aliases = service
            .as_ref()
            .is_some_and(|(_, service)| service.add_group_aliases);
        Ok(Self {
            service,
            users,
            needs_group_names: makes_aliases || !groups.names().all(|name| is_sid(name)),
            groups,
        })
    }
}

impl Snapshot {
    pub(super) fn service(&self) -> Option<&Service> {
        self.service.as_ref().map(|(_, service)| &**service)
    }

    pub(super) fn users(&self) -> Option<&Arc<Users>> {
        self.users.as_ref().map(|(_, users)| users)
    }

    /// The two halves that a login needs; without one of them, what to configure.
    pub(super) fn parts(&self, mount: &str) -> Result<(&Service, &Users)> {
        match (&self.service, &self.users) {
            (Some((_, service)), Some((_, users))) => Ok((service, users)),
            (None, _) => Err(Error::bad_request(format!(
                "Kerberos is not configured: write the keytab to {mount}config"
            ))),
            (_, None) => Err(Error::bad_request(format!(
                "LDAP is not configured: write it to {mount}config/ldap"
            ))),
        }
    }

    /// The policies that a user's groups mean, sorted, each once; what is mapped to a SID is for those whom a ticket says
    /// to be in it.
    pub(super) fn policies(&self, users: &Users, membership: &Membership) -> Vec<String> {
        let (names, sids) = (membership.groups.keys(), membership.sids.iter());
        let policies = self
            .groups
            .policies(names, sids, users.case_sensitive_names);
        policies.into_iter().cloned().collect()
    }
}

impl Service {
    /// The errors are for the operator who wrote the configuration.
    pub(super) fn build(config: &StoredConfig) -> Result<Self> {
        let keys = config.keys()?;
        let options = config.ticket.acceptor_options()?;
        let acceptor = Acceptor::new(&keys, options.clone()).map_err(|error| {
            let field = match error {
                AcceptorError::ClockSkew { .. } => "clock_skew",
                _ => "keytab",
            };
            Error::bad_request(format!("{field}: {error}"))
        })?;
        Ok(Self {
            trusted_domains: config.ticket.trusted_domains()?,
            ticket: config.ticket.clone(),
            realms: keys
                .entries()
                .iter()
                .map(|key| key.principal().realm().to_owned())
                .collect(),
            acceptor,
            remove_instance_name: config.remove_instance_name,
            add_group_aliases: config.add_group_aliases,
            keys,
            options,
        })
    }

    /// The keys in use, for logging in as the service account.
    pub(super) fn keys(&self) -> &Keytab {
        &self.keys
    }

    /// For a ticket that comes over no connection: the server's own, when it tries the way of a client.
    pub(super) fn acceptor_without_bindings(&self) -> std::result::Result<Acceptor, AcceptorError> {
        let options = AcceptorOptions {
            channel_bindings: BindingMode::Ignore,
            ..self.options.clone()
        };
        Acceptor::new(&self.keys, options)
    }

    /// What works but deserves a second look.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut newest: BTreeMap<String, (u32, bool)> = BTreeMap::new();
        for key in self.acceptor.keys() {
            let of = newest
                .entry(key.principal.to_string())
                .or_insert((key.kvno, true));
            match key.kvno.cmp(&of.0) {
                std::cmp::Ordering::Greater => *of = (key.kvno, key.weak()),
                std::cmp::Ordering::Equal => of.1 &= key.weak(),
                std::cmp::Ordering::Less => {}
            }
        }
        if newest.values().any(|(_, only_weak)| *only_weak) {
            warnings.push(
                "keytab: the newest keys are of weak types only (RC4 or older); give the account AES keys and export it again"
                    .to_owned(),
            );
        }
        if self.realms.len() > 1 {
            let realms: Vec<&str> = self.realms.iter().map(String::as_str).collect();
            warnings.push(format!(
                "keytab: it holds keys of the realms {}; users of all of them log in under their name without the realm, unless upndomain in config/ldap names one of the realms",
                realms.join(", ")
            ));
        }
        warnings
    }
}
