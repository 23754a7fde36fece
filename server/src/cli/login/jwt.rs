//! `login -method=jwt`: a token that another issuer has signed.

use serde_json::json;

use super::{Method, Proof, SecretKey};
use crate::cli::Session;
use crate::cli::client::{Answer, Client, Request};
use crate::cli::failure::Failure;

pub(super) const METHOD: Method = Method {
    name: "jwt",
    keys: &["role"],
    secret: Some(SecretKey {
        key: "jwt",
        on_line: true,
    }),
    help: "\
With the token that a platform gives its workloads:

    $ obol login -method=jwt role=web jwt=@/var/run/secrets/token

From standard input:

    $ issue-token | obol login -method=jwt role=web jwt=-

Without role the method's default role is taken; without jwt the token is asked for.",
    login,
};

fn login(
    session: &mut Session<'_>,
    client: &mut Client,
    proof: Proof<'_>,
) -> Result<Answer, Failure> {
    let token = match proof.secret {
        Some(ref token) if !token.is_empty() => token.clone(),
        _ => session.ask_value("jwt", "token (JWT)", proof.non_interactive)?,
    };
    let mut body = json!({ "jwt": token.expose().trim() });
    if let Some(role) = proof.get("role") {
        body["role"] = role.into();
    }
    let path = format!("auth/{}/login", proof.mount);
    client.send(Request::put(path, body).without_redirects())
}
