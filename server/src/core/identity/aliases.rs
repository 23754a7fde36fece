//! Aliases of entities: one for each mount at most, and one entity for each name at a mount.

use std::collections::BTreeMap;

use obol_mount::{Error, Result};
use obol_storage::{Batch, Seen};

use super::records::{Alias, Entity};
use super::{Identity, PAGE, attempt, names};
use crate::core::unix_now;

/// What a client says of an alias; what is absent stays as it is.
#[derive(Debug, Clone, Default)]
pub struct AliasFields {
    pub id: Option<String>,
    pub name: Option<String>,
    /// The accessor of a mount that exists.
    pub mount: Option<String>,
    pub local: bool,
    /// The entity, or for a group's alias the group.
    pub owner: Option<String>,
    pub custom_metadata: Option<BTreeMap<String, String>>,
}

impl Identity {
    /// The entity of an alias, and the alias.
    pub async fn alias(&self, id: &str) -> Result<Option<(Entity, Alias)>> {
        let found = self.alias_seen(id).await?;
        Ok(found.map(|(entity, _, alias)| (entity, alias)))
    }

    /// The same by the mount's accessor and the name there.
    pub async fn alias_of(&self, mount: &str, name: &str) -> Result<Option<(Entity, Alias)>> {
        let found = self.alias_of_seen(mount, name).await?;
        Ok(found.map(|(entity, _, alias)| (entity, alias)))
    }

    async fn alias_seen(&self, id: &str) -> Result<Option<(Entity, Seen, Alias)>> {
        if !names::is_id(id) {
            return Ok(None);
        }
        self.owned(&format!("alias/{id}"), |alias| alias.id == id)
            .await
    }

    pub(super) async fn alias_of_seen(
        &self,
        mount: &str,
        name: &str,
    ) -> Result<Option<(Entity, Seen, Alias)>> {
        if !names::is_id(mount) {
            return Ok(None);
        }
        self.owned(&alias_path(mount, name), |alias| alias.mount == mount)
            .await
    }

    /// The alias that an index entry leads to.
    async fn owned(
        &self,
        path: &str,
        is_it: impl Fn(&Alias) -> bool,
    ) -> Result<Option<(Entity, Seen, Alias)>> {
        let Some(owner) = self.id_at(path).await? else {
            return Ok(None);
        };
        Ok(self.entity_seen(&owner).await?.and_then(|(entity, seen)| {
            let alias = entity.aliases.iter().find(|alias| is_it(alias))?.clone();
            Some((entity, seen, alias))
        }))
    }

    /// Ids of aliases in their order, a page at a time, each with its entity.
    pub async fn aliases(&self, after: Option<&str>, limit: usize) -> Result<Vec<(Entity, Alias)>> {
        let mut found = Vec::new();
        for id in self.storage().list("alias/", after, limit).await? {
            found.extend(self.alias(&id).await?);
        }
        Ok(found)
    }

