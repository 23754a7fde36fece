//! `obol-testbed`: a throwaway realm from the command line, for demos and for trying things by hand.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::mpsc::{self, Sender};
use std::thread;

use obol_testbed::ldap::{BIND_DN, BIND_PASSWORD};
use obol_testbed::people::{GROUP_DN, USER_DN, USERS};
use obol_testbed::realm::{GRACE_ADMIN, HTTP_SERVICE, SERVICE_ACCOUNT};
use obol_testbed::{Error, Realm, RealmOptions, programs};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let result = match args.next().as_deref() {
        Some("run") => Run::parse(args).and_then(Run::run),
        Some("check") if args.next().is_none() => Ok(check()),
        Some("-h" | "--help" | "help") => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("{HELP}");
            Ok(ExitCode::from(2))
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("obol-testbed: {error}");
        ExitCode::FAILURE
    })
}

const HELP: &str = "\
A throwaway realm on free loopback ports: an MIT KDC and an OpenLDAP directory with the same users.

Usage:
  obol-testbed run --dir DIR [-- COMMAND [ARGUMENT...]]
  obol-testbed check

run    starts the realm and writes into DIR: env (lines for a shell to source), krb5.conf,
       http.keytab, ca.pem, other-ca.pem (a CA that signed nothing). With a COMMAND it runs that in
       the same environment and ends with its exit status. Without, it prints \"ready\" and stays
       until SIGINT, SIGTERM, or the end of a pipe on its standard input.
       Whatever ends it, nothing of the realm is left running; the files in DIR are removed.
check  says which programs are missing and which Debian packages bring them.

Example:
  obol-testbed run --dir realm -- sh -c 'echo \"$GRACE_PASSWORD\" | kinit grace && klist'
";

/// Exits 0 when nothing is missing.
fn check() -> ExitCode {
    let missing = programs::missing(programs::ALL);
    if missing.is_empty() {
        println!("All programs of a test realm are installed.");
        return ExitCode::SUCCESS;
    }
    let mut packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    packages.dedup();
    for program in &missing {
        println!(
            "missing: {} (Debian package {})",
            program.name, program.package
        );
    }
    println!("as root: apt-get install {}", packages.join(" "));
    ExitCode::FAILURE
}

struct Run {
    dir: PathBuf,
    command: Vec<String>,
}

impl Run {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Error> {
        let mut dir = None;
        let mut command = Vec::new();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--" => command.extend(args.by_ref()),
                "--dir" => dir = args.next(),
                _ => match arg.strip_prefix("--dir=") {
                    Some(value) => dir = Some(value.to_owned()),
                    None => {
                        return Err(usage(format!(
                            "unknown argument {arg:?}; see obol-testbed --help"
                        )));
                    }
                },
            }
        }
        let dir = dir
            .filter(|dir| !dir.is_empty())
            .ok_or_else(|| usage("--dir DIR is missing".to_owned()))?;
        Ok(Self {
            dir: PathBuf::from(dir),
            command,
        })
    }

    fn run(self) -> Result<ExitCode, Error> {
        if !programs::missing(programs::ALL).is_empty() {
            return Ok(check());
        }
        // Listened for before anything starts, so that no signal finds a realm half-started.
        let (sender, events) = mpsc::channel();
        let mut signals =
            Signals::new([SIGINT, SIGTERM]).map_err(doing("listening for signals"))?;
        let from_signals = sender.clone();
        thread::spawn(move || {
            signals
                .forever()
                .for_each(|signal| drop(from_signals.send(Event::Signal(signal))))
        });

        let realm = Realm::start(RealmOptions::default())?;
        let files = Files::write(&self.dir, &realm)?;
        if self.command.is_empty() {
            println!("ready");
            io::stdout()
                .flush()
                .map_err(doing("writing to standard output"))?;
            watch_stdin(sender);
            events.recv().ok();
            return Ok(ExitCode::SUCCESS);
        }

        let mut child = Command::new(programs::SETPRIV.find()?)
            .args(["--pdeathsig", "KILL", "--"])
            .args(&self.command)
            .envs(files.env.iter().cloned())
            .spawn()
            .map_err(doing("starting the command"))?;
        let pid = Pid::from_child(&child);
        thread::spawn(move || sender.send(Event::Ended(child.wait())));
        loop {
            match events.recv() {
                Ok(Event::Ended(status)) => {
                    return Ok(exit_code(status.map_err(doing("waiting for the command"))?));
                }
                // The terminal has sent SIGINT to the command as well; it decides what that means.
                Ok(Event::Signal(SIGTERM)) => kill_process(pid, Signal::TERM).unwrap_or_default(),
                Ok(Event::Signal(_) | Event::StdinEnded) => {}
                Err(_) => return Err(usage("the command was lost sight of".to_owned())),
            }
        }
    }
}

