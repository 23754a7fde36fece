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
//! Layout: `replay/DIGEST` holds the second at which the mark may go; `replay-expiry/SECOND/DIGEST`
//! orders the marks by it, so that tidying reads from the front and stops at the present.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use obol_kerberos::library_clock_skew;
use obol_mount::Result;
use obol_storage::{Batch, View};

/// Whether the proof was taken before.
pub(super) async fn is_known(view: &View, digest: &[u8; 32]) -> Result<bool> {
    Ok(view.get(&mark_path(&hex(digest))).await?.is_some())
}

/// Adds the mark to `batch`, and the expectation that it is not there yet.
pub(super) fn mark(view: &View, batch: &mut Batch, digest: &[u8; 32], now_unix: u64) -> Result<()> {
    let digest = hex(digest);
    let expires = now_unix + kept().as_secs();
    let path = mark_path(&digest);
    view.expect_absent_in(batch, &path);
    view.put_json_in(batch, &path, &expires)?;
    view.put_in(batch, &index_path(expires, &digest), Vec::new());
    Ok(())
}

/// Drops the marks whose time is over.
pub(super) async fn tidy(view: &View, now: SystemTime) -> Result<()> {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let end = format!("{INDEX}{now:0WIDTH$}");
    loop {
        let page = view.scan(INDEX, Some(&end), PAGE).await?;
        if page.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for (path, _) in &page {
            if let Some((_, digest)) = path.rsplit_once('/') {
                view.delete_in(&mut batch, &mark_path(digest));
            }
            view.delete_in(&mut batch, path);
        }
        view.commit(batch).await?;
    }
}

fn mark_path(digest: &str) -> String {
    format!("{MARKS}{digest}")
}

/// Zeros in front, so that the order of the texts is the order of the times.
fn index_path(expires: u64, digest: &str) -> String {
    format!("{INDEX}{expires:0WIDTH$}/{digest}")
}

fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
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
const INDEX: &str = "replay-expiry/";
const WIDTH: usize = 12;
const PAGE: usize = 500;
