//! kv version 2 over HTTP: patches, names without values, listings with metadata.

use std::time::{Duration, Instant};

use obol_tests::{Server, ServerOptions};
use serde_json::{Value, json};

#[test]
fn a_secret_is_patched_and_shown_without_its_values() {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.post("sys/mounts/secret", json!({"type": "kv-v2"}))
        .expect(204);
    let change = json!({"data": {"password": "new", "old": null}, "options": {"cas": 1}});
    let patch = |path: &str, body: &Value| {
        root.request("PATCH", path)
            .header("Content-Type", "application/merge-patch+json")
            .json(body)
            .send()
    };
    patch("secret/data/app", &change).expect(404);
    let first = json!({"data": {"user": "web", "password": "s3cret", "old": 1}});
    root.post("secret/data/app", first).expect(200);
    let patched = patch("secret/data/app", &change).expect(200).json();
    assert_eq!(patched["data"]["version"], 2);
    patch("secret/data/app", &change).expect(400);
    let read = root.get("secret/data/app").expect(200).json();
    assert_eq!(
        read["data"]["data"],
        json!({"user": "web", "password": "new"})
    );
    let names = root.get("secret/subkeys/app?depth=1").expect(200).json();
    assert_eq!(
        names["data"]["subkeys"],
        json!({"user": null, "password": null})
    );
    patch(
        "secret/metadata/app",
        &json!({"custom_metadata": {"owner": "web"}}),
    )
    .expect(204);
    let all = root.list("secret/detailed-metadata").expect(200).json();
    assert_eq!(
        all["data"]["key_info"]["app"]["custom_metadata"],
        json!({"owner": "web"})
    );
    root.delete("secret/data/app").expect(204);
    let gone = patch("secret/data/app", &json!({"data": {}})).expect(404);
    assert_ne!(gone.json()["data"]["deletion_time"], "");
}

#[test]
fn a_patch_needs_its_own_capability() {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.post("sys/mounts/secret", json!({"type": "kv-v2"}))
        .expect(204);
    root.post("secret/data/a", json!({"data": {"n": 1}}))
        .expect(200);
    let token = |name: &str, capabilities: &str| {
        let policy = format!("path \"secret/data/*\" {{ capabilities = [{capabilities}] }}");
        root.put(
            &format!("sys/policies/acl/{name}"),
            json!({"policy": policy}),
        )
        .expect(204);
        let token = root.post("auth/token/create", json!({"policies": [name]}));
        server.client().with_token(token.client_token())
    };
    let writer = token("writes", "\"create\", \"update\", \"read\"");
    let patcher = token("patches", "\"patch\"");
    let change = json!({"data": {"m": 2}});
    writer.patch("secret/data/a", change.clone()).expect(403);
    patcher.patch("secret/data/a", change.clone()).expect(200);
    patcher.post("secret/data/a", change).expect(403);
    let read = writer.get("secret/data/a").expect(200).json();
    assert_eq!(read["data"]["data"], json!({"n": 1, "m": 2}));
}

#[test]
fn a_mount_of_version_one_becomes_one_of_version_two_with_all_its_secrets() {
    let server = Server::ready(ServerOptions::on_disk());
    let root = server.root();
    root.post(
        "sys/mounts/old",
        json!({"type": "kv", "options": {"version": "1"}}),
    )
    .expect(204);
    for n in 0..300 {
        root.post(&format!("old/folder/{n}"), json!({"n": n}))
            .expect(204);
    }
    let refused = root.post("sys/mounts/old/tune", json!({"options": {"version": "3"}}));
    assert_eq!(refused.status, 400);
    let tuned = root
        .post("sys/mounts/old/tune", json!({"options": {"version": "2"}}))
        .expect(200);
    assert!(tuned.warnings()[0].contains("version 2"));
    let mount = root.get("sys/mounts/old").expect(200).json();
    assert_eq!(mount["data"]["options"]["version"], "2");
    // Killed on the way, it goes on with the next unsealing.
    server.crash_and_restart();
    server.unseal();
    let root = server.root();
    let begun = Instant::now();
    while root.get("old/data/folder/299").status == 503 {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    for n in 0..300 {
        let read = root.get(&format!("old/data/folder/{n}")).expect(200).json();
        assert_eq!(
            (&read["data"]["data"], &read["data"]["metadata"]["version"]),
            (&json!({"n": n}), &json!(1))
        );
    }
    assert_eq!(root.list("old/metadata/folder").keys().len(), 300);
    root.post("old/data/folder/1", json!({"data": {"n": "new"}}))
        .expect(200);
    let back = root.post("sys/mounts/old/tune", json!({"options": {"version": "1"}}));
    assert!(back.expect(400).errors()[0].contains("cannot downgrade"));
}
