//! Where passwords are hashed: on threads of their own, one for each core, with so many waiting and no more. Hashing
//! takes 19 MiB and some milliseconds of a core on purpose; without a bound, anybody could take all of both.

use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use obol_mount::{Error, Result};
use tokio::sync::Semaphore;

/// Does slow work off the threads of requests. 503 when too much is waiting already.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(cores(), WAITING_PER_CORE));
    POOL.run(work).await
}

struct Pool {
    /// Those at work and those waiting.
    places: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Pool {
    fn new(cores: usize, waiting_per_core: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(cores * (1 + waiting_per_core))),
            running: Arc::new(Semaphore::new(cores)),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place =
            self.places.clone().try_acquire_owned().map_err(|_| {
                Error::unavailable("too many passwords are being checked; try again")
            })?;
        let running = self.running.clone().acquire_owned().await;
        let running = running.map_err(Error::internal)?;
        // Both are held until the work is done, also when the client goes away meanwhile.
        let work = move || {
            let done = work();
            drop((place, running));
            done
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(Error::internal)?
    }
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// How many may wait for each core: about two seconds' worth.
const WAITING_PER_CORE: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_has_no_place_is_told_to_come_back_and_those_who_left_free_theirs() {
        let pool = Arc::new(Pool::new(1, 1));
        let (go, gone) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move || Ok(gone.recv().is_ok())).await }
        });
        while pool.running.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| Ok(())).await }
        });
        while pool.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = pool.run(|| Ok(())).await.unwrap_err();
        assert_eq!(refused.status(), 503);
        assert!(
            refused
                .headers()
                .iter()
                .any(|(name, _)| *name == "Retry-After")
        );
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        let next = pool.run(|| Ok(7));
        go.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert_eq!(next.await.unwrap(), 7);
    }
}
