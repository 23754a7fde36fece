//! Identity: entities made by real logins, aliases, groups inside groups, groups that a directory fills, merges; and
//! that what they give or take away counts from the very next request.

use std::collections::BTreeSet;
use std::sync::{Barrier, OnceLock};
use std::thread;

use obol_tests::kerberos::{
    self, config_payload, ldap_payload, log_in, login_at, login_with, negotiate, negotiate_many,
    own_realm, policies, with,
};
use obol_tests::{Client, Server, ServerOptions, realm, ticket};
use serde_json::{Value, json};

/// Grace is in engineers and coders, Joan in scientists and reviewers.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(kerberos::kerberized)
}

fn root() -> Client {
    server().root()
}

/// An auth mount of a test's own, whose logins name their groups.
fn mount(name: &str) -> String {
    let config = with(config_payload(realm()), json!({"add_group_aliases": true}));
    kerberos::enable(&root(), name, &config, &ldap_payload(realm()));
    accessor(server(), name)
}

fn accessor(server: &Server, mount: &str) -> String {
    let mounts = server.root().get("sys/auth").data();
    text(&mounts[&format!("{mount}/")]["accessor"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Logs in and gives the client and its entity's id.
fn log_in_as(mount: &str, uid: &str) -> (Client, String) {
    let reply = log_in(server(), mount, uid);
    let auth = reply.auth();
    let client = server().client().with_token(text(&auth["client_token"]));
    (client, text(&auth["entity_id"]))
}

fn entity(id: &str) -> Value {
    root()
        .get(&format!("identity/entity/id/{id}"))
        .data()
        .into()
}

/// A policy that may read one secret, which is there.
fn policy_for(name: &str) {
    let root = root();
    let rule = format!("path \"secret/data/{name}\" {{ capabilities = [\"read\"] }}");
    root.put(
        &format!("sys/policies/acl/{name}"),
        json!({ "policy": rule }),
    )
    .expect(204);
    root.post(
        &format!("secret/data/{name}"),
        json!({"data": {"text": name}}),
    )
    .expect(200);
}

fn made(path: &str, body: Value) -> String {
    text(&root().post(path, body).expect(200).data()["id"])
}

#[test]
fn a_login_makes_an_entity_and_every_later_one_finds_it() {
    let mount_accessor = mount("first");
    let reply = log_in(server(), "first", "grace");
    let auth = reply.auth();
    let id = text(&auth["entity_id"]);
    let grace = server().client().with_token(text(&auth["client_token"]));
    assert_eq!(grace.get("auth/token/lookup-self").data()["entity_id"], id);
    assert_eq!(log_in_as("first", "grace").1, id);
    assert_ne!(log_in_as("first", "joan").1, id);

    let entity = entity(&id);
    assert!(text(&entity["name"]).starts_with("entity_"));
    assert_eq!(
        (
            &entity["disabled"],
            &entity["policies"],
            &entity["group_ids"]
        ),
        (&json!(false), &json!([]), &json!([]))
    );
    let alias = &entity["aliases"][0];
    assert_eq!(alias["name"], "grace");
    assert_eq!(alias["canonical_id"], id);
    assert_eq!(alias["mount_accessor"], mount_accessor);
    assert_eq!(
        (&alias["mount_path"], &alias["mount_type"]),
        (&json!("auth/first/"), &json!("kerberos"))
    );
    assert_eq!(alias["metadata"]["user"], "grace");

    // By everything that is known of it.
    let name = text(&entity["name"]);
    let by = |body: Value| root().post("identity/lookup/entity", body);
    for query in [
        json!({ "id": id }),
        json!({ "name": name.to_uppercase() }),
        json!({"alias_id": alias["id"]}),
        json!({"alias_name": "GRACE", "alias_mount_accessor": mount_accessor}),
    ] {
        assert_eq!(by(query.clone()).expect(200).data()["id"], id, "{query}");
    }
    by(json!({"name": "nobody"})).expect(204);
    by(json!({})).expect(400);
    by(json!({"name": name, "id": id})).expect(400);
    by(json!({"alias_name": "grace"})).expect(400);

    let listed = root().list("identity/entity/id").data();
    assert!(listed["keys"].as_array().unwrap().contains(&json!(id)));
    assert_eq!(listed["key_info"][&id]["name"], json!(name));
    assert_eq!(listed["key_info"][&id]["aliases"][0]["name"], "grace");
    assert!(root().list("identity/entity/name").keys().contains(&name));
    let aliases = root().list("identity/entity-alias/id").data();
    assert_eq!(
        aliases["key_info"][&text(&alias["id"])]["canonical_id"],
        json!(id)
    );
    // The root token is nobody's.
    assert_eq!(root().get("auth/token/lookup-self").data()["entity_id"], "");
}

#[test]
fn two_first_logins_at_once_make_one_entity() {
    mount("at-once");
    let proofs = negotiate_many(realm(), &ticket("grace"), 8);
    let barrier = Barrier::new(proofs.len());
    let ids: BTreeSet<String> = thread::scope(|scope| {
        let logins: Vec<_> = proofs
            .iter()
            .map(|proof| {
                scope.spawn(|| {
                    barrier.wait();
                    text(&login_at(server(), "at-once", proof).auth()["entity_id"])
                })
            })
            .collect();
        logins.into_iter().map(|l| l.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[test]
fn entities_are_made_changed_and_deleted_by_id_and_by_name() {
    let root = root();
    let created = root
        .post(
            "identity/entity",
            json!({"name": "Crud", "policies": "Web,dev,web", "metadata": {"team": "works"}}),
        )
        .expect(200)
        .data();
    let id = text(&created["id"]);
    assert_eq!(created["name"], "Crud");
    let shown = root.get("identity/entity/name/crud").data();
    assert_eq!(shown["id"], json!(id));
    assert_eq!(shown["policies"], json!(["web", "dev"]));
    assert_eq!(shown["metadata"], json!({"team": "works"}));
    // The same name in another spelling is the same entity (threats: alias-case).
    root.post(
        "identity/entity",
        json!({"name": "CRUD", "metadata": ["team=lab", "floor=2"]}),
    )
    .expect(204);
    let shown = entity(&id);
    assert_eq!(shown["metadata"], json!({"team": "lab", "floor": "2"}));
    assert_eq!(shown["policies"], json!(["web", "dev"]), "stays as it was");
    root.post(
        &format!("identity/entity/id/{id}"),
        json!({"name": "renamed/at work"}),
    )
    .expect(204);
    root.get("identity/entity/name/crud").expect(404);
    assert_eq!(
        root.post("identity/lookup/entity", json!({"name": "Renamed/At Work"}))
            .data()["id"],
        json!(id)
    );
    let other = made("identity/entity", json!({"name": "crud"}));
    root.post(
        &format!("identity/entity/id/{other}"),
        json!({"name": "RENAMED/at work"}),
    )
    .expect(400);
    root.post("identity/entity", json!({"id": "none", "name": "x"}))
        .expect(400);
    for bad in [
        json!({"name": "a\u{0}"}),
        json!({"name": "x".repeat(2000)}),
        json!({"name": "bad", "metadata": {"": "x"}}),
        json!({"name": "bad", "metadata": {"k": "v".repeat(600)}}),
        json!({"name": "bad", "disabled": "perhaps"}),
    ] {
        root.post("identity/entity", bad.clone()).expect(400);
    }
    root.get("identity/entity/name/bad").expect(404);
    root.delete(&format!("identity/entity/id/{other}"))
        .expect(204);
    root.get(&format!("identity/entity/id/{other}")).expect(404);
    root.delete(&format!("identity/entity/id/{other}"))
        .expect(204);
    root.delete("identity/entity/id/no%20id").expect(204);
    // Several at once.
    let ids: Vec<String> = (0..3)
        .map(|n| made("identity/entity", json!({"name": format!("many-{n}")})))
        .collect();
    root.post("identity/entity/batch-delete", json!({}))
        .expect(400);
    root.post("identity/entity/batch-delete", json!({"entity_ids": []}))
        .expect(400);
    root.post("identity/entity/batch-delete", json!({ "entity_ids": ids }))
        .expect(204);
    for id in &ids {
        root.get(&format!("identity/entity/id/{id}")).expect(404);
    }
    root.get("identity/entity/name/many-1").expect(404);
    root.delete("identity/entity/name/no-such").expect(204);
}

#[test]
fn group_gone_what_an_entity_has_counts_from_the_next_request_and_so_does_its_loss() {
    mount("rights");
    policy_for("rights-of-entity");
    let (joan, id) = log_in_as("rights", "joan");
    joan.get("secret/data/rights-of-entity").expect(403);
    let path = format!("identity/entity/id/{id}");
    for _ in 0..2 {
        root()
            .post(&path, json!({"policies": ["rights-of-entity"]}))
            .expect(204);
        joan.get("secret/data/rights-of-entity").expect(200);
        let shown = joan.get("auth/token/lookup-self").data();
        assert_eq!(shown["identity_policies"], json!(["rights-of-entity"]));
        assert_eq!(shown["policies"], json!(["default"]));
        let auth = log_in(server(), "rights", "joan").auth();
        assert_eq!(auth["policies"], json!(["default", "rights-of-entity"]));
        assert_eq!(auth["token_policies"], json!(["default"]));
        assert_eq!(auth["identity_policies"], json!(["rights-of-entity"]));
        let asked = joan.post(
            "sys/capabilities-self",
            json!({"paths": "secret/data/rights-of-entity"}),
        );
        assert_eq!(asked.data()["capabilities"], json!(["read"]));
        root().post(&path, json!({"policies": []})).expect(204);
        joan.get("secret/data/rights-of-entity").expect(403);
    }
}

#[test]
fn a_disabled_entity_does_nothing_and_a_deleted_one_never_again() {
    mount("disabled");
    let (joan, id) = log_in_as("disabled", "joan");
    let path = format!("identity/entity/id/{id}");
    root().post(&path, json!({"disabled": true})).expect(204);
    joan.get("auth/token/lookup-self").expect(403);
    joan.post("auth/token/renew-self", json!({})).expect(403);
    log_in(server(), "disabled", "joan").expect(403);
    root().post(&path, json!({"disabled": false})).expect(204);
    joan.get("auth/token/lookup-self").expect(200);
    root().delete(&path).expect(204);
    joan.get("auth/token/lookup-self").expect(403);
    let (joan, new_id) = log_in_as("disabled", "joan");
    assert_ne!(new_id, id);
    joan.get("auth/token/lookup-self").expect(200);
}

#[test]
fn children_belong_to_the_same_entity_and_orphans_to_none() {
    mount("children");
    policy_for("of-the-family");
    let root = root();
    root.put(
        "sys/policies/acl/parents",
        json!({"policy": "path \"auth/token/create*\" { capabilities = [\"update\", \"sudo\"] }"}),
    )
    .expect(204);
    let (joan, id) = log_in_as("children", "joan");
    root.post(
        &format!("identity/entity/id/{id}"),
        json!({"policies": "of-the-family,parents"}),
    )
    .expect(204);
    for kind in ["service", "batch"] {
        let auth = joan
            .post("auth/token/create", json!({"type": kind, "ttl": "1h"}))
            .auth();
        assert_eq!(auth["entity_id"], json!(id));
        // What identity gives is not copied into the child.
        assert_eq!(auth["token_policies"], json!(["default"]));
        assert_eq!(
            auth["identity_policies"],
            json!(["of-the-family", "parents"])
        );
        let child = server().client().with_token(text(&auth["client_token"]));
        child.get("secret/data/of-the-family").expect(200);
        root.post(
            &format!("identity/entity/id/{id}"),
            json!({"policies": "parents"}),
        )
        .expect(204);
        child.get("secret/data/of-the-family").expect(403);
        root.post(
            &format!("identity/entity/id/{id}"),
            json!({"policies": "of-the-family,parents"}),
        )
        .expect(204);
    }
    let auth = joan.post("auth/token/create-orphan", json!({})).auth();
    assert_eq!(auth["entity_id"], "");
}

#[test]
fn root_via_entity_no_spelling_of_root_becomes_a_policy_of_an_entity_or_a_group() {
    let root = root();
    for name in [
        "root",
        "Root",
        " ROOT",
        "root ",
        "default,root",
        "root\u{0}",
        "ro\u{200b}ot",
    ] {
        for path in ["identity/entity", "identity/group"] {
            let reply = root.post(path, json!({"name": "escalated", "policies": name}));
            assert_eq!(reply.status, 400, "{path} {name:?}: {}", reply.text());
            let reply = root.post(path, json!({"name": "escalated", "policies": [name]}));
            assert_eq!(reply.status, 400, "{path} {name:?}: {}", reply.text());
        }
    }
    root.get("identity/entity/name/escalated").expect(404);
    root.get("identity/group/name/escalated").expect(404);
}

#[test]
fn groups_inside_groups_give_their_policies_and_never_go_in_circles() {
    mount("nested");
    policy_for("of-the-outer");
    let root = root();
    let (joan, id) = log_in_as("nested", "joan");
    let inner = made(
        "identity/group",
        json!({"name": "Inner", "member_entity_ids": [id]}),
    );
    let middle = made(
        "identity/group",
        json!({"name": "middle", "member_group_ids": [inner]}),
    );
    let outer = made(
        "identity/group",
        json!({"name": "outer", "member_group_ids": [middle], "policies": "of-the-outer"}),
    );
    joan.get("secret/data/of-the-outer").expect(200);
    let shown = entity(&id);
    assert_eq!(shown["direct_group_ids"], json!([inner]));
    let inherited: BTreeSet<String> = shown["inherited_group_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    assert_eq!(inherited, [middle.clone(), outer.clone()].into());
    let shown = root.get("identity/group/name/inner").data();
    assert_eq!(shown["member_entity_ids"], json!([id]));
    assert_eq!(shown["parent_group_ids"], json!([middle]));
    assert_eq!(shown["type"], "internal");
    assert_eq!(shown["alias"], json!({}));
    let info = root.list("identity/group/id").data()["key_info"][&inner].clone();
    assert_eq!(
        info,
        json!({"name": "Inner", "num_member_entities": 1, "num_parent_groups": 1})
    );

    for (group, member) in [(&inner, &outer), (&inner, &middle), (&inner, &inner)] {
        let reply = root.post(
            &format!("identity/group/id/{group}"),
            json!({"member_group_ids": [member]}),
        );
        assert_eq!(reply.status, 400, "{}", reply.text());
    }
    for bad in [
        json!({"name": "Inner", "type": "external"}),
        json!({"name": "bad", "member_entity_ids": ["none"]}),
        json!({"name": "bad", "member_group_ids": ["none"]}),
        json!({"name": "bad", "type": "external", "member_entity_ids": [id]}),
        json!({"name": "bad", "type": "external", "member_group_ids": [inner]}),
        json!({"name": "bad", "type": "other"}),
        json!({"id": "none"}),
        json!({"id": inner, "name": "MIDDLE"}),
    ] {
        let reply = root.post("identity/group", bad.clone());
        assert_eq!(reply.status, 400, "{bad}: {}", reply.text());
    }
    root.get("identity/group/name/bad").expect(404);

    // A link that goes takes the rights of everybody behind it.
    root.post(
        &format!("identity/group/id/{middle}"),
        json!({"member_group_ids": []}),
    )
    .expect(204);
    joan.get("secret/data/of-the-outer").expect(403);
    root.post(
        &format!("identity/group/id/{middle}"),
        json!({"member_group_ids": inner}),
    )
    .expect(204);
    joan.get("secret/data/of-the-outer").expect(200);
    root.post(
        "identity/group/name/INNER",
        json!({"member_entity_ids": []}),
    )
    .expect(204);
    joan.get("secret/data/of-the-outer").expect(403);
    root.post(
        "identity/group/name/INNER",
        json!({"member_entity_ids": [id]}),
    )
    .expect(204);
    joan.get("secret/data/of-the-outer").expect(200);
    root.delete(&format!("identity/group/id/{middle}"))
        .expect(204);
    joan.get("secret/data/of-the-outer").expect(403);
    let outer_shown = root.get(&format!("identity/group/id/{outer}")).data();
    assert_eq!(outer_shown["member_group_ids"], Value::Null);
    assert_eq!(
        root.get("identity/group/name/inner").data()["parent_group_ids"],
        Value::Null
    );
    root.delete("identity/group/name/inner").expect(204);
    assert_eq!(entity(&id)["group_ids"], json!([]));
}

#[test]
fn group_gone_a_directory_fills_external_groups_at_each_login_and_renewal() {
    let realm = own_realm();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    let root = server.root();
    root.post("auth/kerberos/config", json!({"add_group_aliases": true}));
    // The directory's groups give nothing by themselves here.
    root.delete("auth/kerberos/groups/engineers");
    let accessor = accessor(&server, "kerberos");
    let group = text(
        &root
            .post(
                "identity/group",
                json!({"name": "builders", "type": "external", "policies": "works"}),
            )
            .data()["id"],
    );
    let tickets = realm.kinit("grace").unwrap();
    let log_in = || login_with(&server, &negotiate(&realm, &tickets));
    let before = server.client().with_token(log_in().client_token());
    before.get("secret/data/works/plan").expect(403);
    root.post(
        "identity/group-alias",
        json!({"name": "ENGINEERS", "mount_accessor": accessor, "canonical_id": group}),
    )
    .expect(200);
    // The login before knew nothing of the alias; the next one counts for all tokens of the entity.
    before.get("secret/data/works/plan").expect(403);
    let login = log_in();
    assert_eq!(policies(login.clone()), ["default", "works"]);
    let grace = server.client().with_token(login.client_token());
    grace.get("secret/data/works/plan").expect(200);
    before.get("secret/data/works/plan").expect(200);
    let members =
        root.get(&format!("identity/group/id/{group}")).data()["member_entity_ids"].clone();
    assert_eq!(members.as_array().unwrap().len(), 1);

    // A login by somebody else changes nothing of hers.
    let joan = login_with(&server, &negotiate(&realm, &realm.kinit("joan").unwrap()));
    assert_eq!(policies(joan), ["default", "lab"]);
    grace.get("secret/data/works/plan").expect(200);

    realm.ldap.remove_member("engineers", "grace").unwrap();
    grace.post("auth/token/renew-self", json!({})).expect(200);
    grace.get("secret/data/works/plan").expect(403);
    before.get("secret/data/works/plan").expect(403);
    assert_eq!(policies(log_in()), ["default"]);
    let shown = root.get(&format!("identity/group/id/{group}")).data();
    assert_eq!(shown["member_entity_ids"], json!([]));

    // After a crash everything is as it was.
    realm.ldap.add_member("engineers", "grace").unwrap();
    assert_eq!(policies(log_in()), ["default", "works"]);
    before.get("secret/data/works/plan").expect(200);
    // Without its alias the group has nobody.
    let alias = text(&shown["alias"]["id"]);
    root.delete(&format!("identity/group-alias/id/{alias}"))
        .expect(204);
    before.get("secret/data/works/plan").expect(403);
}

#[test]
fn merged_entities_are_one_person_with_all_their_tokens() {
    let (first, second) = (mount("merge-one"), mount("merge-two"));
    policy_for("of-the-merged");
    let root = root();
    let (by_first, a) = log_in_as("merge-one", "grace");
    let (by_second, b) = log_in_as("merge-two", "grace");
    assert_ne!(a, b);
    made(
        "identity/group",
        json!({"name": "of a", "member_entity_ids": a, "policies": "of-the-merged"}),
    );
    by_second.get("secret/data/of-the-merged").expect(403);
    for bad in [
        json!({"from_entity_ids": [a], "to_entity_id": "none"}),
        json!({"from_entity_ids": ["none"], "to_entity_id": b}),
        json!({"from_entity_ids": [b], "to_entity_id": b}),
        json!({"from_entity_ids": [], "to_entity_id": b}),
        json!({"to_entity_id": b}),
        json!({"from_entity_ids": [a], "to_entity_id": b, "conflicting_alias_ids_to_keep": "x"}),
    ] {
        let reply = root.post("identity/entity/merge", bad.clone());
        assert_eq!(reply.status, 400, "{bad}: {}", reply.text());
    }
    root.post(
        "identity/entity/merge",
        json!({"from_entity_ids": a, "to_entity_id": b, "force": true}),
    )
    .expect(204);
    for client in [&by_first, &by_second] {
        client.get("secret/data/of-the-merged").expect(200);
    }
    root.get(&format!("identity/entity/id/{a}")).expect(404);
    let merged = entity(&b);
    assert_eq!(merged["merged_entity_ids"], json!([a]));
    let mounts: BTreeSet<String> = merged["aliases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alias| text(&alias["mount_accessor"]))
        .collect();
    assert_eq!(mounts, [first.clone(), second].into());
    assert_eq!(log_in_as("merge-one", "grace").1, b);

    // Both have a name at one mount: one of them has to go.
    let (_, c) = log_in_as("merge-one", "joan");
    let merge = |more: Value| {
        let body = with(json!({"from_entity_ids": c, "to_entity_id": b}), more);
        root.post("identity/entity/merge", body)
    };
    let conflict = merge(json!({})).expect(400);
    assert!(
        conflict.errors()[0].contains("conflicting_alias_ids_to_keep"),
        "{:?}",
        conflict.errors()
    );
    let keep = root
        .post(
            "identity/lookup/entity",
            json!({"alias_name": "joan", "alias_mount_accessor": first}),
        )
        .data()["aliases"][0]["id"]
        .clone();
    merge(json!({"conflicting_alias_ids_to_keep": [keep]})).expect(204);
    assert_eq!(log_in_as("merge-one", "joan").1, b);
    assert_ne!(log_in_as("merge-one", "grace").1, b);
    assert_eq!(log_in_as("merge-two", "grace").1, b);
}

#[test]
fn aliases_are_written_before_anybody_logs_in_and_one_for_each_mount() {
    let accessor = mount("prepared");
    policy_for("of-the-prepared");
    let root = root();
    let id = made(
        "identity/entity",
        json!({"name": "prepared", "policies": "of-the-prepared"}),
    );
    let body = json!({
        "name": "GRACE", "canonical_id": id, "mount_accessor": accessor, "custom_metadata": {"floor": "2"},
    });
    let written = root
        .post("identity/entity-alias", body.clone())
        .expect(200)
        .data();
    assert_eq!(written["canonical_id"], json!(id));
    let alias = text(&written["id"]);
    assert_eq!(
        root.post("identity/entity-alias", body).expect(200).data(),
        written
    );
    let (grace, of_grace) = log_in_as("prepared", "grace");
    assert_eq!(of_grace, id);
    grace.get("secret/data/of-the-prepared").expect(200);
    let shown = root
        .get(&format!("identity/entity-alias/id/{alias}"))
        .data();
    assert_eq!(shown["custom_metadata"], json!({"floor": "2"}));
    assert_eq!(shown["metadata"]["user"], "grace");
    for bad in [
        json!({"name": "other", "canonical_id": id, "mount_accessor": accessor}),
        json!({"name": "other", "canonical_id": "none", "mount_accessor": accessor}),
        json!({"name": "other", "canonical_id": id, "mount_accessor": "none"}),
        json!({"name": "other", "canonical_id": id, "mount_accessor": "identity_builtin"}),
        json!({"name": "other", "canonical_id": id}),
        json!({"canonical_id": id, "mount_accessor": accessor}),
        json!({"id": "none", "name": "x"}),
        json!({"id": alias, "custom_metadata": {"k": "v".repeat(600)}}),
    ] {
        let reply = root.post("identity/entity-alias", bad.clone());
        assert_eq!(reply.status, 400, "{bad}: {}", reply.text());
    }
    root.delete(&format!("identity/entity-alias/id/{alias}"))
        .expect(204);
    root.get(&format!("identity/entity-alias/id/{alias}"))
        .expect(404);
    assert_ne!(log_in_as("prepared", "grace").1, id);
    // With the mount go its aliases.
    root.delete("sys/auth/prepared").expect(204);
    let gone = json!({"alias_name": "grace", "alias_mount_accessor": accessor});
    root.post("identity/lookup/entity", gone).expect(204);
}

#[test]
fn group_aliases_belong_to_external_groups_one_each() {
    let accessor = mount("group-aliases");
    let root = root();
    let internal = made("identity/group", json!({"name": "an internal one"}));
    let external = made(
        "identity/group",
        json!({"name": "an external one", "type": "external"}),
    );
    let write = |name: &str, group: &str| {
        let body = json!({"name": name, "mount_accessor": accessor, "canonical_id": group});
        root.post("identity/group-alias", body)
    };
    write("Staff", &internal).expect(400);
    write("Staff", "none").expect(400);
    let written = write("Staff", &external).expect(200).data();
    assert_eq!(written["canonical_id"], json!(external));
    write("second", &external).expect(400);
    let other = made(
        "identity/group",
        json!({"name": "another external one", "type": "external"}),
    );
    write("other", &other).expect(200);
    let id = text(&written["id"]);
    let taken = json!({"name": "OTHER"});
    root.post(&format!("identity/group-alias/id/{id}"), taken)
        .expect(400);
    let shown = root.get(&format!("identity/group-alias/id/{id}")).data();
    assert_eq!(
        (&shown["name"], &shown["canonical_id"], &shown["mount_path"]),
        (
            &json!("Staff"),
            &json!(external),
            &json!("auth/group-aliases/")
        )
    );
    let group = root
        .post(
            "identity/lookup/group",
            json!({"alias_name": "STAFF", "alias_mount_accessor": accessor}),
        )
        .data();
    assert_eq!(
        (&group["id"], &group["alias"]["id"]),
        (&json!(external), &json!(id))
    );
    for query in [
        json!({"name": "AN external one"}),
        json!({ "id": external }),
        json!({ "alias_id": id }),
    ] {
        let found = root.post("identity/lookup/group", query).expect(200).data();
        assert_eq!(found["id"], json!(external));
    }
    root.post("identity/lookup/group", json!({"name": "none"}))
        .expect(204);
    let listed = root.list("identity/group-alias/id").data();
    assert_eq!(listed["key_info"][&id]["name"], "Staff");
    // A new alias by itself gets a group of its own.
    let own = root
        .post(
            "identity/group-alias",
            json!({"name": "own", "mount_accessor": accessor}),
        )
        .data();
    let group = root
        .get(&format!("identity/group/id/{}", text(&own["canonical_id"])))
        .data();
    assert_eq!(group["type"], "external");
    root.delete(&format!("identity/group-alias/id/{id}"))
        .expect(204);
    root.get(&format!("identity/group-alias/id/{id}"))
        .expect(404);
    assert_eq!(
        root.get(&format!("identity/group/id/{external}")).data()["alias"],
        json!({})
    );
}

#[test]
fn templated_policies_give_everybody_their_own() {
    let accessor = mount("templates");
    let root = root();
    let rules = format!(
        r#"
        path "secret/data/by-id/{{{{identity.entity.id}}}}" {{ capabilities = ["create", "update", "read"] }}
        path "secret/data/by-name/{{{{ identity.entity.name }}}}/*" {{ capabilities = ["create", "update", "read"] }}
        path "secret/data/by-alias/{{{{identity.entity.aliases.{accessor}.name}}}}" {{ capabilities = ["update", "create"] }}
        path "secret/data/by-team/{{{{identity.entity.metadata.team}}}}/*" {{ capabilities = ["update", "create"] }}
        path "secret/data/by-floor/{{{{identity.entity.aliases.{accessor}.custom_metadata.floor}}}}" {{ capabilities = ["update", "create"] }}
        path "secret/data/by-group/{{{{identity.groups.names.templated.id}}}}" {{ capabilities = ["update", "create"] }}
        path "secret/data/by-group/{{{{identity.groups.names.templated.metadata.room}}}}" {{ capabilities = ["update", "create"] }}
        "#
    );
    root.put("sys/policies/acl/templated", json!({ "policy": rules }))
        .expect(204);
    let (grace, of_grace) = log_in_as("templates", "grace");
    let (joan, of_joan) = log_in_as("templates", "joan");
    for (id, name) in [(&of_grace, "graces entity"), (&of_joan, "joans entity")] {
        root.post(
            &format!("identity/entity/id/{id}"),
            json!({"name": name, "policies": "templated"}),
        )
        .expect(204);
    }
    let write = |client: &Client, path: &str| {
        client
            .post(&format!("secret/data/{path}"), json!({"data": {"a": "b"}}))
            .status
    };
    for (path, whose) in [
        (format!("by-id/{of_grace}"), "grace"),
        (format!("by-id/{of_joan}"), "joan"),
        ("by-name/graces%20entity/x".to_owned(), "grace"),
        ("by-name/joans%20entity/x/y".to_owned(), "joan"),
        ("by-alias/grace".to_owned(), "grace"),
        ("by-alias/joan".to_owned(), "joan"),
        ("by-team/works/x".to_owned(), "nobody"),
        ("by-floor/2".to_owned(), "nobody"),
        ("by-group/201".to_owned(), "nobody"),
    ] {
        let expected = |name| if whose == name { 200 } else { 403 };
        assert_eq!(write(&grace, &path), expected("grace"), "{path}");
        assert_eq!(write(&joan, &path), expected("joan"), "{path}");
    }
    // As the operator fills the values, the paths open, and close again.
    root.post(
        &format!("identity/entity/id/{of_grace}"),
        json!({"metadata": {"team": "works"}}),
    )
    .expect(204);
    let alias = entity(&of_grace)["aliases"][0]["id"].clone();
    root.post(
        &format!("identity/entity-alias/id/{}", text(&alias)),
        json!({"custom_metadata": {"floor": "2"}}),
    )
    .expect(200);
    let group = made(
        "identity/group",
        json!({"name": "Templated", "metadata": {"room": "201"}, "member_entity_ids": of_grace}),
    );
    for path in ["by-team/works/x", "by-floor/2", "by-group/201"] {
        assert_eq!(write(&grace, path), 200, "{path}");
        assert_eq!(write(&joan, path), 403, "{path}");
    }
    assert_eq!(write(&grace, &format!("by-group/{group}")), 200);
    // glob-in-template: a value that could match more than itself matches nothing.
    for team in ["*", "+", "works/x", "..", "wor*", ""] {
        root.post(
            &format!("identity/entity/id/{of_grace}"),
            json!({"metadata": {"team": team}}),
        )
        .expect(204);
        for path in [
            "by-team/works/x",
            "by-team/lab/x",
            "by-team/x/x",
            "by-team/+/x",
            "by-team/*/x",
        ] {
            assert_eq!(write(&grace, path), 403, "{team:?} {path}");
        }
    }
    // The default policy shows everybody themselves.
    assert_eq!(
        grace.get(&format!("identity/entity/id/{of_grace}")).data()["name"],
        "graces entity"
    );
    grace
        .get("identity/entity/name/graces%20entity")
        .expect(200);
    grace
        .get(&format!("identity/entity/id/{of_joan}"))
        .expect(403);
    grace
        .post(
            &format!("identity/entity/id/{of_grace}"),
            json!({"policies": "x"}),
        )
        .expect(403);
    // A batch token of hers, and one that is nobody's.
    root.put(
        "sys/policies/acl/parents-too",
        json!({"policy": "path \"auth/token/create\" { capabilities = [\"update\"] }"}),
    )
    .expect(204);
    root.post(
        &format!("identity/entity/id/{of_grace}"),
        json!({"policies": "templated,parents-too"}),
    )
    .expect(204);
    let batch = grace.post("auth/token/create", json!({"type": "batch", "ttl": "1h"}));
    let batch = server().client().with_token(batch.client_token());
    assert_eq!(write(&batch, &format!("by-id/{of_grace}")), 200);
    assert_eq!(write(&batch, &format!("by-id/{of_joan}")), 403);
    let nobody = root.post("auth/token/create", json!({"policies": "templated"}));
    let nobody = server().client().with_token(nobody.client_token());
    assert_eq!(write(&nobody, "by-name//x"), 400);
    assert_eq!(write(&nobody, "by-name/x/x"), 403);

    for bad in ["identity.entity.nam", "identity.entity.metadata.", "other"] {
        let text = format!("path \"a/{{{{{bad}}}}}\" {{ capabilities = [\"read\"] }}");
        root.put("sys/policies/acl/bad-template", json!({ "policy": text }))
            .expect(400);
    }
}

#[test]
fn listings_come_in_pages() {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.list("identity/entity/id").expect(404);
    root.list("identity/group/name").expect(404);
    root.list("identity/entity-alias/id").expect(404);
    for n in 0..5 {
        let name = json!({"name": format!("Name-{n}")});
        root.post("identity/entity", name.clone()).expect(200);
        root.post("identity/group", name).expect(200);
    }
    for path in ["identity/entity/name", "identity/group/name"] {
        assert_eq!(root.list(path).keys().len(), 5);
        let page = root.list(&format!("{path}?after=NAME-1&limit=2"));
        assert_eq!(page.keys(), ["Name-2", "Name-3"]);
    }
    for path in ["identity/entity/id", "identity/group/id"] {
        let all = root.list(path).keys();
        assert!(all.is_sorted());
        let page = root.list(&format!("{path}?after={}&limit=2", all[1]));
        assert_eq!(page.keys(), all[2..4]);
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn identity_survives_a_crash_and_the_mount_cannot_be_disabled() {
    let server = kerberos::kerberized();
    let root = server.root();
    root.delete("sys/mounts/identity").expect(400);
    root.post("sys/remount", json!({"from": "identity", "to": "other"}));
    let login = log_in(&server, "kerberos", "joan").auth();
    let id = text(&login["entity_id"]);
    let joan = server.client().with_token(text(&login["client_token"]));
    root.post(
        "identity/group",
        json!({"name": "readers", "member_entity_ids": id, "policies": "works"}),
    )
    .expect(200);
    server.crash_and_restart();
    joan.get("secret/data/works/plan").expect(200);
    assert_eq!(
        log_in(&server, "kerberos", "joan").auth()["entity_id"],
        json!(id)
    );
    root.delete("identity/group/name/readers").expect(204);
    joan.get("secret/data/works/plan").expect(403);
}

#[test]
fn the_audit_log_says_whose_token_it_was_and_what_identity_gave() {
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.post("sys/auth/userpass", json!({"type": "userpass"}))
        .expect(204);
    root.post(
        "auth/userpass/users/grace",
        json!({"password": "a long passphrase", "token_type": "batch"}),
    )
    .expect(204);
    let log_in = |name: &str| {
        server.client().post(
            &format!("auth/userpass/login/{name}"),
            json!({"password": "a long passphrase"}),
        )
    };
    // Batch tokens have an entity too; GRACE is grace.
    let id = text(&log_in("grace").auth()["entity_id"]);
    let auth = log_in("GRACE").auth();
    assert_eq!(
        (&auth["entity_id"], &auth["token_type"]),
        (&json!(id), &json!("batch"))
    );
    root.post(
        "identity/group",
        json!({"name": "g", "member_entity_ids": id, "policies": "some"}),
    )
    .expect(200);
    let file = server.dir().join("audit.log");
    let options = json!({"file_path": file.display().to_string()});
    root.put(
        "sys/audit/file",
        json!({"type": "file", "options": options}),
    )
    .expect(204);
    let grace = server.client().with_token(text(&auth["client_token"]));
    grace.get("auth/token/lookup-self").expect(200);
    let log = std::fs::read_to_string(&file).unwrap();
    let entry: Value = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|entry| entry["request"]["path"] == "auth/token/lookup-self")
        .unwrap();
    let shown = &entry["auth"];
    assert_eq!(shown["entity_id"], json!(id));
    assert_eq!(shown["policies"], json!(["default", "some"]));
    assert_eq!(shown["token_policies"], json!(["default"]));
    assert_eq!(shown["identity_policies"], json!(["some"]));
    // A disabled entity's batch token ends at once, though nothing is stored of it.
    root.post(
        &format!("identity/entity/id/{id}"),
        json!({"disabled": true}),
    )
    .expect(204);
    grace.get("auth/token/lookup-self").expect(403);
    log_in("grace").expect(403);
}
