//! What an operator writes about a directory. Field names and defaults are those of Vault's and
//! OpenBao's `config/ldap` endpoints; src/settings.rs makes of it what the rest of the crate uses.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::sasl::SaslSource;

/// Group filter that fits the common schemas (`posixGroup`, `groupOfNames`, `groupOfUniqueNames`).
pub(crate) const DEFAULT_GROUP_FILTER: &str =
    "(|(memberUid={{.Username}})(member={{.UserDN}})(uniqueMember={{.UserDN}}))";
/// User filter that compares [`DirectoryConfig::userattr`] with the name.
pub(crate) const DEFAULT_USER_FILTER: &str = "({{.UserAttr}}={{.Username}})";

/// The configuration of one directory. `bindpass` and `client_tls_key` are secret and left out of
/// `Debug`.
#[derive(Clone)]
pub struct DirectoryConfig {
    /// Servers, tried in order: comma separated `ldap://host[:389]` and `ldaps://host[:636]`.
    pub url: String,
    /// Ask for TLS on `ldap://` connections before anything else is said (RFC 4511 §4.14).
    pub starttls: bool,
    /// Lowest TLS version offered.
    pub tls_min_version: TlsVersion,
    /// Highest TLS version offered.
    pub tls_max_version: TlsVersion,
    /// Accept any server certificate, for any name. For trials only.
    pub insecure_tls: bool,
    /// PEM of the CA certificates to believe, instead of the machine's own; empty: the machine's.
    pub certificate: String,
    /// PEM of the certificate to show to a server that asks for one, with those of the CAs between
    /// it and the root; empty: none.
    pub client_tls_cert: String,
    /// PEM of the private key of `client_tls_cert`, not encrypted. Secret.
    pub client_tls_key: Zeroizing<String>,
    /// Name to bind as for searches: a DN, or what Active Directory takes (`user@domain`).
    /// Empty: searches are anonymous.
    pub binddn: String,
    /// Password of `binddn`. Secret.
    pub bindpass: Zeroizing<String>,
    /// Bind for searches by SASL GSSAPI instead of with `binddn` and `bindpass`, which must then be
    /// empty. On a connection without TLS everything after the bind is encrypted by Kerberos.
    pub sasl: Option<Arc<dyn SaslSource>>,
    /// Search for the user's DN even without a `binddn`, anonymously.
    pub discoverdn: bool,
    /// Refuse an empty password before it can become an anonymous bind (RFC 4513 §5.1.2).
    pub deny_null_bind: bool,
    /// Domain of the users' `userPrincipalName`, `user@upndomain`; empty: not used.
    pub upndomain: String,
    /// Where users are searched for.
    pub userdn: String,
    /// Attribute of a user that holds the login name.
    pub userattr: String,
    /// Filter that finds a user; knows `{{.UserAttr}}` and `{{.Username}}`. Empty: the default.
    pub userfilter: String,
    /// Filter that finds a user's groups; knows `{{.UserDN}}` and `{{.Username}}`. Empty: the default.
    pub groupfilter: String,
    /// Where groups are searched for. Empty: no groups are looked up.
    pub groupdn: String,
    /// Attribute of what `groupfilter` finds that names the groups: `cn` on groups, `memberOf` on users.
    pub groupattr: String,
    /// Search for groups on connections of their own on which nobody is bound.
    pub anonymous_group_search: bool,
    /// Read the user's groups from Active Directory's `tokenGroups`, nested ones included, instead
    /// of searching with `groupfilter`, which then narrows nothing: all groups below `groupdn` count.
    pub use_token_groups: bool,
    /// Whether searches follow alias entries.
    pub dereference_aliases: DereferenceAliases,
    /// Entries asked for at a time (RFC 2696); 0: this crate's own choice, 500. Active Directory
    /// gives 1,000 at most.
    pub max_page_size: u32,
    /// How long the answer to a lookup is used for further lookups of exactly the same name, counted
    /// from when it was asked for; zero: not at all. That a user is not found or ambiguous is
    /// remembered for 5 seconds at most.
    pub cache_ttl: Duration,
    /// How long the name behind a SID, or that there is none, is believed, counted in the same way;
    /// zero: not at all. Names in use are asked for again in the background.
    pub sid_cache_ttl: Duration,
    /// Longest wait for one search, or for one bind as a user.
    pub request_timeout: Duration,
    /// Longest wait for a connection to one server: TCP, TLS and the bind together.
    pub connection_timeout: Duration,
    /// Kept connections for searches, at most. User binds may use as many again.
    pub max_connections: usize,
    /// An unused connection is closed after this long.
    pub idle_timeout: Duration,
    /// Longest wait for a free connection before [`crate::DirectoryError::Busy`].
    pub max_wait: Duration,
    /// A server that failed is passed over for this long, as long as another one answers.
    pub retry_after: Duration,
}

