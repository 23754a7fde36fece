//! Whether entities, groups and their indexes agree: for `obol operator check`. Reads in pages; what seems wrong is
//! looked at again before it is told, since others may be at work.

use obol_mount::Result;

use super::records::{Alias, Entity, Group};
use super::{Identity, PAGE, names};
use crate::core::leases::Inconsistency;

impl Identity {
    /// Everything that is wrong with entities, groups and their indexes, at most `limit` findings.
    pub async fn inconsistencies(&self, limit: usize) -> Result<Vec<Inconsistency>> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while found.len() < limit {
            let page = self
                .storage()
                .scan_folder("", after.as_deref(), PAGE)
                .await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (path, _) in &page {
                if let Some(what) = self.what_is_wrong(path).await?
                    && self.storage().get(path).await?.is_some()
                    && self.what_is_wrong(path).await? == Some(what)
                {
                    found.push(Inconsistency {
                        path: self.storage().full(path),
                        what,
                    });
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn what_is_wrong(&self, path: &str) -> Result<Option<&'static str>> {
        let parts: Vec<&str> = path.split('/').collect();
        let fault = |good: bool, what: &'static str| (!good).then_some(what);
        Ok(match parts.as_slice() {
            ["entity", id] => match self.entity(id).await? {
                Some(entity) => self.of_entity(&entity).await?,
                None => None,
            },
            ["group", id] => match self.group(id).await? {
                Some(group) => self.of_group(&group).await?,
                None => None,
            },
            ["entity-name", key] => {
                let entity = self.entity_at(path).await?;
                let good = entity.is_some_and(|e| names::key(&e.name) == **key);
                fault(good, "a name without its entity")
            }
            ["alias", id] => {
                let entity = self.entity_at(path).await?;
                let good = entity.is_some_and(|e| e.aliases.iter().any(|a| a.id == **id));
                fault(good, "an alias without its entity")
            }
            ["alias-of", mount, key] => {
                let entity = self.entity_at(path).await?;
                let good = entity.is_some_and(|e| is_at(e.alias_at(mount), mount, key));
                fault(good, "an alias' name without its entity")
            }
            ["merged", id] => {
                let entity = self.entity_at(path).await?;
                let good = entity.is_some_and(|e| e.merged.iter().any(|m| m == id));
                fault(good, "a merged entity without the one that it became")
            }
            ["group-name", key] => {
                let group = self.group_at(path).await?;
                let good = group.is_some_and(|g| names::key(&g.name) == **key);
                fault(good, "a name without its group")
            }
            ["group-alias", id] => {
                let group = self.group_at(path).await?;
                let good = group.is_some_and(|g| g.alias.is_some_and(|a| a.id == **id));
                fault(good, "a group's alias without its group")
            }
            ["group-alias-of", mount, key] => {
                let group = self.group_at(path).await?;
                let good = group.is_some_and(|g| is_at(g.alias.as_ref(), mount, key));
                fault(good, "a group alias' name without its group")
            }
            ["members", group, entity] => {
                let other = format!("groups-of/{entity}/{group}");
                self.of_membership(group, entity, &other).await?
            }
            ["groups-of", entity, group] => {
                let other = format!("members/{group}/{entity}");
                self.of_membership(group, entity, &other).await?
            }
            ["parents", child, parent] => {
                let group = self.group(parent).await?;
                let good = group.is_some_and(|g| g.member_groups.iter().any(|m| m == child));
                fault(good, "a group inside another that does not know it")
            }
            // Taken up by itself.
            ["leaving", _] => None,
            _ => Some("a path that nothing here writes"),
        })
    }

    async fn of_entity(&self, entity: &Entity) -> Result<Option<&'static str>> {
        let name = format!("entity-name/{}", names::key(&entity.name));
        if !self.leads_to(&name, &entity.id).await? {
            return Ok(Some("an entity that its name does not lead to"));
        }
        for alias in &entity.aliases {
            let place = super::aliases::alias_path(&alias.mount, &alias.name);
            if !self.leads_to(&place, &entity.id).await?
                || !self
                    .leads_to(&format!("alias/{}", alias.id), &entity.id)
                    .await?
            {
                return Ok(Some("an entity that its alias does not lead to"));
            }
        }
        for merged in &entity.merged {
            if !self
                .leads_to(&format!("merged/{merged}"), &entity.id)
                .await?
            {
                return Ok(Some("an entity that one merged into it does not lead to"));
            }
        }
        Ok(None)
    }

    async fn of_group(&self, group: &Group) -> Result<Option<&'static str>> {
        let name = format!("group-name/{}", names::key(&group.name));
        if !self.leads_to(&name, &group.id).await? {
            return Ok(Some("a group that its name does not lead to"));
        }
        if let Some(alias) = &group.alias {
            let place = super::group_aliases::group_alias_path(&alias.mount, &alias.name);
            if !self.leads_to(&place, &group.id).await?
                || !self
                    .leads_to(&format!("group-alias/{}", alias.id), &group.id)
                    .await?
            {
                return Ok(Some("a group that its alias does not lead to"));
            }
        }
        for child in &group.member_groups {
            let path = format!("parents/{child}/{}", group.id);
            if self.group(child).await?.is_none() || self.storage().get(&path).await?.is_none() {
                return Ok(Some("a group with a member group that does not know it"));
            }
        }
        Ok(None)
    }

    async fn of_membership(
        &self,
        group: &str,
        entity: &str,
        other: &str,
    ) -> Result<Option<&'static str>> {
        // Memberships of what is gone are being cleared as long as there is a mark.
        for id in [group, entity] {
            let mark = format!("leaving/{id}");
            if self.storage().get(&mark).await?.is_some() {
                return Ok(None);
            }
        }
        if self.group(group).await?.is_none() || self.entity(entity).await?.is_none() {
            return Ok(Some("a membership without its group or entity"));
        }
        let both = self.storage().get(other).await?.is_some();
        Ok((!both).then_some("a membership that only one side knows"))
    }

    async fn leads_to(&self, path: &str, id: &str) -> Result<bool> {
        Ok(self.id_at(path).await?.as_deref() == Some(id))
    }

    async fn entity_at(&self, path: &str) -> Result<Option<Entity>> {
        match self.id_at(path).await? {
            Some(id) => self.entity(&id).await,
            None => Ok(None),
        }
    }

    async fn group_at(&self, path: &str) -> Result<Option<Group>> {
        match self.id_at(path).await? {
            Some(id) => self.group(&id).await,
            None => Ok(None),
        }
    }
}

/// Whether an alias is the one of a mount and a name's key.
fn is_at(alias: Option<&Alias>, mount: &str, key: &str) -> bool {
    alias.is_some_and(|alias| alias.mount == mount && names::key(&alias.name) == key)
}
