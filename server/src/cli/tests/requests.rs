//! What each command asks of the server: method, path, body; and what it prints of the answer.

use serde_json::{Value, json as j};

use super::harness::{Reply, Server, Shell, empty, json, status, text};

/// Runs one line against one reply and checks the one request.
#[track_caller]
pub(super) fn asks(line: &str, reply: Reply, method: &str, target: &str, body: Value) -> String {
    let server = Server::start([reply]);
    let ran = Shell::of(&server).run(line).ok();
    let [request] = &server.seen()[..] else {
        panic!("{line}: one request, not {:?}", server.seen());
    };
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        (method, target),
        "{line}"
    );
    assert_eq!(request.json(), body, "{line}");
    assert_eq!(request.header("X-Vault-Token"), Some("t0ken"), "{line}");
    assert_eq!(request.header("X-Vault-Request"), Some("true"), "{line}");
    ran.out
}

pub(super) fn data(data: Value) -> Reply {
    json(
        j!({"request_id": "r", "lease_id": "", "lease_duration": 0, "renewable": false, "data": data, "warnings": null}),
    )
}

fn login(token: &str) -> Reply {
    json(
        j!({"auth": {"client_token": token, "accessor": "a", "policies": ["default"], "token_policies": ["default"],
        "lease_duration": 3600, "renewable": true, "metadata": null}, "data": null}),
    )
}

#[test]
fn read_prints_a_table_or_json_or_one_field() {
    let reply = || data(j!({"b": {"c": 1}, "a": "x"}));
    let out = asks("read sys/x", reply(), "GET", "/v1/sys/x", Value::Null);
    assert_eq!(
        out,
        "Key    Value\n---    -----\na      x\nb      {\"c\":1}\n"
    );
    let out = asks(
        "read -format=json /sys/x/",
        reply(),
        "GET",
        "/v1/sys/x",
        Value::Null,
    );
    let parsed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&parsed["request_id"], &parsed["data"]["a"]),
        (&j!("r"), &j!("x"))
    );
    let out = asks(
        "read sys/x -field=a",
        reply(),
        "GET",
        "/v1/sys/x",
        Value::Null,
    );
    assert_eq!(out, "x");
    let out = asks(
        "read -field=b -format=json sys/x",
        reply(),
        "GET",
        "/v1/sys/x",
        Value::Null,
    );
    assert_eq!(out, "{\n  \"c\": 1\n}");
}

#[test]
fn read_puts_parameters_into_the_query() {
    asks(
        "read sys/x version=2 'q=a b'",
        data(j!({"a": 1})),
        "GET",
        "/v1/sys/x?version=2&q=a%20b",
        Value::Null,
    );
}

#[test]
fn nothing_at_a_path_is_exit_status_2() {
    let server = Server::start([
        status(404, j!({"errors": []})),
        empty(),
        status(404, j!({"errors": []})),
    ]);
    let shell = Shell::of(&server);
    shell.run("read sys/x").failed(2, "nothing at sys/x");
    shell.run("read sys/x").failed(2, "nothing at sys/x");
    shell.run("list sys/x").failed(2, "nothing at sys/x");
}

#[test]
fn a_field_that_is_not_there_is_exit_status_1() {
    let server = Server::start([data(j!({"a": 1}))]);
    Shell::of(&server)
        .run("read -field=b sys/x")
        .failed(1, "no field named b");
}

#[test]
fn write_sends_its_data_as_json() {
    let out = asks(
        "write auth/x a=1 b=2 b=3",
        empty(),
        "PUT",
        "/v1/auth/x",
        j!({"a": "1", "b": ["2", "3"]}),
    );
    assert_eq!(out, "Success! Data written to: auth/x\n");
    asks(
        "write -f sys/seal",
        empty(),
        "PUT",
        "/v1/sys/seal",
        Value::Null,
    );
    let out = asks(
        "write -field=token auth/x a=1",
        login("obs.t"),
        "PUT",
        "/v1/auth/x",
        j!({"a": "1"}),
    );
    assert_eq!(out, "obs.t");
    Shell::empty().run("write auth/x").failed(1, "-force");
}

