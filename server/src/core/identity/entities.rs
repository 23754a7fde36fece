//! Entities: made, changed, found, listed, deleted. A record and its indexes change in one commit.

use std::collections::BTreeMap;

use obol_mount::Result;
use obol_storage::Seen;

use super::records::Entity;
use super::{Change, Identity, attempt, names};
use crate::core::unix_now;

/// What a client says of an entity; what is absent stays as it is.
#[derive(Debug, Clone, Default)]
pub struct EntityFields {
    pub id: Option<String>,
    pub name: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
    /// Checked names.
    pub policies: Option<Vec<String>>,
    pub disabled: Option<bool>,
}

impl Identity {
    pub async fn entity(&self, id: &str) -> Result<Option<Entity>> {
        self.find(id).await
    }

    pub async fn count_entities(&self) -> Result<u64> {
        Ok(self.storage().count("entity/").await?)
    }

    /// Makes an entity, or changes the one of the id or the name. `true`: it is new.
    pub async fn write_entity(&self, fields: &EntityFields) -> Result<(Entity, bool)> {
        if let Some(name) = &fields.name {
            names::check("name", name)?;
        }
        if let Some(metadata) = &fields.metadata {
            names::check_metadata("metadata", metadata)?;
        }
        attempt!(self, change, {
            let found = self
                .meant(fields.id.as_deref(), fields.name.as_deref())
                .await?;
            let is_new = found.is_none();
            let (mut entity, seen) = match found {
                Some((entity, seen)) => (entity, Some(seen)),
                None => (Entity::new(fields.name.clone()), None),
            };
            let old_name = (!is_new).then(|| entity.name.clone());
            if let Some(name) = &fields.name {
                entity.name.clone_from(name);
            }
            if let Some(metadata) = &fields.metadata {
                entity.metadata.clone_from(metadata);
            }
            if let Some(policies) = &fields.policies {
                entity.policies.clone_from(policies);
            }
            if let Some(disabled) = fields.disabled {
                entity.disabled = disabled;
            }
            self.index_name(&mut change.batch, old_name.as_deref(), &entity)?;
            self.put_entity(&mut change, &mut entity, seen.as_ref())?;
            (entity, is_new)
        })
    }

    /// Deletes entities, all in one commit. Those that are not there are as they should be.
    pub async fn delete_entities(&self, ids: &[String]) -> Result<()> {
        let mut ids = ids.to_vec();
        ids.sort();
        ids.dedup();
        attempt!(self, change, {
            for id in &ids {
                if let Some((entity, seen)) = self.entity_seen(id).await? {
                    self.delete_entity_in(&mut change, &entity, &seen);
                }
            }
        })
    }

    pub(super) async fn entity_seen(&self, id: &str) -> Result<Option<(Entity, Seen)>> {
        self.seen(id).await
    }

    /// Adds an entity's record to a change. Without `seen` it must be new.
    pub(super) fn put_entity(
        &self,
        change: &mut Change,
        entity: &mut Entity,
        seen: Option<&Seen>,
    ) -> Result<()> {
        entity.updated = unix_now();
        self.put_record(&mut change.batch, entity, seen)?;
        change.entities.extend(entity.ids());
        Ok(())
    }

    /// Adds the end of an entity to a change. Its memberships are cleared after the commit.
    pub(super) fn delete_entity_in(&self, change: &mut Change, entity: &Entity, seen: &Seen) {
        let view = self.storage();
        let batch = &mut change.batch;
        self.delete_record(batch, entity, seen);
        for alias in &entity.aliases {
            self.unindex_alias(batch, alias);
        }
        for merged in &entity.merged {
            view.delete_in(batch, &format!("merged/{merged}"));
        }
        view.put_in(batch, &format!("leaving/{}", entity.id), Vec::new());
        change.entities.extend(entity.ids());
        change.leaving.push(entity.id.clone());
    }
}
