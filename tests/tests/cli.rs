//! The command line against a real server, as people and scripts written for Vault use it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::OnceLock;

use obol_tests::clients::Cli;
use obol_tests::{Server, ServerOptions, holds};
use serde_json::{Value, json};

/// A server with a kv version 2 at `secret/`, for tests that keep to names of their own.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Server::ready(ServerOptions::default());
        Cli::root(&server)
            .run(&["secrets", "enable", "-path=secret", "-version=2", "kv"])
            .ok();
        server
    })
}

fn cli() -> Cli {
    Cli::root(server())
}

#[test]
fn a_development_server_says_how_to_use_it_and_works_so() {
    let server = Server::dev(&[]);
    let said = server.output();
    let address = format!("export VAULT_ADDR='http://127.0.0.1:{}'", server.port());
    assert!(said.contains(&address), "{said}");
    assert!(said.contains("WARNING!"), "{said}");
    let cli = Cli::root(&server);
    cli.run(&["status"]).ok();
    cli.run(&["kv", "put", "secret/hello", "who=world"]).ok();
    assert_eq!(
        cli.run(&["kv", "get", "-field=who", "secret/hello"])
            .ok()
            .text(),
        "world"
    );
    // Sealed by hand, it opens with the key that it printed.
    cli.run(&["operator", "seal"]).ok();
    cli.run(&["status"]).expect(2);
    cli.run(&["operator", "unseal", &server.keys().shares[0]])
        .ok();
    cli.run(&["kv", "get", "secret/hello"]).ok();

    let chosen = Server::dev(&["-dev-root-token-id=my-root"]);
    assert_eq!(chosen.keys().root_token, "my-root");
    Cli::new(&chosen)
        .env("VAULT_TOKEN", "my-root")
        .run(&["token", "lookup"])
        .ok();
    assert!(chosen.terminate().success());
}

#[test]
fn init_unseal_status_and_seal_with_their_exit_statuses() {
    let server = Server::start(ServerOptions::default());
    let cli = Cli::new(&server);
    let before = cli.run(&["status", "-format=json"]).expect(2).json();
    assert_eq!(
        (&before["initialized"], &before["sealed"]),
        (&json!(false), &json!(true))
    );
    cli.run(&["operator", "init", "-status"]).expect(2);
    cli.run(&["operator", "init", "-key-shares=3", "-key-threshold=9"])
        .expect(2);

    let made = cli
        .run(&[
            "operator",
            "init",
            "-key-shares=3",
            "-key-threshold=2",
            "-format=json",
        ])
        .ok()
        .json();
    assert_eq!(
        (&made["unseal_shares"], &made["unseal_threshold"]),
        (&json!(3), &json!(2))
    );
    let key = |n: usize| made["unseal_keys_b64"][n].as_str().unwrap();
    cli.run(&["operator", "init", "-status"]).ok();
    let again = cli.run(&["operator", "init"]).expect(2);
    assert!(
        again.stderr.contains("already initialized"),
        "{}",
        again.stderr
    );

    let first = cli.run(&["operator", "unseal", key(0)]).ok();
    assert!(
        first.stdout.contains("Unseal Progress") && first.stdout.contains("1/2"),
        "{}",
        first.stdout
    );
    cli.run(&["operator", "unseal", "-reset"]).ok();
    cli.run(&["operator", "unseal", "nonsense"]).expect(2);
    cli.run(&["operator", "unseal", key(1)]).ok();
    // From standard input, so that it stays out of the shell's history.
    let open = cli
        .run_with_input(
            &["operator", "unseal", "-format=json", "-"],
            &format!("{}\n", key(2)),
        )
        .ok()
        .json();
    assert_eq!(open["sealed"], false);
    cli.run(&["status"]).ok();

    cli.run(&["operator", "seal"]).expect(2);
    let root = Cli::new(&server).env("OBOL_TOKEN", made["root_token"].as_str().unwrap());
    root.run(&["operator", "seal"]).ok();
    root.run(&["status"]).expect(2);
    let refused = root.run(&["secrets", "list"]).expect(2);
    assert!(refused.stderr.contains("Code: 503"), "{}", refused.stderr);

    let table = Cli::new(&Server::start(ServerOptions::default())).run(&[
        "operator",
        "init",
        "-key-shares=1",
        "-key-threshold=1",
    ]);
    // Gone with its server already, but it was there when the command ran: or it was not.
    assert!(matches!(table.status, 0..=2));
}

