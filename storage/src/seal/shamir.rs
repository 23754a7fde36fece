//! Shamir's secret sharing of a 32-byte key, in shares of the shape that Vault gives out: 32
//! bytes of the polynomials' values, then the index at which they were taken (1 to 255). A key
//! "split" into one share is the key itself, as with Vault.

use std::convert::Infallible;
use std::fmt;

use rand_core::{TryCryptoRng, TryRng};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use vsss_rs::{Gf256, IdentifierGf256};
use zeroize::Zeroizing;

use super::key_from;
use crate::barrier::envelope::{KEY_LEN, Key};
use crate::error::Error;

/// One share of a key. Wiped when dropped, never printed, compared in constant time.
#[derive(Clone)]
pub struct Share(Zeroizing<Vec<u8>>);

/// Why shares cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    #[error("a share has {SHARE_LEN} bytes ({KEY_LEN} where there is only one), not {got}")]
    Length { got: usize },
    #[error("a share of this key has {want} bytes, not {got}")]
    WrongLength { got: usize, want: usize },
    #[error("a share with index 0 is none: it would be the key")]
    ZeroIndex,
    #[error("share {index} was given twice")]
    Duplicate { index: u8 },
    #[error("{got} of {need} shares were given")]
    TooFew { got: usize, need: u8 },
    #[error("more shares were given than there are")]
    TooMany,
}

impl Share {
    /// A share from its bytes, as [`Share::expose`] gave them out.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ShareError> {
        match bytes.len() {
            KEY_LEN => {}
            SHARE_LEN if bytes[KEY_LEN] == 0 => return Err(ShareError::ZeroIndex),
            SHARE_LEN => {}
            got => return Err(ShareError::Length { got }),
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// The share itself. Secret.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Where the share was taken; `None` for the only share of a key.
    pub fn index(&self) -> Option<u8> {
        self.0.get(KEY_LEN).copied()
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Share {}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Share(redacted)")
    }
}

/// Refuses numbers of shares that cannot work, or that would not share anything.
pub(super) fn check_parameters(shares: u8, threshold: u8) -> Result<(), Error> {
    let complaint = match (shares, threshold) {
        (1, 1) => return Ok(()),
        (0, _) => "there must be at least one share",
        (_, 0) => "the threshold must be at least one",
        (_, 1) => "with more than one share the threshold must be at least two",
        _ if threshold > shares => "the threshold is larger than the number of shares",
        _ => return Ok(()),
    };
    Err(Error::SealParameters(complaint))
}

pub(super) fn split(key: &Key, shares: u8, threshold: u8) -> Result<Vec<Share>, Error> {
    check_parameters(shares, threshold)?;
    if shares == 1 {
        return Ok(vec![Share(Zeroizing::new(key.to_vec()))]);
    }
    let mut rng = Randomness { failed: false };
    let indices = (1..=shares).map(|index| IdentifierGf256(Gf256(index)));
    let split = Gf256::split_bytes_with_participant_ids_iter(
        threshold.into(),
        shares.into(),
        **key,
        &mut rng,
        indices,
    )
    .map_err(|_| Error::SealParameters("the key cannot be split like this"))?;
    let shares = split
        .into_iter()
        .map(|mut share| {
            share.rotate_left(1); // the library puts the index first, Vault last
            Share(Zeroizing::new(share))
        })
        .collect();
    // Polynomials without randomness share nothing: they never leave this function.
    if rng.failed {
        return Err(Error::Random);
    }
    Ok(shares)
}

/// Puts a key together. Shares of another key, or a falsified one, give another key: only the
/// record that it opens can tell.
pub(super) fn combine(given: &[Share], shares: u8, threshold: u8) -> Result<Key, Error> {
    let want = if shares == 1 { KEY_LEN } else { SHARE_LEN };
    let mut seen = [false; 256];
    for share in given {
        let got = share.0.len();
        if got != want {
            return Err(ShareError::WrongLength { got, want }.into());
        }
        if let Some(index) = share.index() {
            if index == 0 {
                return Err(ShareError::ZeroIndex.into());
            }
            if std::mem::replace(&mut seen[usize::from(index)], true) {
                return Err(ShareError::Duplicate { index }.into());
            }
        }
    }
    if given.len() < threshold.into() {
        return Err(ShareError::TooFew {
            got: given.len(),
            need: threshold,
        }
        .into());
    }
    if given.len() > shares.into() {
        return Err(ShareError::TooMany.into());
    }
    if let ([only], 1) = (given, shares) {
        return key_from(&only.0).ok_or(Error::WrongKey);
    }
    let given: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(
        given
            .iter()
            .map(|share| {
                let mut bytes = share.0.to_vec();
                bytes.rotate_right(1);
                bytes
            })
            .collect(),
    );
    let key = Gf256::combine_bytes(&*given).map_err(|_| Error::WrongKey)?;
    key_from(&Zeroizing::new(key)).ok_or(Error::WrongKey)
}

/// ring's random numbers for vsss-rs. That asks without a way to fail, so a failure is noted
/// here, and what was made of it is thrown away.
struct Randomness {
    failed: bool,
}

impl TryRng for Randomness {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.failed |= SystemRandom::new().fill(bytes).is_err();
        Ok(())
    }
}

impl TryCryptoRng for Randomness {}

