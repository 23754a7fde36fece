//! `identity/entity-alias` and `identity/group-alias`: the names of entities and external groups at auth methods.

use obol_mount::{Cx, Data, Error, NoContent, Result, Routes, get, list, post};
use schemars::JsonSchema;
use serde::Deserialize;

use super::shown::{Places, ShownAlias};
use super::{
    AliasOut, IdInput, IdentityBackend, ListInput, Listing, Metadata, PAGE, auth_mount, pages,
};
use crate::core::Live;
use crate::core::identity::aliases::AliasFields;
use crate::core::identity::{Alias, Entity, Group};

pub(super) fn routes() -> Routes<IdentityBackend> {
    Routes::new()
        .at(
            "entity-alias",
            "Make an alias of an entity, or change the one of an id, or of a mount and name",
            post(write),
        )
        .at(
            "entity-alias/id",
            "The ids of all entity aliases",
            list(list_aliases),
        )
        .at(
            "entity-alias/id/{id}",
            "One alias of an entity",
            get(read).post(write_by_id).delete(remove),
        )
        .at(
            "group-alias",
            "Make the alias of an external group, or change the one of an id, or of a mount and name",
            post(write_group),
        )
        .at(
            "group-alias/id",
            "The ids of all group aliases",
            list(list_group_aliases),
        )
        .at(
            "group-alias/id/{id}",
            "One alias of an external group",
            get(read_group).post(write_group_by_id).delete(remove_group),
        )
}

/// An alias to be made or changed; what is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
struct WriteInput {
    /// Changes the alias of this id.
    id: Option<String>,
    /// The name at the auth method, compared without case.
    name: Option<String>,
    /// The accessor of the auth method.
    mount_accessor: Option<String>,
    /// The id of the entity; a new alias without it gets a new entity.
    canonical_id: Option<String>,
    /// Texts by name, for templated policies; no login changes them.
    custom_metadata: Option<Metadata>,
}

/// An alias to be changed.
#[derive(Deserialize, JsonSchema)]
struct WriteByIdInput {
    id: String,
    /// The name at the auth method, compared without case.
    name: Option<String>,
    /// The accessor of the auth method.
    mount_accessor: Option<String>,
    /// The id of the entity that it belongs to from now on.
    canonical_id: Option<String>,
    /// Texts by name, for templated policies; no login changes them.
    custom_metadata: Option<Metadata>,
}

/// A group's alias to be made or changed; what is left out stays as it is. The members of a group are forgotten when
/// its alias becomes another.
#[derive(Deserialize, JsonSchema)]
struct WriteGroupInput {
    /// Changes the alias of this id.
    id: Option<String>,
    /// The group's name at the auth method, compared without case.
    name: Option<String>,
    /// The accessor of the auth method.
    mount_accessor: Option<String>,
    /// The id of an external group; a new alias without it gets a new group.
    canonical_id: Option<String>,
}

/// A group's alias to be changed.
#[derive(Deserialize, JsonSchema)]
struct WriteGroupByIdInput {
    id: String,
    /// The group's name at the auth method, compared without case.
    name: Option<String>,
    /// The accessor of the auth method.
    mount_accessor: Option<String>,
    /// The id of the external group that it belongs to from now on.
    canonical_id: Option<String>,
}

fn fields(live: &Live, input: WriteInput) -> Result<AliasFields> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let mount = given(input.mount_accessor);
    let local = match &mount {
        Some(accessor) => auth_mount(live, accessor)?.entry.local,
        None => false,
    };
    Ok(AliasFields {
        id: given(input.id),
        name: given(input.name),
        mount,
        local,
        owner: given(input.canonical_id),
        custom_metadata: input.custom_metadata.map(|m| m.0),
    })
}

async fn write(cx: Cx<IdentityBackend>, input: WriteInput) -> Result<Data<AliasOut>> {
    let live = cx.live()?;
    let fields = fields(&live, input)?;
    let (id, canonical_id) = live.identity.write_alias(&fields).await?;
    Ok(Data(AliasOut { id, canonical_id }))
}

