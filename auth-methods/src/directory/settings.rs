//! The settings of a directory, as every method that has one takes, stores and shows them. Fields and defaults are
//! Vault's; what cannot work is refused before anything is stored. The bind password is written and never read.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use obol_directory::{ConfigError, DereferenceAliases, DirectoryConfig, SaslSource, TlsVersion};
use obol_mount::fields::{Count, Flag, Ttl};
use obol_mount::{Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

/// The fields on the way in, for `#[serde(flatten)]`. What is left out keeps its stored value.
#[derive(Clone, Deserialize, JsonSchema)]
pub(crate) struct WriteDirectory {
    /// The servers, tried in order: `ldap://host[:389]` or `ldaps://host[:636]`, comma-separated. Needed the
    /// first time.
    url: Option<String>,
    /// Tells names of users and groups apart by case. Otherwise they are folded to lower case where users and
    /// groups are mapped to policies; LDAP is asked with the name as it came, either way.
    case_sensitive_names: Option<Flag>,
    /// Asks for TLS on `ldap://` connections before anything else is said.
    starttls: Option<Flag>,
    /// The lowest TLS version: `tls10`, `tls11`, `tls12` or `tls13`.
    tls_min_version: Option<String>,
    /// The highest TLS version: `tls10`, `tls11`, `tls12` or `tls13`.
    tls_max_version: Option<String>,
    /// Does not check the server's certificate. Anybody on the network can then forge groups.
    insecure_tls: Option<Flag>,
    /// The CA certificates (PEM) to believe instead of the machine's own.
    certificate: Option<String>,
    /// The name that searches are bound as, such as `cn=vault,ou=Users,dc=example,dc=com`.
    binddn: Option<String>,
    /// The password of `binddn`. Never returned. Needed again when `url` gets another server, `certificate` changes,
    /// `starttls` is turned off, `insecure_tls` on, or `tls_min_version` lowered.
    bindpass: Option<Secret>,
    /// The DN below which users are searched for.
    userdn: Option<String>,
    /// The attribute of a user that holds the name, such as `uid`, `cn` or `sAMAccountName`.
    userattr: Option<String>,
    /// The filter that finds a user; knows `{{.UserAttr}}` and `{{.Username}}`.
    userfilter: Option<String>,
    /// Searches for the user's DN anonymously when there is no `binddn`. With neither, the DN is put together
    /// from `userattr`, the name and `userdn`.
    discoverdn: Option<Flag>,
    /// Refuses an empty password before it can become an anonymous bind.
    deny_null_bind: Option<Flag>,
    /// The domain of the users' `userPrincipalName`: they are found by `userPrincipalName=NAME@upndomain`, and bind
    /// with that name where there is no account to search with. For Kerberos also the realm whose users may log in,
    /// compared with case; empty: the realms that the keytab's keys are of.
    upndomain: Option<String>,
    /// The filter that finds a user's groups; knows `{{.UserDN}}` and `{{.Username}}`.
    groupfilter: Option<String>,
    /// The DN below which groups are searched for. Empty: no groups are looked up.
    groupdn: Option<String>,
    /// The attribute of what `groupfilter` finds that names the group: `cn` on groups, `memberOf` on users.
    groupattr: Option<String>,
    /// Searches for groups anonymously, also where there is a `binddn`.
    anonymous_group_search: Option<Flag>,
    /// Reads a user's groups, nested ones included, from the `tokenGroups` that Active Directory computes, instead
    /// of searching with `groupfilter`. Groups below `groupdn` count.
    use_token_groups: Option<Flag>,
    /// Makes the name that LDAP is asked for the user's alias in identity. Otherwise it is the name that the directory
    /// has in `userattr`; for Kerberos the whole name, where this and `remove_instance_name` would make
    /// `grace/admin` the entity of `grace`.
    username_as_alias: Option<Flag>,
    /// The certificate (PEM) shown to the server where it asks for one.
    client_tls_cert: Option<String>,
    /// The key (PEM) of `client_tls_cert`. Never returned.
    client_tls_key: Option<Secret>,
    /// When aliases in the directory are followed: `never`, `searching`, `finding` or `always`.
    dereference_aliases: Option<String>,
    /// Entries asked for at a time. Zero: 500. Active Directory gives 1,000 at most.
    max_page_size: Option<Count>,
    /// How long a user's groups may be remembered. Zero: the directory is asked at each login. A user who left a group
    /// keeps its policies no longer than this (and the token they have until it ends).
    cache_ttl: Option<Ttl>,
    /// The longest wait for one search.
    request_timeout: Option<Ttl>,
    /// The longest wait for a connection to one server.
    connection_timeout: Option<Ttl>,
}

/// The settings without their secrets, in the order of the alphabet, as Vault shows them.
#[derive(Serialize, JsonSchema)]
pub(crate) struct DirectoryView {
    anonymous_group_search: bool,
    binddn: String,
    /// Always empty: the password is never returned.
    bindpass: String,
    cache_ttl: Ttl,
    case_sensitive_names: bool,
    certificate: String,
    client_tls_cert: String,
    /// Always empty: the key is never returned.
    client_tls_key: String,
    connection_timeout: Ttl,
    deny_null_bind: bool,
    dereference_aliases: String,
    discoverdn: bool,
    groupattr: String,
    groupdn: String,
    groupfilter: String,
    insecure_tls: bool,
    max_page_size: u32,
    request_timeout: Ttl,
    starttls: bool,
    tls_max_version: String,
    tls_min_version: String,
    upndomain: String,
    url: String,
    use_token_groups: bool,
    userattr: String,
    userdn: String,
    userfilter: String,
    username_as_alias: bool,
}

/// The record, or the part of it that every method has.
#[derive(Deserialize, Serialize)]
pub(crate) struct StoredDirectory {
    pub(crate) url: String,
    pub(crate) case_sensitive_names: bool,
    starttls: bool,
    tls_min_version: String,
    tls_max_version: String,
    insecure_tls: bool,
    certificate: String,
    binddn: String,
    #[serde(serialize_with = "expose")]
    bindpass: Secret,
    userdn: String,
    pub(crate) userattr: String,
    userfilter: String,
    discoverdn: bool,
    pub(crate) deny_null_bind: bool,
    pub(crate) upndomain: String,
    groupfilter: String,
    groupdn: String,
    groupattr: String,
    #[serde(default)]
    anonymous_group_search: bool,
    #[serde(default)]
    use_token_groups: bool,
    #[serde(default)]
    pub(crate) username_as_alias: bool,
    #[serde(default)]
    client_tls_cert: String,
    #[serde(default, serialize_with = "expose")]
    client_tls_key: Secret,
    #[serde(default)]
    dereference_aliases: String,
    #[serde(default)]
    max_page_size: u32,
    #[serde(default)]
    cache_ttl_ms: u64,
    /// Milliseconds, because timeouts below a second are allowed.
    request_timeout_ms: u64,
    connection_timeout_ms: u64,
}

impl WriteDirectory {
    pub(crate) fn applied_to(&self, stored: Option<StoredDirectory>) -> Result<StoredDirectory> {
        let trusted = stored.as_ref().and_then(Trusted::of);
        let mut directory = match stored {
            Some(stored) => stored,
            None if self.url.is_none() => return Err(Error::bad_request("url is required")),
            None => StoredDirectory::default(),
        };
        let sent = self.clone();
        let text = |to: &mut String, from: Option<String>| {
            if let Some(from) = from {
                *to = from;
            }
        };
        let flag = |to: &mut bool, from: Option<Flag>| {
            if let Some(Flag(from)) = from {
                *to = from;
            }
        };
        let millis = |to: &mut u64, from: Option<Ttl>| {
            if let Some(Ttl(from)) = from {
                *to = u64::try_from(from.as_millis()).unwrap_or(u64::MAX);
            }
        };
        text(&mut directory.url, sent.url);
        flag(
            &mut directory.case_sensitive_names,
            sent.case_sensitive_names,
        );
        flag(&mut directory.starttls, sent.starttls);
        text(&mut directory.tls_min_version, sent.tls_min_version);
        text(&mut directory.tls_max_version, sent.tls_max_version);
        flag(&mut directory.insecure_tls, sent.insecure_tls);
        text(&mut directory.certificate, sent.certificate);
        text(&mut directory.binddn, sent.binddn);
        if let Some(bindpass) = sent.bindpass {
            directory.bindpass = bindpass;
        }
        text(&mut directory.userdn, sent.userdn);
        text(&mut directory.userattr, sent.userattr);
        text(&mut directory.userfilter, sent.userfilter);
        flag(&mut directory.discoverdn, sent.discoverdn);
        flag(&mut directory.deny_null_bind, sent.deny_null_bind);
        text(&mut directory.upndomain, sent.upndomain);
        text(&mut directory.groupfilter, sent.groupfilter);
        text(&mut directory.groupdn, sent.groupdn);
        text(&mut directory.groupattr, sent.groupattr);
        flag(
            &mut directory.anonymous_group_search,
            sent.anonymous_group_search,
        );
        flag(&mut directory.use_token_groups, sent.use_token_groups);
        flag(&mut directory.username_as_alias, sent.username_as_alias);
        text(&mut directory.client_tls_cert, sent.client_tls_cert);
        if let Some(key) = sent.client_tls_key {
            directory.client_tls_key = key;
        }
        text(&mut directory.dereference_aliases, sent.dereference_aliases);
        if let Some(Count(size)) = sent.max_page_size {
            directory.max_page_size = u32::try_from(size)
                .map_err(|_| Error::bad_request("max_page_size: that many is too many"))?;
        }
        millis(&mut directory.cache_ttl_ms, sent.cache_ttl);
        millis(&mut directory.request_timeout_ms, sent.request_timeout);
        millis(
            &mut directory.connection_timeout_ms,
            sent.connection_timeout,
        );
        if let Some(trusted) = trusted
            && self.bindpass.is_none()
            && let Some(field) = trusted.loosened(&directory)
        {
            return Err(Error::bad_request(format!(
                "{field}: send bindpass, too: the stored one is for the servers that it was stored with, and for no less protection"
            )));
        }
        Ok(directory)
    }
}

/// Where a stored password may go: nobody who may change the configuration and does not know it is to have it sent to
/// themselves.
struct Trusted {
    servers: BTreeSet<String>,
    starttls: bool,
    insecure_tls: bool,
    certificate: String,
    tls_min_version: String,
}

impl Trusted {
    fn of(stored: &StoredDirectory) -> Option<Self> {
        (!stored.bindpass.is_empty()).then(|| Self {
            servers: servers(&stored.url),
            starttls: stored.starttls,
            insecure_tls: stored.insecure_tls,
            certificate: stored.certificate.clone(),
            tls_min_version: stored.tls_min_version.clone(),
        })
    }

    /// The field by which the password could come to somebody else, if there is one.
    fn loosened(&self, new: &StoredDirectory) -> Option<&'static str> {
        if !servers(&new.url).is_subset(&self.servers) {
            return Some("url");
        }
        if self.starttls && !new.starttls {
            return Some("starttls");
        }
        if !self.insecure_tls && new.insecure_tls {
            return Some("insecure_tls");
        }
        if self.certificate != new.certificate {
            return Some("certificate");
        }
        // One that is no version is refused when the directory is built.
        let version = |text: &str| TlsVersion::from_str(text).ok();
        let is_lower = version(&new.tls_min_version) < version(&self.tls_min_version);
        is_lower.then_some("tls_min_version")
    }
}

