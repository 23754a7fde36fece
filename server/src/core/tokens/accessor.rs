//! Accessors: a token's stored id, encrypted. A name with which a token can be looked up, renewed and revoked, but not
//! used; it is written to logs and lists. Both ways it is one block of AES and no index.
//!
//! The id is one block of AES and so is the accessor: a permutation, by which no two tokens have the same, and without
//! whose key an accessor tells nothing of the id. That matters because the id is in the token's lease id, with which
//! Vault's default policy lets everybody renew.

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use obol_mount::{Error, Result};

use super::TokenId;

/// Bytes of the key.
pub(super) const KEY: usize = 16;

/// Between ids and accessors. Zeroised when it is dropped.
pub(super) struct Accessors(Aes128);

impl Accessors {
    pub(super) fn new(key: &[u8]) -> Result<Self> {
        let cipher = Aes128::new_from_slice(key)
            .map_err(|_| Error::internal("the accessor key has a wrong length"))?;
        Ok(Self(cipher))
    }

    pub(super) fn of(&self, id: [u8; TokenId::BYTES]) -> String {
        let mut block = id.into();
        self.0.encrypt_block(&mut block);
        hex::encode(block)
    }

    /// The id behind an accessor, whether it is a token's or not; `None` for what has not the form of an accessor.
    pub(super) fn id_of(&self, accessor: &str) -> Option<TokenId> {
        let mut block = TokenId::parse(accessor)?.bytes()?.into();
        self.0.decrypt_block(&mut block);
        Some(TokenId::from_tag(&block))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_accessor_is_aes_of_the_id_and_leads_back_to_it() {
        // FIPS 197, appendix C.1.
        let key: Vec<u8> = (0..16).collect();
        let id: [u8; 16] = std::array::from_fn(|n| u8::try_from(n * 0x11).unwrap());
        let accessors = Accessors::new(&key).unwrap();
        let accessor = accessors.of(id);
        assert_eq!(accessor, "69c4e0d86a7b0430d8cdb78070b4c55a");
        assert_eq!(accessors.id_of(&accessor), Some(TokenId::from_tag(&id)));
    }

    #[test]
    fn what_is_no_accessor_is_told_apart() {
        let accessors = Accessors::new(&[7; KEY]).unwrap();
        let good = accessors.of([1; 16]);
        for bad in [
            "".to_owned(),
            "lost".into(),
            good.to_uppercase(),
            good[1..].into(),
            format!("{good}0"),
            format!("+{}", &good[1..]),
            "é".repeat(16),
        ] {
            assert_eq!(accessors.id_of(&bad), None, "{bad}");
        }
        assert!(Accessors::new(&[7; KEY - 1]).is_err());
    }
}
