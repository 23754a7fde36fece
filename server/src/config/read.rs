//! From the tree of values to a [`Config`]: which keys there are, how each is read, and what must fit together.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use obol_mount::fields::{Count, Flag, Ttl};
use obol_mount::{cidr, duration};

use super::{
    Config, ConfigError, KeyPlace, ListenerConfig, LogFormat, SealConfig, StaticKeys, StorageConfig,
};
use crate::core::lockout::{ALL, LockoutConfig, LockoutStanzas, METHODS};
use crate::core::metrics::Telemetry;
use crate::hcl::{self, Member, Name, Node, Object, Stanza, Value, quoted, suggest};
use crate::http::TlsOptions;

/// 32 days, Vault's default.
pub(super) const DEFAULT_TTL: Duration = Duration::from_secs(768 * 3600);

pub(super) const DEFAULT_LOG_LEVEL: &str = "info";

/// Every key there is, by the place it stands in.
pub mod keys {
    pub const TOP: [&str; 15] = [
        "storage",
        "listener",
        "seal",
        "api_addr",
        "cluster_name",
        "default_lease_ttl",
        "max_lease_ttl",
        "log_level",
        "log_format",
        "disable_mlock",
        "pid_file",
        "raw_storage_endpoint",
        "ui",
        "user_lockout",
        "telemetry",
    ];

    pub const TELEMETRY: [&str; 3] = [
        "prometheus_retention_time",
        "disable_hostname",
        "usage_gauge_period",
    ];

    pub const LISTENER_TELEMETRY: [&str; 1] = ["unauthenticated_metrics_access"];

    pub const LISTENER: [&str; 21] = [
        "address",
        "tls_disable",
        "tls_cert_file",
        "tls_key_file",
        "tls_client_ca_file",
        "tls_require_and_verify_client_cert",
        "tls_min_version",
        "tls_max_version",
        "max_request_size",
        "max_request_duration",
        "max_json_depth",
        "max_json_items",
        "max_json_string_value_length",
        "max_header_size",
        "http_read_header_timeout",
        "max_in_flight",
        "telemetry",
        "x_forwarded_for_authorized_addrs",
        "x_forwarded_for_hop_skips",
        "x_forwarded_for_reject_not_present",
        "x_forwarded_for_reject_not_authorized",
    ];

    pub const ROCKSDB: [&str; 1] = ["path"];

    pub const USER_LOCKOUT: [&str; 4] = [
        "lockout_threshold",
        "lockout_duration",
        "lockout_counter_reset",
        "disable_lockout",
    ];

    pub const STATIC_SEAL: [&str; 5] = [
        "disabled",
        "current_key_id",
        "current_key",
        "previous_key_id",
        "previous_key",
    ];

    /// Keys of Vault's or OpenBao's that this version has nothing behind: saying so is kinder than "unknown".
    pub(super) const NOT_YET: [&str; 35] = [
        "audit",
        "backend",
        "cache_size",
        "cluster_addr",
        "cluster_address",
        "custom_response_headers",
        "default_max_request_duration",
        "detect_deadlocks",
        "disable_cache",
        "disable_clustering",
        "disable_indexing",
        "disable_performance_standby",
        "disable_sealwrap",
        "enable_response_header_hostname",
        "ha_backend",
        "ha_storage",
        "http_idle_timeout",
        "http_read_timeout",
        "http_write_timeout",
        "introspection_endpoint",
        "license_path",
        "log_file",
        "log_requests_level",
        "log_rotate_bytes",
        "log_rotate_duration",
        "log_rotate_max_files",
        "max_json_array_element_count",
        "max_json_object_entry_count",
        "plugin_directory",
        "profiling",
        "proxy_protocol_behavior",
        "reporting",
        "service_registration",
        "tls_cipher_suites",
        "tls_disable_client_certs",
    ];
}

