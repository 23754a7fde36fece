//! The requests that are being worked on at this moment, for `sys/in-flight-req`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Requests are spread over so many locks.
const SHARDS: usize = 16;

/// A request under way.
#[derive(Debug, Clone)]
pub struct UnderWay {
    pub id: String,
    pub since: SystemTime,
    pub peer: Option<IpAddr>,
    pub method: &'static str,
    pub path: String,
}

/// All of them. The listeners bound how many there are.
#[derive(Default)]
pub struct InFlight {
    shards: [Mutex<HashMap<usize, UnderWay>>; SHARDS],
    next: AtomicUsize,
}

/// A request's place among them; it is given up when this is dropped.
pub struct Place<'a> {
    all: &'a InFlight,
    number: usize,
}

impl InFlight {
    pub fn enter(&self, request: UnderWay) -> Place<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.shard(number).insert(number, request);
        Place { all: self, number }
    }

    /// All that are under way, the oldest first.
    pub fn all(&self) -> Vec<UnderWay> {
        let mut all: Vec<_> = (0..SHARDS)
            .flat_map(|n| self.shard(n).values().cloned().collect::<Vec<_>>())
            .collect();
        all.sort_by_key(|request| request.since);
        all
    }

    pub fn count(&self) -> usize {
        (0..SHARDS).map(|n| self.shard(n).len()).sum()
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, HashMap<usize, UnderWay>> {
        // Inserting and removing leave the map whole.
        self.shards[number % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.shard(self.number).remove(&self.number);
    }
}
