//! Merging: several entities turn out to be one person. Aliases and memberships go over to the entity that stays;
//! tokens of the others belong to it from then on. Policies and metadata of the others go with them, as in Vault.

use std::collections::{BTreeMap, BTreeSet};

use obol_mount::{Error, Result};

use super::records::{Alias, Entity};
use super::{Identity, attempt};
use crate::core::unix_now;

impl Identity {
    /// Merges `from` into `to`. Where both have an alias at one mount, `keep` must name the one that stays.
    pub async fn merge(&self, from: &[String], to: &str, keep: &[String]) -> Result<()> {
        let ids: BTreeSet<&String> = from.iter().collect();
        if ids.is_empty() {
            return Err(Error::bad_request("from_entity_ids may not be empty"));
        }
        if ids.iter().any(|id| *id == to) {
            return Err(Error::bad_request(
                "to_entity_id may not be among from_entity_ids",
            ));
        }
        attempt!(self, change, {
            let (mut entity, seen) = self
                .entity_seen(to)
                .await?
                .ok_or_else(|| Error::bad_request("to_entity_id: no entity has this id"))?;
            let mut others = Vec::with_capacity(ids.len());
            for id in &ids {
                others.push(self.entity_seen(id).await?.ok_or_else(|| {
                    Error::bad_request("from_entity_ids: one of them is no entity's id")
                })?);
            }
            let other_entities: Vec<&Entity> = others.iter().map(|(other, _)| other).collect();
            let kept = settle_conflicts(&entity, &other_entities, keep)?;

            for alias in &entity.aliases {
                if !kept.contains(&alias.id) {
                    self.unindex_alias(&mut change.batch, alias);
                    self.leave_external(&mut change, to, &alias.mount).await?;
                }
            }
            entity.aliases.retain(|alias| kept.contains(&alias.id));
            for (other, other_seen) in &others {
                let dropped: BTreeSet<&str> = other
                    .aliases
                    .iter()
                    .filter(|alias| !kept.contains(&alias.id))
                    .map(|alias| alias.mount.as_str())
                    .collect();
                let mut left_behind = BTreeSet::new();
                for mount in dropped {
                    for group in self.external_groups(&other.id, mount).await? {
                        left_behind.insert(group.id);
                    }
                }
                let groups = self.direct_groups(&other.id).await?;
                self.delete_entity_in(&mut change, other, other_seen);
                for group in groups {
                    self.leave(&mut change.batch, &group, &other.id);
                    if left_behind.contains(&group) {
                        continue;
                    }
                    if let Some((_, group_seen)) = self.group_seen(&group).await? {
                        let path = format!("group/{group}");
                        self.storage()
                            .expect_in(&mut change.batch, &path, &group_seen);
                        self.join(&mut change.batch, &group, to);
                    }
                }
                for alias in &other.aliases {
                    if kept.contains(&alias.id) {
                        let mut alias = alias.clone();
                        alias.merged_from.push(other.id.clone());
                        alias.updated = unix_now();
                        self.index_alias(&mut change.batch, &alias, to)?;
                        entity.aliases.push(alias);
                    }
                }
                for id in other.ids() {
                    let path = format!("merged/{id}");
                    self.storage().put_json_in(&mut change.batch, &path, to)?;
                    entity.merged.push(id);
                }
            }
            self.put_entity(&mut change, &mut entity, Some(&seen))?;
        })
    }
}

/// The ids of the aliases that stay: of each mount one. As in Vault, a conflict is settled only where one entity is
/// merged, and by naming the alias to keep.
fn settle_conflicts(to: &Entity, from: &[&Entity], keep: &[String]) -> Result<BTreeSet<String>> {
    let mut by_mount: BTreeMap<&str, Vec<&Alias>> = BTreeMap::new();
    for entity in std::iter::once(&to).chain(from) {
        for alias in &entity.aliases {
            by_mount.entry(&alias.mount).or_default().push(alias);
        }
    }
    let mut kept = BTreeSet::new();
    let mut used = BTreeSet::new();
    for (mount, aliases) in by_mount {
        let stays = match aliases.as_slice() {
            [only] => only,
            _ if from.len() > 1 => {
                return Err(Error::bad_request(format!(
                    "more than one of the entities has an alias at the mount {mount}: merge them one by one, with conflicting_alias_ids_to_keep"
                )));
            }
            both => {
                let named: Vec<_> = both.iter().filter(|a| keep.contains(&a.id)).collect();
                match named.as_slice() {
                    [one] => **one,
                    _ => {
                        let ids: Vec<&str> = both.iter().map(|a| a.id.as_str()).collect();
                        return Err(Error::bad_request(format!(
                            "both entities have an alias at the mount {mount}: name one of {} in conflicting_alias_ids_to_keep",
                            ids.join(", ")
                        )));
                    }
                }
            }
        };
        if aliases.len() > 1 {
            used.insert(stays.id.clone());
        }
        kept.insert(stays.id.clone());
    }
    if keep.iter().any(|id| !used.contains(id)) {
        return Err(Error::bad_request(
            "conflicting_alias_ids_to_keep: one of them is no alias in conflict",
        ));
    }
    Ok(kept)
}
