//! Answers kept for a stated time, and one question at a time however many wait for its answer.
//!
//! - An answer is served until its time is up, counted from when its question was **asked**: what
//!   changed in the directory after that is seen no later.
//! - Who asks what somebody is asking already waits for that answer, or that error, unless the
//!   question is so old that its answer could not be kept. The question belongs to all who wait: if
//!   some of them give up, the others go on with it, and with the last of them it ends.
//! - Errors go to all who wait and are not kept.
//! - The size is bounded, by an estimate of the bytes.
//! - What is flushed, and what was being asked at that moment, is not kept either.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared, join_all};
use quick_cache::Weighter;
use tokio::time::Instant;

use crate::error::DirectoryError;

/// What a cache has done since the directory was built, and how much it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Answered from memory.
    pub hits: u64,
    /// Asked of the directory.
    pub misses: u64,
    /// Asked while somebody else was asking the same, and answered together.
    pub waits: u64,
    /// Asked again in the background before their time was up.
    pub refreshes: u64,
    /// Kept now.
    pub entries: u64,
}

/// An answer and until when it may be served.
#[derive(Clone, Debug)]
pub(crate) struct Answer<V> {
    pub(crate) value: V,
    pub(crate) until: Instant,
}

/// Answers to several questions at once.
pub(crate) type Answers<K, V> = HashMap<K, Answer<V>>;
/// Asks the directory.
pub(crate) type Asking<K, V> = BoxFuture<'static, Result<Answers<K, V>, DirectoryError>>;

/// About how many bytes of memory something takes.
pub(crate) trait Bytes {
    fn bytes(&self) -> usize;
}

pub(crate) struct Cache<K, V> {
    /// Zero: nothing is kept, and every question is asked.
    ttl: Duration,
    shared: Arc<State<K, V>>,
}

struct State<K, V> {
    kept: quick_cache::sync::Cache<K, Kept<V>, Weight>,
    /// Taken whenever something is put into `kept` or flushed, so that the two cannot cross.
    under_way: Mutex<UnderWay<K, V>>,
    born: Instant,
    hits: AtomicU64,
    misses: AtomicU64,
    waits: AtomicU64,
    refreshes: AtomicU64,
}

#[derive(Clone)]
struct Kept<V> {
    answer: Answer<V>,
    asked: Instant,
    /// Milliseconds from the birth of the cache to the last use.
    used: Arc<AtomicU64>,
    bytes: u64,
}

struct UnderWay<K, V> {
    /// The question that each key is part of.
    questions: HashMap<K, Question<K, V>>,
    last_id: u64,
}

struct Question<K, V> {
    id: u64,
    asked: Instant,
    answer: WeakShared<Flight<K, V>>,
}

type Flight<K, V> = BoxFuture<'static, Result<Arc<Answers<K, V>>, DirectoryError>>;

