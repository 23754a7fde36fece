//! The approle auth method: a role's ID and a secret ID log a program in.
//!
//! The contract is Vault's `auth/approle` API. The rooms:
//! `role` roles, whole; `part` one field of a role at a time; `key` the HMAC under which IDs rest; `secret` secret IDs
//! as they rest, found, spent and tidied; `issue` secret IDs handed out, looked up and destroyed; `login` the two IDs
//! become a login; `renew` are role and secret ID still what they were.

mod issue;
mod key;
mod login;
mod part;
mod renew;
mod role;
mod secret;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use obol_mount::{
    Attempts, Backend, Family, Kind, MountContext, OpenFuture, Renewal, Result, RouteTable, Routes,
    get, list, post,
};
use serde_json::{Map, Value};

use key::Hasher;
use role::Roles;
use secret::Secrets;

/// One enabled mount of the method.
pub struct Approle {
    roles: Roles,
    secrets: Arc<Secrets>,
    attempts: Attempts,
}

/// The method as the registry knows it.
pub fn kind() -> Kind {
    Kind {
        name: "approle",
        aliases: &[],
        family: Family::Auth,
        about: "Logs programs in with the ID of a role and a secret ID",
        open: Arc::new(|context| -> OpenFuture { Box::pin(open(context)) }),
        docs: || routes().docs(),
    }
}

async fn open(context: MountContext) -> Result<Arc<dyn Backend>> {
    let hasher = Hasher::open(&context.storage).await?;
    Ok(Arc::new(Approle {
        roles: Roles::new(context.storage.clone(), hasher.clone()),
        secrets: Arc::new(Secrets::new(context.storage, hasher)),
        attempts: context.attempts,
    }))
}

fn routes() -> Routes<Approle> {
    Routes::new()
        .at("role", "The names of all roles", list(role::list))
        .at(
            "role/{role_name}",
            "One role: what its secret IDs and tokens are like",
            get(role::read)
                .post(role::write)
                .delete(role::delete)
                .exists(role::exists),
        )
        .at(
            "role/{role_name}/role-id",
            "The ID with which a program names the role",
            get(role::read_id).post(role::write_id),
        )
        .at(
            "role/{role_name}/local-secret-ids",
            "Whether the role's secret IDs are those of one cluster; set when the role is made",
            get(role::read_local),
        )
        .and(part::routes())
        .at(
            "role/{role_name}/secret-id",
            "Hands out a secret ID; LIST shows the accessors of all",
            post(issue::generate).list(issue::accessors),
        )
        .at(
            "role/{role_name}/custom-secret-id",
            "Makes a chosen text a secret ID",
            post(issue::custom),
        )
        .at(
            "role/{role_name}/secret-id/lookup",
            "What is known of a secret ID",
            post(issue::lookup),
        )
        .at(
            "role/{role_name}/secret-id/destroy",
            "Ends a secret ID",
            post(issue::destroy).delete(issue::destroy),
        )
        .at(
            "role/{role_name}/secret-id-accessor/lookup",
            "What is known of a secret ID, by its accessor",
            post(issue::lookup_accessor),
        )
        .at(
            "role/{role_name}/secret-id-accessor/destroy",
            "Ends a secret ID, by its accessor",
            post(issue::destroy_accessor).delete(issue::destroy_accessor),
        )
        .at(
            "tidy/secret-id",
            "Drops expired secret IDs now; it is done every minute anyway",
            post(issue::tidy),
        )
        .login(
            "login",
            "Logs in with a role ID and a secret ID",
            post(login::login),
        )
}

#[async_trait]
impl Backend for Approle {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }

    fn has_roles(&self) -> bool {
        true
    }

    async fn login_role(&self, fields: &Map<String, Value>) -> Result<Option<String>> {
        let role_id = fields.get("role_id").and_then(Value::as_str);
        let found = self.roles.by_role_id(role_id.unwrap_or_default()).await?;
        Ok(found.map(|(role, _)| role.name))
    }

    async fn renew(&self, internal: &Map<String, Value>, policies: &[String]) -> Result<Renewal> {
        renew::renew(self, internal, policies).await
    }

    async fn tidy(&self, now: SystemTime) -> Result<()> {
        self.secrets.tidy(secret::unix(now)).await
    }
}
