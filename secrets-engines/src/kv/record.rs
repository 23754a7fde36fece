//! What is stored of one secret, and how its versions come and go. No storage here: the handlers
//! move the data.
//!
//! A record is three JSON texts in a row: the [`Head`], the data of the latest version while it is the
//! only one that is kept (or `null`), and the [`History`]. Reading the latest version, which is what most requests
//! do, parses the first two and does not look at the third.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use obol_mount::{Error, Result};
use obol_storage::{Entry, to_json};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::de::SliceRead;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The record of a secret.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) head: Head,
    /// The data of the latest version while it is the only one that is kept, unless it was destroyed.
    pub(super) only: Option<VersionData<'a>>,
    pub(super) history: History,
}

/// What reading the latest version takes, besides its data.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    /// The latest version; 0 before the first.
    pub(super) current: u64,
    /// Unique to this life of the secret: after a deletion of its metadata, the next one's
    /// versions cannot be mistaken for the old ones.
    pub(super) id: String,
    /// There is one unless `current` is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) latest: Option<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) custom_metadata: Option<BTreeMap<String, String>>,
}

/// The data of a version, which rests in the record or lies apart.
pub(super) enum VersionData<'a> {
    /// As the text that it is stored as: nobody needs to look into it to pass it on.
    Stored(&'a RawValue),
    New(&'a Map<String, Value>),
}

/// Everything else.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct History {
    pub(super) created: Stamp,
    /// As Vault counts: 0 until there are as many versions as are kept.
    pub(super) oldest: u64,
    /// The versions that are kept before the latest, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    older: Vec<Version>,
    #[serde(default, skip_serializing_if = "Settings::is_default")]
    pub(super) settings: Settings,
}

/// The settings of one secret.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// How many versions are kept; 0 leaves it to the mount.
    pub(super) max_versions: u32,
    pub(super) cas_required: bool,
    /// Seconds until a new version is deleted; 0 leaves it to the mount.
    pub(super) delete_version_after: u64,
}

/// The state of one version. Stored as a list of what is below, which ends with the place while nothing else is to be
/// said of it: ten of them are read and written with each new version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub(super) created: Stamp,
    /// Where its data lies when it lies apart: no two versions that are kept have the same. At most the version's
    /// number, so that the number of a new version is always free.
    pub(super) place: u64,
    /// When it was deleted. Counts whatever the clock says: a deleted secret does not come back
    /// because the clock was set back.
    deleted: Option<Stamp>,
    /// When it deletes itself.
    expires: Option<Stamp>,
    pub(super) destroyed: bool,
}

/// Nanoseconds since 1970, which last until 2554.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Stamp(u64);

/// The texts of a stored record, one after the other.
pub(super) struct Texts<'a>(serde_json::Deserializer<SliceRead<'a>>);

impl<'a> Texts<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self(serde_json::Deserializer::from_slice(&entry.value))
    }

    pub(super) fn next<T: Deserialize<'a>>(&mut self) -> Result<T> {
        T::deserialize(&mut self.0).map_err(broken)
    }

    fn end(mut self) -> Result<()> {
        self.0.end().map_err(broken)
    }
}

/// serde's text may quote the record: only the place goes on.
fn broken(error: serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    Error::internal(format_args!(
        "the record of a secret breaks off its form at {line}:{column}"
    ))
}

impl<'a> Record<'a> {
    /// A secret without a version.
    pub(super) fn new(now: Stamp) -> Self {
        Self {
            head: Head {
                current: 0,
                id: Uuid::new_v4().simple().to_string(),
                latest: None,
                custom_metadata: None,
            },
            only: None,
            history: History {
                created: now,
                oldest: 0,
                older: Vec::new(),
                settings: Settings::default(),
            },
        }
    }

    /// Reads a stored record; the data stays where it is.
    pub(super) fn open(entry: &'a Entry) -> Result<Self> {
        let mut texts = Texts::of(entry);
        let record = Self {
            head: texts.next()?,
            only: texts.next::<Option<&RawValue>>()?.map(VersionData::Stored),
            history: texts.next()?,
        };
        texts.end()?;
        if !record.adds_up() {
            return Err(Error::internal("the record of a secret does not add up"));
        }
        Ok(record)
    }