impl<K, V> Cache<K, V>
where
    K: Bytes + Clone + Eq + Hash + Send + Sync + 'static,
    V: Bytes + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(ttl: Duration, max_bytes: u64) -> Self {
        let items = usize::try_from(max_bytes / USUAL_BYTES).unwrap_or(usize::MAX);
        Self {
            ttl,
            shared: Arc::new(State {
                kept: quick_cache::sync::Cache::with_weighter(items, max_bytes, Weight),
                under_way: Mutex::new(UnderWay {
                    questions: HashMap::new(),
                    last_id: 0,
                }),
                born: Instant::now(),
                hits: AtomicU64::new(0),
                misses: AtomicU64::new(0),
                waits: AtomicU64::new(0),
                refreshes: AtomicU64::new(0),
            }),
        }
    }

    /// Zero: off.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The answers for these keys, each named once: kept ones, those that others are asking for, and the rest by
    /// `ask`, which is told when the question was asked.
    pub(crate) async fn get(
        &self,
        keys: impl IntoIterator<Item = K>,
        ask: impl FnOnce(Vec<K>, Instant) -> Asking<K, V>,
    ) -> Result<Answers<K, V>, DirectoryError> {
        let now = Instant::now();
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for key in keys {
            match self.shared.fresh(&key, now) {
                Some(answer) => drop(found.insert(key, answer)),
                None => missing.push(key),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let flights = self.shared.join(missing, now, self.ttl, &mut found, ask);
        for flight in join_all(flights).await {
            for (key, answer) in flight?.iter() {
                found.entry(key.clone()).or_insert_with(|| answer.clone());
            }
        }
        Ok(found)
    }

    /// The answers for these keys in their order, if all of them are kept.
    pub(crate) fn all_kept<'a>(&self, keys: impl Iterator<Item = &'a K>) -> Option<Vec<Answer<V>>>
    where
        K: 'a,
    {
        let now = Instant::now();
        let clock = self.shared.clock(now);
        let mut answers = Vec::with_capacity(keys.size_hint().0);
        for key in keys {
            let kept = self.shared.kept.get(key)?;
            if now >= kept.answer.until {
                return None;
            }
            kept.used.store(clock, Ordering::Relaxed);
            answers.push(kept.answer);
        }
        self.shared
            .hits
            .fetch_add(answers.len() as u64, Ordering::Relaxed);
        Some(answers)
    }

    /// Whether an answer is kept. Does not count as a use of it.
    pub(crate) fn keeps(&self, key: &K) -> bool {
        let kept = self.shared.kept.peek(key);
        kept.is_some_and(|kept| Instant::now() < kept.answer.until)
    }

    /// Asks again for what is kept, so that nobody has to wait when its time is up.
    pub(crate) async fn renew(
        &self,
        keys: Vec<K>,
        ask: impl FnOnce(Vec<K>, Instant) -> Asking<K, V>,
    ) -> Result<(), DirectoryError> {
        // Whoever drops the last share of a question takes the lock, so it must be free then.
        let mut others = Vec::new();
        let flight = {
            let mut under_way = self.shared.under_way();
            let now = Instant::now();
            // What somebody asks for now is renewed by that.
            let mut keys = keys;
            keys.retain(|key| {
                let question = under_way.questions.get(key);
                let flight = question.and_then(|question| question.answer.upgrade());
                let is_free = flight.is_none();
                others.extend(flight);
                is_free
            });
            if keys.is_empty() {
                return Ok(());
            }
            self.shared
                .refreshes
                .fetch_add(keys.len() as u64, Ordering::Relaxed);
            State::begin(&self.shared, &mut under_way, keys, now, ask)
        };
        drop(others);
        flight.await.map(drop)
    }

    /// What was asked longer than `age` ago and used within `used`. Forgets what may not be served
    /// any more.
    pub(crate) fn due(&self, age: Duration, used: Duration) -> Vec<K> {
        let now = Instant::now();
        self.shared.kept.retain(|_, kept| now < kept.answer.until);
        let oldest_use = self.shared.clock(now).saturating_sub(millis(used));
        let due = self.shared.kept.iter().filter(|(_, kept)| {
            now.duration_since(kept.asked) >= age && kept.used.load(Ordering::Relaxed) >= oldest_use
        });
        due.map(|(key, _)| key).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shared.kept.is_empty()
    }

    /// Forgets what is known of these keys, and what is being asked.
    pub(crate) fn forget(&self, is_meant: impl Fn(&K) -> bool) {
        let mut under_way = self.shared.under_way();
        under_way.questions.retain(|key, _| !is_meant(key));
        self.shared.kept.retain(|key, _| !is_meant(key));
    }

    pub(crate) fn counters(&self) -> CacheCounters {
        let shared = &self.shared;
        let now = Instant::now();
        shared.kept.retain(|_, kept| now < kept.answer.until);
        CacheCounters {
            hits: shared.hits.load(Ordering::Relaxed),
            misses: shared.misses.load(Ordering::Relaxed),
            waits: shared.waits.load(Ordering::Relaxed),
            refreshes: shared.refreshes.load(Ordering::Relaxed),
            entries: shared.kept.len() as u64,
        }
    }
}

