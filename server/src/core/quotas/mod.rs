//! Quotas: how often a client may ask, and how many tokens there may be at a time. What Vault calls resource quotas
//! (<https://developer.hashicorp.com/vault/docs/concepts/resource-quotas>).
//!
//! Of several quotas that fit a request the most specific one counts: one for a role, then the longest path, then
//! one for everything.

mod lease_count;
mod limiter;

use std::collections::BTreeMap;
use std::net::IpAddr;

use obol_mount::{Error, Result};
use obol_storage::View;
use serde::{Deserialize, Serialize};

use super::setting::Setting;
pub use lease_count::{LeaseCount, LeaseCounts};
use limiter::{Limiters, Taken};

/// More quotas of one kind are refused: each request is compared with all of them.
const MAX_QUOTAS: usize = 1000;

/// So many requests of one client in so much time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RateLimit {
    #[serde(flatten)]
    pub target: Target,
    /// Requests in each interval.
    pub rate: f64,
    /// Seconds.
    pub interval: u64,
    /// Seconds for which a client that has exceeded the rate gets nothing at all; 0: until the rate allows.
    pub block_interval: u64,
}

/// What a quota is for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Empty: everything. With a slash at its end: a mount; with `*`: a beginning; else one path.
    pub path: String,
    /// Logins of this role alone.
    #[serde(default)]
    pub role: String,
    /// For namespaces below, of which there are none yet.
    #[serde(default)]
    pub inheritable: bool,
}

/// Rate limits by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RateLimits(pub BTreeMap<String, RateLimit>);

/// What all quotas have in common: `sys/quotas/config`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    pub rate_limit_exempt_paths: Vec<String>,
    pub enable_rate_limit_audit_logging: bool,
    pub enable_rate_limit_response_headers: bool,
}

impl Default for Config {
    /// Where a server is brought back to work nobody is turned away, as in Vault.
    fn default() -> Self {
        Self {
            rate_limit_exempt_paths: [
                "sys/generate-recovery-token/attempt",
                "sys/generate-recovery-token/update",
                "sys/generate-root/attempt",
                "sys/generate-root/update",
                "sys/health",
                "sys/seal-status",
                "sys/unseal",
            ]
            .map(str::to_owned)
            .to_vec(),
            enable_rate_limit_audit_logging: false,
            enable_rate_limit_response_headers: false,
        }
    }
}

/// What a request is, as far as quotas go.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Without a slash at its end.
    pub path: &'a str,
    /// Of a login, the role that it is for, by its one name.
    pub role: Option<&'a str>,
    pub peer: Option<IpAddr>,
}

/// What a rate limit says of a request.
pub enum Verdict {
    /// No quota, or one that shows nothing of itself.
    Free,
    /// The answer gets these headers.
    Within(Headers),
    Exceeded {
        error: Error,
        /// Whether the audit log has refused requests.
        audited: bool,
    },
}

