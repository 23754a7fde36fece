//! The environment as the command line reads it: a snapshot taken once, so that tests need not change the process's
//! own. Every variable has the name that Vault's documentation gives it and an `OBOL_` form, which wins.

use std::collections::BTreeMap;
use std::time::Duration;

use obol_mount::{Secret, duration};

use super::failure::Failure;

/// Every variable that is read, without its prefix, and what it sets. `obol --help` prints this table.
pub(super) const VARIABLES: &[(&str, &str)] = &[
    ("ADDR", "Address of the server (-address)"),
    (
        "AGENT_ADDR",
        "Address of an agent, used instead of ADDR (-agent-address)",
    ),
    ("TOKEN", "Token; without it, the one that login kept"),
    (
        "CONFIG_PATH",
        "File that names a token_helper, ~/.vault by default",
    ),
    ("FORMAT", "Output format: table, json or yaml (-format)"),
    ("DETAILED", "More columns in lists (-detailed)"),
    ("CACERT", "File of PEM certificates to trust (-ca-cert)"),
    ("CACERT_BYTES", "The same, as the text itself"),
    ("CAPATH", "Directory of such files (-ca-path)"),
    (
        "CLIENT_CERT",
        "File of the client's PEM certificate (-client-cert)",
    ),
    ("CLIENT_KEY", "File of its PEM private key (-client-key)"),
    (
        "TLS_SERVER_NAME",
        "Name to expect in the server's certificate (-tls-server-name)",
    ),
    (
        "SKIP_VERIFY",
        "Do not verify the server's certificate (-tls-skip-verify)",
    ),
    ("NAMESPACE", "Namespace (-namespace)"),
    ("WRAP_TTL", "Lifetime of a wrapping token (-wrap-ttl)"),
    (
        "CLIENT_TIMEOUT",
        "Longest wait for an answer, 60s by default",
    ),
    (
        "MAX_RETRIES",
        "How often a request is tried again, 2 by default",
    ),
    (
        "DISABLE_REDIRECTS",
        "Do not follow a redirect (-disable-redirects)",
    ),
    (
        "PROXY_ADDR",
        "HTTP proxy for this command alone; HTTP_PROXY is its older name",
    ),
    (
        "DEV_ROOT_TOKEN_ID",
        "Root token of a development server (-dev-root-token-id)",
    ),
    (
        "DEV_LISTEN_ADDRESS",
        "Address of a development server (-dev-listen-address)",
    ),
    ("LOG_LEVEL", "Log level of a server (-log-level)"),
];

/// A snapshot of the environment.
#[derive(Clone, Default)]
pub(super) struct Env(BTreeMap<String, String>);

impl Env {
    /// The process's environment. Variables that are no UTF-8 are left out: none of ours can be.
    pub(super) fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(utf8).collect())
    }

    #[cfg(test)]
    pub(super) fn of(pairs: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(pairs.iter().map(owned).collect())
    }

    /// `OBOL_<name>`, else `VAULT_<name>`. Empty means unset, as for Vault.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.named(name).map(|(_, value)| value)
    }

    /// As [`Env::get`], with the name of the variable that decided.
    pub(super) fn named(&self, name: &str) -> Option<(String, &str)> {
        debug_assert!(
            name == "HTTP_PROXY" || VARIABLES.iter().any(|(known, _)| *known == name),
            "{name} is missing from the table"
        );
        ["OBOL_", "VAULT_"].iter().find_map(|prefix| {
            let full = format!("{prefix}{name}");
            let value = self.raw(&full)?;
            Some((full, value))
        })
    }

    /// A variable by its full name, for those that are not ours (`HOME`, `KRB5_CONFIG`).
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(super) fn token(&self) -> Option<(String, Secret)> {
        self.named("TOKEN")
            .map(|(name, value)| (name, Secret::new(value.trim().to_owned())))
    }

    /// `1`, `t`, `true` or `0`, `f`, `false`, in the spellings that Go reads.
    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, Failure> {
        let Some((variable, value)) = self.named(name) else {
            return Ok(None);
        };
        match parse_bool(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Failure::local(format!("{variable} must be true or false"))),
        }
    }

    /// `60`, `60s`, `1m30s`.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Failure> {
        let Some((variable, value)) = self.named(name) else {
            return Ok(None);
        };
        match duration::parse(value) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Failure::local(format!("{variable}: {error}"))),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u32>, Failure> {
        let Some((variable, value)) = self.named(name) else {
            return Ok(None);
        };
        match value.trim().parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Failure::local(format!("{variable} must be a whole number"))),
        }
    }
}

/// The spellings of Go's `strconv.ParseBool`, which Vault's flags and variables accept.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_obol_form_of_a_variable_wins_and_empty_is_unset() {
        let env = Env::of(&[("OBOL_ADDR", "https://a"), ("VAULT_ADDR", "https://b")]);
        assert_eq!(
            env.named("ADDR").unwrap(),
            ("OBOL_ADDR".to_owned(), "https://a")
        );
        let env = Env::of(&[("OBOL_ADDR", ""), ("VAULT_ADDR", "https://b")]);
        assert_eq!(env.get("ADDR"), Some("https://b"));
        assert_eq!(env.get("FORMAT"), None);
    }

    #[test]
    fn a_malformed_variable_is_named_without_its_value() {
        let env = Env::of(&[
            ("VAULT_SKIP_VERIFY", "maybe"),
            ("VAULT_CLIENT_TIMEOUT", "soon"),
            ("OBOL_MAX_RETRIES", "-1"),
        ]);
        for error in [
            env.bool("SKIP_VERIFY").unwrap_err(),
            env.duration("CLIENT_TIMEOUT").unwrap_err(),
            env.number("MAX_RETRIES").unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("VAULT_") || text.contains("OBOL_"), "{text}");
            assert!(!text.contains("maybe") && !text.contains("soon"), "{text}");
        }
    }
}
