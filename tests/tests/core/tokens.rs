//! Tokens: made from tokens, looked up, renewed, revoked, and gone when their time has come.

use std::collections::BTreeSet;

use obol_tests::Client;
use obol_tests::holds;
use serde_json::{Map, Value, json};

use super::{client_with, root, server, token};

fn me(client: &Client) -> Map<String, Value> {
    client.get("auth/token/lookup-self").data()
}

fn child(of: &Client, body: Value) -> Client {
    of.with_token(of.post("auth/token/create", body).client_token())
}

fn lives(client: &Client) -> bool {
    match client.get("auth/token/lookup-self").status {
        200 => true,
        403 => false,
        other => panic!("{other}"),
    }
}

#[test]
fn the_root_token_never_ends() {
    let seen = me(&root());
    assert_eq!(
        (&seen["policies"], &seen["ttl"], &seen["expire_time"]),
        (&json!(["root"]), &json!(0), &Value::Null)
    );
    assert_eq!(
        (&seen["orphan"], &seen["renewable"], &seen["path"]),
        (&json!(true), &json!(false), &json!("auth/token/root"))
    );
    root().post("auth/token/renew-self", json!({})).expect(400);
}

#[test]
fn root_stands_alone_and_a_display_name_is_of_letters_and_digits() {
    let body = json!({"policies": ["one", "root"], "display_name": "my worker/7!"});
    let auth = root().post("auth/token/create", body).auth();
    assert_eq!(auth["policies"], json!(["root"]));
    let token = json!({"token": auth["client_token"]});
    let seen = root().post("auth/token/lookup", token).data();
    assert_eq!(seen["display_name"], "token-my-worker-7");
}

#[test]
fn a_token_is_what_was_asked_for() {
    let body = json!({
        "policies": ["one", "two"],
        "meta": {"for": "a test"},
        "ttl": "1h",
        "explicit_max_ttl": "2h",
        "display_name": "worker",
        "num_uses": 100,
        "renewable": false,
        "no_default_policy": true,
    });
    let auth = root().post("auth/token/create", body).auth();
    assert_eq!(auth["policies"], json!(["one", "two"]));
    assert_eq!(
        (
            &auth["lease_duration"],
            &auth["renewable"],
            &auth["num_uses"]
        ),
        (&json!(3600), &json!(false), &json!(100))
    );
    assert_eq!(
        (&auth["token_type"], &auth["orphan"], &auth["metadata"]),
        (&json!("service"), &json!(false), &json!({"for": "a test"}))
    );
    let secret = auth["client_token"].as_str().unwrap();
    assert!(secret.starts_with("obs.") && secret.len() >= 28, "{secret}");

    let seen = root()
        .post("auth/token/lookup", json!({ "token": secret }))
        .data();
    assert_eq!(
        (&seen["id"], &seen["accessor"]),
        (&auth["client_token"], &auth["accessor"])
    );
    assert_eq!(
        (&seen["display_name"], &seen["path"]),
        (&json!("token-worker"), &json!("auth/token/create"))
    );
    assert_eq!(
        (
            &seen["explicit_max_ttl"],
            &seen["creation_ttl"],
            &seen["num_uses"]
        ),
        (&json!(7200), &json!(3600), &json!(100))
    );
    let by_accessor = root()
        .post(
            "auth/token/lookup-accessor",
            json!({"accessor": auth["accessor"]}),
        )
        .data();
    assert_eq!(by_accessor["id"], "", "an accessor leads to the token");
    assert_eq!(by_accessor["meta"], json!({"for": "a test"}));
    let accessors = root().list("auth/token/accessors").keys();
    assert!(accessors.contains(&auth["accessor"].as_str().unwrap().to_owned()));
}

#[test]
fn accessors_come_by_pages_each_once() {
    let mine: BTreeSet<String> = (0..7)
        .map(|_| {
            let auth = root().post("auth/token/create", json!({})).auth();
            auth["accessor"].as_str().unwrap().to_owned()
        })
        .collect();
    // Other tests make tokens meanwhile; these stay where they are.
    let mut seen = Vec::new();
    let mut page = "auth/token/accessors?list=true&limit=3".to_owned();
    loop {
        let reply = root().get(&page);
        if reply.status == 404 {
            break; // behind the last
        }
        let keys = reply.keys();
        assert!((1..=3).contains(&keys.len()), "{keys:?}");
        page = format!(
            "auth/token/accessors?list=true&limit=3&after={}",
            keys[keys.len() - 1]
        );
        seen.extend(keys);
    }
    let once: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(once.len(), seen.len(), "one came twice");
    assert!(once.is_superset(&mine));
    let refused = root().get("auth/token/accessors?list=true&after=none");
    refused.expect(400);
}

