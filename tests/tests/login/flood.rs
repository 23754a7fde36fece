//! Many bad tickets at once: they wait for the Kerberos threads, and nobody else does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_tests::kerberos::{login_with, negotiate};
use obol_tests::{realm, ticket};

use super::server;

#[test]
fn a_flood_of_bad_tickets_delays_nobody_else_and_ends_in_nothing() {
    let good = negotiate(realm(), &ticket("grace"));
    // The ticket opens and what is sealed with its session key does not: the most that a bad one can cost.
    let bad = {
        let (scheme, token) = good.split_once(' ').unwrap();
        let mut token = STANDARD.decode(token).unwrap();
        *token.last_mut().unwrap() ^= 1;
        format!("{scheme} {}", STANDARD.encode(token))
    };
    assert_eq!(login_with(server(), &bad).status, 401);
    let root = server().root();
    let (over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let slowest = thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let status = login_with(server(), &bad).status;
                    // Refused, or not even looked at.
                    assert!(matches!(status, 401 | 503), "{status}");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also when something below fails.
        let _end = End(&over);
        let mut slowest = Duration::ZERO;
        let mut reads = 0;
        while reads < 200 || refused.load(Ordering::Relaxed) < 2000 {
            let begun = Instant::now();
            root.get("secret/data/works/plan").expect(200);
            slowest = slowest.max(begun.elapsed());
            reads += 1;
        }
        // A good ticket stands in the same queue, and gets through.
        login_with(server(), &good).expect(200);
        slowest
    });
    // Far above what it is, on a machine that is busy with other tests as well.
    assert!(slowest < Duration::from_secs(2), "a read took {slowest:?}");
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
