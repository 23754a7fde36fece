//! Waiting for a condition instead of for a time.

use std::thread;
use std::time::{Duration, Instant};

/// Asks until there is an answer, or panics with `what` was awaited.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(POLL);
    }
}

/// The same for something that becomes true.
#[track_caller]
pub fn holds(what: &str, mut ask: impl FnMut() -> bool) {
    eventually(what, || ask().then_some(()));
}

/// Generous, because the machine may be busy with other things: a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
