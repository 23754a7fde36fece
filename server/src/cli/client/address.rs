//! The server's address, and the URLs below it.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Uri;

use crate::cli::failure::Failure;

/// `https://host:port/prefix`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Address {
    https: bool,
    /// Host and port as they were written.
    authority: String,
    host: String,
    /// Without a slash at its end; empty for most.
    prefix: String,
}

impl Address {
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let wrong = |why: &str| {
            Failure::local(format!("the address {text:?} {why}")).hint(
                "Write it like https://vault.example.com:8200 (-address, OBOL_ADDR or VAULT_ADDR).",
            )
        };
        if text.starts_with("unix:") {
            return Err(wrong(
                "is a socket file, which this server does not listen on",
            ));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return Err(wrong("does not start with https:// or http://"));
        };
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(wrong("does not start with https:// or http://")),
        };
        let uri: Uri = text.parse().map_err(|_| wrong("is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(Failure::local(
                "the address must not hold a user name or a password",
            ));
        }
        if authority.host().is_empty() {
            return Err(wrong("has no host"));
        }
        let port = authority.port_u16().map(|port| format!(":{port}"));
        if authority.as_str() != format!("{}{}", authority.host(), port.unwrap_or_default()) {
            return Err(wrong("has a port that is no number"));
        }
        let port = authority.port_u16().map(|port| format!(":{port}"));
        if authority.as_str() != format!("{}{}", authority.host(), port.unwrap_or_default()) {
            return Err(wrong("has a port that is no number"));
        }
        if uri.query().is_some() {
            return Err(wrong("must not have a query"));
        }
        Ok(Self {
            https,
            authority: authority.as_str().to_owned(),
            host: authority
                .host()
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    pub(in crate::cli) fn is_https(&self) -> bool {
        self.https
    }

    /// Without the brackets of an IPv6 address.
    pub(in crate::cli) fn host(&self) -> &str {
        &self.host
    }

    /// With the brackets.
    pub(super) fn host_in_url(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }

    pub(super) fn port(&self) -> u16 {
        let port = self.uri().port_u16();
        port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// The URL of a path below `/v1/`. What a URL cannot hold is encoded; nothing is cleaned, so that the server
    /// refuses `..` and `//` rather than this side guessing what was meant.
    pub(super) fn url(&self, path: &str, query: &[(String, String)]) -> String {
        let path = utf8_percent_encode(path, IN_PATH);
        let mut url = format!("{self}/v1/{path}");
        for (index, (name, value)) in query.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            let name = utf8_percent_encode(name, IN_QUERY);
            let value = utf8_percent_encode(value, IN_QUERY);
            url.push_str(&format!("{separator}{name}={value}"));
        }
        url
    }

    /// Where a `Location` leads, seen from here: the server's address and the full URL. Never from https to http.
    pub(super) fn redirected(&self, location: &str) -> Result<(Self, String), Failure> {
        if location.starts_with('/') && !location.starts_with("//") {
            let server = Self {
                prefix: String::new(),
                ..self.clone()
            };
            let url = format!("{server}{location}");
            return Ok((server, url));
        }
        let bad = || {
            Failure::remote(format!(
                "{self} redirects to {location:?}, which is not an address"
            ))
        };
        let uri: Uri = location.parse().map_err(|_| bad())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(bad());
        };
        let server = Self::parse(&format!("{scheme}://{authority}")).map_err(|_| bad())?;
        if self.https && !server.https {
            return Err(Failure::remote(format!(
                "{self} redirects to {server}, which is not encrypted"
            )));
        }
        Ok((server, location.to_owned()))
    }

    pub(super) fn uri(&self) -> Uri {
        self.to_string()
            .parse()
            .expect("it was parsed when the address was made")
    }

    /// ureq takes the name to verify from the URL. To expect another name, the URL must hold it, and the `Host`
    /// header what was asked for; the resolver then leads back to the real host.
    pub(super) fn uri_for_tls_name(
        &self,
        url: &str,
        tls_name: Option<&str>,
    ) -> (String, Option<String>) {
        match tls_name {
            Some(name) if self.https => {
                let rest = url
                    .strip_prefix(&format!("https://{}", self.authority))
                    .unwrap_or_default();
                (
                    format!("https://{name}:{}{rest}", self.port()),
                    Some(self.authority.clone()),
                )
            }
            _ => (url.to_owned(), None),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_port_and_prefix() {
        let address = Address::parse("https://Vault.example.com:8200/behind/proxy/").unwrap();
        assert_eq!(
            address.to_string(),
            "https://Vault.example.com:8200/behind/proxy"
        );
        assert_eq!(
            (address.host(), address.port()),
            ("Vault.example.com", 8200)
        );
        let address = Address::parse("http://[::1]").unwrap();
        assert_eq!(
            (address.host(), address.port(), address.is_https()),
            ("::1", 80, false)
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_way_to_write_it() {
        for text in [
            "127.0.0.1:8200",
            "ftp://host",
            "unix:///run/s",
            "https://",
            "https://h/?a=b",
            "https://h:x",
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(
                error.contains("https://vault.example.com:8200"),
                "{text}: {error}"
            );
        }
        let error = Address::parse("https://user:hunter2@host")
            .unwrap_err()
            .to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn paths_are_encoded_and_not_cleaned() {
        let address = Address::parse("https://h").unwrap();
        let query = [
            ("a b".to_owned(), "c&d=é".to_owned()),
            ("x".to_owned(), String::new()),
        ];
        assert_eq!(
            address.url("kv/a b/50%/é?#", &query),
            "https://h/v1/kv/a%20b/50%25/%C3%A9%3F%23?a%20b=c%26d%3D%C3%A9&x="
        );
        assert_eq!(
            address.url("kv/../x//y/+/*", &[]),
            "https://h/v1/kv/../x//y/+/*"
        );
    }

    #[test]
    fn a_redirect_never_leaves_encryption() {
        let address = Address::parse("https://a:8200/p").unwrap();
        let (server, url) = address.redirected("/v1/x?y=z").unwrap();
        assert_eq!(
            (server.to_string().as_str(), url.as_str()),
            ("https://a:8200", "https://a:8200/v1/x?y=z")
        );
        let (server, _) = address.redirected("https://b/v1/x").unwrap();
        assert_eq!(server.to_string(), "https://b");
        for location in ["http://a:8200/v1/x", "//b/v1/x", "javascript:x", "v1/x"] {
            assert!(address.redirected(location).is_err(), "{location}");
        }
    }

    #[test]
    fn another_name_in_the_certificate_changes_the_url_but_not_the_host_header() {
        let address = Address::parse("https://10.0.0.1:8200").unwrap();
        let url = address.url("sys/health", &[]);
        let (uri, host) = address.uri_for_tls_name(&url, Some("vault.internal"));
        assert_eq!(uri, "https://vault.internal:8200/v1/sys/health");
        assert_eq!(host.as_deref(), Some("10.0.0.1:8200"));
        assert_eq!(address.uri_for_tls_name(&url, None), (url, None));
    }
}
