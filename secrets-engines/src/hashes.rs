//! The hashes that clients may name, and HMACs over them.

use hmac::{KeyInit, Mac, SimpleHmac};
use obol_mount::{Error, Result};
use rsa::{Pkcs1v15Sign, Pss};
use sha2::Digest;

/// As Vault names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha2_224,
    Sha2_256,
    Sha2_384,
    Sha2_512,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
}

/// What follows, with `$D` as the type of the hash.
macro_rules! with_type {
    ($hash:expr, $D:ident => $body:expr) => {
        match $hash {
            Hash::Sha1 => {
                type $D = sha1::Sha1;
                $body
            }
            Hash::Sha2_224 => {
                type $D = sha2::Sha224;
                $body
            }
            Hash::Sha2_256 => {
                type $D = sha2::Sha256;
                $body
            }
            Hash::Sha2_384 => {
                type $D = sha2::Sha384;
                $body
            }
            Hash::Sha2_512 => {
                type $D = sha2::Sha512;
                $body
            }
            Hash::Sha3_224 => {
                type $D = sha3::Sha3_224;
                $body
            }
            Hash::Sha3_256 => {
                type $D = sha3::Sha3_256;
                $body
            }
            Hash::Sha3_384 => {
                type $D = sha3::Sha3_384;
                $body
            }
            Hash::Sha3_512 => {
                type $D = sha3::Sha3_512;
                $body
            }
        }
    };
}

impl Hash {
    const ALL: [(&'static str, Self); 9] = [
        ("sha1", Self::Sha1),
        ("sha2-224", Self::Sha2_224),
        ("sha2-256", Self::Sha2_256),
        ("sha2-384", Self::Sha2_384),
        ("sha2-512", Self::Sha2_512),
        ("sha3-224", Self::Sha3_224),
        ("sha3-256", Self::Sha3_256),
        ("sha3-384", Self::Sha3_384),
        ("sha3-512", Self::Sha3_512),
    ];

    /// Reads the field `field`; empty is SHA-2 with 256 bits.
    pub(crate) fn parse(field: &str, text: &str) -> Result<Self> {
        Self::among(field, text, &Self::ALL)
    }

    /// The same without SHA-1, which is offered for signatures only.
    pub(crate) fn parse_strong(field: &str, text: &str) -> Result<Self> {
        Self::among(field, text, &Self::ALL[1..])
    }

    fn among(field: &str, text: &str, known: &[(&str, Self)]) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::Sha2_256);
        }
        let found = known.iter().find(|(name, _)| *name == text);
        found.map(|(_, hash)| *hash).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            Error::bad_request(format!(
                "unsupported algorithm; {field}: expected one of {}",
                names.join(", ")
            ))
        })
    }

    /// Bytes of a digest.
    pub(crate) fn length(self) -> usize {
        with_type!(self, D => <D as Digest>::output_size())
    }

    pub(crate) fn digest(self, input: &[u8]) -> Vec<u8> {
        with_type!(self, D => D::digest(input).to_vec())
    }

    /// RFC 2104. Keys may have any length.
    pub(crate) fn hmac(self, key: &[u8], input: &[u8]) -> Vec<u8> {
        with_type!(self, D => {
            let mut mac = <SimpleHmac<D> as KeyInit>::new_from_slice(key)
                .expect("an HMAC takes a key of any length");
            mac.update(input);
            mac.finalize().into_bytes().to_vec()
        })
    }

    /// RSASSA-PKCS1-v1_5 with this hash (RFC 8017, section 8.2).
    pub(crate) fn pkcs1v15(self) -> Pkcs1v15Sign {
        with_type!(self, D => Pkcs1v15Sign::new::<D>())
    }

    /// Signs or verifies by RSASSA-PSS with this hash (RFC 8017, section 8.1).
    pub(crate) fn with_pss<T>(self, salt: Option<usize>, with: impl PssUser<T>) -> T {
        with_type!(self, D => with.with(Pss::<D> {
            blinded: true,
            digest: D::new(),
            salt_len: salt,
        }))
    }
}

/// What is done with a PSS scheme, whatever its hash is.
pub(crate) trait PssUser<T> {
    fn with(self, scheme: impl rsa::traits::SignatureScheme) -> T;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_abc_are_those_of_fips_180_and_202() {
        for (name, digest) in [
            ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                "sha2-224",
                "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
            ),
            (
                "sha2-256",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                "sha3-256",
                "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
            ),
        ] {
            let hash = Hash::parse("algorithm", name).unwrap();
            assert_eq!(hex::encode(hash.digest(b"abc")), digest, "{name}");
            assert_eq!(hash.length() * 2, digest.len());
        }
        assert!(Hash::parse_strong("algorithm", "sha1").is_err());
        assert!(Hash::parse("algorithm", "md5").is_err());
        assert_eq!(Hash::parse("algorithm", "").unwrap(), Hash::Sha2_256);
    }

    #[test]
    fn hmacs_are_those_of_rfc_4231() {
        // Test case 2.
        let mac = |hash: Hash| hex::encode(hash.hmac(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(
            mac(Hash::Sha2_224),
            "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44"
        );
        assert_eq!(
            mac(Hash::Sha2_256),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
