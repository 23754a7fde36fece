//! Who is in which group: two index entries for each membership, always written together.

use obol_mount::Result;
use obol_storage::Batch;

use super::records::{Group, GroupKind};
use super::{Change, Identity, Inner, PAGE};

impl Identity {
    /// Clears what a crash left of entities and groups that are gone.
    pub async fn resume(&self) -> Result<()> {
        loop {
            let page = self.storage().list("leaving/", None, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for id in page {
                self.0.clear_memberships(&id).await?;
            }
        }
    }

    /// The entities that are in a group by themselves.
    pub async fn member_entities(&self, group: &str) -> Result<Vec<String>> {
        self.all_names(&format!("members/{group}/")).await
    }

    pub async fn count_members(&self, group: &str) -> Result<u64> {
        Ok(self.storage().count(&format!("members/{group}/")).await?)
    }

    /// The groups that an entity is in by itself.
    pub(super) async fn direct_groups(&self, entity: &str) -> Result<Vec<String>> {
        self.all_names(&format!("groups-of/{entity}/")).await
    }

    pub(super) fn join(&self, batch: &mut Batch, group: &str, entity: &str) {
        let view = self.storage();
        view.put_in(batch, &format!("members/{group}/{entity}"), Vec::new());
        view.put_in(batch, &format!("groups-of/{entity}/{group}"), Vec::new());
    }

    pub(super) fn leave(&self, batch: &mut Batch, group: &str, entity: &str) {
        let view = self.storage();
        view.delete_in(batch, &format!("members/{group}/{entity}"));
        view.delete_in(batch, &format!("groups-of/{entity}/{group}"));
    }

    /// The external groups of a mount that an entity is in.
    pub(super) async fn external_groups(&self, entity: &str, mount: &str) -> Result<Vec<Group>> {
        let mut found = Vec::new();
        for id in self.direct_groups(entity).await? {
            if let Some(group) = self.group(&id).await?
                && group.kind == GroupKind::External
                && group.alias.as_ref().is_some_and(|a| a.mount == mount)
            {
                found.push(group);
            }
        }
        Ok(found)
    }

    /// Takes an entity out of the external groups of a mount at which it has no alias any more: nobody would
    /// ever look at these memberships again (threats: `group-gone`).
    pub(super) async fn leave_external(
        &self,
        change: &mut Change,
        entity: &str,
        mount: &str,
    ) -> Result<()> {
        for group in self.external_groups(entity, mount).await? {
            self.leave(&mut change.batch, &group.id, entity);
        }
        Ok(())
    }

    /// Takes everybody out of a group.
    pub(super) async fn empty_group(&self, change: &mut Change, group: &str) -> Result<()> {
        for entity in self.member_entities(group).await? {
            self.leave(&mut change.batch, group, &entity);
        }
        change.groups = true;
        Ok(())
    }
}

impl Inner {
    /// Clears the memberships of an entity or a group that is gone, a page at a time, and then its mark. Whoever
    /// joins expects both records to be there, so none comes after; one that came just before is found here.
    pub(super) async fn clear_memberships(&self, id: &str) -> Result<()> {
        for (mine, theirs) in [("members", "groups-of"), ("groups-of", "members")] {
            loop {
                let page = self
                    .storage
                    .list(&format!("{mine}/{id}/"), None, PAGE)
                    .await?;
                if page.is_empty() {
                    break;
                }
                let mut batch = Batch::new();
                for other in &page {
                    self.storage
                        .delete_in(&mut batch, &format!("{mine}/{id}/{other}"));
                    self.storage
                        .delete_in(&mut batch, &format!("{theirs}/{other}/{id}"));
                }
                self.storage.commit(batch).await?;
            }
        }
        Ok(self.storage.delete(&format!("leaving/{id}")).await?)
    }
}
