//! From version 1 to version 2: `sys/mounts/:path/tune` with the option `version=2`.
//!
//! The mark `upgrade` is written in the commit that changes the mount's options. Every write of version 1 expects it to
//! be absent, so that one that is still on its way when the mount is opened anew fails and is tried again, instead of
//! landing where nobody looks any more. Then the secrets move, some at a time: what is `v1/<path>` becomes the first
//! version at `secrets/<path>` in one commit. A crash leaves the rest where it was, and the next opening goes on with it.
//! Until the last has moved the mount takes no requests.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use obol_mount::{Error, Result};
use obol_storage::{Batch, Error as StorageError, View};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::record::{Record, Stamp, VersionData};
use super::{Kv, secret_key, v1};

/// The mark.
#[derive(Serialize, Deserialize)]
pub(super) struct Upgrade {
    done: bool,
}

/// Puts the mark into the commit that makes a mount one of version 2.
pub(super) fn mark(storage: &View, batch: &mut Batch) -> Result<()> {
    Ok(storage.put_json_in(batch, MARK, &Upgrade { done: false })?)
}

/// Whether secrets of version 1 are moving or have moved.
pub(super) async fn has_begun(storage: &View) -> Result<bool> {
    Ok(storage.get(MARK).await?.is_some())
}

pub(super) fn under_way() -> Error {
    Error::unavailable(
        "this mount is being upgraded from version 1 to version 2 and takes requests again when that is done",
    )
}

/// Goes on with the upgrade of a mount that was opened, if there is one.
pub(super) async fn go_on(kv: &Arc<Kv>) -> Result<()> {
    let mark: Option<Upgrade> = kv.storage.get_json(MARK).await?;
    if mark.is_none_or(|mark| mark.done) {
        return Ok(());
    }
    kv.upgrading.store(true, Ordering::Release);
    tokio::spawn(run(Arc::downgrade(kv), kv.storage.clone()));
    Ok(())
}

async fn run(kv: Weak<Kv>, storage: View) {
    let mut moved = 0;
    // Behind what cannot be moved.
    let mut after = None;
    while kv.strong_count() > 0 {
        match step(&storage, &mut after, &mut moved).await {
            Ok(false) => {}
            Ok(true) => {
                if let Some(kv) = kv.upgrade() {
                    kv.upgrading.store(false, Ordering::Release);
                }
                tracing::info!(moved, "a kv mount was upgraded to version 2");
                return;
            }
            // The next unsealing opens the mount, and this goes on.
            Err(StorageError::Sealed) => return,
            // Another server is at it too.
            Err(StorageError::Conflict { .. }) => {}
            Err(error) => {
                tracing::error!(%error, "upgrading a kv mount failed; it is tried again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Moves some secrets. Returns whether none is left.
async fn step(
    storage: &View,
    after: &mut Option<String>,
    moved: &mut u64,
) -> Result<bool, StorageError> {
    let Some((_, seen)) = storage.get_json_seen::<Upgrade>(MARK).await? else {
        return Ok(true); // the mount was removed
    };
    let page = storage
        .scan_folder(v1::SECRETS, after.as_deref(), PAGE)
        .await?;
    let mut batch = Batch::new();
    if page.is_empty() {
        storage.expect_in(&mut batch, MARK, &seen);
        storage.put_json_in(&mut batch, MARK, &Upgrade { done: true })?;
        storage.commit(batch).await?;
        return Ok(true);
    }
    let now = Stamp::of(SystemTime::now());
    let (mut size, mut count) = (0, 0);
    for (path, entry) in &page {
        let Some(name) = path.strip_prefix(v1::SECRETS) else {
            continue;
        };
        let text: Option<&RawValue> = serde_json::from_slice(&entry.value).ok();
        let Some(text) = text.filter(|text| text.get().starts_with('{')) else {
            if count > 0 {
                break;
            }
            tracing::error!(path = %storage.full(path), "a secret of version 1 is damaged and stays where it is");
            *after = Some(path.clone());
            return Ok(false);
        };
        let mut record = Record::new(now);
        record.add(now, None, u32::MAX);
        record.only = Some(VersionData::Stored(text));
        let Ok(bytes) = record.to_bytes() else {
            continue;
        };
        storage.expect_in(&mut batch, path, &entry.seen);
        storage.delete_in(&mut batch, path);
        size += bytes.len();
        storage.put_in(&mut batch, &secret_key(name), bytes);
        count += 1;
        if size > LARGE {
            break;
        }
    }
    storage.commit(batch).await?;
    *moved += count;
    Ok(false)
}

/// Where the mark is.
pub(super) const MARK: &str = "upgrade";
/// Secrets that move in one commit, and bytes after which it is made all the same.
const PAGE: usize = 128;
const LARGE: usize = 4 << 20;
const RETRY: Duration = Duration::from_secs(1);
