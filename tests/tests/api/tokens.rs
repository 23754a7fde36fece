//! `auth/token` in full: roles, aliases, bounds, batch tokens, large families, tidying.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, SystemTime};

use obol_tests::{Client, Server, ServerOptions, holds};
use serde_json::{Map, Value, json};

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::ready(ServerOptions::default()))
}

fn root() -> Client {
    server().root()
}

fn role(name: &str, body: Value) {
    root()
        .post(&format!("auth/token/roles/{name}"), body)
        .expect(204);
}

/// A client that may create tokens by any role, and nothing else.
fn caller(name: &str) -> Client {
    let rule = "path \"auth/token/create/*\" { capabilities = [\"update\"] }\npath \"auth/token/create\" { capabilities = [\"update\"] }";
    let policy = format!("sys/policies/acl/caller-{name}");
    root().put(&policy, json!({ "policy": rule })).expect(204);
    let body = json!({"policies": [format!("caller-{name}")]});
    let token = root().post("auth/token/create", body).client_token();
    root().with_token(token)
}

fn by(client: &Client, role: &str, body: Value) -> Value {
    client
        .post(&format!("auth/token/create/{role}"), body)
        .auth()
}

fn refused(client: &Client, role: &str, body: Value, says: &str) {
    let reply = client.post(&format!("auth/token/create/{role}"), body.clone());
    assert_eq!(reply.status, 400, "{body}: {}", reply.text());
    assert!(
        reply.errors()[0].contains(says),
        "{body}: {:?}",
        reply.errors()
    );
}

fn look(token: &Value) -> Map<String, Value> {
    root()
        .post("auth/token/lookup", json!({ "token": token }))
        .data()
}

fn lives(client: &Client) -> bool {
    client.get("auth/token/lookup-self").status == 200
}

#[test]
fn a_role_is_written_in_parts_read_listed_and_deleted() {
    role(
        "parts",
        json!({"allowed_policies": "Dev,web", "token_period": "1h"}),
    );
    role("parts", json!({"path_suffix": "v2", "orphan": true}));
    let read = root().get("auth/token/roles/parts").data();
    assert_eq!(read["allowed_policies"], json!(["dev", "web"]));
    assert_eq!(
        (&read["name"], &read["orphan"], &read["path_suffix"]),
        (&json!("parts"), &json!(true), &json!("v2"))
    );
    assert_eq!(
        (&read["period"], &read["token_period"], &read["renewable"]),
        (&json!(3600), &json!(3600), &json!(true))
    );
    assert_eq!(read["token_type"], "default-service");
    let older = root().post("auth/token/roles/parts", json!({"explicit_max_ttl": "2h"}));
    assert!(older.warnings()[0].contains("token_explicit_max_ttl"));
    let read = root().get("auth/token/roles/parts").data();
    assert_eq!(read["explicit_max_ttl"], 7200);
    assert!(
        root()
            .list("auth/token/roles")
            .keys()
            .contains(&"parts".to_owned())
    );
    root().delete("auth/token/roles/parts").expect(204);
    root().get("auth/token/roles/parts").expect(404);
    root()
        .post("auth/token/create/parts", json!({}))
        .expect(400);
    for (body, says) in [
        (json!({"allowed_policies": "root"}), "allowed_policies"),
        (json!({"path_suffix": "a/b"}), "path_suffix"),
        (json!({"token_bound_cidrs": "nowhere"}), "token_bound_cidrs"),
        (json!({"token_type": "eternal"}), "token_type"),
        (
            json!({"token_type": "batch", "token_num_uses": 3}),
            "token_type",
        ),
        (
            json!({"token_type": "batch", "token_period": "1h"}),
            "token_type",
        ),
        (json!({"token_period": "soon"}), "token_period"),
    ] {
        let reply = root().post("auth/token/roles/wrong", body.clone());
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.errors()[0].contains(says), "{:?}", reply.errors());
    }
    root().get("auth/token/roles/wrong").expect(404);
    root().post("auth/token/roles/a%20b", json!({})).expect(400);
}