async fn write_by_id(cx: Cx<IdentityBackend>, input: WriteByIdInput) -> Result<Data<AliasOut>> {
    let input = WriteInput {
        id: Some(input.id),
        name: input.name,
        mount_accessor: input.mount_accessor,
        canonical_id: input.canonical_id,
        custom_metadata: input.custom_metadata,
    };
    write(cx, input).await
}

async fn write_group(cx: Cx<IdentityBackend>, input: WriteGroupInput) -> Result<Data<AliasOut>> {
    let live = cx.live()?;
    let input = WriteInput {
        id: input.id,
        name: input.name,
        mount_accessor: input.mount_accessor,
        canonical_id: input.canonical_id,
        custom_metadata: None,
    };
    let fields = fields(&live, input)?;
    let (id, canonical_id) = live.identity.write_group_alias(&fields).await?;
    Ok(Data(AliasOut { id, canonical_id }))
}

async fn write_group_by_id(
    cx: Cx<IdentityBackend>,
    input: WriteGroupByIdInput,
) -> Result<Data<AliasOut>> {
    let input = WriteGroupInput {
        id: Some(input.id),
        name: input.name,
        mount_accessor: input.mount_accessor,
        canonical_id: input.canonical_id,
    };
    write_group(cx, input).await
}

async fn read(cx: Cx<IdentityBackend>, input: IdInput) -> Result<Data<ShownAlias>> {
    let live = cx.live()?;
    let found = live.identity.alias(&input.id).await?;
    let (entity, alias) = found.ok_or_else(Error::not_found)?;
    Ok(Data(ShownAlias::of(&alias, &entity.id, &Places::of(&live))))
}

async fn read_group(cx: Cx<IdentityBackend>, input: IdInput) -> Result<Data<ShownAlias>> {
    let live = cx.live()?;
    let found = live.identity.group_alias(&input.id).await?;
    let (group, alias) = found.ok_or_else(Error::not_found)?;
    Ok(Data(ShownAlias::of(&alias, &group.id, &Places::of(&live))))
}

async fn remove(cx: Cx<IdentityBackend>, input: IdInput) -> Result<NoContent> {
    cx.live()?.identity.delete_alias(&input.id).await?;
    Ok(NoContent)
}

async fn remove_group(cx: Cx<IdentityBackend>, input: IdInput) -> Result<NoContent> {
    cx.live()?.identity.delete_group_alias(&input.id).await?;
    Ok(NoContent)
}

async fn list_aliases(
    cx: Cx<IdentityBackend>,
    input: ListInput,
) -> Result<Option<Data<Listing<ShownAlias>>>> {
    let live = cx.live()?;
    let all = pages!(
        input,
        async |after: Option<String>, limit| live.identity.aliases(after.as_deref(), limit).await,
        |(_, alias): &(Entity, Alias)| alias.id.clone()
    );
    let all = all.into_iter().map(|(entity, alias)| (entity.id, alias));
    Ok(listing(&Places::of(&live), all.collect()))
}

async fn list_group_aliases(
    cx: Cx<IdentityBackend>,
    input: ListInput,
) -> Result<Option<Data<Listing<ShownAlias>>>> {
    let live = cx.live()?;
    let all = pages!(
        input,
        async |after: Option<String>, limit| live
            .identity
            .group_aliases(after.as_deref(), limit)
            .await,
        |(_, alias): &(Group, Alias)| alias.id.clone()
    );
    let all = all.into_iter().map(|(group, alias)| (group.id, alias));
    Ok(listing(&Places::of(&live), all.collect()))
}

fn listing(places: &Places, all: Vec<(String, Alias)>) -> Option<Data<Listing<ShownAlias>>> {
    (!all.is_empty()).then(|| {
        Data(Listing {
            keys: all.iter().map(|(_, alias)| alias.id.clone()).collect(),
            key_info: all
                .iter()
                .map(|(owner, alias)| (alias.id.clone(), ShownAlias::of(alias, owner, places)))
                .collect(),
        })
    })
}
