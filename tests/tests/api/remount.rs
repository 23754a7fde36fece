//! `sys/remount`: what moves with a mount, what ends, and what is refused. And how mounts are tuned.

use obol_tests::wait::eventually;
use obol_tests::{Client, Server, ServerOptions};
use serde_json::{Value, json};

use super::holders;

fn status_of(root: &Client, id: &str) -> Value {
    json!(root.get(&format!("sys/remount/status/{id}")).data())
}

/// Moves, and waits until it is done.
fn moved(root: &Client, from: &str, to: &str) -> Value {
    let begun = root
        .post("sys/remount", json!({"from": from, "to": to}))
        .data();
    let id = begun["migration_id"].as_str().unwrap();
    eventually("the move ends", || {
        let status = status_of(root, id);
        (status["migration_info"]["status"] != "in-progress").then_some(status)
    })
}

#[test]
fn a_secrets_engine_moves_with_everything_that_it_holds() {
    let server = holders(1, 1);
    let root = server.root();
    let kv = json!({"type": "kv", "description": "the team's", "config": {"max_lease_ttl": "5h"}});
    root.post("sys/mounts/team/old", kv).expect(204);
    root.post("team/old/a/b", json!({"v": 1})).expect(204);
    let before = root.get("sys/mounts/team/old").data();

    let status = moved(&root, "team/old", "team/new/");
    assert_eq!(
        status["migration_info"],
        json!({"source_mount": "team/old/", "target_mount": "team/new/", "status": "success"})
    );
    assert_eq!(root.get("team/new/a/b").data()["v"], 1);
    root.get("team/old/a/b").expect(404);
    let after = root.get("sys/mounts/team/new").data();
    assert_eq!(after, before, "accessor, uuid, tuning and description stay");
    let mounts = root.get("sys/mounts").data();
    assert!(mounts.contains_key("team/new/") && !mounts.contains_key("team/old/"));
    // The old path is free, also for a mount that knows nothing of the old one's data.
    root.post("sys/mounts/team/old", json!({"type": "kv"}))
        .expect(204);
    root.get("team/old/a/b").expect(404);
    // Below itself, too.
    let status = moved(&root, "team/new", "team/new/deeper");
    assert_eq!(status["migration_info"]["status"], "success");
    assert_eq!(root.get("team/new/deeper/a/b").data()["v"], 1);
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs storage that lasts")]
fn a_move_outlasts_a_crash() {
    let server = Server::ready(ServerOptions::on_disk());
    let root = server.root();
    root.post("sys/mounts/one", json!({"type": "kv"}))
        .expect(204);
    root.post("one/a", json!({"v": 1})).expect(204);
    moved(&root, "one", "two");
    server.crash_and_restart();
    assert_eq!(root.get("two/a").data()["v"], 1);
    root.get("one/a").expect(404);
}

#[test]
fn what_cannot_be_moved_is_refused_and_stays() {
    let server = holders(1, 1);
    let root = server.root();
    for name in ["a", "b"] {
        root.post(&format!("sys/mounts/{name}"), json!({"type": "kv"}))
            .expect(204);
    }
    root.post("sys/auth/kerberos", json!({"type": "kerberos"}))
        .expect(204);
    for (from, to, said) in [
        ("", "c", "from"),
        ("a", "", "to"),
        ("a", "a", "another path"),
        ("a", "b", "in use"),
        ("a", "b/below", "in use"),
        ("nothing", "c", "no mount"),
        ("a", "auth/a", "between"),
        ("auth/kerberos", "kerberos", "between"),
        ("auth/kerberos", "auth", "below auth/"),
        ("a", "sys", "reserved"),
        ("a", "sys/below", "reserved"),
        ("a", "identity", "reserved"),
        ("auth/kerberos", "auth/token", "reserved"),
        ("sys", "c", "belongs to the server"),
        ("cubbyhole", "c", "belongs to the server"),
        ("auth/token", "auth/c", "belongs to the server"),
        ("a", "c/../d", ""),
        ("a", "c//d", ""),
        ("a", "with blank", "blank"),
        ("a", "gl*b", "blank"),
    ] {
        let reply = root.post("sys/remount", json!({"from": from, "to": to}));
        assert_eq!(reply.status, 400, "{from} to {to}: {}", reply.text());
        assert!(
            reply.text().contains(said),
            "{from} to {to}: {}",
            reply.text()
        );
    }
    root.post("a/x", json!({"v": 1})).expect(204);
    root.get("sys/auth/kerberos").expect(200);
    root.get("sys/remount/status/nothing").expect(404);
    let weak = r#"path "sys/remount" { capabilities = ["create", "update"] }"#;
    root.put("sys/policies/acl/weak", json!({ "policy": weak }))
        .expect(204);
    let token = root
        .post("auth/token/create", json!({"policies": ["weak"]}))
        .client_token();
    server
        .client()
        .with_token(token)
        .post("sys/remount", json!({"from": "a", "to": "c"}))
        .expect(403);
}

#[test]
fn an_auth_method_moves_with_its_settings() {
    let server = holders(1, 1);
    let root = server.root();
    root.post("sys/auth/people", json!({"type": "kerberos"}))
        .expect(204);
    root.post("auth/people/groups/admins", json!({"policies": "default"}))
        .expect(204);
    let status = moved(&root, "auth/people", "auth/staff");
    assert_eq!(status["migration_info"]["status"], "success");
    assert_eq!(
        json!(root.get("auth/staff/groups/admins").data()["policies"]),
        json!(["default"])
    );
    root.get("auth/people/groups/admins").expect(404);
    let methods = root.get("sys/auth").data();
    assert!(methods.contains_key("staff/") && !methods.contains_key("people/"));
}

#[test]
fn a_mount_is_tuned_field_by_field() {
    let server = holders(1, 1);
    let root = server.root();
    root.post("sys/auth/kerberos", json!({"type": "kerberos"}))
        .expect(204);
    root.post(
        "sys/auth/kerberos/tune",
        json!({
            "description": "who is in the realm",
            "default_lease_ttl": "1h",
            "max_lease_ttl": "2h",
            "audit_non_hmac_request_keys": "username",
            "audit_non_hmac_response_keys": ["keys"],
            "listing_visibility": "unauth",
            "passthrough_request_headers": ["Authorization"],
            "allowed_response_headers": "WWW-Authenticate",
            "token_type": "default-batch",
        }),
    )
    .expect(204);
    let tuned = root.get("sys/auth/kerberos/tune").data();
    for (field, value) in [
        ("description", json!("who is in the realm")),
        ("default_lease_ttl", json!(3600)),
        ("max_lease_ttl", json!(7200)),
        ("audit_non_hmac_request_keys", json!(["username"])),
        ("audit_non_hmac_response_keys", json!(["keys"])),
        ("listing_visibility", json!("unauth")),
        ("passthrough_request_headers", json!(["Authorization"])),
        ("allowed_response_headers", json!(["WWW-Authenticate"])),
        ("token_type", json!("default-batch")),
    ] {
        assert_eq!(tuned[field], value, "{field}");
    }
    // What is not named stays; what is named empty goes.
    root.post(
        "sys/auth/kerberos/tune",
        json!({"passthrough_request_headers": ""}),
    )
    .expect(204);
    let tuned = root.get("sys/auth/kerberos/tune").data();
    assert!(!tuned.contains_key("passthrough_request_headers"));
    assert_eq!(tuned["max_lease_ttl"], 7200);
    let listed = root.get("sys/auth").data();
    assert_eq!(
        listed["kerberos/"]["config"]["listing_visibility"],
        "unauth"
    );

    root.post(
        "sys/mounts/kv",
        json!({"type": "kv", "options": {"version": 2}}),
    )
    .expect(204);
    root.post("sys/mounts/kv/tune", json!({"options": {"version": "2"}}))
        .expect(204);
    for (wrong, said) in [
        (json!({"options": {"version": "1"}}), "version"),
        (json!({"options": {"version": ["1"]}}), "options"),
        (
            json!({"default_lease_ttl": "3h", "max_lease_ttl": "2h"}),
            "default_lease_ttl",
        ),
        (json!({"listing_visibility": "some"}), "listing_visibility"),
        (json!({"token_type": "batch"}), "token_type"),
        (
            json!({"passthrough_request_headers": "no blanks"}),
            "passthrough_request_headers",
        ),
        (
            json!({"allowed_response_headers": ["a\r\nb"]}),
            "allowed_response_headers",
        ),
    ] {
        let reply = root.post("sys/mounts/kv/tune", wrong).expect(400);
        assert!(reply.text().contains(said), "{}", reply.text());
    }
}

#[test]
fn a_server_without_standbys_has_nobody_to_step_down_for() {
    let server = holders(1, 1);
    server.root().put("sys/step-down", json!({})).expect(204);
    server.root().get("sys/mounts").expect(200);
    server.client().put("sys/step-down", json!({})).expect(403);
}

#[test]
fn child_outlives_parent_what_a_method_handed_out_ends_with_its_move() {
    let server = holders(1, 1);
    let root = server.root();
    root.post("sys/auth/people", json!({"type": "userpass"}))
        .expect(204);
    root.post(
        "auth/people/users/grace",
        json!({"password": "correct horse"}),
    )
    .expect(204);
    let login = |path: &str| {
        let body = json!({"password": "correct horse"});
        server.client().post(path, body)
    };
    let client = server
        .client()
        .with_token(login("auth/people/login/grace").client_token());
    client.get("auth/token/lookup-self").expect(200);
    let status = moved(&root, "auth/people", "auth/staff");
    assert_eq!(status["migration_info"]["status"], "success");
    client.get("auth/token/lookup-self").expect(403);
    login("auth/people/login/grace").expect(403);
    let client = server
        .client()
        .with_token(login("auth/staff/login/grace").client_token());
    client.get("auth/token/lookup-self").expect(200);
}
