//! Calendar months in UTC: what clients are counted by. Pure; whoever asks says what time it is.

use std::fmt;

use time::{Date, OffsetDateTime};

/// A month of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(u32);

impl Month {
    /// The month of a second since 1970.
    pub fn of(unix: u64) -> Self {
        let unix = i64::try_from(unix.min(LAST_SECOND)).unwrap_or_default();
        let date = OffsetDateTime::from_unix_timestamp(unix).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let year = u32::try_from(date.year()).unwrap_or_default();
        Self(year * 12 + u32::from(u8::from(date.month())) - 1)
    }

    /// Its first second.
    pub fn start(self) -> u64 {
        let (year, month) = self.parts();
        let date = time::Month::try_from(month)
            .and_then(|month| Date::from_calendar_date(year, month, 1))
            .map_or(0, |date| date.midnight().assume_utc().unix_timestamp());
        u64::try_from(date).unwrap_or_default()
    }

    /// The first second after it.
    pub fn end(self) -> u64 {
        match self.parts() {
            // The last month that a date can be of; it has 31 days.
            (9999, 12) => LAST_SECOND + 1,
            _ => Self(self.0 + 1).start(),
        }
    }

    /// So many months earlier.
    pub fn back(self, months: u64) -> Self {
        let months = u32::try_from(months).unwrap_or(u32::MAX);
        Self(self.0.saturating_sub(months))
    }

    /// From this month to another, both of them included; none when the other is earlier.
    pub fn to(self, last: Self) -> impl DoubleEndedIterator<Item = Self> + Clone {
        (self.0..=last.0).map(Self)
    }

    /// The folder of its clients: `2026-11/`.
    pub fn folder(self) -> String {
        format!("{self}/")
    }

    /// The month of a folder; `None` for other names.
    pub fn of_folder(name: &str) -> Option<Self> {
        let (year, month) = name.strip_suffix('/')?.split_once('-')?;
        let number = |text: &str, length: usize| {
            let digits = text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u32>().ok()).flatten()
        };
        let (year, month) = (number(year, 4)?, number(month, 2)?);
        (1..=12)
            .contains(&month)
            .then(|| Self(year * 12 + month - 1))
    }

    fn parts(self) -> (i32, u8) {
        let year = i32::try_from(self.0 / 12).unwrap_or_default();
        let month = u8::try_from(self.0 % 12 + 1).unwrap_or(1);
        (year, month)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month) = self.parts();
        write!(f, "{year:04}-{month:02}")
    }
}

/// 9999-12-31T23:59:59Z: no date is later (RFC 3339 has four digits for the year).
pub const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_month_begins_with_its_first_second_and_ends_before_the_next() {
        // 2024-02-29T12:00:00Z, of a leap year.
        let month = Month::of(1_709_208_000);
        assert_eq!(month.to_string(), "2024-02");
        assert_eq!(month.end() - month.start(), 29 * 86_400);
        assert_eq!(Month::of(month.end() - 1), month);
        assert_eq!(Month::of(month.end()).to_string(), "2024-03");
        assert_eq!(month.back(2).to_string(), "2023-12");
        assert_eq!(Month::of(0).to_string(), "1970-01");
        let last = Month::of(u64::MAX);
        assert_eq!(
            (last.to_string().as_str(), last.end()),
            ("9999-12", LAST_SECOND + 1)
        );
    }

    #[test]
    fn a_range_has_both_its_ends() {
        let first = Month::of_folder("2025-11/").unwrap();
        let last = Month::of_folder("2026-02/").unwrap();
        let names: Vec<String> = first.to(last).map(|month| month.to_string()).collect();
        assert_eq!(names, ["2025-11", "2025-12", "2026-01", "2026-02"]);
        assert_eq!(last.to(first).count(), 0);
        for other in [
            "config", "2026-13/", "2026-00/", "26-01/", "2026-01", "+026-01/",
        ] {
            assert_eq!(Month::of_folder(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_second_is_within_its_month(unix in 0..=LAST_SECOND) {
            let month = Month::of(unix);
            prop_assert!(month.start() <= unix && unix < month.end());
            prop_assert_eq!(Month::of_folder(&month.folder()), Some(month));
        }
    }
}