#[test]
fn write_takes_standard_input_whole_or_as_one_value() {
    for (line, stdin, body) in [
        ("write x -", r#"{"n": 1}"#, j!({"n": 1})),
        (
            "write x keytab=- a=b",
            "BQI=\n",
            j!({"keytab": "BQI=\n", "a": "b"}),
        ),
    ] {
        let server = Server::start([empty()]);
        Shell::of(&server).stdin(stdin).run(line).ok();
        assert_eq!(server.seen()[0].json(), body);
    }
}

#[test]
fn delete_list_and_path_help() {
    let out = asks(
        "delete auth/x k=v",
        empty(),
        "DELETE",
        "/v1/auth/x?k=v",
        Value::Null,
    );
    assert!(out.contains("deleted (if it existed) at: auth/x"), "{out}");
    let out = asks(
        "list auth/x/",
        data(j!({"keys": ["b", "a/"]})),
        "LIST",
        "/v1/auth/x",
        Value::Null,
    );
    assert_eq!(out, "Keys\n----\na/\nb\n");
    let out = asks(
        "list -format=json auth/x",
        data(j!({"keys": ["b", "a"]})),
        "LIST",
        "/v1/auth/x",
        Value::Null,
    );
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), j!(["b", "a"]));
    let out = asks(
        "path-help sys/x",
        json(j!({"help": "What it is.\n", "openapi": {}})),
        "GET",
        "/v1/sys/x?help=1",
        Value::Null,
    );
    assert_eq!(out, "What it is.\n");
}

