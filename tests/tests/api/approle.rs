//! `auth/approle`: roles, secret IDs, and programs that log in with them.

use std::thread;
use std::time::Duration;

use obol_tests::{Reply, Server, ServerOptions, holds};
use serde_json::{Map, Value, json};

use super::logins::{Mount, mount, root};

fn approle(path: &str) -> Mount {
    mount(&root(), path, "approle")
}

impl Mount {
    fn role(&self, name: &str, body: Value) {
        self.root
            .post(&self.at(&format!("role/{name}")), body)
            .expect(204);
    }

    fn role_id(&self, name: &str) -> String {
        let data = self
            .root
            .get(&self.at(&format!("role/{name}/role-id")))
            .data();
        data["role_id"].as_str().unwrap().to_owned()
    }

    fn issue(&self, name: &str, body: Value) -> Map<String, Value> {
        self.root
            .post(&self.at(&format!("role/{name}/secret-id")), body)
            .data()
    }

    fn secret(&self, name: &str, body: Value) -> String {
        self.issue(name, body)["secret_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn log_in(&self, role_id: &str, secret_id: &str) -> Reply {
        let body = json!({ "role_id": role_id, "secret_id": secret_id });
        self.root.without_token().post(&self.at("login"), body)
    }
}

fn refused(reply: Reply) {
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(reply.errors(), ["invalid role or secret ID"]);
}

#[test]
fn a_program_logs_in_and_gets_what_the_role_says() {
    let mount = approle("ar-basic");
    mount.role(
        "Web",
        json!({"token_policies": "dev,ops", "token_ttl": "20m", "token_max_ttl": "1h", "secret_id_ttl": "10m", "secret_id_num_uses": 40}),
    );
    assert_eq!(mount.root.list(&mount.at("role")).keys(), ["web"]);
    let role_id = mount.role_id("WEB");
    let issued = mount.issue("web", json!({"metadata": r#"{"host": "w1"}"#}));
    assert_eq!(
        (&issued["secret_id_ttl"], &issued["secret_id_num_uses"]),
        (&json!(600), &json!(40))
    );
    let secret_id = issued["secret_id"].as_str().unwrap();
    let auth = mount.log_in(&role_id, secret_id).auth();
    assert_eq!(auth["policies"], json!(["default", "dev", "ops"]));
    assert_eq!(auth["lease_duration"], 1200);
    assert_eq!(auth["metadata"], json!({"role_name": "web", "host": "w1"}));
    let looked = json!({ "secret_id": secret_id });
    let seen = mount
        .root
        .post(&mount.at("role/web/secret-id/lookup"), looked)
        .data();
    assert_eq!(
        (
            &seen["secret_id_num_uses"],
            &seen["secret_id_accessor"],
            &seen["metadata"]
        ),
        (
            &json!(39),
            &issued["secret_id_accessor"],
            &json!({"host": "w1"})
        )
    );
    assert!(seen["expiration_time"].as_str().unwrap() > seen["creation_time"].as_str().unwrap());
    assert!(!seen.contains_key("secret_id"));
    let read = mount.root.get(&mount.at("role/web")).data();
    for (key, value) in [
        ("bind_secret_id", json!(true)),
        ("local_secret_ids", json!(false)),
        ("secret_id_num_uses", json!(40)),
        ("secret_id_ttl", json!(600)),
        ("token_ttl", json!(1200)),
        ("token_policies", json!(["dev", "ops"])),
    ] {
        assert_eq!(read[key], value, "{key}");
    }
    mount.root.delete(&mount.at("role/web")).expect(204);
    mount.root.get(&mount.at("role/web")).expect(404);
    refused(mount.log_in(&role_id, secret_id));
    // Another role of the same name knows nothing of the old one's IDs.
    mount.role("web", json!({"role_id": role_id}));
    refused(mount.log_in(&role_id, secret_id));
}

#[test]
fn each_field_has_a_path_of_its_own() {
    let mount = approle("ar-parts");
    mount.role("r", json!({}));
    for (path, field, sent, shown, default) in [
        (
            "policies",
            "token_policies",
            json!("a,b"),
            json!(["a", "b"]),
            json!([]),
        ),
        (
            "bind-secret-id",
            "bind_secret_id",
            json!(true),
            json!(true),
            json!(true),
        ),
        (
            "secret-id-bound-cidrs",
            "secret_id_bound_cidrs",
            json!("10.0.0.0/8"),
            json!(["10.0.0.0/8"]),
            json!([]),
        ),
        (
            "bound-cidr-list",
            "bound_cidr_list",
            json!(["10.0.0.0/8"]),
            json!(["10.0.0.0/8"]),
            json!([]),
        ),
        (
            "secret-id-num-uses",
            "secret_id_num_uses",
            json!("7"),
            json!(7),
            json!(0),
        ),
        (
            "secret-id-ttl",
            "secret_id_ttl",
            json!("1h"),
            json!(3600),
            json!(0),
        ),
        (
            "token-bound-cidrs",
            "token_bound_cidrs",
            json!("10.0.0.0/8"),
            json!(["10.0.0.0/8"]),
            json!([]),
        ),
        (
            "token-num-uses",
            "token_num_uses",
            json!(5),
            json!(5),
            json!(0),
        ),
        ("token-ttl", "token_ttl", json!("1m"), json!(60), json!(0)),
        (
            "token-max-ttl",
            "token_max_ttl",
            json!("2m"),
            json!(120),
            json!(0),
        ),
        (
            "token-period",
            "token_period",
            json!("3m"),
            json!(180),
            json!(0),
        ),
        ("period", "token_period", json!("4m"), json!(240), json!(0)),
    ] {
        let path = mount.at(&format!("role/r/{path}"));
        mount.root.post(&path, json!({})).expect(400);
        mount.root.post(&path, json!({ field: sent })).expect(204);
        assert_eq!(mount.root.get(&path).data()[field], shown, "{path}");
        mount.root.delete(&path).expect(204);
        assert_eq!(mount.root.get(&path).data()[field], default, "{path}");
    }
    for (path, older, field) in [
        ("policies", "policies", "token_policies"),
        ("period", "period", "token_period"),
    ] {
        let path = mount.at(&format!("role/r/{path}"));
        mount.root.post(&path, json!({ older: "60" })).expect(204);
        assert_ne!(mount.root.get(&path).data()[field], json!(0));
    }
    let local = mount.root.get(&mount.at("role/r/local-secret-ids")).data();
    assert_eq!(local["local_secret_ids"], false);
    mount.root.get(&mount.at("role/none/policies")).expect(404);
    mount
        .root
        .post(&mount.at("role/none/policies"), json!({"policies": "x"}))
        .expect(404);
}

#[test]
fn a_role_without_any_constraint_is_refused() {
    let mount = approle("ar-constraint");
    let path = mount.at("role/open");
    mount
        .root
        .post(&path, json!({"bind_secret_id": false}))
        .expect(400);
    mount.root.get(&path).expect(404);
    mount.role(
        "open",
        json!({"bind_secret_id": false, "secret_id_bound_cidrs": "127.0.0.0/8"}),
    );
    mount
        .root
        .delete(&mount.at("role/open/secret-id-bound-cidrs"))
        .expect(400);
    let role_id = mount.role_id("open");
    let body = json!({ "role_id": role_id });
    let client = mount.root.without_token();
    client.post(&mount.at("login"), body.clone()).expect(200);
    mount
        .root
        .post(&mount.at("role/open/secret-id"), json!({}))
        .expect(400);
    mount
        .root
        .post(
            &mount.at("role/open/secret-id-bound-cidrs"),
            json!({"secret_id_bound_cidrs": "10.1.0.0/16"}),
        )
        .expect(204);
    client.post(&mount.at("login"), body).expect(403);
}

#[test]
fn a_role_id_can_be_chosen_and_belongs_to_one_role() {
    let mount = approle("ar-id");
    mount.role("a", json!({"role_id": "web-id"}));
    assert_eq!(mount.role_id("a"), "web-id");
    mount
        .root
        .post(&mount.at("role/b"), json!({"role_id": "web-id"}))
        .expect(400);
    mount.root.get(&mount.at("role/b")).expect(404);
    mount.role("b", json!({}));
    let b = mount.role_id("b");
    mount
        .root
        .post(&mount.at("role/b/role-id"), json!({"role_id": "web-id"}))
        .expect(400);
    mount
        .root
        .post(&mount.at("role/a/role-id"), json!({"role_id": "new id"}))
        .expect(204);
    mount
        .root
        .post(&mount.at("role/b/role-id"), json!({"role_id": "web-id"}))
        .expect(204);
    let (of_a, of_b) = (mount.secret("a", json!({})), mount.secret("b", json!({})));
    mount.log_in("new id", &of_a).expect(200);
    mount.log_in("web-id", &of_b).expect(200);
    refused(mount.log_in("web-id", &of_a));
    refused(mount.log_in(&b, &of_b));
}

#[test]
fn secret_ids_are_listed_looked_up_and_destroyed_by_either_handle() {
    let mount = approle("ar-handles");
    mount.role("r", json!({}));
    mount.role("other", json!({}));
    let role_id = mount.role_id("r");
    let (one, two) = (mount.issue("r", json!({})), mount.issue("r", json!({})));
    let accessor =
        |issued: &Map<String, Value>| json!({"secret_id_accessor": issued["secret_id_accessor"]});
    let secret = |issued: &Map<String, Value>| json!({"secret_id": issued["secret_id"]});
    let at = |below: &str| mount.at(&format!("role/r/{below}"));
    let mut listed = mount.root.list(&at("secret-id")).keys();
    listed.sort();
    let mut both: Vec<String> = [&one, &two]
        .map(|issued| issued["secret_id_accessor"].as_str().unwrap().to_owned())
        .into();
    both.sort();
    assert_eq!(listed, both);
    let page = format!("{}?limit=1", at("secret-id"));
    assert_eq!(mount.root.list(&page).keys(), both[..1]);
    let seen = mount
        .root
        .post(&at("secret-id-accessor/lookup"), accessor(&one))
        .data();
    assert_eq!(seen["secret_id_accessor"], one["secret_id_accessor"]);
    assert_eq!(seen["expiration_time"], "0001-01-01T00:00:00Z");
    // What belongs to one role is nothing to another.
    let foreign = mount.at("role/other/secret-id-accessor/lookup");
    mount.root.post(&foreign, accessor(&one)).expect(404);
    let foreign = mount.at("role/other/secret-id/lookup");
    mount.root.post(&foreign, secret(&one)).expect(204);

    mount
        .root
        .post(&at("secret-id-accessor/destroy"), accessor(&one))
        .expect(204);
    mount
        .root
        .post(&at("secret-id-accessor/destroy"), accessor(&one))
        .expect(404);
    refused(mount.log_in(&role_id, one["secret_id"].as_str().unwrap()));
    mount
        .root
        .post(&at("secret-id/destroy"), secret(&two))
        .expect(204);
    mount
        .root
        .post(&at("secret-id/destroy"), secret(&two))
        .expect(204);
    refused(mount.log_in(&role_id, two["secret_id"].as_str().unwrap()));
    mount.root.list(&at("secret-id")).expect(404);
    mount
        .root
        .post(&at("secret-id/lookup"), json!({}))
        .expect(400);
    mount
        .root
        .post(&at("secret-id-accessor/lookup"), json!({}))
        .expect(400);
}

#[test]
fn a_secret_id_can_be_chosen() {
    let mount = approle("ar-custom");
    mount.role("r", json!({}));
    let path = mount.at("role/r/custom-secret-id");
    mount.root.post(&path, json!({})).expect(400);
    let body = json!({"secret_id": "my very own", "num_uses": 2});
    let made = mount.root.post(&path, body.clone()).data();
    assert_eq!(
        (&made["secret_id"], &made["secret_id_num_uses"]),
        (&json!("my very own"), &json!(2))
    );
    mount.root.post(&path, body.clone()).expect(400);
    let role_id = mount.role_id("r");
    mount.log_in(&role_id, "my very own").expect(200);
    mount.log_in(&role_id, "my very own").expect(200);
    refused(mount.log_in(&role_id, "my very own"));
    mount.root.post(&path, body).expect(200);
}

#[test]
fn a_secret_id_stays_within_its_role() {
    let mount = approle("ar-within");
    mount.role(
        "r",
        json!({"secret_id_num_uses": 3, "secret_id_ttl": "1h", "secret_id_bound_cidrs": "127.0.0.0/8", "token_bound_cidrs": "127.0.0.0/8"}),
    );
    let path = mount.at("role/r/secret-id");
    for (wrong, field) in [
        (json!({"num_uses": 4}), "num_uses"),
        (json!({"num_uses": 0}), "num_uses"),
        (json!({"ttl": "2h"}), "ttl"),
        (json!({"ttl": 0}), "ttl"),
        (json!({"cidr_list": "10.0.0.0/8"}), "cidr_list"),
        (json!({"cidr_list": "s3cret"}), "cidr_list"),
        (
            json!({"token_bound_cidrs": "0.0.0.0/0"}),
            "token_bound_cidrs",
        ),
        (json!({"metadata": "s3cret"}), "metadata"),
        (json!({"metadata": r#"{"a": 1}"#}), "metadata"),
    ] {
        let reply = mount.root.post(&path, wrong);
        assert_eq!(reply.status, 400);
        let text = reply.text();
        assert!(text.contains(field) && !text.contains("s3cret"), "{text}");
    }
    mount.root.list(&path).expect(404);
    let issued = mount.issue(
        "r",
        json!({"num_uses": 2, "ttl": "30m", "cidr_list": "127.9.9.0/24"}),
    );
    assert_eq!(
        (&issued["secret_id_num_uses"], &issued["secret_id_ttl"]),
        (&json!(2), &json!(1800))
    );
    let reply = mount.log_in(&mount.role_id("r"), issued["secret_id"].as_str().unwrap());
    reply.expect(403);
    mount
        .root
        .post(&mount.at("role/none/secret-id"), json!({}))
        .expect(404);
}

#[test]
fn num_uses_race_two_logins_cannot_spend_the_last_use() {
    let mount = approle("ar-race");
    mount.role("r", json!({}));
    let role_id = mount.role_id("r");
    for uses in [1, 5] {
        for _ in 0..5 {
            let secret_id = mount.secret("r", json!({ "num_uses": uses }));
            let statuses: Vec<u16> = thread::scope(|scope| {
                let logins: Vec<_> = (0..12)
                    .map(|_| scope.spawn(|| mount.log_in(&role_id, &secret_id).status))
                    .collect();
                logins
                    .into_iter()
                    .map(|login| login.join().unwrap())
                    .collect()
            });
            let spent = statuses.iter().filter(|status| **status == 200).count();
            assert_eq!(spent, uses, "{statuses:?}");
            assert!(
                statuses.iter().all(|s| matches!(s, 200 | 400)),
                "{statuses:?}"
            );
            // Those failures were this role's own.
            let path = format!("sys/locked-users/{}/unlock/{role_id}", mount.accessor());
            mount.root.post(&path, json!({})).expect(204);
        }
    }
    mount.root.list(&mount.at("role/r/secret-id")).expect(404);
}

#[test]
fn a_secret_id_ends_with_its_time_and_leaves_nothing() {
    let mount = approle("ar-expiry");
    mount.role("r", json!({}));
    let role_id = mount.role_id("r");
    let issued = mount.issue("r", json!({"ttl": "1s"}));
    let kept = mount.issue("r", json!({"ttl": "1h"}));
    let secret_id = issued["secret_id"].as_str().unwrap();
    mount.log_in(&role_id, secret_id).expect(200);
    thread::sleep(Duration::from_millis(2100));
    refused(mount.log_in(&role_id, secret_id));
    let body = json!({ "secret_id": secret_id });
    mount
        .root
        .post(&mount.at("role/r/secret-id/lookup"), body)
        .expect(204);
    let tidied = mount.root.post(&mount.at("tidy/secret-id"), json!({}));
    assert_eq!(tidied.status, 202);
    holds("the expired secret ID is gone", || {
        let listed = mount.root.list(&mount.at("role/r/secret-id")).keys();
        listed == [kept["secret_id_accessor"].as_str().unwrap()]
    });
}

#[test]
fn cross_mount_id_ids_of_one_mount_mean_nothing_at_another() {
    let (one, other) = (approle("ar-one"), approle("ar-two"));
    for mount in [&one, &other] {
        mount.role("r", json!({"role_id": "the same"}));
    }
    let issued = one.issue("r", json!({}));
    let secret_id = issued["secret_id"].as_str().unwrap();
    refused(other.log_in("the same", secret_id));
    let accessor = json!({"secret_id_accessor": issued["secret_id_accessor"]});
    other
        .root
        .post(
            &other.at("role/r/secret-id-accessor/lookup"),
            accessor.clone(),
        )
        .expect(404);
    other
        .root
        .post(&other.at("role/r/secret-id-accessor/destroy"), accessor)
        .expect(404);
    one.log_in("the same", secret_id).expect(200);
}

#[test]
fn renew_with_other_identity_a_token_ends_with_its_role_policies_and_secret_id() {
    let mount = approle("ar-renew");
    type Change = fn(&Mount, &str);
    let change: [(&str, Change); 4] = [
        ("gone", |m, _| {
            m.root.delete(&m.at("role/gone")).expect(204);
        }),
        ("again", |m, _| {
            m.root.delete(&m.at("role/again")).expect(204);
            m.role("again", json!({"token_policies": "dev"}));
        }),
        ("policies", |m, _| {
            m.role("policies", json!({"token_policies": "other"}));
        }),
        ("destroyed", |m, secret_id| {
            let body = json!({ "secret_id": secret_id });
            m.root
                .post(&m.at("role/destroyed/secret-id/destroy"), body)
                .expect(204);
        }),
    ];
    for (name, change) in change {
        mount.role(name, json!({"token_policies": "dev"}));
        let secret_id = mount.secret(name, json!({}));
        let auth = mount.log_in(&mount.role_id(name), &secret_id).auth();
        let client = mount
            .root
            .with_token(auth["client_token"].as_str().unwrap());
        client.post("auth/token/renew-self", json!({})).expect(200);
        change(&mount, &secret_id);
        let reply = client.post("auth/token/renew-self", json!({}));
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
    }
    // A secret ID that was spent has done its duty.
    mount.role("spent", json!({"token_policies": "dev"}));
    let secret_id = mount.secret("spent", json!({"num_uses": 1}));
    let auth = mount.log_in(&mount.role_id("spent"), &secret_id).auth();
    let client = mount
        .root
        .with_token(auth["client_token"].as_str().unwrap());
    client.post("auth/token/renew-self", json!({})).expect(200);
}

#[test]
fn wrong_secret_ids_lock_the_role_and_nobody_can_tell() {
    let mount = approle("ar-lock");
    mount.role("r", json!({}));
    mount.role("s", json!({}));
    let (role_id, secret_id) = (mount.role_id("r"), mount.secret("r", json!({})));
    for _ in 0..5 {
        refused(mount.log_in(&role_id, "wrong"));
    }
    refused(mount.log_in(&role_id, &secret_id));
    refused(mount.log_in("no role", "wrong"));
    mount
        .log_in(&mount.role_id("s"), &mount.secret("s", json!({})))
        .expect(200);
    let path = format!("sys/locked-users/{}/unlock/{role_id}", mount.accessor());
    mount.root.post(&path, json!({})).expect(204);
    mount.log_in(&role_id, &secret_id).expect(200);
}

#[test]
fn a_batch_token_spends_a_use_too() {
    let mount = approle("ar-batch");
    mount.role("r", json!({"token_type": "batch"}));
    let (role_id, secret_id) = (
        mount.role_id("r"),
        mount.secret("r", json!({"num_uses": 1})),
    );
    let auth = mount.log_in(&role_id, &secret_id).auth();
    assert_eq!(auth["token_type"], "batch");
    refused(mount.log_in(&role_id, &secret_id));
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs a storage that lasts")]
fn ids_outlive_a_restart_and_rest_as_hashes_only() {
    let server = Server::ready(ServerOptions::on_disk());
    let mount = mount(&server.root(), "approle", "approle");
    mount.role("r", json!({"role_id": "role-id-in-the-clear"}));
    let secret_id = mount.secret("r", json!({"num_uses": 2}));
    mount.log_in("role-id-in-the-clear", &secret_id).expect(200);
    server.crash_and_restart();
    mount.log_in("role-id-in-the-clear", &secret_id).expect(200);
    refused(mount.log_in("role-id-in-the-clear", &secret_id));
}
