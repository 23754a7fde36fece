//! What keeps secrets out of places where nobody looks after them: no core dumps, no swap where that is permitted.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, geteuid, getrlimit, set_dumpable_behavior, setrlimit,
};

/// A crash must not write keys to a disk, and other processes of the user must not read this one's memory.
pub(super) fn no_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Both can only fail where the kernel forbids them; then there is nothing to dump either.
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Keeps memory out of swap where the process may lock without limit. Pages are locked as they are first used, so
/// that what is reserved but never touched costs nothing.
pub(super) fn lock_memory() {
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    if !unlimited && !geteuid().is_root() {
        // Locking against a limit would make allocations fail later, at the worst time.
        tracing::warn!(
            "memory may be swapped: raise the memlock limit to unlimited (LimitMEMLOCK=infinity), or turn swap off and set disable_mlock = true"
        );
        return;
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(error) = mlockall(flags) {
        tracing::warn!(%error, "memory could not be locked and may be swapped: turn swap off, or set disable_mlock = true to accept it");
    }
}
