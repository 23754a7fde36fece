//! Groups become policies, in one spelling, for as long as they last.

use obol_tests::kerberos::{
    self, config_payload, ldap_payload, log_in, login_with, map_group, negotiate, own_realm,
    policies, with,
};
use obol_tests::{Server, ServerOptions, realm};
use serde_json::json;

use super::server;

#[test]
fn case_fold_group_admins_in_any_spelling_is_one_group() {
    let root = server().root();
    kerberos::enable(
        &root,
        "folding",
        &config_payload(realm()),
        &ldap_payload(realm()),
    );
    // The directory's group is `Admins`.
    root.post("auth/folding/groups/ADMINS", json!({"policies": "first"}))
        .expect(204);
    assert_eq!(
        policies(log_in(server(), "folding", "admin")),
        ["default", "first"]
    );
    root.post("auth/folding/groups/aDmInS", json!({"policies": "second"}))
        .expect(204);
    assert_eq!(root.list("auth/folding/groups").keys(), ["admins"]);
    assert_eq!(
        root.get("auth/folding/groups/Admins").data()["policies"],
        json!(["second"])
    );
    assert_eq!(
        policies(log_in(server(), "folding", "admin")),
        ["default", "second"]
    );
    root.delete("auth/folding/groups/AdMiNs").expect(204);
    assert_eq!(policies(log_in(server(), "folding", "admin")), ["default"]);
}

#[test]
fn case_fold_group_names_are_told_apart_where_that_was_asked_for() {
    let root = server().root();
    let exact = with(ldap_payload(realm()), json!({"case_sensitive_names": true}));
    kerberos::enable(&root, "exact", &config_payload(realm()), &exact);
    root.post("auth/exact/groups/admins", json!({"policies": "wrong"}))
        .expect(204);
    assert_eq!(policies(log_in(server(), "exact", "admin")), ["default"]);
    root.post("auth/exact/groups/Admins", json!({"policies": "right"}))
        .expect(204);
    assert_eq!(
        policies(log_in(server(), "exact", "admin")),
        ["default", "right"]
    );
    assert_eq!(root.list("auth/exact/groups").keys(), ["Admins", "admins"]);
    // Folding them now would give one group the other's policies.
    let fold = root
        .post(
            "auth/exact/config/ldap",
            json!({"case_sensitive_names": false}),
        )
        .expect(400);
    assert!(
        fold.errors()[0].contains("would become one"),
        "{:?}",
        fold.errors()
    );
}

#[test]
fn groups_of_every_kind_and_any_name_are_found() {
    let root = server().root();
    kerberos::enable(
        &root,
        "kinds",
        &config_payload(realm()),
        &ldap_payload(realm()),
    );
    for (group, policy) in [
        ("reviewers", "unique-names"),
        ("coders", "posix"),
        ("scientists", "names"),
        ("research%2C%20development%20%2B%20%22more%22", "odd"),
    ] {
        root.post(
            &format!("auth/kinds/groups/{group}"),
            json!({ "policies": [policy] }),
        )
        .expect(204);
    }
    assert_eq!(
        policies(log_in(server(), "kinds", "joan")),
        ["default", "names", "odd", "unique-names"]
    );
    assert_eq!(
        policies(log_in(server(), "kinds", "grace")),
        ["default", "posix"]
    );
}

#[test]
fn policy_name_case_no_spelling_of_root_can_be_mapped_to_a_group() {
    let root = server().root();
    for name in [
        "root",
        "Root",
        " ROOT",
        "root ",
        "default,root",
        "ro\u{0}ot",
        "root\u{0}",
        "ROOT\t",
    ] {
        let reply = root.post("auth/kerberos/groups/loners", json!({ "policies": name }));
        assert_eq!(reply.status, 400, "{name:?}: {}", reply.text());
    }
    let token_policies = root.post(
        "auth/kerberos/config/ldap",
        json!({"token_policies": "Root"}),
    );
    assert_eq!(token_policies.status, 400, "{}", token_policies.text());
    root.get("auth/kerberos/groups/loners").expect(404);
}

#[test]
fn group_gone_a_removed_member_loses_the_policies_at_the_next_login_and_renewal() {
    let realm = own_realm();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    let tickets = realm.kinit("grace").unwrap();
    let token = login_with(&server, &negotiate(&realm, &tickets)).client_token();
    let grace = server.client().with_token(token);
    grace.post("auth/token/renew-self", json!({})).expect(200);

    realm.ldap.remove_member("engineers", "grace").unwrap();
    assert_eq!(
        policies(login_with(&server, &negotiate(&realm, &tickets))),
        ["default"]
    );
    // The token that has them lives out its time, and no longer.
    let reply = grace.post("auth/token/renew-self", json!({}));
    assert!(
        matches!(reply.status, 400 | 403),
        "{}: {}",
        reply.status,
        reply.text()
    );
    assert!(
        reply.errors()[0].contains("log in again"),
        "{:?}",
        reply.errors()
    );

    // Back again, by another way: a group that did not exist before.
    realm.ldap.add_group("newcomers", &["grace"]).unwrap();
    map_group(&server.root(), "newcomers", "works");
    assert_eq!(
        policies(login_with(&server, &negotiate(&realm, &tickets))),
        ["default", "works"]
    );
    realm.ldap.remove_group("newcomers").unwrap();
    assert_eq!(
        policies(login_with(&server, &negotiate(&realm, &tickets))),
        ["default"]
    );
}

#[test]
fn group_gone_a_user_who_left_the_directory_may_not_log_in_nor_renew() {
    let realm = own_realm();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    let tickets = realm.kinit("joan").unwrap();
    let token = login_with(&server, &negotiate(&realm, &tickets)).client_token();
    realm
        .ldap
        .delete(&obol_testbed::people::user_dn("joan"))
        .unwrap();
    login_with(&server, &negotiate(&realm, &tickets)).expect(403);
    let reply = server
        .client()
        .with_token(token)
        .post("auth/token/renew-self", json!({}));
    assert!(
        matches!(reply.status, 400 | 403),
        "{}: {}",
        reply.status,
        reply.text()
    );
}

#[test]
fn renew_with_other_identity_a_renewal_asks_the_mapping_of_today() {
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, realm());
    let token = log_in(&server, "kerberos", "grace").client_token();
    let grace = server.client().with_token(token);
    grace.post("auth/token/renew-self", json!({})).expect(200);
    map_group(&server.root(), "engineers", "lab");
    let reply = grace.post("auth/token/renew-self", json!({}));
    assert!(
        matches!(reply.status, 400 | 403),
        "{}: {}",
        reply.status,
        reply.text()
    );
}
