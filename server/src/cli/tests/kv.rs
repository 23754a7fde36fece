//! `kv` on both versions of the engine.

use serde_json::{Value, json as j};

use super::harness::{Reply, Server, Shell, empty, json, status};

fn mount(path: &str, version: Option<&str>) -> Reply {
    let options = version.map(|version| j!({ "version": version }));
    json(j!({"data": {"path": path, "type": "kv", "options": options}}))
}

fn v2() -> Reply {
    mount("secret/", Some("2"))
}

fn secret() -> Value {
    j!({"request_id": "r", "data": {
        "data": {"user": "app", "password": "pw"},
        "metadata": {"version": 2, "created_time": "2026-01-01T00:00:00Z", "destroyed": false},
    }})
}

/// Runs a line against the mount's answer and one reply; gives the second request as (method, target, body).
#[track_caller]
fn second(line: &str, preflight: Reply, reply: Reply) -> (String, String, Value, String) {
    let server = Server::start([preflight, reply]);
    let ran = Shell::of(&server).run(line).ok();
    let [first, second] = &server.seen()[..] else {
        panic!("{line}: two requests, not {:?}", server.seen());
    };
    assert_eq!(first.method, "GET");
    assert!(
        first.target.starts_with("/v1/sys/internal/ui/mounts/"),
        "{}",
        first.target
    );
    (
        second.method.clone(),
        second.target.clone(),
        second.json(),
        ran.out,
    )
}

#[track_caller]
fn asks(
    line: &str,
    preflight: Reply,
    reply: Reply,
    method: &str,
    target: &str,
    body: Value,
) -> String {
    let (m, t, b, out) = second(line, preflight, reply);
    assert_eq!(
        (m.as_str(), t.as_str(), b),
        (method, target, body),
        "{line}"
    );
    out
}

#[test]
fn get_reads_below_data_and_shows_sections() {
    let out = asks(
        "kv get secret/app/db",
        v2(),
        json(secret()),
        "GET",
        "/v1/secret/data/app/db",
        Value::Null,
    );
    let expected = "\
===== Secret Path =====
secret/data/app/db

====== Metadata ======
Key             Value
---             -----
created_time    2026-01-01T00:00:00Z
destroyed       false
version         2

====== Data ======
Key         Value
---         -----
password    pw
user        app
";
    // The first heading is as wide as the path below it.
    let out_rest = out.split_once('\n').unwrap().1;
    assert_eq!(out_rest, expected.split_once('\n').unwrap().1);
    assert!(
        out.starts_with("=") && out.contains(" Secret Path "),
        "{out}"
    );
}

#[test]
fn get_takes_the_mount_apart_and_an_older_version() {
    asks(
        "kv get -mount=secret app/db",
        v2(),
        json(secret()),
        "GET",
        "/v1/secret/data/app/db",
        Value::Null,
    );
    asks(
        "kv get -version=1 secret/app/db",
        v2(),
        json(secret()),
        "GET",
        "/v1/secret/data/app/db?version=1",
        Value::Null,
    );
    asks(
        "kv get -version=0 secret/app/db",
        v2(),
        json(secret()),
        "GET",
        "/v1/secret/data/app/db",
        Value::Null,
    );
}

#[test]
fn get_finds_the_mount_inside_a_longer_path() {
    let out = asks(
        "kv get -field=user team/kv/a/b",
        mount("team/kv/", Some("2")),
        json(secret()),
        "GET",
        "/v1/team/kv/data/a/b",
        Value::Null,
    );
    assert_eq!(out, "app");
    asks(
        "kv get -field=user -mount team/kv/ /a/b/",
        mount("team/kv/", Some("2")),
        json(secret()),
        "GET",
        "/v1/team/kv/data/a/b",
        Value::Null,
    );
    // A name that only begins like the mount is not cut.
    asks(
        "kv get -field=user secret/secretive",
        v2(),
        json(secret()),
        "GET",
        "/v1/secret/data/secretive",
        Value::Null,
    );
}

