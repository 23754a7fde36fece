//! Room at the end of the write-ahead log: zeros, written before there is anything to put there.
//!
//! A sync of a file that grew has to note its new length in the file system's own journal, too, and takes twice as long
//! as one of a file whose bytes were there before (RocksDB reserves blocks ahead, but not the length). So one write in
//! many pays for the length of all. PostgreSQL fills its logs for the same reason (`wal_init_zero`).
//!
//! It cannot harm what RocksDB wrote or will write. Zeros are appended (`O_APPEND`), so they never come over anything;
//! RocksDB writes at its own offset, so over the zeros; a replay takes a zero where a record would begin for the end of
//! what was written (`db/log_reader.cc`); and RocksDB cuts a log where its records end when it goes on to the next.
//! RocksDB's own way, writing over old logs, does harm: see `recycle_log_file_num` in `rocksdb.rs`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The room in the log that RocksDB writes to, as far as it is known.
pub(super) struct LogRoom {
    directory: PathBuf,
    /// Bytes. When RocksDB has gone on to another log, this is too many, and syncs take longer until it is used up.
    left: usize,
}

impl LogRoom {
    /// For the store in a directory. Nothing is written yet.
    pub(super) fn new(directory: &Path) -> Self {
        let directory = directory.to_owned();
        Self { directory, left: 0 }
    }

    /// Makes room when there is less than a batch of `bytes` needs. To be called where nothing else writes.
    pub(super) fn make(&mut self, bytes: usize) {
        let bytes = bytes + bytes / 1024 + 64; // with the headers of its fragments
        if self.left < bytes {
            match append_zeros(&self.directory) {
                Ok(()) => {}
                // The disk is full, perhaps; the write that follows says so if it matters.
                Err(error) => tracing::debug!(%error, "no room was made in the log"),
            }
            self.left += ROOM;
        }
        self.left = self.left.saturating_sub(bytes);
    }
}

fn append_zeros(directory: &Path) -> io::Result<()> {
    let Some(log) = newest_log(directory)? else {
        return Ok(());
    };
    let mut log = OpenOptions::new().append(true).open(log)?;
    log.write_all(&vec![0; ROOM])
}

fn newest_log(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        newest = newest.max(log_number(&entry?.file_name().to_string_lossy()));
    }
    Ok(newest.map(|number| directory.join(format!("{number:06}.log"))))
}

fn log_number(file: &str) -> Option<u64> {
    file.strip_suffix(".log")?.parse().ok()
}

