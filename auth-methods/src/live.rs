//! What logins use, built from a mount's records at the first login after an unseal or a write, once,
//! and then shared. Every login compares one small record ([`Store::generation`]) with the one that
//! this was built from, so a write counts from the next login on, on every server; a part whose record
//! has not changed is kept, so that mapping a group does not close the connections to the directory.

use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use obol_mount::{Error, Result};
use obol_storage::Seen;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::store::{self, ATTEMPTS, Store};

/// What can be built from the records.
pub(crate) trait Built: Sized + Send + Sync {
    /// `old` is what was built before, for the parts of it that are still right.
    fn build(store: &Store, old: Option<&Self>) -> impl Future<Output = Result<Self>> + Send;
}

/// The present configuration, as logins use it.
pub(crate) struct Live<S> {
    current: ArcSwapOption<At<S>>,
    /// Held by whoever builds, so that one does.
    building: Mutex<()>,
}

/// The configuration at one generation.
struct At<S> {
    generation: Option<Seen>,
    built: Arc<S>,
}

/// A part of the configuration, and the record that it was built from.
pub(crate) type Part<T> = (Seen, Arc<T>);

impl<S: Built> Live<S> {
    /// What is stored now, built.
    pub(crate) async fn snapshot(&self, store: &Store) -> Result<Arc<S>> {
        if let Some(current) = self.current_at(&store.generation().await?) {
            return Ok(current);
        }
        let _building = self.building.lock().await;
        for _ in 0..ATTEMPTS {
            let generation = store.generation().await?;
            if let Some(current) = self.current_at(&generation) {
                return Ok(current);
            }
            let old = self.current.load_full();
            let built = S::build(store, old.as_ref().map(|old| &*old.built)).await?;
            // The parts were read one after the other: they belong together if nothing was written meanwhile.
            if store.generation().await? == generation {
                let built = Arc::new(built);
                self.current.store(Some(Arc::new(At {
                    generation,
                    built: built.clone(),
                })));
                return Ok(built);
            }
        }
        Err(store::too_busy())
    }

    /// What was built last, which may be about to be built anew.
    pub(crate) fn last(&self) -> Option<Arc<S>> {
        Some(self.current.load().as_ref()?.built.clone())
    }

    fn current_at(&self, generation: &Option<Seen>) -> Option<Arc<S>> {
        let current = self.current.load();
        let current = current.as_ref()?;
        (current.generation == *generation).then(|| current.built.clone())
    }
}

impl<S> Default for Live<S> {
    fn default() -> Self {
        Self {
            current: ArcSwapOption::default(),
            building: Mutex::default(),
        }
    }
}

/// A part, built from its record unless that is still the one it was built from.
pub(crate) async fn part<R: DeserializeOwned, T>(
    store: &Store,
    path: &str,
    old: Option<&Part<T>>,
    build: impl FnOnce(R) -> Result<T>,
) -> Result<Option<Part<T>>> {
    let Some(entry) = store.view().get(path).await? else {
        return Ok(None);
    };
    if let Some((_, built)) = old.filter(|(seen, _)| *seen == entry.seen) {
        return Ok(Some((entry.seen, built.clone())));
    }
    let record: R = store.view().parse(path, &entry)?;
    // It was checked when it was written, so a failure now is this server's, not the client's.
    let built = build(record)
        .map_err(|error| Error::internal(format!("the stored {path} cannot be used: {error}")))?;
    Ok(Some((entry.seen, Arc::new(built))))
}