#[test]
fn get_gives_the_whole_body_as_json_and_the_data_as_a_field() {
    let (_, _, _, out) = second("kv get -format=json secret/x", v2(), json(secret()));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), secret());
    let (_, _, _, out) = second(
        "kv get -field=data -format=json secret/x",
        v2(),
        json(secret()),
    );
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        secret()["data"]["data"]
    );
}

#[test]
fn a_deleted_version_is_shown_by_its_metadata() {
    let deleted = || {
        status(
            404,
            j!({"data": {"data": null, "metadata": {"version": 3, "deletion_time": "2026-01-01T00:00:00Z"}}}),
        )
    };
    let server = Server::start([v2(), deleted(), v2(), deleted()]);
    let shell = Shell::of(&server);
    let out = shell.run("kv get secret/x").ok().out;
    assert!(
        out.contains("deletion_time") && !out.contains(" Data "),
        "{out}"
    );
    shell
        .run("kv get -field=user secret/x")
        .failed(2, "deleted or destroyed");
}

#[test]
fn version_1_keeps_its_paths() {
    let v1 = || mount("kv/", None);
    let out = asks(
        "kv get kv/app",
        v1(),
        json(j!({"data": {"a": "b"}, "lease_duration": 2764800})),
        "GET",
        "/v1/kv/app",
        Value::Null,
    );
    assert_eq!(
        out,
        "==== Data ====\nKey    Value\n---    -----\na      b\n"
            .replace("==== Data ====", out.lines().next().unwrap())
    );
    asks(
        "kv put -mount=kv app a=b",
        v1(),
        empty(),
        "PUT",
        "/v1/kv/app",
        j!({"a": "b"}),
    );
    asks(
        "kv list kv",
        v1(),
        json(j!({"data": {"keys": ["app"]}})),
        "LIST",
        "/v1/kv",
        Value::Null,
    );
    asks(
        "kv delete kv/app",
        v1(),
        empty(),
        "DELETE",
        "/v1/kv/app",
        Value::Null,
    );
    let server = Server::start([v1(), v1(), v1(), v1()]);
    let shell = Shell::of(&server);
    for line in [
        "kv destroy -versions=1 kv/app",
        "kv metadata get kv/app",
        "kv put -cas=1 kv/app a=b",
        "kv get -version=1 kv/app",
    ] {
        shell.run(line).failed(1, "version 2");
    }
    assert_eq!(server.seen().len(), 4, "nothing was changed");
}

#[test]
fn a_server_that_cannot_say_has_version_1() {
    asks(
        "kv get old/app",
        status(404, j!({"errors": ["no handler"]})),
        json(j!({"data": {"a": 1}})),
        "GET",
        "/v1/old/app",
        Value::Null,
    );
}

#[test]
fn put_wraps_the_data_and_knows_check_and_set() {
    let written = || json(j!({"data": {"version": 1, "created_time": "2026-01-01T00:00:00Z"}}));
    let out = asks(
        "kv put secret/app a=1 b=2",
        v2(),
        written(),
        "PUT",
        "/v1/secret/data/app",
        j!({"data": {"a": "1", "b": "2"}, "options": {}}),
    );
    assert!(
        out.contains("secret/data/app") && out.contains("version         1"),
        "{out}"
    );
    asks(
        "kv put -cas=0 secret/app a=1",
        v2(),
        written(),
        "PUT",
        "/v1/secret/data/app",
        j!({"data": {"a": "1"}, "options": {"cas": 0}}),
    );
    asks(
        "kv put -cas -1 secret/app a=1",
        v2(),
        written(),
        "PUT",
        "/v1/secret/data/app",
        j!({"data": {"a": "1"}, "options": {}}),
    );
    Shell::empty().run("kv put secret/app").failed(1, "DATA");
}

