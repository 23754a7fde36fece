//! `identity/group`: policies for many at once.

use obol_mount::fields::CommaList;
use obol_mount::{Result, Routes, get, list, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named::{self, Named, Which};
use super::shown::{Places, ShownGroup};
use super::{IdentityBackend, Metadata, policies};
use crate::core::Live;
use crate::core::identity::groups::GroupFields;
use crate::core::identity::{Group, GroupKind};

pub(super) fn routes() -> Routes<IdentityBackend> {
    Routes::new()
        .at(
            "group",
            "Make a group, or change the one of an id or a name",
            post(named::write::<Group>),
        )
        .at(
            "group/id",
            "The ids of all groups",
            list(named::list_ids::<Group>),
        )
        .at(
            "group/id/{id}",
            "One group",
            get(named::read::<Group>)
                .post(named::write_by_id::<Group>)
                .delete(named::remove::<Group>),
        )
        .at(
            "group/name",
            "The names of all groups",
            list(named::list_names::<Group>),
        )
        .at(
            "group/name/{name*}",
            "One group, by its name",
            get(named::read_by_name::<Group>)
                .post(named::write_by_name::<Group>)
                .delete(named::remove_by_name::<Group>),
        )
}

/// What a group has besides its name.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Fields {
    /// `internal` (the default): you name the members. `external`: those of its alias, as logins say. Never changes.
    #[serde(rename = "type")]
    kind: Option<GroupKind>,
    /// Texts by name, for people and for templated policies.
    metadata: Option<Metadata>,
    /// Policies that all members have; never `root`.
    policies: Option<CommaList>,
    /// The ids of the entities that are members. Of an internal group only.
    member_entity_ids: Option<CommaList>,
    /// The ids of the groups whose members are members here too. Of an internal group only.
    member_group_ids: Option<CommaList>,
}

/// A new group.
#[derive(Serialize, JsonSchema)]
pub(super) struct Created {
    /// The id that it was given.
    id: String,
    /// Its name; one that was made up where none was asked for.
    name: String,
}

/// A group in a listing.
#[derive(Serialize, JsonSchema)]
pub(super) struct GroupInfo {
    /// The name of the group.
    name: String,
    /// How many entities are members by themselves.
    num_member_entities: u64,
    /// How many groups it is a member of by itself.
    num_parent_groups: usize,
}

impl Named for Group {
    type Shown = ShownGroup;
    type Info = GroupInfo;
    type Fields = Fields;
    type Created = Created;

    async fn write(live: &Live, which: Which, fields: Fields) -> Result<Option<Created>> {
        let fields = GroupFields {
            id: which.id,
            name: which.name,
            kind: fields.kind,
            metadata: fields.metadata.map(|m| m.0),
            policies: policies(fields.policies)?,
            member_entities: fields.member_entity_ids.map(|list| list.0),
            member_groups: fields.member_group_ids.map(|list| list.0),
        };
        let (group, is_new) = live.identity.write_group(&fields).await?;
        Ok(is_new.then_some(Created {
            id: group.id,
            name: group.name,
        }))
    }

    async fn shown(self, live: &Live) -> Result<ShownGroup> {
        ShownGroup::of(self, live).await
    }

    async fn info(self, live: &Live, _: &Places) -> Result<GroupInfo> {
        Ok(GroupInfo {
            num_member_entities: live.identity.count_members(&self.id).await?,
            num_parent_groups: live.identity.parent_groups(&self.id).await?.len(),
            name: self.name,
        })
    }

    async fn of_alias(live: &Live, id: &str) -> Result<Option<Self>> {
        let found = live.identity.group_alias(id).await?;
        Ok(found.map(|(group, _)| group))
    }

    async fn of_alias_at(live: &Live, mount: &str, name: &str) -> Result<Option<Self>> {
        let found = live.identity.group_alias_of(mount, name).await?;
        Ok(found.map(|(group, _)| group))
    }

    async fn delete(live: &Live, id: String) -> Result<()> {
        live.identity.delete_group(&id).await
    }
}
