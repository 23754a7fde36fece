//! Security identifiers (MS-DTYP section 2.4.2): the names that Active Directory gives to users,
//! groups and domains and never changes. Read from bytes and from text, written as both, and split
//! into domain and relative identifier.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A security identifier such as `S-1-5-21-135073198-2454082312-3269498777-1104`. Small, ordered
/// and hashable, so that it can be the key of a map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sid {
    authority: u64,
    /// Unused places are zero, so that equality, order and hash may be derived.
    subs: [u32; MAX_SUB_AUTHORITIES],
    count: u8,
}

impl Sid {
    /// `authority` has 48 bits; of sub-authorities there are at most fifteen.
    pub fn new(authority: u64, sub_authorities: &[u32]) -> Result<Self, SidError> {
        if authority > MAX_AUTHORITY {
            return Err(SidError::Authority);
        }
        let mut subs = [0; MAX_SUB_AUTHORITIES];
        subs.get_mut(..sub_authorities.len())
            .ok_or(SidError::TooManySubAuthorities)?
            .copy_from_slice(sub_authorities);
        Ok(Self {
            authority,
            subs,
            count: sub_authorities.len() as u8, // at most fifteen, checked above
        })
    }

    /// The binary form, as `objectSid` and `tokenGroups` hold it; all of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SidError> {
        let (head, subs) = bytes
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(SidError::Length)?;
        let [revision, count, authority @ ..] = head;
        if *revision != REVISION {
            return Err(SidError::Revision(*revision));
        }
        if subs.len() != usize::from(*count) * 4 {
            return Err(SidError::Length);
        }
        let authority = authority
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        let subs: Vec<u32> = subs
            .chunks_exact(4)
            .map(|chunk| u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))
            .collect();
        Self::new(authority, &subs)
    }

    /// The binary form. In an LDAP filter each byte is written as `\` and two hexadecimal digits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![REVISION, self.count];
        out.extend_from_slice(&self.authority.to_be_bytes()[2..]);
        for sub in self.sub_authorities() {
            out.extend_from_slice(&sub.to_le_bytes());
        }
        out
    }

    pub fn authority(&self) -> u64 {
        self.authority
    }

    pub fn sub_authorities(&self) -> &[u32] {
        &self.subs[..usize::from(self.count)]
    }

    /// The relative identifier: the last sub-authority.
    pub fn rid(&self) -> Option<u32> {
        self.sub_authorities().last().copied()
    }

    /// All but the relative identifier: for an account of a domain, the domain.
    pub fn domain(&self) -> Option<Self> {
        let (_, rest) = self.sub_authorities().split_last()?;
        Self::new(self.authority, rest).ok()
    }

    /// The account or group `rid` of the domain that this identifier names.
    pub fn with_rid(&self, rid: u32) -> Result<Self, SidError> {
        let mut sid = *self;
        let place = sid.subs.get_mut(usize::from(self.count));
        *place.ok_or(SidError::TooManySubAuthorities)? = rid;
        sid.count += 1;
        Ok(sid)
    }

    /// Whether this is an account or group directly in `domain`. What stands in a ticket from
    /// another domain is believed only about that domain itself; well-known identifiers
    /// (`S-1-5-32-544`, `S-1-18-1`) are in none.
    pub fn is_in_domain(&self, domain: &Self) -> bool {
        self.domain().is_some_and(|own| own == *domain)
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // MS-DTYP section 2.4.2.1: an authority that does not fit 32 bits is hexadecimal.
        if self.authority > u64::from(u32::MAX) {
            write!(f, "S-1-0x{:012X}", self.authority)?;
        } else {
            write!(f, "S-1-{}", self.authority)?;
        }
        self.sub_authorities()
            .iter()
            .try_for_each(|sub| write!(f, "-{sub}"))
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Sid {
    type Err = SidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-');
        if !parts.next().is_some_and(|s| s.eq_ignore_ascii_case("S")) {
            return Err(SidError::Text);
        }
        match parts.next().and_then(number) {
            Some(revision) if revision == u64::from(REVISION) => {}
            Some(revision) => return Err(SidError::Revision(revision.min(255) as u8)),
            None => return Err(SidError::Text),
        }
        let authority = parts.next().ok_or(SidError::Text)?;
        let authority = match authority
            .strip_prefix("0x")
            .or(authority.strip_prefix("0X"))
        {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                u64::from_str_radix(digits, 16).map_err(|_| SidError::Text)?
            }
            Some(_) => return Err(SidError::Text),
            None => number(authority).ok_or(SidError::Text)?,
        };
        let mut subs = [0; MAX_SUB_AUTHORITIES];
        let mut count = 0;
        for part in parts {
            let sub = number(part).and_then(|sub| u32::try_from(sub).ok());
            *subs.get_mut(count).ok_or(SidError::TooManySubAuthorities)? =
                sub.ok_or(SidError::Text)?;
            count += 1;
        }
        if count == 0 {
            return Err(SidError::Text);
        }
        Self::new(authority, &subs[..count])
    }
}

