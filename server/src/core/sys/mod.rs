//! `sys/`: the server's own paths, declared with the same routes as every mount.

mod audit;
mod browser;
mod capabilities;
mod check;
mod counters;
mod documents;
mod generate_root;
mod host;
mod in_flight;
pub(crate) mod leases;
mod locked_users;
mod logs;
mod metrics;
mod mounts;
mod password_policies;
mod plugins;
mod policies;
mod quotas;
mod raw;
mod rekey;
mod remount;
mod rotate;
mod seal;
mod snapshot;
mod status;
mod tools;
mod wrapping;

use std::sync::{Arc, LazyLock, Weak};

use obol_mount::{Backend, Error, Pattern, Result, RouteTable, Routes, Secret};

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

/// Each room declares its own paths.
pub(crate) fn routes() -> Routes<System> {
    Routes::new()
        .and(seal::routes())
        .and(metrics::routes())
        .and(logs::routes())
        .and(host::routes())
        .and(plugins::routes())
        .and(status::routes())
        .and(counters::routes())
        .and(mounts::routes())
        .and(leases::routes())
        .and(policies::routes())
        .and(capabilities::routes())
        .and(audit::routes())
        .and(tools::routes())
        .and(browser::routes())
        .and(in_flight::routes())
        .and(quotas::routes())
        .and(documents::routes())
        .and(locked_users::routes())
        .and(password_policies::routes())
        .and(rotate::routes())
        .and(rekey::routes())
        .and(remount::routes())
        .and(generate_root::routes())
        .and(wrapping::routes())
        .and(snapshot::routes())
        .and(raw::routes())
        .and(check::routes())
}

/// Whether the body of a POST to this path, as it came, is a file: the routes say which do.
pub(crate) fn takes_upload(path: &str) -> bool {
    static UPLOADS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
        // Patterns that do not parse keep the server from starting.
        let routes = routes().docs().unwrap_or_default();
        let uploads = routes.into_iter().filter(|route| route.takes_upload);
        uploads.map(|route| route.pattern).collect()
    });
    let below = path.strip_prefix("sys/").map(|p| p.trim_end_matches('/'));
    below.is_some_and(|below| UPLOADS.iter().any(|path| path.matches(below).is_some()))
}

/// A secret that must be there.
fn required(secret: Option<Secret>, name: &str) -> Result<Secret> {
    secret
        .filter(|s| !s.is_empty())
        .ok_or_else(|| Error::bad_request(format!("missing required field {name:?}")))
}
