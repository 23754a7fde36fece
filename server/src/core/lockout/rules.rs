//! After how many failures a name is locked, and for how long: Vault's defaults, what the configuration file says
//! for all methods or for one, and what a mount was tuned to.

use std::collections::BTreeMap;
use std::time::Duration;

use obol_mount::fields::{Count, Flag, Ttl};
use obol_mount::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The methods that compare a secret which somebody could guess.
pub const METHODS: [&str; 3] = ["userpass", "ldap", "approle"];

/// What somebody has set; what is absent comes from the next wider place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LockoutConfig {
    /// So many failed logins lock a name (5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lockout_threshold: Option<Count>,
    /// How long a name stays locked (15m).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lockout_duration: Option<Ttl>,
    /// After this time without a failure the count begins again (15m).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        alias = "lockout_counter_reset_duration"
    )]
    #[schemars(extend("x-aliases" = ["lockout_counter_reset_duration"]))]
    pub lockout_counter_reset: Option<Ttl>,
    /// Counts nothing and locks nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lockout_disable: Option<Flag>,
}

impl LockoutConfig {
    /// What was sent over what was set, for a mount of this type.
    pub fn tuned(self, sent: &Self, kind: &str) -> Result<Self> {
        if !METHODS.contains(&kind) {
            return Err(Error::bad_request(format!(
                "user_lockout_config belongs to the auth methods {}",
                METHODS.join(", ")
            )));
        }
        let tuned = self.under(sent);
        if tuned.lockout_threshold == Some(Count(0)) {
            return Err(Error::bad_request(
                "lockout_threshold must be at least 1; to lock nobody, set lockout_disable",
            ));
        }
        for (name, ttl) in [
            ("lockout_duration", tuned.lockout_duration),
            ("lockout_counter_reset", tuned.lockout_counter_reset),
        ] {
            if ttl.is_some_and(|ttl| ttl.as_secs() == 0) {
                return Err(Error::bad_request(format!("{name} must be at least 1s")));
            }
        }
        Ok(tuned)
    }

    /// These, and over them those.
    fn under(self, over: &Self) -> Self {
        Self {
            lockout_threshold: over.lockout_threshold.or(self.lockout_threshold),
            lockout_duration: over.lockout_duration.or(self.lockout_duration),
            lockout_counter_reset: over.lockout_counter_reset.or(self.lockout_counter_reset),
            lockout_disable: over.lockout_disable.or(self.lockout_disable),
        }
    }
}

/// The `user_lockout` stanzas of the configuration file, by their labels: `all`, or a method.
pub type LockoutStanzas = BTreeMap<String, LockoutConfig>;

/// What applies to one mount.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    pub threshold: u64,
    pub duration: Duration,
    pub counter_reset: Duration,
    pub is_disabled: bool,
}

impl Rules {
    pub fn of(stanzas: &LockoutStanzas, kind: &str, mount: Option<&LockoutConfig>) -> Self {
        let wide = [stanzas.get(ALL), stanzas.get(kind), mount];
        let set = wide
            .into_iter()
            .flatten()
            .fold(LockoutConfig::default(), LockoutConfig::under);
        Self {
            threshold: set.lockout_threshold.map_or(THRESHOLD, |count| count.0),
            duration: set.lockout_duration.map_or(DURATION, |ttl| ttl.0),
            counter_reset: set.lockout_counter_reset.map_or(DURATION, |ttl| ttl.0),
            is_disabled: set.lockout_disable.is_some_and(|flag| flag.0),
        }
    }
}

/// The stanza for every method.
pub const ALL: &str = "all";
const THRESHOLD: u64 = 5;
const DURATION: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(value: serde_json::Value) -> LockoutConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_mount_counts_over_the_method_and_that_over_all() {
        use serde_json::json;
        let stanzas = LockoutStanzas::from([
            (
                ALL.to_owned(),
                config(json!({"lockout_threshold": "9", "lockout_duration": "1h"})),
            ),
            (
                "ldap".to_owned(),
                config(json!({"lockout_threshold": 7, "lockout_disable": "true"})),
            ),
        ]);
        let ldap = Rules::of(
            &stanzas,
            "ldap",
            Some(&config(
                json!({"lockout_disable": false, "lockout_counter_reset_duration": 60}),
            )),
        );
        assert_eq!(
            ldap,
            Rules {
                threshold: 7,
                duration: Duration::from_secs(3600),
                counter_reset: Duration::from_secs(60),
                is_disabled: false,
            }
        );
        assert_eq!(Rules::of(&stanzas, "userpass", None).threshold, 9);
        assert_eq!(
            Rules::of(&LockoutStanzas::new(), "approle", None).threshold,
            5
        );
    }

    #[test]
    fn what_would_lock_everybody_or_nobody_by_accident_is_refused() {
        use serde_json::json;
        let tune = |kind, value| LockoutConfig::default().tuned(&config(value), kind);
        for (kind, value) in [
            ("userpass", json!({"lockout_threshold": 0})),
            ("ldap", json!({"lockout_duration": 0})),
            ("approle", json!({"lockout_counter_reset": "0s"})),
            ("kerberos", json!({"lockout_threshold": 3})),
        ] {
            assert_eq!(tune(kind, value).unwrap_err().status(), 400, "{kind}");
        }
        assert!(tune("userpass", json!({"lockout_threshold": 3})).is_ok());
    }
}