/// Why bytes or text are no security identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SidError {
    #[error("a security identifier is written as S-1-5-21-... with decimal numbers")]
    Text,
    #[error("the length of the security identifier does not fit its count of sub-authorities")]
    Length,
    #[error("a security identifier of revision {0} is not known")]
    Revision(u8),
    #[error("the authority of a security identifier has more than 48 bits")]
    Authority,
    #[error("a security identifier has at most {MAX_SUB_AUTHORITIES} sub-authorities")]
    TooManySubAuthorities,
}

/// Digits alone: the standard reader also takes a sign.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

const REVISION: u8 = 1;
const HEAD_BYTES: usize = 8;
const MAX_SUB_AUTHORITIES: usize = 15;
const MAX_AUTHORITY: u64 = (1 << 48) - 1;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sid_reads_the_same_from_text_and_from_bytes() {
        let text = "S-1-5-21-135073198-2454082312-3269498777-1104";
        let sid: Sid = text.parse().unwrap();
        let bytes = b"\x01\x05\0\0\0\0\0\x05\x15\0\0\0\xae\x0d\x0d\x08\x08\x53\x46\x92\x99\x97\xe0\xc2\x50\x04\0\0";
        assert_eq!(sid.to_bytes(), bytes);
        assert_eq!(Sid::from_bytes(bytes), Ok(sid));
        assert_eq!(sid.to_string(), text);
        assert_eq!(sid.rid(), Some(1104));
        let domain = sid.domain().unwrap();
        assert_eq!(
            domain.to_string(),
            "S-1-5-21-135073198-2454082312-3269498777"
        );
        assert_eq!(domain.with_rid(1104), Ok(sid));
    }

    #[test]
    fn a_sid_is_in_its_own_domain_alone() {
        let sid: Sid = "S-1-5-21-1-2-3-500".parse().unwrap();
        let in_domain = |domain: &str| sid.is_in_domain(&domain.parse().unwrap());
        assert!(in_domain("S-1-5-21-1-2-3"));
        assert!(!in_domain("S-1-5-21-1-2"));
        assert!(!in_domain("S-1-5-21-1-2-4"));
        assert!(!in_domain("S-1-6-21-1-2-3"));
        assert!(!in_domain("S-1-5-21-1-2-3-500"));
    }

    #[test]
    fn what_is_no_sid_is_refused() {
        for text in [
            "",
            "S",
            "S-1",
            "S-1-5",
            "S-1-5-",
            "S-2-5-1",
            "S-1-5-21-4294967296",
            "S-1-5-+21",
            "1-5-21",
            "S-1-5-21-",
            "S-1-0x-1",
            "S-1-0x+1-1",
            "S-1-281474976710656-1",
            "S-1-5--21",
            " S-1-5-21",
            "S-1-5-21 ",
            "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16",
            "Domain Admins",
        ] {
            assert!(text.parse::<Sid>().is_err(), "{text:?}");
        }
        for bytes in [
            &b""[..],
            b"\x01\x01\0\0\0\0\0",
            b"\x01\x01\0\0\0\0\0\x05",
            b"\x02\0\0\0\0\0\0\x05",
            b"\x01\0\0\0\0\0\0\x05x",
        ] {
            assert!(Sid::from_bytes(bytes).is_err(), "{bytes:?}");
        }
        let full = Sid::new(5, &[7; 15]).unwrap();
        assert_eq!(full.with_rid(1), Err(SidError::TooManySubAuthorities));
    }

    #[test]
    fn a_large_authority_is_hexadecimal() {
        let sid = Sid::new(0x1_0000_0000, &[1]).unwrap();
        assert_eq!(sid.to_string(), "S-1-0x000100000000-1");
        assert_eq!("s-1-0x100000000-1".parse(), Ok(sid));
    }

    proptest! {
        #[test]
        fn every_sid_survives_both_ways(authority in 0..=MAX_AUTHORITY, subs in prop::collection::vec(any::<u32>(), 1..=15)) {
            let sid = Sid::new(authority, &subs).unwrap();
            prop_assert_eq!(Sid::from_bytes(&sid.to_bytes()), Ok(sid));
            prop_assert_eq!(sid.to_string().parse(), Ok(sid));
            prop_assert_eq!(sid.sub_authorities(), &subs[..]);
        }

        #[test]
        fn no_bytes_and_no_text_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "S?-?[-0-9xXa-f]{0,60}") {
            if let Ok(sid) = Sid::from_bytes(&bytes) {
                prop_assert_eq!(sid.to_bytes(), bytes);
            }
            let _ = text.parse::<Sid>();
        }
    }
}
