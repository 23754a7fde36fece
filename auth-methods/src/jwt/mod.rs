//! The JWT auth method: a token that an issuer signed is the proof, and a role says which of the issuer's tokens may
//! log in and as whom. Keys come from the issuer's discovery document, a JWKS URL, or the configuration.
//!
//! The contract is Vault's `auth/jwt` API without the browser flow (`oidc`), whose fields are refused. The rooms:
//! `config` whose tokens; `role` which of them, and what they get; `login` a token becomes a login; `claims` what a
//! role asks of a token; `keys` the proof that a key signed it; `signatures` by ring; `key_source` keys that are
//! kept for a while; `issuer` what is asked over HTTP; `renew` does the role still say so; `live` what logins use.

mod claims;
mod config;
mod issuer;
mod key_source;
mod keys;
mod live;
mod login;
mod renew;
mod role;
mod signatures;

use std::sync::Arc;

use async_trait::async_trait;
use obol_mount::{
    Backend, Family, Kind, MountContext, OpenFuture, Renewal, Result, RouteTable, Routes, get,
    list, post,
};
use serde_json::{Map, Value};

use crate::live::Live;
use crate::store::Store;
use live::Snapshot;

/// One enabled mount of the method.
pub struct Jwt {
    store: Store,
    live: Live<Snapshot>,
}

/// The method as the registry knows it.
pub fn kind() -> Kind {
    Kind {
        name: "jwt",
        aliases: &[],
        family: Family::Auth,
        about: "Logs in with a JWT of an issuer (OpenID Connect discovery, JWKS or given keys), as its role allows",
        open: Arc::new(|context| -> OpenFuture { Box::pin(async { open(context) }) }),
        docs: || routes().docs(),
    }
}

fn open(context: MountContext) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Jwt {
        store: Store::new(context.storage),
        live: Live::default(),
    }))
}

fn routes() -> Routes<Jwt> {
    Routes::new()
        .at(
            "config",
            "Whose tokens are accepted: where the issuer's keys are, and what it calls itself.",
            get(config::read).post(config::write),
        )
        .at("role", "The roles.", list(role::list))
        .at(
            "role/{name}",
            "Which of the issuer's tokens may log in with this role, as whom, and what they get.",
            get(role::read)
                .post(role::write)
                .delete(role::delete)
                .exists(role::exists),
        )
        .login(
            "login",
            "Logs in with a JWT and the name of a role.",
            post(login::login),
        )
}

#[async_trait]
impl Backend for Jwt {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }

    fn has_roles(&self) -> bool {
        true
    }

    async fn login_role(&self, fields: &Map<String, Value>) -> Result<Option<String>> {
        login::role_of(self, fields).await
    }

    async fn renew(&self, internal: &Map<String, Value>, policies: &[String]) -> Result<Renewal> {
        renew::renew(self, internal, policies).await
    }
}

const CONFIG: &str = "config";
const ROLES: &str = "role/";
