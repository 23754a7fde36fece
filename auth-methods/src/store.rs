//! A mount's records, and how they change: every write of an operator also writes the record
//! `generation` and expects it to be the one that was read. So writes follow each other, also those
//! of other servers on the same storage, and one look at `generation` tells whether what was built
//! from the records ([`crate::live`]) is still what is stored: nothing needs to be told to forget.

use obol_mount::{Error, Result};
use obol_storage::{Batch, Entry, Seen, View};
use serde::{Serialize, de::DeserializeOwned};

/// One mount's part of storage.
pub(crate) struct Store {
    view: View,
}

impl Store {
    pub(crate) fn new(view: View) -> Self {
        Self { view }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The proof of what all the operator's records are now; `None` while there are none.
    pub(crate) async fn generation(&self) -> Result<Option<Seen>> {
        Ok(self.view.get(GENERATION).await?.map(|entry| entry.seen))
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        Ok(self.view.get_json(path).await?)
    }

    /// Begins a write. What it is based on must be read after this.
    pub(crate) async fn begin(&self) -> Result<Change<'_>> {
        let mut batch = Batch::new();
        match self.generation().await? {
            Some(seen) => self.view.expect_in(&mut batch, GENERATION, &seen),
            None => self.view.expect_absent_in(&mut batch, GENERATION),
        }
        // Empty is enough: the barrier seals each write with a nonce of its own, so that no two
        // writes of the same value leave the same bytes.
        self.view.put_in(&mut batch, GENERATION, Vec::new());
        Ok(Change {
            view: &self.view,
            batch,
        })
    }

    /// Everything below `folder`, in order.
    pub(crate) async fn scan(&self, folder: &str) -> Result<Vec<(String, Entry)>> {
        let mut all: Vec<(String, Entry)> = Vec::new();
        loop {
            let after = all.last().map(|(path, _)| path.as_str());
            let page = self.view.scan_folder(folder, after, PAGE).await?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }
}

/// A write under way.
pub(crate) struct Change<'s> {
    view: &'s View,
    batch: Batch,
}

impl Change<'_> {
    pub(crate) fn put<T: Serialize>(&mut self, path: &str, record: &T) -> Result<()> {
        Ok(self.view.put_json_in(&mut self.batch, path, record)?)
    }

    pub(crate) fn delete(&mut self, path: &str) {
        self.view.delete_in(&mut self.batch, path);
    }

    /// `false`: another write came between; begin again.
    pub(crate) async fn commit(self) -> Result<bool> {
        match self.view.commit(self.batch).await {
            Ok(()) => Ok(true),
            Err(obol_storage::Error::Conflict { .. }) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }
}

/// What a write answers that met other writes [`ATTEMPTS`] times.
pub(crate) fn too_busy() -> Error {
    Error::unavailable("the configuration changed while this request was at work; try again")
}

/// How often a write begins again.
pub(crate) const ATTEMPTS: u32 = 32;

const GENERATION: &str = "generation";
const PAGE: usize = 1000;
