//! `obol operator check`: silent where all is well, and a list of what is not.

use obol_tests::clients::Cli;
use obol_tests::{Server, ServerOptions};
use serde_json::{Value, json};

#[test]
fn a_server_at_work_agrees_with_itself_and_what_is_broken_is_found() {
    let server = Server::ready(ServerOptions {
        config: "raw_storage_endpoint = true".to_owned(),
        ..ServerOptions::default()
    });
    let root = server.root();
    root.post("sys/mounts/old", json!({"type": "kv"}))
        .expect(204);
    root.post("sys/mounts/gone", json!({"type": "kv"}))
        .expect(204);
    for n in 0..5 {
        let token = root.post("auth/token/create", json!({"ttl": "1h"}));
        let child = server.client().with_token(token.client_token());
        child.post("cubbyhole/a/b", json!({"n": n})).expect(204);
        root.post(&format!("gone/{n}"), json!({"n": n})).expect(204);
        if n == 0 {
            child.post("auth/token/revoke-self", json!({})).expect(204);
        }
    }
    root.delete("sys/mounts/gone").expect(204);
    root.post("identity/entity", json!({"name": "grace"}));
    let wrapped = root
        .request("GET", "auth/token/lookup-self")
        .header("X-Vault-Wrap-TTL", "60s")
        .send();
    wrapped.expect(200);

    let cli = Cli::root(&server);
    let check = || cli.run(&["operator", "check"]);
    let well = check().ok();
    assert_eq!(well.stdout.trim(), "Everything agrees.");

    // One of each kind, made through sys/raw.
    let cubbyholes = root.get("sys/mounts").expect(200).json()["data"]["cubbyhole/"]["uuid"].take();
    let broken = [
        (
            "tokens",
            "core/token/child/nobody/lost".to_owned(),
            json!(null),
        ),
        (
            "leases",
            "core/lease/expiry/99999999999/lost".to_owned(),
            json!(null),
        ),
        (
            "mounts",
            "mount/00000000-0000-0000-0000-000000000000/v1/a".to_owned(),
            json!({}),
        ),
        (
            "cubbyholes",
            format!("mount/{}/nobody/a", cubbyholes.as_str().unwrap()),
            json!({}),
        ),
        (
            "cubbyholes",
            "core/wrapping/body/nobody".to_owned(),
            json!({}),
        ),
        (
            "identity",
            "core/identity/entity-name/nobody".to_owned(),
            json!("nobody"),
        ),
    ];
    for (section, path, value) in &broken {
        root.put(
            &format!("sys/raw/{path}"),
            json!({"value": value.to_string()}),
        )
        .expect(204);
        let found = root
            .get(&format!("sys/internal/check?section={section}"))
            .expect(200)
            .json();
        let findings = found["data"]["findings"].as_array().unwrap().clone();
        assert!(!findings.is_empty(), "{section} {path}: {found}");
        assert!(
            findings
                .iter()
                .all(|finding| finding["section"] == *section)
        );
    }
    let found = check().expect(2);
    for (section, ..) in &broken {
        assert!(found.stdout.contains(section), "{}", found.stdout);
    }
    let found = cli.run(&["operator", "check", "-format=json"]).expect(2);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found["findings"].as_array().unwrap().len(), broken.len());
    for (_, path, _) in &broken {
        root.delete(&format!("sys/raw/{path}")).expect(204);
    }
    check().ok();
    root.get("sys/internal/check?section=all").expect(400);
    server.client().get("sys/internal/check").expect(403);
}
