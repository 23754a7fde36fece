//! Encryption types by their registered numbers (RFC 3961 and its successors) and by the names that
//! MIT Kerberos prints, so that a message can be pasted into krb5.conf.

use std::fmt;
use std::str::FromStr;

/// An encryption type. Types that are not listed are kept by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Enctype {
    DesCbcCrc,
    DesCbcMd5,
    Des3CbcSha1,
    Aes128Sha1,
    Aes256Sha1,
    Aes128Sha256,
    Aes256Sha384,
    ArcfourHmac,
    Camellia128,
    Camellia256,
    Other(i32),
}

impl Enctype {
    pub fn from_number(number: i32) -> Self {
        TABLE
            .iter()
            .find(|row| row.number == number)
            .map_or(Self::Other(number), |row| row.enctype)
    }

    pub fn number(self) -> i32 {
        match self {
            Self::Other(number) => number,
            known => known.row().number,
        }
    }

    /// The length of a key in bytes, where the type is known.
    pub fn key_bytes(self) -> Option<usize> {
        match self {
            Self::Other(_) => None,
            known => Some(known.row().key_bytes),
        }
    }

    /// Whether tickets under this type are accepted at all. DES is broken and gone from libkrb5
    /// since 1.18, 3DES is retired by RFC 8429 and off by default since 1.21; an unknown type has
    /// no code.
    pub fn is_usable(self) -> bool {
        !matches!(
            self,
            Self::DesCbcCrc | Self::DesCbcMd5 | Self::Des3CbcSha1 | Self::Other(_)
        )
    }

    /// Whether it still works but should be replaced: RC4's key is the unsalted NT hash (RFC 8429).
    pub fn is_weak(self) -> bool {
        matches!(self, Self::ArcfourHmac) || !self.is_usable()
    }

    fn row(self) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.enctype == self)
            .expect("every named variant has its row in TABLE")
    }
}

impl fmt::Display for Enctype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "unknown-enctype-{number}"),
            known => f.write_str(known.row().name),
        }
    }
}

impl FromStr for Enctype {
    type Err = UnknownEnctype;

    /// Accepts the full name, MIT's short aliases, or the number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = text.trim().to_ascii_lowercase();
        if let Ok(number) = wanted.parse() {
            return Ok(Self::from_number(number));
        }
        TABLE
            .iter()
            .find(|row| row.name == wanted || row.aliases.contains(&wanted.as_str()))
            .map(|row| row.enctype)
            .ok_or_else(|| UnknownEnctype(text.to_owned()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no encryption type (expected a name such as aes256-cts-hmac-sha1-96, or its number)"
)]
pub struct UnknownEnctype(String);

struct Row {
    enctype: Enctype,
    number: i32,
    key_bytes: usize,
    name: &'static str,
    aliases: &'static [&'static str],
}

const fn row(
    enctype: Enctype,
    number: i32,
    key_bytes: usize,
    name: &'static str,
    aliases: &'static [&'static str],
) -> Row {
    Row {
        enctype,
        number,
        key_bytes,
        name,
        aliases,
    }
}

#[rustfmt::skip]
static TABLE: [Row; 10] = [
    row(Enctype::DesCbcCrc, 1, 8, "des-cbc-crc", &[]),
    row(Enctype::DesCbcMd5, 3, 8, "des-cbc-md5", &["des"]),
    row(Enctype::Des3CbcSha1, 16, 24, "des3-cbc-sha1", &["des3-hmac-sha1", "des3-cbc-sha1-kd", "des3"]),
    row(Enctype::Aes128Sha1, 17, 16, "aes128-cts-hmac-sha1-96", &["aes128-cts", "aes128-sha1"]),
    row(Enctype::Aes256Sha1, 18, 32, "aes256-cts-hmac-sha1-96", &["aes256-cts", "aes256-sha1"]),
    row(Enctype::Aes128Sha256, 19, 16, "aes128-cts-hmac-sha256-128", &["aes128-sha2"]),
    row(Enctype::Aes256Sha384, 20, 32, "aes256-cts-hmac-sha384-192", &["aes256-sha2"]),
    row(Enctype::ArcfourHmac, 23, 16, "arcfour-hmac", &["rc4-hmac", "arcfour-hmac-md5", "rc4"]),
    row(Enctype::Camellia128, 25, 16, "camellia128-cts-cmac", &["camellia128-cts"]),
    row(Enctype::Camellia256, 26, 32, "camellia256-cts-cmac", &["camellia256-cts"]),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_the_same_type() {
        for number in -5..40 {
            let enctype = Enctype::from_number(number);
            assert_eq!(enctype.number(), number);
            if enctype.key_bytes().is_some() {
                assert_eq!(enctype.to_string().parse::<Enctype>().unwrap(), enctype);
            }
        }
        assert_eq!(
            Enctype::from_number(18).to_string(),
            "aes256-cts-hmac-sha1-96"
        );
        assert_eq!("RC4-HMAC".parse::<Enctype>().unwrap(), Enctype::ArcfourHmac);
        assert!("aes512".parse::<Enctype>().is_err());
    }

    #[test]
    fn des_is_unusable_and_rc4_is_weak() {
        assert!(!Enctype::DesCbcCrc.is_usable() && !Enctype::DesCbcMd5.is_usable());
        assert!(!Enctype::Des3CbcSha1.is_usable());
        assert!(Enctype::ArcfourHmac.is_usable() && Enctype::ArcfourHmac.is_weak());
        assert!(!Enctype::Aes128Sha1.is_weak());
    }
}
