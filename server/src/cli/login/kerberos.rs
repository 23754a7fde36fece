//! `login -method=kerberos`: a ticket becomes a token, and the server proves who it is before its token is believed
//! (RFC 4559; the Kerberos auth page of Vault's documentation names the keys).

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use obol_kerberos::{InitiateError, Initiator};
use obol_mount::Secret;
use ureq::http::{HeaderMap, header};

use super::keytab::RenamedKeytab;
use super::{Method, Proof, SecretKey};
use crate::cli::Session;
use crate::cli::client::{Address, Answer, Client, Request};
use crate::cli::env::parse_bool;
use crate::cli::failure::Failure;
use crate::cli::prompt::capitalised;

pub(super) const METHOD: Method = Method {
    name: "kerberos",
    keys: &[
        "username",
        "keytab_path",
        "realm",
        "service",
        "krb5conf_path",
        "remove_instance_name",
        "disable_fast_negotiation",
    ],
    secret: Some(SecretKey {
        key: "password",
        on_line: false,
    }),
    help: HELP,
    login,
};

/// libkrb5 reads KRB5_CONFIG when it starts, and a process must not change its own environment once threads may
/// exist: so this program starts itself anew, with the variable set. Returns when there is nothing to change.
pub(super) fn with_own_configuration(
    session: &Session<'_>,
    arguments: &[String],
) -> Result<(), Failure> {
    let Some(path) = arguments
        .iter()
        .rev()
        .find_map(|argument| argument.strip_prefix("krb5conf_path="))
    else {
        return Ok(());
    };
    if path.is_empty() || session.env.raw("KRB5_CONFIG") == Some(path) {
        return Ok(());
    }
    if !Path::new(path).is_file() {
        return Err(Failure::local(format!(
            "krb5conf_path: there is no file {path}"
        )));
    }
    let program = std::env::current_exe()
        .map_err(|error| Failure::local(format!("this program does not find itself: {error}")))?;
    // Returns only when it failed.
    let error = std::process::Command::new(program)
        .args(&session.words)
        .env("KRB5_CONFIG", path)
        .exec();
    Err(Failure::local(format!(
        "cannot start anew with krb5conf_path: {error}"
    )))
}

fn login(
    session: &mut Session<'_>,
    client: &mut Client,
    proof: Proof<'_>,
) -> Result<Answer, Failure> {
    if proof
        .get("krb5conf_path")
        .is_some_and(|path| session.env.raw("KRB5_CONFIG") != Some(path))
    {
        return Err(Failure::local(
            "krb5conf_path must be an argument of its own, or the variable KRB5_CONFIG",
        ));
    }
    let spn = spn(proof.get("service"), client.address())?;
    let initiator = initiator(session, &proof)?;
    let (token, negotiation) = initiator
        .negotiate(&spn, client.channel_bindings().as_ref())
        .map_err(|error| explained(&error))?;
    let header = Secret::new(format!("Negotiate {}", STANDARD.encode(token)));
    let size = header.expose().len();
    let request = Request::post(format!("auth/{}/login", proof.mount), serde_json::json!({}))
        .header("Authorization", header)
        .without_redirects();
    let answer = client
        .send(request)
        .map_err(|failure| match failure.status() {
            Some(401) => failure.hint(format!(
                "The server did not accept the ticket for {spn}. Its log says why, and so does \
             `obol kerberos doctor`; the usual causes are a keytab without the key of that name, \
             and clocks that differ."
            )),
            // The server takes much more unless told otherwise, so this is somebody in between: 431 of RFC 6585,
            // section 5, or nginx's 400.
            Some(400 | 413 | 431) if size > LARGE_HEADER => failure.hint(format!(
                "The ticket makes a header of {size} bytes, and a proxy in front of the server may \
                 take less: raise its limit (nginx: large_client_header_buffers, Apache: \
                 LimitRequestFieldSize, HAProxy: tune.bufsize; the server's own is max_header_size)."
            )),
            _ => failure,
        })?;
    let unproven = |cause: &str| {
        Failure::remote(format!(
            "the server did not prove that it is {spn} ({cause}); its token is not used"
        ))
    };
    let reply = reply_token(&answer.headers).ok_or_else(|| {
        unproven("it sent no answer token").hint(
            "Does a proxy in between drop the WWW-Authenticate header, or is this another server?",
        )
    })?;
    negotiation
        .finish(&reply)
        .map_err(|error| unproven(&error.to_string()).hint(sentence(error.mend())))?;
    Ok(answer)
}

