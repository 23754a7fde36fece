//! What is stored of one secret, and how its versions come and go. No storage here: the handlers
//! move the data.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use obol_mount::{Error, Result};
use obol_storage::Entry;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// The record of a secret, as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Record<'a> {
    pub(super) secret: Secret,
    /// The data of the latest version, unless there is none or it was destroyed.
    #[serde(borrow)]
    pub(super) data: Option<Latest<'a>>,
}

/// Data as it lies in a record, or on its way into one. What is stored is passed on as the text
/// that it is; nobody needs to look into it.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Latest<'a> {
    Stored(&'a RawValue),
    New(&'a Map<String, Value>),
}

/// Everything about a secret but its data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Secret {
    /// Unique to this life of the secret: after a deletion of its metadata, the next one's
    /// versions cannot be mistaken for the old ones.
    pub(super) id: String,
    /// The latest version; 0 before the first.
    pub(super) current: u64,
    /// As Vault counts: 0 until there are as many versions as are kept.
    pub(super) oldest: u64,
    pub(super) created: Stamp,
    /// When the latest version was written.
    pub(super) updated: Stamp,
    /// The versions that are kept; the last is the latest.
    versions: Vec<Version>,
    #[serde(default, skip_serializing_if = "Settings::is_default")]
    pub(super) settings: Settings,
}

/// The settings of one secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// How many versions are kept; 0 leaves it to the mount.
    pub(super) max_versions: u32,
    pub(super) cas_required: bool,
    /// Seconds until a new version is deleted; 0 leaves it to the mount.
    pub(super) delete_version_after: u64,
    pub(super) custom_metadata: Option<BTreeMap<String, String>>,
}

/// The state of one version.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) created: Stamp,
    /// When it was deleted. Counts whatever the clock says: a deleted secret does not come back
    /// because the clock was set back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted: Option<Stamp>,
    /// When it deletes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Stamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) destroyed: bool,
}

/// Nanoseconds since 1970, which last until 2554.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Stamp(u64);

impl<'a> Record<'a> {
    /// Reads a stored record; the data stays where it is.
    pub(super) fn open(entry: &'a Entry) -> Result<Self> {
        // serde's text may quote the record: only the place goes on.
        serde_json::from_slice(&entry.value).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Error::internal(format_args!(
                "the record of a secret breaks off its form at {line}:{column}"
            ))
        })
    }

    /// The stored text of the latest version's data.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.data {
            Some(Latest::Stored(raw)) => Some(raw.get()),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Latest<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <&'a RawValue>::deserialize(d).map(Self::Stored)
    }
}

impl Secret {
    /// A secret without a version.
    pub(super) fn new(now: Stamp) -> Self {
        Self {
            id: Uuid::new_v4().simple().to_string(),
            current: 0,
            oldest: 0,
            created: now,
            updated: now,
            versions: Vec::new(),
            settings: Settings::default(),
        }
    }

    pub(super) fn version(&self, number: u64) -> Option<&Version> {
        self.versions.get(self.index(number)?)
    }

    pub(super) fn version_mut(&mut self, number: u64) -> Option<&mut Version> {
        let index = self.index(number)?;
        self.versions.get_mut(index)
    }

    /// The versions that are kept, with their numbers.
    pub(super) fn versions(&self) -> impl Iterator<Item = (u64, &Version)> {
        (self.first()..).zip(&self.versions)
    }

    /// Adds a version, keeping at most `keep`, and returns the numbers of those that go.
    pub(super) fn add(&mut self, version: Version, keep: u32) -> Range<u64> {
        let first = self.first();
        let keep = u64::from(keep.max(1));
        self.current += 1;
        self.updated = version.created;
        self.versions.push(version);
        if self.current - self.oldest >= keep {
            self.oldest = self.current - keep + 1;
        }
        let gone = first..self.oldest.max(first);
        self.versions.drain(..(gone.end - gone.start) as usize);
        gone
    }

    /// The number of the oldest version that is kept; one past the latest when there is none.
    fn first(&self) -> u64 {
        self.current + 1 - self.versions.len() as u64
    }

    fn index(&self, number: u64) -> Option<usize> {
        number
            .checked_sub(self.first())
            .and_then(|index| usize::try_from(index).ok())
    }
}

