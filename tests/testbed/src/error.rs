//! The one error type: what went wrong, with what the program that failed had to say.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{program}` is not installed; as root: apt-get install {package}")]
    MissingProgram {
        program: String,
        package: &'static str,
    },

    #[error("`{command}` failed ({status}): {output}")]
    Command {
        command: String,
        status: String,
        output: String,
    },

    #[error("{daemon} did not come up: {why}\n{log}")]
    NotReady {
        daemon: &'static str,
        why: String,
        log: String,
    },

    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },

    #[error("keytab: {0}")]
    Keytab(String),

    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),

    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] openssl::error::ErrorStack),

    #[error("{0}")]
    Usage(String),
}

/// Turns an I/O error into one that says what was being done.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            what: what(),
            source,
        })
    }
}

/// Runs a command to its end with `input` on its standard input, and returns its standard output.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<String> {
    use std::io::Write;

    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing(|| format!("starting `{shown}`"))?;
    let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
    let output = std::thread::scope(|scope| {
        // A program may end without reading its input: that shows in its status, not here.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output()
    })
    .doing(|| format!("waiting for `{shown}`"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Error::Command {
            command: shown,
            status: output.status.to_string(),
            output: both(&output),
        })
    }
}

pub(crate) fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, contents).doing(|| format!("writing {}", path.display()))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).doing(|| format!("reading {}", path.display()))
}

fn both(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !stdout.trim().is_empty() {
        text.push('\n');
        text.push_str(stdout.trim());
    }
    text
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}
