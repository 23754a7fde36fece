//! The configuration file: HCL or JSON with Vault's stanzas, read into one value per subsystem.
//!
//! Only what has an effect is accepted. An unknown key is refused with file, line, column and, for a near miss, the
//! key that was probably meant; a key that Vault has and this version has not is called so. A [`Config`] that exists
//! is valid: there is nothing to check later. `docker/obol.hcl` shows every key with its default.

mod read;
mod sanitized;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use obol_storage::seal::{StaticKey, StaticKeyError, StaticSeal};
use zeroize::Zeroizing;

use crate::core::lockout::LockoutStanzas;
use crate::core::metrics::Telemetry;
use crate::http::{Forwarding, Limits, Options, TlsOptions};

pub use read::keys;

/// The longest configuration file in bytes.
const MAX_FILE: u64 = 1 << 20;

/// All that a server is told when it starts.
#[derive(Debug, Clone)]
pub struct Config {
    pub storage: StorageConfig,
    pub seal: SealConfig,
    /// Each `listener "tcp"` stanza; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// The URL that clients are told to use. By default the first listener's, when that is one a client could use,
    /// as 0.0.0.0 is not.
    pub api_addr: Option<String>,
    /// The name of the installation in its status.
    pub cluster_name: Option<String>,
    /// How long tokens and leases live when nothing else is said (768h).
    pub default_lease_ttl: Duration,
    /// How long they live at most (768h).
    pub max_lease_ttl: Duration,
    /// `trace`, `debug`, `info` (default), `warn`, `error` or `off`.
    pub log_level: String,
    pub log_format: LogFormat,
    /// Leaves memory swappable (false).
    pub disable_mlock: bool,
    /// Where the server writes its process id while it runs (nowhere).
    pub pid_file: Option<PathBuf>,
    /// The pages for people, `/ui/login` (true).
    pub ui: bool,
    /// The `telemetry` stanza.
    pub telemetry: Telemetry,
    /// Shows what is stored below `sys/raw` to who may use sudo there (false).
    pub raw_storage_endpoint: bool,
    /// The `user_lockout` stanzas, by their labels.
    pub user_lockout: LockoutStanzas,
}

/// `storage "rocksdb" { path = ... }` or `storage "inmem" {}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageConfig {
    RocksDb {
        path: PathBuf,
    },
    /// Everything is lost when the server stops.
    Memory,
}

/// `seal "shamir" {}` (default) or `seal "static" { ... }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealConfig {
    /// The root key is split into shares that people enter at each start.
    Shamir,
    /// The server unseals itself with a key that it is given.
    Static(StaticKeys),
    /// A static key with `disabled = true`: shares take its place when `operator unseal -migrate` is given them.
    Leaving(StaticKeys),
}

/// The keys of a static seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticKeys {
    pub current: KeyPlace,
    /// What an earlier configuration had as current, while the change is under way.
    pub previous: Option<KeyPlace>,
}

/// A named key and where it is: `env://NAME` or `file://PATH`. Never the key itself.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPlace {
    pub id: String,
    pub source: String,
}

impl StaticKeys {
    /// Fetches the keys from their places.
    pub fn read(&self) -> Result<StaticSeal, StaticKeyError> {
        let read = |place: &KeyPlace| StaticKey::read(place.id.clone(), &place.source);
        Ok(StaticSeal {
            current: read(&self.current)?,
            previous: self.previous.as_ref().map(read).transpose()?,
        })
    }
}

/// The place of a key is shown to nobody who does not have the file.
impl fmt::Debug for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPlace({:?}, redacted)", self.id)
    }
}

/// One listener. A limit that is `None` keeps its default, see [`Limits`].
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// Default 127.0.0.1:8200.
    pub address: SocketAddr,
    /// `None` after `tls_disable = true`.
    pub tls: Option<TlsOptions>,
    pub max_request_size: Option<usize>,
    pub max_request_duration: Option<Duration>,
    pub max_json_depth: Option<usize>,
    pub max_json_items: Option<usize>,
    pub max_json_string_value_length: Option<usize>,
    pub max_header_size: Option<usize>,
    pub http_read_header_timeout: Option<Duration>,
    pub max_in_flight: Option<usize>,
    /// `telemetry { unauthenticated_metrics_access }` (false).
    pub open_metrics: bool,
    /// The `x_forwarded_for_...` keys.
    pub forwarding: Forwarding,
}

