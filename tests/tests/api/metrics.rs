//! `sys/metrics`: read by Prometheus' own parser, with the names that a dashboard for Vault asks for.

use obol_tests::clients::python_reading;
use obol_tests::wait::eventually;
use obol_tests::{Client, Server, ServerOptions};
use serde_json::{Value, json};

use super::holders;

const PARSE: &str = r#"
import json, sys
from prometheus_client.parser import text_string_to_metric_families

families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.name not in families, family.name
    assert family.documentation, family.name
    families[family.name] = {
        "type": family.type,
        "samples": {
            sample.name + json.dumps(sample.labels, sort_keys=True): sample.value if sample.value == sample.value else None
            for sample in family.samples
        },
    }
json.dump(families, sys.stdout)
"#;

fn text(client: &Client) -> String {
    let reply = client.get("sys/metrics?format=prometheus").expect(200);
    assert_eq!(
        reply.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    reply.text()
}

/// As Prometheus' own client for Python reads it.
fn parsed(client: &Client) -> Value {
    python_reading(PARSE, &text(client)).ok().json()
}

fn sample(families: &Value, family: &str, sample: &str) -> f64 {
    families[family]["samples"][sample]
        .as_f64()
        .unwrap_or_else(|| panic!("no {sample} in {}", families[family]))
}

#[test]
fn prometheus_own_parser_finds_what_a_dashboard_for_vault_asks_for() {
    let server = holders(1, 1);
    let root = server.root();
    root.post(
        "sys/mounts/team/kv",
        json!({"type": "kv", "options": {"version": "2"}}),
    )
    .expect(204);
    for _ in 0..20 {
        root.post("team/kv/data/a", json!({"data": {"v": 1}}))
            .expect(200);
        root.get("team/kv/data/a").expect(200);
    }
    let first = parsed(&root);
    for (family, kind) in [
        ("vault_core_unsealed", "gauge"),
        ("vault_core_active", "gauge"),
        ("vault_core_handle_request", "summary"),
        ("vault_core_handle_login_request", "summary"),
        ("vault_core_mount_table_num_entries", "gauge"),
        ("vault_audit_log_request", "summary"),
        ("vault_audit_log_response", "summary"),
        ("vault_audit_log_request_failure", "counter"),
        ("vault_audit_log_response_failure", "counter"),
        ("vault_barrier_get", "summary"),
        ("vault_barrier_put", "summary"),
        ("vault_barrier_list", "summary"),
        ("vault_barrier_estimated_encryptions", "gauge"),
        ("vault_route_read_team_kv_", "summary"),
        ("vault_route_update_sys_", "summary"),
        ("vault_runtime_alloc_bytes", "gauge"),
        ("vault_runtime_sys_bytes", "gauge"),
        ("vault_runtime_num_goroutines", "gauge"),
        ("obol_commit_values", "counter"),
        ("obol_kerberos_logins", "counter"),
    ] {
        assert_eq!(first[family]["type"], kind, "{family}: {}", first[family]);
    }
    assert_eq!(
        sample(
            &first,
            "vault_core_unsealed",
            r#"vault_core_unsealed{"cluster": "obol"}"#
        ),
        1.0
    );
    let count = |families: &Value| {
        sample(
            families,
            "vault_core_handle_request",
            "vault_core_handle_request_count{}",
        )
    };
    assert!(count(&first) >= 41.0);
    let reads = sample(
        &first,
        "vault_route_read_team_kv_",
        "vault_route_read_team_kv__count{}",
    );
    assert_eq!(reads, 20.0);
    // Quantiles of milliseconds: the median is no more than the most, and less than a second.
    let quantile = |share: &str| {
        let name = format!(r#"vault_core_handle_request{{"quantile": "{share}"}}"#);
        sample(&first, "vault_core_handle_request", &name)
    };
    assert!(0.0 < quantile("0.5") && quantile("0.5") <= quantile("0.99"));
    assert!(quantile("0.5") < 1000.0);
    let sum = sample(
        &first,
        "vault_core_handle_request",
        "vault_core_handle_request_sum{}",
    );
    assert!(sum > 0.0 && sum < 60_000.0, "{sum}");
    assert!(
        sample(
            &first,
            "vault_runtime_alloc_bytes",
            "vault_runtime_alloc_bytes{}"
        ) > 1e6
    );
    // Counters go on.
    let second = parsed(&root);
    assert_eq!(count(&second), count(&first) + 1.0);
    // What a mount counted goes with it to another path, and away with it.
    root.delete("sys/mounts/team/kv").expect(204);
    assert_eq!(parsed(&root)["vault_route_read_team_kv_"], Value::Null);
}

#[test]
fn the_same_comes_as_json_in_vaults_shape() {
    let server = holders(1, 1);
    let root = server.root();
    root.get("sys/mounts").expect(200);
    let all = root.get("sys/metrics").expect(200).json();
    assert!(all["Timestamp"].as_str().unwrap().ends_with("+0000 UTC"));
    let find = |list: &str, name: &str| {
        let list = all[list].as_array().unwrap().iter();
        list.clone()
            .find(|one| one["Name"] == name)
            .unwrap_or_else(|| panic!("no {name}"))
            .clone()
    };
    assert_eq!(find("Gauges", "vault.core.unsealed")["Value"], 1.0);
    assert_eq!(
        find("Gauges", "vault.core.unsealed")["Labels"],
        json!({"cluster": "obol"})
    );
    assert!(
        find("Samples", "vault.core.handle_request")["Count"]
            .as_u64()
            .unwrap()
            >= 1
    );
    assert_eq!(
        find("Counters", "vault.audit.log_request_failure")["Count"],
        0
    );
    root.get("sys/metrics?format=xml").expect(400);
    root.request("GET", "sys/metrics?format=prometheus")
        .header("X-Vault-Wrap-TTL", "60s")
        .send()
        .expect(400);
}

#[test]
fn metrics_need_a_token_except_where_the_listener_shows_them_to_all() {
    let server = holders(1, 1);
    server
        .client()
        .get("sys/metrics?format=prometheus")
        .expect(403);
    let token = server
        .root()
        .post("auth/token/create", json!({"policies": ["default"]}))
        .client_token();
    let weak = server.client().with_token(token);
    weak.get("sys/metrics?format=prometheus").expect(403);

    let open = Server::ready(ServerOptions {
        listener: "telemetry {\n unauthenticated_metrics_access = true\n}".into(),
        ..ServerOptions::default()
    });
    assert!(parsed(&open.client())["vault_core_unsealed"].is_object());
    open.client().get("sys/metrics").expect(200);
    // Nothing else, and no other way to write it.
    open.client().get("sys/mounts").expect(403);
    open.client().post("sys/metrics", json!({})).expect(405);
    assert_ne!(open.client().get("sys//metrics").status, 200);
    assert_ne!(open.client().get("sys/metrics/").status, 500);
}

#[test]
fn prometheus_is_turned_off_by_a_retention_time_of_zero() {
    let server = Server::ready(ServerOptions {
        config: "telemetry {\n prometheus_retention_time = \"0s\"\n disable_hostname = true\n}"
            .into(),
        ..ServerOptions::default()
    });
    let reply = server
        .root()
        .get("sys/metrics?format=prometheus")
        .expect(400);
    assert!(reply.text().contains("not enabled"), "{}", reply.text());
    server.root().get("sys/metrics").expect(200);
}

#[test]
fn tokens_are_counted_once_in_a_period() {
    let server = Server::ready(ServerOptions {
        config: "telemetry {\n usage_gauge_period = \"1s\"\n}".into(),
        ..ServerOptions::default()
    });
    let root = server.root();
    for _ in 0..5 {
        root.post("auth/token/create", json!({})).client_token();
    }
    eventually("the tokens are counted", || {
        let families = parsed(&root);
        let total = families["vault_token_count"]["samples"]["vault_token_count{}"].as_f64()?;
        let tokens = &families["vault_token_count_by_auth"]["samples"][r#"vault_token_count_by_auth{"auth_method": "token"}"#];
        (total == 6.0 && tokens.as_f64() == Some(6.0)).then_some(())
    });
}

#[test]
fn audit_full_is_counted_before_anybody_looks_at_the_log() {
    let server = holders(1, 1);
    let root = server.root();
    let file = server.dir().join("audit.log");
    let device = json!({"type": "file", "options": {"file_path": file}});
    root.post("sys/audit/file", device).expect(204);
    root.get("sys/mounts").expect(200);
    let families = parsed(&root);
    let recorded = sample(
        &families,
        "vault_audit_log_request",
        "vault_audit_log_request_count{}",
    );
    assert!(recorded >= 2.0, "{recorded}");
    let failures = |families: &Value| {
        let family = "vault_audit_log_request_failure";
        sample(families, family, &format!("{family}_total{{}}"))
    };
    assert_eq!(failures(&families), 0.0);
}
