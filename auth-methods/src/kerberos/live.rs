//! What logins use: the acceptor, the directory with its kept connections, and the group map, built
//! from the records at the first login after an unseal or a write, once, and then shared. Every
//! login compares one small record ([`Store::generation`]) with the one that this was built from,
//! so a write counts from the next login on, on every server; parts whose record has not changed
//! are kept, so that mapping a group does not close the connections to the directory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ipnet::IpNet;
use obol_directory::Directory;
use obol_kerberos::{Acceptor, AcceptorError, AcceptorOptions, BindingMode, Keytab, Sid};
use obol_mount::{Error, Result, TokenParams, cidr};
use obol_storage::Seen;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::config::StoredConfig;
use super::groups::{self, fold};
use super::ldap::{self, StoredLdap};
use super::membership::Membership;
use super::store::{self, ATTEMPTS, CONFIG, LDAP, Store};
use super::ticket_rules::TicketRules;

/// The present configuration, as logins use it.
#[derive(Default)]
pub(super) struct Live {
    current: ArcSwapOption<Snapshot>,
    /// Held by whoever builds, so that one does.
    building: Mutex<()>,
}

/// The configuration at one generation.
pub(super) struct Snapshot {
    generation: Option<Seen>,
    service: Option<(Seen, Arc<Service>)>,
    users: Option<(Seen, Arc<Users>)>,
    /// Policies by folded name.
    groups: HashMap<String, Vec<String>>,
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

/// What is made of a user, from `config/ldap`.
pub(super) struct Users {
    pub(super) directory: Directory,
    pub(super) case_sensitive_names: bool,
    /// The alias in identity is the name that LDAP is asked for.
    pub(super) username_as_alias: bool,
    /// The directory knows the service account by its keytab.
    binds_with_keytab: bool,
    /// The one realm whose users may log in.
    pub(super) upndomain: Option<String>,
    pub(super) token: TokenParams,
    pub(super) bound_cidrs: Vec<IpNet>,
}

impl Live {
    /// What is stored now, built.
    pub(super) async fn snapshot(&self, store: &Store) -> Result<Arc<Snapshot>> {
        let is_current = |generation: &Option<Seen>| {
            let current = self.current.load_full();
            current.filter(|snapshot| snapshot.generation == *generation)
        };
        if let Some(current) = is_current(&store.generation().await?) {
            return Ok(current);
        }
        let _building = self.building.lock().await;
        for _ in 0..ATTEMPTS {
            let generation = store.generation().await?;
            if let Some(current) = is_current(&generation) {
                return Ok(current);
            }
            let built =
                Snapshot::build(store, generation.clone(), self.current.load_full()).await?;
            // The parts were read one after the other: they belong together if nothing was written meanwhile.
            if store.generation().await? == generation {
                let built = Arc::new(built);
                self.current.store(Some(built.clone()));
                return Ok(built);
            }
        }
        Err(store::too_busy())
    }
}

impl Snapshot {
    async fn build(
        store: &Store,
        generation: Option<Seen>,
        old: Option<Arc<Self>>,
    ) -> Result<Self> {
        let old = old.as_deref();
        let old_service = old.and_then(|old| old.service.as_ref());
        let service = part(store, CONFIG, old_service, |record| Service::build(&record)).await?;
        let same_keytab = seen(&service) == old_service.map(|(seen, _)| seen);
        let old_users = old
            .and_then(|old| old.users.as_ref())
            .filter(|(_, users)| same_keytab || !users.binds_with_keytab);
        let keys = service.as_ref().map(|(_, service)| &service.keys);
        let users = part(store, LDAP, old_users, |record| Users::build(&record, keys)).await?;
        let groups: HashMap<_, _> = groups::all(store).await?.into_iter().collect();
        let is_sid = |name: &String| name.to_uppercase().parse::<Sid>().is_ok();
        let makes_aliases = service
            .as_ref()
            .is_some_and(|(_, service)| service.add_group_aliases);
        Ok(Self {
            generation,
            service,
            users,
            needs_group_names: makes_aliases || !groups.keys().all(is_sid),
            groups,
        })
    }

    pub(super) fn service(&self) -> Option<&Service> {
        self.service.as_ref().map(|(_, service)| &**service)
    }

    pub(super) fn users(&self) -> Option<&Users> {
        self.users.as_ref().map(|(_, users)| &**users)
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

    /// The policies that a user's groups mean, sorted, each once.
    pub(super) fn policies(&self, users: &Users, membership: &Membership) -> Vec<String> {
        let policies: BTreeSet<&String> = membership
            .groups
            .keys()
            .chain(&membership.sids)
            .filter_map(|name| self.groups.get(&fold(name, users.case_sensitive_names)))
            .flatten()
            .collect();
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

impl Users {
    /// What works but deserves a second look.
    pub(super) fn warnings(&self, ldap: &StoredLdap) -> Vec<String> {
        let mut warnings = self.directory.warnings().to_vec();
        if !ldap.searches_for_users() {
            warnings.push(
                "binddn, discoverdn and upndomain are not set: users are not searched for, so one who is not in the directory logs in without groups"
                    .to_owned(),
            );
        }
        warnings
    }

    /// The errors are for the operator who wrote the configuration.
    pub(super) fn build(ldap: &StoredLdap, keys: Option<&Keytab>) -> Result<Self> {
        let token = TokenParams::from(ldap.token.clone());
        Ok(Self {
            directory: Directory::new(&ldap.directory_config(keys)?).map_err(ldap::refused)?,
            case_sensitive_names: ldap.case_sensitive_names,
            username_as_alias: ldap.username_as_alias,
            binds_with_keytab: ldap.bind_with_keytab,
            upndomain: Some(ldap.upndomain.clone()).filter(|domain| !domain.is_empty()),
            bound_cidrs: cidr::parse_list("token_bound_cidrs", &token.bound_cidrs)?,
            token,
        })
    }
}

fn seen<T>(part: &Option<(Seen, Arc<T>)>) -> Option<&Seen> {
    part.as_ref().map(|(seen, _)| seen)
}

/// A part of the configuration, built from its record unless that is still the one it was built from.
async fn part<R: DeserializeOwned, T>(
    store: &Store,
    path: &str,
    old: Option<&(Seen, Arc<T>)>,
    build: impl FnOnce(R) -> Result<T>,
) -> Result<Option<(Seen, Arc<T>)>> {
    let Some(entry) = store.view().get(path).await? else {
        return Ok(None);
    };
    if let Some((_, built)) = old.filter(|(seen, _)| *seen == entry.seen) {
        return Ok(Some((entry.seen, built.clone())));
    }
    let record: R = store.view().parse(path, &entry)?;
    // It was checked when it was written, so a failure now is this server's, not the client's.
    let built = build(record)
        .map_err(|error| Error::internal(format!("the stored {path} cannot be used: {error}")))?;
    Ok(Some((entry.seen, Arc::new(built))))
}
