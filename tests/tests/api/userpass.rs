//! `auth/userpass`: users, passwords, and what logs in.

use std::thread;
use std::time::{Duration, Instant};

use obol_tests::{Reply, Server, ServerOptions};
use serde_json::{Value, json};

use super::logins::{Mount, mount, root};

fn userpass(path: &str) -> Mount {
    mount(&root(), path, "userpass")
}

fn user(mount: &Mount, name: &str, password: &str) {
    let body = json!({"password": password, "token_policies": "dev"});
    mount
        .root
        .post(&mount.at(&format!("users/{name}")), body)
        .expect(204);
}

fn login(mount: &Mount, name: &str, password: &str) -> Reply {
    let client = mount.root.without_token();
    client.post(
        &mount.at(&format!("login/{name}")),
        json!({ "password": password }),
    )
}

fn refused(reply: Reply) {
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(reply.errors(), ["invalid username or password"]);
    assert!(reply.json().get("auth").is_none(), "{}", reply.text());
}

#[test]
fn a_password_becomes_a_token_with_the_users_settings() {
    let mount = userpass("up-basic");
    let body = json!({
        "password": "correct horse",
        "token_policies": ["dev", "Ops"],
        "token_ttl": "10m",
        "token_max_ttl": 3600,
        "token_num_uses": "7",
    });
    mount.root.post(&mount.at("users/grace"), body).expect(204);
    let auth = login(&mount, "grace", "correct horse").auth();
    assert_eq!(auth["policies"], json!(["default", "dev", "ops"]));
    assert_eq!(auth["metadata"], json!({"username": "grace"}));
    assert_eq!(
        (&auth["lease_duration"], &auth["num_uses"]),
        (&json!(600), &json!(7))
    );
    let read = mount.root.get(&mount.at("users/grace")).data();
    assert_eq!(read["token_policies"], json!(["dev", "ops"]));
    assert_eq!(
        (
            &read["token_ttl"],
            &read["token_max_ttl"],
            &read["token_type"]
        ),
        (&json!(600), &json!(3600), &json!("default"))
    );
    for hidden in ["password", "password_hash", "hash", "password_id"] {
        assert!(!read.contains_key(hidden), "{hidden}");
    }
    assert_eq!(mount.root.list(&mount.at("users")).keys(), ["grace"]);
    mount.root.delete(&mount.at("users/grace")).expect(204);
    mount.root.get(&mount.at("users/grace")).expect(404);
    mount.root.list(&mount.at("users")).expect(404);
    refused(login(&mount, "grace", "correct horse"));
}

#[test]
fn what_is_not_sent_stays_and_older_names_mean_the_same() {
    let mount = userpass("up-older");
    let body = json!({"password": "one", "policies": "dev", "ttl": "5m", "max_ttl": "1h", "bound_cidrs": "127.0.0.1"});
    mount.root.post(&mount.at("users/ada"), body).expect(204);
    mount
        .root
        .post(&mount.at("users/ada"), json!({"token_ttl": "6m"}))
        .expect(204);
    let read = mount.root.get(&mount.at("users/ada")).data();
    assert_eq!(read["token_policies"], json!(["dev"]));
    assert_eq!(
        (&read["token_ttl"], &read["token_max_ttl"]),
        (&json!(360), &json!(3600))
    );
    assert_eq!(read["token_bound_cidrs"], json!(["127.0.0.1"]));
    login(&mount, "ada", "one").expect(200);
    let policies = mount.at("users/ada/policies");
    for (field, value) in [("token_policies", "ops"), ("policies", "web")] {
        mount
            .root
            .post(&policies, json!({ field: value }))
            .expect(204);
        let read = mount.root.get(&mount.at("users/ada")).data();
        assert_eq!(read["token_policies"], json!([value]));
    }
    mount
        .root
        .post(&mount.at("users/ada/password"), json!({"password": "two"}))
        .expect(204);
    refused(login(&mount, "ada", "one"));
    login(&mount, "ada", "two").expect(200);
}

#[test]
fn parameter_constraints_a_denied_field_is_denied_under_its_older_name() {
    let mount = userpass("up-constraints");
    let policy = format!(
        r#"path "{}" {{ capabilities = ["create", "update"] denied_parameters = {{ "token_policies" = [] }} }}"#,
        mount.at("users/*")
    );
    let root = &mount.root;
    root.put(
        "sys/policies/acl/up-constraints",
        json!({ "policy": policy }),
    )
    .expect(204);
    let token = root
        .post("auth/token/create", json!({"policies": ["up-constraints"]}))
        .client_token();
    let client = root.with_token(token);
    let path = mount.at("users/eve");
    client
        .post(&path, json!({"password": "x", "token_policies": "admin"}))
        .expect(403);
    client
        .post(&path, json!({"password": "x", "policies": "admin"}))
        .expect(403);
    client.post(&path, json!({"password": "x"})).expect(204);
}

