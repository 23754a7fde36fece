//! What entities and groups have in common for clients: each is found by its id, its name or an alias, shown, listed
//! and deleted alike.

use std::collections::BTreeMap;
use std::future::Future;

use obol_mount::{Cx, Data, NoContent, Result};
use schemars::JsonSchema;
use serde::Serialize;

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

type Found<T> = Option<Data<<T as Named>::Shown>>;
type Listed<T> = Option<Data<Listing<<T as Named>::Info>>>;

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
