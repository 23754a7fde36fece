//! `login`: a JWT and a role become a login. The signature comes first; before it is right, the client learns nothing
//! of the role and the server believes nothing of the token but the name of its key and its algorithm.

use obol_mount::{Cx, Error, Login, RequestInfo, Result, Secret, TokenParams, cidr};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::{debug, warn};

use super::Jwt;
use super::claims::Claims;
use super::config::Verifier;
use super::keys::Checked;
use super::renew::Proof;
use super::role;
use crate::directory::answer::sentence;

/// The role that a login is for.
pub(super) async fn role_of(backend: &Jwt, fields: &Map<String, Value>) -> Result<Option<String>> {
    let snapshot = backend.live.snapshot(&backend.store).await?;
    let Some(verifier) = snapshot.verifier() else {
        return Ok(None);
    };
    let named = fields.get("role").and_then(Value::as_str);
    Ok(verifier.role_named(named.unwrap_or_default()))
}

/// `POST login`.
pub(super) async fn login(cx: Cx<Jwt>, input: LoginInput) -> Result<Login> {
    let request = &*cx.request;
    let snapshot = cx.live.snapshot(&cx.store).await?;
    let verifier = snapshot.configured(&request.mount)?;
    let name = verifier
        .role_named(&input.role)
        .ok_or_else(|| Error::bad_request("role is required: the mount has no default_role"))?;
    let role = role::stored(&cx.backend, &name)
        .await?
        .ok_or_else(|| Error::bad_request("role: there is no role of this name"))?;
    let token = TokenParams::from(role.token.clone());
    let bound_cidrs = cidr::parse_list("token_bound_cidrs", &token.bound_cidrs)?;
    if !cidr::allows(&bound_cidrs, request.peer) {
        warn!(
            request = request.id,
            mount = &*request.mount,
            role = name,
            peer = request.peer.map(tracing::field::display),
            "a JWT login was refused: the client's address is in no block of the role's token_bound_cidrs"
        );
        return Err(Error::forbidden());
    }
    let refuse = |why: &str| refused(request, &name, why);
    let claims = signed_claims(request, verifier, input.jwt.expose(), &name).await?;
    let now = i64::try_from(request.now_unix()).unwrap_or(i64::MAX);
    claims
        .check(&role, verifier.issuer.as_deref(), now)
        .map_err(|why| refuse(&why))?;
    let who = claims.who(&role, &name).map_err(|why| refuse(&why))?;
    debug!(
        request = request.id,
        mount = &*request.mount,
        role = name,
        user = who.name,
        groups = who.groups.len(),
        "a JWT was accepted"
    );
    let proof = Proof::new(&name, &role, verifier)?;
    Ok(Login {
        alias: who.name.clone(),
        display_name: who.name,
        metadata: who.metadata,
        group_aliases: who.groups,
        token,
        renewable: true,
        internal: proof.to_map()?,
        ..Login::default()
    })
}

/// The claims of a token that one of the issuer's keys has signed.
async fn signed_claims(
    request: &RequestInfo,
    verifier: &Verifier,
    jwt: &str,
    role: &str,
) -> Result<Claims> {
    let checked = Checked::parse(jwt.trim(), &verifier.algorithms)
        .map_err(|why| refused(request, role, why))?;
    let keys = verifier.source.keys_for(&checked).await.map_err(|error| {
        warn!(
            request = request.id,
            mount = &*request.mount,
            role,
            cause = error.0,
            mend = "look at the issuer, and at oidc_discovery_url or jwks_url in config",
            "a JWT cannot be verified: the issuer does not give its keys"
        );
        sentence(
            request,
            Error::bad_gateway,
            "the issuer of the token cannot be asked for its keys",
        )
    })?;
    let claims = checked
        .claims(&keys)
        .ok_or_else(|| refused(request, role, "no key of the issuer has signed it"))?;
    Ok(Claims::new(claims))
}

/// The proof.
#[derive(Deserialize, JsonSchema)]
pub(super) struct LoginInput {
    /// The signed JWT.
    jwt: Secret,
    /// The role to log in with. Left out: the mount's `default_role`.
    #[serde(default)]
    role: String,
}

/// The client has the token, so it may know what is wrong with it.
fn refused(request: &RequestInfo, role: &str, why: &str) -> Error {
    warn!(
        request = request.id,
        mount = &*request.mount,
        peer = request.peer.map(tracing::field::display),
        role,
        cause = why,
        "a JWT login was refused"
    );
    sentence(
        request,
        Error::bad_request,
        &format!("error validating token: {why}"),
    )
}
