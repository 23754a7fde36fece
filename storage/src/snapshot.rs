//! A copy of everything that is stored, in one file, and back. Taken while the server works, it shows one moment; what
//! is in it is sealed as it is in storage, so the file is worth no more than the storage directory to a thief.
//!
//! ```text
//! "OBOL-SNAPSHOT\n"  version, 1 byte  header: length u32 BE, JSON
//! for each entry, in the order of the keys: key length u32 BE, value length u32 BE, key, value
//! the end: 0 u32 BE, number of entries u64 BE
//! HMAC-SHA-256 of all of that under a key that is derived from the root key
//! SHA-256 of all of that
//! ```
//!
//! The hash tells a damaged or truncated file from a whole one without any key. The HMAC says that a server with this
//! root key wrote it as it is: nobody has taken an entry out or put an old one in.
//!
//! Nonces (`nonce-reuse` in the list of threats): they are random, so a restored copy repeats none by itself. What a
//! restore must not do is to go on under a key whose count of encryptions it has set back, or which another copy of the
//! server goes on using. So it leaves a mark, and the first unsealing after it rotates to a key of this copy's own.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::barrier::Barrier;
use crate::barrier::keyring::{self, Keyring};
use crate::engine::{Aborted, EngineError};
use crate::error::Error;
use crate::path;
use crate::seal::{self, RootKey};

/// What a snapshot says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Seconds since the epoch.
    pub created: u64,
    /// The version of the server that wrote it.
    pub server: String,
}

/// Writes a snapshot in chunks to `sink`, until that answers `false`. The barrier must be unsealed. Blocks: for a
/// thread that may.
pub fn write(
    barrier: &Barrier,
    header: &Header,
    sink: &mut dyn FnMut(Bytes) -> bool,
) -> Result<(), WriteError> {
    let key = authentication_key(&barrier.root()?);
    let mut out = Out {
        hash: digest::Context::new(&digest::SHA256),
        mac: hmac::Context::with_key(&key),
        chunk: Vec::with_capacity(CHUNK),
        sink,
        gone: false,
    };
    let header = serde_json::to_vec(header).map_err(|_| WriteError::TooLarge)?;
    out.write(MAGIC);
    out.write(&[VERSION]);
    out.write(&length(header.len())?);
    out.write(&header);
    let mut entries: u64 = 0;
    let mut too_large = false;
    barrier
        .engine()
        .visit_all(&mut |key, value| {
            if key == RESTORED {
                return true;
            }
            let (Ok(key_length), Ok(value_length)) = (length(key.len()), length(value.len()))
            else {
                too_large = true;
                return false;
            };
            entries += 1;
            out.write(&key_length);
            out.write(&value_length);
            out.write(key.as_bytes());
            out.write(value);
            !out.gone
        })
        .map_err(Error::from)?;
    if too_large {
        return Err(WriteError::TooLarge);
    }
    out.write(&0_u32.to_be_bytes());
    out.write(&entries.to_be_bytes());
    let mac = out.mac.clone().sign();
    out.write(mac.as_ref());
    let hash = out.hash.clone().finish();
    out.chunk.extend_from_slice(hash.as_ref());
    out.flush();
    if out.gone {
        return Err(WriteError::NobodyReads);
    }
    Ok(())
}

/// Why a snapshot is not whole.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the client went away")]
    NobodyReads,
    #[error("an entry is larger than a snapshot can hold")]
    TooLarge,
    #[error(transparent)]
    Storage(#[from] Error),
}

/// What a restore may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// The snapshot must be of a server with the root key of this one. The shares and the seal stay as they are now.
    Same,
    /// The snapshot may be of another server, whose keys unseal this one from then on.
    Any,
}

/// Puts a snapshot in the place of everything that is stored: the whole of it, or nothing. It is read to its end and
/// checked first, while the server serves; then the barrier is sealed, and stays so: what anybody holds in memory is
/// of the past. With [`Keys::Same`] the root key to unseal it with is returned. Blocks: for a thread that may.
pub fn restore(
    barrier: &Barrier,
    own: SealRecords,
    source: &mut dyn Read,
    keys: Keys,
) -> Result<RootKey, RestoreError> {
    let root = barrier.root()?;
    let mut insert: BTreeMap<String, Bytes> = BTreeMap::new();
    if keys == Keys::Same {
        insert.extend(own.0);
    }
    insert.insert(RESTORED.to_owned(), Bytes::from_static(b"1"));
    let key = authentication_key(&root);
    let mut file = In {
        hash: digest::Context::new(&digest::SHA256),
        mac: hmac::Context::with_key(&key),
        source,
    };
    file.header()?;
    let mut entries = Entries {
        file,
        root: (keys == Keys::Same).then_some(&root),
        insert,
        waiting: None,
        last: String::new(),
        entries: 0,
        keyring: false,
        ended: false,
    };
    let mut why = None;
    let stored = barrier.engine().replace_all(&mut || {
        let next = entries.next().map_err(|error| {
            why = Some(error);
            Aborted
        })?;
        if next.is_none() {
            // All of it is good. From here on nobody writes what is based on the old store.
            barrier.seal();
            std::thread::sleep(DRAIN);
        }
        Ok(next)
    });
    match (stored, why) {
        (Ok(()), _) => Ok(root),
        (Err(EngineError::Aborted), Some(why)) => Err(why),
        (Err(error), _) => Err(RestoreError::Storage(error.into())),
    }
}

