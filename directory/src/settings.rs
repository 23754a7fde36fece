//! The checked form of a configuration, which the rest of the crate uses.
//!
//! Parse, don't validate: [`Settings::parse`] is the only way from a [`DirectoryConfig`] to the
//! settings that dial, search and pool take, so a URL, template, base DN or certificate that
//! cannot work is refused when it is written, not at the first login.

use std::sync::Arc;
use std::time::Duration;

use ldap3::DerefAliases;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use zeroize::Zeroizing;

use crate::config::{
    ConfigError, DEFAULT_GROUP_FILTER, DEFAULT_USER_FILTER, DereferenceAliases, DirectoryConfig,
    TlsVersion,
};
use crate::dn;
use crate::filter::{FilterTemplate, Placeholders, is_attribute};
use crate::sasl::SaslSource;
use crate::server_url::{Security, ServerUrl};

/// No wait is longer, so that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Entries asked for at a time unless the operator says otherwise.
const PAGE: i32 = 500;

/// The checked configuration.
pub(crate) struct Settings {
    pub(crate) servers: Vec<ServerUrl>,
    pub(crate) tls: TlsSettings,
    pub(crate) account: Account,
    pub(crate) discover: bool,
    pub(crate) deny_null_bind: bool,
    pub(crate) upn_domain: Option<String>,
    pub(crate) user_base: String,
    pub(crate) user_attr: String,
    pub(crate) user_filter: FilterTemplate,
    pub(crate) group_filter: FilterTemplate,
    /// `None`: groups are not looked up.
    pub(crate) group_base: Option<String>,
    pub(crate) group_attr: String,
    pub(crate) anonymous_group_search: bool,
    pub(crate) use_token_groups: bool,
    pub(crate) rules: SearchRules,
    pub(crate) limits: Limits,
    pub(crate) warnings: Vec<String>,
}

/// What is the same for every search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SearchRules {
    /// Entries asked for at a time, at least 1.
    pub(crate) page: i32,
    pub(crate) dereference: DerefAliases,
}

/// Limits of time and number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) request_timeout: Duration,
    pub(crate) connection_timeout: Duration,
    pub(crate) max_connections: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_wait: Duration,
    pub(crate) retry_after: Duration,
    pub(crate) cache_ttl: Duration,
    pub(crate) sid_cache_ttl: Duration,
}

/// Who searches are bound as.
#[derive(Clone, Default)]
pub(crate) enum Account {
    /// Nobody.
    #[default]
    Anonymous,
    Simple {
        name: String,
        password: Zeroizing<String>,
    },
    Sasl(Arc<dyn SaslSource>),
}

impl Account {
    fn parse(config: &DirectoryConfig) -> Result<Self, ConfigError> {
        let name = config.binddn.clone();
        if name.contains('\0') {
            return Err(ConfigError::new("binddn", "holds a NUL"));
        }
        match &config.sasl {
            None if name.is_empty() => Ok(Self::Anonymous),
            None => Ok(Self::Simple {
                name,
                password: config.bindpass.clone(),
            }),
            Some(_) if !name.is_empty() || !config.bindpass.is_empty() => Err(ConfigError::new(
                match name.is_empty() {
                    true => "bindpass",
                    false => "binddn",
                },
                "has no use beside bind_with_keytab: clear it, or turn bind_with_keytab off",
            )),
            Some(source) => Ok(Self::Sasl(Arc::clone(source))),
        }
    }
}

pub(crate) struct TlsSettings {
    pub(crate) min: TlsVersion,
    pub(crate) max: TlsVersion,
    pub(crate) insecure: bool,
    /// Empty: believe the machine's CAs.
    pub(crate) roots: Vec<X509>,
    pub(crate) client: Option<ClientCertificate>,
}