fn servers(urls: &str) -> BTreeSet<String> {
    urls.split(',')
        .map(|url| url.trim().trim_end_matches('/').to_lowercase())
        .collect()
}

impl StoredDirectory {
    /// Whether the directory is asked if a user exists; otherwise the user's DN is put together.
    pub(crate) fn searches_for_users(&self) -> bool {
        self.has_account() || !self.upndomain.is_empty()
    }

    /// Whether searches need no user's own rights: they are bound as an account, or the operator wants them anonymous.
    pub(crate) fn has_account(&self) -> bool {
        self.discoverdn || !self.binddn.is_empty()
    }

    /// What the directory crate takes; `sasl` is how searches are bound instead of with `binddn`. The errors are for
    /// the operator who wrote the configuration.
    pub(crate) fn config(&self, sasl: Option<Arc<dyn SaslSource>>) -> Result<DirectoryConfig> {
        Ok(DirectoryConfig {
            url: self.url.clone(),
            starttls: self.starttls,
            tls_min_version: tls_version("tls_min_version", &self.tls_min_version)?,
            tls_max_version: tls_version("tls_max_version", &self.tls_max_version)?,
            insecure_tls: self.insecure_tls,
            certificate: self.certificate.clone(),
            binddn: self.binddn.clone(),
            bindpass: Zeroizing::new(self.bindpass.expose().to_owned()),
            discoverdn: self.discoverdn,
            deny_null_bind: self.deny_null_bind,
            upndomain: self.upndomain.clone(),
            userdn: self.userdn.clone(),
            userattr: self.userattr.clone(),
            userfilter: self.userfilter.clone(),
            groupfilter: self.groupfilter.clone(),
            groupdn: self.groupdn.clone(),
            groupattr: self.groupattr.clone(),
            anonymous_group_search: self.anonymous_group_search,
            use_token_groups: self.use_token_groups,
            client_tls_cert: self.client_tls_cert.clone(),
            client_tls_key: Zeroizing::new(self.client_tls_key.expose().to_owned()),
            dereference_aliases: dereference_aliases(&self.dereference_aliases)?,
            max_page_size: self.max_page_size,
            sasl,
            cache_ttl: Duration::from_millis(self.cache_ttl_ms),
            request_timeout: Duration::from_millis(self.request_timeout_ms),
            connection_timeout: Duration::from_millis(self.connection_timeout_ms),
            ..DirectoryConfig::default()
        })
    }
}