#[test]
fn alias_case_a_name_is_one_name_however_it_is_spelt() {
    let mount = userpass("up-case");
    user(&mount, "Grace", "pw");
    assert_eq!(mount.root.list(&mount.at("users")).keys(), ["grace"]);
    let auth = login(&mount, "GRACE", "pw").auth();
    assert_eq!(auth["metadata"]["username"], "grace");
}

#[test]
fn wrong_input_is_refused_with_its_field_and_changes_nothing() {
    let mount = userpass("up-wrong");
    let path = mount.at("users/bob");
    for (body, named) in [
        (json!({}), "missing password"),
        (json!({"password": ""}), "missing password"),
        (
            json!({"password": "a", "password_hash": "b"}),
            "send one of them",
        ),
        (json!({"password_hash": "s3cret"}), "password_hash"),
        (json!({"password": ["s3cret"]}), "password"),
        (
            json!({"password": "s3cret", "token_policies": "root"}),
            "token_policies",
        ),
        (
            json!({"password": "s3cret", "policies": " ROOT"}),
            "token_policies",
        ),
        (
            json!({"password": "s3cret", "token_ttl": "2h", "token_max_ttl": "1h"}),
            "token_ttl",
        ),
        (json!({"password": "s3cret".repeat(1000)}), "password"),
    ] {
        let reply = mount.root.post(&path, body.clone());
        assert_eq!(reply.status, 400, "{body}");
        let text = reply.text();
        assert!(text.contains(named), "{body}: {text}");
        assert!(!text.contains("s3cret"), "{text}");
        mount.root.get(&path).expect(404);
    }
    mount
        .root
        .post(&mount.at("users/nobody/password"), json!({"password": "x"}))
        .expect(404);
    mount
        .root
        .post(&mount.at("users/nobody/policies"), json!({"policies": "x"}))
        .expect(404);
    let missing = mount
        .root
        .without_token()
        .post(&mount.at("login/bob"), json!({}));
    assert_eq!(
        (missing.status, missing.errors()),
        (400, vec!["missing password".to_owned()])
    );
}

#[test]
fn a_bcrypt_hash_is_brought_along() {
    let mount = userpass("up-bcrypt");
    // Made by libxcrypt.
    for (name, hash, password) in [
        (
            "old",
            "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "U*U",
        ),
        (
            "newer",
            "$2y$06$abcdefghijklmnopqrstuuFoBUs1x6ElXaSTkYeOmux1nR5euQixO",
            "hunter2",
        ),
    ] {
        let path = mount.at(&format!("users/{name}"));
        mount
            .root
            .post(&path, json!({ "password_hash": hash }))
            .expect(204);
        login(&mount, name, password).expect(200);
        refused(login(&mount, name, "wrong"));
    }
    mount
        .root
        .post(&mount.at("users/old/password"), json!({"password": "new"}))
        .expect(204);
    login(&mount, "old", "new").expect(200);
}

#[test]
fn timing_user_a_hash_that_was_brought_along_becomes_one_like_the_others_with_the_first_login() {
    let server = Server::ready(ServerOptions {
        config: "raw_storage_endpoint = true".to_owned(),
        ..ServerOptions::default()
    });
    let root = server.root();
    root.post("sys/auth/up", json!({"type": "userpass"}))
        .expect(204);
    let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    root.post("auth/up/users/old", json!({"password_hash": hash}))
        .expect(204);
    let uuid = root.get("sys/auth").data()["up/"]["uuid"].clone();
    let stored = || {
        let path = format!("sys/raw/mount/{}/user/old", uuid.as_str().unwrap());
        root.get(&path).data()["value"].as_str().unwrap().to_owned()
    };
    let log_in = |password: &str| root.post("auth/up/login/old", json!({"password": password}));
    assert!(stored().contains("bcrypt"));
    log_in("wrong").expect(400);
    assert!(stored().contains("bcrypt"));
    // Whoever comes first makes it, and nobody who comes with them is turned away.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| log_in("U*U").expect(200));
        }
    });
    assert!(stored().contains("argon2id") && !stored().contains("$2a$"));
    log_in("U*U").expect(200);
    log_in("wrong").expect(400);
}

