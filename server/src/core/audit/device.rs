//! Where audit lines go: a file, or standard output. A thread of its own writes, so that a disk that hangs
//! holds up the requests that must be audited, and nothing else.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use obol_mount::{Error, Result};
use tokio::sync::oneshot;

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
    Stdout,
    File {
        path: PathBuf,
        mode: u32,
        file: Option<File>,
    },
}

impl Sink {
    pub(super) fn open(kind: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let target = match kind {
            "file" => file_target(options)?,
            other => {
                return Err(Error::bad_request(format!(
                    "unknown audit device type {other:?}: this server has \"file\" (with file_path, or file_path=stdout)"
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
            .map_err(|_| "its queue is full: the disk is too slow or hangs".to_owned())?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(_)) => Err("its thread has ended".to_owned()),
            Err(_) => Err(format!(
                "no answer from the disk within {} s",
                PATIENCE.as_secs()
            )),
        }
    }
}

fn write_lines(mut target: Target, messages: &mpsc::Receiver<Message>) {
    while let Ok(message) = messages.recv() {
        match message {
            Message::Line(line, done) => drop(done.send(target.write(&line))),
            Message::Probe(done) => drop(done.send(target.write(b""))),
            Message::Reopen => target.close(),
        }
    }
}

impl Target {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(line)?;
                out.flush()
            }
            Self::File { path, mode, file } => {
                if file.is_none() {
                    *file = Some(open_file(path, *mode)?);
                }
                let result = match file {
                    Some(file) => file.write_all(line),
                    None => Ok(()),
                };
                if result.is_err() {
                    // Opened anew for the next line: the disk may have been mended meanwhile.
                    *file = None;
                }
                result
            }
        }
    }

    fn close(&mut self) {
        if let Self::File { file, .. } = self {
            *file = None;
        }
    }
}

fn file_target(options: &BTreeMap<String, String>) -> Result<Target> {
    const KNOWN: [&str; 5] = ["file_path", "path", "mode", "format", "hmac_accessor"];
    if let Some(unknown) = options.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        // A device that ignored `prefix` or `log_raw` would not do what was asked.
        return Err(Error::bad_request(format!(
            "unknown option {unknown:?}: an audit file takes {}",
            KNOWN.join(", ")
        )));
    }
    if options.get("format").is_some_and(|format| format != "json") {
        return Err(Error::bad_request(
            "the only format of an audit file is json",
        ));
    }
    let path = options
        .get("file_path")
        .or(options.get("path"))
        .map(String::as_str)
        .unwrap_or_default();
    let mode = options.get("mode").map(String::as_str).unwrap_or("0600");
    let mode = u32::from_str_radix(mode, 8)
        .map_err(|_| Error::bad_request("mode must be octal, such as 0600"))?;
    if mode & !0o666 != 0 {
        return Err(Error::bad_request(
            "mode of an audit file may not make it executable, set-id or sticky",
        ));
    }
    match path {
        "" => Err(Error::bad_request(
            "file_path is required: an absolute path, or stdout",
        )),
        "stdout" => Ok(Target::Stdout),
        path => {
            let path = Path::new(path);
            let plain = path
                .components()
                .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
            if !path.is_absolute() || !plain {
                return Err(Error::bad_request(
                    "file_path must be absolute and without . or .. segments",
                ));
            }
            Ok(Target::File {
                path: path.to_owned(),
                mode: if mode == 0 { 0o600 } else { mode },
                file: None,
            })
        }
    }
}

/// Opens for appending. Never through a symbolic link, and never anything but a plain file or a
/// character device such as /dev/null (threats: `audit-path`).
fn open_file(path: &Path, mode: u32) -> io::Result<File> {
    if let Ok(existing) = std::fs::symlink_metadata(path) {
        let kind = existing.file_type();
        if !kind.is_file() && !kind.is_char_device() {
            return Err(io::Error::other(
                "the audit file's path names a link, a directory or a special file",
            ));
        }
        if kind.is_file() && existing.permissions().mode() & 0o111 != 0 {
            return Err(io::Error::other(
                "the audit file's path names an executable file",
            ));
        }
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode)
        .open(path)
}
