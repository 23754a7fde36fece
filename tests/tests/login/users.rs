//! Which principal is which user: realms, instances, and names that were made to be misread.

use obol_testbed::mit::{MitOptions, escape_component};
use obol_testbed::people::{AWKWARD_NAMES, AWKWARD_PASSWORD};
use obol_testbed::realm::GRACE_ADMIN;
use obol_testbed::{CCache, LdapOptions, MitRealm, Realm, RealmOptions};
use obol_tests::kerberos::{
    self, config_payload, ldap_payload, login_at, login_with, negotiate, own_realm, policies, with,
};
use obol_tests::{Server, ServerOptions, realm, ticket};
use serde_json::json;

use super::server;

#[test]
fn realm_confusion_a_trusted_realms_grace_is_not_ours() {
    let realm = own_realm();
    let other = MitRealm::start(MitOptions::realm("OTHER.REALM")).unwrap();
    realm.kdc.trust(&other).unwrap();
    other.add_principal("grace", "the other grace").unwrap();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    let root = server.root();

    // The ticket is good: the KDC of the service's own realm issued it to grace@OTHER.REALM.
    let foreign = realm
        .kdc
        .kinit("grace@OTHER.REALM", "the other grace")
        .unwrap();
    let from = server.log().len();
    let reply = login_with(&server, &negotiate(&realm, &foreign));
    assert!(
        matches!(reply.status, 400 | 403),
        "{}: {}",
        reply.status,
        reply.text()
    );
    assert!(reply.json().get("auth").is_none());
    assert!(
        !reply.text().contains("OTHER"),
        "the client learns why: {}",
        reply.text()
    );
    let log = server.await_log(from, "grace@OTHER.REALM");
    assert!(
        log.contains("is of a realm that the keytab has no keys of"),
        "{log}"
    );
    assert!(
        log.contains("upndomain"),
        "the log does not say what to do: {log}"
    );
    // Nor did it use up or change anything for our own.
    login_with(&server, &negotiate(&realm, &realm.kinit("grace").unwrap())).expect(200);

    // With the realm named, it is the other one's users who may log in, and ours who may not.
    let named = with(ldap_payload(&realm), json!({"upndomain": "OTHER.REALM"}));
    kerberos::enable(&root, "other", &config_payload(&realm), &named);
    let ours = login_at(
        &server,
        "other",
        &negotiate(&realm, &realm.kinit("grace").unwrap()),
    );
    assert!(
        matches!(ours.status, 400 | 403),
        "{}: {}",
        ours.status,
        ours.text()
    );
    // The directory has grace@example.com and nobody in OTHER.REALM.
    let theirs = login_at(&server, "other", &negotiate(&realm, &foreign));
    assert!(
        matches!(theirs.status, 400 | 403),
        "{}: {}",
        theirs.status,
        theirs.text()
    );
}

#[test]
fn upndomain_is_the_realm_in_its_spelling() {
    let root = server().root();
    for (mount, upndomain, status) in [
        ("upn-exact", "EXAMPLE.COM", 200),
        ("upn-lower", "example.com", 400),
        ("upn-other", "EXAMPLE.ORG", 400),
    ] {
        let ldap = with(ldap_payload(realm()), json!({ "upndomain": upndomain }));
        kerberos::enable(&root, mount, &config_payload(realm()), &ldap);
        let reply = login_at(server(), mount, &negotiate(realm(), &ticket("grace")));
        assert_eq!(reply.status, status, "{upndomain}: {}", reply.text());
        if status == 200 {
            assert_eq!(reply.auth()["metadata"]["domain"], "EXAMPLE.COM");
        }
    }
}

#[test]
fn instance_strip_happens_only_where_the_operator_asked_for_it() {
    let root = server().root();
    let (name, password) = GRACE_ADMIN;
    let tickets = realm().kdc.kinit(name, password).unwrap();

    let reply = login_with(server(), &negotiate(realm(), &tickets)).expect(403);
    assert!(
        reply.errors()[0].contains("may not log in"),
        "{:?}",
        reply.errors()
    );

    let config = with(
        config_payload(realm()),
        json!({"remove_instance_name": true, "service_account": "HTTP"}),
    );
    kerberos::enable(&root, "stripping", &config, &ldap_payload(realm()));
    root.post(
        "auth/stripping/groups/engineers",
        json!({"policies": "works"}),
    )
    .expect(204);
    let reply = login_at(server(), "stripping", &negotiate(realm(), &tickets)).expect(200);
    // The proof stays what it was; only the directory is asked for grace.
    assert_eq!(reply.json()["auth"]["metadata"]["user"], "grace/admin");
    assert_eq!(policies(reply), ["default", "works"]);
}

