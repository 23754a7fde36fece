//! Aliases of external groups: the name that an auth method gives to a group. One for each group.

use std::sync::atomic::Ordering;

use obol_mount::{Error, Result};
use obol_storage::{Batch, Seen};

use super::aliases::{AliasFields, missing};
use super::records::{Alias, Group, GroupKind};
use super::{Identity, attempt, names};
use crate::core::unix_now;

impl Identity {
    /// The group of an alias, and the alias.
    pub async fn group_alias(&self, id: &str) -> Result<Option<(Group, Alias)>> {
        let found = self.group_alias_seen(id).await?;
        Ok(found.map(|(group, _, alias)| (group, alias)))
    }

    /// The same by the mount's accessor and the name there.
    pub async fn group_alias_of(&self, mount: &str, name: &str) -> Result<Option<(Group, Alias)>> {
        if !names::is_id(mount) {
            return Ok(None);
        }
        let found = self.owned_group(&group_alias_path(mount, name)).await?;
        Ok(found.map(|(group, _, alias)| (group, alias)))
    }

    /// Aliases in the order of their ids, a page at a time, each with its group.
    pub async fn group_aliases(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Group, Alias)>> {
        let mut found = Vec::new();
        for id in self.storage().list("group-alias/", after, limit).await? {
            found.extend(self.group_alias(&id).await?);
        }
        Ok(found)
    }

    /// Makes an alias, or changes the one of the id, or of the mount and name. Returns its id and its group's.
    /// The members of a group are those of its alias: they are forgotten when that becomes another.
    pub async fn write_group_alias(&self, fields: &AliasFields) -> Result<(String, String)> {
        if let Some(name) = &fields.name {
            names::check("name", name)?;
        }
        attempt!(self, change, {
            let was = match (&fields.id, &fields.mount, &fields.name) {
                (Some(id), _, _) => Some(
                    self.group_alias_seen(id)
                        .await?
                        .ok_or_else(|| Error::bad_request("no group alias has this id"))?,
                ),
                (None, Some(mount), Some(name)) => {
                    self.owned_group(&group_alias_path(mount, name)).await?
                }
                (None, None, _) => return Err(missing("mount_accessor")),
                (None, _, None) => return Err(missing("name")),
            };
            let mut alias = match (&was, &fields.mount, &fields.name) {
                (Some((_, _, alias)), _, _) => alias.clone(),
                (None, Some(mount), Some(name)) => Alias::new(name, mount),
                (None, _, _) => return Err(missing("name")),
            };
            if let Some(name) = &fields.name {
                alias.name.clone_from(name);
            }
            if let Some(mount) = &fields.mount {
                alias.mount.clone_from(mount);
            }
            alias.updated = unix_now();
            let same_place = was.as_ref().is_some_and(|(_, _, old)| {
                old.mount == alias.mount && names::same(&old.name, &alias.name)
            });
            if let Some((group, _, old)) = &was {
                self.unindex_group_alias(&mut change.batch, old);
                let moves = fields.owner.as_ref().is_some_and(|id| *id != group.id);
                if moves || !same_place {
                    self.empty_group(&mut change, &group.id).await?;
                }
            }
            let (mut group, seen) = match (&fields.owner, was) {
                (None, Some((group, seen, _))) => (group, Some(seen)),
                (Some(id), Some((group, seen, _))) if *id == group.id => (group, Some(seen)),
                (Some(id), was) => {
                    if let Some((mut group, seen, _)) = was {
                        group.alias = None;
                        self.put_group(&mut change, &mut group, Some(&seen))?;
                    }
                    let (group, seen) = self
                        .group_seen(id)
                        .await?
                        .ok_or_else(|| Error::bad_request("canonical_id: no group has this id"))?;
                    (group, Some(seen))
                }
                (None, None) => {
                    let group = Group::new(None, GroupKind::External);
                    self.index_name(&mut change.batch, None, &group)?;
                    (group, None)
                }
            };
            if group.kind != GroupKind::External {
                return Err(Error::bad_request(
                    "canonical_id: only an external group can have an alias",
                ));
            }
            if group.alias.as_ref().is_some_and(|a| a.id != alias.id) {
                return Err(Error::bad_request(
                    "canonical_id: the group already has an alias: change or delete that one",
                ));
            }
            let path = group_alias_path(&alias.mount, &alias.name);
            if !same_place {
                if self.storage().get(&path).await?.is_some() {
                    return Err(Error::bad_request(
                        "the name is already a group alias at this mount",
                    ));
                }
                self.storage().expect_absent_in(&mut change.batch, &path);
            }
            let view = self.storage();
            view.put_json_in(
                &mut change.batch,
                &format!("group-alias/{}", alias.id),
                &group.id,
            )?;
            view.put_json_in(&mut change.batch, &path, &group.id)?;
            let ids = (alias.id.clone(), group.id.clone());
            group.alias = Some(alias);
            self.put_group(&mut change, &mut group, seen.as_ref())?;
            ids
        })
    }

    pub async fn delete_group_alias(&self, id: &str) -> Result<()> {
        attempt!(self, change, {
            let Some((mut group, seen, alias)) = self.group_alias_seen(id).await? else {
                return Ok(());
            };
            self.unindex_group_alias(&mut change.batch, &alias);
            self.empty_group(&mut change, &group.id).await?;
            group.alias = None;
            self.put_group(&mut change, &mut group, Some(&seen))?;
        })
    }

    /// Whether any group has an alias at a mount.
    pub(super) async fn has_group_aliases(&self, mount: &str) -> Result<bool> {
        let generation = self.0.generation.load(Ordering::Acquire);
        if let Some((looked, any)) = self.0.group_aliases.get(mount)
            && looked == generation
        {
            return Ok(any);
        }
        let folder = format!("group-alias-of/{mount}/");
        let any = !self.storage().list(&folder, None, 1).await?.is_empty();
        // As of the generation before the look: who changes groups advances it afterwards.
        self.0
            .group_aliases
            .insert(mount.to_owned(), (generation, any));
        Ok(any)
    }

    pub(super) fn unindex_group_alias(&self, batch: &mut Batch, alias: &Alias) {
        let view = self.storage();
        view.delete_in(batch, &format!("group-alias/{}", alias.id));
        view.delete_in(batch, &group_alias_path(&alias.mount, &alias.name));
    }

    async fn group_alias_seen(&self, id: &str) -> Result<Option<(Group, Seen, Alias)>> {
        if !names::is_id(id) {
            return Ok(None);
        }
        self.owned_group(&format!("group-alias/{id}")).await
    }

    pub(super) async fn owned_group(&self, path: &str) -> Result<Option<(Group, Seen, Alias)>> {
        let Some(owner) = self.id_at(path).await? else {
            return Ok(None);
        };
        Ok(self.group_seen(&owner).await?.and_then(|(group, seen)| {
            let alias = group.alias.clone()?;
            Some((group, seen, alias))
        }))
    }
}

pub(super) fn group_alias_path(mount: &str, name: &str) -> String {
    format!("group-alias-of/{mount}/{}", names::key(name))
}
