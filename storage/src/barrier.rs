//! The barrier: everything that passes it is sealed with AES-256-GCM on the way down and opened
//! on the way up. What it keeps in the engine:
//!
//! `[format 1][key term, u32 BE][nonce, 12][ciphertext and tag]`, with the first five bytes and
//! the full path as associated data, so that a value opens only where it was written.

mod batch;
pub(crate) mod envelope;
pub(crate) mod keyring;
mod rotation;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ring::aead::{Aad, NONCE_LEN, Nonce};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

pub use batch::{Batch, Entry, Seen};

use crate::engine::{Commit, Engine, EngineError, Expected, Op};
use crate::error::{Corruption, Error};
use crate::path;
use crate::seal::{self, RootKey};
use crate::snapshot;
use crate::timing::Timing;
use batch::Change;
use envelope::{Cipher, fill_random};
use keyring::{Keyring, Term};

/// The encrypted side of an engine. Sealed until [`Barrier::unseal`].
///
/// Reads and writes never wait for each other here: they take the current keys from an atomic
/// pointer, which unsealing, sealing and rotation replace.
pub struct Barrier {
    engine: Arc<dyn Engine>,
    /// Encryptions under one key after which the barrier rotates by itself; may change at any time.
    rotate_after: AtomicU64,
    reserve: u64,
    keys: ArcSwapOption<Keys>,
    /// Held by whoever replaces `keys` from the stored keyring.
    changing: Mutex<()>,
    meters: BarrierMeters,
}

/// What passed the barrier, since the process began.
#[derive(Debug, Default)]
pub struct BarrierMeters {
    /// Single values.
    pub get: Timing,
    /// Until they were durable; refused ones too.
    pub commit: Timing,
    /// Listings and scans.
    pub list: Timing,
    /// Values written.
    pub values: AtomicU64,
    /// Commits whose expectations were not met.
    pub conflicts: AtomicU64,
}

/// When keys are rotated.
#[derive(Clone, Copy, Debug)]
pub struct BarrierOptions {
    /// Encryptions under one key after which the barrier rotates by itself. Random nonces of 96
    /// bits want no more than 2^32 messages per key (NIST SP 800-38D, section 8.3).
    pub rotate_after: u64,
    /// Encryptions that are reserved at a time, with one durable write. A restart wastes up to
    /// this many of a key's lifetime.
    pub reserve: u64,
}

impl Default for BarrierOptions {
    fn default() -> Self {
        Self {
            rotate_after: 1 << 31,
            reserve: 1 << 16,
        }
    }
}

/// The key that new values are sealed under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    pub term: u32,
    /// Seconds since the epoch.
    pub installed: u64,
    /// Encryptions under this key: exact for this server's, rounded up for others' and for those
    /// before a restart.
    pub encryptions: u64,
    /// Encryptions at which the barrier rotates by itself.
    pub rotate_after: u64,
}