/// What the files have said so far.
#[derive(Default)]
pub(super) struct Draft {
    storage: Option<StorageConfig>,
    seal: Option<SealConfig>,
    listeners: Vec<ListenerConfig>,
    api_addr: Option<String>,
    cluster_name: Option<String>,
    default_lease_ttl: Option<Duration>,
    max_lease_ttl: Option<Duration>,
    log_level: Option<String>,
    log_format: LogFormat,
    disable_mlock: bool,
    pid_file: Option<PathBuf>,
    raw_storage_endpoint: bool,
    ui: Option<bool>,
    user_lockout: LockoutStanzas,
    telemetry: Telemetry,
}

impl Draft {
    /// Reads one file over what earlier ones said.
    pub(super) fn add(&mut self, file: &Path, text: &str) -> Result<(), ConfigError> {
        let source = Source { file, text };
        let tree = hcl::parse(text).map_err(|e| source.place(e))?;
        let mut once = HashSet::new();
        for member in &tree.members {
            let key = member.key.text.as_str();
            if !keys::TOP.contains(&key) {
                return Err(source.unknown(&member.key, "the configuration", &keys::TOP));
            }
            let repeats = matches!(key, "listener" | "user_lockout");
            if !repeats && !once.insert(key) {
                return Err(source.error(
                    member.key.at,
                    format!("`{key}` is set twice; remove one of them"),
                ));
            }
            let value = &member.value;
            match key {
                "storage" => self.storage = Some(source.storage(member)?),
                "listener" => {
                    for stanza in source.stanzas(member)? {
                        self.listeners.push(source.listener(&stanza)?);
                    }
                }
                "user_lockout" => {
                    for stanza in source.stanzas(member)? {
                        let (label, config) = source.user_lockout(&stanza)?;
                        if self.user_lockout.insert(label, config).is_some() {
                            let message = "there is a `user_lockout` with this label already";
                            return Err(source.error(stanza.label.at, message));
                        }
                    }
                }
                "seal" => self.seal = Some(source.seal(member)?),
                _ if !member.labels.is_empty() => {
                    let message = format!("`{key}` is no block; write {key} = ...");
                    return Err(source.error(member.labels[0].at, message));
                }
                "telemetry" => self.telemetry = source.telemetry(value)?,
                "api_addr" => self.api_addr = Some(source.url(value)?),
                "cluster_name" => self.cluster_name = Some(source.word(value)?.to_owned()),
                "default_lease_ttl" => self.default_lease_ttl = Some(source.duration(value)?),
                "max_lease_ttl" => self.max_lease_ttl = Some(source.duration(value)?),
                "log_level" => {
                    let level = source.word(value)?.to_ascii_lowercase();
                    if !matches!(
                        &*level,
                        "trace" | "debug" | "info" | "warn" | "error" | "off"
                    ) {
                        return Err(source
                            .error(value.at, "expected trace, debug, info, warn, error or off"));
                    }
                    self.log_level = Some(level);
                }
                "log_format" => {
                    self.log_format = match source.word(value)? {
                        "standard" | "text" => LogFormat::Text,
                        "json" => LogFormat::Json,
                        _ => return Err(source.error(value.at, "expected standard or json")),
                    }
                }
                "pid_file" => self.pid_file = Some(source.path(value)?),
                "disable_mlock" => self.disable_mlock = source.boolean(value)?,
                "raw_storage_endpoint" => self.raw_storage_endpoint = source.boolean(value)?,
                // `ui`, the last there is.
                _ => self.ui = Some(source.boolean(value)?),
            }
        }
        Ok(())
    }

