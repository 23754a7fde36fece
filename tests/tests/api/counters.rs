//! `sys/internal/counters`: who is a client, when one counts again, and how it is told.

use obol_tests::{Client, Server, ServerOptions};
use serde_json::{Map, Value, json};

const ACTIVITY: &str = "sys/internal/counters/activity";
const MONTHLY: &str = "sys/internal/counters/activity/monthly";
const EXPORT: &str = "sys/internal/counters/activity/export";
const CONFIG: &str = "sys/internal/counters/config";

/// With users at `auth/userpass/`.
fn with_users(options: ServerOptions) -> Server {
    let server = Server::ready(options);
    let root = server.root();
    root.post("sys/auth/userpass", json!({"type": "userpass"}))
        .expect(204);
    server
}

fn user(root: &Client, name: &str, more: Value) {
    let mut body = json!({"password": "correct horse", "token_policies": "dev"});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    root.post(&format!("auth/userpass/users/{name}"), body)
        .expect(204);
}

fn login(root: &Client, name: &str) -> Client {
    let reply = root.without_token().post(
        &format!("auth/userpass/login/{name}"),
        json!({"password": "correct horse"}),
    );
    root.with_token(reply.client_token())
}

/// A token without an entity, used once.
fn plain(root: &Client, body: Value) -> Client {
    let client = root.with_token(root.post("auth/token/create", body).client_token());
    client.get("auth/token/lookup-self").expect(200);
    client
}

/// Entities and other clients of the present month.
fn counts(root: &Client) -> (u64, u64) {
    let reply = root.get(MONTHLY);
    if reply.status == 204 {
        return (0, 0);
    }
    of(&reply.data())
}

fn of(counts: &Map<String, Value>) -> (u64, u64) {
    let number = |name: &str| counts[name].as_u64().unwrap();
    let both = (number("entity_clients"), number("non_entity_clients"));
    assert_eq!(number("clients"), both.0 + both.1);
    assert_eq!(
        (number("distinct_entities"), number("non_entity_tokens")),
        both
    );
    assert_eq!((number("secret_syncs"), number("acme_clients")), (0, 0));
    both
}

#[test]
fn nobody_but_root_is_nothing_to_report() {
    let server = with_users(ServerOptions::default());
    let root = server.root();
    for path in [ACTIVITY, MONTHLY, EXPORT, &format!("{EXPORT}?format=csv")] {
        let reply = root.get(path).expect(204);
        assert!(reply.body.is_empty());
    }
    let config = root.get(CONFIG).data();
    assert_eq!(
        json!(config),
        json!({"enabled": "default-enabled", "retention_months": 48, "minimum_retention_months": 0,
            "queries_available": false, "reporting_enabled": false})
    );
    server.client().get(ACTIVITY).expect(403);
    // What Vault has taken away is not here either.
    root.get("sys/internal/counters/requests").expect(404);
}

#[test]
fn an_entity_counts_once_and_tokens_without_one_by_their_policies() {
    let server = with_users(ServerOptions::default());
    let root = server.root();
    user(&root, "grace", json!({}));
    user(&root, "ada", json!({"token_type": "batch"}));
    let grace = login(&root, "grace");
    assert_eq!(counts(&root), (1, 0));
    login(&root, "grace")
        .get("auth/token/lookup-self")
        .expect(200);
    assert_eq!(counts(&root), (1, 0));
    // A batch token is decoded for each request, and is one client all the same.
    let ada = login(&root, "ada");
    for _ in 0..5 {
        ada.get("auth/token/lookup-self").expect(200);
    }
    assert_eq!(counts(&root), (2, 0));

    plain(&root, json!({"policies": ["dev"]}));
    plain(&root, json!({"policies": ["dev"]}));
    plain(&root, json!({"policies": ["ops", "dev"]}));
    plain(&root, json!({"policies": ["dev", "ops"], "type": "batch"}));
    plain(&root, json!({"policies": ["dev"], "num_uses": 2}));
    // Made, and never used.
    root.post("auth/token/create", json!({"policies": ["unused"]}))
        .expect(200);
    assert_eq!(counts(&root), (2, 2));
    // A child of grace is grace.
    let rules = json!({"policy": "path \"auth/token/create\" { capabilities = [\"update\"] }"});
    root.post("sys/policies/acl/dev", rules).expect(204);
    let child = grace.post("auth/token/create", json!({})).client_token();
    root.with_token(child)
        .get("auth/token/lookup-self")
        .expect(200);
    // Who fetches a wrapped answer is no client by that.
    let wrapped = root
        .request("GET", "sys/mounts")
        .header("X-Vault-Wrap-TTL", "60")
        .send()
        .expect(200)
        .json();
    let token = wrapped["wrap_info"]["token"].as_str().unwrap();
    root.with_token(token)
        .post("sys/wrapping/unwrap", json!({}))
        .expect(200);
    // A wrong token is nobody.
    root.with_token("obs.nobody").get("sys/mounts").expect(403);
    assert_eq!(counts(&root), (2, 2));
    assert_eq!(root.get(CONFIG).data()["queries_available"], true);
}

