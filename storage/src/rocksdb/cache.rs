//! Stored values that are read again and again, kept beside RocksDB: a hit takes a tenth of the
//! time of a search through memtables, index, filter and block, and copies nothing. (RocksDB's own
//! row cache does not go together with range deletions.) Values are as stored: sealed. That there
//! is nothing at a key is kept as well: most of what is looked for at each login is not there.
//!
//! It never outlives a change: a reader claims the key's place before it reads the database, the
//! committer clears the place after it wrote and before it answers, and a claim that was cleared is
//! void. So a read that begins after a commit was acknowledged sees that commit.

use std::time::Duration;

use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, Weighter};

/// A value, or that there is none.
type Value = Option<Bytes>;

/// A bounded cache of single values.
pub(super) struct ValueCache(Cache<String, Value, Bytewise>);

/// What the cache knows of a key.
pub(super) enum LookUp<'a> {
    Hit(Value),
    /// Read the database, then [`Claim::fill`].
    Miss(Claim<'a>),
}

/// The right to fill a key's place, void as soon as the key is changed.
pub(super) struct Claim<'a>(Option<Guard<'a>>);

type Guard<'a> = PlaceholderGuard<
    'a,
    String,
    Value,
    Bytewise,
    DefaultHashBuilder,
    DefaultLifecycle<String, Value>,
>;

impl ValueCache {
    /// A cache of at most `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        let items = capacity / TYPICAL;
        Self(Cache::with_weighter(items, capacity as u64, Bytewise))
    }

    pub(super) fn look_up(&self, key: &str) -> LookUp<'_> {
        match self.0.get_value_or_guard(key, Some(Duration::ZERO)) {
            GuardResult::Value(value) => LookUp::Hit(value),
            GuardResult::Guard(guard) => LookUp::Miss(Claim(Some(guard))),
            // Another reader holds the claim; this one reads for itself.
            GuardResult::Timeout => LookUp::Miss(Claim(None)),
        }
    }

    /// What is known of a key, for the one thread that changes keys: to it this is always what is stored.
    pub(super) fn known(&self, key: &str) -> Option<Value> {
        self.0.get(key)
    }

    /// Forgets a key and voids the claims on it.
    pub(super) fn remove(&self, key: &str) {
        self.0.remove(key);
    }

    /// Forgets all keys and voids all claims.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}

impl Claim<'_> {
    /// Keeps what was read, unless it is large or was changed in the meantime.
    pub(super) fn fill(self, value: &Value) {
        if let Some(guard) = self.0
            && value.as_ref().is_none_or(|value| value.len() <= LARGE)
        {
            // An error says that the claim is void.
            let _ = guard.insert(value.clone());
        }
    }
}

/// Weighs entries by the memory that they take.
#[derive(Clone)]
struct Bytewise;

impl Weighter<String, Value> for Bytewise {
    fn weight(&self, key: &String, value: &Value) -> u64 {
        (key.len() + value.as_ref().map_or(0, Bytes::len) + OVERHEAD) as u64
    }
}

/// Bytes of an average entry, for the first size of the tables.
const TYPICAL: usize = 1 << 10;
/// Bytes of the cache's own for each entry, roughly.
const OVERHEAD: usize = 128;
/// Values larger than this are not kept: few of them would push out everything else.
const LARGE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_changed_while_it_was_read_is_not_kept() {
        let cache = ValueCache::new(1 << 20);
        let claim = |key| match cache.look_up(key) {
            LookUp::Miss(claim) => claim,
            LookUp::Hit(_) => panic!("{key} is there"),
        };
        let (removed, cleared) = (claim("a"), claim("b"));
        let second = claim("a");
        cache.remove("a");
        let fresh = claim("a");
        removed.fill(&Some(Bytes::from("old")));
        second.fill(&Some(Bytes::from("old")));
        cache.clear();
        cleared.fill(&Some(Bytes::from("old")));
        fresh.fill(&Some(Bytes::from("old")));
        for key in ["a", "b"] {
            claim(key).fill(&Some(Bytes::from("new")));
            assert!(matches!(cache.look_up(key), LookUp::Hit(Some(value)) if value == "new"));
        }
    }

    #[test]
    fn that_there_is_nothing_is_known_until_there_is_something() {
        let cache = ValueCache::new(1 << 20);
        assert_eq!(cache.known("a"), None);
        let LookUp::Miss(claim) = cache.look_up("a") else {
            panic!("nothing was read yet");
        };
        // Who only claims a place knows nothing.
        assert_eq!(cache.known("a"), None);
        claim.fill(&None);
        assert_eq!(cache.known("a"), Some(None));
        assert!(matches!(cache.look_up("a"), LookUp::Hit(None)));
        cache.remove("a");
        assert!(matches!(cache.look_up("a"), LookUp::Miss(_)));
    }

    #[test]
    fn large_values_are_not_kept_and_the_size_is_bounded() {
        let cache = ValueCache::new(1 << 20);
        let fill = |key: &str, size: usize| match cache.look_up(key) {
            LookUp::Miss(claim) => claim.fill(&Some(Bytes::from(vec![0; size]))),
            LookUp::Hit(_) => panic!("{key} is there"),
        };
        fill("large", LARGE + 1);
        assert!(matches!(cache.look_up("large"), LookUp::Miss(_)));
        for number in 0..10_000 {
            fill(&number.to_string(), 1000);
        }
        assert!(cache.0.weight() <= 1 << 20);
        assert!(cache.0.len() > 500);
    }
}
