//! `data/`: reading, writing and deleting a secret.

use std::collections::BTreeMap;

use obol_mount::fields::Count;
use obol_mount::{Cx, Data, Error, NoContent, Output, Reply, Response, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Kv;
use super::config::Config;
use super::record::{Latest, Record, Secret, Stamp, Version};
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
#[derive(JsonSchema)]
pub(super) struct SecretData {
    /// The secret as it was written.
    data: Option<Map<String, Value>>,
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

pub(super) async fn read_data(cx: Cx<Kv>, input: ReadData) -> Result<SecretData> {
    let now = Stamp::of(cx.request.now);
    for _ in 0..MAX_READS {
        let entry = cx.stored(&input.path).await?.ok_or_else(Error::not_found)?;
        let record = Record::open(&entry)?;
        let secret = &record.secret;
        let number = match input.version {
            Count(0) => secret.current,
            Count(asked) => asked,
        };
        let version = secret.version(number).ok_or_else(Error::not_found)?;
        if !version.is_live(now) {
            return Ok(SecretData {
                data: None,
                metadata: VersionInfo::new(secret, number, version),
            });
        }
        let data = if number == secret.current {
            record.text().map(parse)
        } else {
            cx.older(&secret.id, number).await?.map(|entry| {
                std::str::from_utf8(&entry.value)
                    .map_err(|_| unreadable())
                    .and_then(parse)
            })
        };
        if let Some(data) = data {
            let metadata = VersionInfo::new(secret, number, version);
            return Ok(SecretData {
                data: Some(data?),
                metadata,
            });
        }
        // An older version was destroyed, or fell out of the history, since the record was read:
        // the record says so by now.
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
            let previous = record.as_ref().and_then(Record::text);
            let mut secret = record.map_or_else(|| Secret::new(now), |record| record.secret);
            check_cas(options.cas, &secret, &config)?;
            let superseded = secret.current;
            let version = Version::new(now, config.expiry(&secret.settings, now));
            let gone = secret.add(version, config.keep(&secret.settings));
            for number in gone.clone().filter(|&number| number != superseded) {
                cx.delete_version(batch, &secret.id, number);
            }
            if let Some(previous) = previous.filter(|_| !gone.contains(&superseded)) {
                cx.put_version(batch, &secret.id, superseded, previous);
            }
            let info = VersionInfo::new(&secret, secret.current, &version);
            let record = Record {
                secret,
                data: Some(Latest::New(&data)),
            };
            cx.put_record(batch, &input.path, &record)?;
            Ok(info)
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
        let latest = record.secret.current;
        if record
            .secret
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

fn check_cas(cas: Option<Count>, secret: &Secret, config: &Config) -> Result<()> {
    match cas {
        Some(Count(version)) if version == secret.current => Ok(()),
        Some(_) => Err(Error::bad_request(
            "check-and-set parameter did not match the current version",
        )),
        None if config.cas_required || secret.settings.cas_required => Err(Error::bad_request(
            "check-and-set parameter required for this call",
        )),
        None => Ok(()),
    }
}

fn parse(data: &str) -> Result<Map<String, Value>> {
    // serde's text may quote the data.
    serde_json::from_str(data).map_err(|_| unreadable())
}

fn unreadable() -> Error {
    Error::internal("the stored data of a secret is not a JSON object")
}

/// Reads a field that, when it is there, must not be null.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Count>, D::Error> {
    Count::deserialize(d).map(Some)
}

impl VersionInfo {
    fn new(secret: &Secret, number: u64, version: &Version) -> Self {
        Self {
            created_time: version.created.text(),
            custom_metadata: secret.settings.custom_metadata.clone(),
            deletion_time: Stamp::text_or_empty(version.deletion()),
            destroyed: version.destroyed,
            version: number,
        }
    }
}

impl Output for SecretData {
    // Spelled out rather than serialised, because that would copy every string of the data.
    fn into_response(self) -> Result<Response> {
        let found = self.data.is_some();
        let metadata = serde_json::to_value(self.metadata).map_err(Error::internal)?;
        let mut answer = Map::new();
        answer.insert(
            "data".to_owned(),
            self.data.map_or(Value::Null, Value::Object),
        );
        answer.insert("metadata".to_owned(), metadata);
        let response = Response::new(Reply::Data(answer));
        Ok(if found {
            response
        } else {
            response.with_status(404)
        })
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Self>())
    }
}

impl Output for WrittenVersion {
    fn into_response(self) -> Result<Response> {
        let mut response = Data(self.version).into_response()?;
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
