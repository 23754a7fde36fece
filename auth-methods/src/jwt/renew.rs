//! Renewal: the JWT is not there any more, but the mount and the role must still say what they said at the login, as
//! far as it decides who logs in as whom and with which policies; otherwise they log in again (threats:
//! `renew-with-other-identity`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use obol_mount::{Error, Renewal, Result, TokenParams};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Jwt;
use super::config::Verifier;
use super::role::{self, Role};
use crate::directory::renewal;

/// What a login leaves with its token, to be looked at again here.
#[derive(Deserialize, Serialize)]
pub(super) struct Proof {
    role: String,
    /// Of the issuer and of the role's conditions.
    conditions: String,
}

impl Proof {
    pub(super) fn new(name: &str, role: &Role, verifier: &Verifier) -> Result<Self> {
        let all = json!([verifier.issuer, role.conditions()]).to_string();
        Ok(Self {
            role: name.to_owned(),
            conditions: STANDARD_NO_PAD.encode(digest(&SHA256, all.as_bytes())),
        })
    }

    pub(super) fn to_map(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) | Err(_) => Err(Error::internal("a login's proof is no JSON object")),
        }
    }
}

/// May a token of this login live on? With the settings of today.
pub(super) async fn renew(
    jwt: &Jwt,
    internal: &Map<String, Value>,
    policies: &[String],
) -> Result<Renewal> {
    let proof: Proof = serde_json::from_value(Value::Object(internal.clone()))
        .map_err(|_| Error::internal("a token's proof is not what a JWT login leaves"))?;
    let snapshot = jwt.live.snapshot(&jwt.store).await?;
    let verifier = snapshot.configured("")?;
    let who = &proof.role;
    let Some(role) = role::stored(jwt, who).await? else {
        let cause = "the role was deleted";
        return Err(renewal::refused(
            who,
            cause,
            "the role is not there any more",
        ));
    };
    if Proof::new(who, &role, verifier)?.conditions != proof.conditions {
        let cause = "the issuer or the conditions of the role have been changed";
        return Err(renewal::refused(
            who,
            cause,
            "the role has changed since the login",
        ));
    }
    let token = TokenParams::from(role.token);
    renewal::unchanged(who, Vec::new(), &token, policies)
}
