//! `diagnose` in a domain where everything is right: every step passes, and each source names the same groups.

use obol_tests::ad::{self, ad};
use serde_json::{Value, json};

#[test]
fn everything_that_works_is_said_to_work_step_by_step() {
    let server = ad::server(ad());
    ad::set_up(&server, ad(), json!({"group_source": "pac"}), json!({}));
    let tickets = ad().kinit_as("grace").unwrap();
    let body = json!({
        "service": "HTTP/localhost",
        "authorization": ad::negotiate(ad(), &tickets),
    });
    let report = server.root().post("auth/kerberos/diagnose", body.clone());
    let report = Value::Object(report.expect(200).data());
    assert_eq!(report["ok"], true, "{report:#}");
    let status = |name: &str| {
        let steps = report["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["name"] == name);
        step.map_or(Value::Null, |step| step["status"].clone())
    };
    for name in [
        "keytab",
        "spn",
        "kdc",
        "service ticket",
        "client ticket",
        "ldap dial",
        "ldap tls",
        "ldap bind",
        "ldap server",
        "userdn",
        "groupdn",
        "spn owner",
        "user entry",
        "groups",
        "token groups",
        "user",
    ] {
        assert_eq!(status(name), "ok", "{name}: {report:#}");
    }
    let user = &report["user"];
    assert_eq!(user["name"], "grace");
    assert_eq!(user["dn"], json!(ad().dn_of("grace").unwrap()));
    assert_eq!(
        user["policies"],
        json!(["all-hands", "default", "engineers", "staff"])
    );
    let engineers = user["groups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["name"] == "engineers");
    assert_eq!(
        engineers.unwrap()["sources"],
        json!(["ldap", "token_groups", "pac"])
    );
    // Trying a client's ticket takes nothing from the client.
    let header = body["authorization"].as_str().unwrap();
    obol_tests::kerberos::login_at(&server, "kerberos", header).expect(200);
}

#[test]
fn only_operators_may_ask() {
    let server = ad::server(ad());
    ad::set_up(&server, ad(), json!({}), json!({}));
    server
        .client()
        .post("auth/kerberos/diagnose", json!({}))
        .expect(403);
    let login = ad::log_in(&server, ad(), "kerberos", "grace");
    let client = server.client().with_token(login.client_token());
    client
        .post("auth/kerberos/diagnose", json!({"user": "joan"}))
        .expect(403);
}
