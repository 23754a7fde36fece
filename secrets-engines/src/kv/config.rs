//! `config`: settings that hold for every secret of a mount.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use obol_mount::fields::{Count, Flag, Ttl};
use obol_mount::{Cx, Data, Error, NoContent, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::Kv;
use super::record::{Settings, Stamp};

/// The settings of the mount, as they are stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Config {
    /// How many versions of a secret are kept; 0 is the default.
    max_versions: u32,
    pub(super) cas_required: bool,
    /// Seconds until a new version is deleted; 0 is never, -1 is never whatever a secret says.
    delete_version_after: i64,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteConfig {
    /// How many versions of each secret are kept; 0 is the default, 10.
    max_versions: Option<Count>,
    /// Whether every write must say, by `cas`, which version it replaces.
    cas_required: Option<Flag>,
    /// How long until a new version is deleted by itself; 0 is never, and a negative duration
    /// turns it off for all secrets, whatever their own settings say.
    delete_version_after: Option<SignedTtl>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ReadConfig {
    /// How many versions of each secret are kept; 0 is the default, 10.
    max_versions: u32,
    /// Whether every write must say, by `cas`, which version it replaces.
    cas_required: bool,
    /// How long until a new version is deleted by itself.
    delete_version_after: String,
}

pub(super) async fn read_config(cx: Cx<Kv>) -> Result<Data<ReadConfig>> {
    let config = cx.config().await?;
    Ok(Data(ReadConfig {
        max_versions: config.max_versions,
        cas_required: config.cas_required,
        delete_version_after: duration_text(config.delete_version_after),
    }))
}

pub(super) async fn write_config(cx: Cx<Kv>, input: WriteConfig) -> Result<NoContent> {
    let max_versions = input.max_versions.map(max_versions).transpose()?;
    if max_versions.is_none()
        && input.cas_required.is_none()
        && input.delete_version_after.is_none()
    {
        return Ok(NoContent);
    }
    cx.ready()?;
    cx.storage
        .update_json(CONFIG, |config: Option<Config>| {
            let mut config = config.unwrap_or_default();
            if let Some(max_versions) = max_versions {
                config.max_versions = max_versions;
            }
            if let Some(Flag(required)) = input.cas_required {
                config.cas_required = required;
            }
            if let Some(SignedTtl(seconds)) = input.delete_version_after {
                config.delete_version_after = seconds;
            }
            Ok::<_, Error>(config)
        })
        .await?;
    Ok(NoContent)
}

impl Kv {
    /// The mount's settings. A point read, not a cache: another server may have written them.
    pub(super) async fn config(&self) -> Result<Config> {
        self.ready()?;
        Ok(self.storage.get_json(CONFIG).await?.unwrap_or_default())
    }
}

impl Config {
    /// How many versions of a secret are kept: its own setting, or the mount's, or ten.
    pub(super) fn keep(&self, secret: &Settings) -> u32 {
        let set = [secret.max_versions, self.max_versions];
        set.into_iter()
            .find(|&max| max > 0)
            .unwrap_or(DEFAULT_MAX_VERSIONS)
    }

    /// What there is to be said of a secret's settings that the mount's do not let count.
    pub(super) fn overrides(&self, cas_required: Option<Flag>, after: Option<Ttl>) -> Vec<String> {
        let mut warnings = Vec::new();
        if cas_required == Some(Flag(false)) && self.cas_required {
            warnings.push(
                "cas_required is false here, but the mount's configuration requires cas all the same"
                    .to_owned(),
            );
        }
        let asked = after.map_or(0, Ttl::as_secs);
        match u64::try_from(self.delete_version_after) {
            Err(_) if asked > 0 => warnings.push(
                "delete_version_after is set here, but the mount's configuration turns it off for all secrets"
                    .to_owned(),
            ),
            Ok(mount @ 1..) if asked > mount => warnings.push(format!(
                "delete_version_after is longer here than the mount's, whose {} count",
                duration_text(self.delete_version_after)
            )),
            _ => {}
        }
        warnings
    }

    /// When a version that comes to life now deletes itself: after the shorter time of the two
    /// that are set.
    pub(super) fn expiry(&self, secret: &Settings, now: Stamp) -> Option<Stamp> {
        let mount = u64::try_from(self.delete_version_after).ok()?;
        let set = [secret.delete_version_after, mount];
        let after = set.into_iter().filter(|&after| after > 0).min()?;
        Some(now.after(Duration::from_secs(after)))
    }
}

/// Reads `max_versions`, here and in a secret's settings.
pub(super) fn max_versions(Count(count): Count) -> Result<u32> {
    u32::try_from(count)
        .map_err(|_| Error::bad_request("max_versions: expected at most 4294967295"))
}

/// Seconds as Go prints a duration: `3h25m19s`, `1h0m0s`, `0s`, `-1s`.
pub(super) fn duration_text(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let seconds = seconds.unsigned_abs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{sign}{s}s"),
        (0, _) => format!("{sign}{m}m{s}s"),
        _ => format!("{sign}{h}h{m}m{s}s"),
    }
}

/// Whole seconds, or -1 for every negative duration.
struct SignedTtl(i64);

impl<'de> Deserialize<'de> for SignedTtl {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct SignedVisitor;
        impl Visitor<'_> for SignedVisitor {
            type Value = SignedTtl;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"3h25m\" or 5400 (seconds), or a negative one")
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<SignedTtl, E> {
                plain(de::value::U64Deserializer::new(v))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<SignedTtl, E> {
                match u64::try_from(v) {
                    Ok(v) => self.visit_u64(v),
                    Err(_) => Ok(SignedTtl(-1)),
                }
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<SignedTtl, E> {
                plain(de::value::F64Deserializer::new(v))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<SignedTtl, E> {
                match v.trim().strip_prefix('-') {
                    // "-0s" is no duration below zero.
                    Some(v) => plain(de::value::StrDeserializer::new(v))
                        .map(|SignedTtl(seconds)| SignedTtl(-seconds.signum())),
                    None => plain(de::value::StrDeserializer::new(v)),
                }
            }
        }
        fn plain<'de, D: Deserializer<'de>>(d: D) -> Result<SignedTtl, D::Error> {
            let seconds = Ttl::deserialize(d)?.as_secs();
            Ok(SignedTtl(i64::try_from(seconds).unwrap_or(i64::MAX)))
        }
        d.deserialize_any(SignedVisitor)
    }
}

impl JsonSchema for SignedTtl {
    fn schema_name() -> Cow<'static, str> {
        "SignedTtl".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "examples": ["3h25m19s", 5400, "-1s"] })
    }
}

