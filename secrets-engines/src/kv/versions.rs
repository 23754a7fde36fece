//! `delete/`, `undelete/` and `destroy/`: what happens to versions by their numbers. A version that
//! does not exist is passed over, as in Vault.

use obol_mount::fields::CountList;
use obol_mount::{Cx, Error, NoContent, Result};
use obol_storage::Batch;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Kv;
use super::record::{Record, Stamp};

#[derive(Deserialize, JsonSchema)]
pub(super) struct Versions {
    /// Where the secret is.
    path: String,
    /// The numbers of the versions. Required.
    #[serde(default)]
    versions: CountList,
}

pub(super) async fn delete_versions(cx: Cx<Kv>, input: Versions) -> Result<NoContent> {
    let now = Stamp::of(cx.request.now);
    each(&cx, &input, |record, number, _| {
        record
            .version_mut(number)
            .is_some_and(|version| version.delete(now))
    })
    .await
}

pub(super) async fn undelete_versions(cx: Cx<Kv>, input: Versions) -> Result<NoContent> {
    let config = cx.config().await?;
    let now = Stamp::of(cx.request.now);
    each(&cx, &input, |record, number, _| {
        let expires = config.expiry(&record.history.settings, now);
        record
            .version_mut(number)
            .is_some_and(|version| version.undelete(expires))
    })
    .await
}

pub(super) async fn destroy_versions(cx: Cx<Kv>, input: Versions) -> Result<NoContent> {
    each(&cx, &input, |record, number, batch| {
        let Some(version) = record.version_mut(number) else {
            return false;
        };
        let (destroyed, place) = (version.destroy(), version.place);
        // The latest version rests in the record while it is the only one.
        if destroyed && record.only.take().is_none() {
            cx.delete_version(batch, &record.head.id, place);
        }
        destroyed
    })
    .await
}

/// Changes the named versions in one commit. `change` says whether it changed anything.
async fn each(
    cx: &Cx<Kv>,
    input: &Versions,
    change: impl Fn(&mut Record<'_>, u64, &mut Batch) -> bool,
) -> Result<NoContent> {
    if input.versions.0.is_empty() {
        return Err(Error::bad_request("No version number provided"));
    }
    cx.change(&input.path, |record, batch| {
        let Some(mut record) = record else {
            return Ok(NoContent);
        };
        let mut changed = false;
        for &number in &input.versions.0 {
            changed |= change(&mut record, number, batch);
        }
        if changed {
            cx.put_record(batch, &input.path, &record)?;
        }
        Ok(NoContent)
    })
    .await
}