#[test]
fn unwrap_uses_the_wrapping_token_as_its_own() {
    let server = Server::start([data(j!({"a": "b"}))]);
    Shell::of(&server).run("unwrap obs.wrapped").ok();
    let request = &server.seen()[0];
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("PUT", "/v1/sys/wrapping/unwrap")
    );
    assert_eq!(request.header("X-Vault-Token"), Some("obs.wrapped"));
    // As a line for curl it names the token to unwrap, and not this shell's.
    let line = Shell::of(&server)
        .run("unwrap -output-curl-string obs.wrapped")
        .ok()
        .out;
    assert!(line.contains(r#"-d '{"token":"obs.wrapped"}'"#), "{line}");
}

#[test]
fn the_token_in_use_is_printed_without_asking_anybody() {
    let server = Server::start([]);
    let shell = Shell::of(&server);
    let printed = shell.run("print token").ok().out;
    assert_eq!(printed, "t0ken\n");
    let json = shell.run("print token -format=JSON").ok().out;
    assert!(json.contains("\"token\": \"t0ken\""), "{json}");
    let none = Shell::of(&server).set("VAULT_TOKEN", "");
    none.run("print token").failed(1, "there is no token");
    assert!(server.seen().is_empty());
}

#[test]
fn a_detailed_listing_shows_what_the_server_tells_of_each_name() {
    let reply = || {
        data(j!({
            "keys": ["a", "b"],
            "key_info": {"a": {"name": "Ann", "aliases": 2}},
        }))
    };
    let out = asks("list -detailed x", reply(), "LIST", "/v1/x", Value::Null);
    assert_eq!(
        out,
        "Keys    aliases    name\n----    -------    ----\na       2          Ann\nb       n/a        n/a\n"
    );
    let out = asks("list x", reply(), "LIST", "/v1/x", Value::Null);
    assert_eq!(out, "Keys\n----\na\nb\n");
    let json = asks(
        "list -detailed -format=json x",
        reply(),
        "LIST",
        "/v1/x",
        Value::Null,
    );
    assert!(
        json.contains("key_info") && json.contains("request_id"),
        "{json}"
    );
}

#[test]
fn token_lookup_knows_three_subjects() {
    let reply = || data(j!({"id": "t", "ttl": 7200}));
    let out = asks(
        "token lookup",
        reply(),
        "GET",
        "/v1/auth/token/lookup-self",
        Value::Null,
    );
    assert!(out.contains("ttl    2h"), "{out}");
    asks(
        "token lookup obs.x",
        reply(),
        "POST",
        "/v1/auth/token/lookup",
        j!({"token": "obs.x"}),
    );
    asks(
        "token lookup -accessor acc",
        reply(),
        "POST",
        "/v1/auth/token/lookup-accessor",
        j!({"accessor": "acc"}),
    );
    Shell::empty()
        .run("token lookup -accessor")
        .failed(1, "needs an accessor");
}

#[test]
fn token_create_sends_what_was_asked_and_nothing_else() {
    asks(
        "token create",
        login("t"),
        "POST",
        "/v1/auth/token/create",
        j!({}),
    );
    let line = "token create -policy=a -policy=b -ttl=90m -explicit-max-ttl=1d -period=0 -type=batch -orphan \
        -no-default-policy -display-name=ci -use-limit=3 -metadata=k=v=w -metadata=x=y -renewable=false";
    let body = j!({
        "policies": ["a", "b"], "ttl": 5400, "explicit_max_ttl": 86400, "period": 0, "type": "batch", "no_parent": true,
        "no_default_policy": true, "display_name": "ci", "num_uses": 3, "meta": {"k": "v=w", "x": "y"}, "renewable": false,
    });
    let out = asks(line, login("obb.t"), "POST", "/v1/auth/token/create", body);
    assert!(out.contains("token                obb.t"), "{out}");
    asks(
        "token create -role=r",
        login("t"),
        "POST",
        "/v1/auth/token/create/r",
        j!({}),
    );
    Shell::empty()
        .run("token create -ttl=soon")
        .failed(1, "-ttl");
    Shell::empty()
        .run("token create -metadata=novalue")
        .failed(1, "KEY=VALUE");
}

#[test]
fn token_renew_and_revoke() {
    asks(
        "token renew",
        login("t"),
        "PUT",
        "/v1/auth/token/renew-self",
        j!({}),
    );
    asks(
        "token renew -increment=1h",
        login("t"),
        "PUT",
        "/v1/auth/token/renew-self",
        j!({"increment": 3600}),
    );
    asks(
        "token renew -i 30m obs.x",
        login("t"),
        "PUT",
        "/v1/auth/token/renew",
        j!({"increment": 1800, "token": "obs.x"}),
    );
    asks(
        "token renew -accessor acc",
        login("t"),
        "PUT",
        "/v1/auth/token/renew-accessor",
        j!({"accessor": "acc"}),
    );
    asks(
        "token revoke -self",
        empty(),
        "PUT",
        "/v1/auth/token/revoke-self",
        Value::Null,
    );
    asks(
        "token revoke obs.x",
        empty(),
        "PUT",
        "/v1/auth/token/revoke",
        j!({"token": "obs.x"}),
    );
    asks(
        "token revoke -accessor acc",
        empty(),
        "PUT",
        "/v1/auth/token/revoke-accessor",
        j!({"accessor": "acc"}),
    );
    asks(
        "token revoke -mode=orphan obs.x",
        empty(),
        "PUT",
        "/v1/auth/token/revoke-orphan",
        j!({"token": "obs.x"}),
    );
    asks(
        "token revoke -mode=path auth/kerberos/",
        empty(),
        "PUT",
        "/v1/sys/leases/revoke-prefix/auth/kerberos",
        Value::Null,
    );
    Shell::empty().run("token revoke").failed(1, "-self");
    Shell::empty()
        .run("token revoke -self obs.x")
        .failed(1, "-self takes no argument");
    Shell::empty()
        .run("token revoke -mode=all x")
        .failed(1, "mode");
}

#[test]
fn revoking_the_kept_token_forgets_it() {
    let server = Server::start([empty(), empty()]);
    let shell = Shell::of(&server).unset("VAULT_TOKEN");
    let file = shell.home.path().join(".vault-token");
    std::fs::write(&file, "obs.kept\n").unwrap();
    shell.run("token revoke -self").ok();
    assert_eq!(server.seen()[0].header("X-Vault-Token"), Some("obs.kept"));
    assert!(!file.exists());
    // Another token than the one that was revoked stays.
    std::fs::write(&file, "obs.other").unwrap();
    let shell = shell.set("VAULT_TOKEN", "obs.mine");
    shell.run("token revoke -self").ok();
    assert!(file.exists());
}

#[test]
fn a_token_may_come_from_standard_input() {
    let server = Server::start([data(j!({"id": "t"}))]);
    Shell::of(&server)
        .stdin("obs.piped\n")
        .run("token lookup -")
        .ok();
    assert_eq!(server.seen()[0].json(), j!({"token": "obs.piped"}));
}

#[test]
fn token_capabilities_are_sorted() {
    let reply = || data(j!({"capabilities": ["update", "read"], "secret/x": ["update", "read"]}));
    let out = asks(
        "token capabilities secret/x",
        reply(),
        "POST",
        "/v1/sys/capabilities-self",
        j!({"paths": ["secret/x"]}),
    );
    assert_eq!(out, "read, update\n");
    asks(
        "token capabilities obs.x secret/x",
        reply(),
        "POST",
        "/v1/sys/capabilities",
        j!({"token": "obs.x", "paths": ["secret/x"]}),
    );
    asks(
        "token capabilities -accessor acc secret/x",
        reply(),
        "POST",
        "/v1/sys/capabilities-accessor",
        j!({"accessor": "acc", "paths": ["secret/x"]}),
    );
    let out = asks(
        "token capabilities -format=json secret/x",
        reply(),
        "POST",
        "/v1/sys/capabilities-self",
        j!({"paths": ["secret/x"]}),
    );
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        j!(["read", "update"])
    );
}

