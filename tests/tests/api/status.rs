//! What clients and user interfaces ask about a server.

use obol_tests::{Server, ServerOptions};
use serde_json::json;

use super::holders;

#[test]
fn a_single_server_says_so() {
    let server = holders(1, 1);
    let root = server.root();
    let nodes = &root.get("sys/ha-status").data()["nodes"];
    assert_eq!(nodes.as_array().unwrap().len(), 1);
    assert_eq!(
        (&nodes[0]["active_node"], &nodes[0]["last_echo"]),
        (&json!(true), &json!(null))
    );
    let leader = server.client().get("sys/leader").expect(200).json();
    assert_eq!(nodes[0]["api_address"], leader["leader_address"]);
    let replication = server.client().get("sys/replication/status").data();
    assert_eq!(replication["mode"], "disabled");
    assert_eq!(replication["dr"]["mode"], "disabled");
    server.client().get("sys/ha-status").expect(403);
}

#[test]
fn the_machine_is_described() {
    let server = holders(1, 1);
    let info = server.root().get("sys/host-info").data();
    assert!(info["timestamp"].as_str().unwrap().contains('T'));
    assert_eq!(info["host"]["os"], "linux");
    assert!(!info["host"]["hostname"].as_str().unwrap().is_empty());
    assert!(info["host"]["uptime"].as_u64().unwrap() > 0);
    let memory = &info["memory"];
    assert!(memory["total"].as_u64().unwrap() > memory["used"].as_u64().unwrap());
    let cpus = info["cpu"].as_array().unwrap().len();
    assert!(cpus > 0);
    assert_eq!(info["cpu_times"].as_array().unwrap().len(), cpus);
    assert!(info["cpu_times"][0]["user"].as_f64().unwrap() > 0.0);
    server.client().get("sys/host-info").expect(403);
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs storage that lasts")]
fn the_versions_that_ran_are_remembered() {
    let server = Server::ready(ServerOptions::on_disk());
    let root = server.root();
    let history = root.list("sys/version-history").data();
    let version = root.get("sys/health").json()["version"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(history["keys"], json!([version]));
    let info = &history["key_info"][&version];
    assert_eq!(info["previous_version"], json!(null));
    assert!(info["timestamp_installed"].as_str().unwrap().ends_with('Z'));
    server.crash_and_restart();
    assert_eq!(root.list("sys/version-history").data(), history);
    server.client().list("sys/version-history").expect(403);
}

#[test]
fn the_configuration_is_shown_without_anything_secret() {
    let server = Server::ready(ServerOptions {
        config: "max_lease_ttl = \"2h\"\ndefault_lease_ttl = \"1h\"\ncluster_name = \"blue\""
            .into(),
        ..ServerOptions::on_disk()
    });
    let shown = json!(server.root().get("sys/config/state/sanitized").data());
    assert_eq!(
        (&shown["max_lease_ttl"], &shown["default_lease_ttl"]),
        (&json!(7200), &json!(3600))
    );
    assert_eq!(shown["cluster_name"], "blue");
    assert_eq!(shown["storage"], json!({"type": "rocksdb"}));
    assert_eq!(shown["seals"][0]["type"], "shamir");
    let listener = &shown["listeners"][0];
    assert_eq!(
        (&listener["type"], &listener["config"]["tls_disable"]),
        (&json!("tcp"), &json!(true))
    );
    let text = shown.to_string();
    assert!(
        !text.contains(server.data_dir().to_str().unwrap()),
        "{text}"
    );
    server
        .client()
        .get("sys/config/state/sanitized")
        .expect(403);
}

#[test]
fn tokens_and_entities_are_counted() {
    let server = holders(1, 1);
    let root = server.root();
    let tokens = || {
        let counters = root.get("sys/internal/counters/tokens").data();
        counters["counters"]["service_tokens"]["total"]
            .as_u64()
            .unwrap()
    };
    let before = tokens();
    for _ in 0..3 {
        root.post("auth/token/create", json!({})).client_token();
    }
    assert_eq!(tokens(), before + 3);
    let entities = || {
        let counters = root.get("sys/internal/counters/entities").data();
        counters["counters"]["entities"]["total"].as_u64().unwrap()
    };
    assert_eq!(entities(), 0);
    root.post("identity/entity", json!({"name": "grace"}))
        .expect(200);
    assert_eq!(entities(), 1);
    server
        .client()
        .get("sys/internal/counters/tokens")
        .expect(403);
}

#[test]
fn the_catalog_lists_what_can_be_mounted_and_takes_nothing_in() {
    let server = holders(1, 1);
    let root = server.root();
    let all = root.get("sys/plugins/catalog").data();
    let has = |list: &str, name: &str| all[list].as_array().unwrap().contains(&json!(name));
    assert!(has("auth", "kerberos") && has("secret", "kv"));
    assert_eq!(all["database"], json!([]));
    let detailed = all["detailed"].as_array().unwrap();
    let kv = detailed.iter().find(|one| one["name"] == "kv").unwrap();
    assert_eq!(
        (&kv["type"], &kv["builtin"]),
        (&json!("secret"), &json!(true))
    );
    assert!(
        root.list("sys/plugins/catalog/auth")
            .keys()
            .contains(&"kerberos".to_owned())
    );
    root.list("sys/plugins/catalog/database").expect(404);
    root.list("sys/plugins/catalog/nothing").expect(400);
    let kv = root.get("sys/plugins/catalog/secret/kv").data();
    assert_eq!(
        (&kv["name"], &kv["builtin"], &kv["sha256"]),
        (&json!("kv"), &json!(true), &json!(""))
    );
    root.get("sys/plugins/catalog/auth/kv").expect(404);
    // Whatever is mounted is in it.
    for mount in root.get("sys/mounts").data().values() {
        let kind = mount["type"].as_str().unwrap();
        assert!(
            ["system", "identity"].contains(&kind) || has("secret", kind),
            "{kind}"
        );
    }
    let reply = root
        .post(
            "sys/plugins/catalog/secret/own",
            json!({"command": "own", "sha256": "00"}),
        )
        .expect(400);
    assert!(reply.text().contains("not supported"), "{}", reply.text());
    root.delete("sys/plugins/catalog/secret/kv").expect(400);
    root.post("sys/plugins/reload/backend", json!({"plugin": "kv"}))
        .expect(400);
    server.client().get("sys/plugins/catalog").expect(403);
}
