//! `login`: a Negotiate token becomes a login. The order is the safety: nothing but this process is
//! asked before the ticket is accepted (threats: `ldap-before-auth`), and the client learns one
//! plain sentence and the request's id, while the log has the cause and the mend.

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_kerberos::{
    AcceptError, Accepted, Acceptor, AcceptorPool, ChannelBindings, HeaderError, PoolOptions,
    TokenError, parse_authorization_header,
};
use obol_mount::fields::Flag;
use obol_mount::{Cx, Error, Login, OnConflict, RequestInfo, Result, Secret, ShowingLogin, cidr};
use obol_storage::Batch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tracing::{debug, warn};

use super::Kerberos;
use super::live::Service;
use super::membership::{self, Membership, Unknown};
use super::renew::Proof;
use super::replay;
use super::ticket_rules::GroupSource;
use super::user::{Refusal, Rules, User};
use crate::directory::answer::{self, sentence};
use crate::directory::groups;
use crate::named::fold;

/// `GET login`: asks for a ticket. Touches neither KDC nor directory nor storage.
pub(super) async fn challenge(_: Cx<Kerberos>) -> Result<Infallible> {
    Err(ask())
}

/// `POST login`.
pub(super) async fn login(
    cx: Cx<Kerberos>,
    input: LoginInput,
) -> Result<ShowingLogin<ShownGroups>> {
    let request = &*cx.request;
    let token = token(request, &input)?;
    let snapshot = cx.live.snapshot(&cx.store).await?;
    let (service, users) = snapshot.parts(&request.mount)?;
    if !cidr::allows(&users.bound_cidrs, request.peer) {
        let refusal = Refusal {
            cause: "the client's address is in no block of token_bound_cidrs".to_owned(),
            mend: "widen token_bound_cidrs in config/ldap, or tell the listener which proxies to believe",
        };
        let answer = sentence(
            request,
            Error::forbidden_because,
            "logins from this address are not allowed",
        );
        return Err(refused(request, None, &refusal, answer));
    }

    let bindings = request
        .end_point
        .as_deref()
        .map(ChannelBindings::tls_server_end_point_hash);
    let accepted = accept(&service.acceptor, token, bindings)
        .await
        .map_err(|error| not_accepted(request, &error))?;
    let client = accepted.client.to_string();
    let digest = &accepted.authenticator_digest;
    let user = user(&accepted, Rules::of(service, users)).map_err(|refusal| {
        let error = sentence(request, Error::bad_request, "this user may not log in here");
        refused(request, Some(&client), &refusal, error)
    })?;
    // The commit refuses a replay; looked for before, it costs the directory no question.
    if membership::needs_question(service, users, &user)
        && replay::is_known(&cx.proofs, digest, request.now_unix()).await?
    {
        return Err(refuse_replay(request, &client));
    }
    let names = input.show_groups.0 || snapshot.needs_group_names;
    let membership = membership::at_login(service, users, &user, &accepted.pac, names)
        .await
        .map_err(|unknown| no_membership(request, &client, &unknown))?;

    let mut commit = Batch::new();
    replay::mark(&cx.proofs, &mut commit, digest, request.now_unix());
    let policies = snapshot.policies(users, &membership);
    debug!(
        request = request.id,
        mount = &*request.mount,
        client,
        user_dn = membership.user_dn,
        user_sid = membership.user_sid,
        groups = membership.groups.len(),
        sids = membership.sids.len(),
        policies = policies.join(","),
        "a ticket was accepted"
    );
    let shown = input
        .show_groups
        .0
        .then(|| ShownGroups::of(service, &membership));
    let group_aliases = match service.add_group_aliases {
        true => groups::aliases(membership.names()),
        false => Vec::new(),
    };
    let on_conflict = {
        let (request, client) = (cx.request.clone(), client.clone());
        OnConflict::new(move || refuse_replay(&request, &client))
    };
    let proof = Proof {
        principal: user.principal.clone(),
        client,
        user_dn: membership.user_dn,
        user_sid: membership.user_sid.or(membership.standing.sid),
    };
    let alias = match users.username_as_alias {
        true => &user.directory_name,
        false => &user.name,
    };
    let reply = accepted.reply.as_ref();
    let login = Login {
        // Folded as groups are, so that one user of the directory is one user of identity, however the
        // client spelled the name (threats: `alias-case`).
        alias: fold(alias, users.case_sensitive_names),
        display_name: user.name.clone(),
        metadata: [("user", user.name), ("domain", user.realm)]
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        policies,
        group_aliases,
        data: None,
        token: users.token.clone(),
        renewable: true,
        commit,
        on_conflict: Some(on_conflict),
        internal: proof.to_map()?,
        headers: reply
            .map(|reply| {
                (
                    "WWW-Authenticate",
                    format!("Negotiate {}", STANDARD.encode(reply)),
                )
            })
            .into_iter()
            .collect(),
        held: None,
    };
    Ok(ShowingLogin { login, shown })
}

