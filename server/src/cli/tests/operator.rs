//! `operator` beyond init and unseal: steps that several people take part in, keys, snapshots.

use serde_json::{Value, json as j};

use super::harness::{Reply, Server, Shell, empty, json, status, text};
use super::requests::{asks, data};

fn rekey_status(progress: u64) -> Reply {
    json(
        j!({"nonce": "n0", "started": true, "t": 3, "n": 5, "progress": progress, "required": 2,
        "verification_required": false, "verification_nonce": ""}),
    )
}

#[test]
fn a_rekey_is_begun_with_the_keys_that_vault_makes_by_default() {
    let out = asks(
        "operator rekey -init",
        rekey_status(0),
        "PUT",
        "/v1/sys/rekey/init",
        j!({"secret_shares": 5, "secret_threshold": 3, "require_verification": false}),
    );
    assert!(out.contains("Rekey Progress           0/2"), "{out}");
    asks(
        "operator rekey -init -n 7 -t=4 -verify -target=recovery",
        rekey_status(0),
        "PUT",
        "/v1/sys/rekey-recovery-key/init",
        j!({"secret_shares": 7, "secret_threshold": 4, "require_verification": true}),
    );
    asks(
        "operator rekey -cancel",
        empty(),
        "DELETE",
        "/v1/sys/rekey/init",
        Value::Null,
    );
    asks(
        "operator rekey -cancel -verify",
        empty(),
        "DELETE",
        "/v1/sys/rekey/verify",
        Value::Null,
    );
    asks(
        "operator rekey -status",
        rekey_status(1),
        "GET",
        "/v1/sys/rekey/init",
        Value::Null,
    );
    let shell = Shell::empty();
    shell
        .run("operator rekey -init -cancel")
        .failed(1, "--cancel");
    shell.run("operator rekey -n 3").failed(1, "-init");
}

#[test]
fn a_key_for_a_rekey_comes_with_its_nonce_and_is_never_shown() {
    let done = json(
        j!({"nonce": "n0", "complete": true, "keys": ["aa", "bb"], "keys_base64": ["qg==", "uw=="],
        "verification_required": true, "verification_nonce": "v0"}),
    );
    let server = Server::start([
        rekey_status(0),
        rekey_status(1),
        rekey_status(1),
        done,
        rekey_status(1),
        rekey_status(1),
    ]);
    let shell = Shell::of(&server).stdin("s3cret\n");
    let ran = shell.run("operator rekey -nonce=n0 -").ok();
    assert!(
        ran.out.contains("Rekey Progress           1/2"),
        "{}",
        ran.out
    );
    let sent = &server.seen()[1];
    assert_eq!(
        (sent.target.as_str(), sent.json()),
        ("/v1/sys/rekey/update", j!({"key": "s3cret", "nonce": "n0"}))
    );
    let ran = shell.run("operator rekey -nonce=n0 s3cret").ok();
    for part in ["Key 1: qg==", "Key 2: uw==", "-verify", "v0"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(!ran.out.contains("s3cret") && !ran.err.contains("s3cret"));
    let ran = shell.run("operator rekey s3cret").failed(1, "-nonce=n0");
    assert!(!ran.err.contains("s3cret"));
    shell
        .run("operator rekey -nonce=other s3cret")
        .failed(1, "another operation");
}

#[test]
fn without_a_terminal_a_key_is_not_waited_for() {
    let server = Server::start([rekey_status(0), json(j!({"started": false, "nonce": ""}))]);
    let shell = Shell::of(&server);
    shell.run("operator rekey").failed(1, "no terminal");
    shell.run("operator rekey").failed(1, "-init");
}

#[test]
fn a_root_token_is_begun_given_keys_and_decoded() {
    let state = |progress: u64, complete: bool, encoded: &str, otp: &str| {
        json(
            j!({"nonce": "n0", "started": true, "progress": progress, "required": 2, "complete": complete,
            "encoded_token": encoded, "otp": otp, "otp_length": 4}),
        )
    };
    let out = asks(
        "operator generate-root -init",
        state(0, false, "", "abcd"),
        "PUT",
        "/v1/sys/generate-root/attempt",
        j!({}),
    );
    assert!(
        out.contains("OTP           abcd") && out.contains("OTP Length    4"),
        "{out}"
    );
    asks(
        "operator generate-root -init -otp=wxyz",
        state(0, false, "", "wxyz"),
        "PUT",
        "/v1/sys/generate-root/attempt",
        j!({"otp": "wxyz"}),
    );
    asks(
        "operator generate-root -cancel -nonce=n0",
        empty(),
        "DELETE",
        "/v1/sys/generate-root/attempt?nonce=n0",
        Value::Null,
    );
    let out = asks(
        "operator generate-root -generate-otp",
        state(0, false, "", ""),
        "GET",
        "/v1/sys/generate-root/attempt",
        Value::Null,
    );
    assert_eq!(out.trim().len(), 4);
    let server = Server::start([state(1, false, "", ""), state(2, true, "Cg==", "")]);
    let out = Shell::of(&server)
        .run("operator generate-root -nonce=n0 k3y")
        .ok()
        .out;
    assert!(out.contains("Encoded Token    Cg=="), "{out}");
    assert_eq!(server.seen()[1].json(), j!({"key": "k3y", "nonce": "n0"}));
    // "root" XOR "abcd".
    let shell = Shell::empty().stdin("Ew0MEA==\n");
    for line in [
        "operator generate-root -decode=Ew0MEA -otp=abcd",
        "operator generate-root -decode - -otp abcd",
    ] {
        assert_eq!(shell.run(line).ok().out, "root\n");
    }
    shell
        .run("operator generate-root -decode=Ew0MEA -otp=abc")
        .failed(1, "bytes");
    shell
        .run("operator generate-root -otp=abcd")
        .failed(1, "-init");
}

#[test]
fn the_key_is_rotated_and_shown() {
    let server = Server::start([
        empty(),
        data(j!({"term": 2, "install_time": "now", "encryptions": 9})),
    ]);
    let out = Shell::of(&server).run("operator rotate").ok().out;
    assert!(out.starts_with("Success! Rotated key\n"), "{out}");
    assert!(out.contains("Key Term            2"), "{out}");
    assert!(out.contains("Encryption Count    9"), "{out}");
    asks(
        "operator step-down",
        empty(),
        "PUT",
        "/v1/sys/step-down",
        Value::Null,
    );
}

#[test]
fn a_snapshot_becomes_a_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start([text(200, "the bytes"), text(200, "the bytes")]);
    let shell = Shell::of(&server).set("VAULT_WRAP_TTL", "60");
    let path = shell.home.path().join("obol.snap");
    let out = shell
        .run(&format!("operator backup {}", path.display()))
        .ok()
        .out;
    assert!(out.starts_with("Success! Wrote 9 bytes to "), "{out}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "the bytes");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let seen = &server.seen()[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/v1/sys/storage/snapshot")
    );
    assert_eq!(seen.header("X-Vault-Wrap-TTL"), None);
    assert_eq!(
        shell.run("operator raft snapshot save -").ok().out,
        "the bytes"
    );
}