/// A share in bytes: the values, then the index.
const SHARE_LEN: usize = KEY_LEN + 1;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_threshold_of_shares_makes_the_key(
            bytes in any::<[u8; KEY_LEN]>(),
            (shares, threshold) in (2_u8..20).prop_flat_map(|n| (Just(n), 2..=n)),
            order in any::<prop::sample::Index>(),
        ) {
            let key = Key::new(bytes);
            let mut split = split(&key, shares, threshold).unwrap();
            prop_assert_eq!(split.len(), usize::from(shares));
            let turn = order.index(split.len());
            split.rotate_left(turn);
            for given in usize::from(threshold)..=split.len() {
                let combined = combine(&split[..given], shares, threshold).unwrap();
                prop_assert_eq!(&*combined, &*key);
            }
            // With one share fewer the library would give some key; it must be another.
            let fewer = &split[..usize::from(threshold) - 1];
            prop_assert!(combine(fewer, shares, threshold).is_err());
            if fewer.len() >= 2 {
                prop_assert_ne!(&*combine(fewer, shares, 2).unwrap(), &*key);
            }
        }

        #[test]
        fn shares_of_any_content_never_panic(
            bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            shares in any::<u8>(),
            threshold in any::<u8>(),
        ) {
            let given: Vec<Share> =
                bytes.iter().filter_map(|bytes| Share::from_bytes(bytes).ok()).collect();
            let _ = combine(&given, shares, threshold);
            let _ = split(&Key::default(), shares, threshold);
        }
    }

    /// RUSTSEC-2024-0398 and the like: a coefficient that is never zero, or always odd, tells
    /// something about the key with every share.
    #[test]
    fn shamir_bias_is_not_in_any_coefficient() {
        // With a key of zeros and threshold 2 a share is the coefficient times its index; with
        // threshold 3, three shares give both coefficients by solving for them.
        let (mut only, mut low, mut high) = ([0; 256], [0; 256], [0; 256]);
        for _ in 0..1024 {
            for value in &split(&Key::default(), 2, 2).unwrap()[0].expose()[..KEY_LEN] {
                only[usize::from(*value)] += 1; // index 1
            }
            let three = split(&Key::default(), 3, 3).unwrap();
            for byte in 0..KEY_LEN {
                // f(x) = a x + b x^2 at 1 and 2 (addition is xor, and 2^2 is 4).
                let (one, two) = (
                    Gf256(three[0].expose()[byte]),
                    Gf256(three[1].expose()[byte]),
                );
                let b = (two - one * Gf256(2)) / (Gf256(4) - Gf256(2));
                let a = one - b;
                low[usize::from(a.0)] += 1;
                high[usize::from(b.0)] += 1;
            }
        }
        assert_uniform("the coefficient of threshold 2", &only);
        assert_uniform("the linear coefficient of threshold 3", &low);
        assert_uniform("the leading coefficient of threshold 3", &high);
    }

    #[test]
    fn shamir_bias_one_share_too_few_fits_every_key() {
        let shares = split(&Key::new([0x5a; KEY_LEN]), 3, 2).unwrap();
        for share in &shares {
            // Whatever the other share may be, the key goes through all values with it.
            let mut keys = [false; 256];
            for value in 0..=255 {
                let mut other = [value; SHARE_LEN];
                other[KEY_LEN] = share.index().unwrap() + 1;
                let other = Share::from_bytes(&other).unwrap();
                let key = combine(&[share.clone(), other], 3, 2).unwrap();
                keys[usize::from(key[0])] = true;
            }
            assert!(keys.iter().all(|&possible| possible));
        }
    }

    #[test]
    fn shamir_bias_shares_look_the_same_for_different_keys() {
        for byte in [0x00, 0x01, 0xff] {
            for share in 0..3 {
                let mut counts = [0; 256];
                for _ in 0..1024 {
                    let shares = split(&Key::new([byte; KEY_LEN]), 3, 3).unwrap();
                    for value in &shares[share].expose()[..KEY_LEN] {
                        counts[usize::from(*value)] += 1;
                    }
                }
                assert_uniform(&format!("share {share} of a key of {byte}"), &counts);
            }
        }
    }

    /// Vault computes in the field of AES; FIPS 197, section 4.2, has the product {57} x {83}.
    #[test]
    fn shares_are_over_the_field_that_vault_uses() {
        let share = |index: u8, value: u8| {
            let mut bytes = [value; SHARE_LEN];
            bytes[KEY_LEN] = index;
            Share::from_bytes(&bytes).unwrap()
        };
        let line = [share(0x01, 0x57 ^ 0x11), share(0x83, 0xc1 ^ 0x11)];
        assert_eq!(*combine(&line, 2, 2).unwrap(), [0x11; KEY_LEN]);
    }

    fn assert_uniform(what: &str, counts: &[u32; 256]) {
        let expected = f64::from(counts.iter().sum::<u32>()) / 256.0;
        let chi_squared: f64 = counts
            .iter()
            .map(|&count| (f64::from(count) - expected).powi(2) / expected)
            .sum();
        // 255 degrees of freedom: mean 255, deviation 22.6. Six deviations are one chance in a
        // billion; a single value that never occurs adds `expected`, which is at least 128.
        assert!(expected >= 128.0, "too few samples");
        assert!(chi_squared < 255.0 + 6.0 * 22.6, "{what}: {chi_squared}");
        assert!(
            counts.iter().all(|&count| count > 0),
            "{what}: a value never occurs"
        );
    }
}
