//! `data/`: reading, writing and deleting a secret.

use std::collections::BTreeMap;

use obol_mount::fields::Count;
use obol_mount::{Cx, Error, NoContent, Output, Reply, Response, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Kv;
use super::config::Config;
use super::record::{Head, Latest, Record, Stamp, Texts, Version};
use crate::numbers::refuse_rounded;

/// The secret that a path names.
#[derive(Deserialize, JsonSchema)]
pub(super) struct At {
    /// Where the secret is.
    pub(super) path: String,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct ReadData {
    /// Where the secret is.
    path: String,
    /// Which version to read; 0, or nothing, is the latest.
    #[serde(default)]
    version: Count,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteData {
    /// Where the secret is.
    path: String,
    /// The secret: any JSON object. Required.
    data: Option<Map<String, Value>>,
    /// How to write it.
    options: Option<WriteOptions>,
}

#[derive(Default, Deserialize, JsonSchema)]
struct WriteOptions {
    /// Check and set: the version that this write replaces (0: there is none yet). The write is
    /// refused when another one is the latest. Left out, the write is always allowed.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<Count>")]
    cas: Option<Count>,
    /// Options that nobody knows, so that the client can be told.
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: BTreeMap<String, IgnoredAny>,
}

/// A version and its data; deleted and destroyed versions have `data` null and come with status 404.
#[derive(Serialize, JsonSchema)]
pub(super) struct SecretData<'a> {
    /// The secret as it was written: the stored text, which nobody needs to look into to pass it on.
    #[schemars(with = "Option<Map<String, Value>>")]
    data: Option<&'a RawValue>,
    metadata: VersionInfo,
}

/// The version that was written.
pub(super) struct WrittenVersion {
    version: VersionInfo,
    warnings: Vec<String>,
}

/// What is known of a version without its data.
#[derive(Serialize, JsonSchema)]
pub(super) struct VersionInfo {
    /// RFC 3339.
    created_time: String,
    /// What the secret's metadata says for people and programs.
    custom_metadata: Option<BTreeMap<String, String>>,
    /// RFC 3339, or empty; may be in the future.
    deletion_time: String,
    /// Whether the data is gone for good.
    destroyed: bool,
    version: u64,
}

pub(super) async fn read_data(cx: Cx<Kv>, input: ReadData) -> Result<ReadSecret> {
    let now = Stamp::of(cx.request.now);
    for _ in 0..MAX_READS {
        let entry = cx.stored(&input.path).await?.ok_or_else(Error::not_found)?;
        let mut texts = Texts::of(&entry);
        let head: Head = texts.next()?;
        let number = match input.version {
            Count(0) => head.current,
            Count(asked) => asked,
        };
        if number == head.current {
            let latest = head.latest.ok_or_else(Error::not_found)?;
            let data = if latest.is_live(now) {
                Some(texts.next()?)
            } else {
                None
            };
            return SecretData::answer(data, &head, number, &latest);
        }
        let record = Record::open(&entry)?;
        let version = record.version(number).ok_or_else(Error::not_found)?;
        if !version.is_live(now) {
            return SecretData::answer(None, &head, number, version);
        }
        if let Some(entry) = cx.older(&record.history.id, number).await? {
            let data = Texts::of(&entry).next()?;
            return SecretData::answer(Some(data), &head, number, version);
        }
        // The version was destroyed, or fell out of the history, since the record was read: the
        // record says so by now.
    }
    Err(Error::internal(
        "a version of a secret has no data, and nothing says why",
    ))
}

pub(super) async fn write_data(cx: Cx<Kv>, input: WriteData) -> Result<WrittenVersion> {
    let data = input
        .data
        .ok_or_else(|| Error::bad_request("no data provided"))?;
    refuse_rounded(&data)?;
    let options = input.options.unwrap_or_default();
    let config = cx.config().await?;
    let now = Stamp::of(cx.request.now);
    let version = cx
        .change(&input.path, |record, batch| {
            let mut record = record.unwrap_or_else(|| Record::new(now));
            check_cas(options.cas, &record, &config)?;
            let superseded = record.head.current;
            let version = Version::new(now, config.expiry(&record.history.settings, now));
            let gone = record.add(version, config.keep(&record.history.settings));
            for number in gone.clone().filter(|&number| number != superseded) {
                cx.delete_version(batch, &record.history.id, number);
            }
            if let Some(text) = record.text().filter(|_| !gone.contains(&superseded)) {
                cx.put_version(batch, &record.history.id, superseded, text);
            }
            record.data = Some(Latest::New(&data));
            cx.put_record(batch, &input.path, &record)?;
            Ok(VersionInfo::new(
                &record.head,
                record.head.current,
                &version,
            ))
        })
        .await?;
    let mut warnings = Vec::new();
    if !options.unknown.is_empty() {
        let names: Vec<&str> = options.unknown.keys().map(String::as_str).collect();
        warnings.push(format!(
            "These unrecognized options were ignored: [{}]",
            names.join(" ")
        ));
    }
    Ok(WrittenVersion { version, warnings })
}

pub(super) async fn delete_latest(cx: Cx<Kv>, input: At) -> Result<NoContent> {
    let now = Stamp::of(cx.request.now);
    cx.change(&input.path, |record, batch| {
        let Some(mut record) = record else {
            return Ok(NoContent);
        };
        let latest = record.head.current;
        if record
            .version_mut(latest)
            .is_some_and(|version| version.delete(now))
        {
            cx.put_record(batch, &input.path, &record)?;
        }
        Ok(NoContent)
    })
    .await
}

/// Whether a write creates or updates.
pub(super) async fn exists(cx: Cx<Kv>, input: At) -> Result<bool> {
    Ok(cx.stored(&input.path).await?.is_some())
}

fn check_cas(cas: Option<Count>, record: &Record<'_>, config: &Config) -> Result<()> {
    match cas {
        Some(Count(version)) if version == record.head.current => Ok(()),
        Some(_) => Err(Error::bad_request(
            "check-and-set parameter did not match the current version",
        )),
        None if config.cas_required || record.history.settings.cas_required => Err(
            Error::bad_request("check-and-set parameter required for this call"),
        ),
        None => Ok(()),
    }
}

/// Reads a field that, when it is there, must not be null.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Count>, D::Error> {
    Count::deserialize(d).map(Some)
}

impl SecretData<'_> {
    fn answer(
        data: Option<&RawValue>,
        head: &Head,
        number: u64,
        version: &Version,
    ) -> Result<ReadSecret> {
        if data.is_some_and(|data| !data.get().starts_with('{')) {
            return Err(Error::internal("the data of a secret is no object"));
        }
        let status = if data.is_some() { 200 } else { 404 };
        let reply = Reply::json(&SecretData {
            data,
            metadata: VersionInfo::new(head, number, version),
        })?;
        Ok(ReadSecret { reply, status })
    }
}

/// A [`SecretData`] that is written.
pub(super) struct ReadSecret {
    reply: Reply,
    status: u16,
}

impl VersionInfo {
    fn new(head: &Head, number: u64, version: &Version) -> Self {
        Self {
            created_time: version.created.text(),
            custom_metadata: head.custom_metadata.clone(),
            deletion_time: Stamp::text_or_empty(version.deletion()),
            destroyed: version.destroyed,
            version: number,
        }
    }
}

impl Output for ReadSecret {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(self.reply).with_status(self.status))
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<SecretData<'static>>())
    }
}

impl Output for WrittenVersion {
    fn into_response(self) -> Result<Response> {
        let mut response = Response::new(Reply::json(&self.version)?);
        response.warnings = self.warnings;
        Ok(response)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<VersionInfo>())
    }
}

/// How often a read looks again when an older version vanishes under it. Once is enough, unless the
/// secret is deleted and written anew each time.
const MAX_READS: u32 = 8;
