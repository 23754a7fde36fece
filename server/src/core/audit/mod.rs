//! Audit: who asked for what and what came of it, one JSON line each, in which every string value is an HMAC.
//!
//! Fails closed: when devices are enabled and none of them can record an entry, the request is refused
//! (threats: `audit-full`).

mod device;
mod file;
pub mod headers;
mod options;
mod record;
mod socket;
mod syslog;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use obol_mount::{Error, Result};
use obol_storage::View;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::setting::Setting;
use device::Sink;
use headers::AuditedHeaders;
use options::Style;
pub use record::{Hasher, Record, Subject};

const TABLE: &str = "audit";
const HEADERS: &str = "audited-headers";

/// A device as it is stored and listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceEntry {
    /// With trailing slash.
    pub path: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub description: String,
    pub options: BTreeMap<String, String>,
    pub local: bool,
    key: HmacKey,
}

/// A device's own HMAC key: entries of two devices cannot be matched with each other.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct HmacKey(Vec<u8>);

impl std::fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Table {
    devices: Vec<DeviceEntry>,
}

struct Device {
    entry: DeviceEntry,
    hasher: Hasher,
    sink: Sink,
    style: Style,
}

/// All audit devices of an unsealed server.
pub struct Audit {
    storage: View,
    devices: ArcSwap<Vec<Arc<Device>>>,
    /// The headers of requests that are recorded.
    pub headers: Setting<AuditedHeaders>,
    changing: tokio::sync::Mutex<()>,
}

impl Audit {
    /// Opens the devices of the table. One that does not open is an error for the operator's log and stays out;
    /// when all fail, every request is refused until one is mended, since entries would be lost.
    pub async fn open(storage: View) -> Result<Self> {
        let table: Table = storage.get_json(TABLE).await?.unwrap_or_default();
        let mut devices = Vec::new();
        for entry in table.devices {
            let path = entry.path.clone();
            match Device::open(entry.clone()) {
                Ok(device) => devices.push(Arc::new(device)),
                Err(error) => {
                    tracing::error!(%path, %error, "an audit device could not be opened");
                    devices.push(Arc::new(Device::broken(entry, error.to_string())));
                }
            }
        }
        Ok(Self {
            headers: Setting::open(storage.clone(), HEADERS).await?,
            storage,
            devices: ArcSwap::from_pointee(devices),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// Whether anything is recorded at all: without devices a request costs nothing here.
    pub fn is_enabled(&self) -> bool {
        !self.devices.load().is_empty()
    }

    /// Records on every device; fine when at least one has it.
    pub async fn record(&self, record: &Record<'_>) -> Result<()> {
        let devices = self.devices.load_full();
        let mut last_error = None;
        let mut recorded = false;
        for device in devices.iter() {
            let line = record.line(&device.hasher, &device.style)?;
            match device.sink.write(line).await {
                Ok(()) => recorded = true,
                Err(error) => {
                    tracing::error!(path = %device.entry.path, %error, "an audit device failed");
                    last_error = Some(error);
                }
            }
        }
        match last_error {
            Some(error) if !recorded => Err(Error::new_internal(
                "the request could not be audited and was refused",
                format!("no audit device works: {error}"),
            )),
            _ => Ok(()),
        }
    }

    pub fn list(&self) -> Vec<DeviceEntry> {
        self.devices
            .load()
            .iter()
            .map(|d| d.entry.clone())
            .collect()
    }

    /// What a device would write for `input`: to search its log for a known value.
    pub fn hash(&self, path: &str, input: &str) -> Option<String> {
        let devices = self.devices.load();
        devices
            .iter()
            .find(|d| d.entry.path == path)
            .map(|d| d.hasher.hash(input))
    }

    /// Adds a device: opened and proven writable before it is stored. Says whether it writes values in the clear.
    pub async fn enable(
        &self,
        path: String,
        kind: String,
        description: String,
        options: BTreeMap<String, String>,
        local: bool,
    ) -> Result<bool> {
        let _changing = self.changing.lock().await;
        let mut key = vec![0; 32];
        SystemRandom::new()
            .fill(&mut key)
            .map_err(|_| Error::internal("no randomness"))?;
        let entry = DeviceEntry {
            path,
            kind,
            description,
            options,
            local,
            key: HmacKey(key),
        };
        if self
            .devices
            .load()
            .iter()
            .any(|d| d.entry.path == entry.path)
        {
            return Err(Error::bad_request(format!(
                "path already in use: {}",
                entry.path
            )));
        }
        let device = Arc::new(Device::open(entry.clone())?);
        device.sink.probe().await.map_err(|error| {
            Error::bad_request(format!("the audit device cannot be written: {error}"))
        })?;
        self.change(|table| table.devices.push(entry.clone()))
            .await?;
        let raw = device.style.raw;
        let mut devices = self.devices.load().to_vec();
        devices.push(device);
        self.devices.store(Arc::new(devices));
        Ok(raw)
    }

    /// Removes a device. One that is not there is no error, as in Vault.
    pub async fn disable(&self, path: &str) -> Result<()> {
        let _changing = self.changing.lock().await;
        self.change(|table| table.devices.retain(|d| d.path != path))
            .await?;
        let devices = self
            .devices
            .load()
            .iter()
            .filter(|d| d.entry.path != path)
            .cloned()
            .collect();
        self.devices.store(Arc::new(devices));
        Ok(())
    }

    /// Opens files anew, after they were rotated away.
    pub fn reopen(&self) {
        for device in self.devices.load().iter() {
            device.sink.reopen();
        }
    }

    async fn change(&self, change: impl Fn(&mut Table)) -> Result<()> {
        self.storage
            .update_json(TABLE, |table: Option<Table>| {
                let mut table = table.unwrap_or_default();
                change(&mut table);
                Ok::<_, Error>(table)
            })
            .await
            .map(drop)
    }
}

impl Device {
    fn open(entry: DeviceEntry) -> Result<Self> {
        let style = Style::read(&entry.options)?;
        let sink = Sink::open(&entry.kind, &entry.options)?;
        Ok(Self::with(entry, sink, style))
    }

    /// A device that does not open. It writes nothing, so its style is the strictest.
    fn broken(entry: DeviceEntry, why: String) -> Self {
        let style = Style {
            prefix: String::new(),
            hmac_accessor: true,
            raw: false,
            elide_lists: true,
        };
        Self::with(entry, Sink::broken(why), style)
    }

    fn with(entry: DeviceEntry, sink: Sink, style: Style) -> Self {
        Self {
            hasher: Hasher::new(&entry.key.0),
            sink,
            style,
            entry,
        }
    }
}
