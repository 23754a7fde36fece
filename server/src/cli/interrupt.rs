//! Ctrl-C and its kin at the moments when a sudden end would leave something behind: half a file, a terminal
//! without echo. At every other moment they end the process, as they always do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

/// Runs `work` to its end; a signal that came meanwhile ends the process afterwards.
pub(super) fn hold<T>(work: impl FnOnce() -> T) -> T {
    let Some(switch) = switch() else {
        return work();
    };
    switch.deadly.store(false, Ordering::SeqCst);
    let result = work();
    switch.rearm();
    result
}

/// Runs `work`; on a signal, runs `restore` and ends the process at once. For reading without echo, which may last
/// as long as the user likes.
pub(super) fn restoring<T>(restore: impl FnOnce() + Send + 'static, work: impl FnOnce() -> T) -> T {
    let (Some(switch), Ok(mut signals)) = (switch(), Signals::new(ENDING)) else {
        return work();
    };
    switch.deadly.store(false, Ordering::SeqCst);
    let handle = signals.handle();
    let watcher = std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            restore();
            end_by(signal);
        }
    });
    let result = work();
    handle.close();
    let _ = watcher.join();
    switch.rearm();
    result
}

/// Runs `work`, which asks now and then whether a signal came and then ends early by itself, keeping what it has. A
/// second signal ends the process at once.
pub(super) fn noticing<T>(work: impl FnOnce(&dyn Fn() -> bool) -> T) -> T {
    let Some(switch) = switch() else {
        return work(&|| false);
    };
    switch.deadly.store(false, Ordering::SeqCst);
    let came = || {
        let came = switch.pending.load(Ordering::SeqCst) != 0;
        if came {
            switch.deadly.store(true, Ordering::SeqCst);
        }
        came
    };
    let result = work(&came);
    switch.pending.store(0, Ordering::SeqCst);
    switch.deadly.store(true, Ordering::SeqCst);
    result
}

fn end_by(signal: i32) {
    // Dies of the signal itself, so that the shell sees why; only if that fails does the status have to say it.
    let _ = low_level::emulate_default_handler(signal);
    std::process::exit(128 + signal);
}

struct Switch {
    /// Whether a signal ends the process there and then.
    deadly: Arc<AtomicBool>,
    /// The last signal that did not.
    pending: Arc<AtomicUsize>,
}

impl Switch {
    /// Signals end the process again, beginning with the one that came meanwhile.
    fn rearm(&self) {
        self.deadly.store(true, Ordering::SeqCst);
        let pending = self.pending.swap(0, Ordering::SeqCst);
        if pending != 0 {
            end_by(pending as i32);
        }
    }
}

/// Installed once, at the first need: a handler cannot be taken back, only told to act as if there were none.
/// `None` when the system refuses handlers; then signals do what they always do.
fn switch() -> Option<&'static Switch> {
    static SWITCH: OnceLock<Option<Switch>> = OnceLock::new();
    SWITCH
        .get_or_init(|| {
            let switch = Switch {
                deadly: Arc::new(AtomicBool::new(true)),
                pending: Arc::new(AtomicUsize::new(0)),
            };
            for signal in ENDING {
                flag::register_conditional_default(signal, switch.deadly.clone()).ok()?;
                flag::register_usize(signal, switch.pending.clone(), signal as usize).ok()?;
            }
            Some(switch)
        })
        .as_ref()
}

const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
