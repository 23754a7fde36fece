//! Runs the examples of a page: a server, a shell with its address, and what came of each block.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use obol_testbed::{Scratch, guarded, spawn_for_life};
use obol_tests::server::{is_foreign, program};
use obol_tests::{Server, ServerOptions, realm};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::expect::{json_matches, text_matches};
use crate::page::{Block, Page, Stage};

/// Says what is wrong, where in the page.
pub(crate) fn run(page: &Page) -> Result<(), String> {
    if page.blocks.is_empty() {
        return Ok(());
    }
    let server = match page.stage {
        Stage::Dev => Server::dev(&[]),
        // The server asks the KDC, too, when it is asked what is wrong.
        Stage::Realm => Server::ready(ServerOptions {
            env: realm().kdc.env(),
            ..ServerOptions::default()
        }),
        Stage::NewServer => Server::start(on_disk()),
        Stage::OnDisk => Server::ready(on_disk()),
    };
    let files = Scratch::new("handbook").map_err(|error| error.to_string())?;
    let (out, home) = (files.join("out"), files.join("home"));
    for dir in [&out, &home] {
        fs::create_dir(dir).map_err(|error| error.to_string())?;
    }
    let script = files.join("page.sh");
    fs::write(&script, page.script()).map_err(|error| error.to_string())?;

    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=5", PATIENCE, "bash"]);
    command.arg(&script);
    for (name, _) in std::env::vars().filter(|(name, _)| is_foreign(name)) {
        command.env_remove(name);
    }
    let program = program();
    let beside = program.parent().unwrap_or(Path::new("."));
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{}:{path}", beside.display()))
        .env("HOME", &home)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("OUT", &out)
        .env("VAULT_ADDR", server.url());
    if page.stage != Stage::NewServer {
        command.env("VAULT_TOKEN", server.keys().root_token);
    }
    if page.stage == Stage::Realm {
        let realm = realm();
        command
            .envs(realm.kdc.env())
            .env("KRB5CCNAME", format!("FILE:{}", files.join("cc").display()))
            .env("KEYTAB", realm.keytab_file())
            .env("LDAP_URL", realm.ldap.ldaps_url())
            .env("LDAP_CA", realm.ldap.ca_file());
    }
    let mut command = guarded(&command).map_err(|error| error.to_string())?;
    command
        .process_group(0)
        .current_dir(&home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(out.join("0.err")).map_err(|error| error.to_string())?);
    let mut child = spawn_for_life(command).map_err(|error| error.to_string())?;
    let group = Pid::from_child(&child);
    let status = child.wait().map_err(|error| error.to_string())?;
    // What an example left running in the background.
    kill_process_group(group, Signal::KILL).ok();

    if !status.success() {
        return Err(failure(page, &out, &status.to_string(), &server));
    }
    page.blocks
        .iter()
        .try_for_each(|block| check(page, block, &out))
}

fn on_disk() -> ServerOptions {
    if cfg!(feature = "rocksdb") {
        ServerOptions::on_disk()
    } else {
        ServerOptions::default()
    }
}

/// The command that failed, by its line, and what it said.
fn failure(page: &Page, out: &Path, status: &str, server: &Server) -> String {
    let begun = page
        .blocks
        .iter()
        .rev()
        .map(|block| block.line)
        .find(|line| out.join(line.to_string()).exists())
        .unwrap_or(0);
    let failed = read(&out.join("failed"));
    let line = match failed.trim() {
        "" => begun.to_string(),
        line => line.to_owned(),
    };
    let log = server.log();
    let log: Vec<&str> = log.lines().rev().take(5).collect();
    format!(
        "{}:{line}: {status}\n{}{}\nthe server's log ends: {}",
        page.name,
        read(&out.join(begun.to_string())),
        read(&out.join(format!("{begun}.err"))),
        log.into_iter().rev().collect::<Vec<_>>().join("\n")
    )
}

fn check(page: &Page, block: &Block, out: &Path) -> Result<(), String> {
    let Some(expected) = &block.expected else {
        return Ok(());
    };
    let found = read(&out.join(block.line.to_string()));
    let at = format!("{}:{}", page.name, expected.line);
    let same = if expected.json {
        json_matches(&expected.text, &found).map_err(|error| format!("{at}: {error}\n{found}"))?
    } else {
        text_matches(&expected.text, &found)
    };
    if same {
        return Ok(());
    }
    Err(format!(
        "{at}: the answer is another one:\n{found}\nand was expected to be:\n{}",
        expected.text
    ))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Seconds for all examples of a page, on a busy machine.
const PATIENCE: &str = "240";
