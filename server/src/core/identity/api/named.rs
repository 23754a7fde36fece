//! What entities and groups have in common for clients: each is found by its id, its name or an alias, shown, listed
//! and deleted alike.

use std::collections::BTreeMap;
use std::future::Future;

use obol_mount::{Cx, Data, DataOrNothing, NoContent, Result};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::shown::Places;
use super::{IdInput, IdentityBackend, ListInput, Listing, NameInput, PAGE, pages};
use crate::core::Live;
use crate::core::identity::Kept;

/// An entity or a group, as its paths answer it.
pub(super) trait Named: Kept {
    /// All of it.
    type Shown: Serialize + JsonSchema + Send + 'static;
    /// What a listing has of it.
    type Info: Serialize + JsonSchema + Send + 'static;
    /// What a client may say of it besides its name.
    type Fields: DeserializeOwned + JsonSchema + Send + 'static;
    /// What a client is told of a new one.
    type Created: Serialize + JsonSchema + Send + 'static;

    /// Makes one, or changes the one that is meant; `None` when it was only changed.
    fn write(
        live: &Live,
        which: Which,
        fields: Self::Fields,
    ) -> impl Future<Output = Result<Option<Self::Created>>> + Send;
    fn shown(self, live: &Live) -> impl Future<Output = Result<Self::Shown>> + Send;
    fn info(self, live: &Live, places: &Places) -> impl Future<Output = Result<Self::Info>> + Send;
    /// That of an alias.
    fn of_alias(live: &Live, id: &str) -> impl Future<Output = Result<Option<Self>>> + Send;
    /// The same by the accessor of the alias' mount and its name there.
    fn of_alias_at(
        live: &Live,
        mount: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Self>>> + Send;
    fn delete(live: &Live, id: String) -> impl Future<Output = Result<()>> + Send;
}

/// Which one is written: that of the id, or else that of the name; a new one where there is none.
pub(super) struct Which {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
}

/// To be made or changed; what is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteInput<F> {
    /// Changes the one of this id.
    id: Option<String>,
    /// A name, compared without case; made up when a new one has none. Without `id`, changes the one of this name.
    name: Option<String>,
    #[serde(flatten)]
    fields: F,
}

/// To be changed.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteByIdInput<F> {
    id: String,
    /// A name, compared without case.
    name: Option<String>,
    #[serde(flatten)]
    fields: F,
}

/// To be made or changed.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteByNameInput<F> {
    name: String,
    #[serde(flatten)]
    fields: F,
}

/// What was made; 204 when it was only changed.
type Outcome<T> = DataOrNothing<<T as Named>::Created>;
type Found<T> = Option<Data<<T as Named>::Shown>>;
type Listed<T> = Option<Data<Listing<<T as Named>::Info>>>;

pub(super) async fn write<T: Named>(
    cx: Cx<IdentityBackend>,
    input: WriteInput<T::Fields>,
) -> Result<Outcome<T>> {
    write_one::<T>(&cx, input.id, input.name, input.fields).await
}

pub(super) async fn write_by_id<T: Named>(
    cx: Cx<IdentityBackend>,
    input: WriteByIdInput<T::Fields>,
) -> Result<Outcome<T>> {
    write_one::<T>(&cx, Some(input.id), input.name, input.fields).await
}

pub(super) async fn write_by_name<T: Named>(
    cx: Cx<IdentityBackend>,
    input: WriteByNameInput<T::Fields>,
) -> Result<Outcome<T>> {
    write_one::<T>(&cx, None, Some(input.name), input.fields).await
}

async fn write_one<T: Named>(
    cx: &Cx<IdentityBackend>,
    id: Option<String>,
    name: Option<String>,
    fields: T::Fields,
) -> Result<Outcome<T>> {
    // An empty text is none, as clients send it.
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let which = Which {
        id: given(id),
        name: given(name),
    };
    let created = T::write(&*cx.live()?, which, fields).await?;
    Ok(DataOrNothing(created))
}

pub(super) async fn read<T: Named>(cx: Cx<IdentityBackend>, input: IdInput) -> Result<Found<T>> {
    let live = cx.live()?;
    let found = live.identity.find::<T>(&input.id).await?;
    Ok(shown(found, &live).await?.map(Data))
}

pub(super) async fn read_by_name<T: Named>(
    cx: Cx<IdentityBackend>,
    input: NameInput,
) -> Result<Found<T>> {
    let live = cx.live()?;
    let found = live.identity.find_named::<T>(&input.name).await?;
    Ok(shown(found, &live).await?.map(Data))
}

/// What was found, as it is shown.
pub(super) async fn shown<T: Named>(found: Option<T>, live: &Live) -> Result<Option<T::Shown>> {
    match found {
        Some(one) => one.shown(live).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn remove<T: Named>(cx: Cx<IdentityBackend>, input: IdInput) -> Result<NoContent> {
    T::delete(&*cx.live()?, input.id).await?;
    Ok(NoContent)
}

pub(super) async fn remove_by_name<T: Named>(
    cx: Cx<IdentityBackend>,
    input: NameInput,
) -> Result<NoContent> {
    let live = cx.live()?;
    if let Some(found) = live.identity.find_named::<T>(&input.name).await? {
        T::delete(&live, found.id().to_owned()).await?;
    }
    Ok(NoContent)
}

pub(super) async fn list_ids<T: Named>(
    cx: Cx<IdentityBackend>,
    input: ListInput,
) -> Result<Listed<T>> {
    let live = cx.live()?;
    let all = pages!(
        input,
        async |after: Option<String>, limit| live.identity.page::<T>(after.as_deref(), limit).await,
        |one: &T| one.id().to_owned()
    );
    listing(&live, all, T::id).await
}

pub(super) async fn list_names<T: Named>(
    cx: Cx<IdentityBackend>,
    input: ListInput,
) -> Result<Listed<T>> {
    let live = cx.live()?;
    let all = pages!(
        input,
        async |after: Option<String>, limit| live
            .identity
            .page_by_name::<T>(after.as_deref(), limit)
            .await,
        |one: &T| one.name().to_owned()
    );
    listing(&live, all, T::name).await
}

async fn listing<T: Named>(live: &Live, all: Vec<T>, key: fn(&T) -> &str) -> Result<Listed<T>> {
    if all.is_empty() {
        return Ok(None);
    }
    let places = Places::of(live);
    let keys = all.iter().map(|one| key(one).to_owned()).collect();
    let mut key_info = BTreeMap::new();
    for one in all {
        let id = one.id().to_owned();
        key_info.insert(id, one.info(live, &places).await?);
    }
    Ok(Some(Data(Listing { keys, key_info })))
}