const CONFIG: &str = "config";
const DEFAULT_MAX_VERSIONS: u32 = 10;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (3600, "1h0m0s"),
            (12319, "3h25m19s"),
            (-1, "-1s"),
        ] {
            assert_eq!(duration_text(seconds), text);
        }
    }

    #[test]
    fn a_negative_duration_is_one_switch_and_nonsense_is_refused() {
        let read = |value: Value| serde_json::from_value(value).map(|SignedTtl(seconds)| seconds);
        assert_eq!(read(json!("3h25m19s")).unwrap(), 12319);
        assert_eq!(read(json!(90)).unwrap(), 90);
        assert_eq!(read(json!("-90m")).unwrap(), -1);
        assert_eq!(read(json!(-5)).unwrap(), -1);
        assert_eq!(read(json!("-0s")).unwrap(), 0);
        for wrong in [json!("soon"), json!("--5s"), json!(true), json!([])] {
            assert!(read(wrong).is_err());
        }
    }

    #[test]
    fn the_shorter_of_two_lifetimes_counts_unless_the_mount_turns_both_off() {
        let secret = |delete_version_after| Settings {
            delete_version_after,
            ..Settings::default()
        };
        let mount = |delete_version_after| Config {
            delete_version_after,
            ..Config::default()
        };
        let now = Stamp::of(std::time::UNIX_EPOCH);
        let after = |seconds| Some(now.after(Duration::from_secs(seconds)));
        assert_eq!(mount(0).expiry(&secret(0), now), None);
        assert_eq!(mount(5).expiry(&secret(0), now), after(5));
        assert_eq!(mount(0).expiry(&secret(7), now), after(7));
        assert_eq!(mount(5).expiry(&secret(7), now), after(5));
        assert_eq!(mount(9).expiry(&secret(7), now), after(7));
        assert_eq!(mount(-1).expiry(&secret(7), now), None);
    }
}
