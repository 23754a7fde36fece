//! The MIT keytab file format, version 0x0502, read strictly and written back. Our own reader: the
//! kept libraries either parse through libkrb5 (which wants a file and says only "format error"),
//! or carry a licence that does not fit; and the message to the operator needs place and cause.
//!
//! Layout (MIT Kerberos documentation, "Keytab file format"), all numbers big-endian: the bytes 05
//! 02, then records. A record is an i32 length and that many bytes; a negative length is a hole of
//! that size, zero ends the file. A record holds: u16 count of components, realm, components (each
//! a u16 length and bytes), u32 name type, u32 timestamp, u8 key version, u16 encryption type, u16
//! length and key, and where four or more bytes are left, a u32 key version that replaces the u8
//! unless zero.

use std::collections::BTreeSet;
use std::fmt;

use ring::digest;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::enctype::Enctype;
use crate::principal::{Principal, PrincipalError, ServiceAccount};

/// A parsed keytab. Its keys are wiped when it is dropped and never printed.
#[derive(Clone)]
pub struct Keytab {
    entries: Vec<KeytabEntry>,
    /// What [`Keytab::for_service_account`] has left out, so that a ticket for it can be told from one for somebody else.
    set_aside: Vec<KeySummary>,
}

impl Keytab {
    /// Parses a whole keytab file. At least one entry is required.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeytabError> {
        if bytes.len() > MAX_KEYTAB_BYTES {
            return Err(KeytabError::TooLarge { bytes: bytes.len() });
        }
        if bytes.is_empty() {
            return Err(KeytabError::Nothing);
        }
        let mut file = Cursor::new(bytes, 0);
        match file.array::<2>("the two bytes of the version")? {
            [5, 2] => {}
            [5, 1] => return Err(KeytabError::OldVersion),
            other => return Err(KeytabError::NotAKeytab { start: other }),
        }
        let mut entries = Vec::new();
        while !file.is_empty() {
            let offset = file.offset();
            let length = i32::from_be_bytes(file.array("a record length")?);
            if length == 0 {
                // libkrb5 stops reading here, so anything that follows would be invisible to it.
                if file.rest().iter().any(|byte| *byte != 0) {
                    return Err(KeytabError::DataAfterEnd { offset });
                }
                break;
            }
            let size = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
            let what = if length < 0 { "a hole" } else { "a record" };
            let record = file.take(size, what)?;
            if length > 0 {
                let place = Place {
                    index: entries.len(),
                    offset,
                };
                entries.push(KeytabEntry::parse(Cursor::new(record, offset + 4), place)?);
            }
        }
        if entries.is_empty() {
            return Err(KeytabError::Empty);
        }
        Ok(Self {
            entries,
            set_aside: Vec::new(),
        })
    }

    /// The keys, in the order of the file; never empty.
    pub fn entries(&self) -> &[KeytabEntry] {
        &self.entries
    }

    /// The keytab as a file of version 0x0502, without holes. Secret; wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // The exact size first: a vector that grows would leave copies of keys behind.
        let size = 2 + self
            .entries
            .iter()
            .map(|entry| 4 + entry.encoded_len())
            .sum::<usize>();
        let mut out = Zeroizing::new(Vec::with_capacity(size));
        out.extend_from_slice(&[5, 2]);
        for entry in &self.entries {
            entry.write(&mut out);
        }
        debug_assert_eq!(out.len(), size);
        out
    }

    /// The keys of one account: `vault_svc`, `HTTP/localhost`, each with or without `@REALM`.
    ///
    /// With `remove_instance_name` the entries' names lose their instance before they are compared,
    /// as the contract of `auth/kerberos/config` has it: `foo/localhost@EXAMPLE.COM` then answers
    /// to `foo`. The names inside the result stay as they were, because tickets carry the full
    /// name.
    ///
    /// Refused when nothing matches, and when only encryption types remain that cannot be used.
    /// RC4 is kept; [`KeySummary::weak`] flags it.
    pub fn for_service_account(
        &self,
        account: &str,
        remove_instance_name: bool,
    ) -> Result<Self, KeytabError> {
        let wanted = ServiceAccount::parse(account).map_err(|reason| KeytabError::BadAccount {
            account: account.to_owned(),
            reason,
        })?;
        let (entries, others): (Vec<KeytabEntry>, Vec<KeytabEntry>) =
            self.entries.iter().cloned().partition(|entry| {
                if remove_instance_name {
                    wanted.matches(&entry.principal.without_instance())
                } else {
                    wanted.matches(&entry.principal)
                }
            });
        if entries.is_empty() {
            return Err(KeytabError::NoSuchAccount {
                account: wanted.to_string(),
                present: list(self.entries.iter().map(|entry| entry.principal.to_string())),
                instances_removed: remove_instance_name,
            });
        }
        if !entries.iter().any(|entry| entry.enctype.is_usable()) {
            return Err(KeytabError::NoUsableEnctype {
                account: wanted.to_string(),
                enctypes: list(entries.iter().map(|entry| entry.enctype.to_string())),
            });
        }
        Ok(Self {
            entries,
            set_aside: others.iter().map(KeytabEntry::summary).collect(),
        })
    }

    /// What the keytab holds, without the keys.
    pub fn summary(&self) -> Vec<KeySummary> {
        self.entries.iter().map(KeytabEntry::summary).collect()
    }

    /// What [`Keytab::for_service_account`] has left out of the keytab that it was asked of.
    pub fn set_aside(&self) -> &[KeySummary] {
        &self.set_aside
    }

    /// Sixteen hexadecimal digits over names, versions, types and times, for logs. Deliberately not
    /// over the keys: a digest of a key made from a password would let a reader of the log test
    /// passwords.
    pub fn fingerprint(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for entry in &self.entries {
            // Control characters cannot stand in a principal, so the separators are unambiguous.
            let line = format!(
                "{}\n{}\n{}\n{}\n",
                entry.principal,
                entry.kvno,
                entry.enctype.number(),
                entry.timestamp
            );
            context.update(line.as_bytes());
        }
        hex(&context.finish().as_ref()[..8])
    }
}

