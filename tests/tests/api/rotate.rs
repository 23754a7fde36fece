//! `sys/rotate`: the key that values are encrypted with.

use obol_tests::{Server, ServerOptions};
use serde_json::json;

use super::holders;

#[test]
fn a_rotation_begins_a_new_term_and_what_is_stored_stays_readable() {
    let server = holders(1, 1);
    let root = server.root();
    root.post("sys/mounts/secret", json!({"type": "kv"}))
        .expect(204);
    root.post("secret/a", json!({"v": "before"})).expect(204);
    let before = root.get("sys/key-status").data();
    assert_eq!(before["term"], 1);
    assert!(before["install_time"].as_str().unwrap().ends_with('Z'));
    assert!(before["encryptions"].as_u64().unwrap() > 0);
    // Older clients read the fields beside `data`.
    let whole = root.get("sys/key-status").expect(200).json();
    assert_eq!(whole["term"], 1);

    root.post("sys/rotate", json!({})).expect(204);
    root.put("sys/rotate/keyring", json!({})).expect(204);
    assert_eq!(root.get("sys/key-status").data()["term"], 3);
    root.post("secret/b", json!({"v": "after"})).expect(204);
    assert_eq!(root.get("secret/a").data()["v"], "before");
    assert_eq!(root.get("secret/b").data()["v"], "after");
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs storage that lasts")]
fn a_rotation_and_its_settings_outlast_a_crash() {
    let server = Server::ready(ServerOptions::on_disk());
    let root = server.root();
    root.post("sys/rotate", json!({})).expect(204);
    root.post(
        "sys/rotate/config",
        json!({"max_operations": 2_000_000, "interval": "48h"}),
    )
    .expect(204);
    server.crash_and_restart();
    assert_eq!(root.get("sys/key-status").data()["term"], 2);
    let config = root.get("sys/rotate/config").data();
    assert_eq!(
        json!(config),
        json!({"max_operations": 2_000_000, "interval": 172_800, "enabled": true})
    );
}

#[test]
fn rotation_by_itself_is_configured_within_bounds() {
    let server = holders(1, 1);
    let root = server.root();
    let config = || json!(root.get("sys/rotate/config").data());
    let first = config();
    assert_eq!(
        (&first["enabled"], &first["interval"]),
        (&json!(true), &json!(0))
    );
    for (wrong, field) in [
        (json!({"max_operations": 999_999}), "max_operations"),
        (
            json!({"max_operations": 3_865_470_567_u64}),
            "max_operations",
        ),
        (json!({"max_operations": -1}), "max_operations"),
        (json!({"interval": "23h"}), "interval"),
        (json!({"interval": "often"}), "interval"),
        (json!({"enabled": "perhaps", "interval": "48h"}), "enabled"),
    ] {
        let reply = root.post("sys/rotate/config", wrong).expect(400);
        assert!(reply.text().contains(field), "{}", reply.text());
    }
    assert_eq!(config(), first);
    root.post("sys/rotate/config", json!({"enabled": false}))
        .expect(204);
    root.post("sys/rotate/config", json!({"interval": 0}))
        .expect(204);
    let mut changed = first;
    changed["enabled"] = json!(false);
    assert_eq!(config(), changed);
}

#[test]
fn rotating_needs_sudo() {
    let server = holders(1, 1);
    let root = server.root();
    let policy = r#"path "sys/rotate" { capabilities = ["create", "update"] }
                    path "sys/key-status" { capabilities = ["read"] }"#;
    root.put("sys/policies/acl/weak", json!({ "policy": policy }))
        .expect(204);
    let token = root
        .post("auth/token/create", json!({"policies": ["weak"]}))
        .client_token();
    let weak = server.client().with_token(token);
    weak.post("sys/rotate", json!({})).expect(403);
    weak.get("sys/key-status").expect(200);
    server.client().post("sys/rotate", json!({})).expect(403);
    server.client().get("sys/key-status").expect(403);
}