impl Barrier {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self::with_options(engine, BarrierOptions::default())
    }

    /// A barrier with its own thresholds; they are clamped to what the cipher permits.
    pub fn with_options(engine: Arc<dyn Engine>, options: BarrierOptions) -> Self {
        let rotate_after = options.rotate_after.clamp(1, MAX_ENCRYPTIONS);
        Self {
            engine,
            rotate_after: AtomicU64::new(rotate_after),
            reserve: options.reserve.clamp(1, rotate_after),
            keys: ArcSwapOption::empty(),
            changing: Mutex::new(()),
            meters: BarrierMeters::default(),
        }
    }

    /// Whether there is a keyring. Sealed or not makes no difference.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        Ok(self.engine.get(keyring::PATH).await?.is_some())
    }

    /// Creates the keyring under `root`. The barrier stays sealed.
    pub async fn initialize(&self, root: &RootKey) -> Result<(), Error> {
        self.initialize_with(root, Vec::new()).await
    }

    /// Creates the keyring together with the seal's own records.
    pub(crate) async fn initialize_with(
        &self,
        root: &RootKey,
        records: Vec<(&'static str, Bytes)>,
    ) -> Result<(), Error> {
        let raw = Keyring::generate()?.seal(root)?;
        let mut commit = Commit {
            expect: vec![(keyring::PATH.to_owned(), Expected::Absent)],
            ops: vec![Op::Put(keyring::PATH.to_owned(), raw)],
        };
        for (path, record) in records {
            debug_assert!(is_reserved(path));
            commit.expect.push((path.to_owned(), Expected::Absent));
            commit.ops.push(Op::Put(path.to_owned(), record));
        }
        match self.engine.commit(commit).await {
            Err(EngineError::Conflict { .. }) => Err(Error::AlreadyInitialized),
            other => Ok(other?),
        }
    }

    /// Opens the keyring. On an unsealed barrier this proves the key and changes nothing.
    pub async fn unseal(&self, root: &RootKey) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let raw = self.stored_keyring().await?;
        let ring = Keyring::open(root, &raw)?;
        if self.is_sealed() {
            let keys = Keys::new(root.clone(), &ring, None);
            self.keys.store(Some(Arc::new(keys)));
            self.begin_after_restore()
                .await
                .inspect_err(|_| self.seal())?;
        }
        Ok(())
    }

    /// The first unsealing after a restore goes on under a key of its own: the count of the old one was set back, and
    /// another copy of the server may go on under it. The caller holds `changing`.
    async fn begin_after_restore(&self) -> Result<(), Error> {
        if self.engine.get(snapshot::RESTORED).await?.is_none() {
            return Ok(());
        }
        self.change_keyring(|ring| ring.rotate().map(|_| Some(0)))
            .await?;
        let done = Commit {
            expect: Vec::new(),
            ops: vec![Op::Delete(snapshot::RESTORED.to_owned())],
        };
        Ok(self.engine.commit(done).await?)
    }

    /// Whether `path` holds a record of the barrier or of the seal, which are not to be read or written as values.
    pub fn is_its_own(path: &str) -> bool {
        is_reserved(path)
    }

    /// Forgets the keys. They are wiped as soon as the operations under way let go of them.
    pub fn seal(&self) {
        self.keys.store(None);
    }

    pub fn is_sealed(&self) -> bool {
        self.keys.load().is_none()
    }

    /// The value at `path`.
    pub async fn get(&self, path: &str) -> Result<Option<Entry>, Error> {
        path::check_value(path)?;
        if self.is_sealed() {
            return Err(Error::Sealed);
        }
        let began = Instant::now();
        let entry = match self.engine.get(path).await? {
            Some(raw) => self.open(path, raw).await.map(Some),
            None => Ok(None),
        };
        self.meters.get.observe(began.elapsed());
        entry
    }

    /// One level below a folder (which ends with a slash; empty is the top): `name` for a value,
    /// `name/` for a folder, sorted, at most `limit`, beginning after `after`.
    pub async fn list(
        &self,
        folder: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        if !folder.is_empty() {
            path::check_folder(folder)?;
        }
        path::check_bound(after.unwrap_or_default())?;
        if self.is_sealed() {
            return Err(Error::Sealed);
        }
        let began = Instant::now();
        let names = self.engine.list(folder, after, limit).await?;
        self.meters.list.observe(began.elapsed());
        Ok(names)
    }

    /// Paths and values from `start` (inclusive) to `end` (exclusive), in order, at most `limit`.
    pub async fn scan(
        &self,
        start: &str,
        end: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Entry)>, Error> {
        path::check_bound(start)?;
        path::check_bound(end.unwrap_or_default())?;
        if self.is_sealed() {
            return Err(Error::Sealed);
        }
        let began = Instant::now();
        let mut entries = Vec::new();
        let mut start = start.to_owned();
        // The barrier's own records are passed over without shortening the page, which a caller
        // would take for the end.
        loop {
            let wanted = limit - entries.len();
            let page = self.engine.scan(&start, end, wanted).await?;
            let last_page = page.len() < wanted;
            if let Some((path, _)) = page.last() {
                start = format!("{path}\0");
            }
            for (path, raw) in page {
                if !is_reserved(&path) {
                    let entry = self.open(&path, raw).await?;
                    entries.push((path, entry));
                }
            }
            if last_page || entries.len() >= limit {
                self.meters.list.observe(began.elapsed());
                return Ok(entries);
            }
        }
    }

    /// Seals and writes the batch, all of it or nothing. Durable when it returns `Ok`.
    pub async fn commit(&self, batch: Batch) -> Result<(), Error> {
        batch.check()?;
        let began = Instant::now();
        let values = batch.puts();
        let keys = self.keys_for(values).await?;
        let commit = seal_batch(keys.active(), batch)?;
        drop(keys);
        let committed = self.engine.commit(commit).await;
        self.meters.commit.observe(began.elapsed());
        match &committed {
            Ok(()) => self.meters.values.fetch_add(values, Ordering::Relaxed),
            Err(EngineError::Conflict { .. }) => {
                self.meters.conflicts.fetch_add(1, Ordering::Relaxed)
            }
            Err(_) => 0,
        };
        Ok(committed?)
    }

    pub fn key_status(&self) -> Result<KeyStatus, Error> {
        let keys = self.loaded()?;
        let active = keys.active();
        let unused = active.allowance.load(Ordering::Acquire);
        Ok(KeyStatus {
            term: active.number,
            installed: active.installed,
            encryptions: active
                .reserved
                .load(Ordering::Acquire)
                .saturating_sub(unused),
            rotate_after: self.rotate_after.load(Ordering::Relaxed),
        })
    }

    /// What has passed so far.
    pub fn meters(&self) -> &BarrierMeters {
        &self.meters
    }

    /// The engine, for the seal's records, which rest beside the keyring.
    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The root key of an unsealed barrier.
    pub fn root(&self) -> Result<RootKey, Error> {
        Ok(self.loaded()?.root.clone())
    }

    fn loaded(&self) -> Result<Arc<Keys>, Error> {
        self.keys.load_full().ok_or(Error::Sealed)
    }

    /// The keys, when their active term may encrypt `count` more values.
    async fn keys_for(&self, count: u64) -> Result<Arc<Keys>, Error> {
        if count > MAX_ENCRYPTIONS {
            return Err(Error::BatchTooLarge(count));
        }
        loop {
            let keys = self.loaded()?;
            if keys.active().take(count) {
                return Ok(keys);
            }
            self.reserve(count).await?;
        }
    }

    async fn stored_keyring(&self) -> Result<Bytes, Error> {
        self.engine
            .get(keyring::PATH)
            .await?
            .ok_or(Error::NotInitialized)
    }

    async fn open(&self, path: &str, raw: Bytes) -> Result<Entry, Error> {
        let value = match self.open_with_loaded(path, &raw) {
            // Another server may have rotated: look once whether the keyring has grown.
            Err(Error::Corrupt {
                why: Corruption::UnknownTerm(_),
                ..
            }) => {
                {
                    let _changing = self.changing.lock().await;
                    let keys = self.loaded()?;
                    let stored = self.stored_keyring().await?;
                    let ring = self.open_keyring(&keys, &stored)?;
                    self.install(&keys, &keys.root, &ring, 0)?;
                }
                self.open_with_loaded(path, &raw)?
            }
            other => other?,
        };
        Ok(Entry {
            value,
            seen: Seen(raw),
        })
    }

    fn open_with_loaded(&self, path: &str, raw: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(Error::Sealed)?;
        open_value(keys, path, raw).map_err(|why| Error::corrupt(path, why))
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("engine", &self.engine.name())
            .field("sealed", &self.is_sealed())
            .finish()
    }
}

