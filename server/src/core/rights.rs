//! What a token may do: its own policies, and those of its entity and of all the entity's groups, as they are at the
//! time of the request. Nothing of identity is copied into a token, so what is taken away is gone at once.

use std::sync::Arc;

use obol_mount::{Auth, Caller, Error, Result};

use super::Live;
use super::identity::Resolved;
use super::policies::Acl;
use super::tokens::Cached;

impl Live {
    /// The entity behind a token; `None` for a token that has none. Refused when it is gone or disabled.
    pub async fn identity_of(&self, entity_id: &str) -> Result<Option<Arc<Resolved>>> {
        if entity_id.is_empty() {
            return Ok(None);
        }
        match self.identity.resolve(entity_id).await? {
            Some(found) if !found.entity.disabled => Ok(Some(found)),
            Some(_) => Err(Error::forbidden().with_cause("the token's entity is disabled")),
            None => Err(Error::forbidden().with_cause("the token's entity is gone")),
        }
    }

    /// What a token may do.
    pub async fn acl_of(&self, token: &Cached) -> Result<Arc<Acl>> {
        let identity = self.identity_of(&token.entry.entity_id).await?;
        token.acl(&self.policies, identity.as_deref()).await
    }

    /// What the caller of a request may do.
    pub async fn acl_of_caller(&self, caller: &Caller) -> Result<Arc<Acl>> {
        let identity = self.identity_of(&caller.entity_id).await?;
        self.policies
            .acl_for(&caller.policies, identity.as_deref())
            .await
    }

    /// The policies that a token has by its entity; none when it has none or that is gone.
    pub async fn identity_policies(&self, entity_id: &str) -> Result<Arc<[String]>> {
        if entity_id.is_empty() {
            return Ok(Arc::default());
        }
        let found = self.identity.resolve(entity_id).await?;
        Ok(found.map_or_else(Arc::default, |found| found.policies.clone()))
    }

    /// The `auth` of an answer with what identity adds: `policies` is all, and where each is from stands beside it.
    pub async fn with_identity(&self, mut auth: Auth) -> Result<Auth> {
        let identity = self.identity_policies(&auth.entity_id).await?;
        if !identity.is_empty() {
            auth.policies.extend_from_slice(&identity);
            auth.policies.sort();
            auth.policies.dedup();
            auth.identity_policies = Some(identity.to_vec());
        }
        Ok(auth)
    }
}
