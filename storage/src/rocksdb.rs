//! The embedded engine: RocksDB in a directory, with every commit synced to its write-ahead log.
//!
//! Reads try memory first (value cache, memtables, block cache) on the caller's thread, which takes
//! microseconds; only a read that needs the disk moves to the runtime's blocking threads. Writes
//! go through one committer thread, which shares a sync among all that wait.

mod cache;
mod committer;
mod log_room;
mod whole;

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::str::Utf8Error;
use std::sync::Arc;

use ::rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompressionType, Env, Error, ErrorKind,
    LogLevel, LruCacheOptions, Options, ReadOptions, ReadTier,
};
use async_trait::async_trait;
use bytes::Bytes;

use crate::engine::{Commit, Engine, EngineError, NextEntry, behind, level_name};
use cache::{LookUp, ValueCache};
use committer::Committer;

/// A store in a directory of its own, which one process at a time may open.
pub struct RocksDb {
    // Before `db`: its thread is joined first, so that dropping the engine releases the directory.
    committer: Committer,
    cache: Arc<ValueCache>,
    db: Arc<DB>,
}

/// How much memory and how many threads the store may take. The defaults suit a server that is
/// idle most of the time: nothing here is allocated before it is used.
#[derive(Clone, Copy, Debug)]
pub struct RocksDbOptions {
    /// Bytes of blocks, indexes and filters kept in memory.
    pub block_cache: usize,
    /// Bytes of single values, as stored, kept in memory.
    pub value_cache: usize,
    /// Bytes of recent writes kept in memory before they are written out as a file.
    pub write_buffer: usize,
    /// Threads for flushing and compaction.
    pub background_jobs: u32,
    /// Files kept open.
    pub open_files: u32,
}

impl Default for RocksDbOptions {
    fn default() -> Self {
        Self {
            block_cache: 24 << 20,
            value_cache: 8 << 20,
            write_buffer: 16 << 20,
            background_jobs: 2,
            open_files: 512,
        }
    }
}

impl RocksDb {
    /// Opens the store at `path`, creating it when it is missing, readable by the owner alone.
    /// Blocks while the write-ahead log is replayed.
    pub fn open(path: impl AsRef<Path>, options: RocksDbOptions) -> Result<Self, EngineError> {
        let path = path.as_ref();
        prepare_directory(path)?;
        let db = DB::open(&database_options(&options), path).map_err(|error| {
            let path = path.display().to_string();
            if is_locked(&error) {
                EngineError::Locked { path }
            } else {
                let cause = error.into_string();
                EngineError::Open { path, cause }
            }
        })?;
        let db = Arc::new(db);
        let cache = Arc::new(ValueCache::new(options.value_cache));
        Ok(Self {
            committer: Committer::start(Arc::clone(&db), Arc::clone(&cache))?,
            cache,
            db,
        })
    }

    /// Runs a short read against what is in memory, and when that does not answer it, again with the disk; a long one
    /// with the disk at once. A long one walks over much, to count or to tidy, and must not push out of memory what
    /// requests need.
    async fn read<T: Send + 'static>(
        &self,
        is_short: bool,
        read: impl Fn(&DB, ReadOptions) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, EngineError> {
        if is_short {
            match read(&self.db, memory_only()) {
                Err(error) if error.is_not_in_memory() => {}
                other => return other.map_err(EngineError::unavailable),
            }
        }
        self.on_disk(is_short, read).await
    }

    /// Runs a read that may need the disk on a blocking thread.
    async fn on_disk<T: Send + 'static>(
        &self,
        keep_blocks: bool,
        read: impl Fn(&DB, ReadOptions) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let db = Arc::clone(&self.db);
        let mut options = ReadOptions::default();
        options.fill_cache(keep_blocks);
        tokio::task::spawn_blocking(move || read(&db, options))
            .await
            .map_err(EngineError::unavailable)?
            .map_err(EngineError::unavailable)
    }
}

