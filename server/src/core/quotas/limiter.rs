//! One bucket for each client of each rate limit, in bounded memory: the buckets that were used longest ago are
//! forgotten, which gives their clients a full one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use quick_cache::sync::Cache;

use super::RateLimit;

/// Buckets of all rate limits together; about 20 MiB.
const BUCKETS: usize = 65_536;

/// The longest time for one request: nanoseconds in 64 bits end after five hundred years.
const MAX_WAIT: Duration = Duration::from_secs(100 * 366 * 86_400);

type Gcra = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

pub(super) struct Limiters {
    buckets: Cache<(Arc<str>, IpAddr), Arc<Bucket>>,
    clock: DefaultClock,
    start: Instant,
}

struct Bucket {
    /// What it was made from: a quota that was changed has new buckets.
    limit: RateLimit,
    gcra: Gcra,
    /// Milliseconds since the start until which the client is blocked.
    blocked_until: AtomicU64,
}

/// What a bucket says.
pub(super) struct Taken {
    pub(super) allowed: bool,
    pub(super) remaining: u32,
    /// Until there is one more.
    pub(super) wait: Duration,
}

impl Default for Limiters {
    fn default() -> Self {
        Self {
            buckets: Cache::new(BUCKETS),
            clock: DefaultClock::default(),
            start: Instant::now(),
        }
    }
}

impl Limiters {
    pub(super) fn take(&self, name: &str, limit: &RateLimit, peer: Option<IpAddr>) -> Taken {
        let key = (Arc::from(name), client(peer));
        let known = self
            .buckets
            .get(&key)
            .filter(|bucket| bucket.limit == *limit);
        let bucket = known.unwrap_or_else(|| {
            let bucket = Arc::new(Bucket::new(limit));
            self.buckets.insert(key, bucket.clone());
            bucket
        });
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let blocked = bucket.blocked_until.load(Ordering::Relaxed);
        if blocked > now {
            return Taken {
                allowed: false,
                remaining: 0,
                wait: Duration::from_millis(blocked - now),
            };
        }
        match bucket.gcra.check() {
            Ok(state) => Taken {
                allowed: true,
                remaining: state.remaining_burst_capacity(),
                wait: Duration::ZERO,
            },
            Err(not_until) => {
                let mut wait = not_until.wait_time_from(self.clock.now());
                if limit.block_interval > 0 {
                    wait = wait.max(Duration::from_secs(limit.block_interval));
                    let until = now.saturating_add(limit.block_interval.saturating_mul(1000));
                    bucket.blocked_until.store(until, Ordering::Relaxed);
                }
                Taken {
                    allowed: false,
                    remaining: 0,
                    wait,
                }
            }
        }
    }
}

impl Bucket {
    fn new(limit: &RateLimit) -> Self {
        // Checked when it was written, but nothing that is stored may stop a server. A request each nanosecond is no
        // limit any more.
        let each = Duration::try_from_secs_f64(limit.interval as f64 / limit.rate);
        let each = each.unwrap_or(MAX_WAIT).min(MAX_WAIT);
        let each = each.max(Duration::from_nanos(1));
        let burst = NonZeroU32::new(limit.burst()).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(each)
            .unwrap_or(Quota::per_second(burst))
            .allow_burst(burst);
        Self {
            limit: limit.clone(),
            gcra: RateLimiter::direct(quota).with_middleware(),
            blocked_until: AtomicU64::new(0),
        }
    }
}

/// Whom a bucket belongs to. Whoever has an address of IPv6 has a whole network of them: 64 bits count.
fn client(peer: Option<IpAddr>) -> IpAddr {
    match peer.map(|peer| peer.to_canonical()) {
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(IpAddr::V6(address)) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        Some(address) => address,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Target;
    use super::*;

    fn limit(rate: f64, interval: u64, block_interval: u64) -> RateLimit {
        RateLimit {
            target: Target::default(),
            rate,
            interval,
            block_interval,
        }
    }

    #[test]
    fn each_client_has_a_bucket_of_its_own_and_a_changed_limit_new_ones() {
        let limiters = Limiters::default();
        let ip = |text: &str| Some(text.parse().unwrap());
        let three = limit(3.0, 60, 0);
        let left: Vec<u32> = (0..3)
            .map(|_| limiters.take("q", &three, ip("192.0.2.1")))
            .map(|taken| {
                assert!(taken.allowed);
                taken.remaining
            })
            .collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = limiters.take("q", &three, ip("192.0.2.1"));
        assert!(!refused.allowed && refused.wait > Duration::from_secs(10));
        assert!(limiters.take("q", &three, ip("192.0.2.2")).allowed);
        assert!(limiters.take("other", &three, ip("192.0.2.1")).allowed);
        assert!(
            limiters
                .take("q", &limit(4.0, 60, 0), ip("192.0.2.1"))
                .allowed
        );
    }

    #[test]
    fn a_rate_that_is_next_to_nothing_refuses_and_does_not_panic() {
        let limiters = Limiters::default();
        for (rate, interval, block) in [
            (1e-300, 1, 0),
            (f64::MIN_POSITIVE, u64::MAX, u64::MAX),
            (1e9, 1, u64::MAX),
        ] {
            let odd = limit(rate, interval, block);
            for _ in 0..3 {
                limiters.take("odd", &odd, None);
            }
        }
        let odd = limit(1e-300, 1, 0);
        assert!(limiters.take("q", &odd, None).allowed);
        assert!(!limiters.take("q", &odd, None).allowed);
    }

    #[test]
    fn alias_case_a_network_of_ipv6_is_one_client() {
        let limiters = Limiters::default();
        let once = limit(1.0, 60, 0);
        let take = |text: &str| {
            limiters
                .take("q", &once, Some(text.parse().unwrap()))
                .allowed
        };
        assert!(take("2001:db8::1"));
        assert!(!take("2001:db8::2"));
        assert!(take("2001:db8:0:1::1"));
        assert!(take("192.0.2.1"));
        assert!(!take("::ffff:192.0.2.1"));
    }

    #[test]
    fn who_exceeds_the_rate_is_blocked_for_as_long_as_is_said() {
        let limiters = Limiters::default();
        let blocking = limit(1000.0, 1, 60);
        let mut taken = limiters.take("q", &blocking, None);
        for _ in 0..5000 {
            if !taken.allowed {
                break;
            }
            taken = limiters.take("q", &blocking, None);
        }
        assert!(!taken.allowed);
        assert!(taken.wait >= Duration::from_secs(59), "{:?}", taken.wait);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!limiters.take("q", &blocking, None).allowed);
    }
}
