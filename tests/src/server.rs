//! The real `obol` program as a child process: started on a free port with a configuration file of its own,
//! awaited, initialized, unsealed, killed, started again on the same data; gone when the test is gone.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use obol_testbed::tls::loopback_names;
use obol_testbed::{Ca, PortLease, Scratch, guarded, spawn_for_life};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::http::Client;
use crate::wait::{eventually, holds};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    RocksDb,
    Memory,
}

/// How the root key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    Shamir {
        shares: u8,
        threshold: u8,
    },
    /// A key in a file: the server unseals itself.
    Static,
    /// The same key in the file, disabled, for a server that is to be unsealed with shares.
    Leaving,
}

/// Paths of PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// What clients need in order to believe the certificate.
    pub ca: PathBuf,
}

impl Tls {
    /// A certificate for localhost by a CA of its own, in files that live as long as the directory.
    #[track_caller]
    pub fn on_loopback(files: &Scratch) -> Self {
        let ca = Ca::new("Test server CA").expect("a CA is made");
        let (certificate, key) = ca
            .issue(&loopback_names())
            .expect("a certificate is issued");
        let write = |name: &str, text: &str| {
            let path = files.join(name);
            fs::write(&path, text).expect("a certificate is written");
            path
        };
        Self {
            certificate: write("server.pem", &certificate),
            key: write("server.key", &key),
            ca: write("ca.pem", &ca.pem()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub storage: Storage,
    pub seal: Seal,
    pub tls: Option<Tls>,
    pub log_level: &'static str,
    /// More lines of the configuration, and of its listener.
    pub config: String,
    pub listener: String,
    /// More variables of its environment.
    pub env: Vec<(String, String)>,
    /// A development server, with these arguments beside `-dev` and its address.
    pub dev: Option<Vec<String>>,
}

impl Default for ServerOptions {
    /// In memory, one unseal key, plain HTTP.
    fn default() -> Self {
        Self {
            storage: Storage::Memory,
            seal: Seal::Shamir {
                shares: 1,
                threshold: 1,
            },
            tls: None,
            log_level: "info",
            config: String::new(),
            listener: String::new(),
            env: Vec::new(),
            dev: None,
        }
    }
}

impl ServerOptions {
    /// On disk, so that it can be started again on the same data.
    pub fn on_disk() -> Self {
        Self {
            storage: Storage::RocksDb,
            ..Self::default()
        }
    }
}

/// A server under test.
pub struct Server {
    options: ServerOptions,
    port: PortLease,
    child: Mutex<Option<Child>>,
    keys: Mutex<Option<Keys>>,
    scratch: Scratch,
}

/// What init gave out.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Hexadecimal, as `keys` has them; recovery keys with a static seal.
    pub shares: Vec<String>,
    pub root_token: String,
}

impl Server {
    /// A server that is initialized and unsealed.
    #[track_caller]
    pub fn ready(options: ServerOptions) -> Self {
        let server = Self::start(options);
        server.init();
        server.unseal();
        server
    }

    /// `obol server -dev`, once it has said how to use it.
    #[track_caller]
    pub fn dev(arguments: &[&str]) -> Self {
        let server = Self::start(ServerOptions {
            dev: Some(
                arguments
                    .iter()
                    .map(|argument| (*argument).to_owned())
                    .collect(),
            ),
            ..ServerOptions::default()
        });
        let said = |label: &str| {
            let output = server.output();
            let value = output.lines().find_map(|line| line.strip_prefix(label));
            value
                .map(|value| value.trim().to_owned())
                .unwrap_or_else(|| panic!("no {label:?} in: {output}"))
        };
        *lock(&server.keys) = Some(Keys {
            shares: vec![said("Unseal Key:")],
            root_token: said("Root Token:"),
        });
        server
    }

    /// A server that answers; nothing else has happened.
    #[track_caller]
    pub fn start(options: ServerOptions) -> Self {
        let server = Self::prepare(options);
        server.start_again();
        server
    }

    /// Everything but the process.
    #[track_caller]
    pub fn prepare(options: ServerOptions) -> Self {
        let server = Self {
            options,
            port: PortLease::new().expect("a free port"),
            child: Mutex::new(None),
            keys: Mutex::new(None),
            scratch: Scratch::new("server").expect("a scratch directory"),
        };
        fs::write(server.scratch.join("seal.key"), random_key()).expect("a seal key is written");
        server.write_config();
        server
    }

    // --- where it is --------------------------------------------------------------------------

    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// By name, as Kerberos wants it.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://localhost:{}", self.port())
    }

    /// A client without a token.
    pub fn client(&self) -> Client {
        Client::new(self.port())
    }

    /// A client with the root token.
    #[track_caller]
    pub fn root(&self) -> Client {
        self.client().with_token(self.keys().root_token)
    }

    #[track_caller]
    pub fn keys(&self) -> Keys {
        lock(&self.keys)
            .clone()
            .expect("the server was initialized")
    }

    /// The directory of everything the server has and writes; it goes away with the value.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.scratch.join("data")
    }