#[test]
fn policies_are_written_from_a_file_or_standard_input() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "path \"x\" {}\n").unwrap();
    let body = j!({"policy": "path \"x\" {}\n"});
    let out = asks(
        &format!("policy write App {}", file.path().display()),
        empty(),
        "PUT",
        "/v1/sys/policies/acl/app",
        body.clone(),
    );
    assert_eq!(out, "Success! Uploaded policy: app\n");
    let server = Server::start([empty()]);
    Shell::of(&server)
        .stdin("path \"x\" {}\n")
        .run("policy write app -")
        .ok();
    assert_eq!(server.seen()[0].json(), body);
    Shell::empty()
        .run("policy write app /no/such/file")
        .failed(1, "/no/such/file");
}

#[test]
fn policies_are_listed_read_and_deleted() {
    let out = asks(
        "policy list",
        data(j!({"keys": ["default", "root"]})),
        "LIST",
        "/v1/sys/policies/acl",
        Value::Null,
    );
    assert_eq!(out, "default\nroot\n");
    let out = asks(
        "policy read app",
        data(j!({"name": "app", "policy": "text\n"})),
        "GET",
        "/v1/sys/policies/acl/app",
        Value::Null,
    );
    assert_eq!(out, "text\n");
    asks(
        "policy delete app",
        empty(),
        "DELETE",
        "/v1/sys/policies/acl/app",
        Value::Null,
    );
    let server = Server::start([status(404, j!({"errors": []}))]);
    Shell::of(&server)
        .run("policy read app")
        .failed(2, "nothing at");
}

#[test]
fn policy_fmt_rewrites_the_file_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "path   \"x\"  {capabilities=[\"read\"]}").unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let line = format!("policy fmt {}", file.path().display());
    Shell::empty().run(&line).ok();
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(
        text.starts_with("path \"x\" {\n  capabilities = [\"read\"]\n}"),
        "{text}"
    );
    assert_eq!(
        std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777,
        0o640
    );
    Shell::empty().run(&line).ok();
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
    std::fs::write(file.path(), "path \"x\" {").unwrap();
    Shell::empty().run(&line).failed(1, "line 1");
    assert_eq!(
        std::fs::read_to_string(file.path()).unwrap(),
        "path \"x\" {"
    );
}