#[test]
fn a_child_has_no_more_than_its_parent() {
    let parent = client_with(
        "parental",
        "path \"auth/token/create\" { capabilities = [\"update\"] }\npath \"a\" { capabilities = [\"read\"] }",
    );
    assert_eq!(
        me(&child(&parent, json!({})))["policies"],
        json!(["default", "parental"])
    );
    assert_eq!(
        me(&child(&parent, json!({"policies": ["default"]})))["policies"],
        json!(["default"])
    );
    let bare = parent
        .post("auth/token/create", json!({"no_default_policy": true}))
        .auth();
    assert_eq!(bare["policies"], json!(["parental"]));
    for more in [
        json!({"policies": ["other"]}),
        json!({"policies": ["parental", "root"]}),
        json!({"no_parent": true}),
        json!({"period": "1h"}),
        json!({"id": "chosen"}),
    ] {
        let reply = parent.post("auth/token/create", more.clone());
        assert!(
            matches!(reply.status, 400 | 403),
            "{more}: {} {}",
            reply.status,
            reply.text()
        );
    }
    parent
        .post("auth/token/create-orphan", json!({}))
        .expect(403);
    let taken = json!({"id": "taken-once"});
    root().post("auth/token/create", taken.clone()).expect(200);
    for path in ["auth/token/create", "auth/token/create-orphan"] {
        let refused = root().post(path, taken.clone()).expect(400);
        assert!(refused.errors()[0].contains("duplicate ID"));
    }

    let strong = client_with(
        "parental-sudo",
        "path \"auth/token/*\" { capabilities = [\"update\", \"sudo\"] }",
    );
    let orphan = strong
        .post("auth/token/create-orphan", json!({"policies": ["other"]}))
        .auth();
    assert_eq!(
        (&orphan["orphan"], &orphan["policies"]),
        (&json!(true), &json!(["default", "other"]))
    );
    child(&strong, json!({"no_parent": true, "period": "1h"}));
    strong
        .post("auth/token/create", json!({"policies": ["root"]}))
        .expect(400);
    strong
        .post("auth/token/create", json!({"id": "chosen"}))
        .expect(400);
}

#[test]
fn a_chosen_id_is_roots_to_choose_and_taken_once() {
    let chosen = child(
        &root(),
        json!({"id": "a-chosen-id", "policies": ["default"]}),
    );
    assert_eq!(chosen.token(), "a-chosen-id");
    assert!(lives(&chosen));
    let again = root().post("auth/token/create", json!({"id": "a-chosen-id"}));
    assert!(
        matches!(again.status, 400 | 503),
        "{}: {}",
        again.status,
        again.text()
    );
    for odd in [
        "obs.looks-like-ours",
        "obb.looks-like-ours",
        "with blank",
        "nul\u{0}",
        "é",
    ] {
        root()
            .post("auth/token/create", json!({ "id": odd }))
            .expect(400);
    }
}

#[test]
fn mistakes_are_told_by_field() {
    for (body, says) in [
        (json!({"ttl": "soon"}), "ttl"),
        (json!({"ttl": -1}), "ttl"),
        (json!({"num_uses": -5}), "num_uses"),
        (json!({"type": "eternal"}), "type"),
        (json!({"policies": 7}), "policies"),
        (json!({"meta": "text"}), "meta"),
        (json!({"bound_cidrs": ["not-an-address"]}), "bound_cidrs"),
        (json!({"entity_alias": "grace"}), "entity_alias"),
        (json!({"renewable": "perhaps"}), "renewable"),
        (json!({"display_name": "a\nb"}), "display_name"),
    ] {
        let reply = root().post("auth/token/create", body.clone());
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        assert!(
            reply.errors()[0].contains(says),
            "{body}: {:?}",
            reply.errors()
        );
    }
}

