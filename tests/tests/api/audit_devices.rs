//! Audit devices beside the file: sockets; how lines are styled; and which headers of requests they have.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use obol_tests::{Client, Reply, Server, ServerOptions};
use serde_json::{Value, json};

fn server() -> Server {
    let server = Server::ready(ServerOptions::default());
    let kv = json!({"type": "kv", "options": {"version": "2"}});
    server.root().post("sys/mounts/secret", kv).expect(204);
    server
}

fn enable(root: &Client, name: &str, kind: &str, options: Value) -> Reply {
    let body = json!({"type": kind, "options": options});
    root.put(&format!("sys/audit/{name}"), body)
}

fn file(server: &Server, name: &str, mut options: Value) -> PathBuf {
    let path = server.dir().join(format!("{name}.log"));
    options["file_path"] = json!(path.display().to_string());
    let reply = enable(&server.root(), name, "file", options);
    assert!(matches!(reply.status, 200 | 204), "{}", reply.text());
    path
}

fn entries(path: &PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_tcp_socket_gets_every_entry_and_is_connected_to_anew() {
    let server = server();
    let root = server.root();
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap();
    enable(
        &root,
        "socket",
        "socket",
        json!({"address": address.to_string(), "write_timeout": "1s"}),
    )
    .expect(204);
    let (first, _) = collector.accept().unwrap();
    root.get("secret/data/x").expect(404);
    let mut lines = BufReader::new(first).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    for kind in ["request", "response"] {
        let entry = next();
        assert_eq!(entry["type"], kind);
        assert_eq!(entry["request"]["path"], "secret/data/x");
    }
    // The collector is started again: nothing of what comes then is lost.
    drop(lines);
    root.get("secret/data/y").expect(404);
    let (second, _) = collector.accept().unwrap();
    let line = BufReader::new(second).lines().next().unwrap().unwrap();
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&entry["type"], &entry["request"]["path"]),
        (&json!("request"), &json!("secret/data/y"))
    );
}

#[test]
fn audit_full_without_a_collector_nothing_is_answered_until_it_is_back() {
    let server = server();
    let root = server.root();
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap();
    enable(
        &root,
        "socket",
        "socket",
        json!({"address": address.to_string()}),
    )
    .expect(204);
    let (connection, _) = collector.accept().unwrap();
    drop((connection, collector));
    root.get("secret/data/x").expect(500);
    root.post("secret/data/x", json!({"data": {"a": 1}}))
        .expect(500);
    let collector = TcpListener::bind(address).unwrap();
    root.get("secret/data/x").expect(404);
    // A second device is enough when the first one fails.
    let log = file(&server, "file", json!({}));
    drop(collector);
    root.get("secret/data/x").expect(404);
    assert!(!entries(&log).is_empty());
}

#[test]
fn unix_and_udp_sockets_get_their_lines_too() {
    let server = server();
    let root = server.root();
    let path = server.dir().join("collector.sock");
    let collector = UnixListener::bind(&path).unwrap();
    enable(
        &root,
        "unix",
        "socket",
        json!({"address": path.display().to_string(), "socket_type": "unix"}),
    )
    .expect(204);
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let address = datagrams.local_addr().unwrap().to_string();
    enable(
        &root,
        "udp",
        "socket",
        json!({"address": address, "socket_type": "udp"}),
    )
    .expect(204);
    let (connection, _) = collector.accept().unwrap();
    let line = BufReader::new(connection).lines().next().unwrap().unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&line).unwrap()["request"]["path"],
        "sys/audit/udp"
    );
    let mut datagram = [0; 8192];
    let length = datagrams.recv(&mut datagram).unwrap();
    let entry: Value = serde_json::from_slice(&datagram[..length]).unwrap();
    assert_eq!(entry["request"]["path"], "sys/audit/udp");
}

