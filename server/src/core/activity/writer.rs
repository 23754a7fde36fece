//! From the queue to storage, and out of it again when a month's time is over.

use std::collections::BTreeMap;
use std::time::Duration;

use obol_mount::Result;
use obol_storage::Error as StorageError;

use super::{ATTEMPTS, Activity, CHUNK, MOST_WAITING, Month, Sighting, busy, short};
use crate::core::unix_now;

impl Activity {
    /// Writes out who is new, again and again.
    pub async fn write_for_ever(&self) {
        loop {
            // The clock may have been set back over the beginning of a month.
            self.restamp(unix_now());
            if let Err(error) = self.flush().await {
                tracing::warn!(%error, "new clients could not be written; it is tried again");
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// The last turn, when the server is sealed or stops. A disk that hangs must not keep the keys in memory, so it has
    /// its time.
    pub async fn finish(&self) {
        match tokio::time::timeout(LAST_TURN, self.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the newest clients could not be written and are not counted");
            }
            Err(_) => {
                tracing::error!("storage took too long: the newest clients are not counted");
            }
        }
    }

    /// Writes out all who are new. Whoever drops this on its way loses nothing: what is not written stays.
    pub async fn flush(&self) -> Result<()> {
        let mut pending = self.writing.lock().await;
        loop {
            if pending.len() < MOST_WAITING {
                pending.append(&mut self.waiting());
            }
            if pending.is_empty() {
                return Ok(());
            }
            let chunk = pending.len().min(CHUNK);
            let mut attempts = 0;
            while !self.write(&pending[..chunk]).await? {
                attempts += 1;
                if attempts == ATTEMPTS {
                    return Err(busy());
                }
            }
            pending.drain(..chunk);
        }
    }

    /// Writes those whom storage does not have yet, in one commit. `false`: another server was faster with one of
    /// them, or the configuration has changed; begin again.
    async fn write(&self, sightings: &[Sighting]) -> Result<bool> {
        // Also a precondition: once counting is switched off, nothing is written any more.
        let (config, mut batch) = self.stored_config().await?;
        if !config.is_enabled() {
            return Ok(true);
        }
        let mut new = BTreeMap::new();
        for sighting in sightings {
            if sighting.generation == short(config.generation) {
                let path = format!("{}{}", sighting.month.folder(), sighting.id.name());
                new.entry(path).or_insert(&sighting.client);
            }
        }
        let mut any = false;
        for (path, client) in new {
            if self.storage.get(&path).await?.is_some() {
                continue;
            }
            self.storage.expect_absent_in(&mut batch, &path);
            self.storage.put_json_in(&mut batch, &path, client)?;
            any = true;
        }
        if !any {
            return Ok(true);
        }
        match self.storage.commit(batch).await {
            Ok(()) => Ok(true),
            Err(StorageError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Drops the months whose time is over.
    pub async fn tidy(&self, now: u64) -> Result<()> {
        let (config, mut batch) = self.stored_config().await?;
        let oldest = config.oldest(now);
        let over: Vec<Month> = (self.months().await?.into_iter())
            .filter(|month| {
                *month < oldest || (!config.is_enabled() && config.retention_months == 0)
            })
            .collect();
        if over.is_empty() {
            return Ok(());
        }
        for month in &over {
            self.storage.delete_prefix_in(&mut batch, &month.folder());
        }
        match self.storage.commit(batch).await {
            // The configuration has just changed: at the next turn.
            Err(StorageError::Conflict { .. }) => Ok(()),
            Ok(()) => {
                tracing::info!(
                    months = over.len(),
                    "clients of months that are over were dropped"
                );
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The months that have clients, in order.
    pub async fn months(&self) -> Result<Vec<Month>> {
        // As many as are kept, and a few that are still to be dropped.
        let names = self.storage.list("", None, MOST_MONTHS).await?;
        Ok(names
            .iter()
            .filter_map(|name| Month::of_folder(name))
            .collect())
    }
}

/// How much a crash may lose.
const TICK: Duration = Duration::from_secs(1);
const LAST_TURN: Duration = Duration::from_secs(5);
const MOST_MONTHS: usize = 1000;
