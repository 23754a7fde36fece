//! `json-bomb` and its kin: what a stranger sends costs the server little, and is refused with the reason.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use obol_tests::http::Reply;
use obol_tests::{Client, Server, ServerOptions};
use serde_json::json;

use super::{root, server};

fn post(client: &Client, body: String) -> Reply {
    client
        .request("POST", "auth/token/lookup")
        .body(body)
        .send()
}

#[test]
fn json_bomb_depth_numbers_and_lengths_are_bounded_before_anybody_is_asked_who_they_are() {
    let server = Server::ready(ServerOptions::default());
    let client = server.client();
    let before = resident(&server);
    for _ in 0..4 {
        for (body, status) in [
            (
                format!("{{\"a\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000)),
                400,
            ),
            ("[".repeat(1_000_000), 400),
            ("{\"a\":".repeat(300_000), 400),
            (format!("{{\"a\":[{}1]}}", "1,".repeat(1_000_000)), 413),
            (format!("{{\"a\":[{}{{}}]}}", "{},".repeat(500_000)), 413),
            (
                format!(
                    "{{{}\"z\":1}}",
                    (0..200_000)
                        .map(|n| format!("\"{n}\":1,"))
                        .collect::<String>()
                ),
                413,
            ),
            (format!("{{\"a\":\"{}\"}}", "x".repeat(4 << 20)), 413),
        ] {
            let reply = post(&client, body);
            assert_eq!(reply.status, status, "{}", reply.text());
            assert_eq!(reply.errors().len(), 1);
        }
    }
    let after = resident(&server);
    assert!(
        after < before + (128 << 20),
        "resident memory went from {before} to {after} bytes"
    );
    assert!(!server.log().contains("panicked"), "{}", server.log());
    // What is large and honest passes.
    let root = server.root();
    root.post("cubbyhole/large", json!({"text": "x".repeat(900_000)}))
        .expect(204);
    assert_eq!(
        root.get("cubbyhole/large").data()["text"]
            .as_str()
            .unwrap()
            .len(),
        900_000
    );
}

#[test]
fn a_body_that_is_announced_too_large_is_refused_unread() {
    let head = format!(
        "POST /v1/secret/data/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Vault-Token: {}\r\nContent-Length: 99999999999\r\n\r\n{{",
        root().token()
    );
    assert_eq!(server().client().raw(head.as_bytes()).unwrap().status, 413);
}

#[test]
fn a_body_that_grows_too_large_is_cut_off() {
    let server = Server::ready(ServerOptions {
        listener: "  max_request_size = 65536".to_owned(),
        ..ServerOptions::default()
    });
    let mut request = format!(
        "POST /v1/cubbyhole/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Vault-Token: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.root().token()
    );
    for _ in 0..100 {
        request.push_str(&format!("400\r\n{}\r\n", " ".repeat(1024)));
    }
    request.push_str("0\r\n\r\n");
    assert_eq!(server.client().raw(request.as_bytes()).unwrap().status, 413);
    server
        .root()
        .post("cubbyhole/x", json!({"a": "b".repeat(60_000)}))
        .expect(204);
    server
        .root()
        .post("cubbyhole/x", json!({"a": "b".repeat(66_000)}))
        .expect(413);
}

#[test]
fn headers_of_90_kib_are_taken_and_endless_ones_are_not() {
    let large = "x".repeat(90 * 1024);
    root()
        .request("GET", "auth/token/lookup-self")
        .header("X-Large", &large)
        .send()
        .expect(200);
    let endless = "x".repeat(2 << 20);
    root()
        .request("GET", "auth/token/lookup-self")
        .header("X-Endless", &endless)
        .send()
        .expect(431);
    server().client().get("sys/health").expect(200);
}

/// They come whole, in one piece and before the server looks: it does not see a buffer that is full.
#[test]
fn headers_a_little_over_their_limit_are_refused_each_time() {
    let request = |size: usize| {
        let line = "GET /v1/sys/health HTTP/1.1\r\nHost: localhost\r\nX-Large: ";
        let end = "\r\nConnection: close\r\n\r\n";
        let filling = "x".repeat(size - line.len() - end.len());
        format!("{line}{filling}{end}")
    };
    let limit = 256 << 10;
    for (size, status) in [(limit, 200), (limit + 1, 431), (limit + 60_000, 431)] {
        let request = request(size);
        for _ in 0..20 {
            let answer = answer_to_all_of(&request);
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{size}: {answer}");
        }
    }
}

#[test]
fn whoever_sends_all_before_they_read_still_reads_why_they_were_refused() {
    let large = "x".repeat(8 << 20);
    let headers =
        format!("GET /v1/sys/health HTTP/1.1\r\nHost: localhost\r\nX-Large: {large}\r\n\r\n");
    // Announced is more than is taken, and sent more than the socket's buffers hold.
    let body = format!(
        "POST /v1/cubbyhole/x HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: {}\r\nContent-Length: {}\r\n\r\n{large}",
        root().token(),
        5 * large.len()
    );
    for _ in 0..5 {
        for (request, status) in [(&headers, 431), (&body, 413)] {
            let answer = answer_to_all_of(request);
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{answer}");
        }
    }
}

/// What comes back until the server closes, read when all of the request has been sent.
fn answer_to_all_of(request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server().port())).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_client_that_never_finishes_its_headers_is_let_go() {
    let server = Server::ready(ServerOptions {
        listener: "  http_read_header_timeout = \"1s\"".to_owned(),
        ..ServerOptions::default()
    });
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
        .write_all(b"GET /v1/sys/health HTTP/1.1\r\nHost: local")
        .unwrap();
    let mut answer = Vec::new();
    // The server closes, with an answer or without; it is not this test's patience that ends.
    let ended = stream.read_to_end(&mut answer);
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
}

#[test]
fn more_requests_than_the_server_takes_are_told_to_come_back() {
    let server = Server::ready(ServerOptions {
        listener: "  max_in_flight = 1".to_owned(),
        ..ServerOptions::default()
    });
    let head = format!(
        "POST /v1/cubbyhole/x HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: {}\r\nContent-Length: 10\r\n\r\n",
        server.root().token()
    );
    let (mut slow, refused) = obol_tests::eventually("a refusal while the server is busy", || {
        // One request occupies the server: its body does not come. (Unless the other one below was faster.)
        let mut slow = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        slow.write_all(head.as_bytes()).unwrap();
        let reply = server.root().get("auth/token/lookup-self");
        (reply.status != 200).then_some((slow, reply))
    });
    assert!(matches!(refused.status, 429 | 503), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    slow.write_all(b"{\"a\": \"b\"}").unwrap();
    obol_tests::holds("the server takes requests again", || {
        server.root().get("cubbyhole/x").status == 200
    });
}

/// Bytes of memory in use.
fn resident(server: &Server) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}
