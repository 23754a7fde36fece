//! The store as a whole: read as it is at one moment, and replaced by another one in one step.
//!
//! A replacement is written to files of RocksDB's own kind first, each of which begins by deleting the range of keys
//! that it covers; the ranges lie side by side and cover everything. The committer then takes all of them in with one
//! change of the store's list of files: a crash before that leaves the old store, one after it the new.

use std::fs;
use std::path::{Path, PathBuf};

use ::rocksdb::{DB, Options, ReadOptions, SstFileWriter};

use super::ReadError;
use crate::engine::{EngineError, NextEntry};

pub(super) fn visit(db: &DB, each: &mut dyn FnMut(&str, &[u8]) -> bool) -> Result<(), ReadError> {
    let snapshot = db.snapshot();
    let mut options = ReadOptions::default();
    // Each block is read once: it must not push out what others read again.
    options.fill_cache(false);
    options.set_readahead_size(READ_AHEAD);
    let mut at = snapshot.raw_iterator_opt(options);
    at.seek_to_first();
    while let Some((key, value)) = at.item() {
        if !each(str::from_utf8(key)?, value) {
            return Ok(());
        }
        at.next();
    }
    at.status()?;
    Ok(())
}

/// Files that are ready to be taken in; what is left of them goes when this is dropped.
pub(super) struct Files {
    folder: PathBuf,
    paths: Vec<PathBuf>,
}

impl Files {
    /// Writes what `next` gives to files in a folder of the store's own.
    pub(super) fn write(store: &Path, next: &mut NextEntry<'_>) -> Result<Self, EngineError> {
        let folder = store.join(FOLDER);
        // What a crash has left there.
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::unavailable(error));
            }
            _ => {}
        }
        fs::create_dir(&folder).map_err(EngineError::unavailable)?;
        let mut files = Self {
            folder,
            paths: Vec::new(),
        };
        files.fill(next)?;
        Ok(files)
    }

    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    fn fill(&mut self, next: &mut NextEntry<'_>) -> Result<(), EngineError> {
        let unavailable = EngineError::unavailable;
        let options = Options::default();
        let mut from: Vec<u8> = Vec::new();
        let mut waiting = next()?;
        loop {
            let path = self.folder.join(format!("{}.sst", self.paths.len()));
            let mut writer = SstFileWriter::create(&options);
            writer.open(&path).map_err(unavailable)?;
            self.paths.push(path);
            let mut size = 0;
            while size < FILE_SIZE
                && let Some((key, value)) = waiting
            {
                writer.put(&key, &value).map_err(unavailable)?;
                size += key.len() + value.len();
                waiting = next()?;
            }
            let to = match &waiting {
                Some((key, _)) => key.as_bytes().to_vec(),
                // No byte of UTF-8 is 0xff.
                None => vec![0xff],
            };
            // The file's own keys are not older than this, so it does not touch them.
            writer.delete_range(&from, &to).map_err(unavailable)?;
            writer.finish().map_err(unavailable)?;
            if waiting.is_none() {
                return Ok(());
            }
            from = to;
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // The files that were taken in were moved. The next replacement cleans up what stays here.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Below the store's directory, so that the files can be moved and need no other permissions.
const FOLDER: &str = "replacement";
const FILE_SIZE: usize = 64 << 20;
const READ_AHEAD: usize = 1 << 20;