#[test]
fn a_report_is_by_mount_and_by_month() {
    let server = with_users(ServerOptions::default());
    let root = server.root();
    for name in ["grace", "ada", "edith"] {
        user(&root, name, json!({}));
        login(&root, name);
    }
    plain(&root, json!({"policies": ["dev"]}));
    let report = root.get(ACTIVITY).data();
    assert_eq!(of(report["total"].as_object().unwrap()), (3, 1));
    let [namespace] = &report["by_namespace"].as_array().unwrap()[..] else {
        panic!("{report:?}");
    };
    assert_eq!(
        (&namespace["namespace_id"], &namespace["namespace_path"]),
        (&json!("root"), &json!(""))
    );
    assert_eq!(of(namespace["counts"].as_object().unwrap()), (3, 1));
    let mounts = |of_namespace: &Value| -> Vec<(String, String, u64)> {
        let mounts = of_namespace["mounts"].as_array().unwrap().iter();
        mounts
            .map(|mount| {
                let text = |name: &str| mount[name].as_str().unwrap().to_owned();
                let clients = mount["counts"]["clients"].as_u64().unwrap();
                (text("mount_path"), text("mount_type"), clients)
            })
            .collect()
    };
    let expected = [
        ("auth/userpass/".to_owned(), "userpass/".to_owned(), 3),
        ("auth/token/".to_owned(), "token/".to_owned(), 1),
    ];
    assert_eq!(mounts(namespace), expected);

    let months = report["months"].as_array().unwrap();
    assert_eq!(months.len(), 12);
    for empty in &months[..11] {
        assert_eq!(
            (
                &empty["counts"],
                &empty["namespaces"],
                &empty["new_clients"]
            ),
            (&Value::Null, &Value::Null, &Value::Null)
        );
    }
    let present = &months[11];
    assert_eq!(report["start_time"], present["timestamp"]);
    assert!(
        present["timestamp"]
            .as_str()
            .unwrap()
            .ends_with("-01T00:00:00Z")
    );
    assert!(report["end_time"].as_str().unwrap().ends_with("T23:59:59Z"));
    assert_eq!(of(present["counts"].as_object().unwrap()), (3, 1));
    assert_eq!(mounts(&present["namespaces"][0]), expected);
    let new = &present["new_clients"];
    assert_eq!(of(new["counts"].as_object().unwrap()), (3, 1));
    assert_eq!(mounts(&new["namespaces"][0]), expected);

    let monthly = root.get(MONTHLY).data();
    assert_eq!(of(&monthly), (3, 1));
    assert_eq!(json!([present]), monthly["months"]);
    assert_eq!(report["by_namespace"], monthly["by_namespace"]);

    // A mount that is gone is told by its accessor, and its clients stay.
    let accessor = root.get("sys/auth").data()["userpass/"]["accessor"].clone();
    root.delete("sys/auth/userpass").expect(204);
    let report = root.get(ACTIVITY).data();
    let gone = &mounts(&report["by_namespace"][0])[0];
    assert!(
        gone.0.contains("deleted mount") && gone.0.contains(accessor.as_str().unwrap()),
        "{gone:?}"
    );
    assert_eq!(gone.2, 3);
}