#[test]
fn auth_methods_are_enabled_tuned_listed_and_disabled() {
    let plain = j!({"type": "kerberos", "description": "", "config": {}, "local": false, "seal_wrap": false});
    let out = asks(
        "auth enable kerberos",
        empty(),
        "POST",
        "/v1/sys/auth/kerberos",
        plain,
    );
    assert_eq!(
        out,
        "Success! Enabled the kerberos auth method at: kerberos/\n"
    );
    let line = "auth enable -path=lab/ -description='lab realm' -default-lease-ttl=8h -max-lease-ttl=1d \
        -token-type=batch -listing-visibility=unauth -options=a=b kerberos";
    let body = j!({"type": "kerberos", "description": "lab realm", "local": false, "seal_wrap": false, "options": {"a": "b"},
        "config": {"default_lease_ttl": 28800, "max_lease_ttl": 86400, "token_type": "batch", "listing_visibility": "unauth"}});
    asks(line, empty(), "POST", "/v1/sys/auth/lab", body);
    let body = j!({"description": "", "max_lease_ttl": 60});
    asks(
        "auth tune -max-lease-ttl=1m -description= lab/",
        empty(),
        "POST",
        "/v1/sys/auth/lab/tune",
        body,
    );
    Shell::empty()
        .run("auth tune lab")
        .failed(1, "nothing to change");
    asks(
        "auth disable lab/",
        empty(),
        "DELETE",
        "/v1/sys/auth/lab",
        Value::Null,
    );
    let mounts = j!({
        "token/": {"type": "token", "accessor": "auth_token_1", "description": "", "config": {"default_lease_ttl": 0, "max_lease_ttl": 3600, "token_type": "default-service"}, "local": false, "options": null, "uuid": "u"},
        "kerberos/": {"type": "kerberos", "accessor": "auth_kerberos_2", "description": "d", "config": {}, "local": false, "options": {"a": "b"}, "uuid": "v"},
    });
    let out = asks(
        "auth list",
        data(mounts.clone()),
        "GET",
        "/v1/sys/auth",
        Value::Null,
    );
    let expected = "\
Path         Type        Accessor           Description
----         ----        --------           -----------
kerberos/    kerberos    auth_kerberos_2    d
token/       token       auth_token_1       n/a
";
    assert_eq!(out, expected);
    let out = asks(
        "auth list -detailed",
        data(mounts.clone()),
        "GET",
        "/v1/sys/auth",
        Value::Null,
    );
    assert!(
        out.contains("system") && out.contains("1h") && out.contains("{\"a\":\"b\"}"),
        "{out}"
    );
    let out = asks(
        "auth list -format=json",
        data(mounts.clone()),
        "GET",
        "/v1/sys/auth",
        Value::Null,
    );
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), mounts);
}

#[test]
fn secrets_engines_are_enabled_tuned_listed_and_disabled() {
    let kv = |options: Value| j!({"type": "kv", "description": "", "config": {}, "local": false, "seal_wrap": false, "options": options});
    asks(
        "secrets enable -path=team -version=2 kv",
        empty(),
        "POST",
        "/v1/sys/mounts/team",
        kv(j!({"version": "2"})),
    );
    let out = asks(
        "secrets enable kv-v2",
        empty(),
        "POST",
        "/v1/sys/mounts/kv-v2",
        kv(j!({"version": "2"})),
    );
    assert!(out.contains("at: kv-v2/"), "{out}");
    asks(
        "secrets tune -default-lease-ttl=1h team",
        empty(),
        "POST",
        "/v1/sys/mounts/team/tune",
        j!({"default_lease_ttl": 3600}),
    );
    asks(
        "secrets disable team",
        empty(),
        "DELETE",
        "/v1/sys/mounts/team",
        Value::Null,
    );
    let out = asks(
        "secrets list",
        data(j!({"secret/": {"type": "kv", "accessor": "kv_1", "description": "key/value"}})),
        "GET",
        "/v1/sys/mounts",
        Value::Null,
    );
    assert!(
        out.contains("secret/    kv      kv_1        key/value"),
        "{out}"
    );
}

#[test]
fn audit_devices_are_enabled_listed_and_disabled() {
    let body =
        j!({"type": "file", "description": "", "local": false, "options": {"file_path": "stdout"}});
    asks(
        "audit enable -path=console file file_path=stdout",
        empty(),
        "PUT",
        "/v1/sys/audit/console",
        body,
    );
    asks(
        "audit disable console/",
        empty(),
        "DELETE",
        "/v1/sys/audit/console",
        Value::Null,
    );
    let devices = j!({"console/": {"type": "file", "description": "", "local": false, "options": {"file_path": "stdout"}, "path": "console/"}});
    let out = asks(
        "audit list",
        data(devices.clone()),
        "GET",
        "/v1/sys/audit",
        Value::Null,
    );
    assert!(out.contains("console/    file    n/a"), "{out}");
    let out = asks(
        "audit list -detailed",
        data(devices),
        "GET",
        "/v1/sys/audit",
        Value::Null,
    );
    assert!(out.contains("{\"file_path\":\"stdout\"}"), "{out}");
    let server = Server::start([data(j!({}))]);
    Shell::of(&server)
        .run("audit list")
        .failed(2, "no audit device");
}

