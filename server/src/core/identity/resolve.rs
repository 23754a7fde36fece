//! What a request needs to know of its caller's entity: whether it may act at all, and the policies that it and all
//! its groups give. Resolved once and remembered until one of the records changes; then the very next request sees
//! the change (threats: `group-gone`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use obol_mount::Result;

use super::records::{Entity, Group, GroupKind};
use super::{Identity, names};
use crate::core::policies::{OfAlias, OfGroup, Parameter, ROOT, Values};

/// An entity with all its groups.
pub struct Resolved {
    /// Another number for another state of the entity, for what is made from it.
    pub serial: u64,
    generation: u64,
    pub entity: Entity,
    /// Those of the entity and of its groups: sorted, each once.
    pub policies: Arc<[String]>,
    pub groups: Vec<Member>,
    /// The external groups that it is in: the mount of the group's alias, and the group's id. Sorted.
    external: Vec<(String, String)>,
}

/// A group that an entity is in.
pub struct Member {
    pub id: String,
    pub name: String,
    pub metadata: BTreeMap<String, String>,
}

impl Resolved {
    /// The ids of the external groups of a mount, sorted.
    pub(super) fn external_groups(&self, mount: &str) -> impl Iterator<Item = &String> {
        let of_mount = self.external.iter().filter(move |(at, _)| at == mount);
        of_mount.map(|(_, id)| id)
    }
}

/// What templated policies ask.
impl Values for Resolved {
    fn value(&self, parameter: &Parameter) -> Option<&str> {
        let entity = &self.entity;
        match parameter {
            Parameter::EntityId => Some(&entity.id),
            Parameter::EntityName => Some(&entity.name),
            Parameter::EntityMetadata(key) => entity.metadata.get(&**key).map(String::as_str),
            Parameter::Alias(accessor, what) => {
                let alias = entity.alias_at(accessor)?;
                match what {
                    OfAlias::Id => Some(&alias.id),
                    OfAlias::Name => Some(&alias.name),
                    OfAlias::Metadata(key) => alias.metadata.get(&**key).map(String::as_str),
                    OfAlias::CustomMetadata(key) => {
                        alias.custom_metadata.get(&**key).map(String::as_str)
                    }
                }
            }
            Parameter::GroupById(id, what) => {
                let group = self.groups.iter().find(|group| group.id == **id)?;
                group.value(what)
            }
            Parameter::GroupByName(name, what) => {
                let group = self.groups.iter().find(|g| names::same(&g.name, name))?;
                group.value(what)
            }
        }
    }
}

impl Member {
    fn value(&self, what: &OfGroup) -> Option<&str> {
        match what {
            OfGroup::Id => Some(&self.id),
            OfGroup::Name => Some(&self.name),
            OfGroup::Metadata(key) => self.metadata.get(&**key).map(String::as_str),
        }
    }
}

impl Identity {
    /// The entity of a token, resolved; `None` when it is gone. Of one that was merged, the entity that it is now.
    pub async fn resolve(&self, id: &str) -> Result<Option<Arc<Resolved>>> {
        let cache = &self.0.resolved;
        loop {
            let generation = self.0.generation.load(Ordering::Acquire);
            if let Some(known) = cache.get(id) {
                if known.generation == generation {
                    return Ok(Some(known));
                }
                cache.remove_if(id, |known| known.generation != generation);
            }
            let Err(guard) = cache.get_value_or_guard_async(id).await else {
                continue;
            };
            let Some(found) = Box::pin(self.resolve_now(id, generation)).await? else {
                return Ok(None);
            };
            // Fails when a change removed the placeholder meanwhile: then it is not remembered.
            let _ = guard.insert(found.clone());
            return Ok(Some(found));
        }
    }

    async fn resolve_now(&self, id: &str, generation: u64) -> Result<Option<Arc<Resolved>>> {
        let entity = match self.entity(id).await? {
            Some(entity) => entity,
            None => match self.id_at(&format!("merged/{id}")).await? {
                Some(now) => match self.entity(&now).await? {
                    Some(entity) => entity,
                    None => return Ok(None),
                },
                None => return Ok(None),
            },
        };
        let groups = self.groups_of(&entity.id).await?;
        let policies: BTreeSet<String> = groups
            .iter()
            .flat_map(|(group, _)| &group.policies)
            .chain(&entity.policies)
            // Refused where they are written; what is stored is not believed either (threats: `root-via-entity`).
            .filter(|name| *name != ROOT)
            .cloned()
            .collect();
        let mut external: Vec<(String, String)> = groups
            .iter()
            .filter(|(group, direct)| *direct && group.kind == GroupKind::External)
            .filter_map(|(group, _)| Some((group.alias.as_ref()?.mount.clone(), group.id.clone())))
            .collect();
        external.sort();
        Ok(Some(Arc::new(Resolved {
            serial: self.0.serial.fetch_add(1, Ordering::Relaxed),
            generation,
            policies: policies.into_iter().collect(),
            groups: groups
                .into_iter()
                .map(|(group, _)| Member {
                    id: group.id,
                    name: group.name,
                    metadata: group.metadata,
                })
                .collect(),
            external,
            entity,
        })))
    }

    /// Every group that an entity is in, and whether by itself or through another group.
    pub async fn groups_of(&self, entity: &str) -> Result<Vec<(Group, bool)>> {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut found = Vec::new();
        let mut level = self.direct_groups(entity).await?;
        let mut direct = true;
        while !level.is_empty() {
            let mut above = Vec::new();
            for id in level {
                if !seen.insert(id.clone()) {
                    continue;
                }
                if let Some(group) = self.group(&id).await? {
                    above.extend(self.parent_groups(&id).await?);
                    found.push((group, direct));
                }
            }
            level = above;
            direct = false;
        }
        Ok(found)
    }
}
