//! Groups: made, changed, found, listed, deleted; groups in groups, and never in a circle.

use std::collections::{BTreeMap, BTreeSet};

use obol_mount::{Error, Result};
use obol_storage::Seen;

use super::records::{Group, GroupKind};
use super::{Change, Identity, attempt, names};
use crate::core::unix_now;

/// What a client says of a group; what is absent stays as it is.
#[derive(Debug, Clone, Default)]
pub struct GroupFields {
    pub id: Option<String>,
    pub name: Option<String>,
    pub kind: Option<GroupKind>,
    pub metadata: Option<BTreeMap<String, String>>,
    /// Checked names.
    pub policies: Option<Vec<String>>,
    pub member_entities: Option<Vec<String>>,
    pub member_groups: Option<Vec<String>>,
}

impl Identity {
    pub async fn group(&self, id: &str) -> Result<Option<Group>> {
        self.find(id).await
    }

    /// The groups that a group is a member of.
    pub async fn parent_groups(&self, id: &str) -> Result<Vec<String>> {
        self.all_names(&format!("parents/{id}/")).await
    }

    /// Makes a group, or changes the one of the id or the name. `true`: it is new.
    pub async fn write_group(&self, fields: &GroupFields) -> Result<(Group, bool)> {
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
            let (mut group, seen) = match found {
                Some((group, seen)) => (group, Some(seen)),
                None => (
                    Group::new(fields.name.clone(), fields.kind.unwrap_or_default()),
                    None,
                ),
            };
            if fields.kind.is_some_and(|kind| kind != group.kind) {
                return Err(Error::bad_request("the type of a group cannot be changed"));
            }
            let old_name = (!is_new).then(|| group.name.clone());
            if let Some(name) = &fields.name {
                group.name.clone_from(name);
            }
            if let Some(metadata) = &fields.metadata {
                group.metadata.clone_from(metadata);
            }
            if let Some(policies) = &fields.policies {
                group.policies.clone_from(policies);
            }
            self.index_name(&mut change.batch, old_name.as_deref(), &group)?;
            if let Some(wanted) = &fields.member_entities {
                self.set_members(&mut change, &group, wanted).await?;
            }
            if let Some(wanted) = &fields.member_groups {
                self.set_member_groups(&mut change, &mut group, wanted)
                    .await?;
            }
            self.put_group(&mut change, &mut group, seen.as_ref())?;
            (group, is_new)
        })
    }

    pub async fn delete_group(&self, id: &str) -> Result<()> {
        attempt!(self, change, {
            let Some((group, seen)) = self.group_seen(id).await? else {
                return Ok(());
            };
            let view = self.storage();
            self.delete_record(&mut change.batch, &group, &seen);
            if let Some(alias) = &group.alias {
                self.unindex_group_alias(&mut change.batch, alias);
            }
            for child in &group.member_groups {
                view.delete_in(&mut change.batch, &format!("parents/{child}/{id}"));
            }
            for parent in self.parent_groups(id).await? {
                view.delete_in(&mut change.batch, &format!("parents/{id}/{parent}"));
                if let Some((mut parent, seen)) = self.group_seen(&parent).await? {
                    parent.member_groups.retain(|member| member != id);
                    self.put_group(&mut change, &mut parent, Some(&seen))?;
                }
            }
            view.put_in(&mut change.batch, &format!("leaving/{id}"), Vec::new());
            change.leaving.push(id.to_owned());
            change.groups = true;
        })
    }

    pub(super) async fn group_seen(&self, id: &str) -> Result<Option<(Group, Seen)>> {
        self.seen(id).await
    }

    /// Adds a group's record to a change. Without `seen` it must be new.
    pub(super) fn put_group(
        &self,
        change: &mut Change,
        group: &mut Group,
        seen: Option<&Seen>,
    ) -> Result<()> {
        group.updated = unix_now();
        group.modified += 1;
        self.put_record(&mut change.batch, group, seen)?;
        change.groups = true;
        Ok(())
    }

    async fn set_members(
        &self,
        change: &mut Change,
        group: &Group,
        wanted: &[String],
    ) -> Result<()> {
        if group.kind == GroupKind::External {
            return Err(Error::bad_request(
                "member_entity_ids: an external group has the members that logins say it has",
            ));
        }
        let wanted: BTreeSet<&String> = wanted.iter().collect();
        let current: BTreeSet<String> =
            self.member_entities(&group.id).await?.into_iter().collect();
        for (number, id) in wanted.iter().enumerate() {
            if current.contains(*id) {
                continue;
            }
            let Some((_, seen)) = self.entity_seen(id).await? else {
                return Err(Error::bad_request(format!(
                    "member_entity_ids: number {} of the list (sorted) is no entity's id",
                    number + 1
                )));
            };
            self.storage()
                .expect_in(&mut change.batch, &format!("entity/{id}"), &seen);
            self.join(&mut change.batch, &group.id, id);
        }
        for id in current.iter().filter(|id| !wanted.contains(id)) {
            self.leave(&mut change.batch, &group.id, id);
        }
        Ok(())
    }

    async fn set_member_groups(
        &self,
        change: &mut Change,
        group: &mut Group,
        wanted: &[String],
    ) -> Result<()> {
        if group.kind == GroupKind::External && !wanted.is_empty() {
            return Err(Error::bad_request(
                "member_group_ids: an external group cannot have member groups",
            ));
        }
        let wanted: BTreeSet<String> = wanted.iter().cloned().collect();
        let known: BTreeSet<String> = group.member_groups.iter().cloned().collect();
        for child in wanted.difference(&known) {
            let (mut record, seen) = self.group_seen(child).await?.ok_or_else(|| {
                Error::bad_request("member_group_ids: one of them is no group's id")
            })?;
            self.refuse_circle(change, group, child).await?;
            // The child's record changes too, so that it cannot be deleted at the same moment.
            self.put_group(change, &mut record, Some(&seen))?;
            let path = format!("parents/{child}/{}", group.id);
            self.storage().put_in(&mut change.batch, &path, Vec::new());
        }
        for child in known.difference(&wanted) {
            let path = format!("parents/{child}/{}", group.id);
            self.storage().delete_in(&mut change.batch, &path);
        }
        group.member_groups = wanted.into_iter().collect();
        Ok(())
    }

    /// A group must not be inside itself. Everything that was looked at must still be so at the commit: two changes
    /// that close a circle together are refused together.
    async fn refuse_circle(&self, change: &mut Change, group: &Group, child: &str) -> Result<()> {
        let mut seen_ids = BTreeSet::new();
        let mut waiting = vec![child.to_owned()];
        while let Some(id) = waiting.pop() {
            if id == group.id {
                return Err(Error::bad_request(
                    "member_group_ids: the group would be a member of itself",
                ));
            }
            if !seen_ids.insert(id.clone()) {
                continue;
            }
            if seen_ids.len() > MAX_GROUPS {
                return Err(Error::bad_request(format!(
                    "member_group_ids: more than {MAX_GROUPS} groups would be inside this one"
                )));
            }
            if let Some((inner, seen)) = self.group_seen(&id).await? {
                let path = format!("group/{id}");
                self.storage().expect_in(&mut change.batch, &path, &seen);
                waiting.extend(inner.member_groups);
            }
        }
        Ok(())
    }
}

/// How many groups may be inside one.
const MAX_GROUPS: usize = 10_000;
