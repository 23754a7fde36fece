//! The command line against the real server, for what several requests or several people do: leases, wrapping, new
//! keys, root tokens, snapshots, logins, moves; and bash, which completes it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use obol_tests::clients::Cli;
use obol_tests::server::{Seal, program};
use obol_tests::{Server, ServerOptions};
use serde_json::{Value, json};

use super::{holders, keys_of};

/// The value of a row of a table.
fn row<'a>(table: &'a str, name: &str) -> &'a str {
    let found = table.lines().find_map(|line| line.strip_prefix(name));
    found
        .unwrap_or_else(|| panic!("no {name:?} in:\n{table}"))
        .trim()
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn a_lease_is_listed_looked_up_and_revoked() {
    let server = holders(1, 1);
    let cli = Cli::root(&server);
    cli.run(&words("auth enable userpass")).ok();
    cli.run(&words(
        "write auth/userpass/users/grace password=long-enough-1 token_ttl=1h",
    ))
    .ok();
    let ended = cli
        .run_with_input(
            &words("login -method=userpass -token-only username=grace password=-"),
            "long-enough-1\n",
        )
        .ok();
    let grace = Cli::new(&server).env("VAULT_TOKEN", ended.text());
    grace.run(&words("token lookup")).ok();
    let listed = cli
        .run(&words(
            "list -format=json sys/leases/lookup/auth/userpass/login/grace",
        ))
        .ok()
        .json();
    let id = format!("auth/userpass/login/grace/{}", keys_of(&listed)[0]);
    let found = cli.run(&["lease", "lookup", &id]).ok();
    assert_eq!(row(&found.stdout, "id "), id);
    cli.run(&["lease", "renew", &id]).expect(2);
    cli.run(&["lease", "revoke", "-sync", &id]).ok();
    cli.run(&["lease", "lookup", &id]).expect(2);
    grace.run(&words("token lookup")).expect(2);
    cli.run(&words("lease revoke -prefix -sync auth/userpass"))
        .ok();
    cli.run(&words("lease revoke -force -prefix auth/userpass"))
        .ok();
}

#[test]
fn what_is_wrapped_is_unwrapped_once() {
    let server = holders(1, 1);
    let cli = Cli::root(&server);
    let token = cli
        .run(&words(
            "token create -policy=default -wrap-ttl=60s -field=wrapping_token",
        ))
        .ok()
        .stdout;
    let inner = cli
        .run_with_input(&words("unwrap -field=token -"), &token)
        .ok()
        .stdout;
    Cli::new(&server)
        .env("VAULT_TOKEN", &inner)
        .run(&words("token lookup"))
        .ok();
    cli.run(&["unwrap", &token]).expect(2);
}

#[test]
fn new_unseal_keys_are_made_verified_and_in_force() {
    let server = holders(3, 2);
    let (cli, old) = (Cli::root(&server), server.keys().shares);
    let begun = cli
        .run(&words(
            "operator rekey -init -n=2 -t=2 -verify -format=json",
        ))
        .ok()
        .json();
    let nonce = format!("-nonce={}", begun["nonce"].as_str().unwrap());
    let first = cli
        .run_with_input(&["operator", "rekey", &nonce, "-"], &old[0])
        .ok();
    assert_eq!(row(&first.stdout, "Rekey Progress"), "1/2");
    cli.run(&["operator", "rekey", &old[1]]).expect(1);
    let made = cli
        .run(&["operator", "rekey", "-format=json", &nonce, &old[1]])
        .ok()
        .json();
    let new = keys_of(&made["keys_base64"]);
    let nonce = format!("-nonce={}", made["verification_nonce"].as_str().unwrap());
    let status = cli.run(&words("operator rekey -status -verify")).ok();
    assert_eq!(row(&status.stdout, "Verification Progress"), "0/2");
    for key in &new {
        cli.run_with_input(&["operator", "rekey", "-verify", &nonce, "-"], key)
            .ok();
    }
    cli.run(&words("operator seal")).ok();
    for key in &new {
        cli.run_with_input(&words("operator unseal -"), key).ok();
    }
    cli.run(&words("status")).ok();
    cli.run(&words("operator rekey -init -n=1 -t=1")).ok();
    cli.run(&words("operator rekey -cancel")).ok();
    let status = cli.run(&words("operator rekey -status")).ok();
    assert_eq!(row(&status.stdout, "Started"), "false");
    // The key of the barrier is another matter.
    let rotated = cli.run(&words("operator rotate")).ok();
    assert_eq!(row(&rotated.stdout, "Key Term"), "2");
    cli.run(&words("operator step-down")).ok();
}

