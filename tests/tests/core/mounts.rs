//! Mounting, tuning and unmounting: what goes away takes everything with it.

use obol_tests::{kerberos, realm};
use serde_json::json;

use super::{client_with, root, server, with_kv};

#[test]
fn a_secrets_engine_is_enabled_listed_read_tuned_and_disabled() {
    let root = root();
    let body = json!({
        "type": "kv",
        "description": "first",
        "options": {"version": "2"},
        "config": {"default_lease_ttl": "30m", "max_lease_ttl": 7200},
    });
    root.post("sys/mounts/team/one", body).expect(204);
    let listed = root.get("sys/mounts").expect(200);
    // Old clients read the table beside the envelope, new ones in it.
    assert_eq!(
        listed.json()["team/one/"],
        listed.json()["data"]["team/one/"]
    );
    let one = listed.data()["team/one/"].clone();
    assert_eq!(
        (&one["type"], &one["description"]),
        (&json!("kv"), &json!("first"))
    );
    assert_eq!(one["options"], json!({"version": "2"}));
    assert!(one["accessor"].as_str().unwrap().starts_with("kv_"));
    assert_eq!(one["uuid"].as_str().unwrap().len(), 36);
    assert_eq!(
        root.get("sys/mounts/team/one").data()["accessor"],
        one["accessor"]
    );

    let tuned = root.get("sys/mounts/team/one/tune").data();
    assert_eq!(
        (&tuned["default_lease_ttl"], &tuned["max_lease_ttl"]),
        (&json!(1800), &json!(7200))
    );
    root.post(
        "sys/mounts/team/one/tune",
        json!({"default_lease_ttl": "1h", "description": "second"}),
    )
    .expect(204);
    let tuned = root.get("sys/mounts/team/one/tune").data();
    assert_eq!(
        (&tuned["default_lease_ttl"], &tuned["description"]),
        (&json!(3600), &json!("second"))
    );
    root.post(
        "sys/mounts/team/one/tune",
        json!({"default_lease_ttl": "9h"}),
    )
    .expect(400);
    root.post(
        "sys/mounts/team/one/tune",
        json!({"listing_visibility": "perhaps"}),
    )
    .expect(400);
    root.post("sys/mounts/team/one/tune", json!({"token_type": "batch"}))
        .expect(400);
    // What clients send for the system's own.
    for (system, kept) in [(json!("system"), 0), (json!(-1), 0), (json!("20m"), 1200)] {
        root.post(
            "sys/mounts/team/one/tune",
            json!({"default_lease_ttl": system}),
        )
        .expect(204);
        let set = root.get("sys/mounts").data()["team/one/"]["config"]["default_lease_ttl"].clone();
        assert_eq!(set, kept, "{system}");
    }

    root.delete("sys/mounts/team/one").expect(204);
    root.get("sys/mounts/team/one").expect(400);
    root.get("team/one/data/x").expect(404);
    // The wish is fulfilled already.
    root.delete("sys/mounts/team/one").expect(204);
}

#[test]
fn kv_v2_is_another_name_for_version_two_of_kv() {
    let root = root();
    root.post("sys/mounts/other-name", json!({"type": "kv-v2"}))
        .expect(204);
    let mount = root.get("sys/mounts/other-name").expect(200).json();
    assert_eq!(mount["data"]["type"], "kv");
    assert_eq!(mount["data"]["options"], json!({"version": "2"}));
    let reply = root.post(
        "sys/mounts/contradiction",
        json!({"type": "kv-v2", "options": {"version": "1"}}),
    );
    reply.expect(400);
}

