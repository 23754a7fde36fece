//! From a login to its entity: found by the alias, or made in the same commit as the token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError};

use super::aliases::alias_path;
use super::group_aliases::group_alias_path;
use super::records::{Alias, Entity, GroupKind};
use super::{ATTEMPTS, Change, Identity, names};
use crate::core::Live;
use crate::core::mounts::MountEntry;
use crate::core::tokens::{IssueError, Issued, Limits, NewToken};
use crate::core::unix_now;

/// Who an auth method says has come.
#[derive(Debug, Clone)]
pub struct Who {
    /// The mount's accessor.
    mount: String,
    local: bool,
    /// The name at that mount.
    name: String,
    /// What the method says of them; `None` leaves what is known.
    metadata: Option<BTreeMap<String, String>>,
    /// The groups that the method says they are in; `None` when it does not say.
    groups: Option<Vec<String>>,
}

/// An entity to issue a token for, and what has to be committed with that.
pub(super) struct Binding {
    pub entity_id: String,
    pub(super) change: Change,
}

impl Who {
    pub fn new(mount: &MountEntry, name: &str) -> Self {
        Self {
            mount: mount.accessor.clone(),
            local: mount.local,
            name: name.to_owned(),
            metadata: None,
            groups: None,
        }
    }

    pub fn with_metadata(mut self, metadata: &BTreeMap<String, String>) -> Self {
        self.metadata = Some(metadata.clone());
        self
    }

    pub fn with_groups(mut self, groups: Vec<String>) -> Self {
        self.groups = Some(groups);
        self
    }
}

impl Live {
    /// Issues a token that belongs to an entity: who has no entity yet gets one, in the same commit. Of two first
    /// logins at once one makes the entity, and the other finds it.
    ///
    /// Also what makes a token with an `entity_alias` of a token role: `who` is the name at `auth/token`.
    pub async fn issue_for(
        self: &Arc<Self>,
        who: &Who,
        new: NewToken,
        limits: Limits,
        with: Batch,
        now: u64,
    ) -> Result<Issued, IssueError> {
        for _ in 0..ATTEMPTS {
            let Binding { entity_id, change } = self.identity.bind(who).await?;
            if change.batch.is_empty() {
                let new = NewToken { entity_id, ..new };
                return self.tokens.issue(new, limits, with, now).await;
            }
            let new = NewToken {
                entity_id,
                ..new.clone()
            };
            let mut batch = with.clone();
            batch.merge(change.batch);
            let live = self.clone();
            // Goes on when the client goes away: what is resolved must not stay older than what is stored.
            let work = tokio::spawn(async move {
                let issued = live.tokens.issue(new, limits, batch, now).await;
                live.identity.0.forget(&change.entities, change.groups);
                issued
            });
            match work.await.map_err(Error::internal)? {
                Err(IssueError::Conflict(StorageError::Conflict { path }))
                    if path.starts_with(self.identity.storage().prefix()) => {}
                done => return done,
            }
        }
        Err(Error::unavailable("identity is in heavy use; try again").into())
    }
}

impl Identity {
    /// Finds the entity behind an alias, or says what makes it.
    pub(super) async fn bind(&self, who: &Who) -> Result<Binding> {
        names::check("the name of who logs in", &who.name)?;
        let mut change = Change::default();
        let path = alias_path(&who.mount, &who.name);
        if let Some(entity_id) = self.unchanged(&path, who).await? {
            return Ok(Binding { entity_id, change });
        }
        let (entity, seen) = match self.alias_of_seen(&who.mount, &who.name).await? {
            Some((mut entity, seen, alias)) => {
                self.0.by_alias.insert(path, entity.id.as_str().into());
                if entity.disabled {
                    return Err(Error::forbidden().with_cause("the entity is disabled"));
                }
                if let Some(metadata) = &who.metadata
                    && alias.metadata != *metadata
                {
                    for alias in entity.aliases.iter_mut().filter(|a| a.id == alias.id) {
                        alias.metadata.clone_from(metadata);
                        alias.updated = unix_now();
                    }
                    self.put_entity(&mut change, &mut entity, Some(&seen))?;
                }
                (entity, Some(seen))
            }
            None => {
                let mut entity = Entity::new(None);
                let mut alias = Alias::new(&who.name, &who.mount);
                alias.local = who.local;
                alias.metadata = who.metadata.clone().unwrap_or_default();
                self.index_name(&mut change.batch, None, &entity)?;
                self.storage().expect_absent_in(&mut change.batch, &path);
                self.index_alias(&mut change.batch, &alias, &entity.id)?;
                entity.aliases.push(alias);
                self.put_entity(&mut change, &mut entity, None)?;
                (entity, None)
            }
        };
        if let Some(groups) = &who.groups
            && self
                .refresh_groups(&mut change, &entity, &who.mount, groups, seen.is_none())
                .await?
            && let Some(seen) = &seen
        {
            // It must still be there when it joins or leaves.
            let path = format!("entity/{}", entity.id);
            self.storage().expect_in(&mut change.batch, &path, seen);
        }
        Ok(Binding {
            entity_id: entity.id,
            change,
        })
    }

