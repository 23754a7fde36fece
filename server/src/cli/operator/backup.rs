//! `operator backup`, `restore`, and their names in Vault, `operator raft snapshot save`, `restore`: everything that is
//! stored, in one file, encrypted as it is stored; and back.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::client::{Client, HttpFlags, Request};
use crate::cli::failure::{Failure, Outcome, SUCCESS, file_failure};
use crate::cli::interrupt;
use crate::cli::{Command, Example, Session};

/// Write everything that the server stores into a file, while it works
///
/// The file is encrypted as storage is: it is of use only with the unseal keys of that time. It appears when it is
/// whole; Ctrl-C leaves nothing behind. Needs a token whose policies grant `read` and `sudo` on sys/storage/snapshot.
#[derive(clap::Args)]
pub(in crate::cli) struct Backup {
    #[command(flatten)]
    save: Save,
}

impl Command for Backup {
    const NAME: &'static str = "operator backup";
    const EXAMPLES: &'static [Example] = &[
        ("Into a file", "obol operator backup obol.snap"),
        (
            "Through another program",
            "obol operator backup - > obol.snap",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        self.save.run(session)
    }
}

/// Put back what `operator backup` has written: everything is as it was then
///
/// What has been stored since is lost. A snapshot of a server with other unseal keys needs -force, and leaves the server
/// sealed until it is given that server's keys. Needs a token whose policies grant `update` and `sudo` on
/// sys/storage/snapshot.
#[derive(clap::Args)]
pub(in crate::cli) struct Restore {
    #[command(flatten)]
    load: Load,
}

impl Command for Restore {
    const NAME: &'static str = "operator restore";
    const EXAMPLES: &'static [Example] = &[
        ("From a file", "obol operator restore obol.snap"),
        (
            "On a fresh server, with the keys of the old one",
            "obol operator restore -force obol.snap",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        self.load.run(session)
    }
}

/// The same as `operator backup`, under Vault's name
#[derive(clap::Args)]
pub(in crate::cli) struct RaftSave {
    #[command(flatten)]
    save: Save,
}

impl Command for RaftSave {
    const NAME: &'static str = "operator raft snapshot save";
    const EXAMPLES: &'static [Example] =
        &[("Into a file", "obol operator raft snapshot save obol.snap")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        self.save.run(session)
    }
}

/// The same as `operator restore`, under Vault's name
#[derive(clap::Args)]
pub(in crate::cli) struct RaftRestore {
    #[command(flatten)]
    load: Load,
}

impl Command for RaftRestore {
    const NAME: &'static str = "operator raft snapshot restore";
    const EXAMPLES: &'static [Example] = &[(
        "From a file",
        "obol operator raft snapshot restore obol.snap",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        self.load.run(session)
    }
}