    /// The bytes to store. Wiped when they are dropped, as are the parts that they are made of.
    pub(super) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        let head = to_json(&self.head).map_err(Error::internal)?;
        let data = to_json(&self.only).map_err(unwritable)?;
        let history = to_json(&self.history).map_err(Error::internal)?;
        Ok(Zeroizing::new(
            [head.as_slice(), data.as_slice(), history.as_slice()].concat(),
        ))
    }

    /// The data of the only version, as the text that it is stored as.
    pub(super) fn only_stored(&self) -> Option<&'a RawValue> {
        match self.only {
            Some(VersionData::Stored(raw)) => Some(raw),
            _ => None,
        }
    }

    /// Whether the latest version is the only one that is kept: then its data rests in the record.
    pub(super) fn has_one_version(&self) -> bool {
        self.history.older.is_empty()
    }

    /// The latest version with its number, where it has data that lies apart.
    pub(super) fn latest_apart(&self) -> Option<(u64, Version)> {
        let latest = self.head.latest.filter(|latest| !latest.destroyed)?;
        self.only.is_none().then_some((self.head.current, latest))
    }

    /// When the latest version was written, or the record, before the first.
    pub(super) fn updated(&self) -> Stamp {
        self.head
            .latest
            .map_or(self.history.created, |latest| latest.created)
    }

    pub(super) fn version(&self, number: u64) -> Option<&Version> {
        if number == self.head.current {
            return self.head.latest.as_ref();
        }
        self.history.older.get(self.index(number)?)
    }

    pub(super) fn version_mut(&mut self, number: u64) -> Option<&mut Version> {
        if number == self.head.current {
            return self.head.latest.as_mut();
        }
        let index = self.index(number)?;
        self.history.older.get_mut(index)
    }

    /// The versions that are kept, with their numbers.
    pub(super) fn versions(&self) -> impl Iterator<Item = (u64, &Version)> {
        (self.first()..).zip(self.history.older.iter().chain(&self.head.latest))
    }

    /// Adds a version, keeping at most `keep`. Unless it is the only one then, it takes the place of the first that goes:
    /// its data is written over what nobody reads any more. Returns it, and the places that are free after that.
    pub(super) fn add(
        &mut self,
        created: Stamp,
        expires: Option<Stamp>,
        keep: u32,
    ) -> (Version, Vec<u64>) {
        let first = self.first();
        let keep = u64::from(keep.max(1));
        let Self { head, history, .. } = self;
        history.older.extend(head.latest.take());
        head.current += 1;
        if head.current - history.oldest >= keep {
            history.oldest = head.current - keep + 1;
        }
        let gone = history.oldest.saturating_sub(first) as usize;
        let is_alone = gone == history.older.len();
        let mut places = history.older.drain(..gone).map(|version| version.place);
        let taken = if is_alone { None } else { places.next() };
        let free = places.collect();
        let version = Version::new(created, expires, taken.unwrap_or(head.current));
        head.latest = Some(version);
        (version, free)
    }

    /// What [`Record::add`] and the numbers of versions rest on.
    fn adds_up(&self) -> bool {
        let Self { head, history, .. } = self;
        head.latest.is_some() == (head.current > 0)
            && history.oldest <= head.current
            && (self.only.is_none() || history.older.is_empty())
            && (history.older.len() as u64) < head.current.max(1)
            && self
                .versions()
                .all(|(number, version)| version.place <= number)
    }

    /// The number of the oldest version that is kept; 1 before the first.
    fn first(&self) -> u64 {
        self.head.current.max(1) - self.history.older.len() as u64
    }

    fn index(&self, number: u64) -> Option<usize> {
        number
            .checked_sub(self.first())
            .and_then(|index| usize::try_from(index).ok())
    }
}

/// What is stored of a version that lies apart: its number and its data. By the number a reader sees that the place was
/// taken by another version since the record was read.
pub(super) fn apart_bytes(number: u64, data: &VersionData<'_>) -> Result<Zeroizing<Vec<u8>>> {
    to_json(&(number, data)).map_err(unwritable)
}

/// The data of version `number` as the text that it is stored as, unless the place is another version's by now.
pub(super) fn apart_data(entry: &Entry, number: u64) -> Result<Option<&RawValue>> {
    let mut texts = Texts::of(entry);
    let (stored, data): (u64, _) = texts.next()?;
    texts.end()?;
    Ok((stored == number).then_some(data))
}

/// serde's text may quote the data.
fn unwritable<E>(_: E) -> Error {
    Error::internal("a secret cannot be written as JSON")
}

impl Serialize for VersionData<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Stored(raw) => raw.serialize(s),
            Self::New(data) => data.serialize(s),
        }
    }
}

impl std::fmt::Debug for VersionData<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VersionData(redacted)")
    }
}