#[async_trait]
impl Engine for RocksDb {
    fn name(&self) -> &'static str {
        "rocksdb"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, EngineError> {
        let claim = match self.cache.look_up(key) {
            LookUp::Hit(value) => return Ok(value),
            LookUp::Miss(claim) => claim,
        };
        // Spelled out, not through `read`, so that the common case copies no key.
        let value = match self.db.get_opt(key, &memory_only()) {
            Err(error) if error.kind() == ErrorKind::Incomplete => {
                let key = key.to_owned();
                self.on_disk(true, move |db, options| Ok(db.get_opt(&key, &options)?))
                    .await?
            }
            other => other.map_err(EngineError::unavailable)?,
        };
        let value = value.map(Bytes::from);
        claim.fill(&value);
        Ok(value)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, EngineError> {
        let start = match after {
            Some(name) => behind(prefix, name),
            None => prefix.to_owned(),
        };
        let prefix = prefix.to_owned();
        self.read(limit <= SHORT, move |db, options| {
            list(db, options, &prefix, &start, limit)
        })
        .await
    }

    async fn scan(
        &self,
        start: &str,
        end: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, EngineError> {
        if end.is_some_and(|end| end <= start) {
            return Ok(Vec::new());
        }
        let (start, end) = (start.to_owned(), end.map(str::to_owned));
        self.read(limit <= SHORT, move |db, options| {
            scan(db, options, &start, end.as_deref(), limit)
        })
        .await
    }

    async fn commit(&self, commit: Commit) -> Result<(), EngineError> {
        self.committer.commit(commit).await
    }

    fn visit_all(&self, each: &mut dyn FnMut(&str, &[u8]) -> bool) -> Result<(), EngineError> {
        whole::visit(&self.db, each).map_err(EngineError::unavailable)
    }

    fn replace_all(&self, next: &mut NextEntry<'_>) -> Result<(), EngineError> {
        let files = whole::Files::write(self.db.path(), next)?;
        self.committer.replace(files.paths().to_vec())
    }

    async fn close(&self) -> Result<(), EngineError> {
        self.committer.close().await?;
        let db = Arc::clone(&self.db);
        // What is in memory tables goes to a file, so that the next start replays no log.
        tokio::task::spawn_blocking(move || db.flush())
            .await
            .map_err(EngineError::unavailable)?
            .map_err(EngineError::unavailable)
    }
}

fn list(
    db: &DB,
    mut options: ReadOptions,
    prefix: &str,
    start: &str,
    limit: usize,
) -> Result<Vec<String>, ReadError> {
    options.set_iterate_upper_bound(prefix_end(prefix));
    let mut names = Vec::new();
    let mut at = db.raw_iterator_opt(options);
    at.seek(start);
    while names.len() < limit {
        let Some(key) = at.key() else {
            break;
        };
        let name = level_name(str::from_utf8(&key[prefix.len()..])?);
        if name.ends_with('/') {
            names.push(name.to_owned());
            at.seek(behind(prefix, name));
        } else {
            // A value at the prefix itself ("a/" under "a/") has no name in this level.
            if !name.is_empty() {
                names.push(name.to_owned());
            }
            at.next();
        }
    }
    at.status()?;
    Ok(names)
}

fn scan(
    db: &DB,
    mut options: ReadOptions,
    start: &str,
    end: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Bytes)>, ReadError> {
    if let Some(end) = end {
        options.set_iterate_upper_bound(end);
    }
    let mut entries = Vec::new();
    let mut at = db.raw_iterator_opt(options);
    at.seek(start);
    while entries.len() < limit {
        let Some((key, value)) = at.item() else {
            break;
        };
        entries.push((
            str::from_utf8(key)?.to_owned(),
            Bytes::copy_from_slice(value),
        ));
        at.next();
    }
    at.status()?;
    Ok(entries)
}

/// The first bytes behind everything that begins with `prefix`.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last += 1, // no byte of UTF-8 is 0xff
        None => end.push(0xff),
    }
    end
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("a key is not UTF-8 text, so something else wrote to this store")]
    Key(#[from] Utf8Error),
}

