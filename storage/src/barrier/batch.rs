//! What is changed together behind the barrier: full paths and plaintext, sealed when it is
//! committed and wiped when it is dropped.

use bytes::Bytes;
use std::fmt;
use zeroize::Zeroizing;

use crate::engine::Expected;
use crate::error::Error;
use crate::path;

/// A value that was read, and proof of what was read.
#[derive(Clone)]
pub struct Entry {
    pub value: Zeroizing<Vec<u8>>,
    pub seen: Seen,
}

/// The stored bytes of a value at the time it was read: a precondition for changing it.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen(pub(super) Bytes);

/// Changes that happen together or not at all. Later changes of one path win over earlier ones.
#[derive(Clone, Default)]
pub struct Batch {
    pub(super) expect: Vec<(String, Expected)>,
    pub(super) changes: Vec<Change>,
}

#[derive(Clone)]
pub(super) enum Change {
    Put(String, Zeroizing<Vec<u8>>),
    Delete(String),
    DeletePrefix(String),
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(
        &mut self,
        path: impl Into<String>,
        value: impl Into<Zeroizing<Vec<u8>>>,
    ) -> &mut Self {
        self.changes.push(Change::Put(path.into(), value.into()));
        self
    }

    pub fn delete(&mut self, path: impl Into<String>) -> &mut Self {
        self.changes.push(Change::Delete(path.into()));
        self
    }

    /// Deletes everything below a folder (the prefix ends with a slash).
    pub fn delete_prefix(&mut self, prefix: impl Into<String>) -> &mut Self {
        self.changes.push(Change::DeletePrefix(prefix.into()));
        self
    }

    /// The batch conflicts when there is a value at `path`.
    pub fn expect_absent(&mut self, path: impl Into<String>) -> &mut Self {
        self.expect.push((path.into(), Expected::Absent));
        self
    }

    /// The batch conflicts when there is no value at `path`.
    pub fn expect_present(&mut self, path: impl Into<String>) -> &mut Self {
        self.expect.push((path.into(), Expected::Present));
        self
    }

    /// The batch conflicts when the value at `path` is not the one that was read.
    pub fn expect(&mut self, path: impl Into<String>, seen: &Seen) -> &mut Self {
        let seen = Expected::Exactly(seen.0.clone());
        self.expect.push((path.into(), seen));
        self
    }

    /// Appends another batch: its expectations must hold as well, its changes come after.
    pub fn merge(&mut self, other: Batch) -> &mut Self {
        self.expect.extend(other.expect);
        self.changes.extend(other.changes);
        self
    }

    /// Whether there is nothing to change and nothing to check.
    pub fn is_empty(&self) -> bool {
        self.expect.is_empty() && self.changes.is_empty()
    }

    pub(super) fn puts(&self) -> u64 {
        self.changes
            .iter()
            .filter(|change| matches!(change, Change::Put(..)))
            .count() as u64
    }

    /// Checks every path before anything is sealed.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (path, _) in &self.expect {
            check_own(path)?;
        }
        for change in &self.changes {
            match change {
                Change::Put(path, _) | Change::Delete(path) => check_own(path)?,
                Change::DeletePrefix(prefix) => {
                    path::check_folder(prefix)?;
                    if super::RESERVED.iter().any(|own| own.starts_with(prefix)) {
                        return Err(reserved(prefix));
                    }
                }
            }
        }
        Ok(())
    }
}

fn check_own(path: &str) -> Result<(), Error> {
    path::check_value(path)?;
    if super::is_reserved(path) {
        return Err(reserved(path));
    }
    Ok(())
}

fn reserved(path: &str) -> Error {
    Error::BadPath {
        path: path.to_owned(),
        why: "it holds the barrier's own keys",
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} bytes)", self.value.len())
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seen({} bytes)", self.0.len())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Batch({} expectations, {} changes)",
            self.expect.len(),
            self.changes.len()
        )
    }
}
