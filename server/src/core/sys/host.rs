//! `sys/host-info`: the machine under the server, from what Linux tells in `/proc`.

use std::fs;

use obol_mount::{Cx, Reply, Response, Result, Routes, get};
use serde_json::{Map, Value, json};
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

pub(super) async fn host_info(_: Cx<System>) -> Result<Response> {
    // A few small files of the kernel's, which never wait for a disk.
    let mut data = Map::new();
    let now = OffsetDateTime::now_utc().format(&Rfc3339);
    data.insert(
        "timestamp".into(),
        now.map_err(obol_mount::Error::internal)?.into(),
    );
    data.insert("host".into(), host());
    data.insert("memory".into(), memory());
    data.insert("cpu".into(), processors());
    data.insert("cpu_times".into(), processor_times());
    Ok(Response::new(Reply::Data(data)))
}

fn host() -> Value {
    let first = |path: &str| Some(fs::read_to_string(path).ok()?.trim().to_owned());
    let uptime = first("/proc/uptime")
        .and_then(|text| text.split('.').next()?.parse::<u64>().ok())
        .unwrap_or_default();
    json!({
        "hostname": first("/proc/sys/kernel/hostname"),
        "os": std::env::consts::OS,
        "kernelArch": std::env::consts::ARCH,
        "kernelVersion": first("/proc/sys/kernel/osrelease"),
        "uptime": uptime,
        "bootTime": crate::core::unix_now().saturating_sub(uptime),
    })
}

/// Bytes, as Vault tells them.
fn memory() -> Value {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kib * 1024)
    };
    let (total, available) = (bytes("MemTotal:"), bytes("MemAvailable:"));
    let used = total.zip(available).map(|(t, a)| t.saturating_sub(a));
    json!({
        "total": total,
        "available": available,
        "used": used,
        "usedPercent": total.zip(used).map(|(t, u)| u as f64 * 100.0 / t.max(1) as f64),
        "free": bytes("MemFree:"),
        "buffers": bytes("Buffers:"),
        "cached": bytes("Cached:"),
        "swapTotal": bytes("SwapTotal:"),
        "swapFree": bytes("SwapFree:"),
    })
}

fn processors() -> Value {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |part: &str, field: &str| {
        let line = part.lines().find(|line| line.starts_with(field))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let each = text.split("\n\n").filter_map(|part| {
        let number: u64 = of(part, "processor")?.parse().ok()?;
        Some(json!({
            "cpu": number,
            "modelName": of(part, "model name"),
            "mhz": of(part, "cpu MHz").and_then(|mhz| mhz.parse::<f64>().ok()),
        }))
    });
    each.collect()
}

/// Seconds in each state, by processor (proc(5), `/proc/stat`).
fn processor_times() -> Value {
    const TICKS: f64 = 100.0; // USER_HZ, which Linux keeps at 100 for user space
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let each = text.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next().filter(|name| {
            let number = name.strip_prefix("cpu").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        })?;
        let states = [
            "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
        ];
        let mut times = Map::new();
        times.insert("cpu".into(), name.into());
        for (state, ticks) in states.into_iter().zip(fields) {
            let seconds = ticks.parse::<f64>().ok()? / TICKS;
            times.insert(state.into(), seconds.into());
        }
        Some(Value::Object(times))
    });
    each.collect()
}