/// What is shown to a server that asks who its client is.
pub(crate) struct ClientCertificate {
    pub(crate) certificate: X509,
    /// The CAs above it, as far as they were given.
    pub(crate) chain: Vec<X509>,
    pub(crate) key: PKey<Private>,
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
            roots: parse_certificates("certificate", &config.certificate)?,
            client: ClientCertificate::parse(&config.client_tls_cert, &config.client_tls_key)?,
        };
        let account = Account::parse(config)?;
        let upn_domain = parse_upn_domain(&config.upndomain)?;
        let user_base = parse_base("userdn", &config.userdn)?;
        let group_base = parse_base("groupdn", &config.groupdn)?;
        let user_attr = parse_attribute("userattr", &config.userattr)?;
        let group_attr = parse_attribute("groupattr", &config.groupattr)?;
        let user_filter_text = or_default(&config.userfilter, DEFAULT_USER_FILTER);
        let user_filter =
            FilterTemplate::parse("userfilter", user_filter_text, Placeholders::USER)?;
        if !user_filter.names_somebody() {
            return Err(ConfigError::new(
                "userfilter",
                "has no {{.Username}}: every user would be the entry that it finds",
            ));
        }
        let group_filter = FilterTemplate::parse(
            "groupfilter",
            or_default(&config.groupfilter, DEFAULT_GROUP_FILTER),
            Placeholders::GROUP,
        )?;
        let limits = Limits::parse(config)?;
        let rules = SearchRules::parse(config)?;
        let mut settings = Self {
            servers,
            tls,
            discover: config.discoverdn || !matches!(account, Account::Anonymous),
            account,
            deny_null_bind: config.deny_null_bind,
            upn_domain,
            user_base,
            user_attr,
            user_filter,
            group_filter,
            group_base: (!group_base.is_empty()).then_some(group_base),
            group_attr,
            anonymous_group_search: config.anonymous_group_search,
            use_token_groups: config.use_token_groups,
            rules,
            limits,
            warnings: Vec::new(),
        };
        settings.warnings = settings.collect_warnings(config);
        Ok(settings)
    }

    /// What is allowed but worth a second look.
    fn collect_warnings(&self, config: &DirectoryConfig) -> Vec<String> {
        let mut warnings = Vec::new();
        let plain = self.servers.iter().any(|s| s.security == Security::Plain);
        let any_tls = self.servers.iter().any(|s| s.security != Security::Plain);
        if self.group_base.is_none() {
            warnings.push("groupdn is empty: no groups are looked up".to_owned());
        }
        if self.group_base.is_some()
            && !self.use_token_groups
            && !self.group_filter.names_somebody()
        {
            warnings.push(
                "groupfilter has neither {{.UserDN}} nor {{.Username}}: every user is in all groups that it finds"
                    .to_owned(),
            );
        }
        if self.user_base.is_empty() {
            warnings.push(
                "userdn is empty: users are searched for from the root, which most servers refuse"
                    .to_owned(),
            );
        }
        let sealed = matches!(self.account, Account::Sasl(_)) && !self.anonymous_group_search;
        if plain && matches!(self.account, Account::Simple { .. }) {
            warnings.push(
                "bindpass crosses the network in the clear: use ldaps:// or starttls".to_owned(),
            );
        } else if plain && !sealed {
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
        if config.binddn.is_empty() && !config.bindpass.is_empty() {
            warnings.push("bindpass without binddn is not used: searches are anonymous".to_owned());
        }
        if !config.binddn.is_empty() && config.bindpass.is_empty() {
            warnings.push(
                "binddn without bindpass is an unauthenticated bind (RFC 4513 section 5.1.2), which most servers refuse"
                    .to_owned(),
            );
        }
        if self.tls.client.is_some() && !any_tls {
            warnings.push("client_tls_cert is never shown: no url uses TLS".to_owned());
        }
        if self.use_token_groups && self.group_base.is_none() {
            warnings.push(
                "use_token_groups without groupdn: no group counts, because none is below groupdn"
                    .to_owned(),
            );
        }
        if !self.deny_null_bind {
            warnings.push("deny_null_bind is off: an empty password may log a user in".to_owned());
        }
        warnings
    }
}

impl SearchRules {
    fn parse(config: &DirectoryConfig) -> Result<Self, ConfigError> {
        let page = match config.max_page_size {
            0 => PAGE,
            size => i32::try_from(size).map_err(|_| {
                ConfigError::new("max_page_size", format!("{size} is above {}", i32::MAX))
            })?,
        };
        Ok(Self {
            page,
            dereference: match config.dereference_aliases {
                DereferenceAliases::Never => DerefAliases::Never,
                DereferenceAliases::Searching => DerefAliases::Searching,
                DereferenceAliases::Finding => DerefAliases::Finding,
                DereferenceAliases::Always => DerefAliases::Always,
            },
        })
    }
}

