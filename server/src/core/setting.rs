//! A record of configuration that requests look at: in memory to be looked at, in storage to be kept.

use std::sync::Arc;

use arc_swap::ArcSwap;
use obol_mount::{Error, Result};
use obol_storage::View;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads cost nothing. A change is written with a precondition; one that another process made shows after the next
/// [`Setting::refresh`], which upkeep calls every few seconds.
pub struct Setting<T> {
    storage: View,
    path: &'static str,
    current: ArcSwap<T>,
    changing: tokio::sync::Mutex<()>,
}

impl<T: Default + Serialize + DeserializeOwned + Clone> Setting<T> {
    pub async fn open(storage: View, path: &'static str) -> Result<Self> {
        let current = storage.get_json::<T>(path).await?.unwrap_or_default();
        Ok(Self {
            storage,
            path,
            current: ArcSwap::from_pointee(current),
            changing: tokio::sync::Mutex::default(),
        })
    }

    pub fn get(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Changes the record; an error of `change` changes nothing.
    pub async fn change(&self, change: impl Fn(&mut T) -> Result<()>) -> Result<()> {
        let _changing = self.changing.lock().await;
        let changed = self
            .storage
            .update_json(self.path, |record: Option<T>| {
                let mut record = record.unwrap_or_default();
                change(&mut record)?;
                Ok::<_, Error>(record)
            })
            .await?;
        self.current.store(Arc::new(changed));
        Ok(())
    }

    /// Reads the record again.
    pub async fn refresh(&self) -> Result<()> {
        let _changing = self.changing.lock().await;
        let stored = self.storage.get_json::<T>(self.path).await?;
        self.current.store(Arc::new(stored.unwrap_or_default()));
        Ok(())
    }
}
