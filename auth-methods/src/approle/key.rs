//! IDs rest as HMACs under a key of the mount: storage never holds one, and an ID of one mount means nothing at
//! another (threats: `cross-mount-id`).

use std::sync::Arc;

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError, View};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The mount's HMAC.
#[derive(Clone)]
pub(super) struct Hasher(Arc<hmac::Key>);

impl Hasher {
    /// Reads the key, or makes it when the mount is new.
    pub(super) async fn open(view: &View) -> Result<Self> {
        for _ in 0..2 {
            if let Some(entry) = view.get(PATH).await? {
                return Ok(Self(Arc::new(hmac::Key::new(
                    hmac::HMAC_SHA256,
                    &entry.value,
                ))));
            }
            let mut key = Zeroizing::new(vec![0; 32]);
            SystemRandom::new()
                .fill(&mut key)
                .map_err(|_| Error::internal("no randomness"))?;
            let mut batch = Batch::new();
            view.expect_absent_in(&mut batch, PATH);
            view.put_in(&mut batch, PATH, key);
            match view.commit(batch).await {
                // Read again: another server may have been faster.
                Ok(()) | Err(StorageError::Conflict { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(Error::internal("the key of the mount could not be made"))
    }

    /// The hash of an ID that belongs to `owner`.
    pub(super) fn hash(&self, owner: &str, id: &str) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(owner.as_bytes());
        // No owner holds it, so no two pairs are one text.
        context.update(&[0]);
        context.update(id.as_bytes());
        hex::encode(context.sign())
    }
}

const PATH: &str = "key";
