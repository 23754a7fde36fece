//! The two parts of an envelope that bring a token: `auth`, of a login, a new or a renewed token, and `wrap_info`, of an
//! answer that is fetched with a token. Vault's names and order.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{Secret, TokenKind};

/// A token that was issued or renewed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Auth {
    /// The token; this is the one time that it is seen. Empty when it was renewed by its accessor.
    #[serde(serialize_with = "Secret::show")]
    pub client_token: Secret,
    /// A name of the token with which it can be looked up, renewed and revoked, but not used.
    pub accessor: String,
    /// All that it may do: its own policies and those of its entity and of the entity's groups.
    pub policies: Vec<String>,
    /// Its own policies.
    pub token_policies: Vec<String>,
    /// Those of its entity and of the entity's groups, as they are now; left out when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_policies: Option<Vec<String>>,
    /// What the login, or whoever made the token, says of it; null when that is nothing.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Seconds until it ends; 0 for a token that never does.
    pub lease_duration: u64,
    /// Whether it can be renewed; false for a batch token and for one that never ends.
    pub renewable: bool,
    /// Who it stands for; empty for a token without an entity.
    pub entity_id: String,
    /// `service` or `batch`.
    pub token_type: TokenKind,
    /// Whether it has no parent with which it would end.
    pub orphan: bool,
    /// Always null: there is no login in two steps.
    pub mfa_requirement: (),
    /// How often it may still be used; 0 means without limit.
    pub num_uses: u64,
}

/// The token that fetches an answer which was wrapped.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WrapInfo {
    /// The token, which unwraps once; a JWT that holds it where `X-Vault-Wrap-Format` asked for that.
    #[serde(serialize_with = "Secret::show")]
    pub token: Secret,
    /// Its accessor.
    pub accessor: String,
    /// Seconds until it ends, and the answer with it.
    pub ttl: u64,
    /// RFC 3339.
    pub creation_time: String,
    /// The path of the request whose answer is wrapped.
    pub creation_path: String,
    /// The accessor of the token that is in the answer; left out when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapped_accessor: Option<String>,
}
