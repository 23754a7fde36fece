//! The path of a request, checked once: what the ACL authorises is what the router dispatches.
//!
//! A path that could mean two things to two readers (dot segments, empty segments, encoded slashes, double
//! encoding) is refused, never cleaned: the fault behind CVE-2026-3605 and its kin was a path cleaned after it had
//! been authorised.

use std::borrow::Cow;
use std::fmt;

/// The longest path in bytes, encoded or not.
pub const MAX_PATH: usize = 4096;

/// A path below `/v1/`, decoded: no leading slash, no empty, `.` or `..` segment, no control character.
///
/// A trailing slash is kept as information ([`Self::has_trailing_slash`]) but is no part of [`Self::as_str`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestPath {
    /// With the trailing slash, if there was one.
    text: String,
}

/// Why a path is refused. Shows nothing of the path: it may hold a secret that was sent to the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path is empty")]
    Empty,
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    #[error("the path has an empty segment (`//`, or a slash at its beginning)")]
    EmptySegment,
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    #[error("the path has an encoded slash, backslash, dot or NUL, or is encoded twice")]
    Encoded,
    #[error("the path has a `%` that is not followed by two hexadecimal digits")]
    BadEscape,
    #[error("the path is not UTF-8")]
    NotUtf8,
    #[error("the path has a control character, a backslash, `?` or `#`")]
    Character,
}

impl RequestPath {
    /// Checks and decodes, once, what follows `/v1/` in the request line, without the query.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if raw.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if raw.contains(['?', '#']) {
            return Err(PathError::Character);
        }
        Self::from_decoded(&percent_decode(raw)?)
    }

    /// Checks a path that was never encoded: from a JSON body, or written by the server itself.
    pub fn from_decoded(path: &str) -> Result<Self, PathError> {
        if path.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        if path.chars().any(|c| c.is_control() || c == '\\') {
            return Err(PathError::Character);
        }
        // A second decoding anywhere (a proxy, a back end) would make these a separator or a dot.
        const TWICE: [&str; 5] = ["%2e", "%2f", "%5c", "%00", "%25"];
        if path.contains('%') {
            let folded = path.to_ascii_lowercase();
            if TWICE.iter().any(|escape| folded.contains(escape)) {
                return Err(PathError::Encoded);
            }
        }
        for segment in path.strip_suffix('/').unwrap_or(path).split('/') {
            match segment {
                "" => return Err(PathError::EmptySegment),
                "." | ".." => return Err(PathError::DotSegment),
                _ => {}
            }
        }
        Ok(Self {
            text: path.to_owned(),
        })
    }

    /// Without the trailing slash: `secret/data/app`.
    pub fn as_str(&self) -> &str {
        self.text.strip_suffix('/').unwrap_or(&self.text)
    }

    /// As it came, with the trailing slash if there was one.
    pub fn as_sent(&self) -> &str {
        &self.text
    }

    pub fn has_trailing_slash(&self) -> bool {
        self.text.ends_with('/')
    }

    /// With a trailing slash, whether or not it came with one: the form in which mounts are looked up.
    pub fn as_directory(&self) -> Cow<'_, str> {
        if self.has_trailing_slash() {
            Cow::Borrowed(&self.text)
        } else {
            Cow::Owned([&*self.text, "/"].concat())
        }
    }

    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.as_str().split('/')
    }
}

