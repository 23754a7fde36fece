//! `obol-testbed`: a throwaway realm from the command line, for demos and for trying things by hand.

mod handout;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::mpsc::{self, Sender};
use std::thread;

use handout::{Files, Handout};
use obol_testbed::programs::{self, Program};
use obol_testbed::{AdOptions, Error, Realm, RealmOptions, SambaAd};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let result = match args.next().as_deref() {
        Some("run") => Run::parse(args).and_then(Run::run),
        Some("check") => check_args(args).map(Kind::check),
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
A throwaway realm on loopback, real in every part, of one of two kinds:
  mit   an MIT KDC and an OpenLDAP directory with the same users, on free ports (the default)
  ad    an Active Directory: a Samba domain controller on an address of its own; it needs root

Usage:
  obol-testbed run [--realm mit|ad] --dir DIR [-- COMMAND [ARGUMENT...]]
  obol-testbed check [--realm mit|ad]

run    starts the realm and writes into DIR: env (lines for a shell to source), krb5.conf,
       http.keytab, ca.pem, other-ca.pem (a CA that signed nothing). With a COMMAND it runs that in
       the same environment and ends with its exit status. Without, it prints \"ready\" and stays
       until SIGINT, SIGTERM, or the end of a pipe on its standard input.
       Whatever ends it, nothing of the realm is left running; the files in DIR are removed.
       The first Active Directory of a machine takes half a minute, and says what it does on
       standard error; it is kept in ~/.cache/obol/testbed and copied after that.
check  says which programs are missing and which Debian packages bring them.

Example:
  obol-testbed run --dir realm -- sh -c 'echo \"$GRACE_PASSWORD\" | kinit grace && klist'
";

#[derive(Clone, Copy)]
enum Kind {
    Mit,
    Ad,
}

impl Kind {
    fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "mit" => Ok(Self::Mit),
            "ad" => Ok(Self::Ad),
            _ => Err(usage(format!(
                "there is no kind of realm {name:?}, only mit and ad"
            ))),
        }
    }

    fn programs(self) -> &'static [Program] {
        match self {
            Self::Mit => programs::ALL,
            Self::Ad => programs::AD,
        }
    }

    /// Exits 0 when nothing is missing.
    fn check(self) -> ExitCode {
        let missing = programs::missing(self.programs());
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

    /// The realm, which runs until it is dropped, and what to hand out of it.
    fn start(self) -> Result<(Box<dyn Send>, Handout), Error> {
        match self {
            Self::Mit => {
                let realm = Realm::start(RealmOptions::default())?;
                let handout = Handout::of_mit(&realm);
                Ok((Box::new(realm), handout))
            }
            Self::Ad => {
                let ad = SambaAd::start_telling(AdOptions::default(), &|step| eprintln!("{step}"))?;
                let handout = Handout::of_ad(&ad)?;
                Ok((Box::new(ad), handout))
            }
        }
    }
}

fn check_args(mut args: impl Iterator<Item = String>) -> Result<Kind, Error> {
    let mut kind = Kind::Mit;
    while let Some(arg) = args.next() {
        match option("--realm", &arg, &mut args) {
            Some(value) => kind = Kind::parse(&value)?,
            None => return Err(unknown(&arg)),
        }
    }
    Ok(kind)
}

/// The value of `--name VALUE` or `--name=VALUE`, if that is what `arg` is.
fn option(name: &str, arg: &str, rest: &mut impl Iterator<Item = String>) -> Option<String> {
    if arg == name {
        return Some(rest.next().unwrap_or_default());
    }
    Some(arg.strip_prefix(name)?.strip_prefix('=')?.to_owned())
}

fn unknown(arg: &str) -> Error {
    usage(format!("unknown argument {arg:?}; see obol-testbed --help"))
}

struct Run {
    kind: Kind,
    dir: PathBuf,
    command: Vec<String>,
}

impl Run {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Error> {
        let mut kind = Kind::Mit;
        let mut dir = String::new();
        let mut command = Vec::new();
        while let Some(arg) = args.next() {
            if arg == "--" {
                command.extend(args.by_ref());
            } else if let Some(value) = option("--dir", &arg, &mut args) {
                dir = value;
            } else if let Some(value) = option("--realm", &arg, &mut args) {
                kind = Kind::parse(&value)?;
            } else {
                return Err(unknown(&arg));
            }
        }
        if dir.is_empty() {
            return Err(usage("--dir DIR is missing".to_owned()));
        }
        Ok(Self {
            kind,
            dir: PathBuf::from(dir),
            command,
        })
    }

    fn run(self) -> Result<ExitCode, Error> {
        if !programs::missing(self.kind.programs()).is_empty() {
            return Ok(self.kind.check());
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

        let (_realm, handout) = self.kind.start()?;
        let files = Files::write(&self.dir, handout)?;
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

fn usage(message: String) -> Error {
    Error::Usage(message)
}

fn doing(what: &str) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}
