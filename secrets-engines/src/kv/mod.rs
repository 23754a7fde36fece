//! The key-value engine. Here, version 2: secrets with a history of versions, after Vault's API page
//! "KV secrets engine - version 2". Version 1 is a room of its own, `v1`.
//!
//! What a mount keeps in its view:
//!
//! | path | holds |
//! | --- | --- |
//! | `config` | the mount's settings, once they were written |
//! | `secrets/<path>` | a secret's settings and the state of its versions; the data of the latest while it is the only one |
//! | `upgrade` | that the mount was one of version 1, and whether all of that has moved ([`upgrade`]) |
//! | `versions/<id>/<place>` | the number and the data of a version; `<id>` belongs to one life of a secret |
//!
//! Most secrets have one version, and are one record: one point read to read, one put to write. From the second on the
//! data of every version lies apart, so that a new version costs its own bytes and those of a small record, however large
//! the versions before it are; reading the latest then takes two point reads. Once there are as many versions as are
//! kept, a new one takes the place of the one that goes: nothing needs to be deleted, and the store stays as it is.
//!
//! Every change is one commit, on the condition that the record is still the one that was read.

mod config;
mod data;
mod metadata;
mod read;
mod record;
mod upgrade;
mod v1;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use obol_mount::{
    Backend, Error, Family, Kind, MountContext, OpenFuture, Result, RouteDoc, RouteTable, Routes,
    get, list, post,
};
use obol_storage::{Batch, Entry, Error as StorageError, View};
use serde_json::value::RawValue;

use crate::turns::Turns;
use config::{read_config, write_config};
use data::{delete_latest, exists, patch_data, write_data};
use metadata::{
    delete_metadata, detail_folder, detail_root, list_folder, list_root, patch_metadata,
    read_metadata, write_metadata,
};
use read::{read_data, read_subkeys};
use record::{Record, VersionData, apart_bytes, apart_data};
use versions::{delete_versions, destroy_versions, undelete_versions};

/// `kv`, whose version is an option of the mount.
pub(crate) fn kind() -> Kind {
    Kind {
        name: "kv",
        aliases: &[
            ("kv-v1", &[("version", "1")]),
            ("kv-v2", &[("version", "2")]),
        ],
        family: Family::Secrets,
        about: "Secrets by path; with -version=2 a history of versions for each",
        open: Arc::new(open),
        docs: || routes().docs(),
    }
}

/// The routes of version 1, which [`kind`] leaves out: documents show one version at a mount.
pub fn kv_v1_docs() -> Result<Vec<RouteDoc>> {
    v1::routes().docs()
}

fn open(context: MountContext) -> OpenFuture {
    Box::pin(async move {
        match context.options.get("version").map(String::as_str) {
            Some("2") => {
                let kv = Arc::new(Kv::new(context.storage));
                upgrade::go_on(&kv).await?;
                Ok(kv as Arc<dyn Backend>)
            }
            // Vault takes a missing version for 1.
            None | Some("" | "1") => Ok(Arc::new(v1::KvV1::open(&context)?) as Arc<dyn Backend>),
            Some(_) => Err(Error::bad_request("option version: expected 1 or 2")),
        }
    })
}

struct Kv {
    storage: View,
    /// By the path of the secret that is changed.
    turns: Turns,
    /// Secrets of version 1 are still moving.
    upgrading: AtomicBool,
}

#[async_trait]
impl Backend for Kv {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }

    async fn count_secrets(&self) -> Result<Option<u64>> {
        Ok(Some(self.storage.count(SECRETS).await?))
    }

    fn change_options(
        &self,
        options: &BTreeMap<String, String>,
        _: &mut Batch,
    ) -> Result<Vec<String>> {
        match options.get("version").map(String::as_str) {
            Some("2") => Ok(Vec::new()),
            _ => Err(Error::bad_request("cannot downgrade mount from version 2")),
        }
    }
}

fn routes() -> Routes<Kv> {
    Routes::new()
        .at(
            "config",
            "Settings for every secret of this mount",
            get(read_config).post(write_config),
        )
        .at(
            "data/{path*}",
            "A secret: its latest version, or the one that `version` asks for",
            get(read_data)
                .post(write_data)
                .patch(patch_data)
                .delete(delete_latest)
                .exists(exists),
        )
        .at(
            "subkeys/{path*}",
            "The names in a secret without their values",
            get(read_subkeys),
        )
        .at(
            "delete/{path*}",
            "Deletes versions of a secret so that they can be undeleted",
            post(delete_versions),
        )
        .at(
            "undelete/{path*}",
            "Brings deleted versions of a secret back",
            post(undelete_versions),
        )
        .at(
            "destroy/{path*}",
            "Removes the data of versions of a secret for good",
            post(destroy_versions),
        )
        .at(
            "metadata",
            "All secrets at the top of this mount",
            list(list_root),
        )
        .at(
            "metadata/{path*}",
            "A secret's settings and the state of its versions; or the secrets in a folder",
            get(read_metadata)
                .post(write_metadata)
                .patch(patch_metadata)
                .delete(delete_metadata)
                .list(list_folder)
                .exists(exists),
        )
        .at(
            "detailed-metadata",
            "All secrets at the top of this mount, each with its metadata",
            list(detail_root),
        )
        .at(
            "detailed-metadata/{path*}",
            "The secrets in a folder, each with its metadata",
            list(detail_folder),
        )
}

