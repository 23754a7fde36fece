//! Where tokens are kept between commands when `~/.vault` names a token helper. The helpers here are real programs.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json as j;

use super::harness::{Reply, Server, Shell, empty, json, status};

fn lookup() -> Reply {
    json(j!({"data": {"id": "obs.mine", "accessor": "acc", "policies": ["default"], "ttl": 60}}))
}

/// A shell whose settings name a helper with this script.
fn with_helper(shell: Shell, script: &str) -> Shell {
    let program = shell.home.path().join("helper");
    write_program(&program, script);
    let line = format!(
        "# Kept in the keychain.\ntoken_helper = \"{}\"\n",
        program.display()
    );
    std::fs::write(shell.home.path().join(".vault"), line).unwrap();
    shell
}

/// Written by a process of its own: one of another test that is started meanwhile would inherit the open file, and a
/// program that is open for writing cannot be run.
fn write_program(program: &PathBuf, script: &str) {
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 700 \"$0\""])
        .arg(program)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = writer.stdin.take().unwrap();
    write!(stdin, "#!/bin/sh\nhome=$(dirname \"$0\")\n{script}\n").unwrap();
    drop(stdin);
    assert!(writer.wait().unwrap().success());
}

/// Keeps a token for each server, and a record of what it was asked.
const KEEPS: &str = r#"echo "$1" >> "$home/asked"
file="$home/$(echo "$VAULT_ADDR" | tr -c 'a-z0-9\n' _)"
case $1 in
  get) cat "$file" 2>/dev/null || true ;;
  store) cat > "$file" ;;
  erase) rm "$file" ;;
esac"#;

#[test]
fn a_token_helper_keeps_finds_and_forgets_the_token_of_a_server() {
    let server = Server::start([lookup(), lookup(), empty(), status(403, j!({"errors": []}))]);
    let shell = with_helper(Shell::of(&server).unset("VAULT_TOKEN"), KEEPS);
    let asked = || std::fs::read_to_string(shell.home.path().join("asked")).unwrap();

    let ran = shell.run("login obs.mine").ok();
    assert!(ran.out.contains("kept in the token helper /"), "{ran:?}");
    assert_eq!(shell.token_file(), None);
    assert_eq!(asked(), "store\n");
    shell.run("token lookup").ok();
    let elsewhere = shell.run("token lookup -address=http://127.0.0.1:1");
    elsewhere.failed(2, "127.0.0.1:1");
    assert_eq!(asked(), "store\nget\nget\n");
    shell.run("token revoke -self").ok();
    assert!(asked().ends_with("get\nget\nerase\n"), "{}", asked());
    shell.run("token lookup").failed(2, "403");

    let seen = server.seen();
    let tokens = seen.iter().map(|request| request.header("X-Vault-Token"));
    let mine = Some("obs.mine");
    assert_eq!(tokens.collect::<Vec<_>>(), [mine, mine, mine, None]);
}

#[test]
fn curl_is_told_to_ask_the_helper() {
    let shell = with_helper(Shell::empty(), "echo obs.kept");
    let out = shell.run("read -output-curl-string sys/x").ok().out;
    let asks = format!("$({} get)", shell.home.path().join("helper").display());
    assert!(out.contains(&asks) && !out.contains("obs.kept"), "{out}");
}

#[test]
fn the_settings_may_be_elsewhere() {
    let server = Server::start([lookup()]);
    let shell = with_helper(Shell::of(&server).unset("VAULT_TOKEN"), "echo obs.kept");
    let home = shell.home.path().to_owned();
    let (helper, other) = (home.join("helper"), home.join("settings.json"));
    std::fs::remove_file(home.join(".vault")).unwrap();
    std::fs::write(&other, j!({"token_helper": helper}).to_string()).unwrap();
    let shell = shell.set("VAULT_CONFIG_PATH", &other.display().to_string());
    shell.run("token lookup").ok();
    assert_eq!(server.seen()[0].header("X-Vault-Token"), Some("obs.kept"));
    let shell = shell.set("VAULT_CONFIG_PATH", "/no/such/file");
    shell.run("token lookup").failed(1, "/no/such/file");
}

#[test]
fn a_helper_that_fails_is_quoted_and_no_file_takes_its_place() {
    let server = Server::start([lookup()]);
    let fails = "echo 'the keychain is locked' >&2; exit 3";
    let shell = with_helper(Shell::of(&server).unset("VAULT_TOKEN"), fails);
    let ran = shell
        .run("token lookup")
        .failed(1, "the keychain is locked");
    assert!(ran.err.contains("failed to get the token"), "{ran:?}");
    assert_eq!(server.seen().len(), 0, "nobody is asked without a token");
    // It lives all the same, so it is shown.
    let ran = shell.run("login obs.mine").failed(2, "exit status: 3");
    assert!(
        !ran.out.contains("Success") && ran.out.contains("obs.mine"),
        "{ran:?}"
    );
    assert_eq!(shell.token_file(), None);
}

#[test]
fn a_helper_that_reads_nothing_is_taken_at_its_word() {
    let server = Server::start([lookup()]);
    let shell = with_helper(Shell::of(&server).unset("VAULT_TOKEN"), "exit 0");
    shell.run("login obs.mine").ok();
}

#[test]
fn settings_that_name_no_program_are_refused_before_anything_is_sent() {
    for (settings, says) in [
        (
            "token_helper = \"bin/helper\"",
            "line 1, column 16: token_helper must be the full path",
        ),
        ("token_helper = 7", "must be a string"),
        (
            "\ntoken_helpr = \"/x\"",
            "line 2, column 1: unknown key token_helpr",
        ),
        ("token_helper =", "line 1"),
        (
            "token_helper = \"/no/such/program\"",
            "the token helper /no/such/program cannot be run",
        ),
    ] {
        let server = Server::start([]);
        let shell = Shell::of(&server).unset("VAULT_TOKEN");
        std::fs::write(shell.home.path().join(".vault"), settings).unwrap();
        shell.run("token lookup").failed(1, says);
        if !settings.contains("/no/such") {
            shell.run("login obs.mine").failed(1, says);
        }
        assert_eq!(server.seen().len(), 0, "{settings}");
    }
}
