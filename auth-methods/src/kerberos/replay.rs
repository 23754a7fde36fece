//! A ticket's proof is taken once. Every login leaves a mark, the digest of its authenticator, in the
//! same commit as its token, so that of two requests with the same AP-REQ one gets a token: at once,
//! after a restart, and at whichever mount of the method and on whichever server of the same storage
//! they arrive (threats: `replay`).
//!
//! The mark is written with a token and not otherwise. A login that fails after its ticket was
//! accepted (the directory is down, the user is not in it) leaves none: it gave nothing that a
//! replay could take, clients send the same request again after a 5xx, and nobody can make the
//! server write without being let in. Whoever has got hold of such an authenticator gains no time
//! by this: they could have used it before the rightful request arrived, and it ends when its five
//! minutes do.
//!
//! Layout: `replay/PERIOD/DIGEST`, empty, where a period is half an hour. A login looks into every
//! period from which a mark could still count (two, with the usual `clockskew`), so a mark is one
//! entry, needs no index, and goes with its whole period.

use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use obol_kerberos::library_clock_skew;
use obol_mount::Result;
use obol_storage::{Batch, View};

/// Whether the proof was taken before.
pub(super) async fn is_known(view: &View, digest: &[u8; 32], now_unix: u64) -> Result<bool> {
    let name = name(digest);
    for period in periods(now_unix) {
        if view.get(&mark_path(period, &name)).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds the mark to `batch`, and the expectation that it is not there yet.
pub(super) fn mark(view: &View, batch: &mut Batch, digest: &[u8; 32], now_unix: u64) {
    let name = name(digest);
    for period in periods(now_unix) {
        view.expect_absent_in(batch, &mark_path(period, &name));
    }
    let path = mark_path(now_unix / PERIOD, &name);
    view.put_in(batch, &path, Vec::new());
}

/// Drops the marks whose time is over.
pub(super) async fn tidy(view: &View, now: SystemTime) -> Result<()> {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let oldest = folder(*periods(now).start());
    loop {
        // In the order of time, so what may go is in front.
        let folders = view.list(MARKS, None, PAGE).await?;
        let over: Vec<_> = folders
            .iter()
            .map(|name| format!("{MARKS}{name}"))
            .take_while(|folder| *folder < oldest)
            .collect();
        if over.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for folder in &over {
            view.delete_prefix_in(&mut batch, folder);
        }
        view.commit(batch).await?;
    }
}

/// The periods in which the mark of a proof that is valid now may lie. Those to come, too: two servers' clocks
/// differ, a clock is set back, and of two requests at the turn of a period the later may commit first.
fn periods(now_unix: u64) -> RangeInclusive<u64> {
    let kept = kept().as_secs();
    now_unix.saturating_sub(kept) / PERIOD..=now_unix.saturating_add(kept) / PERIOD
}

fn mark_path(period: u64, name: &str) -> String {
    format!("{}{name}", folder(period))
}

/// Zeros in front, so that the order of the texts is the order of the times.
fn folder(period: u64) -> String {
    format!("{MARKS}{period:0WIDTH$}/")
}

fn name(digest: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(digest)
}

/// How long a mark stays. libkrb5 takes an authenticator whose time is up to its `clockskew` ahead or behind, so one
/// can be valid for twice as long after it was first seen. Five minutes more bridge a clock that is set back. A mount's
/// own `clock_skew` can only be less. krb5.conf is read once: another `clockskew` counts after a restart.
fn kept() -> Duration {
    static KEPT: LazyLock<Duration> = LazyLock::new(|| {
        // Where it cannot be read, longer than anybody sets it.
        let skew = library_clock_skew().unwrap_or(Duration::from_secs(3600));
        skew.saturating_mul(2) + Duration::from_secs(300)
    });
    *KEPT
}

const MARKS: &str = "replay/";
/// Seconds.
const PERIOD: u64 = 1800;
const WIDTH: usize = 10;
const PAGE: usize = 64;