#[test]
fn options_are_checked_before_anything_is_stored() {
    let server = server();
    let root = server.root();
    for (kind, options) in [
        ("socket", json!({})),
        ("socket", json!({"address": "127.0.0.1"})),
        ("socket", json!({"address": "127.0.0.1:0"})),
        (
            "socket",
            json!({"address": "127.0.0.1:1", "socket_type": "carrier-pigeon"}),
        ),
        (
            "socket",
            json!({"address": "127.0.0.1:1", "write_timeout": "1h"}),
        ),
        ("socket", json!({"address": "127.0.0.1:1"})),
        (
            "socket",
            json!({"address": "relative.sock", "socket_type": "unix"}),
        ),
        ("syslog", json!({"facility": "LOCAL9"})),
        ("syslog", json!({"file_path": "/tmp/x"})),
        ("file", json!({"file_path": "/tmp/x", "format": "jsonx"})),
        (
            "file",
            json!({"file_path": "/tmp/x", "prefix": "#!/bin/sh\n"}),
        ),
        ("file", json!({"file_path": "/tmp/x", "facility": "AUTH"})),
        ("http", json!({})),
    ] {
        let refused = enable(&root, "odd", kind, options.clone()).expect(400);
        assert!(!refused.errors()[0].is_empty(), "{options}");
    }
    assert_eq!(root.get("sys/audit").data().len(), 0);
}

#[test]
fn lines_may_have_a_prefix_lists_without_their_keys_and_values_in_the_clear_with_a_warning() {
    let server = server();
    let root = server.root();
    let marked = file(
        &server,
        "marked",
        json!({"prefix": "@cee: ", "elide_list_responses": "true"}),
    );
    let raw = server.dir().join("raw.log");
    let warned = enable(
        &root,
        "raw",
        "file",
        json!({"file_path": raw.display().to_string(), "log_raw": "true"}),
    )
    .expect(200);
    assert!(
        warned.warnings()[0].contains("log_raw"),
        "{:?}",
        warned.warnings()
    );
    root.post("secret/data/a", json!({"data": {"password": "hunter2"}}))
        .expect(200);
    root.list("secret/metadata").expect(200);
    let text = fs::read_to_string(&marked).unwrap();
    assert!(!text.contains("hunter2"));
    assert!(
        text.lines().all(|line| line.starts_with("@cee: {")),
        "{text}"
    );
    let last: Value =
        serde_json::from_str(&text.lines().last().unwrap()["@cee: ".len()..]).unwrap();
    assert_eq!(last["response"]["data"]["keys"], 1);
    let text = fs::read_to_string(&raw).unwrap();
    assert!(text.contains("hunter2"));
    assert!(!text.contains(root.token()), "a token stays an HMAC");
}

#[test]
fn audit_raw_headers_are_recorded_where_they_were_asked_for_and_as_they_were() {
    let server = server();
    let root = server.root();
    let log = file(&server, "file", json!({}));
    let path = "sys/config/auditing/request-headers";
    let ask = || {
        root.request("GET", "auth/token/lookup-self")
            .header("X-Team", "blue")
            .header("X-Badge", "hunter2")
            .header("X-Badge", "again")
            .header("X-Other", "unseen")
            .send()
            .expect(200);
        entries(&log).pop().unwrap()["request"]["headers"].clone()
    };
    assert_eq!(ask(), Value::Null);
    root.post(&format!("{path}/X-Team"), json!({})).expect(204);
    root.post(&format!("{path}/X-Badge"), json!({"hmac": true}))
        .expect(204);
    let hash = |input: &str| {
        root.post("sys/audit-hash/file", json!({ "input": input }))
            .data()["hash"]
            .clone()
    };
    let headers = ask();
    assert_eq!(headers["x-team"], json!(["blue"]));
    assert_eq!(headers["x-badge"], json!([hash("hunter2"), hash("again")]));
    assert_eq!(headers.as_object().unwrap().len(), 2);
    assert_eq!(
        root.get(path).data()["headers"],
        json!({"x-team": {"hmac": false}, "x-badge": {"hmac": true}})
    );
    assert_eq!(
        root.get(&format!("{path}/x-badge")).data()["x-badge"],
        json!({"hmac": true})
    );
    root.get(&format!("{path}/x-none")).expect(400);
    // Credentials are never written as they are.
    for name in ["X-Vault-Token", "Authorization", "cookie"] {
        root.post(&format!("{path}/{name}"), json!({"hmac": false}))
            .expect(400);
    }
    root.post(&format!("{path}/X-Vault-Token"), json!({"hmac": true}))
        .expect(204);
    ask();
    assert!(!fs::read_to_string(&log).unwrap().contains(root.token()));
    root.delete(&format!("{path}/X-Badge")).expect(204);
    assert!(ask().get("x-badge").is_none());
    // Only with sudo.
    let token = root
        .post("auth/token/create", json!({"policies": ["default"]}))
        .client_token();
    server.client().with_token(token).get(path).expect(403);
}
