//! `identity/entity`: who is who.

use obol_mount::fields::{CommaList, Flag};
use obol_mount::{Cx, Data, DataOrNothing, Error, NoContent, Result, Routes, get, list, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shown::{Places, ShownAlias, ShownEntity};
use super::{
    IdInput, IdentityBackend, ListInput, Listing, Metadata, NameInput, PAGE, pages, policies,
};
use crate::core::identity::Entity;
use crate::core::identity::entities::EntityFields;

pub(super) fn routes() -> Routes<IdentityBackend> {
    Routes::new()
        .at(
            "entity",
            "Make an entity, or change the one of an id or a name",
            post(write),
        )
        .at("entity/id", "The ids of all entities", list(list_ids))
        .at(
            "entity/id/{id}",
            "One entity",
            get(read).post(write_by_id).delete(remove),
        )
        .at("entity/name", "The names of all entities", list(list_names))
        .at(
            "entity/name/{name*}",
            "One entity, by its name",
            get(read_by_name).post(write_by_name).delete(remove_by_name),
        )
        .at(
            "entity/merge",
            "Merge entities into one: aliases and memberships go over",
            post(merge),
        )
        .at(
            "entity/batch-delete",
            "Delete several entities at once",
            post(batch_delete),
        )
}

/// An entity to be made or changed; what is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
struct WriteInput {
    /// Changes the entity of this id.
    id: Option<String>,
    /// A name, compared without case; made up when a new entity has none. Without `id`, changes the entity of this name.
    name: Option<String>,
    /// Texts by name, for people and for templated policies.
    metadata: Option<Metadata>,
    /// Policies that all its tokens have besides their own; never `root`.
    policies: Option<CommaList>,
    /// A disabled entity cannot log in, and its tokens are refused as long as it is disabled.
    disabled: Option<Flag>,
}

/// An entity to be changed.
#[derive(Deserialize, JsonSchema)]
struct WriteByIdInput {
    id: String,
    /// A name, compared without case.
    name: Option<String>,
    /// Texts by name, for people and for templated policies.
    metadata: Option<Metadata>,
    /// Policies that all its tokens have besides their own; never `root`.
    policies: Option<CommaList>,
    /// A disabled entity cannot log in, and its tokens are refused as long as it is disabled.
    disabled: Option<Flag>,
}

/// An entity to be made or changed.
#[derive(Deserialize, JsonSchema)]
struct WriteByNameInput {
    name: String,
    /// Texts by name, for people and for templated policies.
    metadata: Option<Metadata>,
    /// Policies that all its tokens have besides their own; never `root`.
    policies: Option<CommaList>,
    /// A disabled entity cannot log in, and its tokens are refused as long as it is disabled.
    disabled: Option<Flag>,
}

/// What is merged.
#[derive(Deserialize, JsonSchema)]
struct MergeInput {
    /// The entities that become part of the other one and are gone afterwards.
    from_entity_ids: CommaList,
    /// The entity that stays.
    to_entity_id: String,
    /// Decides in Vault about secrets of second factors that both have. There are none here, so there is nothing
    /// to force: a conflict of aliases is settled by `conflicting_alias_ids_to_keep`.
    #[serde(default)]
    #[expect(dead_code, reason = "clients send it; see above")]
    force: Flag,
    /// Where both entities have an alias at one mount: the id of the one that stays. Only when one entity is merged.
    #[serde(default)]
    conflicting_alias_ids_to_keep: CommaList,
}

/// Which entities.
#[derive(Deserialize, JsonSchema)]
struct BatchInput {
    /// The ids of the entities to delete.
    entity_ids: CommaList,
}

/// A new entity.
#[derive(Serialize, JsonSchema)]
struct Created {
    id: String,
    name: String,
    /// The ids of its aliases; a new entity has none.
    aliases: Option<Vec<String>>,
}

/// What was made; nothing when it was only changed.
type Outcome = DataOrNothing<Created>;

async fn write(cx: Cx<IdentityBackend>, input: WriteInput) -> Result<Outcome> {
    let fields = EntityFields {
        id: input.id.filter(|id| !id.is_empty()),
        name: input.name.filter(|name| !name.is_empty()),
        metadata: input.metadata.map(|m| m.0),
        policies: policies(input.policies)?,
        disabled: input.disabled.map(|flag| flag.0),
    };
    let (entity, is_new) = cx.live()?.identity.write_entity(&fields).await?;
    Ok(DataOrNothing(is_new.then_some(Created {
        id: entity.id,
        name: entity.name,
        aliases: None,
    })))
}

async fn write_by_id(cx: Cx<IdentityBackend>, input: WriteByIdInput) -> Result<Outcome> {
    let input = WriteInput {
        id: Some(input.id),
        name: input.name,
        metadata: input.metadata,
        policies: input.policies,
        disabled: input.disabled,
    };
    write(cx, input).await
}

async fn write_by_name(cx: Cx<IdentityBackend>, input: WriteByNameInput) -> Result<Outcome> {
    let input = WriteInput {
        id: None,
        name: Some(input.name),
        metadata: input.metadata,
        policies: input.policies,
        disabled: input.disabled,
    };
    write(cx, input).await
}

async fn read(cx: Cx<IdentityBackend>, input: IdInput) -> Result<Option<Data<ShownEntity>>> {
    let live = cx.live()?;
    match live.identity.entity(&input.id).await? {
        Some(entity) => Ok(Some(Data(ShownEntity::of(entity, &live).await?))),
        None => Ok(None),
    }
}

async fn read_by_name(
    cx: Cx<IdentityBackend>,
    input: NameInput,
) -> Result<Option<Data<ShownEntity>>> {
    let live = cx.live()?;
    match live.identity.entity_by_name(&input.name).await? {
        Some(entity) => Ok(Some(Data(ShownEntity::of(entity, &live).await?))),
        None => Ok(None),
    }
}

async fn remove(cx: Cx<IdentityBackend>, input: IdInput) -> Result<NoContent> {
    cx.live()?.identity.delete_entities(&[input.id]).await?;
    Ok(NoContent)
}

async fn remove_by_name(cx: Cx<IdentityBackend>, input: NameInput) -> Result<NoContent> {
    let live = cx.live()?;
    if let Some(entity) = live.identity.entity_by_name(&input.name).await? {
        live.identity.delete_entities(&[entity.id]).await?;
    }
    Ok(NoContent)
}

async fn batch_delete(cx: Cx<IdentityBackend>, input: BatchInput) -> Result<NoContent> {
    if input.entity_ids.0.is_empty() {
        return Err(Error::bad_request("entity_ids may not be empty"));
    }
    cx.live()?
        .identity
        .delete_entities(&input.entity_ids.0)
        .await?;
    Ok(NoContent)
}

async fn merge(cx: Cx<IdentityBackend>, input: MergeInput) -> Result<NoContent> {
    cx.live()?
        .identity
        .merge(
            &input.from_entity_ids.0,
            &input.to_entity_id,
            &input.conflicting_alias_ids_to_keep.0,
        )
        .await?;
    Ok(NoContent)
}

/// An entity in a listing.
#[derive(Serialize, JsonSchema)]
struct EntityInfo {
    name: String,
    aliases: Vec<ShownAlias>,
}

async fn list_ids(
    cx: Cx<IdentityBackend>,
    input: ListInput,
) -> Result<Option<Data<Listing<EntityInfo>>>> {
    let live = cx.live()?;
    let all = pages!(
        input,
        async |after: Option<String>, limit| live.identity.entities(after.as_deref(), limit).await,
        |entity: &Entity| entity.id.clone()
    );
    Ok(listing(&Places::of(&live), all, |entity| entity.id.clone()))
}

async fn list_names(
    cx: Cx<IdentityBackend>,
    input: ListInput,
) -> Result<Option<Data<Listing<EntityInfo>>>> {
    let live = cx.live()?;
    let all = pages!(
        input,
        async |after: Option<String>, limit| live
            .identity
            .entities_by_name(after.as_deref(), limit)
            .await,
        |entity: &Entity| entity.name.clone()
    );
    Ok(listing(&Places::of(&live), all, |entity| {
        entity.name.clone()
    }))
}

fn listing(
    places: &Places,
    all: Vec<Entity>,
    key: impl Fn(&Entity) -> String,
) -> Option<Data<Listing<EntityInfo>>> {
    (!all.is_empty()).then(|| {
        Data(Listing {
            keys: all.iter().map(key).collect(),
            key_info: all
                .into_iter()
                .map(|entity| {
                    let aliases = entity
                        .aliases
                        .iter()
                        .map(|alias| ShownAlias::of(alias, &entity.id, places))
                        .collect();
                    let name = entity.name;
                    (entity.id, EntityInfo { name, aliases })
                })
                .collect(),
        })
    })
}
