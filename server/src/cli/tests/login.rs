//! `login`, but for what needs a KDC: that is met in the end-to-end tests.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json as j};

use super::harness::{Reply, Server, Shell, json, status};

fn lookup() -> Reply {
    json(
        j!({"data": {"id": "obs.mine", "accessor": "acc", "policies": ["default", "app"], "ttl": 3600, "renewable": true, "meta": {"k": "v"}}}),
    )
}

#[test]
fn a_token_is_looked_up_and_kept_for_its_owner_alone() {
    let server = Server::start([lookup()]);
    let shell = Shell::of(&server).unset("VAULT_TOKEN");
    let ran = shell.run("login obs.mine").ok();
    let request = &server.seen()[0];
    assert_eq!(
        (request.target.as_str(), request.header("X-Vault-Token")),
        ("/v1/auth/token/lookup-self", Some("obs.mine"))
    );
    assert!(
        ran.out.contains("Success!")
            && ran
                .out
                .contains("token_policies       [\"default\",\"app\"]"),
        "{}",
        ran.out
    );
    assert_eq!(shell.token_file().as_deref(), Some("obs.mine"));
    let mode = std::fs::metadata(shell.home.path().join(".vault-token"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_token_comes_from_standard_input_or_as_a_key() {
    for (line, stdin) in [
        ("login -", "obs.mine\n"),
        ("login token=obs.mine", ""),
        ("login token=-", "obs.mine"),
    ] {
        let server = Server::start([lookup()]);
        let shell = Shell::of(&server).unset("VAULT_TOKEN").stdin(stdin);
        shell.run(line).ok();
        assert_eq!(shell.token_file().as_deref(), Some("obs.mine"), "{line}");
    }
    let shell = Shell::empty();
    shell.run("login").failed(1, "Write - as the argument");
}

#[test]
fn a_wrong_token_is_never_kept() {
    let server = Server::start([status(403, j!({"errors": ["permission denied"]}))]);
    let shell = Shell::of(&server).unset("VAULT_TOKEN");
    std::fs::write(shell.home.path().join(".vault-token"), "obs.old").unwrap();
    let ran = shell
        .run("login obs.wrong")
        .failed(2, "expired or was revoked");
    assert!(!ran.err.contains("obs.wrong"), "{}", ran.err);
    assert_eq!(shell.token_file().as_deref(), Some("obs.old"));
}

#[test]
fn flags_decide_what_is_kept_and_what_is_shown() {
    let server = Server::start((0..5).map(|_| lookup()));
    let shell = Shell::of(&server).unset("VAULT_TOKEN");
    assert_eq!(shell.run("login -token-only obs.mine").ok().out, "obs.mine");
    assert_eq!(shell.token_file(), None);
    let ran = shell.run("login -no-store obs.mine").ok();
    assert!(
        ran.err.contains("VAULT_TOKEN") && ran.out.contains("obs.mine"),
        "{ran:?}"
    );
    assert_eq!(shell.token_file(), None);
    assert_eq!(
        shell.run("login -field=token_accessor obs.mine").ok().out,
        "acc"
    );
    assert_eq!(shell.run("login -no-print obs.mine").ok().out, "");
    assert_eq!(shell.token_file().as_deref(), Some("obs.mine"));
    let out = shell.run("login -format=json obs.mine").ok().out;
    let body: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            &body["auth"]["client_token"],
            &body["auth"]["lease_duration"]
        ),
        (&j!("obs.mine"), &j!(3600))
    );
    shell
        .run("login -no-print -no-store obs.mine")
        .failed(1, "-no-print");
}

#[test]
fn a_variable_that_would_win_over_the_kept_token_is_pointed_out() {
    let server = Server::start([lookup()]);
    let ran = Shell::of(&server).run("login obs.mine").ok();
    assert!(ran.err.contains("VAULT_TOKEN is set"), "{}", ran.err);
}

#[test]
fn a_token_that_cannot_be_kept_is_an_error() {
    let server = Server::start([lookup()]);
    let shell = Shell::of(&server).set("HOME", "/no/such/home");
    let ran = shell.run("login obs.mine").failed(2, "/no/such/home");
    // It lives all the same, so it is shown.
    assert!(
        !ran.out.contains("Success") && ran.out.contains("obs.mine"),
        "{ran:?}"
    );
    assert!(ran.err.contains("-no-store"), "{ran:?}");
}

#[test]
fn an_unknown_method_or_key_is_refused_before_anything_is_sent() {
    let server = Server::start([]);
    let shell = Shell::of(&server);
    shell
        .run("login -method=kerbros")
        .failed(1, "token, kerberos");
    shell
        .run("login -method=kerberos user=x")
        .failed(1, "username");
    shell
        .run("login -method=kerberos username=")
        .failed(1, "username= has no value");
    shell
        .run("login -method=kerberos username=x service=HTTP/h")
        .failed(1, "password=-");
    shell
        .run("login -method=kerberos realm=X service=HTTP/h")
        .failed(1, "username");
    shell
        .run("login -method=kerberos -service=HTTP/a service=HTTP/b")
        .failed(1, "service must be given once");
    shell
        .run("login -service=HTTP/a t0ken")
        .failed(1, "-method=token does not know service");
    shell
        .run("login -method=kerberos username=x remove_instance_name=true service=HTTP/h")
        .failed(1, "keytab_path");
    shell
        .run("login -method=kerberos keytab_path=/x service=HTTP/h")
        .failed(1, "username");
    shell
        .run("login -method=kerberos service=HTTP/h remove_instance_name=maybe")
        .failed(1, "remove_instance_name");
    shell.run("login -method=kerberos").failed(1, "service=");
    shell
        .run("login -method=kerberos krb5conf_path=/no/such/file")
        .failed(1, "/no/such/file");
    assert!(server.seen().is_empty());
}

#[test]
fn a_keytab_that_is_missing_is_named() {
    let shell = Shell::empty().set("VAULT_ADDR", "http://localhost:1");
    shell
        .run("login -method=kerberos username=app keytab_path=/no/such.keytab realm=X")
        .failed(1, "/no/such.keytab");
    shell.run("login -method=kerberos username=app keytab_path=/no/such.keytab remove_instance_name=true").failed(1, "/no/such.keytab");
}

#[test]
fn a_password_is_taken_from_anywhere_but_the_command_line() {
    let shell = Shell::empty().set("VAULT_ADDR", "http://localhost:1");
    for (line, says) in [
        ("username=x password=hunter2", "others can read it"),
        ("username=x password=- password=-", "once"),
        ("password=-", "username"),
        ("username=x password=- keytab_path=/x", "two proofs"),
        ("username=x password=@/no/such/file", "/no/such/file"),
    ] {
        let ran = Shell::empty()
            .set("VAULT_ADDR", "http://localhost:1")
            .stdin("hunter2\n")
            .run(&format!("login -method=kerberos {line}"))
            .failed(1, says);
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    }
    // In a document of several values it would not be wiped from memory.
    shell
        .stdin(r#"{"username": "x", "password": "hunter2"}"#)
        .run("login -method=kerberos -")
        .failed(1, "password=-");
    Shell::empty()
        .set("VAULT_ADDR", "http://localhost:1")
        .run("login -method=kerberos -non-interactive username=x")
        .failed(1, "-non-interactive");
    Shell::empty()
        .set("VAULT_ADDR", "http://localhost:1")
        .run("login -method=kerberos username=x password=-")
        .failed(1, "empty");
}

fn token_of(token: &str) -> Reply {
    json(
        j!({"auth": {"client_token": token, "accessor": "a", "policies": ["default"], "lease_duration": 60, "renewable": true}}),
    )
}

#[test]
fn a_name_and_a_password_log_in_where_their_method_is() {
    for (line, stdin, target) in [
        (
            "login -method=userpass username=grace password=-",
            "pw\n",
            "/v1/auth/userpass/login/grace",
        ),
        (
            "login -method=ldap -path=corp username='grace h' password=-",
            "pw\n",
            "/v1/auth/corp/login/grace%20h",
        ),
        // A whole object, and the name on this computer.
        (
            "login -method=userpass -",
            "{\"password\": \"pw\"}",
            "/v1/auth/userpass/login/ada",
        ),
    ] {
        let server = Server::start([token_of("obs.t")]);
        let shell = Shell::of(&server)
            .unset("VAULT_TOKEN")
            .set("USER", "ada")
            .stdin(stdin);
        let ran = shell.run(line).ok();
        assert!(!ran.err.contains("WARNING"), "{}", ran.err);
        let seen = &server.seen()[0];
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str()),
            ("PUT", target)
        );
        assert_eq!(seen.json(), j!({"password": "pw"}));
        assert_eq!(seen.header("X-Vault-Token"), None);
        assert_eq!(shell.token_file().unwrap(), "obs.t");
    }
}

