//! Renewal: the role must still be the one that it was, with the same policies, and the secret ID not withdrawn
//! (threats: `renew-with-other-identity`). A secret ID that was spent or whose time is over has done its duty; one
//! that would still be good and is gone was destroyed by somebody, and its tokens end with their TTL.

use std::time::SystemTime;

use obol_mount::{Error, Renewal, Result, same_policies};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Approle;
use super::role::Role;
use super::secret::{Found, unix};

/// What a login leaves with its token, to be looked at again here.
#[derive(Serialize, Deserialize)]
pub(super) struct Proof {
    role_name: String,
    /// The role's own id: a role of the same name that was made since is another.
    role: String,
    /// The secret ID, where the login had one that can be used again: its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_expires: Option<u64>,
}

impl Proof {
    pub(super) fn of(role: &Role) -> Self {
        Self {
            role_name: role.name.clone(),
            role: role.id.clone(),
            secret: None,
            secret_expires: None,
        }
    }

    pub(super) fn remember(&mut self, found: &Found) {
        // One with counted uses may be gone because they are spent.
        if found.secret.uses_left.is_none() {
            self.secret = Some(found.hash.clone());
            self.secret_expires = found.secret.expires;
        }
    }

    pub(super) fn to_map(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) | Err(_) => Err(Error::internal("a login's proof is no JSON object")),
        }
    }
}

/// May a token of this login live on?
pub(super) async fn renew(
    approle: &Approle,
    internal: &Map<String, Value>,
    policies: &[String],
) -> Result<Renewal> {
    let proof: Proof =
        serde_json::from_value(Value::Object(internal.clone())).map_err(Error::internal)?;
    let name = &proof.role_name;
    let refused = |why: &str| {
        let cause = format!("a renewal for role {name} was refused: {why}");
        Error::bad_request(format!("{why}; log in again")).with_cause(cause)
    };
    let found = approle.roles.get(name).await?;
    let Some((role, _)) = found.filter(|(role, _)| role.id == proof.role) else {
        return Err(refused("the role does not exist any more"));
    };
    let now = unix(SystemTime::now());
    if let Some(hash) = proof.secret
        && proof.secret_expires.is_none_or(|expires| expires > now)
        && approle.secrets.find(&role.id, hash, now).await?.is_none()
    {
        return Err(refused("the secret ID was destroyed since the login"));
    }
    let token = role.token();
    if !same_policies(&token.policies, policies) {
        return Err(refused("the role's policies have changed since the login"));
    }
    Ok(Renewal {
        token,
        ..Renewal::default()
    })
}