// Flattened into commands; a doc comment here would replace the command's own.
#[derive(clap::Args)]
struct Save {
    /// The file to write, or - for standard output. What it held before is replaced
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Save {
    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let request = Request::get("sys/storage/snapshot").without_wrapping();
        let doing = |failure: Failure| failure.doing("taking a snapshot");
        if self.file == "-" {
            if session.stdout_is_terminal {
                return Err(Failure::local("a snapshot is not for a terminal")
                    .hint("Send it elsewhere: obol operator backup - > FILE"));
            }
            let mut progress = Progress::new("Received", None);
            let terminal = session.stderr_is_terminal;
            let Session { stdout, stderr, .. } = session;
            client
                .download(request, &mut |piece| {
                    stdout.write_all(piece).map_err(|error| {
                        Failure::local(format!("cannot write to standard output: {error}"))
                    })?;
                    progress.step(stderr, terminal, piece.len());
                    Ok(true)
                })
                .map_err(doing)?;
            stdout.flush().map_err(|error| {
                Failure::local(format!("cannot write to standard output: {error}"))
            })?;
            progress.end(stderr, terminal);
            return Ok(SUCCESS);
        }
        let path = Path::new(&self.file);
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        // Asked first, so that a missing directory shows before the server works for nothing.
        if path.is_dir() {
            return Err(Failure::local(format!("{} is a directory", path.display())));
        }
        let written = |error: std::io::Error| file_failure("write", path.display(), &error);
        let mut file = tempfile::Builder::new()
            .prefix(".obol-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(directory)
            .map_err(written)?;
        let partial = file.path().to_owned();
        let cleanup = move || {
            let _ = std::fs::remove_file(partial);
        };
        let size = interrupt::restoring(cleanup, || {
            let mut progress = Progress::new("Received", None);
            let terminal = session.stderr_is_terminal;
            client
                .download(request, &mut |piece| {
                    file.write_all(piece).map_err(written)?;
                    progress.step(&mut session.stderr, terminal, piece.len());
                    Ok(true)
                })
                .map_err(doing)?;
            file.as_file().sync_all().map_err(written)?;
            progress.end(&mut session.stderr, terminal);
            Ok::<_, Failure>(progress.done)
        })?;
        interrupt::hold(|| file.persist(path)).map_err(|error| written(error.error))?;
        session.line(&format!(
            "Success! Wrote {} to {}",
            bytes(size),
            path.display()
        ))?;
        Ok(SUCCESS)
    }
}

// As above.
#[derive(clap::Args)]
struct Load {
    /// The snapshot, or - for standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// Take a snapshot of a server with other unseal keys, too. They open this server from then on
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    http: HttpFlags,
}

impl Load {
    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let path = match self.force {
            true => "sys/storage/snapshot-force",
            false => "sys/storage/snapshot",
        };
        let request = Request::post_bytes(path);
        let terminal = session.stderr_is_terminal;
        let Session { stdin, stderr, .. } = session;
        let (answer, done) = if self.file == "-" {
            let mut source = Counted {
                source: stdin,
                progress: Progress::new("Sent", None),
                stderr,
                terminal,
            };
            let answer = client.upload(request, &mut source, None, "-");
            source.progress.end(source.stderr, terminal);
            (answer, source.progress.done)
        } else {
            let cannot = |error: std::io::Error| file_failure("read", &self.file, &error);
            let mut file = File::open(&self.file).map_err(cannot)?;
            let metadata = file.metadata().map_err(cannot)?;
            if metadata.is_dir() {
                return Err(Failure::local(format!("{} is a directory", self.file)));
            }
            let length = metadata.is_file().then_some(metadata.len());
            let mut source = Counted {
                source: &mut file,
                progress: Progress::new("Sent", length),
                stderr,
                terminal,
            };
            let answer = client.upload(request, &mut source, length, &self.file);
            source.progress.end(source.stderr, terminal);
            (answer, source.progress.done)
        };
        let answer = answer.map_err(|failure| failure.doing("restoring the snapshot"))?;
        session.warnings(&answer.body);
        session.line(&format!("Success! Restored {}", bytes(done)))?;
        let status = client.send(Request::get("sys/seal-status").internal());
        if status.is_ok_and(|status| status.body["sealed"] == Value::Bool(true)) {
            session.note(
                "The server is sealed. The unseal keys of the server that the snapshot is of open \
                 it: `obol operator unseal`.",
            );
        }
        Ok(SUCCESS)
    }
}

/// Reads on, and tells how far it is.
struct Counted<'a> {
    source: &'a mut dyn Read,
    progress: Progress,
    stderr: &'a mut dyn Write,
    terminal: bool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.progress.step(self.stderr, self.terminal, length);
        Ok(length)
    }
}

/// How far a transfer is, on standard error: one line that changes on a terminal, a line now and then elsewhere.
struct Progress {
    verb: &'static str,
    done: u64,
    of: Option<u64>,
    told: Instant,
    any: bool,
}

impl Progress {
    fn new(verb: &'static str, of: Option<u64>) -> Self {
        Self {
            verb,
            done: 0,
            of,
            told: Instant::now(),
            any: false,
        }
    }

    fn step(&mut self, stderr: &mut dyn Write, terminal: bool, length: usize) {
        self.done += length as u64;
        let pause = if terminal { OFTEN } else { SELDOM };
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        self.any = true;
        self.tell(stderr, terminal);
    }

    fn tell(&self, stderr: &mut dyn Write, terminal: bool) {
        let mut line = format!("{} {}", self.verb, bytes(self.done));
        if let Some(of) = self.of.filter(|of| *of > 0) {
            let percent = u128::from(self.done) * 100 / u128::from(of);
            line.push_str(&format!(" of {} ({percent} %)", bytes(of)));
        }
        // Nothing can be done when standard error is closed.
        let _ = match terminal {
            true => write!(stderr, "\r{line}\u{1b}[K").and_then(|()| stderr.flush()),
            false => writeln!(stderr, "{line}"),
        };
    }

    fn end(&mut self, stderr: &mut dyn Write, terminal: bool) {
        if terminal && self.any {
            self.tell(stderr, terminal);
            let _ = writeln!(stderr);
        }
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} bytes");
    }
    let (mut value, mut unit) = (count as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

const OFTEN: Duration = Duration::from_millis(200);
const SELDOM: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }

    #[test]
    fn progress_is_one_line_on_a_terminal_and_seldom_elsewhere() {
        let mut progress = Progress::new("Sent", Some(2048));
        let mut out = Vec::new();
        progress.step(&mut out, false, 1024);
        assert!(out.is_empty());
        progress.told -= SELDOM;
        progress.step(&mut out, false, 512);
        assert_eq!(out, b"Sent 1.5 KiB of 2.0 KiB (75 %)\n");
        out.clear();
        progress.told -= OFTEN;
        progress.step(&mut out, true, 512);
        progress.end(&mut out, true);
        let text = String::from_utf8_lossy(&out);
        assert!(
            text.starts_with("\rSent 2.0 KiB of 2.0 KiB (100 %)") && text.ends_with('\n'),
            "{text:?}"
        );
    }
}
