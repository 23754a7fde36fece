//! What an operator writes about a directory, and the checked form the rest of the crate uses.
//!
//! Parse, don't validate: [`Settings::parse`] is the only way from a [`DirectoryConfig`] to the
//! settings that dial, search and pool take, so a URL, template, base DN or certificate that
//! cannot work is refused when it is written, not at the first login. Field names and defaults
//! are those of Vault's `config/ldap` endpoints.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use openssl::x509::X509;
use zeroize::Zeroizing;

use crate::dn;
use crate::filter::{FilterTemplate, Placeholders, is_attribute};
use crate::server_url::{Security, ServerUrl};

/// Group filter that fits the common schemas (`posixGroup`, `groupOfNames`, `groupOfUniqueNames`).
pub(crate) const DEFAULT_GROUP_FILTER: &str =
    "(|(memberUid={{.Username}})(member={{.UserDN}})(uniqueMember={{.UserDN}}))";
/// User filter that compares [`DirectoryConfig::userattr`] with the name.
pub(crate) const DEFAULT_USER_FILTER: &str = "({{.UserAttr}}={{.Username}})";

/// No wait is longer, so that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The configuration of one directory. `bindpass` is secret and left out of `Debug`.
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
    /// Name to bind as for searches: a DN, or what Active Directory takes (`user@domain`).
    /// Empty: searches are anonymous.
    pub binddn: String,
    /// Password of `binddn`. Secret.
    pub bindpass: Zeroizing<String>,
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
            binddn: String::new(),
            bindpass: Zeroizing::default(),
            discoverdn: false,
            deny_null_bind: true,
            upndomain: String::new(),
            userdn: String::new(),
            userattr: "cn".into(),
            userfilter: DEFAULT_USER_FILTER.into(),
            groupfilter: DEFAULT_GROUP_FILTER.into(),
            groupdn: String::new(),
            groupattr: "cn".into(),
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
            binddn,
            bindpass,
            discoverdn,
            deny_null_bind,
            upndomain,
            userdn,
            userattr,
            userfilter,
            groupfilter,
            groupdn,
            groupattr,
            request_timeout,
            connection_timeout,
            max_connections,
            idle_timeout,
            max_wait,
            retry_after,
        } = self;
        let bindpass = if bindpass.is_empty() {
            "none"
        } else {
            "redacted"
        };
        f.debug_struct("DirectoryConfig")
            .field("url", url)
            .field("starttls", starttls)
            .field("tls_min_version", tls_min_version)
            .field("tls_max_version", tls_max_version)
            .field("insecure_tls", insecure_tls)
            .field("certificate", &format_args!("{} bytes", certificate.len()))
            .field("binddn", binddn)
            .field("bindpass", &format_args!("{bindpass}"))
            .field("discoverdn", discoverdn)
            .field("deny_null_bind", deny_null_bind)
            .field("upndomain", upndomain)
            .field("userdn", userdn)
            .field("userattr", userattr)
            .field("userfilter", userfilter)
            .field("groupfilter", groupfilter)
            .field("groupdn", groupdn)
            .field("groupattr", groupattr)
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

/// The checked configuration.
pub(crate) struct Settings {
    pub(crate) servers: Vec<ServerUrl>,
    pub(crate) tls: TlsSettings,
    pub(crate) service: ServiceAccount,
    pub(crate) discover: bool,
    pub(crate) deny_null_bind: bool,
    pub(crate) upn_domain: Option<String>,
    pub(crate) user_base: String,
    pub(crate) user_attr: String,
    pub(crate) user_filter: FilterTemplate,
    /// The user filter is the default one, so that what it found can be compared with what was asked.
    pub(crate) user_filter_is_default: bool,
    pub(crate) group_filter: FilterTemplate,
    /// `None`: groups are not looked up.
    pub(crate) group_base: Option<String>,
    pub(crate) group_attr: String,
    pub(crate) limits: Limits,
    pub(crate) warnings: Vec<String>,
}

/// Time and number limits of the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) request_timeout: Duration,
    pub(crate) connection_timeout: Duration,
    pub(crate) max_connections: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_wait: Duration,
    pub(crate) retry_after: Duration,
}

/// Who searches are bound as; an empty name is anonymous.
#[derive(Default)]
pub(crate) struct ServiceAccount {
    pub(crate) name: String,
    pub(crate) password: Zeroizing<String>,
}

pub(crate) struct TlsSettings {
    pub(crate) min: TlsVersion,
    pub(crate) max: TlsVersion,
    pub(crate) insecure: bool,
    /// Empty: believe the machine's CAs.
    pub(crate) roots: Vec<X509>,
}