#[test]
fn policy_name_case_a_role_gives_what_its_lists_say_in_every_spelling() {
    let caller = caller("lists");
    role("allowed", json!({"allowed_policies": ["dev", "web"]}));
    assert_eq!(
        by(&caller, "allowed", json!({}))["policies"],
        json!(["default", "dev", "web"])
    );
    assert_eq!(
        by(&caller, "allowed", json!({"policies": ["DEV"]}))["policies"],
        json!(["default", "dev"])
    );
    let bare = by(
        &caller,
        "allowed",
        json!({"policies": ["dev"], "no_default_policy": true}),
    );
    assert_eq!(bare["policies"], json!(["dev"]));
    refused(&caller, "allowed", json!({"policies": ["ops"]}), "subset");

    role(
        "globs",
        json!({"allowed_policies_glob": ["Team-*", "*"], "disallowed_policies_glob": "team-*-admin", "disallowed_policies": ["default", "ROOT"]}),
    );
    assert_eq!(
        by(&caller, "globs", json!({"policies": ["team-a", "X"]}))["policies"],
        json!(["team-a", "x"])
    );
    refused(
        &caller,
        "globs",
        json!({"policies": ["Team-A-Admin"]}),
        "disallowed",
    );
    refused(
        &caller,
        "globs",
        json!({"policies": ["default"]}),
        "disallowed",
    );
    // A star matches root, and still nobody but root makes root.
    role("star", json!({"allowed_policies_glob": "*"}));
    for spelling in [
        "root",
        "Root",
        "ROOT",
        " root",
        "root ",
        "root\u{0}",
        "ro\u{200b}ot",
        "root/",
    ] {
        let body = json!({"policies": [spelling]});
        caller
            .post("auth/token/create/star", body.clone())
            .expect(400);
        caller.post("auth/token/create/globs", body).expect(400);
    }
    for list in [
        "allowed_policies",
        "allowed_policies_glob",
        "disallowed_policies_glob",
    ] {
        for smuggled in [" dev", "dev\u{0}", "d\u{200b}ev", "dev/x"] {
            let reply = root().post("auth/token/roles/smuggled", json!({list: [smuggled]}));
            assert_eq!(reply.status, 400, "{list} {smuggled:?}");
            assert!(reply.errors()[0].contains(list), "{:?}", reply.errors());
        }
    }
    // Without lists, the caller's own policies are the limit.
    role("plain", json!({"orphan": true}));
    refused(&caller, "plain", json!({"policies": ["ops"]}), "subset");
    assert_eq!(
        by(&caller, "plain", json!({}))["policies"],
        json!(["caller-lists", "default"])
    );
    role(
        "none",
        json!({"allowed_policies": "dev", "token_no_default_policy": true}),
    );
    assert_eq!(by(&caller, "none", json!({}))["policies"], json!(["dev"]));
}

#[test]
fn a_role_sets_parent_path_bounds_and_ends() {
    let caller = caller("bounds");
    role(
        "bounds",
        json!({
            "allowed_policies": "dev", "orphan": true, "path_suffix": "v1", "token_explicit_max_ttl": "1h",
            "token_num_uses": 5, "token_bound_cidrs": ["10.0.0.0/8"], "renewable": false,
        }),
    );
    let body = json!({"ttl": "5h", "num_uses": 9, "explicit_max_ttl": "30m", "bound_cidrs": "10.1.0.0/16"});
    let made = by(&caller, "bounds", body);
    let seen = look(&made["client_token"]);
    assert_eq!(
        (&seen["path"], &seen["role"], &seen["orphan"]),
        (
            &json!("auth/token/create/bounds/v1"),
            &json!("bounds"),
            &json!(true)
        )
    );
    assert_eq!(
        (
            &seen["num_uses"],
            &seen["explicit_max_ttl"],
            &seen["renewable"]
        ),
        (&json!(5), &json!(1800), &json!(false))
    );
    assert_eq!(seen["bound_cidrs"], json!(["10.1.0.0/16"]));
    assert!(seen["ttl"].as_u64().unwrap() <= 1800);
    refused(
        &caller,
        "bounds",
        json!({"bound_cidrs": "192.168.0.0/16"}),
        "bound_cidrs",
    );
    let lists = root()
        .list("sys/leases/lookup/auth/token/create/bounds/v1")
        .keys();
    assert_eq!(lists.len(), 1);
    root()
        .post(
            "sys/leases/revoke-prefix/auth/token/create/bounds",
            json!({}),
        )
        .expect(204);
    root()
        .post("auth/token/lookup", json!({"token": made["client_token"]}))
        .expect(403);

    // Bounds pass on to children, which cannot free themselves of them.
    let body = json!({"policies": ["caller-bounds"], "bound_cidrs": ["127.0.0.0/8", "::1/128"]});
    let bound = root().post("auth/token/create", body).client_token();
    let bound = root().with_token(bound);
    let child = bound.post("auth/token/create", json!({})).auth();
    assert_eq!(
        look(&child["client_token"])["bound_cidrs"],
        json!(["127.0.0.0/8", "::1/128"])
    );
    bound
        .post("auth/token/create", json!({"bound_cidrs": "0.0.0.0/0"}))
        .expect(400);
}

