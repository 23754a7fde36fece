//! Who is asking: what a backend may know of the token that came with a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Service tokens are stored and can be revoked and renewed; batch tokens are sealed, stateless and end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// The mount's own setting decides, or `service`.
    #[default]
    Default,
    Service,
    Batch,
    /// `service` unless the request asks for `batch` (tuning of auth mounts).
    DefaultService,
    /// `batch` unless the request asks for `service` (tuning of auth mounts).
    DefaultBatch,
}

/// The authenticated caller of a request. Holds no secret: `token_id` is the HMAC under which the token is stored.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The storage id of the token; empty for batch tokens, which are not stored.
    pub token_id: Arc<str>,
    pub accessor: Arc<str>,
    pub kind: TokenKind,
    pub display_name: Arc<str>,
    pub policies: Arc<[String]>,
    pub entity_id: Arc<str>,
    pub metadata: Arc<BTreeMap<String, String>>,
    pub is_root: bool,
    /// When the token was issued, in seconds since 1970.
    pub issued: u64,
    /// The TTL that it was issued with, in seconds; 0: without end.
    pub ttl: u64,
}
