//! Clients that are programs: the command line `obol`, and Python with the libraries that people use.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use obol_testbed::{CCache, Realm};
use serde_json::Value;

use crate::http::Reply;
use crate::kerberos;
use crate::server::{Server, is_foreign, program};

/// What a program has printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect(0)
    }

    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output without its last line break.
    pub fn text(&self) -> &str {
        self.stdout.trim_end_matches('\n')
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {:?} {}", self.stdout, self.stderr),
        }
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            // Ended by a signal: no status of a program.
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// `obol` on the command line of somebody whose home is the server's directory.
pub struct Cli {
    home: PathBuf,
    env: Vec<(String, String)>,
}

impl Cli {
    /// With VAULT_ADDR set, and no token.
    pub fn new(server: &Server) -> Self {
        let home = server.dir().join("home");
        std::fs::create_dir_all(&home).expect("a home is made");
        Self {
            home,
            env: vec![("VAULT_ADDR".to_owned(), server.url())],
        }
    }

    /// With VAULT_TOKEN set to the root token.
    #[track_caller]
    pub fn root(server: &Server) -> Self {
        Self::new(server).env("VAULT_TOKEN", &server.keys().root_token)
    }

    /// Initializes and unseals a server that speaks TLS, and has VAULT_TOKEN set to its root token.
    #[track_caller]
    pub fn make_ready(server: &Server, ca: &Path) -> Self {
        let cli = Self::new(server).env("VAULT_CACERT", &ca.display().to_string());
        let keys = cli
            .run(&[
                "operator",
                "init",
                "-key-shares=1",
                "-key-threshold=1",
                "-format=json",
            ])
            .ok()
            .json();
        let key = |key: &Value| key.as_str().expect("a key is text").to_owned();
        cli.run(&["operator", "unseal", &key(&keys["unseal_keys_b64"][0])])
            .ok();
        cli.env("VAULT_TOKEN", &key(&keys["root_token"]))
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With these tickets.
    pub fn tickets(mut self, realm: &Realm, tickets: &CCache) -> Self {
        self.env.extend(realm.kdc.env());
        self.env.extend(tickets.env());
        self
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with_input(arguments, "")
    }

    #[track_caller]
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        run(self.command().args(arguments), input)
    }

    /// `obol` with this environment, to be run in some other way.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program());
        forget_foreign(&mut command);
        command
            .env("HOME", &self.home)
            .envs(self.env.iter().cloned())
            .current_dir(&self.home);
        command
    }
}

/// curl with these arguments, and its answer.
#[track_caller]
pub fn curl(arguments: &[&str]) -> Reply {
    let mut curl = Command::new("curl");
    forget_foreign(&mut curl);
    curl.args([
        "--silent",
        "--show-error",
        "--include",
        "--max-time",
        "60",
        "--http1.1",
    ]);
    let output = curl.args(arguments).output().expect("curl is installed");
    kerberos::reply_of(&output)
}

/// Runs a Python program with these tickets; the server's URL is `sys.argv[1]`.
#[track_caller]
pub fn python(realm: &Realm, tickets: &CCache, server: &Server, code: &str) -> Ended {
    let mut command = kerberos::command(realm, tickets, interpreter());
    run(command.args(["-c", code]).arg(server.url()), "")
}

/// Runs a Python program without tickets; the server's URL is `sys.argv[1]`, the root token `sys.argv[2]`.
#[track_caller]
pub fn python_as_root(server: &Server, code: &str) -> Ended {
    let mut command = Command::new(interpreter());
    forget_foreign(&mut command);
    command.args(["-c", code, &server.url(), &server.keys().root_token]);
    run(&mut command, "")
}

/// Runs a Python program that reads this text from its standard input.
#[track_caller]
pub fn python_reading(code: &str, input: &str) -> Ended {
    let mut command = Command::new(interpreter());
    forget_foreign(&mut command);
    run(command.args(["-c", code]), input)
}

/// The Python that has requests-gssapi and hvac: OBOL_TEST_PYTHON, else one that tools/python-env makes.
#[track_caller]
pub fn interpreter() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        if let Some(path) = std::env::var_os("OBOL_TEST_PYTHON").map(PathBuf::from)
            && path.exists()
        {
            return path;
        }
        let environment = cache().join("python");
        tool("python-env", &environment);
        environment.join("bin/python")
    })
}

/// A program around a client library of another language (tests/clients), as tools/client-programs builds it; it takes
/// the server's URL.
#[track_caller]
pub fn program_of_client(name: &str) -> Command {
    static PROGRAMS: OnceLock<String> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| tool("client-programs", &cache().join("clients")));
    let line = programs
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("tools/client-programs has no {name}"));
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a line has a program"));
    command.args(words);
    command
}

/// Where things are kept that take long to make.
fn cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .expect("a home directory")
        .join("obol")
}

/// Lets a program of tools/ make something at a place, and gives what it prints.
#[track_caller]
fn tool(name: &str, place: &Path) -> String {
    // Cargo runs tests in their crate's directory. (That of the compiler may be another checkout with the same target.)
    let made = Command::new(Path::new("../tools").join(name))
        .arg(place)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("tools/{name}: {error}"));
    assert!(made.status.success(), "tools/{name} failed");
    String::from_utf8(made.stdout).expect("paths are text")
}

/// Runs a program to its end with `input` on its standard input.
#[track_caller]
pub fn run(command: &mut Command, input: &str) -> Ended {
    use std::io::Write;

    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
    let output = std::thread::scope(|scope| {
        // A program may end without reading its input: that shows in its status, not here.
        scope.spawn(move || stdin.write_all(input.as_bytes()).ok());
        child.wait_with_output()
    });
    Ended::from(output.expect("a program ends"))
}

fn forget_foreign(command: &mut Command) {
    for (name, _) in std::env::vars().filter(|(name, _)| is_foreign(name)) {
        command.env_remove(name);
    }
}
