//! Attempts to log in with a secret that can be guessed: the core counts those that fail, for each name, and refuses a
//! name for a while that failed too often.
//!
//! A method puts its check between [`Attempts::begin`] and [`Attempt::passed`] or [`Attempt::failed`]. Of a name that
//! is locked ([`Attempt::is_locked`]) it must not look at the secret; it answers what it answers for a wrong one and,
//! where the check takes time that a client could measure, spends the same. So nobody can tell locked from wrong.

use std::sync::Arc;

use async_trait::async_trait;
use obol_storage::Batch;

use crate::{Error, RequestInfo, Result};

/// One mount's way to the count. Part of [`crate::MountContext`].
#[derive(Clone, Default)]
pub struct Attempts(Option<Arc<dyn AttemptCounter>>);

impl Attempts {
    pub fn new(counter: Arc<dyn AttemptCounter>) -> Self {
        Self(Some(counter))
    }

    /// Nothing is counted and nobody is locked: for methods whose proofs cannot be guessed.
    pub fn uncounted() -> Self {
        Self(None)
    }

    /// Before the secret is looked at. `name` is the name as the method identifies it, folded as it folds: the
    /// spellings of one name must be one name here (threats: `alias-case`).
    pub async fn begin(&self, request: &RequestInfo, name: &str) -> Result<Attempt> {
        let now = request.now_unix();
        let standing = match &self.0 {
            Some(counter) => counter.look(name, now).await?,
            None => Standing::default(),
        };
        Ok(Attempt {
            counter: self.0.clone(),
            name: name.to_owned(),
            now,
            standing,
        })
    }
}

/// One attempt under way.
#[must_use = "an attempt that is not said to have failed is not counted"]
pub struct Attempt {
    counter: Option<Arc<dyn AttemptCounter>>,
    name: String,
    now: u64,
    standing: Standing,
}

impl Attempt {
    /// Whether the name has failed too often: then the secret must not be looked at, and the attempt has failed.
    pub fn is_locked(&self) -> bool {
        self.standing.is_locked
    }

    /// The name or the secret was wrong, or the name is locked. Returns what the client is told: `answer`, unless the
    /// failure could not be counted.
    ///
    /// `is_known`: whether there is somebody of this name, as far as the method can say. Names that somebody made up
    /// are not kept, however many there are; it takes the same time.
    pub async fn failed(self, is_known: bool, answer: Error) -> Error {
        let Some(counter) = &self.counter else {
            return answer;
        };
        let counted = counter
            .failed(&self.name, is_known, &self.standing, self.now)
            .await;
        counted.err().unwrap_or(answer)
    }

    /// The secret was right. Adds to `commit`, which goes with the token, that earlier failures are forgotten.
    /// `Err(answer)`: the name was locked while the secret was looked at.
    pub async fn passed(self, commit: &mut Batch, answer: Error) -> Result<()> {
        let Some(counter) = &self.counter else {
            return Ok(());
        };
        if self.standing.is_locked
            || !counter
                .passed(&self.name, &self.standing, self.now, commit)
                .await?
        {
            return Err(self.failed(true, answer).await);
        }
        Ok(())
    }
}

/// What was known of a name when an attempt began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    pub is_locked: bool,
    /// There are failures that a login would forget.
    pub has_failed: bool,
    /// The counter's own mark of the moment.
    pub moment: u64,
}

/// What the core provides for a mount. Times are seconds since 1970.
#[async_trait]
pub trait AttemptCounter: Send + Sync {
    async fn look(&self, name: &str, now: u64) -> Result<Standing>;

    /// Counts a failure. Takes the same time for a name that is not known and for one that is locked.
    async fn failed(&self, name: &str, is_known: bool, standing: &Standing, now: u64)
    -> Result<()>;

    /// Adds to `commit` that the failures are forgotten. `false`: the name has been locked since.
    async fn passed(
        &self,
        name: &str,
        standing: &Standing,
        now: u64,
        commit: &mut Batch,
    ) -> Result<bool>;
}