impl Default for DirectoryConfig {
    fn default() -> Self {
        Self {
            url: "ldap://127.0.0.1".into(),
            starttls: false,
            tls_min_version: TlsVersion::Tls12,
            tls_max_version: TlsVersion::Tls12,
            insecure_tls: false,
            certificate: String::new(),
            client_tls_cert: String::new(),
            client_tls_key: Zeroizing::default(),
            binddn: String::new(),
            bindpass: Zeroizing::default(),
            sasl: None,
            discoverdn: false,
            deny_null_bind: true,
            upndomain: String::new(),
            userdn: String::new(),
            userattr: "cn".into(),
            userfilter: DEFAULT_USER_FILTER.into(),
            groupfilter: DEFAULT_GROUP_FILTER.into(),
            groupdn: String::new(),
            groupattr: "cn".into(),
            anonymous_group_search: false,
            use_token_groups: false,
            dereference_aliases: DereferenceAliases::Never,
            max_page_size: 0,
            cache_ttl: Duration::ZERO,
            sid_cache_ttl: Duration::from_secs(300),
            request_timeout: Duration::from_secs(90),
            connection_timeout: Duration::from_secs(30),
            max_connections: 8,
            idle_timeout: Duration::from_secs(300),
            max_wait: Duration::from_secs(10),
            retry_after: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for DirectoryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            starttls,
            tls_min_version,
            tls_max_version,
            insecure_tls,
            certificate,
            client_tls_cert,
            client_tls_key,
            binddn,
            bindpass,
            sasl,
            discoverdn,
            deny_null_bind,
            upndomain,
            userdn,
            userattr,
            userfilter,
            groupfilter,
            groupdn,
            groupattr,
            anonymous_group_search,
            use_token_groups,
            dereference_aliases,
            max_page_size,
            cache_ttl,
            sid_cache_ttl,
            request_timeout,
            connection_timeout,
            max_connections,
            idle_timeout,
            max_wait,
            retry_after,
        } = self;
        let hide = |secret: &str| match secret.is_empty() {
            true => "none",
            false => "redacted",
        };
        f.debug_struct("DirectoryConfig")
            .field("url", url)
            .field("starttls", starttls)
            .field("tls_min_version", tls_min_version)
            .field("tls_max_version", tls_max_version)
            .field("insecure_tls", insecure_tls)
            .field("certificate", &format_args!("{} bytes", certificate.len()))
            .field(
                "client_tls_cert",
                &format_args!("{} bytes", client_tls_cert.len()),
            )
            .field("client_tls_key", &format_args!("{}", hide(client_tls_key)))
            .field("binddn", binddn)
            .field("bindpass", &format_args!("{}", hide(bindpass)))
            .field("sasl", &sasl.as_ref().map(|source| source.name()))
            .field("discoverdn", discoverdn)
            .field("deny_null_bind", deny_null_bind)
            .field("upndomain", upndomain)
            .field("userdn", userdn)
            .field("userattr", userattr)
            .field("userfilter", userfilter)
            .field("groupfilter", groupfilter)
            .field("groupdn", groupdn)
            .field("groupattr", groupattr)
            .field("anonymous_group_search", anonymous_group_search)
            .field("use_token_groups", use_token_groups)
            .field("dereference_aliases", dereference_aliases)
            .field("max_page_size", max_page_size)
            .field("cache_ttl", cache_ttl)
            .field("sid_cache_ttl", sid_cache_ttl)
            .field("request_timeout", request_timeout)
            .field("connection_timeout", connection_timeout)
            .field("max_connections", max_connections)
            .field("idle_timeout", idle_timeout)
            .field("max_wait", max_wait)
            .field("retry_after", retry_after)
            .finish()
    }
}

/// A TLS version as Vault spells it: `tls10`, `tls11`, `tls12` or `tls13`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl TlsVersion {
    /// Every version, lowest first.
    pub const ALL: [Self; 4] = [Self::Tls10, Self::Tls11, Self::Tls12, Self::Tls13];

    /// The word for the version in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls10 => "tls10",
            Self::Tls11 => "tls11",
            Self::Tls12 => "tls12",
            Self::Tls13 => "tls13",
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TlsVersion {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| {
                let text: String = text.chars().take(32).collect();
                ConfigError::new(
                    "tls version",
                    format!("{text:?} is none of tls10, tls11, tls12 and tls13"),
                )
            })
    }
}

/// Which alias entries a search follows (RFC 4511 §4.5.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DereferenceAliases {
    /// None.
    #[default]
    Never,
    /// Those below the search base.
    Searching,
    /// The search base itself.
    Finding,
    /// Both.
    Always,
}

impl DereferenceAliases {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Never, Self::Searching, Self::Finding, Self::Always];

    /// The word for the choice in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Searching => "searching",
            Self::Finding => "finding",
            Self::Always => "always",
        }
    }
}

impl fmt::Display for DereferenceAliases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DereferenceAliases {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or_else(|| {
                let text: String = text.chars().take(32).collect();
                ConfigError::new(
                    "dereference_aliases",
                    format!("{text:?} is none of never, searching, finding and always"),
                )
            })
    }
}

/// A configuration that cannot work: which field, and why. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ConfigError {
    /// The field as [`DirectoryConfig`] and Vault's API name it.
    pub field: &'static str,
    /// What is wrong with it, and where in it when there is a where.
    pub reason: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self {
            field,
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tls_versions_are_four_words_and_a_range() {
        for version in TlsVersion::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
        for text in ["", "tls14", "TLS12", "1.2", "ssl30"] {
            assert!(text.parse::<TlsVersion>().is_err());
        }
    }

    #[test]
    fn alias_choices_are_four_words() {
        for choice in DereferenceAliases::ALL {
            assert_eq!(choice.as_str().parse(), Ok(choice));
        }
        for text in ["", "Never", "sometimes"] {
            assert!(text.parse::<DereferenceAliases>().is_err());
        }
    }

    /// threats.md `keytab-readback`: the same holds for the bind password and the client's key.
    #[test]
    fn secrets_are_not_in_debug_output() {
        let config = DirectoryConfig {
            binddn: "cn=vault".into(),
            bindpass: Zeroizing::new("hunter2".to_owned()),
            client_tls_key: Zeroizing::new("hunter2".to_owned()),
            ..DirectoryConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(
            shown.contains("bindpass: redacted") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(shown.contains("client_tls_key: redacted"), "{shown}");
        assert!(format!("{:?}", DirectoryConfig::default()).contains("bindpass: none"));
    }
}
