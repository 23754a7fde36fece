//! `config/keys` and `cache-config`: settings of the whole mount.

use obol_mount::fields::{Count, Flag};
use obol_mount::{Cx, Data, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Transit;
use super::live::{DEFAULT_KEYS, MAX_KEYS};

/// As stored.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Settings {
    #[serde(default)]
    pub(super) disable_upsert: bool,
    #[serde(default)]
    pub(super) cache_size: u64,
}

/// How keys come to be.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteKeysConfig {
    /// Whether `encrypt` with a key that does not exist is refused, also where the policy allows to create it.
    disable_upsert: Option<Flag>,
}

/// How keys come to be.
#[derive(Serialize, JsonSchema)]
pub(super) struct KeysConfig {
    /// Whether `encrypt` with a key that does not exist is refused, also where the policy allows to create it.
    disable_upsert: bool,
}

/// How many keys stay opened in memory.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteCacheConfig {
    /// How many keys each server keeps opened: 10 to 1048576; 0 is the default, 4096. Vault's 0 is without a limit.
    size: Option<Count>,
}

/// How many keys stay opened in memory.
#[derive(Serialize, JsonSchema)]
pub(super) struct CacheConfig {
    /// How many keys each server keeps opened; 0 is the default, 4096.
    size: u64,
}

pub(super) async fn read_keys(cx: Cx<Transit>) -> Result<Data<KeysConfig>> {
    let settings = cx.settings().await?;
    Ok(Data(KeysConfig {
        disable_upsert: settings.disable_upsert,
    }))
}

pub(super) async fn write_keys(
    cx: Cx<Transit>,
    input: WriteKeysConfig,
) -> Result<Data<KeysConfig>> {
    let settings = cx
        .update_settings(|settings| {
            if let Some(Flag(disable)) = input.disable_upsert {
                settings.disable_upsert = disable;
            }
        })
        .await?;
    Ok(Data(KeysConfig {
        disable_upsert: settings.disable_upsert,
    }))
}

pub(super) async fn read_cache(cx: Cx<Transit>) -> Result<Data<CacheConfig>> {
    let settings = cx.settings().await?;
    Ok(Data(CacheConfig {
        size: settings.cache_size,
    }))
}

pub(super) async fn write_cache(
    cx: Cx<Transit>,
    input: WriteCacheConfig,
) -> Result<Data<CacheConfig>> {
    let size = input.size.unwrap_or_default().0;
    if size != 0 && !(MIN_CACHE..=MAX_KEYS as u64).contains(&size) {
        return Err(Error::bad_request(format!(
            "size must be 0 (the default, {DEFAULT_KEYS}) or a value from {MIN_CACHE} to {MAX_KEYS}"
        )));
    }
    cx.update_settings(|settings| settings.cache_size = size)
        .await?;
    cx.live.resize(size);
    Ok(Data(CacheConfig { size }))
}

impl Transit {
    /// A point read, not a cache: another server may have written them.
    pub(super) async fn settings(&self) -> Result<Settings> {
        Ok(self.storage.get_json(SETTINGS).await?.unwrap_or_default())
    }

    async fn update_settings(&self, change: impl Fn(&mut Settings)) -> Result<Settings> {
        self.storage
            .update_json(SETTINGS, |settings: Option<Settings>| {
                let mut settings = settings.unwrap_or_default();
                change(&mut settings);
                Ok::<_, Error>(settings)
            })
            .await
    }
}

const SETTINGS: &str = "config";
/// Vault's smallest.
const MIN_CACHE: u64 = 10;
