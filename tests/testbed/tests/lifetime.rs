//! Nothing of a realm is left behind, whatever ends it; and what the binary does meanwhile.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use obol_testbed::{LdapOptions, MitOptions, MitRealm, OpenLdap, Realm, RealmOptions};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn every_user_of_the_directory_logs_in_to_the_kdc() {
    let realm = Realm::start(RealmOptions::default()).unwrap();
    for uid in obol_testbed::people::AWKWARD_NAMES
        .iter()
        .copied()
        .chain(["grace", "joan", "admin", "loner", "many"])
    {
        realm
            .kinit(uid)
            .unwrap_or_else(|error| panic!("{uid:?}: {error}"));
    }
    assert!(realm.kinit("nobody").is_err());
    assert_eq!(fs::read(realm.keytab_file()).unwrap(), realm.keytab());
}

#[test]
fn a_dropped_realm_leaves_no_process_and_no_file() {
    let kdc = MitRealm::start(MitOptions::default()).unwrap();
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let (dir, pids) = (
        kdc.dir().to_owned(),
        [kdc.kdc_pid().unwrap(), ldap.pid().unwrap()],
    );
    ldap.pause().unwrap();
    drop((kdc, ldap));
    assert!(pids.iter().all(|pid| !is_alive(*pid)) && !dir.exists());
}

#[test]
fn a_panic_takes_the_realm_down() {
    let caught = std::panic::catch_unwind(|| {
        let kdc = MitRealm::start(MitOptions::default()).unwrap();
        std::panic::panic_any((kdc.dir().to_owned(), kdc.kdc_pid().unwrap()));
    });
    let (dir, pid) = *caught
        .unwrap_err()
        .downcast::<(std::path::PathBuf, u32)>()
        .unwrap();
    assert!(!is_alive(pid) && !dir.exists());
}

#[test]
fn a_realm_outlives_the_thread_that_started_it() {
    let kdc = std::thread::spawn(|| MitRealm::start(MitOptions::default()).unwrap())
        .join()
        .unwrap();
    kdc.add_principal("grace", "grace-password").unwrap();
    kdc.kinit("grace", "grace-password").unwrap();
    assert!(is_alive(kdc.kdc_pid().unwrap()));
}

#[test]
fn a_killed_test_bed_takes_its_daemons_and_files_with_it() {
    let mut bed = Bed::start(&[]);
    let daemons = bed.daemons();
    assert_eq!(daemons.len(), 2, "krb5kdc and slapd");
    bed.child.kill().unwrap();
    bed.child.wait().unwrap();
    eventually(|| daemons.iter().all(|pid| !is_alive(*pid)));
    eventually(|| bed.scratch_directories() == 0);
}

#[test]
fn a_killed_active_directory_leaves_no_process_and_no_file() {
    let mut bed = Bed::start_of("ad", &[]);
    let daemons = bed.children_named(&["samba"]);
    assert_eq!(daemons.len(), 1);
    assert!(children(daemons[0]).is_empty(), "all of it is one process");
    bed.child.kill().unwrap();
    bed.child.wait().unwrap();
    eventually(|| daemons.iter().all(|pid| !is_alive(*pid)));
    eventually(|| bed.scratch_directories() == 0);
}

#[test]
fn an_active_directory_that_is_killed_while_it_is_provisioned_leaves_no_process_and_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let bed = |command: &[&str]| {
        let mut bed = bed_command("ad", dir.path(), command);
        bed.env("XDG_CACHE_HOME", dir.path().join("cache"));
        bed.stderr(Stdio::null()).spawn().unwrap()
    };
    let mut first = bed(&[]);
    let part = dir.path().join("cache/obol/testbed/AD.EXAMPLE.COM.part");
    eventually(|| part.join("private").exists());
    let tools = children(first.id());
    first.kill().unwrap();
    first.wait().unwrap();
    eventually(|| tools.iter().all(|pid| !is_alive(*pid)));
    assert!(part.exists());
    let mut second = bed(&["true"]);
    assert!(second.wait().unwrap().success());
    assert!(!part.exists());
}

