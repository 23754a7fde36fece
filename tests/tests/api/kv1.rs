//! kv version 1 over HTTP: the envelope, and create and update told apart.

use obol_tests::{Server, ServerOptions};
use serde_json::json;

#[test]
fn a_secret_goes_around_and_says_how_long_it_may_be_relied_on() {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    // No version is version 1, as in Vault.
    let mount = json!({"type": "kv", "config": {"default_lease_ttl": "30m"}});
    root.post("sys/mounts/old", mount).expect(204);
    root.post("old/app/db", json!({"user": "web", "n": 1}))
        .expect(204);
    let read = root.get("old/app/db").expect(200).json();
    assert_eq!(read["data"], json!({"user": "web", "n": 1}));
    assert_eq!(
        (
            &read["lease_duration"],
            &read["lease_id"],
            &read["renewable"]
        ),
        (&json!(1800), &json!(""), &json!(false))
    );
    root.put("old/app/db", json!({"user": "web", "ttl": "1h"}))
        .expect(204);
    let read = root.get("old/app/db").expect(200).json();
    assert_eq!(read["lease_duration"], 3600);
    // Tuning shows at the next read.
    root.post("old/other", json!({"a": 1})).expect(204);
    root.post("sys/mounts/old/tune", json!({"default_lease_ttl": 60}))
        .expect(204);
    let read = root.get("old/other").expect(200).json();
    assert_eq!(read["lease_duration"], 60);

    let listed = root.list("old").expect(200);
    assert_eq!(listed.data()["keys"], json!(["app/", "other"]));
    let listed = root.get("old/app?list=true").expect(200);
    assert_eq!(listed.data()["keys"], json!(["db"]));
    root.delete("old/app/db").expect(204);
    root.get("old/app/db").expect(404);
    root.list("old/app").expect(404);
    root.post("old/app/db", json!({})).expect(400);
    root.post("old", json!({"a": 1})).expect(405);
}

#[test]
fn creating_and_updating_are_two_capabilities() {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.post("sys/mounts/old", json!({"type": "kv-v1"}))
        .expect(204);
    let token = |name: &str, capability: &str| {
        let policy = format!("path \"old/*\" {{ capabilities = [\"{capability}\"] }}");
        root.put(
            &format!("sys/policies/acl/{name}"),
            json!({"policy": policy}),
        )
        .expect(204);
        let token = root.post("auth/token/create", json!({"policies": [name]}));
        server.client().with_token(token.client_token())
    };
    let (creator, updater) = (token("creates", "create"), token("updates", "update"));
    updater.post("old/a", json!({"n": 1})).expect(403);
    root.get("old/a").expect(404);
    creator.post("old/a", json!({"n": 1})).expect(204);
    creator.post("old/a", json!({"n": 2})).expect(403);
    updater.post("old/a", json!({"n": 3})).expect(204);
    creator.get("old/a").expect(403);
    assert_eq!(root.get("old/a").data()["n"], 3);
}