impl<K, V> State<K, V>
where
    K: Bytes + Clone + Eq + Hash + Send + Sync + 'static,
    V: Bytes + Clone + Send + Sync + 'static,
{
    /// A kept answer whose time is not up.
    fn fresh(&self, key: &K, now: Instant) -> Option<Answer<V>> {
        let kept = self.kept.get(key).filter(|kept| now < kept.answer.until)?;
        kept.used.store(self.clock(now), Ordering::Relaxed);
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(kept.answer)
    }

    /// The questions to wait for: one of our own at most, for what nobody else is asking.
    fn join(
        self: &Arc<Self>,
        missing: Vec<K>,
        now: Instant,
        ttl: Duration,
        found: &mut Answers<K, V>,
        ask: impl FnOnce(Vec<K>, Instant) -> Asking<K, V>,
    ) -> Vec<Shared<Flight<K, V>>> {
        let mut flights = Vec::new();
        let mut joined = Vec::new();
        let mut own = Vec::new();
        let mut under_way = self.under_way();
        for key in missing {
            // It may have come while the lock was waited for.
            if let Some(answer) = self.fresh(&key, now) {
                found.insert(key, answer);
                continue;
            }
            let question = under_way.questions.get(&key);
            let question = question.filter(|question| now < question.asked + ttl);
            let flight =
                question.and_then(|question| Some((question.id, question.answer.upgrade()?)));
            match flight {
                // Not dropped here, under the lock, unless a share of it is held already.
                Some((id, flight)) => {
                    self.waits.fetch_add(1, Ordering::Relaxed);
                    if !joined.contains(&id) {
                        joined.push(id);
                        flights.push(flight);
                    }
                }
                None => own.push(key),
            }
        }
        if !own.is_empty() {
            self.misses.fetch_add(own.len() as u64, Ordering::Relaxed);
            flights.push(Self::begin(self, &mut under_way, own, now, ask));
        }
        drop(under_way);
        flights
    }

    fn begin(
        self: &Arc<Self>,
        under_way: &mut UnderWay<K, V>,
        keys: Vec<K>,
        asked: Instant,
        ask: impl FnOnce(Vec<K>, Instant) -> Asking<K, V>,
    ) -> Shared<Flight<K, V>> {
        under_way.last_id += 1;
        let id = under_way.last_id;
        let asking = ask(keys.clone(), asked);
        let over = Over {
            state: Arc::clone(self),
            keys: keys.clone(),
            id,
        };
        let flight: Flight<K, V> = Box::pin(async move {
            let answers = asking.await.map(Arc::new);
            if let Ok(answers) = &answers {
                over.state.keep(id, asked, answers);
            }
            answers
        });
        let flight = flight.shared();
        for key in keys {
            let answer = flight.downgrade().expect("it has not been polled yet");
            under_way
                .questions
                .insert(key, Question { id, asked, answer });
        }
        flight
    }

    /// Keeps the answers to what has not been flushed or asked anew meanwhile.
    fn keep(&self, id: u64, asked: Instant, answers: &Answers<K, V>) {
        let under_way = self.under_way();
        let now = Instant::now();
        for (key, answer) in answers {
            let is_current = under_way.questions.get(key).is_some_and(|q| q.id == id);
            if !is_current || answer.until <= now {
                continue;
            }
            // Renewing is no use.
            let used = match self.kept.peek(key) {
                Some(kept) => kept.used,
                None => Arc::new(AtomicU64::new(self.clock(now))),
            };
            let bytes = key.bytes() + answer.value.bytes() + ENTRY_BYTES;
            let kept = Kept {
                answer: answer.clone(),
                asked,
                used,
                bytes: bytes as u64,
            };
            self.kept.insert(key.clone(), kept);
        }
    }

    fn clock(&self, now: Instant) -> u64 {
        millis(now.duration_since(self.born))
    }
}

