//! `metadata/`: a secret's settings and the state of its versions, and the listing of secrets.

use std::collections::BTreeMap;

use obol_mount::fields::{Count, Flag, Ttl};
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, Written};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::config::{duration_text, max_versions};
use super::read::At;
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

/// What is absent stays as it is; what is null goes back to its default.
#[derive(Deserialize, JsonSchema)]
pub(super) struct PatchMetadata {
    /// Where the secret is.
    path: String,
    /// How many versions are kept; 0 leaves it to the mount.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<Count>")]
    max_versions: Option<Option<Count>>,
    /// Whether every write must say, by `cas`, which version it replaces. The mount can require it too.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<Flag>")]
    cas_required: Option<Option<Flag>>,
    /// How long until a new version is deleted by itself; 0 leaves it to the mount.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<Ttl>")]
    delete_version_after: Option<Option<Ttl>>,
    /// Texts by name that are added or replaced, and names with null that go; null removes all of them. The limits are
    /// those of a write.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<BTreeMap<String, Option<String>>>")]
    custom_metadata: Option<Option<BTreeMap<String, Value>>>,
}

/// Names, and what is known of the secrets among them.
#[derive(Serialize, JsonSchema)]
pub(super) struct Detailed {
    /// As a listing shows them: folders end with a slash.
    keys: Vec<String>,
    /// Each secret's metadata by its name; folders have none.
    key_info: BTreeMap<String, Metadata>,
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
    cx.ready()?;
    page.of(&cx.storage, SECRETS).await
}

pub(super) async fn list_folder(cx: Cx<Kv>, input: Folder) -> Result<Keys> {
    cx.ready()?;
    input
        .page
        .of(&cx.storage, &format!("{SECRETS}{}/", input.path))
        .await
}

pub(super) async fn detail_root(cx: Cx<Kv>, page: Page) -> Result<Data<Detailed>> {
    detail(&cx, "", &page).await
}

pub(super) async fn detail_folder(cx: Cx<Kv>, input: Folder) -> Result<Data<Detailed>> {
    detail(&cx, &format!("{}/", input.path), &input.page).await
}

/// The names in a folder (empty, or with its slash) with the metadata of each secret.
async fn detail(cx: &Cx<Kv>, folder: &str, page: &Page) -> Result<Data<Detailed>> {
    cx.ready()?;
    let Keys { keys } = page
        .at_most(MAX_DETAILED)
        .of(&cx.storage, &format!("{SECRETS}{folder}"))
        .await?;
    if keys.is_empty() {
        return Err(Error::not_found());
    }
    let mut key_info = BTreeMap::new();
    for name in keys.iter().filter(|name| !name.ends_with('/')) {
        // One that was deleted since it was listed is a name without information.
        if let Some(entry) = cx.stored(&format!("{folder}{name}")).await? {
            key_info.insert(name.clone(), Metadata::of(&Record::open(&entry)?));
        }
    }
    Ok(Data(Detailed { keys, key_info }))
}

pub(super) async fn read_metadata(cx: Cx<Kv>, input: At) -> Result<Data<Metadata>> {
    let entry = cx.stored(&input.path).await?.ok_or_else(Error::not_found)?;
    Ok(Data(Metadata::of(&Record::open(&entry)?)))
}

impl Metadata {
    fn of(record: &Record<'_>) -> Self {
        let versions = record.versions().map(|(number, version)| {
            let state = VersionState {
                created_time: version.created.text(),
                deletion_time: Stamp::text_or_empty(version.deletion()),
                destroyed: version.destroyed,
            };
            (number.to_string(), state)
        });
        let Record { head, history, .. } = record;
        let settings = &history.settings;
        let delete_after = i64::try_from(settings.delete_version_after).unwrap_or(i64::MAX);
        Self {
            cas_required: settings.cas_required,
            created_time: history.created.text(),
            current_version: head.current,
            custom_metadata: head.custom_metadata.clone(),
            delete_version_after: duration_text(delete_after),
            max_versions: settings.max_versions,
            oldest_version: history.oldest,
            updated_time: record.updated().text(),
            versions: versions.collect(),
        }
    }
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
    let config = cx.config().await?;
    let warnings = config.overrides(input.cas_required, input.delete_version_after);
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

/// Changes settings one by one (a JSON merge patch, RFC 7396).
pub(super) async fn patch_metadata(cx: Cx<Kv>, input: PatchMetadata) -> Result<Written> {
    let max_versions = input
        .max_versions
        .map(|sent| max_versions(sent.unwrap_or_default()))
        .transpose()?;
    let cas_required = input.cas_required.map(Option::unwrap_or_default);
    let delete_version_after = input.delete_version_after.map(Option::unwrap_or_default);
    let config = cx.config().await?;
    let warnings = config.overrides(cas_required, delete_version_after);
    cx.change(&input.path, |record, batch| {
        let mut record = record.ok_or_else(Error::not_found)?;
        let settings = &mut record.history.settings;
        if let Some(max_versions) = max_versions {
            settings.max_versions = max_versions;
        }
        if let Some(Flag(required)) = cas_required {
            settings.cas_required = required;
        }
        if let Some(after) = delete_version_after {
            settings.delete_version_after = after.as_secs();
        }
        match &input.custom_metadata {
            None => {}
            Some(None) => record.head.custom_metadata = None,
            Some(Some(patch)) => {
                let mut all: BTreeMap<String, Value> = record
                    .head
                    .custom_metadata
                    .take()
                    .into_iter()
                    .flatten()
                    .map(|(name, text)| (name, Value::String(text)))
                    .collect();
                for (name, change) in patch {
                    match change {
                        Value::Null => drop(all.remove(name)),
                        change => drop(all.insert(name.clone(), change.clone())),
                    }
                }
                record.head.custom_metadata = Some(custom_metadata(all)?);
            }
        }
        cx.put_record(batch, &input.path, &record)
    })
    .await?;
    Ok(Written { warnings })
}

/// Tells a field that is null from one that is absent.
fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(d).map(Some)
}

/// Removes the secret with all that is kept of it.
pub(super) async fn delete_metadata(cx: Cx<Kv>, input: At) -> Result<NoContent> {
    cx.change(&input.path, |record, batch| {
        if let Some(record) = record {
            if record.only.is_none() {
                for (_, version) in record.versions() {
                    cx.delete_version(batch, &record.head.id, version.place);
                }
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
/// The names that a listing with metadata shows without a limit, and with one at most: each takes a read.
const MAX_DETAILED: usize = 10_000;
