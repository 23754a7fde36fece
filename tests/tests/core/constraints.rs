//! `parameter-constraints`: rules about parameters hold whatever the spelling of the request.

use serde_json::json;

use super::{client_with, root};

#[test]
fn parameter_constraints_denied_parameters_are_denied_in_every_spelling() {
    let client = client_with(
        "no-sudo-policies",
        r#"path "secret/metadata/pc/*" {
             capabilities = ["create", "read", "update"]
             denied_parameters = { "max_versions" = [], "cas_required" = ["true"] }
           }"#,
    );
    let path = "secret/metadata/pc/x";
    client
        .post(path, json!({"delete_version_after": "1h"}))
        .expect(204);
    for body in [
        json!({"max_versions": 1}),
        json!({"MAX_VERSIONS": 1}),
        json!({"Max_Versions": null}),
        json!({"max_versions": {"nested": 1}}),
        json!({"cas_required": true}),
        json!({"cas_required": "true"}),
        json!({"cas_required": "TRUE"}),
        json!({"cas_required": 1}),
        json!({"CAS_Required": "1"}),
        json!({"delete_version_after": "1h", "max_versions": 0}),
    ] {
        let reply = client.post(path, body.clone());
        assert_eq!(reply.status, 403, "{body}: {}", reply.text());
        assert_eq!(reply.errors(), ["permission denied"]);
    }
    client
        .post(path, json!({"cas_required": false}))
        .expect(204);
}

#[test]
fn parameter_constraints_only_allowed_parameters_and_values_pass() {
    let client = client_with(
        "some-parameters",
        r#"path "secret/metadata/allowed/*" {
             capabilities = ["create", "update"]
             allowed_parameters = { "max_versions" = [3, 5], "custom_metadata" = [] }
           }"#,
    );
    let path = "secret/metadata/allowed/x";
    client.post(path, json!({"max_versions": 3})).expect(204);
    client
        .post(
            path,
            json!({"max_versions": 5, "custom_metadata": {"a": "b"}}),
        )
        .expect(204);
    for body in [
        json!({"max_versions": 4}),
        json!({"max_versions": [3, 9]}),
        json!({"cas_required": true}),
        json!({"max_versions": 3, "other": 1}),
        json!({"max_versions": 3, "": 1}),
    ] {
        assert_eq!(client.post(path, body.clone()).status, 403, "{body}");
    }
}

#[test]
fn parameter_constraints_required_parameters_are_missed() {
    let client = client_with(
        "required-parameters",
        r#"path "secret/metadata/required/*" {
             capabilities = ["create", "update"]
             required_parameters = ["custom_metadata"]
           }"#,
    );
    let path = "secret/metadata/required/x";
    client
        .post(path, json!({"custom_metadata": {"owner": "me"}}))
        .expect(204);
    client.post(path, json!({})).expect(403);
    client.post(path, json!({"max_versions": 1})).expect(403);
    client
        .post(path, json!({"custom_metadata": null}))
        .expect(403);
    // The query is no second body: what a write takes, it takes from its body.
    client
        .post(
            &format!("{path}?custom_metadata=x"),
            json!({"max_versions": 1}),
        )
        .expect(403);
}

#[test]
fn parameter_constraints_a_query_cannot_slip_past_a_rule_about_the_body() {
    root()
        .post("secret/data/query/x", json!({"data": {"a": 1}}))
        .expect(200);
    let client = client_with(
        "no-old-versions",
        r#"path "secret/data/query/*" {
             capabilities = ["create", "read", "update"]
             denied_parameters = { "version" = [], "options" = [] }
           }"#,
    );
    client.get("secret/data/query/x").expect(200);
    for query in ["version=1", "Version=1", "VERSION=1", "%76ersion=1"] {
        client
            .get(&format!("secret/data/query/x?{query}"))
            .expect(403);
    }
    client
        .post(
            "secret/data/query/x",
            json!({"data": {}, "options": {"cas": 1}}),
        )
        .expect(403);
    // In both places: whatever a write does with a query, the rule's parameter does not get through.
    let reply = client.post("secret/data/query/x?options=1", json!({"data": {"b": 2}}));
    if reply.status == 200 {
        assert_eq!(reply.json()["data"]["version"], 2);
    }
    // A name twice could be read twice.
    root()
        .get("secret/data/query/x?version=1&version=2")
        .expect(400);
}

#[test]
fn wrapping_rules_refuse_what_is_not_wrapped() {
    let client = client_with(
        "wrapped-only",
        r#"path "secret/data/wrapped/*" {
             capabilities = ["read"]
             min_wrapping_ttl = "1m"
             max_wrapping_ttl = "1h"
           }"#,
    );
    root()
        .post("secret/data/wrapped/x", json!({"data": {"a": 1}}))
        .expect(200);
    client.get("secret/data/wrapped/x").expect(403);
}