impl Settings {
    pub(crate) fn parse(config: &DirectoryConfig) -> Result<Self, ConfigError> {
        let servers = ServerUrl::parse_list(&config.url, config.starttls)?;
        if config.tls_min_version > config.tls_max_version {
            return Err(ConfigError::new(
                "tls_min_version",
                format!(
                    "{} is above tls_max_version {}",
                    config.tls_min_version, config.tls_max_version
                ),
            ));
        }
        let tls = TlsSettings {
            min: config.tls_min_version,
            max: config.tls_max_version,
            insecure: config.insecure_tls,
            roots: parse_certificates(&config.certificate)?,
        };
        if config.binddn.contains('\0') {
            return Err(ConfigError::new("binddn", "holds a NUL"));
        }
        let upn_domain = parse_upn_domain(&config.upndomain)?;
        let user_base = parse_base("userdn", &config.userdn)?;
        let group_base = parse_base("groupdn", &config.groupdn)?;
        let user_attr = parse_attribute("userattr", &config.userattr)?;
        let group_attr = parse_attribute("groupattr", &config.groupattr)?;
        let user_filter_text = or_default(&config.userfilter, DEFAULT_USER_FILTER);
        let user_filter =
            FilterTemplate::parse("userfilter", user_filter_text, Placeholders::USER)?;
        let group_filter = FilterTemplate::parse(
            "groupfilter",
            or_default(&config.groupfilter, DEFAULT_GROUP_FILTER),
            Placeholders::GROUP,
        )?;
        let limits = Limits::parse(config)?;
        let mut settings = Self {
            servers,
            tls,
            service: ServiceAccount {
                name: config.binddn.clone(),
                password: config.bindpass.clone(),
            },
            discover: config.discoverdn || !config.binddn.is_empty(),
            deny_null_bind: config.deny_null_bind,
            upn_domain,
            user_base,
            user_attr,
            user_filter,
            user_filter_is_default: user_filter_text == DEFAULT_USER_FILTER,
            group_filter,
            group_base: (!group_base.is_empty()).then_some(group_base),
            group_attr,
            limits,
            warnings: Vec::new(),
        };
        settings.warnings = settings.collect_warnings();
        Ok(settings)
    }

    /// What is allowed but worth a second look.
    fn collect_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let plain = self.servers.iter().any(|s| s.security == Security::Plain);
        let any_tls = self.servers.iter().any(|s| s.security != Security::Plain);
        if self.group_base.is_none() {
            warnings.push("groupdn is empty: no groups are looked up".to_owned());
        }
        if self.user_base.is_empty() {
            warnings.push(
                "userdn is empty: users are searched for from the root, which most servers refuse"
                    .to_owned(),
            );
        }
        if plain && !self.service.name.is_empty() {
            warnings.push(
                "bindpass crosses the network in the clear: use ldaps:// or starttls".to_owned(),
            );
        } else if plain {
            warnings.push(
                "ldap:// without starttls: whoever sits on the network can forge groups".to_owned(),
            );
        }
        if self.tls.insecure && any_tls {
            warnings.push("insecure_tls: the server's certificate is not checked".to_owned());
        }
        if any_tls && self.tls.min < TlsVersion::Tls12 {
            warnings.push(format!(
                "tls_min_version {} is obsolete (RFC 8996) and lowers OpenSSL's security level for these connections",
                self.tls.min
            ));
        }
        if self.service.name.is_empty() && !self.service.password.is_empty() {
            warnings.push("bindpass without binddn is not used: searches are anonymous".to_owned());
        }
        if !self.service.name.is_empty() && self.service.password.is_empty() {
            warnings.push(
                "binddn without bindpass is an unauthenticated bind (RFC 4513 section 5.1.2), which most servers refuse"
                    .to_owned(),
            );
        }
        if !self.deny_null_bind {
            warnings.push("deny_null_bind is off: an empty password may log a user in".to_owned());
        }
        warnings
    }
}

impl Limits {
    fn parse(config: &DirectoryConfig) -> Result<Self, ConfigError> {
        let span = |field, value: Duration, least: Duration| match value {
            value if value < least => Err(ConfigError::new(field, "must be longer than zero")),
            value if value > LONGEST => Err(ConfigError::new(field, "is longer than a day")),
            value => Ok(value),
        };
        let some = Duration::from_millis(1);
        if !(1..=1024).contains(&config.max_connections) {
            return Err(ConfigError::new(
                "max_connections",
                format!("{} is not between 1 and 1024", config.max_connections),
            ));
        }
        Ok(Self {
            request_timeout: span("request_timeout", config.request_timeout, some)?,
            connection_timeout: span("connection_timeout", config.connection_timeout, some)?,
            max_connections: config.max_connections,
            idle_timeout: span("idle_timeout", config.idle_timeout, Duration::ZERO)?,
            max_wait: span("max_wait", config.max_wait, Duration::ZERO)?,
            retry_after: span("retry_after", config.retry_after, Duration::ZERO)?,
        })
    }
}

