//! Renewal: the password is not kept, but the user must still be there, as the same entry of the directory, not
//! disabled, with the same password where the directory says when it was set, and with the same policies; otherwise
//! they log in again (threats: `renew-with-other-identity`, `group-gone`).

use obol_mount::{Error, Renewal, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Ldap;
use super::login::granted;
use crate::directory::{groups, renewal};

/// What a login leaves with its token, to be looked at again here.
#[derive(Deserialize, Serialize)]
pub(super) struct Proof {
    pub(super) username: String,
    /// The user's entry in the directory.
    pub(super) user_dn: String,
    /// When the password was set that the user proved to know, where the directory says it.
    pub(super) password_set: Option<String>,
}

impl Proof {
    pub(super) fn to_map(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) | Err(_) => Err(Error::internal("a login's proof is no JSON object")),
        }
    }
}

/// May a token of this login live on? With the settings of today.
pub(super) async fn renew(
    ldap: &Ldap,
    internal: &Map<String, Value>,
    policies: &[String],
) -> Result<Renewal> {
    let proof: Proof = serde_json::from_value(Value::Object(internal.clone()))
        .map_err(|_| Error::internal("a token's proof is not what an LDAP login leaves"))?;
    let snapshot = ldap.live.snapshot(&ldap.store).await?;
    let users = snapshot.configured("")?;
    let who = &proof.username;
    // Asked now, as for a Kerberos login's token.
    let found = users
        .directory
        .lookup_fresh(who)
        .await
        .map_err(|error| renewal::not_found(who, &error))?;
    renewal::same_entry(who, &proof.user_dn, &found.user_dn)?;
    renewal::not_shut_out(who, &found.standing)?;
    if proof.password_set.is_some() && proof.password_set != found.standing.password_set {
        let cause = "the password was set again";
        return Err(renewal::refused(
            who,
            cause,
            "the user's password has changed since the login",
        ));
    }
    let granted = granted(ldap, &snapshot, users, &found, who).await?;
    let renewal = renewal::unchanged(who, granted.policies, &users.token, policies)?;
    Ok(Renewal {
        group_aliases: Some(groups::aliases(granted.groups)),
        ..renewal
    })
}
