//! `sys/policies/password`: policies written, refused, listed, and passwords made by them.

use std::collections::BTreeSet;

use serde_json::json;

use super::logins::root;

const POLICY: &str = r#"
length = 20
rule "charset" {
  charset   = "abcdefghijklmnopqrstuvwxyz"
  min-chars = 1
}
rule "charset" {
  charset   = "0123456789"
  min-chars = 3
}
"#;

fn at(name: &str) -> String {
    format!("sys/policies/password/{name}")
}

#[test]
fn a_policy_makes_passwords_that_meet_it() {
    root()
        .put(&at("ours"), json!({ "policy": POLICY }))
        .expect(204);
    let read = root().get(&at("ours")).data();
    assert_eq!(read["policy"], POLICY);
    let mut made = BTreeSet::new();
    for _ in 0..20 {
        let data = root().get(&at("ours/generate")).data();
        let password = data["password"].as_str().unwrap().to_owned();
        assert_eq!(password.len(), 20);
        assert!(password.bytes().filter(u8::is_ascii_digit).count() >= 3);
        assert!(password.bytes().any(|b| b.is_ascii_lowercase()));
        made.insert(password);
    }
    assert_eq!(made.len(), 20);
    assert!(
        root()
            .list("sys/policies/password")
            .keys()
            .contains(&"ours".to_owned())
    );
    root().delete(&at("ours")).expect(204);
    root().get(&at("ours")).expect(404);
    root().get(&at("ours/generate")).expect(404);
}

#[test]
fn a_policy_may_come_as_json_and_in_base64() {
    use base64::Engine as _;
    let coded = base64::engine::general_purpose::STANDARD.encode(POLICY);
    root()
        .post(&at("coded"), json!({ "policy": coded }))
        .expect(204);
    assert_eq!(root().get(&at("coded")).data()["policy"], POLICY);
    let text = r#"{"length": 4, "rule": [{"charset": {"charset": "x"}}]}"#;
    root()
        .post(&at("json"), json!({ "policy": text }))
        .expect(204);
    assert_eq!(root().get(&at("json/generate")).data()["password"], "xxxx");
}

#[test]
fn what_cannot_be_met_is_refused_and_changes_nothing() {
    root()
        .put(&at("kept"), json!({ "policy": POLICY }))
        .expect(204);
    for wrong in [
        "",
        "length = 3\nrule \"charset\" { charset = \"ab\" }",
        "length = 20",
        "length = 4\nrule \"charset\" {\n charset = \"ab\"\n min-chars = 5\n}",
        "length = 20\nrule \"charset\" { charset = \"ab\" }\nrule \"regex\" { regex = \"x\" }",
        "length = 200\nrule \"charset\" { charset = \"abcdefghijklmnopqrstuvwxyz\" }\nrule \"charset\" {\n charset = \"0\"\n min-chars = 150\n}",
    ] {
        let reply = root().put(&at("kept"), json!({ "policy": wrong }));
        assert_eq!(reply.status, 400, "{wrong}: {}", reply.text());
    }
    assert_eq!(root().get(&at("kept")).data()["policy"], POLICY);
    root().put(&at("kept"), json!({})).expect(400);
}