/// The records of this server's seal, which stay when a snapshot of its own is restored: shares that were replaced
/// since, perhaps because somebody had lost theirs, do not come back with it.
pub struct SealRecords(Vec<(String, Bytes)>);

impl SealRecords {
    pub async fn of(barrier: &Barrier) -> Result<Self, Error> {
        let mut records = Vec::new();
        for path in SEAL_RECORDS {
            if let Some(raw) = barrier.engine().get(path).await? {
                records.push((path.to_owned(), raw));
            }
        }
        Ok(Self(records))
    }
}

/// Why a snapshot was not restored. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("this is not a snapshot of Obol")]
    NotASnapshot,
    #[error("the snapshot has format {0}, which this version does not know")]
    UnknownVersion(u8),
    #[error("the snapshot is truncated")]
    Truncated,
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    #[error("the snapshot was written by a server with other keys")]
    OtherKeys,
    #[error("the snapshot was altered: it is not as the server wrote it")]
    Altered,
    #[error("the snapshot could not be read to its end: {0}")]
    Source(io::Error),
    #[error(transparent)]
    Storage(#[from] Error),
}

/// The chunks of a snapshot that is written.
struct Out<'a> {
    hash: digest::Context,
    mac: hmac::Context,
    chunk: Vec<u8>,
    sink: &'a mut dyn FnMut(Bytes) -> bool,
    gone: bool,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.mac.update(bytes);
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.gone = self.gone || !(self.sink)(chunk.into());
    }
}

/// A snapshot that is read.
struct In<'a> {
    hash: digest::Context,
    mac: hmac::Context,
    source: &'a mut dyn Read,
}

impl In<'_> {
    fn header(&mut self) -> Result<Header, RestoreError> {
        let mut magic = [0; MAGIC.len()];
        match self.exactly(&mut magic) {
            Err(RestoreError::Truncated) => return Err(RestoreError::NotASnapshot),
            other => other?,
        }
        if magic != *MAGIC {
            return Err(RestoreError::NotASnapshot);
        }
        match self.number::<1>()? {
            [VERSION] => {}
            [other] => return Err(RestoreError::UnknownVersion(other)),
        }
        let length = u32::from_be_bytes(self.number()?);
        let header = self.bytes(length, MAX_HEADER)?;
        serde_json::from_slice(&header).map_err(|_| RestoreError::Damaged("its header"))
    }

    /// The next entry, or the number of entries at the end.
    fn entry(&mut self) -> Result<Result<(String, Bytes), u64>, RestoreError> {
        let key_length = u32::from_be_bytes(self.number()?);
        if key_length == 0 {
            return Ok(Err(u64::from_be_bytes(self.number()?)));
        }
        let value_length = u32::from_be_bytes(self.number()?);
        let key = self.bytes(key_length, path::MAX)?;
        let key = String::from_utf8(key).map_err(|_| RestoreError::Damaged("a key"))?;
        let value = self.bytes(value_length, MAX_VALUE)?;
        Ok(Ok((key, value.into())))
    }

    /// What stands behind the last entry; `authentic` asks for the HMAC too.
    fn end(&mut self, authentic: bool) -> Result<(), RestoreError> {
        let expected = self.mac.clone().sign();
        let mut mac = [0; digest::SHA256_OUTPUT_LEN];
        self.exactly(&mut mac)?;
        let hash = self.hash.clone().finish();
        let mut stored = [0; digest::SHA256_OUTPUT_LEN];
        self.exactly(&mut stored)?;
        if hash.as_ref() != stored {
            return Err(RestoreError::Damaged("its checksum does not match"));
        }
        if self.source.read(&mut [0]).map_err(RestoreError::Source)? != 0 {
            return Err(RestoreError::Damaged("there is something behind its end"));
        }
        let same: bool = expected.as_ref().ct_eq(&mac).into();
        match authentic && !same {
            true => Err(RestoreError::Altered),
            false => Ok(()),
        }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let mut bytes = [0; N];
        self.exactly(&mut bytes)?;
        Ok(bytes)
    }

    /// Memory grows with what has arrived, not with what a damaged length promises.
    fn bytes(&mut self, length: u32, most: usize) -> Result<Vec<u8>, RestoreError> {
        let length = length as usize;
        if length > most {
            return Err(RestoreError::Damaged("a length"));
        }
        let mut bytes = Vec::new();
        let mut limited = (&mut *self.source).take(length as u64);
        limited
            .read_to_end(&mut bytes)
            .map_err(RestoreError::Source)?;
        if bytes.len() < length {
            return Err(RestoreError::Truncated);
        }
        self.hash.update(&bytes);
        self.mac.update(&bytes);
        Ok(bytes)
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), RestoreError> {
        self.source
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => RestoreError::Truncated,
                _ => RestoreError::Source(error),
            })?;
        self.hash.update(bytes);
        self.mac.update(bytes);
        Ok(())
    }
}

