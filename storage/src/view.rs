//! A view: one prefix behind the barrier and nothing outside it. It is what a mount is given, and
//! where JSON records are read and written.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::barrier::{Barrier, Batch, Entry, Seen};
use crate::error::Error;
use crate::path::{self, folder_end};

/// A prefix on a barrier. Paths are relative to it. Clones are cheap.
#[derive(Clone)]
pub struct View {
    barrier: Arc<Barrier>,
    prefix: Arc<str>,
}

impl View {
    /// The view of a folder (a path that ends with a slash).
    pub fn new(barrier: Arc<Barrier>, prefix: impl Into<Arc<str>>) -> Result<Self, Error> {
        let prefix = prefix.into();
        path::check_folder(&prefix)?;
        Ok(Self { barrier, prefix })
    }

    /// A view of a folder within this one.
    pub fn sub(&self, folder: &str) -> Result<Self, Error> {
        path::check_folder(folder)?;
        Ok(Self {
            barrier: Arc::clone(&self.barrier),
            prefix: self.full(folder).into(),
        })
    }

    pub fn barrier(&self) -> &Arc<Barrier> {
        &self.barrier
    }

    /// The prefix, with its slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The full path of a path in this view, for a [`Batch`]; checked when that is committed.
    pub fn full(&self, path: &str) -> String {
        let mut full = String::with_capacity(self.prefix.len() + path.len());
        full.push_str(&self.prefix);
        full.push_str(path);
        full
    }

    pub async fn get(&self, path: &str) -> Result<Option<Entry>, Error> {
        self.barrier.get(&self.full(path)).await
    }

