//! Names of entities, groups and aliases: what they may be, and what they are called in storage paths.

use std::collections::BTreeMap;

use obol_mount::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::core::policies::fold;

/// A name as paths hold it: without case, and with everything escaped that a path could not hold.
pub(super) fn key(name: &str) -> String {
    utf8_percent_encode(&fold(name), ESCAPED).to_string()
}

pub(super) fn same(one: &str, other: &str) -> bool {
    fold(one) == fold(other)
}

/// Checks the name in a field. It may hold what names at auth methods hold: blanks, slashes, any letter.
pub(super) fn check(field: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::bad_request(format!("{field} may not be empty")));
    }
    if name.len() > MAX_NAME {
        return Err(Error::bad_request(format!(
            "{field} may not be longer than {MAX_NAME} bytes"
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::bad_request(format!(
            "{field} may not hold control characters"
        )));
    }
    Ok(())
}

/// Checks metadata against Vault's limits.
pub(super) fn check_metadata(field: &str, metadata: &BTreeMap<String, String>) -> Result<()> {
    let refuse = |what: &str| Err(Error::bad_request(format!("{field}: {what}")));
    if metadata.len() > MAX_METADATA {
        return refuse("at most 64 entries");
    }
    for (key, value) in metadata {
        if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
            return refuse("a key has 1 to 128 bytes and no control characters");
        }
        if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
            return refuse("a value has at most 512 bytes and no control characters");
        }
    }
    Ok(())
}

/// Checks an id that came from a client before it becomes part of a path: what is none of ours names nothing.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'@');

/// Escaped three times as long, with the accessor and the prefix, it still fits into a path.
const MAX_NAME: usize = 1024;
const MAX_METADATA: usize = 64;
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 512;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn alias_case_every_spelling_of_a_name_has_one_key_and_no_other_name_has_it() {
        assert_eq!(key("Grace@EXAMPLE.com"), key("grace@example.COM"));
        assert_eq!(key("ÄRGER"), key("ärger"));
        assert_eq!(key(".."), "%2E%2E");
        let different = ["a/b", "a%2fb", "a b", "a", "a\u{301}", "á", "a+b", "a.b"];
        let keys: std::collections::BTreeSet<_> = different.iter().map(|n| key(n)).collect();
        assert_eq!(keys.len(), different.len());
        assert!(keys.iter().all(|key| !key.contains('/')));
    }

    #[test]
    fn names_and_metadata_have_bounds() {
        assert!(check("name", "CN=Grace, OU=works/lab").is_ok());
        for bad in ["", "a\0", "a\n", &"a".repeat(1025)] {
            assert_eq!(check("name", bad).unwrap_err().status(), 400);
        }
        let one = |k: &str, v: &str| BTreeMap::from([(k.to_owned(), v.to_owned())]);
        assert!(check_metadata("metadata", &one("team", "")).is_ok());
        assert!(check_metadata("metadata", &one("", "x")).is_err());
        assert!(check_metadata("metadata", &one(&"k".repeat(129), "x")).is_err());
        assert!(check_metadata("metadata", &one("k", &"v".repeat(513))).is_err());
        let many = (0..65).map(|n| (n.to_string(), String::new())).collect();
        assert!(check_metadata("metadata", &many).is_err());
        assert!(is_id("8d6a45e5-572f-8f13-d226-cd0d1ec57297"));
        assert!(!is_id("") && !is_id("../root") && !is_id("a/b") && !is_id(&"a".repeat(65)));
    }
}