/// The entries to store: those of the snapshot, and in their places those of this server.
struct Entries<'a> {
    file: In<'a>,
    /// The key that the snapshot's keyring must open with.
    root: Option<&'a RootKey>,
    insert: BTreeMap<String, Bytes>,
    /// Read already, behind one that is inserted.
    waiting: Option<(String, Bytes)>,
    last: String,
    entries: u64,
    keyring: bool,
    ended: bool,
}

impl Entries<'_> {
    fn next(&mut self) -> Result<Option<(String, Bytes)>, RestoreError> {
        if self.waiting.is_none() && !self.ended {
            self.waiting = self.read()?;
            self.ended = self.waiting.is_none();
        }
        let insert_first = match (self.insert.first_key_value(), &self.waiting) {
            (Some((insert, _)), Some((key, _))) => insert < key,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if insert_first {
            return Ok(self.insert.pop_first());
        }
        Ok(self.waiting.take())
    }

    /// The next entry of the file that is wanted.
    fn read(&mut self) -> Result<Option<(String, Bytes)>, RestoreError> {
        loop {
            let (key, value) = match self.file.entry()? {
                Ok(entry) => entry,
                Err(entries) if entries != self.entries => {
                    return Err(RestoreError::Damaged("its number of entries"));
                }
                Err(_) if !self.keyring => return Err(RestoreError::Damaged("it has no keyring")),
                Err(_) => {
                    self.file.end(self.root.is_some())?;
                    return Ok(None);
                }
            };
            self.entries += 1;
            if key <= self.last {
                return Err(RestoreError::Damaged("the order of its keys"));
            }
            self.last.clone_from(&key);
            if key == keyring::PATH {
                self.keyring = true;
                if let Some(root) = self.root {
                    Keyring::open(root, &value).map_err(|error| match error {
                        Error::WrongKey => RestoreError::OtherKeys,
                        other => RestoreError::Storage(other),
                    })?;
                }
            }
            let own = key == RESTORED || (self.root.is_some() && SEAL_RECORDS.contains(&&*key));
            if !own {
                return Ok(Some((key, value)));
            }
        }
    }
}

fn length(length: usize) -> Result<[u8; 4], WriteError> {
    u32::try_from(length)
        .ok()
        .filter(|&length| length as usize <= MAX_VALUE)
        .map(u32::to_be_bytes)
        .ok_or(WriteError::TooLarge)
}

fn authentication_key(root: &RootKey) -> hmac::Key {
    let root = hmac::Key::new(hmac::HMAC_SHA256, root.expose());
    let derived = hmac::sign(&root, b"obol: authentication of snapshots");
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

/// Lies in storage from a restore until the first unsealing after it.
pub(crate) const RESTORED: &str = "core/restored";

const SEAL_RECORDS: [&str; 5] = [
    seal::CONFIG_PATH,
    seal::ROOT_KEY_PATH,
    seal::RECOVERY_PATH,
    seal::UNSEAL_BACKUP_PATH,
    seal::RECOVERY_BACKUP_PATH,
];
const MAGIC: &[u8; 14] = b"OBOL-SNAPSHOT\n";
const VERSION: u8 = 1;
const CHUNK: usize = 256 << 10;
const MAX_HEADER: usize = 64 << 10;
const MAX_VALUE: usize = 1 << 30;
/// How long commits that were on their way when the barrier was sealed may take to reach the engine.
const DRAIN: Duration = Duration::from_millis(200);
