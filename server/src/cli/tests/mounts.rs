//! Tuning and moving mounts; changes of secrets.

use serde_json::{Value, json as j};

use super::harness::{Server, Shell, empty, json, status};
use super::requests::{asks, data};

#[test]
fn every_setting_of_a_mount_has_its_flag() {
    asks(
        "auth tune -default-lease-ttl=1h -max-lease-ttl=2h -token-type=batch -listing-visibility=unauth \
         -audit-non-hmac-request-keys=a -audit-non-hmac-request-keys=b -audit-non-hmac-response-keys= \
         -passthrough-request-headers=X-A -allowed-response-headers=X-B -user-lockout-threshold=3 \
         -user-lockout-duration=10m -user-lockout-counter-reset-duration=20m -user-lockout-disable=false \
         -description=d userpass/",
        empty(),
        "POST",
        "/v1/sys/auth/userpass/tune",
        j!({"default_lease_ttl": 3600, "max_lease_ttl": 7200, "token_type": "batch", "listing_visibility": "unauth",
            "audit_non_hmac_request_keys": ["a", "b"], "audit_non_hmac_response_keys": [],
            "passthrough_request_headers": ["X-A"], "allowed_response_headers": ["X-B"], "description": "d",
            "user_lockout_config": {"lockout_threshold": 3, "lockout_duration": 600,
                "lockout_counter_reset_duration": 1200, "lockout_disable": false}}),
    );
    asks(
        "secrets tune -version=2 kv",
        empty(),
        "POST",
        "/v1/sys/mounts/kv/tune",
        j!({"options": {"version": "2"}}),
    );
    asks(
        "kv enable-versioning kv/",
        empty(),
        "POST",
        "/v1/sys/mounts/kv/tune",
        j!({"options": {"version": "2"}}),
    );
    Shell::empty()
        .run("auth tune userpass")
        .failed(1, "nothing to change");
}

#[test]
fn a_move_is_waited_for() {
    let state = |state: &str| data(j!({"migration_id": "m", "migration_info": {"status": state}}));
    let begun = || data(j!({"migration_id": "m"}));
    let server = Server::start([
        begun(),
        state("in-progress"),
        state("success"),
        begun(),
        state("failure"),
    ]);
    let shell = Shell::of(&server);
    let out = shell.run("auth move lab/ auth/kerberos").ok().out;
    assert!(
        out.contains("migration ID m") && out.contains("Finished moving"),
        "{out}"
    );
    let seen = server.seen();
    assert_eq!(
        (seen[0].target.as_str(), seen[0].json()),
        (
            "/v1/sys/remount",
            j!({"from": "auth/lab", "to": "auth/kerberos"})
        )
    );
    assert_eq!(seen[2].target, "/v1/sys/remount/status/m");
    shell.run("secrets move a b").failed(2, "log says why");
    assert_eq!(server.seen()[3].json(), j!({"from": "a", "to": "b"}));
}

fn v2() -> super::harness::Reply {
    data(j!({"path": "secret/", "options": {"version": "2"}}))
}

fn secret(fields: Value, version: u64) -> super::harness::Reply {
    data(j!({"data": fields, "metadata": {"version": version}}))
}

#[test]
fn fields_of_a_secret_are_changed_by_the_server_where_it_may() {
    let server = Server::start([v2(), data(j!({"version": 4}))]);
    Shell::of(&server)
        .run("kv patch -cas=3 -remove-data=old secret/a b=1")
        .ok();
    let seen = &server.seen()[1];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("PATCH", "/v1/secret/data/a")
    );
    assert_eq!(
        seen.json(),
        j!({"data": {"b": "1", "old": null}, "options": {"cas": 3}})
    );
    Shell::empty()
        .run("kv patch secret/a")
        .failed(1, "nothing to change");
}

#[test]
fn without_the_right_to_patch_a_secret_is_read_and_written_on_condition() {
    let server = Server::start([
        v2(),
        status(403, j!({"errors": ["permission denied"]})),
        secret(j!({"a": "1", "b": "2"}), 7),
        data(j!({"version": 8})),
    ]);
    let ran = Shell::of(&server).run("kv patch secret/a b=3").ok();
    assert!(ran.err.contains("reading, changing"), "{}", ran.err);
    let seen = server.seen();
    assert_eq!(
        seen[3].json(),
        j!({"data": {"a": "1", "b": "3"}, "options": {"cas": 7}})
    );
    let server = Server::start([
        v2(),
        secret(j!({"a": "1"}), 7),
        v2(),
        status(404, j!({"errors": []})),
    ]);
    let shell = Shell::of(&server);
    shell
        .run("kv patch -method=rw -cas=6 secret/a b=3")
        .failed(2, "is 7, not 6");
    shell.run("kv patch secret/a b=3").failed(2, "kv put");
}

#[test]
fn an_older_version_becomes_the_newest() {
    let server = Server::start([
        v2(),
        secret(j!({"a": "new"}), 5),
        secret(j!({"a": "old"}), 2),
        data(j!({"version": 6})),
    ]);
    Shell::of(&server)
        .run("kv rollback -version=2 secret/a")
        .ok();
    let seen = server.seen();
    assert_eq!(seen[2].target, "/v1/secret/data/a?version=2");
    assert_eq!(
        seen[3].json(),
        j!({"data": {"a": "old"}, "options": {"cas": 5}})
    );
    // A latest version that is deleted stands in nobody's way.
    let deleted = status(
        404,
        j!({"data": {"data": null, "metadata": {"version": 5}}}),
    );
    let server = Server::start([
        v2(),
        deleted,
        secret(j!({"a": "old"}), 2),
        data(j!({"version": 6})),
    ]);
    Shell::of(&server)
        .run("kv rollback -version=2 secret/a")
        .ok();
    assert_eq!(server.seen()[3].json()["options"], j!({"cas": 5}));
}

#[test]
fn limits_and_notes_of_a_secret_are_set_and_changed() {
    let server = Server::start([v2(), empty(), v2(), empty()]);
    let shell = Shell::of(&server);
    shell
        .run("kv metadata put -max-versions=5 -cas-required -delete-version-after=30m -custom-metadata=a=b secret/x")
        .ok();
    shell
        .run("kv metadata patch -custom-metadata=a=c -remove-custom-metadata=d secret/x")
        .ok();
    let seen = server.seen();
    assert_eq!(
        (
            seen[1].method.as_str(),
            seen[1].target.as_str(),
            seen[1].json()
        ),
        (
            "PUT",
            "/v1/secret/metadata/x",
            j!({"max_versions": 5, "cas_required": true,
            "delete_version_after": "1800s", "custom_metadata": {"a": "b"}})
        )
    );
    assert_eq!(
        (seen[3].method.as_str(), seen[3].json()),
        ("PATCH", j!({"custom_metadata": {"a": "c", "d": null}}))
    );
    shell
        .run("kv metadata patch secret/x")
        .failed(1, "nothing to change");
}

#[test]
fn the_answer_of_a_version_1_mount_says_what_is_missing() {
    let server = Server::start([json(j!({"data": {"path": "kv/", "options": {}}}))]);
    Shell::of(&server)
        .run("kv rollback -version=1 kv/a")
        .failed(1, "version 2");
}