/// Whom an accepted ticket stands for.
pub(super) fn user(accepted: &Accepted, rules: Rules<'_>) -> std::result::Result<User, Refusal> {
    let account = accepted.account().map_err(|error| Refusal {
        cause: format!("the account's name in the PAC cannot be used: {error}"),
        mend: "rename the account",
    })?;
    User::of(&account, &accepted.client, rules)
}

/// The proof.
#[derive(Deserialize, JsonSchema)]
pub(super) struct LoginInput {
    /// `Negotiate` and a SPNEGO token in base64: for clients that cannot set the Authorization header.
    authorization: Option<Secret>,
    /// Returns in `data` which groups the user is in and where that was found, for a sign-on page or to try things out.
    #[serde(default)]
    show_groups: Flag,
}

/// What `show_groups` asks for.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ShownGroups {
    /// The names of the user's groups, as the directory spells them.
    groups: Vec<String>,
    /// The SIDs in the ticket for which no name was found.
    unnamed_group_sids: Vec<String>,
    /// Where they were looked for.
    source: GroupSource,
    /// The user's entry in the directory, where it was looked at.
    user_dn: Option<String>,
    /// The user's SID, where the ticket says it.
    user_sid: Option<String>,
}

impl ShownGroups {
    fn of(service: &Service, membership: &Membership) -> Self {
        Self {
            groups: membership.names(),
            unnamed_group_sids: membership.unnamed.clone(),
            source: service.ticket.group_source,
            user_dn: membership.user_dn.clone(),
            user_sid: membership.user_sid.clone(),
        }
    }
}

/// The Negotiate token of a request, from its header or its body, decoded.
fn token(request: &RequestInfo, input: &LoginInput) -> Result<Vec<u8>> {
    let header = request
        .authorization
        .as_ref()
        .map(|value| value.expose().trim());
    // Line breaks within the token come from tools that wrap base64; a header cannot hold any.
    let body: Option<String> = input
        .authorization
        .as_ref()
        .map(|value| value.expose().trim().replace(['\r', '\n'], ""));
    let body = body.as_deref().filter(|value| !value.is_empty());
    let value = match (header, body) {
        (None, None) => return Err(ask()),
        // Whichever were taken, some proxy or log would know the other (threats: `duplicate-credential`).
        (Some(header), Some(body)) if header != body => {
            return Err(Error::bad_request(
                "the Authorization header and the field authorization differ: send one of them",
            ));
        }
        (Some(value), _) | (None, Some(value)) => value,
    };
    match parse_authorization_header(value) {
        Ok(token) => Ok(token),
        Err(HeaderError::OtherScheme) if header.is_none() => Err(Error::bad_request(
            "authorization must be the word Negotiate and a SPNEGO token in base64",
        )),
        Err(HeaderError::OtherScheme | HeaderError::NoToken) => Err(ask()),
        Err(error @ (HeaderError::NotBase64 | HeaderError::TooLarge)) => {
            let refusal = Refusal {
                cause: error.to_string(),
                mend: "look at what the client sends: the word Negotiate, and a SPNEGO token in base64",
            };
            let answer = sentence(request, Error::bad_request, &error.to_string());
            Err(refused(request, None, &refusal, answer))
        }
    }
}

