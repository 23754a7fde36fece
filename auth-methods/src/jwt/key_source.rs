//! Where keys come from: written into the configuration, or asked of the issuer and kept for a while.
//!
//! A JWT that names a key nobody knows makes the issuer be asked again, since it may have new ones. Anybody can send
//! such a JWT, so that happens at most once in [`PAUSE`], and once for all who wait. While the issuer does not answer,
//! the keys that it gave last are good for [`LONGEST`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::issuer::Issuer;
use super::keys::{Checked, Key};

pub(super) enum KeySource {
    Written(Vec<Key>),
    Asked(Asked),
}

/// Why there are no keys for a JWT. For the operator.
#[derive(Debug)]
pub(super) struct Unavailable(pub(super) String);

pub(super) struct Asked {
    issuer: Issuer,
    state: Arc<Mutex<State>>,
    /// Held by whoever asks, so that one does.
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    keys: Option<Kept>,
    tried: Option<Instant>,
    /// What went wrong at the last try.
    fault: Option<String>,
}

#[derive(Clone)]
struct Kept {
    keys: Arc<Vec<Key>>,
    since: Instant,
}

impl KeySource {
    pub(super) fn asked(issuer: Issuer) -> Self {
        Self::Asked(Asked {
            issuer,
            state: Arc::default(),
            asking: Arc::default(),
        })
    }

    /// The keys that may have signed this JWT; others as well, if none may have.
    pub(super) async fn keys_for(&self, jwt: &Checked<'_>) -> Result<Arc<Vec<Key>>, Unavailable> {
        match self {
            Self::Written(keys) => Ok(Arc::new(keys.clone())),
            Self::Asked(asked) => asked.keys_for(jwt).await,
        }
    }
}

impl Asked {
    async fn keys_for(&self, jwt: &Checked<'_>) -> Result<Arc<Vec<Key>>, Unavailable> {
        if let Some(keys) = self.known(jwt) {
            return keys;
        }
        let asking = self.asking.clone().lock_owned().await;
        // Somebody else may have asked meanwhile.
        if let Some(keys) = self.known(jwt) {
            return keys;
        }
        lock(&self.state).tried = Some(Instant::now());
        let (issuer, state) = (self.issuer.clone(), self.state.clone());
        // A task of its own: a client that hangs up must not make the next one ask again at once.
        let asked = tokio::spawn(async move {
            let _asking = asking;
            let answer = issuer.keys().await;
            lock(&state).take(answer)
        });
        asked
            .await
            .map_err(|error| Unavailable(error.to_string()))?
    }

    /// The answer without asking, if there is one: the keys are fresh and one of them may be the right one, or it is
    /// too early to ask again.
    fn known(&self, jwt: &Checked<'_>) -> Option<Result<Arc<Vec<Key>>, Unavailable>> {
        let state = lock(&self.state);
        if let Some(kept) = &state.keys
            && kept.since.elapsed() < FRESH
            && jwt.is_by_one_of(&kept.keys)
        {
            return Some(Ok(kept.keys.clone()));
        }
        if state.tried.is_none_or(|tried| tried.elapsed() >= PAUSE) {
            return None;
        }
        match (state.last_keys(), &state.fault) {
            (Some(keys), _) => Some(Ok(keys)),
            (None, Some(fault)) => Some(Err(Unavailable(fault.clone()))),
            // Being asked for the first time.
            (None, None) => None,
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Each critical section leaves the state whole, even if it should panic.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// What the issuer said, or else the last keys that it gave.
    fn take(&mut self, answer: Result<Vec<Key>, String>) -> Result<Arc<Vec<Key>>, Unavailable> {
        match answer {
            Ok(keys) => {
                let keys = Arc::new(keys);
                self.fault = None;
                self.keys = Some(Kept {
                    keys: keys.clone(),
                    since: Instant::now(),
                });
                Ok(keys)
            }
            Err(fault) => {
                warn!(fault, "an issuer of JWTs does not give its keys");
                self.fault = Some(fault.clone());
                self.last_keys().ok_or(Unavailable(fault))
            }
        }
    }

    fn last_keys(&self) -> Option<Arc<Vec<Key>>> {
        let kept = self.keys.as_ref()?;
        (kept.since.elapsed() < LONGEST).then(|| kept.keys.clone())
    }
}

/// For so long nobody asks whether the issuer has withdrawn a key.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// Between two questions.
const PAUSE: Duration = Duration::from_secs(5);
/// For so long the last keys count while the issuer does not answer.
const LONGEST: Duration = Duration::from_secs(60 * 60);
