//! `data/` and `subkeys/`: reading a version of a secret, whole or without its values.

use std::collections::BTreeMap;

use obol_mount::fields::Count;
use obol_mount::{Cx, Error, Output, Reply, Response, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Kv;
use super::record::{Head, Record, Stamp, Texts, Version, apart_data};

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
pub(super) struct ReadSubkeys {
    /// Where the secret is.
    path: String,
    /// Which version to read; 0, or nothing, is the latest.
    #[serde(default)]
    version: Count,
    /// How many levels of names are shown: what lies deeper is null like a value. 0, or nothing, is all of them.
    #[serde(default)]
    depth: Count,
}

/// A version and its data; deleted and destroyed versions have `data` null and come with status 404.
#[derive(Serialize, JsonSchema)]
pub(super) struct SecretData<'a> {
    // The stored text, which nobody needs to look into to pass it on.
    /// The secret as it was written: any JSON object.
    #[schemars(with = "Option<Map<String, Value>>")]
    data: Option<&'a RawValue>,
    metadata: VersionInfo,
}

/// The names in a version, each with null in the place of its value.
#[derive(Serialize, JsonSchema)]
struct Subkeys {
    metadata: VersionInfo,
    /// The secret without its values; null when the version is deleted or destroyed, which comes with status 404.
    subkeys: Option<Map<String, Value>>,
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
    /// The number of the version; the first one is 1.
    version: u64,
}

pub(super) async fn read_data(cx: Cx<Kv>, input: ReadData) -> Result<ReadSecret> {
    read_version(&cx, &input.path, input.version, SecretData::answer).await
}

pub(super) async fn read_subkeys(cx: Cx<Kv>, input: ReadSubkeys) -> Result<ReadKeys> {
    let Count(depth) = input.depth;
    let answer = |data: Option<&RawValue>, head: &Head, number, version: &Version| {
        let mut subkeys: Option<Map<String, Value>> = data
            .map(|data| serde_json::from_str(data.get()))
            .transpose()
            .map_err(|_| Error::internal("the data of a secret is no object"))?;
        if let Some(names) = &mut subkeys {
            without_values(names, depth);
        }
        let status = if data.is_some() { 200 } else { 404 };
        let reply = Reply::json(&Subkeys {
            metadata: VersionInfo::new(head, number, version),
            subkeys,
        })?;
        Ok(ReadKeys(ReadSecret { reply, status }))
    };
    read_version(&cx, &input.path, input.version, answer).await
}

/// Puts null in the place of every value. `depth` levels stay; 0 is all of them. An object without names is a value.
fn without_values(names: &mut Map<String, Value>, depth: u64) {
    for value in names.values_mut() {
        match value {
            Value::Object(below) if depth != 1 && !below.is_empty() => {
                without_values(below, depth.saturating_sub(1));
            }
            value => *value = Value::Null,
        }
    }
}

/// Reads a version (0: the latest) and lets `answer` say what becomes of its data, which is `None` when the version
/// is deleted or destroyed.
async fn read_version<T>(
    cx: &Cx<Kv>,
    path: &str,
    Count(asked): Count,
    answer: impl Fn(Option<&RawValue>, &Head, u64, &Version) -> Result<T>,
) -> Result<T> {
    let now = Stamp::of(cx.request.now);
    for _ in 0..MAX_READS {
        let entry = cx.stored(path).await?.ok_or_else(Error::not_found)?;
        let mut texts = Texts::of(&entry);
        let head: Head = texts.next()?;
        let (number, version) = match asked {
            0 => (head.current, head.latest),
            asked if asked == head.current => (asked, head.latest),
            asked => (asked, Record::open(&entry)?.version(asked).copied()),
        };
        let version = version.ok_or_else(Error::not_found)?;
        if !version.is_live(now) {
            return answer(None, &head, number, &version);
        }
        // The latest version rests in the record while it is the only one.
        if let Some(data) = texts.next::<Option<&RawValue>>()? {
            return answer(Some(data), &head, number, &version);
        }
        drop(texts);
        let entry = cx.apart(&head.id, version.place).await?;
        let data = entry.as_ref().map(|entry| apart_data(entry, number));
        if let Some(data) = data.transpose()?.flatten() {
            return answer(Some(data), &head, number, &version);
        }
        // The version was destroyed, or another took its place, since the record was read: the record says so by now.
    }
    Err(Error::internal(
        "a version of a secret has no data, and nothing says why",
    ))
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
    pub(super) fn new(head: &Head, number: u64, version: &Version) -> Self {
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

    /// A version that is deleted is 404 with its metadata.
    const ALSO: &'static [u16] = &[404];
}

/// [`Subkeys`] that are written.
pub(super) struct ReadKeys(ReadSecret);

impl Output for ReadKeys {
    fn into_response(self) -> Result<Response> {
        self.0.into_response()
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Subkeys>())
    }

    /// A version that is deleted is 404 with its metadata.
    const ALSO: &'static [u16] = &[404];
}

/// How often a read looks again when a version vanishes under it. Once is enough, unless the
/// secret is deleted and written anew each time.
const MAX_READS: u32 = 8;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn subkeys_are_names_without_values_as_deep_as_is_asked() {
        let secret = json!({"a": 1, "b": {"c": {"d": [1]}, "e": null}, "f": {}, "g": [{"h": 1}]});
        for (depth, expected) in [
            (
                0,
                json!({"a": null, "b": {"c": {"d": null}, "e": null}, "f": null, "g": null}),
            ),
            (1, json!({"a": null, "b": null, "f": null, "g": null})),
            (
                2,
                json!({"a": null, "b": {"c": null, "e": null}, "f": null, "g": null}),
            ),
            (
                3,
                json!({"a": null, "b": {"c": {"d": null}, "e": null}, "f": null, "g": null}),
            ),
        ] {
            let mut names = secret.as_object().unwrap().clone();
            without_values(&mut names, depth);
            assert_eq!(Value::Object(names), expected, "depth {depth}");
        }
    }
}
