//! `identity/`: the paths of Vault's identity store for entities, groups and their aliases.

mod aliases;
mod entities;
mod groups;
mod lookup;
mod named;
mod shown;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use obol_mount::fields::{CommaList, Count, Metadata};
use obol_mount::{Backend, Error, Family, Result, RouteTable, Routes, assignable_policies};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::mounts::Mounted;
use crate::core::{Core, Live, upgrade};

/// The backend of `identity/`.
pub(crate) struct IdentityBackend {
    core: Weak<Core>,
}

impl IdentityBackend {
    pub(crate) fn new(core: Weak<Core>) -> Self {
        Self { core }
    }

    fn live(&self) -> Result<Arc<Live>> {
        upgrade(&self.core)?.live()
    }
}

impl Backend for IdentityBackend {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }
}

pub(crate) fn routes() -> Routes<IdentityBackend> {
    Routes::new()
        .and(entities::routes())
        .and(aliases::routes())
        .and(groups::routes())
        .and(lookup::routes())
}

/// A page of a listing.
#[derive(Deserialize, JsonSchema)]
struct ListInput {
    /// Start after this key.
    after: Option<String>,
    /// At most so many keys.
    limit: Option<Count>,
}

impl ListInput {
    fn limit(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit.0.max(1)).unwrap_or(usize::MAX)
        })
    }
}

/// Reads a listing a page at a time.
macro_rules! pages {
    ($input:expr, $read:expr, $key:expr) => {{
        let limit = $input.limit();
        let mut after = $input.after.clone();
        let mut all = Vec::new();
        loop {
            let wanted = (limit - all.len()).min(PAGE);
            let page = $read(after.clone(), wanted).await?;
            let last = page.len() < wanted;
            after = page.last().map($key);
            all.extend(page);
            if last || all.len() >= limit {
                break;
            }
        }
        all
    }};
}
use pages;

const PAGE: usize = 512;

/// A listing: the keys, and something of each by its id.
#[derive(Serialize, JsonSchema)]
struct Listing<T> {
    /// The ids, or the names where those are listed.
    keys: Vec<String>,
    /// By id.
    key_info: BTreeMap<String, T>,
}

/// Something by its id.
#[derive(Deserialize, JsonSchema)]
struct IdInput {
    id: String,
}

/// Something by its name.
#[derive(Deserialize, JsonSchema)]
struct NameInput {
    name: String,
}

/// An id and a name, as answers to a creation have them.
#[derive(Serialize, JsonSchema)]
struct AliasOut {
    /// The id of the alias.
    id: String,
    /// What the alias belongs to.
    canonical_id: String,
}

/// The policies of an entity or a group: never root, in any spelling (threats: `root-via-entity`).
fn policies(list: Option<CommaList>) -> Result<Option<Vec<String>>> {
    list.map(|CommaList(names)| assignable_policies("policies", &names))
        .transpose()
}

/// The auth mount of an accessor.
fn auth_mount(live: &Live, accessor: &str) -> Result<Arc<Mounted>> {
    live.mounts
        .all()
        .into_iter()
        .find(|mounted| {
            mounted.entry.accessor == accessor && mounted.entry.family() == Family::Auth
        })
        .ok_or_else(|| Error::bad_request("mount_accessor: no auth method has this accessor"))
}
