//! What entities and groups have in common: each is a record below its id, and its name leads to the id.

use obol_mount::{Error, Result};
use obol_storage::{Batch, Seen};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Identity, names};

/// An entity or a group.
pub trait Kept: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it is called: also the folder of the records, and with `-name` that of their names.
    const KIND: &'static str;
    fn id(&self) -> &str;
    fn name(&self) -> &str;
}

impl Identity {
    pub async fn find<T: Kept>(&self, id: &str) -> Result<Option<T>> {
        Ok(self.seen::<T>(id).await?.map(|(record, _)| record))
    }

    pub async fn find_named<T: Kept>(&self, name: &str) -> Result<Option<T>> {
        Ok(self.seen_named::<T>(name).await?.map(|(record, _)| record))
    }

    /// Records in the order of their ids, a page at a time.
    pub async fn page<T: Kept>(&self, after: Option<&str>, limit: usize) -> Result<Vec<T>> {
        let view = self.storage();
        let after = after.map(place::<T>);
        let page = view
            .scan_folder(&place::<T>(""), after.as_deref(), limit)
            .await?;
        page.iter()
            .map(|(path, entry)| Ok(view.parse(path, entry)?))
            .collect()
    }

    /// Records in the order of their names, a page at a time.
    pub async fn page_by_name<T: Kept>(&self, after: Option<&str>, limit: usize) -> Result<Vec<T>> {
        let after = after.map(names::key);
        let page = self
            .storage()
            .list(&place_of_key::<T>(""), after.as_deref(), limit)
            .await?;
        let mut found = Vec::with_capacity(page.len());
        for key in page {
            if let Some(id) = self.id_at(&place_of_key::<T>(&key)).await? {
                found.extend(self.find::<T>(&id).await?);
            }
        }
        Ok(found)
    }

    pub(super) async fn seen<T: Kept>(&self, id: &str) -> Result<Option<(T, Seen)>> {
        if !names::is_id(id) {
            return Ok(None);
        }
        self.read(&place::<T>(id)).await
    }

    pub(super) async fn seen_named<T: Kept>(&self, name: &str) -> Result<Option<(T, Seen)>> {
        match self.id_at(&place_of_name::<T>(name)).await? {
            Some(id) => self.seen(&id).await,
            None => Ok(None),
        }
    }

    /// The record that a write changes: that of the id, or else that of the name; `None`: it makes a new one. A name
    /// that is another's is refused.
    pub(super) async fn meant<T: Kept>(
        &self,
        id: Option<&str>,
        name: Option<&str>,
    ) -> Result<Option<(T, Seen)>> {
        let kind = T::KIND;
        let by_id = match id {
            None => None,
            Some(id) => Some(
                self.seen::<T>(id)
                    .await?
                    .ok_or_else(|| Error::bad_request(format!("no {kind} has this id")))?,
            ),
        };
        let by_name = match name {
            None => None,
            Some(name) => self.seen_named::<T>(name).await?,
        };
        match (by_id, by_name) {
            (Some((record, _)), Some((other, _))) if record.id() != other.id() => Err(
                Error::bad_request(format!("the {kind}'s name is already in use")),
            ),
            (by_id, by_name) => Ok(by_id.or(by_name)),
        }
    }

    /// Adds a record to a change. Without `seen` it must be new.
    pub(super) fn put_record<T: Kept>(
        &self,
        batch: &mut Batch,
        record: &T,
        seen: Option<&Seen>,
    ) -> Result<()> {
        let path = place::<T>(record.id());
        match seen {
            Some(seen) => self.storage().expect_in(batch, &path, seen),
            None => self.storage().expect_absent_in(batch, &path),
        }
        Ok(self.storage().put_json_in(batch, &path, record)?)
    }

    /// Adds the index of a record's name; the name must be free or its own.
    pub(super) fn index_name<T: Kept>(
        &self,
        batch: &mut Batch,
        old: Option<&str>,
        record: &T,
    ) -> Result<()> {
        let view = self.storage();
        if let Some(old) = old {
            if names::same(old, record.name()) {
                return Ok(());
            }
            view.delete_in(batch, &place_of_name::<T>(old));
        }
        let path = place_of_name::<T>(record.name());
        view.expect_absent_in(batch, &path);
        Ok(view.put_json_in(batch, &path, &record.id())?)
    }

    /// Adds the end of a record and of its name.
    pub(super) fn delete_record<T: Kept>(&self, batch: &mut Batch, record: &T, seen: &Seen) {
        let view = self.storage();
        let path = place::<T>(record.id());
        view.expect_in(batch, &path, seen);
        view.delete_in(batch, &path);
        view.delete_in(batch, &place_of_name::<T>(record.name()));
    }
}

fn place<T: Kept>(id: &str) -> String {
    [T::KIND, "/", id].concat()
}

fn place_of_name<T: Kept>(name: &str) -> String {
    place_of_key::<T>(&names::key(name))
}

fn place_of_key<T: Kept>(key: &str) -> String {
    format!("{}-name/{key}", T::KIND)
}
