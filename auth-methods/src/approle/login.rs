//! `login`: a role ID and a secret ID become a login. Whichever of them is wrong, spent, expired or locked, the client
//! gets one answer. The secret ID's use is spent in the commit that makes the token.

use obol_mount::{Cx, Error, Login, RequestInfo, Result, Secret, cidr};
use obol_storage::Batch;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::warn;

use super::Approle;
use super::renew::Proof;

/// The two IDs.
#[derive(Deserialize, JsonSchema)]
pub(super) struct LoginInput {
    /// The ID of the role.
    #[serde(default)]
    role_id: String,
    /// A secret ID of the role, where its logins need one.
    #[serde(default)]
    secret_id: Secret,
}

/// `POST login`.
pub(super) async fn login(cx: Cx<Approle>, input: LoginInput) -> Result<Login> {
    let request = &*cx.request;
    let now = request.now_unix();
    if input.role_id.is_empty() {
        return Err(Error::bad_request("missing role_id"));
    }
    let attempt = cx.attempts.begin(request, &input.role_id).await?;
    let Some((role, role_seen)) = cx.roles.by_role_id(&input.role_id).await? else {
        // The same work as for a role that there is.
        let hash = cx.secrets.hash(NO_ROLE, input.secret_id.expose());
        cx.secrets.find(NO_ROLE, hash, now).await?;
        return Err(attempt.failed(false, wrong()).await);
    };
    let settings = &role.settings;
    let mut commit = Batch::new();
    let mut proof = Proof::of(&role);
    let mut token = role.token();
    let (mut metadata, mut cidr_list, mut held) = Default::default();
    if settings.bind_secret_id {
        let hash = cx.secrets.hash(&role.id, input.secret_id.expose());
        let found = cx.secrets.find(&role.id, hash, now).await?;
        // Only now: a lock that answered sooner than a wrong secret ID would show itself.
        let Some(found) = found.filter(|_| !attempt.is_locked()) else {
            return Err(attempt.failed(true, wrong()).await);
        };
        proof.remember(&found);
        let spent = cx.secrets.spend(&mut commit, &role.id, found, now).await?;
        let Some((secret, turn)) = spent else {
            return Err(attempt.failed(true, wrong()).await);
        };
        attempt.passed(&mut commit, wrong()).await?;
        held = turn;
        if !secret.token_bound_cidrs.is_empty() {
            token.bound_cidrs = secret.token_bound_cidrs;
        }
        cidr_list = secret.cidr_list;
        metadata = secret.metadata;
    } else {
        // There is no secret that somebody could guess: nothing is counted. The role must still be what it is.
        drop(attempt);
        cx.roles.expect_in(&mut commit, &role, &role_seen);
    }
    for (field, blocks) in [
        ("cidr_list", &cidr_list),
        ("secret_id_bound_cidrs", &settings.secret_id_bound_cidrs.0),
        ("token_bound_cidrs", &token.bound_cidrs),
    ] {
        if !cidr::allows(&cidr::parse_list(field, blocks)?, request.peer) {
            return Err(from_elsewhere(request, &role.name, field));
        }
    }
    metadata.insert("role_name".to_owned(), role.name.clone());
    Ok(Login {
        alias: role.role_id,
        display_name: role.name,
        metadata,
        token,
        renewable: true,
        commit,
        internal: proof.to_map()?,
        held: held.map(|turn| Box::new(turn) as _),
        ..Login::default()
    })
}

fn from_elsewhere(request: &RequestInfo, role: &str, field: &str) -> Error {
    warn!(
        request = request.id,
        mount = &*request.mount,
        peer = request.peer.map(tracing::field::display),
        role,
        field,
        "a login was refused: the client's address is in none of the blocks"
    );
    Error::forbidden()
}

fn wrong() -> Error {
    Error::bad_request("invalid role or secret ID")
}

/// What no role is called inside.
const NO_ROLE: &str = "none";
