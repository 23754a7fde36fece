//! Names and labels: those that a dashboard for Vault asks for, and ours (`obol.`). Names are written with dots, as
//! Vault's own documentation has them; Prometheus gets underscores.

use std::sync::atomic::Ordering;
use std::time::Duration;

use obol_storage::{Summary, Timing};

use super::{AuditMeter, KERBEROS_OUTCOMES};
use crate::core::{Core, Live, VERSION};

/// All values of one name.
#[derive(Debug, Clone)]
pub struct Family {
    pub name: String,
    pub help: &'static str,
    /// Each with its labels.
    pub values: Vec<(Vec<(&'static str, String)>, Value)>,
}

#[derive(Debug, Clone)]
pub enum Value {
    Counter(u64),
    Gauge(f64),
    /// Of durations in milliseconds.
    Summary(Summary),
}

impl Family {
    pub(super) fn new(name: impl Into<String>, help: &'static str) -> Self {
        Self {
            name: name.into(),
            help,
            values: Vec::new(),
        }
    }

    pub(super) fn with(mut self, labels: Vec<(&'static str, String)>, value: Value) -> Self {
        self.values.push((labels, value));
        self
    }

    fn one(name: &'static str, help: &'static str, value: Value) -> Self {
        Self::new(name, help).with(Vec::new(), value)
    }

    fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self::one(name, help, Value::Gauge(value))
    }

    fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::one(name, help, Value::Counter(value))
    }

    fn timing(name: &'static str, help: &'static str, timing: &Timing) -> Self {
        Self::one(name, help, Value::Summary(timing.summary()))
    }
}

pub(super) fn collect(core: &Core) -> Vec<Family> {
    let metrics = &core.metrics;
    let live = core.live.load_full();
    let cluster = vec![("cluster", core.settings.cluster_name.clone())];
    let flag = |on: bool| Value::Gauge(if on { 1.0 } else { 0.0 });
    let unsealed = live.is_some();
    let mut all = vec![
        Family::new("vault.core.unsealed", "1 while the server is unsealed.")
            .with(cluster.clone(), flag(unsealed)),
        Family::new("vault.core.active", "1 while the server is active.")
            .with(cluster, flag(unsealed)),
        Family::new("obol.info", "The version of the server.")
            .with(vec![("version", VERSION.to_owned())], Value::Gauge(1.0)),
        Family::gauge(
            "obol.uptime.seconds",
            "Seconds since the process began.",
            metrics.started.elapsed().as_secs_f64(),
        ),
        Family::timing(
            "vault.core.handle_request",
            "Requests other than logins, in milliseconds.",
            &metrics.requests,
        ),
        Family::timing(
            "vault.core.handle_login_request",
            "Logins, in milliseconds.",
            &metrics.logins,
        ),
    ];
    audit(&mut all, "request", &metrics.audit_request);
    audit(&mut all, "response", &metrics.audit_response);
    all.push(KERBEROS_OUTCOMES.iter().zip(&metrics.kerberos).fold(
        Family::new(
            "obol.kerberos.logins.total",
            "Kerberos logins by what became of them.",
        ),
        |family, (outcome, count)| {
            let labels = vec![("outcome", (*outcome).to_owned())];
            family.with(labels, Value::Counter(count.load(Ordering::Relaxed)))
        },
    ));
    barrier(&mut all, core);
    runtime(&mut all);
    if let Some(live) = live {
        mounts(&mut all, &live);
        if let Some(usage) = &*metrics.usage.load() {
            all.extend(usage.iter().cloned());
        }
    }
    all
}

fn audit(all: &mut Vec<Family>, which: &str, meter: &AuditMeter) {
    all.push(
        Family::new(
            format!("vault.audit.log_{which}"),
            "Records for the audit devices, in milliseconds.",
        )
        .with(Vec::new(), Value::Summary(meter.timing.summary())),
    );
    all.push(
        Family::new(
            format!("vault.audit.log_{which}_failure"),
            "Records that no audit device took.",
        )
        .with(
            Vec::new(),
            Value::Counter(meter.failures.load(Ordering::Relaxed)),
        ),
    );
}

fn barrier(all: &mut Vec<Family>, core: &Core) {
    let meters = core.barrier.meters();
    for (name, help, timing) in [
        (
            "vault.barrier.get",
            "Values read, in milliseconds.",
            &meters.get,
        ),
        (
            "vault.barrier.put",
            "Commits, in milliseconds until they are durable.",
            &meters.commit,
        ),
        (
            "vault.barrier.list",
            "Listings and scans, in milliseconds.",
            &meters.list,
        ),
    ] {
        all.push(Family::timing(name, help, timing));
    }
    for (name, help, count) in [
        (
            "obol.commit.values.total",
            "Values written, over all commits.",
            &meters.values,
        ),
        (
            "obol.commit.conflicts.total",
            "Commits that another was faster than; they began again.",
            &meters.conflicts,
        ),
    ] {
        all.push(Family::counter(name, help, count.load(Ordering::Relaxed)));
    }
    if let Ok(status) = core.barrier.key_status() {
        all.push(Family::gauge(
            "vault.barrier.estimated_encryptions",
            "Encryptions with the present key.",
            status.encryptions as f64,
        ));
        all.push(Family::gauge(
            "obol.barrier.key_term",
            "The number of the present key.",
            f64::from(status.term),
        ));
    }
}

fn runtime(all: &mut Vec<Family>) {
    if let Ok(handle) = tokio::runtime::Handle::try_current() {
        all.push(Family::gauge(
            "vault.runtime.num_goroutines",
            "Tasks: what goroutines are to Vault.",
            handle.metrics().num_alive_tasks() as f64,
        ));
    }
    // proc(5): `VmRSS:     1234 kB`.
    let Ok(text) = std::fs::read_to_string("/proc/self/status") else {
        return;
    };
    for (field, name, help) in [
        (
            "VmSize:",
            "vault.runtime.sys_bytes",
            "Bytes of the process's address space.",
        ),
        ("VmRSS:", "vault.runtime.alloc_bytes", "Bytes in memory."),
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        if let Some(kib) = kib {
            all.push(Family::gauge(name, help, kib * 1024.0));
        }
    }
}

fn mounts(all: &mut Vec<Family>, live: &Live) {
    let mounts = live.mounts.all();
    let mut entries = Family::new(
        "vault.core.mount_table.num_entries",
        "Mounts, by kind and by whether they are local.",
    );
    for (kind, auth) in [("auth", true), ("logical", false)] {
        for local in [true, false] {
            let matching = mounts
                .iter()
                .filter(|m| m.entry.path.starts_with("auth/") == auth && m.entry.local == local);
            let labels = vec![("type", kind.to_owned()), ("local", local.to_string())];
            entries = entries.with(labels, Value::Gauge(matching.count() as f64));
        }
    }
    all.push(entries);
    for mounted in &mounts {
        for (name, count) in mounted.backend.counters() {
            let labels = vec![("mount_point", mounted.entry.path.clone())];
            all.push(
                Family::new(format!("obol.{name}.total"), "What a mount has counted.")
                    .with(labels, Value::Counter(count)),
            );
        }
        for (operation, timing) in mounted.timings.each() {
            let mount = mounted.entry.path.replace('/', "-");
            all.push(
                Family::new(
                    format!("vault.route.{operation}.{mount}"),
                    "Requests to one mount, in milliseconds.",
                )
                .with(Vec::new(), Value::Summary(timing.summary())),
            );
        }
    }
}

/// Milliseconds, the unit of Vault's timings.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
