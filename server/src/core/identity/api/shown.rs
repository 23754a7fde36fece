//! Entities, groups and aliases as answers show them, with Vault's names.

use std::collections::{BTreeMap, HashMap};

use obol_mount::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::core::Live;
use crate::core::identity::{Alias, Entity, Group, GroupKind};

/// Where the mounts of aliases are now: path and type by accessor.
pub(super) struct Places(HashMap<String, (String, String)>);

impl Places {
    pub(super) fn of(live: &Live) -> Self {
        let all = live.mounts.all();
        Self(
            all.iter()
                .map(|mounted| {
                    let entry = &mounted.entry;
                    (
                        entry.accessor.clone(),
                        (entry.path.clone(), entry.kind.clone()),
                    )
                })
                .collect(),
        )
    }

    fn of_mount(&self, accessor: &str) -> (String, String) {
        self.0.get(accessor).cloned().unwrap_or_default()
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ShownAlias {
    /// The entity or the group that it belongs to.
    canonical_id: String,
    /// RFC 3339.
    creation_time: String,
    /// Set by the operator.
    custom_metadata: BTreeMap<String, String>,
    /// The id of the alias.
    id: String,
    /// RFC 3339.
    last_update_time: String,
    /// Whether its mount is local to this cluster.
    local: bool,
    /// The entities that it belonged to before merges.
    merged_from_canonical_ids: Option<Vec<String>>,
    /// Set by the auth method at each login.
    metadata: Option<BTreeMap<String, String>>,
    /// The auth method that knows it by its name.
    mount_accessor: String,
    /// Empty when the mount is gone.
    mount_path: String,
    /// Likewise.
    mount_type: String,
    /// As it was first spelled; compared without case.
    name: String,
    /// Always `root`: there are no namespaces.
    namespace_id: &'static str,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ShownEntity {
    /// Its names at the auth methods, at most one for each.
    aliases: Vec<ShownAlias>,
    /// RFC 3339.
    creation_time: String,
    /// The groups that it is a member of by itself.
    direct_group_ids: Vec<String>,
    disabled: bool,
    /// All its groups.
    group_ids: Vec<String>,
    /// The id of the entity; it never changes.
    id: String,
    /// The groups that it is in through other groups.
    inherited_group_ids: Vec<String>,
    /// RFC 3339.
    last_update_time: String,
    /// The entities that became part of it.
    merged_entity_ids: Option<Vec<String>>,
    metadata: Option<BTreeMap<String, String>>,
    name: String,
    /// Always `root`: there are no namespaces.
    namespace_id: &'static str,
    policies: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ShownGroup {
    /// Of an external group; empty without one.
    alias: GroupAlias,
    /// RFC 3339.
    creation_time: String,
    /// The id of the group; it never changes.
    id: String,
    /// RFC 3339.
    last_update_time: String,
    member_entity_ids: Vec<String>,
    member_group_ids: Option<Vec<String>>,
    metadata: Option<BTreeMap<String, String>>,
    /// Counts the changes of the group itself.
    modify_index: u64,
    name: String,
    /// Always `root`: there are no namespaces.
    namespace_id: &'static str,
    /// The groups that it is a member of.
    parent_group_ids: Option<Vec<String>>,
    policies: Vec<String>,
    #[serde(rename = "type")]
    kind: GroupKind,
}

/// An object without fields where there is no alias, as Vault shows it.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum GroupAlias {
    One(Box<ShownAlias>),
    #[schemars(extend("maxProperties" = 0))]
    None {},
}

impl ShownAlias {
    pub(super) fn of(alias: &Alias, owner: &str, places: &Places) -> Self {
        let (mount_path, mount_type) = places.of_mount(&alias.mount);
        Self {
            canonical_id: owner.to_owned(),
            creation_time: rfc3339(alias.created),
            custom_metadata: alias.custom_metadata.clone(),
            id: alias.id.clone(),
            last_update_time: rfc3339(alias.updated),
            local: alias.local,
            merged_from_canonical_ids: some(alias.merged_from.clone()),
            metadata: some_map(&alias.metadata),
            mount_accessor: alias.mount.clone(),
            mount_path,
            mount_type,
            name: alias.name.clone(),
            namespace_id: ROOT_NAMESPACE,
        }
    }
}

impl ShownEntity {
    pub(super) async fn of(entity: Entity, live: &Live) -> Result<Self> {
        let places = Places::of(live);
        let groups = live.identity.groups_of(&entity.id).await?;
        let ids = |wanted: Option<bool>| -> Vec<String> {
            groups
                .iter()
                .filter(|(_, direct)| wanted.is_none_or(|wanted| wanted == *direct))
                .map(|(group, _)| group.id.clone())
                .collect()
        };
        Ok(Self {
            aliases: entity
                .aliases
                .iter()
                .map(|alias| ShownAlias::of(alias, &entity.id, &places))
                .collect(),
            creation_time: rfc3339(entity.created),
            direct_group_ids: ids(Some(true)),
            disabled: entity.disabled,
            group_ids: ids(None),
            inherited_group_ids: ids(Some(false)),
            last_update_time: rfc3339(entity.updated),
            merged_entity_ids: some(entity.merged),
            metadata: some_map(&entity.metadata),
            name: entity.name,
            namespace_id: ROOT_NAMESPACE,
            policies: entity.policies,
            id: entity.id,
        })
    }
}

impl ShownGroup {
    pub(super) async fn of(group: Group, live: &Live) -> Result<Self> {
        let places = Places::of(live);
        let identity = &live.identity;
        Ok(Self {
            alias: match &group.alias {
                Some(alias) => GroupAlias::One(Box::new(ShownAlias::of(alias, &group.id, &places))),
                None => GroupAlias::None {},
            },
            creation_time: rfc3339(group.created),
            last_update_time: rfc3339(group.updated),
            member_entity_ids: identity.member_entities(&group.id).await?,
            member_group_ids: some(group.member_groups),
            metadata: some_map(&group.metadata),
            modify_index: group.modified,
            name: group.name,
            namespace_id: ROOT_NAMESPACE,
            parent_group_ids: some(identity.parent_groups(&group.id).await?),
            policies: group.policies,
            kind: group.kind,
            id: group.id,
        })
    }
}

/// Vault shows an empty list or map as null where nobody has set it.
fn some(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

fn some_map(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then(|| map.clone())
}

fn rfc3339(unix: u64) -> String {
    i64::try_from(unix)
        .ok()
        .and_then(|unix| time::OffsetDateTime::from_unix_timestamp(unix).ok())
        .and_then(|time| {
            time.format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_default()
}

/// There is one namespace.
const ROOT_NAMESPACE: &str = "root";