    pub fn config_file(&self) -> PathBuf {
        self.scratch.join("obol.hcl")
    }

    /// What it has logged (standard error), over all its starts.
    pub fn log(&self) -> String {
        read(&self.scratch.join("server.log"))
    }

    /// What it has printed (standard output).
    pub fn output(&self) -> String {
        read(&self.scratch.join("server.out"))
    }

    pub fn pid(&self) -> Option<u32> {
        lock(&self.child).as_ref().map(Child::id)
    }

    // --- its life -----------------------------------------------------------------------------

    /// Starts the process (again, on the same data) and waits for its first answer.
    #[track_caller]
    pub fn start_again(&self) {
        self.spawn();
        if let Err(status) = self.wait_until_it_answers() {
            panic!("obol ended with {status}:\n{}", self.log());
        }
    }

    /// Starts the process where it is expected to end by itself, and gives its status.
    #[track_caller]
    pub fn start_in_vain(&self) -> ExitStatus {
        self.spawn();
        match self.wait_until_it_answers() {
            Err(status) => status,
            Ok(()) => panic!("obol answers, and was expected to refuse to start"),
        }
    }

    /// Starts the process, which may answer or end by itself: [`is_running`](Self::is_running) tells.
    #[track_caller]
    pub fn start_or_end(&self) {
        self.spawn();
        self.wait_until_it_answers().ok();
    }

    /// SIGKILL. Returns when the process is gone.
    pub fn kill(&self) {
        if let Some(mut child) = lock(&self.child).take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGTERM. Returns the status with which the process ended.
    #[track_caller]
    pub fn terminate(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut child = lock(&self.child).take().expect("the server runs");
        let log = || self.log();
        match eventually_ended(&mut child) {
            Some(status) => status,
            None => {
                child.kill().ok();
                child.wait().ok();
                panic!("obol did not end after SIGTERM:\n{}", log());
            }
        }
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let child = lock(&self.child);
        let child = child.as_ref().expect("the server runs");
        // The child has not been waited for, so the number is still its own.
        kill_process(Pid::from_child(child), signal).expect("a signal is sent to a child");
    }

    /// Whether the process is still there.
    pub fn is_running(&self) -> bool {
        lock(&self.child)
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// SIGKILL, and up again, unsealed.
    #[track_caller]
    pub fn crash_and_restart(&self) {
        self.kill();
        self.start_again();
        self.unseal();
    }

    #[track_caller]
    pub fn init(&self) {
        let (body, keys) = match self.options.seal {
            Seal::Shamir { shares, threshold } => (
                json!({"secret_shares": shares, "secret_threshold": threshold}),
                "keys",
            ),
            Seal::Static | Seal::Leaving => (
                json!({"recovery_shares": 1, "recovery_threshold": 1}),
                "recovery_keys",
            ),
        };
        let answer = self.client().put("sys/init", body).expect(200).json();
        *lock(&self.keys) = Some(Keys {
            shares: texts(&answer[keys]),
            root_token: answer["root_token"]
                .as_str()
                .expect("a root token")
                .to_owned(),
        });
    }

    /// Gives as many unseal keys as are needed.
    #[track_caller]
    pub fn unseal(&self) {
        if let Seal::Shamir { threshold, .. } = self.options.seal {
            for key in self.keys().shares.iter().take(usize::from(threshold)) {
                self.client()
                    .put("sys/unseal", json!({ "key": key }))
                    .expect(200);
            }
        }
        let status = self.client().get("sys/seal-status").expect(200).json();
        assert_eq!(status["sealed"], false, "{status}\n{}", self.log());
    }

    /// Changes the options that count at the next start, or at SIGHUP.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut ServerOptions)) {
        change(&mut self.options);
        self.write_config();
    }

    /// Waits until the log says something that it did not say before `from` bytes.
    #[track_caller]
    pub fn await_log(&self, from: usize, what: &str) -> String {
        let log = || self.log().get(from..).unwrap_or_default().to_owned();
        eventually(&format!("{what:?} in the server's log"), || {
            let new = log();
            new.contains(what).then_some(new)
        })
    }

    // --- inside -------------------------------------------------------------------------------

    fn spawn(&self) {
        assert!(!self.is_running(), "the server runs already");
        let file = |name: &str| {
            File::options()
                .create(true)
                .append(true)
                .open(self.scratch.join(name))
                .expect("a log file")
        };
        let mut command = Command::new(program());
        command.arg("server");
        match &self.options.dev {
            None => command.arg(format!("-config={}", self.config_file().display())),
            Some(arguments) => command
                .arg("-dev")
                .arg(format!("-dev-listen-address=127.0.0.1:{}", self.port()))
                .args(arguments),
        };
        command
            .env("HOME", self.scratch.path())
            .env("RUST_BACKTRACE", "1")
            .envs(self.options.env.iter().cloned());
        let mut command = guarded(&command).expect("setpriv of util-linux is installed");
        for (name, _) in std::env::vars().filter(|(name, _)| is_foreign(name)) {
            command.env_remove(name);
        }
        command
            .process_group(0)
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .stdout(file("server.out"))
            .stderr(file("server.log"));
        let child = spawn_for_life(command).expect("the server is started");
        *lock(&self.child) = Some(child);
    }

    fn wait_until_it_answers(&self) -> Result<(), ExitStatus> {
        let ended = || {
            lock(&self.child)
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten())
        };
        eventually("the server's first answer", || {
            if let Some(status) = ended() {
                lock(&self.child).take();
                return Some(Err(status));
            }
            self.answers().then_some(Ok(()))
        })
    }