#[test]
fn init_prints_what_scripts_look_for() {
    let server = Server::start(ServerOptions::default());
    let said = Cli::new(&server)
        .run(&["operator", "init", "-n", "2", "-t", "2"])
        .ok()
        .stdout;
    let after = |label: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(label))
            .map(|v| v.trim().to_owned())
    };
    let cli = Cli::new(&server);
    for key in ["Unseal Key 1:", "Unseal Key 2:"] {
        cli.run(&["operator", "unseal", &after(key).unwrap()]).ok();
    }
    let root = cli.env("VAULT_TOKEN", &after("Initial Root Token:").unwrap());
    root.run(&["secrets", "list"]).ok();
}

#[test]
fn a_server_that_is_not_there_is_told_apart_from_one_that_refuses() {
    let cli = cli()
        .env("VAULT_ADDR", "http://127.0.0.1:1")
        .env("VAULT_MAX_RETRIES", "0");
    let said = cli.run(&["status"]).expect(1);
    assert!(said.stderr.contains("127.0.0.1:1"), "{}", said.stderr);
    assert_ne!(cli.run(&["secrets", "list"]).status, 0);
    let refused = Cli::new(server())
        .env("VAULT_TOKEN", "obs.nonsense")
        .run(&["secrets", "list"])
        .expect(2);
    assert!(
        refused.stderr.contains("Code: 403") && refused.stderr.contains("* permission denied"),
        "{}",
        refused.stderr
    );
    assert!(
        !refused.stderr.contains("nonsense"),
        "a token is shown: {}",
        refused.stderr
    );
}

