//! How often something was done and how long it took, in counters that cost the doer three relaxed additions. The
//! distribution is kept in buckets that grow by an eighth to a quarter, so a quantile is that exact.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Durations of one kind of work since the process began.
#[derive(Debug)]
pub struct Timing {
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
    /// The buckets as they were some time ago: quantiles are of what came since.
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    before: Box<[u64; BUCKETS]>,
    now: Box<[u64; BUCKETS]>,
    turned: Instant,
}

/// What a [`Timing`] has seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub sum: Duration,
    /// The median, 90 % and 99 % of about the last minute; `None` when there was nothing.
    pub quantiles: Option<[Duration; 3]>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            nanoseconds: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            window: Mutex::new(None),
        }
    }
}

impl Timing {
    pub fn observe(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        self.buckets[bucket(nanoseconds)].fetch_add(1, Ordering::Relaxed);
    }

    /// What was seen so far. Whoever asks also turns the window of the quantiles, at most every half minute.
    pub fn summary(&self) -> Summary {
        let mut current = Box::new([0; BUCKETS]);
        for (into, from) in current.iter_mut().zip(&self.buckets) {
            *into = from.load(Ordering::Relaxed);
        }
        let count = current.iter().sum();
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed));
        // Plain numbers: a panic elsewhere cannot have left them half-changed.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let window = window.get_or_insert_with(|| Window {
            before: Box::new([0; BUCKETS]),
            now: Box::new([0; BUCKETS]),
            turned: Instant::now(),
        });
        if window.turned.elapsed() > TURN {
            std::mem::swap(&mut window.before, &mut window.now);
            window.now.clone_from(&current);
            window.turned = Instant::now();
        }
        for (current, before) in current.iter_mut().zip(window.before.iter()) {
            *current -= before;
        }
        Summary {
            count,
            sum,
            quantiles: quantiles(&current),
        }
    }
}

/// Four buckets for each doubling from a microsecond on; the last takes all that is longer.
fn bucket(nanoseconds: u64) -> usize {
    let steps = (nanoseconds >> FIRST).max(1);
    let octave = steps.ilog2() as usize;
    let quarter = ((nanoseconds >> FIRST.saturating_sub(2)) >> octave) as usize & 3;
    (4 * octave + quarter).min(BUCKETS - 1)
}

/// The middle of a bucket.
fn middle(bucket: usize) -> Duration {
    let (octave, quarter) = (bucket / 4, (bucket % 4) as u64);
    let step = (1_u64 << FIRST) << octave;
    Duration::from_nanos(step + step / 4 * quarter + step / 8)
}

fn quantiles(buckets: &[u64; BUCKETS]) -> Option<[Duration; 3]> {
    let total: u64 = buckets.iter().sum();
    if total == 0 {
        return None;
    }
    Some([50, 90, 99].map(|percent| {
        // The rank is rounded up, so that of one observation every quantile is that one.
        let rank = (total * percent).div_ceil(100);
        let mut seen = 0;
        let at = buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        middle(at.unwrap_or(BUCKETS - 1))
    }))
}

/// Everything below 2^10 nanoseconds is in the first buckets.
const FIRST: u32 = 10;
/// Up to 2^37 nanoseconds, more than two minutes.
const BUCKETS: usize = 4 * 27;
/// Quantiles are of the last one to two of these, where somebody asks that often.
const TURN: Duration = Duration::from_secs(30);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_a_bucket_whose_middle_is_near_it() {
        for nanoseconds in (0..3_000_000_u64).step_by(997).chain([1 << 36]) {
            let middle = middle(bucket(nanoseconds)).as_nanos() as f64;
            let off = (middle - nanoseconds as f64).abs();
            let near = nanoseconds < 1 << FIRST || off <= nanoseconds as f64 / 8.0 + 1.0;
            assert!(near, "{nanoseconds}: {middle}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_was_observed_is_counted_and_its_quantiles_are_told() {
        let timing = Timing::default();
        assert_eq!(timing.summary().quantiles, None);
        for _ in 0..98 {
            timing.observe(Duration::from_millis(1));
        }
        timing.observe(Duration::from_millis(50));
        timing.observe(Duration::from_secs(2));
        let summary = timing.summary();
        assert_eq!(summary.count, 100);
        assert_eq!(summary.sum, Duration::from_millis(98 + 50 + 2000));
        let [median, ninety, most] = summary.quantiles.unwrap();
        assert_eq!(median, ninety);
        assert!((0.8..1.2).contains(&(median.as_secs_f64() * 1000.0)));
        assert!((40.0..60.0).contains(&(most.as_secs_f64() * 1000.0)));
    }
}
