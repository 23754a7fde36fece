//! The list of servers in `url`: what to dial, in which order, and what to speak first.

use url::{Host, Url};

use crate::config::ConfigError;

/// One server: where to dial and what to speak first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    /// `ldaps://host:636`, for people; carries no credentials.
    pub(crate) text: String,
    /// Host name or address without brackets, for the resolver and the certificate check.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    StartTls,
    Ldaps,
}

impl ServerUrl {
    pub(crate) fn parse_list(urls: &str, starttls: bool) -> Result<Vec<Self>, ConfigError> {
        urls.split(',')
            .map(str::trim)
            .enumerate()
            .map(|(index, url)| {
                Self::parse(url, starttls).map_err(|reason| {
                    ConfigError::new("url", format!("number {}: {reason}", index + 1))
                })
            })
            .collect()
    }

    /// The reason never repeats user information, where someone may have put a password.
    fn parse(text: &str, starttls: bool) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".into());
        }
        let url = Url::parse(text).map_err(|cause| {
            if text.contains("://") {
                format!("is not a URL: {cause}")
            } else {
                "is not a URL: write ldap://host or ldaps://host".to_owned()
            }
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds credentials: they belong into binddn and bindpass".into());
        }
        let (security, default_port) = match url.scheme() {
            "ldap" if starttls => (Security::StartTls, 389),
            "ldap" => (Security::Plain, 389),
            "ldaps" => (Security::Ldaps, 636),
            other => return Err(format!("scheme {other:?} is neither ldap nor ldaps")),
        };
        let scheme = url.scheme();
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("says more than scheme, host and port".into());
        }
        // The url crate leaves hosts of schemes that the web does not know as they are written.
        let host = match url.host() {
            None | Some(Host::Domain("")) => return Err("names no host".into()),
            Some(Host::Domain(name)) => match Host::parse(name) {
                Ok(Host::Domain(name)) => name,
                Ok(Host::Ipv4(address)) => address.to_string(),
                Ok(Host::Ipv6(address)) => address.to_string(),
                Err(cause) => return Err(format!("names no usable host: {cause}")),
            },
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
        };
        let port = match url.port() {
            Some(0) => return Err("port 0 cannot be dialled".into()),
            Some(port) => port,
            None => default_port,
        };
        let text = match host.contains(':') {
            true => format!("{scheme}://[{host}]:{port}"),
            false => format!("{scheme}://{host}:{port}"),
        };
        Ok(Self {
            text,
            host,
            port,
            security,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn servers(url: &str, starttls: bool) -> Vec<(String, String, u16, Security)> {
        ServerUrl::parse_list(url, starttls)
            .unwrap()
            .into_iter()
            .map(|server| (server.text, server.host, server.port, server.security))
            .collect()
    }

    #[test]
    fn urls_are_read_in_order_with_their_default_ports() {
        let list =
            "ldap://ldap.myorg.com, LDAPS://Ldap2.myorg.com:1636/,ldaps://[::1],ldap://10.0.0.1";
        let name = |text: &str| text.to_owned();
        assert_eq!(
            servers(list, true),
            [
                (
                    name("ldap://ldap.myorg.com:389"),
                    name("ldap.myorg.com"),
                    389,
                    Security::StartTls
                ),
                (
                    name("ldaps://ldap2.myorg.com:1636"),
                    name("ldap2.myorg.com"),
                    1636,
                    Security::Ldaps
                ),
                (name("ldaps://[::1]:636"), name("::1"), 636, Security::Ldaps),
                (
                    name("ldap://10.0.0.1:389"),
                    name("10.0.0.1"),
                    389,
                    Security::StartTls
                ),
            ]
        );
        assert_eq!(servers("ldap://localhost", false)[0].3, Security::Plain);
    }

    #[test]
    fn urls_that_cannot_work_are_refused_by_number() {
        for (url, reason) in [
            ("", "number 1: is empty"),
            ("ldap://a,,ldap://b", "number 2: is empty"),
            (
                "ldap.myorg.com",
                "number 1: is not a URL: write ldap://host",
            ),
            ("ldap://a,http://b", "number 2: scheme \"http\" is neither"),
            (
                "ldapi:///run/slapd",
                "number 1: scheme \"ldapi\" is neither",
            ),
            ("ldap://", "number 1: names no host"),
            ("ldap://:389", "number 1: "),
            ("ldap://a:0", "number 1: port 0"),
            ("ldap://a:99999", "number 1: is not a URL"),
            ("ldap://a/dc=example", "number 1: says more"),
            ("ldap://a?x", "number 1: says more"),
            ("ldap://a b", "number 1: "),
            ("ldap://[::1", "number 1: is not a URL"),
        ] {
            let error = ServerUrl::parse_list(url, false).unwrap_err();
            assert_eq!(error.field, "url");
            assert!(error.reason.starts_with(reason), "{url}: {error}");
        }
    }
}