#[test]
fn renewing_moves_the_end_within_every_limit() {
    let client = token(json!({"ttl": "10m", "explicit_max_ttl": "30m", "policies": ["default"]}));
    let renewed = client
        .post("auth/token/renew-self", json!({"increment": "20m"}))
        .auth();
    assert_eq!(renewed["client_token"], client.token());
    assert!(
        (1190..=1200).contains(&renewed["lease_duration"].as_u64().unwrap()),
        "{renewed}"
    );
    let reply = client.post("auth/token/renew-self", json!({"increment": "10h"}));
    assert!(
        reply.warnings()[0].contains("explicit_max_ttl"),
        "{:?}",
        reply.warnings()
    );
    assert!(reply.auth()["lease_duration"].as_u64().unwrap() <= 1800);
    assert!(me(&client)["last_renewal_time"].is_u64());

    let other = root()
        .post(
            "auth/token/renew",
            json!({"token": client.token(), "increment": 60}),
        )
        .auth();
    assert!(
        (55..=60).contains(&other["lease_duration"].as_u64().unwrap()),
        "{other}"
    );
    let accessor = &me(&client)["accessor"];
    let by_accessor = root()
        .post(
            "auth/token/renew-accessor",
            json!({"accessor": accessor, "increment": "2m"}),
        )
        .auth();
    assert_eq!(
        by_accessor["client_token"], "",
        "an accessor leads to the token"
    );
    assert!(me(&client)["ttl"].as_u64().unwrap() > 100);

    token(json!({"renewable": false, "ttl": "1h"}))
        .post("auth/token/renew-self", json!({}))
        .expect(400);
    root()
        .post("auth/token/renew", json!({"token": "obs.nonsense"}))
        .expect(400);
    root().post("auth/token/renew", json!({})).expect(400);

    let periodic = token(json!({"period": "15m"}));
    let renewed = periodic
        .post("auth/token/renew-self", json!({"increment": "5h"}))
        .auth();
    assert_eq!(renewed["lease_duration"], 900);
}

#[test]
fn a_token_ends_by_itself_and_leaves_nothing() {
    let client = token(json!({"ttl": "2s", "policies": ["default", "with-children"]}));
    root()
        .put(
            "sys/policies/acl/with-children",
            json!({"policy": "path \"auth/token/create\" { capabilities = [\"update\"] }"}),
        )
        .expect(204);
    let under = child(&client, json!({"ttl": "1h"}));
    let accessors =
        [&client, &under].map(|token| me(token)["accessor"].as_str().unwrap().to_owned());
    client.post("cubbyhole/note", json!({"a": "b"})).expect(204);
    holds("the token's end", || !lives(&client));
    holds("the end of its child", || !lives(&under));
    holds("the end of their accessors", || {
        let left = root().list("auth/token/accessors").keys();
        !accessors.iter().any(|accessor| left.contains(accessor))
    });
    root()
        .post("auth/token/lookup", json!({"token": client.token()}))
        .expect(403);
    client.post("auth/token/renew-self", json!({})).expect(403);
}

#[test]
fn an_explicit_maximum_is_the_end_whatever_is_renewed() {
    let client = token(json!({"ttl": "2s", "explicit_max_ttl": "3s", "policies": ["default"]}));
    holds("the end at the explicit maximum", || {
        client
            .post("auth/token/renew-self", json!({"increment": "1h"}))
            .status
            != 200
    });
    holds("the token's end", || !lives(&client));
}

#[test]
fn child_outlives_parent_revoking_takes_the_whole_tree() {
    root()
        .put(
            "sys/policies/acl/tree",
            json!({"policy": "path \"auth/token/*\" { capabilities = [\"update\", \"sudo\"] }"}),
        )
        .expect(204);
    let top = token(json!({"policies": ["tree"]}));
    let mut tree = vec![top.clone()];
    for parent in 0..20 {
        let parent = tree[parent / 2].clone();
        tree.push(child(&parent, json!({})));
    }
    let mut chain = top.clone();
    for _ in 0..40 {
        chain = child(&chain, json!({}));
        tree.push(chain.clone());
    }
    let orphan = child(&tree[1], json!({"no_parent": true}));
    let batch = child(&tree[2], json!({"type": "batch", "ttl": "1h"}));
    for client in &tree {
        client
            .post("cubbyhole/note", json!({"mine": "alone"}))
            .expect(204);
    }
    let accessors: BTreeSet<String> = tree
        .iter()
        .map(|t| me(t)["accessor"].as_str().unwrap().to_owned())
        .collect();
    assert!(lives(&batch));

    root()
        .post("auth/token/revoke", json!({"token": top.token()}))
        .expect(204);
    for client in &tree {
        assert!(!lives(client));
        client.get("cubbyhole/note").expect(403);
    }
    assert!(!lives(&batch), "a batch token outlived its parent");
    assert!(lives(&orphan));
    let left: BTreeSet<String> = root()
        .list("auth/token/accessors")
        .keys()
        .into_iter()
        .collect();
    assert!(left.is_disjoint(&accessors));
}

