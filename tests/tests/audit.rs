//! The audit log: who asked for what and what came of it, in a form that gives nothing away; and no request without it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_tests::kerberos;
use obol_tests::{Client, Server, ServerOptions, holds, realm, ticket};
use rustix::process::Signal;
use serde_json::{Value, json};

fn with_kv() -> Server {
    let server = Server::ready(ServerOptions::default());
    let kv = json!({"type": "kv", "options": {"version": "2"}});
    server.root().post("sys/mounts/secret", kv).expect(204);
    server
}

/// Turns a file device on, and gives its file.
fn audited(server: &Server, name: &str) -> PathBuf {
    let file = server.dir().join(format!("{name}.log"));
    enable(&server.root(), name, &file).expect(204);
    file
}

fn enable(root: &Client, name: &str, file: &Path) -> obol_tests::Reply {
    root.put(
        &format!("sys/audit/{name}"),
        json!({"type": "file", "options": {"file_path": file.display().to_string()}}),
    )
}

fn entries(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn every_request_has_two_entries_that_name_who_what_and_where() {
    let server = with_kv();
    let root = server.root();
    let file = audited(&server, "file");
    let made = root.post(
        "auth/token/create",
        json!({"policies": ["default"], "display_name": "worker"}),
    );
    let id = made.json()["request_id"].as_str().unwrap().to_owned();
    let worker = server.client().with_token(made.client_token());
    worker.get("secret/data/x").expect(403);
    root.get("secret/data/nothing").expect(404);
    server.client().get("secret/data/x").expect(403);

    let entries = entries(&file);
    let create: Vec<&Value> = entries
        .iter()
        .filter(|e| e["request"]["id"] == id.as_str())
        .collect();
    let [request, response] = create[..] else {
        panic!("{create:#?}")
    };
    assert_eq!(
        (&request["type"], &response["type"]),
        (&json!("request"), &json!("response"))
    );
    for entry in [request, response] {
        assert_eq!(entry["request"]["path"], "auth/token/create");
        assert_eq!(entry["request"]["operation"], "update");
        assert_eq!(entry["request"]["remote_address"], "127.0.0.1");
        assert!(entry["request"]["remote_port"].as_u64().unwrap() > 0);
        assert_eq!(entry["request"]["mount_point"], "auth/token/");
        assert_eq!(entry["request"]["mount_type"], "token");
        assert_eq!(entry["request"]["mount_class"], "auth");
        let accessor = entry["request"]["mount_accessor"].as_str().unwrap();
        assert!(accessor.starts_with("auth_token_"), "{accessor}");
        assert_eq!(entry["auth"]["token_policies"], json!(["root"]));
        assert_eq!(
            entry["auth"]["client_token"],
            entry["request"]["client_token"]
        );
        assert_eq!(entry["auth"]["policies"], json!(["root"]));
        assert_eq!(entry["auth"]["display_name"], "root");
        assert!(
            entry["auth"]["token_issue_time"]
                .as_str()
                .unwrap()
                .ends_with('Z')
        );
        assert_eq!(entry["auth"]["token_ttl"], Value::Null, "root's has no end");
        assert!(entry["time"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(response["response"]["auth"]["policies"], json!(["default"]));
    assert_eq!(response["response"]["mount_type"], "token");
    let refused: Vec<&Value> = entries
        .iter()
        .filter(|e| {
            e["error"]
                .as_str()
                .is_some_and(|e| e.contains("permission denied"))
        })
        .collect();
    assert!(refused.len() >= 2, "{entries:#?}");
    let by_worker = refused
        .iter()
        .find(|e| e["auth"]["display_name"] == "token-worker")
        .unwrap();
    assert_eq!(
        (&by_worker["type"], &by_worker["request"]["path"]),
        (&json!("response"), &json!("secret/data/x"))
    );
    let client = by_worker["request"]["client_id"].as_str().unwrap();
    assert_eq!(client.len(), 64, "a hash, since it has no entity");
    let exported = root.get("sys/internal/counters/activity/export?format=json");
    assert!(exported.expect(200).text().contains(client));
    assert_eq!(request["request"]["client_id"], Value::Null, "root's");
    // Refused before anybody knew who it was: recorded all the same.
    assert!(
        refused.iter().any(|e| e["auth"] == json!({})),
        "{refused:#?}"
    );
}

#[test]
fn audit_raw_no_value_that_was_sent_or_answered_is_readable() {
    let server = with_kv();
    let root = server.root();
    let file = audited(&server, "file");
    let secret = "hunter2-correct-horse";
    root.post(
        "secret/data/app",
        json!({"data": {"password": secret, "deep": [{"er": secret}], "count": 5}}),
    )
    .expect(200);
    root.get("secret/data/app").expect(200);
    root.post("secret/data/app", json!({"data": secret}))
        .expect(400);
    root.post("cubbyhole/x", json!({"text": secret}))
        .expect(204);
    root.get("cubbyhole/x").expect(200);
    root.post("auth/token/lookup", json!({"token": secret}))
        .expect(403);
    root.get(&format!("secret/data/app?version={secret}"))
        .expect(400);
    root.put("sys/audit-hash/file", json!({"input": secret}))
        .expect(200);
    server
        .client()
        .with_token(secret)
        .get("secret/data/app")
        .expect(403);
    root.request("GET", "auth/token/lookup-self")
        .header("X-Custom", secret)
        .header("Cookie", secret)
        .send()
        .expect(200);
    let made = root
        .post("auth/token/create", json!({"policies": ["default"]}))
        .auth();

    let text = fs::read_to_string(&file).unwrap();
    for hidden in [
        secret,
        &STANDARD.encode(secret),
        root.token(),
        made["client_token"].as_str().unwrap(),
        made["accessor"].as_str().unwrap(),
    ] {
        assert!(!text.contains(hidden), "{hidden} is in the audit log");
    }
    assert!(!text.to_lowercase().contains("cookie"));
    assert!(
        text.contains("\"password\":\"hmac-sha256:"),
        "keys are readable, values hashed"
    );
    assert!(text.contains("\"count\":5"));
}

#[test]
fn a_hash_finds_what_it_was_made_of_and_each_device_has_its_own() {
    let server = with_kv();
    let root = server.root();
    let (one, two) = (audited(&server, "one"), audited(&server, "two"));
    root.post("cubbyhole/x", json!({"text": "find me"}))
        .expect(204);
    let hash = |device: &str| {
        root.put(
            &format!("sys/audit-hash/{device}"),
            json!({"input": "find me"}),
        )
        .data()["hash"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (in_one, in_two) = (hash("one"), hash("two"));
    assert_ne!(in_one, in_two);
    assert_eq!(in_one, hash("one"));
    for (file, right, wrong) in [(&one, &in_one, &in_two), (&two, &in_two, &in_one)] {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains(right.as_str()) && !text.contains(wrong.as_str()));
    }
    // A token can be found the same way.
    let token = root
        .put("sys/audit-hash/one", json!({"input": root.token()}))
        .data()["hash"]
        .clone();
    assert_eq!(
        entries(&one).last().unwrap()["request"]["client_token"],
        token
    );
    root.put("sys/audit-hash/none", json!({"input": "x"}))
        .expect(400);
}

#[test]
fn keys_that_a_mount_names_are_shown_and_accessors_where_the_device_says_so() {
    let server = with_kv();
    let root = server.root();
    let file = server.dir().join("shown.log");
    let options = json!({"file_path": file.display().to_string(), "hmac_accessor": "false"});
    root.put(
        "sys/audit/shown",
        json!({"type": "file", "options": options}),
    )
    .expect(204);
    let tune = json!({"audit_non_hmac_request_keys": ["options"], "audit_non_hmac_response_keys": "metadata"});
    root.post("sys/mounts/secret/tune", tune).expect(204);
    root.post(
        "secret/data/x",
        json!({"data": {"a": "hidden value"}, "options": {"note": "shown value"}}),
    );
    root.post("secret/data/x", json!({"data": {"a": "hidden value"}}))
        .expect(200);
    root.get("secret/data/x").expect(200);
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("shown value") && !text.contains("hidden value"),
        "{text}"
    );
    assert!(text.contains("\"created_time\":\"20"), "{text}");
    let accessor = root.get("auth/token/lookup-self").data()["accessor"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(fs::read_to_string(&file).unwrap().contains(&accessor));
}

#[test]
fn logins_are_recorded_without_the_ticket() {
    let server = kerberos::kerberized();
    let file = audited(&server, "file");
    let header = kerberos::negotiate(realm(), &ticket("grace"));
    let token = kerberos::login_with(&server, &header).client_token();
    kerberos::login_with(&server, &header).expect(401);
    let in_body = kerberos::negotiate(realm(), &ticket("grace"));
    server
        .client()
        .post("auth/kerberos/login", json!({ "authorization": in_body }))
        .expect(200);
    let text = fs::read_to_string(&file).unwrap();
    for sent in [&header, &in_body] {
        let ticket = sent.strip_prefix("Negotiate ").unwrap();
        assert!(
            !text.contains(&ticket[..40]),
            "a ticket is in the audit log"
        );
    }
    assert!(!text.contains(&token));
    let logins: Vec<Value> = entries(&file)
        .into_iter()
        .filter(|e| e["request"]["path"] == "auth/kerberos/login")
        .collect();
    assert_eq!(logins.len(), 6, "{logins:#?}");
    assert_eq!(logins[1]["response"]["auth"]["metadata"]["user"], "grace");
    assert!(logins[3]["error"].as_str().unwrap().contains("used before"));
}

#[test]
fn audit_path_a_device_writes_plain_files_where_it_was_told_and_nothing_else() {
    let server = with_kv();
    let root = server.root();
    let dir = server.dir();
    fs::write(dir.join("script.sh"), "#!/bin/sh\n").unwrap();
    make_executable(&dir.join("script.sh"));
    std::os::unix::fs::symlink(dir.join("elsewhere"), dir.join("link")).unwrap();
    let in_dir = |name: &str| dir.join(name).display().to_string();
    for options in [
        json!({}),
        json!({"file_path": ""}),
        json!({"file_path": "relative.log"}),
        json!({"file_path": format!("{}/../up.log", dir.display())}),
        json!({"file_path": dir.display().to_string()}),
        json!({"file_path": in_dir("script.sh")}),
        json!({"file_path": in_dir("link")}),
        json!({"file_path": in_dir("no/such/directory.log")}),
        json!({"file_path": in_dir("a.log"), "mode": "0755"}),
        json!({"file_path": in_dir("a.log"), "mode": "4600"}),
        json!({"file_path": in_dir("a.log"), "mode": "rw"}),
        json!({"file_path": in_dir("a.log"), "prefix": "#!/bin/sh\n"}),
        json!({"file_path": in_dir("a.log"), "format": "jsonx"}),
        json!({"file_path": "discard"}),
    ] {
        let reply = root.put("sys/audit/odd", json!({"type": "file", "options": options}));
        assert_eq!(reply.status, 400, "{options}: {}", reply.text());
    }
    for kind in ["socket", "syslog", "http", ""] {
        root.put(
            "sys/audit/odd",
            json!({"type": kind, "options": {"file_path": in_dir("a.log")}}),
        )
        .expect(400);
    }
    assert!(!dir.join("elsewhere").exists() && !dir.join("a.log").exists());
    assert_eq!(
        fs::read_to_string(dir.join("script.sh")).unwrap(),
        "#!/bin/sh\n"
    );
    assert_eq!(root.get("sys/audit").data().len(), 0);

    let file = audited(&server, "plain");
    root.get("sys/audit").expect(200);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mode =
        json!({"type": "file", "options": {"file_path": in_dir("group.log"), "mode": "0640"}});
    root.put("sys/audit/group", mode).expect(204);
    root.get("sys/audit").expect(200);
    assert_eq!(
        fs::metadata(dir.join("group.log"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o640
    );
    let listed = root.get("sys/audit").data();
    assert_eq!(
        (&listed["plain/"]["type"], &listed["plain/"]["path"]),
        (&json!("file"), &json!("plain/"))
    );
    root.put(
        "sys/audit/plain",
        json!({"type": "file", "options": {"file_path": in_dir("b.log")}}),
    )
    .expect(400);
    root.delete("sys/audit/plain").expect(204);
    assert!(!root.get("sys/audit").data().contains_key("plain/"));
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn audit_full_a_full_device_refuses_requests_and_says_why() {
    let server = kerberos::kerberized();
    let root = server.root();
    // /dev/full takes nothing, as a full disk does. It is proven writable before it counts, by a write of nothing.
    enable(&root, "full", Path::new("/dev/full")).expect(204);
    let from = server.log().len();
    let reply = root
        .post("secret/data/unaudited", json!({"data": {"a": 1}}))
        .expect(500);
    assert!(
        reply.errors()[0].contains("could not be audited"),
        "{:?}",
        reply.errors()
    );
    let log = server.await_log(from, "audit device failed");
    assert!(
        log.contains("No space left on device") && log.contains("full/"),
        "{log}"
    );
    root.get("secret/data/works/plan").expect(500);
    server.client().get("secret/data/works/plan").expect(500);
    let header = kerberos::negotiate(realm(), &ticket("grace"));
    let login = kerberos::login_with(&server, &header).expect(500);
    assert!(login.json().get("auth").is_none());
    // It has not stopped: load balancers and operators see it, and it can be helped from outside.
    server.client().get("sys/health").expect(200);
    server.client().get("sys/seal-status").expect(200);
    assert!(server.is_running());
}

#[test]
fn of_two_devices_one_may_be_broken() {
    let server = with_kv();
    let root = server.root();
    let good = audited(&server, "good");
    enable(&root, "full", Path::new("/dev/full")).expect(204);
    root.post("secret/data/x", json!({"data": {"a": 1}}))
        .expect(200);
    root.get("secret/data/x").expect(200);
    assert!(
        entries(&good)
            .iter()
            .any(|e| e["type"] == "response" && e["request"]["path"] == "secret/data/x")
    );
    assert!(server.log().contains("audit device failed"));
    // Without the good one nothing goes, and so it cannot be the last to go unseen.
    root.delete("sys/audit/full").expect(204);
    root.get("secret/data/x").expect(200);
}

#[test]
fn a_token_whose_issue_cannot_be_audited_does_not_live() {
    let server = with_kv();
    let root = server.root();
    let before: BTreeSet<String> = root
        .list("auth/token/accessors")
        .keys()
        .into_iter()
        .collect();
    let file = audited(&server, "file");
    // The device takes the request's entry and not the response's: its directory goes in between, or before.
    let rotated = server.dir().join("away");
    for _ in 0..5 {
        fs::rename(&file, &rotated).unwrap();
        fs::create_dir(&file).unwrap();
        server.signal(Signal::HUP);
        holds("requests are refused", || {
            root.get("sys/mounts").status == 500
        });
        for _ in 0..3 {
            root.post("auth/token/create", json!({"policies": ["default"]}))
                .expect(500);
        }
        fs::remove_dir(&file).unwrap();
        holds("requests are taken again", || {
            root.get("sys/mounts").status == 200
        });
        let after: BTreeSet<String> = root
            .list("auth/token/accessors")
            .keys()
            .into_iter()
            .collect();
        assert_eq!(after, before, "a token that nobody has seen lives");
    }
}

#[test]
fn a_log_that_was_rotated_away_is_begun_anew_after_sighup() {
    let server = with_kv();
    let root = server.root();
    let file = audited(&server, "file");
    root.get("sys/mounts").expect(200);
    let rotated = server.dir().join("file.log.1");
    fs::rename(&file, &rotated).unwrap();
    root.get("sys/policies/acl").expect(200);
    let in_old = entries(&rotated);
    assert!(
        in_old
            .iter()
            .any(|e| e["request"]["path"] == "sys/policies/acl"),
        "written to the open file until told otherwise"
    );
    let from = server.log().len();
    server.signal(Signal::HUP);
    server.await_log(from, "SIGHUP");
    holds("the new file", || {
        root.get("sys/auth").expect(200);
        file.exists()
    });
    assert!(
        entries(&file)
            .iter()
            .any(|e| e["request"]["path"] == "sys/auth")
    );
    assert!(!entries(&rotated).is_empty());
    // Not a line is lost or torn under load.
    let lines = || {
        entries(&file).len()
            + entries(&rotated).len()
            + entries(&server.dir().join("file.log.2")).len()
    };
    let before = lines();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let root = root.clone();
            scope.spawn(move || {
                for i in 0..25 {
                    root.get(&format!("secret/data/{n}-{i}")).expect(404);
                }
            });
        }
        fs::rename(&file, server.dir().join("file.log.2")).unwrap();
        server.signal(Signal::HUP);
    });
    assert_eq!(lines() - before, 200);
}

#[test]
fn standard_output_is_a_device_too() {
    let server = with_kv();
    let root = server.root();
    root.put(
        "sys/audit/out",
        json!({"type": "file", "options": {"file_path": "stdout"}}),
    )
    .expect(204);
    root.get("sys/mounts").expect(200);
    let lines: Vec<Value> = server
        .output()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert!(
        lines.iter().any(|e| e["request"]["path"] == "sys/mounts"),
        "{}",
        server.output()
    );
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs a server with RocksDB")]
fn devices_are_there_after_a_restart_and_a_lost_one_refuses_requests() {
    let server = Server::ready(ServerOptions::on_disk());
    let dir = server.dir().join("audit");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("file.log");
    enable(&server.root(), "file", &file).expect(204);
    let hash = |server: &Server| {
        server
            .root()
            .put("sys/audit-hash/file", json!({"input": "x"}))
            .data()["hash"]
            .clone()
    };
    let before = hash(&server);
    server.crash_and_restart();
    assert_eq!(hash(&server), before);
    let written = entries(&file).len();
    server.root().get("sys/mounts").expect(200);
    assert_eq!(entries(&file).len(), written + 2);

    server.kill();
    fs::remove_dir_all(&dir).unwrap();
    server.start_again();
    server.unseal();
    server.root().get("sys/mounts").expect(500);
    fs::create_dir(&dir).unwrap();
    server.root().get("sys/mounts").expect(200);
}
