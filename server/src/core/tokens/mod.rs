//! Tokens: issued, looked up, renewed, revoked. A service token is a record under the HMAC of its id; its
//! place below its parent, the mount that issued it and the time it ends are index entries, written and removed in one
//! commit with it. Its accessor is that id, encrypted.
//!
//! | path below `core/token/` | holds |
//! | --- | --- |
//! | `id/<hmac>` | the token's record, which also says whether children or leases hang on it |
//! | `child/<parent hmac>/<hmac>` | nothing: the parent's children |
//! | `issued/<mount uuid>/<issuing path>/h<hmac>` | nothing: what the mount issued, by lease id; `token` for no mount |
//! | `expiry/<time>/<hmac>` | nothing: ordered by time, read from the front, never loaded whole |
//! | `revoking/<hmac>` | nothing: a dead token whose family is still to be removed |
//! | `role/<name>` | a role of `auth/token` |
//! | `keys` | the HMAC key of ids, the key of accessors and the key of batch tokens |

mod accessor;
mod batch;
mod check;
mod entry;
mod family;
mod issue;
mod lookup;
mod reaping;
mod renew;
mod revoke;
mod turns;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use obol_mount::{Error, Result, Secret};
use obol_storage::{View, from_json};
use quick_cache::sync::Cache;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use entry::{Cached, TokenEntry, TokenId};
pub use family::Belonging;
pub use issue::{IssueError, Issued, Limits, NewToken};
pub use lookup::Use;
pub use revoke::Forget;

/// Tells a token in a lease id from the random name of a secret's lease.
const LEASE_MARK: &str = "h";

/// In the place of a mount's UUID: issued by a token, with no auth method behind it.
pub const NO_MOUNT: &str = "token";

/// How many decoded tokens stay in memory. The rest are a point read away.
const CACHED_TOKENS: usize = 8192;

/// All tokens of an unsealed server.
pub struct Tokens {
    storage: View,
    hmac: hmac::Key,
    accessors: accessor::Accessors,
    batch: batch::BatchSealer,
    cache: Cache<TokenId, Arc<Cached>>,
    /// Requests under way with tokens of limited uses.
    turns: turns::Turns,
    /// Families of dead tokens that are still to be removed.
    reaping: reaping::Reaping,
    /// Held by the one tidy that may run.
    tidying: Arc<Semaphore>,
    random: SystemRandom,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredKeys {
    hmac: Vec<u8>,
    accessor: Vec<u8>,
    batch: Vec<u8>,
}

impl Tokens {
    /// Reads the keys, or makes them on the first unseal. Loads no token.
    pub async fn open(storage: View) -> Result<Self> {
        let random = SystemRandom::new();
        let keys = match storage.get("keys").await? {
            Some(entry) => from_json::<StoredKeys>(&entry.value)
                .map_err(|_| Error::internal("the record of the token keys is malformed"))?,
            None => {
                let mut keys = StoredKeys {
                    hmac: vec![0; 32],
                    accessor: vec![0; accessor::KEY],
                    batch: vec![0; 32],
                };
                for key in [&mut keys.hmac, &mut keys.accessor, &mut keys.batch] {
                    random
                        .fill(key)
                        .map_err(|_| Error::internal("no randomness"))?;
                }
                storage.put_json("keys", &keys).await?;
                keys
            }
        };
        let reaping = reaping::Reaping::default();
        if !storage.list("revoking/", None, 1).await?.is_empty() {
            reaping.marked();
        }
        Ok(Self {
            storage,
            reaping,
            tidying: Arc::new(Semaphore::new(1)),
            hmac: hmac::Key::new(hmac::HMAC_SHA256, &keys.hmac),
            accessors: accessor::Accessors::new(&keys.accessor)?,
            batch: batch::BatchSealer::new(&keys.batch)?,
            cache: Cache::new(CACHED_TOKENS),
            turns: turns::Turns::default(),
            random,
        })
    }

    /// Where the roles of `auth/token` are, under `role/`.
    pub fn roles(&self) -> &View {
        &self.storage
    }

    /// The id under which a token is stored: storage never holds the token itself.
    pub fn id_of(&self, token: &str) -> TokenId {
        TokenId::from_tag(hmac::sign(&self.hmac, token.as_bytes()).as_ref())
    }

    /// A new service token that nobody has yet: for what must know the id before the token is issued.
    pub fn random_token(&self) -> Result<Secret> {
        let random = self.random_base62(28)?;
        Ok(Secret::new(["obs.", random.as_str()].concat()))
    }

    /// `length` random base62 characters; 24 of them carry 142 bits.
    pub(in crate::core) fn random_base62(&self, length: usize) -> Result<Zeroizing<String>> {
        const ALPHABET: &[u8; 62] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut out = Zeroizing::new(String::with_capacity(length));
        let mut bytes = Zeroizing::new([0u8; 64]);
        while out.len() < length {
            self.random
                .fill(bytes.as_mut_slice())
                .map_err(|_| Error::internal("no randomness"))?;
            for byte in bytes.iter() {
                // Values past the last whole multiple of 62 would favour the first letters.
                if *byte < 248 && out.len() < length {
                    out.push(char::from(ALPHABET[usize::from(byte % 62)]));
                }
            }
        }
        Ok(out)
    }

    /// The accessor of a service token.
    fn accessor_of(&self, id: &TokenId) -> Result<String> {
        let id = id
            .bytes()
            .ok_or_else(|| Error::internal("a stored token id is malformed"))?;
        Ok(self.accessors.of(id))
    }

    // Every token that is made or looked up needs some of these paths, and `format!` takes four times as long as a join.

    fn path_of(id: &TokenId) -> String {
        ["id/", id.as_str()].concat()
    }

    fn child_path(parent: &TokenId, id: &TokenId) -> String {
        ["child/", parent.as_str(), "/", id.as_str()].concat()
    }

    /// Sixteen digits of the time, so that the order of the texts is the order of the times.
    fn expiry_path(expires: u64, id: &TokenId) -> String {
        let time = hex::encode(expires.to_be_bytes());
        ["expiry/", &time, "/", id.as_str()].concat()
    }

    /// Where a token is found by the mount that issued it, and by its lease id: `<issuing path>/h<hmac>`.
    fn issued_path(entry: &TokenEntry, id: &TokenId) -> String {
        let issuer = entry.issuer.as_deref().unwrap_or(NO_MOUNT);
        let id = id.as_str();
        match entry.path.as_str() {
            "" => ["issued/", issuer, "/", LEASE_MARK, id].concat(),
            path => ["issued/", issuer, "/", path, "/", LEASE_MARK, id].concat(),
        }
    }
}
