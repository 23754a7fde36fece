//! `metadata/`: a secret's settings and the state of its versions, and the listing of secrets.

use std::collections::BTreeMap;

use obol_mount::fields::{Count, Flag, Ttl};
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, Written};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{duration_text, max_versions};
use super::data::At;
use super::record::{Record, Stamp};
use super::{Kv, SECRETS};
use crate::listing::Page;

#[derive(Deserialize, JsonSchema)]
pub(super) struct Folder {
    /// The folder whose secrets are listed.
    path: String,
    #[serde(flatten)]
    page: Page,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteMetadata {
    /// Where the secret is.
    path: String,
    /// How many versions are kept; 0 leaves it to the mount.
    max_versions: Option<Count>,
    /// Whether every write must say, by `cas`, which version it replaces. The mount can require it too.
    cas_required: Option<Flag>,
    /// How long until a new version is deleted by itself; 0 leaves it to the mount, and the mount's
    /// own time counts when it is shorter.
    delete_version_after: Option<Ttl>,
    /// Texts by name, for people and programs: at most 64, names of up to 128 bytes, texts of up to
    /// 512. Replaces what was there.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    custom_metadata: Option<BTreeMap<String, Value>>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Metadata {
    /// Whether every write must say, by `cas`, which version it replaces.
    cas_required: bool,
    /// RFC 3339.
    created_time: String,
    /// The latest version; 0 before the first.
    current_version: u64,
    custom_metadata: Option<BTreeMap<String, String>>,
    /// How long until a new version is deleted by itself; `0s` leaves it to the mount.
    delete_version_after: String,
    /// How many versions are kept; 0 leaves it to the mount.
    max_versions: u32,
    /// The oldest version that is kept; 0 until there are as many as are kept.
    oldest_version: u64,
    /// RFC 3339; when the latest version was written.
    updated_time: String,
    /// By number.
    versions: BTreeMap<String, VersionState>,
}

#[derive(Serialize, JsonSchema)]
struct VersionState {
    /// RFC 3339.
    created_time: String,
    /// RFC 3339, or empty; may be in the future.
    deletion_time: String,
    /// Whether the data is gone for good.
    destroyed: bool,
}

pub(super) async fn list_root(cx: Cx<Kv>, page: Page) -> Result<Keys> {
    page.of(&cx.storage, SECRETS).await
}

pub(super) async fn list_folder(cx: Cx<Kv>, input: Folder) -> Result<Keys> {
    input
        .page
        .of(&cx.storage, &format!("{SECRETS}{}/", input.path))
        .await
}

pub(super) async fn read_metadata(cx: Cx<Kv>, input: At) -> Result<Data<Metadata>> {
    let entry = cx.stored(&input.path).await?.ok_or_else(Error::not_found)?;
    let record = Record::open(&entry)?;
    let versions = record.versions().map(|(number, version)| {
        let state = VersionState {
            created_time: version.created.text(),
            deletion_time: Stamp::text_or_empty(version.deletion()),
            destroyed: version.destroyed,
        };
        (number.to_string(), state)
    });
    let Record { head, history, .. } = &record;
    let settings = &history.settings;
    let delete_after = i64::try_from(settings.delete_version_after).unwrap_or(i64::MAX);
    Ok(Data(Metadata {
        cas_required: settings.cas_required,
        created_time: history.created.text(),
        current_version: head.current,
        custom_metadata: head.custom_metadata.clone(),
        delete_version_after: duration_text(delete_after),
        max_versions: settings.max_versions,
        oldest_version: history.oldest,
        updated_time: record.updated().text(),
        versions: versions.collect(),
    }))
}

pub(super) async fn write_metadata(cx: Cx<Kv>, input: WriteMetadata) -> Result<Written> {
    let max_versions = input.max_versions.map(max_versions).transpose()?;
    let custom_metadata = input.custom_metadata.map(custom_metadata).transpose()?;
    let nothing_was_sent = max_versions.is_none()
        && custom_metadata.is_none()
        && input.cas_required.is_none()
        && input.delete_version_after.is_none();
    if nothing_was_sent {
        return Ok(Written::default());
    }
    let mut warnings = Vec::new();
    if input.cas_required == Some(Flag(false)) && cx.config().await?.cas_required {
        warnings.push(
            "cas_required is false here, but the mount's configuration requires cas all the same"
                .to_owned(),
        );
    }
    let now = Stamp::of(cx.request.now);
    cx.change(&input.path, |record, batch| {
        let mut record = record.unwrap_or_else(|| Record::new(now));
        let settings = &mut record.history.settings;
        if let Some(max_versions) = max_versions {
            settings.max_versions = max_versions;
        }
        if let Some(Flag(required)) = input.cas_required {
            settings.cas_required = required;
        }
        if let Some(after) = input.delete_version_after {
            settings.delete_version_after = after.as_secs();
        }
        if let Some(custom_metadata) = &custom_metadata {
            record.head.custom_metadata = Some(custom_metadata.clone());
        }
        cx.put_record(batch, &input.path, &record)
    })
    .await?;
    Ok(Written { warnings })
}

/// Removes the secret with all that is kept of it.
pub(super) async fn delete_metadata(cx: Cx<Kv>, input: At) -> Result<NoContent> {
    cx.change(&input.path, |record, batch| {
        if let Some(record) = record {
            let versions = record.versions().map(|(number, _)| number);
            for older in versions.filter(|&number| number != record.head.current) {
                cx.delete_version(batch, &record.history.id, older);
            }
            cx.delete_record(batch, &input.path);
        }
        Ok(NoContent)
    })
    .await
}

/// Vault's limits. No text repeats what was sent.
fn custom_metadata(sent: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>> {
    let refuse = |why: &str| Err(Error::bad_request(format!("custom_metadata: {why}")));
    if sent.len() > MAX_CUSTOM {
        return refuse("at most 64 names are allowed");
    }
    let mut custom = BTreeMap::new();
    for (name, value) in sent {
        let value = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            // As Vault turns a truth value into a text.
            Value::Bool(truth) => u8::from(truth).to_string(),
            _ => return refuse("every value must be a text"),
        };
        if name.is_empty() || name.len() > MAX_CUSTOM_NAME {
            return refuse("a name must have 1 to 128 bytes");
        }
        if value.is_empty() || value.len() > MAX_CUSTOM_VALUE {
            return refuse("a value must have 1 to 512 bytes");
        }
        if name.chars().chain(value.chars()).any(char::is_control) {
            return refuse("names and values must not hold control characters");
        }
        custom.insert(name, value);
    }
    Ok(custom)
}

const MAX_CUSTOM: usize = 64;
const MAX_CUSTOM_NAME: usize = 128;
const MAX_CUSTOM_VALUE: usize = 512;