impl ReadError {
    /// Whether the read, made with [`memory_only`], would have had to touch the disk.
    fn is_not_in_memory(&self) -> bool {
        matches!(self, Self::Store(error) if error.kind() == ErrorKind::Incomplete)
    }
}

/// Reads that end with `Incomplete` instead of touching the disk or wading through deletions.
fn memory_only() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_read_tier(ReadTier::BlockCache);
    options.set_max_skippable_internal_keys(256);
    options
}

fn prepare_directory(path: &Path) -> Result<(), EngineError> {
    let failed = |cause: std::io::Error| EngineError::Open {
        path: path.display().to_string(),
        cause: cause.to_string(),
    };
    // What is created here must be on the disk before a commit below it can be called durable.
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.exists()).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)?;
    for created in missing {
        let parent = match created.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let parent = File::open(parent).map_err(failed)?;
        parent.sync_all().map_err(failed)?;
    }
    let mode = path.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        tracing::warn!(%path, "the storage directory is open to other users: chmod 700 is better");
    }
    Ok(())
}

fn is_locked(error: &Error) -> bool {
    // RocksDB has no kind of its own for this; both texts come from its file system layer.
    let text = error.as_ref();
    text.contains("While lock file") || text.contains("lock hold by current process")
}

fn database_options(options: &RocksDbOptions) -> Options {
    let mut cache = LruCacheOptions::default();
    cache.set_capacity(options.block_cache);
    // Few shards: each has its own share of the capacity, and this is a small cache.
    cache.set_num_shard_bits(2);

    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache_opts(&cache));
    table.set_block_size(8 << 10);
    table.set_format_version(6);
    table.set_bloom_filter(10.0, false);
    table.set_optimize_filters_for_memory(true);
    // Indexes and filters live in the cache, in partitions, so that a large store costs no more
    // memory than a small one, and opening it reads none of them.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(4 << 10);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);

    let mut database = Options::default();
    database.create_if_missing(true);
    database.set_block_based_table_factory(&table);
    database.set_write_buffer_size(options.write_buffer);
    database.set_max_write_buffer_number(3);
    // What must not be there yet (a used proof, a new secret) is looked for with each write.
    database.set_memtable_prefix_bloom_ratio(0.02);
    database.set_memtable_whole_key_filtering(true);
    database.set_arena_block_size(256 << 10);
    // A compaction takes a core for seconds, and can wait; requests get the core first. Flushing keeps its share, or
    // writes would have to wait for it.
    if let Ok(mut threads) = Env::new() {
        threads.lower_thread_pool_cpu_priority();
        database.set_env(&threads);
    }
    database.set_max_background_jobs(i32::try_from(options.background_jobs).unwrap_or(i32::MAX));
    database.set_max_open_files(i32::try_from(options.open_files).unwrap_or(i32::MAX));
    database.set_max_file_opening_threads(1);
    database.set_skip_stats_update_on_db_open(true);
    // Ciphertext does not compress, and of keys blocks hold only where they differ from the one before.
    database.set_compression_type(DBCompressionType::None);
    database.set_bytes_per_sync(1 << 20);
    database.set_max_total_wal_size(64 << 20);
    // Off, although it halves the time of a sync: RocksDB 11.8 may take a file for a new log while the old log's writer
    // still has it open; that one, when it closes, cuts the file where the old log ended. A replay then stops in the
    // middle of what was acknowledged.
    database.set_recycle_log_file_num(0);
    // A power failure may tear the end of the log, behind the last sync; opening then stops there,
    // which is RocksDB's default (point-in-time recovery). A whole log that was synced and is gone
    // or shorter is an error.
    database.set_track_and_verify_wals_in_manifest(true);
    // The expiry index is eaten from the front: files that are mostly deletions get compacted.
    database.add_compact_on_deletion_collector_factory(1024, 512, 0.5);
    database.set_log_level(LogLevel::Warn);
    database.set_max_log_file_size(1 << 20);
    database.set_keep_log_file_num(2);
    database.set_stats_dump_period_sec(0);
    database.set_stats_persist_period_sec(0);
    database
}

/// Entries that are read on the caller's thread: some hundred microseconds at most.
const SHORT: usize = 128;