impl ClientCertificate {
    /// The reasons say nothing of what was sent.
    fn parse(certificates: &str, key: &str) -> Result<Option<Self>, ConfigError> {
        let mut chain = parse_certificates("client_tls_cert", certificates)?;
        let key = key.trim();
        if chain.is_empty() && key.is_empty() {
            return Ok(None);
        }
        if chain.is_empty() {
            return Err(ConfigError::new(
                "client_tls_cert",
                "is needed together with client_tls_key",
            ));
        }
        if key.is_empty() {
            return Err(ConfigError::new(
                "client_tls_key",
                "is needed together with client_tls_cert",
            ));
        }
        // Without a callback OpenSSL would ask for a password on the server's terminal.
        let key = PKey::private_key_from_pem_callback(key.as_bytes(), |_| Ok(0)).map_err(|_| {
            ConfigError::new(
                "client_tls_key",
                "is not the PEM of a private key without a password",
            )
        })?;
        let certificate = chain.remove(0);
        let fits = certificate
            .public_key()
            .is_ok_and(|public| public.public_eq(&key));
        if !fits {
            return Err(ConfigError::new(
                "client_tls_key",
                "does not belong to the first certificate of client_tls_cert",
            ));
        }
        Ok(Some(Self {
            certificate,
            chain,
            key,
        }))
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
            cache_ttl: span("cache_ttl", config.cache_ttl, Duration::ZERO)?,
            sid_cache_ttl: span("sid_cache_ttl", config.sid_cache_ttl, Duration::ZERO)?,
        })
    }
}

/// The reasons name the certificate by number and never repeat what was sent: a private key may
/// have been pasted.
fn parse_certificates(field: &'static str, pem: &str) -> Result<Vec<X509>, ConfigError> {
    if pem.trim().is_empty() {
        return Ok(Vec::new());
    }
    if pem.contains("PRIVATE KEY-----") {
        return Err(ConfigError::new(
            field,
            "holds a private key: only certificates belong here",
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
            .ok_or_else(|| ConfigError::new(field, format!("block {number} has no end line")))?;
        certificates.push(X509::from_pem(&block.as_bytes()[..end]).map_err(|_| {
            ConfigError::new(field, format!("block {number} is not an X.509 certificate"))
        })?);
        rest = &block[end..];
    }
    match certificates.is_empty() {
        true => Err(ConfigError::new(field, "holds no PEM certificate")),
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

    #[test]
    fn a_range_of_tls_versions_begins_below_its_end() {
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
    fn a_client_certificate_comes_with_its_own_key() {
        let ca = obol_testbed::Ca::new("Clients").unwrap();
        let (certificate, key) = ca.issue(&["obol".to_owned()]).unwrap();
        let (_, other_key) = ca.issue(&["other".to_owned()]).unwrap();
        let parse = |certificate: &str, key: &str| {
            ClientCertificate::parse(certificate, key)
                .map(|client| client.map(|client| client.chain.len()))
        };
        assert_eq!(parse("", " \n"), Ok(None));
        assert_eq!(parse(&certificate, &key), Ok(Some(0)));
        let with_ca = format!("{certificate}\n{}", ca.pem());
        assert_eq!(parse(&with_ca, &key), Ok(Some(1)));
        let encrypted = PKey::private_key_from_pem(key.as_bytes())
            .unwrap()
            .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_256_cbc(), b"hunter2")
            .unwrap();
        let encrypted = String::from_utf8(encrypted).unwrap();
        for (certificate, key, field) in [
            (certificate.as_str(), "", "client_tls_key"),
            ("", key.as_str(), "client_tls_cert"),
            (certificate.as_str(), other_key.as_str(), "client_tls_key"),
            (certificate.as_str(), encrypted.as_str(), "client_tls_key"),
            (certificate.as_str(), "hunter2", "client_tls_key"),
            (key.as_str(), key.as_str(), "client_tls_cert"),
        ] {
            let error = parse(certificate, key).unwrap_err();
            assert_eq!(error.field, field, "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

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
        let count = |pem: String| parse_certificates("certificate", &pem).map(|roots| roots.len());
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
            (refused(|c| c.cache_ttl = Duration::MAX), "cache_ttl"),
            (
                refused(|c| c.sid_cache_ttl = Duration::MAX),
                "sid_cache_ttl",
            ),
            (refused(|c| c.max_connections = 0), "max_connections"),
            (refused(|c| c.max_page_size = u32::MAX), "max_page_size"),
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
        assert_eq!(
            settings.user_filter.compared("cn", "grace"),
            [("cn".to_owned(), "grace".to_owned())]
        );
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
        let everybody = DirectoryConfig {
            groupfilter: "(objectClass=group)".into(),
            ..careful
        };
        let warnings = Settings::parse(&everybody).unwrap().warnings.join("\n");
        assert!(warnings.contains("in all groups"), "{warnings}");
    }

    #[test]
    fn a_userfilter_that_makes_everybody_the_same_user_is_refused() {
        for filter in ["(uid=grace)", "({{.UserAttr}}=grace)"] {
            let error = refused(|config| config.userfilter = filter.into());
            assert_eq!(error.field, "userfilter");
            assert!(error.reason.contains("{{.Username}}"), "{error}");
        }
    }
}