#[test]
fn a_password_on_the_command_line_works_as_with_vault_and_is_warned_about() {
    let server = Server::start([token_of("obs.t")]);
    let shell = Shell::of(&server).unset("VAULT_TOKEN");
    let ran = shell
        .run("login -method=userpass -token-only username=grace password=hunter2")
        .ok();
    assert_eq!(ran.out, "obs.t");
    assert!(
        ran.err.contains("password=-") && !ran.err.contains("hunter2"),
        "{}",
        ran.err
    );
    assert_eq!(server.seen()[0].json(), j!({"password": "hunter2"}));
    assert_eq!(shell.token_file(), None);
    shell
        .run("login -method=userpass username=grace")
        .failed(1, "no terminal");
    shell
        .run("login -method=userpass username=grace password=a password=b")
        .failed(1, "once");
    shell
        .run("login -method=userpass user=grace password=x")
        .failed(1, "it takes username, password");
}

#[test]
fn programs_and_workloads_log_in_with_what_they_hold() {
    for (line, stdin, target, body) in [
        (
            "login -method=approle role_id=r secret_id=-",
            "s\n",
            "/v1/auth/approle/login",
            j!({"role_id": "r", "secret_id": "s"}),
        ),
        (
            "login -method=approle role_id=r",
            "",
            "/v1/auth/approle/login",
            j!({"role_id": "r"}),
        ),
        (
            "login -method=jwt -path=k8s role=web jwt=-",
            "e.y.J\n",
            "/v1/auth/k8s/login",
            j!({"role": "web", "jwt": "e.y.J"}),
        ),
        // As `auth list` and the API write it.
        (
            "login -method=approle -path=auth/apps/ role_id=r",
            "",
            "/v1/auth/apps/login",
            j!({"role_id": "r"}),
        ),
    ] {
        let server = Server::start([token_of("obs.t")]);
        Shell::of(&server)
            .unset("VAULT_TOKEN")
            .stdin(stdin)
            .run(line)
            .ok();
        let seen = &server.seen()[0];
        assert_eq!((seen.target.as_str(), seen.json()), (target, body));
    }
    let shell = Shell::empty();
    shell.run("login -method=approle").failed(1, "role_id");
    shell
        .run("login -method=approle role_id=r secret_id=")
        .failed(1, "secret_id=-");
    shell.run("login -method=jwt").failed(1, "jwt=-");
}

#[test]
fn help_of_a_method_is_found_by_its_type_or_its_path() {
    let shell = Shell::empty();
    for method in ["token", "kerberos", "userpass", "ldap", "approle", "jwt"] {
        let help = shell.run(&format!("auth help {method}")).ok().out;
        assert!(help.contains("$ obol login"), "{help}");
    }
    let mounts = || json(j!({"data": {"corp/": {"type": "ldap"}}}));
    let server = Server::start([mounts(), mounts()]);
    let shell = Shell::of(&server);
    let help = shell.run("auth help auth/corp/").ok().out;
    assert!(
        help.contains("-method=ldap") && help.contains("-path=corp"),
        "{help}"
    );
    shell.run("auth help nothing").failed(2, "nothing/");
}