impl fmt::Debug for Keytab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keytab")
            .field("entries", &self.entries)
            .finish()
    }
}

/// One key of one principal.
#[derive(Clone)]
pub struct KeytabEntry {
    principal: Principal,
    name_type: u32,
    timestamp: u32,
    kvno: u32,
    enctype: Enctype,
    key: Zeroizing<Vec<u8>>,
}

impl KeytabEntry {
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The key version number.
    pub fn kvno(&self) -> u32 {
        self.kvno
    }

    pub fn enctype(&self) -> Enctype {
        self.enctype
    }

    /// When the entry was written, in seconds since 1970; zero where the tool did not say.
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// The key itself. Secret.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Everything but the key.
    pub fn summary(&self) -> KeySummary {
        KeySummary {
            principal: self.principal.clone(),
            kvno: self.kvno,
            enctype: self.enctype,
            timestamp: self.timestamp,
        }
    }

    fn parse(mut record: Cursor<'_>, place: Place) -> Result<Self, KeytabError> {
        let count = record.u16("the number of components")?;
        let realm = record.text("the realm", place)?;
        // Each component takes two bytes at least, so a lying count ends with the record.
        let mut components = Vec::new();
        for _ in 0..count {
            components.push(record.text("a component of the principal", place)?);
        }
        let principal = Principal::new(components, realm)
            .map_err(|reason| KeytabError::BadPrincipal { place, reason })?;
        let name_type = record.u32("the name type")?;
        let timestamp = record.u32("the timestamp")?;
        let [short_kvno] = record.array("the key version")?;
        let enctype = Enctype::from_number(i32::from(record.u16("the encryption type")?));
        let key = Zeroizing::new(record.counted("the key")?.to_vec());
        // Whatever follows in the record is padding of a reused hole, or flags of other tools.
        let kvno = match record.take(4, "") {
            Ok(long) => {
                match u32::from_be_bytes(long.try_into().expect("take(4) gives four bytes")) {
                    0 => u32::from(short_kvno),
                    long => long,
                }
            }
            Err(_) => u32::from(short_kvno),
        };
        match enctype.key_bytes() {
            Some(expected) if expected != key.len() => {
                return Err(KeytabError::KeyLength {
                    place,
                    principal,
                    enctype,
                    expected,
                    found: key.len(),
                });
            }
            _ if key.is_empty() => return Err(KeytabError::NoKey { place, principal }),
            _ => {}
        }
        Ok(Self {
            principal,
            name_type,
            timestamp,
            kvno,
            enctype,
            key,
        })
    }

    fn encoded_len(&self) -> usize {
        let names: usize = self
            .principal
            .components()
            .iter()
            .map(|component| 2 + component.len())
            .sum();
        2 + 2 + self.principal.realm().len() + names + 4 + 4 + 1 + 2 + 2 + self.key.len() + 4
    }

    fn write(&self, out: &mut Vec<u8>) {
        let components = self.principal.components();
        // A record came from, and goes into, at most MAX_KEYTAB_BYTES; its parts had u16 lengths.
        out.extend_from_slice(&(self.encoded_len() as u32).to_be_bytes());
        out.extend_from_slice(&(components.len() as u16).to_be_bytes());
        for part in
            std::iter::once(self.principal.realm()).chain(components.iter().map(String::as_str))
        {
            out.extend_from_slice(&(part.len() as u16).to_be_bytes());
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(&self.name_type.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.push(self.kvno as u8); // the low byte, as libkrb5 writes it; the whole number follows below
        out.extend_from_slice(&(self.enctype.number() as u16).to_be_bytes());
        out.extend_from_slice(&(self.key.len() as u16).to_be_bytes());
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.kvno.to_be_bytes());
    }
}

impl fmt::Debug for KeytabEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeytabEntry")
            .field("principal", &self.principal.to_string())
            .field("kvno", &self.kvno)
            .field("enctype", &self.enctype.to_string())
            .field("timestamp", &self.timestamp)
            .field("key", &"<secret>")
            .finish()
    }
}