impl fmt::Display for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn percent_decode(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return Err(PathError::BadEscape);
        };
        let digit = |b: u8| char::from(b).to_digit(16).ok_or(PathError::BadEscape);
        // Two hexadecimal digits fit a byte.
        let byte = (digit(*high)? * 16 + digit(*low)?) as u8;
        if matches!(byte, b'/' | b'\\' | b'.' | 0) {
            return Err(PathError::Encoded);
        }
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| PathError::NotUtf8)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_pass_and_are_decoded_once() {
        for (raw, path) in [
            ("secret/data/app", "secret/data/app"),
            ("secret/metadata/", "secret/metadata"),
            (
                "auth/kerberos/groups/team%20one",
                "auth/kerberos/groups/team one",
            ),
            ("secret/data/caf%C3%A9", "secret/data/café"),
            ("secret/data/100%25", "secret/data/100%"),
            ("secret/data/...", "secret/data/..."),
            ("secret/data/a%3Fb;c", "secret/data/a?b;c"),
            ("sys", "sys"),
        ] {
            assert_eq!(RequestPath::parse(raw).unwrap().as_str(), path, "{raw}");
        }
    }

    #[test]
    fn path_traversal_what_two_readers_could_read_differently_is_refused() {
        use PathError::*;
        for (raw, error) in [
            ("", Empty),
            ("/", EmptySegment),
            ("/secret", EmptySegment),
            ("secret//data", EmptySegment),
            ("secret/data//", EmptySegment),
            ("secret/../sys/seal", DotSegment),
            ("secret/./data", DotSegment),
            ("..", DotSegment),
            ("secret/data/..", DotSegment),
            ("secret/data/../", DotSegment),
            ("secret/%2e%2e/sys", Encoded),
            ("secret/.%2E/sys", Encoded),
            ("secret/data%2fapp", Encoded),
            ("secret/data%2Fapp", Encoded),
            ("secret/data%5capp", Encoded),
            ("secret/data%00", Encoded),
            ("secret/%252e%252e/sys", Encoded),
            ("secret/a%252Fb", Encoded),
            ("secret/a%25252fb", Encoded),
            ("secret\\..\\sys", Character),
            ("secret/data\u{0}", Character),
            ("secret/data%0a", Character),
            ("secret/data%7F", Character),
            ("secret/data%C2%85", Character),
            ("secret/data?list=true", Character),
            ("secret/data#x", Character),
            ("secret/100%", BadEscape),
            ("secret/%4", BadEscape),
            ("secret/%zz", BadEscape),
            ("secret/%+1", BadEscape),
            ("secret/%ff", NotUtf8),
            ("secret/%c0%af", NotUtf8),
        ] {
            assert_eq!(RequestPath::parse(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn an_over_long_path_is_refused() {
        assert!(RequestPath::parse(&"a".repeat(MAX_PATH)).is_ok());
        assert_eq!(
            RequestPath::parse(&"a".repeat(MAX_PATH + 1)),
            Err(PathError::TooLong)
        );
    }

    #[test]
    fn the_trailing_slash_is_information_and_no_part_of_the_path() {
        let with = RequestPath::parse("secret/metadata/app/").unwrap();
        let without = RequestPath::parse("secret/metadata/app").unwrap();
        assert!(with.has_trailing_slash() && !without.has_trailing_slash());
        assert_eq!(with.as_str(), without.as_str());
        assert_eq!(with.as_directory(), without.as_directory());
        assert_eq!(
            with.segments().collect::<Vec<_>>(),
            ["secret", "metadata", "app"]
        );
    }

    #[test]
    fn error_leaks_input_a_refusal_shows_nothing_of_the_path() {
        let error = RequestPath::parse("secret/hunter2/../x").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn what_passes_has_only_plain_segments(raw in "[a-c./%2eEfF05cC\\\\ ]{0,24}|\\PC{0,24}") {
            if let Ok(path) = RequestPath::parse(&raw) {
                prop_assert!(path.segments().all(|s| !s.is_empty() && s != "." && s != ".."));
                prop_assert!(!path.as_sent().chars().any(|c| c.is_control() || c == '\\'));
                // Decoding what was decoded finds no separator and no dot.
                let folded = path.as_str().to_ascii_lowercase();
                prop_assert!(!folded.contains("%2f") && !folded.contains("%2e"));
            }
        }

        #[test]
        fn a_plain_path_survives_encoding(segments in prop::collection::vec("[^/\\\\.%\\pC]{1,8}", 1..5)) {
            let path = segments.join("/");
            let encoded: String = path.bytes().map(|b| if b == b'/' { "/".into() } else { format!("%{b:02x}") }).collect();
            let parsed = RequestPath::parse(&encoded).unwrap();
            prop_assert_eq!(parsed.as_str(), path.as_str());
        }
    }
}