enum Event {
    Signal(i32),
    StdinEnded,
    Ended(io::Result<ExitStatus>),
}

/// Watches a pipe or socket, whose end means that whoever started us is gone. A terminal or
/// /dev/null says nothing of the kind.
fn watch_stdin(sender: Sender<Event>) {
    let watched = fs::metadata("/proc/self/fd/0")
        .is_ok_and(|meta| meta.file_type().is_fifo() || meta.file_type().is_socket());
    if watched {
        thread::spawn(move || {
            io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
            sender.send(Event::StdinEnded)
        });
    }
}

/// As shells count: 128 more than the signal that ended the command.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// The files in DIR. Dropping this removes them, for they lead nowhere once the realm is gone.
struct Files {
    written: Vec<PathBuf>,
    env: Vec<(&'static str, String)>,
}

impl Files {
    fn write(dir: &Path, realm: &Realm) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(doing(&format!("making {}", dir.display())))?;
        let dir = fs::canonicalize(dir).map_err(doing(&format!("finding {}", dir.display())))?;
        let path = |name: &str| dir.join(name).display().to_string();
        let mut env = vec![
            ("KRB5_CONFIG", path("krb5.conf")),
            ("KRB5CCNAME", format!("FILE:{}", path("ccache"))),
            ("REALM", realm.kdc.realm().to_owned()),
            ("KDC_ADDR", realm.kdc.kdc_addr()),
            ("HTTP_SERVICE", HTTP_SERVICE.to_owned()),
            ("SERVICE_ACCOUNT", SERVICE_ACCOUNT.to_owned()),
            ("HTTP_KEYTAB", path("http.keytab")),
            ("LDAP_URL", realm.ldap.url()),
            ("LDAPS_URL", realm.ldap.ldaps_url()),
            ("LDAP_CA_FILE", path("ca.pem")),
            ("LDAP_OTHER_CA_FILE", path("other-ca.pem")),
            ("LDAP_BIND_DN", BIND_DN.to_owned()),
            ("LDAP_BIND_PASSWORD", BIND_PASSWORD.to_owned()),
            ("LDAP_USER_DN", USER_DN.to_owned()),
            ("LDAP_GROUP_DN", GROUP_DN.to_owned()),
            ("GRACE_PASSWORD", password("grace")),
            ("JOAN_PASSWORD", password("joan")),
            ("ADMIN_PASSWORD", password("admin")),
            ("LONER_PASSWORD", password("loner")),
            ("MANY_PASSWORD", password("many")),
            ("GRACE_ADMIN_PASSWORD", GRACE_ADMIN.1.to_owned()),
        ];
        env.retain(|(_, value)| !value.is_empty());

        let mut files = Self {
            written: vec![dir.join("ccache")],
            env,
        };
        let conf = realm.kdc.krb5_conf();
        files.put(
            dir.join("krb5.conf"),
            &fs::read(&conf).map_err(doing("reading krb5.conf"))?,
        )?;
        files.put(dir.join("http.keytab"), realm.keytab())?;
        files.put(dir.join("ca.pem"), realm.ldap.ca_pem().as_bytes())?;
        files.put(
            dir.join("other-ca.pem"),
            realm.ldap.other_ca_pem().as_bytes(),
        )?;
        // Last: whoever waits for this file finds the others complete.
        let lines: String = files
            .env
            .iter()
            .map(|(name, value)| format!("export {name}={}\n", quoted(value)))
            .collect();
        files.put(dir.join("env"), lines.as_bytes())?;
        Ok(files)
    }

    fn put(&mut self, path: PathBuf, contents: &[u8]) -> Result<(), Error> {
        let draft = path.with_extension("part");
        // A draft left behind may have other permissions.
        fs::remove_file(&draft).ok();
        let write = || {
            let mut file = File::options()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(contents)?;
            fs::rename(&draft, &path)
        };
        write().map_err(doing(&format!("writing {}", path.display())))?;
        self.written.push(path);
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in &self.written {
            fs::remove_file(path).ok();
        }
    }
}

fn password(uid: &str) -> String {
    USERS
        .iter()
        .find(|user| user.uid == uid)
        .map_or_else(String::new, |user| user.password.to_owned())
}

/// A word for a POSIX shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn usage(message: String) -> Error {
    Error::Usage(message)
}

fn doing(what: &str) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}
