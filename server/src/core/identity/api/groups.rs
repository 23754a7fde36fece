//! `identity/group`: policies for many at once.

use obol_mount::fields::CommaList;
use obol_mount::{Cx, DataOrNothing, Result, Routes, get, list, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named::{self, Named};
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
            post(write),
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
                .post(write_by_id)
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
                .post(write_by_name)
                .delete(named::remove_by_name::<Group>),
        )
}

/// A group to be made or changed; what is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
struct WriteInput {
    /// Changes the group of this id.
    id: Option<String>,
    /// A name, compared without case; made up when a new group has none. Without `id`, changes the group of this name.
    name: Option<String>,
    #[serde(flatten)]
    fields: Fields,
}

/// A group to be changed.
#[derive(Deserialize, JsonSchema)]
struct WriteByIdInput {
    id: String,
    /// A name, compared without case.
    name: Option<String>,
    #[serde(flatten)]
    fields: Fields,
}

/// A group to be made or changed.
#[derive(Deserialize, JsonSchema)]
struct WriteByNameInput {
    name: String,
    #[serde(flatten)]
    fields: Fields,
}

/// What a group has besides its name.
#[derive(Deserialize, JsonSchema)]
struct Fields {
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
struct Created {
    id: String,
    name: String,
}

/// What was made; nothing when it was only changed.
type Outcome = DataOrNothing<Created>;

async fn write(cx: Cx<IdentityBackend>, input: WriteInput) -> Result<Outcome> {
    let fields = GroupFields {
        id: input.id.filter(|id| !id.is_empty()),
        name: input.name.filter(|name| !name.is_empty()),
        kind: input.fields.kind,
        metadata: input.fields.metadata.map(|m| m.0),
        policies: policies(input.fields.policies)?,
        member_entities: input.fields.member_entity_ids.map(|list| list.0),
        member_groups: input.fields.member_group_ids.map(|list| list.0),
    };
    let (group, is_new) = cx.live()?.identity.write_group(&fields).await?;
    Ok(DataOrNothing(is_new.then_some(Created {
        id: group.id,
        name: group.name,
    })))
}

async fn write_by_id(cx: Cx<IdentityBackend>, input: WriteByIdInput) -> Result<Outcome> {
    let WriteByIdInput { id, name, fields } = input;
    let id = Some(id);
    write(cx, WriteInput { id, name, fields }).await
}

async fn write_by_name(cx: Cx<IdentityBackend>, input: WriteByNameInput) -> Result<Outcome> {
    let WriteByNameInput { name, fields } = input;
    let (id, name) = (None, Some(name));
    write(cx, WriteInput { id, name, fields }).await
}

/// A group in a listing.
#[derive(Serialize, JsonSchema)]
pub(super) struct GroupInfo {
    name: String,
    num_member_entities: u64,
    num_parent_groups: usize,
}

impl Named for Group {
    type Shown = ShownGroup;
    type Info = GroupInfo;

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