#[test]
fn kv_secrets_are_put_got_listed_deleted_undeleted_and_destroyed() {
    let cli = cli();
    let put = cli
        .run(&[
            "kv",
            "put",
            "-format=json",
            "secret/app/db",
            "user=grace",
            "password=s=e=c",
        ])
        .ok()
        .json();
    assert_eq!(put["data"]["version"], 1);
    let got = cli
        .run(&["kv", "get", "-format=json", "secret/app/db"])
        .ok()
        .json();
    assert_eq!(
        got["data"]["data"],
        json!({"user": "grace", "password": "s=e=c"})
    );
    let table = cli.run(&["kv", "get", "secret/app/db"]).ok().stdout;
    assert!(
        table.contains("password") && table.contains("s=e=c") && table.contains("version"),
        "{table}"
    );
    let yaml = cli
        .run(&["kv", "get", "-format=yaml", "secret/app/db"])
        .ok()
        .stdout;
    assert!(yaml.contains("user: grace"), "{yaml}");
    // The mount apart, as Vault also has it.
    assert_eq!(
        cli.run(&["kv", "get", "-mount=secret", "-field=user", "app/db"])
            .ok()
            .text(),
        "grace"
    );

    let file = cli.home().join("value");
    fs::write(&file, "from a file\n").unwrap();
    cli.run(&[
        "kv",
        "put",
        "secret/app/db",
        &format!("note=@{}", file.display()),
        "user=joan",
    ])
    .ok();
    assert_eq!(
        cli.run(&["kv", "get", "-field=note", "secret/app/db"])
            .ok()
            .stdout,
        "from a file\n"
    );
    let whole = cli.run_with_input(
        &["kv", "put", "secret/app/json", "-"],
        r#"{"n": 5, "deep": {"a": [1, 2]}}"#,
    );
    whole.ok();
    assert_eq!(
        cli.run(&["kv", "get", "-format=json", "secret/app/json"])
            .ok()
            .json()["data"]["data"],
        json!({"n": 5, "deep": {"a": [1, 2]}})
    );
    cli.run(&["kv", "put", "-cas=7", "secret/app/db", "x=y"])
        .expect(2);
    cli.run(&["kv", "put", "-cas=2", "secret/app/db", "x=y"])
        .ok();
    assert_eq!(
        cli.run(&["kv", "get", "-version=1", "-field=user", "secret/app/db"])
            .ok()
            .text(),
        "grace"
    );

    assert_eq!(
        cli.run(&["kv", "list", "-format=json", "secret/app"])
            .ok()
            .json(),
        json!(["db", "json"])
    );
    assert_eq!(
        cli.run(&["kv", "list", "secret/app"]).ok().stdout,
        "Keys\n----\ndb\njson\n"
    );
    cli.run(&["kv", "list", "secret/nothing"]).expect(2);
    cli.run(&["kv", "get", "secret/nothing"]).expect(2);

    cli.run(&["kv", "delete", "-versions=1", "secret/app/db"])
        .ok();
    cli.run(&["kv", "delete", "secret/app/db"]).ok();
    // As Vault has it: what is known of a deleted version is shown, its data is not.
    let deleted = cli.run(&["kv", "get", "secret/app/db"]).ok();
    assert!(
        deleted.stdout.contains("deletion_time") && !deleted.stdout.contains("x    y"),
        "{}",
        deleted.stdout
    );
    cli.run(&["kv", "get", "-field=x", "secret/app/db"])
        .expect(2);
    cli.run(&["kv", "undelete", "-versions=3", "secret/app/db"])
        .ok();
    assert_eq!(
        cli.run(&["kv", "get", "-field=x", "secret/app/db"])
            .ok()
            .text(),
        "y"
    );
    cli.run(&["kv", "destroy", "-versions=2", "secret/app/db"])
        .ok();
    let metadata = cli
        .run(&["kv", "metadata", "get", "-format=json", "secret/app/db"])
        .ok()
        .json();
    assert_eq!(metadata["data"]["versions"]["2"]["destroyed"], true);
    cli.run(&["kv", "metadata", "delete", "secret/app/db"]).ok();
    assert_eq!(
        cli.run(&["kv", "list", "-format=json", "secret/app"])
            .ok()
            .json(),
        json!(["json"])
    );
}