#[test]
fn ldap_injection_every_awkward_name_is_itself_and_nobody_else() {
    for name in AWKWARD_NAMES {
        let tickets = awkward_ticket(name);
        let reply = login_with(server(), &negotiate(realm(), &tickets));
        assert_eq!(reply.status, 200, "{name:?}: {}", reply.text());
        assert_eq!(reply.json()["auth"]["metadata"]["user"], *name);
        // Each is a member of `awkward` and of no other group.
        assert_eq!(policies(reply), ["awkward", "default"], "{name:?}");
    }
}

#[test]
fn ldap_injection_every_awkward_name_survives_the_other_ways_to_find_a_user() {
    let root = server().root();
    let upn = with(ldap_payload(realm()), json!({"upndomain": "EXAMPLE.COM"}));
    kerberos::enable(&root, "by-upn", &config_payload(realm()), &upn);
    // memberOf of the user's own entry names groups by their DN.
    let by_user = with(
        ldap_payload(realm()),
        json!({"groupdn": "ou=Users,dc=example,dc=com", "groupattr": "memberOf", "groupfilter": "(uid={{.Username}})"}),
    );
    kerberos::enable(&root, "by-member-of", &config_payload(realm()), &by_user);
    for mount in ["by-upn", "by-member-of"] {
        root.post(
            &format!("auth/{mount}/groups/awkward"),
            json!({"policies": "awkward"}),
        )
        .expect(204);
        for name in AWKWARD_NAMES {
            let tickets = awkward_ticket(name);
            let reply = login_at(server(), mount, &negotiate(realm(), &tickets));
            assert_eq!(reply.status, 200, "{mount} {name:?}: {}", reply.text());
            assert_eq!(policies(reply), ["awkward", "default"], "{mount} {name:?}");
        }
    }
}

/// Tickets without a PAC: MIT's KDC cannot read back the names with a backslash that it writes into one.
fn awkward_ticket(name: &str) -> CCache {
    let name = escape_component(name);
    realm()
        .kdc
        .kinit_with(&["--no-request-pac"], &name, AWKWARD_PASSWORD)
        .unwrap()
}

#[test]
fn null_bind_an_empty_password_is_never_a_login() {
    let root = server().root();
    root.post("sys/auth/null-bind", json!({"type": "kerberos"}))
        .expect(204);
    kerberos::accepted(root.post("auth/null-bind/config", config_payload(realm())));
    let empty = with(ldap_payload(realm()), json!({"bindpass": ""}));
    let wrote = kerberos::accepted(root.post("auth/null-bind/config/ldap", empty));
    assert!(
        wrote
            .warnings()
            .iter()
            .any(|w| w.contains("binddn without bindpass")),
        "{:?}",
        wrote.warnings()
    );
    // The directory refuses such a bind, and so there are no groups and no token.
    let reply = login_at(server(), "null-bind", &negotiate(realm(), &ticket("grace"))).expect(502);
    assert!(reply.json().get("auth").is_none());
    // Nor does the method know passwords, empty or right.
    for password in ["", "grace-password"] {
        let body = json!({"username": "grace", "password": password});
        for path in ["auth/kerberos/login", "auth/null-bind/login"] {
            server().client().post(path, body.clone()).expect(401);
        }
        server()
            .client()
            .post("auth/kerberos/login/grace", body)
            .expect(403);
    }
}

#[test]
fn null_bind_a_directory_that_takes_empty_passwords_changes_nothing() {
    // It lets an empty password "succeed", anonymously, and lets anonymous clients search.
    let careless = LdapOptions {
        anonymous_search: true,
        unauthenticated_bind: true,
        ..LdapOptions::default()
    };
    let realm = Realm::start(RealmOptions {
        ldap: careless,
        ..RealmOptions::default()
    })
    .unwrap();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    kerberos::accepted(
        server
            .root()
            .post("auth/kerberos/config/ldap", json!({"bindpass": ""})),
    );
    let body = json!({"username": "grace", "password": "", "authorization": ""});
    server
        .client()
        .post("auth/kerberos/login", body)
        .expect(401);
    // With a ticket it is the ticket that counts.
    let reply = login_with(&server, &negotiate(&realm, &realm.kinit("grace").unwrap()));
    assert_eq!(policies(reply), ["default", "works"]);
}

#[test]
fn a_user_whom_the_directory_does_not_know_may_not_log_in() {
    let realm = own_realm();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    realm.kdc.add_principal("ghost", "ghost-password").unwrap();
    let tickets = realm.kdc.kinit("ghost", "ghost-password").unwrap();
    let from = server.log().len();
    let reply = login_with(&server, &negotiate(&realm, &tickets)).expect(403);
    assert!(reply.json().get("auth").is_none());
    let log = server.await_log(from, "ghost");
    assert!(log.contains("check userdn, userattr"), "{log}");
}