impl ListenerConfig {
    /// A listener on an address, everything else at its default.
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            max_request_size: None,
            max_request_duration: None,
            max_json_depth: None,
            max_json_items: None,
            max_json_string_value_length: None,
            max_header_size: None,
            http_read_header_timeout: None,
            max_in_flight: None,
            open_metrics: false,
            forwarding: Forwarding::default(),
        }
    }

    /// What the HTTP side is given: the limits that were configured over those that are not.
    pub fn http_options(&self, defaults: Limits) -> Options {
        let limits = Limits {
            max_request_size: self.max_request_size.unwrap_or(defaults.max_request_size),
            max_json_depth: self.max_json_depth.unwrap_or(defaults.max_json_depth),
            max_json_items: self.max_json_items.unwrap_or(defaults.max_json_items),
            max_json_string: self
                .max_json_string_value_length
                .unwrap_or(defaults.max_json_string),
            max_header_size: self.max_header_size.unwrap_or(defaults.max_header_size),
            header_timeout: self
                .http_read_header_timeout
                .unwrap_or(defaults.header_timeout),
            request_timeout: self
                .max_request_duration
                .unwrap_or(defaults.request_timeout),
            max_in_flight: self.max_in_flight.unwrap_or(defaults.max_in_flight),
        };
        Options {
            address: self.address,
            tls: self.tls.clone(),
            limits,
            open_metrics: self.open_metrics,
            forwarding: self.forwarding.clone(),
        }
    }
}

/// `log_format`: text for people, called `standard` as in Vault, or `json`, one object a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What is wrong with a configuration: where, why, and how to mend it. Shows keys and never a value that could be a
/// secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub file: Option<PathBuf>,
    /// Line and column, from 1.
    pub place: Option<(usize, usize)>,
    pub message: String,
}

impl Config {
    /// Reads files and directories (of which all `*.hcl` and `*.json`, in alphabetical order) into one
    /// configuration, as Vault does: listeners add up, of everything else the last one counts.
    pub fn load<P: AsRef<Path>>(paths: &[P]) -> Result<Self, ConfigError> {
        let mut texts = Vec::new();
        for path in paths {
            let path = path.as_ref();
            if path.is_dir() {
                let files = files_of(path)?;
                if files.is_empty() {
                    return Err(ConfigError::of(
                        path,
                        "the directory holds no *.hcl and no *.json file",
                    ));
                }
                for file in files {
                    texts.push((file.clone(), read_file(&file)?));
                }
            } else {
                texts.push((path.to_owned(), read_file(path)?));
            }
        }
        Self::parse(&texts)
    }

    /// Reads texts, each with the file name that errors show.
    pub fn parse<P: AsRef<Path>, T: AsRef<str>>(files: &[(P, T)]) -> Result<Self, ConfigError> {
        let mut draft = read::Draft::default();
        for (file, text) in files {
            draft.add(file.as_ref(), text.as_ref())?;
        }
        draft.finish()
    }

    /// A development server: in memory, without TLS, on one address.
    pub fn for_dev(address: SocketAddr) -> Self {
        let listener = ListenerConfig::new(address);
        Self {
            storage: StorageConfig::Memory,
            seal: SealConfig::Shamir,
            api_addr: read::url_of(&listener),
            listeners: vec![listener],
            cluster_name: None,
            default_lease_ttl: read::DEFAULT_TTL,
            max_lease_ttl: read::DEFAULT_TTL,
            log_level: read::DEFAULT_LOG_LEVEL.into(),
            log_format: LogFormat::Text,
            disable_mlock: true,
            pid_file: None,
            ui: true,
            telemetry: Telemetry::default(),
            raw_storage_endpoint: false,
            user_lockout: LockoutStanzas::new(),
        }
    }

    /// What is allowed and still worth a line in the log at each start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for listener in &self.listeners {
            if listener.tls.is_none() && !listener.address.ip().is_loopback() {
                warnings.push(format!(
                    "the listener on {} speaks without TLS: tokens and secrets cross the network in the clear",
                    listener.address
                ));
            }
        }
        if self.storage == StorageConfig::Memory {
            warnings.push("storage is in memory: everything is lost when the server stops".into());
        }
        if self.disable_mlock {
            warnings.push("disable_mlock is set: secrets in memory may be swapped to disk".into());
        }
        warnings
    }
}

fn files_of(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let entries = std::fs::read_dir(directory)
        .map_err(|e| ConfigError::of(directory, format!("cannot be read: {e}")))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|e| ConfigError::of(directory, format!("cannot be read: {e}")))?
            .path();
        let named = path
            .extension()
            .is_some_and(|ext| ext == "hcl" || ext == "json");
        // What an editor leaves beside a file it has open.
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if named && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(file: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let size = std::fs::metadata(file)
        .map_err(|e| ConfigError::of(file, format!("cannot be read: {e}")))?
        .len();
    if size > MAX_FILE {
        return Err(ConfigError::of(
            file,
            format!("is larger than {MAX_FILE} bytes: is it a configuration file?"),
        ));
    }
    std::fs::read_to_string(file)
        .map(Zeroizing::new)
        .map_err(|e| ConfigError::of(file, format!("cannot be read: {e}")))
}

impl ConfigError {
    fn of(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: Some(file.to_owned()),
            place: None,
            message: message.into(),
        }
    }

    fn general(message: impl Into<String>) -> Self {
        Self {
            file: None,
            place: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}
