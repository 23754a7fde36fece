//! Where audit lines go: a file, a syslog daemon, a socket. A thread of its own writes, so that a disk or a network
//! that hangs holds up the requests that must be audited, and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

use obol_mount::{Error, Result};
use tokio::sync::oneshot;

use super::file::AuditFile;
use super::socket::Socket;
use super::syslog::Syslog;

/// A line that is not written within this time counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lines that may wait for a slow disk; more are refused.
const QUEUE: usize = 4096;

enum Message {
    Line(Vec<u8>, oneshot::Sender<io::Result<()>>),
    Probe(oneshot::Sender<io::Result<()>>),
    Reopen,
}

/// The writing end of a device.
pub(super) struct Sink(std::result::Result<mpsc::SyncSender<Message>, String>);

enum Target {
    File(AuditFile),
    Syslog(Syslog),
    Socket(Socket),
}

impl Sink {
    pub(super) fn open(kind: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let target = match kind {
            "file" => Target::File(AuditFile::read(options)?),
            "syslog" => Target::Syslog(Syslog::read(options)?),
            "socket" => Target::Socket(Socket::read(options)?),
            other => {
                return Err(Error::bad_request(format!(
                    "unknown audit device type {other:?}: this server has \"file\" (with file_path, or file_path=stdout), \"syslog\" and \"socket\""
                )));
            }
        };
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || write_lines(target, &receiver))
            .map_err(Error::internal)?;
        Ok(Self(Ok(sender)))
    }

    pub(super) fn broken(why: String) -> Self {
        Self(Err(why))
    }

    pub(super) async fn write(&self, line: Vec<u8>) -> std::result::Result<(), String> {
        self.send(|done| Message::Line(line, done)).await
    }

    /// Checks that a line could be written, without writing one.
    pub(super) async fn probe(&self) -> std::result::Result<(), String> {
        self.send(Message::Probe).await
    }

    pub(super) fn reopen(&self) {
        if let Ok(sender) = &self.0 {
            // A full queue means a hanging disk: the next rotation will ask again.
            let _ = sender.try_send(Message::Reopen);
        }
    }

    async fn send(
        &self,
        message: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Message,
    ) -> std::result::Result<(), String> {
        let sender = self.0.as_ref().map_err(Clone::clone)?;
        let (done, answer) = oneshot::channel();
        sender
            .try_send(message(done))
            .map_err(|_| "its queue is full: what it writes to is too slow or hangs".to_owned())?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(_)) => Err("its thread has ended".to_owned()),
            Err(_) => Err(format!("it wrote nothing within {} s", PATIENCE.as_secs())),
        }
    }
}

fn write_lines(mut target: Target, messages: &mpsc::Receiver<Message>) {
    while let Ok(message) = messages.recv() {
        match message {
            Message::Line(line, done) => drop(done.send(target.write(&line))),
            Message::Probe(done) => drop(done.send(target.probe())),
            Message::Reopen => target.close(),
        }
    }
}

impl Target {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(line),
            Self::Syslog(syslog) => syslog.write(line),
            Self::Socket(socket) => socket.write(line),
        }
    }

    fn probe(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(b""),
            Self::Syslog(syslog) => syslog.probe(),
            Self::Socket(socket) => socket.probe(),
        }
    }

    fn close(&mut self) {
        if let Self::File(file) = self {
            file.close();
        }
    }
}
