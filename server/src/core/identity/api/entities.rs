//! `identity/entity`: who is who.

use obol_mount::fields::{CommaList, Flag};
use obol_mount::{Cx, Error, NoContent, Result, Routes, get, list, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named::{self, Named, Which};
use super::shown::{Places, ShownAlias, ShownEntity};
use super::{IdentityBackend, Metadata, policies};
use crate::core::Live;
use crate::core::identity::Entity;
use crate::core::identity::entities::EntityFields;

pub(super) fn routes() -> Routes<IdentityBackend> {
    Routes::new()
        .at(
            "entity",
            "Make an entity, or change the one of an id or a name",
            post(named::write::<Entity>),
        )
        .at(
            "entity/id",
            "The ids of all entities",
            list(named::list_ids::<Entity>),
        )
        .at(
            "entity/id/{id}",
            "One entity",
            get(named::read::<Entity>)
                .post(named::write_by_id::<Entity>)
                .delete(named::remove::<Entity>),
        )
        .at(
            "entity/name",
            "The names of all entities",
            list(named::list_names::<Entity>),
        )
        .at(
            "entity/name/{name*}",
            "One entity, by its name",
            get(named::read_by_name::<Entity>)
                .post(named::write_by_name::<Entity>)
                .delete(named::remove_by_name::<Entity>),
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

/// What an entity has besides its name.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Fields {
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
pub(super) struct Created {
    /// The id that it was given.
    id: String,
    /// Its name; one that was made up where none was asked for.
    name: String,
    /// The ids of its aliases; a new entity has none.
    aliases: Option<Vec<String>>,
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
pub(super) struct EntityInfo {
    /// The name of the entity.
    name: String,
    /// Its names at the auth methods, at most one for each.
    aliases: Vec<ShownAlias>,
}

impl Named for Entity {
    type Shown = ShownEntity;
    type Info = EntityInfo;
    type Fields = Fields;
    type Created = Created;

    async fn write(live: &Live, which: Which, fields: Fields) -> Result<Option<Created>> {
        let fields = EntityFields {
            id: which.id,
            name: which.name,
            metadata: fields.metadata.map(|m| m.0),
            policies: policies(fields.policies)?,
            disabled: fields.disabled.map(|flag| flag.0),
        };
        let (entity, is_new) = live.identity.write_entity(&fields).await?;
        Ok(is_new.then_some(Created {
            id: entity.id,
            name: entity.name,
            aliases: None,
        }))
    }

    async fn shown(self, live: &Live) -> Result<ShownEntity> {
        ShownEntity::of(self, live).await
    }

    async fn info(self, _: &Live, places: &Places) -> Result<EntityInfo> {
        let of = |alias| ShownAlias::of(alias, &self.id, places);
        let aliases = self.aliases.iter().map(of).collect();
        let name = self.name;
        Ok(EntityInfo { name, aliases })
    }

    async fn of_alias(live: &Live, id: &str) -> Result<Option<Self>> {
        let found = live.identity.alias(id).await?;
        Ok(found.map(|(entity, _)| entity))
    }

    async fn of_alias_at(live: &Live, mount: &str, name: &str) -> Result<Option<Self>> {
        let found = live.identity.alias_of(mount, name).await?;
        Ok(found.map(|(entity, _)| entity))
    }

    async fn delete(live: &Live, id: String) -> Result<()> {
        live.identity.delete_entities(&[id]).await
    }
}