impl Settings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Self {
            created,
            place,
            deleted,
            expires,
            destroyed,
        } = self;
        match (deleted, expires, destroyed) {
            (None, None, false) => (created, place).serialize(s),
            _ => (created, place, deleted, expires, destroyed).serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct VersionVisitor;
        impl<'de> Visitor<'de> for VersionVisitor {
            type Value = Version;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the state of a version")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Version, A::Error> {
                let missing = |index| de::Error::invalid_length(index, &self);
                let created = seq.next_element()?.ok_or_else(|| missing(0))?;
                let place = seq.next_element()?.ok_or_else(|| missing(1))?;
                let mut version = Version::new(created, None, place);
                if let Some(deleted) = seq.next_element()? {
                    version.deleted = deleted;
                    version.expires = seq.next_element()?.ok_or_else(|| missing(3))?;
                    version.destroyed = seq.next_element()?.ok_or_else(|| missing(4))?;
                }
                Ok(version)
            }
        }
        d.deserialize_seq(VersionVisitor)
    }
}

impl Version {
    fn new(created: Stamp, expires: Option<Stamp>, place: u64) -> Self {
        Self {
            created,
            place,
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

    /// Adds a version, and returns the places that are free after that.
    fn add(record: &mut Record<'_>, n: u64, keep: u32) -> Vec<u64> {
        record.add(at(n), None, keep).1
    }

    #[test]
    fn the_oldest_version_is_counted_as_vault_does() {
        let mut record = Record::new(at(1));
        for n in 1..=9 {
            assert!(add(&mut record, n, 10).is_empty());
            assert_eq!(record.history.oldest, 0);
        }
        assert!(add(&mut record, 10, 10).is_empty());
        assert_eq!(record.history.oldest, 1);
        add(&mut record, 11, 10);
        assert_eq!(record.history.oldest, 2);
        add(&mut record, 12, 3);
        let kept: Vec<u64> = record.versions().map(|(number, _)| number).collect();
        assert_eq!(kept, [10, 11, 12]);
        assert!(record.version(9).is_none() && record.version(13).is_none());
        assert_eq!(
            record.version(11).map(|version| version.created),
            Some(at(11))
        );
        // More are kept again: those that are gone stay gone.
        add(&mut record, 13, 10);
        assert_eq!(record.versions().count(), 4);
    }

    #[test]
    fn a_new_version_takes_the_place_of_the_first_that_goes() {
        let places = |record: &Record<'_>| -> Vec<u64> {
            record
                .versions()
                .map(|(_, version)| version.place)
                .collect()
        };
        let mut record = Record::new(at(1));
        for n in 1..=3 {
            assert!(add(&mut record, n, 3).is_empty());
        }
        assert_eq!(places(&record), [1, 2, 3]);
        for kept in [[2, 3, 1], [3, 1, 2], [1, 2, 3], [2, 3, 1]] {
            assert!(add(&mut record, 9, 3).is_empty());
            assert_eq!(places(&record), kept);
        }
        // More are kept: the number of the version is a place that nobody has.
        assert!(add(&mut record, 9, 5).is_empty());
        assert!(add(&mut record, 9, 5).is_empty());
        assert_eq!(places(&record), [2, 3, 1, 8, 9]);
        assert!(add(&mut record, 9, 5).is_empty());
        assert_eq!(places(&record), [3, 1, 8, 9, 2]);
        // Fewer: one place is taken, the others are free.
        assert_eq!(add(&mut record, 9, 3), [1, 8]);
        assert_eq!(places(&record), [9, 2, 3]);
        // The only version rests in the record: every other place is free.
        assert_eq!(add(&mut record, 9, 1), [9, 2, 3]);
        assert_eq!(places(&record), [12]);
        assert_eq!(add(&mut record, 9, 1), [12]);
        assert!(record.adds_up());
    }

    #[test]
    fn the_state_of_a_version_is_short_where_little_is_to_be_said_and_reads_back() {
        let stored = |version: &Version| serde_json::to_string(version).unwrap_or_default();
        let mut version = Version::new(at(10), None, 3);
        assert_eq!(stored(&version), "[10,3]");
        version.delete(at(20));
        assert_eq!(stored(&version), "[10,3,20,null,false]");
        let mut states = vec![version, Version::new(at(10), Some(at(30)), 3)];
        version.destroy();
        states.push(version);
        for state in states {
            let read: Option<Version> = serde_json::from_str(&stored(&state)).ok();
            assert_eq!(read.map(|read| stored(&read)), Some(stored(&state)));
        }
        for broken in [
            "[10]",
            "[10,1,1]",
            "[10,1,1,1,true,1]",
            "10",
            "\"10\"",
            "[]",
            "null",
        ] {
            assert!(serde_json::from_str::<Version>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_deleted_version_stays_deleted_when_the_clock_is_set_back() {
        let mut version = Version::new(at(10), None, 1);
        assert!(version.delete(at(100)));
        assert!(!version.is_live(at(50)));
        assert!(!version.delete(at(200)));
        assert_eq!(version.deletion(), Some(at(100)));
        assert!(version.undelete(None));
        assert!(version.is_live(at(50)));
        assert!(!version.undelete(None));
    }
}
