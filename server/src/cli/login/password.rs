//! `login -method=userpass` and `-method=ldap`: a name and a password.

use serde_json::json;

use super::{Method, Proof, SecretKey};
use crate::cli::Session;
use crate::cli::client::{Answer, Client, Request};
use crate::cli::failure::Failure;

pub(super) const USERPASS: Method = Method {
    name: "userpass",
    keys: &["username"],
    secret: Some(PASSWORD),
    help: "\
With a name of the server's own list, and a password, which is asked for:

    $ obol login -method=userpass username=grace

From standard input, for a script:

    $ obol login -method=userpass username=grace password=- < password.txt

Without username the name on this computer is taken.",
    login,
};

pub(super) const LDAP: Method = Method {
    name: "ldap",
    keys: &["username"],
    secret: Some(PASSWORD),
    help: "\
With a name of the directory, and its password, which is asked for:

    $ obol login -method=ldap username=grace

From standard input, for a script:

    $ obol login -method=ldap username=grace password=- < password.txt

Without username the name on this computer is taken.",
    login,
};

const PASSWORD: SecretKey = SecretKey {
    key: "password",
    on_line: true,
};

fn login(
    session: &mut Session<'_>,
    client: &mut Client,
    proof: Proof<'_>,
) -> Result<Answer, Failure> {
    let own = || {
        let variables = ["LOGNAME", "USER"].into_iter();
        variables.filter_map(|name| session.env.raw(name)).next()
    };
    let Some(username) = proof.get("username").or_else(own).map(str::to_owned) else {
        return Err(Failure::local("username is missing: username=NAME"));
    };
    let password = match proof.secret {
        Some(password) if !password.is_empty() => password,
        _ => session.ask_password(&username, proof.non_interactive)?,
    };
    let path = format!("auth/{}/login/{username}", proof.mount);
    let body = json!({ "password": password.expose() });
    client.send(Request::put(path, body).without_redirects())
}
