//! Policies: written, read, in force at once, and never anything but what their name says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_tests::Client;
use serde_json::{Value, json};

use super::{client_with, root, server, token};

#[test]
fn policies_are_written_read_listed_and_deleted() {
    let root = root();
    let text = "# Ours.\npath \"secret/data/crud\" {\n  capabilities = [\"read\"]\n}\n";
    root.put("sys/policies/acl/crud", json!({ "policy": text }))
        .expect(204);
    let read = root.get("sys/policies/acl/crud").data();
    assert_eq!(
        (&read["name"], &read["policy"]),
        (&json!("crud"), &json!(text))
    );
    // The older path shows the same under its own name.
    assert_eq!(root.get("sys/policy/crud").data()["rules"], text);
    for path in ["sys/policies/acl", "sys/policy"] {
        // Other tests write policies of their own meanwhile.
        let listed = root.list(path).keys();
        let read = root.get(path).data()["policies"].clone();
        for name in ["crud", "default", "root"] {
            assert!(listed.iter().any(|listed| listed == name), "{listed:?}");
            assert!(read.as_array().unwrap().contains(&json!(name)), "{read}");
        }
    }
    root.post("sys/policy/crud", json!({"rules": STANDARD.encode(text)}))
        .expect(204);
    assert_eq!(root.get("sys/policies/acl/crud").data()["policy"], text);
    let json_policy = r#"{"path": {"secret/data/crud": {"capabilities": ["read", "update"]}}}"#;
    root.post("sys/policies/acl/crud", json!({ "policy": json_policy }))
        .expect(204);
    root.delete("sys/policies/acl/crud").expect(204);
    root.get("sys/policies/acl/crud").expect(404);
    root.delete("sys/policies/acl/crud").expect(204);
}

#[test]
fn a_policy_with_a_mistake_is_refused_with_its_place_and_changes_nothing() {
    let root = root();
    let good = "path \"a\" { capabilities = [\"read\"] }";
    root.put("sys/policies/acl/mistaken", json!({ "policy": good }))
        .expect(204);
    for (text, place) in [
        ("path \"a\" {\n  capabilities = [\"raed\"]\n}", "line 2"),
        ("path \"a\" {\n  capabilites = [\"read\"]\n}", "line 2"),
        ("path \"a\" {", "line 1"),
        ("pat \"a\" {\n}", "line 1"),
    ] {
        let reply = root
            .put("sys/policies/acl/mistaken", json!({ "policy": text }))
            .expect(400);
        assert!(
            reply.errors()[0].contains(place),
            "{text:?}: {:?}",
            reply.errors()
        );
    }
    root.put("sys/policies/acl/mistaken", json!({})).expect(400);
    root.put("sys/policies/acl/mistaken", json!({"policy": "  "}))
        .expect(400);
    assert_eq!(root.get("sys/policies/acl/mistaken").data()["policy"], good);
}

#[test]
fn the_built_in_policies_stay() {
    let root = root();
    let anything = json!({"policy": "path \"*\" { capabilities = [\"read\"] }"});
    for name in ["root", "Root", "ROOT"] {
        root.put(&format!("sys/policies/acl/{name}"), anything.clone())
            .expect(400);
        root.delete(&format!("sys/policies/acl/{name}")).expect(400);
    }
    root.delete("sys/policies/acl/default").expect(400);
    assert!(
        root.get("sys/policies/acl/default").data()["policy"]
            .as_str()
            .unwrap()
            .contains("lookup-self")
    );
}

#[test]
fn a_change_is_in_force_for_tokens_that_are_in_use() {
    let root = root();
    root.post("secret/data/force/x", json!({"data": {"a": 1}}))
        .expect(200);
    let client = client_with(
        "force",
        "path \"secret/data/force/*\" { capabilities = [\"read\"] }",
    );
    client.get("secret/data/force/x").expect(200);
    root.put(
        "sys/policies/acl/force",
        json!({"policy": "path \"secret/data/force/*\" { capabilities = [\"deny\"] }"}),
    )
    .expect(204);
    client.get("secret/data/force/x").expect(403);
    root.put(
        "sys/policies/acl/force",
        json!({"policy": "path \"secret/data/+/x\" { capabilities = [\"read\"] }"}),
    )
    .expect(204);
    client.get("secret/data/force/x").expect(200);
    root.delete("sys/policies/acl/force").expect(204);
    client.get("secret/data/force/x").expect(403);
    // A name without a policy grants nothing until there is one.
    root.put(
        "sys/policies/acl/force",
        json!({"policy": "path \"secret/data/force/x\" { capabilities = [\"read\"] }"}),
    )
    .expect(204);
    client.get("secret/data/force/x").expect(200);
}

