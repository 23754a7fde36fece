//! X-Forwarded-For: who a request comes from when a proxy stands in between, and who may say so.

use std::fs;

use obol_tests::{Client, Reply, Server, ServerOptions};
use serde_json::{Value, json};

fn behind(listener: &str) -> Server {
    Server::ready(ServerOptions {
        listener: listener.to_owned(),
        ..ServerOptions::default()
    })
}

/// A lenient listener, so that the harness itself need not send the header.
fn behind_proxy(peers: &str, more: &str) -> Server {
    behind(&format!(
        "  x_forwarded_for_authorized_addrs = [{peers}]\n  x_forwarded_for_reject_not_present = false\n{more}"
    ))
}

fn bound_to(server: &Server, block: &str) -> Client {
    let body = json!({"policies": ["default"], "bound_cidrs": [block]});
    let token = server.root().post("auth/token/create", body).client_token();
    server.client().with_token(token)
}

fn from(client: &Client, forwarded: &[&str]) -> Reply {
    let mut request = client.request("GET", "auth/token/lookup-self");
    for value in forwarded {
        request = request.header("X-Forwarded-For", value);
    }
    request.send()
}

#[test]
fn bound_cidr_proxy_without_a_listed_proxy_the_header_changes_nothing() {
    let server = behind("");
    let bound = bound_to(&server, "10.1.0.0/16");
    from(&bound, &["10.1.2.3"]).expect(403);
    let own = bound_to(&server, "127.0.0.1");
    from(&own, &["10.1.2.3"]).expect(200);
}

#[test]
fn bound_cidr_proxy_a_listed_proxy_is_believed_at_the_right_end_alone() {
    let server = behind_proxy("\"127.0.0.0/8\"", "");
    let bound = bound_to(&server, "10.1.0.0/16");
    from(&bound, &["10.1.2.3"]).expect(200);
    from(&bound, &["192.0.2.9, 10.1.2.3"]).expect(200);
    // What a client writes in front of it is what a client writes.
    from(&bound, &["10.1.2.3, 192.0.2.9"]).expect(403);
    from(&bound, &["10.1.2.3", "192.0.2.9"]).expect(403);
    from(&bound, &["192.0.2.9", "10.1.2.3"]).expect(200);
    from(&bound, &[]).expect(403);
    for odd in ["", "unknown", "10.1.2.3,", "10.1.2.3 10.1.2.3"] {
        from(&bound, &[odd]).expect(400);
    }
}

#[test]
fn bound_cidr_proxy_hops_of_ones_own_are_skipped() {
    let server = behind_proxy("\"127.0.0.1\"", "  x_forwarded_for_hop_skips = 1\n");
    let bound = bound_to(&server, "10.1.0.0/16");
    from(&bound, &["10.1.2.3, 192.0.2.9"]).expect(200);
    from(&bound, &["192.0.2.9, 10.1.2.3"]).expect(403);
    let short = from(&bound, &["10.1.2.3"]).expect(400);
    assert!(
        short.errors()[0].contains("hops to skip (1)"),
        "{:?}",
        short.errors()
    );
}

#[test]
fn bound_cidr_proxy_whoever_is_not_listed_is_refused_or_not_believed() {
    let server = behind_proxy("\"192.0.2.0/24\"", "");
    let own = bound_to(&server, "127.0.0.1");
    let refused = from(&own, &["10.1.2.3"]).expect(400);
    assert!(refused.errors()[0].contains("not authorized for x-forwarded-for"));
    let server = behind_proxy(
        "\"192.0.2.0/24\"",
        "  x_forwarded_for_reject_not_authorized = false\n",
    );
    let own = bound_to(&server, "127.0.0.1");
    from(&own, &["10.1.2.3"]).expect(200);
    from(&bound_to(&server, "10.0.0.0/8"), &["10.1.2.3"]).expect(403);
}

#[test]
fn by_default_a_request_that_came_past_the_proxy_is_refused() {
    let server = Server::prepare(ServerOptions {
        listener: "  x_forwarded_for_authorized_addrs = \"127.0.0.1\"\n".to_owned(),
        ..ServerOptions::default()
    });
    server.start_again();
    let client = server.client();
    let refused = client.get("sys/seal-status").expect(400);
    assert!(refused.errors()[0].contains("missing x-forwarded-for"));
    client
        .request("GET", "sys/seal-status")
        .header("X-Forwarded-For", "10.0.0.1")
        .send()
        .expect(200);
}

#[test]
fn bound_cidr_proxy_the_audit_log_has_the_client() {
    let server = behind_proxy("\"127.0.0.1\"", "");
    let file = server.dir().join("audit.log");
    let device = json!({"type": "file", "options": {"file_path": file.display().to_string()}});
    server.root().put("sys/audit/file", device).expect(204);
    from(&server.root(), &["2001:db8::7"]).expect(200);
    let log = fs::read_to_string(&file).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["request"]["remote_address"], "2001:db8::7");
}
