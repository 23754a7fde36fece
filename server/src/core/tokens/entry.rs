//! The record of a token, and the decoded form that the cache holds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use obol_mount::{Caller, TokenKind, TokenParams};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::family::Belongings;
use crate::core::identity::Resolved;
use crate::core::policies::Acl;
use crate::core::policy_store::PolicyStore;

/// The HMAC of a token, in hexadecimal: what storage, caches and indexes know a token by. The first half of
/// HMAC-SHA-256: 128 bits, as few as RFC 2104 (section 5) allows, and one block for the accessor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(Arc<str>);

impl TokenId {
    pub(super) const BYTES: usize = 16;

    /// Of an HMAC that is at least as long.
    pub(super) fn from_tag(tag: &[u8]) -> Self {
        Self(hex::encode(&tag[..Self::BYTES.min(tag.len())]).into())
    }

    /// An id that somebody sent: `None` when it has not the form of one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 2 * Self::BYTES && text.bytes().all(is_digit)).then(|| Self(text.into()))
    }

    pub(super) fn bytes(&self) -> Option<[u8; Self::BYTES]> {
        Some(u128::from_str_radix(&self.0, 16).ok()?.to_be_bytes())
    }

    /// An id that was read from an index of our own.
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl From<Arc<str>> for TokenId {
    fn from(id: Arc<str>) -> Self {
        Self(id)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token as it is stored. Times are seconds since 1970, durations seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenEntry {
    /// Of a batch token, which cannot be looked up: empty.
    pub accessor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TokenId>,
    /// What the token may do, sorted, `default` among them unless it was declined.
    pub policies: Vec<String>,
    pub kind: TokenKind,
    pub display_name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The API path that issued it.
    pub path: String,
    /// The UUID of the mount that issued it; none for tokens from `auth/token` and the root token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The role of `auth/token` that it was created by; its present rules apply to renewals.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    pub created: u64,
    /// The TTL that it was issued with.
    pub creation_ttl: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_renewal: Option<u64>,
    /// `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub explicit_max_ttl: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub period: u64,
    /// The limit that renewals keep to; 0: the issuer's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_ttl: u64,
    /// Uses left; `None`: without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u64>,
    pub renewable: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_cidrs: Vec<ipnet::IpNet>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub entity_id: String,
    /// What the issuing mount wants to see again at renewal.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub internal: Map<String, Value>,
    /// What hangs, or once hung, on it.
    #[serde(default, skip_serializing_if = "Belongings::is_none")]
    pub(super) belongings: Belongings,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl TokenEntry {
    pub fn is_root(&self) -> bool {
        self.policies.iter().any(|p| p == "root")
    }

    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Seconds left; 0 for a token that never ends.
    pub fn ttl(&self, now: u64) -> u64 {
        self.expires
            .map_or(0, |expires| expires.saturating_sub(now))
    }

    pub fn is_orphan(&self) -> bool {
        self.parent.is_none()
    }

    /// The settings under which it was issued, for renewals without a mount to ask.
    pub fn params(&self) -> TokenParams {
        let secs = std::time::Duration::from_secs;
        TokenParams {
            ttl: secs(self.creation_ttl),
            max_ttl: secs(self.max_ttl),
            explicit_max_ttl: secs(self.explicit_max_ttl),
            period: secs(self.period),
            ..TokenParams::default()
        }
    }
}

/// A token in memory: the record, who it makes the caller, and its compiled ACL once it was needed.
pub struct Cached {
    pub id: TokenId,
    pub entry: TokenEntry,
    /// Made at the first request: a login waits for nothing that its token may need later.
    caller: OnceLock<Caller>,
    /// The ACL, and what it was compiled from: a generation of policies and a state of the entity.
    pub(super) acl: ArcSwapOption<((u64, u64), Arc<Acl>)>,
    /// The stamp under which its client was counted; 0: not yet ([`crate::core::activity`]).
    pub(in crate::core) counted: AtomicU64,
}

impl Cached {
    pub fn new(id: TokenId, entry: TokenEntry) -> Self {
        Self {
            id,
            entry,
            caller: OnceLock::new(),
            acl: ArcSwapOption::empty(),
            counted: AtomicU64::new(0),
        }
    }

    /// Whoever shows this token.
    pub fn caller(&self) -> &Caller {
        self.caller.get_or_init(|| {
            let entry = &self.entry;
            Caller {
                token_id: match entry.kind {
                    TokenKind::Batch => "".into(),
                    _ => self.id.shared(),
                },
                accessor: entry.accessor.as_str().into(),
                kind: entry.kind,
                display_name: entry.display_name.as_str().into(),
                policies: entry.policies.as_slice().into(),
                entity_id: entry.entity_id.as_str().into(),
                metadata: Arc::new(entry.metadata.clone()),
                is_root: entry.is_root(),
                issued: entry.created,
                ttl: entry.creation_ttl,
            }
        })
    }

    /// The ACL, compiled at most once per generation of policies and state of the entity.
    pub async fn acl(
        &self,
        policies: &PolicyStore,
        identity: Option<&Resolved>,
    ) -> obol_mount::Result<Arc<Acl>> {
        let from = (
            policies.generation(),
            identity.map_or(0, |entity| entity.serial),
        );
        if let Some(known) = &*self.acl.load()
            && known.0 == from
        {
            return Ok(known.1.clone());
        }
        let acl = policies.acl_for(&self.entry.policies, identity).await?;
        self.acl.store(Some(Arc::new((from, acl.clone()))));
        Ok(acl)
    }
}
