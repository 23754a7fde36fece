//! `sys/host-info`: the machine under the server, from what Linux tells in `/proc`.

use std::collections::BTreeMap;
use std::fs;

use obol_mount::{Cx, Data, Result, Routes, get};
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::System;

pub(super) fn routes() -> Routes<System> {
    Routes::new().at(
        "host-info",
        "The machine that the server runs on: memory, processors, uptime",
        get(host_info),
    )
}

/// The machine under the server; what it does not tell is null.
#[derive(Serialize, JsonSchema)]
pub(super) struct HostInfo {
    /// RFC 3339.
    timestamp: String,
    host: Host,
    memory: Memory,
    /// The processors, one by one.
    cpu: Vec<Processor>,
    /// What the processors did since the start.
    cpu_times: Vec<ProcessorTimes>,
}

/// The system.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Host {
    /// The host name; null where the system does not tell it.
    #[serde(rename = "hostname")]
    host_name: Option<String>,
    /// The operating system: `linux`.
    os: &'static str,
    /// The architecture that the server was built for, such as `x86_64` or `aarch64`.
    kernel_arch: &'static str,
    /// The release of the kernel; null where the system does not tell it.
    kernel_version: Option<String>,
    /// Seconds since the start.
    uptime: u64,
    /// When that was, in seconds since 1970.
    boot_time: u64,
}

/// Memory, in bytes.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Memory {
    /// Bytes of memory that the system has.
    total: Option<u64>,
    /// What programs can have without swapping.
    available: Option<u64>,
    /// The rest.
    used: Option<u64>,
    /// A hundred means all.
    used_percent: Option<f64>,
    /// Bytes that nothing uses, not even a cache.
    free: Option<u64>,
    /// Bytes that hold raw blocks of disks.
    buffers: Option<u64>,
    /// Bytes that hold contents of files.
    cached: Option<u64>,
    /// Bytes of swap space; 0 where there is none.
    swap_total: Option<u64>,
    /// Bytes of swap space that are not in use.
    swap_free: Option<u64>,
}

/// A processor.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Processor {
    /// Its number.
    cpu: u64,
    /// Its model; null where the system does not tell it.
    model_name: Option<String>,
    /// The speed at which it runs now, in MHz; null where the system does not tell it.
    mhz: Option<f64>,
}

/// Seconds in each state, of one processor.
#[derive(Serialize, JsonSchema)]
struct ProcessorTimes {
    /// `cpu0`, `cpu1`, ...
    cpu: String,
    #[serde(flatten)]
    seconds: BTreeMap<&'static str, f64>,
}

pub(super) async fn host_info(_: Cx<System>) -> Result<Data<HostInfo>> {
    // A few small files of the kernel's, which never wait for a disk.
    let now = OffsetDateTime::now_utc().format(&Rfc3339);
    Ok(Data(HostInfo {
        timestamp: now.map_err(obol_mount::Error::internal)?,
        host: host(),
        memory: memory(),
        cpu: processors(),
        cpu_times: processor_times(),
    }))
}

fn host() -> Host {
    let first = |path: &str| Some(fs::read_to_string(path).ok()?.trim().to_owned());
    let uptime = first("/proc/uptime")
        .and_then(|text| text.split('.').next()?.parse::<u64>().ok())
        .unwrap_or_default();
    Host {
        host_name: first("/proc/sys/kernel/hostname"),
        os: std::env::consts::OS,
        kernel_arch: std::env::consts::ARCH,
        kernel_version: first("/proc/sys/kernel/osrelease"),
        uptime,
        boot_time: crate::core::unix_now().saturating_sub(uptime),
    }
}

fn memory() -> Memory {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kib * 1024)
    };
    let (total, available) = (bytes("MemTotal:"), bytes("MemAvailable:"));
    let used = total.zip(available).map(|(t, a)| t.saturating_sub(a));
    Memory {
        total,
        available,
        used,
        used_percent: total
            .zip(used)
            .map(|(t, u)| u as f64 * 100.0 / t.max(1) as f64),
        free: bytes("MemFree:"),
        buffers: bytes("Buffers:"),
        cached: bytes("Cached:"),
        swap_total: bytes("SwapTotal:"),
        swap_free: bytes("SwapFree:"),
    }
}

fn processors() -> Vec<Processor> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |part: &str, field: &str| {
        let line = part.lines().find(|line| line.starts_with(field))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let each = text.split("\n\n").filter_map(|part| {
        Some(Processor {
            cpu: of(part, "processor")?.parse().ok()?,
            model_name: of(part, "model name"),
            mhz: of(part, "cpu MHz").and_then(|mhz| mhz.parse().ok()),
        })
    });
    each.collect()
}

/// Seconds in each state, by processor (proc(5), `/proc/stat`).
fn processor_times() -> Vec<ProcessorTimes> {
    const TICKS: f64 = 100.0; // USER_HZ, which Linux keeps at 100 for user space
    const STATES: [&str; 8] = [
        "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
    ];
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let each = text.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next().filter(|name| {
            let number = name.strip_prefix("cpu").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        })?;
        let seconds = STATES.into_iter().zip(fields).map(|(state, ticks)| {
            let seconds = ticks.parse::<f64>().ok()? / TICKS;
            Some((state, seconds))
        });
        Some(ProcessorTimes {
            cpu: name.to_owned(),
            seconds: seconds.collect::<Option<_>>()?,
        })
    });
    each.collect()
}
