//! Failed logins lock a name: how soon, for how long, across spellings, mounts, restarts and connections.

use std::thread;
use std::time::Duration;

use obol_tests::{Client, Reply, Server, ServerOptions};
use serde_json::{Value, json};

use super::logins::{Mount, mount, root};

fn userpass(root: &Client, path: &str, lockout: Value) -> Mount {
    let mount = mount(root, path, "userpass");
    mount
        .tune(json!({ "user_lockout_config": lockout }))
        .expect(204);
    for name in ["grace", "ada"] {
        mount
            .root
            .post(
                &mount.at(&format!("users/{name}")),
                json!({"password": "right"}),
            )
            .expect(204);
    }
    mount
}

fn login(mount: &Mount, name: &str, password: &str) -> Reply {
    let client = mount.root.without_token();
    client.post(
        &mount.at(&format!("login/{name}")),
        json!({ "password": password }),
    )
}

fn fail(mount: &Mount, name: &str, times: usize) {
    for _ in 0..times {
        login(mount, name, "wrong").expect(400);
    }
}

/// The locked names of a mount.
fn locked(mount: &Mount) -> Vec<String> {
    let accessor = mount.accessor();
    let data = mount
        .root
        .get(&format!("sys/locked-users?mount_accessor={accessor}"))
        .data();
    let Some(of_root) = data["by_namespace"].as_array().and_then(|all| all.first()) else {
        assert_eq!(data["total"], 0);
        return Vec::new();
    };
    let of_mount = &of_root["mount_accessors"][0];
    assert_eq!(of_mount["mount_accessor"], accessor.as_str());
    let names: Vec<String> = serde_json::from_value(of_mount["alias_identifiers"].clone()).unwrap();
    assert_eq!(
        (&of_mount["counts"], &data["total"], &of_root["counts"]),
        (
            &json!(names.len()),
            &json!(names.len()),
            &json!(names.len())
        )
    );
    names
}

#[test]
fn five_failures_lock_a_name_and_the_answer_does_not_tell() {
    let mount = userpass(&root(), "lo-basic", json!({}));
    fail(&mount, "grace", 4);
    login(&mount, "grace", "right").expect(200);
    // A login forgets what was counted.
    fail(&mount, "grace", 5);
    let (right, wrong) = (
        login(&mount, "grace", "right"),
        login(&mount, "grace", "wrong"),
    );
    assert_eq!(
        (right.status, right.errors()),
        (wrong.status, wrong.errors())
    );
    assert_eq!(right.status, 400);
    assert_eq!(locked(&mount), ["grace"]);
    login(&mount, "ada", "right").expect(200);
    let path = format!("sys/locked-users/{}/unlock/Grace", mount.accessor());
    mount.root.post(&path, json!({})).expect(204);
    assert_eq!(locked(&mount), [""; 0]);
    login(&mount, "grace", "right").expect(200);
    mount.root.post(&path, json!({})).expect(204);
}

#[test]
fn alias_case_spellings_of_a_name_are_counted_together() {
    let mount = userpass(&root(), "lo-case", json!({"lockout_threshold": "3"}));
    for spelling in ["grace", "GRACE", "Grace"] {
        fail(&mount, spelling, 1);
    }
    for spelling in ["grace", "gRACE"] {
        login(&mount, spelling, "right").expect(400);
    }
    assert_eq!(locked(&mount), ["grace"]);
}

#[test]
fn a_lock_ends_and_so_does_a_count() {
    let mount = userpass(
        &root(),
        "lo-time",
        json!({"lockout_threshold": 2, "lockout_duration": "3s", "lockout_counter_reset": "2s"}),
    );
    fail(&mount, "grace", 2);
    login(&mount, "grace", "right").expect(400);
    fail(&mount, "ada", 1);
    thread::sleep(Duration::from_millis(4100));
    login(&mount, "grace", "right").expect(200);
    // The first failure of ada is forgotten by now.
    fail(&mount, "ada", 1);
    login(&mount, "ada", "right").expect(200);
}