#[test]
fn a_root_token_is_made_of_keys_and_a_password() {
    let server = holders(1, 1);
    let cli = Cli::root(&server);
    let otp = cli.run(&words("operator generate-root -generate-otp")).ok();
    let otp = format!("-otp={}", otp.text());
    let begun = cli
        .run(&["operator", "generate-root", "-init", &otp, "-format=json"])
        .ok()
        .json();
    let nonce = format!("-nonce={}", begun["nonce"].as_str().unwrap());
    let key = &server.keys().shares[0];
    let done = cli
        .run_with_input(&["operator", "generate-root", &nonce, "-"], key)
        .ok();
    let encoded = row(&done.stdout, "Encoded Token");
    let token = cli
        .run_with_input(
            &["operator", "generate-root", "-decode", "-", &otp],
            encoded,
        )
        .ok();
    Cli::new(&server)
        .env("VAULT_TOKEN", token.text())
        .run(&words("read sys/key-status"))
        .ok();
}

#[test]
fn programs_log_in_by_role_and_mounts_move() {
    let server = holders(1, 1);
    let cli = Cli::root(&server);
    cli.run(&words("auth enable approle")).ok();
    cli.run(&words("write auth/approle/role/ci token_ttl=1h"))
        .ok();
    let role = cli
        .run(&words("read -field=role_id auth/approle/role/ci/role-id"))
        .ok()
        .stdout;
    let secret = cli
        .run(&words(
            "write -f -field=secret_id auth/approle/role/ci/secret-id",
        ))
        .ok()
        .stdout;
    let role = format!("role_id={role}");
    let login = [
        "login",
        "-method=approle",
        "-no-print",
        &role,
        "secret_id=-",
    ];
    let ci = Cli::new(&server);
    ci.run_with_input(&login, &secret).ok();
    ci.run(&words("token lookup")).ok();
    fs::remove_file(ci.home().join(".vault-token")).ok();

    cli.run(&words("auth move approle robots")).ok();
    let login = [
        "login",
        "-method=approle",
        "-path=robots",
        "-no-print",
        &role,
        "secret_id=-",
    ];
    ci.run_with_input(&login, &secret).ok();
    let help = cli.run(&words("auth help robots")).ok();
    assert!(help.stdout.contains("-method=approle"), "{}", help.stdout);
    cli.run(&words(
        "auth tune -user-lockout-threshold=3 -user-lockout-duration=1m -description=r robots",
    ))
    .ok();
    let tuned = cli
        .run(&words("read -format=json sys/auth/robots/tune"))
        .ok()
        .json();
    assert_eq!(
        tuned["data"]["user_lockout_config"]["lockout_threshold"], 3,
        "{tuned}"
    );

    cli.run(&words("secrets enable -path=old kv-v2")).ok();
    cli.run(&words("kv put old/a x=1 y=2")).ok();
    cli.run(&words("secrets move old new")).ok();
    cli.run(&words("kv patch -remove-data=x new/a y=3")).ok();
    let secret = cli.run(&words("kv get -format=json new/a")).ok().json();
    assert_eq!(secret["data"]["data"], json!({"y": "3"}));
    cli.run(&words("kv patch -method=rw new/a z=4")).ok();
    cli.run(&words("kv rollback -version=1 new/a")).ok();
    let secret = cli.run(&words("kv get -format=json new/a")).ok().json();
    assert_eq!(secret["data"]["data"], json!({"x": "1", "y": "2"}));
    assert_eq!(secret["data"]["metadata"]["version"], 4);
    cli.run(&words(
        "kv metadata put -max-versions=5 -custom-metadata=a=b new/a",
    ))
    .ok();
    cli.run(&words(
        "kv metadata patch -custom-metadata=c=d -remove-custom-metadata=a new/a",
    ))
    .ok();
    let known = cli
        .run(&words("kv metadata get -format=json new/a"))
        .ok()
        .json();
    assert_eq!(known["data"]["custom_metadata"], json!({"c": "d"}));
    cli.run(&words("patch new/metadata/a max_versions=7")).ok();
    let known = cli
        .run(&words("kv metadata get -format=json new/a"))
        .ok()
        .json();
    assert_eq!(known["data"]["max_versions"], 7);
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs storage that lasts")]
fn a_snapshot_is_taken_and_put_back_here_and_on_a_fresh_server() {
    let on_disk = || {
        Server::ready(ServerOptions {
            seal: Seal::Shamir {
                shares: 1,
                threshold: 1,
            },
            ..ServerOptions::on_disk()
        })
    };
    let server = on_disk();
    let cli = Cli::root(&server);
    cli.run(&words("secrets enable -path=secret kv")).ok();
    cli.run(&words("kv put secret/a when=before")).ok();
    let file = server.dir().join("obol.snap");
    let file = file.to_str().unwrap();
    cli.run(&["operator", "backup", file]).ok();
    cli.run(&words("kv put secret/a when=after")).ok();
    cli.run(&["operator", "restore", file]).ok();
    let when = cli.run(&words("kv get -field=when secret/a")).ok();
    assert_eq!(when.text(), "before");

    let fresh = on_disk();
    let other = Cli::root(&fresh);
    let refused = other.run(&["operator", "restore", file]).expect(2);
    assert!(refused.stderr.contains("force"), "{}", refused.stderr);
    let restored = other.run(&["operator", "restore", "-force", file]).ok();
    assert!(
        restored.stderr.contains("operator unseal"),
        "{}",
        restored.stderr
    );
    other
        .run(&["operator", "unseal", &server.keys().shares[0]])
        .ok();
    let root = Cli::new(&fresh).env("VAULT_TOKEN", &server.keys().root_token);
    let when = root.run(&words("kv get -field=when secret/a")).ok();
    assert_eq!(when.text(), "before");
}

#[test]
fn a_fault_is_looked_into() {
    let server = holders(1, 1);
    let cli = Cli::root(&server);
    let out = server.dir().join("found");
    let output = format!("-output={}", out.display());
    cli.run(&[
        "debug",
        "-duration=2s",
        "-interval=1s",
        "-metrics-interval=1s",
        "-compress=false",
        &output,
    ])
    .ok();
    let index: Value = serde_json::from_slice(&fs::read(out.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["left_out"], json!({}), "{index}");
    assert!(
        index["files"]["metrics.jsonl"].as_u64() >= Some(2),
        "{index}"
    );
    for name in [
        "config.jsonl",
        "host.jsonl",
        "requests.jsonl",
        "server_status.jsonl",
    ] {
        let text = fs::read_to_string(out.join(name)).unwrap();
        assert!(text.contains("\"answer\""), "{name}: {text}");
        assert!(!text.contains(&server.keys().root_token), "{name}");
    }
    let history = cli.run(&words("version-history")).ok();
    assert!(history.stdout.starts_with("Version"), "{}", history.stdout);
    let plugins = cli.run(&words("plugin list auth")).ok();
    assert!(plugins.stdout.contains("kerberos"), "{}", plugins.stdout);
    cli.run(&words("namespace list")).expect(1);
}

#[test]
fn every_path_of_the_api_has_help() {
    let server = holders(1, 1);
    let cli = Cli::root(&server);
    for mount in ["userpass", "ldap", "approle", "jwt", "kerberos"] {
        cli.run(&["auth", "enable", mount]).ok();
    }
    for mount in ["kv", "kv-v2", "transit"] {
        cli.run(&["secrets", "enable", mount]).ok();
    }
    let document = server
        .root()
        .get("sys/internal/specs/openapi")
        .expect(200)
        .json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 100, "{}", paths.len());
    let root = server.root();
    for path in paths.keys() {
        let path = path.trim_start_matches('/').trim_end_matches('/');
        // A parameter's place is taken by some word.
        let asked: Vec<&str> = path
            .split('/')
            .map(|part| if part.starts_with('{') { "word" } else { part })
            .collect();
        let asked = asked.join("/");
        let help = root.get(&format!("{asked}?help=1")).expect(200).json();
        let text = help["data"]["help"].as_str().or(help["help"].as_str());
        assert!(text.is_some_and(|text| !text.is_empty()), "{path}: {help}");
    }
    let shown = cli.run(&words("path-help auth/userpass/users/grace")).ok();
    assert!(shown.stdout.contains("password"), "{}", shown.stdout);
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let directory = program().parent().unwrap().to_owned();
    let complete = |line: &[&str]| -> Vec<String> {
        let script = format!(
            "set -u\nPATH={}:$PATH\neval \"$(obol completion bash)\"\nCOMP_WORDS=({})\n\
             COMP_CWORD={}\n_obol || :\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            directory.display(),
            line.iter()
                .map(|word| format!("'{word}'"))
                .collect::<Vec<_>>()
                .join(" "),
            line.len() - 1,
        );
        let ended = Command::new("bash").args(["-c", &script]).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert!(ended.status.success(), "{}", text(ended.stderr));
        text(ended.stdout).lines().map(str::to_owned).collect()
    };
    assert_eq!(complete(&["obol", "oper"]), ["operator"]);
    assert_eq!(complete(&["obol", "operator", "reke"]), ["rekey"]);
    assert_eq!(complete(&["obol", "kv", "get", "-form"]), ["-format="]);
    assert_eq!(
        complete(&["obol", "kv", "get", "-format", "=", "y"]),
        ["yaml"]
    );
    assert!(complete(&["obol", ""]).contains(&"login".to_owned()));
}

#[test]
fn zsh_completes_from_the_first_tab_on() {
    let functions = obol_testbed::Scratch::new("shell").unwrap();
    let script = Command::new(program())
        .args(["completion", "zsh"])
        .output()
        .unwrap();
    std::fs::write(functions.path().join("_obol"), script.stdout).unwrap();
    // A shell at a terminal of its own, to which keys are sent.
    let typed = r#"
        zmodload zsh/zpty
        zpty shell 'TERM=dumb zsh -f -i'
        await() {
            local part all='' tries=0
            until [[ $all == *$1* ]]; do
                zpty -r -t shell part && all+=$part || sleep 0.05
                (( tries++ < 600 )) || break
            done
            print -r -- $all
        }
        zpty -w shell 'fpath=($FUNCTIONS $fpath); autoload -U compinit; compinit -u -D; print rea""dy'
        await ready >/dev/null
        zpty -n -w shell $'obol tok\tcr\t-pol\t'
        await policy=
        zpty -d shell
    "#;
    let path = format!(
        "{}:{}",
        program().parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let ended = Command::new("zsh")
        .args(["-f", "-c", typed])
        .env("PATH", path)
        .env("FUNCTIONS", functions.path())
        .env("HOME", functions.path())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&ended.stdout).replace('\u{8}', "");
    for word in ["token", "create", "-policy="] {
        assert!(shown.contains(word), "{word}: {shown:?}");
    }
}

#[test]
fn fish_completes_commands_flags_and_values() {
    let complete = |line: &str| -> Vec<String> {
        let script = format!("obol completion fish | source; complete -C '{line}'");
        let path = format!(
            "{}:{}",
            program().parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let home = obol_testbed::Scratch::new("shell").unwrap();
        let ended = Command::new("fish")
            .args(["--no-config", "-c", &script])
            .env("PATH", path)
            .env("HOME", home.path())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert!(ended.status.success(), "{}", text(ended.stderr));
        text(ended.stdout).lines().map(str::to_owned).collect()
    };
    assert_eq!(complete("obol oper"), ["operator"]);
    assert_eq!(complete("obol operator reke"), ["rekey"]);
    assert_eq!(complete("obol kv get -form"), ["-format="]);
    assert_eq!(complete("obol kv get -format=y"), ["-format=yaml"]);
}

/// A proxy that connects whoever asks, for whatever host, to one port. Ends with the test's process.
fn proxy_to(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let status = match head.starts_with("CONNECT vault.invalid:8200 ") {
                true => "200 OK",
                false => "403 Forbidden",
            };
            let _ = client.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
            let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut server, &mut client));
        }
    });
    own
}

#[test]
fn a_proxy_is_asked_for_hosts_that_only_it_knows() {
    let server = holders(1, 1);
    let proxy = format!("http://127.0.0.1:{}", proxy_to(server.port()));
    for name in ["VAULT_PROXY_ADDR", "VAULT_HTTP_PROXY", "HTTP_PROXY"] {
        let cli = Cli::root(&server)
            .env("VAULT_ADDR", "http://vault.invalid:8200")
            .env(name, &proxy);
        cli.run(&words("token lookup")).ok();
    }
    // One that is not there is blamed by its own name.
    let cli = Cli::root(&server).env("VAULT_PROXY_ADDR", "http://127.0.0.1:1");
    let ended = cli.run(&words("token lookup")).expect(2);
    assert!(!ended.stderr.contains("404"), "{}", ended.stderr);
}