impl<K, V> State<K, V> {
    fn under_way(&self) -> MutexGuard<'_, UnderWay<K, V>> {
        // Each critical section leaves the map whole, even if it should panic.
        self.under_way
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Ends a question when it is answered, or when nobody waits for it any more.
struct Over<K: Eq + Hash, V> {
    state: Arc<State<K, V>>,
    keys: Vec<K>,
    id: u64,
}

impl<K: Eq + Hash, V> Drop for Over<K, V> {
    fn drop(&mut self) {
        let mut under_way = self.state.under_way();
        for key in &self.keys {
            if under_way
                .questions
                .get(key)
                .is_some_and(|q| q.id == self.id)
            {
                under_way.questions.remove(key);
            }
        }
    }
}

impl Bytes for String {
    fn bytes(&self) -> usize {
        self.capacity() + size_of::<Self>()
    }
}

impl Bytes for Vec<u8> {
    fn bytes(&self) -> usize {
        self.capacity() + size_of::<Self>()
    }
}

#[derive(Clone)]
struct Weight;

impl<K, V> Weighter<K, Kept<V>> for Weight {
    fn weight(&self, _: &K, kept: &Kept<V>) -> u64 {
        kept.bytes
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What an entry takes beside its key and value.
const ENTRY_BYTES: usize = 200;
/// For the first guess at the number of entries.
const USUAL_BYTES: u64 = 1 << 10;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    impl Bytes for u32 {
        fn bytes(&self) -> usize {
            1000
        }
    }

    fn answering(keys: Vec<String>, asked: Instant) -> Asking<String, u32> {
        Box::pin(async move {
            let until = asked + Duration::from_secs(60);
            let answer = |key| (key, Answer { value: 7, until });
            Ok(keys.into_iter().map(answer).collect())
        })
    }

    #[tokio::test]
    async fn memory_is_bounded_however_many_names_are_asked_for() {
        let cache: Cache<String, u32> = Cache::new(Duration::from_secs(60), 100_000);
        for number in 0..2000 {
            let keys = [format!("user-{number}")];
            assert_eq!(cache.get(keys, answering).await.unwrap().len(), 1);
        }
        let counters = cache.counters();
        assert_eq!(counters.misses, 2000);
        assert!((10..=100).contains(&counters.entries), "{counters:?}");
        assert!(cache.shared.kept.weight() <= 100_000);
        assert!(cache.shared.under_way().questions.is_empty());
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_any_more_leaves_nothing_behind() {
        let cache: Cache<String, u32> = Cache::new(Duration::from_secs(60), 100_000);
        let never = |_: Vec<String>, _| -> Asking<String, u32> { Box::pin(std::future::pending()) };
        for _ in 0..3 {
            let asked = cache.get(["a".to_owned(), "b".to_owned()], never);
            assert!(asked.now_or_never().is_none());
            assert!(cache.shared.under_way().questions.is_empty());
        }
        assert_eq!(
            cache.get(["a".to_owned()], answering).await.unwrap()["a"].value,
            7
        );
    }

    #[tokio::test]
    async fn an_answer_whose_time_is_over_when_it_comes_is_given_and_not_kept() {
        let cache: Cache<String, u32> = Cache::new(Duration::from_secs(60), 100_000);
        let late = |keys: Vec<String>, asked| -> Asking<String, u32> {
            let until = asked;
            let answer = move |key| (key, Answer { value: 7, until });
            Box::pin(async move { Ok(keys.into_iter().map(answer).collect()) })
        };
        for _ in 0..2 {
            assert_eq!(cache.get(["a".to_owned()], late).await.unwrap().len(), 1);
        }
        let counters = cache.counters();
        assert_eq!((counters.misses, counters.entries), (2, 0));
    }
}