impl Settings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Version {
    pub(super) fn new(created: Stamp, expires: Option<Stamp>) -> Self {
        Self {
            created,
            deleted: None,
            expires,
            destroyed: false,
        }
    }

    /// Whether reading it gives its data.
    pub(super) fn is_live(&self, now: Stamp) -> bool {
        !self.destroyed && !self.is_deleted(now)
    }

    /// The deletion that has happened, or the one that is to come.
    pub(super) fn deletion(&self) -> Option<Stamp> {
        self.deleted.or(self.expires)
    }

    /// Returns whether that changed anything.
    pub(super) fn delete(&mut self, now: Stamp) -> bool {
        let live = self.is_live(now);
        if live {
            self.deleted = Some(now);
        }
        live
    }

    /// Returns whether that changed anything. `expires` is the next time that it deletes itself.
    pub(super) fn undelete(&mut self, expires: Option<Stamp>) -> bool {
        if self.destroyed || (self.deletion().is_none() && expires.is_none()) {
            return false;
        }
        self.deleted = None;
        self.expires = expires;
        true
    }

    /// Returns whether there is data to remove.
    pub(super) fn destroy(&mut self) -> bool {
        !std::mem::replace(&mut self.destroyed, true)
    }

    fn is_deleted(&self, now: Stamp) -> bool {
        self.deleted.is_some() || self.expires.is_some_and(|at| at <= now)
    }
}

impl Stamp {
    pub(super) fn of(time: SystemTime) -> Self {
        let nanos = time
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        Self(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(super) fn after(self, wait: Duration) -> Self {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// RFC 3339 with the fraction's trailing zeros left out, as Vault prints times.
    pub(super) fn text(self) -> String {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0))
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok())
            .expect("64 bits of nanoseconds end in 2554, a year that RFC 3339 can write")
    }

    /// `None` is an empty text, as in Vault.
    pub(super) fn text_or_empty(stamp: Option<Self>) -> String {
        stamp.map(Self::text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Stamp {
        Stamp(nanos)
    }

    #[test]
    fn times_are_rfc_3339_in_utc_with_nanoseconds() {
        assert_eq!(
            at(1_521_685_446_945_319_214).text(),
            "2018-03-22T02:24:06.945319214Z"
        );
        assert_eq!(
            at(1_521_685_446_945_319_200).text(),
            "2018-03-22T02:24:06.9453192Z"
        );
        assert_eq!(at(1_521_685_446_000_000_000).text(), "2018-03-22T02:24:06Z");
        assert!(at(u64::MAX).text().starts_with("2554-"));
        assert_eq!(Stamp::text_or_empty(None), "");
    }

    #[test]
    fn the_oldest_version_is_counted_as_vault_does() {
        let mut secret = Secret::new(at(1));
        for n in 1..=9 {
            assert!(secret.add(Version::new(at(n), None), 10).is_empty());
            assert_eq!(secret.oldest, 0);
        }
        assert!(secret.add(Version::new(at(10), None), 10).is_empty());
        assert_eq!(secret.oldest, 1);
        assert_eq!(secret.add(Version::new(at(11), None), 10), 1..2);
        assert_eq!(secret.oldest, 2);
        assert_eq!(secret.add(Version::new(at(12), None), 3), 2..10);
        let kept: Vec<u64> = secret.versions().map(|(number, _)| number).collect();
        assert_eq!(kept, [10, 11, 12]);
        assert!(secret.version(9).is_none() && secret.version(13).is_none());
        assert_eq!(
            secret.version(11).map(|version| version.created),
            Some(at(11))
        );
        // More are kept again: those that are gone stay gone.
        assert!(secret.add(Version::new(at(13), None), 10).is_empty());
        assert_eq!(secret.versions().count(), 4);
    }

    #[test]
    fn a_deleted_version_stays_deleted_when_the_clock_is_set_back() {
        let mut version = Version::new(at(10), None);
        assert!(version.delete(at(100)));
        assert!(!version.is_live(at(50)));
        assert!(!version.delete(at(200)));
        assert_eq!(version.deletion(), Some(at(100)));
        assert!(version.undelete(None));
        assert!(version.is_live(at(50)));
        assert!(!version.undelete(None));
    }
}
