//! The userpass auth method: names and passwords that are kept here.
//!
//! The contract is Vault's `auth/userpass` API. The rooms:
//! `user` who there is, and what operators do with them; `hash` passwords as they rest; `pool` where the slow work of
//! comparing them is done; `login` a password becomes a login; `renew` is the user still there.

mod hash;
mod login;
mod pool;
mod renew;
mod user;

use std::sync::Arc;

use async_trait::async_trait;
use obol_mount::{
    Attempts, Backend, Family, Kind, MountContext, OpenFuture, Renewal, Result, RouteTable, Routes,
    get, list, post,
};
use serde_json::{Map, Value};

use user::Users;

/// One enabled mount of the method.
pub struct Userpass {
    users: Users,
    attempts: Attempts,
}

/// The method as the registry knows it.
pub fn kind() -> Kind {
    Kind {
        name: "userpass",
        aliases: &[],
        family: Family::Auth,
        about: "Logs in with a name and a password that are kept here",
        open: Arc::new(|context| -> OpenFuture { Box::pin(async { open(context) }) }),
        docs: || routes().docs(),
    }
}

fn open(context: MountContext) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Userpass {
        users: Users::new(context.storage),
        attempts: context.attempts,
    }))
}

fn routes() -> Routes<Userpass> {
    Routes::new()
        .at("users", "The names of all users", list(user::list))
        .at(
            "users/{username}",
            "One user: a password and the settings of their tokens. The password is never returned.",
            get(user::read)
                .post(user::write)
                .delete(user::delete)
                .exists(user::exists),
        )
        .at(
            "users/{username}/password",
            "A user's password; tokens from the old one are not renewed any more",
            post(user::set_password),
        )
        .at(
            "users/{username}/policies",
            "The policies of a user",
            post(user::set_policies),
        )
        .login(
            "login/{username}",
            "Logs in with a password",
            post(login::login),
        )
}

#[async_trait]
impl Backend for Userpass {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }

    async fn renew(&self, internal: &Map<String, Value>, policies: &[String]) -> Result<Renewal> {
        renew::renew(self, internal, policies).await
    }
}