/// What may be said about a key in a log or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySummary {
    pub principal: Principal,
    pub kvno: u32,
    pub enctype: Enctype,
    /// Seconds since 1970.
    pub timestamp: u32,
}

impl KeySummary {
    /// Whether it is the key of this version. A keytab that was written with one byte for the version holds the version
    /// modulo 256.
    pub fn is_of_version(&self, kvno: u32) -> bool {
        self.kvno == kvno || (self.kvno < 256 && self.kvno == kvno & 0xff)
    }

    /// RC4 still works and should be replaced; DES and 3DES do not work at all.
    pub fn weak(&self) -> bool {
        self.enctype.is_weak()
    }
}

/// Where in the file something is wrong: the entry counted from zero, and the byte where it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub index: usize,
    pub offset: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} (at byte {})", self.index + 1, self.offset)
    }
}

/// Why a keytab is refused. No variant carries key material.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeytabError {
    #[error("the keytab has {bytes} bytes; the limit is {MAX_KEYTAB_BYTES}")]
    TooLarge { bytes: usize },
    #[error(
        "this is no keytab: it starts with {:02x} {:02x} where a keytab starts with 05 02",
        start[0],
        start[1]
    )]
    NotAKeytab { start: [u8; 2] },
    #[error(
        "the keytab has the old format 0x0501; export it again with a current ktutil, ktpass or \
         samba-tool"
    )]
    OldVersion,
    #[error("the keytab is cut off at byte {offset}: {what} needs {needed} bytes, {left} are left")]
    Truncated {
        what: &'static str,
        offset: usize,
        needed: usize,
        left: usize,
    },
    #[error(
        "the keytab has data after its end mark at byte {offset}, which Kerberos libraries would \
         not read"
    )]
    DataAfterEnd { offset: usize },
    #[error("this is no keytab: it is empty")]
    Nothing,
    #[error("the keytab holds no entry")]
    Empty,
    #[error("{place}: {what} is not UTF-8")]
    NotText { place: Place, what: &'static str },
    #[error("{place}: {reason}")]
    BadPrincipal {
        place: Place,
        reason: PrincipalError,
    },
    #[error(
        "{place}, {principal}: a key of type {enctype} has {expected} bytes, this one has {found}"
    )]
    KeyLength {
        place: Place,
        principal: Principal,
        enctype: Enctype,
        expected: usize,
        found: usize,
    },
    #[error("{place}, {principal}: the key is empty")]
    NoKey { place: Place, principal: Principal },
    #[error("the service account {account:?} is no Kerberos name: {reason}")]
    BadAccount {
        account: String,
        reason: PrincipalError,
    },
    #[error(
        "the keytab has no entry for the service account {account}{}; it holds: {present}",
        if *instances_removed { " (instances removed)" } else { "" }
    )]
    NoSuchAccount {
        account: String,
        present: String,
        instances_removed: bool,
    },
    #[error(
        "the keytab has only keys of type {enctypes} for {account}, which are not accepted any \
         more; export one with AES keys"
    )]
    NoUsableEnctype { account: String, enctypes: String },
}

/// A keytab of 1 MiB holds some ten thousand keys; real ones hold fewer than a hundred.
pub const MAX_KEYTAB_BYTES: usize = 1 << 20;

/// Reads forward only; every read is bounded by what is left.
struct Cursor<'a> {
    left: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self {
            left: bytes,
            offset,
        }
    }

    fn offset(&self) -> usize {
        self.offset
    }

    fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    fn rest(&self) -> &'a [u8] {
        self.left
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], KeytabError> {
        let Some((taken, left)) = self.left.split_at_checked(count) else {
            return Err(KeytabError::Truncated {
                what,
                offset: self.offset,
                needed: count,
                left: self.left.len(),
            });
        };
        self.left = left;
        self.offset += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], KeytabError> {
        Ok(self
            .take(N, what)?
            .try_into()
            .expect("take(N) gives N bytes"))
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, KeytabError> {
        self.array(what).map(u16::from_be_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, KeytabError> {
        self.array(what).map(u32::from_be_bytes)
    }

    fn counted(&mut self, what: &'static str) -> Result<&'a [u8], KeytabError> {
        let length = self.u16(what)?;
        self.take(usize::from(length), what)
    }

    fn text(&mut self, what: &'static str, place: Place) -> Result<&'a str, KeytabError> {
        std::str::from_utf8(self.counted(what)?).map_err(|_| KeytabError::NotText { place, what })
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Distinct values, sorted, at most twenty of them: an error has to stay readable.
fn list(values: impl Iterator<Item = String>) -> String {
    let distinct: BTreeSet<String> = values.collect();
    let more = distinct.len().saturating_sub(MAX_LISTED);
    let mut text = distinct
        .into_iter()
        .take(MAX_LISTED)
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

const MAX_LISTED: usize = 20;
