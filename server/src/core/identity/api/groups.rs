//! `identity/group`: policies for many at once.

use obol_mount::fields::CommaList;
use obol_mount::{Cx, Data, DataOrNothing, NoContent, Result, Routes, get, list, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shown::ShownGroup;
use super::{
    IdInput, IdentityBackend, ListInput, Listing, Metadata, NameInput, PAGE, pages, policies,
};
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
        .at("group/id", "The ids of all groups", list(list_ids))
        .at(
            "group/id/{id}",
            "One group",
            get(read).post(write_by_id).delete(remove),
        )
        .at("group/name", "The names of all groups", list(list_names))
        .at(
            "group/name/{name*}",
            "One group, by its name",
            get(read_by_name).post(write_by_name).delete(remove_by_name),
        )
}

/// A group to be made or changed; what is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
struct WriteInput {
    /// Changes the group of this id.
    id: Option<String>,
    /// A name, compared without case; made up when a new group has none. Without `id`, changes the group of this name.
    name: Option<String>,
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

/// A group to be changed.
#[derive(Deserialize, JsonSchema)]
struct WriteByIdInput {
    id: String,
    /// A name, compared without case.
    name: Option<String>,
    /// `internal` or `external`, as it is: it never changes.
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

/// A group to be made or changed.
#[derive(Deserialize, JsonSchema)]
struct WriteByNameInput {
    name: String,
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
        kind: input.kind,
        metadata: input.metadata.map(|m| m.0),
        policies: policies(input.policies)?,
        member_entities: input.member_entity_ids.map(|list| list.0),
        member_groups: input.member_group_ids.map(|list| list.0),
    };
    let (group, is_new) = cx.live()?.identity.write_group(&fields).await?;
    Ok(DataOrNothing(is_new.then_some(Created {
        id: group.id,
        name: group.name,
    })))
}

async fn write_by_id(cx: Cx<IdentityBackend>, input: WriteByIdInput) -> Result<Outcome> {
    let input = WriteInput {
        id: Some(input.id),
        name: input.name,
        kind: input.kind,
        metadata: input.metadata,
        policies: input.policies,
        member_entity_ids: input.member_entity_ids,
        member_group_ids: input.member_group_ids,
    };
    write(cx, input).await
}

async fn write_by_name(cx: Cx<IdentityBackend>, input: WriteByNameInput) -> Result<Outcome> {
    let input = WriteInput {
        id: None,
        name: Some(input.name),
        kind: input.kind,
        metadata: input.metadata,
        policies: input.policies,
        member_entity_ids: input.member_entity_ids,
        member_group_ids: input.member_group_ids,
    };
    write(cx, input).await
}

async fn read(cx: Cx<IdentityBackend>, input: IdInput) -> Result<Option<Data<ShownGroup>>> {
    let live = cx.live()?;
    match live.identity.group(&input.id).await? {
        Some(group) => Ok(Some(Data(ShownGroup::of(group, &live).await?))),
        None => Ok(None),
    }
}

async fn read_by_name(
    cx: Cx<IdentityBackend>,
    input: NameInput,
) -> Result<Option<Data<ShownGroup>>> {
    let live = cx.live()?;
    match live.identity.group_by_name(&input.name).await? {
        Some(group) => Ok(Some(Data(ShownGroup::of(group, &live).await?))),
        None => Ok(None),
    }
}

async fn remove(cx: Cx<IdentityBackend>, input: IdInput) -> Result<NoContent> {
    cx.live()?.identity.delete_group(&input.id).await?;
    Ok(NoContent)
}

async fn remove_by_name(cx: Cx<IdentityBackend>, input: NameInput) -> Result<NoContent> {
    let live = cx.live()?;
    if let Some(group) = live.identity.group_by_name(&input.name).await? {
        live.identity.delete_group(&group.id).await?;
    }
    Ok(NoContent)
}

/// A group in a listing.
#[derive(Serialize, JsonSchema)]
struct GroupInfo {
    name: String,
    num_member_entities: u64,
    num_parent_groups: usize,
}

async fn list_ids(
    cx: Cx<IdentityBackend>,
    input: ListInput,
) -> Result<Option<Data<Listing<GroupInfo>>>> {
    let live = cx.live()?;
    let all = pages!(
        input,
        async |after: Option<String>, limit| live.identity.groups(after.as_deref(), limit).await,
        |group: &Group| group.id.clone()
    );
    listing(&live, all, |group| group.id.clone()).await
}

async fn list_names(
    cx: Cx<IdentityBackend>,
    input: ListInput,
) -> Result<Option<Data<Listing<GroupInfo>>>> {
    let live = cx.live()?;
    let all = pages!(
        input,
        async |after: Option<String>, limit| live
            .identity
            .groups_by_name(after.as_deref(), limit)
            .await,
        |group: &Group| group.name.clone()
    );
    listing(&live, all, |group| group.name.clone()).await
}

async fn listing(
    live: &Live,
    all: Vec<Group>,
    key: impl Fn(&Group) -> String,
) -> Result<Option<Data<Listing<GroupInfo>>>> {
    if all.is_empty() {
        return Ok(None);
    }
    let keys = all.iter().map(key).collect();
    let mut key_info = std::collections::BTreeMap::new();
    for group in all {
        let info = GroupInfo {
            num_member_entities: live.identity.count_members(&group.id).await?,
            num_parent_groups: live.identity.parent_groups(&group.id).await?.len(),
            name: group.name,
        };
        key_info.insert(group.id, info);
    }
    Ok(Some(Data(Listing { keys, key_info })))
}
