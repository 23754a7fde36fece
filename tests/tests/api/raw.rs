//! `sys/raw`: there only where the configuration says so, and never for the keys.

use obol_tests::{Server, ServerOptions};
use serde_json::json;

#[test]
fn stored_values_are_shown_and_mended_where_the_configuration_turns_it_on() {
    let server = Server::ready(ServerOptions {
        config: "raw_storage_endpoint = true".to_owned(),
        ..ServerOptions::default()
    });
    let root = server.root();
    let top = root.list("sys/raw").expect(200).keys();
    assert!(top.contains(&"core/".to_owned()), "{top:?}");
    let below = root.list("sys/raw/core").expect(200).keys();
    assert!(below.contains(&"mounts".to_owned()), "{below:?}");
    let mounts = root.get("sys/raw/core/mounts").expect(200);
    let text = mounts.data()["value"].as_str().unwrap().to_owned();
    assert!(text.contains("cubbyhole/"));

    root.put("sys/raw/aside/x", json!({"value": "text"}))
        .expect(204);
    assert_eq!(root.get("sys/raw/aside/x").data()["value"], "text");
    root.put(
        "sys/raw/aside/x",
        json!({"value": "/w==", "encoding": "base64"}),
    )
    .expect(204);
    root.get("sys/raw/aside/x").expect(400);
    let read = root.get("sys/raw/aside/x?encoding=base64");
    assert_eq!(read.data()["value"], "/w==");
    root.delete("sys/raw/aside/x").expect(204);
    root.get("sys/raw/aside/x").expect(404);
    for bad in [
        json!({}),
        json!({"value": 1}),
        json!({"value": "?", "encoding": "base64"}),
        json!({"value": "x", "encoding": "hex"}),
    ] {
        root.put("sys/raw/aside/x", bad).expect(400);
    }

    for own in [
        "core/keyring",
        "core/seal-config",
        "core/root-key",
        "core/restored",
    ] {
        let path = format!("sys/raw/{own}");
        root.get(&path).expect(400);
        root.get(&format!("{path}?encoding=base64")).expect(400);
        root.put(&path, json!({"value": "x"})).expect(400);
        root.delete(&path).expect(400);
    }
    let policy = "path \"sys/raw/*\" { capabilities = [\"create\", \"update\", \"read\", \"list\", \"delete\"] }";
    root.put("sys/policies/acl/nearly", json!({"policy": policy}))
        .expect(204);
    let token = root.post("auth/token/create", json!({"policies": ["nearly"]}));
    let nearly = server.client().with_token(token.client_token());
    nearly.get("sys/raw/core/mounts").expect(403);
    nearly.list("sys/raw/core").expect(403);
}

#[test]
fn it_is_off_unless_it_is_turned_on() {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.get("sys/raw/core/mounts").expect(404);
    root.list("sys/raw/core").expect(404);
    root.put("sys/raw/aside/x", json!({"value": "x"}))
        .expect(404);
    root.delete("sys/raw/aside/x").expect(404);
}