impl Default for StoredDirectory {
    /// The directory crate's defaults are Vault's.
    fn default() -> Self {
        let directory = DirectoryConfig::default();
        Self {
            url: directory.url,
            case_sensitive_names: false,
            starttls: directory.starttls,
            tls_min_version: directory.tls_min_version.to_string(),
            tls_max_version: directory.tls_max_version.to_string(),
            insecure_tls: directory.insecure_tls,
            certificate: directory.certificate,
            binddn: directory.binddn,
            bindpass: Secret::default(),
            userdn: directory.userdn,
            userattr: directory.userattr,
            userfilter: directory.userfilter,
            discoverdn: directory.discoverdn,
            deny_null_bind: directory.deny_null_bind,
            upndomain: directory.upndomain,
            groupfilter: directory.groupfilter,
            groupdn: directory.groupdn,
            groupattr: directory.groupattr,
            anonymous_group_search: directory.anonymous_group_search,
            use_token_groups: directory.use_token_groups,
            username_as_alias: false,
            client_tls_cert: directory.client_tls_cert,
            client_tls_key: Secret::default(),
            dereference_aliases: directory.dereference_aliases.to_string(),
            max_page_size: directory.max_page_size,
            cache_ttl_ms: directory.cache_ttl.as_millis() as u64,
            request_timeout_ms: directory.request_timeout.as_millis() as u64,
            connection_timeout_ms: directory.connection_timeout.as_millis() as u64,
        }
    }
}