/// The reasons name the certificate by number and never repeat what was sent: a private key may
/// have been pasted.
fn parse_certificates(pem: &str) -> Result<Vec<X509>, ConfigError> {
    const FIELD: &str = "certificate";
    if pem.trim().is_empty() {
        return Ok(Vec::new());
    }
    if pem.contains("PRIVATE KEY-----") {
        return Err(ConfigError::new(
            FIELD,
            "holds a private key: only CA certificates belong here",
        ));
    }
    let mut certificates = Vec::new();
    let mut rest = pem;
    while let Some(start) = rest.find("-----BEGIN ") {
        let number = certificates.len() + 1;
        let block = &rest[start..];
        let end = block
            .find("-----END ")
            .and_then(|end| {
                block[end + 9..]
                    .find("-----")
                    .map(|dashes| end + 9 + dashes + 5)
            })
            .ok_or_else(|| ConfigError::new(FIELD, format!("block {number} has no end line")))?;
        certificates.push(X509::from_pem(&block.as_bytes()[..end]).map_err(|_| {
            ConfigError::new(FIELD, format!("block {number} is not an X.509 certificate"))
        })?);
        rest = &block[end..];
    }
    match certificates.is_empty() {
        true => Err(ConfigError::new(FIELD, "holds no PEM certificate")),
        false => Ok(certificates),
    }
}

fn parse_upn_domain(text: &str) -> Result<Option<String>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.contains('@') || text.contains(char::is_whitespace) || text.contains('\0') {
        return Err(ConfigError::new(
            "upndomain",
            "is the part after the @ alone, such as example.com",
        ));
    }
    Ok(Some(text.to_owned()))
}

/// A search base: a DN, or one of Active Directory's `<GUID=...>` forms, or empty.
fn parse_base(field: &'static str, text: &str) -> Result<String, ConfigError> {
    let text = text.trim();
    let special = text.starts_with('<') && text.ends_with('>') && !text.contains('\0');
    if !text.is_empty() && !special {
        dn::Dn::parse(text).map_err(|cause| ConfigError::new(field, cause.to_string()))?;
    }
    Ok(text.to_owned())
}

fn parse_attribute(field: &'static str, text: &str) -> Result<String, ConfigError> {
    let text = or_default(text.trim(), "cn");
    match is_attribute(text) {
        true => Ok(text.to_owned()),
        false => Err(ConfigError::new(field, "is not the name of an attribute")),
    }
}