#[test]
fn read_write_delete_and_list_work_on_any_path() {
    let cli = cli();
    cli.run(&["write", "cubbyhole/a/b", "text=hello", "n=5"])
        .ok();
    assert_eq!(
        cli.run(&["read", "-field=text", "cubbyhole/a/b"])
            .ok()
            .stdout,
        "hello"
    );
    assert_eq!(
        cli.run(&["read", "-format=json", "cubbyhole/a/b"])
            .ok()
            .json()["data"]["text"],
        "hello"
    );
    assert_eq!(
        cli.run(&["list", "-format=json", "cubbyhole/a"])
            .ok()
            .json(),
        json!(["b"])
    );
    // What is written in one line may come from a file, or from standard input.
    let file = cli.home().join("body.json");
    fs::write(&file, r#"{"text": "from a file", "list": [1, 2]}"#).unwrap();
    cli.run(&["write", "cubbyhole/a/b", &format!("@{}", file.display())])
        .ok();
    assert_eq!(
        cli.run(&["read", "-format=json", "cubbyhole/a/b"])
            .ok()
            .json()["data"]["list"],
        json!([1, 2])
    );
    cli.run_with_input(
        &["write", "cubbyhole/a/b", "-"],
        r#"{"text": "from a pipe"}"#,
    )
    .ok();
    cli.run_with_input(&["write", "cubbyhole/a/c", "text=-"], "a value from a pipe")
        .ok();
    assert_eq!(
        cli.run(&["read", "-field=text", "cubbyhole/a/b"])
            .ok()
            .stdout,
        "from a pipe"
    );
    assert_eq!(
        cli.run(&["read", "-field=text", "cubbyhole/a/c"])
            .ok()
            .stdout,
        "a value from a pipe"
    );
    cli.run(&["delete", "cubbyhole/a/b"]).ok();
    cli.run(&["read", "cubbyhole/a/b"]).expect(2);
    cli.run(&["read", "-field=none", "cubbyhole/a/c"]).expect(1);
    // Empty writes are meant.
    cli.run(&["write", "cubbyhole/empty"]).expect(1);
    let made = cli
        .run(&["write", "-f", "-field=token", "auth/token/create"])
        .ok();
    assert!(made.text().starts_with("obs."), "{}", made.text());
    // Warnings go to standard error, results to standard output.
    let warned = cli
        .run(&[
            "write",
            "-format=json",
            "auth/token/create",
            "colour=crimson",
        ])
        .ok();
    assert!(
        warned.json()["warnings"][0]
            .as_str()
            .unwrap()
            .contains("colour")
    );
    let help = cli.run(&["path-help", "auth/token/create"]).ok();
    assert!(help.stdout.contains("policies"), "{}", help.stdout);
}

#[test]
fn policies_are_written_from_files_and_pipes_read_listed_formatted_and_deleted() {
    let cli = cli();
    let text = "path \"secret/data/x\" {\n  capabilities = [\"read\"]\n}\n";
    cli.run_with_input(&["policy", "write", "piped", "-"], text)
        .ok();
    assert_eq!(
        cli.run(&["policy", "read", "piped"]).ok().stdout.trim_end(),
        text.trim_end()
    );
    let file = cli.home().join("policy.hcl");
    fs::write(&file, "path \"a\" {capabilities=[\"read\",   \"list\"]}").unwrap();
    cli.run(&["policy", "fmt", &file.display().to_string()])
        .ok();
    let formatted = fs::read_to_string(&file).unwrap();
    assert_eq!(
        formatted,
        "path \"a\" {\n  capabilities = [\"read\", \"list\"]\n}\n"
    );
    cli.run(&["policy", "write", "filed", &file.display().to_string()])
        .ok();
    let listed = cli.run(&["policy", "list", "-format=json"]).ok().json();
    for name in ["piped", "filed", "default", "root"] {
        assert!(
            listed.as_array().unwrap().contains(&json!(name)),
            "{listed}"
        );
    }
    let wrong = cli
        .run_with_input(
            &["policy", "write", "wrong", "-"],
            "path \"a\" {\n  capabilities = [\"raed\"]\n}",
        )
        .expect(2);
    assert!(wrong.stderr.contains("line 2"), "{}", wrong.stderr);
    cli.run(&["policy", "delete", "piped"]).ok();
    cli.run(&["policy", "read", "piped"]).expect(2);
}

#[test]
fn engines_and_methods_are_enabled_tuned_listed_and_disabled() {
    let cli = cli();
    for (group, kind) in [("secrets", "kv"), ("auth", "kerberos")] {
        let mut enable = vec![group, "enable", "-path=by-cli", "-description=of the test"];
        if group == "secrets" {
            enable.push("-version=2");
        }
        enable.push(kind);
        cli.run(&enable).ok();
        let listed = cli.run(&[group, "list", "-format=json"]).ok().json();
        assert_eq!(
            (
                &listed["by-cli/"]["type"],
                &listed["by-cli/"]["description"]
            ),
            (&json!(kind), &json!("of the test"))
        );
        let table = cli.run(&[group, "list"]).ok().stdout;
        assert!(table.contains("by-cli/") && table.contains(kind), "{table}");
        cli.run(&[group, "list", "-detailed"]).ok();
        cli.run(&[group, "tune", "-default-lease-ttl=15m", "by-cli/"])
            .ok();
        let path = if group == "auth" {
            "sys/auth/by-cli/tune"
        } else {
            "sys/mounts/by-cli/tune"
        };
        let tuned = cli.run(&["read", "-format=json", path]).ok().json();
        assert_eq!(tuned["data"]["default_lease_ttl"], 900);
        cli.run(&enable).expect(2);
        cli.run(&[group, "disable", "by-cli"]).ok();
        assert!(
            cli.run(&[group, "list", "-format=json"])
                .ok()
                .json()
                .get("by-cli/")
                .is_none()
        );
    }
    // Without -path the name of the type is the path.
    cli.run(&["auth", "enable", "kerberos"]).ok();
    assert!(
        cli.run(&["auth", "list", "-format=json"])
            .ok()
            .json()
            .get("kerberos/")
            .is_some()
    );
}

#[test]
fn tokens_are_made_looked_up_renewed_and_revoked() {
    let cli = cli();
    let made = cli
        .run(&[
            "token",
            "create",
            "-format=json",
            "-policy=default",
            "-ttl=1h",
            "-display-name=worker",
            "-metadata=for=test",
            "-use-limit=50",
        ])
        .ok()
        .json();
    let (token, accessor) = (
        made["auth"]["client_token"].as_str().unwrap(),
        made["auth"]["accessor"].as_str().unwrap(),
    );
    let seen = cli
        .run(&["token", "lookup", "-format=json", token])
        .ok()
        .json();
    assert_eq!(
        (&seen["data"]["display_name"], &seen["data"]["meta"]),
        (&json!("token-worker"), &json!({"for": "test"}))
    );
    let seen = cli
        .run(&["token", "lookup", "-format=json", "-accessor", accessor])
        .ok()
        .json();
    assert_eq!(seen["data"]["id"], "");
    let worker = Cli::new(server()).env("VAULT_TOKEN", token);
    assert_eq!(
        worker.run(&["token", "lookup", "-format=json"]).ok().json()["data"]["policies"],
        json!(["default"])
    );
    assert_eq!(
        worker
            .run(&["token", "renew", "-format=json", "-increment=30m"])
            .ok()
            .json()["auth"]["lease_duration"],
        1800
    );
    cli.run(&["token", "renew", token]).ok();
    let may = cli
        .run(&["token", "capabilities", token, "cubbyhole/x"])
        .ok();
    assert!(
        may.stdout.contains("create") && may.stdout.contains("read"),
        "{}",
        may.stdout
    );
    worker.run(&["token", "revoke", "-self"]).ok();
    worker.run(&["token", "lookup"]).expect(2);
    let other = cli
        .run(&["token", "create", "-field=token", "-orphan"])
        .ok();
    cli.run(&["token", "revoke", other.text()]).ok();
    let third = cli.run(&["token", "create", "-format=json"]).ok().json();
    cli.run(&[
        "token",
        "revoke",
        "-accessor",
        third["auth"]["accessor"].as_str().unwrap(),
    ])
    .ok();
}

#[test]
fn a_token_that_was_logged_in_with_is_kept_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = server().dir().join("login-home");
    fs::create_dir_all(&home).unwrap();
    let cli = Cli::new(server()).env("HOME", &home.display().to_string());
    let token = cli_token();
    cli.run_with_input(&["login", "-"], &format!("{token}\n"))
        .ok();
    let kept = home.join(".vault-token");
    assert_eq!(fs::read_to_string(&kept).unwrap().trim(), token);
    assert_eq!(
        fs::metadata(&kept).unwrap().permissions().mode() & 0o777,
        0o600
    );
    cli.run(&["token", "lookup"]).ok();
    // A variable wins over the file, and OBOL_ over VAULT_.
    let nonsense = Cli::new(server())
        .env("HOME", &home.display().to_string())
        .env("VAULT_TOKEN", "obs.nonsense");
    nonsense.run(&["token", "lookup"]).expect(2);
    nonsense
        .env("OBOL_TOKEN", &token)
        .run(&["token", "lookup"])
        .ok();
    // A token that is none is not kept.
    cli.run(&["login", "obs.nonsense"]).expect(2);
    assert_eq!(fs::read_to_string(&kept).unwrap().trim(), token);
}

