//! The surface that was promised, path by path and verb by verb, held against the document of a live server; and
//! everything that can be read, read: each answer has a status that the document knows.

use std::collections::BTreeMap;

use obol_tests::Client;
use serde_json::Value;

use super::{document, example_of, with_everything};

/// What a path is asked with. `Write` is POST and PUT; `List` is LIST and `GET ?list=true`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Read,
    List,
    Write,
    Patch,
    Delete,
}

use Verb::{Delete, List, Patch, Read, Write};

/// Paths with `{}` for each parameter.
const SURFACE: &[(&str, &[Verb])] = &[
    // sys: the server itself
    ("sys/init", &[Read, Write]),
    ("sys/seal-status", &[Read]),
    ("sys/unseal", &[Write]),
    ("sys/seal", &[Write]),
    ("sys/step-down", &[Write]),
    ("sys/health", &[Read]),
    ("sys/leader", &[Read]),
    ("sys/key-status", &[Read]),
    ("sys/rotate", &[Write]),
    ("sys/rotate/config", &[Read, Write]),
    ("sys/rekey/init", &[Read, Write, Delete]),
    ("sys/rekey/update", &[Write]),
    ("sys/rekey/verify", &[Read, Write, Delete]),
    ("sys/generate-root/attempt", &[Read, Write, Delete]),
    ("sys/generate-root/update", &[Write]),
    ("sys/storage/snapshot", &[Read, Write]),
    ("sys/internal/check", &[Read]),
    ("sys/raw", &[List]),
    ("sys/raw/{}", &[Read, List, Write, Delete]),
    // sys: mounts
    ("sys/mounts", &[Read]),
    ("sys/mounts/{}", &[Read, Write, Delete]),
    ("sys/mounts/{}/tune", &[Read, Write]),
    ("sys/auth", &[Read]),
    ("sys/auth/{}", &[Read, Write, Delete]),
    ("sys/auth/{}/tune", &[Read, Write]),
    ("sys/remount", &[Write]),
    ("sys/remount/status/{}", &[Read]),
    ("sys/plugins/catalog", &[Read]),
    ("sys/plugins/catalog/{}", &[List]),
    ("sys/plugins/catalog/{}/{}", &[Read]),
    // sys: policies and rights
    ("sys/policies/acl", &[List]),
    ("sys/policies/acl/{}", &[Read, Write, Patch, Delete]),
    ("sys/policy", &[Read, List]),
    ("sys/policy/{}", &[Read, Write, Delete]),
    ("sys/policies/password", &[List]),
    ("sys/policies/password/{}", &[Read, Write, Delete]),
    ("sys/policies/password/{}/generate", &[Read]),
    ("sys/capabilities", &[Write]),
    ("sys/capabilities-self", &[Write]),
    ("sys/capabilities-accessor", &[Write]),
    ("sys/internal/ui/resultant-acl", &[Read]),
    ("sys/internal/ui/mounts", &[Read]),
    ("sys/internal/ui/mounts/{}", &[Read]),
    ("sys/internal/specs/openapi", &[Read]),
    // sys: audit
    ("sys/audit", &[Read]),
    ("sys/audit/{}", &[Write, Delete]),
    ("sys/audit-hash/{}", &[Write]),
    ("sys/config/auditing/request-headers", &[Read]),
    (
        "sys/config/auditing/request-headers/{}",
        &[Read, Write, Delete],
    ),
    // sys: leases and wrapping
    ("sys/leases", &[Read]),
    ("sys/leases/count", &[Read]),
    ("sys/leases/lookup", &[Write, List]),
    ("sys/leases/lookup/{}", &[List]),
    ("sys/leases/renew", &[Write]),
    ("sys/leases/renew/{}", &[Write]),
    ("sys/leases/revoke", &[Write]),
    ("sys/leases/revoke/{}", &[Write]),
    ("sys/leases/revoke-prefix/{}", &[Write]),
    ("sys/leases/revoke-force/{}", &[Write]),
    ("sys/leases/tidy", &[Write]),
    ("sys/wrapping/wrap", &[Write]),
    ("sys/wrapping/unwrap", &[Write]),
    ("sys/wrapping/rewrap", &[Write]),
    ("sys/wrapping/lookup", &[Read, Write]),
    // sys: watching it, and its limits
    ("sys/tools/random", &[Write]),
    ("sys/tools/random/{}", &[Write]),
    ("sys/tools/random/{}/{}", &[Write]),
    ("sys/tools/hash", &[Write]),
    ("sys/tools/hash/{}", &[Write]),
    ("sys/host-info", &[Read]),
    ("sys/in-flight-req", &[Read]),
    ("sys/version-history", &[List]),
    ("sys/config/state/sanitized", &[Read]),
    ("sys/config/cors", &[Read, Write, Delete]),
    ("sys/config/ui/headers", &[List]),
    ("sys/config/ui/headers/{}", &[Read, Write, Delete]),
    ("sys/loggers", &[Read, Write, Delete]),
    ("sys/loggers/{}", &[Read, Write, Delete]),
    ("sys/monitor", &[Read]),
    ("sys/metrics", &[Read]),
    // `requests` answers nothing in present versions of Vault either.
    ("sys/internal/counters/tokens", &[Read]),
    ("sys/internal/counters/entities", &[Read]),
    ("sys/internal/counters/activity", &[Read]),
    ("sys/internal/counters/activity/monthly", &[Read]),
    ("sys/internal/counters/activity/export", &[Read]),
    ("sys/internal/counters/config", &[Read, Write]),
    ("sys/quotas/config", &[Read, Write]),
    ("sys/quotas/rate-limit", &[List]),
    ("sys/quotas/rate-limit/{}", &[Read, Write, Delete]),
    ("sys/quotas/lease-count", &[List]),
    ("sys/quotas/lease-count/{}", &[Read, Write, Delete]),
    ("sys/locked-users", &[Read]),
    ("sys/locked-users/{}/unlock/{}", &[Write]),
    // auth/token
    ("auth/token/create", &[Write]),
    ("auth/token/create-orphan", &[Write]),
    ("auth/token/create/{}", &[Write]),
    ("auth/token/lookup", &[Write]),
    ("auth/token/lookup-self", &[Read, Write]),
    ("auth/token/lookup-accessor", &[Write]),
    ("auth/token/renew", &[Write]),
    ("auth/token/renew-self", &[Write]),
    ("auth/token/renew-accessor", &[Write]),
    ("auth/token/revoke", &[Write]),
    ("auth/token/revoke-self", &[Write]),
    ("auth/token/revoke-orphan", &[Write]),
    ("auth/token/revoke-accessor", &[Write]),
    ("auth/token/roles", &[List]),
    ("auth/token/roles/{}", &[Read, Write, Delete]),
    ("auth/token/accessors", &[List]),
    ("auth/token/tidy", &[Write]),
    // auth/kerberos
    ("auth/kerberos/config", &[Read, Write]),
    ("auth/kerberos/config/ldap", &[Read, Write]),
    ("auth/kerberos/groups", &[List]),
    ("auth/kerberos/groups/{}", &[Read, Write, Delete]),
    ("auth/kerberos/login", &[Read, Write]),
    ("auth/kerberos/diagnose", &[Write]),
    // other auth methods
    ("auth/userpass/users", &[List]),
    ("auth/userpass/users/{}", &[Read, Write, Delete]),
    ("auth/userpass/users/{}/password", &[Write]),
    ("auth/userpass/users/{}/policies", &[Write]),
    ("auth/userpass/login/{}", &[Write]),
    ("auth/ldap/config", &[Read, Write]),
    ("auth/ldap/users", &[List]),
    ("auth/ldap/users/{}", &[Read, Write, Delete]),
    ("auth/ldap/groups", &[List]),
    ("auth/ldap/groups/{}", &[Read, Write, Delete]),
    ("auth/ldap/login/{}", &[Write]),
    ("auth/approle/role", &[List]),
    ("auth/approle/role/{}", &[Read, Write, Delete]),
    ("auth/approle/role/{}/role-id", &[Read, Write]),
    ("auth/approle/role/{}/secret-id", &[List, Write]),
    ("auth/approle/role/{}/custom-secret-id", &[Write]),
    ("auth/approle/role/{}/secret-id/lookup", &[Write]),
    ("auth/approle/role/{}/secret-id/destroy", &[Write, Delete]),
    ("auth/approle/role/{}/secret-id-accessor/lookup", &[Write]),
    (
        "auth/approle/role/{}/secret-id-accessor/destroy",
        &[Write, Delete],
    ),
    ("auth/approle/role/{}/policies", &[Read, Write, Delete]),
    (
        "auth/approle/role/{}/bind-secret-id",
        &[Read, Write, Delete],
    ),
    (
        "auth/approle/role/{}/secret-id-num-uses",
        &[Read, Write, Delete],
    ),
    ("auth/approle/role/{}/secret-id-ttl", &[Read, Write, Delete]),
    (
        "auth/approle/role/{}/secret-id-bound-cidrs",
        &[Read, Write, Delete],
    ),
    ("auth/approle/role/{}/token-ttl", &[Read, Write, Delete]),
    ("auth/approle/role/{}/token-max-ttl", &[Read, Write, Delete]),
    (
        "auth/approle/role/{}/token-num-uses",
        &[Read, Write, Delete],
    ),
    (
        "auth/approle/role/{}/token-bound-cidrs",
        &[Read, Write, Delete],
    ),
    ("auth/approle/role/{}/period", &[Read, Write, Delete]),
    ("auth/approle/tidy/secret-id", &[Write]),
    ("auth/approle/login", &[Write]),
    ("auth/jwt/config", &[Read, Write]),
    ("auth/jwt/role", &[List]),
    ("auth/jwt/role/{}", &[Read, Write, Delete]),
    ("auth/jwt/login", &[Write]),
    // kv without versions, kv with them, cubbyhole
    ("kv", &[List]),
    ("kv/{}", &[Read, List, Write, Delete]),
    ("secret/config", &[Read, Write]),
    ("secret/data/{}", &[Read, Write, Patch, Delete]),
    ("secret/metadata", &[List]),
    ("secret/metadata/{}", &[Read, List, Write, Patch, Delete]),
    ("secret/subkeys/{}", &[Read]),
    ("secret/delete/{}", &[Write]),
    ("secret/undelete/{}", &[Write]),
    ("secret/destroy/{}", &[Write]),
    ("secret/detailed-metadata/{}", &[List]),
    ("cubbyhole", &[List]),
    ("cubbyhole/{}", &[Read, List, Write, Delete]),
    // identity
    ("identity/entity", &[Write]),
    ("identity/entity/id", &[List]),
    ("identity/entity/id/{}", &[Read, Write, Delete]),
    ("identity/entity/name", &[List]),
    ("identity/entity/name/{}", &[Read, Write, Delete]),
    ("identity/entity/merge", &[Write]),
    ("identity/entity/batch-delete", &[Write]),
    ("identity/entity-alias", &[Write]),
    ("identity/entity-alias/id", &[List]),
    ("identity/entity-alias/id/{}", &[Read, Write, Delete]),
    ("identity/group", &[Write]),
    ("identity/group/id", &[List]),
    ("identity/group/id/{}", &[Read, Write, Delete]),
    ("identity/group/name", &[List]),
    ("identity/group/name/{}", &[Read, Write, Delete]),
    ("identity/group-alias", &[Write]),
    ("identity/group-alias/id", &[List]),
    ("identity/group-alias/id/{}", &[Read, Write, Delete]),
    ("identity/lookup/entity", &[Write]),
    ("identity/lookup/group", &[Write]),
    // transit
    ("transit/keys", &[List]),
    ("transit/keys/{}", &[Read, Write, Delete]),
    ("transit/keys/{}/config", &[Write]),
    ("transit/keys/{}/rotate", &[Write]),
    ("transit/keys/{}/trim", &[Write]),
    ("transit/encrypt/{}", &[Write]),
    ("transit/decrypt/{}", &[Write]),
    ("transit/rewrap/{}", &[Write]),
    ("transit/datakey/plaintext/{}", &[Write]),
    ("transit/datakey/wrapped/{}", &[Write]),
    ("transit/sign/{}", &[Write]),
    ("transit/sign/{}/{}", &[Write]),
    ("transit/verify/{}", &[Write]),
    ("transit/verify/{}/{}", &[Write]),
    ("transit/hmac/{}", &[Write]),
    ("transit/hmac/{}/{}", &[Write]),
    ("transit/random", &[Write]),
    ("transit/hash", &[Write]),
    ("transit/export/{}/{}", &[Read]),
    ("transit/export/{}/{}/{}", &[Read]),
    ("transit/backup/{}", &[Read]),
    ("transit/restore", &[Write]),
    ("transit/restore/{}", &[Write]),
];