#[test]
fn revoking_an_orphan_leaves_its_children_without_parent() {
    root()
        .put(
            "sys/policies/acl/orphaning",
            json!({"policy": "path \"auth/token/*\" { capabilities = [\"update\", \"sudo\"] }"}),
        )
        .expect(204);
    let parent = token(json!({"policies": ["orphaning"]}));
    let under = child(&parent, json!({}));
    let below = child(&under, json!({}));
    root()
        .post("auth/token/revoke-orphan", json!({"token": parent.token()}))
        .expect(204);
    assert!(!lives(&parent) && lives(&under) && lives(&below));
    assert_eq!(me(&under)["orphan"], true);
    assert_eq!(me(&below)["orphan"], false);
    root()
        .post("auth/token/revoke", json!({"token": under.token()}))
        .expect(204);
    assert!(!lives(&below));
}

#[test]
fn every_way_to_revoke_revokes() {
    let one = token(json!({"policies": ["default"]}));
    one.post("auth/token/revoke-self", json!({})).expect(204);
    assert!(!lives(&one));
    one.post("auth/token/revoke-self", json!({})).expect(403);

    let two = token(json!({"policies": ["default"]}));
    let accessor = me(&two)["accessor"].clone();
    root()
        .post(
            "auth/token/revoke-accessor",
            json!({ "accessor": accessor }),
        )
        .expect(204);
    assert!(!lives(&two));
    root()
        .post(
            "auth/token/revoke-accessor",
            json!({ "accessor": accessor }),
        )
        .expect(200);

    let three = token(json!({"policies": ["default"]}));
    root()
        .request("PUT", "auth/token/revoke")
        .json(&json!({"token": three.token()}))
        .send()
        .expect(204);
    assert!(!lives(&three));
    root()
        .post("auth/token/revoke", json!({"token": three.token()}))
        .expect(204);
    root().post("auth/token/revoke", json!({})).expect(400);
    // Only with the right to do so.
    let four = token(json!({"policies": ["default"]}));
    let victim = token(json!({"policies": ["default"]}));
    four.post("auth/token/revoke", json!({"token": victim.token()}))
        .expect(403);
    four.post(
        "auth/token/revoke-accessor",
        json!({"accessor": me(&victim)["accessor"]}),
    )
    .expect(403);
    four.list("auth/token/accessors").expect(403);
    assert!(lives(&victim));
}

#[test]
fn a_cubbyhole_is_its_tokens_own() {
    let one = token(json!({"policies": ["default"]}));
    let two = token(json!({"policies": ["default"]}));
    one.post("cubbyhole/shelf/note", json!({"text": "mine"}))
        .expect(204);
    two.get("cubbyhole/shelf/note").expect(404);
    root().get("cubbyhole/shelf/note").expect(404);
    assert_eq!(one.list("cubbyhole").keys(), ["shelf/"]);
    assert_eq!(one.get("cubbyhole/shelf/note").data()["text"], "mine");
    one.delete("cubbyhole/shelf/note").expect(204);
    one.get("cubbyhole/shelf/note").expect(404);
}

#[test]
fn a_token_bound_to_other_addresses_is_of_no_use_here() {
    let here = token(json!({"bound_cidrs": "127.0.0.0/8", "policies": ["default"]}));
    assert!(lives(&here));
    let elsewhere = root()
        .post(
            "auth/token/create",
            json!({"bound_cidrs": ["192.0.2.0/24", "2001:db8::/32"]}),
        )
        .client_token();
    let elsewhere = server().client().with_token(elsewhere);
    elsewhere.get("auth/token/lookup-self").expect(403);
    // `bound-cidr-proxy`
    for header in ["X-Forwarded-For", "X-Real-IP", "Forwarded"] {
        let value = if header == "Forwarded" {
            "for=192.0.2.1"
        } else {
            "192.0.2.1"
        };
        elsewhere
            .request("GET", "auth/token/lookup-self")
            .header(header, value)
            .send()
            .expect(403);
    }
}

