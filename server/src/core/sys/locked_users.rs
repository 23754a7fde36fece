//! `sys/locked-users`: who is locked after too many failed logins, and letting them in again.

use obol_mount::fields::Count;
use obol_mount::{Cx, Data, Error, NoContent, Result, Routes, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;
use crate::core::lockout::METHODS;
use crate::core::mounts::Mounted;
use crate::core::{Live, unix_now};

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "locked-users",
            "Who is locked after too many failed logins, by mount",
            get(list).list(list),
        )
        // A rest: a name of LDAP may hold a slash.
        .at(
            "locked-users/{mount_accessor}/unlock/{alias_identifier*}",
            "Lets a name log in again and forgets its failures",
            post(unlock),
        )
}

/// Which names.
#[derive(Deserialize, JsonSchema)]
pub(super) struct ListInput {
    /// Those of one mount.
    #[serde(default)]
    mount_accessor: String,
    /// At most so many names; the counts are of all.
    limit: Option<Count>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct LockedUsers {
    /// All of them: there are no namespaces.
    by_namespace: Vec<OfNamespace>,
    /// How many names are locked.
    total: u64,
}

#[derive(Serialize, JsonSchema)]
struct OfNamespace {
    /// Always `root`.
    namespace_id: &'static str,
    /// Always empty.
    namespace_path: &'static str,
    /// How many names are locked.
    counts: u64,
    /// The auth methods with locked names, those with the most first.
    mount_accessors: Vec<OfMount>,
}

#[derive(Serialize, JsonSchema)]
struct OfMount {
    /// The accessor of the auth method.
    mount_accessor: String,
    /// How many of its names are locked.
    counts: u64,
    /// The names.
    alias_identifiers: Vec<String>,
}

/// A locked name.
#[derive(Deserialize, JsonSchema)]
pub(super) struct UnlockInput {
    mount_accessor: String,
    /// The name as the listing shows it.
    alias_identifier: String,
}

async fn list(cx: Cx<System>, input: ListInput) -> Result<Data<LockedUsers>> {
    let live = cx.live()?;
    let mut room = input.limit.map_or(u64::MAX, |limit| limit.0);
    let mut mount_accessors = Vec::new();
    for mounted in methods(&live, &input.mount_accessor)? {
        let mut shown = OfMount {
            mount_accessor: mounted.entry.accessor.clone(),
            counts: 0,
            alias_identifiers: Vec::new(),
        };
        let mut after = None;
        loop {
            let (page, next) = live
                .lockout
                .locked(&mounted.entry.uuid, after.as_deref(), unix_now())
                .await?;
            for locked in page {
                shown.counts += 1;
                if room > 0 {
                    room -= 1;
                    shown.alias_identifiers.push(locked.name);
                }
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        if shown.counts > 0 {
            shown.alias_identifiers.sort();
            mount_accessors.push(shown);
        }
    }
    mount_accessors.sort_by_key(|shown| std::cmp::Reverse(shown.counts));
    let total = mount_accessors.iter().map(|shown| shown.counts).sum();
    // There is one namespace, called as in Vault.
    let by_namespace = match mount_accessors.is_empty() {
        true => Vec::new(),
        false => vec![OfNamespace {
            namespace_id: "root",
            namespace_path: "",
            counts: total,
            mount_accessors,
        }],
    };
    Ok(Data(LockedUsers {
        by_namespace,
        total,
    }))
}

async fn unlock(cx: Cx<System>, input: UnlockInput) -> Result<NoContent> {
    let live = cx.live()?;
    let name = &input.alias_identifier;
    for mounted in methods(&live, &input.mount_accessor)? {
        let uuid = &mounted.entry.uuid;
        // Methods fold names to lower case; people write them as they are used to.
        if !live.lockout.unlock(uuid, name).await? {
            live.lockout.unlock(uuid, &name.to_lowercase()).await?;
        }
    }
    Ok(NoContent)
}

/// The mounts whose logins are counted; one, where it is named.
fn methods(live: &Live, accessor: &str) -> Result<Vec<std::sync::Arc<Mounted>>> {
    let mut mounts = live.mounts.all();
    mounts.retain(|m| METHODS.contains(&m.entry.kind.as_str()));
    if !accessor.is_empty() {
        mounts.retain(|m| m.entry.accessor == accessor);
        if mounts.is_empty() {
            return Err(Error::bad_request(format!(
                "mount_accessor: no mount of the types {} has this accessor",
                METHODS.join(", ")
            )));
        }
    }
    Ok(mounts)
}