#[test]
fn the_most_specific_rule_decides_and_deny_wins() {
    let root = root();
    for path in ["spec/app/one", "spec/app/two", "spec/app/secret", "spec/b"] {
        root.post(&format!("secret/data/{path}"), json!({"data": {}}))
            .expect(200);
    }
    let client = client_with(
        "specific",
        r#"path "secret/data/spec/*" { capabilities = ["read"] }
           path "secret/data/spec/app/*" { capabilities = ["read", "create", "update"] }
           path "secret/data/spec/app/secret" { capabilities = ["deny"] }
           path "secret/data/spec/+/two" { capabilities = ["deny"] }"#,
    );
    client.get("secret/data/spec/b").expect(200);
    client
        .post("secret/data/spec/b", json!({"data": {}}))
        .expect(403);
    client
        .post("secret/data/spec/app/one", json!({"data": {}}))
        .expect(200);
    client.get("secret/data/spec/app/secret").expect(403);
    client
        .post("secret/data/spec/app/secret", json!({"data": {}}))
        .expect(403);
    // A second policy cannot take a deny back.
    root.put(
        "sys/policies/acl/specific-too",
        json!({"policy": "path \"secret/data/spec/app/secret\" { capabilities = [\"read\"] }"}),
    )
    .expect(204);
    let both = token(json!({"policies": ["specific", "specific-too"]}));
    both.get("secret/data/spec/app/secret").expect(403);
    token(json!({"policies": ["specific-too"]}))
        .get("secret/data/spec/app/secret")
        .expect(200);
}

#[test]
fn writing_what_is_new_and_changing_what_is_there_are_two_capabilities() {
    let creator = client_with(
        "creator",
        "path \"secret/data/cu/*\" { capabilities = [\"create\"] }",
    );
    let updater = client_with(
        "updater",
        "path \"secret/data/cu/*\" { capabilities = [\"update\"] }",
    );
    updater
        .post("secret/data/cu/x", json!({"data": {}}))
        .expect(403);
    creator
        .post("secret/data/cu/x", json!({"data": {}}))
        .expect(200);
    creator
        .post("secret/data/cu/x", json!({"data": {}}))
        .expect(403);
    updater
        .post("secret/data/cu/x", json!({"data": {}}))
        .expect(200);
    creator.get("secret/data/cu/x").expect(403);
}

#[test]
fn parameter_constraints_a_field_with_two_names_is_denied_and_allowed_under_both() {
    let text = "path \"a\" { capabilities = [\"read\"] }";
    for (constraint, refused) in [
        ("denied_parameters = { rules = [] }", true),
        ("denied_parameters = { policy = [] }", true),
        ("allowed_parameters = { name = [], rules = [] }", false),
        ("allowed_parameters = { name = [], policy = [] }", false),
        ("allowed_parameters = { name = [] }", true),
        (
            "required_parameters = [\"rules\"]\n allowed_parameters = { \"*\" = [] }",
            false,
        ),
    ] {
        let rule = format!(
            "path \"sys/policies/acl/two-names\" {{\n capabilities = [\"create\", \"update\"]\n {constraint}\n}}"
        );
        let client = client_with("two-names-writer", &rule);
        for field in ["policy", "rules"] {
            let reply = client.post("sys/policies/acl/two-names", json!({field: text}));
            let expected = if refused { 403 } else { 204 };
            assert_eq!(reply.status, expected, "{field} under {constraint}");
        }
    }
}

#[test]
fn list_bypasses_deny_a_listing_is_refused_where_a_more_specific_rule_denies() {
    let root = root();
    root.post("secret/data/lists/open/x", json!({"data": {}}))
        .expect(200);
    root.post("secret/data/lists/closed/x", json!({"data": {}}))
        .expect(200);
    let client = client_with(
        "lister",
        r#"path "secret/metadata/lists/*" { capabilities = ["list"] }
           path "secret/metadata/lists/closed/*" { capabilities = ["deny"] }
           path "secret/metadata/lists/shut" { capabilities = ["deny"] }"#,
    );
    for path in ["open", "open/"] {
        assert_eq!(
            client.list(&format!("secret/metadata/lists/{path}")).keys(),
            ["x"]
        );
    }
    for path in ["closed", "closed/", "shut", "shut/"] {
        client
            .list(&format!("secret/metadata/lists/{path}"))
            .expect(403);
        client
            .get(&format!("secret/metadata/lists/{path}?list=true"))
            .expect(403);
    }
    // Listing is not reading, nor the reverse.
    client.get("secret/metadata/lists/open/x").expect(403);
    let reader = client_with(
        "no-lister",
        "path \"secret/metadata/lists/*\" { capabilities = [\"read\"] }",
    );
    reader.list("secret/metadata/lists/open").expect(403);
    reader
        .get("secret/metadata/lists/open?list=true")
        .expect(403);
    reader.get("secret/metadata/lists/open?list=1").expect(403);
    reader.get("secret/metadata/lists/open/x").expect(200);
}