#[test]
fn batch_token_escalation_a_batch_token_does_only_what_a_token_without_a_record_may() {
    root().put("sys/policies/acl/batching", json!({"policy": "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\", \"sudo\"] }"})).expect(204);
    let batch = token(json!({"type": "batch", "policies": ["batching"], "ttl": "1h"}));
    assert!(batch.token().starts_with("obb."));
    assert_eq!(me(&batch)["type"], "batch");
    batch.get("sys/mounts").expect(200);

    batch
        .post("auth/token/create", json!({"policies": ["default"]}))
        .expect(400);
    batch
        .post("auth/token/create-orphan", json!({"policies": ["default"]}))
        .expect(400);
    batch.post("auth/token/renew-self", json!({})).expect(400);
    batch.post("auth/token/revoke-self", json!({})).expect(400);
    root()
        .post("auth/token/revoke", json!({"token": batch.token()}))
        .expect(400);
    root()
        .post("auth/token/renew", json!({"token": batch.token()}))
        .expect(400);
    let cubbyhole = batch.post("cubbyhole/note", json!({"a": "b"}));
    assert!(
        matches!(cubbyhole.status, 400 | 403),
        "{}: {}",
        cubbyhole.status,
        cubbyhole.text()
    );
    for body in [
        json!({"type": "batch", "policies": ["root"]}),
        json!({"type": "batch", "period": "1h"}),
        json!({"type": "batch", "num_uses": 3}),
        json!({"type": "batch", "id": "chosen"}),
    ] {
        root().post("auth/token/create", body).expect(400);
    }
    // A changed one is none.
    let mut forged = batch.token().to_owned().into_bytes();
    for at in [4, 20, forged.len() / 2, forged.len() - 1] {
        let was = forged[at];
        forged[at] = if was == b'A' { b'B' } else { b'A' };
        let client = batch.with_token(String::from_utf8(forged.clone()).unwrap());
        client.get("sys/mounts").expect(403);
        forged[at] = was;
    }
    let short = token(json!({"type": "batch", "ttl": "1s", "policies": ["default"]}));
    holds("the end of a batch token", || !lives(&short));
}

#[test]
fn internal_operation_the_cores_own_operations_are_out_of_reach() {
    let root = root();
    for method in [
        "REVOKE",
        "RENEW",
        "ROLLBACK",
        "HELP",
        "CREATE",
        "ALIAS-LOOKAHEAD",
        "TRACE",
        "OPTIONS",
        "get",
        "Post",
    ] {
        let reply = root.request(method, "auth/token/lookup-self").send();
        assert!(
            matches!(reply.status, 400 | 405 | 501),
            "{method}: {} {}",
            reply.status,
            reply.text()
        );
    }
    for header in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
    ] {
        let reply = root
            .request("GET", "sys/seal")
            .header(header, "POST")
            .send();
        assert!(
            matches!(reply.status, 403..=405),
            "{header}: {}",
            reply.status
        );
    }
    root.get("sys/seal-status?_method=POST").expect(200);
    // Fields that only the core sets.
    let body = json!({
        "policies": ["default"], "parent": "", "issuer": "x", "path": "auth/token/root", "accessor": "mine",
        "creation_time": 1, "expire_time": null, "immortal": true, "entity_id": "e", "internal": {"a": 1}, "orphan": true,
        "_internal": true, "renewable": true,
    });
    let reply = root.post("auth/token/create", body);
    assert!(
        reply.warnings()[0].contains("immortal"),
        "{:?}",
        reply.warnings()
    );
    let made = server().client().with_token(reply.client_token());
    let seen = me(&made);
    assert_eq!(
        (&seen["path"], &seen["orphan"], &seen["entity_id"]),
        (&json!("auth/token/create"), &json!(false), &json!(""))
    );
    assert_ne!(seen["accessor"], "mine");
    assert!(seen["expire_time"].is_string());
    for path in [
        "core/token/keys",
        "core/mounts",
        "mount/x",
        "auth/token/id/x",
        "sys/raw/core/mounts",
        "sys/internal/x",
        "token/create",
    ] {
        for reply in [root.get(path), root.list(path), root.post(path, json!({}))] {
            assert!(
                matches!(reply.status, 404..=405),
                "{path}: {} {}",
                reply.status,
                reply.text()
            );
        }
    }
}