#[test]
fn the_env_file_of_an_active_directory_leads_to_its_directory() {
    let bed = Bed::start_of("ad", &[]);
    let script = r#". "$1/env" && echo "$JOAN_PASSWORD" | kinit joan >&2 && klist -k "$HTTP_KEYTAB" &&
        LDAPTLS_CACERT=$LDAP_CA_FILE ldapsearch -x -LLL -H "$LDAPS_URL" -D "$LDAP_BIND_DN" \
            -w "$LDAP_BIND_PASSWORD" -b "$LDAP_USER_DN" "(sAMAccountName=joan)" dn &&
        ldapsearch -Q -N -Y GSSAPI -LLL -H "$LDAP_URL" -b "$LDAP_GROUP_DN" "(cn=staff)" dn"#;
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(bed.dir.path().join("realm"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for what in [
        "vault_svc@AD.EXAMPLE.COM",
        "dn: CN=Clarke\\, Joan,OU=People,",
        "dn: CN=staff,",
    ] {
        assert!(said.contains(what), "{what} is not in {said}");
    }
}

#[test]
fn a_signal_or_the_end_of_its_input_ends_a_test_bed_cleanly() {
    for ending in [
        Ending::Signal(Signal::TERM),
        Ending::Signal(Signal::INT),
        Ending::Input,
    ] {
        let mut bed = Bed::start(&[]);
        let daemons = bed.daemons();
        let env = bed.dir.path().join("realm/env");
        assert!(env.exists());
        match ending {
            Ending::Signal(signal) => kill_process(Pid::from_child(&bed.child), signal).unwrap(),
            Ending::Input => drop(bed.child.stdin.take()),
        }
        assert!(bed.child.wait().unwrap().success());
        assert!(daemons.iter().all(|pid| !is_alive(*pid)));
        assert!(bed.scratch_directories() == 0 && !env.exists());
    }
}

#[test]
fn a_command_ends_with_its_test_bed_and_is_told_to_end_by_sigterm() {
    let sleep = ["sh", "-c", "echo ready; exec sleep 600"];
    for signal in [Signal::TERM, Signal::KILL] {
        let mut bed = Bed::start(&sleep);
        let sleeper = bed.children_named(&["sleep"]);
        assert_eq!(sleeper.len(), 1);
        kill_process(Pid::from_child(&bed.child), signal).unwrap();
        let status = bed.child.wait().unwrap();
        assert_eq!(status.code(), (signal == Signal::TERM).then_some(128 + 15));
        eventually(|| !is_alive(sleeper[0]));
    }
}

#[test]
fn a_command_runs_inside_the_realm_and_its_status_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let output = bed_command(
        "mit",
        dir.path(),
        &[
            "sh",
            "-c",
            "echo \"$GRACE_PASSWORD\" | kinit grace && klist; exit 7",
        ],
    )
    .output();
    let output = output.unwrap();
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("Default principal: grace@EXAMPLE.COM")
    );
}

#[test]
fn the_env_file_can_be_sourced_and_names_files_that_exist() {
    let bed = Bed::start(&[]);
    let output = Command::new("sh")
        .arg("-c")
        .arg(". \"$1/env\" && echo \"$JOAN_PASSWORD\" | kinit joan >&2 && klist -k \"$HTTP_KEYTAB\" && cat \"$LDAP_CA_FILE\"")
        .args(["sh"])
        .arg(bed.dir.path().join("realm"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains("HTTP/localhost@EXAMPLE.COM") && said.contains("vault_svc@EXAMPLE.COM"),
        "{said}"
    );
    assert!(said.contains("BEGIN CERTIFICATE"), "{said}");
}

#[test]
fn help_shows_an_example_and_check_names_packages() {
    let help = Command::new(BINARY).arg("--help").output().unwrap();
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("Example:"));
    for kind in ["mit", "ad"] {
        let check = Command::new(BINARY)
            .args(["check", "--realm", kind])
            .output()
            .unwrap();
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stdout)
        );
    }
    assert_eq!(
        Command::new(BINARY)
            .arg("nonsense")
            .output()
            .unwrap()
            .status
            .code(),
        Some(2)
    );
}

const BINARY: &str = env!("CARGO_BIN_EXE_obol-testbed");

enum Ending {
    Signal(Signal),
    Input,
}

/// The binary, with a temporary directory of its own for everything that it makes.
struct Bed {
    child: Child,
    dir: tempfile::TempDir,
}

impl Bed {
    fn start(command: &[&str]) -> Self {
        Self::start_of("mit", command)
    }

    fn start_of(kind: &str, command: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = bed_command(kind, dir.path(), command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Self { child, dir }
    }

    fn daemons(&self) -> Vec<u32> {
        self.children_named(&["krb5kdc", "slapd"])
    }

    /// Waits for a child of each of these names: a shell takes a moment to become another program.
    fn children_named(&self, names: &[&str]) -> Vec<u32> {
        let mut pids = Vec::new();
        eventually(|| {
            pids = children(self.child.id());
            pids.retain(|pid| {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                names.contains(&name.trim())
            });
            pids.len() >= names.len()
        });
        pids
    }

    fn scratch_directories(&self) -> usize {
        let made = fs::read_dir(self.dir.path()).unwrap().flatten();
        let names = made.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name.starts_with("obol-") && !name.starts_with("obol-testbed-ports"))
            .count()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        eventually(|| self.scratch_directories() == 0);
    }
}

fn bed_command(kind: &str, dir: &Path, command: &[&str]) -> Command {
    let mut bed = Command::new(BINARY);
    bed.env("TMPDIR", dir)
        .args(["run", "--realm", kind, "--dir"])
        .arg(dir.join("realm"));
    if !command.is_empty() {
        bed.arg("--").args(command);
    }
    bed
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists =
        tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A zombie that nobody has collected counts as dead.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come to hold");
        std::thread::sleep(Duration::from_millis(5));
    }
}