    /// Writes whatever is there now. To build on what was read, use [`View::update_json`] or a
    /// batch with an expectation.
    pub async fn put(&self, path: &str, value: impl Into<Zeroizing<Vec<u8>>>) -> Result<(), Error> {
        let mut batch = Batch::new();
        self.put_in(&mut batch, path, value);
        self.commit(batch).await
    }

    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        let mut batch = Batch::new();
        self.delete_in(&mut batch, path);
        self.commit(batch).await
    }

    /// One level below `folder` (empty, or ending with a slash): `name` for a value, `name/` for
    /// a folder, sorted, at most `limit`, beginning after `after` (a name as listed, exclusive).
    pub async fn list(
        &self,
        folder: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        self.barrier.list(&self.full(folder), after, limit).await
    }

    /// Paths and values from `start` (inclusive) to `end` (exclusive; `None` is the view's end),
    /// in order, at most `limit`. Both are strings to compare with, not necessarily paths.
    pub async fn scan(
        &self,
        start: &str,
        end: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Entry)>, Error> {
        let end = match end {
            Some(end) => self.full(end),
            None => folder_end(&self.prefix),
        };
        let mut entries = self
            .barrier
            .scan(&self.full(start), Some(&end), limit)
            .await?;
        for (path, _) in &mut entries {
            path.drain(..self.prefix.len());
        }
        Ok(entries)
    }

    /// Everything below `folder` (empty, or ending with a slash), a page at a time: `after` is the
    /// last path of the page before.
    pub async fn scan_folder(
        &self,
        folder: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Entry)>, Error> {
        let start = match after {
            Some(after) => format!("{after}\0"),
            None => folder.to_owned(),
        };
        if folder.is_empty() {
            return self.scan(&start, None, limit).await;
        }
        path::check_folder(folder)?;
        self.scan(&start, Some(&folder_end(folder)), limit).await
    }

    /// How many values there are below `folder` (empty, or ending with a slash), at any depth. Reads names alone, in
    /// pages between which others get their turn.
    pub async fn count(&self, folder: &str) -> Result<u64, Error> {
        self.count_to(folder, u64::MAX).await
    }

    /// The same to `most` and no further.
    pub async fn count_to(&self, folder: &str, most: u64) -> Result<u64, Error> {
        let mut total = 0;
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let mut after = None::<String>;
            loop {
                let wanted = usize::try_from(most - total).unwrap_or(usize::MAX);
                if wanted == 0 {
                    return Ok(total);
                }
                let limit = COUNT_PAGE.min(wanted);
                let page = self.list(&folder, after.as_deref(), limit).await?;
                let last = page.len() < limit;
                after = page.last().cloned();
                for name in page {
                    match name.ends_with('/') {
                        true => folders.push(format!("{folder}{name}")),
                        false => total += 1,
                    }
                }
                if last {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(total)
    }

    /// Commits a batch, which may reach beyond this view.
    pub async fn commit(&self, batch: Batch) -> Result<(), Error> {
        self.barrier.commit(batch).await
    }

    /// The record at `path`.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        Ok(self.get_json_seen(path).await?.map(|(record, _)| record))
    }

    /// The record at `path`, and the proof to change it with.
    pub async fn get_json_seen<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<(T, Seen)>, Error> {
        match self.get(path).await? {
            Some(entry) => {
                let record = self.parse(path, &entry)?;
                Ok(Some((record, entry.seen)))
            }
            None => Ok(None),
        }
    }

    pub async fn put_json<T: Serialize + ?Sized>(
        &self,
        path: &str,
        record: &T,
    ) -> Result<(), Error> {
        let mut batch = Batch::new();
        self.put_json_in(&mut batch, path, record)?;
        self.commit(batch).await
    }

    /// Reads a record, lets `change` make the new one, and writes that if nobody wrote in between;
    /// otherwise begins again, at most 32 times, so `change` may run repeatedly.
    pub async fn update_json<T, E>(
        &self,
        path: &str,
        mut change: impl FnMut(Option<T>) -> Result<T, E>,
    ) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        for _ in 0..MAX_ATTEMPTS {
            let mut batch = Batch::new();
            let record = match self.get_json_seen(path).await? {
                Some((record, seen)) => {
                    self.expect_in(&mut batch, path, &seen);
                    change(Some(record))?
                }
                None => {
                    self.expect_absent_in(&mut batch, path);
                    change(None)?
                }
            };
            self.put_json_in(&mut batch, path, &record)?;
            match self.commit(batch).await {
                Ok(()) => return Ok(record),
                Err(Error::Conflict { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(Error::Conflict {
            path: self.full(path),
        }
        .into())
    }

    pub fn put_in(&self, batch: &mut Batch, path: &str, value: impl Into<Zeroizing<Vec<u8>>>) {
        batch.put(self.full(path), value);
    }

    pub fn put_json_in<T: Serialize + ?Sized>(
        &self,
        batch: &mut Batch,
        path: &str,
        record: &T,
    ) -> Result<(), Error> {
        let json = to_json(record).map_err(|_| Error::NotJson {
            path: self.full(path),
        })?;
        self.put_in(batch, path, json);
        Ok(())
    }

    pub fn delete_in(&self, batch: &mut Batch, path: &str) {
        batch.delete(self.full(path));
    }

    /// Deletes everything below a folder; empty is the whole view.
    pub fn delete_prefix_in(&self, batch: &mut Batch, folder: &str) {
        batch.delete_prefix(self.full(folder));
    }

    pub fn expect_in(&self, batch: &mut Batch, path: &str, seen: &Seen) {
        batch.expect(self.full(path), seen);
    }

    pub fn expect_present_in(&self, batch: &mut Batch, path: &str) {
        batch.expect_present(self.full(path));
    }

    pub fn expect_absent_in(&self, batch: &mut Batch, path: &str) {
        batch.expect_absent(self.full(path));
    }

    /// Parses the record of an entry that [`View::get`] or [`View::scan`] returned for `path`.
    pub fn parse<T: DeserializeOwned>(&self, path: &str, entry: &Entry) -> Result<T, Error> {
        from_json(&entry.value).map_err(|error| Error::BadForm {
            path: self.full(path),
            line: error.line(),
            column: error.column(),
        })
    }
}

/// Parses a record.
pub fn from_json<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json)
}

/// Writes a record as JSON into memory that is wiped, also where it had to grow.
pub fn to_json<T: Serialize + ?Sized>(record: &T) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let mut out = Wiping(Zeroizing::new(Vec::with_capacity(512)));
    serde_json::to_writer(&mut out, record)?;
    Ok(out.0)
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({})", self.prefix)
    }
}

/// A buffer that wipes the memory that it leaves behind when it grows.
struct Wiping(Zeroizing<Vec<u8>>);

impl io::Write for Wiping {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    // JSON comes in many small pieces.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Names that are looked at in one go where values are counted.
const COUNT_PAGE: usize = 1000;
/// How often [`View::update_json`] begins again.
const MAX_ATTEMPTS: u32 = 32;
