//! `login/{username}`: a name and a password become a login, if the directory lets the user bind. A client whose
//! login is refused learns the same, whether the user is unknown, the password is wrong or the account may not log
//! in (threats: `timing-user`); the log has the cause and the mend.

use std::collections::BTreeSet;
use std::time::SystemTime;

use obol_directory::{DirectoryError, Membership};
use obol_mount::{Cx, Error, Login, RequestInfo, Result, Secret, cidr};
use obol_storage::Batch;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::{debug, warn};

use super::Ldap;
use super::live::Snapshot;
use super::renew::Proof;
use super::users::{USERS, User};
use crate::directory::answer::{self, sentence};
use crate::directory::groups;
use crate::directory::users::Users;
use crate::named::{self, Name, fold};

/// `POST login/{username}`.
pub(super) async fn login(cx: Cx<Ldap>, input: LoginInput) -> Result<Login> {
    let request = &*cx.request;
    let snapshot = cx.live.snapshot(&cx.store).await?;
    let users = snapshot.configured(&request.mount)?;
    let username = Name::parse("a user's", &input.username, true)?;
    let username = username.as_str();
    if !cidr::allows(&users.bound_cidrs, request.peer) {
        warn!(
            request = request.id,
            mount = &*request.mount,
            peer = request.peer.map(tracing::field::display),
            mend =
                "widen token_bound_cidrs in config, or tell the listener which proxies to believe",
            "an LDAP login was refused: the client's address is in no block of token_bound_cidrs"
        );
        return Err(Error::forbidden());
    }
    if users.deny_null_bind && input.password.is_empty() {
        return Err(Error::bad_request(
            "password: it is empty, and deny_null_bind refuses that",
        ));
    }
    let attempt = cx
        .attempts
        .begin(request, &named::counted(username))
        .await?;
    if attempt.is_locked() {
        // Costs what a wrong password costs, and asks nothing about this one.
        return Err(match users.directory.pretend(username).await {
            Ok(()) => {
                log(
                    request,
                    username,
                    &"the name is locked",
                    "wait, or unlock it: sys/locked-users",
                );
                attempt.failed(true, wrong(request)).await
            }
            Err(error) => refused(request, username, &error),
        });
    }
    let found = users
        .directory
        .authenticate(username, input.password.expose())
        .await;
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let answer = refused(request, username, &error);
            return Err(match error {
                // With `near` there is a user, by another name.
                DirectoryError::UserNotFound { near: None, .. } => {
                    attempt.failed(false, answer).await
                }
                error if error.is_refusal() => attempt.failed(true, answer).await,
                // An outage says nothing about the password.
                _ => answer,
            });
        }
    };
    // A server may let an account bind that is nobody's any more.
    if let Some(cause) = found.standing.shut_out(SystemTime::now()) {
        log(
            request,
            username,
            &cause,
            "enable the account, or give it a later end, if its user is to log in",
        );
        return Err(attempt.failed(true, wrong(request)).await);
    }
    let mut commit = Batch::new();
    attempt.passed(&mut commit, wrong(request)).await?;
    let granted = granted(&cx, &snapshot, users, &found, username).await?;
    debug!(
        request = request.id,
        mount = &*request.mount,
        username,
        user_dn = found.user_dn,
        groups = granted.groups.len(),
        policies = granted.policies.join(","),
        "the directory let a user bind"
    );
    let alias = match users.username_as_alias {
        true => named::spelled(username, &found.user_name),
        false => found.user_name,
    };
    let proof = Proof {
        username: username.to_owned(),
        user_dn: found.user_dn,
        password_set: found.standing.password_set,
    };
    Ok(Login {
        // Folded as groups are, so that one user of the directory is one user of identity, however the
        // client spelled the name (threats: `alias-case`).
        alias: fold(&alias, users.case_sensitive_names),
        display_name: username.to_owned(),
        metadata: [("username".to_owned(), username.to_owned())].into(),
        policies: granted.policies,
        group_aliases: groups::aliases(granted.groups),
        token: users.token.clone(),
        renewable: true,
        commit,
        internal: proof.to_map()?,
        ..Login::default()
    })
}

/// What a user is given: by the directory's groups, and by what `users/{name}` adds.
pub(super) struct Granted {
    pub(super) groups: Vec<String>,
    /// Sorted, each once.
    pub(super) policies: Vec<String>,
}

pub(super) async fn granted(
    ldap: &Ldap,
    snapshot: &Snapshot,
    users: &Users,
    found: &Membership,
    username: &str,
) -> Result<Granted> {
    let username = named::spelled(username, &found.user_name);
    let name = Name::parse("a user's", &username, users.case_sensitive_names)?;
    let own: User = ldap
        .store
        .read(&name.path(USERS))
        .await?
        .unwrap_or_default();
    let groups: BTreeSet<String> = found.groups.iter().chain(&own.groups).cloned().collect();
    let mut policies = snapshot.groups.policies(
        groups.iter(),
        std::iter::empty(),
        users.case_sensitive_names,
    );
    policies.extend(own.policies.iter());
    let policies = policies.into_iter().cloned().collect();
    Ok(Granted {
        groups: groups.into_iter().collect(),
        policies,
    })
}

/// The proof.
#[derive(Deserialize, JsonSchema)]
pub(super) struct LoginInput {
    /// The user's name, as the directory has it in `userattr` (or whatever `userfilter` compares).
    username: String,
    /// The user's password in the directory.
    #[serde(default)]
    password: Secret,
}

/// Logs why, and says to the client what it may know.
fn refused(request: &RequestInfo, username: &str, error: &DirectoryError) -> Error {
    log(request, username, error, &error.mend());
    answer::of(request, error, wrong(request))
}

fn log(request: &RequestInfo, username: &str, cause: &dyn std::fmt::Display, mend: &str) {
    warn!(
        request = request.id,
        mount = &*request.mount,
        peer = request.peer.map(tracing::field::display),
        username,
        cause = %cause,
        mend,
        "an LDAP login was refused"
    );
}

/// One answer for all that is wrong with a name, a password or an account.
fn wrong(request: &RequestInfo) -> Error {
    sentence(
        request,
        Error::bad_request,
        "invalid username or password, or the account may not log in",
    )
}