#[test]
fn lockout_can_be_turned_off_and_locks_nobody_then() {
    let mount = userpass(&root(), "lo-off", json!({"lockout_threshold": 1}));
    fail(&mount, "grace", 1);
    login(&mount, "grace", "right").expect(400);
    mount
        .tune(json!({"user_lockout_config": {"lockout_disable": "true"}}))
        .expect(204);
    fail(&mount, "ada", 7);
    login(&mount, "ada", "right").expect(200);
    login(&mount, "grace", "right").expect(200);
    let tuned = mount.root.get(&format!("sys/{}/tune", mount.path)).data();
    assert_eq!(
        (
            &tuned["user_lockout_threshold"],
            &tuned["user_lockout_disable"],
            &tuned["user_lockout_duration"],
        ),
        (&json!(1), &json!(true), &json!(900))
    );
}

#[test]
fn tuning_that_makes_no_sense_is_refused() {
    let mount = userpass(&root(), "lo-tune", json!({}));
    for wrong in [
        json!({"lockout_threshold": 0}),
        json!({"lockout_duration": "0s"}),
        json!({"lockout_threshold": -1}),
    ] {
        mount
            .tune(json!({ "user_lockout_config": wrong }))
            .expect(400);
    }
    let kv = json!({"type": "kv"});
    root().post("sys/mounts/lo-kv", kv).expect(204);
    let body = json!({"user_lockout_config": {"lockout_threshold": 3}});
    root().post("sys/mounts/lo-kv/tune", body).expect(400);
    let wrong = json!({});
    root()
        .post("sys/locked-users/auth_nothing_1/unlock/x", wrong)
        .expect(400);
}

#[test]
fn made_up_names_are_not_kept() {
    let mount = userpass(&root(), "lo-flood", json!({"lockout_threshold": 1}));
    for n in 0..20 {
        fail(&mount, &format!("nobody-{n}"), 2);
    }
    assert_eq!(locked(&mount), [""; 0]);
}

#[test]
fn many_guesses_at_once_are_counted_each() {
    let mount = userpass(&root(), "lo-many", json!({}));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| login(&mount, "grace", "wrong").expect(400));
        }
    });
    assert_eq!(locked(&mount), ["grace"]);
    login(&mount, "grace", "right").expect(400);
}

#[test]
fn cross_mount_id_a_name_that_is_locked_at_one_mount_is_not_at_another() {
    let one = userpass(&root(), "lo-one", json!({"lockout_threshold": 1}));
    let other = userpass(&root(), "lo-two", json!({"lockout_threshold": 1}));
    fail(&one, "grace", 1);
    login(&one, "grace", "right").expect(400);
    login(&other, "grace", "right").expect(200);
    let path = format!("sys/locked-users/{}/unlock/grace", other.accessor());
    root().post(&path, json!({})).expect(204);
    login(&one, "grace", "right").expect(400);
}

#[test]
fn the_listing_counts_all_and_names_as_many_as_wanted() {
    let mount = userpass(&root(), "lo-list", json!({"lockout_threshold": 1}));
    fail(&mount, "grace", 1);
    fail(&mount, "ada", 1);
    let path = format!(
        "sys/locked-users?limit=1&mount_accessor={}",
        mount.accessor()
    );
    let data = mount.root.get(&path).data();
    let of_mount = &data["by_namespace"][0]["mount_accessors"][0];
    assert_eq!(of_mount["counts"], 2);
    assert_eq!(of_mount["alias_identifiers"].as_array().unwrap().len(), 1);
    assert_eq!(locked(&mount), ["ada", "grace"]);
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs a storage that lasts")]
fn a_restart_unlocks_nobody() {
    let server = Server::ready(ServerOptions::on_disk());
    let mount = userpass(&server.root(), "userpass", json!({}));
    fail(&mount, "grace", 5);
    fail(&mount, "ada", 4);
    server.crash_and_restart();
    login(&mount, "grace", "right").expect(400);
    fail(&mount, "ada", 1);
    login(&mount, "ada", "right").expect(400);
    assert_eq!(locked(&mount), ["ada", "grace"]);
}
