//! Renewal: the ticket is not there any more, but the user must be, as the same entry of the
//! directory and with the same policies; otherwise they log in again (threats:
//! `renew-with-other-identity`, `group-gone`).

use obol_kerberos::Principal;
use obol_mount::{Error, Renewal, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Kerberos;
use super::membership;
use super::user::{Rules, User};
use crate::directory::{groups, renewal};

/// What a login leaves with its token, to be looked at again here.
#[derive(Deserialize, Serialize)]
pub(super) struct Proof {
    /// The account.
    pub(super) principal: String,
    /// The name that the ticket had.
    pub(super) client: String,
    /// The user's entry in the directory; none where the groups came from the ticket alone.
    #[serde(default)]
    pub(super) user_dn: Option<String>,
    /// The account's SID, where the ticket or the directory says it.
    #[serde(default)]
    pub(super) user_sid: Option<String>,
}

impl Proof {
    pub(super) fn to_map(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) | Err(_) => Err(Error::internal("a login's proof is no JSON object")),
        }
    }
}

/// May a token of this login live on? With the settings of today: realms, groups, token limits.
pub(super) async fn renew(
    kerberos: &Kerberos,
    internal: &Map<String, Value>,
    policies: &[String],
) -> Result<Renewal> {
    let proof: Proof =
        serde_json::from_value(Value::Object(internal.clone())).map_err(Error::internal)?;
    let snapshot = kerberos.live.snapshot(&kerberos.store).await?;
    let (service, users) = snapshot.parts("")?;
    let account = Principal::parse(&proof.principal).map_err(Error::internal)?;
    let client = Principal::parse(&proof.client).map_err(Error::internal)?;
    let who = &proof.principal;
    let user = User::of(&account, &client, Rules::of(service, users))
        .map_err(|refusal| renewal::refused(who, &refusal.cause, renewal::GONE))?;
    let membership = membership::without_ticket(service, users, &user)
        .await
        .map_err(|error| renewal::not_found(who, &error))?;
    if let (Some(was), Some(is)) = (&proof.user_dn, &membership.user_dn) {
        renewal::same_entry(who, was, is)?;
    }
    if let (Some(was), Some(is)) = (&proof.user_sid, &membership.standing.sid)
        && !user.is_foreign
    {
        renewal::same_entry(who, was, is)?;
    }
    renewal::not_shut_out(who, &membership.standing)?;
    let granted = snapshot.policies(users, &membership);
    let renewal = renewal::unchanged(who, granted, &users.token, policies)?;
    Ok(Renewal {
        group_aliases: Some(match service.add_group_aliases {
            true => groups::aliases(membership.names()),
            false => Vec::new(),
        }),
        ..renewal
    })
}