#[test]
fn renew_with_other_identity_a_token_ends_with_its_user_password_and_policies() {
    let mount = userpass("up-renew");
    type Change = fn(&Mount);
    let change: [(&str, Change); 4] = [
        ("a", |m| {
            m.root.delete(&m.at("users/a")).expect(204);
        }),
        ("b", |m| {
            m.root
                .post(&m.at("users/b/password"), json!({"password": "pw"}))
                .expect(204);
        }),
        ("c", |m| {
            m.root
                .post(&m.at("users/c/policies"), json!({"policies": "other"}))
                .expect(204);
        }),
        ("d", |m| {
            m.root.delete(&m.at("users/d")).expect(204);
            user(m, "d", "pw");
        }),
    ];
    for (name, change) in change {
        user(&mount, name, "pw");
        let token = login(&mount, name, "pw").client_token();
        let client = mount.root.with_token(token);
        client.post("auth/token/renew-self", json!({})).expect(200);
        change(&mount);
        let reply = client.post("auth/token/renew-self", json!({}));
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
        assert!(reply.text().contains("log in again"), "{}", reply.text());
    }
}

#[test]
fn cross_mount_id_a_user_of_one_mount_is_nobody_at_another() {
    let (one, other) = (userpass("up-one"), userpass("up-other"));
    user(&one, "grace", "pw");
    refused(login(&other, "grace", "pw"));
}

#[test]
fn an_address_outside_the_users_blocks_may_not_log_in_and_a_wrong_password_hides_it() {
    let mount = userpass("up-cidr");
    let body = json!({"password": "pw", "token_bound_cidrs": "10.9.8.0/24"});
    mount.root.post(&mount.at("users/far"), body).expect(204);
    login(&mount, "far", "pw").expect(403);
    refused(login(&mount, "far", "wrong"));
}

/// Medians over interleaved rounds, so that a busy machine slows both sides alike.
#[test]
fn timing_user_an_unknown_name_takes_as_long_as_a_known_one() {
    let mount = userpass("up-timing");
    mount
        .tune(json!({"user_lockout_config": {"lockout_disable": true}}))
        .expect(204);
    for name in ["ada", "grace", "katherine"] {
        user(&mount, name, "pw");
    }
    let time = |name: &str| {
        let start = Instant::now();
        refused(login(&mount, name, "wrong"));
        start.elapsed()
    };
    let names = ["grace", "nobody", "zzz"];
    let mut taken: [Vec<Duration>; 3] = Default::default();
    for _ in 0..15 {
        for (name, taken) in names.iter().zip(&mut taken) {
            taken.push(time(name));
        }
    }
    let medians = taken.map(|mut all| {
        all.sort();
        all[all.len() / 2]
    });
    let known = medians[0].as_secs_f64();
    assert!(medians[0] > Duration::from_millis(5), "{medians:?}");
    for unknown in &medians[1..] {
        let ratio = unknown.as_secs_f64() / known;
        assert!((0.6..1.67).contains(&ratio), "{medians:?}");
    }
}

#[test]
fn a_flood_of_logins_is_told_to_come_back_and_delays_nobody_else() {
    // A server of its own: everybody else's logins would be told the same.
    let server = Server::ready(ServerOptions::default());
    let mount = mount(&server.root(), "up-flood", "userpass");
    mount
        .tune(json!({"user_lockout_config": {"lockout_disable": true}}))
        .expect(204);
    user(&mount, "grace", "pw");
    let path = mount.at("login/grace");
    let clients = 200;
    let statuses: Vec<(u16, Option<String>)> = thread::scope(|scope| {
        let logins: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let client = mount
                        .root
                        .without_token()
                        .with_patience(Duration::from_secs(120));
                    let reply = client.post(&path, json!({"password": "wrong"}));
                    (reply.status, reply.header("retry-after").map(str::to_owned))
                })
            })
            .collect();
        let start = Instant::now();
        mount.root.get("auth/token/lookup-self").expect(200);
        assert!(start.elapsed() < Duration::from_secs(5));
        logins
            .into_iter()
            .map(|login| login.join().unwrap())
            .collect()
    });
    for (status, retry_after) in &statuses {
        match status {
            400 => {}
            503 => assert!(retry_after.is_some()),
            other => panic!("{other}"),
        }
    }
    assert!(statuses.iter().any(|(status, _)| *status == 400));
    login(&mount, "grace", "pw").expect(200);
}

#[test]
fn policies_tell_creating_a_user_from_changing_one() {
    let mount = userpass("up-create");
    let policy = format!(
        r#"path "{}" {{ capabilities = ["create"] }}"#,
        mount.at("users/*")
    );
    let root = &mount.root;
    root.put("sys/policies/acl/up-create", json!({ "policy": policy }))
        .expect(204);
    let body: Value = json!({"policies": ["up-create"]});
    let client = root.with_token(root.post("auth/token/create", body).client_token());
    let path = mount.at("users/new");
    client.post(&path, json!({"password": "pw"})).expect(204);
    client.post(&path, json!({"password": "other"})).expect(403);
    login(&mount, "new", "pw").expect(200);
}
