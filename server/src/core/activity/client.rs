//! What a client is, and what is kept of one.

use ring::digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a client is known by, in every month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientId {
    /// An entity, whichever of its tokens it comes with.
    Entity(String),
    /// All tokens that have no entity and the same policies: the hash of these.
    Token([u8; 32]),
}

/// Which of the two it is, under Vault's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientKind {
    #[serde(rename = "entity")]
    Entity,
    #[serde(rename = "non-entity-token")]
    Token,
}

/// What is kept of a client for a month: as it came first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Client {
    pub kind: ClientKind,
    /// The mount that issued the token.
    pub accessor: String,
    pub mount: String,
    pub mount_kind: String,
    /// When it was first seen in the month; seconds since 1970.
    pub seen: u64,
    /// Those of tokens without an entity: what makes them one client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
}

impl ClientId {
    /// Who comes with a token of these policies, in the order in which they are stored; `entity` is empty where it has
    /// none.
    pub fn new(policies: &[String], entity: &str) -> Self {
        if !entity.is_empty() {
            return Self::Entity(entity.to_owned());
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        // The namespace first, as there will be others; a name of a policy holds no zero byte.
        hash.update(b"root\0");
        for policy in policies {
            hash.update(policy.as_bytes());
            hash.update(&[0]);
        }
        let mut id = [0; 32];
        id.copy_from_slice(hash.finish().as_ref());
        Self::Token(id)
    }

    pub fn kind(&self) -> ClientKind {
        match self {
            Self::Entity(_) => ClientKind::Entity,
            Self::Token(_) => ClientKind::Token,
        }
    }

    /// Short, for a cache. Neither random UUIDs nor hashes fall together.
    pub fn key(&self) -> u128 {
        match self {
            Self::Entity(id) => match Uuid::try_parse(id) {
                Ok(id) => id.as_u128(),
                // Ids are made here; should one not be a UUID, its hash does.
                Err(_) => short(digest::digest(&digest::SHA256, id.as_bytes()).as_ref()),
            },
            Self::Token(id) => short(id),
        }
    }

    /// The name of its record.
    pub fn name(&self) -> String {
        match self {
            Self::Entity(id) => id.clone(),
            Self::Token(id) => hex::encode(id),
        }
    }
}

impl ClientKind {
    /// Told by the name of a record alone: a hash is longer than a UUID.
    pub fn of_name(name: &str) -> Self {
        match name.len() {
            64 => Self::Token,
            _ => Self::Entity,
        }
    }
}

fn short(hash: &[u8]) -> u128 {
    hash.iter()
        .take(16)
        .fold(0, |key, byte| key << 8 | u128::from(*byte))
}
