//! The LDAP auth method: a name and a password are the proof, the directory checks them by a bind, and its groups
//! decide the policies.
//!
//! The contract is Vault's `auth/ldap` API. The rooms: `config` the directory and the settings of tokens;
//! `users` what one user has beside the directory's groups; `login` a password becomes a login; `renew` is the
//! user still who they were; `live` what logins use, built from the records. The directory's settings, the group
//! map and the cache are those of Kerberos as well: [`crate::directory`].

mod config;
mod live;
mod login;
mod renew;
mod users;

use std::sync::Arc;

use async_trait::async_trait;
use obol_mount::{
    Attempts, Backend, Family, Kind, MountContext, OpenFuture, Renewal, Result, RouteTable, Routes,
    delete, get, list, post,
};
use serde_json::{Map, Value};

use crate::directory::users::Users;
use crate::directory::{DirectoryMount, cache, counters, groups};
use crate::live::Live;
use crate::store::Store;
use live::Snapshot;

/// One enabled mount of the method.
pub struct Ldap {
    store: Store,
    live: Live<Snapshot>,
    attempts: Attempts,
}

/// The method as the registry knows it.
pub fn kind() -> Kind {
    Kind {
        name: "ldap",
        aliases: &[],
        family: Family::Auth,
        about: "Logs in with a name and password of a directory (LDAP, Active Directory); its groups give the policies",
        open: Arc::new(|context| -> OpenFuture { Box::pin(async { open(context) }) }),
        docs: || routes().docs(),
    }
}

fn open(context: MountContext) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Ldap {
        store: Store::new(context.storage),
        live: Live::default(),
        attempts: context.attempts,
    }))
}

fn routes() -> Routes<Ldap> {
    Routes::new()
        .at(
            "config",
            "The directory that knows users and groups, and the settings of tokens. The bind password is never returned.",
            get(config::read).post(config::write),
        )
        .at(
            "groups",
            "The LDAP groups that are mapped to policies.",
            list(groups::list::<Ldap>),
        )
        // A rest, not a segment: a group's name may hold a slash.
        .at(
            "groups/{name*}",
            "The policies of one LDAP group.",
            get(groups::read::<Ldap>)
                .post(groups::write::<Ldap>)
                .delete(groups::delete::<Ldap>),
        )
        .at(
            "users",
            "The users that have policies or groups of their own here.",
            list(users::list),
        )
        .at(
            "users/{name*}",
            "What one user has beside what the directory's groups give.",
            get(users::read).post(users::write).delete(users::delete),
        )
        .at(
            "cache",
            "What is remembered of the directory on this server; DELETE forgets it.",
            get(cache::read::<Ldap>).delete(cache::flush::<Ldap>),
        )
        .at(
            "cache/{user*}",
            "Forgets one user's groups on this server.",
            delete(cache::flush_user::<Ldap>),
        )
        .login(
            "login/{username*}",
            "Logs in with a name and password of the directory.",
            post(login::login),
        )
}

impl DirectoryMount for Ldap {
    const SETTINGS: &'static str = CONFIG;

    fn store(&self) -> &Store {
        &self.store
    }

    async fn sids_unheard(&self) -> Result<Option<&'static str>> {
        Ok(Some(
            "map the group's name, or let users log in with auth/kerberos, where tickets say the SIDs",
        ))
    }

    async fn users(&self) -> Result<Option<Arc<Users>>> {
        let snapshot = self.live.snapshot(&self.store).await?;
        Ok(snapshot.users().cloned())
    }
}

#[async_trait]
impl Backend for Ldap {
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
}

const CONFIG: &str = "config";