fn seal_status(sealed: bool) -> Value {
    j!({"type": "shamir", "initialized": true, "sealed": sealed, "t": 3, "n": 5, "progress": 1, "nonce": "abc", "version": "0.1.0",
        "recovery_seal": false, "storage_type": "rocksdb"})
}

#[test]
fn the_exit_status_of_status_tells_the_seal() {
    let leader = || json(j!({"ha_enabled": false, "is_self": false, "leader_address": ""}));
    let server = Server::start([json(seal_status(false)), leader()]);
    let ran = Shell::of(&server).run("status");
    assert_eq!(ran.status, 0, "{}", ran.err);
    for line in [
        "Seal Type       shamir",
        "Sealed          false",
        "Total Shares    5",
        "HA Enabled      false",
    ] {
        assert!(ran.out.lines().any(|l| l == line), "{line}:\n{}", ran.out);
    }
    assert_eq!(
        server.seen()[0].header("X-Vault-Token"),
        None,
        "the status is public"
    );

    let sealed = status(503, j!({"errors": ["the server is sealed"]}));
    let server = Server::start([json(seal_status(true)), sealed]);
    let ran = Shell::of(&server).run("status");
    assert_eq!(ran.status, 2);
    assert!(
        ran.out.contains("Unseal Progress    1/3") && ran.out.contains("Unseal Nonce       abc"),
        "{}",
        ran.out
    );

    let server = Server::start([json(seal_status(true)), leader()]);
    let ran = Shell::of(&server).run("status -format=json");
    assert_eq!(ran.status, 2);
    let body: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&body["sealed"], &body["ha_enabled"]),
        (&j!(true), &j!(false))
    );

    let nobody = Shell::empty().set("VAULT_ADDR", "http://127.0.0.1:1");
    nobody.run("status").failed(1, "refused");
}

#[test]
fn init_prints_keys_and_token_as_vault_names_them() {
    let made = j!({"keys": ["6b"], "keys_base64": ["aw=="], "root_token": "obs.root"});
    let server = Server::start([json(seal_status(true)), json(made.clone())]);
    let out = Shell::of(&server)
        .run("operator init -n 1 -key-threshold=1")
        .ok()
        .out;
    let request = &server.seen()[1];
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("PUT", "/v1/sys/init")
    );
    assert_eq!(
        request.json(),
        j!({"secret_shares": 1, "secret_threshold": 1})
    );
    assert!(
        out.contains("Unseal Key 1: aw==\n\nInitial Root Token: obs.root\n"),
        "{out}"
    );

    let server = Server::start([json(seal_status(true)), json(made)]);
    let out = Shell::of(&server)
        .run("operator init -format=json")
        .ok()
        .out;
    assert_eq!(
        server.seen()[1].json(),
        j!({"secret_shares": 5, "secret_threshold": 3})
    );
    let body: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(body["unseal_keys_b64"], j!(["aw=="]));
    assert_eq!(
        (&body["root_token"], &body["unseal_threshold"]),
        (&j!("obs.root"), &j!(3))
    );

    let made = j!({"keys": [], "keys_base64": [], "recovery_keys": ["6b"], "recovery_keys_base64": ["aw=="], "root_token": "obs.root"});
    let mut auto = seal_status(false);
    auto["recovery_seal"] = true.into();
    let server = Server::start([json(auto), json(made)]);
    let out = Shell::of(&server).run("operator init").ok().out;
    assert_eq!(
        server.seen()[1].json(),
        j!({"recovery_shares": 5, "recovery_threshold": 3})
    );
    assert!(
        out.contains("Recovery Key 1: aw==") && !out.contains("Unseal Key"),
        "{out}"
    );
}

#[test]
fn init_status_has_its_own_exit_statuses() {
    for (initialised, exit) in [(true, 0), (false, 2)] {
        let server = Server::start([json(j!({"initialized": initialised}))]);
        assert_eq!(Shell::of(&server).run("operator init -status").status, exit);
    }
    Shell::empty()
        .set("VAULT_ADDR", "http://127.0.0.1:1")
        .run("operator init -status")
        .failed(1, "refused");
}