    fn answers(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()));
        if self.options.tls.is_some() {
            // Whoever listens there is the server: the port is leased.
            return TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
        }
        let client = self.client().with_patience(Duration::from_secs(1));
        let reply = client.request("GET", "sys/seal-status").try_send();
        reply.is_ok()
    }

    fn write_config(&self) {
        let options = &self.options;
        let storage = match options.storage {
            Storage::RocksDb => {
                format!("storage \"rocksdb\" {{\n  path = {:?}\n}}", self.data_dir())
            }
            Storage::Memory => "storage \"inmem\" {}".to_owned(),
        };
        let seal = match options.seal {
            Seal::Shamir { .. } => String::new(),
            Seal::Static | Seal::Leaving => format!(
                "seal \"static\" {{\n  current_key_id = \"test\"\n  current_key = \"file://{}\"\n  disabled = {}\n}}",
                self.scratch.join("seal.key").display(),
                matches!(options.seal, Seal::Leaving),
            ),
        };
        let tls = match &options.tls {
            None => "tls_disable = true".to_owned(),
            Some(tls) => format!(
                "tls_cert_file = {:?}\n  tls_key_file = {:?}",
                tls.certificate, tls.key
            ),
        };
        let text = format!(
            "{storage}\nlistener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  {tls}\n{listener}\n}}\n{seal}\n\
             disable_mlock = true\nlog_level = \"{level}\"\n{config}\n",
            port = self.port(),
            listener = options.listener,
            level = options.log_level,
            config = options.config,
        );
        fs::write(self.config_file(), text).expect("the configuration is written");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- the server's log ends so:\n{}\n---", tail.join("\n"));
        }
    }
}

/// The program under test: what OBOL_TEST_PROGRAM names, else `obol` beside the tests.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("OBOL_TEST_PROGRAM") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a test knows its own file");
    let path = test
        .ancestors()
        .nth(2)
        .expect("a test lies in target/<profile>/deps")
        .join("obol");
    assert!(
        path.exists(),
        "there is no program at {}: run `cargo build -p obol` first (`make test` does)",
        path.display()
    );
    path
}

/// Variables of whoever runs the tests that would change what a server or a client does.
pub fn is_foreign(name: &str) -> bool {
    ["OBOL_", "VAULT_", "KRB5", "SSL_CERT_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || name.to_ascii_lowercase().ends_with("_proxy")
}

fn eventually_ended(child: &mut Child) -> Option<ExitStatus> {
    let mut status = None;
    // A panic here would leave the child behind: the caller kills it.
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        holds("the end of the server", || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
    }));
    ended.ok().and(status)
}

fn random_key() -> String {
    let mut key = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut key))
        .expect("random bytes");
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|text| text.as_str().expect("a list of texts").to_owned())
        .collect()
}

fn read(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// A lock is held for single steps, so a panic elsewhere leaves nothing half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