#[test]
fn renewals_keep_to_what_the_role_says_now() {
    role("moves", json!({"token_period": "10m"}));
    let token = by(&root(), "moves", json!({"policies": ["default"]}));
    assert_eq!(token["lease_duration"], 600);
    let client = root().with_token(token["client_token"].as_str().unwrap());
    let renew = || client.post("auth/token/renew-self", json!({"increment": "5h"}));
    assert_eq!(renew().auth()["lease_duration"], 600);
    role("moves", json!({"token_period": "5m"}));
    assert_eq!(renew().auth()["lease_duration"], 300);
    role("moves", json!({"token_explicit_max_ttl": "100s"}));
    assert!(renew().auth()["lease_duration"].as_u64().unwrap() <= 100);
    role("moves", json!({"renewable": false}));
    renew().expect(400);
    root().delete("auth/token/roles/moves").expect(204);
    let reply = renew();
    assert_eq!(reply.status, 400);
    assert!(reply.errors()[0].contains("moves"), "{:?}", reply.errors());
    assert!(lives(&client), "it lives until its end");
}

#[test]
fn an_entity_alias_makes_the_token_its_entitys() {
    let caller = caller("alias");
    role(
        "alias",
        json!({"allowed_policies": "default", "allowed_entity_aliases": ["Web-*", "grace"], "orphan": true}),
    );
    let one = by(&caller, "alias", json!({"entity_alias": "web-1"}));
    let entity = one["entity_id"].as_str().unwrap();
    assert!(!entity.is_empty());
    // threats: alias-case.
    let again = by(&caller, "alias", json!({"entity_alias": "WEB-1"}));
    assert_eq!(again["entity_id"], entity);
    let grace = by(&caller, "alias", json!({"entity_alias": "grace"}));
    assert_ne!(grace["entity_id"], entity);
    refused(
        &caller,
        "alias",
        json!({"entity_alias": "joan"}),
        "entity_alias",
    );
    caller
        .post("auth/token/create", json!({"entity_alias": "web-1"}))
        .expect(400);
    let batch = by(
        &caller,
        "alias",
        json!({"entity_alias": "web-1", "type": "batch"}),
    );
    assert_eq!(batch["entity_id"], entity);
}

