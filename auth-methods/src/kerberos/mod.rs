//! The Kerberos auth method: a ticket is the proof, LDAP groups decide the policies.
//!
//! The contract is Vault's `auth/kerberos` API. The rooms:
//! `config` the keytab and whose it is; `ldap` the directory and the settings of tokens;
//! `ticket_rules` what is asked of a ticket; `bind` the keytab as the directory's credential;
//! `login` a Negotiate token becomes a login; `user` whom an accepted ticket stands for;
//! `membership` which groups they are in; `replay` a ticket's proof is taken once;
//! `renew` is the user still who they were; `live` what logins use, built from the records;
//! `diagnose` why a login fails, step by step. What it has in common with LDAP logins (the directory's
//! settings, the group map, the cache) is in [`crate::directory`].

mod bind;
mod config;
mod diagnose;
mod ldap;
mod live;
mod login;
mod membership;
mod renew;
mod replay;
mod ticket_rules;
mod user;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use obol_mount::{
    Backend, Family, Kind, MountContext, OpenFuture, Renewal, Result, RouteTable, Routes, delete,
    get, list, post,
};
use obol_storage::View;
use serde_json::{Map, Value};

use crate::directory::users::Users;
use crate::directory::{DirectoryMount, cache, counters, groups};
use crate::live::Live;
use crate::store::Store;
use live::Snapshot;

/// One enabled mount of the method.
pub struct Kerberos {
    store: Store,
    /// Proofs that were used, at this mount or another: they may not be told apart by mount, or a proof could be
    /// used once at each that has the same keys, and again at one that was disabled and enabled.
    proofs: View,
    live: Live<Snapshot>,
}

/// The method as the registry knows it.
pub fn kind() -> Kind {
    Kind {
        name: "kerberos",
        aliases: &[],
        family: Family::Auth,
        about: "Logs in with a Kerberos ticket (SPNEGO); LDAP groups give the policies",
        open: Arc::new(|context| -> OpenFuture { Box::pin(async { open(context) }) }),
        docs: || routes().docs(),
    }
}

fn open(context: MountContext) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Kerberos {
        store: Store::new(context.storage),
        proofs: context.shared,
        live: Live::default(),
    }))
}

fn routes() -> Routes<Kerberos> {
    Routes::new()
        .at(
            "config",
            "The keytab that opens tickets, and whose keytab it is. The keytab is never returned.",
            get(config::read).post(config::write),
        )
        .at(
            "config/ldap",
            "The directory that knows users and groups, and the settings of tokens. The bind password is never returned.",
            get(ldap::read).post(ldap::write),
        )
        .at(
            "groups",
            "The LDAP groups that are mapped to policies.",
            list(groups::list::<Kerberos>),
        )
        // A rest, not a segment: a group's name may hold a slash.
        .at(
            "groups/{name*}",
            "The policies of one LDAP group.",
            get(groups::read::<Kerberos>)
                .post(groups::write::<Kerberos>)
                .delete(groups::delete::<Kerberos>),
        )
        .at(
            "cache",
            "What is remembered of the directory on this server; DELETE forgets it.",
            get(cache::read::<Kerberos>).delete(cache::flush::<Kerberos>),
        )
        // A rest: the name of a user with an instance holds a slash.
        .at(
            "cache/{user*}",
            "Forgets one user's groups on this server.",
            delete(cache::flush_user::<Kerberos>),
        )
        .sudo(
            "diagnose",
            "Why a login fails, step by step: keytab, KDC, ticket, directory, one user.",
            post(diagnose::diagnose),
        )
        .login(
            "login",
            "Logs in with a SPNEGO token. GET asks for one (401, WWW-Authenticate: Negotiate).",
            get(login::challenge).post(login::login),
        )
}

impl DirectoryMount for Kerberos {
    const SETTINGS: &'static str = LDAP;

    fn store(&self) -> &Store {
        &self.store
    }

    async fn sids_unheard(&self) -> Result<Option<&'static str>> {
        let snapshot = self.live.snapshot(&self.store).await?;
        let heard = snapshot
            .service()
            .is_none_or(|service| service.ticket.group_source.reads_pac());
        Ok((!heard)
            .then_some("set group_source in config to pac or ldap+pac, or map the group's name"))
    }

    async fn users(&self) -> Result<Option<Arc<Users>>> {
        let snapshot = self.live.snapshot(&self.store).await?;
        Ok(snapshot.users().cloned())
    }
}

#[async_trait]
impl Backend for Kerberos {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }

    async fn renew(&self, internal: &Map<String, Value>, policies: &[String]) -> Result<Renewal> {
        renew::renew(self, internal, policies).await
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let last = self.live.last();
        counters(last.as_ref().and_then(|last| last.users()))
    }

    async fn tidy(&self, now: SystemTime) -> Result<()> {
        replay::tidy(&self.proofs, now).await
    }
}

const CONFIG: &str = "config";
const LDAP: &str = "config/ldap";