/// Bytes of zeros at a time: some tens of syncs of a busy server.
const ROOM: usize = 1 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{RocksDb, RocksDbOptions, database_options};
    use super::*;
    use crate::engine::{Commit, Engine, Op};
    use ::rocksdb::DB;
    use bytes::Bytes;

    #[test]
    fn room_is_made_behind_what_the_newest_log_holds_and_only_when_it_is_used_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        for name in ["000009.log", "000010.log", "000011.sst", "LOG"] {
            fs::write(path(name), name).unwrap();
        }
        let mut room = LogRoom::new(directory.path());
        room.make(100);
        let mut expected = b"000010.log".to_vec();
        expected.resize(expected.len() + ROOM, 0);
        room.make(ROOM / 2);
        assert_eq!(fs::read(path("000010.log")).unwrap(), expected);
        room.make(ROOM / 2);
        expected.resize(expected.len() + ROOM, 0);
        assert_eq!(fs::read(path("000010.log")).unwrap(), expected);
        for name in ["000009.log", "000011.sst", "LOG"] {
            assert_eq!(fs::read_to_string(path(name)).unwrap(), name);
        }
    }

    #[test]
    fn a_store_without_a_log_has_no_room_and_no_error() {
        let directory = tempfile::tempdir().unwrap();
        LogRoom::new(directory.path()).make(1);
        LogRoom::new(&directory.path().join("gone")).make(1);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[tokio::test]
    async fn commits_go_into_the_room_and_are_there_after_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        put(&store, "first", 10).await;
        assert_eq!(log_of(directory.path()).len(), ROOM);
        put(&store, "second", 10).await;
        assert_eq!(log_of(directory.path()).len(), ROOM);

        let crashed = copy(directory.path());
        for expected in [&["first", "second"][..], &["first", "second", "third"]] {
            let store = open(crashed.path());
            assert_eq!(keys(&store).await, expected);
            put(&store, "third", 10).await;
        }
    }

    /// Any of the pages of a write may be missing when the power fails before it is synced: zeros are in their place.
    #[tokio::test]
    async fn a_commit_that_a_power_failure_tore_is_gone_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        put(&store, "first", 5000).await;
        let before = log_of(directory.path());
        put(&store, "torn", 100_000).await;
        let after = log_of(directory.path());
        let start = (0..).find(|at| before[*at] != after[*at]).unwrap();
        let end = after.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        assert!(end - start > 100_000);

        let pages: Vec<_> = (start..end).step_by(4096).map(|at| at / 4096).collect();
        let (all, middle, last) = (0..pages.len(), pages.len() / 2, pages.len() - 1);
        for lost in [all, 0..1, 0..9, 1..last, middle..middle + 1, last..last + 1] {
            let crashed = copy(directory.path());
            let mut log = after.clone();
            for page in &pages[lost.clone()] {
                let page = page * 4096..(page + 1) * 4096;
                log[page.clone()].copy_from_slice(&before[page]);
            }
            fs::write(newest_log(crashed.path()).unwrap().unwrap(), log).unwrap();
            for expected in [&["first"][..], &["first", "next"]] {
                let store = open(crashed.path());
                assert_eq!(keys(&store).await, expected, "without the pages {lost:?}");
                put(&store, "next", 10).await;
            }
        }
    }

    /// RocksDB may go on to another log just when room is made: the log before gets it, after it was cut.
    #[test]
    fn room_behind_a_log_that_is_no_longer_written_hides_nothing_of_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = database_options(&RocksDbOptions::default());
        options.create_missing_column_families(true);
        // Two columns, so that the log before is still needed by one when the other's flush begins the next.
        let columns = ["default", "other"];
        let db = DB::open_cf(&options, directory.path(), columns).unwrap();
        let other = db.cf_handle("other").unwrap();
        db.put("first", "").unwrap();
        db.put_cf(other, "flushed", "").unwrap();
        let before = newest_log(directory.path()).unwrap().unwrap();
        db.flush_cf(other).unwrap();
        assert_ne!(newest_log(directory.path()).unwrap().unwrap(), before);
        let mut log = OpenOptions::new().append(true).open(&before).unwrap();
        log.write_all(&vec![0; ROOM]).unwrap();
        db.put("second", "").unwrap();

        let crashed = copy(directory.path());
        let before = crashed.path().join(before.file_name().unwrap());
        assert!(fs::metadata(before).unwrap().len() > ROOM as u64);
        let db = DB::open_cf(&options, crashed.path(), columns).unwrap();
        assert!(db.get("first").unwrap().is_some());
        assert!(db.get("second").unwrap().is_some());
    }

    fn open(directory: &Path) -> RocksDb {
        RocksDb::open(directory, RocksDbOptions::default()).unwrap()
    }

    /// What the disk holds at this moment, for somebody else to open.
    fn copy(directory: &Path) -> tempfile::TempDir {
        let copied = tempfile::tempdir().unwrap();
        for file in directory.read_dir().unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), copied.path().join(file.file_name())).unwrap();
        }
        copied
    }

    async fn keys(store: &RocksDb) -> Vec<String> {
        let stored = store.scan("", None, 10).await.unwrap();
        stored.into_iter().map(|(key, _)| key).collect()
    }

    async fn put(store: &RocksDb, key: &str, size: usize) {
        let ops = vec![Op::Put(key.to_owned(), Bytes::from(vec![b'v'; size]))];
        let expect = Vec::new();
        store.commit(Commit { expect, ops }).await.unwrap();
    }

    fn log_of(directory: &Path) -> Vec<u8> {
        let newest = newest_log(directory).unwrap().unwrap();
        fs::read(newest).unwrap()
    }
}