    /// Makes an alias, or changes the one of the id, or of the mount and name. Returns its id and its entity's.
    pub async fn write_alias(&self, fields: &AliasFields) -> Result<(String, String)> {
        if let Some(name) = &fields.name {
            names::check("name", name)?;
        }
        if let Some(metadata) = &fields.custom_metadata {
            names::check_metadata("custom_metadata", metadata)?;
        }
        attempt!(self, change, {
            let was = match (&fields.id, &fields.mount, &fields.name) {
                (Some(id), _, _) => Some(
                    self.alias_seen(id)
                        .await?
                        .ok_or_else(|| Error::bad_request("no alias has this id"))?,
                ),
                (None, Some(mount), Some(name)) => self.alias_of_seen(mount, name).await?,
                (None, None, _) => return Err(missing("mount_accessor")),
                (None, _, None) => return Err(missing("name")),
            };
            let mut alias = match (&was, &fields.mount, &fields.name) {
                (Some((_, _, alias)), _, _) => alias.clone(),
                (None, Some(mount), Some(name)) => Alias::new(name, mount),
                (None, _, _) => return Err(missing("name")),
            };
            let old = was.as_ref().map(|(_, _, alias)| alias.clone());
            if let Some(name) = &fields.name {
                alias.name.clone_from(name);
            }
            if let Some(mount) = &fields.mount {
                alias.mount.clone_from(mount);
                alias.local = fields.local;
            }
            if let Some(metadata) = &fields.custom_metadata {
                alias.custom_metadata.clone_from(metadata);
            }
            alias.updated = unix_now();
            if let (Some((entity, _, _)), Some(old)) = (&was, &old) {
                self.unindex_alias(&mut change.batch, old);
                let moves = fields.owner.as_ref().is_some_and(|id| *id != entity.id);
                if moves || old.mount != alias.mount {
                    self.leave_external(&mut change, &entity.id, &old.mount)
                        .await?;
                }
            }
            let (mut entity, seen) = match (&fields.owner, was) {
                (None, Some((entity, seen, _))) => (entity, Some(seen)),
                (Some(id), Some((entity, seen, _))) if *id == entity.id => (entity, Some(seen)),
                (Some(id), was) => {
                    if let Some((mut entity, seen, _)) = was {
                        entity.aliases.retain(|a| a.id != alias.id);
                        self.put_entity(&mut change, &mut entity, Some(&seen))?;
                    }
                    let (entity, seen) = self
                        .entity_seen(id)
                        .await?
                        .ok_or_else(|| Error::bad_request("canonical_id: no entity has this id"))?;
                    (entity, Some(seen))
                }
                (None, None) => {
                    let entity = Entity::new(None);
                    self.index_name(&mut change.batch, None, &entity)?;
                    (entity, None)
                }
            };
            entity.aliases.retain(|a| a.id != alias.id);
            if entity.alias_at(&alias.mount).is_some() {
                return Err(Error::bad_request(
                    "the entity already has an alias at this mount: change or delete that one",
                ));
            }
            // Under another name or at another mount, somebody else may be there already.
            let same_place = old
                .as_ref()
                .is_some_and(|old| old.mount == alias.mount && names::same(&old.name, &alias.name));
            let path = alias_path(&alias.mount, &alias.name);
            if !same_place {
                if self.storage().get(&path).await?.is_some() {
                    return Err(Error::bad_request(
                        "the name is already an alias at this mount",
                    ));
                }
                self.storage().expect_absent_in(&mut change.batch, &path);
            }
            self.index_alias(&mut change.batch, &alias, &entity.id)?;
            let ids = (alias.id.clone(), entity.id.clone());
            entity.aliases.push(alias);
            self.put_entity(&mut change, &mut entity, seen.as_ref())?;
            ids
        })
    }

    pub async fn delete_alias(&self, id: &str) -> Result<()> {
        attempt!(self, change, {
            let Some((mut entity, seen, alias)) = self.alias_seen(id).await? else {
                return Ok(());
            };
            entity.aliases.retain(|a| a.id != id);
            self.unindex_alias(&mut change.batch, &alias);
            self.leave_external(&mut change, &entity.id, &alias.mount)
                .await?;
            self.put_entity(&mut change, &mut entity, Some(&seen))?;
        })
    }

    /// Deletes the aliases of a mount that goes, of entities and of groups: nobody can ever log in by them again.
    pub async fn forget_mount(&self, mount: &str) -> Result<()> {
        for folder in [
            format!("alias-of/{mount}/"),
            format!("group-alias-of/{mount}/"),
        ] {
            loop {
                let page = self.storage().list(&folder, None, PAGE).await?;
                if page.is_empty() {
                    break;
                }
                for key in page {
                    let path = format!("{folder}{key}");
                    if let Some((_, _, alias)) = self.owned(&path, |a| a.mount == mount).await? {
                        self.delete_alias(&alias.id).await?;
                    } else if let Some((_, _, alias)) = self.owned_group(&path).await? {
                        self.delete_group_alias(&alias.id).await?;
                    }
                    // Gone with the alias; what leads nowhere would bring this loop round for ever.
                    self.storage().delete(&path).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn index_alias(&self, batch: &mut Batch, alias: &Alias, owner: &str) -> Result<()> {
        let view = self.storage();
        view.put_json_in(batch, &format!("alias/{}", alias.id), owner)?;
        view.put_json_in(batch, &alias_path(&alias.mount, &alias.name), owner)?;
        Ok(())
    }

    pub(super) fn unindex_alias(&self, batch: &mut Batch, alias: &Alias) {
        let view = self.storage();
        view.delete_in(batch, &format!("alias/{}", alias.id));
        view.delete_in(batch, &alias_path(&alias.mount, &alias.name));
    }
}

pub(super) fn alias_path(mount: &str, name: &str) -> String {
    ["alias-of/", mount, "/", &names::key(name)].concat()
}

pub(super) fn missing(field: &str) -> Error {
    Error::bad_request(format!("missing required field {field:?}"))
}
