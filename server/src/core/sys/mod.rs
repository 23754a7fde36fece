//! `sys/`: the server's own paths, declared with the same routes as every mount.

mod audit;
mod capabilities;
mod documents;
mod mounts;
mod policies;
mod seal;

use std::sync::{Arc, Weak};

use obol_mount::{Access, Backend, Error, Result, RouteTable, Routes, Secret, get, post};

use super::{Core, Live, upgrade};

/// The backend of `sys/`.
pub(crate) struct System {
    core: Weak<Core>,
}

impl System {
    pub(crate) fn new(core: Weak<Core>) -> Self {
        Self { core }
    }

    fn core(&self) -> Result<Arc<Core>> {
        upgrade(&self.core)
    }

    fn live(&self) -> Result<Arc<Live>> {
        self.core()?.live()
    }
}

impl Backend for System {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }
}

pub(crate) fn routes() -> Routes<System> {
    use Access::{AnyToken, Public, WhileSealed};
    Routes::new()
        .with(
            WhileSealed,
            "init",
            "Whether the server is initialized; initialize it",
            get(seal::read_init).post(seal::init),
        )
        .with(
            WhileSealed,
            "seal-status",
            "Whether the server is sealed, and how far unsealing has come",
            get(seal::status),
        )
        .with(
            WhileSealed,
            "unseal",
            "Give one unseal key",
            post(seal::unseal),
        )
        .with(
            WhileSealed,
            "health",
            "The server's state as an HTTP status, for load balancers",
            get(seal::health),
        )
        .with(
            WhileSealed,
            "leader",
            "Which server is active",
            get(seal::leader),
        )
        .sudo(
            "seal",
            "Seal the server: drop its keys from memory",
            post(seal::seal),
        )
        .at(
            "mounts",
            "The mounted secrets engines",
            get(mounts::list_secrets),
        )
        .sudo(
            "mounts/{path*}/tune",
            "How a secrets engine is tuned",
            get(mounts::read_tune_secrets).post(mounts::tune_secrets),
        )
        .at(
            "mounts/{path*}",
            "Enable, show or disable a secrets engine",
            get(mounts::read_secrets)
                .post(mounts::enable_secrets)
                .delete(mounts::disable_secrets),
        )
        .at("auth", "The enabled auth methods", get(mounts::list_auth))
        .sudo(
            "auth/{path*}/tune",
            "How an auth method is tuned",
            get(mounts::read_tune_auth).post(mounts::tune_auth),
        )
        .sudo(
            "auth/{path*}",
            "Enable, show or disable an auth method",
            get(mounts::read_auth)
                .post(mounts::enable_auth)
                .delete(mounts::disable_auth),
        )
        .at(
            "policies/acl",
            "The names of all ACL policies",
            get(policies::list).list(policies::list),
        )
        .at(
            "policies/acl/{name}",
            "One ACL policy",
            get(policies::read)
                .post(policies::write)
                .patch(policies::write)
                .delete(policies::remove),
        )
        .at(
            "policy",
            "The names of all ACL policies (older path)",
            get(policies::list_legacy).list(policies::list_legacy),
        )
        .at(
            "policy/{name}",
            "One ACL policy (older path)",
            get(policies::read_legacy)
                .post(policies::write)
                .delete(policies::remove),
        )
        .at(
            "capabilities",
            "What a token may do on paths",
            post(capabilities::of_token),
        )
        .at(
            "capabilities-self",
            "What the calling token may do on paths",
            post(capabilities::of_caller),
        )
        .at(
            "capabilities-accessor",
            "What the token of an accessor may do on paths",
            post(capabilities::of_accessor),
        )
        .sudo("audit", "The enabled audit devices", get(audit::show_all))
        .sudo(
            "audit/{path*}",
            "Enable or disable an audit device",
            post(audit::enable).delete(audit::disable),
        )
        .at(
            "audit-hash/{path*}",
            "What an audit device writes for a text",
            post(audit::hash),
        )
        .at(
            "internal/specs/openapi",
            "The OpenAPI document of everything that is mounted",
            get(documents::openapi),
        )
        .with(
            Public,
            "internal/ui/mounts",
            "The mounts that the caller may see",
            get(documents::ui_mounts),
        )
        .with(
            AnyToken,
            "internal/ui/mounts/{path*}",
            "The mount behind a path",
            get(documents::ui_mount),
        )
}

/// A secret that must be there.
fn required(secret: Option<Secret>, name: &str) -> Result<Secret> {
    secret
        .filter(|s| !s.is_empty())
        .ok_or_else(|| Error::bad_request(format!("missing required field {name:?}")))
}