#[test]
fn a_snapshot_that_fails_leaves_the_old_file_and_nothing_beside_it() {
    let server = Server::start([status(403, j!({"errors": ["permission denied"]}))]);
    let shell = Shell::of(&server);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("obol.snap");
    std::fs::write(&path, "old").unwrap();
    let line = format!("operator backup {}", path.display());
    shell.run(&line).failed(2, "permission denied");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    shell
        .run(&format!("operator backup {}", directory.path().display()))
        .failed(1, "is a directory");
}

#[test]
fn a_snapshot_goes_back_as_it_is() {
    let unsealed = || json(j!({"sealed": false}));
    let sealed = json(j!({"sealed": true}));
    let server = Server::start([empty(), unsealed(), empty(), sealed]);
    let shell = Shell::of(&server).stdin("from a pipe");
    let path = shell.home.path().join("obol.snap");
    std::fs::write(&path, "the bytes").unwrap();
    let ran = shell
        .run(&format!("operator restore {}", path.display()))
        .ok();
    assert_eq!(ran.out, "Success! Restored 9 bytes\n");
    let ran = shell
        .run(&format!(
            "operator raft snapshot restore -force {}",
            path.display()
        ))
        .ok();
    assert!(ran.err.contains("operator unseal"), "{}", ran.err);
    let seen = server.seen();
    assert_eq!(
        (
            seen[0].method.as_str(),
            seen[0].target.as_str(),
            seen[0].body.as_str()
        ),
        ("POST", "/v1/sys/storage/snapshot", "the bytes")
    );
    assert_eq!(seen[2].target, "/v1/sys/storage/snapshot-force");
    shell
        .run("operator restore /no/such/file")
        .failed(1, "/no/such/file");
    let curl = shell
        .run(&format!(
            "operator restore -output-curl-string {}",
            path.display()
        ))
        .ok()
        .out;
    assert!(
        curl.contains("--data-binary @") && curl.contains("octet-stream"),
        "{curl}"
    );
}

#[test]
fn usage_is_a_table_of_namespaces_with_a_total() {
    let counts = |n: u64| j!({"entity_clients": n, "non_entity_clients": 2, "secret_syncs": 0, "acme_clients": 0, "clients": n + 2});
    let report = data(j!({
        "start_time": "2026-10-01T00:00:00Z",
        "end_time": "2026-11-30T23:59:59Z",
        "by_namespace": [{"namespace_id": "root", "namespace_path": "", "counts": counts(40), "mounts": []}],
        "total": counts(40),
    }));
    let out = asks(
        "operator usage -start-time=2026-10 -end-time=2026-11-30T12:00:00Z",
        report,
        "GET",
        "/v1/sys/internal/counters/activity?start_time=1790812800&end_time=1796040000",
        Value::Null,
    );
    for part in [
        "Period start: 2026-10-01T00:00:00Z",
        "[root]            40",
        "Total",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let shell = Shell::empty();
    shell
        .run("operator usage -start-time=yesterday")
        .failed(1, "-start-time");
}

#[test]
fn usage_without_clients_says_whether_they_are_counted() {
    let server = Server::start([
        empty(),
        data(j!({"enabled": "disable"})),
        empty(),
        status(403, j!({"errors": ["permission denied"]})),
    ]);
    let shell = Shell::of(&server);
    let ran = shell.run("operator usage").ok();
    assert!(ran.out.contains("No data is available"), "{}", ran.out);
    assert!(ran.err.contains("enabled=enable"), "{}", ran.err);
    let ran = shell.run("operator usage").ok();
    assert!(!ran.err.contains("enabled"), "{}", ran.err);
}
