//! Which paths stand on which page. A mount has a page of its own; `sys/` has one for each of its areas.

use std::collections::BTreeMap;

use obol_mount::PathReference;

/// The generated half of a page.
pub(crate) struct Page {
    /// The file's name without `.md`: `auth-userpass`, `sys-seal`.
    pub(crate) name: String,
    pub(crate) paths: Vec<PathReference>,
}

/// Every page; an error names a path that belongs to none.
pub(crate) fn pages() -> Result<Vec<Page>, String> {
    let mut pages: BTreeMap<String, Vec<PathReference>> = BTreeMap::new();
    for mount in obol::core::mounts_of_everything().map_err(|error| error.to_string())? {
        for route in &mount.routes {
            let reference = route.reference(&mount.path);
            let page = match mount.kind.as_str() {
                "system" => format!("sys-{}", area(route.pattern.text())?),
                "kv" => "secrets-kv-v2".to_owned(),
                kind if mount.path.starts_with("auth/") => format!("auth-{kind}"),
                kind => format!("secrets-{kind}"),
            };
            pages.entry(page).or_default().push(reference);
        }
    }
    let kv_v1 = obol_secrets_engines::kv_v1_docs().map_err(|error| error.to_string())?;
    let kv_v1 = kv_v1.iter().map(|route| route.reference("kv/")).collect();
    pages.insert("secrets-kv-v1".into(), kv_v1);
    Ok(pages
        .into_iter()
        .map(|(name, mut paths)| {
            paths.sort_by(|a, b| a.path.cmp(&b.path));
            Page { name, paths }
        })
        .collect())
}

/// The area of `sys/` that a path belongs to: the one of its longest prefix.
fn area(path: &str) -> Result<&'static str, String> {
    AREAS
        .iter()
        .flat_map(|(area, prefixes)| prefixes.iter().map(move |prefix| (*area, *prefix)))
        .filter(|(_, prefix)| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        .max_by_key(|(_, prefix)| prefix.len())
        .map(|(area, _)| area)
        .ok_or_else(|| format!("sys/{path} is on no page of the handbook: give it one in server/examples/documents/pages.rs"))
}

/// The areas of `sys/`, each with the beginnings of its paths.
const AREAS: &[(&str, &[&str])] = &[
    (
        "seal",
        &[
            "init",
            "seal-status",
            "unseal",
            "seal",
            "health",
            "leader",
            "ha-status",
            "step-down",
            "replication",
        ],
    ),
    (
        "keys",
        &[
            "rekey",
            "rekey-recovery-key",
            "rotate",
            "key-status",
            "generate-root",
            "decode-token",
        ],
    ),
    ("mounts", &["mounts", "auth", "remount"]),
    (
        "policies",
        &[
            "policies",
            "policy",
            "capabilities",
            "capabilities-self",
            "capabilities-accessor",
        ],
    ),
    ("password-policies", &["policies/password"]),
    (
        "leases",
        &["leases", "renew", "revoke", "revoke-prefix", "revoke-force"],
    ),
    ("wrapping", &["wrapping"]),
    ("audit", &["audit", "audit-hash", "config/auditing"]),
    ("quotas", &["quotas"]),
    ("lockout", &["locked-users"]),
    (
        "monitoring",
        &[
            "metrics",
            "monitor",
            "loggers",
            "in-flight-req",
            "host-info",
            "internal/counters",
            "config/state",
            "pprof",
        ],
    ),
    ("snapshot", &["storage", "raw", "internal/check"]),
    ("tools", &["tools"]),
    ("plugins", &["plugins", "version-history"]),
    (
        "api",
        &[
            "internal/specs",
            "internal/ui",
            "config/cors",
            "config/ui",
            "config/reload",
        ],
    ),
];