#[test]
fn times_choose_months_and_bad_ones_are_refused() {
    let server = with_users(ServerOptions::default());
    let root = server.root();
    plain(&root, json!({"policies": ["dev"]}));
    let report = root.get(ACTIVITY).data();
    let begins = report["start_time"].as_str().unwrap().to_owned();
    let only = root
        .get(&format!(
            "{ACTIVITY}?start_time={begins}&end_time=253402300799"
        ))
        .data();
    assert_eq!(only["months"].as_array().unwrap().len(), 1);
    assert_eq!(only["total"], report["total"]);
    // Long ago there was nobody.
    for path in [ACTIVITY, EXPORT] {
        root.get(&format!("{path}?start_time=0&end_time=86400"))
            .expect(204);
        for (query, field) in [
            ("start_time=yesterday", "start_time"),
            ("end_time=2026-11-31T00:00:00Z", "end_time"),
            ("start_time=-5", "start_time"),
            ("end_time=253402300800", "end_time"),
            ("start_time=86400&end_time=0", "start_time"),
        ] {
            let reply = root.get(&format!("{path}?{query}")).expect(400);
            assert!(reply.errors()[0].contains(field), "{query}: {reply:?}");
        }
    }
    let reply = root.get(&format!("{EXPORT}?format=xml")).expect(400);
    assert!(reply.errors()[0].contains("format"), "{reply:?}");
}