    /// Fills in the defaults and checks what must fit together.
    pub(super) fn finish(self) -> Result<Config, ConfigError> {
        let storage = self.storage.ok_or_else(|| {
            ConfigError::general(
                "no storage is configured; add storage \"rocksdb\" { path = \"...\" }",
            )
        })?;
        let Some(first) = self.listeners.first() else {
            let message = "no listener is configured; add listener \"tcp\" { address = \"127.0.0.1:8200\" ... }";
            return Err(ConfigError::general(message));
        };
        let mut addresses = HashSet::new();
        if let Some(twice) = self
            .listeners
            .iter()
            .find(|l| l.address.port() != 0 && !addresses.insert(l.address))
        {
            let message = format!(
                "two listeners have the address {}; change or remove one",
                twice.address
            );
            return Err(ConfigError::general(message));
        }
        let max_lease_ttl = self.max_lease_ttl.unwrap_or(DEFAULT_TTL);
        // A shorter maximum alone lowers the default with it.
        let default_lease_ttl = self
            .default_lease_ttl
            .unwrap_or(DEFAULT_TTL.min(max_lease_ttl));
        if default_lease_ttl > max_lease_ttl {
            let message = "`default_lease_ttl` is longer than `max_lease_ttl`; lower the one or raise the other";
            return Err(ConfigError::general(message));
        }
        Ok(Config {
            storage,
            seal: self.seal.unwrap_or(SealConfig::Shamir),
            api_addr: self.api_addr.or_else(|| url_of(first)),
            listeners: self.listeners,
            cluster_name: self.cluster_name,
            default_lease_ttl,
            max_lease_ttl,
            log_level: self.log_level.unwrap_or_else(|| DEFAULT_LOG_LEVEL.into()),
            log_format: self.log_format,
            disable_mlock: self.disable_mlock,
            pid_file: self.pid_file,
            raw_storage_endpoint: self.raw_storage_endpoint,
            ui: self.ui.unwrap_or(true),
            user_lockout: self.user_lockout,
            telemetry: self.telemetry,
        })
    }
}

/// The URL of a listener, if its address is one that a client could use.
pub(super) fn url_of(listener: &ListenerConfig) -> Option<String> {
    let usable = !listener.address.ip().is_unspecified() && listener.address.port() != 0;
    let scheme = if listener.tls.is_some() {
        "https"
    } else {
        "http"
    };
    usable.then(|| format!("{scheme}://{}", listener.address))
}

