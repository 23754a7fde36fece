//! Reading and changing keys in storage. Each change is one commit, on the condition that the key is still as it was read.

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError, Seen};

use super::Transit;
use super::head::Head;
use super::material::Material;

/// A key as it was read for a change.
pub(super) struct Current {
    pub(super) head: Head,
    seen: Seen,
}

impl Transit {
    /// The record of a key as it is stored now.
    pub(super) async fn head(&self, name: &str) -> Result<Option<Current>> {
        let found = self.storage.get_json_seen(&key_path(name)).await?;
        Ok(found.map(|(head, seen)| Current { head, seen }))
    }

    /// Reads a key, lets `step` change its record and put what goes with that into a batch, and commits both if the key is
    /// still the same; otherwise begins again, so `step` may run repeatedly. `None` from `step` changes nothing.
    pub(super) async fn change<T>(
        &self,
        name: &str,
        mut step: impl FnMut(&mut Head, &mut Batch) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let _turn = self.turns.take(name).await;
        for _ in 0..MAX_ATTEMPTS {
            let Some(current) = self.head(name).await? else {
                return Err(Error::bad_request(NO_KEY));
            };
            let mut batch = Batch::new();
            let mut head = current.head.clone();
            let Some(outcome) = step(&mut head, &mut batch)? else {
                return Ok(None);
            };
            self.put_head(&mut batch, name, Some(&current), &head)?;
            match self.storage.commit(batch).await {
                Ok(()) => return Ok(Some(outcome)),
                // Another server was faster: the turn keeps this one's other requests away.
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StorageError::Conflict {
            path: key_path(name),
        }
        .into())
    }

    /// Puts the record of a key in the place of `old`, and where it is found when it is due to rotate.
    pub(super) fn put_head(
        &self,
        batch: &mut Batch,
        name: &str,
        old: Option<&Current>,
        head: &Head,
    ) -> Result<()> {
        let path = key_path(name);
        match old {
            Some(old) => self.storage.expect_in(batch, &path, &old.seen),
            None => self.storage.expect_absent_in(batch, &path),
        }
        let was_due = old.and_then(|old| old.head.due());
        if was_due != head.due() {
            if let Some(due) = was_due {
                self.storage.delete_in(batch, &due_path(due, name));
            }
            if let Some(due) = head.due() {
                self.storage.put_in(batch, &due_path(due, name), Vec::new());
            }
        }
        Ok(self.storage.put_json_in(batch, &path, head)?)
    }

    /// Deletes a key with everything that belongs to it.
    pub(super) fn delete_key_in(&self, batch: &mut Batch, name: &str, old: &Current) {
        let path = key_path(name);
        self.storage.expect_in(batch, &path, &old.seen);
        self.storage.delete_in(batch, &path);
        if let Some(due) = old.head.due() {
            self.storage.delete_in(batch, &due_path(due, name));
        }
        self.delete_material_in(batch, &old.head.id);
    }

    /// Deletes all versions of one life of a key.
    pub(super) fn delete_material_in(&self, batch: &mut Batch, id: &str) {
        for folder in [VERSIONS, USES] {
            let folder = format!("{folder}{id}/");
            self.storage.delete_prefix_in(batch, &folder);
        }
    }

    /// Makes `material` the latest version.
    pub(super) fn add_version(
        &self,
        batch: &mut Batch,
        head: &mut Head,
        material: &Material,
    ) -> Result<()> {
        head.latest += 1;
        head.rotated = material.created / NANOS;
        self.put_version(batch, &head.id, head.latest, material)
    }

    pub(super) fn put_version(
        &self,
        batch: &mut Batch,
        id: &str,
        version: u64,
        material: &Material,
    ) -> Result<()> {
        let path = version_path(id, version);
        Ok(self.storage.put_json_in(batch, &path, material)?)
    }

    /// Removes the material of a version for good.
    pub(super) fn delete_version_in(&self, batch: &mut Batch, id: &str, version: u64) {
        self.storage.delete_in(batch, &version_path(id, version));
        self.storage.delete_in(batch, &uses_path(id, version));
    }

    pub(super) async fn material(&self, id: &str, version: u64) -> Result<Option<Material>> {
        Ok(self.storage.get_json(&version_path(id, version)).await?)
    }

    /// The versions from `first` to `last` that are there, in order, a page of storage at a time.
    pub(super) async fn materials(
        &self,
        id: &str,
        first: u64,
        last: u64,
    ) -> Result<Vec<(u64, Material)>> {
        let mut found = Vec::new();
        let mut next = first;
        while next <= last {
            let end = version_path(id, last.min(next + PAGE - 1) + 1);
            let page = self
                .storage
                .scan(&version_path(id, next), Some(&end), PAGE as usize)
                .await?;
            for (path, entry) in page {
                let material = self.storage.parse(&path, &entry)?;
                let number = path.rsplit('/').next().and_then(|n| n.parse().ok());
                let number =
                    number.ok_or_else(|| Error::internal("a transit version without a number"))?;
                found.push((number, material));
            }
            next += PAGE;
        }
        Ok(found)
    }

    /// The first keys whose time to rotate has come.
    pub(super) async fn due(&self, now: u64, limit: usize) -> Result<Vec<(u64, String)>> {
        let end = format!("{DUE}{:016x}/", now.saturating_add(1));
        let found = self.storage.scan(DUE, Some(&end), limit).await?;
        let due = found.iter().filter_map(|(path, _)| {
            let (time, name) = path.strip_prefix(DUE)?.split_once('/')?;
            Some((u64::from_str_radix(time, 16).ok()?, name.to_owned()))
        });
        Ok(due.collect())
    }
}

pub(super) fn key_path(name: &str) -> String {
    let mut path = String::with_capacity(KEYS.len() + name.len());
    path.push_str(KEYS);
    path.push_str(name);
    path
}

/// Numbers sort as text.
fn version_path(id: &str, version: u64) -> String {
    format!("{VERSIONS}{id}/{version:012}")
}

/// How many messages were encrypted with a version: see [`super::uses`].
pub(super) fn uses_path(id: &str, version: u64) -> String {
    format!("{USES}{id}/{version}")
}

fn due_path(due: u64, name: &str) -> String {
    format!("{DUE}{due:016x}/{name}")
}

/// The folder of the records.
pub(super) const KEYS: &str = "keys/";
const VERSIONS: &str = "versions/";
const USES: &str = "uses/";
const DUE: &str = "due/";
/// What Vault says where a key must be there.
pub(super) const NO_KEY: &str = "encryption key not found";
pub(super) const NANOS: u64 = 1_000_000_000;
/// How many versions are read at a time.
const PAGE: u64 = 64;
/// How often a change begins again.
pub(super) const MAX_ATTEMPTS: u32 = 32;
