//! Shares that come one by one: what rekeying, verifying new keys and generating a root token have in common. They
//! are in memory alone, so sealing or a restart cancels whatever was under way.

use obol_mount::{Error, Result};
use obol_storage::seal::Share;
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// The shares given so far for one purpose, and the nonce that ties them to it.
pub(super) struct Collected {
    pub(super) nonce: String,
    pub(super) need: u8,
    shares: Vec<Share>,
}

impl Collected {
    pub(super) fn new(need: u8) -> Self {
        Self {
            nonce: Uuid::new_v4().to_string(),
            need,
            shares: Vec::new(),
        }
    }

    pub(super) fn progress(&self) -> usize {
        self.shares.len()
    }

    /// Refuses a nonce that is not this operation's: the share was meant for another.
    pub(super) fn check_nonce(&self, nonce: &str) -> Result<()> {
        if same_nonce(&self.nonce, nonce) {
            return Ok(());
        }
        Err(Error::bad_request(match nonce {
            "" => "missing required field \"nonce\": the status of the operation shows it",
            _ => "the nonce is not that of the operation under way",
        }))
    }

    /// Takes one share. Gives all of them out, and forgets them, when there are enough.
    pub(super) fn add(&mut self, nonce: &str, share: Share) -> Result<Option<Vec<Share>>> {
        self.check_nonce(nonce)?;
        let known = |known: &Share| known.index() == share.index() || *known == share;
        if self.shares.iter().any(known) {
            return Err(Error::bad_request("this key was given already"));
        }
        self.shares.push(share);
        if self.shares.len() < usize::from(self.need) {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.shares)))
    }
}

pub(super) fn same_nonce(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}
