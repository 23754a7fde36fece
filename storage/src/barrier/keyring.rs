//! The keyring: every data key that still has values under it, one per term, and how many
//! encryptions have been handed out to each. It rests as one record under the root key.

use bytes::Bytes;
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

use super::envelope::{KEY_LEN, Key, random_key, unwrap, wrap};
use crate::error::{Corruption, Error};
use crate::seal::RootKey;

/// Where the keyring rests.
pub(crate) const PATH: &str = "core/keyring";

/// The keyring as it is stored. The last term is the one that new values are sealed under.
pub(crate) struct Keyring {
    pub(super) terms: Vec<Term>,
}

/// One data key.
pub(super) struct Term {
    pub(super) number: u32,
    /// Seconds since the epoch.
    pub(super) installed: u64,
    /// Encryptions that servers may have made under this key: raised before they make them, so a
    /// crash leaves it too high and never too low.
    pub(super) reserved: u64,
    pub(super) key: Key,
}

impl Keyring {
    /// A keyring with one fresh key.
    pub(super) fn generate() -> Result<Self, Error> {
        let mut ring = Self { terms: Vec::new() };
        ring.rotate()?;
        Ok(ring)
    }

    /// Adds a fresh key under the next term.
    pub(super) fn rotate(&mut self) -> Result<&mut Term, Error> {
        let number = self.terms.last().map_or(1, |term| term.number + 1);
        let installed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        self.terms.push(Term {
            number,
            installed,
            reserved: 0,
            key: random_key()?,
        });
        Ok(self.active_mut())
    }

    pub(super) fn active_mut(&mut self) -> &mut Term {
        self.terms.last_mut().expect("a keyring is never empty")
    }

    pub(super) fn seal(&self, root: &RootKey) -> Result<Bytes, Error> {
        let mut plain = Zeroizing::new(Vec::with_capacity(1 + self.terms.len() * TERM_LEN));
        plain.push(VERSION);
        for term in &self.terms {
            plain.extend_from_slice(&term.number.to_be_bytes());
            plain.extend_from_slice(&term.installed.to_be_bytes());
            plain.extend_from_slice(&term.reserved.to_be_bytes());
            plain.extend_from_slice(&*term.key);
        }
        wrap(root.key(), PATH, &plain)
    }

    pub(crate) fn open(root: &RootKey, raw: &[u8]) -> Result<Self, Error> {
        let plain = unwrap(root.key(), PATH, raw)?;
        let malformed = || Error::corrupt(PATH, Corruption::Malformed);
        let records = match plain.split_first() {
            Some((&VERSION, records)) if !records.is_empty() => records,
            _ => return Err(malformed()),
        };
        let (records, rest) = records.as_chunks::<TERM_LEN>();
        if !rest.is_empty() {
            return Err(malformed());
        }
        let terms: Vec<Term> = records.iter().map(Term::read).collect();
        if !terms.is_sorted_by(|a, b| a.number < b.number) {
            return Err(malformed());
        }
        Ok(Self { terms })
    }
}

impl Term {
    fn read(record: &[u8; TERM_LEN]) -> Self {
        let be_u64 = |from: usize| {
            u64::from_be_bytes(record[from..from + 8].try_into().expect("eight bytes"))
        };
        let mut key = Key::default();
        key.copy_from_slice(&record[20..]);
        Self {
            number: u32::from_be_bytes(record[..4].try_into().expect("four bytes")),
            installed: be_u64(4),
            reserved: be_u64(12),
            key,
        }
    }
}

const VERSION: u8 = 1;
const TERM_LEN: usize = 4 + 8 + 8 + KEY_LEN;