#[test]
fn a_mount_that_cannot_be_is_refused_with_the_reason() {
    let root = root();
    root.post("sys/mounts/taken", json!({"type": "kv-v2"}))
        .expect(204);
    for (path, body, says) in [
        ("sys/mounts/taken", json!({"type": "kv-v2"}), "in use"),
        (
            "sys/mounts/taken/inside",
            json!({"type": "kv-v2"}),
            "in use",
        ),
        ("sys/mounts/sys", json!({"type": "kv-v2"}), "reserved"),
        (
            "sys/mounts/sys/inside",
            json!({"type": "kv-v2"}),
            "reserved",
        ),
        ("sys/mounts/cubbyhole", json!({"type": "kv-v2"}), "reserved"),
        ("sys/mounts/identity", json!({"type": "kv-v2"}), "reserved"),
        ("sys/mounts/auth/kv", json!({"type": "kv-v2"}), "auth/"),
        (
            "sys/mounts/new",
            json!({"type": "no-such-engine"}),
            "unknown type",
        ),
        (
            "sys/mounts/new",
            json!({"type": "kerberos"}),
            "unknown type",
        ),
        ("sys/mounts/new", json!({}), "type"),
        ("sys/mounts/n*w", json!({"type": "kv-v2"}), "mount path"),
        ("sys/mounts/n%20w", json!({"type": "kv-v2"}), "mount path"),
        ("sys/mounts/{new}", json!({"type": "kv-v2"}), "mount path"),
        (
            "sys/mounts/new",
            json!({"type": "kv", "options": {"version": "9"}}),
            "version",
        ),
        ("sys/auth/token", json!({"type": "kerberos"}), "reserved"),
        ("sys/auth/new", json!({"type": "kv-v2"}), "unknown type"),
    ] {
        let reply = root.post(path, body.clone());
        assert_eq!(reply.status, 400, "{path} {body}: {}", reply.text());
        assert!(
            reply.errors()[0].contains(says),
            "{path} {body}: {:?}",
            reply.errors()
        );
    }
    for path in ["sys/mounts/sys", "sys/mounts/cubbyhole", "sys/auth/token"] {
        root.delete(path).expect(400);
    }
    root.get("sys/mounts").expect(200);
}

#[test]
fn auth_methods_need_sudo_to_change() {
    let policy =
        "path \"sys/auth/*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\"] }";
    let weak = client_with("auth-admin", policy);
    weak.post("sys/auth/weak", json!({"type": "kerberos"}))
        .expect(403);
    weak.get("sys/auth/kerberos-x/tune").expect(403);
    let policy = policy.replace("\"create\"", "\"sudo\", \"create\"");
    let strong = client_with("auth-admin-sudo", &policy);
    strong
        .post(
            "sys/auth/strong",
            json!({"type": "kerberos", "description": "by sudo"}),
        )
        .expect(204);
    assert_eq!(
        root().get("sys/auth").data()["strong/"]["description"],
        "by sudo"
    );
    strong.delete("sys/auth/strong").expect(204);
}

#[test]
fn disabling_an_auth_method_revokes_what_it_issued() {
    let server = kerberos::kerberized();
    let root = server.root();
    let (config, ldap) = (
        kerberos::config_payload(realm()),
        kerberos::ldap_payload(realm()),
    );
    let batch = kerberos::with(ldap.clone(), json!({"token_type": "batch"}));
    kerberos::enable(&root, "kerberos-batch", &config, &batch);
    let service = kerberos::log_in(&server, "kerberos", "grace").auth();
    let service_token = server
        .client()
        .with_token(service["client_token"].as_str().unwrap());
    let batch_token = kerberos::log_in(&server, "kerberos-batch", "grace").client_token();
    let batch_token = server.client().with_token(batch_token);
    let other = root
        .post("auth/token/create", json!({"policies": ["default"]}))
        .client_token();
    for client in [&service_token, &batch_token] {
        client.get("auth/token/lookup-self").expect(200);
    }

    root.delete("sys/auth/kerberos").expect(204);
    root.delete("sys/auth/kerberos-batch").expect(204);
    for client in [&service_token, &batch_token] {
        client.get("auth/token/lookup-self").expect(403);
    }
    root.post(
        "auth/token/lookup-accessor",
        json!({"accessor": service["accessor"]}),
    )
    .expect(403);
    server
        .client()
        .with_token(other)
        .get("auth/token/lookup-self")
        .expect(200);
    let header = kerberos::negotiate(realm(), &obol_tests::ticket("grace"));
    assert!(matches!(
        kerberos::login_with(&server, &header).status,
        403 | 404
    ));

    // A new method at the old path knows nothing of the old one.
    root.post("sys/auth/kerberos", json!({"type": "kerberos"}))
        .expect(204);
    root.get("auth/kerberos/config").expect(404);
    root.list("auth/kerberos/groups").expect(404);
    service_token.get("auth/token/lookup-self").expect(403);
}