/// Whether `path` holds a record of the barrier or of the seal, which batches must not touch.
fn is_reserved(path: &str) -> bool {
    RESERVED.contains(&path)
}

/// Records that are not under a term of the keyring.
const RESERVED: [&str; 7] = [
    keyring::PATH,
    snapshot::RESTORED,
    seal::CONFIG_PATH,
    seal::ROOT_KEY_PATH,
    seal::RECOVERY_PATH,
    seal::UNSEAL_BACKUP_PATH,
    seal::RECOVERY_BACKUP_PATH,
];

/// What an unsealed barrier has in memory.
struct Keys {
    root: RootKey,
    /// Sorted by number; the last is active.
    terms: Vec<Arc<TermKey>>,
}

/// A data key, ready to use. It is shared by successive [`Keys`], so its counters live on.
struct TermKey {
    number: u32,
    installed: u64,
    /// What the stored keyring said last.
    reserved: AtomicU64,
    /// Encryptions that this server may still make under what it has reserved.
    allowance: AtomicU64,
    cipher: Cipher,
}

impl Keys {
    fn new(root: RootKey, ring: &Keyring, old: Option<&Keys>) -> Self {
        let terms = ring
            .terms
            .iter()
            .map(|term| match old.and_then(|old| old.term(term.number)) {
                Some(known) => {
                    known.reserved.store(term.reserved, Ordering::Release);
                    Arc::clone(known)
                }
                None => Arc::new(TermKey::new(term)),
            })
            .collect();
        Self { root, terms }
    }

    fn active(&self) -> &TermKey {
        self.terms.last().expect("a keyring is never empty")
    }

