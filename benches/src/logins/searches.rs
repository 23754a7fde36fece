//! The limit of logins that ask LDAP: the same searches without a server around them, with all of the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use obol_directory::{Directory, DirectoryConfig};

use super::world::user;
use crate::Failure;
use crate::load::{Run, histogram};

/// `askers` look users up for some time, one after the other each.
pub(crate) fn measure(
    config: &DirectoryConfig,
    askers: usize,
    time: Duration,
) -> Result<Run, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let directory = Directory::new(config)?;
    runtime.block_on(async {
        let next = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now() + Duration::from_millis(500);
        let end = begin + time;
        let tasks: Vec<_> = (0..askers)
            .map(|_| {
                let (directory, next) = (directory.clone(), next.clone());
                tokio::spawn(async move {
                    let mut histogram = histogram();
                    loop {
                        let uid = user(next.fetch_add(1, Ordering::Relaxed));
                        let asked = Instant::now();
                        let found = directory.lookup_fresh(&uid).await?;
                        let now = Instant::now();
                        if found.groups.is_empty() {
                            return Err(format!("{uid} is in no group").into());
                        }
                        if now >= end {
                            return Ok::<_, Failure>(histogram);
                        }
                        if asked >= begin {
                            histogram.record(u64::try_from((now - asked).as_nanos())?)?;
                        }
                    }
                })
            })
            .collect();
        let mut latencies = histogram();
        for task in tasks {
            latencies.add(task.await??)?;
        }
        Ok(Run { latencies, time })
    })
}