#[test]
fn cross_mount_id_a_mount_sees_its_own_and_nothing_of_another() {
    let root = root();
    let kv = json!({"type": "kv", "options": {"version": "2"}});
    for mount in ["left", "right"] {
        root.post(&format!("sys/mounts/{mount}"), kv.clone())
            .expect(204);
    }
    root.post("left/data/same/path", json!({"data": {"in": "left"}}))
        .expect(200);
    root.get("right/data/same/path").expect(404);
    root.list("right/metadata/same").expect(404);
    root.post("right/data/same/path", json!({"data": {"in": "right"}}))
        .expect(200);
    root.delete("left/metadata/same/path").expect(204);
    assert_eq!(
        root.get("right/data/same/path").data()["data"]["in"],
        "right"
    );

    // The same path again is another mount.
    root.post("left/data/again", json!({"data": {"in": "the first left"}}))
        .expect(200);
    root.delete("sys/mounts/left").expect(204);
    root.post("sys/mounts/left", kv).expect(204);
    root.get("left/data/again").expect(404);
    root.list("left/metadata").expect(404);

    // An accessor is no token, and a mount's accessor or UUID is none either.
    let made = root.post("auth/token/create", json!({})).auth();
    let mount = root.get("sys/mounts").data()["right/"].clone();
    for id in [&made["accessor"], &mount["accessor"], &mount["uuid"]] {
        server()
            .client()
            .with_token(id.as_str().unwrap())
            .get("auth/token/lookup-self")
            .expect(403);
        root.post("auth/token/lookup", json!({ "token": id }))
            .expect(403);
    }
    for id in [&made["client_token"], &mount["accessor"], &mount["uuid"]] {
        root.post("auth/token/lookup-accessor", json!({ "accessor": id }))
            .expect(403);
        let reply = root.post("auth/token/revoke-accessor", json!({ "accessor": id }));
        assert!(
            reply
                .expect(200)
                .text()
                .contains("no token with this accessor")
        );
    }
}

#[test]
fn mounts_that_are_hidden_are_not_told_to_strangers() {
    let server = with_kv();
    let root = server.root();
    root.post(
        "sys/auth/shown",
        json!({"type": "kerberos", "config": {"listing_visibility": "unauth"}}),
    )
    .expect(204);
    root.post("sys/auth/hidden", json!({"type": "kerberos"}))
        .expect(204);
    let seen = server.client().get("sys/internal/ui/mounts").data();
    assert!(seen["auth"].get("shown/").is_some(), "{seen:?}");
    assert!(seen["auth"].get("hidden/").is_none(), "{seen:?}");
    assert!(!format!("{seen:?}").contains("accessor"));

    // `obol kv` asks which version a mount has: whoever may read there may know.
    let reader = "path \"secret/data/app/*\" { capabilities = [\"read\"] }";
    root.put("sys/policies/acl/reader", json!({ "policy": reader }))
        .expect(204);
    let token = root
        .post("auth/token/create", json!({"policies": ["reader"]}))
        .client_token();
    let reader = server.client().with_token(token);
    // With a token the list has what it may do something with, too.
    let seen = reader.get("sys/internal/ui/mounts").data();
    assert_eq!(seen["secret"]["secret/"]["options"]["version"], "2");
    assert!(seen["secret"]["secret/"]["accessor"].is_string());
    assert!(seen["auth"].get("hidden/").is_none(), "{seen:?}");
    assert!(seen["auth"]["shown/"].get("accessor").is_none());
    let seen = root.get("sys/internal/ui/mounts").data();
    assert!(seen["auth"]["hidden/"]["uuid"].is_string(), "{seen:?}");
    let nobody = server.client().with_token("obs.nobody".to_owned());
    let seen = nobody.get("sys/internal/ui/mounts").data();
    assert!(seen["secret"].get("secret/").is_none(), "{seen:?}");
    assert_eq!(
        reader
            .get("sys/internal/ui/mounts/secret/data/app/x")
            .data()["options"]["version"],
        "2"
    );
    reader.get("sys/internal/ui/mounts/auth/hidden").expect(403);
    reader.get("sys/internal/ui/mounts/no/such").expect(403);
    server
        .client()
        .get("sys/internal/ui/mounts/secret")
        .expect(403);
}