    fn term(&self, number: u32) -> Option<&Arc<TermKey>> {
        // Most values are under the active term or a recent one.
        self.terms.iter().rev().find(|term| term.number == number)
    }
}

impl TermKey {
    fn new(term: &Term) -> Self {
        Self {
            number: term.number,
            installed: term.installed,
            reserved: AtomicU64::new(term.reserved),
            allowance: AtomicU64::new(0),
            cipher: Cipher::new(&term.key),
        }
    }

    fn has(&self, count: u64) -> bool {
        self.allowance.load(Ordering::Acquire) >= count
    }

    fn take(&self, count: u64) -> bool {
        self.allowance
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                left.checked_sub(count)
            })
            .is_ok()
    }
}

fn seal_batch(key: &TermKey, batch: Batch) -> Result<Commit, Error> {
    // One call to the system for all nonces.
    let mut nonces = vec![0; batch.puts() as usize * NONCE_LEN];
    fill_random(&mut nonces)?;
    let mut nonces = nonces.as_chunks::<NONCE_LEN>().0.iter();
    let ops = batch
        .changes
        .into_iter()
        .map(|change| match change {
            Change::Put(path, value) => {
                let nonce = *nonces.next().expect("there is a nonce for every put");
                let raw = seal_value(key, &path, nonce, &value);
                Op::Put(path, raw)
            }
            Change::Delete(path) => Op::Delete(path),
            Change::DeletePrefix(prefix) => Op::DeletePrefix(prefix),
        })
        .collect();
    Ok(Commit {
        expect: batch.expect,
        ops,
    })
}

fn seal_value(key: &TermKey, path: &str, nonce: [u8; NONCE_LEN], plain: &[u8]) -> Bytes {
    let mut raw = Vec::with_capacity(OVERHEAD + plain.len());
    raw.push(FORMAT);
    raw.extend_from_slice(&key.number.to_be_bytes());
    raw.extend_from_slice(&nonce);
    raw.extend_from_slice(plain);
    let (header, sealed) = raw.split_at_mut(HEADER);
    let tag = with_associated_data(&header[..BOUND], path, |data| {
        key.cipher.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(data),
            sealed,
        )
    })
    .expect("a value is far below the cipher's limit of 64 GiB");
    raw.extend_from_slice(tag.as_ref());
    raw.into()
}

fn open_value(keys: &Keys, path: &str, raw: &[u8]) -> Result<Zeroizing<Vec<u8>>, Corruption> {
    match raw.first() {
        None => return Err(Corruption::Truncated),
        Some(&FORMAT) => {}
        Some(&other) => return Err(Corruption::UnknownFormat(other)),
    }
    if raw.len() < OVERHEAD {
        return Err(Corruption::Truncated);
    }
    let (header, sealed) = raw.split_at(HEADER);
    let term = u32::from_be_bytes(header[1..BOUND].try_into().expect("four bytes"));
    let key = keys.term(term).ok_or(Corruption::UnknownTerm(term))?;
    let nonce = Nonce::try_assume_unique_for_key(&header[BOUND..])
        .expect("the header ends with a nonce of the cipher's length");
    let mut plain = Zeroizing::new(sealed.to_vec());
    let length = with_associated_data(&header[..BOUND], path, |data| {
        key.cipher
            .open_in_place(nonce, Aad::from(data), &mut plain)
            .map(|plain| plain.len())
    })
    .map_err(|_| Corruption::Authentication)?;
    plain.truncate(length);
    Ok(plain)
}

/// Lays header and path side by side, on the stack when the path is as short as most are.
fn with_associated_data<T>(header: &[u8], path: &str, then: impl FnOnce(&[u8]) -> T) -> T {
    let length = header.len() + path.len();
    let mut short = [0; 256];
    let mut long = Vec::new();
    let data = if length <= short.len() {
        &mut short[..length]
    } else {
        long.resize(length, 0);
        &mut long[..]
    };
    data[..header.len()].copy_from_slice(header);
    data[header.len()..].copy_from_slice(path.as_bytes());
    then(data)
}

/// Encryptions that one key may ever make.
const MAX_ENCRYPTIONS: u64 = u32::MAX as u64;

const FORMAT: u8 = 1;
/// The part of the header that is associated data: format and term.
const BOUND: usize = 1 + 4;
const HEADER: usize = BOUND + NONCE_LEN;
const OVERHEAD: usize = HEADER + TAG_LEN;
const TAG_LEN: usize = ring::aead::MAX_TAG_LEN;
