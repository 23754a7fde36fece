//! The options of audit devices: those that all kinds have, and a reader that refuses what a kind does not know.

use std::collections::BTreeMap;

use obol_mount::{Error, Result};

/// What every kind of device has.
const COMMON: [&str; 5] = [
    "format",
    "prefix",
    "hmac_accessor",
    "log_raw",
    "elide_list_responses",
];
const MAX_PREFIX: usize = 64;

/// How a device writes its lines.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Style {
    /// Before each line.
    pub(super) prefix: String,
    /// Accessors as HMACs.
    pub(super) hmac_accessor: bool,
    /// Values as they are. Tokens stay HMACs all the same.
    pub(super) raw: bool,
    /// Of a listing its length alone.
    pub(super) elide_lists: bool,
}

impl Style {
    pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Self> {
        match options.get("format").map(String::as_str) {
            None | Some("json") => {}
            Some("jsonx") => {
                return Err(Error::bad_request(
                    "format jsonx is not part of this version: leave format out, or use json",
                ));
            }
            Some(_) => return Err(Error::bad_request("format: the only one is json")),
        }
        let prefix = options.get("prefix").cloned().unwrap_or_default();
        // One word that is no path: a line that begins with it is no command of a shell, a crontab or a loader,
        // wherever the file lies (threats: `audit-path`).
        let word = prefix.strip_suffix(' ').unwrap_or(&prefix);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"@._:=-".contains(&b);
        if prefix.len() > MAX_PREFIX || !word.bytes().all(plain) {
            return Err(Error::bad_request(format!(
                "prefix may have {MAX_PREFIX} letters, digits and @ . _ : = -, and one blank at its end"
            )));
        }
        Ok(Self {
            prefix,
            hmac_accessor: flag(options, "hmac_accessor", true)?,
            raw: flag(options, "log_raw", false)?,
            elide_lists: flag(options, "elide_list_responses", false)?,
        })
    }
}

/// Refuses an option that neither this kind nor all kinds have: a device that ignored it would not do what was asked.
pub(super) fn check_known(
    kind: &str,
    options: &BTreeMap<String, String>,
    own: &[&str],
) -> Result<()> {
    match options
        .keys()
        .find(|key| !own.contains(&key.as_str()) && !COMMON.contains(&key.as_str()))
    {
        None => Ok(()),
        Some(unknown) => Err(Error::bad_request(format!(
            "unknown option {unknown:?}: an audit device of the type {kind} takes {}, {}",
            own.join(", "),
            COMMON.join(", ")
        ))),
    }
}

fn flag(options: &BTreeMap<String, String>, name: &str, default: bool) -> Result<bool> {
    match options.get(name).map(|value| value.to_ascii_lowercase()) {
        None => Ok(default),
        Some(value) => match value.as_str() {
            "true" | "1" | "t" => Ok(true),
            "false" | "0" | "f" => Ok(false),
            _ => Err(Error::bad_request(format!("{name} must be true or false"))),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn style(name: &str, value: &str) -> Result<Style> {
        Style::read(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn audit_path_a_prefix_is_one_harmless_word() {
        assert_eq!(style("prefix", "@cee: ").unwrap().prefix, "@cee: ");
        for bad in [
            "#!/bin/sh\n",
            "* * * * * root ",
            "a b",
            "/lib/x.so ",
            "a\nb",
            "  ",
            "$(x)",
            &"x".repeat(65),
        ] {
            assert!(style("prefix", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn formats_and_flags_are_read_or_refused() {
        assert!(style("format", "json").is_ok());
        let error = style("format", "jsonx").unwrap_err();
        assert!(error.to_string().contains("jsonx is not part"), "{error}");
        assert!(style("log_raw", "true").unwrap().raw);
        assert!(!style("log_raw", "false").unwrap().raw);
        assert!(style("log_raw", "perhaps").is_err());
        assert!(style("prefix", "").unwrap().hmac_accessor);
    }
}
