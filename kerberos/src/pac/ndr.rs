//! A reader of NDR (C706 chapter 14) for one value in type serialization version 1 (MS-RPCE section
//! 2.2.6), as far as the PAC needs it. Reads forward only; every length is checked against what is
//! left before anything is allocated, so memory is bounded by a small multiple of the input.
//!
//! Compared: the crates that read a PAC's contents are tools for forging tickets or under the AGPL
//! and not kept; `picky-krb` stops at the outer frame; the NDR code of others is inside their
//! programs. What is needed here is small.

use super::PacError;
use crate::sid::Sid;

pub(super) struct Reader<'a> {
    left: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Takes the two headers off. The offsets that alignment counts from start behind them; both
    /// are eight bytes long, so it does not matter.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, PacError> {
        let mut reader = Self {
            left: bytes,
            offset: 0,
        };
        // Version 1, little-endian, a header of eight bytes, and a filler that nobody checks.
        // Active Directory writes no other order of bytes.
        let [version, order, length @ ..] = reader.array::<4>("the common header")?;
        if version != 1 || order != LITTLE_ENDIAN || u16::from_le_bytes(length) != 8 {
            return Err(PacError::Header);
        }
        reader.take(4, "the common header")?;
        let length = reader.u32("the private header")? as usize;
        reader.take(4, "the private header")?;
        // What follows the value, inside the object or behind it, is padding.
        reader.left = reader
            .left
            .get(..length)
            .ok_or_else(|| reader.truncated("the object"))?;
        Ok(reader)
    }

    pub(super) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], PacError> {
        let (taken, left) = self
            .left
            .split_at_checked(count)
            .ok_or_else(|| self.truncated(what))?;
        self.left = left;
        self.offset += count;
        Ok(taken)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, PacError> {
        self.align(2, what)?;
        self.array(what).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, PacError> {
        self.align(4, what)?;
        self.array(what).map(u32::from_le_bytes)
    }

    /// A FILETIME: two 32-bit halves, and so aligned as they are.
    pub(super) fn filetime(&mut self, what: &'static str) -> Result<u64, PacError> {
        let low = self.u32(what)?;
        Ok(u64::from(self.u32(what)?) << 32 | u64::from(low))
    }

    /// A unique pointer; what it points to follows the structure that it stands in.
    pub(super) fn pointer(&mut self, what: &'static str) -> Result<Pointer, PacError> {
        self.u32(what).map(|referent| Pointer(referent != 0))
    }

    /// The fixed part of an RPC_UNICODE_STRING (MS-DTYP section 2.3.10).
    pub(super) fn string_head(&mut self, what: &'static str) -> Result<StringHead, PacError> {
        let bytes = self.u16(what)?;
        let most = self.u16(what)?;
        let pointer = self.pointer(what)?;
        if bytes % 2 != 0 || bytes > most {
            return Err(PacError::Length { what });
        }
        if bytes != 0 && !pointer.is_set() {
            return Err(PacError::NoReferent { what });
        }
        Ok(StringHead {
            units: u32::from(bytes / 2),
            most: u32::from(most / 2),
            pointer,
        })
    }

    /// The text of an RPC_UNICODE_STRING: a conformant and varying array of UTF-16 units.
    pub(super) fn string(
        &mut self,
        head: StringHead,
        what: &'static str,
    ) -> Result<String, PacError> {
        if !head.pointer.is_set() {
            return Ok(String::new());
        }
        let most = self.u32(what)?;
        let offset = self.u32(what)?;
        let units = self.u32(what)?;
        if most != head.most || offset != 0 || units != head.units {
            return Err(PacError::Length { what });
        }
        let bytes = self.take(units as usize * 2, what)?;
        let units = bytes
            .chunks_exact(2)
            .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        char::decode_utf16(units)
            .collect::<Result<String, _>>()
            .map_err(|_| PacError::NotText { what })
    }

    /// The size of a conformant array whose count was stated before, checked against what is left:
    /// `size` is the least that an element takes.
    pub(super) fn array_head(
        &mut self,
        count: u32,
        size: usize,
        what: &'static str,
    ) -> Result<usize, PacError> {
        if self.u32(what)? != count {
            return Err(PacError::Length { what });
        }
        let count = count as usize;
        match count.checked_mul(size) {
            Some(bytes) if bytes <= self.left.len() => Ok(count),
            _ => Err(self.truncated(what)),
        }
    }

    /// An RPC_SID (MS-DTYP section 2.4.2.3): the count of sub-authorities goes ahead once more.
    pub(super) fn sid(&mut self, what: &'static str) -> Result<Sid, PacError> {
        let count = self.u32(what)?;
        if count > 15 {
            return Err(PacError::Length { what });
        }
        let bytes = self.take(8 + 4 * count as usize, what)?;
        Sid::from_bytes(bytes).map_err(|error| PacError::Sid { what, error })
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], PacError> {
        Ok(self
            .take(N, what)?
            .try_into()
            .expect("take(N) gives N bytes"))
    }

    fn align(&mut self, to: usize, what: &'static str) -> Result<(), PacError> {
        self.take(self.offset.next_multiple_of(to) - self.offset, what)
            .map(drop)
    }

    fn truncated(&self, what: &'static str) -> PacError {
        PacError::Truncated {
            what,
            offset: self.offset,
        }
    }
}

/// Whether a pointer has something behind it.
#[derive(Clone, Copy)]
pub(super) struct Pointer(bool);

impl Pointer {
    pub(super) fn is_set(self) -> bool {
        self.0
    }
}

#[derive(Clone, Copy)]
pub(super) struct StringHead {
    units: u32,
    most: u32,
    pointer: Pointer,
}

const LITTLE_ENDIAN: u8 = 0x10;
