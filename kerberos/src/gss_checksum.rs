//! What GSSAPI puts in the place of an authenticator's checksum (RFC 4121 section 4.1.1): the flags that the client asks
//! for, and a hash of the channel bindings that it knows. Nobody can change it without the session key.
//!
//! Layout, numbers little-endian: u32 16, sixteen bytes of hash, u32 flags; with the flag for delegation u16 1, u16
//! length and a KRB-CRED of that length; then whatever extensions a client has.

use md5::{Digest, Md5};

/// The type of such a checksum.
const GSS_CHECKSUM: i32 = 0x8003;

/// The flags, as RFC 4121 section 4.1.1.1 numbers them.
pub(crate) const DELEGATION: u32 = 1;
pub(crate) const MUTUAL: u32 = 2;
pub(crate) const CONFIDENTIALITY: u32 = 16;
pub(crate) const INTEGRITY: u32 = 32;
/// MS-KILE section 3.4.5.1: a third message is to follow.
const DCE_STYLE: u32 = 0x1000;

/// What a client's initial token says for GSSAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GssChecksum {
    /// All zero for a client that knows of no channel.
    bindings: [u8; 16],
    pub(crate) flags: u32,
}

impl GssChecksum {
    /// `Err` says what is wrong with it.
    pub(crate) fn parse(checksum: Option<(i32, &[u8])>) -> Result<Self, &'static str> {
        let bytes = match checksum {
            Some((GSS_CHECKSUM, bytes)) => bytes,
            Some(_) => return Err("its authenticator has a checksum that is not GSSAPI's"),
            None => return Err("its authenticator has no checksum"),
        };
        let mut rest = bytes;
        if take(&mut rest).map(u32::from_le_bytes) != Some(16) {
            return Err("GSSAPI's checksum has no hash of 16 bytes");
        }
        let cut_off = "GSSAPI's checksum is cut off";
        let bindings = take(&mut rest).ok_or(cut_off)?;
        let flags = take(&mut rest).map(u32::from_le_bytes).ok_or(cut_off)?;
        if flags & DELEGATION != 0 {
            // The forwarded ticket is not wanted, and not read.
            let option = take(&mut rest).map(u16::from_le_bytes);
            let length = take(&mut rest).map(u16::from_le_bytes);
            let fits = length.is_some_and(|length| usize::from(length) <= rest.len());
            if option != Some(1) || !fits {
                return Err("GSSAPI's checksum announces a forwarded ticket and has none");
            }
        }
        Ok(Self { bindings, flags })
    }

    pub(crate) fn wants_mutual(&self) -> bool {
        self.flags & MUTUAL != 0
    }

    pub(crate) fn wants_third_message(&self) -> bool {
        self.flags & DCE_STYLE != 0
    }

    pub(crate) fn has_bindings(&self) -> bool {
        self.bindings != [0; 16]
    }

    /// The client knows the channel with this application data (RFC 4121 section 4.1.1.2), and no addresses of it.
    pub(crate) fn binds(&self, application_data: &[u8]) -> bool {
        let Ok(length) = u32::try_from(application_data.len()) else {
            return false;
        };
        let mut hash = Md5::new();
        // Types and lengths of two addresses, of which there are none.
        hash.update([0; 16]);
        hash.update(length.to_le_bytes());
        hash.update(application_data);
        self.bindings == <[u8; 16]>::from(hash.finalize())
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checksum(bindings: [u8; 16], flags: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = 16u32.to_le_bytes().to_vec();
        bytes.extend(bindings);
        bytes.extend(flags.to_le_bytes());
        bytes.extend(rest);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<GssChecksum, &'static str> {
        GssChecksum::parse(Some((GSS_CHECKSUM, bytes)))
    }

    #[test]
    fn flags_and_bindings_are_read_and_extensions_are_not() {
        for rest in [&[][..], &[1, 2, 3]] {
            let read = parse(&checksum([7; 16], MUTUAL | 0x30, rest)).unwrap();
            assert_eq!((read.flags, read.bindings), (0x32, [7; 16]));
            assert!(read.wants_mutual() && read.has_bindings() && !read.wants_third_message());
        }
        assert!(!parse(&checksum([0; 16], 0, &[])).unwrap().has_bindings());
        assert!(
            parse(&checksum([0; 16], DCE_STYLE, &[]))
                .unwrap()
                .wants_third_message()
        );
    }

    #[test]
    fn a_forwarded_ticket_must_be_there_if_it_is_announced() {
        let with = |rest: &[u8]| parse(&checksum([0; 16], DELEGATION, rest));
        assert!(with(&[1, 0, 2, 0, 9, 9]).is_ok());
        assert!(with(&[1, 0, 0, 0]).is_ok());
        for rest in [
            &[][..],
            &[1, 0],
            &[1, 0, 3, 0, 9, 9],
            &[2, 0, 0, 0],
            &[1, 0, 255, 255],
        ] {
            with(rest).unwrap_err();
        }
    }

    #[test]
    fn whatever_is_cut_off_or_of_another_type_is_refused() {
        let whole = checksum([7; 16], MUTUAL, &[]);
        for length in 0..whole.len() {
            parse(&whole[..length]).unwrap_err();
        }
        let mut other = whole.clone();
        other[0] = 17;
        parse(&other).unwrap_err();
        GssChecksum::parse(None).unwrap_err();
        for kind in [7, 16, -138, GSS_CHECKSUM + 1] {
            GssChecksum::parse(Some((kind, &whole))).unwrap_err();
        }
    }

    #[test]
    fn bindings_are_the_md5_of_empty_addresses_and_the_data() {
        // md5(16 zero bytes, 3 as four bytes, "abc"), from another implementation.
        let hash = ABC;
        let read = parse(&checksum(hash, 0, &[])).unwrap();
        assert!(read.binds(b"abc"));
        for other in [&b"abd"[..], b"ab", b"abc\0", b""] {
            assert!(!read.binds(other));
        }
        assert!(!parse(&checksum([0; 16], 0, &[])).unwrap().binds(b""));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), head in any::<bool>()) {
            let mut bytes = bytes;
            if head && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&16_u32.to_le_bytes());
            }
            if let Ok(read) = parse(&bytes) {
                prop_assert!(bytes.len() >= 24);
                prop_assert_eq!(&read.flags.to_le_bytes()[..], &bytes[20..24]);
                prop_assert_eq!(read.has_bindings(), bytes[4..20].iter().any(|byte| *byte != 0));
            }
        }
    }

    const ABC: [u8; 16] = [
        0x42, 0x0b, 0x92, 0xda, 0x63, 0x95, 0x37, 0x11, 0xd0, 0x37, 0x90, 0xfc, 0x6a, 0x20, 0x01,
        0x3d,
    ];
}