/// One file: its name and text, for errors with a place.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn storage(&self, member: &Member) -> Result<StorageConfig, ConfigError> {
        let stanza = self.only_stanza(member)?;
        match stanza.label.text.as_str() {
            "rocksdb" => {
                let mut path = None;
                self.each(
                    &stanza,
                    "storage \"rocksdb\"",
                    &keys::ROCKSDB,
                    |_, value| {
                        path = Some(self.path(value)?);
                        Ok(())
                    },
                )?;
                let missing =
                    "storage \"rocksdb\" needs `path`, the directory in which it keeps its data";
                path.map(|path| StorageConfig::RocksDb { path })
                    .ok_or_else(|| self.error(stanza.label.at, missing))
            }
            // Vault's name for it, and the plain one.
            "inmem" | "memory" => {
                self.each(&stanza, "storage in memory", &[], |_, _| Ok(()))?;
                Ok(StorageConfig::Memory)
            }
            other => {
                let message = format!(
                    "storage {} is not part of this version; use \"rocksdb\" or \"inmem\"",
                    quoted(other)
                );
                Err(self.error(stanza.label.at, message))
            }
        }
    }

    fn seal(&self, member: &Member) -> Result<SealConfig, ConfigError> {
        let stanza = self.only_stanza(member)?;
        match stanza.label.text.as_str() {
            "shamir" => {
                self.each(&stanza, "seal \"shamir\"", &[], |_, _| Ok(()))?;
                Ok(SealConfig::Shamir)
            }
            "static" => {
                let (mut current, mut previous) = ((None, None), (None, None));
                let mut disabled = false;
                self.each(
                    &stanza,
                    "seal \"static\"",
                    &keys::STATIC_SEAL,
                    |key, value| {
                        match key {
                            "current_key_id" => current.0 = Some(self.word(value)?.to_owned()),
                            "current_key" => current.1 = Some(self.key_source(value)?),
                            "previous_key_id" => previous.0 = Some(self.word(value)?.to_owned()),
                            "disabled" => disabled = self.boolean(value)?,
                            _ => previous.1 = Some(self.key_source(value)?),
                        }
                        Ok(())
                    },
                )?;
                let at = stanza.label.at;
                let (Some(id), Some(source)) = current else {
                    return Err(self.error(
                        at,
                        "seal \"static\" needs both `current_key_id` and `current_key`",
                    ));
                };
                let previous = match previous {
                    (None, None) => None,
                    (Some(other), Some(_)) if other == id => {
                        return Err(
                            self.error(at, "`previous_key_id` must differ from `current_key_id`")
                        );
                    }
                    (Some(id), Some(source)) => Some(KeyPlace { id, source }),
                    _ => {
                        return Err(
                            self.error(at, "`previous_key_id` and `previous_key` go together")
                        );
                    }
                };
                let keys = StaticKeys {
                    current: KeyPlace { id, source },
                    previous,
                };
                Ok(match disabled {
                    false => SealConfig::Static(keys),
                    true => SealConfig::Leaving(keys),
                })
            }
            other => {
                let message = format!(
                    "seal {} is not part of this version; use \"shamir\" or \"static\"",
                    quoted(other)
                );
                Err(self.error(stanza.label.at, message))
            }
        }
    }

    fn listener(&self, stanza: &Stanza<'_>) -> Result<ListenerConfig, ConfigError> {
        if stanza.label.text != "tcp" {
            let message = format!(
                "listener {} is not part of this version; use \"tcp\"",
                quoted(&stanza.label.text)
            );
            return Err(self.error(stanza.label.at, message));
        }
        let mut listener = ListenerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 8200)));
        let (mut disable, mut require_client_cert) = (false, false);
        let (mut cert_file, mut key_file, mut client_ca_file) = (None, None, None);
        let (mut only_tls12, mut only_tls13) = (false, false);
        let mut tls_keys = Vec::new();
        self.each(stanza, "a listener", &keys::LISTENER, |key, value| {
            if key.starts_with("tls_") && key != "tls_disable" {
                tls_keys.push(key.to_owned());
            }
            match key {
                "address" => listener.address = self.address(value)?,
                "tls_disable" => disable = self.boolean(value)?,
                "tls_cert_file" => cert_file = Some(self.path(value)?),
                "tls_key_file" => key_file = Some(self.path(value)?),
                "tls_client_ca_file" => client_ca_file = Some(self.path(value)?),
                "tls_require_and_verify_client_cert" => {
                    require_client_cert = self.boolean(value)?
                }
                "tls_min_version" => only_tls13 = self.is_tls13(value)?,
                "tls_max_version" => only_tls12 = !self.is_tls13(value)?,
                "max_request_size" => listener.max_request_size = Some(self.count(value)?),
                "max_request_duration" => {
                    listener.max_request_duration = Some(self.duration(value)?)
                }
                "max_json_depth" => listener.max_json_depth = Some(self.count(value)?),
                "max_json_items" => listener.max_json_items = Some(self.count(value)?),
                "max_json_string_value_length" => {
                    listener.max_json_string_value_length = Some(self.count(value)?)
                }
                "max_header_size" => listener.max_header_size = Some(self.count(value)?),
                "http_read_header_timeout" => {
                    listener.http_read_header_timeout = Some(self.duration(value)?)
                }
                "telemetry" => listener.open_metrics = self.listener_telemetry(value)?,
                "max_in_flight" => listener.max_in_flight = Some(self.count(value)?),
                "x_forwarded_for_authorized_addrs" => {
                    listener.forwarding.authorized = self.blocks(value)?
                }
                "x_forwarded_for_hop_skips" => {
                    listener.forwarding.hop_skips = self.count_or_none(value)?
                }
                "x_forwarded_for_reject_not_present" => {
                    listener.forwarding.reject_not_present = self.boolean(value)?
                }
                _ => listener.forwarding.reject_not_authorized = self.boolean(value)?,
            }
            Ok(())
        })?;
        let at = stanza.label.at;
        // serde_json stops at its own depth of 128.
        const DEEPEST: usize = 127;
        if listener.max_json_depth.is_some_and(|depth| depth > DEEPEST) {
            return Err(self.error(
                at,
                format!("`max_json_depth` may not be more than {DEEPEST}"),
            ));
        }
        listener.tls = match (cert_file, key_file) {
            _ if disable => {
                if let Some(key) = tls_keys.first() {
                    return Err(self.error(
                        at,
                        format!("`tls_disable` is true, yet `{key}` is set; remove one of the two"),
                    ));
                }
                None
            }
            (Some(cert_file), Some(key_file)) => {
                if only_tls12 && only_tls13 {
                    return Err(self.error(
                        at,
                        "`tls_min_version` is above `tls_max_version`: no version is left",
                    ));
                }
                if require_client_cert && client_ca_file.is_none() {
                    let message = "`tls_require_and_verify_client_cert` needs `tls_client_ca_file`, the authorities to verify with";
                    return Err(self.error(at, message));
                }
                Some(TlsOptions {
                    cert_file,
                    key_file,
                    client_ca_file,
                    require_client_cert,
                    only_tls13,
                    only_tls12,
                })
            }
            (Some(_), None) => {
                return Err(self.error(
                    at,
                    "`tls_cert_file` is set without `tls_key_file`; set both",
                ));
            }
            (None, Some(_)) => {
                return Err(self.error(
                    at,
                    "`tls_key_file` is set without `tls_cert_file`; set both",
                ));
            }
            (None, None) => {
                let reach = if listener.address.ip().is_loopback() {
                    "which is fine on this loopback address"
                } else {
                    "but know that this address is open to the network"
                };
                let message = format!(
                    "a listener needs TLS: set `tls_cert_file` and `tls_key_file`; to do without it, say so with \
                     `tls_disable = true`, {reach}"
                );
                return Err(self.error(at, message));
            }
        };
        Ok(listener)
    }

    fn user_lockout(&self, stanza: &Stanza<'_>) -> Result<(String, LockoutConfig), ConfigError> {
        let label = stanza.label.text.as_str();
        if label != ALL && !METHODS.contains(&label) {
            let message = format!(
                "expected user_lockout \"{ALL}\" or one of {}",
                METHODS.join(", ")
            );
            return Err(self.error(stanza.label.at, message));
        }
        let mut config = LockoutConfig::default();
        let ttl = |value: &Node| self.duration(value).map(|duration| Some(Ttl(duration)));
        self.each(stanza, "user_lockout", &keys::USER_LOCKOUT, |key, value| {
            match key {
                "lockout_threshold" => {
                    let count = u64::try_from(self.count(value)?).unwrap_or(u64::MAX);
                    config.lockout_threshold = Some(Count(count));
                }
                "lockout_duration" => config.lockout_duration = ttl(value)?,
                "lockout_counter_reset" => config.lockout_counter_reset = ttl(value)?,
                _ => config.lockout_disable = Some(Flag(self.boolean(value)?)),
            }
            Ok(())
        })?;
        Ok((label.to_owned(), config))
    }

    fn telemetry(&self, node: &Node) -> Result<Telemetry, ConfigError> {
        let mut telemetry = Telemetry::default();
        let body = self.block(node, "telemetry")?;
        self.each_of(body, "telemetry", &keys::TELEMETRY, |key, value| {
            match key {
                "prometheus_retention_time" => {
                    telemetry.prometheus = !self.duration_or_none(value)?.is_zero();
                }
                "usage_gauge_period" => {
                    telemetry.usage_gauge_period = self.duration_or_none(value)?
                }
                _ if self.boolean(value)? => {}
                _ => {
                    let message = "names of metrics never hold the name of the host here; set `disable_hostname = true` or leave it out";
                    return Err(self.error(value.at, message));
                }
            }
            Ok(())
        })?;
        Ok(telemetry)
    }

    fn listener_telemetry(&self, node: &Node) -> Result<bool, ConfigError> {
        let mut open = false;
        let (body, known) = (self.block(node, "telemetry")?, &keys::LISTENER_TELEMETRY);
        self.each_of(body, "telemetry of a listener", known, |_, value| {
            open = self.boolean(value)?;
            Ok(())
        })?;
        Ok(open)
    }

    /// The body of a block without a label.
    fn block<'n>(&self, node: &'n Node, name: &str) -> Result<&'n Object, ConfigError> {
        match &node.value {
            Value::Object(body) => Ok(body),
            other => Err(self.error(
                node.at,
                format!("expected {name} {{ ... }}, found {}", other.kind()),
            )),
        }
    }

    /// Calls `take` for each key of a stanza, once each, when it is one of `known`.
    fn each(
        &self,
        stanza: &Stanza<'_>,
        place: &str,
        known: &[&str],
        take: impl FnMut(&str, &Node) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        self.each_of(stanza.body, place, known, take)
    }

    fn each_of(
        &self,
        body: &Object,
        place: &str,
        known: &[&str],
        mut take: impl FnMut(&str, &Node) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for Member { key, labels, value } in &body.members {
            if !known.contains(&key.text.as_str()) {
                return Err(self.unknown(key, place, known));
            }
            if let Some(label) = labels.first() {
                return Err(self.error(
                    label.at,
                    format!("`{0}` is no block; write {0} = ...", key.text),
                ));
            }
            if !seen.insert(&key.text) {
                return Err(self.error(
                    key.at,
                    format!("`{}` is set twice; remove one of them", key.text),
                ));
            }
            take(&key.text, value)?;
        }
        Ok(())
    }

    fn stanzas<'m>(&self, member: &'m Member) -> Result<Vec<Stanza<'m>>, ConfigError> {
        member
            .stanzas()
            .map_err(|(at, message)| self.error(at, message))
    }

    fn only_stanza<'m>(&self, member: &'m Member) -> Result<Stanza<'m>, ConfigError> {
        let mut stanzas = self.stanzas(member)?;
        match (stanzas.pop(), stanzas.pop()) {
            (Some(only), None) => Ok(only),
            (Some(second), Some(_)) => Err(self.error(
                second.label.at,
                format!("there may be one `{}` only", member.key.text),
            )),
            _ => Err(self.error(
                member.key.at,
                format!(
                    "`{0}` is empty; write {0} \"...\" {{ ... }}",
                    member.key.text
                ),
            )),
        }
    }

    fn word<'n>(&self, node: &'n Node) -> Result<&'n str, ConfigError> {
        match &node.value {
            Value::Text(text) if text.is_empty() => {
                Err(self.error(node.at, "expected a text, found an empty one"))
            }
            Value::Text(text) => Ok(text),
            other => Err(self.error(
                node.at,
                format!("expected a string, found {}", other.kind()),
            )),
        }
    }

    fn path(&self, node: &Node) -> Result<PathBuf, ConfigError> {
        self.word(node).map(PathBuf::from)
    }

    /// `true`, `"true"`, `1` and `"1"`, as Vault takes them.
    fn boolean(&self, node: &Node) -> Result<bool, ConfigError> {
        let word = match &node.value {
            Value::Bool(b) => return Ok(*b),
            Value::Text(text) => text.to_ascii_lowercase(),
            Value::Number(number) => number.to_string(),
            other => {
                return Err(self.error(
                    node.at,
                    format!("expected true or false, found {}", other.kind()),
                ));
            }
        };
        match word.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(self.error(node.at, "expected true or false")),
        }
    }

    /// A whole number above zero, also as a text.
    fn count(&self, node: &Node) -> Result<usize, ConfigError> {
        let number = match &node.value {
            Value::Number(number) => number.as_u64(),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        number
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n > 0)
            .ok_or_else(|| {
                self.error(
                    node.at,
                    "expected a whole number above 0; to get the default, leave the key out",
                )
            })
    }

    /// A whole number, 0 among them, also as a text.
    fn count_or_none(&self, node: &Node) -> Result<usize, ConfigError> {
        match &node.value {
            Value::Number(number) if number.as_u64() == Some(0) => Ok(0),
            Value::Text(text) if text.as_str() == "0" => Ok(0),
            _ => self.count(node),
        }
    }

    /// Addresses and blocks of them, as a list or separated by commas.
    fn blocks(&self, node: &Node) -> Result<Vec<ipnet::IpNet>, ConfigError> {
        let texts: Vec<&str> = match &node.value {
            Value::List(nodes) => nodes
                .iter()
                .map(|node| self.word(node))
                .collect::<Result<_, _>>()?,
            _ => self.word(node)?.split(',').collect(),
        };
        let blocks: Option<Vec<_>> = texts.into_iter().map(cidr::parse).collect();
        blocks.filter(|blocks| !blocks.is_empty()).ok_or_else(|| {
            self.error(
                node.at,
                "expected addresses or blocks of them, such as [\"10.0.0.0/8\", \"192.0.2.7\"]",
            )
        })
    }

    /// A duration above zero.
    fn duration(&self, node: &Node) -> Result<Duration, ConfigError> {
        match self.duration_or_none(node)? {
            zero if zero.is_zero() => Err(self.error(
                node.at,
                "expected a duration above 0; to get the default, leave the key out",
            )),
            duration => Ok(duration),
        }
    }

    /// A duration, where zero means something.
    fn duration_or_none(&self, node: &Node) -> Result<Duration, ConfigError> {
        let parsed = match &node.value {
            Value::Text(text) => duration::parse(text),
            Value::Number(number) => duration::parse(&number.to_string()),
            other => {
                return Err(self.error(
                    node.at,
                    format!(
                        "expected a duration such as \"768h\", found {}",
                        other.kind()
                    ),
                ));
            }
        };
        parsed.map_err(|e| self.error(node.at, e.to_string()))
    }

    fn address(&self, node: &Node) -> Result<SocketAddr, ConfigError> {
        let text = self.word(node)?;
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric.parse().map_err(|_| {
            let mend = "expected an IP address and a port such as \"127.0.0.1:8200\", \"[::1]:8200\" or, for every \
                        interface, \"0.0.0.0:8200\"";
            self.error(node.at, mend)
        })
    }

    fn url(&self, node: &Node) -> Result<String, ConfigError> {
        let text = self.word(node)?;
        let host = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        match host.map(|host| host.strip_suffix('/').unwrap_or(host)) {
            Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => {
                Ok(text.strip_suffix('/').unwrap_or(text).to_owned())
            }
            _ => Err(self.error(
                node.at,
                "expected the URL that clients use, such as \"https://obol.example.com:8200\"",
            )),
        }
    }

    fn is_tls13(&self, node: &Node) -> Result<bool, ConfigError> {
        match self.word(node)? {
            "tls12" => Ok(false),
            "tls13" => Ok(true),
            "tls10" | "tls11" => Err(self.error(
                node.at,
                "TLS 1.0 and 1.1 are broken and not offered; use tls12 or tls13",
            )),
            _ => Err(self.error(node.at, "expected tls12 or tls13")),
        }
    }

    /// Where a seal key is. One that stands in the file itself is refused, and not shown.
    fn key_source(&self, node: &Node) -> Result<String, ConfigError> {
        let text = self.word(node)?;
        let named = text
            .strip_prefix("file://")
            .or_else(|| text.strip_prefix("env://"));
        match named {
            Some(name) if !name.is_empty() => Ok(text.to_owned()),
            _ => Err(self.error(
                node.at,
                "expected file:///path/to/key or env://VARIABLE: a key written here would rest beside what it protects",
            )),
        }
    }

    fn unknown(&self, key: &Name, place: &str, known: &[&str]) -> ConfigError {
        let name = quoted(&key.text);
        if keys::NOT_YET.contains(&key.text.as_str()) {
            return self.error(
                key.at,
                format!("{name} is not part of this version; remove it"),
            );
        }
        if keys::LISTENER.contains(&key.text.as_str()) {
            return self.error(
                key.at,
                format!("{name} belongs inside listener \"tcp\" {{ ... }}"),
            );
        }
        if keys::TOP.contains(&key.text.as_str()) {
            return self.error(
                key.at,
                format!("{name} belongs at the top of the file, outside any block"),
            );
        }
        let hint = match suggest(&key.text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "it takes none".into(),
            None => format!("known here: {}", known.join(", ")),
        };
        self.error(key.at, format!("unknown key {name} in {place}; {hint}"))
    }

    fn error(&self, at: usize, message: impl Into<String>) -> ConfigError {
        self.place(hcl::Error::at(self.text, at, message))
    }

    fn place(&self, error: hcl::Error) -> ConfigError {
        ConfigError {
            file: Some(self.file.to_owned()),
            place: Some((error.line, error.column)),
            message: error.message,
        }
    }
}
