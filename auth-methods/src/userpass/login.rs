//! `login`: a password becomes a login. Whatever is wrong (no such user, the wrong password, a locked name), the
//! client gets the same answer after the same work (threats: `timing-user`).

use obol_mount::{Cx, Error, Login, Result, Secret, cidr};
use obol_storage::Batch;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::warn;

use super::hash::PasswordHash;
use super::renew::Proof;
use super::user::{Found, UserName, check_length};
use super::{Userpass, pool};

/// A name and its password.
#[derive(Deserialize, JsonSchema)]
pub(super) struct LoginInput {
    /// The name; upper and lower case are the same.
    username: String,
    /// The password.
    #[serde(default)]
    password: Secret,
}

/// `POST login/:username`.
pub(super) async fn login(cx: Cx<Userpass>, input: LoginInput) -> Result<Login> {
    let request = &*cx.request;
    if input.password.is_empty() {
        return Err(Error::bad_request("missing password"));
    }
    check_length(&input.password)?;
    // No user can have such a name, so there is nothing that the time could tell.
    let name = UserName::parse(&input.username).map_err(|_| wrong())?;
    let attempt = cx.attempts.begin(request, name.as_str()).await?;
    let Found { user, cost } = cx.users.find(&name).await?;
    let kept = match attempt.is_locked() {
        true => None,
        false => user.as_ref().map(|(user, _)| user.hash.clone()),
    };
    let (matches, renewed) = matches(input.password, kept, cost).await?;
    let Some((mut user, mut seen)) = user else {
        return Err(attempt.failed(false, wrong()).await);
    };
    if !matches {
        return Err(attempt.failed(true, wrong()).await);
    }
    if let Some(hash) = renewed {
        (user, seen) = cx
            .users
            .renew_hash(&name, &user, hash)
            .await?
            .ok_or_else(wrong)?;
    }
    let mut commit = Batch::new();
    attempt.passed(&mut commit, wrong()).await?;
    // Deleted or changed while the password was compared: then there is no login.
    cx.users.view().expect_in(&mut commit, &name.path(), &seen);

    let token = user.token();
    let blocks = cidr::parse_list("token_bound_cidrs", &token.bound_cidrs)?;
    if !cidr::allows(&blocks, request.peer) {
        warn!(
            request = request.id,
            mount = &*request.mount,
            peer = request.peer.map(tracing::field::display),
            user = name.as_str(),
            "a login was refused: the client's address is in no block of token_bound_cidrs"
        );
        return Err(Error::forbidden());
    }
    let proof = Proof {
        username: name.as_str().to_owned(),
        password_id: user.password_id,
    };
    Ok(Login {
        alias: name.as_str().to_owned(),
        display_name: name.as_str().to_owned(),
        metadata: [("username".to_owned(), name.as_str().to_owned())].into(),
        token,
        renewable: true,
        commit,
        internal: proof.to_map()?,
        ..Login::default()
    })
}

/// Compares with what is kept, or takes the time that it would take. A hash that was brought along is made anew with the
/// right password: its time is another than that of everybody else, and would go on telling that there is such a user.
async fn matches(
    password: Secret,
    kept: Option<PasswordHash>,
    cost: PasswordHash,
) -> Result<(bool, Option<PasswordHash>)> {
    pool::run(move || {
        let Some(kept) = kept else {
            return cost.spend(&password).map(|()| (false, None));
        };
        let matches = kept.matches(&password)?;
        let renewed = match matches && kept.is_foreign() {
            true => Some(PasswordHash::new(&password)?),
            false => None,
        };
        Ok((matches, renewed))
    })
    .await
}

fn wrong() -> Error {
    Error::bad_request("invalid username or password")
}