#[test]
fn batch_token_escalation_a_roles_batch_tokens_have_no_more_than_others() {
    let caller = caller("batch");
    role(
        "batch",
        json!({"allowed_policies": "default", "token_type": "batch", "orphan": true, "renewable": false}),
    );
    for unfit in [
        json!({"token_type": "batch"}),
        json!({"token_type": "batch", "orphan": true}),
        json!({"token_type": "batch", "orphan": true, "renewable": false, "token_explicit_max_ttl": "1h"}),
    ] {
        let reply = root().post("auth/token/roles/unfit", unfit).expect(400);
        assert!(
            reply.text().contains("batch tokens have no parent"),
            "{}",
            reply.text()
        );
    }
    let made = by(&caller, "batch", json!({"type": "service", "ttl": "1h"}));
    assert_eq!(
        (&made["token_type"], &made["renewable"], &made["accessor"]),
        (&json!("batch"), &json!(false), &json!(""))
    );
    for body in [
        json!({"num_uses": 1}),
        json!({"policies": ["root"]}),
        json!({"explicit_max_ttl": "1h"}),
    ] {
        caller.post("auth/token/create/batch", body).expect(400);
    }
    root()
        .post("auth/token/create/batch", json!({"period": "1h"}))
        .expect(400);
    role(
        "either",
        json!({"allowed_policies": "default", "token_type": "default-batch"}),
    );
    assert_eq!(by(&caller, "either", json!({}))["token_type"], "batch");
    assert_eq!(
        by(&caller, "either", json!({"type": "service"}))["token_type"],
        "service"
    );
    // It ends with its parent, and with its parent's parent.
    let rule = "path \"auth/token/create\" { capabilities = [\"update\"] }";
    root()
        .put("sys/policies/acl/breeds", json!({"policy": rule}))
        .expect(204);
    let top = root().with_token(
        root()
            .post("auth/token/create", json!({"policies": ["breeds"]}))
            .client_token(),
    );
    let middle = root().with_token(top.post("auth/token/create", json!({})).client_token());
    let batch = root().with_token(
        middle
            .post("auth/token/create", json!({"type": "batch", "ttl": "1h"}))
            .client_token(),
    );
    assert!(lives(&batch));
    root()
        .post("auth/token/revoke", json!({"token": top.token()}))
        .expect(204);
    assert!(!lives(&batch) && !lives(&middle));
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_batch_token_is_made_without_a_write() {
    /// Each file, and when it was written to. Its length says less: there is room in the log for what is to come.
    fn written(dir: &Path, files: &mut BTreeMap<PathBuf, SystemTime>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.metadata() {
                Ok(data) if data.is_dir() => written(&entry.path(), files),
                // RocksDB's own log of what it does is no data.
                Ok(_) if entry.file_name().to_string_lossy().starts_with("LOG") => {}
                Ok(data) => {
                    files.insert(entry.path(), data.modified().unwrap());
                }
                Err(_) => {}
            }
        }
    }
    let look = |server: &Server| {
        let mut files = BTreeMap::new();
        written(&server.data_dir(), &mut files);
        files
    };
    let server = Server::ready(ServerOptions::on_disk());
    let root = server.root();
    let body = json!({"type": "batch", "ttl": "1h", "policies": ["default"]});
    root.post("auth/token/create", body.clone()).expect(200);
    let mut before = look(&server);
    holds("the server is quiet", || {
        thread::sleep(Duration::from_millis(300));
        let was = std::mem::replace(&mut before, look(&server));
        was == before
    });
    for _ in 0..50 {
        root.post("auth/token/create", body.clone()).expect(200);
    }
    assert_eq!(look(&server), before);
    root.post("auth/token/create", json!({"ttl": "1h"}))
        .expect(200);
    assert_ne!(look(&server), before, "what is looked at shows writes");
}

#[test]
fn child_outlives_parent_none_of_thousands_of_children_is_let_in_once_revoke_has_answered() {
    let rule = "path \"auth/token/create\" { capabilities = [\"update\"] }";
    root()
        .put("sys/policies/acl/many", json!({"policy": rule}))
        .expect(204);
    let parent = root()
        .post("auth/token/create", json!({"policies": ["many"]}))
        .client_token();
    let parent = root().with_token(parent);
    let children: Vec<Client> = thread::scope(|scope| {
        let makers: Vec<_> = (0..32)
            .map(|n| {
                let parent = &parent;
                scope.spawn(move || {
                    let mut made = Vec::new();
                    for i in 0..80 {
                        let child = parent.post("auth/token/create", json!({})).client_token();
                        let child = parent.with_token(child);
                        if (n + i) % 10 == 0 {
                            let below = child.post("auth/token/create", json!({})).client_token();
                            made.push(child.with_token(below));
                        }
                        made.push(child);
                    }
                    made
                })
            })
            .collect();
        makers.into_iter().flat_map(|m| m.join().unwrap()).collect()
    });
    root()
        .post("auth/token/revoke", json!({"token": parent.token()}))
        .expect(204);
    // From the last to the first: those that are removed last are asked first.
    thread::scope(|scope| {
        for part in children.rchunks(200) {
            scope.spawn(move || {
                for child in part.iter().rev() {
                    assert!(!lives(child));
                }
            });
        }
    });
    holds("all of them are gone", || {
        root().list("auth/token/accessors").keys().len() < 1000
    });
    holds("nothing is left to remove", || {
        let from = server().log().len();
        root().post("auth/token/tidy", json!({}));
        server()
            .await_log(from, "tokens were tidied")
            .contains("revoked=0")
    });
}

