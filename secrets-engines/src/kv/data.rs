//! `data/`: writing, patching and deleting a secret.

use std::collections::BTreeMap;

use obol_mount::fields::Count;
use obol_mount::{Cx, Error, NoContent, Output, Reply, Response, Result};
use obol_storage::Batch;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::{Map, Value};

use super::Kv;
use super::config::Config;
use super::read::{At, VersionInfo};
use super::record::{Record, Stamp, VersionData};
use crate::merge_patch::merge_patch;
use crate::numbers::refuse_rounded;

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

#[derive(Deserialize, JsonSchema)]
pub(super) struct PatchData {
    /// Where the secret is.
    path: String,
    /// What changes in the latest version (a JSON merge patch, RFC 7396): names with their new values, or with null
    /// where they go. Required.
    data: Option<Map<String, Value>>,
    /// How to write it.
    options: Option<WriteOptions>,
}

/// The version that was written.
pub(super) struct WrittenVersion {
    version: VersionInfo,
    warnings: Vec<String>,
}

pub(super) async fn write_data(cx: Cx<Kv>, input: WriteData) -> Result<WrittenVersion> {
    let data = input.data.ok_or_else(no_data)?;
    refuse_rounded(&data)?;
    let options = input.options.unwrap_or_default();
    let config = cx.config().await?;
    let now = Stamp::of(cx.request.now);
    let version = cx
        .change(&input.path, |record, batch| {
            let record = record.unwrap_or_else(|| Record::new(now));
            check_cas(options.cas, &record, &config)?;
            cx.add_version(batch, &input.path, record, &data, &config, now)
        })
        .await?;
    Ok(WrittenVersion {
        version,
        warnings: options.warnings(),
    })
}

/// Writes a version that differs from the latest by a merge patch.
pub(super) async fn patch_data(cx: Cx<Kv>, input: PatchData) -> Result<PatchedVersion> {
    let patch = input.data.ok_or_else(no_data)?;
    refuse_rounded(&patch)?;
    let options = input.options.unwrap_or_default();
    let config = cx.config().await?;
    let now = Stamp::of(cx.request.now);
    let (version, status) = cx
        .change_latest(&input.path, |record, latest, batch| {
            let record = record.ok_or_else(Error::not_found)?;
            check_cas(options.cas, &record, &config)?;
            let current = record.head.latest.ok_or_else(Error::not_found)?;
            // What there is to be said of a deleted version comes with the 404, as for a read.
            let Some(latest) = latest.filter(|_| current.is_live(now)) else {
                let number = record.head.current;
                return Ok((VersionInfo::new(&record.head, number, &current), 404));
            };
            let mut data = serde_json::from_str(latest.get())
                .map_err(|_| Error::internal("the data of a secret is no object"))?;
            merge_patch(&mut data, &patch);
            let written = cx.add_version(batch, &input.path, record, &data, &config, now)?;
            Ok((written, 200))
        })
        .await?;
    let written = WrittenVersion {
        version,
        warnings: options.warnings(),
    };
    Ok(PatchedVersion { written, status })
}

impl Kv {
    /// Puts into `batch` what a new version changes.
    fn add_version<'a>(
        &self,
        batch: &mut Batch,
        path: &str,
        mut record: Record<'a>,
        data: &'a Map<String, Value>,
        config: &Config,
        now: Stamp,
    ) -> Result<VersionInfo> {
        let settings = &record.history.settings;
        let (expiry, keep) = (config.expiry(settings, now), config.keep(settings));
        let superseded = record.head.current;
        let only = record.only.take();
        let (version, free) = record.add(now, expiry, keep);
        let number = record.head.current;
        if only.is_none() {
            for place in free {
                self.delete_version(batch, &record.head.id, place);
            }
        }
        let data = VersionData::New(data);
        if record.has_one_version() {
            record.only = Some(data);
        } else {
            // From the second version on, the data of each lies apart.
            if let Some(only) = only {
                self.put_version(batch, &record, superseded, &only)?;
            }
            self.put_version(batch, &record, number, &data)?;
        }
        self.put_record(batch, path, &record)?;
        Ok(VersionInfo::new(&record.head, number, &version))
    }
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

fn no_data() -> Error {
    Error::bad_request("no data provided")
}

impl WriteOptions {
    fn warnings(&self) -> Vec<String> {
        if self.unknown.is_empty() {
            return Vec::new();
        }
        let names: Vec<&str> = self.unknown.keys().map(String::as_str).collect();
        vec![format!(
            "These unrecognized options were ignored: [{}]",
            names.join(" ")
        )]
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

/// The version that a patch made, or why there was nothing to patch.
pub(super) struct PatchedVersion {
    written: WrittenVersion,
    status: u16,
}

impl Output for PatchedVersion {
    fn into_response(self) -> Result<Response> {
        Ok(self.written.into_response()?.with_status(self.status))
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        WrittenVersion::schema(generator)
    }

    /// There was nothing to patch.
    const ALSO: &'static [u16] = &[404];
}
