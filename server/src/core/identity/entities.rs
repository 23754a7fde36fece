//! Entities: made, changed, found, listed, deleted. A record and its indexes change in one commit.

use std::collections::BTreeMap;

use obol_mount::{Error, Result};
use obol_storage::{Batch, Seen};

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
        Ok(self.entity_seen(id).await?.map(|(entity, _)| entity))
    }

    pub async fn entity_by_name(&self, name: &str) -> Result<Option<Entity>> {
        Ok(self
            .entity_by_name_seen(name)
            .await?
            .map(|(entity, _)| entity))
    }

    /// Entities in the order of their ids, a page at a time.
    pub async fn entities(&self, after: Option<&str>, limit: usize) -> Result<Vec<Entity>> {
        let view = self.storage();
        let after = after.map(|after| format!("entity/{after}"));
        let page = view.scan_folder("entity/", after.as_deref(), limit).await?;
        page.iter()
            .map(|(path, entry)| Ok(view.parse(path, entry)?))
            .collect()
    }

    /// Entities in the order of their names, a page at a time.
    pub async fn entities_by_name(&self, after: Option<&str>, limit: usize) -> Result<Vec<Entity>> {
        let after = after.map(names::key);
        let page = self
            .storage()
            .list("entity-name/", after.as_deref(), limit)
            .await?;
        let mut found = Vec::with_capacity(page.len());
        for key in page {
            if let Some(id) = self.id_at(&format!("entity-name/{key}")).await?
                && let Some(entity) = self.entity(&id).await?
            {
                found.push(entity);
            }
        }
        Ok(found)
    }

    /// How many entities there are. Reads every id, a page at a time.
    pub async fn count_entities(&self) -> Result<u64> {
        self.count("entity/").await
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
            let by_id = match &fields.id {
                None => None,
                Some(id) => Some(
                    self.entity_seen(id)
                        .await?
                        .ok_or_else(|| Error::bad_request("no entity has this id"))?,
                ),
            };
            let by_name = match &fields.name {
                None => None,
                Some(name) => self.entity_by_name_seen(name).await?,
            };
            let found = match (by_id, by_name) {
                (Some((entity, _)), Some((other, _))) if entity.id != other.id => {
                    return Err(Error::bad_request("the entity's name is already in use"));
                }
                (Some(found), _) | (None, Some(found)) => Some(found),
                (None, None) => None,
            };
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
            self.name_entity(&mut change.batch, old_name.as_deref(), &entity)?;
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
        if !names::is_id(id) {
            return Ok(None);
        }
        self.read(&format!("entity/{id}")).await
    }

    pub(super) async fn entity_by_name_seen(&self, name: &str) -> Result<Option<(Entity, Seen)>> {
        match self
            .id_at(&format!("entity-name/{}", names::key(name)))
            .await?
        {
            Some(id) => self.entity_seen(&id).await,
            None => Ok(None),
        }
    }

    /// Adds an entity's record to a change. Without `seen` it must be new.
    pub(super) fn put_entity(
        &self,
        change: &mut Change,
        entity: &mut Entity,
        seen: Option<&Seen>,
    ) -> Result<()> {
        entity.updated = unix_now();
        let path = format!("entity/{}", entity.id);
        match seen {
            Some(seen) => self.storage().expect_in(&mut change.batch, &path, seen),
            None => self.storage().expect_absent_in(&mut change.batch, &path),
        }
        self.storage()
            .put_json_in(&mut change.batch, &path, entity)?;
        change.entities.extend(entity.ids());
        Ok(())
    }

    /// Adds the index of an entity's name; the name must be free or its own.
    pub(super) fn name_entity(
        &self,
        batch: &mut Batch,
        old: Option<&str>,
        entity: &Entity,
    ) -> Result<()> {
        let view = self.storage();
        let path = format!("entity-name/{}", names::key(&entity.name));
        if let Some(old) = old {
            if names::same(old, &entity.name) {
                return Ok(());
            }
            view.delete_in(batch, &format!("entity-name/{}", names::key(old)));
        }
        view.expect_absent_in(batch, &path);
        view.put_json_in(batch, &path, &entity.id)?;
        Ok(())
    }

    /// Adds the end of an entity to a change. Its memberships are cleared after the commit.
    pub(super) fn delete_entity_in(&self, change: &mut Change, entity: &Entity, seen: &Seen) {
        let view = self.storage();
        let batch = &mut change.batch;
        let path = format!("entity/{}", entity.id);
        view.expect_in(batch, &path, seen);
        view.delete_in(batch, &path);
        view.delete_in(batch, &format!("entity-name/{}", names::key(&entity.name)));
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
