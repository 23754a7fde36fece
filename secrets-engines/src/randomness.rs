//! Random bytes, all of them from ring, also for the crates that ask for randomness through a trait.

use std::convert::Infallible;

use obol_mount::{Error, Result};
use rand_core::{TryCryptoRng, TryRng};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// Fills `bytes`, or says that the system has no randomness.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| Error::internal("the system's random number generator failed"))
}

/// So many random bytes, wiped when they are dropped.
pub(crate) fn bytes(count: usize) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; count]);
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Randomness for a crate that asks without a way to fail: a failure is noted, and [`Randomness::checked`] throws away
/// what was made of it.
#[derive(Default)]
pub(crate) struct Randomness {
    failed: bool,
}

impl Randomness {
    /// What was made, if the randomness that it was made of was there.
    pub(crate) fn checked<T>(self, made: T) -> Result<T> {
        match self.failed {
            false => Ok(made),
            true => Err(Error::internal(
                "the system's random number generator failed",
            )),
        }
    }
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