#[test]
fn a_renewal_that_asks_for_nothing_gives_the_tokens_own_ttl() {
    let make = |body: Value| root().post("auth/token/create", body).auth();
    let renewed = |token: &Value, body: Value| {
        let client = root().with_token(token.as_str().unwrap());
        client.post("auth/token/renew-self", body).auth()["lease_duration"].clone()
    };
    let made = make(json!({"policies": ["default"], "ttl": "60s", "explicit_max_ttl": "1h"}));
    let token = &made["client_token"];
    for nothing in [json!({}), json!({"increment": 0}), json!({"increment": ""})] {
        assert_eq!(renewed(token, nothing), 60);
    }
    assert_eq!(renewed(token, json!({"increment": "10m"})), 600);
    // What an operator renews by accessor, likewise; also root's, which would live for a month.
    let root_of_a_minute = make(json!({"ttl": "60s"}));
    let accessor = json!({"accessor": root_of_a_minute["accessor"]});
    let reply = root().post("auth/token/renew-accessor", accessor);
    let body = reply.expect(200).json();
    assert_eq!(
        (&body["auth"]["lease_duration"], &body["warnings"]),
        (&json!(60), &Value::Null)
    );
}

#[test]
fn who_cleans_up_may_try_again_and_an_unknown_token_is_no_bad_login() {
    let made = root()
        .post("auth/token/create", json!({"policies": ["default"]}))
        .auth();
    let accessor = json!({"accessor": made["accessor"]});
    root()
        .post("auth/token/revoke-accessor", accessor.clone())
        .expect(204);
    let again = root()
        .post("auth/token/revoke-accessor", accessor)
        .expect(200);
    assert_eq!(
        again.json()["warnings"],
        json!(["there is no token with this accessor"])
    );
    let gone = json!({"token": made["client_token"]});
    root().post("auth/token/revoke", gone.clone()).expect(204);
    for path in ["auth/token/renew", "auth/token/revoke-orphan"] {
        root().post(path, gone.clone()).expect(400);
    }
    root().post("auth/token/lookup", gone).expect(403);
}

#[test]
fn a_lookup_that_names_no_token_shows_the_callers() {
    let caller = root()
        .post("auth/token/create", json!({"display_name": "me"}))
        .client_token();
    let client = root().with_token(caller);
    for reply in [
        client.get("auth/token/lookup"),
        client.post("auth/token/lookup", json!({})),
        client.post("auth/token/lookup", json!({"token": ""})),
    ] {
        assert_eq!(reply.data()["display_name"], "token-me");
    }
}

#[test]
fn metadata_is_taken_in_each_form_that_clients_send() {
    for (sent, kept) in [
        (
            json!({"build": 42, "for": "ci"}),
            json!({"build": "42", "for": "ci"}),
        ),
        (json!("a=b"), json!({"a": "b"})),
        (json!(["a=b", "c=d=e"]), json!({"a": "b", "c": "d=e"})),
        (json!(""), Value::Null),
    ] {
        let made = root()
            .post("auth/token/create", json!({"meta": sent}))
            .auth();
        assert_eq!(made["metadata"], kept);
    }
    for bad in [json!({"a": [1]}), json!({"a": true}), json!("a"), json!(1)] {
        root()
            .post("auth/token/create", json!({"meta": bad}))
            .expect(400);
    }
}

