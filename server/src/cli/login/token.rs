//! `login` with a token that the user already has: it is looked up, so that a mistyped one is never kept.

use obol_mount::Secret;
use serde_json::{Value, json};

use super::{Method, Proof};
use crate::cli::Session;
use crate::cli::client::{Answer, Client, Request, Token, TokenSource};
use crate::cli::failure::Failure;

pub(super) const METHOD: Method = Method {
    name: "token",
    keys: &["token"],
    secret: None,
    help: "\
With a token that you have, which is asked for, checked and kept:

    $ obol login

From standard input:

    $ obol login - < token.txt",
    login,
};

fn login(
    session: &mut Session<'_>,
    client: &mut Client,
    proof: Proof<'_>,
) -> Result<Answer, Failure> {
    let token = match proof.get("token") {
        Some(token) => Secret::new(token.trim().to_owned()),
        None => session.ask_secret("token", proof.non_interactive)?,
    };
    if token.is_empty() {
        return Err(Failure::local("the token is empty"));
    }
    client.token = Some(Token {
        secret: token.clone(),
        source: TokenSource::Command,
    });
    // What is looked up is printed here, not handed on: wrapping it would make no sense.
    client.stop_wrapping();
    let mut answer = client
        .send(Request::get("auth/token/lookup-self"))
        .map_err(|failure| match failure.status() {
            Some(403) => failure.hint("The token is wrong, has expired or was revoked."),
            _ => failure,
        })?;
    answer.body = as_login(&answer.body, &token);
    Ok(answer)
}

/// A lookup in the shape of a login, so that both print alike.
fn as_login(body: &Value, token: &Secret) -> Value {
    let data = &body["data"];
    json!({
        "request_id": body["request_id"],
        "lease_id": "",
        "lease_duration": 0,
        "renewable": false,
        "data": null,
        "warnings": body["warnings"],
        "auth": {
            "client_token": token.expose(),
            "accessor": data["accessor"],
            "policies": data["policies"],
            "token_policies": data["policies"],
            "identity_policies": data["identity_policies"],
            "metadata": data["meta"],
            "orphan": data["orphan"],
            "entity_id": data["entity_id"],
            "lease_duration": data["ttl"],
            "renewable": data["renewable"],
        },
    })
}
