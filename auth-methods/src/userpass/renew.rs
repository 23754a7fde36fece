//! Renewal: the user must still be there, with the password that the token was issued for and with the same policies
//! (threats: `renew-with-other-identity`).

use obol_mount::{Error, Renewal, Result, same_policies};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Userpass;
use super::user::UserName;

/// What a login leaves with its token, to be looked at again here.
#[derive(Serialize, Deserialize)]
pub(super) struct Proof {
    pub(super) username: String,
    pub(super) password_id: String,
}

impl Proof {
    pub(super) fn to_map(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) | Err(_) => Err(Error::internal("a login's proof is no JSON object")),
        }
    }
}

/// May a token of this login live on?
pub(super) async fn renew(
    userpass: &Userpass,
    internal: &Map<String, Value>,
    policies: &[String],
) -> Result<Renewal> {
    let proof: Proof =
        serde_json::from_value(Value::Object(internal.clone())).map_err(Error::internal)?;
    let refused = |why: &str| {
        let cause = format!("a renewal of {} was refused: {why}", proof.username);
        Error::bad_request(format!("{why}; log in again")).with_cause(cause)
    };
    let name = UserName::parse(&proof.username)?;
    let Some(user) = userpass.users.read(&name).await? else {
        return Err(refused("the user does not exist any more"));
    };
    if user.password_id != proof.password_id {
        return Err(refused("the password has changed since the login"));
    }
    let token = user.token();
    if !same_policies(&token.policies, policies) {
        return Err(refused("the user's policies have changed since the login"));
    }
    Ok(Renewal {
        token,
        ..Renewal::default()
    })
}