impl Kv {
    fn new(storage: View) -> Self {
        Self {
            storage,
            turns: Turns::default(),
            upgrading: AtomicBool::new(false),
        }
    }

    /// Refuses while secrets of version 1 are moving.
    fn ready(&self) -> Result<()> {
        match self.upgrading.load(Ordering::Acquire) {
            true => Err(upgrade::under_way()),
            false => Ok(()),
        }
    }

    /// The stored record of the secret at `path`, to be opened with [`Record::open`].
    async fn stored(&self, path: &str) -> Result<Option<Entry>> {
        self.ready()?;
        Ok(self.storage.get(&secret_key(path)).await?)
    }

    /// What is stored at a place where data of a version lies apart, to be opened with [`apart_data`].
    async fn apart(&self, id: &str, place: u64) -> Result<Option<Entry>> {
        Ok(self.storage.get(&version_key(id, place)).await?)
    }

    /// Reads the record at `path`, lets `step` put what changes into a batch, and commits that if
    /// the record is still the same; otherwise begins again, so `step` may run repeatedly. An empty
    /// batch is not committed.
    async fn change<T>(
        &self,
        path: &str,
        mut step: impl FnMut(Option<Record<'_>>, &mut Batch) -> Result<T>,
    ) -> Result<T> {
        self.change_with(path, false, |record, _, batch| step(record, batch))
            .await
    }

    /// The same for a step that needs the data of the latest version; it is `None` where that was destroyed or there
    /// is none.
    async fn change_latest<T>(
        &self,
        path: &str,
        step: impl FnMut(Option<Record<'_>>, Option<&RawValue>, &mut Batch) -> Result<T>,
    ) -> Result<T> {
        self.change_with(path, true, step).await
    }

    async fn change_with<T>(
        &self,
        path: &str,
        reads_latest: bool,
        mut step: impl FnMut(Option<Record<'_>>, Option<&RawValue>, &mut Batch) -> Result<T>,
    ) -> Result<T> {
        self.ready()?;
        let key = secret_key(path);
        let _turn = self.turns.take(path).await;
        for _ in 0..MAX_ATTEMPTS {
            let entry = self.storage.get(&key).await?;
            let record = entry.as_ref().map(Record::open).transpose()?;
            // The data of a version never changes, so what is read here belongs to the record as long as that is the same.
            let mut latest = record.as_ref().and_then(Record::only_stored);
            let lies_apart = record.as_ref().filter(|_| reads_latest);
            let lies_apart = lies_apart.and_then(|record| Some((record, record.latest_apart()?)));
            let apart;
            if let Some((record, (number, version))) = lies_apart {
                apart = self.apart(&record.head.id, version.place).await?;
                let data = apart.as_ref().map(|entry| apart_data(entry, number));
                latest = data.transpose()?.flatten();
                if latest.is_none() {
                    // Destroyed since, or another version took its place: the record says so by now.
                    continue;
                }
            }
            let mut batch = Batch::new();
            let outcome = step(record, latest, &mut batch)?;
            if batch.is_empty() {
                return Ok(outcome);
            }
            match &entry {
                Some(entry) => self.storage.expect_in(&mut batch, &key, &entry.seen),
                None => self.storage.expect_absent_in(&mut batch, &key),
            }
            match self.storage.commit(batch).await {
                Ok(()) => return Ok(outcome),
                // Another server was faster: the turn keeps this one's other requests away.
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StorageError::Conflict { path: key }.into())
    }

    fn put_record(&self, batch: &mut Batch, path: &str, record: &Record<'_>) -> Result<()> {
        self.storage
            .put_in(batch, &secret_key(path), record.to_bytes()?);
        Ok(())
    }

    fn delete_record(&self, batch: &mut Batch, path: &str) {
        self.storage.delete_in(batch, &secret_key(path));
    }

    /// Puts the data of a version that the record has where the record says.
    fn put_version(
        &self,
        batch: &mut Batch,
        record: &Record<'_>,
        number: u64,
        data: &VersionData<'_>,
    ) -> Result<()> {
        let version = record
            .version(number)
            .ok_or_else(|| Error::internal("data of a version that is not kept"))?;
        let key = version_key(&record.head.id, version.place);
        self.storage.put_in(batch, &key, apart_bytes(number, data)?);
        Ok(())
    }

    fn delete_version(&self, batch: &mut Batch, id: &str, place: u64) {
        self.storage.delete_in(batch, &version_key(id, place));
    }
}

fn secret_key(path: &str) -> String {
    format!("{SECRETS}{path}")
}

fn version_key(id: &str, place: u64) -> String {
    format!("versions/{id}/{place}")
}

/// The folder of the records.
const SECRETS: &str = "secrets/";
/// How often a change begins again.
const MAX_ATTEMPTS: u32 = 32;
