//! Keytab files as tests need them: taken apart, thinned out or spoilt, and written again.
//!
//! The format (version 0x0502, all numbers big-endian) is the one MIT documents: for each entry a
//! signed length, then component count, realm, components, name type, time, an 8-bit version, the
//! key, and optionally the version again in 32 bits. A negative length is a hole.

use crate::error::{Error, Result};

pub const AES128_CTS_HMAC_SHA1_96: u16 = 17;
pub const AES256_CTS_HMAC_SHA1_96: u16 = 18;
pub const AES128_CTS_HMAC_SHA256_128: u16 = 19;
pub const AES256_CTS_HMAC_SHA384_192: u16 = 20;
pub const ARCFOUR_HMAC: u16 = 23;

/// A keytab's entries, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keytab {
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub realm: String,
    pub components: Vec<String>,
    pub name_type: u32,
    /// Seconds since 1970.
    pub timestamp: u32,
    pub kvno: u32,
    pub enctype: u16,
    pub key: Vec<u8>,
}

impl Keytab {
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut rest = Reader(bytes);
        if rest.u16()? != VERSION {
            return Err(Error::Keytab("not a keytab of version 0x0502".to_owned()));
        }
        let mut entries = Vec::new();
        while !rest.0.is_empty() {
            let length = rest.u32()?.cast_signed();
            let body = rest.take(length.unsigned_abs() as usize)?;
            if length > 0 {
                entries.push(Entry::parse(body)?);
            }
        }
        Ok(Self { entries })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = VERSION.to_be_bytes().to_vec();
        for entry in &self.entries {
            let body = entry.to_bytes();
            out.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend(body);
        }
        out
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(mut self, keep: impl FnMut(&Entry) -> bool) -> Self {
        self.entries.retain(keep);
        self
    }

    /// The same entries with keys that open nothing.
    pub fn with_wrong_keys(mut self) -> Self {
        for byte in self.entries.iter_mut().flat_map(|entry| &mut entry.key) {
            *byte ^= 0x5a;
        }
        self
    }

    /// The same entries under another key version.
    pub fn with_kvno(mut self, kvno: u32) -> Self {
        for entry in &mut self.entries {
            entry.kvno = kvno;
        }
        self
    }
}

impl Entry {
    /// `HTTP/localhost@EXAMPLE.COM`, without escapes.
    pub fn principal(&self) -> String {
        format!("{}@{}", self.components.join("/"), self.realm)
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let mut rest = Reader(body);
        let count = rest.u16()?;
        let realm = rest.text()?;
        let components = (0..count).map(|_| rest.text()).collect::<Result<_>>()?;
        let name_type = rest.u32()?;
        let timestamp = rest.u32()?;
        let short_kvno = u32::from(rest.take(1)?[0]);
        let enctype = rest.u16()?;
        let key = rest.counted()?.to_vec();
        // A 32-bit version of zero means that the field is padding.
        let kvno = rest
            .u32()
            .ok()
            .filter(|kvno| *kvno != 0)
            .unwrap_or(short_kvno);
        Ok(Self {
            realm,
            components,
            name_type,
            timestamp,
            kvno,
            enctype,
            key,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = short_len(self.components.len()).to_vec();
        for text in std::iter::once(&self.realm).chain(&self.components) {
            out.extend(short_len(text.len()));
            out.extend(text.as_bytes());
        }
        out.extend(self.name_type.to_be_bytes());
        out.extend(self.timestamp.to_be_bytes());
        out.push(self.kvno.to_be_bytes()[3]);
        out.extend(self.enctype.to_be_bytes());
        out.extend(short_len(self.key.len()));
        out.extend(&self.key);
        out.extend(self.kvno.to_be_bytes());
        out
    }
}

fn short_len(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self
            .0
            .split_at_checked(len)
            .ok_or_else(|| Error::Keytab("it ends in the middle of an entry".to_owned()))?;
        self.0 = tail;
        Ok(head)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(self
            .take(2)?
            .iter()
            .fold(0, |n, byte| n << 8 | u16::from(*byte)))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(self
            .take(4)?
            .iter()
            .fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    fn counted(&mut self) -> Result<&'a [u8]> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    fn text(&mut self) -> Result<String> {
        String::from_utf8(self.counted()?.to_vec())
            .map_err(|_| Error::Keytab("a name is not UTF-8".to_owned()))
    }
}

const VERSION: u16 = 0x0502;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_keytab_is_read_as_it_was_written_and_never_when_it_is_cut_short() {
        let entry = Entry {
            realm: "EXAMPLE.COM".to_owned(),
            components: ["HTTP", "localhost"].map(str::to_owned).to_vec(),
            name_type: 1,
            timestamp: 1_700_000_000,
            kvno: 300,
            enctype: AES256_CTS_HMAC_SHA1_96,
            key: vec![7; 32],
        };
        let keytab = Keytab {
            entries: vec![entry.clone(), entry],
        };
        let bytes = keytab.to_bytes();
        assert_eq!(Keytab::parse(&bytes).unwrap(), keytab);
        // Cut between two entries it is a shorter keytab; cut anywhere else it is none.
        let whole = [2, (bytes.len() - 2) / 2 + 2, bytes.len()];
        for len in 0..=bytes.len() {
            assert_eq!(
                Keytab::parse(&bytes[..len]).is_ok(),
                whole.contains(&len),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn a_hole_left_by_a_removed_entry_is_passed_over() {
        let mut bytes = VERSION.to_be_bytes().to_vec();
        bytes.extend((-3i32).to_be_bytes());
        bytes.extend([1, 2, 3]);
        assert_eq!(Keytab::parse(&bytes).unwrap(), Keytab::default());
    }
}
