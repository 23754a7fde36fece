//! What a storage engine is: an ordered map from UTF-8 keys to bytes with atomic commits.
//! Nothing here assumes one process: whoever must not overwrite another's change says what it
//! saw ([`Commit::expect`]) and is refused with [`EngineError::Conflict`] when that has changed.

use async_trait::async_trait;
use bytes::Bytes;

/// An ordered key-value store. Keys compare bytewise.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The engine's name, as in configuration and logs.
    fn name(&self) -> &'static str;

    /// The value at `key`.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, EngineError>;

    /// One level below `prefix`: `name` for a value, `name/` for a folder, sorted bytewise, each
    /// once, at most `limit`, beginning after `after` (exclusive). A folder's contents are skipped
    /// by seeking, so the cost follows the names returned, not what lies below them.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, EngineError>;

    /// Keys and values from `start` (inclusive) to `end` (exclusive; `None` is the end of the
    /// store), in order, at most `limit`.
    async fn scan(
        &self,
        start: &str,
        end: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, EngineError>;

    /// Applies the commit as a whole or not at all; when this returns `Ok`, it is durable.
    ///
    /// A caller that drops the future may find the commit done all the same.
    async fn commit(&self, commit: Commit) -> Result<(), EngineError>;

    /// Finishes the commits that wait, writes out what is buffered, and refuses later commits.
    async fn close(&self) -> Result<(), EngineError>;

    /// Gives every key and value as they are at one moment, in order, to `each`, until that answers `false`. Commits go
    /// on meanwhile and are not seen. Blocks: for a thread that may.
    fn visit_all(&self, each: &mut dyn FnMut(&str, &[u8]) -> bool) -> Result<(), EngineError> {
        let _ = each;
        Err(EngineError::unsupported(self.name()))
    }

    /// Puts what `next` gives, in order and each key once, in the place of everything that is stored: as a whole or,
    /// when this is not `Ok`, not at all. `next` ends with `None`. Memory does not grow with the number of entries.
    /// Durable when it returns. Blocks: for a thread that may.
    fn replace_all(&self, next: &mut NextEntry<'_>) -> Result<(), EngineError> {
        let _ = next;
        Err(EngineError::unsupported(self.name()))
    }
}

/// Where the entries for [`Engine::replace_all`] come from.
pub type NextEntry<'a> = dyn FnMut() -> Result<Option<(String, Bytes)>, Aborted> + 'a;

/// The source of entries gave up; it knows why.
#[derive(Clone, Copy, Debug)]
pub struct Aborted;

/// Changes that happen together, and what must hold for them to happen.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Keys, and what must be there when the commit is applied.
    pub expect: Vec<(String, Expected)>,
    /// Applied in order.
    pub ops: Vec<Op>,
}

/// What a commit finds at a key, or else it conflicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No value.
    Absent,
    /// Any value.
    Present,
    /// These bytes, which the writer saw there.
    Exactly(Bytes),
}

impl Expected {
    /// Whether what is stored is what was expected.
    pub fn is_met_by(&self, stored: Option<&[u8]>) -> bool {
        match (self, stored) {
            (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::Exactly(seen), Some(stored)) => seen == stored,
            _ => false,
        }
    }
}

/// What [`Engine::get`] returned.
impl From<Option<Bytes>> for Expected {
    fn from(seen: Option<Bytes>) -> Self {
        seen.map_or(Self::Absent, Self::Exactly)
    }
}

/// One change.
#[derive(Clone, Debug)]
pub enum Op {
    Put(String, Bytes),
    Delete(String),
    /// Deletes every key that begins with the string.
    DeletePrefix(String),
}

/// Why an engine did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// An expectation was not met; nothing was written. Read again and retry.
    #[error("the value at {key:?} has changed since it was read")]
    Conflict { key: String },
    /// Another process has the directory open.
    #[error("{path} is in use by another process (one server at a time may open it)")]
    Locked { path: String },
    /// The store could not be opened.
    #[error("cannot open the store at {path}: {cause}")]
    Open { path: String, cause: String },
    /// The store failed to read or write. The cause is the operating system's or the store's.
    #[error("storage is unavailable: {cause}")]
    Unavailable { cause: String },
    /// The source of entries for [`Engine::replace_all`] gave up, and nothing was changed.
    #[error("the entries that should be stored ended early")]
    Aborted,
    /// [`Engine::close`] was called.
    #[error("storage is closed")]
    Closed,
}

impl EngineError {
    fn unsupported(engine: &str) -> Self {
        Self::Unavailable {
            cause: format!("the storage engine {engine} knows no snapshots"),
        }
    }

    #[cfg(feature = "rocksdb")]
    pub(crate) fn unavailable(cause: impl std::fmt::Display) -> Self {
        Self::Unavailable {
            cause: cause.to_string(),
        }
    }
}

impl From<Aborted> for EngineError {
    fn from(_: Aborted) -> Self {
        Self::Aborted
    }
}

/// The name that a key has in its level: up to and with the first slash, or all of it.
pub(crate) fn level_name(rest: &str) -> &str {
    match rest.find('/') {
        Some(slash) => &rest[..=slash],
        None => rest,
    }
}

/// Where a listing goes on behind `name`: for a folder, the first key past all of its contents
/// (`0` follows `/` in ASCII), for a value the very next key.
pub(crate) fn behind(prefix: &str, name: &str) -> String {
    let name = level_name(name);
    match name.strip_suffix('/') {
        Some(folder) => format!("{prefix}{folder}0"),
        None => format!("{prefix}{name}\0"),
    }
}