pub(super) async fn accept(
    acceptor: &Acceptor,
    token: Vec<u8>,
    bindings: Option<ChannelBindings>,
) -> Result<Accepted, AcceptError> {
    // One set of threads for all mounts of the process: the work is cryptography, more would only wait.
    static POOL: OnceCell<AcceptorPool> = OnceCell::const_new();
    let pool = POOL
        .get_or_try_init(|| async { AcceptorPool::new(PoolOptions::default()) })
        .await
        // The system gives no threads: overload, as far as this login is concerned.
        .map_err(|_| AcceptError::Busy)?;
    pool.accept(acceptor, token, bindings).await
}

/// 401 with the challenge of RFC 4559.
fn ask() -> Error {
    Error::challenge("authentication required")
}

fn not_accepted(request: &RequestInfo, error: &AcceptError) -> Error {
    let refusal = Refusal {
        cause: error.cause(),
        mend: error.mend(),
    };
    let answer = match error {
        AcceptError::Busy | AcceptError::Deadline => sentence(
            request,
            Error::unavailable,
            "the server is busy with other logins; try again",
        ),
        AcceptError::Internal => Error::internal(error),
        // NTLM, or another mechanism first: asking for Negotiate again would bring the same again
        // (threats: `ntlm-downgrade`).
        AcceptError::Token(TokenError::Ntlm | TokenError::OtherMechanism(_)) => sentence(
            request,
            Error::unauthorized,
            "a Kerberos ticket is needed, and the client sent something else",
        ),
        AcceptError::Token(_) => sentence(
            request,
            Error::bad_request,
            "the Negotiate token is malformed",
        ),
        _ => sentence(request, Error::unauthorized, "the ticket was not accepted"),
    };
    refused(request, None, &refusal, answer)
}

fn no_membership(request: &RequestInfo, client: &str, unknown: &Unknown) -> Error {
    let error = match unknown {
        Unknown::Directory(error) => error,
        Unknown::Ticket(refusal) => {
            let answer = sentence(
                request,
                Error::forbidden_because,
                "the ticket does not say enough about its user",
            );
            return refused(request, Some(client), refusal, answer);
        }
        Unknown::User(refusal) => {
            let answer = sentence(
                request,
                Error::forbidden_because,
                "this user may not log in here",
            );
            return refused(request, Some(client), refusal, answer);
        }
    };
    warn!(
        request = request.id,
        mount = &*request.mount,
        client,
        error = %error,
        cause = error.cause(),
        mend = error.mend(),
        "the directory gave no user and groups for a login"
    );
    let answer = sentence(
        request,
        Error::forbidden_because,
        "this user may not log in here",
    );
    answer::of(request, error, answer)
}

pub(super) fn replayed() -> Refusal {
    Refusal {
        cause: "the same request was used for a login before".to_owned(),
        mend: "a client that retries must make a new token; otherwise somebody replays a captured one",
    }
}

/// What a client gets whose proof was taken before, or is being taken by another request.
fn refuse_replay(request: &RequestInfo, client: &str) -> Error {
    let answer = sentence(
        request,
        Error::unauthorized,
        "this proof was used before; a new one is needed for each login",
    );
    refused(request, Some(client), &replayed(), answer)
}

/// Logs a refusal and hands on its answer.
fn refused(request: &RequestInfo, client: Option<&str>, refusal: &Refusal, answer: Error) -> Error {
    warn!(
        request = request.id,
        mount = &*request.mount,
        peer = request.peer.map(tracing::field::display),
        client,
        cause = refusal.cause,
        mend = refusal.mend,
        "a Kerberos login was refused"
    );
    answer
}
