//! `lease`, `patch`: what they ask, and what they say.

use serde_json::{Value, json as j};

use super::harness::{Server, Shell, empty, json, status};
use super::requests::{asks, data};

#[test]
fn a_lease_is_looked_up_renewed_and_revoked_by_its_id() {
    let shown = || data(j!({"id": "a/b", "ttl": 60}));
    let out = asks(
        "lease lookup a/b",
        shown(),
        "PUT",
        "/v1/sys/leases/lookup",
        j!({"lease_id": "a/b"}),
    );
    assert!(out.contains("ttl    1m"), "{out}");
    asks(
        "lease lookup -field=ttl a/b",
        shown(),
        "PUT",
        "/v1/sys/leases/lookup",
        j!({"lease_id": "a/b"}),
    );
    let renewed =
        json(j!({"lease_id": "a/b", "lease_duration": 3600, "renewable": true, "data": null}));
    let out = asks(
        "lease renew -increment=1h a/b",
        renewed,
        "PUT",
        "/v1/sys/leases/renew",
        j!({"lease_id": "a/b", "increment": 3600}),
    );
    assert!(out.contains("lease_duration     1h"), "{out}");
    let out = asks(
        "lease revoke a/b",
        empty(),
        "PUT",
        "/v1/sys/leases/revoke",
        j!({"lease_id": "a/b", "sync": false}),
    );
    assert!(out.contains("queued"), "{out}");
    let out = asks(
        "lease revoke -sync a/b",
        empty(),
        "PUT",
        "/v1/sys/leases/revoke",
        j!({"lease_id": "a/b", "sync": true}),
    );
    assert_eq!(out, "Success! Revoked lease: a/b\n");
}

#[test]
fn leases_below_a_prefix_are_revoked_in_order_or_by_force() {
    asks(
        "lease revoke -prefix -sync a/b/",
        empty(),
        "PUT",
        "/v1/sys/leases/revoke-prefix/a/b",
        j!({"sync": true}),
    );
    let out = asks(
        "lease revoke -force -prefix a/b/",
        empty(),
        "PUT",
        "/v1/sys/leases/revoke-force/a/b",
        Value::Null,
    );
    assert!(out.contains("Force revoked"), "{out}");
    Shell::empty()
        .run("lease revoke -force a/b")
        .failed(1, "-prefix");
    Shell::empty()
        .run("lease revoke -force -prefix -sync a/b")
        .failed(1, "-sync");
}

#[test]
fn a_patch_is_a_merge_patch() {
    let server = Server::start([
        empty(),
        status(405, j!({"errors": ["unsupported operation"]})),
    ]);
    let shell = Shell::of(&server).stdin("{\"a\": null}");
    assert_eq!(
        shell.run("patch x/y -").ok().out,
        "Success! Data written to: x/y\n"
    );
    let seen = &server.seen()[0];
    assert_eq!(
        (seen.method.as_str(), seen.json()),
        ("PATCH", j!({"a": null}))
    );
    assert_eq!(
        seen.header("Content-Type"),
        Some("application/merge-patch+json")
    );
    shell.run("patch x/y a=b").failed(2, "obol write");
    shell.run("patch x/y").failed(1, "-force");
}

#[test]
fn every_command_asks_for_wrapping_where_it_is_told_to() {
    let wrapped = || {
        json(
            j!({"data": null, "wrap_info": {"token": "obs.w", "ttl": 60, "accessor": "a",
            "creation_time": "t", "creation_path": "p"}}),
        )
    };
    for line in [
        "read -wrap-ttl=60s x",
        "lease lookup -wrap-ttl=60s x",
        "token create -wrap-ttl=1m",
        "operator key-status -wrap-ttl=1m",
        "operator rekey -status -wrap-ttl=1m",
        "operator generate-root -status -wrap-ttl=1m",
    ] {
        let server = Server::start([wrapped()]);
        let out = Shell::of(&server).run(line).ok().out;
        assert!(
            out.contains("wrapping_token:                  obs.w"),
            "{line}: {out}"
        );
        assert_eq!(
            server.seen()[0].header("X-Vault-Wrap-TTL"),
            Some("60"),
            "{line}"
        );
    }
}
