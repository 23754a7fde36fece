//! `sys/leases` over HTTP: leases of secrets and of logins, with their rights.

use obol_tests::{Client, Server, ServerOptions, holds};
use serde_json::json;

/// A server with a mount that leases its secrets, and one secret in it.
fn server() -> Server {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    let mount = json!({"type": "kv", "options": {"leased_passthrough": "true"}});
    root.post("sys/mounts/leased", mount).expect(204);
    root.post("leased/app/db", json!({"user": "web", "ttl": "1h"}))
        .expect(204);
    server
}

fn lease(client: &Client) -> String {
    let read = client.get("leased/app/db").expect(200).json();
    assert_eq!(read["data"]["user"], "web");
    read["lease_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_leased_secret_has_a_lease_that_goes_with_its_token() {
    let server = server();
    let root = server.root();
    let rule = "path \"leased/*\" { capabilities = [\"read\"] }";
    root.put("sys/policies/acl/reader", json!({ "policy": rule }))
        .expect(204);
    let body = json!({"policies": ["reader"], "ttl": "1h"});
    let token = root.post("auth/token/create", body).client_token();
    let reader = root.with_token(token);
    let id = lease(&reader);
    assert!(id.starts_with("leased/app/db/"), "{id}");
    // Who has `default` may look up and renew what they know the name of, and no more.
    let shown = reader.post("sys/leases/lookup", json!({ "lease_id": id }));
    assert_eq!(shown.data()["renewable"], true);
    let renewed = reader.put(
        "sys/leases/renew",
        json!({"lease_id": id, "increment": 600}),
    );
    let renewed = renewed.expect(200).json();
    assert_eq!(
        (&renewed["lease_id"], &renewed["lease_duration"]),
        (&json!(id), &json!(600))
    );
    reader.list("sys/leases/lookup/leased").expect(403);
    reader.list("sys/leases/lookup").expect(403);
    reader
        .post("sys/leases/revoke", json!({ "lease_id": id }))
        .expect(403);
    reader
        .post("sys/leases/revoke-prefix/leased", json!({}))
        .expect(403);
    assert_eq!(root.list("sys/leases/lookup").keys(), ["auth/", "leased/"]);
    assert_eq!(root.list("sys/leases/lookup/leased/app/").keys(), ["db/"]);

    reader.post("auth/token/revoke-self", json!({})).expect(204);
    holds("the lease goes with its token", || {
        root.post("sys/leases/lookup", json!({ "lease_id": id }))
            .status
            == 400
    });
    root.list("sys/leases/lookup/leased").expect(404);
}

#[test]
fn mistakes_are_told_by_field() {
    let server = server();
    let root = server.root();
    for (path, body, says) in [
        ("sys/leases/lookup", json!({}), "lease_id"),
        (
            "sys/leases/lookup",
            json!({"lease_id": "a/../b"}),
            "lease_id",
        ),
        (
            "sys/leases/lookup",
            json!({"lease_id": "leased/app/db/none"}),
            "invalid lease",
        ),
        (
            "sys/leases/renew",
            json!({"lease_id": "leased/app/db/none"}),
            "lease not found",
        ),
        (
            "sys/leases/renew",
            json!({"lease_id": "a", "increment": "soon"}),
            "increment",
        ),
        ("sys/leases/revoke", json!({}), "lease_id"),
    ] {
        let reply = root.post(path, body.clone());
        assert_eq!(reply.status, 400, "{path} {body}: {}", reply.text());
        assert!(reply.errors()[0].contains(says), "{:?}", reply.errors());
    }
    root.get("sys/leases/count").expect(400);
    let counted = root.get("sys/leases/count?type=irrevocable").data();
    assert_eq!(
        (&counted["lease_count"], &counted["counts"]),
        (&json!(0), &json!({}))
    );
    let listed = root.get("sys/leases?type=irrevocable&limit=none").data();
    assert_eq!(listed["leases"], json!([]));
    root.get("sys/leases?type=irrevocable&limit=few")
        .expect(400);
    let reply = root.post("sys/leases/tidy", json!({})).expect(202);
    assert!(reply.warnings()[0].contains("started"));
}

#[test]
fn a_logins_token_is_found_and_revoked_by_its_lease_id() {
    let server = server();
    let root = server.root();
    root.post("sys/auth/people", json!({"type": "userpass"}))
        .expect(204);
    root.post("auth/people/users/grace", json!({"password": "hopper"}))
        .expect(204);
    let login = || {
        let reply = root
            .without_token()
            .post("auth/people/login/grace", json!({"password": "hopper"}));
        root.with_token(reply.client_token())
    };
    let (one, other) = (login(), login());
    let folder = "sys/leases/lookup/auth/people/login/grace";
    let names = root.list(folder).keys();
    assert_eq!(names.len(), 2);
    let id = format!("auth/people/login/grace/{}", names[0]);
    let shown = root
        .post("sys/leases/lookup", json!({ "lease_id": id }))
        .data();
    assert!(shown["ttl"].as_u64().unwrap() > 0);
    root.post(&format!("sys/leases/revoke/{id}"), json!({"sync": true}))
        .expect(204);
    let left = [&one, &other]
        .iter()
        .filter(|client| client.get("auth/token/lookup-self").status == 200)
        .count();
    assert_eq!((left, root.list(folder).keys().len()), (1, 1));
    root.post("sys/leases/revoke-prefix/auth/people/login", json!({}))
        .expect(204);
    one.get("auth/token/lookup-self").expect(403);
    other.get("auth/token/lookup-self").expect(403);
}

#[test]
fn disabling_a_mount_takes_its_leases() {
    let server = server();
    let root = server.root();
    let id = lease(&root);
    root.delete("sys/mounts/leased").expect(204);
    root.post("sys/leases/lookup", json!({ "lease_id": id }))
        .expect(400);
    root.list("sys/leases/lookup/leased").expect(404);
}

#[cfg(feature = "rocksdb")]
#[test]
fn half_written_a_lease_outlives_a_crash_and_ends_after_it() {
    let server = Server::ready(ServerOptions::on_disk());
    let root = server.root();
    let mount = json!({"type": "kv", "options": {"leased_passthrough": "true"}});
    root.post("sys/mounts/leased", mount).expect(204);
    root.post("leased/app/db", json!({"user": "web", "ttl": "1h"}))
        .expect(204);
    root.post("leased/short", json!({"user": "web", "ttl": "2s"}))
        .expect(204);
    let long = lease(&root);
    let short = root.get("leased/short").expect(200).json();
    server.crash_and_restart();
    root.post("sys/leases/lookup", json!({ "lease_id": long }))
        .expect(200);
    holds("the short one ends", || {
        root.post("sys/leases/lookup", json!({"lease_id": short["lease_id"]}))
            .status
            == 400
    });
}