#[test]
fn put_reads_its_data_before_it_asks_anything() {
    let server = Server::start([]);
    Shell::of(&server)
        .run("kv put secret/app a=@/no/such/file")
        .failed(1, "/no/such/file");
    assert!(server.seen().is_empty());
}

#[test]
fn list_goes_below_metadata() {
    let keys = || json(j!({"data": {"keys": ["b", "a/"]}}));
    let out = asks(
        "kv list secret/",
        v2(),
        keys(),
        "LIST",
        "/v1/secret/metadata",
        Value::Null,
    );
    assert_eq!(out, "Keys\n----\na/\nb\n");
    asks(
        "kv list -mount=secret app/",
        v2(),
        keys(),
        "LIST",
        "/v1/secret/metadata/app",
        Value::Null,
    );
    asks(
        "kv list -mount=secret",
        v2(),
        keys(),
        "LIST",
        "/v1/secret/metadata",
        Value::Null,
    );
    Shell::empty().run("kv list").failed(1, "path is empty");
}

#[test]
fn versions_are_deleted_undeleted_and_destroyed() {
    asks(
        "kv delete secret/app",
        v2(),
        empty(),
        "DELETE",
        "/v1/secret/data/app",
        Value::Null,
    );
    asks(
        "kv delete -versions=1,2 secret/app",
        v2(),
        empty(),
        "PUT",
        "/v1/secret/delete/app",
        j!({"versions": [1, 2]}),
    );
    asks(
        "kv undelete -versions=2 secret/app",
        v2(),
        empty(),
        "PUT",
        "/v1/secret/undelete/app",
        j!({"versions": [2]}),
    );
    asks(
        "kv destroy -versions 1 -versions 3 secret/app",
        v2(),
        empty(),
        "PUT",
        "/v1/secret/destroy/app",
        j!({"versions": [1, 3]}),
    );
    Shell::empty()
        .run("kv destroy secret/app")
        .failed(1, "--versions");
    Shell::empty()
        .run("kv undelete -versions=x secret/app")
        .failed(1, "-versions");
}

#[test]
fn metadata_is_shown_version_by_version() {
    let body = j!({"data": {"current_version": 10, "max_versions": 0, "versions": {
        "10": {"created_time": "t10", "destroyed": false}, "2": {"created_time": "t2", "destroyed": true},
    }}});
    let out = asks(
        "kv metadata get secret/app",
        v2(),
        json(body),
        "GET",
        "/v1/secret/metadata/app",
        Value::Null,
    );
    let (two, ten) = (
        out.find("Version 2 ").unwrap(),
        out.find("Version 10 ").unwrap(),
    );
    assert!(two < ten && out.contains("current_version    10"), "{out}");
    asks(
        "kv metadata delete secret/app",
        v2(),
        empty(),
        "DELETE",
        "/v1/secret/metadata/app",
        Value::Null,
    );
}

#[test]
fn a_mount_that_may_not_be_seen_is_explained() {
    let server = Server::start([status(
        403,
        j!({"errors": ["preflight capability check returned 403"]}),
    )]);
    let ran = Shell::of(&server)
        .run("kv get secret/app")
        .failed(2, "MOUNT/data/PATH");
    assert!(
        ran.err
            .contains("* preflight capability check returned 403"),
        "{}",
        ran.err
    );
}

#[test]
fn a_curl_line_is_about_the_secret_not_about_the_question_before_it() {
    let server = Server::start([v2()]);
    let out = Shell::of(&server)
        .run("kv put -output-curl-string secret/app a='it'\"'\"'s'")
        .ok()
        .out;
    assert_eq!(
        server.seen().len(),
        1,
        "the mount was asked for, nothing was written"
    );
    assert!(
        out.starts_with("curl -X PUT ")
            && out.contains(&format!("{}/v1/secret/data/app", server.address())),
        "{out}"
    );
    assert!(out.contains(r#"it'\''s"#), "{out}");
    assert!(
        out.contains("\"X-Vault-Token: $VAULT_TOKEN\"") && !out.contains("t0ken"),
        "{out}"
    );
}
