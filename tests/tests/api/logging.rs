//! `sys/loggers` and `sys/monitor`: how much the server logs, and what, as it happens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use obol_tests::wait::holds;
use obol_tests::{Client, Server};
use serde_json::{Value, json};

use super::holders;

/// An open `sys/monitor`.
struct Monitor(BufReader<TcpStream>);

impl Monitor {
    fn open(server: &Server, query: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let request = format!(
            "GET /v1/sys/monitor{query} HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: {}\r\n\r\n",
            server.root().token()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        Self(reader)
    }

    /// The first line that holds this text.
    fn find(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).unwrap();
            assert!(read > 0, "the monitor ended before {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }

    fn ends(mut self) {
        let mut rest = Vec::new();
        // A connection that is closed hard has ended, too.
        let _ = self.0.read_to_end(&mut rest);
    }
}

fn refused(client: &Client) {
    client.get("secret/nothing").expect(403);
}

#[test]
fn levels_are_shown_set_and_taken_back() {
    let server = holders(1, 1);
    let root = server.root();
    let levels = || json!(root.get("sys/loggers").data());
    let configured = levels();
    let names: Vec<&String> = configured.as_object().unwrap().keys().collect();
    assert!(
        names.iter().any(|name| *name == "core") && names.iter().any(|name| *name == "kerberos")
    );
    assert!(
        configured
            .as_object()
            .unwrap()
            .values()
            .all(|level| level == "info")
    );

    root.post("sys/loggers/core", json!({"level": "DEBUG"}))
        .expect(204);
    assert_eq!(
        json!(root.get("sys/loggers/core").data()),
        json!({"core": "debug"})
    );
    assert_eq!(levels()["http"], "info");
    // It counts at once: a refusal is told at debug.
    let from = server.log().len();
    refused(&server.client());
    server.await_log(from, "request refused");

    root.delete("sys/loggers/core").expect(204);
    assert_eq!(levels(), configured);
    let from = server.log().len();
    refused(&server.client());
    root.post("sys/loggers/http", json!({"level": "warn"}))
        .expect(204);
    assert!(!server.log()[from..].contains("request refused"));

    root.post("sys/loggers", json!({"level": "error"}))
        .expect(204);
    assert!(
        levels()
            .as_object()
            .unwrap()
            .values()
            .all(|level| level == "error")
    );
    root.delete("sys/loggers").expect(204);
    assert_eq!(levels(), configured);
    for (path, body) in [
        ("sys/loggers", json!({"level": "loud"})),
        ("sys/loggers", json!({})),
        ("sys/loggers/core", json!({"level": ""})),
        ("sys/loggers/nothing", json!({"level": "info"})),
    ] {
        root.post(path, body).expect(400);
    }
    root.get("sys/loggers/nothing").expect(400);
    root.delete("sys/loggers/nothing").expect(400);
    assert_eq!(levels(), configured);
    server.client().get("sys/loggers").expect(403);
    server
        .client()
        .post("sys/loggers", json!({"level": "off"}))
        .expect(403);
}

#[test]
fn a_monitor_shows_what_is_logged_as_it_happens_and_more_than_the_log_has() {
    let server = holders(1, 1);
    let root = server.root();
    let mut text = Monitor::open(&server, "");
    let mut json = Monitor::open(&server, "?log_level=debug&log_format=json");
    let from = server.log().len();
    refused(&server.client());
    let line: Value = serde_json::from_str(&json.find("request refused")).unwrap();
    assert_eq!(
        (&line["@level"], &line["status"]),
        (&json!("debug"), &json!(403))
    );
    assert_eq!(line["@module"], "obol::core::request");
    assert!(
        !server.log()[from..].contains("request refused"),
        "the log itself is at info"
    );

    root.post("sys/loggers/http", json!({"level": "info"}))
        .expect(204);
    let line = text.find("a logger was set");
    assert!(
        line.contains("[INFO]") && line.contains("logger=\"http\""),
        "{line}"
    );
    assert!(!line.contains(server.root().token()));
    // Who goes away takes the level along.
    drop(json);
    drop(text);
    let mut again = Monitor::open(&server, "?log_level=warn");
    refused(&server.client());
    root.post("sys/seal", json!({})).expect(204);
    let mut rest = String::new();
    let _ = again.0.read_to_string(&mut rest);
    assert!(!rest.contains("request refused"), "{rest}");
}

#[test]
fn a_monitor_ends_with_the_server() {
    let server = holders(1, 1);
    let monitor = Monitor::open(&server, "?log_level=trace");
    let began = Instant::now();
    server.terminate();
    monitor.ends();
    // Not after the time that requests under way are given.
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn monitors_are_for_few_and_for_those_who_may() {
    let server = holders(1, 1);
    let root = server.root();
    for wrong in ["?log_level=loud", "?log_level=off", "?log_format=xml"] {
        root.get(&format!("sys/monitor{wrong}")).expect(400);
    }
    server.client().get("sys/monitor").expect(403);
    let open: Vec<Monitor> = (0..16).map(|_| Monitor::open(&server, "")).collect();
    root.get("sys/monitor").expect(429);
    drop(open);
    holds("a place becomes free", || {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        let request = format!(
            "GET /v1/sys/monitor HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: {}\r\n\r\n",
            root.token()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut first = String::new();
        BufReader::new(stream).read_line(&mut first).unwrap();
        first.starts_with("HTTP/1.1 200")
    });
}
