//! What went wrong on the way to the server, and what to do about it.

use std::io;

use ureq::http::{HeaderMap, header};

use super::Address;
use super::flags::Settings;
use crate::cli::failure::{Failure, Refusal};

/// The server was not reached, or what answered was not understood.
pub(super) fn failure(error: &ureq::Error, address: &Address, settings: &Settings) -> Failure {
    let (cause, mend) = cause(error, address, settings);
    let failure = Failure::remote(format!(
        "no answer from {address} ({}): {cause}",
        settings.address_source
    ));
    match mend {
        Some(mend) => failure.hint(mend),
        None => failure,
    }
}

fn cause(error: &ureq::Error, address: &Address, settings: &Settings) -> (String, Option<String>) {
    match error {
        ureq::Error::HostNotFound => unknown_host(address),
        ureq::Error::Timeout(_) => {
            let seconds = settings.timeout.as_secs();
            (
                format!("nothing came within {seconds} s"),
                Some(
                    "Is a firewall in between? VAULT_CLIENT_TIMEOUT sets another limit.".to_owned(),
                ),
            )
        }
        ureq::Error::Rustls(error) => tls_cause(error, address),
        ureq::Error::Io(error) => io_cause(error, address),
        ureq::Error::Protocol(_) if !address.is_https() => (
            "what answered is not HTTP".to_owned(),
            Some(other_scheme(address)),
        ),
        ureq::Error::LargeResponseHeader(..) => ("its headers are too large".to_owned(), None),
        ureq::Error::BodyExceedsLimit(_) => ("its answer is too large".to_owned(), None),
        ureq::Error::ConnectProxyFailed(status) => (
            format!("the proxy refused the connection ({status})"),
            Some("NO_PROXY names hosts that are reached without it.".to_owned()),
        ),
        other => (other.to_string(), None),
    }
}

fn io_cause(error: &io::Error, address: &Address) -> (String, Option<String>) {
    if let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        return tls_cause(tls, address);
    }
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    match error.kind() {
        ConnectionRefused => (
            "the connection was refused".to_owned(),
            Some(NOBODY_THERE.to_owned()),
        ),
        ConnectionAborted | ConnectionReset | UnexpectedEof => (
            "the connection was closed without an answer".to_owned(),
            Some(other_scheme(address)),
        ),
        // getaddrinfo's failures have no kind of their own.
        _ if error.to_string().contains("failed to lookup address") => unknown_host(address),
        _ => (error.to_string(), None),
    }
}

fn unknown_host(address: &Address) -> (String, Option<String>) {
    (
        format!("the host {} is not known", address.host()),
        Some("Check the spelling in VAULT_ADDR and this machine's DNS.".to_owned()),
    )
}

fn tls_cause(error: &rustls::Error, address: &Address) -> (String, Option<String>) {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, Other, UnknownIssuer,
    };
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let (cause, mend) = match error {
        InvalidMessage(_) => (
            "what answered does not speak TLS".to_owned(),
            other_scheme(address),
        ),
        // Another authority of the same name, such as an older one, shows as a bad signature.
        InvalidCertificate(UnknownIssuer | BadSignature) => (
            "its certificate was issued by an authority that is not trusted here".to_owned(),
            "Name the authority's certificate with -ca-cert or VAULT_CACERT.".to_owned(),
        ),
        InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => (
            format!("its certificate is not for {}", address.host()),
            "Use a name from the certificate in VAULT_ADDR, or say with -tls-server-name which \
             one to expect."
                .to_owned(),
        ),
        InvalidCertificate(Expired | ExpiredContext { .. }) => (
            "its certificate has expired".to_owned(),
            "Renew it, and check this machine's clock.".to_owned(),
        ),
        InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => (
            "its certificate is not valid yet".to_owned(),
            "Check this machine's clock.".to_owned(),
        ),
        // What `openssl req -x509` makes unless told otherwise, put on the server as it is.
        InvalidCertificate(Other(other)) if other.to_string().contains("CaUsedAsEndEntity") => (
            "its certificate is an authority's, which may not be a server's as well".to_owned(),
            "Give the server one that the authority has signed, or make it anew with \
             `openssl req -x509 -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:HOST ...`."
                .to_owned(),
        ),
        AlertReceived(alert) => (
            format!("it ended the TLS handshake ({alert:?})"),
            "Does it ask for a client certificate? -client-cert and -client-key give one."
                .to_owned(),
        ),
        other => return (format!("TLS: {other}"), None),
    };
    (cause, Some(mend))
}

/// http for https, or the reverse: the commonest mistake of all.
fn other_scheme(address: &Address) -> String {
    let (what, scheme) = match address.is_https() {
        true => ("plain HTTP", "http"),
        false => ("TLS", "https"),
    };
    let (host, port) = (address.host_in_url(), address.port());
    format!("Does the server speak {what}? Then set VAULT_ADDR to {scheme}://{host}:{port}.")
}

const NO_NAMESPACES: &str =
    "This server has no namespaces: unset VAULT_NAMESPACE and leave -namespace out.";

const NO_TOKEN: &str =
    "No token was sent. `obol login` gets one and keeps it; VAULT_TOKEN holds one for this shell.";

const NOBODY_THERE: &str = "Is the server running, and at this address? `obol server -dev` starts \
                            one to try things out; VAULT_ADDR or -address names another.";

/// Success, but not from an API.
pub(super) fn not_json(address: &Address, status: u16, headers: &HeaderMap) -> Failure {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("no content type");
    Failure::remote(format!(
        "{address} answered {status} with something that is not JSON ({kind})"
    ))
    .hint("Is there a proxy or another program at this address?")
}

/// A refusal, with what usually mends it.
pub(super) fn advise(refusal: Refusal, has_credentials: bool, address: &Address) -> Failure {
    let says = |text: &str| {
        refusal
            .errors
            .iter()
            .any(|error| error.to_lowercase().contains(text))
    };
    let hint = match refusal.status {
        400 if says("http request to an https server") => Some(other_scheme(address)),
        400 if says("namespace") => Some(NO_NAMESPACES.to_owned()),
        403 if !has_credentials => Some(NO_TOKEN.to_owned()),
        503 if says("sealed") => {
            Some("The server is sealed: `obol operator unseal` opens it.".to_owned())
        }
        _ => None,
    };
    let failure = Failure::refused(refusal);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The beginning of an error page that is no JSON.
pub(super) fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_host_is_told_in_words() {
        let address = Address::parse("https://vautl.example.com:8200").unwrap();
        let lookup = "failed to lookup address information: Name or service not known";
        for error in [
            ureq::Error::HostNotFound,
            ureq::Error::Io(io::Error::other(lookup)),
        ] {
            let settings = Settings::resolve(&Default::default(), &Default::default()).unwrap();
            let text = failure(&error, &address, &settings).to_string();
            assert!(text.contains("vautl.example.com is not known"), "{text}");
            assert!(text.contains("DNS"), "{text}");
        }
    }
}
