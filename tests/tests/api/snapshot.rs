//! Snapshots over HTTP: taken while the server is at work, restored on it and on a fresh one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use obol_tests::{Client, Reply, Server, ServerOptions};
use serde_json::json;

const SNAPSHOT: &str = "sys/storage/snapshot";
const FORCE: &str = "sys/storage/snapshot-force";

#[test]
fn a_snapshot_taken_under_load_is_one_moment_and_restores_on_the_same_server() {
    let server = with_kv(ServerOptions::on_disk());
    let root = server.root();
    let put = |n: u64| json!({"data": {"n": n}});
    root.post("secret/data/pair/a", put(0)).expect(200);
    root.post("secret/data/pair/b", put(0)).expect(200);
    let old_token = root.post("auth/token/create", json!({})).client_token();
    let over = AtomicBool::new(false);
    let file = std::thread::scope(|scope| {
        scope.spawn(|| {
            let root = server.root();
            for n in 1.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                root.post("secret/data/pair/a", put(n)).expect(200);
                root.post("secret/data/pair/b", put(n)).expect(200);
            }
        });
        std::thread::sleep(Duration::from_millis(200));
        let file = take(&root);
        std::thread::sleep(Duration::from_millis(200));
        over.store(true, Ordering::Relaxed);
        file
    });
    assert!(file.starts_with(b"OBOL-SNAPSHOT\n"));
    let last = n_of(&root, "pair/a");
    root.post("secret/data/later", put(1)).expect(200);
    let new_token = root.post("auth/token/create", json!({})).client_token();
    root.post("auth/token/revoke", json!({"token": old_token}))
        .expect(204);

    restore(&root, SNAPSHOT, &file).expect(204);
    // It serves on, and nothing in memory is of the time after the snapshot.
    let (a, b) = (n_of(&root, "pair/a"), n_of(&root, "pair/b"));
    assert!(a < last && (a == b || a == b + 1), "{a} {b} {last}");
    root.get("secret/data/later").expect(404);
    let as_token = |token: String| server.client().with_token(token);
    as_token(new_token)
        .get("auth/token/lookup-self")
        .expect(403);
    as_token(old_token)
        .get("auth/token/lookup-self")
        .expect(200);
    root.post("secret/data/pair/a", put(7)).expect(200);
    server.crash_and_restart();
    server.unseal();
    assert_eq!(n_of(&server.root(), "pair/a"), 7);
    assert_eq!(n_of(&server.root(), "pair/b"), b);
}

#[test]
fn a_fresh_server_takes_a_snapshot_with_force_and_its_keys_with_it() {
    let first = with_kv(ServerOptions::on_disk());
    let put = json!({"data": {"n": 42}});
    first.root().post("secret/data/a", put).expect(200);
    let file = take(&first.root());

    let fresh = Server::ready(ServerOptions::on_disk());
    let refused = restore(&fresh.root(), SNAPSHOT, &file).expect(400);
    assert!(refused.errors()[0].contains("snapshot-force"));
    fresh.root().get("sys/mounts").expect(200);
    restore(&fresh.root(), FORCE, &file).expect(204);
    // Its old keys are nothing any more.
    let own = fresh.keys().shares[0].clone();
    fresh.client().get("secret/data/a").expect(503);
    fresh
        .client()
        .post("sys/unseal", json!({"key": own}))
        .expect(400);
    let keys = first.keys();
    let unsealed = fresh
        .client()
        .post("sys/unseal", json!({"key": keys.shares[0]}))
        .expect(200);
    assert_eq!(unsealed.json()["sealed"], false);
    let root = fresh.client().with_token(keys.root_token);
    assert_eq!(n_of(&root, "a"), 42);
    // The names of Vault.
    let file = take_from(&root, "sys/storage/raft/snapshot");
    restore(&root, "sys/storage/raft/snapshot", &file).expect(204);
    assert_eq!(n_of(&root, "a"), 42);
}

#[test]
fn what_is_no_whole_snapshot_is_refused_and_changes_nothing() {
    let server = with_kv(ServerOptions::default());
    let root = server.root();
    root.post("secret/data/a", json!({"data": {"n": 1}}))
        .expect(200);
    let file = take(&root);
    root.post("secret/data/a", json!({"data": {"n": 2}}))
        .expect(200);
    for (bad, says) in [
        (&file[..file.len() - 1], "truncated"),
        (&file[..file.len() / 2], "truncated"),
        (&b""[..], "not a snapshot"),
        (&b"{\"data\": 1}"[..], "not a snapshot"),
    ] {
        for path in [SNAPSHOT, FORCE] {
            let refused = restore(&root, path, bad).expect(400);
            assert!(refused.errors()[0].contains(says), "{:?}", refused.errors());
        }
    }
    let mut altered = file.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    restore(&root, SNAPSHOT, &altered).expect(400);
    assert_eq!(n_of(&root, "a"), 2);
    // Larger than any other body may be.
    let large = vec![0; 40 << 20];
    restore(&root, SNAPSHOT, &large).expect(400);
    assert_eq!(n_of(&root, "a"), 2);
}

#[test]
fn a_snapshot_needs_sudo_and_an_unsealed_server() {
    let server = with_kv(ServerOptions::default());
    let root = server.root();
    let policy = "path \"sys/storage/*\" { capabilities = [\"create\", \"update\", \"read\"] }";
    root.put("sys/policies/acl/nearly", json!({"policy": policy}))
        .expect(204);
    let token = root
        .post("auth/token/create", json!({"policies": ["nearly"]}))
        .client_token();
    let file = take(&root);
    for client in [server.client(), server.client().with_token(token)] {
        client.get(SNAPSHOT).expect(403);
        restore(&client, SNAPSHOT, &file).expect(403);
        restore(&client, FORCE, &file).expect(403);
    }
    let wrapped = root
        .request("GET", SNAPSHOT)
        .header("X-Vault-Wrap-TTL", "60s")
        .send();
    wrapped.expect(400);
    root.post("sys/seal", json!({})).expect(204);
    root.get(SNAPSHOT).expect(503);
    restore(&root, SNAPSHOT, &file).expect(503);
}

#[test]
fn keytab_readback_a_snapshot_holds_no_secret_in_the_clear() {
    let server = with_kv(ServerOptions::default());
    let root = server.root();
    let secret = json!({"data": {"password": "s3cret-in-a-backup"}});
    root.post("secret/data/a", secret).expect(200);
    let file = take(&root);
    let text = String::from_utf8_lossy(&file);
    assert!(!text.contains("s3cret-in-a-backup"));
    assert!(!text.contains(root.token()));
}

fn with_kv(options: ServerOptions) -> Server {
    let server = Server::ready(options);
    server
        .root()
        .post("sys/mounts/secret", json!({"type": "kv-v2"}))
        .expect(204);
    server
}

fn n_of(root: &Client, path: &str) -> u64 {
    let read = root.get(&format!("secret/data/{path}")).expect(200).json();
    read["data"]["data"]["n"].as_u64().unwrap()
}

fn take(root: &Client) -> Vec<u8> {
    take_from(root, SNAPSHOT)
}

fn take_from(root: &Client, path: &str) -> Vec<u8> {
    let reply = root.get(path).expect(200);
    assert_eq!(
        reply.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    let mut body = &reply.body[..];
    let mut file = Vec::new();
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = std::str::from_utf8(&body[..line]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return file;
        }
        file.extend_from_slice(&body[line + 2..line + 2 + length]);
        body = &body[line + 2 + length + 2..];
    }
}

fn restore(client: &Client, path: &str, file: &[u8]) -> Reply {
    client.request("POST", path).body(file).send()
}
