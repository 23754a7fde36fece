//! What the server counts about itself. The way of a request touches atomics that it has at hand; names and labels
//! are made when somebody asks ([`families`]). What needs a look through storage is counted now and then ([`usage`]).

mod families;
mod format;
mod usage;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use obol_mount::{Access, Error, Operation, Result};
use obol_storage::Timing;

use super::Core;
use super::mounts::Mounted;
use super::request::Outgoing;

pub use families::{Family, Value};
pub use format::{JsonMetrics, json, prometheus};

/// The `telemetry` stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Telemetry {
    /// Whether there is a Prometheus format: a retention time of zero turns it off, as with Vault.
    pub prometheus: bool,
    /// How often what needs a look through storage is counted; zero for never.
    pub usage_gauge_period: Duration,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            prometheus: true,
            usage_gauge_period: Duration::from_secs(600),
        }
    }
}

/// Everything that is counted, from the start of the process.
pub struct Metrics {
    started: Instant,
    requests: Timing,
    logins: Timing,
    pub(super) audit_request: AuditMeter,
    pub(super) audit_response: AuditMeter,
    /// By [`KERBEROS_OUTCOMES`].
    kerberos: [AtomicU64; 4],
    usage: ArcSwapOption<Vec<Family>>,
}

/// What became of a Kerberos login.
pub(super) const KERBEROS_OUTCOMES: [&str; 4] = ["success", "challenge", "refused", "error"];

/// One of the two records that an audit device gets of each request.
#[derive(Default)]
pub(super) struct AuditMeter {
    timing: Timing,
    failures: AtomicU64,
}

impl AuditMeter {
    pub(super) async fn time(&self, record: impl Future<Output = Result<()>>) -> Result<()> {
        let began = Instant::now();
        let recorded = record.await;
        self.timing.observe(began.elapsed());
        if recorded.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        recorded
    }
}

/// The requests of one mount, by operation. A timing is made when it is first needed.
#[derive(Default)]
pub struct RouteTimings([OnceLock<Box<Timing>>; 6]);

impl RouteTimings {
    fn observe(&self, operation: Operation, took: Duration) {
        self.0[operation as usize]
            .get_or_init(Box::default)
            .observe(took);
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, &Timing)> {
        // In the order of `Operation`.
        let names = ["create", "read", "update", "patch", "delete", "list"];
        names
            .into_iter()
            .zip(&self.0)
            .filter_map(|(name, timing)| timing.get().map(|timing| (name, &**timing)))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            requests: Timing::default(),
            logins: Timing::default(),
            audit_request: AuditMeter::default(),
            audit_response: AuditMeter::default(),
            kerberos: [const { AtomicU64::new(0) }; 4],
            usage: ArcSwapOption::empty(),
        }
    }
}

impl Metrics {
    /// Counts one request that has been answered.
    pub(super) fn request(
        &self,
        began: Instant,
        mounted: Option<&Arc<Mounted>>,
        access: Access,
        operation: Operation,
        outcome: &Result<Outgoing>,
    ) {
        let took = began.elapsed();
        let login = access == Access::Login;
        match login {
            true => self.logins.observe(took),
            false => self.requests.observe(took),
        }
        let Some(mounted) = mounted else { return };
        mounted.timings.observe(operation, took);
        // A GET shows the challenge or the page: it is how a browser begins.
        if login && mounted.entry.kind == "kerberos" {
            let outcome = match outcome {
                Ok(_) => 0,
                Err(error) if is_challenge(error) => 1,
                Err(error) if error.status() < 500 => 2,
                Err(_) => 3,
            };
            self.kerberos[outcome].fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn is_challenge(error: &Error) -> bool {
    error.status() == 401
        && error
            .headers()
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"))
}

impl Core {
    /// Everything as of now.
    pub(super) fn metric_families(&self) -> Vec<Family> {
        families::collect(self)
    }
}