fn cli_token() -> String {
    cli()
        .run(&["token", "create", "-field=token", "-policy=default"])
        .ok()
        .text()
        .to_owned()
}

#[test]
fn flags_have_one_dash_or_two_and_variables_two_names() {
    let address = server().url();
    let token = server().keys().root_token;
    let bare = || {
        Cli::new(server())
            .env("VAULT_ADDR", "http://127.0.0.1:1")
            .env("VAULT_TOKEN", &token)
            .env("VAULT_MAX_RETRIES", "0")
    };
    for arguments in [
        vec!["secrets", "list", "-address", &address, "-format", "json"],
        vec!["secrets", "list", "--address", &address, "--format", "json"],
        vec![
            "secrets",
            "list",
            &format!("-address={address}"),
            "-format=json",
        ],
        vec![
            "secrets",
            "list",
            &format!("--address={address}"),
            "--format=json",
        ],
    ] {
        assert!(bare().run(&arguments).ok().json()["secret/"].is_object());
    }
    let by_variables = bare()
        .env("OBOL_ADDR", &address)
        .env("VAULT_FORMAT", "json");
    assert!(by_variables.run(&["secrets", "list"]).ok().json()["secret/"].is_object());
    let other = bare()
        .env("VAULT_ADDR", &address)
        .env("OBOL_FORMAT", "json");
    assert!(other.run(&["secrets", "list"]).ok().json()["secret/"].is_object());
}

