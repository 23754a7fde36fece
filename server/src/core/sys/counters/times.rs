//! The times of a report, as clients write them, and the months that they mean.

use std::borrow::Cow;
use std::fmt;

use obol_mount::{Error, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::core::activity::{Config, LAST_SECOND, Month, Range};

/// Seconds since 1970: a number, or a text with a number or an RFC 3339 time. Nothing is no time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moment(pub(super) Option<u64>);

/// The months of a report, of those that are kept. `None`: none of them. Without a start they are twelve.
pub(super) fn range(
    start: Moment,
    end: Moment,
    config: &Config,
    now: u64,
) -> Result<Option<Range>> {
    if let (Some(start), Some(end)) = (start.0, end.0)
        && start > end
    {
        return Err(Error::bad_request("start_time is later than end_time"));
    }
    let present = Month::of(now);
    let last = end.0.map_or(present, Month::of);
    let first = start.0.map_or(last.back(DEFAULT_MONTHS - 1), Month::of);
    if first > last {
        // The end is now, and the start is not yet.
        return Err(Error::bad_request("start_time is later than now"));
    }
    let (first, last) = (first.max(config.oldest(now)), last.min(present));
    Ok((first <= last).then_some(Range { first, last }))
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct MomentVisitor;
        impl Visitor<'_> for MomentVisitor {
            type Value = Moment;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> std::result::Result<Moment, E> {
                match v {
                    0..=LAST_SECOND => Ok(Moment(Some(v))),
                    _ => Err(E::custom(EXPECTED)),
                }
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> std::result::Result<Moment, E> {
                match u64::try_from(v) {
                    Ok(v) => self.visit_u64(v),
                    Err(_) => Err(E::custom(EXPECTED)),
                }
            }
            fn visit_str<E: de::Error>(self, v: &str) -> std::result::Result<Moment, E> {
                let v = v.trim();
                if v.is_empty() {
                    return Ok(Moment(None));
                }
                if let Ok(seconds) = v.parse::<u64>() {
                    return self.visit_u64(seconds);
                }
                match OffsetDateTime::parse(v, &Rfc3339) {
                    Ok(time) => self.visit_i64(time.unix_timestamp()),
                    Err(_) => Err(E::custom(EXPECTED)),
                }
            }
        }
        d.deserialize_any(MomentVisitor)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "examples": ["2026-11-01T00:00:00Z", 1_793_491_200] })
    }
}

const EXPECTED: &str =
    "expected a time from 1970 on, such as 2026-11-01T00:00:00Z or 1793491200 (seconds)";
/// What a report is of where it is not said.
const DEFAULT_MONTHS: u64 = 12;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn moment(value: Value) -> Option<Moment> {
        serde_json::from_value(value).ok()
    }

    #[test]
    fn times_are_read_in_both_forms() {
        for same in [
            json!("2026-11-01T00:00:00Z"),
            json!("2026-11-01T01:00:00+01:00"),
            json!("1793491200"),
            json!(1_793_491_200),
        ] {
            assert_eq!(moment(same), Some(Moment(Some(1_793_491_200))));
        }
        assert_eq!(moment(json!("")), Some(Moment(None)));
        for wrong in [
            json!("yesterday"),
            json!("2026-11-01"),
            json!(-1),
            json!("-1"),
            json!(1e300),
            json!("1969-12-31T23:59:59Z"),
            json!(LAST_SECOND + 1),
        ] {
            assert_eq!(moment(wrong.clone()), None, "{wrong}");
        }
    }

    #[test]
    fn a_report_is_of_twelve_months_and_of_those_that_are_kept() {
        let mut config = Config::default();
        config.retention_months = 14;
        // 2026-11-22.
        let now = 1_795_305_600;
        let at = |text: &str| moment(json!(text)).unwrap();
        let names = |start: &str, end: &str| {
            range(at(start), at(end), &config, now)
                .unwrap()
                .map(|range| format!("{} {}", range.first, range.last))
        };
        assert_eq!(names("", "").unwrap(), "2025-12 2026-11");
        let march = "2026-03-31T23:59:59Z";
        assert_eq!(names("", march).unwrap(), "2025-09 2026-03");
        assert_eq!(
            names("2020-01-01T00:00:00Z", march).unwrap(),
            "2025-09 2026-03"
        );
        assert_eq!(
            names("2026-03-01T00:00:00Z", "2030-01-01T00:00:00Z").unwrap(),
            "2026-03 2026-11"
        );
        assert_eq!(names("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"), None);
        assert_eq!(names("2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z"), None);
        for (start, end) in [
            (march, "2026-03-31T23:59:58Z"),
            ("2030-01-01T00:00:00Z", ""),
        ] {
            let refused = range(at(start), at(end), &config, now).unwrap_err();
            assert_eq!(refused.status(), 400);
        }
    }
}
