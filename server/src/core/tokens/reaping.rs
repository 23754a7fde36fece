//! Whether families of dead tokens are still to be removed. While they are, a token is looked up along its
//! parents, too; otherwise that costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The state of all removals of this server. Marks in storage (`revoking/<id>`) are the truth; this says whether
/// there may be any.
#[derive(Default)]
pub(super) struct Reaping {
    /// Revocations between their beginning and their commit.
    beginning: AtomicU64,
    /// Counts commits that left a mark.
    marked: AtomicU64,
    /// What `marked` was when storage was last found without a mark.
    clean: AtomicU64,
    wake: Notify,
}

/// A revocation that has begun; dropped after its commit.
pub(super) struct Begun<'a>(&'a Reaping);

impl Reaping {
    /// From here on parents are looked at.
    pub(super) fn begin(&self) -> Begun<'_> {
        self.beginning.fetch_add(1, Ordering::SeqCst);
        Begun(self)
    }

    pub(super) fn is_under_way(&self) -> bool {
        // In this order: a revocation that leaves `beginning` has counted its mark before.
        self.beginning.load(Ordering::SeqCst) > 0
            || self.marked.load(Ordering::SeqCst) != self.clean.load(Ordering::SeqCst)
    }

    /// A commit left a mark. The worker is woken when the revocation ends: until then that removes families itself.
    pub(super) fn marked(&self) {
        self.marked.fetch_add(1, Ordering::SeqCst);
    }

    /// Taken before storage is looked at; see [`Reaping::found_clean`].
    pub(super) fn epoch(&self) -> u64 {
        self.marked.load(Ordering::SeqCst)
    }

    /// Storage was found without a mark. A mark that came since `epoch` keeps the state as it is.
    pub(super) fn found_clean(&self, epoch: u64) {
        self.clean.store(epoch, Ordering::SeqCst);
    }

    /// Returns when there is something to do.
    pub(super) async fn awoken(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.beginning.fetch_sub(1, Ordering::SeqCst);
        if self.0.marked.load(Ordering::SeqCst) != self.0.clean.load(Ordering::SeqCst) {
            self.0.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_looked_at_from_before_a_mark_until_storage_is_found_without() {
        let reaping = Reaping::default();
        assert!(!reaping.is_under_way());
        let begun = reaping.begin();
        assert!(reaping.is_under_way());
        let too_early = reaping.epoch();
        reaping.marked();
        drop(begun);
        // Storage was looked at before the mark was there.
        reaping.found_clean(too_early);
        assert!(reaping.is_under_way());
        let epoch = reaping.epoch();
        reaping.found_clean(epoch);
        assert!(!reaping.is_under_way());
    }
}