#[test]
fn audit_devices_are_enabled_listed_and_disabled() {
    let server = Server::ready(ServerOptions::default());
    let cli = Cli::root(&server);
    let file = server.dir().join("audit.log");
    cli.run(&[
        "audit",
        "enable",
        "file",
        &format!("file_path={}", file.display()),
    ])
    .ok();
    cli.run(&["secrets", "list"]).ok();
    holds("entries in the file", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains("sys/mounts"))
    });
    let listed = cli.run(&["audit", "list", "-format=json"]).ok().json();
    assert_eq!(listed["file/"]["type"], "file");
    cli.run(&["audit", "disable", "file"]).ok();
    assert_ne!(cli.run(&["audit", "list", "-format=json"]).json(), listed);
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let cli = Cli::new(server());
    let overview = cli.run(&["-help"]).ok().stdout;
    for command in [
        "kv", "login", "operator", "policy", "read", "secrets", "server", "status", "token",
        "write",
    ] {
        assert!(overview.contains(command), "{overview}");
    }
    for command in [
        "login",
        "read",
        "write",
        "delete",
        "list",
        "kv get",
        "kv put",
        "kv list",
        "kv delete",
        "token lookup",
        "token renew",
        "token revoke",
        "policy list",
        "policy read",
        "policy write",
        "policy delete",
        "policy fmt",
        "auth list",
        "auth enable",
        "auth disable",
        "secrets list",
        "secrets enable",
        "secrets disable",
        "status",
        "operator init",
        "operator unseal",
        "operator seal",
        "server",
        "version",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        for flag in ["-h", "-help", "--help"] {
            let help = cli.run(&[words.as_slice(), &[flag]].concat()).ok().stdout;
            assert!(
                help.contains(&format!("$ obol {command}")),
                "{command} {flag}: {help}"
            );
        }
    }
    let version = cli.run(&["version"]).ok();
    let served: Value = server().client().get("sys/seal-status").json();
    assert!(
        version.stdout.contains(served["version"].as_str().unwrap()),
        "{}",
        version.stdout
    );
    let unknown = cli.run(&["sttaus"]);
    assert_ne!(unknown.status, 0);
    assert!(unknown.stderr.contains("status"), "{}", unknown.stderr);
}
