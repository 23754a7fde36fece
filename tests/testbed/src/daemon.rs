//! A child process that serves on a port: started, awaited, stopped, paused, and never outliving
//! the process that started it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Doing, Error, Result};
use crate::programs;

/// A running daemon, in a process group of its own. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
}

impl Daemon {
    /// Starts `command` with its output appended to `log`, and waits until `addresses`
    /// accept connections. They must be leased: an answer is then the daemon's own.
    pub(crate) fn start(
        name: &'static str,
        command: &Command,
        log: &Path,
        addresses: &[SocketAddr],
    ) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .doing(|| format!("opening {}", log.display()))?;
        let mut guarded = guarded(command)?;
        guarded
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(
                output
                    .try_clone()
                    .doing(|| "duplicating a log file".to_owned())?,
            )
            .stderr(output);
        let child = spawn_for_life(guarded).doing(|| format!("starting {name}"))?;
        let mut daemon = Self { name, child };
        daemon.wait_for(addresses, log)?;
        Ok(daemon)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the daemon to end, and kills it if it has not done so after a while.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.has_ended()?.is_none() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        // Drop kills what is left.
        Ok(())
    }

    /// The daemon keeps its port and its connections, and answers nothing.
    ///
    /// Returns once the last thread stands still, which is a moment after the signal was sent.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.stands_still()? {
            if Instant::now() > deadline {
                return Err(Error::Usage(format!("{} does not stop", self.name)));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Whether every thread is stopped, or the process has ended.
    fn stands_still(&self) -> Result<bool> {
        let tasks = format!("/proc/{}/task", self.pid());
        let entries = std::fs::read_dir(&tasks).doing(|| format!("reading {tasks}"))?;
        // The state is the first field after the program's name, which is in parentheses. A file
        // that cannot be read is a thread that has just ended.
        Ok(entries.flatten().all(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().unwrap_or_default();
            state.is_empty() || state.starts_with(['T', 'Z', 'X'])
        }))
    }

    pub(crate) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn wait_for(&mut self, addresses: &[SocketAddr], log: &Path) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for address in addresses {
            while let Err(error) = TcpStream::connect(address) {
                let why = match self.has_ended()? {
                    Some(status) => format!("it ended with {status}"),
                    None if Instant::now() > deadline => {
                        format!("no connection to {address}: {error}")
                    }
                    None => {
                        thread::sleep(POLL);
                        continue;
                    }
                };
                return Err(Error::NotReady {
                    daemon: self.name,
                    why,
                    log: tail(log),
                });
            }
        }
        Ok(())
    }

    fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .doing(|| format!("waiting for {}", self.name))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // The child has not been waited for, so the number is still its own.
        let group = Pid::from_child(&self.child);
        kill_process_group(group, signal)
            .map_err(io::Error::from)
            .doing(|| format!("signalling {}", self.name))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.signal(Signal::KILL).ok();
            self.child.wait().ok();
        }
    }
}

/// The same command, run so that the kernel kills it when the thread that starts it ends.
pub fn guarded(command: &Command) -> Result<Command> {
    let mut guarded = Command::new(programs::SETPRIV.find()?);
    guarded
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        guarded.current_dir(dir);
    }
    Ok(guarded)
}

/// Starts a guarded command from a thread that lives as long as the process. The death signal
/// comes when the parent *thread* ends, and a test's thread ends long before a realm that
/// several tests share.
pub fn spawn_for_life(command: Command) -> io::Result<Child> {
    let (reply, answer) = mpsc::channel();
    nursery().send((command, reply)).map_err(io::Error::other)?;
    answer.recv().map_err(io::Error::other)?
}

type Birth = (Command, Sender<io::Result<Child>>);

fn nursery() -> &'static Sender<Birth> {
    static NURSERY: OnceLock<Sender<Birth>> = OnceLock::new();
    NURSERY.get_or_init(|| {
        let (sender, births) = mpsc::channel::<Birth>();
        thread::spawn(move || {
            for (mut command, reply) in births {
                reply.send(command.spawn()).ok();
            }
        });
        sender
    })
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// 127.0.0.1 and this port.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Path of the log of a daemon in `dir`.
pub(crate) fn log_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

/// How long a daemon may take to come up on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(4);
