//! What is asked of an issuer over HTTP: its discovery document (OpenID Connect Discovery 1.0) and its keys (RFC 7517).
//!
//! Only `https://`, but for an issuer on this machine; certificates are checked against the CAs that the operator
//! gave, or the machine's own. Redirects are few and never leave TLS, documents are of bounded size, and the whole
//! takes a bounded time: nobody but the operator chooses the address, but anybody may have broken into it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::keys::Key;

/// An address that keys come from.
#[derive(Clone)]
pub(super) struct Issuer {
    agent: Agent,
    from: From,
}

#[derive(Clone)]
enum From {
    /// The issuer's own name; its discovery document says where the keys are.
    Discovery(String),
    Jwks(String),
}

impl Issuer {
    pub(super) fn discovered(issuer: &str, ca_pem: &str) -> Result<Self, String> {
        let url = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
        Ok(Self {
            agent: agent(&url, ca_pem)?,
            from: From::Discovery(issuer.to_owned()),
        })
    }

    pub(super) fn of_jwks(url: &str, ca_pem: &str) -> Result<Self, String> {
        Ok(Self {
            agent: agent(url, ca_pem)?,
            from: From::Jwks(url.to_owned()),
        })
    }

    /// The keys as they are now. The errors are for the operator.
    pub(super) async fn keys(&self) -> Result<Vec<Key>, String> {
        let issuer = self.clone();
        // The client blocks. There is one such call at a time for each mount (`key_source.rs`).
        tokio::task::spawn_blocking(move || issuer.ask())
            .await
            .map_err(|error| error.to_string())?
    }

    fn ask(&self) -> Result<Vec<Key>, String> {
        let url = match &self.from {
            From::Jwks(url) => url.clone(),
            From::Discovery(issuer) => self.jwks_uri(issuer)?,
        };
        let document = self.get(&url)?;
        let keys = document["keys"]
            .as_array()
            .ok_or_else(|| format!("{url}: the document has no list of keys"))?;
        let keys: Vec<Key> = keys.iter().take(MAX_KEYS).filter_map(Key::of_jwk).collect();
        match keys.is_empty() {
            false => Ok(keys),
            true => Err(format!("{url}: no key in it can verify a signature here")),
        }
    }

    fn jwks_uri(&self, issuer: &str) -> Result<String, String> {
        let url = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
        let document = self.get(&url)?;
        // Section 4.3: it must be the issuer that was asked, or keys of one would vouch for another.
        if document["issuer"].as_str() != Some(issuer) {
            return Err(format!(
                "{url}: the document is of the issuer {}, and not of {issuer:?}",
                document["issuer"]
            ));
        }
        let jwks = document["jwks_uri"]
            .as_str()
            .ok_or_else(|| format!("{url}: the document has no jwks_uri"))?;
        check(jwks).map_err(|why| format!("{url}: jwks_uri: {why}"))?;
        Ok(jwks.to_owned())
    }

    /// Once more where the network or the server failed, and the time is not up.
    fn get(&self, url: &str) -> Result<Value, String> {
        let is_passing = |error: &ureq::Error| {
            matches!(
                error,
                ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::StatusCode(500..)
            )
        };
        let answer = self.get_once(url);
        let answer = match answer {
            Err(error) if is_passing(&error) => self.get_once(url),
            answer => answer,
        };
        let body = answer.map_err(|error| format!("{url}: {error}"))?;
        serde_json::from_slice(&body).map_err(|_| format!("{url}: the answer is not JSON"))
    }

    fn get_once(&self, url: &str) -> Result<Vec<u8>, ureq::Error> {
        self.agent
            .get(url)
            .call()?
            .body_mut()
            .with_config()
            .limit(MAX_DOCUMENT_BYTES)
            .read_to_vec()
    }
}

fn agent(url: &str, ca_pem: &str) -> Result<Agent, String> {
    let is_tls = check(url)?;
    let roots = match ca_pem.trim().is_empty() {
        true => RootCerts::PlatformVerifier,
        false => RootCerts::Specific(Arc::new(certificates(ca_pem)?)),
    };
    let tls = TlsConfig::builder()
        .root_certs(roots)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        // An issuer on this machine without TLS leads nowhere else.
        .https_only(is_tls)
        .max_redirects(if is_tls { MAX_REDIRECTS } else { 0 })
        .timeout_global(Some(TIMEOUT))
        .max_idle_connections(0)
        .accept("application/json")
        .build();
    Ok(config.new_agent())
}

/// Whether an address may be asked, and whether it has TLS.
fn check(url: &str) -> Result<bool, String> {
    let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    let host = uri.host().ok_or("it has no host")?;
    if url.contains('@') {
        return Err("a URL with a user's name in it is not asked".to_owned());
    }
    match uri.scheme_str() {
        Some("https") => Ok(true),
        Some("http") if is_loopback(host) => Ok(false),
        Some("http") => {
            Err("http:// is taken for an issuer on this machine only: use https://".to_owned())
        }
        _ => Err("it must begin with https://".to_owned()),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn certificates(pem: &str) -> Result<Vec<Certificate<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found
            .iter()
            .map(|der| Certificate::from_der(der).to_owned())
            .collect()),
        _ => Err("it holds no PEM certificate".to_owned()),
    }
}

const DISCOVERY: &str = "/.well-known/openid-configuration";
/// For each request, redirects and all.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_REDIRECTS: u32 = 3;
const MAX_DOCUMENT_BYTES: u64 = 512 * 1024;
/// Real issuers have a handful.
const MAX_KEYS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_is_asked_but_for_this_machine() {
        for (url, is_tls) in [
            ("https://issuer.example.com", true),
            ("http://127.0.0.1:8200/x", false),
            ("http://localhost", false),
            ("http://[::1]:80/", false),
        ] {
            assert_eq!(check(url), Ok(is_tls), "{url}");
        }
        for url in [
            "http://issuer.example.com",
            "http://127.0.0.1.example.com",
            "ftp://localhost",
            "issuer.example.com",
            "/jwks",
            "https://user@issuer.example.com",
            "",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }
}