fn initiator(session: &mut Session<'_>, proof: &Proof<'_>) -> Result<Initiator, Failure> {
    let remove_instance = switch(proof, "remove_instance_name")?;
    // MIT's library negotiates FAST only with an armour ticket, and none is ever given to it.
    switch(proof, "disable_fast_negotiation")?;
    let realm = proof.get("realm");
    let made = match (proof.get("username"), proof.get("keytab_path")) {
        (None, Some(_)) => return Err(Failure::local("keytab_path needs username")),
        (None, None) if realm.is_some() || proof.secret.is_some() => {
            return Err(Failure::local("realm and password go with username").hint(
                "Without them the ticket cache decides who logs in: kinit or KRB5CCNAME chooses \
                 another.",
            ));
        }
        (None, None) => Initiator::from_ccache(None),
        (Some(_), Some(_)) if proof.secret.is_some() => {
            return Err(Failure::local(
                "keytab_path and password are two proofs; one is enough",
            ));
        }
        (Some(username), Some(path)) => {
            let principal = principal(username, realm);
            if remove_instance {
                let renamed = RenamedKeytab::without_instances(Path::new(path))?;
                Initiator::from_keytab(&renamed.path(), &principal)
            } else {
                Initiator::from_keytab(Path::new(path), &principal)
            }
        }
        (Some(_), None) if remove_instance => {
            return Err(Failure::local("remove_instance_name goes with keytab_path"));
        }
        (Some(username), None) => {
            let principal = principal(username, realm);
            let asked;
            let password = match &proof.secret {
                Some(password) if !password.is_empty() => password,
                _ => {
                    asked = session.ask_password(&principal, proof.non_interactive)?;
                    &asked
                }
            };
            Initiator::from_password(&principal, password.expose())
        }
    };
    made.map_err(|error| explained(&error))
}

pub(in crate::cli) fn explained(error: &InitiateError) -> Failure {
    Failure::local(error.to_string()).hint(sentence(error.mend()))
}

/// The mends are written to stand behind a colon; here they stand alone.
pub(in crate::cli) fn sentence(mend: &str) -> String {
    format!("{}.", capitalised(mend))
}

fn principal(username: &str, realm: Option<&str>) -> String {
    match realm {
        Some(realm) if !username.contains('@') => format!("{username}@{realm}"),
        _ => username.to_owned(),
    }
}

/// `HTTP@host` of the address; a bare service class gets that host too; anything else is taken as it is.
pub(in crate::cli) fn spn(service: Option<&str>, address: &Address) -> Result<String, Failure> {
    let class = match service {
        Some(service) if service.contains(['/', '@']) => return Ok(service.to_owned()),
        Some(class) => class,
        None => "HTTP",
    };
    let host = address.host();
    if host.parse::<IpAddr>().is_ok() {
        let message = format!("Kerberos knows services by name, and the address is {host}");
        return Err(Failure::local(message).hint(
            "Use the server's host name in VAULT_ADDR, or name the service: \
             service=HTTP/vault.example.com",
        ));
    }
    Ok(format!("{class}@{host}"))
}

fn switch(proof: &Proof<'_>, key: &str) -> Result<bool, Failure> {
    match proof.get(key) {
        None => Ok(false),
        Some(text) => {
            parse_bool(text).ok_or_else(|| Failure::local(format!("{key} is true or false")))
        }
    }
}

/// The token of `WWW-Authenticate: Negotiate ...`; there may be other challenges beside it.
fn reply_token(headers: &HeaderMap) -> Option<Vec<u8>> {
    headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .find_map(|value| {
            let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("negotiate")
                .then(|| STANDARD.decode(token.trim()).ok())?
        })
}

const HELP: &str = "\
With the Kerberos ticket of this session (kinit, or the desktop's):

    $ obol login -method=kerberos

With a password, which is asked for:

    $ obol login -method=kerberos username=grace

As a service, with a keytab:

    $ obol login -method=kerberos username=app keytab_path=/etc/app.keytab realm=EXAMPLE.COM

Also: service=, krb5conf_path=, remove_instance_name=true, disable_fast_negotiation=.
When it does not work, `obol kerberos doctor` says why.";

/// A little below what nginx, Apache and many others take in one line: 8 KiB.
const LARGE_HEADER: usize = 7 << 10;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_named_after_the_host_of_the_address() {
        let address = Address::parse("https://vault.example.com:8200").unwrap();
        assert_eq!(spn(None, &address).unwrap(), "HTTP@vault.example.com");
        assert_eq!(
            spn(Some("vault"), &address).unwrap(),
            "vault@vault.example.com"
        );
        assert_eq!(
            spn(Some("HTTP/other@REALM"), &address).unwrap(),
            "HTTP/other@REALM"
        );
    }

    #[test]
    fn an_address_without_a_name_needs_a_service() {
        let address = Address::parse("http://[::1]:8200").unwrap();
        assert!(
            spn(None, &address)
                .unwrap_err()
                .to_string()
                .contains("service=")
        );
        assert_eq!(spn(Some("HTTP/vault"), &address).unwrap(), "HTTP/vault");
    }

    #[test]
    fn a_user_name_takes_its_realm_once() {
        assert_eq!(principal("app", Some("EXAMPLE.COM")), "app@EXAMPLE.COM");
        assert_eq!(principal("app@OTHER", Some("EXAMPLE.COM")), "app@OTHER");
        assert_eq!(principal("HTTP/h", None), "HTTP/h");
    }

    #[test]
    fn the_answer_token_is_found_among_other_challenges() {
        let mut headers = HeaderMap::new();
        headers.append(header::WWW_AUTHENTICATE, "Basic realm=x".parse().unwrap());
        headers.append(header::WWW_AUTHENTICATE, "negotiate  b2s=".parse().unwrap());
        assert_eq!(reply_token(&headers).unwrap(), b"ok");
        headers.clear();
        headers.append(header::WWW_AUTHENTICATE, "Negotiate".parse().unwrap());
        assert_eq!(reply_token(&headers), None);
    }
}