impl DirectoryView {
    pub(crate) fn of(directory: StoredDirectory) -> Self {
        Self {
            anonymous_group_search: directory.anonymous_group_search,
            binddn: directory.binddn,
            bindpass: String::new(),
            cache_ttl: Ttl(Duration::from_millis(directory.cache_ttl_ms)),
            case_sensitive_names: directory.case_sensitive_names,
            certificate: directory.certificate,
            client_tls_cert: directory.client_tls_cert,
            client_tls_key: String::new(),
            connection_timeout: Ttl(Duration::from_millis(directory.connection_timeout_ms)),
            deny_null_bind: directory.deny_null_bind,
            dereference_aliases: match directory.dereference_aliases.as_str() {
                "" => DereferenceAliases::default().to_string(),
                _ => directory.dereference_aliases,
            },
            discoverdn: directory.discoverdn,
            groupattr: directory.groupattr,
            groupdn: directory.groupdn,
            groupfilter: directory.groupfilter,
            insecure_tls: directory.insecure_tls,
            max_page_size: directory.max_page_size,
            request_timeout: Ttl(Duration::from_millis(directory.request_timeout_ms)),
            starttls: directory.starttls,
            tls_max_version: directory.tls_max_version,
            tls_min_version: directory.tls_min_version,
            upndomain: directory.upndomain,
            url: directory.url,
            use_token_groups: directory.use_token_groups,
            userattr: directory.userattr,
            userdn: directory.userdn,
            userfilter: directory.userfilter,
            username_as_alias: directory.username_as_alias,
        }
    }
}

/// A 400 that names the field.
pub(crate) fn refused(error: ConfigError) -> Error {
    Error::bad_request(error.to_string())
}

/// Empty: the default, which is what records from before the field hold.
fn dereference_aliases(text: &str) -> Result<DereferenceAliases> {
    if text.is_empty() {
        return Ok(DereferenceAliases::default());
    }
    DereferenceAliases::from_str(text).map_err(refused)
}

fn tls_version(field: &'static str, text: &str) -> Result<TlsVersion> {
    TlsVersion::from_str(text).map_err(|_| {
        Error::bad_request(format!(
            "{field}: expected one of tls10, tls11, tls12 and tls13"
        ))
    })
}

fn expose<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}