#[test]
fn a_new_token_comes_with_a_warning_where_it_is_not_what_was_asked_for() {
    role(
        "short",
        json!({"token_period": "30m", "token_explicit_max_ttl": "2h"}),
    );
    for (path, body, says) in [
        (
            "auth/token/create",
            json!({"policies": ["nosuch"]}),
            "there is no policy \"nosuch\"",
        ),
        (
            "auth/token/create",
            json!({"ttl": "10000h"}),
            "TTL of \"10000h\" exceeded the effective max_ttl, capped at \"768h\"",
        ),
        (
            "auth/token/create",
            json!({"period": "10000h"}),
            "period of \"10000h\" exceeded the effective max_ttl, capped at \"768h\"",
        ),
        (
            "auth/token/create/short",
            json!({"period": "20m"}),
            "period: of the request's and the role's, the lesser counts: 20m",
        ),
        (
            "auth/token/create/short",
            json!({"explicit_max_ttl": "3h"}),
            "explicit_max_ttl: of the request's and the role's, the lesser counts: 2h",
        ),
        (
            "auth/token/roles/long",
            json!({"token_explicit_max_ttl": "10000h"}),
            "exceeds the effective max_ttl",
        ),
        (
            "auth/token/roles/both",
            json!({"token_period": "1h", "period": "2h"}),
            "period was ignored",
        ),
    ] {
        let reply = root().post(path, body.clone()).expect(200);
        let warnings = reply.json()["warnings"].to_string().replace("\\\"", "\"");
        assert!(warnings.contains(says), "{body}: {warnings}");
    }
    let quiet = root().post(
        "auth/token/create",
        json!({"policies": ["default"], "ttl": "1h"}),
    );
    assert_eq!(quiet.json()["warnings"], Value::Null);
}

#[test]
fn default_is_given_by_those_alone_who_have_it() {
    let caller = caller("bare");
    let policies = json!({"policies": ["caller-bare"], "no_default_policy": true});
    let bare = root().post("auth/token/create", policies).client_token();
    let bare = root().with_token(bare);
    let reply = bare.post("auth/token/create", json!({"policies": ["default"]}));
    assert!(reply.expect(400).text().contains("subset"));
    let made = bare.post("auth/token/create", json!({})).auth();
    assert_eq!(made["policies"], json!(["caller-bare"]));
    let made = caller
        .post("auth/token/create", json!({"policies": ["default"]}))
        .auth();
    assert_eq!(made["policies"], json!(["default"]));
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs storage that lasts")]
fn auth_token_is_tuned_like_other_mounts_and_stays_so() {
    let server = Server::ready(ServerOptions::on_disk());
    let root = server.root();
    let tuning = json!({
        "default_lease_ttl": "10m", "max_lease_ttl": "30m", "description": "ours",
        "audit_non_hmac_request_keys": ["display_name"],
    });
    root.post("sys/auth/token/tune", tuning).expect(204);
    for bad in [
        json!({"token_type": "batch"}),
        json!({"options": {"version": "2"}}),
        json!({"default_lease_ttl": "soon"}),
    ] {
        root.post("sys/auth/token/tune", bad).expect(400);
    }
    root.post("sys/mounts/identity/tune", json!({"max_lease_ttl": "1h"}))
        .expect(400);
    for restart in [false, true] {
        if restart {
            server.crash_and_restart();
        }
        let shown = root.get("sys/auth/token/tune").data();
        assert_eq!(
            (
                &shown["default_lease_ttl"],
                &shown["max_lease_ttl"],
                &shown["description"]
            ),
            (&json!(600), &json!(1800), &json!("ours"))
        );
        let made =
            |body: Value| root.post("auth/token/create", body).auth()["lease_duration"].clone();
        assert_eq!(made(json!({"policies": ["default"]})), 600);
        assert_eq!(made(json!({"policies": ["default"], "ttl": "2h"})), 1800);
        assert_eq!(made(json!({})), 0, "root's children have no end");
    }
}