pub type Headers = Vec<(&'static str, String)>;

/// All quotas of an unsealed server.
pub struct Quotas {
    pub rate_limits: Setting<RateLimits>,
    pub lease_counts: Setting<LeaseCounts>,
    pub config: Setting<Config>,
    limiters: Limiters,
}

impl Quotas {
    pub async fn open(storage: View) -> Result<Self> {
        Ok(Self {
            rate_limits: Setting::open(storage.clone(), "rate-limit").await?,
            lease_counts: Setting::open(storage.clone(), "lease-count").await?,
            config: Setting::open(storage, "config").await?,
            limiters: Limiters::default(),
        })
    }

    /// Reads again what another process may have changed.
    pub async fn refresh(&self) -> Result<()> {
        self.rate_limits.refresh().await?;
        self.lease_counts.refresh().await?;
        self.config.refresh().await
    }

    /// Whether it matters to any rate limit which role a login is for.
    pub fn ask_for_roles(&self) -> bool {
        let limits = self.rate_limits.get();
        limits.0.values().any(|limit| !limit.target.role.is_empty())
    }

    /// Takes one request off the client's rate.
    pub fn take(&self, asking: &Asking<'_>) -> Verdict {
        let limits = self.rate_limits.get();
        if limits.0.is_empty() {
            return Verdict::Free;
        }
        let config = self.config.get();
        if config
            .rate_limit_exempt_paths
            .iter()
            .any(|exempt| fits(exempt, asking.path))
        {
            return Verdict::Free;
        }
        let fitting = limits
            .0
            .iter()
            .filter(|(_, limit)| limit.target.fits(asking));
        let Some((name, limit)) = fitting.max_by_key(|(_, limit)| limit.target.rank()) else {
            return Verdict::Free;
        };
        let Taken {
            allowed,
            remaining,
            wait,
        } = self.limiters.take(name, limit, asking.peer);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let headers = if config.enable_rate_limit_response_headers {
            vec![
                ("X-Ratelimit-Limit", limit.burst().to_string()),
                ("X-Ratelimit-Remaining", remaining.to_string()),
                ("X-Ratelimit-Reset", seconds.to_string()),
            ]
        } else {
            Vec::new()
        };
        if allowed {
            return match headers.is_empty() {
                true => Verdict::Free,
                false => Verdict::Within(headers),
            };
        }
        let text = format!("request path {:?}: rate limit quota exceeded", asking.path);
        let mut error = Error::too_many_until(text, seconds.max(1));
        for (name, value) in headers {
            error = error.with_header(name, value);
        }
        Verdict::Exceeded {
            error,
            audited: config.enable_rate_limit_audit_logging,
        }
    }
}

impl RateLimits {
    /// Adds or replaces a quota.
    pub fn set(&mut self, name: &str, limit: RateLimit) -> Result<()> {
        let others = self.0.iter().map(|(name, limit)| (name, &limit.target));
        check_new(name, &limit.target, others)?;
        self.0.insert(name.to_owned(), limit);
        Ok(())
    }
}

impl RateLimit {
    /// How many requests may come at once.
    pub(super) fn burst(&self) -> u32 {
        // Bounded when it was written; the cast saturates.
        self.rate.ceil().max(1.0) as u32
    }
}

impl Target {
    fn fits(&self, asking: &Asking<'_>) -> bool {
        // Roles are called by their name in small letters.
        let named = |role: &str| role == self.role || role == self.role.to_lowercase();
        let role = self.role.is_empty() || asking.role.is_some_and(named);
        role && (self.path.is_empty() || fits(&self.path, asking.path))
    }

    /// How specific it is.
    fn rank(&self) -> (bool, usize, bool) {
        let glob = self.path.ends_with('*');
        (!self.role.is_empty(), self.path.len(), !glob)
    }
}

/// Whether a path is a mount's, begins as a pattern says, or is the one.
fn fits(pattern: &str, path: &str) -> bool {
    if let Some(beginning) = pattern.strip_suffix('*') {
        return path.starts_with(beginning);
    }
    match pattern.strip_suffix('/') {
        Some(mount) => path
            .strip_prefix(mount)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        None => path == pattern,
    }
}

fn check_new<'a>(
    name: &str,
    target: &Target,
    mut others: impl ExactSizeIterator<Item = (&'a String, &'a Target)>,
) -> Result<()> {
    let count = others.len();
    let mut replaces = false;
    if let Some((other, _)) = others.find(|(other, known)| {
        replaces |= *other == name;
        *other != name && known.path == target.path && known.role == target.role
    }) {
        return Err(Error::bad_request(format!(
            "quota rule with similar properties exists under the name {other:?}"
        )));
    }
    if !replaces && count >= MAX_QUOTAS {
        return Err(Error::bad_request(format!(
            "there may be {MAX_QUOTAS} quotas of a kind"
        )));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn limits(all: &[(&str, &str)]) -> RateLimits {
        let limit = |path: &str, role: &str| RateLimit {
            target: Target {
                path: path.into(),
                role: role.into(),
                inheritable: false,
            },
            rate: 1.0,
            interval: 1,
            block_interval: 0,
        };
        let mut limits = RateLimits::default();
        for (path, role) in all {
            limits
                .set(&format!("{path}|{role}"), limit(path, role))
                .unwrap();
        }
        limits
    }

    #[test]
    fn the_most_specific_quota_counts() {
        let limits = limits(&[
            ("", ""),
            ("secret/", ""),
            ("secret/data/a*", ""),
            ("secret/data/app", ""),
            ("auth/jwt/", ""),
            ("auth/jwt/", "web"),
        ]);
        for (path, role, counts) in [
            ("sys/mounts", None, "|"),
            ("secretive/x", None, "|"),
            ("secret", None, "secret/|"),
            ("secret/data/x", None, "secret/|"),
            ("secret/data/abc", None, "secret/data/a*|"),
            ("secret/data/app", None, "secret/data/app|"),
            ("auth/jwt/login", None, "auth/jwt/|"),
            ("auth/jwt/login", Some("db"), "auth/jwt/|"),
            ("auth/jwt/login", Some("web"), "auth/jwt/|web"),
        ] {
            let peer = None;
            let asking = Asking { path, role, peer };
            let fitting = limits
                .0
                .iter()
                .filter(|(_, limit)| limit.target.fits(&asking));
            let (name, _) = fitting
                .max_by_key(|(_, limit)| limit.target.rank())
                .unwrap();
            assert_eq!(name, counts, "{path}");
        }
    }

    #[test]
    fn two_quotas_of_the_same_target_are_refused() {
        let mut known = limits(&[("secret/", "")]);
        let same = known.0["secret/|"].clone();
        assert!(known.set("other", same.clone()).is_err());
        known.set("secret/|", same).unwrap();
    }
}