#[test]
fn an_export_names_each_client_once_as_json_or_csv() {
    let server = with_users(ServerOptions::default());
    let root = server.root();
    user(&root, "grace", json!({}));
    let grace = login(&root, "grace");
    let entity = grace.get("auth/token/lookup-self").data()["entity_id"].clone();
    let entity = entity.as_str().unwrap();
    let body =
        json!({"name": "Grace, \"Amazing\"", "policies": ["ops"], "metadata": {"team": "=navy"}});
    root.post(&format!("identity/entity/id/{entity}"), body)
        .expect(204);
    plain(&root, json!({"policies": ["dev"]}));
    let group = root
        .post(
            "identity/group",
            json!({"name": "admirals", "member_entity_ids": [entity]}),
        )
        .data()["id"]
        .clone();

    let reply = root.get(EXPORT).expect(200);
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let name = reply.header("content-disposition").unwrap();
    assert!(
        name.starts_with("attachment; filename=\"activity_export_20"),
        "{name}"
    );
    let rows: Vec<Value> = body_of(&reply)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let row = |id_is: &dyn Fn(&str) -> bool| {
        let of = |row: &&Value| id_is(row["client_id"].as_str().unwrap());
        rows.iter().find(of).unwrap()
    };
    let shown = row(&|id| id == entity);
    let accessor = &root.get("sys/auth").data()["userpass/"]["accessor"];
    for (field, value) in [
        ("client_type", json!("entity")),
        ("entity_name", json!("Grace, \"Amazing\"")),
        ("entity_alias_name", json!("grace")),
        ("local_entity_alias", json!(false)),
        ("namespace_id", json!("root")),
        ("mount_accessor", accessor.clone()),
        ("mount_path", json!("auth/userpass/")),
        ("mount_type", json!("userpass")),
        ("policies", json!(["ops"])),
        ("entity_metadata", json!({"team": "=navy"})),
        ("entity_alias_metadata", json!({"username": "grace"})),
        ("entity_alias_custom_metadata", json!({})),
        ("entity_group_ids", json!([group])),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    let other = row(&|id| id.len() == 64);
    assert_eq!(
        (
            &other["client_type"],
            &other["policies"],
            &other["mount_path"]
        ),
        (
            &json!("non-entity-token"),
            &json!(["default", "dev"]),
            &json!("auth/token/")
        )
    );

    let reply = root.get(&format!("{EXPORT}?format=csv")).expect(200);
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/csv")
    );
    let csv = body_of(&reply);
    let mut lines = csv.lines();
    assert_eq!(
        lines.next().unwrap(),
        "entity_name,entity_alias_name,client_id,client_type,local_entity_alias,namespace_id,namespace_path,\
         mount_accessor,mount_path,mount_type,timestamp,entity_alias_metadata.username,entity_metadata.team,\
         entity_group_ids.0,policies.0,policies.1"
    );
    let line = lines.clone().find(|line| line.contains(entity)).unwrap();
    assert!(
        line.starts_with("\"Grace, \"\"Amazing\"\"\",grace,"),
        "{line}"
    );
    let group = group.as_str().unwrap();
    assert!(
        line.ends_with(&format!("Z,grace,'=navy,{group},ops,")),
        "{line}"
    );
    assert_eq!(lines.count(), 2);

    // It tells of everybody: `read` is not enough.
    let rules = json!({"policy": "path \"sys/internal/counters/*\" { capabilities = [\"read\"] }"});
    root.post("sys/policies/acl/reader", rules).expect(204);
    let reader = plain(&root, json!({"policies": ["reader"]}));
    reader.get(EXPORT).expect(403);
    reader.get(ACTIVITY).expect(200);
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs storage that lasts")]
fn counts_outlast_a_stop_at_once_and_a_crash_a_moment_later() {
    let server = with_users(ServerOptions::on_disk());
    let root = server.root();
    for n in 0..20 {
        plain(&root, json!({"policies": [format!("p{n}")]}));
    }
    // Told to stop in the same moment.
    assert!(server.terminate().success());
    server.start_again();
    server.unseal();
    assert_eq!(counts(&root), (0, 20));
    plain(&root, json!({"policies": ["sealed"]}));
    root.post("sys/seal", json!({})).expect(204);
    server.unseal();
    assert_eq!(counts(&root), (0, 21));
    plain(&root, json!({"policies": ["late"]}));
    // Longer than the writer waits.
    std::thread::sleep(std::time::Duration::from_secs(3));
    server.crash_and_restart();
    server.unseal();
    assert_eq!(counts(&root), (0, 22));
    // Who was counted before is not counted again.
    plain(&root, json!({"policies": ["late"]}));
    assert_eq!(counts(&root), (0, 22));
}

#[test]
fn nobody_is_counted_while_it_is_switched_off() {
    let server = with_users(ServerOptions::default());
    let root = server.root();
    let client = plain(&root, json!({"policies": ["dev"]}));
    assert_eq!(counts(&root), (0, 1));
    let reply = root.post(CONFIG, json!({"enabled": "disable"})).expect(200);
    assert!(reply.warnings()[0].contains("present month"), "{reply:?}");
    root.get(MONTHLY).expect(204);
    client.get("auth/token/lookup-self").expect(200);
    plain(&root, json!({"policies": ["ops"]}));
    user(&root, "grace", json!({}));
    login(&root, "grace");
    root.get(MONTHLY).expect(204);
    assert_eq!(root.get(CONFIG).data()["enabled"], "disable");

    root.post(CONFIG, json!({"enabled": "enable"})).expect(204);
    assert_eq!(root.get(CONFIG).data()["enabled"], "enable");
    root.get(MONTHLY).expect(204);
    client.get("auth/token/lookup-self").expect(200);
    assert_eq!(counts(&root), (0, 1));
}

#[test]
fn the_configuration_keeps_within_vaults_bounds() {
    let server = with_users(ServerOptions::default());
    let root = server.root();
    let months = || root.get(CONFIG).data()["retention_months"].clone();
    root.post(CONFIG, json!({"retention_months": "54"}))
        .expect(204);
    assert_eq!(months(), 54);
    let reply = root
        .post(CONFIG, json!({"retention_months": 61}))
        .expect(200);
    assert!(reply.warnings()[0].contains("60"), "{reply:?}");
    assert_eq!(months(), 60);
    let reply = root
        .post(CONFIG, json!({"default_report_months": 6}))
        .expect(200);
    assert!(reply.warnings()[0].contains("deprecated"), "{reply:?}");
    for (wrong, field) in [
        (json!({"retention_months": 0}), "retention_months"),
        (json!({"retention_months": -1}), "retention_months"),
        (json!({"enabled": "on"}), "enabled"),
        (
            json!({"default_report_months": 0, "retention_months": 12}),
            "default_report_months",
        ),
    ] {
        let reply = root.post(CONFIG, wrong).expect(400);
        assert!(reply.errors()[0].contains(field), "{reply:?}");
        assert_eq!(months(), 60);
    }
    root.post(CONFIG, json!({"enabled": "disable", "retention_months": 0}))
        .expect(200);
    assert_eq!(months(), 0);
    root.without_token().post(CONFIG, json!({})).expect(403);
}

/// Of an answer that came in chunks (RFC 9112, section 7.1).
fn body_of(reply: &obol_tests::Reply) -> String {
    if reply.header("transfer-encoding") != Some("chunked") {
        return reply.text();
    }
    let (mut rest, mut body) = (&reply.body[..], Vec::new());
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return String::from_utf8(body).unwrap();
        }
        body.extend(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}