fn or_default<'a>(text: &'a str, default: &'a str) -> &'a str {
    match text.is_empty() {
        true => default,
        false => text,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut DirectoryConfig)) -> ConfigError {
        let mut config = DirectoryConfig::default();
        change(&mut config);
        Settings::parse(&config).map(drop).unwrap_err()
    }

    /// threats.md `error-leaks-input`.
    #[test]
    fn error_leaks_input_a_password_in_a_url_is_refused_and_not_repeated() {
        for url in [
            "ldap://cn=admin:hunter2@a",
            "ldap://hunter2@a",
            "ldap://a:hunter2@b:c",
        ] {
            let error = refused(|config| config.url = url.into());
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let pem = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
        for pem in [
            pem,
            "hunter2",
            "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----",
        ] {
            let error = refused(|config| config.certificate = pem.into());
            assert_eq!(error.field, "certificate");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn certificates_are_checked_when_they_are_written() {
        let ca = obol_testbed::Ca::new("A").unwrap().pem();
        let count = |pem: String| parse_certificates(&pem).map(|roots| roots.len());
        assert_eq!(count(String::new()), Ok(0));
        assert_eq!(count(" \n".into()), Ok(0));
        assert_eq!(count(ca.clone()), Ok(1));
        assert_eq!(count(format!("# one\n{ca}\n# two\n{ca}")), Ok(2));
        for (pem, reason) in [
            ("no PEM".to_owned(), "holds no PEM certificate"),
            (
                format!("{ca}\n-----BEGIN CERTIFICATE-----\nAAAA"),
                "block 2 has no end line",
            ),
            (ca.replace('M', "N"), "block 1 is not an X.509 certificate"),
            (
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----".to_owned(),
                "block 1 is not an X.509 certificate",
            ),
        ] {
            assert_eq!(count(pem).unwrap_err().reason, reason);
        }
    }

    #[test]
    fn tls_versions_are_four_words_and_a_range() {
        for version in TlsVersion::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
        for text in ["", "tls14", "TLS12", "1.2", "ssl30"] {
            assert!(text.parse::<TlsVersion>().is_err());
        }
        for min in TlsVersion::ALL {
            for max in TlsVersion::ALL {
                let config = DirectoryConfig {
                    tls_min_version: min,
                    tls_max_version: max,
                    ..DirectoryConfig::default()
                };
                assert_eq!(Settings::parse(&config).is_ok(), min <= max, "{min} {max}");
            }
        }
    }

    #[test]
    fn other_fields_that_cannot_work_are_refused_by_name() {
        for error in [
            (refused(|c| c.userdn = "ou=Users,".into()), "userdn"),
            (refused(|c| c.groupdn = "Groups".into()), "groupdn"),
            (refused(|c| c.userattr = "u id".into()), "userattr"),
            (refused(|c| c.userattr = "uid)(x=*".into()), "userattr"),
            (refused(|c| c.groupattr = "1.2.".into()), "groupattr"),
            (refused(|c| c.groupattr = "cn;".into()), "groupattr"),
            (
                refused(|c| c.upndomain = "@example.com".into()),
                "upndomain",
            ),
            (
                refused(|c| c.userfilter = "({{.UserDN}}=x)".into()),
                "userfilter",
            ),
            (refused(|c| c.groupfilter = "(cn=".into()), "groupfilter"),
            (refused(|c| c.binddn = "cn=a\0b".into()), "binddn"),
            (
                refused(|c| c.request_timeout = Duration::ZERO),
                "request_timeout",
            ),
            (
                refused(|c| c.connection_timeout = Duration::ZERO),
                "connection_timeout",
            ),
            (
                refused(|c| c.request_timeout = Duration::MAX),
                "request_timeout",
            ),
            (refused(|c| c.retry_after = Duration::MAX), "retry_after"),
            (refused(|c| c.max_connections = 0), "max_connections"),
        ] {
            assert_eq!(error.0.field, error.1);
        }
    }

    #[test]
    fn what_is_left_empty_gets_vaults_defaults() {
        let config = DirectoryConfig {
            userattr: String::new(),
            groupattr: String::new(),
            userfilter: String::new(),
            groupfilter: String::new(),
            ..DirectoryConfig::default()
        };
        let settings = Settings::parse(&config).unwrap();
        assert_eq!(
            (settings.user_attr.as_str(), settings.group_attr.as_str()),
            ("cn", "cn")
        );
        assert!(settings.user_filter_is_default);
        assert!(!settings.discover && settings.group_base.is_none());
        let bases = ["dc=example", "<GUID=0011>", " ou=a;o=\"b, c\" "];
        for base in bases {
            assert_eq!(parse_base("userdn", base).unwrap(), base.trim());
        }
        for attribute in ["sAMAccountName", "1.2.840.113556.1.4.221", "cn;lang-de"] {
            assert!(
                parse_attribute("userattr", attribute).is_ok(),
                "{attribute}"
            );
        }
    }

    /// threats.md `keytab-readback`: the same holds for the bind password.
    #[test]
    fn the_bind_password_is_not_in_debug_output() {
        let config = DirectoryConfig {
            binddn: "cn=vault".into(),
            bindpass: Zeroizing::new("hunter2".to_owned()),
            ..DirectoryConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(
            shown.contains("bindpass: redacted") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(format!("{:?}", DirectoryConfig::default()).contains("bindpass: none"));
    }

    #[test]
    fn risky_settings_are_warned_of() {
        let config = DirectoryConfig {
            url: "ldap://a,ldaps://b".into(),
            tls_min_version: TlsVersion::Tls10,
            insecure_tls: true,
            binddn: "cn=vault".into(),
            bindpass: Zeroizing::new("secret".to_owned()),
            deny_null_bind: false,
            ..DirectoryConfig::default()
        };
        let warnings = Settings::parse(&config).unwrap().warnings.join("\n");
        for word in [
            "groupdn",
            "userdn",
            "bindpass",
            "insecure_tls",
            "tls10",
            "deny_null_bind",
        ] {
            assert!(warnings.contains(word), "{word}: {warnings}");
        }
        let unused = DirectoryConfig {
            binddn: String::new(),
            ..config
        };
        let warnings = Settings::parse(&unused).unwrap().warnings.join("\n");
        assert!(warnings.contains("bindpass without binddn"), "{warnings}");
        let careful = DirectoryConfig {
            url: "ldaps://b".into(),
            userdn: "ou=Users,dc=example".into(),
            groupdn: "ou=Groups,dc=example".into(),
            ..DirectoryConfig::default()
        };
        assert!(Settings::parse(&careful).unwrap().warnings.is_empty());
    }
}
