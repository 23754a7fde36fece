//! The one reader of durations: Vault's forms `3600`, `"3600"`, `"90s"`, `"1h30m"`, `"7d"`.

use std::time::Duration;

/// The longest duration that is accepted: about 290 years, Go's own limit.
pub const MAX: Duration = Duration::from_secs(i64::MAX as u64 / 1_000_000_000);

/// Why a text is not a duration. Shows no part of the input: it may have been a secret sent to the wrong field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    Empty,
    Negative,
    Syntax,
    TooLong,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "expected a duration such as \"1h30m\" or 5400, found an empty text",
            Self::Negative => "expected a duration that is not negative",
            Self::Syntax => {
                "expected a duration such as \"1h30m\", \"90s\", \"7d\" or 5400 (seconds)"
            }
            Self::TooLong => "expected a duration of less than 290 years",
        })
    }
}

impl std::error::Error for ParseError {}

/// Reads seconds (`"3600"`) or numbers with units (`ns`, `us`, `ms`, `s`, `m`, `h`, `d`), largest first by
/// custom but in any order, decimals allowed (`"1.5h"`), as Vault's API does.
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ParseError::Empty);
    }
    if text.starts_with('-') {
        return Err(ParseError::Negative);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return seconds(text.parse().map_err(|_| ParseError::TooLong)?);
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or(ParseError::Syntax)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(ParseError::Syntax),
        };
        nanos = nanos
            .checked_add(scaled(number, unit)?)
            .ok_or(ParseError::TooLong)?;
        rest = tail;
    }
    if nanos > MAX.as_nanos() {
        return Err(ParseError::TooLong);
    }
    Ok(Duration::new(
        (nanos / 1_000_000_000) as u64,
        (nanos % 1_000_000_000) as u32,
    ))
}

/// `number` (digits with at most one point) times `unit`, without floating point.
fn scaled(number: &str, unit: u128) -> Result<u128, ParseError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !is_number(whole)
        || !is_number(fraction)
        || fraction.len() > 18
    {
        return Err(ParseError::Syntax);
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| ParseError::TooLong)?
    };
    let part: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().map_err(|_| ParseError::Syntax)?
    };
    let part = part * unit / 10u128.pow(fraction.len() as u32);
    whole
        .checked_mul(unit)
        .and_then(|w| w.checked_add(part))
        .ok_or(ParseError::TooLong)
}

/// Whole seconds, bounded by [`MAX`].
pub fn seconds(seconds: u64) -> Result<Duration, ParseError> {
    let duration = Duration::from_secs(seconds);
    if duration > MAX {
        Err(ParseError::TooLong)
    } else {
        Ok(duration)
    }
}

/// `5400` s as `1h30m`, as a person would write it; `0s` for nothing.
pub fn format(duration: Duration) -> String {
    let total = duration.as_secs();
    let (h, m, s) = (total / 3600, total / 60 % 60, total % 60);
    let mut out = String::new();
    for (n, unit) in [(h, 'h'), (m, 'm'), (s, 's')] {
        if n > 0 {
            out.push_str(&format!("{n}{unit}"));
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vaults_forms_are_read() {
        for (text, secs) in [
            ("3600", 3600),
            ("1h30m", 5400),
            ("90s", 90),
            ("7d", 604_800),
            ("1.5h", 5400),
            (" 10s ", 10),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn other_forms_are_refused_without_being_shown() {
        for text in [
            "",
            "1x",
            "h",
            "-1s",
            "1h-",
            "1..5s",
            "99999999999999999999h",
            "s3cret",
            ".s",
            "12 h",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                text.is_empty() || text.len() < 3 || !error.contains(text),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_formatted_reads_back(secs in 0u64..9_000_000_000) {
            prop_assert_eq!(parse(&format(Duration::from_secs(secs))), Ok(Duration::from_secs(secs)));
        }
    }
}