#[test]
fn every_promised_path_answers_every_promised_verb() {
    let server = with_everything();
    let document = document(&server.root());
    let known: BTreeMap<String, &Value> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, item)| (nameless(path), item))
        .collect();
    let mut missing = Vec::new();
    for (path, verbs) in SURFACE {
        let item = known.get(*path).copied().unwrap_or(&Value::Null);
        let lacking = verbs.iter().filter(|verb| !has(item, **verb));
        missing.extend(lacking.map(|verb| format!("{verb:?} {path}")));
    }
    assert!(
        missing.is_empty(),
        "missing: {missing:#?}\nin: {:#?}",
        known.keys().collect::<Vec<_>>()
    );
}

#[test]
fn everything_that_can_be_read_answers_with_a_documented_status() {
    let server = with_everything();
    let root = server.root();
    let document = document(&root);
    let mut wrong = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        // It streams until the client goes away: tests/tests/api/logging.rs reads it.
        if path == "/sys/monitor" {
            continue;
        }
        let example = example_of(path);
        for (verb, method, query) in [
            (Read, "GET", ""),
            (List, "LIST", ""),
            (List, "GET", "?list=true"),
        ] {
            if !has(item, verb) {
                continue;
            }
            let reply = root.request(method, &format!("{example}{query}")).send();
            let documented = item["get"]["responses"].get(reply.status.to_string());
            // Nothing is there yet, so a server error can only be the server's own.
            if documented.is_none() || reply.status >= 500 {
                wrong.push(format!(
                    "{method} {example}{query}: {} {}",
                    reply.status,
                    reply.text()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn help_is_given_for_mounts_and_paths_alike() {
    let server = with_everything();
    let root = server.root();
    for path in [
        "sys/mounts",
        "secret/data/some/path",
        "kv/some/path",
        "transit/encrypt/key",
    ] {
        let help = help(&root, path);
        assert!(help.contains("Operations:"), "{path}: {help}");
    }
    root.get("sys/nothing-of-that-name?help=1").expect(404);
    // Help says nothing to those who may do nothing.
    let reply = root.without_token().get("secret/data/some/path?help=1");
    assert!(matches!(reply.status, 400 | 403), "{}", reply.text());
}

fn help(root: &Client, path: &str) -> String {
    let reply = root.get(&format!("{path}?help=1")).expect(200).json();
    reply["help"].as_str().unwrap().to_owned()
}

fn has(item: &Value, verb: Verb) -> bool {
    let list = || {
        let parameters = item["get"]["parameters"].as_array();
        parameters.and_then(|all| all.iter().find(|one| one["name"] == "list"))
    };
    match verb {
        Read => item.get("get").is_some() && list().is_none_or(|list| list["required"] != true),
        List => list().is_some(),
        Write => item.get("post").is_some(),
        Patch => item.get("patch").is_some(),
        Delete => item.get("delete").is_some(),
    }
}

/// `/sys/mounts/{path}/tune` as `sys/mounts/{}/tune`.
fn nameless(path: &str) -> String {
    let segments = path.trim_matches('/').split('/');
    let nameless: Vec<&str> = segments
        .map(|s| if s.starts_with('{') { "{}" } else { s })
        .collect();
    nameless.join("/")
}