#[test]
fn unseal_takes_a_key_from_three_places() {
    let server = Server::start([
        json(seal_status(true)),
        json(j!({})),
        json(seal_status(true)),
        json(j!({})),
        json(seal_status(true)),
    ]);
    let shell = Shell::of(&server).stdin(" key-from-stdin\n");
    shell.run("operator unseal key-as-argument").ok();
    shell.run("operator unseal -").ok();
    shell.run("operator unseal -reset").ok();
    let bodies: Vec<Value> = server
        .seen()
        .iter()
        .filter(|r| r.target == "/v1/sys/unseal")
        .map(|r| r.json())
        .collect();
    assert_eq!(
        bodies,
        [
            j!({"key": "key-as-argument"}),
            j!({"key": "key-from-stdin"}),
            j!({"reset": true})
        ]
    );
    shell
        .run("operator unseal")
        .failed(1, "Write - as the argument");
    shell
        .run("operator unseal -non-interactive")
        .failed(1, "-non-interactive");
}

#[test]
fn seal_asks_with_the_token() {
    let out = asks("operator seal", empty(), "PUT", "/v1/sys/seal", Value::Null);
    assert!(out.starts_with("Success!"), "{out}");
}

#[test]
fn warnings_go_to_standard_error() {
    let server = Server::start([json(j!({"data": {"a": 1}, "warnings": ["mind the gap"]}))]);
    let ran = Shell::of(&server).run("read sys/x").ok();
    assert!(
        ran.err.contains("* mind the gap") && !ran.out.contains("gap"),
        "{ran:?}"
    );
}

#[test]
fn a_field_on_a_terminal_ends_with_a_newline_and_cannot_drive_it() {
    let server = Server::start([data(j!({"a": "x\u{1b}[2J"})), data(j!({"a": "x\u{1b}[2J"}))]);
    let shell = Shell::of(&server);
    assert_eq!(shell.run("read -field=a sys/x").ok().out, "x\u{1b}[2J");
    assert_eq!(
        shell.on_terminal().run("read -field=a sys/x").ok().out,
        "x\\u{1b}[2J\n"
    );
}

#[test]
fn the_policy_that_a_request_needs_is_printed_instead_of_it() {
    let plain = || json(j!({"help": "Path: x\n"}));
    for (line, path, words) in [
        (
            "read -output-policy secret/data/app",
            "secret/data/app",
            "\"read\"",
        ),
        (
            "list -output-policy secret/metadata",
            "secret/metadata",
            "\"list\"",
        ),
        (
            "write -output-policy x/y a=b",
            "x/y",
            "\"create\", \"update\"",
        ),
        ("delete -output-policy x/y", "x/y", "\"delete\""),
        ("patch -output-policy x/y a=b", "x/y", "\"patch\""),
    ] {
        let server = Server::start([plain()]);
        let printed = Shell::of(&server).run(line).ok().out;
        assert_eq!(
            printed,
            format!("path \"{path}\" {{\n  capabilities = [{words}]\n}}\n")
        );
        let [help] = &server.seen()[..] else { panic!() };
        assert_eq!(help.target, format!("/v1/{path}?help=1"));
    }
    let server = Server::start([json(j!({"help": "Path: x\nNeeds the sudo capability.\n"}))]);
    let printed = Shell::of(&server)
        .run("write -f -output-policy sys/seal")
        .ok()
        .out;
    assert!(printed.contains("\"update\", \"sudo\""), "{printed}");
}

#[test]
fn an_answer_is_handed_on_as_it_came_where_that_is_asked_for() {
    let body = "# HELP vault_core_unsealed x\nvault_core_unsealed 1\n";
    let server = Server::start([text(200, body)]);
    let ran = Shell::of(&server)
        .run("read -format=raw sys/metrics format=prometheus")
        .ok();
    assert_eq!(ran.out, body);
    assert_eq!(server.seen()[0].target, "/v1/sys/metrics?format=prometheus");
    let shell = Shell::of(&server);
    shell
        .run("list -format=raw x")
        .failed(1, "for `read` alone");
    shell.run("read -format=raw -field=a x").failed(1, "-field");
}
