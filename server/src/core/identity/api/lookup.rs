//! `identity/lookup`: an entity or a group by whatever is known of it.

use obol_mount::{Cx, DataOrNothing, Error, Result, Routes, post};
use schemars::JsonSchema;
use serde::Deserialize;

use super::IdentityBackend;
use super::named::{Named, shown};
use crate::core::identity::{Entity, Group};

pub(super) fn routes() -> Routes<IdentityBackend> {
    Routes::new()
        .at(
            "lookup/entity",
            "Find an entity by its name, its id, or an alias",
            post(find::<Entity>),
        )
        .at(
            "lookup/group",
            "Find a group by its name, its id, or its alias",
            post(find::<Group>),
        )
}

/// One of: a name, an id, an alias' id, an alias' name and mount.
#[derive(Deserialize, JsonSchema)]
struct LookupInput {
    /// The name.
    #[serde(default)]
    name: String,
    /// The id.
    #[serde(default)]
    id: String,
    /// The id of an alias.
    #[serde(default)]
    alias_id: String,
    /// The name of an alias; needs `alias_mount_accessor`.
    #[serde(default)]
    alias_name: String,
    /// The accessor of the alias' auth method; needs `alias_name`.
    #[serde(default)]
    alias_mount_accessor: String,
}

enum Query {
    Name(String),
    Id(String),
    Alias(String),
    AliasOf(String, String),
}

impl LookupInput {
    fn query(self) -> Result<Query> {
        let by_alias = match (
            self.alias_name.is_empty(),
            self.alias_mount_accessor.is_empty(),
        ) {
            (true, true) => None,
            (false, false) => Some(Query::AliasOf(self.alias_mount_accessor, self.alias_name)),
            _ => {
                return Err(Error::bad_request(
                    "alias_name and alias_mount_accessor are needed together",
                ));
            }
        };
        let given =
            |text: String, query: fn(String) -> Query| (!text.is_empty()).then(|| query(text));
        let queries = [
            given(self.name, Query::Name),
            given(self.id, Query::Id),
            given(self.alias_id, Query::Alias),
            by_alias,
        ];
        let mut queries = queries.into_iter().flatten();
        match (queries.next(), queries.next()) {
            (Some(query), None) => Ok(query),
            (None, _) => Err(Error::bad_request(
                "give one of name, id, alias_id, or alias_name with alias_mount_accessor",
            )),
            (Some(_), Some(_)) => Err(Error::bad_request(
                "give only one of name, id, alias_id, or alias_name with alias_mount_accessor",
            )),
        }
    }
}

/// What was found; 204 for nothing, as Vault answers.
async fn find<T: Named>(
    cx: Cx<IdentityBackend>,
    input: LookupInput,
) -> Result<DataOrNothing<T::Shown>> {
    let live = cx.live()?;
    let found: Option<T> = match input.query()? {
        Query::Name(name) => live.identity.find_named(&name).await?,
        Query::Id(id) => live.identity.find(&id).await?,
        Query::Alias(id) => T::of_alias(&live, &id).await?,
        Query::AliasOf(mount, name) => T::of_alias_at(&live, &mount, &name).await?,
    };
    Ok(DataOrNothing(shown(found, &live).await?))
}
