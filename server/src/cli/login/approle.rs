//! `login -method=approle`: a role's ID, and a secret ID where the role needs one.

use serde_json::json;

use super::{Method, Proof, SecretKey};
use crate::cli::Session;
use crate::cli::client::{Answer, Client, Request};
use crate::cli::failure::Failure;

pub(super) const METHOD: Method = Method {
    name: "approle",
    keys: &["role_id"],
    secret: Some(SecretKey {
        key: "secret_id",
        on_line: true,
    }),
    help: "\
As a program, with the role's ID and a secret ID from a file:

    $ obol login -method=approle role_id=2f6a614c secret_id=@/run/secret-id

From standard input:

    $ obol login -method=approle role_id=2f6a614c secret_id=- < secret-id

secret_id= asks for it; without secret_id none is sent, for roles that need none.",
    login,
};

fn login(
    session: &mut Session<'_>,
    client: &mut Client,
    proof: Proof<'_>,
) -> Result<Answer, Failure> {
    let Some(role_id) = proof.get("role_id") else {
        return Err(Failure::local("role_id is missing: role_id=ID"));
    };
    let mut body = json!({ "role_id": role_id });
    let asked;
    let secret_id = match &proof.secret {
        None => None,
        Some(given) if given.is_empty() => {
            asked = session.ask_value("secret_id", "secret ID", proof.non_interactive)?;
            Some(&asked)
        }
        given => given.as_ref(),
    };
    if let Some(secret_id) = secret_id {
        body["secret_id"] = secret_id.expose().trim().into();
    }
    let path = format!("auth/{}/login", proof.mount);
    client.send(Request::put(path, body).without_redirects())
}