    /// The entity of somebody of whom the login says nothing new, which is what nearly every login finds: from what is
    /// resolved already, without storage. `None`: storage must be asked.
    async fn unchanged(&self, alias: &str, who: &Who) -> Result<Option<String>> {
        let Some(id) = self.0.by_alias.get(alias) else {
            return Ok(None);
        };
        let Some(found) = self.resolve(&id).await? else {
            return Ok(None);
        };
        let entity = &found.entity;
        // What the alias led to some time ago counts only while the entity says so too.
        let alias = entity
            .alias_at(&who.mount)
            .filter(|alias| names::same(&alias.name, &who.name));
        let is_same = alias.is_some_and(|alias| {
            let said = who.metadata.as_ref();
            !entity.disabled && said.is_none_or(|said| *said == alias.metadata)
        });
        if !is_same {
            return Ok(None);
        }
        if let Some(groups) = &who.groups {
            let wanted = self.groups_by_alias(&who.mount, groups).await?;
            if !found.external_groups(&who.mount).eq(&wanted) {
                return Ok(None);
            }
        }
        Ok(Some(entity.id.clone()))
    }

    /// The ids of the groups that have such aliases at a mount.
    async fn groups_by_alias(&self, mount: &str, names: &[String]) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        if !self.has_group_aliases(mount).await? {
            return Ok(found);
        }
        let paths: BTreeSet<String> = names
            .iter()
            .map(|name| group_alias_path(mount, name))
            .collect();
        for path in paths {
            // A name that is too long for a path is no alias' name.
            if path.len() < MAX_PATH {
                found.extend(self.id_at(&path).await?);
            }
        }
        Ok(found)
    }

    /// Renewals: the groups of an entity as the auth method knows them now.
    pub async fn refresh(&self, entity: &str, mount: &str, groups: &[String]) -> Result<()> {
        super::attempt!(self, change, {
            let id = match self.id_at(&format!("merged/{entity}")).await? {
                Some(now) => now,
                None => entity.to_owned(),
            };
            let Some((entity, seen)) = self.entity_seen(&id).await? else {
                return Err(Error::forbidden());
            };
            if self
                .refresh_groups(&mut change, &entity, mount, groups, false)
                .await?
            {
                let path = format!("entity/{id}");
                self.storage().expect_in(&mut change.batch, &path, &seen);
            }
        })
    }

    /// Makes an entity's memberships in the external groups of a mount what the login says. Whether that changes any.
    async fn refresh_groups(
        &self,
        change: &mut Change,
        entity: &Entity,
        mount: &str,
        groups: &[String],
        is_new: bool,
    ) -> Result<bool> {
        let wanted = self.groups_by_alias(mount, groups).await?;
        let current: BTreeSet<String> = match is_new {
            true => BTreeSet::new(),
            false => self
                .external_groups(&entity.id, mount)
                .await?
                .into_iter()
                .map(|group| group.id)
                .collect(),
        };
        if wanted == current {
            return Ok(false);
        }
        for id in wanted.difference(&current) {
            if let Some((group, seen)) = self.group_seen(id).await?
                && group.kind == GroupKind::External
            {
                let path = format!("group/{id}");
                self.storage().expect_in(&mut change.batch, &path, &seen);
                self.join(&mut change.batch, id, &entity.id);
            }
        }
        for id in current.difference(&wanted) {
            self.leave(&mut change.batch, id, &entity.id);
        }
        change.entities.extend(entity.ids());
        Ok(true)
    }
}

/// Less than what a storage path may have, with the prefix.
const MAX_PATH: usize = 3900;