#[test]
fn capabilities_are_told_for_oneself_a_token_and_an_accessor() {
    let root = root();
    let client = client_with(
        "capable",
        r#"path "secret/data/capable/*" { capabilities = ["create", "read", "sudo"] }
           path "secret/data/capable/no" { capabilities = ["deny"] }"#,
    );
    let paths = [
        "secret/data/capable/x",
        "secret/data/capable/no",
        "elsewhere",
    ];
    let right = |answer: &serde_json::Map<String, Value>| {
        assert_eq!(answer[paths[0]], json!(["create", "read", "sudo"]));
        assert_eq!(answer[paths[1]], json!(["deny"]));
        assert_eq!(answer[paths[2]], json!(["deny"]));
    };
    right(
        &client
            .post("sys/capabilities-self", json!({ "paths": paths }))
            .data(),
    );
    right(
        &root
            .post(
                "sys/capabilities",
                json!({ "paths": paths, "token": client.token() }),
            )
            .data(),
    );
    let accessor = client.get("auth/token/lookup-self").data()["accessor"].clone();
    right(
        &root
            .post(
                "sys/capabilities-accessor",
                json!({ "paths": paths, "accessor": accessor }),
            )
            .data(),
    );
    let one = root
        .post("sys/capabilities-self", json!({"path": "anything"}))
        .data();
    assert_eq!(
        (&one["capabilities"], &one["anything"]),
        (&json!(["root"]), &json!(["root"]))
    );
    root.post("sys/capabilities-self", json!({})).expect(400);
    let reply = root.post(
        "sys/capabilities",
        json!({"paths": paths, "token": "obs.nonsense"}),
    );
    assert!(matches!(reply.status, 400 | 403), "{}", reply.text());
    client
        .post(
            "sys/capabilities",
            json!({ "paths": paths, "token": root.token() }),
        )
        .expect(403);
}

#[test]
fn policy_name_case_no_spelling_of_root_becomes_root() {
    let maker = client_with(
        "maker",
        "path \"auth/token/*\" { capabilities = [\"create\", \"update\", \"sudo\"] }",
    );
    let spellings = [
        "root",
        "Root",
        "ROOT",
        " root",
        "root ",
        " ROOT ",
        "\troot",
        "root\n",
        "root\u{0}",
        "\u{0}root",
        "roo\u{0}t",
        "root\u{200b}",
        "\u{feff}root",
        "root\u{a0}",
        "r\u{f6}ot",
        "ｒｏｏｔ",
    ];
    for name in spellings {
        for body in [
            json!({ "policies": [name] }),
            json!({ "policies": name }),
            json!({ "policies": ["maker", name] }),
        ] {
            for path in ["auth/token/create", "auth/token/create-orphan"] {
                let reply = maker.post(path, body.clone());
                if reply.status == 200 {
                    // A name that is another name: harmless, as long as it is not root.
                    let made = server().client().with_token(reply.client_token());
                    made.get("sys/mounts").expect(403);
                    assert_ne!(
                        made.get("auth/token/lookup-self").data()["policies"][0],
                        "root",
                        "{name:?}"
                    );
                } else {
                    assert_eq!(reply.status, 400, "{name:?}: {}", reply.text());
                }
            }
        }
    }
    // Names are one name in any case.
    root()
        .put(
            "sys/policies/acl/MixedCase",
            json!({"policy": "path \"x\" { capabilities = [\"read\"] }"}),
        )
        .expect(204);
    assert_eq!(
        root().get("sys/policies/acl/mixedcase").data()["name"],
        "mixedcase"
    );
    assert_eq!(
        policies_of(&token(json!({"policies": ["MIXEDCASE", "mixedcase"]}))),
        ["default", "mixedcase"]
    );
}

fn policies_of(client: &Client) -> Vec<String> {
    let data = client.get("auth/token/lookup-self").data();
    serde_json::from_value(data["policies"].clone()).unwrap()
}
